//! Files that appear in a folder.
//!
//! A file is taken when it has the same size and time on two looks one after the other, so writing
//! in place works as well as renaming into the folder; names that start with a dot or end in `.tmp`
//! or `.part` are left alone. Its name and content name the frame, so that a crash between taking
//! it and moving it away does not take it twice. What was taken goes to `done/`, what is malformed
//! to `failed/`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Acquisition, Source, unless_stopping};
use crate::edge::counters::{FOLDER_FAILURES, FOLDER_UP};
use crate::edge::frame::{FrameFault, FrameId, MAX_FRAME_BYTES};
use crate::edge::intake::{Arrival, Form, Intake};
use crate::error::Error;

const NAME: &str = "directory";
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(150);
/// Most files of one look; the others wait for the next.
const FILES_PER_LOOK: usize = 4096;
/// Most names of files that could not be moved away.
const STUCK_FILES: usize = 65_536;

/// A folder that is watched.
#[derive(Debug)]
pub struct Directory {
    folder: PathBuf,
}

/// What tells that a file is still being written.
type Stamp = (u64, Option<SystemTime>);

impl Directory {
    /// Watches `folder`; makes `done/` and `failed/` in it.
    ///
    /// # Errors
    /// [`Error::Io`] if it is no folder that can be written.
    pub fn new(folder: PathBuf) -> Result<Self, Error> {
        for outcome in ["done", "failed"] {
            let made = folder.join(outcome);
            std::fs::create_dir_all(&made).map_err(Error::io("make", &made))?;
        }
        Ok(Self { folder })
    }

    async fn watch(self, intake: Intake) -> Result<(), Error> {
        let mut before = BTreeMap::new();
        let mut known = Known::default();
        loop {
            let now = self.look();
            known.tell_folder(&self.folder, now.as_ref().err(), &intake);
            let now = now.unwrap_or_default();
            known.forget_all_but(&now);
            for (path, stamp) in &now {
                let stays = known.stuck.get(path) == Some(stamp);
                if before.get(path) == Some(stamp) && !stays {
                    self.take(path, stamp, &intake, &mut known).await?;
                }
            }
            before = now;
            if intake.is_stopping() {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The files of the folder that are frames, in the order of their names.
    fn look(&self) -> Result<BTreeMap<PathBuf, Stamp>, Error> {
        let entries = std::fs::read_dir(&self.folder).map_err(Error::io("list", &self.folder))?;
        let mut files = BTreeMap::new();
        for entry in entries.filter_map(Result::ok) {
            let path = entry.path();
            // A link or a pipe is not what a camera writes.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_file() && !is_unfinished(&path) {
                files.insert(path, (metadata.len(), metadata.modified().ok()));
            }
            if files.len() > FILES_PER_LOOK {
                files.pop_last();
            }
        }
        Ok(files)
    }

    async fn take(
        &self,
        path: &Path,
        stamp: &Stamp,
        intake: &Intake,
        known: &mut Known,
    ) -> Result<(), Error> {
        let arrival = match read(path) {
            Ok(arrival) => arrival,
            Err(Error::Frame(fault)) => {
                intake.refuse(NAME, fault);
                self.put_away(path, stamp, "failed", known);
                return Ok(());
            }
            Err(error) => {
                // Gone again, or not ours to read: each look tries, the first one tells.
                if known.is_news(path, stamp) {
                    tracing::warn!(source = NAME, %error, "a file cannot be read");
                    intake.count_refusal(NAME, &error);
                }
                return Ok(());
            }
        };
        match intake.offer_until_taken(NAME, &arrival).await {
            Ok(_) => self.put_away(path, stamp, "done", known),
            Err(Error::Frame(_)) => self.put_away(path, stamp, "failed", known),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Moves a file away; one that cannot be moved is remembered instead, as it is.
    fn put_away(&self, path: &Path, stamp: &Stamp, outcome: &str, known: &mut Known) {
        let name = path.file_name().unwrap_or(OsStr::new("frame"));
        let folder = self.folder.join(outcome);
        let mut target = folder.join(name);
        let mut number = 1;
        while target.exists() {
            let mut numbered = name.to_os_string();
            numbered.push(format!(".{number}"));
            target = folder.join(numbered);
            number += 1;
        }
        if let Err(error) = std::fs::rename(path, &target) {
            let error = Error::io("move away", path)(error);
            tracing::warn!(source = NAME, %error, "a file stays; it will not be taken again");
            if known.stuck.len() < STUCK_FILES {
                known.stuck.insert(path.to_path_buf(), *stamp);
            }
        }
    }
}

/// What is known of a folder from earlier looks, so that it is told once.
#[derive(Debug, Default)]
struct Known {
    /// Whether the folder could be read; unknown before the first look.
    is_up: Option<bool>,
    /// Files that could not be read, as they were then.
    unread: BTreeMap<PathBuf, Stamp>,
    /// Files that could not be moved away, as they were then.
    stuck: BTreeMap<PathBuf, Stamp>,
}

impl Known {
    /// Logs and counts if the folder can no longer be read, or can be again.
    fn tell_folder(&mut self, folder: &Path, fault: Option<&Error>, intake: &Intake) {
        let is_up = fault.is_none();
        let before = self.is_up.replace(is_up);
        if before == Some(is_up) {
            return;
        }
        let shown = folder.to_string_lossy();
        let labels = [("folder", shown.as_ref())];
        let metrics = intake.metrics();
        metrics.set(FOLDER_UP, &labels, f64::from(u8::from(is_up)));
        match fault {
            Some(error) => {
                tracing::warn!(source = NAME, %error, "the folder cannot be read; trying again");
                metrics.add(FOLDER_FAILURES, &labels, 1);
            }
            None => tracing::info!(source = NAME, folder = %shown, "the folder is watched"),
        }
    }

    /// Whether a file that cannot be read has not been told of as it is.
    fn is_news(&mut self, path: &Path, stamp: &Stamp) -> bool {
        self.unread.insert(path.to_path_buf(), *stamp).as_ref() != Some(stamp)
    }

    fn forget_all_but(&mut self, files: &BTreeMap<PathBuf, Stamp>) {
        self.unread.retain(|path, _| files.contains_key(path));
        self.stuck.retain(|path, _| files.contains_key(path));
    }
}

impl Source for Directory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn acquire(self: Box<Self>, intake: Intake) -> Acquisition {
        Box::pin(async move { unless_stopping(self.watch(intake).await) })
    }
}

fn is_unfinished(path: &Path) -> bool {
    // Names need not be text.
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.starts_with(b".") || name.ends_with(b".tmp") || name.ends_with(b".part")
}

fn read(path: &Path) -> Result<Arrival, Error> {
    let metadata = std::fs::metadata(path).map_err(Error::io("look at", path))?;
    if metadata.len() > MAX_FRAME_BYTES as u64 {
        return Err(Error::Frame(FrameFault::TooLarge {
            found: usize::try_from(metadata.len()).unwrap_or(usize::MAX),
            limit: MAX_FRAME_BYTES,
        }));
    }
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or("");
    let name = path
        .file_name()
        .unwrap_or(OsStr::new(""))
        .as_encoded_bytes();
    let named: Vec<u8> = [name, &[0], bytes.as_slice()].concat();
    Ok(Arrival {
        id: Some(FrameId::of_bytes("file", &named)),
        form: Form::of_extension(extension),
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_is_news_once_until_it_changes_or_comes_again() {
        let mut known = Known::default();
        let (path, other) = (Path::new("a.raw"), Path::new("b.raw"));
        let stamps = [(3, None), (4, None)];
        assert!(known.is_news(path, &stamps[0]));
        assert!(!known.is_news(path, &stamps[0]));
        assert!(known.is_news(other, &stamps[0]));
        assert!(known.is_news(path, &stamps[1]), "it changed");
        known.forget_all_but(&BTreeMap::from([(path.to_path_buf(), stamps[1])]));
        assert!(!known.is_news(path, &stamps[1]));
        known.forget_all_but(&BTreeMap::new());
        assert!(known.is_news(path, &stamps[1]), "it was gone");
    }
}
