//! The part that every scheme over this ring shares: seeds, key switching, division by primes.

pub(crate) mod division;
pub(crate) mod keyswitch;
pub(crate) mod seed;

pub(crate) use keyswitch::{Decomposed, SwitchingKey};
pub(crate) use seed::Purpose;
