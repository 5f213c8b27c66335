//! Pushing models to a device that fails on demand.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use scuro_vault::VaultError;
use scuro_vault::devices::PeerRole;
use scuro_vault::registry::ModelRecord;
use scuro_wire::Role;

use crate::common::device::Device;
use crate::common::{
    CAM, DAY, Desk, HIDDEN, OURS, Protected, STRANGER, artefact, name, reference, today,
};

/// A vault with a model, and a device.
async fn with_device(model: &Protected) -> (Desk, ModelRecord, Device) {
    let desk = Desk::new();
    let record = desk.store(model);
    let device = desk.device().await;
    (desk, record, device)
}

/// A vault with two versions, and a device that has both: the second is active.
async fn with_two_versions() -> (Desk, [ModelRecord; 2], Device) {
    let (desk, first, device) = with_device(&OURS).await;
    let second = desk.store(&STRANGER);
    desk.deploy("digits:1").await;
    desk.deploy("digits:2").await;
    (desk, [first, second], device)
}

/// Bytes of each artefact.
fn sizes(record: &ModelRecord) -> Vec<u64> {
    record.manifest.artefacts.iter().map(|a| a.bytes).collect()
}

/// What the books say of deployments.
fn books(states: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(model, state): &(&str, &str)| (model.to_string(), state.to_string());
    states.iter().map(owned).collect()
}

#[tokio::test]
async fn a_model_arrives_whole_and_only_once() {
    let (desk, record, device) = with_device(&HIDDEN).await;
    let seen = Mutex::new(Vec::new());
    let note = |bytes| seen.lock().expect("lock").push(bytes);
    let (model, cam) = (reference("digits:1"), name(CAM));
    let report = desk.vault.deploy(&model, &cam, None, today(), note).await;
    let report = report.expect("deployed");
    let bytes = record.manifest.bytes();
    assert_eq!((report.bytes, report.bytes_sent), (bytes, bytes));
    assert_eq!(seen.lock().expect("lock").last(), Some(&bytes));
    assert_eq!(device.stored(&record.manifest), sizes(&record));
    assert_eq!(desk.deploy("digits:1").await.bytes_sent, 0);
    assert_eq!(desk.books(), books(&[("digits:1", "active")]));
    assert_eq!(desk.on_device().await, [record.deployment]);
}

#[tokio::test]
async fn a_deployment_that_was_cut_off_goes_on_where_it_stopped() {
    let (desk, record, device) = with_device(&OURS).await;
    // Program and public key are a piece each; the device dies after them.
    device.state.pieces_left.store(2, Ordering::SeqCst);
    let cut = desk.try_deploy("digits:1", CAM, today()).await;
    assert!(
        matches!(cut, Err(VaultError::Device { status: 503, .. })),
        "{cut:?}"
    );
    assert_eq!(desk.books(), books(&[("digits:1", "pushing")]));
    // As if it had died in the middle of keys that are several pieces.
    let keys = artefact(&record, Role::EvaluationKeys);
    let bytes = std::fs::read(desk.file(keys)).expect("keys");
    let (half, rest) = bytes.split_at(bytes.len() / 2);
    device.keep(&keys.digest, half);
    device.state.pieces_left.store(usize::MAX, Ordering::SeqCst);
    let sent = desk.deploy("digits:1").await.bytes_sent;
    assert_eq!(sent, rest.len() as u64);
    assert_eq!(device.stored(&record.manifest), sizes(&record));
}

#[tokio::test]
async fn an_artefact_that_arrives_damaged_is_sent_again() {
    let (desk, record, device) = with_device(&OURS).await;
    device.state.damage.store(1, Ordering::SeqCst);
    let sent = desk.deploy("digits:1").await.bytes_sent;
    let program = artefact(&record, Role::Program).bytes;
    assert_eq!(sent, record.manifest.bytes() + program);
}

#[tokio::test]
async fn a_tampered_artefact_never_leaves_the_vault() {
    let (desk, record, device) = with_device(&HIDDEN).await;
    let weights = desk.file(artefact(&record, Role::Weights));
    assert!(weights.exists());
    std::fs::write(weights, b"encrypted weighty").expect("tampered");
    let found = desk.try_deploy("digits:1", CAM, today()).await;
    assert!(matches!(found, Err(VaultError::Tampered { .. })));
    let stored = device.stored(&record.manifest);
    assert!(stored.iter().all(|bytes| *bytes == 0), "nothing was sent");
}

#[tokio::test]
async fn a_device_goes_back_to_the_version_before() {
    let (desk, first, _device) = with_device(&OURS).await;
    desk.store(&STRANGER);
    desk.deploy("digits:1").await;
    let none = desk.roll_back(today()).await;
    assert!(matches!(none, Err(VaultError::NothingBefore { .. })));
    desk.deploy("digits").await;
    let back = desk.roll_back(today() + 1).await.expect("back");
    assert_eq!((back.deployment, back.version), (first.deployment, 1));
    let states = [("digits:1", "active"), ("digits:2", "previous")];
    assert_eq!(desk.books(), books(&states));
}

/// The answers to the first tries get lost on the way.
#[tokio::test]
async fn a_roll_back_whose_answer_was_lost_goes_back_once() {
    let (desk, [first, second], device) = with_two_versions().await;
    device.state.answers_lost.store(2, Ordering::SeqCst);
    let back = desk.roll_back(today()).await;
    assert_eq!(back.expect("back").deployment, first.deployment);
    assert_eq!(device.state.answers_lost.load(Ordering::SeqCst), 0);
    let expected = [first.deployment, second.deployment];
    assert_eq!(desk.on_device().await, expected);
}

/// All tries of a command were in vain, and yet the device went back.
#[tokio::test]
async fn a_roll_back_that_the_vault_never_heard_of_is_noted_and_not_carried_out_again() {
    let (desk, [first, second], device) = with_two_versions().await;
    let before = device.state.active.lock().expect("lock")[1].clone();
    device.state.switch(&before);
    let back = async || {
        let back = desk.roll_back(today()).await;
        back.expect("back").deployment
    };
    assert_eq!(back().await, first.deployment);
    assert_eq!(device.active(), first.deployment);
    // Who asks once more wants the other one.
    assert_eq!(back().await, second.deployment);
    desk.deploy("digits:1").await;
    assert_eq!(back().await, second.deployment);
    assert_eq!(device.active(), second.deployment);
}

#[tokio::test]
async fn no_device_goes_back_to_a_version_that_is_retired_or_expired() {
    let (desk, _, device) = with_device(&OURS).await;
    let mut lasting = STRANGER.as_new();
    lasting.expires += 100 * DAY;
    let second = desk.vault.store(&lasting, today()).expect("stored");
    desk.deploy("digits:1").await;
    desk.deploy("digits:2").await;
    let late = desk.roll_back(today() + 100 * DAY).await;
    assert!(matches!(late, Err(VaultError::Expired { .. })), "{late:?}");
    desk.retire("digits:1").expect("retired");
    let retired = desk.roll_back(today()).await;
    assert!(
        matches!(retired, Err(VaultError::Retired { .. })),
        "{retired:?}"
    );
    assert_eq!(device.active(), second.deployment);
}

#[tokio::test]
async fn what_may_not_be_deployed_is_refused_before_anything_is_sent() {
    let (desk, record, device) = with_device(&OURS).await;
    let deploy = async |who| desk.try_deploy("digits:1", who, today()).await;
    let late = desk.try_deploy("digits:1", CAM, today() + 100 * DAY).await;
    assert!(matches!(late, Err(VaultError::Expired { .. })));
    let nobody = deploy("cam-9").await;
    assert!(matches!(nobody, Err(VaultError::NotFound { .. })));
    desk.enrol("alice", PeerRole::User, "127.0.0.1:1");
    let user = deploy("alice").await;
    assert!(matches!(user, Err(VaultError::WrongRole { .. })));
    desk.vault.revoke(&name(CAM)).expect("revoked");
    let revoked = deploy(CAM).await;
    assert!(matches!(revoked, Err(VaultError::Peer { .. })));
    desk.retire("digits:1").expect("retired");
    let retired = deploy(CAM).await;
    assert!(matches!(retired, Err(VaultError::Retired { .. })));
    let stored = device.stored(&record.manifest);
    assert!(stored.iter().all(|bytes| *bytes == 0), "nothing was sent");
}
