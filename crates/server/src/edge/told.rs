//! What the log says of a state that comes and goes: each change once, and of a state that passes
//! by itself no more than a line a minute.

use std::time::{Duration, Instant};

/// Time between two lines about states that pass by themselves: some do so many times a second.
const QUIET: Duration = Duration::from_secs(60);

/// The state that was told last.
#[derive(Debug)]
pub(super) struct Told {
    /// States that pass by themselves.
    passing: &'static [&'static str],
    state: Option<&'static str>,
    at: Option<Instant>,
}

impl Told {
    /// Nothing is told yet; that there is no state to tell of is taken for known.
    pub(super) fn new(passing: &'static [&'static str]) -> Self {
        Self {
            passing,
            state: None,
            at: None,
        }
    }

    /// Whether the log is to say what the state is now; then it counts as told.
    pub(super) fn is_news(&mut self, now: Option<&'static str>) -> bool {
        let passes = |state: Option<&str>| state.is_none_or(|state| self.passing.contains(&state));
        let quiet = self.at.is_some_and(|at| at.elapsed() < QUIET);
        if now == self.state || quiet && passes(now) && passes(self.state) {
            return false;
        }
        (self.state, self.at) = (now, Some(Instant::now()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_told_once_a_minute_and_what_does_not_each_time() {
        let mut told = Told::new(&["slow"]);
        assert!(!told.is_news(None));
        assert!(told.is_news(Some("slow")));
        for _ in 0..3 {
            assert!(!told.is_news(None) && !told.is_news(Some("slow")));
        }
        for _ in 0..3 {
            assert!(told.is_news(Some("retired")) && !told.is_news(Some("retired")));
            assert!(told.is_news(None));
        }
        told.at = Instant::now().checked_sub(QUIET);
        assert!(told.is_news(Some("slow")) && !told.is_news(Some("slow")));
    }
}
