//! Replies in few bytes: the same answers, the same marks.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use scuro_client::{Bundle, Client, Error, KeySet, Model, Prediction};
use scuro_compiler::{Arithmetic, Options, compile};
use scuro_fhe::ckks::Encoder;
use scuro_fhe::codec::{Kind, describe};
use scuro_fhe::owner::Encryptor;
use scuro_fhe::{AnyContext, codec::CodecError};
use scuro_nn::graph::{Graph, GraphBuilder, Op};
use scuro_nn::tensor::Tensor;
use scuro_program::{Flooding, Program, SlotAddress};

use super::common::{Deployment, Random};

const INPUTS: usize = 70;
const CLASSES: usize = 10;

/// Two dense layers with a square between them.
fn classifier(random: &mut Random) -> Graph {
    let mut net = GraphBuilder::new("classifier", [INPUTS]);
    net.then(random.dense(20, INPUTS)).then(Op::Square);
    net.then(random.dense(CLASSES, 20));
    net.finish().unwrap()
}

fn compiled(arithmetic: Arithmetic, flooding: Option<Flooding>) -> (Program, Vec<Tensor>) {
    let mut random = Random::new(76);
    let graph = classifier(&mut random);
    let image = |_| random.tensor(&[INPUTS], 1.0);
    let images: Vec<Tensor> = (0..4).map(image).collect();
    let options = Options {
        input_range: Some((-50.0, 50.0)),
        arithmetic,
        flooding,
        ..Options::default()
    };
    (compile(&graph, &options, &images).unwrap().program, images)
}

fn size(reply: &Bundle) -> usize {
    reply.to_bytes().len()
}

#[test]
fn compact_replies_have_the_answers_and_marks_of_whole_ones() {
    let statistical = Flooding::Statistical { bits: 40 };
    for (arithmetic, flooding) in [
        (Arithmetic::Approximate, None),
        (Arithmetic::Exact, None),
        (Arithmetic::Exact, Some(statistical)),
    ] {
        let (program, mut images) = compiled(arithmetic, flooding);
        let mut deployment = Deployment::new(&program);
        let mut random = Random::new(5);
        images.extend((0..4).map(|_| random.tensor(&[INPUTS], 50.0)));
        for image in &images {
            let query = deployment.encrypt(image);
            let reply = deployment.evaluate(&query);
            let model = deployment.client.model();
            let whole = model.reply(1, &[reply]).unwrap();
            // Slots of this program do not repeat.
            let compact = model.compact_reply(&whole, program.slots(), 1e-3).unwrap();
            let [expected, found] = [&whole, &compact].map(|reply| {
                let read = Bundle::from_bytes(&reply.to_bytes()).unwrap();
                deployment.client.decrypt(&read).unwrap().remove(0)
            });
            assert_eq!(found.overflowed, expected.overflowed, "{arithmetic:?}");
            match arithmetic {
                _ if expected.overflowed => {}
                Arithmetic::Exact | Arithmetic::ScaleInvariant => {
                    assert_eq!(found.scores, expected.scores);
                }
                Arithmetic::Approximate => {
                    let mut pairs = found.scores.iter().zip(&expected.scores);
                    assert!(pairs.all(|(a, b)| (a - b).abs() < 1e-3));
                }
            }
        }
    }
}

/// An approximate program whose scores are the first slots of its reply, and its key holder.
fn repeating() -> (Program, Client, ChaCha20Rng, KeySet) {
    let (mut program, _) = compiled(Arithmetic::Approximate, None);
    let address = |slot| SlotAddress {
        ciphertext: 0,
        slot,
    };
    program.output.addresses = (0..CLASSES as u32).map(address).collect();
    // The modulus has room for more than is planned.
    program.steps.last_mut().unwrap().estimate.max_abs /= 16.0;
    let model = Model::new(program.clone()).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let keys = KeySet::generate(&model, &mut rng).unwrap();
    let client = Client::new(&model, keys.secret.clone()).unwrap();
    (program, client, rng, keys)
}

#[test]
fn scores_that_repeat_take_little_more_than_one_part() {
    let (program, client, mut rng, keys) = repeating();
    let AnyContext::Approximate(context) = client.model().scheme() else {
        panic!("an approximate program");
    };
    let last = program.steps.last().unwrap().estimate;
    let largest = last.max_abs;
    let mut answer = |share: f64| {
        let score = |slot: usize| match slot % 16 {
            class if class < CLASSES => share * largest * (class as f64 - 4.0) / 5.0,
            _ => 0.0,
        };
        let slots: Vec<f64> = (0..program.slots()).map(score).collect();
        let (level, scale) = (last.level as usize, last.scale_log2.exp2());
        let plain = Encoder::new(context).encode(&slots, level, scale).unwrap();
        let encryptor = Encryptor::new(context, &keys.secret).unwrap();
        let seeded = encryptor.encrypt(&plain, &mut rng).unwrap();
        let whole = seeded.expand(context).unwrap();
        let reply = client.model().reply(1, &[vec![whole.into()]]).unwrap();
        let compact = client
            .model()
            .compact_reply(&reply, 16, 0.01 * largest)
            .unwrap();
        assert!(
            2 * size(&compact) < size(&reply),
            "{} of {}",
            size(&compact),
            size(&reply)
        );
        let [expected, found] =
            [&reply, &compact].map(|reply| client.decrypt(reply).unwrap().remove(0));
        (expected, found)
    };
    let close = |(expected, found): &(Prediction, Prediction), factor: f64| {
        let mut pairs = expected.scores.iter().zip(&found.scores);
        let allowed = 0.011 * largest * factor.abs();
        pairs.all(|(a, b)| (a - b).abs() <= allowed)
    };
    for share in [1.0, 3.0] {
        let both = answer(share);
        assert!(!both.0.overflowed && !both.1.overflowed);
        assert!(close(&both, program.output.factor), "{share}");
    }
    // What fits the whole reply and not the compact one is known for it.
    let both = answer(10.0);
    assert!(!both.0.overflowed && both.1.overflowed);
}

#[test]
fn what_is_no_whole_reply_of_the_program_is_not_compacted() {
    let (_, client, mut rng, keys) = repeating();
    let model = client.model();
    let AnyContext::Approximate(context) = model.scheme() else {
        panic!("an approximate program");
    };
    let plain = Encoder::new(context)
        .encode(&[1.0], 0, 2f64.powi(20))
        .unwrap();
    let seeded = Encryptor::new(context, &keys.secret)
        .unwrap()
        .encrypt(&plain, &mut rng);
    let whole = seeded.unwrap().expand(context).unwrap();
    let reply = model.reply(1, &[vec![whole.into()]]).unwrap();
    let compact = model.compact_reply(&reply, 16, 1.0).unwrap();
    assert_eq!(
        describe(&compact.ciphertexts[0]).unwrap().kind,
        Kind::CompactCiphertext
    );
    let again = model.compact_reply(&compact, 16, 1.0).unwrap_err();
    let wrong_kind = scuro_fhe::Error::Codec(CodecError::WrongKind {
        found: Kind::CompactCiphertext,
        expected: Kind::Ciphertext,
    });
    assert!(matches!(again, Error::Fhe(error) if error == wrong_kind));
    for period in [0, 3, 1 << 20] {
        let refused = model.compact_reply(&reply, period, 1.0).unwrap_err();
        let bad_period = matches!(refused, Error::Fhe(scuro_fhe::Error::BadPeriod { .. }));
        assert!(bad_period, "{period}");
    }
    let refused = model.compact_reply(&reply, 16, 0.0).unwrap_err();
    assert!(matches!(
        refused,
        Error::Fhe(scuro_fhe::Error::PrecisionOutOfReach { .. })
    ));
    let stranger = Bundle {
        program: [0; 32],
        ..reply
    };
    let refused = model.compact_reply(&stranger, 16, 1.0).unwrap_err();
    assert!(matches!(refused, Error::WrongProgram { .. }));
    // As a query it is none.
    let query = Bundle {
        kind: scuro_client::BundleKind::Query,
        ..compact
    };
    assert!(matches!(
        model.open_query(&query),
        Err(Error::Fhe(_) | Error::CiphertextCount { .. })
    ));
}
