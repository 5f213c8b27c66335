//! Where frames come from: each source a file, one trait.

mod directory;
mod http;
mod mqtt;
mod stdin;

use std::future::Future;
use std::pin::Pin;

pub use directory::Directory;
pub use http::Http;
pub use mqtt::Mqtt;
pub use stdin::{Item, Stdin, StreamFormat, next_item};

use super::intake::Intake;
use crate::error::Error;

/// What a source does, to its end.
pub type Acquisition = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// A source of frames.
pub trait Source: Send {
    /// Its name in logs and metrics.
    fn name(&self) -> &'static str;

    /// Hands frames to `intake` until the source or the service ends. A malformed frame is counted
    /// and logged, and never the end; a full queue holds the source up.
    fn acquire(self: Box<Self>, intake: Intake) -> Acquisition;
}

/// The end of a source that only stopped because the service does.
fn unless_stopping(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::Stopping) => Ok(()),
        other => other,
    }
}
