//! What the verbs that run for long have in common: a runtime, a log, a way to stop.

use std::io::IsTerminal;

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::context::Context;
use crate::errors::{Exit, Failure};

/// A runtime on all cores.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    Runtime::new().map_err(|error| {
        let message = format!("cannot start threads: {error}");
        Failure::new(Exit::JobFailed, "service.runtime", message)
            .hint("raise the limit on threads or files of this user")
    })
}

/// Log lines to standard error: text on a terminal, JSON objects otherwise.
pub(crate) fn log_to_stderr(context: &Context) {
    let level = match (context.quiet, context.verbose) {
        (true, _) => tracing::Level::WARN,
        (false, 0) => tracing::Level::INFO,
        (false, _) => tracing::Level::DEBUG,
    };
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_writer(std::io::stderr);
    // Fails only if there is a log already.
    let _ = match std::io::stderr().is_terminal() {
        true => log.with_ansi(false).compact().try_init(),
        false => log.json().flatten_event(true).try_init(),
    };
}

/// Ready once the process gets SIGINT or SIGTERM.
pub(crate) async fn told_to_stop() {
    let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
    match (signal(interrupt), signal(terminate)) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        // Without handlers the signals end the process, which loses nothing that was acknowledged.
        _ => std::future::pending().await,
    }
}
