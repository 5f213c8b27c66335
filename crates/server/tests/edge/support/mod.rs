//! A vendor in the test's process: models, keys, certificates, and a vault that takes queries and
//! inferences over mutual TLS and decrypts them.

pub(crate) mod pki;
pub(crate) mod site;
pub(crate) mod vault;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hyper::Method;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use scuro_client::{Bundle, Client, KeySet, Model};
use scuro_compiler::{Options as CompilerOptions, compile};
use scuro_nn::data::Preprocess;
use scuro_nn::graph::{Graph, GraphBuilder, Op};
use scuro_nn::tensor::Tensor;
use scuro_program::Packing;
use scuro_server::edge::intake::Form;
use scuro_server::edge::service::Options;
use scuro_server::edge::spool::Limits;
use scuro_wire::deployment::ARTEFACT_BYTES_HEADER;
use scuro_wire::https::{self, Answer};
use scuro_wire::inference::Inference;
use scuro_wire::manifest::{Decryptor, EncryptedScope};
use scuro_wire::tls::Identity;
use scuro_wire::{Artefact, Digest, KeyId, Manifest, Name, Role, paths};

/// Pixels of a frame of the test's models.
pub(crate) const PIXELS: usize = 16;
/// Classes of the test's models.
pub(crate) const CLASSES: usize = 10;
/// Longest that a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A protected model with the secret that opens its answers.
pub(crate) struct Protected {
    pub(crate) manifest: Manifest,
    pub(crate) artefacts: Vec<Vec<u8>>,
    pub(crate) client: Client,
}

/// What a test model looks like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recipe {
    pub(crate) version: u32,
    /// Added to every label, so that an answer tells its version.
    pub(crate) shift: usize,
    pub(crate) security_bits: u32,
    /// Pixels of a frame's edge.
    pub(crate) side: usize,
    /// Whether a clear feature extractor goes before.
    pub(crate) features: bool,
    /// Frames that share a query.
    pub(crate) images_per_query: usize,
    pub(crate) packing: Packing,
    pub(crate) expires: u64,
}

pub(crate) const FIRST: Recipe = Recipe {
    version: 1,
    shift: 0,
    security_bits: 128,
    side: 4,
    features: false,
    images_per_query: 1,
    packing: Packing::SingleImage,
    expires: u64::MAX,
};
pub(crate) const SECOND: Recipe = Recipe {
    version: 2,
    shift: 3,
    images_per_query: 4,
    ..FIRST
};

/// The first version, made once a process.
pub(crate) fn first() -> &'static Protected {
    static MADE: OnceLock<Protected> = OnceLock::new();
    MADE.get_or_init(|| Protected::new(FIRST))
}

/// The second version, of which four frames share a query.
pub(crate) fn second() -> &'static Protected {
    static MADE: OnceLock<Protected> = OnceLock::new();
    MADE.get_or_init(|| Protected::new(SECOND))
}

/// The label that the model of `recipe` gives: place of the brightest of the first pixels.
pub(crate) fn label(recipe: Recipe, bright: usize) -> usize {
    (bright + recipe.shift) % CLASSES
}

/// A frame whose pixel `bright` shines.
pub(crate) fn pixels(bright: usize) -> Vec<u8> {
    (0..PIXELS)
        .map(|i| if i == bright { 250 } else { 20 })
        .collect()
}

/// A JSON frame whose pixel `bright` shines.
pub(crate) fn json(id: &str, bright: usize) -> String {
    format!(r#"{{"id":"{id}","pixels":{:?}}}"#, pixels(bright))
}

/// A JSON frame of values that no version can encrypt.
pub(crate) fn wild(id: &str) -> String {
    format!(r#"{{"id":"{id}","values":{:?}}}"#, [1e9; PIXELS])
}

fn dense(inputs: usize, outputs: usize, place: impl Fn(usize) -> usize) -> Op {
    let mut weight = vec![0.0; inputs * outputs];
    for input in 0..inputs.min(outputs) {
        weight[place(input) * inputs + input] = 1.0;
    }
    Op::Dense {
        weight: Tensor::new([outputs, inputs], weight).expect("weights"),
        bias: None,
    }
}

fn network(name: &str, input: &[usize], op: Op) -> Graph {
    let mut network = GraphBuilder::new(name, input);
    if input.len() > 1 {
        network.then(Op::Flatten);
    }
    network.then(op);
    network.finish().expect("network")
}

impl Protected {
    pub(crate) fn new(recipe: Recipe) -> Self {
        let shift = |input: usize| (input + recipe.shift) % CLASSES;
        let shape = [1, recipe.side, recipe.side];
        let pixels: usize = shape.iter().product();
        let (features, classifier, inputs) = match recipe.features {
            true => {
                let extractor = dense(pixels, 12, |input| input);
                let features = network("features", &shape, extractor);
                (
                    Some(features),
                    network("classifier", &[12], dense(12, CLASSES, shift)),
                    12,
                )
            }
            false => {
                let whole = dense(pixels, CLASSES, shift);
                (None, network("whole", &shape, whole), pixels)
            }
        };
        Self::of(
            recipe,
            features,
            &classifier,
            &calibration(&classifier, inputs),
        )
    }

    pub(crate) fn of(
        recipe: Recipe,
        features: Option<Graph>,
        classifier: &Graph,
        calibration: &[Tensor],
    ) -> Self {
        let options = CompilerOptions {
            security_bits: recipe.security_bits,
            images_per_query: recipe.images_per_query,
            packing: recipe.packing,
            ..CompilerOptions::default()
        };
        let mut program = compile(classifier, &options, calibration)
            .expect("compiled")
            .program;
        program.notes.extend(Preprocess::default().to_notes());
        let bytes = program.to_bytes();
        let model = Model::open(&bytes).expect("model");
        let mut rng = ChaCha20Rng::seed_from_u64(recipe.version.into());
        let keys = KeySet::generate(&model, &mut rng).expect("keys");
        let context = model.context();
        let mut parts = vec![
            (Role::Program, bytes),
            (Role::PublicKey, keys.public.to_bytes(context)),
            (Role::EvaluationKeys, keys.evaluation.to_bytes(context)),
        ];
        if let Some(graph) = features {
            let onnx = scuro_nn::export::onnx(&graph).expect("ONNX");
            parts.insert(0, (Role::Features, onnx));
        }
        let artefact = |(role, bytes): &(Role, Vec<u8>)| Artefact {
            role: *role,
            bytes: bytes.len() as u64,
            digest: Digest::of(bytes),
        };
        let manifest = Manifest {
            name: Name::new("digits").expect("name"),
            version: recipe.version,
            artefacts: parts.iter().map(artefact).collect(),
            parameters: Digest(context.digest().0),
            key_id: KeyId(keys.public.key_id().0),
            created: 1,
            expires: recipe.expires,
            labels: Vec::new(),
            encrypted: EncryptedScope::None,
            decryptor: Decryptor::ModelOwner,
        };
        Self {
            manifest,
            artefacts: parts.into_iter().map(|(_, bytes)| bytes).collect(),
            client: Client::new(&model, keys.secret).expect("client"),
        }
    }

    /// The decrypted label of an answer.
    pub(crate) fn label_of(&self, inference: &Inference) -> usize {
        let reply = Bundle::from_bytes(&inference.reply).expect("a reply");
        let answers = self.client.decrypt(&reply).expect("decrypted");
        answers[inference.image as usize].label
    }

    /// Sends all artefacts.
    pub(crate) async fn send(&self, device: &mut Deployer) {
        for bytes in &self.artefacts {
            let answer = device.put(&Digest::of(bytes), 0, bytes, bytes.len()).await;
            assert!(answer.status.is_success(), "{}", answer.problem());
        }
    }

    /// Sends all artefacts and activates.
    pub(crate) async fn deploy(&self, device: &mut Deployer) {
        self.send(device).await;
        let answer = device.activate(&self.manifest).await;
        assert!(answer.status.is_success(), "{}", answer.problem());
    }
}

/// Inputs of the network's shape with values from 0 to 1.
pub(crate) fn calibration(network: &Graph, inputs: usize) -> Vec<Tensor> {
    let value = |i: usize, j: usize| ((i * 7 + j * 3) % 11) as f32 / 10.0;
    let tensor = |i| {
        let data = (0..inputs).map(|j| value(i, j)).collect();
        Tensor::new(network.input_shape(), data).expect("tensor")
    };
    (0..16).map(tensor).collect()
}

/// The vault's deployment agent, or somebody who would like to be.
pub(crate) struct Deployer {
    client: https::Client,
}

impl Deployer {
    pub(crate) fn new(address: SocketAddr, device: &str, identity: &Identity) -> Self {
        let tls = identity.client_config().expect("client");
        Self {
            client: https::Client::new(&address.to_string(), device, tls),
        }
    }

    pub(crate) async fn call(&mut self, method: Method, path: &str, body: Vec<u8>) -> Answer {
        let sent = self.client.send(method, path, &[], body).await;
        sent.expect("an answer")
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.call(Method::GET, path, Vec::new()).await
    }

    /// Whether a `POST` succeeded; the other side may die meanwhile.
    pub(crate) async fn try_call(&mut self, path: &str, body: Vec<u8>) -> bool {
        let sent = self.client.send(Method::POST, path, &[], body).await;
        sent.is_ok_and(|answer| answer.status.is_success())
    }

    pub(crate) async fn put(
        &mut self,
        digest: &Digest,
        offset: usize,
        piece: &[u8],
        total: usize,
    ) -> Answer {
        let mut last = None;
        for (number, part) in piece.chunks(1 << 20).enumerate() {
            let path = format!(
                "{}?offset={}",
                paths::artefact(digest),
                offset + (number << 20)
            );
            let headers = [(ARTEFACT_BYTES_HEADER, total.to_string())];
            let sent = self
                .client
                .send(Method::PUT, &path, &headers, part.to_vec());
            last = Some(sent.await.expect("an answer"));
        }
        last.expect("a piece")
    }

    pub(crate) async fn activate(&mut self, manifest: &Manifest) -> Answer {
        self.call(Method::POST, paths::DEPLOYMENTS, manifest.to_bytes())
            .await
    }
}

/// A free port of this machine.
pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A device in `folder` that listens on loopback.
pub(crate) fn options(folder: &Path, identity: Identity) -> Options {
    Options {
        folder: folder.to_path_buf(),
        identity,
        vault: None,
        listen: loopback(),
        http: Some(loopback()),
        watch: Vec::new(),
        stdin: None,
        mqtt: Vec::new(),
        mqtt_form: Form::Unknown,
        workers: 2,
        limits: Limits::default(),
    }
}

/// Waits until `holds` does.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One frame as an HTTP/1.1 request on a connection of its own: status, and the whole answer.
pub(crate) async fn post(
    address: SocketAddr,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<(u16, String)> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let mut request = format!(
        "POST /v1/frames HTTP/1.1\r\nhost: edge\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    stream
        .write_all(&[request.as_bytes(), body].concat())
        .await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    match status {
        Some(status) => Ok((status, text)),
        None => Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
}

/// A runtime for a test.
pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("runtime");
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}

/// Keeps a whole vendor together.
pub(crate) struct World {
    pub(crate) authority: pki::Authority,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) vault: Arc<vault::Book>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            authority: pki::authority(),
            folder: tempfile::tempdir().expect("temporary folder"),
            vault: Arc::default(),
        }
    }

    /// The device's identity.
    pub(crate) fn device(&self) -> Identity {
        pki::identity(&self.authority, pki::DEVICE)
    }

    /// The vault's identity.
    pub(crate) fn vendor(&self) -> Identity {
        pki::identity(&self.authority, scuro_wire::tls::VAULT_NAME)
    }

    /// Options for a device in the world's folder.
    pub(crate) fn options(&self) -> Options {
        options(&self.folder.path().join("device"), self.device())
    }

    /// A deployment agent with the vault's certificate.
    pub(crate) fn deployer(&self, address: SocketAddr) -> Deployer {
        Deployer::new(address, pki::DEVICE, &self.vendor())
    }
}
