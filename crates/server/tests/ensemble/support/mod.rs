//! Holders with networks of one form and different weights, a coordinator, and users with keys.

pub(crate) mod fake;
pub(crate) mod masked;

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use scuro_client::{Bundle, Client, KeySet, Model, Prediction};
use scuro_compiler::ensemble::{Degree, Ensemble};
use scuro_compiler::{Options as CompilerOptions, compile};
use scuro_ensemble::Rules;
use scuro_nn::graph::{GraphBuilder, Op};
use scuro_nn::tensor::Tensor;
use scuro_program::face::CLASSES_NOTE;
use scuro_program::{Flooding, Program};
use scuro_server::Error;
use scuro_server::ensemble::contract::Contract;
use scuro_server::ensemble::{combine, coordinator, holder};
use scuro_wire::ensemble::Caller;
use scuro_wire::predict::{PredictQuery, PredictReply, Question};
use scuro_wire::tls::Identity;
use scuro_wire::user::UserKey;
use scuro_wire::{Digest, KeyId, Name, Nonce, QueryId, UserId, WireError};
use tokio::sync::oneshot;

/// Pixels of an image.
pub(crate) const PIXELS: usize = 16;
/// Classes.
pub(crate) const CLASSES: usize = 10;
/// Longest that a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Names of the classes.
pub(crate) const NAMES: &str = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj";

/// A program of the ensemble, whose label is the place of the brightest of the first pixels; `seed`
/// makes weights that say so in different ways.
pub(crate) fn program(seed: u64) -> Program {
    compiled(seed, 128, Some(contract().model().program()))
}

/// The program of a network of this form: the first of an ensemble, or one that joins.
pub(crate) fn compiled(seed: u64, security_bits: u32, face: Option<&Program>) -> Program {
    let options = CompilerOptions {
        security_bits,
        ..CompilerOptions::default()
    };
    compiled_with(seed, options, face)
}

/// The same, otherwise compiled.
pub(crate) fn compiled_with(
    seed: u64,
    options: CompilerOptions,
    face: Option<&Program>,
) -> Program {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let mut dense = |inputs: usize| {
        let mut small = || 0.01 + (rng.next_u32() % 1000) as f32 * 1e-5;
        let weight = |index: usize| match index / inputs == index % inputs {
            true => 1.0,
            false => small(),
        };
        let weight = (0..CLASSES * inputs).map(weight).collect();
        Op::Dense {
            weight: Tensor::new([CLASSES, inputs], weight).expect("weights"),
            bias: None,
        }
    };
    let mut network = GraphBuilder::new("whole", [1, 4, 4]);
    network.then(Op::Flatten).then(dense(PIXELS));
    network.then(Op::Square).then(dense(CLASSES));
    let network = network.finish().expect("network");
    let value = |i: usize, j: usize| ((i * 7 + j * 3) % 11) as f32 / 10.0;
    let example = |i| {
        let data = (0..PIXELS).map(|j| value(i, j)).collect();
        Tensor::new([1, 4, 4], data).expect("tensor")
    };
    let examples: Vec<Tensor> = (0..16).map(example).collect();
    let options = CompilerOptions {
        input_range: Some((0.0, 1.0)),
        flooding: Some(Flooding::Estimated {
            bits: 10,
            decryptions: 16,
        }),
        ensemble: Some(Ensemble {
            degree: Degree::Square,
            face: face.cloned().map(Box::new),
        }),
        ..options
    };
    let mut program = compile(&network, &options, &examples)
        .expect("compiled")
        .program;
    program.notes.push((CLASSES_NOTE.into(), NAMES.into()));
    program
}

/// The face of all these programs.
pub(crate) fn contract() -> &'static Contract {
    static MADE: OnceLock<Contract> = OnceLock::new();
    MADE.get_or_init(|| Contract::of(&compiled(0, 128, None)).expect("a contract"))
}

/// An image whose pixel `bright` shines.
pub(crate) fn image(bright: usize) -> Vec<f32> {
    let pixel = |i| if i == bright { 0.95 } else { 0.1 };
    (0..PIXELS).map(pixel).collect()
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("a clock").as_millis() as u64
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("randomness");
    bytes
}

/// Who has an image, and the keys.
pub(crate) struct User {
    pub(crate) sign: UserKey,
    pub(crate) client: Client,
    pub(crate) key_id: KeyId,
    /// What is uploaded.
    pub(crate) keys: Bytes,
}

impl User {
    /// A user with keys for the face.
    pub(crate) fn new(seed: u64) -> Self {
        Self::of(contract().model(), seed)
    }

    /// A user with keys for a model.
    pub(crate) fn of(model: &Model, seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let set = KeySet::generate(model, &mut rng).expect("keys");
        let key_id = KeyId(set.public.key_id().0);
        let keys = set.evaluation.with_public_key(set.public);
        let keys = keys.expect("one owner").to_bytes(model.context());
        Self {
            sign: UserKey::from_bytes(&UserKey::generate().expect("made")).expect("read"),
            client: Client::new(model, set.secret).expect("client"),
            key_id,
            keys: keys.into(),
        }
    }

    /// An encrypted image.
    pub(crate) fn encrypt(&self, bright: usize) -> Bundle {
        let mut rng = ChaCha20Rng::from_seed(random());
        let encrypted = self.client.encrypt(&[&image(bright)], &mut rng);
        encrypted.expect("encrypted")
    }

    /// A question that is asked now.
    pub(crate) fn question(&self) -> Question {
        Question {
            id: QueryId(random()),
            key_id: self.key_id,
            parameters: Digest(self.client.model().scheme().digest().0),
            rule: None,
            keys: Digest::of(&self.keys),
            user: UserId([0; 32]),
            nonce: Nonce(random()),
            time_ms: now_ms(),
        }
    }

    pub(crate) fn sign(&self, question: Question, bundle: &Bundle) -> PredictQuery {
        PredictQuery::sign(question, bundle.to_bytes().into(), &self.sign)
    }

    /// A signed query.
    pub(crate) fn query(&self, bright: usize) -> PredictQuery {
        self.sign(self.question(), &self.encrypt(bright))
    }

    pub(crate) async fn upload(&self, caller: &mut Caller) {
        let face = Digest(self.client.model().digest());
        let sent = caller.put_keys(self.keys.clone(), &face, &self.sign);
        sent.await.expect("uploaded");
    }

    /// The label in an answer.
    pub(crate) fn label(&self, reply: &PredictReply) -> usize {
        self.label_by(reply, None)
    }

    /// The label in an answer that may have been made by fitted rules.
    pub(crate) fn label_by(&self, reply: &PredictReply, rules: Option<&Rules>) -> usize {
        let prediction = self.read(reply, rules);
        assert!(!prediction.overflowed);
        prediction.label
    }

    /// What an answer decrypts to.
    pub(crate) fn read(&self, reply: &PredictReply, rules: Option<&Rules>) -> Prediction {
        let bundle = Bundle::from_bytes(&reply.bundle).expect("a bundle");
        let combined = reply.rule.as_ref().map(|name| {
            let rule = combine::rule(rules, name.as_str()).expect("a rule");
            let present: Vec<usize> = reply.answered.iter().map(|a| a.place).collect();
            let holders = reply.answered.len() + reply.left_out.len();
            let face = self.client.model().program();
            let model = combine::model(face, &rule, &present, holders).expect("a model");
            self.client.with_model(&model).expect("a client")
        });
        let client = combined.as_ref().unwrap_or(&self.client);
        let mut predictions = client.decrypt(&bundle).expect("decrypted");
        predictions.remove(0)
    }

    /// Asks for an image and checks its label; who did not answer, by name and code.
    pub(crate) async fn ask(&self, caller: &mut Caller, bright: usize) -> Vec<(String, String)> {
        let reply = caller.predict(&self.query(bright)).await.expect("answered");
        assert_eq!(self.label(&reply), bright);
        let left_out = reply.left_out.into_iter();
        left_out.map(|left| (left.holder, left.code)).collect()
    }
}

/// The code of a refusal.
pub(crate) fn code<T: std::fmt::Debug>(outcome: Result<T, WireError>) -> String {
    match outcome.expect_err("refused") {
        WireError::Refused { problem, .. } => problem.code,
        other => panic!("{other}"),
    }
}

/// A service that runs.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<Result<(), Error>>,
}

impl Running {
    /// Starts a service and waits until it listens.
    ///
    /// # Errors
    /// Why it does not start.
    async fn start<F>(
        serve: impl FnOnce(Box<dyn FnOnce(SocketAddr) + Send>, oneshot::Receiver<()>) -> F,
    ) -> Result<Self, Error>
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let (told, listens) = oneshot::channel();
        let tell = move |address| told.send(address).expect("waited for");
        let task = tokio::spawn(serve(Box::new(tell), stopped));
        match listens.await {
            Ok(address) => Ok(Self {
                address,
                stop: Some(stop),
                task,
            }),
            Err(_) => Err(task.await.expect("ended").expect_err("did not start")),
        }
    }

    pub(crate) fn caller(&self) -> Caller {
        self.caller_with(None)
    }

    /// A caller with certificates, who expects the server to be `name`.
    pub(crate) fn caller_with(&self, tls: Option<(&Identity, &str)>) -> Caller {
        let address = match tls {
            Some((_, name)) => format!("{name}@{}", self.address),
            None => self.address.to_string(),
        };
        let address: coordinator::HolderAddress = address.parse().expect("an address");
        let client = address.client(tls.map(|(identity, _)| identity));
        Caller::new(client.expect("a client"))
    }

    /// The text of its metrics.
    pub(crate) async fn metrics(&self) -> String {
        let mut caller = self.caller();
        let answer = caller.send(axum::http::Method::GET, "/metrics", &[], Bytes::new());
        let answer = answer.await.expect("metrics");
        String::from_utf8(answer.body.to_vec()).expect("text")
    }

    /// Stops, after what is under way.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        self.task.await.expect("ended").expect("stopped");
    }
}

/// A port of loopback: a free one.
pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub(crate) fn holder_options(number: u64, program: &Program) -> holder::Options {
    holder::Options {
        name: name(&format!("holder-{number}")),
        program: program.to_bytes(),
        weights: None,
        listen: loopback(),
        identity: None,
        masks: None,
        workers: 1,
        threads: 1,
    }
}

/// A holder with weights of its own.
pub(crate) async fn holder(number: u64) -> Running {
    holder_with(holder_options(number, &program(number))).await
}

pub(crate) async fn holder_with(options: holder::Options) -> Running {
    try_holder(options).await.expect("started")
}

pub(crate) async fn try_holder(options: holder::Options) -> Result<Running, Error> {
    Running::start(|tell, stopped| {
        holder::serve(options, tell, async {
            let _ = stopped.await;
        })
    })
    .await
}

pub(crate) fn coordinator_options(holders: &[SocketAddr]) -> coordinator::Options {
    let address = |address: &SocketAddr| address.to_string().parse().expect("an address");
    coordinator::Options {
        name: name("coordinator"),
        holders: holders.iter().map(address).collect(),
        listen: loopback(),
        identity: None,
        rules: None,
        rule: None,
        roster: None,
        reveal_votes: false,
        deadline: Duration::from_secs(60),
        min_holders: None,
        contract: None,
        threads: 1,
    }
}

pub(crate) async fn coordinator(holders: &[SocketAddr]) -> Running {
    coordinator_with(coordinator_options(holders)).await
}

pub(crate) async fn coordinator_with(options: coordinator::Options) -> Running {
    try_coordinator(options).await.expect("started")
}

pub(crate) async fn try_coordinator(options: coordinator::Options) -> Result<Running, Error> {
    Running::start(|tell, stopped| {
        coordinator::serve(options, tell, async {
            let _ = stopped.await;
        })
    })
    .await
}

/// Three holders.
pub(crate) async fn three() -> Vec<Running> {
    let mut holders = Vec::new();
    for number in 1..=3 {
        holders.push(holder(number).await);
    }
    holders
}

pub(crate) fn addresses(holders: &[Running]) -> Vec<SocketAddr> {
    holders.iter().map(|holder| holder.address).collect()
}

/// Waits until `holds` does.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
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
