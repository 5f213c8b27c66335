//! Files that survive a crash whole or not at all, and that only their owner reads.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use scuro_wire::private;

use crate::error::Error;

/// Length of a file; nothing if there is none.
pub(super) fn length(path: &Path) -> Result<Option<u64>, Error> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some(found.len())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("look at", path)(error)),
    }
}

/// Removes a file that may be gone already.
pub(super) fn remove_if_present(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Replaces a file in one step: after a crash there is the old one or the new one.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let new = path.with_extension("new");
    let mut file = File::create(&new).map_err(Error::io("make", &new))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(Error::io("write", &new))?;
    std::fs::rename(&new, path).map_err(Error::io("rename", &new))?;
    match path.parent() {
        Some(folder) => sync_folder(folder),
        None => Ok(()),
    }
}

/// Makes renames in a folder last.
pub(super) fn sync_folder(folder: &Path) -> Result<(), Error> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(Error::io("sync", folder))
}

/// Makes a database that is not there yet, for its owner alone, and takes what others may do from
/// one that is: its log and the log's index are files of their own. New ones get its mode from
/// SQLite.
pub(super) fn keep_private(database: &Path) -> Result<(), Error> {
    private::open_file(database).map_err(Error::io("open", database))?;
    for ending in ["", "-wal", "-shm"] {
        let mut file = database.as_os_str().to_os_string();
        file.push(ending);
        let closed = std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600));
        if let Err(error) = closed
            && error.kind() != ErrorKind::NotFound
        {
            return Err(Error::io("close to others", database)(error));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_and_its_log_lose_what_others_may_do() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let database = folder.path().join("a.db");
        let log = folder.path().join("a.db-wal");
        std::fs::write(&log, b"log").expect("written");
        std::fs::set_permissions(&log, std::fs::Permissions::from_mode(0o644)).expect("opened");
        keep_private(&database).expect("made");
        for path in [&database, &log] {
            let metadata = std::fs::metadata(path).expect("there");
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{path:?}");
        }
        assert_eq!(std::fs::read(&log).expect("read"), b"log");
        assert!(!folder.path().join("a.db-shm").exists());
    }
}
