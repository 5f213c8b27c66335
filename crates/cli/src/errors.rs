//! Failures as the user sees them: code, exit code, message, and the cheapest fix.
//!
//! The crates below have typed errors; `conversions` and `services` are the place
//! that maps each of them.

mod conversions;
mod services;

use std::path::Path;

/// Exit codes; `docs/reference/exit-codes.md` explains them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The job could not be finished.
    JobFailed = 1,
    /// A connection failed.
    Connection = 2,
    /// It took too long.
    Timeout = 3,
    /// Wrong arguments, or a file that is not what it should be.
    BadInput = 4,
    /// A bug in Scuro.
    Internal = 5,
    /// Verification or policy said no: never retry unchanged.
    Refused = 6,
}

impl Exit {
    /// The number for the operating system.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }
}

/// An error that ends a verb.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// Exit code.
    pub(crate) exit: Exit,
    /// Stable name, `area.what`.
    pub(crate) code: String,
    /// What happened and where.
    pub(crate) message: String,
    /// The cheapest fix.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub(crate) fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self {
            exit,
            code: code.to_string(),
            message: message.into(),
            hint: None,
        }
    }

    /// A wrong argument or file.
    pub(crate) fn bad_input(code: &str, message: impl Into<String>) -> Self {
        Self::new(Exit::BadInput, code, message)
    }

    /// A broken promise of our own.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(Exit::Internal, "internal.bug", message)
            .hint("this is a bug in Scuro: please report it with the command line")
    }

    /// Adds the cheapest fix.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the place: a file, a layer.
    pub(crate) fn at(mut self, place: impl std::fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// An operating-system error on a file.
    pub(crate) fn io(action: &str, path: &Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind::{AlreadyExists, IsADirectory, NotADirectory};
        use std::io::ErrorKind::{NotFound, PermissionDenied, StorageFull};
        let message = format!("cannot {action} {}: {error}", path.display());
        match error.kind() {
            NotFound => Self::bad_input("file.not-found", message).hint("check the path"),
            PermissionDenied => Self::bad_input("file.permission", message)
                .hint("check the permissions of the file and its folder"),
            AlreadyExists | IsADirectory | NotADirectory => {
                Self::bad_input("file.not-a-file", message)
                    .hint("name a file, and folders only before it")
            }
            StorageFull => Self::new(Exit::JobFailed, "file.disk-full", message)
                .hint("free some space and run it again; nothing half-written was left"),
            _ => Self::new(Exit::JobFailed, "file.io", message),
        }
    }
}

/// Adds a place to an error on its way up.
pub(crate) trait At<T> {
    /// Prefixes the message with `place`.
    fn at(self, place: impl std::fmt::Display) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> At<T> for Result<T, E> {
    fn at(self, place: impl std::fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| error.into().at(place))
    }
}
