//! One binary, `scuro`: verbs only. The work is done by the crates below it.

mod app;
mod bench;
mod brokers;
mod compiled;
mod context;
mod data;
mod ensemble;
mod errors;
mod evaluator;
mod files;
mod html;
mod inputs;
mod logging;
mod machine;
mod membership;
mod noise;
mod output;
mod privacy;
mod progress;
mod report;
mod scoring;
mod secrets;
mod services;
mod session;
mod style;
mod table;
mod terminal;
mod units;
mod verbs;
mod workspace;

fn main() -> std::process::ExitCode {
    app::run()
}
