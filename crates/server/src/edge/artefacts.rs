//! Artefacts on their way to the device: pieces are appended, the whole is verified.
//!
//! `artefacts/DIGEST.part` grows; once it has all its bytes its BLAKE3 is compared and it becomes
//! `artefacts/DIGEST`, or is thrown away. Each piece is synced before it is acknowledged, so an
//! upload goes on where it was after `kill -9`.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use scuro_wire::deployment::ArtefactStatus;
use scuro_wire::{Artefact, Digest, limits};

use super::disk;
use crate::error::Error;

const FOLDER: &str = "artefacts";
const PART: &str = "part";

/// The folder of artefacts.
#[derive(Debug)]
pub struct Artefacts {
    folder: PathBuf,
    /// One piece at a time: two uploads of the same artefact would mix.
    writing: Mutex<()>,
}

impl Artefacts {
    /// Opens the folder below `device`; parts that a crash kept from their last step take it now.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(device: &Path) -> Result<Self, Error> {
        let folder = device.join(FOLDER);
        std::fs::create_dir_all(&folder).map_err(Error::io("make", &folder))?;
        let artefacts = Self {
            folder,
            writing: Mutex::new(()),
        };
        for digest in artefacts.parts()? {
            let part = artefacts.part(&digest);
            if file_digest(&part)? == digest {
                artefacts.finish(&digest)?;
            }
        }
        Ok(artefacts)
    }

    /// What is here of an artefact.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn status(&self, digest: &Digest) -> Result<ArtefactStatus, Error> {
        let whole = disk::length(&self.whole(digest))?;
        let stored = match whole {
            Some(bytes) => Some(bytes),
            None => disk::length(&self.part(digest))?,
        };
        Ok(ArtefactStatus {
            digest: *digest,
            bytes_stored: stored.unwrap_or(0),
            complete: whole.is_some(),
        })
    }

    /// Appends a piece at `offset` of an artefact of `total` bytes; syncs it. A piece of an
    /// artefact that is whole changes nothing.
    ///
    /// # Errors
    /// [`Error::ArtefactOffset`], [`Error::ArtefactLength`], [`Error::StorageFull`], [`Error::Io`];
    /// [`Error::ArtefactDigest`] if the whole is not what its name says: it is gone then.
    pub fn append(
        &self,
        digest: &Digest,
        offset: u64,
        total: u64,
        piece: &[u8],
    ) -> Result<ArtefactStatus, Error> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.status(digest)?;
        if before.complete {
            return Ok(before);
        }
        let end = offset.saturating_add(piece.len() as u64);
        let limit = total.min(limits::ARTEFACT_BYTES);
        if end > limit {
            let (found, expected) = (end, limit);
            return Err(Error::ArtefactLength { found, expected });
        }
        if offset != before.bytes_stored {
            let (found, expected) = (offset, before.bytes_stored);
            return Err(Error::ArtefactOffset { found, expected });
        }
        let part = self.part(digest);
        let written = write_piece(&part, offset, piece);
        let done = written.and_then(|()| match end == total {
            true => self.verify(digest),
            false => Ok(()),
        });
        if let Err(error) = done {
            // What is not acknowledged is not kept: the sender goes on where it was.
            if let Ok(file) = OpenOptions::new().write(true).open(&part) {
                file.set_len(offset).map_err(Error::io("cut", &part))?;
            }
            return Err(error);
        }
        self.status(digest)
    }

    /// The bytes of a whole artefact, verified once more.
    ///
    /// # Errors
    /// [`Error::ArtefactMissing`], [`Error::ArtefactBytes`], [`Error::ArtefactDigest`] (the file
    /// was altered on disk and is gone now), [`Error::Io`].
    pub fn read(&self, artefact: &Artefact) -> Result<Vec<u8>, Error> {
        let (role, digest) = (artefact.role.as_str(), artefact.digest);
        let path = self.whole(&digest);
        let Some(found) = disk::length(&path)? else {
            return Err(Error::ArtefactMissing { role, digest });
        };
        let expected = artefact.bytes;
        if found != expected {
            return Err(Error::ArtefactBytes {
                role,
                found,
                expected,
            });
        }
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let found = Digest::of(&bytes);
        if found != digest {
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            let expected = digest;
            return Err(Error::ArtefactDigest { found, expected });
        }
        Ok(bytes)
    }

    /// Forgets an artefact that no deployment needs any more, whole or in part.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(&self, digest: &Digest) -> Result<(), Error> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        disk::remove_if_present(&self.whole(digest))?;
        disk::remove_if_present(&self.part(digest))
    }

    /// Artefacts, whole and in part, that were last written at least so long ago.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn untouched_for(&self, age: Duration) -> Result<BTreeSet<Digest>, Error> {
        let is_old = |path: &PathBuf| {
            let written = std::fs::metadata(path).and_then(|found| found.modified());
            // A clock that was set back makes nothing old.
            let since = written.ok().and_then(|written| written.elapsed().ok());
            since.is_some_and(|since| since >= age)
        };
        let old = self.paths()?.filter(is_old);
        Ok(old.filter_map(|path| digest_of(&path)).collect())
    }

    /// The last step of an upload.
    fn verify(&self, digest: &Digest) -> Result<(), Error> {
        let part = self.part(digest);
        let found = file_digest(&part)?;
        if found != *digest {
            std::fs::remove_file(&part).map_err(Error::io("remove", &part))?;
            let expected = *digest;
            return Err(Error::ArtefactDigest { found, expected });
        }
        self.finish(digest)
    }

    fn finish(&self, digest: &Digest) -> Result<(), Error> {
        let (part, whole) = (self.part(digest), self.whole(digest));
        std::fs::rename(&part, &whole).map_err(Error::io("rename", &part))?;
        disk::sync_folder(&self.folder)
    }

    fn parts(&self) -> Result<Vec<Digest>, Error> {
        let is_part = |path: &PathBuf| path.extension().is_some_and(|ending| ending == PART);
        let parts = self.paths()?.filter(is_part);
        Ok(parts.filter_map(|path| digest_of(&path)).collect())
    }

    fn paths(&self) -> Result<impl Iterator<Item = PathBuf>, Error> {
        let entries = std::fs::read_dir(&self.folder).map_err(Error::io("list", &self.folder))?;
        Ok(entries.filter_map(Result::ok).map(|entry| entry.path()))
    }

    fn whole(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }

    fn part(&self, digest: &Digest) -> PathBuf {
        self.whole(digest).with_extension(PART)
    }
}

/// The artefact that a file is, or a part of.
fn digest_of(path: &Path) -> Option<Digest> {
    path.file_stem()?.to_str()?.parse().ok()
}

fn write_piece(part: &Path, offset: u64, piece: &[u8]) -> Result<(), Error> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(part)
        .map_err(Error::io("open", part))?;
    file.seek(SeekFrom::Start(offset))
        .and_then(|_| file.write_all(piece))
        .and_then(|()| file.sync_data())
        .map_err(Error::io("write", part))
}

fn file_digest(path: &Path) -> Result<Digest, Error> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok(Digest(*hasher.finalize().as_bytes())),
            length => hasher.update(&buffer[..length]),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scuro_wire::Role;

    const BYTES: &[u8] = b"an artefact of some bytes";

    fn opened() -> (tempfile::TempDir, Artefacts) {
        let folder = tempfile::tempdir().expect("temporary folder");
        let artefacts = Artefacts::open(folder.path()).expect("opened");
        (folder, artefacts)
    }

    #[test]
    fn pieces_make_a_verified_whole_across_restarts() {
        let (folder, artefacts) = opened();
        let (digest, total) = (Digest::of(BYTES), BYTES.len() as u64);
        assert_eq!(artefacts.status(&digest).expect("status").bytes_stored, 0);
        let status = artefacts
            .append(&digest, 0, total, &BYTES[..10])
            .expect("first");
        assert_eq!((status.bytes_stored, status.complete), (10, false));
        drop(artefacts);
        let artefacts = Artefacts::open(folder.path()).expect("opened again");
        assert_eq!(artefacts.status(&digest).expect("status").bytes_stored, 10);
        let status = artefacts
            .append(&digest, 10, total, &BYTES[10..])
            .expect("rest");
        assert!(status.complete && status.bytes_stored == total);
        let artefact = Artefact {
            role: Role::Program,
            bytes: total,
            digest,
        };
        assert_eq!(artefacts.read(&artefact).expect("read"), BYTES);
    }

    #[test]
    fn pieces_out_of_order_or_beyond_the_end_are_refused() {
        let (_folder, artefacts) = opened();
        let (digest, total) = (Digest::of(BYTES), BYTES.len() as u64);
        artefacts
            .append(&digest, 0, total, &BYTES[..10])
            .expect("first");
        for offset in [0, 9, 11] {
            let found = artefacts.append(&digest, offset, total, &BYTES[..1]);
            assert!(matches!(
                found,
                Err(Error::ArtefactOffset { expected: 10, .. })
            ));
        }
        let found = artefacts.append(&digest, 10, total, &[0; 64]);
        assert!(matches!(found, Err(Error::ArtefactLength { .. })));
        let huge = artefacts.append(&Digest([1; 32]), u64::MAX, u64::MAX, b"x");
        assert!(matches!(huge, Err(Error::ArtefactLength { .. })));
    }

    #[test]
    fn a_tampered_artefact_is_thrown_away_and_can_be_sent_again() {
        let (_folder, artefacts) = opened();
        let (digest, total) = (Digest::of(BYTES), BYTES.len() as u64);
        let mut tampered = BYTES.to_vec();
        tampered[3] ^= 1;
        let found = artefacts.append(&digest, 0, total, &tampered);
        assert!(matches!(found, Err(Error::ArtefactDigest { .. })));
        assert_eq!(artefacts.status(&digest).expect("status").bytes_stored, 0);
        assert!(
            artefacts
                .append(&digest, 0, total, BYTES)
                .expect("again")
                .complete
        );
    }

    #[test]
    fn a_whole_part_that_a_crash_left_is_finished_on_start() {
        let (folder, artefacts) = opened();
        let digest = Digest::of(BYTES);
        std::fs::write(artefacts.part(&digest), BYTES).expect("left by a crash");
        drop(artefacts);
        let artefacts = Artefacts::open(folder.path()).expect("opened again");
        assert!(artefacts.status(&digest).expect("status").complete);
    }

    #[test]
    fn only_what_was_not_written_for_long_is_left_over() {
        let (_folder, artefacts) = opened();
        let (old, new) = (Digest::of(BYTES), Digest([1; 32]));
        for digest in [old, new] {
            std::fs::write(artefacts.part(&digest), &BYTES[..4]).expect("a part");
        }
        let part = OpenOptions::new().write(true).open(artefacts.part(&old));
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(100);
        part.and_then(|file| file.set_modified(long_ago))
            .expect("an old file");
        let found = artefacts
            .untouched_for(Duration::from_secs(50))
            .expect("listed");
        assert_eq!(found, BTreeSet::from([old]));
        artefacts.remove(&old).expect("removed");
        assert_eq!(artefacts.status(&old).expect("status").bytes_stored, 0);
        assert_eq!(artefacts.status(&new).expect("status").bytes_stored, 4);
    }

    #[test]
    fn an_artefact_altered_on_disk_is_noticed() {
        let (_folder, artefacts) = opened();
        let (digest, bytes) = (Digest::of(BYTES), BYTES.len() as u64);
        artefacts.append(&digest, 0, bytes, BYTES).expect("whole");
        let mut altered = BYTES.to_vec();
        altered[0] ^= 1;
        std::fs::write(artefacts.whole(&digest), altered).expect("altered");
        let artefact = Artefact {
            role: Role::Weights,
            bytes,
            digest,
        };
        assert!(matches!(
            artefacts.read(&artefact),
            Err(Error::ArtefactDigest { .. })
        ));
        assert!(matches!(
            artefacts.read(&artefact),
            Err(Error::ArtefactMissing { .. })
        ));
    }
}
