//! Messages between parties.

pub mod local;

use crate::error::Error;
use crate::party::Party;

/// Connections of one party to both others: messages arrive whole and in the order in which they
/// were sent.
pub trait Transport {
    /// Sends a message; does not wait for it to be received.
    ///
    /// # Errors
    /// [`Error::Gone`].
    fn send(&mut self, to: Party, message: Vec<u8>) -> Result<(), Error>;

    /// Waits for the next message of a party.
    ///
    /// # Errors
    /// [`Error::Gone`].
    fn receive(&mut self, from: Party) -> Result<Vec<u8>, Error>;
}
