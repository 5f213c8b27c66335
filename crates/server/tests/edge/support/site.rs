//! A device that runs, the vault that it has, and what a test asks of the two.

use std::net::SocketAddr;
use std::ops::Range;

use scuro_server::edge::service::{Edge, Options};
use scuro_server::edge::spool::Depth;

use super::vault::Vault;
use super::{Deployer, Protected, World, eventually, first, json, post};

/// Nothing is processed, as if the vault were far behind: frames wait.
pub(crate) fn processes_nothing(options: &mut Options) {
    options.limits.inference_bytes = 0;
}

/// A device in its world.
pub(crate) struct Site {
    pub(crate) world: World,
    pub(crate) edge: Edge,
    /// None while it is away.
    vault: Option<Vault>,
    /// Where it listens when it is there; none if the device has no vault.
    vault_address: Option<SocketAddr>,
}

impl Site {
    /// A device with its vault and the first version.
    pub(crate) async fn new(with: impl FnOnce(&mut Options)) -> Self {
        let site = Self::bare(World::new(), with).await;
        site.deploy(first()).await;
        site
    }

    /// A device with its vault, and no version yet.
    pub(crate) async fn bare(world: World, with: impl FnOnce(&mut Options)) -> Self {
        let vault = Vault::start(super::loopback(), &world.vendor(), &world.vault).await;
        let address = vault.address;
        Self::start(world, Some(vault), Some(address), with).await
    }

    /// A device without a vault, whose inferences stay; no version yet.
    pub(crate) async fn alone(world: World, with: impl FnOnce(&mut Options)) -> Self {
        Self::start(world, None, None, with).await
    }

    async fn start(
        world: World,
        vault: Option<Vault>,
        vault_address: Option<SocketAddr>,
        with: impl FnOnce(&mut Options),
    ) -> Self {
        let mut options = world.options();
        options.vault = vault_address.map(|address| address.to_string());
        with(&mut options);
        let edge = Edge::start(options).await.expect("started");
        Self {
            world,
            edge,
            vault,
            vault_address,
        }
    }

    /// Stops the device and starts it: with usual options, but for what `with` changes in between.
    pub(crate) async fn restart(self, with: impl FnOnce(&mut Options)) -> Self {
        self.edge.stop().await;
        Self::start(self.world, self.vault, self.vault_address, with).await
    }

    /// Stops the device; what it left is in its world.
    pub(crate) async fn stop(self) -> World {
        self.edge.stop().await;
        self.world
    }

    /// The vault goes away in the middle of whatever it does.
    pub(crate) async fn vault_leaves(&mut self) {
        self.vault.take().expect("a vault").vanish().await;
    }

    /// It is back where it was.
    pub(crate) async fn vault_returns(&mut self) {
        let address = self.vault_address();
        let vault = Vault::start(address, &self.world.vendor(), &self.world.vault).await;
        self.vault = Some(vault);
    }

    /// Where the vault listens.
    pub(crate) fn vault_address(&self) -> SocketAddr {
        self.vault_address.expect("a vault")
    }

    /// The vault's deployment agent.
    pub(crate) fn deployer(&self) -> Deployer {
        self.world.deployer(self.edge.addresses().device)
    }

    pub(crate) async fn deploy(&self, model: &Protected) {
        model.deploy(&mut self.deployer()).await;
    }

    /// Where frames are posted.
    pub(crate) fn http(&self) -> SocketAddr {
        self.edge.addresses().http.expect("HTTP")
    }

    /// What the device says to a frame: status and answer.
    pub(crate) async fn post(&self, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
        post(self.http(), headers, body).await.expect("post")
    }

    /// Posts JSON that the device takes; its answer.
    pub(crate) async fn accept_text(&self, frame: &str) -> String {
        let (status, text) = self.post(&[], frame.as_bytes()).await;
        assert_eq!(status, 202, "{text}");
        text
    }

    /// Posts frames `f0`, `f1`...: in each, the pixel of its number's last digit shines.
    pub(crate) async fn accept(&self, numbers: Range<usize>) {
        for number in numbers {
            let frame = json(&format!("f{number}"), number % 10);
            self.accept_text(&frame).await;
        }
    }

    /// Posts such frames until one is not taken: how many were, and the answer to that one.
    pub(crate) async fn accept_until_full(&self, most: usize) -> (usize, String) {
        for number in 0..most {
            let frame = json(&format!("f{number}"), number % 10);
            let (status, text) = self.post(&[], frame.as_bytes()).await;
            if status != 202 {
                assert_eq!(status, 429, "{text}");
                return (number, text);
            }
        }
        panic!("{most} frames fill nothing");
    }

    /// Whether the metrics have this text.
    pub(crate) fn shows(&self, text: &str) -> bool {
        self.edge.metrics().render().contains(text)
    }

    /// Waits until they do.
    pub(crate) async fn comes_to_show(&self, text: &str) {
        eventually(text, || self.shows(text)).await;
    }

    /// Whether processing rests for this reason.
    pub(crate) fn rests(&self, reason: &str) -> bool {
        let line = format!("scuro_edge_processing_rests{{reason=\"{reason}\"}} 1\n");
        self.shows(&line)
    }

    /// What waits in the spool.
    pub(crate) fn depth(&self) -> Depth {
        self.edge.spool().depth()
    }

    /// Waits until the spool holds this many inferences.
    pub(crate) async fn holds_inferences(&self, count: u64) {
        let what = format!("{count} inferences that wait");
        eventually(&what, || self.depth().inferences == count).await;
    }

    /// Waits until the vault has this many inferences and the device nothing, given up or not.
    pub(crate) async fn is_answered(&self, count: usize) {
        self.settles(count).await;
        assert_eq!(self.dead_letters(), 0);
    }

    /// Waits until the vault has this many inferences, and nothing waits on the device.
    pub(crate) async fn settles(&self, count: usize) {
        let what = format!("{count} answers");
        eventually(&what, || self.world.vault.count() == count).await;
        eventually("an empty spool", || self.depth() == Depth::default()).await;
    }

    pub(crate) fn dead_letters(&self) -> u64 {
        let dead = self.edge.spool().reader().dead_letters();
        dead.expect("read")
    }
}
