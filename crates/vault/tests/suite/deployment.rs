//! Pushing models to a device that fails on demand.

use std::sync::Mutex;
use std::sync::atomic::Ordering;

use scuro_vault::VaultError;
use scuro_vault::devices::PeerRole;
use scuro_wire::{ModelReference, Role, limits};

use crate::common::{DAY, Desk, HIDDEN, OURS, STRANGER, name, today};
use crate::intake::{deploy, device};

fn digits(version: u32) -> ModelReference {
    let name = name("digits");
    let version = Some(version);
    ModelReference { name, version }
}

#[tokio::test]
async fn a_model_arrives_whole_and_only_once() {
    let desk = Desk::new(today());
    let record = HIDDEN.store(&desk.vault, today()).expect("stored");
    let (device, _files) = device(&desk, "cam-7").await;
    let seen = Mutex::new(Vec::new());
    let note = |bytes| seen.lock().expect("lock").push(bytes);
    let report = desk
        .vault
        .deploy(&digits(1), &name("cam-7"), None, today(), note)
        .await;
    let report = report.expect("deployed");
    let bytes = record.manifest.bytes();
    assert_eq!((report.bytes, report.bytes_sent), (bytes, bytes));
    assert_eq!(seen.lock().expect("lock").last(), Some(&bytes));
    for artefact in &record.manifest.artefacts {
        assert_eq!(device.stored(&artefact.digest), artefact.bytes);
    }
    let again = desk
        .vault
        .deploy(&digits(1), &name("cam-7"), None, today(), |_| ())
        .await;
    assert_eq!(again.expect("deployed").bytes_sent, 0);
    let rows = desk.vault.deployments().expect("list");
    assert_eq!((rows.len(), rows[0].state.as_str()), (1, "active"));
    let there = desk
        .vault
        .device_deployments(&name("cam-7"), None, today())
        .await;
    assert_eq!(
        there.expect("list").deployments[0].deployment,
        record.deployment
    );
}

#[tokio::test]
async fn a_deployment_that_was_cut_off_goes_on_where_it_stopped() {
    let desk = Desk::new(today());
    let record = OURS.store(&desk.vault, today()).expect("stored");
    let keys = record
        .manifest
        .artefact(Role::EvaluationKeys)
        .expect("there")
        .clone();
    let (device, _files) = device(&desk, "cam-7").await;
    // Program and public key are a piece each; the device dies after them.
    device.state.pieces_left.store(2, Ordering::SeqCst);
    let cut = desk
        .vault
        .deploy(&digits(1), &name("cam-7"), None, today(), |_| ())
        .await;
    assert!(
        matches!(cut, Err(VaultError::Device { status: 503, .. })),
        "{cut:?}"
    );
    let rows = desk.vault.deployments().expect("list");
    assert_eq!(rows[0].state, "pushing");
    device.state.pieces_left.store(usize::MAX, Ordering::SeqCst);
    let report = desk
        .vault
        .deploy(&digits(1), &name("cam-7"), None, today(), |_| ())
        .await;
    let report = report.expect("deployed");
    assert_eq!(report.bytes_sent, keys.bytes);
    assert!(keys.bytes < limits::CHUNK_BYTES as u64 * 64);
}

#[tokio::test]
async fn an_artefact_that_arrives_damaged_is_sent_again() {
    let desk = Desk::new(today());
    let record = OURS.store(&desk.vault, today()).expect("stored");
    let (device, _files) = device(&desk, "cam-7").await;
    device.state.damage.store(1, Ordering::SeqCst);
    let report = desk
        .vault
        .deploy(&digits(1), &name("cam-7"), None, today(), |_| ())
        .await;
    let program = record
        .manifest
        .artefact(Role::Program)
        .expect("there")
        .bytes;
    assert_eq!(
        report.expect("deployed").bytes_sent,
        record.manifest.bytes() + program
    );
}

#[tokio::test]
async fn a_tampered_artefact_never_leaves_the_vault() {
    let desk = Desk::new(today());
    let record = HIDDEN.store(&desk.vault, today()).expect("stored");
    let (device, _files) = device(&desk, "cam-7").await;
    let digest = record
        .manifest
        .artefact(Role::Weights)
        .expect("there")
        .digest;
    let path = desk
        .folder
        .path()
        .join("artefacts")
        .join(digest.to_string());
    std::fs::write(path, b"encrypted weighty").expect("tampered");
    let found = desk
        .vault
        .deploy(&digits(1), &name("cam-7"), None, today(), |_| ())
        .await;
    assert!(matches!(found, Err(VaultError::Tampered { .. })));
    let program = record
        .manifest
        .artefact(Role::Program)
        .expect("there")
        .digest;
    assert_eq!(device.stored(&program), 0, "nothing was sent");
}

#[tokio::test]
async fn a_device_goes_back_to_the_version_before() {
    let desk = Desk::new(today());
    let first = OURS.store(&desk.vault, today()).expect("stored");
    STRANGER.store(&desk.vault, today()).expect("stored");
    let (_device, _files) = device(&desk, "cam-7").await;
    deploy(&desk, "digits:1", "cam-7").await;
    let none = desk.vault.roll_back(&name("cam-7"), None, today()).await;
    assert!(matches!(none, Err(VaultError::NothingBefore { .. })));
    deploy(&desk, "digits", "cam-7").await;
    let back = desk
        .vault
        .roll_back(&name("cam-7"), None, today() + 1)
        .await
        .expect("back");
    assert_eq!((back.deployment, back.version), (first.deployment, 1));
    let rows = desk.vault.deployments().expect("list");
    let state = |model: &str| {
        let row = rows.iter().find(|row| row.model == model);
        row.expect("a row").state.clone()
    };
    assert_eq!(
        (state("digits:1"), state("digits:2")),
        ("active".into(), "previous".into())
    );
}

/// The answers to the first tries get lost on the way.
#[tokio::test]
async fn a_roll_back_whose_answer_was_lost_goes_back_once() {
    let desk = Desk::new(today());
    let first = OURS.store(&desk.vault, today()).expect("stored");
    STRANGER.store(&desk.vault, today()).expect("stored");
    let (device, _files) = device(&desk, "cam-7").await;
    deploy(&desk, "digits:1", "cam-7").await;
    deploy(&desk, "digits:2", "cam-7").await;
    device.state.answers_lost.store(2, Ordering::SeqCst);
    let back = desk.vault.roll_back(&name("cam-7"), None, today()).await;
    assert_eq!(back.expect("back").deployment, first.deployment);
    assert_eq!(device.state.answers_lost.load(Ordering::SeqCst), 0);
    let there = desk
        .vault
        .device_deployments(&name("cam-7"), None, today())
        .await;
    assert_eq!(
        there.expect("list").deployments[0].deployment,
        first.deployment
    );
}

/// All tries of a command were in vain, and yet the device went back.
#[tokio::test]
async fn a_roll_back_that_the_vault_never_heard_of_is_noted_and_not_carried_out_again() {
    let desk = Desk::new(today());
    let first = OURS.store(&desk.vault, today()).expect("stored");
    let second = STRANGER.store(&desk.vault, today()).expect("stored");
    let (device, _files) = device(&desk, "cam-7").await;
    for model in ["digits:1", "digits:2"] {
        deploy(&desk, model, "cam-7").await;
    }
    let before = device.state.active.lock().expect("lock")[1].clone();
    device.state.switch(&before);
    let back = async || {
        let back = desk.vault.roll_back(&name("cam-7"), None, today()).await;
        back.expect("back").deployment
    };
    assert_eq!(back().await, first.deployment);
    let active = || device.state.active.lock().expect("lock")[0].deployment;
    assert_eq!(active(), first.deployment);
    // Who asks once more wants the other one.
    assert_eq!(back().await, second.deployment);
    deploy(&desk, "digits:1", "cam-7").await;
    assert_eq!(back().await, second.deployment);
    assert_eq!(active(), second.deployment);
}

#[tokio::test]
async fn no_device_goes_back_to_a_version_that_is_retired_or_expired() {
    let desk = Desk::new(today());
    OURS.store(&desk.vault, today()).expect("stored");
    let mut lasting = STRANGER.as_new(today());
    lasting.expires += 100 * DAY;
    let second = desk.vault.store(&lasting, today());
    let (device, _files) = device(&desk, "cam-7").await;
    deploy(&desk, "digits:1", "cam-7").await;
    deploy(&desk, "digits:2", "cam-7").await;
    let back = async |now| desk.vault.roll_back(&name("cam-7"), None, now).await;
    let late = back(today() + 100 * DAY).await;
    assert!(matches!(late, Err(VaultError::Expired { .. })), "{late:?}");
    desk.vault.retire(&digits(1), today()).expect("retired");
    let retired = back(today()).await;
    assert!(
        matches!(retired, Err(VaultError::Retired { .. })),
        "{retired:?}"
    );
    let active = device.state.active.lock().expect("lock")[0].deployment;
    assert_eq!(active, second.expect("stored").deployment);
}

#[tokio::test]
async fn what_may_not_be_deployed_is_refused_before_anything_is_sent() {
    let desk = Desk::new(today());
    OURS.store(&desk.vault, today()).expect("stored");
    let (_device, _files) = device(&desk, "cam-7").await;
    let deploy = async |who: &str, now| {
        let name = name(who);
        desk.vault
            .deploy(&digits(1), &name, None, now, |_| ())
            .await
    };
    let late = deploy("cam-7", today() + 100 * DAY).await;
    assert!(matches!(late, Err(VaultError::Expired { .. })));
    assert!(matches!(
        deploy("cam-9", today()).await,
        Err(VaultError::NotFound { .. })
    ));
    desk.enrol("alice", PeerRole::User, "127.0.0.1:1", today());
    assert!(matches!(
        deploy("alice", today()).await,
        Err(VaultError::WrongRole { .. })
    ));
    desk.vault.revoke(&name("cam-7")).expect("revoked");
    assert!(matches!(
        deploy("cam-7", today()).await,
        Err(VaultError::Peer { .. })
    ));
    desk.vault.retire(&digits(1), today()).expect("retired");
    assert!(matches!(
        deploy("cam-7", today()).await,
        Err(VaultError::Retired { .. })
    ));
}
