//! What may lie in the root, and how large a file may be.

use super::{Offence, Tree};

/// Entries of the root folder; a new one is a decision, so it is added here by hand.
const ROOT_ENTRIES: &[&str] = &[
    ".cargo",
    ".ci",
    ".gitattributes",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "SECURITY.md",
    "benches",
    "crates",
    "deny.toml",
    "docs",
    "examples",
    "fuzz",
    "justfile",
    "vectors",
    "xtask",
];

/// Above this a file needs a place in [`LARGE_FILES`].
const BLOB_BYTES_MAX: u64 = 1_000_000;

/// Large files that are wanted, each with its reason in the folder's README.
const LARGE_FILES: &[&str] = &[];

pub(super) fn check(tree: &Tree, offences: &mut Vec<Offence>) {
    for file in tree.files.iter().filter(|file| file.tracked) {
        let entry = file.path.split('/').next().unwrap_or_default();
        if !ROOT_ENTRIES.contains(&entry) {
            let message =
                format!("root entry `{entry}` is not on the list in xtask/src/tidy/layout.rs");
            offences.push(Offence::new(&file.path, 1, message));
        }
        if file.bytes > BLOB_BYTES_MAX && !LARGE_FILES.contains(&file.path.as_str()) {
            let message = format!("{} bytes; at most {BLOB_BYTES_MAX} are tracked", file.bytes);
            offences.push(Offence::new(&file.path, 1, message));
        }
    }
}
