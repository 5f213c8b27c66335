//! What every verb needs to know about how it was called.

use std::io::IsTerminal;
use std::path::PathBuf;

use crate::style::Style;

/// Form of the data on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document: the envelope of docs/reference/exit-codes.md.
    Json,
    /// One JSON object a line, without the envelope.
    Jsonl,
}

/// Settings shared by all verbs.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// Form of standard output.
    pub(crate) format: Format,
    /// No notes and no progress on standard error.
    pub(crate) quiet: bool,
    /// Number of `-v`.
    pub(crate) verbose: u8,
    /// Colours for standard output.
    pub(crate) style: Style,
    /// The folder given with `--data-dir`.
    pub(crate) data_dir: Option<PathBuf>,
    /// Threads for the evaluation; 0 = all cores.
    pub(crate) threads: usize,
}

impl Context {
    /// Whether a progress bar makes sense.
    pub(crate) fn shows_progress(&self) -> bool {
        !self.quiet && std::io::stderr().is_terminal()
    }

    /// Writes a note for people on standard error.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            crate::output::error_line(text.as_ref());
        }
    }

    /// Writes a detail that only `-v` shows.
    pub(crate) fn detail(&self, text: impl AsRef<str>) {
        if self.verbose > 0 {
            self.note(text);
        }
    }

    /// Threads to use: the argument, or every core.
    pub(crate) fn thread_count(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            given => given,
        }
    }
}
