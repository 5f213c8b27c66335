//! Log lines of the services, on standard error.

use tracing::Level;

use crate::context::Context;

/// Starts logging: warnings with `--quiet`, else what happens; `-v` adds details.
pub(crate) fn start(context: &Context) {
    let level = match (context.quiet, context.verbose) {
        (true, _) => Level::WARN,
        (false, 0) => Level::INFO,
        (false, _) => Level::DEBUG,
    };
    let lines = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(context.style.color)
        .with_writer(std::io::stderr);
    // Only a second start in one process fails, and then the first one goes on.
    let _ = match context.format {
        crate::context::Format::Table => lines.try_init(),
        _ => lines.json().try_init(),
    };
}
