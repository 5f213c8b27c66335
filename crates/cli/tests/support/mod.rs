//! Runs the built binary in temporary folders.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A temporary folder in which `scuro` is run without any data set but generated digits.
pub(crate) struct Desk {
    folder: tempfile::TempDir,
}

/// What a run left.
pub(crate) struct Outcome {
    /// Exit code.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Desk {
    /// An empty folder.
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("temporary folder"),
        }
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Names in the folder, sorted.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).expect("folder");
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            entry
                .expect("entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    }

    /// The bytes of a file.
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("file")
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).expect("file");
    }

    /// Runs `scuro` with these words.
    pub(crate) fn run(&self, words: &[&str]) -> Outcome {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scuro"));
        command.args(words).current_dir(self.folder.path());
        command
            .env("HOME", self.folder.path())
            .env_remove("XDG_CACHE_HOME");
        command
            .env("NO_COLOR", "1")
            .env("SCURO_DATA", self.path("no-data"));
        outcome(command.output().expect("the binary runs"))
    }

    /// Runs with `--format json`: the data of a success.
    pub(crate) fn data(&self, words: &[&str]) -> Value {
        let outcome = self.run(&[words, &["--format", "json"]].concat());
        let envelope = outcome.envelope();
        assert_eq!(
            outcome.code, 0,
            "{words:?}: {} {}",
            outcome.stdout, outcome.stderr
        );
        assert_eq!(envelope["status"], "ok");
        envelope["data"].clone()
    }

    /// Runs with `--format json`: exit code and error code of a failure with a hint.
    pub(crate) fn failure(&self, words: &[&str]) -> (i32, String) {
        let outcome = self.run(&[words, &["--format", "json"]].concat());
        let envelope = outcome.envelope();
        assert_eq!(envelope["status"], "error", "{words:?}: {}", outcome.stdout);
        assert_eq!(envelope["schema_version"], "1");
        assert_eq!(envelope["exit_code"], outcome.code);
        assert!(
            envelope["message"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        );
        assert!(
            envelope["hint"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{envelope}"
        );
        let code = envelope["error_code"]
            .as_str()
            .expect("error code")
            .to_string();
        (outcome.code, code)
    }
}

impl Outcome {
    /// Standard output as JSON.
    pub(crate) fn envelope(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.stdout, self.stderr))
    }
}

fn outcome(output: Output) -> Outcome {
    Outcome {
        code: output.status.code().expect("exit code"),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// A gray 28x28 picture of a digit seven, dark on light, as PNG.
pub(crate) fn draw_seven(path: &Path) {
    let mut picture = image::GrayImage::from_pixel(80, 80, image::Luma([240]));
    let mut dot = |x: i32, y: i32| {
        for (dx, dy) in (-3..=3).flat_map(|dx| (-3..=3).map(move |dy| (dx, dy))) {
            picture.put_pixel((x + dx) as u32, (y + dy) as u32, image::Luma([20]));
        }
    };
    (22..=58).for_each(|x| dot(x, 20));
    (20..=62).for_each(|y| dot(58 - (y - 20) * 24 / 42, y));
    picture.save(path).expect("picture");
}
