//! What a reply tells: whether it can be believed, and nothing of the features to who has no key.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
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

use super::common::{Deployment, Random};

const INPUTS: usize = 70;
const BOTH: [Arithmetic; 2] = [Arithmetic::Approximate, Arithmetic::Exact];

/// Two dense layers with a square between them.
fn classifier(random: &mut Random, outputs: usize) -> Graph {
    let mut net = GraphBuilder::new("classifier", [INPUTS]);
    net.then(random.dense(20, INPUTS)).then(Op::Square);
    net.then(random.dense(outputs, 20));
    net.finish().unwrap()
}

fn inputs(random: &mut Random, count: usize, scale: f32) -> Vec<Tensor> {
    let image = |_| random.tensor(&[INPUTS], scale);
    (0..count).map(image).collect()
}

fn reply_to(deployment: &mut Deployment, image: &Tensor) -> Vec<AnyCiphertext> {
    let query = deployment.encrypt(image);
    deployment.evaluate(&query)
}

fn answer(deployment: &Deployment, reply: Vec<AnyCiphertext>) -> Prediction {
    deployment.predictions(reply, 1).remove(0)
}

#[test]
fn an_answer_whose_values_grew_beyond_the_modulus_is_known_for_it() {
    for (arithmetic, flooding) in [
        (Arithmetic::Approximate, None),
        (Arithmetic::Exact, None),
        (Arithmetic::Exact, Some(Flooding::Statistical { bits: 40 })),
        (Arithmetic::ScaleInvariant, None),
    ] {
        let mut random = Random::new(76);
        let graph = classifier(&mut random, 10);
        let images = inputs(&mut random, 8, 1.0);
        let options = Options {
            input_range: Some((-50.0, 50.0)),
            arithmetic,
            flooding,
            ..Options::default()
        };
        let program = compile(&graph, &options, &images).unwrap().program;
        let mut deployment = Deployment::new(&program);
        let count = |images: &[Tensor], deployment: &mut Deployment| {
            let marked = |image: &&Tensor| {
                let reply = reply_to(deployment, image);
                answer(deployment, reply).overflowed
            };
            images.iter().filter(marked).count()
        };
        assert_eq!(count(&images, &mut deployment), 0, "{arithmetic:?}");
        let far = inputs(&mut random, 10, 50.0);
        // Scores that wrapped lie anywhere: one in ten exact answers has none near the ends.
        let least = if arithmetic.is_exact() { 8 } else { 10 };
        assert!(count(&far, &mut deployment) >= least, "{arithmetic:?}");
    }
}

#[test]
fn an_exact_score_just_beyond_the_planned_range_is_known_for_it() {
    let mut random = Random::new(77);
    let graph = classifier(&mut random, 4);
    let images = inputs(&mut random, 8, 1.0);
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
    let graph = classifier(&mut random, 1);
    let images = inputs(&mut random, 8, 1.0);
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
        let reply = reply_to(&mut deployment, image);
        assert!(!answer(&deployment, reply.clone()).overflowed);
        let found = answer(&deployment, drowned(&context, reply));
        assert!(found.overflowed);
        in_range += usize::from(!deployment.client.model().out_of_range(&found.scores));
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
        let graph = classifier(&mut random, 4);
        let images = inputs(&mut random, 8, 1.0);
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
            Arithmetic::Approximate => tolerance,
            _ => 0.0,
        };
        for (a, b) in scores(one).iter().zip(scores(other)) {
            assert!((a - b).abs() <= tolerance, "{arithmetic:?}: {a} and {b}");
        }
    }
}
