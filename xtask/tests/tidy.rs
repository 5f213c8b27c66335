//! `cargo test --workspace` fails when a law of the house is broken.

#[test]
fn the_house_is_tidy() {
    let report = xtask::tidy::check(&xtask::tidy::repository_root()).expect("the tree is readable");
    let list: Vec<String> = report.offences.iter().map(ToString::to_string).collect();
    assert!(
        list.is_empty(),
        "{} offences:\n{}",
        list.len(),
        list.join("\n")
    );
}
