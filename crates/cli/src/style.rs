//! Terminal colours, off when the output is not a terminal or `NO_COLOR` is set.

use std::io::IsTerminal;

/// Paints text, or leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    /// Whether escape codes may be written.
    pub(crate) color: bool,
}

impl Style {
    /// The style for standard output.
    pub(crate) fn detect() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            color: !refused && !dumb && std::io::stdout().is_terminal(),
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }

    /// Headings.
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Side remarks.
    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// Success.
    pub(crate) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Failure.
    pub(crate) fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }
}

/// Columns that `text` takes in a terminal: escape codes take none.
pub(crate) fn visible_width(text: &str) -> usize {
    let mut width = 0;
    let mut in_escape = false;
    for c in text.chars() {
        match (in_escape, c) {
            (true, 'm') => in_escape = false,
            (true, _) => {}
            (false, '\x1b') => in_escape = true,
            (false, _) => width += 1,
        }
    }
    width
}

/// Columns of the terminal; 100 where there is none.
pub(crate) fn terminal_columns() -> usize {
    let asked = std::env::var("COLUMNS")
        .ok()
        .and_then(|value| value.parse().ok());
    asked.or_else(terminal_size).unwrap_or(100).clamp(40, 240)
}

fn terminal_size() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}
