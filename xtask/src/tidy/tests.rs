//! Each rule finds what it is for, on a small tree in a temporary folder.

use super::{Offence, Tree, check};
use std::path::PathBuf;

/// A tree that lives as long as the value.
struct Sample(PathBuf);

impl Sample {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let root = std::env::temp_dir().join(format!("scuro-tidy-{name}-{}", std::process::id()));
        for (path, text) in files {
            let full = root.join(path);
            let folder = full.parent().expect("a file has a folder");
            std::fs::create_dir_all(folder).expect("temporary folder is writable");
            std::fs::write(full, text).expect("temporary folder is writable");
        }
        Self(root)
    }

    fn offences(&self) -> String {
        let report = check(&self.0).expect("the sample is readable");
        report
            .offences
            .iter()
            .map(Offence::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        // Nothing depends on the clean-up, and a panic in drop would hide the test's own.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn an_upward_edge_is_an_offence() {
    let manifest = "[lints]\nworkspace = true\n[dependencies]\nscuro-fhe.workspace = true\n";
    let sample = Sample::new("edge", &[("crates/polyring/Cargo.toml", manifest)]);
    let found = sample.offences();
    assert!(
        found.contains("Cargo.toml:4: `polyring` must not depend on `fhe`"),
        "{found}"
    );
}

#[test]
fn unsafe_outside_the_kernels_is_an_offence() {
    let code = "//! Words about unsafe.\nfn a() {\n    unsafe { b() }\n}\n";
    let files = [
        ("crates/fhe/src/lib.rs", code),
        ("crates/polyring/src/kernel/a.rs", code),
    ];
    let found = Sample::new("unsafe", &files).offences();
    assert_eq!(found.matches("`unsafe` outside").count(), 1, "{found}");
    assert!(found.contains("crates/fhe/src/lib.rs:3"), "{found}");
}

#[test]
fn the_runtime_cannot_name_a_secret_key() {
    let code = "//! Words.\nuse scuro_fhe::owner::SecretKey;\n";
    let found = Sample::new("owner", &[("crates/runtime/src/lib.rs", code)]).offences();
    assert!(
        found.contains("`owner`: the evaluator cannot name a secret key"),
        "{found}"
    );
}

#[test]
fn a_long_function_is_an_offence_until_the_ratchet_has_it() {
    let code = format!("fn long() {{\n{}}}\n", "    step();\n".repeat(80));
    let name = "crates/nn/src/a.rs";
    let found = Sample::new("long", &[(name, &code)]).offences();
    assert!(found.contains("long: 82 lines; at most 70"), "{found}");
    let row = format!("\"{name}::long\" = 82\n");
    let found = Sample::new("row", &[(name, &code), ("xtask/ratchet.toml", &row)]).offences();
    assert!(!found.contains("82 lines"), "{found}");
}

#[test]
fn an_unknown_root_entry_is_an_offence() {
    let sample = Sample::new("root", &[("notes.txt", "")]);
    assert!(sample.offences().contains("root entry `notes.txt`"));
    assert_eq!(Tree::read(&sample.0).expect("readable").files.len(), 1);
}

#[test]
fn a_dead_link_is_an_offence() {
    let found =
        Sample::new("link", &[("README.md", "[a](docs/none.md) [b](README.md)")]).offences();
    assert!(
        found.contains("README.md:1: link to absent `docs/none.md`"),
        "{found}"
    );
    assert_eq!(found.matches("link to").count(), 1, "{found}");
}
