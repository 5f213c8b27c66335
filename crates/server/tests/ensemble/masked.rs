//! Holders that mask: their sum is the prediction, and nothing less is one.

use scuro_client::{Bundle, KeySet};
use scuro_ensemble::Rules;
use scuro_fhe::AnyCiphertext;
use scuro_fhe::ckks::{Ciphertext, Encoder, Evaluator};
use scuro_fhe::owner::{Decryptor, SecretKey};
use scuro_wire::mask::Release;
use scuro_wire::predict::{PredictReply, Question};
use scuro_wire::{WireError, ensemble::HolderState};

use crate::support::masked::{Group, offer, offers, release, release_bytes};
use crate::support::{
    CLASSES, NAMES, Running, User, addresses, code, contract, coordinator, coordinator_options,
    coordinator_with, holder, name, run, three, try_coordinator, try_holder,
};

/// The seed of the user's keys.
const USER: u64 = 1;

/// What each holder releases when it is told one of these.
async fn released(holders: &[Running], releases: &[Release]) -> Vec<PredictReply> {
    let mut replies = Vec::new();
    for (holder, told) in holders.iter().zip(releases) {
        let reply = release(&mut holder.caller(), told).await;
        replies.push(reply.expect("released"));
    }
    replies
}

/// The ciphertext of a reply.
fn ciphertext(reply: &PredictReply) -> Ciphertext {
    let bundle = Bundle::from_bytes(&reply.bundle).expect("a bundle");
    let read = AnyCiphertext::from_bytes(&bundle.ciphertexts[0], contract().model().scheme());
    match read.expect("a ciphertext") {
        AnyCiphertext::Approximate(ciphertext) => ciphertext,
        AnyCiphertext::Exact(_) => panic!("the test's programs are approximate"),
    }
}

/// What somebody with the user's secret key reads in the weighted sum of replies: all slots.
fn slots(secret: &SecretKey, replies: &[&PredictReply], weights: &[u8]) -> Vec<f64> {
    let context = contract().model().context();
    let evaluator = Evaluator::new(context);
    let mut terms = replies.iter().zip(weights).map(|(reply, &weight)| {
        let term = evaluator.mul_constant(&ciphertext(reply), f64::from(weight), 1.0);
        term.expect("a term")
    });
    let first = terms.next().expect("one at least");
    let sum = terms.fold(first, |sum, term| {
        evaluator.add(&sum, &term).expect("a sum")
    });
    let plain = Decryptor::new(context, secret)
        .expect("the key")
        .decrypt(&sum);
    let decoded = Encoder::new(context).decode(&plain.expect("decrypted"));
    decoded.expect("decoded")
}

fn root_mean_square(values: &[f64]) -> f64 {
    (values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64).sqrt()
}

/// What slots of a uniform polynomial modulo Q are like, at the scale of a reply.
fn uniform_size(reply: &PredictReply) -> f64 {
    let (ciphertext, parameters) = (ciphertext(reply), contract().model().context().parameters());
    let log_q = parameters.log_q(ciphertext.level());
    let coefficients = f64::from(1u32 << parameters.log_n());
    (coefficients / 12.0).sqrt() * log_q.exp2() / ciphertext.scale()
}

/// The user's secret key, which nobody else has.
fn secret() -> KeySet {
    let mut rng = <rand_chacha::ChaCha20Rng as rand_core::SeedableRng>::seed_from_u64(USER);
    KeySet::generate(contract().model(), &mut rng).expect("keys")
}

#[test]
fn coordinator_and_user_together_read_the_sum_and_nothing_less() {
    let (user, keys, weights) = (User::new(USER), secret(), [2, 1, 5]);
    let group = Group::new(&weights);
    run(async {
        let holders = group.holders(None).await;
        let query = user.query(4);
        let offers = offers(&holders, &user, &query).await;
        let told = vec![group.release(&query, &offers); 3];
        let replies = released(&holders, &told).await;
        let all: Vec<&PredictReply> = replies.iter().collect();
        let sum = slots(&keys.secret, &all, &weights);
        let best = (0..CLASSES).max_by(|&a, &b| sum[a].total_cmp(&sum[b]));
        assert_eq!(best, Some(4));
        assert!(root_mean_square(&sum) < 1e3, "{}", root_mean_square(&sum));
        let uniform = uniform_size(&replies[0]);
        for part in [&[0][..], &[1], &[2], &[0, 1], &[0, 2], &[1, 2]] {
            let some: Vec<&PredictReply> = part.iter().map(|&at| &replies[at]).collect();
            let their: Vec<u8> = part.iter().map(|&at| weights[at]).collect();
            let found = slots(&keys.secret, &some, &their);
            let size = root_mean_square(&found) / uniform;
            // As large as noise over the whole modulus, on both sides of zero.
            assert!((0.5..2.0).contains(&size), "{part:?}: {size}");
            let above = found.iter().filter(|value| **value > 0.0).count();
            let share = above as f64 / found.len() as f64;
            assert!((0.45..0.55).contains(&share), "{part:?}: {share}");
            // And so with every one of the user's own means to read it.
            assert!(user.read(some[0], None).overflowed);
        }
        // Other weights than those that were masked for leave masks in the sum.
        let wrong = root_mean_square(&slots(&keys.secret, &all, &[1, 1, 1]));
        assert!(wrong > 0.4 * uniform, "{wrong}");
    });
}

#[test]
fn holders_that_are_told_different_sums_never_add_up() {
    let (user, keys) = (User::new(USER), secret());
    let group = Group::new(&[1, 1, 1]);
    run(async {
        let holders = group.holders(Some(2)).await;
        let query = user.query(4);
        let offers = offers(&holders, &user, &query).await;
        let whole = group.release(&query, &offers);
        let pair = group.release(&query, &offers[..2]);
        let replies = released(&holders, &[pair, whole.clone(), whole]).await;
        let uniform = uniform_size(&replies[0]);
        for part in [&[0][..], &[1], &[2], &[0, 1], &[0, 2], &[1, 2], &[0, 1, 2]] {
            let some: Vec<&PredictReply> = part.iter().map(|&at| &replies[at]).collect();
            let found = root_mean_square(&slots(&keys.secret, &some, &vec![1; part.len()]));
            assert!(found > 0.4 * uniform, "{part:?}: {found}");
        }
    });
}

#[test]
fn masked_and_unmasked_answers_are_the_same() {
    let user = User::new(USER);
    let group = Group::new(&[1, 1, 1]);
    run(async {
        let (plain, masked) = (three().await, group.holders(None).await);
        let plain = coordinator(&addresses(&plain)).await;
        let options = group.coordinator(&addresses(&masked));
        let hub = coordinator_with(options).await;
        let (mut first, mut second) = (plain.caller(), hub.caller());
        user.upload(&mut first).await;
        user.upload(&mut second).await;
        for bright in 0..CLASSES {
            let query = user.query(bright);
            let expected = first.predict(&query).await.expect("answered");
            let found = second.predict(&query).await.expect("answered");
            let names: Vec<&str> = found.answered.iter().map(|a| &*a.holder).collect();
            assert_eq!(names, ["holder-1", "holder-2", "holder-3"]);
            assert_eq!(found.left_out, []);
            let (expected, found) = (user.read(&expected, None), user.read(&found, None));
            assert_eq!((expected.label, found.label), (bright, bright));
            // Both are flooded, each for itself: masks add nothing to that.
            for (a, b) in expected.scores.iter().zip(&found.scores) {
                assert!((a - b).abs() < 2e-3, "{expected:?} {found:?}");
            }
        }
        let status = second.status().await.expect("status");
        assert!(status.masked);
        assert_eq!(status.roster, Some(group.roster.digest()));
        assert!(!first.status().await.expect("status").masked);
        let status = masked[0].caller().status().await.expect("status");
        assert_eq!((status.masked, status.min_holders), (true, 3));
    });
}

/// Rules of three holders, of which two are sums with these weights.
fn rules(weighted: [u8; 3], multiples: [u8; 3]) -> Rules {
    let classes: Vec<&str> = NAMES.split('\n').collect();
    let file = serde_json::json!({
        "version": 1,
        "holders": ["holder-1", "holder-2", "holder-3"],
        "classes": classes,
        "weighted": { "weights": weighted },
        "log_opinion": { "multiples": multiples, "unit": 0.01 },
        "soft_vote": { "bound": 16.0, "factor": 1.0, "shift": 0.5, "offset": 0.1 },
    });
    Rules::from_bytes(file.to_string().as_bytes()).expect("rules")
}

#[test]
fn sums_with_the_weights_of_the_roster_work_masked_and_other_rules_are_refused() {
    let user = User::new(USER);
    let cases = [
        ([1, 1, 1], "mean"),
        ([3, 1, 9], "weighted"),
        ([4, 2, 1], "log-opinion"),
    ];
    let rules = rules([3, 1, 9], [4, 2, 1]);
    run(async {
        for (weights, works) in cases {
            let group = Group::new(&weights);
            let holders = group.holders(Some(2)).await;
            let mut options = group.coordinator(&addresses(&holders));
            options.rules = Some(rules.to_bytes());
            let hub = coordinator_with(options).await;
            let mut caller = hub.caller();
            user.upload(&mut caller).await;
            let status = caller.status().await.expect("status");
            assert_eq!(status.rules, [name(works)]);
            for rule in [
                "mean",
                "weighted",
                "log-opinion",
                "stacking",
                "soft-vote",
                "majority",
            ] {
                let question = Question {
                    rule: Some(name(rule)),
                    ..user.question()
                };
                let query = user.sign(question, &user.encrypt(6));
                match (caller.predict(&query).await, rule == works) {
                    (Ok(reply), true) => assert_eq!(user.label_by(&reply, Some(&rules)), 6),
                    (Err(WireError::Refused { problem, .. }), false) => {
                        assert_eq!(problem.code, "query.rule-masked");
                        assert!(problem.message.contains(works), "{problem}");
                    }
                    (other, _) => panic!("{rule}: {other:?}"),
                }
            }
            let mut options = group.coordinator(&addresses(&holders));
            options.rules = Some(rules.to_bytes());
            options.rule = Some(name("confidence"));
            let found = try_coordinator(options).await.err().expect("refused");
            assert_eq!(found.code(), "query.rule-masked", "{found}");
        }
    });
}

#[test]
fn who_masks_and_who_does_not_are_not_mixed() {
    let user = User::new(USER);
    let group = Group::new(&[1, 1, 1]);
    run(async {
        let masked = group.holders(Some(2)).await;
        let plain = [holder(1).await, holder(2).await];
        // A holder by itself.
        let mut caller = masked[0].caller();
        assert_eq!(code(caller.predict(&user.query(1)).await), "masks.required");
        let mut caller = plain[0].caller();
        assert_eq!(code(offer(&mut caller, &user.query(1)).await), "masks.none");
        let nothing = release_bytes(&mut caller, "{}".into()).await;
        assert_eq!(code(nothing), "masks.none");
        // One that does not mask among those that do, and the other way round.
        let all = [masked[0].address, plain[0].address, masked[2].address];
        let hub = coordinator_with(group.coordinator(&all)).await;
        let mut caller = hub.caller();
        user.upload(&mut caller).await;
        let left_out = user.ask(&mut caller, 5).await;
        let expected = ("holder-2".to_string(), "holder.unmasked".to_string());
        assert_eq!(left_out, [expected]);
        let status = caller.status().await.expect("status");
        assert_eq!(status.holders[1].state, HolderState::Misfit);
        let all = [plain[0].address, masked[1].address, plain[1].address];
        let hub = coordinator(&all).await;
        let mut caller = hub.caller();
        user.upload(&mut caller).await;
        let left_out = user.ask(&mut caller, 5).await;
        let expected = (all[1].to_string(), "holder.masked".to_string());
        assert_eq!(left_out, [expected]);
    });
}

#[test]
fn a_holder_that_insists_on_everybody_is_told_of_by_the_quorum() {
    let user = User::new(USER);
    let group = Group::new(&[1, 1, 1]);
    run(async {
        let mut holders = group.holders(None).await;
        let hub = coordinator_with(group.coordinator(&addresses(&holders))).await;
        let mut caller = hub.caller();
        user.upload(&mut caller).await;
        assert_eq!(user.ask(&mut caller, 5).await, []);
        holders.pop().expect("a holder").stop().await;
        let refused = caller.predict(&user.query(2)).await.expect_err("refused");
        let WireError::Refused { problem, .. } = refused else {
            panic!("{refused}");
        };
        assert_eq!(problem.code, "ensemble.quorum");
        assert!(problem.message.starts_with("2 of 3 needed"), "{problem}");
        assert!(problem.message.contains("holder-3"), "{problem}");
    });
}

#[test]
fn settings_of_masks_that_cannot_be_are_named() {
    let group = Group::new(&[1, 1, 1]);
    run(async {
        let changes: [fn(&Group, &mut scuro_server::ensemble::holder::Options); 4] = [
            |_, options| options.name = name("stranger"),
            |_, options| options.name = name("holder-2"),
            |group, options| *options = group.options(0, Some(4)),
            |group, options| *options = group.options(0, Some(1)),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut options = group.options(0, None);
            change(&group, &mut options);
            let found = try_holder(options).await.err().expect("refused");
            assert_eq!(found.code(), "ensemble.setting", "{number}: {found}");
        }
        let holders = group.holders(None).await;
        let mut some = addresses(&holders);
        some.pop();
        let found = try_coordinator(group.coordinator(&some)).await.err();
        assert_eq!(found.expect("refused").code(), "ensemble.setting");
        let swapped = Group::new(&[2, 1, 1]);
        let found = try_coordinator(swapped.coordinator(&addresses(&holders))).await;
        let found = found.err().expect("refused");
        assert_eq!(found.code(), "ensemble.setting", "{found}");
        assert!(found.to_string().contains("weights of no rule"), "{found}");
        let mut options = coordinator_options(&addresses(&holders));
        options.contract = Some(contract().bytes().to_vec());
        assert!(try_coordinator(options).await.is_ok());
    });
}
