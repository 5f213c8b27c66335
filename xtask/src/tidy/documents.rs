//! Documents that must be there, name real folders and link to real files.

use super::{Offence, Tree};

const REQUIRED: &[&str] = &[
    ".ci/run",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "SECURITY.md",
    "docs/NOTATION.md",
    "docs/PLAN.md",
    "vectors/README.md",
];

/// A word in backquotes that starts so is a path of this repository.
const PATH_STARTS: &[&str] = &[
    "crates/",
    "docs/",
    "fuzz/",
    "vectors/",
    "xtask/",
    "examples/",
    "benches/",
    ".ci/",
];

pub(super) fn check(tree: &Tree, offences: &mut Vec<Offence>) {
    required_documents_exist(tree, offences);
    architecture_names_every_crate(tree, offences);
    if tree
        .text("CHANGELOG.md")
        .is_some_and(|text| !text.contains("## [Unreleased]"))
    {
        offences.push(Offence::new(
            "CHANGELOG.md",
            1,
            "has no section `## [Unreleased]`",
        ));
    }
    for file in tree.files.iter().filter(|file| file.path.ends_with(".md")) {
        for (number, line) in file.text.as_deref().unwrap_or_default().lines().enumerate() {
            links_lead_somewhere(tree, &file.path, number + 1, line, offences);
            if file.path == "ARCHITECTURE.md" {
                named_paths_exist(tree, &file.path, number + 1, line, offences);
            }
        }
    }
}

fn required_documents_exist(tree: &Tree, offences: &mut Vec<Offence>) {
    for path in REQUIRED {
        if !tree.root.join(path).is_file() {
            offences.push(Offence::new(path, 1, "is required and absent"));
        }
    }
}

fn architecture_names_every_crate(tree: &Tree, offences: &mut Vec<Offence>) {
    let text = tree.text("ARCHITECTURE.md").unwrap_or_default();
    let manifests = tree
        .files
        .iter()
        .filter(|file| file.path.ends_with("/Cargo.toml"));
    for name in manifests.filter_map(|file| file.crate_name()) {
        if !text.contains(&format!("`crates/{name}/`")) {
            let message = format!("does not name `crates/{name}/`");
            offences.push(Offence::new("ARCHITECTURE.md", 1, message));
        }
    }
}

fn named_paths_exist(
    tree: &Tree,
    path: &str,
    number: usize,
    line: &str,
    offences: &mut Vec<Offence>,
) {
    for word in line.split('`').skip(1).step_by(2) {
        let is_path = PATH_STARTS.iter().any(|start| word.starts_with(start));
        if is_path && !word.contains(['*', '<', '{', ' ']) && !tree.root.join(word).exists() {
            offences.push(Offence::new(
                path,
                number,
                format!("`{word}` does not exist"),
            ));
        }
    }
}

fn links_lead_somewhere(
    tree: &Tree,
    path: &str,
    number: usize,
    line: &str,
    offences: &mut Vec<Offence>,
) {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    for rest in line.split("](").skip(1) {
        let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
        let elsewhere = target.is_empty() || target.contains("://") || target.starts_with("mailto");
        if !elsewhere && !tree.root.join(folder).join(target).exists() {
            offences.push(Offence::new(
                path,
                number,
                format!("link to absent `{target}`"),
            ));
        }
    }
}
