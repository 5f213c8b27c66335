//! What the decryption agent takes, and what it refuses.

use std::sync::Arc;

use scuro_client::Bundle;
use scuro_vault::devices::PeerRole;
use scuro_vault::intake::{INFERENCES_METRIC, Intake, QUERIES_METRIC};
use scuro_wire::inference::{Inference, InferenceAck, InferenceBatch, Outcome};
use scuro_wire::metrics::Metrics;
use scuro_wire::query::{QueryAck, QueryBatch, Registration};
use scuro_wire::{Digest, Role};

use crate::common::device::Device;
use crate::common::{
    CAM, DAY, Desk, IMAGE, OTHER, OURS, Protected, SHARED, STRANGER, answers, artefact, inference,
    name, queries, query_digest, query_id, today, withdrawals,
};

const MS: u64 = 1000;

/// A vault with a model that is deployed on the device `cam-7`.
struct Bench {
    desk: Desk,
    intake: Intake,
    metrics: Arc<Metrics>,
    deployment: Digest,
    _device: Device,
}

impl Bench {
    async fn new() -> Self {
        Self::of(&OURS).await
    }

    async fn of(model: &Protected) -> Self {
        let desk = Desk::new();
        let record = desk.store(model);
        let device = desk.device().await;
        desk.deploy("digits:1").await;
        desk.enrol("cam-8", PeerRole::Device, "127.0.0.1:1");
        let metrics = Arc::new(Metrics::default());
        Self {
            intake: Intake::new(Arc::clone(&desk.vault), Arc::clone(&metrics)),
            metrics,
            deployment: record.deployment,
            desk,
            _device: device,
        }
    }

    /// Registers queries that are new.
    fn register(&self, numbers: &[u8]) {
        let found = self.try_register(numbers);
        assert!(found.iter().all(|found| *found == Registration::Registered));
    }

    /// What becomes of registrations that may wait.
    fn try_register(&self, numbers: &[u8]) -> Vec<Registration> {
        let batch = queries(self.deployment, numbers.iter().copied());
        let acks = self.register_as(CAM, &batch);
        acks.iter().map(|ack| ack.status).collect()
    }

    fn register_as(&self, who: &str, batch: &QueryBatch) -> Vec<QueryAck> {
        let reply = self.intake.register(&name(who), batch, today() * MS);
        reply.expect("on disk").acks
    }

    /// The code of a registration that is refused.
    fn not_registered(&self, who: &str, batch: &QueryBatch) -> String {
        let ack = self.register_as(who, batch).remove(0);
        assert_eq!(ack.status, Registration::Refused);
        ack.code.expect("a code")
    }

    /// Withdraws as a device; how many were forgotten.
    fn withdraw(&self, who: &str, numbers: &[u8]) -> u64 {
        let batch = withdrawals(numbers.iter().copied());
        let reply = self.intake.withdraw(&name(who), &batch);
        reply.expect("on disk").withdrawn
    }

    /// An answer of our model.
    fn answer(&self, number: u8, seed: u64) -> Inference {
        inference(self.deployment, number, OURS.reply(seed))
    }

    /// Sends an answer that is taken.
    fn is_taken(&self, inference: Inference) {
        let ack = self.send(vec![inference]).remove(0);
        assert_eq!((ack.outcome, ack.code), (Outcome::Accepted, None));
    }

    fn send(&self, inferences: Vec<Inference>) -> Vec<InferenceAck> {
        self.send_as(CAM, inferences, today())
    }

    fn send_as(&self, device: &str, inferences: Vec<Inference>, now: u64) -> Vec<InferenceAck> {
        let batch = InferenceBatch { inferences };
        let reply = self.intake.accept(&name(device), batch, now * MS);
        reply.expect("no failure of the disk").acks
    }

    fn results(&self) -> usize {
        self.desk.results().len()
    }

    /// The code of a refusal, which leaves no result and one count.
    fn refused(&self, inference: Inference) -> String {
        let before = self.results();
        let ack = self.send(vec![inference]).remove(0);
        assert_eq!((ack.outcome, ack.receipt), (Outcome::Refused, None));
        assert_eq!(self.results(), before);
        let code = ack.code.expect("a code");
        let labels = [("device", CAM), ("outcome", "refused"), ("code", &code)];
        assert!(self.metrics.count(INFERENCES_METRIC, &labels) > 0);
        code
    }
}

#[tokio::test]
async fn a_reply_to_a_registered_query_is_decrypted_stored_and_receipted() {
    let bench = Bench::new().await;
    bench.register(&[1, 2]);
    let acks = bench.send(vec![bench.answer(1, 50), bench.answer(2, 51)]);
    assert!(
        acks.iter()
            .all(|ack| ack.outcome == Outcome::Accepted && ack.code.is_none())
    );
    assert_eq!((acks[0].receipt, acks[1].receipt), (Some(1), Some(2)));
    let page = bench.desk.vault.results(0, 10).expect("page");
    let (first, expected) = (&page.results[0], OURS.expected(50));
    assert_eq!(first.query_id, query_id(1));
    assert_eq!(
        (first.device.as_str(), first.version, page.next_after),
        ("cam-7", 1, 2)
    );
    assert_eq!(first.answers.len(), 1);
    assert_eq!(first.answers[0].label as usize, expected.label);
    let labels = ["zero", "one", "two"];
    assert_eq!(
        first.answers[0].label_name.as_deref(),
        Some(labels[expected.label])
    );
    assert_eq!(first.answers[0].scores, expected.scores);
}

#[tokio::test]
async fn a_replay_gets_the_first_receipt_and_is_not_decrypted_again() {
    let bench = Bench::new().await;
    bench.register(&[1]);
    let first = bench.send(vec![bench.answer(1, 50)]);
    // Even rubbish is not looked at once the query is answered.
    for again in [OURS.reply(50), b"rubbish".to_vec()] {
        let acks = bench.send(vec![inference(bench.deployment, 1, again)]);
        assert_eq!(
            (acks[0].outcome, acks[0].receipt),
            (Outcome::Duplicate, first[0].receipt)
        );
    }
    bench.register(&[2]);
    let twice = vec![bench.answer(2, 51); 2];
    let acks = bench.send(twice);
    assert_eq!(acks[0].outcome, Outcome::Accepted);
    assert_eq!(
        (acks[1].outcome, acks[1].receipt),
        (Outcome::Duplicate, acks[0].receipt)
    );
    assert_eq!(bench.results(), 2);
}

#[tokio::test]
async fn ciphertexts_that_answered_one_query_answer_no_other() {
    let bench = Bench::new().await;
    bench.register(&[1, 2, 3, 4]);
    bench.is_taken(bench.answer(1, 50));
    assert_eq!(bench.refused(bench.answer(2, 50)), "reply.replayed");
    // Side by side in one request, only the first is taken.
    let acks = bench.send(vec![bench.answer(3, 51), bench.answer(4, 51)]);
    assert_eq!(acks[0].outcome, Outcome::Accepted);
    assert_eq!(acks[1].code.as_deref(), Some("reply.replayed"));
    // The query is still open for its own answer.
    bench.is_taken(bench.answer(2, 52));
    assert_eq!(bench.results(), 3);
}

#[tokio::test]
async fn queries_that_share_a_reply_get_an_image_each_and_no_image_answers_two() {
    let bench = Bench::of(&SHARED).await;
    bench.register(&[1, 2, 3, 4]);
    let (mut turned, mut half) = (IMAGE, IMAGE);
    turned.reverse();
    half.iter_mut().for_each(|value| *value /= 2.0);
    let reply = SHARED.reply_to(&[&IMAGE, &turned, &half], 50);
    let of = |reply: &Bundle, number, image| Inference {
        image,
        ..inference(bench.deployment, number, reply.to_bytes())
    };
    // One of them comes alone, as if the others had not been registered in time.
    bench.is_taken(of(&reply, 2, 1));
    let all: Vec<_> = (0..3)
        .map(|image| of(&reply, image as u8 + 1, image))
        .collect();
    let acks = bench.send(all);
    let outcomes: Vec<_> = acks.iter().map(|ack| ack.outcome).collect();
    let (accepted, duplicate) = (Outcome::Accepted, Outcome::Duplicate);
    assert_eq!(outcomes, [accepted, duplicate, accepted]);
    let expected = SHARED.client().decrypt(&reply).expect("decrypts");
    let results = bench.desk.results();
    for result in &results {
        let place = usize::from(result.query_id.0[0] - 1);
        let answer = &result.answers[0];
        assert_eq!((answer.image as usize, result.answers.len()), (place, 1));
        // A score loses its last bit on its way through JSON.
        let scores = answer.scores.iter().zip(&expected[place].scores);
        assert!(
            scores
                .into_iter()
                .all(|(found, score)| (found - score).abs() < 1e-12)
        );
    }
    assert_eq!(results.len(), 3);
    assert_eq!(bench.refused(of(&reply, 4, 0)), "reply.replayed");
    assert_eq!(bench.refused(of(&reply, 4, 3)), "reply.no-such-image");
    // The same ciphertexts under a header that tells of more images.
    let padded = Bundle { images: 4, ..reply };
    assert_eq!(bench.refused(of(&padded, 4, 1)), "reply.replayed");
}

#[tokio::test]
async fn two_requests_with_one_query_give_one_result() {
    let bench = Arc::new(Bench::new().await);
    let numbers: Vec<u8> = (1..=20).collect();
    bench.register(&numbers);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (bench, numbers) = (Arc::clone(&bench), numbers.clone());
            std::thread::spawn(move || {
                let mut left = answers(bench.deployment, numbers).inferences;
                while !left.is_empty() {
                    let acks = bench.send(left.clone());
                    let retry = acks.iter().filter(|ack| ack.outcome == Outcome::Retry);
                    let retry: Vec<_> = retry.map(|ack| ack.query_id).collect();
                    left.retain(|inference| retry.contains(&inference.query_id));
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().expect("no panic"));
    assert_eq!(bench.results(), 20);
}

#[tokio::test]
async fn what_does_not_belong_to_its_query_is_refused() {
    let bench = Bench::new().await;
    bench.register(&[1]);
    let good = bench.answer(1, 50);
    assert_eq!(bench.refused(bench.answer(9, 50)), "query.unknown");
    let digest = Inference {
        query_digest: query_digest(7),
        ..good.clone()
    };
    assert_eq!(bench.refused(digest), "query.other-digest");
    let deployment = Inference {
        deployment: Digest([7; 32]),
        ..good.clone()
    };
    assert_eq!(bench.refused(deployment), "query.other-deployment");
    let stranger = bench.send_as("cam-8", vec![good.clone()], today());
    assert_eq!(stranger[0].code.as_deref(), Some("query.of-another-device"));
    assert_eq!(bench.results(), 0);
    bench.is_taken(good);
}

#[tokio::test]
async fn foreign_and_damaged_ciphertexts_are_refused_and_the_query_stays_open() {
    let bench = Bench::new().await;
    bench.register(&[1]);
    let code = |reply: Vec<u8>| bench.refused(inference(bench.deployment, 1, reply));
    assert_eq!(code(STRANGER.reply(50)), "reply.wrong-key");
    assert_eq!(code(OTHER.reply(50)), "reply.wrong-program");
    assert_eq!(code(OURS.echo(50)), "reply.wrong-level");
    assert_eq!(code(Vec::new()), "reply.malformed");
    let whole = OURS.reply(50);
    for place in [0, 9, 60, whole.len() / 2, whole.len() - 1] {
        let mut changed = whole.clone();
        changed[place] ^= 1;
        assert_eq!(code(changed), "reply.malformed", "byte {place}");
    }
    assert_eq!(code(whole[..whole.len() - 1].to_vec()), "reply.malformed");
    assert_eq!(code(with_changed_parameters()), "reply.wrong-parameters");
    let bundle = OURS.reply_bundle(50);
    let doubled = Bundle {
        group: 2 * bundle.group,
        ciphertexts: [&bundle.ciphertexts[..], &bundle.ciphertexts].concat(),
        ..bundle.clone()
    };
    assert_eq!(code(doubled.to_bytes()), "reply.wrong-count");
    let crowd = Bundle {
        images: 2,
        ..bundle.clone()
    };
    assert_eq!(code(crowd.to_bytes()), "reply.wrong-count");
    let crowd = Bundle {
        images: 1 << 16,
        ..bundle.clone()
    };
    assert_eq!(code(crowd.to_bytes()), "reply.too-many-images");
    bench.is_taken(inference(bench.deployment, 1, bundle.to_bytes()));
}

/// A reply whose ciphertext claims other parameters, with a right checksum.
fn with_changed_parameters() -> Vec<u8> {
    let mut bundle = OURS.reply_bundle(50);
    let object = &mut bundle.ciphertexts[0];
    let end = object.len() - scuro_fhe::codec::CHECKSUM_BYTES;
    // Magic, kind, reserved byte and version come first: 10 bytes.
    object[10] ^= 1;
    let checksum = blake3::hash(&object[..end]);
    let length = object.len() - end;
    object[end..].copy_from_slice(&checksum.as_bytes()[..length]);
    bundle.to_bytes()
}

#[tokio::test]
async fn retired_and_expired_models_are_not_decrypted() {
    let bench = Bench::new().await;
    bench.register(&[1, 2]);
    let late = bench.send_as(CAM, vec![bench.answer(1, 50)], today() + 100 * DAY);
    assert_eq!(late[0].code.as_deref(), Some("model.key-expired"));
    // Open in memory does not count.
    bench.is_taken(bench.answer(1, 50));
    bench.desk.retire("digits:1").expect("retired");
    assert_eq!(bench.refused(bench.answer(2, 51)), "model.retired");
    let batch = queries(bench.deployment, [3]);
    assert_eq!(bench.not_registered(CAM, &batch), "model.retired");
    assert_eq!(bench.results(), 1);
}

#[tokio::test]
async fn a_device_registers_nothing_for_a_model_that_it_was_not_given() {
    let bench = Bench::new().await;
    let ours = queries(bench.deployment, [1]);
    let unknown = queries(Digest([1; 32]), [1]);
    for (who, batch) in [("cam-8", ours), (CAM, unknown)] {
        let code = bench.not_registered(who, &batch);
        assert_eq!(code, "deployment.not-on-this-device");
    }
    assert_eq!(bench.refused(bench.answer(1, 50)), "query.unknown");
}

#[tokio::test]
async fn a_registration_can_be_repeated_but_its_id_not_taken() {
    let bench = Bench::new().await;
    bench.register(&[1]);
    assert_eq!(bench.try_register(&[1]), [Registration::Known]);
    let mut other = queries(bench.deployment, [1]);
    other.queries[0].query_digest = query_digest(2);
    assert_eq!(bench.not_registered(CAM, &other), "query.id-taken");
}

#[tokio::test]
async fn an_open_query_moves_to_the_version_that_answers_it_and_an_answered_one_stays() {
    let bench = Bench::new().await;
    bench.register(&[1, 2]);
    let second = bench.desk.store(&OURS).deployment;
    let moved = queries(second, [1]);
    let early = bench.not_registered(CAM, &moved);
    assert_eq!(early, "deployment.not-on-this-device");
    bench.desk.deploy("digits:2").await;
    assert_eq!(bench.not_registered("cam-8", &moved), "query.id-taken");
    let moves = bench.register_as(CAM, &moved);
    assert_eq!(moves[0].status, Registration::Registered);
    let count = |outcome| {
        let labels = [("device", CAM), ("outcome", outcome)];
        bench.metrics.count(QUERIES_METRIC, &labels)
    };
    assert_eq!((count("registered"), count("moved")), (2, 1));
    assert_eq!(bench.refused(bench.answer(1, 50)), "query.other-deployment");
    bench.is_taken(inference(second, 1, OURS.reply(50)));
    bench.is_taken(bench.answer(2, 51));
    let answered = bench.not_registered(CAM, &queries(second, [2]));
    assert_eq!(answered, "query.id-taken");
}

#[tokio::test]
async fn at_the_limit_of_open_queries_known_ones_stay_known_and_new_ones_wait() {
    use Registration::{Known, Later, Registered};
    let mut bench = Bench::new().await;
    let intake = Intake::new(Arc::clone(&bench.desk.vault), Arc::clone(&bench.metrics));
    bench.intake = intake.with_open_queries(3);
    assert_eq!(bench.try_register(&[1, 2]), [Registered, Registered]);
    // One batch: what is known takes no room, and what finds none has to wait.
    let found = bench.try_register(&[1, 3, 4, 2, 5]);
    assert_eq!(found, [Known, Registered, Later, Known, Later]);
    // An answer makes room for one, a withdrawal for another.
    bench.is_taken(bench.answer(1, 50));
    assert_eq!(bench.withdraw(CAM, &[3]), 1);
    let found = bench.try_register(&[4, 5, 6]);
    assert_eq!(found, [Registered, Registered, Later]);
}

#[tokio::test]
async fn a_device_withdraws_its_own_open_queries_and_nothing_else() {
    let bench = Bench::new().await;
    bench.register(&[1, 2]);
    bench.is_taken(bench.answer(1, 50));
    let open = || {
        bench.intake.measure().expect("counted");
        let text = bench.metrics.render();
        let line = text.lines().find_map(|line| {
            let name = "scuro_vault_open_queries{device=\"cam-7\"} ";
            line.strip_prefix(name).map(str::to_string)
        });
        line.expect("a gauge")
    };
    assert_eq!(open(), "1");
    assert_eq!(bench.withdraw("cam-8", &[1, 2]), 0);
    assert_eq!(bench.withdraw(CAM, &[1, 2, 9]), 1);
    assert_eq!(open(), "0");
    let labels = [("device", CAM), ("outcome", "withdrawn")];
    assert_eq!(bench.metrics.count(QUERIES_METRIC, &labels), 1);
    assert_eq!(bench.refused(bench.answer(2, 51)), "query.unknown");
    let replay = bench.send(vec![inference(bench.deployment, 1, Vec::new())]);
    assert_eq!(replay[0].outcome, Outcome::Duplicate, "it stays answered");
}

#[tokio::test]
async fn queries_without_an_answer_are_forgotten_after_a_month() {
    let bench = Bench::new().await;
    bench.register(&[1, 2]);
    bench.is_taken(bench.answer(1, 50));
    let prune = |days| bench.intake.prune((today() + days * DAY) * MS);
    assert_eq!(prune(29).expect("pruned"), 0);
    assert_eq!(prune(31).expect("pruned"), 1);
    assert_eq!(bench.refused(bench.answer(2, 51)), "query.unknown");
    let replay = bench.send(vec![inference(bench.deployment, 1, Vec::new())]);
    assert_eq!(
        replay[0].outcome,
        Outcome::Duplicate,
        "an answered one is kept"
    );
}

#[tokio::test]
async fn a_program_that_was_tampered_with_decrypts_nothing_and_loses_nothing() {
    let bench = Bench::new().await;
    bench.register(&[1]);
    let record = bench.desk.vault.models().expect("list").remove(0);
    let path = bench.desk.file(artefact(&record, Role::Program));
    let good = std::fs::read(&path).expect("artefact");
    let mut changed = good.clone();
    changed[100] ^= 1;
    std::fs::write(&path, changed).expect("tampered");
    let ack = bench.send(vec![bench.answer(1, 50)]).remove(0);
    assert_eq!(
        (ack.outcome, ack.code.as_deref()),
        (Outcome::Retry, Some("model.unreadable"))
    );
    std::fs::write(&path, good).expect("repaired");
    bench.is_taken(bench.answer(1, 50));
}
