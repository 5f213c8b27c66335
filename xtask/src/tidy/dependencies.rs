//! Arrows between workspace crates point down only.

use anyhow::Context as _;
use toml::{Table, Value};

use super::{File, Offence, Tree};

/// For each crate, the workspace crates that its product code may use.
///
/// Development dependencies are free: a test may reach for any crate.
const ALLOWED: &[(&str, &[&str])] = &[
    ("polyring", &[]),
    ("fhe", &["polyring"]),
    ("mpc", &[]),
    ("nn", &[]),
    ("train", &["nn"]),
    ("program", &[]),
    ("ensemble", &["program"]),
    ("compiler", &["nn", "program", "fhe"]),
    ("runtime", &["program", "fhe", "polyring"]),
    ("client", &["program", "fhe", "nn"]),
    ("wire", &[]),
    (
        "server",
        &[
            "program", "fhe", "nn", "runtime", "client", "wire", "ensemble",
        ],
    ),
    ("vault", &["program", "fhe", "client", "wire"]),
    ("testkit", &["polyring", "fhe", "nn", "program"]),
    (
        "cli",
        &[
            "polyring", "fhe", "nn", "train", "program", "compiler", "runtime", "client", "wire",
            "vault", "server", "ensemble",
        ],
    ),
];

/// Crates outside the workspace that give a pure crate a clock, a network or global randomness.
const IMPURE: &[&str] = &[
    "getrandom",
    "rand",
    "tokio",
    "reqwest",
    "ureq",
    "hyper",
    "chrono",
    "time",
];

/// Crates that take `rng` and `now` as arguments; `source` checks their code by the same list.
pub(super) const PURE: &[&str] = &[
    "polyring", "fhe", "mpc", "nn", "compiler", "program", "ensemble",
];

pub(super) fn check(tree: &Tree, offences: &mut Vec<Offence>) -> anyhow::Result<()> {
    for file in &tree.files {
        let Some(name) = file
            .crate_name()
            .filter(|_| file.path.ends_with("/Cargo.toml"))
        else {
            continue;
        };
        let text = file.text.as_deref().unwrap_or_default();
        let manifest: Table = text
            .parse()
            .with_context(|| format!("parsing {}", file.path))?;
        check_crate(name, file, text, &manifest, offences);
    }
    Ok(())
}

fn check_crate(name: &str, file: &File, text: &str, manifest: &Table, offences: &mut Vec<Offence>) {
    let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
        let message = format!("crate `{name}` has no row in xtask/src/tidy/dependencies.rs");
        offences.push(Offence::new(&file.path, 1, message));
        return;
    };
    for dependency in product_dependencies(manifest) {
        let line = line_of(text, &dependency);
        let edge = dependency.strip_prefix("scuro-");
        if let Some(target) = edge.filter(|target| !allowed.contains(target)) {
            let message = format!("`{name}` must not depend on `{target}`");
            offences.push(Offence::new(&file.path, line, message));
        }
        if PURE.contains(&name) && IMPURE.contains(&dependency.as_str()) {
            let message = format!("pure crate `{name}` must not depend on `{dependency}`");
            offences.push(Offence::new(&file.path, line, message));
        }
    }
    if manifest
        .get("lints")
        .and_then(|lints| lints.get("workspace"))
        != Some(&Value::Boolean(true))
    {
        offences.push(Offence::new(
            &file.path,
            1,
            "does not take the workspace's lints",
        ));
    }
}

/// Names under `[dependencies]`, `[build-dependencies]` and the same for single targets.
fn product_dependencies(manifest: &Table) -> Vec<String> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let tables = targets
        .into_iter()
        .flat_map(Table::values)
        .filter_map(Value::as_table);
    std::iter::once(manifest)
        .chain(tables)
        .flat_map(|table| ["dependencies", "build-dependencies"].map(|key| table.get(key)))
        .flatten()
        .filter_map(Value::as_table)
        .flat_map(Table::keys)
        .cloned()
        .collect()
}

fn line_of(text: &str, dependency: &str) -> usize {
    text.lines()
        .position(|line| line.starts_with(dependency))
        .map_or(1, |index| index + 1)
}
