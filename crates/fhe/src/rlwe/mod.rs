//! The part that every scheme over this ring shares: seeds, key switching, division by primes.

pub(crate) mod compact;
pub(crate) mod division;
pub(crate) mod hoisted;
pub(crate) mod keyswitch;
pub(crate) mod memory;
pub(crate) mod rounding;
pub(crate) mod seed;

pub(crate) use keyswitch::{Finish, Streamed, SwitchingKey};
pub(crate) use memory::keep_freed_memory;
pub(crate) use seed::Purpose;
