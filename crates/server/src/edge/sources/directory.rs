//! Files that appear in a folder.
//!
//! A file is taken when it has the same size and time on two looks one after the other, so writing
//! in place works as well as renaming into the folder; names that start with a dot or end in `.tmp`
//! or `.part` are left alone. Its name and content name the frame, so that a crash between taking
//! it and moving it away does not take it twice. What was taken goes to `done/`, what is malformed
//! to `failed/`.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Acquisition, Source, unless_stopping};
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
        let mut stuck = HashSet::new();
        loop {
            let now = match self.look() {
                Ok(now) => now,
                Err(error) => {
                    tracing::warn!(source = NAME, %error, "the folder cannot be read");
                    BTreeMap::new()
                }
            };
            for (path, stamp) in &now {
                if before.get(path) == Some(stamp) && !stuck.contains(path) {
                    self.take(path, &intake, &mut stuck).await?;
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
        intake: &Intake,
        stuck: &mut HashSet<PathBuf>,
    ) -> Result<(), Error> {
        let arrival = match read(path) {
            Ok(arrival) => arrival,
            Err(Error::Frame(fault)) => {
                intake.refuse(NAME, fault);
                return self.put_away(path, "failed", stuck);
            }
            Err(error) => {
                // Gone again, or not ours to read: the next look tells.
                tracing::warn!(source = NAME, %error, "a file cannot be read");
                return Ok(());
            }
        };
        match intake.offer_until_taken(NAME, &arrival).await {
            Ok(_) => self.put_away(path, "done", stuck),
            Err(Error::Frame(_)) => self.put_away(path, "failed", stuck),
            Err(error) => Err(error),
        }
    }

    /// Moves a file away; one that cannot be moved is remembered instead.
    fn put_away(
        &self,
        path: &Path,
        outcome: &str,
        stuck: &mut HashSet<PathBuf>,
    ) -> Result<(), Error> {
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
            if stuck.len() < STUCK_FILES {
                stuck.insert(path.to_path_buf());
            }
        }
        Ok(())
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
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or(".");
    name.starts_with('.') || name.ends_with(".tmp") || name.ends_with(".part")
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
    let form = match extension.to_ascii_lowercase().as_str() {
        "png" | "jpg" | "jpeg" => Form::Picture,
        "json" => Form::Json,
        "raw" | "bin" => Form::Raw,
        _ => Form::Unknown,
    };
    let name = path
        .file_name()
        .unwrap_or(OsStr::new(""))
        .as_encoded_bytes();
    let named: Vec<u8> = [name, &[0], bytes.as_slice()].concat();
    Ok(Arrival {
        id: Some(FrameId::of_bytes("file", &named)),
        form,
        bytes,
    })
}
