//! Project chores: `cargo xtask tidy` checks the laws of the house.

use std::io::Write as _;
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask tidy    check the laws that a machine can check\n";

fn main() -> anyhow::Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => tidy(),
        _ => {
            std::io::stderr().write_all(USAGE.as_bytes())?;
            Ok(ExitCode::from(2))
        }
    }
}

fn tidy() -> anyhow::Result<ExitCode> {
    let report = xtask::tidy::check(&xtask::tidy::repository_root())?;
    let mut out = std::io::stdout().lock();
    for offence in &report.offences {
        writeln!(out, "{offence}")?;
    }
    writeln!(
        out,
        "tidy: {} files, {} offences",
        report.files,
        report.offences.len()
    )?;
    Ok(if report.offences.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
