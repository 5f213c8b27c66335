//! Quantiles of the newest latencies.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Latencies that are remembered.
const WINDOW: usize = 16_384;

/// The newest latencies.
#[derive(Debug, Default)]
pub struct Latencies {
    newest: Mutex<VecDeque<Duration>>,
}

impl Latencies {
    /// Adds one.
    pub(super) fn add(&self, took: Duration) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.len() == WINDOW {
            newest.pop_front();
        }
        newest.push_back(took);
    }

    /// The values below which each of `shares` (0 to 1) of them lie; nothing if there are none.
    pub fn quantiles<const N: usize>(&self, shares: [f64; N]) -> Option<[Duration; N]> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<Duration> = newest.iter().copied().collect();
        drop(newest);
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        Some(shares.map(|share| sorted[(last as f64 * share).round() as usize]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_taken_over_the_newest() {
        let latencies = Latencies::default();
        assert_eq!(latencies.quantiles([0.5]), None);
        (0..WINDOW + 101).for_each(|i| latencies.add(Duration::from_millis(i as u64)));
        let [low, high] = latencies.quantiles([0.0, 1.0]).expect("there are some");
        assert_eq!(low, Duration::from_millis(101));
        assert_eq!(high, Duration::from_millis(WINDOW as u64 + 100));
    }
}
