//! The key or the model changes while frames wait: every frame that was accepted is answered.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::site::{Site, processes_nothing};
use crate::support::{FIRST, Protected, Recipe, SECOND, eventually, first, label, run, second};
use scuro_server::edge::service::Options;

/// A model of smaller frames.
const SMALL: Recipe = Recipe {
    version: 5,
    side: 3,
    shift: 1,
    ..FIRST
};
/// Codes of the vault for a version that it decrypts nothing of, and what the device calls them.
const BARS: [(&str, &str); 2] = [
    ("model.retired", "retired"),
    ("model.key-expired", "expired"),
];

/// Waits until processing rests, and the vault has been asked whether it still has to.
async fn comes_to_rest(site: &Site, reason: &str) {
    eventually("a rest", || site.rests(reason)).await;
    let told = site.world.vault.bars_told();
    eventually("another question", || site.world.vault.bars_told() > told).await;
}

fn labels(recipe: Recipe, numbers: std::ops::Range<usize>) -> Vec<usize> {
    numbers.map(|number| label(recipe, number % 10)).collect()
}

#[test]
fn frames_of_a_full_queue_are_answered_by_the_version_of_their_size() {
    run(async {
        let site = Site::new(|options| {
            processes_nothing(options);
            options.limits.frames = 60;
        });
        let site = site.await;
        let small = Protected::new(SMALL);
        let (taken, _) = site.accept_until_full(61).await;
        assert_eq!(taken, 60);
        site.deploy(&small).await;
        let site = site.restart(|_| {}).await;
        for number in 0..4 {
            let pixels: [u8; 9] = std::array::from_fn(|i| if i == number { 250 } else { 20 });
            let frame = format!(r#"{{"id":"small-{number}","pixels":{pixels:?}}}"#);
            site.accept_text(&frame).await;
        }
        site.is_answered(64).await;
        let vault = &site.world.vault;
        assert_eq!(vault.registered(small.manifest.digest()), 4);
        assert_eq!(vault.labels(first()), labels(FIRST, 0..60));
        assert_eq!(vault.labels(&small), labels(SMALL, 0..4));
        site.stop().await;
    });
}

/// As if all versions but the newest had been dropped.
fn drop_earlier_versions(options: &Options) {
    let list = options.folder.join("deployments.json");
    let text = std::fs::read(&list).expect("a list");
    let mut entries: Vec<serde_json::Value> = serde_json::from_slice(&text).expect("JSON");
    assert_eq!(entries.len(), 2);
    entries.truncate(1);
    std::fs::write(&list, serde_json::to_vec(&entries).expect("JSON")).expect("written");
}

#[test]
fn a_frame_that_no_version_takes_waits_for_one_and_the_others_go_on() {
    run(async {
        let site = Site::new(processes_nothing).await;
        site.accept(0..3).await;
        site.deploy(&Protected::new(SMALL)).await;
        let site = site.restart(|options| drop_earlier_versions(options)).await;
        let frame = format!(r#"{{"id":"small","pixels":{:?}}}"#, [7; 9]);
        site.accept_text(&frame).await;
        eventually("its answer", || site.world.vault.count() == 1).await;
        assert_eq!(site.depth().frames, 3);
        site.deploy(second()).await;
        site.is_answered(4).await;
        assert_eq!(site.world.vault.labels(second()), labels(SECOND, 0..3));
        site.stop().await;
    });
}

#[test]
fn frames_under_a_version_that_the_vault_has_barred_wait_for_the_next() {
    for (code, reason) in BARS {
        run(async {
            let site = Site::new(|_| {}).await;
            site.accept(0..3).await;
            site.is_answered(3).await;
            let one = first().manifest.digest();
            site.world.vault.bar(one, Some(code));
            site.accept(3..20).await;
            comes_to_rest(&site, reason).await;
            site.accept(20..23).await;
            // It learns the same once more.
            let site = site.restart(|_| {}).await;
            comes_to_rest(&site, reason).await;
            assert_eq!(site.world.vault.count(), 3);
            assert!(!site.rests("no-model"));
            site.deploy(second()).await;
            site.is_answered(23).await;
            assert_eq!(site.world.vault.labels(second()), labels(SECOND, 3..23));
            assert!(!site.rests(reason));
            site.stop().await;
        });
    }
}

#[test]
fn answers_that_wait_while_their_version_is_barred_are_made_again_by_the_next() {
    for (code, reason) in BARS {
        run(async {
            let site = Site::new(|_| {}).await;
            let vault = &site.world.vault;
            let one = first().manifest.digest();
            vault.takes_inferences(false);
            site.accept(0..6).await;
            eventually("all registered", || vault.registered(one) == 6).await;
            site.holds_inferences(6).await;
            vault.bar(one, Some(code));
            vault.takes_inferences(true);
            eventually("a rest", || site.rests(reason)).await;
            let waiting = || (site.depth().frames, site.depth().inferences);
            eventually("frames once more", || waiting() == (6, 0)).await;
            let stored = site.edge.spool().reader().depth();
            assert_eq!(stored.expect("read"), site.depth());
            let returned = format!("scuro_edge_returned_total{{reason=\"{code}\"}} 6\n");
            site.comes_to_show(&returned).await;
            site.deploy(second()).await;
            site.is_answered(6).await;
            assert_eq!(vault.labels(second()), labels(SECOND, 0..6));
            site.stop().await;
        });
    }
}

#[test]
fn a_vault_whose_clock_was_wrong_is_asked_again() {
    run(async {
        let site = Site::new(|_| {}).await;
        let one = first().manifest.digest();
        site.world.vault.bar(one, Some("model.key-expired"));
        site.accept(0..4).await;
        comes_to_rest(&site, "expired").await;
        site.world.vault.bar(one, None);
        site.is_answered(4).await;
        assert_eq!(site.world.vault.labels(first()), labels(FIRST, 0..4));
        site.stop().await;
    });
}

#[test]
fn frames_wait_once_the_key_has_expired_by_the_devices_clock() {
    /// Seconds from here that are enough to activate what the device holds already.
    const SOON: u64 = 15;
    run(async {
        let site = Site::new(|_| {}).await;
        let mut short = Protected::new(Recipe {
            version: 6,
            ..FIRST
        });
        short.send(&mut site.deployer()).await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        short.manifest.expires = now.expect("a clock").as_secs() + SOON;
        site.deploy(&short).await;
        eventually("its end", || site.rests("expired")).await;
        site.accept(0..3).await;
        let registered = || site.world.vault.registered(short.manifest.digest());
        eventually("all three known to the vault", || registered() == 3).await;
        assert_eq!(site.depth().frames, 3);
        site.deploy(second()).await;
        site.is_answered(3).await;
        assert_eq!(site.world.vault.labels(second()), labels(SECOND, 0..3));
        site.stop().await;
    });
}
