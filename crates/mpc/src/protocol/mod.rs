//! Protocols, one file each.

mod carry;
mod gate;
mod lift;
mod linear;
mod relu;
mod seat;
mod select;
mod sign;
mod thirds;

pub use linear::Summands;

use crate::bytes::Message;
use crate::error::Error;
use crate::party::{Party, Role};
use crate::randomness::Correlated;
use crate::transport::Transport;

/// One party with what it needs to talk to the others.
#[derive(Debug)]
pub struct Session<T> {
    party: Party,
    correlated: Correlated,
    transport: T,
}

impl<T: Transport> Session<T> {
    /// A session; all three parties run the same protocols in the same order.
    pub fn new(party: Party, correlated: Correlated, transport: T) -> Self {
        Self {
            party,
            correlated,
            transport,
        }
    }

    /// Which party this is.
    pub fn party(&self) -> Party {
        self.party
    }

    /// Its connections.
    pub fn transport(&self) -> &T {
        &self.transport
    }

    fn send(&mut self, to: Party, message: Vec<u8>) -> Result<(), Error> {
        self.transport.send(to, message)
    }

    fn receive(&mut self, from: Party) -> Result<Message, Error> {
        Ok(Message::new(from, self.transport.receive(from)?))
    }

    /// The other of the two who compute where this party has a role.
    fn partner(&self, role: Role) -> Party {
        match role {
            Role::A => self.party.next(),
            _ => self.party.previous(),
        }
    }
}
