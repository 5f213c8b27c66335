//! Versions, states, and secrets at rest.

use proptest::prelude::*;
use scuro_client::Bundle;
use scuro_program::Weights;
use scuro_vault::registry::ModelState;
use scuro_vault::{KeySource, VaultError};
use scuro_wire::Role;
use scuro_wire::manifest::EncryptedScope;

use crate::common::{
    DAY, Desk, HIDDEN, OTHER, OURS, Protected, ROTATED, STRANGER, artefact, program, reference,
    today,
};

#[test]
fn a_new_version_supersedes_and_a_retired_one_is_out_of_use() {
    let desk = Desk::new();
    let first = desk.store(&OURS);
    let second = desk.store(&STRANGER);
    assert_eq!((first.manifest.version, second.manifest.version), (1, 2));
    assert_ne!(first.manifest.key_id, second.manifest.key_id);
    assert_eq!(first.manifest.parameters, second.manifest.parameters);
    let state = |text| {
        let found = desk.vault.model(&reference(text));
        found.map(|record| record.state)
    };
    assert_eq!(state("digits:1").expect("there"), ModelState::Superseded);
    assert_eq!(state("digits").expect("there"), ModelState::Active);
    desk.retire("digits:2").expect("retired");
    assert_eq!(state("digits:2").expect("there"), ModelState::Retired);
    let none_is_active = state("digits");
    assert!(matches!(none_is_active, Err(VaultError::NotFound { .. })));
    for not_in_use in ["digits:2", "digits:9"] {
        let found = desk.retire(not_in_use);
        assert!(matches!(found, Err(VaultError::NotFound { .. })));
    }
    assert_eq!(desk.store(&OURS).manifest.version, 3);
    assert_eq!(desk.vault.models().expect("list").len(), 3);
}

#[test]
fn a_manifest_names_every_artefact_and_no_secret() {
    let desk = Desk::new();
    let record = desk.store(&HIDDEN);
    let roles: Vec<Role> = record.manifest.artefacts.iter().map(|a| a.role).collect();
    let expected = [
        Role::Program,
        Role::Weights,
        Role::PublicKey,
        Role::EvaluationKeys,
    ];
    assert_eq!(roles, expected);
    assert_eq!(record.deployment, record.manifest.digest());
    let context = HIDDEN.model.context();
    assert_eq!(record.manifest.parameters.0, context.digest().0);
    assert!(record.check_usable(today() + 99 * DAY).is_ok());
    let late = record.check_usable(today() + 100 * DAY);
    assert!(matches!(late, Err(VaultError::Expired { .. })));
}

#[test]
fn keys_that_do_not_belong_together_are_not_stored() {
    let desk = Desk::new();
    let foreign = STRANGER.keys.secret.to_bytes();
    let store = |key: &[u8]| {
        let mut new = OURS.as_new();
        new.secret_key = key;
        desk.vault.store(&new, today())
    };
    let found = store(&foreign);
    assert!(matches!(found, Err(VaultError::KeyMismatch { .. })));
    assert!(matches!(store(b"no key"), Err(VaultError::Model(_))));
    assert!(desk.vault.models().expect("list").is_empty());
}

/// What is stored goes to devices that must not read it.
#[test]
fn weights_that_are_to_be_encrypted_are_stored_encrypted_or_not_at_all() {
    let desk = Desk::new();
    let private = program(5, 1, Weights::Private).to_bytes();
    let store = |program: &[u8], of: &Protected, weights: Option<&[u8]>| {
        let mut new = of.as_new();
        (new.program, new.weights) = (program, weights);
        desk.vault.store(&new, today())
    };
    let right = HIDDEN.weights.as_deref();
    for weights in [None, right] {
        let found = store(&private, &HIDDEN, weights);
        assert!(matches!(found, Err(VaultError::WeightsInClear)));
    }
    let none = store(&HIDDEN.program, &HIDDEN, None);
    assert!(matches!(none, Err(VaultError::WeightsFile { .. })));
    let two = store(&OURS.program, &OURS, right);
    assert!(matches!(two, Err(VaultError::WeightsFile { .. })));
    let foreign = store(&HIDDEN.program, &HIDDEN, ROTATED.weights.as_deref());
    assert!(matches!(foreign, Err(VaultError::KeyMismatch { .. })));
    let whole = right.expect("weights");
    for damaged in [&b"encrypted weights"[..], &whole[..whole.len() - 1]] {
        let found = store(&HIDDEN.program, &HIDDEN, Some(damaged));
        assert!(matches!(found, Err(VaultError::Model(_))));
    }
    let mut fewer = Bundle::from_bytes(whole).expect("a bundle");
    fewer.ciphertexts.pop();
    fewer.group -= 1;
    let found = store(&HIDDEN.program, &HIDDEN, Some(&fewer.to_bytes()));
    assert!(matches!(found, Err(VaultError::Model(_))));
    assert!(desk.vault.models().expect("list").is_empty());
}

#[test]
fn what_is_encrypted_is_told_by_the_files() {
    let desk = Desk::new();
    let scope = |of: &Protected, features: Option<&[u8]>| {
        let mut new = of.as_new();
        new.features = features;
        let stored = desk.vault.store(&new, today());
        stored.expect("stored").manifest.encrypted
    };
    let features = Some(&b"layers in clear"[..]);
    assert_eq!(scope(&OURS, None), EncryptedScope::None);
    assert_eq!(scope(&OURS, features), EncryptedScope::None);
    assert_eq!(scope(&HIDDEN, None), EncryptedScope::All);
    assert_eq!(scope(&HIDDEN, features), EncryptedScope::Classifier);
}

/// Rotation: the same model again, protected under new keys.
#[test]
fn the_same_model_under_new_keys_is_a_new_version() {
    let desk = Desk::new();
    let first = desk.store(&HIDDEN);
    let second = desk.store(&ROTATED);
    assert_eq!((first.manifest.version, second.manifest.version), (1, 2));
    assert_ne!(first.manifest.key_id, second.manifest.key_id);
    let same = |role| artefact(&first, role) == artefact(&second, role);
    assert!(same(Role::Program));
    for role in [Role::Weights, Role::PublicKey, Role::EvaluationKeys] {
        assert!(!same(role), "{role:?}");
    }
}

/// Every file of the store, one after the other.
fn everything(desk: &Desk) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut folders = vec![desk.folder.path().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("list") {
            let path = entry.expect("entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false => bytes.extend(std::fs::read(path).expect("file")),
            }
        }
    }
    bytes
}

/// Whether 16 bytes in a row of `secret` stand in `bytes`.
fn holds(bytes: &[u8], secret: &[u8]) -> bool {
    let windows: std::collections::HashSet<&[u8]> = secret.windows(16).collect();
    bytes.windows(16).any(|window| windows.contains(window))
}

#[test]
fn no_file_of_the_store_holds_a_piece_of_a_secret_key() {
    let mut desk = Desk::new();
    let record = desk.store(&OURS);
    desk.store(&OTHER);
    let whole = OURS.keys.secret.to_bytes();
    // After the header (50 bytes) and the public key id come the coefficients; a checksum ends it.
    let secret = &whole[66..whole.len() - 32];
    let bytes = everything(&desk);
    assert!(bytes.len() > 100_000 && !holds(&bytes, secret));
    let evaluation = artefact(&record, Role::EvaluationKeys).bytes;
    assert!(bytes.len() as u64 > evaluation, "artefacts are among them");
    let vault = std::sync::Arc::get_mut(&mut desk.vault).expect("the only one");
    let passphrase = KeySource::passphrase("a passphrase for tests").expect("long");
    vault.rekey(&passphrase).expect("changed");
    let bytes = everything(&desk);
    assert!(!holds(&bytes, secret));
    assert!(!holds(&bytes, b"a passphrase for tests"));
    // The search does find what is there.
    assert!(holds(&bytes, &OURS.program[..64]));
}

#[test]
fn a_vault_is_the_same_after_it_was_closed() {
    let mut desk = Desk::new();
    let record = desk.store(&OURS);
    desk.reopen();
    assert_eq!(desk.vault.models().expect("list"), [record]);
}

/// What a step of the property test does.
#[derive(Debug, Clone)]
enum Step {
    Store,
    Retire(Option<u32>),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Store),
        1 => prop::option::of(1..6u32).prop_map(Step::Retire),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn states_follow_the_rules_whatever_the_order(steps in prop::collection::vec(step(), 1..12)) {
        let mut desk = Desk::new();
        let mut expected: Vec<ModelState> = Vec::new();
        for step in steps {
            match step {
                Step::Store => {
                    desk.store(&OURS);
                    for state in expected.iter_mut().filter(|s| **s == ModelState::Active) {
                        *state = ModelState::Superseded;
                    }
                    expected.push(ModelState::Active);
                }
                Step::Retire(version) => {
                    let model = version.map_or("digits".to_string(), |v| format!("digits:{v}"));
                    let chosen = |i: usize| version.is_none_or(|v| v as usize == i + 1);
                    let mut changed = 0;
                    for (i, state) in expected.iter_mut().enumerate() {
                        if chosen(i) && *state != ModelState::Retired {
                            *state = ModelState::Retired;
                            changed += 1;
                        }
                    }
                    let found = desk.retire(&model).unwrap_or(0);
                    prop_assert_eq!(found, changed);
                }
                Step::Reopen => desk.reopen(),
            }
            let mut found = desk.vault.models().expect("list");
            found.reverse();
            let states: Vec<ModelState> = found.iter().map(|record| record.state).collect();
            prop_assert_eq!(&states, &expected);
        }
    }
}
