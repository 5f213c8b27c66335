//! Artefacts in a folder, each under its BLAKE3 digest: written once, never changed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use scuro_wire::Digest;

use crate::error::VaultError;

/// Bytes read at a time.
const BUFFER: usize = 1 << 20;

/// The folder.
#[derive(Debug)]
pub(crate) struct Blobs {
    folder: PathBuf,
}

impl Blobs {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Stores `bytes`; they and their name are on disk before this returns.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Digest, VaultError> {
        let digest = Digest::of(bytes);
        let target = self.path(&digest);
        let fail = |error| VaultError::file("write", &target, error);
        if target.exists() && self.verify(&digest).is_ok() {
            return Ok(digest);
        }
        let mut temporary = tempfile::NamedTempFile::new_in(&self.folder).map_err(fail)?;
        temporary.write_all(bytes).map_err(fail)?;
        temporary.as_file().sync_all().map_err(fail)?;
        temporary.persist(&target).map_err(|e| fail(e.error))?;
        sync_folder(&self.folder)?;
        Ok(digest)
    }

    /// A whole artefact, verified.
    pub(crate) fn read(&self, digest: &Digest) -> Result<Vec<u8>, VaultError> {
        let path = self.path(digest);
        let bytes = std::fs::read(&path).map_err(|e| VaultError::file("read", &path, e))?;
        match Digest::of(&bytes) {
            found if found == *digest => Ok(bytes),
            found => Err(tampered(found, digest)),
        }
    }

    /// Reads an artefact from start to end against its digest.
    pub(crate) fn verify(&self, digest: &Digest) -> Result<(), VaultError> {
        let path = self.path(digest);
        let fail = |error| VaultError::file("read", &path, error);
        let mut file = File::open(&path).map_err(fail)?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            match file.read(&mut buffer).map_err(fail)? {
                0 => break,
                count => hasher.update(&buffer[..count]),
            };
        }
        match Digest(*hasher.finalize().as_bytes()) {
            found if found == *digest => Ok(()),
            found => Err(tampered(found, digest)),
        }
    }

    /// At most `count` bytes from `offset` on.
    pub(crate) fn piece(
        &self,
        digest: &Digest,
        offset: u64,
        count: usize,
    ) -> Result<Vec<u8>, VaultError> {
        let path = self.path(digest);
        let fail = |error| VaultError::file("read", &path, error);
        let mut file = File::open(&path).map_err(fail)?;
        file.seek(SeekFrom::Start(offset)).map_err(fail)?;
        let mut bytes = Vec::with_capacity(count);
        file.take(count as u64)
            .read_to_end(&mut bytes)
            .map_err(fail)?;
        Ok(bytes)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }
}

fn tampered(found: Digest, expected: &Digest) -> VaultError {
    let expected = *expected;
    VaultError::Tampered { found, expected }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), VaultError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| VaultError::file("sync", folder, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artefact_is_stored_once_and_a_changed_one_is_noticed_and_repaired() {
        let folder = tempfile::tempdir().expect("folder");
        let blobs = Blobs::new(folder.path().to_path_buf());
        let digest = blobs.put(b"weights").expect("stored");
        assert_eq!(blobs.put(b"weights").expect("stored"), digest);
        assert_eq!(std::fs::read_dir(folder.path()).expect("list").count(), 1);
        assert_eq!(blobs.piece(&digest, 3, 100).expect("piece"), b"ghts");
        std::fs::write(folder.path().join(digest.to_string()), b"weightz").expect("changed");
        assert!(matches!(
            blobs.verify(&digest),
            Err(VaultError::Tampered { .. })
        ));
        assert!(matches!(
            blobs.read(&digest),
            Err(VaultError::Tampered { .. })
        ));
        blobs.put(b"weights").expect("repaired");
        assert_eq!(blobs.read(&digest).expect("whole"), b"weights");
    }
}
