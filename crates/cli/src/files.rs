//! Reading with limits, writing whole files or nothing.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::errors::{Exit, Failure};

/// Largest file that any verb reads: encrypted batches and key sets stay far below.
pub(crate) const FILE_LIMIT: u64 = 8 << 30;

/// Most bytes taken from what has no length of its own: pipes and devices.
const STREAM_LIMIT: u64 = 512 << 20;

/// Whether an existing file may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overwrite {
    /// Products that can be made again.
    Allow,
    /// Keys: a lost key is lost data.
    Refuse,
}

/// Who may read a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// As the user's mask says.
    Shared,
    /// Only the owner (mode 0600).
    Secret,
}

/// Reads a whole file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let file = File::open(path).map_err(|error| Failure::io("open", path, &error))?;
    let metadata = file
        .metadata()
        .map_err(|error| Failure::io("read", path, &error))?;
    let limit = if metadata.is_file() {
        FILE_LIMIT
    } else {
        STREAM_LIMIT
    };
    let mut bytes = Vec::new();
    if metadata.len() <= limit {
        // No copy is left behind by a vector that grows: it may be a key.
        bytes.reserve_exact(metadata.len() as usize);
        let read = file.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| Failure::io("read", path, &error))?;
    }
    if metadata.len().max(bytes.len() as u64) > limit {
        let message = format!("{} has more than {limit} bytes", path.display());
        return Err(
            Failure::new(Exit::BadInput, "file.too-large", message).hint("is it the right file?")
        );
    }
    Ok(bytes)
}

/// Reads a whole file that holds a secret.
pub(crate) fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    read(path).map(Zeroizing::new)
}

/// Writes through a temporary file in the same folder and a rename; a link stays a link, and a
/// device or pipe is written to as it is.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write_with(path, bytes, Overwrite::Allow, Access::Shared)
}

/// As [`write()`], with a choice of what may be replaced and who may read.
pub(crate) fn write_with(
    path: &Path,
    bytes: &[u8],
    overwrite: Overwrite,
    access: Access,
) -> Result<(), Failure> {
    refuse_existing(path, overwrite)?;
    let fail = |error: &std::io::Error| Failure::io("write", path, error);
    if is_stream(path) {
        let written = File::options().write(true).open(path);
        return written
            .and_then(|mut stream| stream.write_all(bytes))
            .map_err(|error| fail(&error));
    }
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let folder = folder_of(&target);
    std::fs::create_dir_all(&folder).map_err(|error| fail(&error))?;
    let mut temporary = temporary_in(&folder, access).map_err(|error| fail(&error))?;
    temporary.write_all(bytes).map_err(|error| fail(&error))?;
    temporary
        .as_file()
        .sync_all()
        .map_err(|error| fail(&error))?;
    match overwrite {
        Overwrite::Allow => temporary
            .persist(&target)
            .map(drop)
            .map_err(|e| fail(&e.error)),
        Overwrite::Refuse => temporary
            .persist_noclobber(&target)
            .map(drop)
            .map_err(|e| fail(&e.error)),
    }
}

/// An error if `path` could not be written: asked before hours of work, not after.
pub(crate) fn check_writable(path: &Path) -> Result<(), Failure> {
    let fail = |error: &std::io::Error| Failure::io("write", path, error);
    if path.is_dir() {
        return Err(fail(&std::io::ErrorKind::IsADirectory.into()));
    }
    if is_stream(path) {
        return Ok(());
    }
    let folder = folder_of(path);
    std::fs::create_dir_all(&folder).map_err(|error| fail(&error))?;
    temporary_in(&folder, Access::Shared)
        .map(drop)
        .map_err(|error| fail(&error))
}

/// Whether something other than a file or folder stands at `path`: a rename would replace it.
fn is_stream(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// An error if `path` exists and may not be replaced.
pub(crate) fn refuse_existing(path: &Path, overwrite: Overwrite) -> Result<(), Failure> {
    if overwrite == Overwrite::Allow || !path.exists() {
        return Ok(());
    }
    let message = format!("{} exists; a lost key is lost data", path.display());
    Err(Failure::new(Exit::BadInput, "file.exists", message)
        .hint("choose another folder, or pass --force to replace the keys"))
}

fn temporary_in(folder: &Path, access: Access) -> std::io::Result<tempfile::NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    let mode = if access == Access::Secret {
        0o600
    } else {
        0o666
    };
    let mut builder = tempfile::Builder::new();
    builder
        .prefix(".scuro-")
        .permissions(std::fs::Permissions::from_mode(mode));
    builder.tempfile_in(folder)
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn secret_files_are_private_and_never_replaced() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("secret.key");
        write_with(&path, b"one", Overwrite::Refuse, Access::Secret).expect("first write");
        let mode = std::fs::metadata(&path)
            .expect("metadata")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = write_with(&path, b"two", Overwrite::Refuse, Access::Secret);
        assert_eq!(again.expect_err("refused").code, "file.exists");
        assert_eq!(std::fs::read(&path).expect("kept"), b"one");
    }

    #[test]
    fn devices_are_written_to_and_never_replaced() {
        use std::os::unix::fs::FileTypeExt;
        let full = Path::new("/dev/full");
        if !full.exists() {
            return;
        }
        assert_eq!(
            write(full, b"bytes").expect_err("full").code,
            "file.disk-full"
        );
        write(Path::new("/dev/null"), b"bytes").expect("swallowed");
        for device in ["/dev/full", "/dev/null"] {
            let kind = std::fs::metadata(device).expect("metadata").file_type();
            assert!(kind.is_char_device(), "{device} is no device any more");
        }
    }

    #[test]
    fn what_cannot_be_written_is_known_before() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("new/model.onnx");
        check_writable(&path).expect("a new folder");
        assert!(!path.exists());
        assert!(check_writable(folder.path()).is_err());
        write(&path, b"a file").expect("written");
        assert!(check_writable(&path.join("below")).is_err());
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        write(&file, b"one").expect("first write");
        std::os::unix::fs::symlink(&file, &link).expect("link");
        write(&link, b"two").expect("second write");
        assert_eq!(std::fs::read(&file).expect("file"), b"two");
        assert!(link.is_symlink());
    }

    #[test]
    fn a_stream_without_end_is_refused() {
        if Path::new("/dev/zero").exists() {
            let found = read(Path::new("/dev/zero")).expect_err("no end");
            assert_eq!(found.code, "file.too-large");
        }
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("taken");
        std::fs::create_dir(&path).expect("a folder in the way");
        assert!(write(&path, b"bytes").is_err());
        assert_eq!(std::fs::read_dir(folder.path()).expect("list").count(), 1);
    }
}
