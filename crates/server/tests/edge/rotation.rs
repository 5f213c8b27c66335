//! The key or the model changes while frames wait: every frame that was accepted is answered.

use std::sync::Arc;
use std::time::Duration;

use crate::support::vault::Vault;
use crate::support::{
    FIRST, Protected, Recipe, SECOND, World, eventually, first, json, label, post, run, second,
};
use scuro_server::edge::service::{Edge, Options};
use scuro_wire::inference::Inference;

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

struct Site {
    world: World,
    vault: Vault,
    edge: Edge,
}

impl Site {
    /// A device with its vault and the first version.
    async fn new(with: impl FnOnce(&mut Options)) -> Self {
        let world = World::new();
        let anywhere = "127.0.0.1:0".parse().expect("address");
        let vault = Vault::start(anywhere, &world.vendor(), Arc::clone(&world.vault)).await;
        let mut options = world.options();
        options.vault = Some(vault.address.to_string());
        with(&mut options);
        let edge = Edge::start(options).await.expect("started");
        let site = Self { world, vault, edge };
        site.deploy(first()).await;
        site
    }

    async fn deploy(&self, model: &Protected) {
        let address = self.edge.addresses().device;
        model.deploy(&mut self.world.deployer(address)).await;
    }

    /// Stops the device and starts it with usual limits.
    async fn restart(self) -> Self {
        self.edge.stop().await;
        let mut options = self.world.options();
        options.vault = Some(self.vault.address.to_string());
        let edge = Edge::start(options).await.expect("started again");
        Self { edge, ..self }
    }

    async fn accept(&self, names: std::ops::Range<usize>) {
        for number in names {
            self.accept_text(&json(&format!("f{number}"), number % 10))
                .await;
        }
    }

    async fn accept_text(&self, frame: &str) {
        let http = self.edge.addresses().http.expect("HTTP");
        let (status, text) = post(http, &[], frame.as_bytes()).await.expect("post");
        assert_eq!(status, 202, "{text}");
    }

    fn rests(&self, reason: &str) -> bool {
        let line = format!("scuro_edge_processing_rests{{reason=\"{reason}\"}} 1");
        self.edge.metrics().render().contains(&line)
    }

    /// Waits until processing rests, and a moment longer.
    async fn comes_to_rest(&self, reason: &str) {
        eventually("a rest", || self.rests(reason)).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    async fn is_answered(&self, count: usize) {
        eventually("all answers", || self.world.vault.count() == count).await;
        eventually("an empty spool", || {
            self.edge.spool().depth() == Default::default()
        })
        .await;
        let dead = self.edge.spool().reader().dead_letters();
        assert_eq!(dead.expect("read"), 0);
    }

    /// Labels of the answers of a version, in their order.
    fn labels(&self, model: &Protected) -> Vec<usize> {
        let inferences = self.world.vault.inferences().into_iter();
        let of = inferences.filter(|one| one.deployment == model.manifest.digest());
        let label = |one: Inference| {
            let reply = scuro_client::Bundle::from_bytes(&one.reply).expect("a reply");
            let answers = model.client.decrypt(&reply).expect("decrypted");
            answers[one.image as usize].label
        };
        of.map(label).collect()
    }
}

fn labels(recipe: Recipe, numbers: std::ops::Range<usize>) -> Vec<usize> {
    numbers.map(|number| label(recipe, number % 10)).collect()
}

#[test]
fn frames_of_a_full_queue_are_answered_by_the_version_of_their_size() {
    run(async {
        let nothing_runs = |options: &mut Options| {
            options.limits.inference_bytes = 0;
            options.limits.frames = 60;
        };
        let site = Site::new(nothing_runs).await;
        let small = Protected::new(SMALL);
        site.accept(0..60).await;
        site.deploy(&small).await;
        let site = site.restart().await;
        for number in 0..4 {
            let pixels: [u8; 9] = std::array::from_fn(|i| if i == number { 250 } else { 20 });
            let frame = format!(r#"{{"id":"small-{number}","pixels":{pixels:?}}}"#);
            site.accept_text(&frame).await;
        }
        site.is_answered(64).await;
        assert_eq!(site.world.vault.registered(small.manifest.digest()), 4);
        assert_eq!(site.labels(first()), labels(FIRST, 0..60));
        assert_eq!(site.labels(&small), labels(SMALL, 0..4));
        site.edge.stop().await;
    });
}

#[test]
fn a_frame_that_no_version_takes_waits_for_one_and_the_others_go_on() {
    run(async {
        let site = Site::new(|options| options.limits.inference_bytes = 0).await;
        site.accept(0..3).await;
        let small = Protected::new(SMALL);
        site.deploy(&small).await;
        site.edge.stop().await;
        // As if the first version had been dropped.
        let list = site.world.folder.path().join("device/deployments.json");
        let text = std::fs::read(&list).expect("a list");
        let mut entries: Vec<serde_json::Value> = serde_json::from_slice(&text).expect("JSON");
        entries.truncate(1);
        std::fs::write(&list, serde_json::to_vec(&entries).expect("JSON")).expect("written");
        let mut options = site.world.options();
        options.vault = Some(site.vault.address.to_string());
        let edge = Edge::start(options).await.expect("started again");
        let site = Site { edge, ..site };
        let frame = format!(r#"{{"id":"small","pixels":{:?}}}"#, [7; 9]);
        site.accept_text(&frame).await;
        eventually("the answer of the last", || site.world.vault.count() == 1).await;
        assert_eq!(site.edge.spool().depth().frames, 3);
        site.deploy(second()).await;
        site.is_answered(4).await;
        assert_eq!(site.labels(second()), labels(SECOND, 0..3));
        site.edge.stop().await;
    });
}

#[test]
fn frames_under_a_version_that_the_vault_has_barred_wait_for_the_next() {
    for (code, reason) in BARS {
        run(async {
            let site = Site::new(|_| {}).await;
            let one = first().manifest.digest();
            site.accept(0..3).await;
            site.is_answered(3).await;
            site.world.vault.bar(one, Some(code));
            site.accept(3..20).await;
            site.comes_to_rest(reason).await;
            site.accept(20..23).await;
            // It learns the same once more.
            let site = site.restart().await;
            site.comes_to_rest(reason).await;
            assert_eq!(
                (site.world.vault.count(), site.rests("no-model")),
                (3, false)
            );
            site.deploy(second()).await;
            site.is_answered(23).await;
            assert_eq!(site.labels(second()), labels(SECOND, 3..23));
            assert!(!site.rests(reason));
            site.edge.stop().await;
        });
    }
}

#[test]
fn answers_that_wait_while_their_version_is_barred_are_made_again_by_the_next() {
    for (code, reason) in BARS {
        run(async {
            let site = Site::new(|_| {}).await;
            let one = first().manifest.digest();
            site.world.vault.takes_inferences(false);
            site.accept(0..6).await;
            eventually("all registered", || site.world.vault.registered(one) == 6).await;
            eventually("all waiting", || site.edge.spool().depth().inferences == 6).await;
            site.world.vault.bar(one, Some(code));
            site.world.vault.takes_inferences(true);
            site.comes_to_rest(reason).await;
            let depth = site.edge.spool().depth();
            assert_eq!((depth.frames, depth.inferences), (6, 0));
            assert_eq!(site.edge.spool().reader().depth().expect("read"), depth);
            let returned = format!("scuro_edge_returned_total{{reason=\"{code}\"}} 6");
            assert!(site.edge.metrics().render().contains(&returned));
            site.deploy(second()).await;
            site.is_answered(6).await;
            assert_eq!(site.labels(second()), labels(SECOND, 0..6));
            site.edge.stop().await;
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
        site.comes_to_rest("expired").await;
        site.world.vault.bar(one, None);
        site.is_answered(4).await;
        assert_eq!(site.labels(first()), labels(FIRST, 0..4));
        site.edge.stop().await;
    });
}

#[test]
fn frames_wait_once_the_key_has_expired_by_the_devices_clock() {
    run(async {
        let site = Site::new(|_| {}).await;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.expect("a clock").as_secs();
        let short = Protected::new(Recipe {
            version: 6,
            expires: now + 20,
            ..FIRST
        });
        site.deploy(&short).await;
        assert!(!site.rests("expired"));
        site.comes_to_rest("expired").await;
        site.accept(0..3).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(site.edge.spool().depth().frames, 3);
        site.deploy(second()).await;
        site.is_answered(3).await;
        site.edge.stop().await;
    });
}
