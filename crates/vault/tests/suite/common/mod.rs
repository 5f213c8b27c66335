//! A small protected model and vaults that hold it.

pub(crate) mod device;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use scuro_client::{Bundle, Client, KeySet, Model, Prediction};
use scuro_compiler::{Options, compile};
use scuro_fhe::AnyCiphertext;
use scuro_nn::graph::{Graph, GraphBuilder, Op};
use scuro_nn::tensor::Tensor;
use scuro_program::{Program, Weights};
use scuro_runtime::encrypted::Prepared;
use scuro_vault::deploy::DeployReport;
use scuro_vault::devices::{Enrolment, PeerRole};
use scuro_vault::registry::{ModelRecord, NewModel};
use scuro_vault::{KeySource, Vault, VaultError};
use scuro_wire::deployment::DeploymentStatus;
use scuro_wire::inference::{Inference, InferenceBatch, Timings};
use scuro_wire::limits::RESULTS_PER_PAGE;
use scuro_wire::query::{QueryBatch, QueryRegistration, WithdrawalBatch};
use scuro_wire::results::InferenceResult;
use scuro_wire::tls::Identity;
use scuro_wire::{Artefact, Digest, ModelReference, Name, QueryId, Role};
use tokio::net::TcpListener;

use device::Device;

/// When the tests take place: certificates are checked against the real clock.
pub(crate) fn today() -> u64 {
    static TODAY: LazyLock<u64> = LazyLock::new(scuro_vault::now);
    *TODAY
}

pub(crate) const DAY: u64 = 86_400;
/// The device of the tests.
pub(crate) const CAM: &str = "cam-7";
/// Longest that a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Values of an image.
pub(crate) const IMAGE: [f32; 8] = [0.9, -0.3, 0.5, 0.1, -0.7, 0.2, 0.0, 0.4];

/// Keys of the model and what a device can make with them.
pub(crate) struct Protected {
    pub(crate) program: Vec<u8>,
    /// Encrypted ones, if the program withholds them.
    pub(crate) weights: Option<Vec<u8>>,
    pub(crate) model: Model,
    pub(crate) keys: KeySet,
    /// Public key, evaluation keys, secret key.
    key_files: [Vec<u8>; 3],
    prepared: Prepared,
}

/// The model under two pairs of keys: ours, and those of a stranger.
pub(crate) static OURS: LazyLock<Protected> = LazyLock::new(|| Protected::new(1, 5));
pub(crate) static STRANGER: LazyLock<Protected> = LazyLock::new(|| Protected::new(2, 5));
/// Another model, so another program.
pub(crate) static OTHER: LazyLock<Protected> = LazyLock::new(|| Protected::new(3, 6));
/// A model of which four images share a query.
pub(crate) static SHARED: LazyLock<Protected> = LazyLock::new(|| Protected::sharing(4, 5, 4));
/// The model of ours with its weights encrypted.
pub(crate) static HIDDEN: LazyLock<Protected> = LazyLock::new(|| Protected::hiding(5));
/// The same under other keys.
pub(crate) static ROTATED: LazyLock<Protected> = LazyLock::new(|| Protected::hiding(6));

/// A program of the network, with the weights as the device must not see them if they are private.
pub(crate) fn program(hidden: usize, images_per_query: usize, weights: Weights) -> Program {
    let graph = network(hidden);
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    let examples: Vec<Tensor> = (0..8).map(|_| tensor(&mut rng, &[8, 1, 1])).collect();
    let options = Options {
        images_per_query,
        weights,
        ..Options::default()
    };
    compile(&graph, &options, &examples)
        .expect("compiles")
        .program
}

impl Protected {
    fn new(key_seed: u64, hidden: usize) -> Self {
        Self::sharing(key_seed, hidden, 1)
    }

    fn sharing(key_seed: u64, hidden: usize, images_per_query: usize) -> Self {
        let program = program(hidden, images_per_query, Weights::Plain);
        let model = Model::new(program).expect("a model");
        let mut rng = ChaCha20Rng::seed_from_u64(key_seed);
        let keys = KeySet::generate(&model, &mut rng).expect("keys");
        let context = Arc::clone(model.context());
        let prepared = Prepared::new(model.program(), context).expect("prepared");
        Self {
            program: model.program().to_bytes(),
            weights: None,
            key_files: key_files(&model, &keys),
            model,
            keys,
            prepared,
        }
    }

    fn hiding(key_seed: u64) -> Self {
        let private = program(5, 1, Weights::Private);
        let mut rng = ChaCha20Rng::seed_from_u64(key_seed);
        let made = scuro_client::Protected::new(&private, &mut rng).expect("protected");
        let (model, weights) = (made.model, made.weights);
        let bytes = weights.to_bytes();
        let weights = model.open_weights(weights).expect("weights");
        let scheme = model.scheme().clone();
        let prepared = Prepared::with_weights(model.program(), scheme, weights);
        Self {
            program: model.program().to_bytes(),
            weights: Some(bytes),
            key_files: key_files(&model, &made.keys),
            model,
            keys: made.keys,
            prepared: prepared.expect("prepared"),
        }
    }

    /// The encrypted answer to an image, as a device makes it.
    pub(crate) fn reply(&self, seed: u64) -> Vec<u8> {
        self.reply_bundle(seed).to_bytes()
    }

    pub(crate) fn reply_bundle(&self, seed: u64) -> Bundle {
        self.reply_to(&[&IMAGE], seed)
    }

    /// The encrypted answer to images that share a query.
    pub(crate) fn reply_to(&self, images: &[&[f32]], seed: u64) -> Bundle {
        let (query, answers) = self.evaluate(images, seed);
        self.model.seal_reply(&query, &answers).expect("sealed")
    }

    /// The query itself under the label of a reply: right key, wrong level.
    pub(crate) fn echo(&self, seed: u64) -> Vec<u8> {
        let (query, answers) = self.evaluate(&[&IMAGE], seed);
        let runs = self.model.open_query(&query).expect("a query");
        let echoed = vec![runs[0][..answers[0].len()].to_vec()];
        let reply = self.model.seal_reply(&query, &echoed).expect("sealed");
        reply.to_bytes()
    }

    fn evaluate(&self, images: &[&[f32]], seed: u64) -> (Bundle, Vec<Vec<AnyCiphertext>>) {
        let client = self.client();
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let query = client.encrypt(images, &mut rng).expect("encrypted");
        let runs = self.model.open_query(&query).expect("a query");
        let evaluate = |run: &Vec<AnyCiphertext>| {
            let keys = &self.keys.evaluation;
            self.prepared
                .evaluate(keys, run, 1, &mut |_| {})
                .expect("evaluated")
        };
        let answers = runs.iter().map(evaluate).collect();
        (query, answers)
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.model, Arc::clone(&self.keys.secret)).expect("client")
    }

    /// What the network answers, decrypted by the key holder.
    pub(crate) fn expected(&self, seed: u64) -> Prediction {
        let mut found = self
            .client()
            .decrypt(&self.reply_bundle(seed))
            .expect("decrypts");
        found.remove(0)
    }

    /// As it is stored, to be changed.
    pub(crate) fn as_new(&self) -> NewModel<'_> {
        let [public_key, evaluation_keys, secret_key] = &self.key_files;
        NewModel {
            name: name("digits"),
            program: &self.program,
            features: None,
            weights: self.weights.as_deref(),
            public_key,
            evaluation_keys,
            secret_key,
            labels: ["zero", "one", "two"].map(String::from).to_vec(),
            expires: today() + 100 * DAY,
        }
    }
}

fn key_files(model: &Model, keys: &KeySet) -> [Vec<u8>; 3] {
    let context = model.context();
    [
        keys.public.to_bytes(context),
        keys.evaluation.to_bytes(context),
        keys.secret.to_bytes().to_vec(),
    ]
}

fn network(hidden: usize) -> Graph {
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let mut net = GraphBuilder::new("small", [8, 1, 1]);
    let mut dense = |outputs: usize, inputs: usize| Op::Dense {
        weight: tensor(&mut rng, &[outputs, inputs]),
        bias: Some(tensor(&mut rng, &[outputs])),
    };
    let (first, second) = (dense(hidden, 8), dense(3, hidden));
    net.then(Op::Flatten)
        .then(first)
        .then(Op::Square)
        .then(second);
    net.finish().expect("a network")
}

fn tensor(rng: &mut ChaCha20Rng, shape: &[usize]) -> Tensor {
    let value = |_| (rng.next_u32() >> 8) as f32 / (1u32 << 23) as f32 - 1.0;
    let data = (0..shape.iter().product()).map(value).collect();
    Tensor::new(shape.to_vec(), data).expect("a tensor")
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

pub(crate) fn reference(text: &str) -> ModelReference {
    text.parse().expect("a reference")
}

pub(crate) fn key_source(folder: &Path) -> KeySource {
    KeySource::File(Vault::default_key_file(folder))
}

/// A vault in a temporary folder.
pub(crate) struct Desk {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) vault: Arc<Vault>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let vault = Vault::init(folder.path(), &key_source(folder.path()), today());
        Self {
            vault: Arc::new(vault.expect("a vault")),
            folder,
        }
    }

    /// Opens it anew.
    pub(crate) fn reopen(&mut self) {
        let folder = self.folder.path();
        self.vault = Arc::new(Vault::open(folder, &key_source(folder)).expect("opens"));
    }

    /// Stores a model as the next version of `digits`.
    pub(crate) fn store(&self, model: &Protected) -> ModelRecord {
        let stored = self.vault.store(&model.as_new(), today());
        stored.expect("stored")
    }

    pub(crate) fn retire(&self, model: &str) -> Result<usize, VaultError> {
        self.vault.retire(&reference(model), today())
    }

    /// The file of an artefact.
    pub(crate) fn file(&self, artefact: &Artefact) -> PathBuf {
        let artefacts = self.folder.path().join("artefacts");
        artefacts.join(artefact.digest.to_string())
    }

    /// Results of all queries that were answered.
    pub(crate) fn results(&self) -> Vec<InferenceResult> {
        let page = self.vault.results(0, RESULTS_PER_PAGE);
        page.expect("page").results
    }

    pub(crate) fn enrol(&self, who: &str, role: PeerRole, address: &str) -> Identity {
        let enrolment = Enrolment {
            name: name(who),
            role,
            days: 300,
            address: Some(address.to_string()),
        };
        let bundle = self.vault.enrol(&enrolment, today()).expect("enrolled");
        Identity::from_pem(
            &bundle.authority_pem,
            bundle.certificate_pem.as_bytes(),
            bundle.key_pem.as_bytes(),
        )
        .expect("an identity")
    }

    /// Enrols the device `cam-7` and starts it.
    pub(crate) async fn device(&self) -> Device {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = listener.local_addr().expect("address").to_string();
        let identity = self.enrol(CAM, PeerRole::Device, &address);
        Device::start(identity, listener)
    }

    /// Deploys a model on `cam-7`.
    pub(crate) async fn deploy(&self, model: &str) -> DeployReport {
        let deployed = self.try_deploy(model, CAM, today()).await;
        deployed.expect("deployed")
    }

    pub(crate) async fn try_deploy(
        &self,
        model: &str,
        who: &str,
        now: u64,
    ) -> Result<DeployReport, VaultError> {
        let (model, who) = (reference(model), name(who));
        self.vault.deploy(&model, &who, None, now, |_| ()).await
    }

    /// Takes `cam-7` back to the version before.
    pub(crate) async fn roll_back(&self, now: u64) -> Result<DeploymentStatus, VaultError> {
        self.vault.roll_back(&name(CAM), None, now).await
    }

    /// What `cam-7` says that it holds, the active deployment first.
    pub(crate) async fn on_device(&self) -> Vec<Digest> {
        let name = name(CAM);
        let list = self.vault.device_deployments(&name, None, today()).await;
        let deployments = list.expect("list").deployments.into_iter();
        deployments.map(|status| status.deployment).collect()
    }

    /// What the vault's books say of each model's deployment.
    pub(crate) fn books(&self) -> BTreeMap<String, String> {
        let rows = self.vault.deployments().expect("list");
        let count = rows.len();
        let states = rows.into_iter().map(|row| (row.model, row.state));
        let states: BTreeMap<String, String> = states.collect();
        assert_eq!(states.len(), count, "a row for each model");
        states
    }
}

/// The artefact of a model.
pub(crate) fn artefact(record: &ModelRecord, role: Role) -> &Artefact {
    record.manifest.artefact(role).expect("there")
}

/// Waits until `holds` does.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A query id out of a number.
pub(crate) fn query_id(number: u8) -> QueryId {
    QueryId([number; 16])
}

pub(crate) fn query_digest(number: u8) -> Digest {
    Digest([number; 32])
}

pub(crate) fn queries(deployment: Digest, numbers: impl IntoIterator<Item = u8>) -> QueryBatch {
    let one = |number| QueryRegistration {
        query_id: query_id(number),
        deployment,
        query_digest: query_digest(number),
    };
    QueryBatch {
        queries: numbers.into_iter().map(one).collect(),
    }
}

pub(crate) fn withdrawals(numbers: impl IntoIterator<Item = u8>) -> WithdrawalBatch {
    WithdrawalBatch {
        queries: numbers.into_iter().map(query_id).collect(),
    }
}

/// Answers of our model to queries, each from its own ciphertext.
pub(crate) fn answers(deployment: Digest, numbers: impl IntoIterator<Item = u8>) -> InferenceBatch {
    let one = |number: u8| inference(deployment, number, OURS.reply(number.into()));
    InferenceBatch {
        inferences: numbers.into_iter().map(one).collect(),
    }
}

pub(crate) fn inference(deployment: Digest, number: u8, reply: Vec<u8>) -> Inference {
    Inference {
        query_id: query_id(number),
        deployment,
        query_digest: query_digest(number),
        image: 0,
        timings: Timings::default(),
        reply,
    }
}
