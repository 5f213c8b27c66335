//! Reading with limits, writing whole files or nothing.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::errors::{Exit, Failure};

/// Largest file that any verb reads: encrypted batches and key sets stay far below.
pub(crate) const FILE_LIMIT: u64 = 8 << 30;

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
    let length = file
        .metadata()
        .map_err(|error| Failure::io("read", path, &error))?
        .len();
    if length > FILE_LIMIT {
        return Err(Failure::new(
            Exit::BadInput,
            "file.too-large",
            format!(
                "{} has {length} bytes; the limit is {FILE_LIMIT}",
                path.display()
            ),
        ));
    }
    let mut bytes = Vec::new();
    let read = file.take(FILE_LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::io("read", path, &error))?;
    Ok(bytes)
}

/// Writes through a temporary file in the same folder and a rename.
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
    let folder = folder_of(path);
    std::fs::create_dir_all(&folder).map_err(|error| fail(&error))?;
    let mut temporary = temporary_in(&folder, access).map_err(|error| fail(&error))?;
    temporary.write_all(bytes).map_err(|error| fail(&error))?;
    temporary
        .as_file()
        .sync_all()
        .map_err(|error| fail(&error))?;
    match overwrite {
        Overwrite::Allow => temporary
            .persist(path)
            .map(drop)
            .map_err(|e| fail(&e.error)),
        Overwrite::Refuse => temporary
            .persist_noclobber(path)
            .map(drop)
            .map_err(|e| fail(&e.error)),
    }
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
    fn a_failed_write_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("taken");
        std::fs::create_dir(&path).expect("a folder in the way");
        assert!(write(&path, b"bytes").is_err());
        assert_eq!(std::fs::read_dir(folder.path()).expect("list").count(), 1);
    }
}
