//! Computation on secret shares between three parties, one of whom may be curious.
//!
//! A tensor is a sum of three, modulo 2^64, of which each party holds two ([`Share`]): any one of
//! them sees uniform numbers, any two could open it. Sums and products with public numbers are
//! local; products of shared tensors leave each party with one summand, which is either shared
//! again ([`Session::reshare`]) or divided and rectified on the way ([`Session::relu_of`]).
//!
//! For nonlinear functions the elements of a tensor are in thirds. In each, one party (C) deals
//! random numbers that depend on its own summand c of `x = a + c`, and the others (A and B), who
//! both know a, compute; roles turn from third to third, so that all parties send as much.
//!
//! Protocols say their messages with what masks each of them, their hops, bounds and source.
//! Security is against one party that follows the protocol. Nothing here depends on secret values
//! in time or memory access. No clock, no files, no generator of its own: keys that neighbours
//! share ([`Correlated`]) and connections ([`transport::Transport`]) are given.

mod bytes;
mod error;
pub mod fixed;
mod party;
mod planes;
mod protocol;
mod randomness;
mod sharing;
pub mod transport;

pub use error::Error;
pub use party::Party;
pub use protocol::{Session, Summands};
pub use randomness::{Correlated, Seed};
pub use sharing::Share;
