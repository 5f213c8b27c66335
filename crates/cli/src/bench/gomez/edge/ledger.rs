//! What happened to every frame: what the device acknowledged, and what the vault published.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use scuro_wire::QueryId;
use scuro_wire::results::InferenceResult;

/// What the services measure of each frame.
pub(super) const STAGES: [&str; 5] = ["queue", "features", "encrypt", "evaluate", "decrypt"];

/// A frame that the device has acknowledged.
#[derive(Debug, Clone, Copy)]
struct Offered {
    number: usize,
    at: Instant,
}

/// A published result.
#[derive(Debug, Clone, Copy)]
struct Published {
    at: Instant,
    label: usize,
    stages_us: [u64; STAGES.len()],
    lines: usize,
}

#[derive(Debug, Default)]
struct Pages {
    offered: HashMap<QueryId, Offered>,
    published: HashMap<QueryId, Published>,
    /// Queries that are in both.
    answered: usize,
}

/// The two sides meet by the id of the query, in any order.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pages: Mutex<Pages>,
    changed: Condvar,
}

/// A frame with its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    /// Number of the frame.
    pub(super) number: usize,
    /// When it was to be sent.
    pub(super) offered: Instant,
    /// When its line was read from the vault's file of results.
    pub(super) published: Instant,
    /// What the vault says that it shows.
    pub(super) label: usize,
    /// Microseconds of each of [`STAGES`].
    pub(super) stages_us: [u64; STAGES.len()],
}

impl Ledger {
    /// The device has frame `number`, due at `at`, under this id.
    pub(super) fn acknowledged(&self, query: QueryId, number: usize, at: Instant) {
        let mut pages = self.lock();
        let published = pages.published.contains_key(&query);
        // A repeated acknowledgement changes nothing.
        if let Entry::Vacant(place) = pages.offered.entry(query) {
            place.insert(Offered { number, at });
            pages.answered += usize::from(published);
        }
        self.changed.notify_all();
    }

    /// The vault has published a line.
    pub(super) fn published(&self, result: &InferenceResult, at: Instant) {
        // A result without an answer has a label that no network gives.
        let label = result.answers.first().map(|answer| answer.label as usize);
        let label = label.unwrap_or(usize::MAX);
        let mut pages = self.lock();
        let times = result.timings;
        let stages_us = [
            times.queue_us,
            times.features_us,
            times.encrypt_us,
            times.evaluate_us,
            result.decrypt_us,
        ];
        let first = Published {
            at,
            label,
            stages_us,
            lines: 1,
        };
        match pages.published.entry(result.query_id) {
            Entry::Occupied(mut known) => known.get_mut().lines += 1,
            Entry::Vacant(place) => {
                place.insert(first);
                let offered = pages.offered.contains_key(&result.query_id);
                pages.answered += usize::from(offered);
            }
        }
        self.changed.notify_all();
    }

    /// Frames that the device has acknowledged.
    pub(super) fn acknowledgements(&self) -> usize {
        self.lock().offered.len()
    }

    /// Waits until fewer than `most` acknowledged frames have no answer; false if for `patience`
    /// nothing has come.
    pub(super) fn wait_below(&self, most: usize, patience: Duration) -> bool {
        let mut pages = self.lock();
        let (mut seen, mut since) = (pages.counts(), Instant::now());
        loop {
            let now = pages.counts();
            if now.0 - now.1 < most {
                return true;
            }
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
            let left = patience.saturating_sub(since.elapsed());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(pages, left);
            pages = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Answers of the frames in `range`, in the order of their publication.
    pub(super) fn answers(&self, range: std::ops::Range<usize>) -> Vec<Answer> {
        let pages = self.lock();
        let answer = |(query, offered): (&QueryId, &Offered)| {
            let published = pages.published.get(query)?;
            range.contains(&offered.number).then_some(Answer {
                number: offered.number,
                offered: offered.at,
                published: published.at,
                label: published.label,
                stages_us: published.stages_us,
            })
        };
        let mut answers: Vec<Answer> = pages.offered.iter().filter_map(answer).collect();
        answers.sort_by_key(|answer| answer.published);
        answers
    }

    /// Published lines beyond one for each frame: repeated ones, and those of queries that belong
    /// to no frame or to one that has another query.
    pub(super) fn surplus(&self) -> usize {
        let pages = self.lock();
        let lines: usize = pages
            .published
            .values()
            .map(|published| published.lines)
            .sum();
        let mut answered: Vec<usize> = pages
            .offered
            .iter()
            .filter(|(query, _)| pages.published.contains_key(query))
            .map(|(_, offered)| offered.number)
            .collect();
        answered.sort_unstable();
        answered.dedup();
        lines - answered.len()
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn counts(&self) -> (usize, usize) {
        (self.offered.len(), self.answered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scuro_wire::inference::Timings;
    use scuro_wire::{Digest, Name};

    fn result(query: u8) -> InferenceResult {
        InferenceResult {
            seq: 1,
            query_id: QueryId([query; 16]),
            query_digest: Digest([2; 32]),
            deployment: Digest([3; 32]),
            model: Name::new("digits").expect("a name"),
            version: 1,
            device: Name::new("cam-7").expect("a name"),
            answers: Vec::new(),
            timings: Timings::default(),
            received_ms: 0,
            decrypt_us: 0,
        }
    }

    #[test]
    fn a_frame_is_answered_whichever_side_comes_first_and_every_further_line_is_surplus() {
        let (ledger, now) = (Ledger::default(), Instant::now());
        ledger.published(&result(0), now);
        ledger.acknowledged(QueryId([0; 16]), 0, now);
        // Sent again, as its acknowledgement was lost.
        ledger.acknowledged(QueryId([0; 16]), 0, now);
        ledger.acknowledged(QueryId([1; 16]), 1, now);
        assert!(ledger.wait_below(2, Duration::ZERO));
        assert!(!ledger.wait_below(1, Duration::ZERO));
        ledger.published(&result(1), now);
        assert!(ledger.wait_below(1, Duration::ZERO));
        assert_eq!((ledger.answers(0..9).len(), ledger.surplus()), (2, 0));
        ledger.published(&result(1), now);
        assert_eq!(ledger.surplus(), 1, "twice under one query");
        ledger.acknowledged(QueryId([7; 16]), 1, now);
        ledger.published(&result(7), now);
        assert_eq!(ledger.surplus(), 2, "twice under two queries");
        ledger.published(&result(9), now);
        assert_eq!(ledger.surplus(), 3, "of no frame");
    }
}
