//! The wall clock, in the two units that the vault stores.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970; 0 on a clock before that.
pub fn now() -> u64 {
    now_ms() / 1000
}

/// Milliseconds since 1970; 0 on a clock before that.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
