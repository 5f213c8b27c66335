//! What can go wrong between three parties.

use crate::party::Party;

/// A fault; messages hold lengths and names, never shares.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // The caller.
    /// Tensors of different sizes where equal ones are needed.
    #[error("{found} elements where {expected} are expected")]
    Length {
        /// Elements given.
        found: usize,
        /// Elements needed.
        expected: usize,
    },
    /// A position outside of a tensor.
    #[error("there is no element {found} of {bound}")]
    NoElement {
        /// The position.
        found: usize,
        /// Number of elements.
        bound: usize,
    },
    /// A number that fixed point has no room for.
    #[error("element {at} is not a number below 2^{bits} in magnitude")]
    OutOfRange {
        /// Position.
        at: usize,
        /// Bits before the point that there are.
        bits: u32,
    },
    /// A division by more than summands of 64 bits have below 32 that count.
    #[error("{found} bits below the point; at most {max}")]
    FractionBits {
        /// Bits asked for.
        found: u32,
        /// Most of them.
        max: u32,
    },
    /// Parts of two parties that are not of one sharing.
    #[error("what two parties both hold differs")]
    Inconsistent,

    // The others.
    /// A party whose end of a connection is gone.
    #[error("party {} is gone", .0.index())]
    Gone(Party),
    /// A message of another length than the protocol's.
    #[error("party {} sent {found} bytes where {expected} are due", .from.index())]
    Message {
        /// Who sent it.
        from: Party,
        /// Its length.
        found: usize,
        /// The protocol's.
        expected: usize,
    },
}
