//! Which queries were here: each is taken once, as long as its signature is good.
//!
//! A holder remembers its answers for a time, so that a coordinator whose connection broke gets the
//! answer that it missed, or waits for it; nothing is computed twice.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use scuro_wire::predict::{PredictReply, Question};
use scuro_wire::{Digest, Name, Nonce, UserId, limits};

use super::fault::Fault;
use super::masks::Held;

/// Most queries that are remembered.
pub(super) const QUERIES: usize = 1 << 16;
/// Most answers that are remembered.
const ANSWERS: usize = 64;
/// How long an answer is remembered: longer than any request takes.
const ANSWER_TIME: Duration = Duration::from_secs(150);

/// Where the answer of a query goes. Whoever computes it holds the lock.
pub(super) type Place = Arc<tokio::sync::Mutex<Option<Kept>>>;

/// What is remembered of a query that was computed.
#[derive(Debug)]
pub(super) enum Kept {
    /// Its answer.
    Reply(PredictReply),
    /// Its prediction, to be released masked.
    Held(Held),
}

/// Queries within their time.
#[derive(Debug)]
pub(super) struct Ledger {
    started_ms: u64,
    repeats: Repeats,
    pages: Mutex<Pages>,
}

/// What becomes of a query that was here before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeats {
    /// It is refused.
    Refused,
    /// The same caller gets the same answer.
    Answered,
}

type Id = (UserId, Nonce);

#[derive(Debug, Default)]
struct Pages {
    known: HashMap<Id, Entry>,
    /// When each query is too old to be taken anyway.
    ends: BTreeSet<(u64, Id)>,
    /// Queries whose answers are remembered, the oldest first.
    answers: VecDeque<(Instant, Id)>,
}

#[derive(Debug)]
struct Entry {
    request: Digest,
    caller: Option<Name>,
    /// Nothing once it is forgotten.
    place: Option<Place>,
}

impl Ledger {
    /// An empty ledger of a service that starts at `started_ms`, since 1970.
    pub(super) fn new(started_ms: u64, repeats: Repeats) -> Self {
        Self {
            started_ms,
            repeats,
            pages: Mutex::default(),
        }
    }

    /// Whether a signature of that time is good now.
    pub(super) fn check_time(&self, time_ms: u64, now_ms: u64) -> Result<(), Fault> {
        let window = limits::QUERY_WINDOW.as_millis() as u64;
        let stale = |what, milliseconds: u64, direction| Fault::Stale {
            what,
            seconds: milliseconds.div_ceil(1000),
            direction,
        };
        if let Some(age) = now_ms.checked_sub(time_ms).filter(|age| *age > window) {
            return Err(stale("too long ago", age, "old"));
        }
        if let Some(ahead) = time_ms.checked_sub(now_ms).filter(|by| *by > window) {
            return Err(stale("in the future", ahead, "ahead"));
        }
        match self.started_ms.checked_sub(time_ms) {
            // What was taken before the start is not known any more.
            Some(before) if before > 0 => Err(stale("too early", before, "before the start")),
            _ => Ok(()),
        }
    }

    /// Takes a query; `request` is the digest of all of it.
    ///
    /// # Errors
    /// [`Fault::Stale`], [`Fault::Replayed`], [`Fault::Full`].
    pub(super) fn enter(
        &self,
        question: &Question,
        request: Digest,
        caller: Option<Name>,
        now_ms: u64,
    ) -> Result<Place, Fault> {
        self.check_time(question.time_ms, now_ms)?;
        let id = (question.user, question.nonce);
        let mut pages = self.lock();
        pages.forget(now_ms, Instant::now(), ANSWERS - 1);
        if let Some(entry) = pages.known.get(&id) {
            let same = entry.request == request && entry.caller == caller;
            let answered = same && self.repeats == Repeats::Answered;
            let place = entry.place.clone().filter(|_| answered);
            return place.ok_or(Fault::Replayed);
        }
        if pages.known.len() >= QUERIES {
            return Err(Fault::Full { what: "queries" });
        }
        let place = Place::default();
        let entry = Entry {
            request,
            caller,
            place: Some(Arc::clone(&place)),
        };
        pages.known.insert(id, entry);
        let window = limits::QUERY_WINDOW.as_millis() as u64;
        let end = question.time_ms.saturating_add(window);
        pages.ends.insert((end, id));
        pages.answers.push_back((Instant::now(), id));
        Ok(place)
    }

    /// Where the answer of a query is that this caller brought, unless it is forgotten.
    pub(super) fn find(
        &self,
        (user, nonce): (UserId, Nonce),
        caller: Option<&Name>,
        now_ms: u64,
    ) -> Option<Place> {
        let mut pages = self.lock();
        pages.forget(now_ms, Instant::now(), ANSWERS);
        let entry = pages.known.get(&(user, nonce))?;
        let same = entry.caller.as_ref() == caller;
        entry.place.clone().filter(|_| same)
    }

    /// Whether no query was here.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.lock().known.is_empty()
    }

    /// What is in there is consistent after every statement that can panic.
    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    /// Forgets queries and answers after their time, and the oldest answers above so many.
    fn forget(&mut self, now_ms: u64, now: Instant, answers: usize) {
        while let Some((end, id)) = self.ends.first().copied() {
            if end >= now_ms {
                break;
            }
            self.ends.pop_first();
            self.known.remove(&id);
        }
        while let Some((since, id)) = self.answers.front().copied() {
            let old = now.saturating_duration_since(since) > ANSWER_TIME;
            if !old && self.answers.len() <= answers {
                break;
            }
            self.answers.pop_front();
            if let Some(entry) = self.known.get_mut(&id) {
                entry.place = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scuro_wire::{KeyId, QueryId};

    const NOW: u64 = 10_000_000;
    const WINDOW: u64 = limits::QUERY_WINDOW.as_millis() as u64;

    fn question(nonce: u32, time_ms: u64) -> Question {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&nonce.to_le_bytes());
        Question {
            id: QueryId([1; 16]),
            key_id: KeyId([2; 16]),
            parameters: Digest([3; 32]),
            rule: None,
            keys: Digest([4; 32]),
            user: UserId([5; 32]),
            nonce: Nonce(bytes),
            time_ms,
        }
    }

    fn ledger(repeats: Repeats) -> Ledger {
        Ledger::new(1000, repeats)
    }

    fn caller(name: &str) -> Option<Name> {
        Some(Name::new(name).expect("a name"))
    }

    #[test]
    fn a_query_is_good_for_its_time_and_never_before_the_start() {
        let ledger = ledger(Repeats::Refused);
        for good in [NOW - WINDOW, NOW, NOW + WINDOW] {
            assert!(ledger.check_time(good, NOW).is_ok(), "{good}");
        }
        for bad in [0, NOW - WINDOW - 1, NOW + WINDOW + 1, u64::MAX] {
            let found = ledger.check_time(bad, NOW).expect_err("stale");
            assert_eq!(found.code(), "query.stale", "{found}");
        }
        assert!(ledger.check_time(1000, 1001).is_ok());
        let before = ledger.check_time(999, 1001).expect_err("stale");
        assert!(before.to_string().contains("before the start"), "{before}");
    }

    #[test]
    fn a_query_is_taken_once_and_answered_again_only_to_who_brought_it() {
        let request = Digest([7; 32]);
        let strict = ledger(Repeats::Refused);
        let lenient = ledger(Repeats::Answered);
        for ledger in [&strict, &lenient] {
            let taken = ledger.enter(&question(1, NOW), request, caller("a"), NOW);
            assert!(taken.is_ok());
        }
        let again = strict.enter(&question(1, NOW), request, caller("a"), NOW);
        assert!(matches!(again, Err(Fault::Replayed)));
        let again = lenient.enter(&question(1, NOW), request, caller("a"), NOW);
        assert!(again.is_ok());
        let other = lenient.enter(&question(1, NOW), request, caller("b"), NOW);
        assert!(matches!(other, Err(Fault::Replayed)));
        let changed = lenient.enter(&question(1, NOW), Digest([8; 32]), caller("a"), NOW);
        assert!(matches!(changed, Err(Fault::Replayed)));
    }

    #[test]
    fn answers_and_queries_are_forgotten_but_no_query_while_it_is_good() {
        let ledger = ledger(Repeats::Answered);
        let enter = |nonce, now| {
            let question = question(nonce, NOW);
            ledger.enter(&question, Digest([7; 32]), None, now)
        };
        for nonce in 0..=ANSWERS as u32 {
            assert!(enter(nonce, NOW).is_ok());
        }
        assert!(matches!(enter(0, NOW), Err(Fault::Replayed)));
        assert!(enter(ANSWERS as u32, NOW + WINDOW).is_ok());
        let later = question(1000, NOW + WINDOW + 1);
        let taken = ledger.enter(&later, Digest([7; 32]), None, NOW + WINDOW + 1);
        assert!(taken.is_ok());
        assert_eq!(ledger.lock().known.len(), 1);
    }

    #[test]
    fn the_number_of_queries_is_bounded() {
        let ledger = ledger(Repeats::Refused);
        let enter = |nonce| {
            let question = question(nonce, NOW);
            ledger.enter(&question, Digest([7; 32]), None, NOW)
        };
        for nonce in 0..QUERIES as u32 {
            assert!(enter(nonce).is_ok());
        }
        assert!(matches!(enter(u32::MAX), Err(Fault::Full { .. })));
    }
}
