//! What a reply tells: whether it can be believed, and nothing of the features to who has no key.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use scuro_client::{Client, KeySet, Model, Prediction, Protected, gather};
use scuro_compiler::{Arithmetic, Options, compile};
use scuro_fhe::bgv::{BgvContext, Evaluator};
use scuro_fhe::keys::EvaluationKeys;
use scuro_fhe::{AnyCiphertext, AnyContext};
use scuro_nn::graph::{Graph, GraphBuilder, Op};
use scuro_nn::tensor::Tensor;
use scuro_program::{Flooding, Program, Weights};
use scuro_runtime::RuntimeError;
use scuro_runtime::encrypted::Prepared;

const INPUTS: usize = 70;
const BOTH: [Arithmetic; 2] = [Arithmetic::Approximate, Arithmetic::Exact];

struct Random(ChaCha20Rng);

impl Random {
    fn new(seed: u64) -> Self {
        Self(ChaCha20Rng::seed_from_u64(seed))
    }

    fn tensor(&mut self, shape: &[usize], scale: f32) -> Tensor {
        let count = shape.iter().product();
        let value = |_| (self.0.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0) * scale;
        Tensor::new(shape.to_vec(), (0..count).map(value).collect()).unwrap()
    }

    fn dense(&mut self, outputs: usize, inputs: usize) -> Op {
        let weight = self.tensor(&[outputs, inputs], (3.0 / inputs as f32).sqrt());
        let bias = Some(self.tensor(&[outputs], 0.2));
        Op::Dense { weight, bias }
    }

    /// Two dense layers with a square between them.
    fn classifier(&mut self, outputs: usize) -> Graph {
        let mut net = GraphBuilder::new("classifier", [INPUTS]);
        net.then(self.dense(20, INPUTS)).then(Op::Square);
        net.then(self.dense(outputs, 20));
        net.finish().unwrap()
    }

    fn images(&mut self, count: usize, scale: f32) -> Vec<Tensor> {
        (0..count).map(|_| self.tensor(&[INPUTS], scale)).collect()
    }
}

/// Both sides of an encrypted evaluation with plain weights.
struct Deployment {
    client: Client,
    keys: EvaluationKeys,
    prepared: Prepared,
    rng: ChaCha20Rng,
}

impl Deployment {
    fn new(program: &Program) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let model = Model::new(program.clone()).unwrap();
        let keys = KeySet::generate(&model, &mut rng).unwrap();
        Self {
            client: Client::new(&model, keys.secret).unwrap(),
            keys: keys.evaluation,
            prepared: Prepared::new(model.program(), model.scheme().clone()).unwrap(),
            rng,
        }
    }

    fn evaluate(&mut self, image: &Tensor) -> Vec<AnyCiphertext> {
        let query = self.client.encrypt(&[&image.data], &mut self.rng).unwrap();
        let run = self.client.model().open_query(&query).unwrap().remove(0);
        let (prepared, keys) = (&self.prepared, &self.keys);
        prepared.evaluate(keys, &run, 1, &mut |_| {}).unwrap()
    }

    fn decrypt(&self, reply: Vec<AnyCiphertext>) -> Prediction {
        let reply = self.client.model().reply(1, &[reply]).unwrap();
        self.client.decrypt(&reply).unwrap().remove(0)
    }

    fn predict(&mut self, image: &Tensor) -> Prediction {
        let reply = self.evaluate(image);
        self.decrypt(reply)
    }
}

#[test]
fn an_answer_whose_values_grew_beyond_the_modulus_is_known_for_it() {
    for (arithmetic, flooding) in [
        (Arithmetic::Approximate, None),
        (Arithmetic::Exact, None),
        (Arithmetic::Exact, Some(Flooding::Statistical { bits: 40 })),
    ] {
        let mut random = Random::new(76);
        let graph = random.classifier(10);
        let images = random.images(8, 1.0);
        let options = Options {
            input_range: Some((-50.0, 50.0)),
            arithmetic,
            flooding,
            ..Options::default()
        };
        let program = compile(&graph, &options, &images).unwrap().program;
        let mut deployment = Deployment::new(&program);
        let marked = |images: &[Tensor], deployment: &mut Deployment| {
            let marked = images.iter().map(|image| deployment.predict(image));
            marked.filter(|answer| answer.overflowed).count()
        };
        assert_eq!(marked(&images, &mut deployment), 0, "{arithmetic:?}");
        let far = random.images(10, 50.0);
        // Scores that wrapped lie anywhere: one in ten exact answers has none near the ends.
        let least = if arithmetic == Arithmetic::Exact {
            8
        } else {
            10
        };
        assert!(marked(&far, &mut deployment) >= least, "{arithmetic:?}");
    }
}

#[test]
fn an_exact_score_just_beyond_the_planned_range_is_known_for_it() {
    let mut random = Random::new(77);
    let graph = random.classifier(4);
    let images = random.images(8, 1.0);
    for weights in [Weights::Plain, Weights::Private] {
        let options = Options {
            input_range: Some((-50.0, 50.0)),
            arithmetic: Arithmetic::Exact,
            weights,
            ..Options::default()
        };
        let program = compile(&graph, &options, &images).unwrap().program;
        let model = Model::new(program.published()).unwrap();
        let planned = program.steps.last().unwrap().estimate.max_abs * program.output.factor;
        // Without ranges the private program's limit is a share of the plaintext prime.
        let known = if weights == Weights::Plain { 1.0 } else { 1.6 };
        assert!(
            model.out_of_range(&[0.0, -1.01 * known * planned]),
            "{weights:?}"
        );
        assert!(!model.out_of_range(&[0.0, -0.6 * planned]), "{weights:?}");
    }
}

/// The reply times a number and times its inverse modulo the plaintext prime: the same numbers, in
/// noise that is far beyond the modulus.
fn drowned(context: &std::sync::Arc<BgvContext>, reply: Vec<AnyCiphertext>) -> Vec<AnyCiphertext> {
    let t = context.plain_modulus();
    let (factor, evaluator) = (t.value() / 3, Evaluator::new(context));
    let inverse = t.inv(factor).unwrap();
    let multiply = |ciphertext| match ciphertext {
        AnyCiphertext::Exact(exact) => {
            let once = evaluator.mul_integer(&exact, factor as i64).unwrap();
            evaluator.mul_integer(&once, inverse as i64).unwrap().into()
        }
        AnyCiphertext::Approximate(_) => panic!("an exact program"),
    };
    reply.into_iter().map(multiply).collect()
}

#[test]
fn an_exact_answer_without_noise_budget_is_known_for_it() {
    let mut random = Random::new(78);
    let graph = random.classifier(1);
    let images = random.images(8, 1.0);
    let options = Options {
        arithmetic: Arithmetic::Exact,
        ..Options::default()
    };
    let program = compile(&graph, &options, &images).unwrap().program;
    let mut deployment = Deployment::new(&program);
    let AnyContext::Exact(context) = deployment.client.model().scheme().clone() else {
        panic!("an exact program");
    };
    let mut in_range = 0;
    for image in &images {
        let reply = deployment.evaluate(image);
        assert!(!deployment.decrypt(reply.clone()).overflowed);
        let answer = deployment.decrypt(drowned(&context, reply));
        assert!(answer.overflowed);
        in_range += usize::from(!deployment.client.model().out_of_range(&answer.scores));
    }
    assert!(in_range > 0, "scores alone give some of them away, not all");
}

/// A protected classifier: client, evaluator, keys without and with the public one.
fn protected(program: &Program) -> (Client, Prepared, EvaluationKeys, EvaluationKeys) {
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    let protected = Protected::new(program, &mut rng).unwrap();
    let (model, keys) = (protected.model, protected.keys);
    let weights = model.open_weights(protected.weights).unwrap();
    let scheme = model.scheme().clone();
    let prepared = Prepared::with_weights(model.program(), scheme, weights).unwrap();
    let client = Client::new(&model, keys.secret).unwrap();
    let bare = keys.evaluation.clone();
    let other = KeySet::generate(&model, &mut rng).unwrap().public;
    let refused = bare.clone().with_public_key(other);
    assert!(matches!(refused, Err(scuro_fhe::Error::KeyMismatch { .. })));
    let whole = keys.evaluation.with_public_key(keys.public).unwrap();
    (client, prepared, bare, whole)
}

#[test]
fn replies_to_the_same_features_differ_and_decrypt_to_the_same_answer() {
    for arithmetic in BOTH {
        let mut random = Random::new(79);
        let graph = random.classifier(4);
        let images = random.images(8, 1.0);
        let options = Options {
            weights: Weights::Private,
            arithmetic,
            ..Options::default()
        };
        let compilation = compile(&graph, &options, &images).unwrap();
        let tolerance = 12.0 * compilation.report.output_error;
        let (client, prepared, bare, whole) = protected(&compilation.program);
        let features = gather(client.model().program(), &[&images[0].data]).unwrap();
        let refused = prepared.evaluate_features(&bare, &features, 1, &mut |_| {});
        assert_eq!(refused, Err(RuntimeError::MissingPublicKey));
        let mut before = Vec::new();
        let last = compilation.program.steps.len() - 1;
        let mut reply = || {
            let mut watch = |event: scuro_runtime::Observation<'_>| {
                if event.step == last {
                    before.push(event.result.to_vec());
                }
            };
            prepared
                .evaluate_features(&whole, &features, 1, &mut watch)
                .unwrap()
        };
        let (one, other) = (reply(), reply());
        assert_ne!(one, other, "{arithmetic:?}");
        assert_eq!(before[0], before[1], "only the fresh zero differs");
        let scores = |reply| {
            let reply = client.model().reply(1, &[reply]).unwrap();
            let answer = client.decrypt(&reply).unwrap().remove(0);
            assert!(!answer.overflowed);
            answer.scores
        };
        let tolerance = match arithmetic {
            Arithmetic::Exact => 0.0,
            Arithmetic::Approximate => tolerance,
        };
        for (a, b) in scores(one).iter().zip(scores(other)) {
            assert!((a - b).abs() <= tolerance, "{arithmetic:?}: {a} and {b}");
        }
    }
}
