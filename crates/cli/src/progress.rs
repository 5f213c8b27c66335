//! Progress on standard error: a bar with rate and time left, only on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::context::Context;

const BAR: &str = "{msg:<22} {bar:32.cyan/dim} {pos}/{len} · {per_sec:.dim} · {eta} left";
const SPINNER: &str = "{msg:<22} {spinner:.cyan} {elapsed}";

/// A bar or spinner that is gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar over `total` units.
    pub(crate) fn bar(context: &Context, what: &str, total: usize) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total as u64), target(context));
        Self::finish_setup(bar, BAR, what)
    }

    /// A spinner, for work of unknown length.
    pub(crate) fn spinner(context: &Context, what: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, target(context));
        Self::finish_setup(bar, SPINNER, what)
    }

    fn finish_setup(bar: ProgressBar, template: &str, what: &str) -> Self {
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("━━─");
        bar.set_style(style);
        bar.set_message(what.to_string());
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar }
    }

    /// One unit done.
    pub(crate) fn advance(&self, units: usize) {
        self.bar.inc(units as u64);
    }

    /// Sets the units done.
    pub(crate) fn at(&self, done: usize) {
        self.bar.set_position(done as u64);
    }

    /// Changes the text in front.
    pub(crate) fn say(&self, what: impl Into<String>) {
        self.bar.set_message(what.into());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn target(context: &Context) -> ProgressDrawTarget {
    if context.shows_progress() {
        ProgressDrawTarget::stderr_with_hz(10)
    } else {
        ProgressDrawTarget::hidden()
    }
}
