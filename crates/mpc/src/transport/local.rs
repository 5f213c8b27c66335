//! Three parties in one process, with a count of bytes and hops.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::Transport;
use crate::error::Error;
use crate::party::Party;

/// What a party sent and waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Bytes sent to both others.
    pub sent: usize,
    /// Messages one after the other on the longest way to where the party is: latencies that it
    /// has waited for.
    pub hops: usize,
}

/// A message and the hops up to its sender when it was sent.
type Parcel = (Vec<u8>, usize);

/// One party's end of a local network.
#[derive(Debug)]
pub struct Local {
    outgoing: [Option<Sender<Parcel>>; 3],
    incoming: [Option<Receiver<Parcel>>; 3],
    traffic: Traffic,
}

/// The ends of all parties.
pub fn network() -> [Local; 3] {
    let mut ends = Party::ALL.map(|_| Local {
        outgoing: [None, None, None],
        incoming: [None, None, None],
        traffic: Traffic::default(),
    });
    for from in 0..3 {
        for to in (0..3).filter(|&to| to != from) {
            let (sender, receiver) = channel();
            ends[from].outgoing[to] = Some(sender);
            ends[to].incoming[from] = Some(receiver);
        }
    }
    ends
}

impl Local {
    /// So far.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }
}

impl Transport for Local {
    fn send(&mut self, to: Party, message: Vec<u8>) -> Result<(), Error> {
        let sender = self.outgoing[to.index()].as_ref().ok_or(Error::Gone(to))?;
        self.traffic.sent += message.len();
        let parcel = (message, self.traffic.hops);
        sender.send(parcel).map_err(|_| Error::Gone(to))
    }

    fn receive(&mut self, from: Party) -> Result<Vec<u8>, Error> {
        let receiver = self.incoming[from.index()].as_ref();
        let receiver = receiver.ok_or(Error::Gone(from))?;
        let (message, hops) = receiver.recv().map_err(|_| Error::Gone(from))?;
        self.traffic.hops = self.traffic.hops.max(hops + 1);
        Ok(message)
    }
}
