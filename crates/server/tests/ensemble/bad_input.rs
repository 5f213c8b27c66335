//! Queries and keys that are refused, each with its own code, by holder and coordinator alike.

use axum::body::Bytes;
use axum::http::Method;
use scuro_client::{Bundle, BundleKind, Model};
use scuro_fhe::ckks::{Ciphertext, Evaluator};
use scuro_fhe::owner::{KeyGenerator, SecretKey};
use scuro_fhe::{AnyContext, Context};
use scuro_server::ensemble::contract::Contract;
use scuro_wire::ensemble::{Caller, upload_headers};
use scuro_wire::predict::Question;
use scuro_wire::user::{Message, UserKey};
use scuro_wire::{Digest, limits, paths};

use crate::support::{
    Running, User, code, compiled, contract, coordinator, holder, name, now_ms, run,
};

/// A holder, and a coordinator that has it.
async fn both() -> [Running; 2] {
    let holder = holder(1).await;
    let coordinator = coordinator(&[holder.address]).await;
    [holder, coordinator]
}

/// The parameters of the test's ensemble.
fn context() -> &'static std::sync::Arc<Context> {
    match contract().model().scheme() {
        AnyContext::Approximate(context) => context,
        AnyContext::Exact(_) => panic!("the test's programs are approximate"),
    }
}

/// An ensemble of other parameters.
fn foreign() -> Contract {
    Contract::of(&compiled(0, 192, None)).expect("a contract")
}

/// What a service says to keys.
async fn upload(caller: &mut Caller, keys: Bytes, user: &UserKey) -> String {
    let sent = caller.put_keys(keys, &contract().digest(), user).await;
    code(sent)
}

#[test]
fn keys_that_cannot_serve_are_refused() {
    let (user, foreign) = (User::new(1), foreign());
    let stranger = User::of(foreign.model(), 2);
    let mut rng = <rand_chacha::ChaCha20Rng as rand_core::SeedableRng>::seed_from_u64(3);
    let secret = SecretKey::generate(context(), &mut rng);
    let generator = KeyGenerator::new(context(), &secret).expect("a generator");
    let keys = |manifest| {
        let keys = generator.evaluation_keys(&manifest, &mut rng.clone());
        keys.expect("keys").to_bytes(context())
    };
    let manifest = contract().model().key_manifest();
    let without_public = keys(scuro_fhe::keys::KeyManifest {
        public: false,
        ..manifest.clone()
    });
    let mut few = manifest;
    few.rotations.pop_first().expect("a rotation");
    let incomplete = keys(few);
    let mut damaged = user.keys.to_vec();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let cases = [
        ("keys.other-ensemble", stranger.keys.clone()),
        ("keys.no-public-key", without_public.into()),
        ("keys.incomplete", incomplete.into()),
        ("keys.malformed", damaged.into()),
        ("keys.malformed", Bytes::from_static(b"no keys")),
    ];
    run(async {
        for service in &both().await {
            let mut caller = service.caller();
            for (expected, keys) in &cases {
                let found = upload(&mut caller, keys.clone(), &user.sign).await;
                assert_eq!(found, *expected);
            }
            let other = user
                .sign
                .sign(&Message::upload(&Digest::of(&user.keys), &foreign.digest()));
            let digest = Digest::of(&user.keys);
            let path = paths::key_set(&digest);
            let headers = upload_headers(&user.sign.id(), &other);
            let sent = caller.send(Method::PUT, &path, &headers, user.keys.clone());
            assert_eq!(code(sent.await), "user.signature");
            let wrong = Digest([7; 32]);
            let signature = user
                .sign
                .sign(&Message::upload(&wrong, &contract().digest()));
            let headers = upload_headers(&user.sign.id(), &signature);
            let path = paths::key_set(&wrong);
            let sent = caller.send(Method::PUT, &path, &headers, user.keys.clone());
            assert_eq!(code(sent.await), "keys.digest");
            let large = Bytes::from(vec![0; limits::KEY_SET_BYTES + 1]);
            let sent = caller.send(Method::PUT, &path, &headers, large);
            assert_eq!(code(sent.await), "wire.too-large");
            let sent = caller.send(Method::PUT, "/v1/keys/x", &headers, Bytes::new());
            assert_eq!(code(sent.await), "wire.malformed");
        }
    });
}

#[test]
fn keys_belong_to_who_brought_them() {
    let (user, other) = (User::new(1), User::new(2));
    run(async {
        for service in &both().await {
            let mut caller = service.caller();
            assert_eq!(code(caller.predict(&user.query(1)).await), "keys.unknown");
            user.upload(&mut caller).await;
            user.upload(&mut caller).await;
            let found = upload(&mut caller, user.keys.clone(), &other.sign).await;
            assert_eq!(found, "keys.other-user");
            // With the user's public key anybody can encrypt for the user.
            let query = other.sign(user.question(), &user.encrypt(1));
            assert_eq!(code(caller.predict(&query).await), "keys.other-user");
            user.ask(&mut caller, 1).await;
        }
    });
}

#[test]
fn signatures_times_and_nonces_are_checked() {
    let user = User::new(1);
    run(async {
        let [holder, coordinator] = both().await;
        let window = limits::QUERY_WINDOW.as_millis() as u64;
        for service in [&holder, &coordinator] {
            let mut caller = service.caller();
            user.upload(&mut caller).await;
            let mut query = user.query(1);
            query.question.nonce.0[0] ^= 1;
            assert_eq!(code(caller.predict(&query).await), "user.signature");
            let past = now_ms() - window - 60_000;
            for time_ms in [past, now_ms() - 60_000, now_ms() + window + 60_000] {
                let question = Question {
                    time_ms,
                    ..user.question()
                };
                let query = user.sign(question, &user.encrypt(1));
                assert_eq!(code(caller.predict(&query).await), "query.stale");
            }
        }
        let query = user.query(2);
        let mut caller = coordinator.caller();
        caller.predict(&query).await.expect("answered");
        assert_eq!(code(caller.predict(&query).await), "query.replayed");
        // Another query with the nonce of the first.
        let question = Question {
            nonce: query.question.nonce,
            ..user.question()
        };
        let query = user.sign(question, &user.encrypt(3));
        for service in [&holder, &coordinator] {
            let found = code(service.caller().predict(&query).await);
            assert_eq!(found, "query.replayed");
        }
    });
}

/// The ciphertext of a query, changed.
fn changed(query: &Bundle, change: impl FnOnce(&Evaluator, Ciphertext) -> Ciphertext) -> Bundle {
    let runs = contract().model().open_query(&Bundle {
        program: contract().digest().0,
        ..query.clone()
    });
    let scuro_fhe::AnyCiphertext::Approximate(ciphertext) = runs.expect("a query")[0][0].clone()
    else {
        panic!("the test's programs are approximate");
    };
    let ciphertext = change(&Evaluator::new(context()), ciphertext);
    Bundle {
        ciphertexts: vec![ciphertext.to_bytes(context())],
        ..query.clone()
    }
}

/// Queries that no ensemble of the face takes, and their codes.
fn unfit(user: &User) -> Vec<(&'static str, Bundle)> {
    let good = user.encrypt(1);
    let with = |change: &dyn Fn(&mut Bundle)| {
        let mut bundle = good.clone();
        change(&mut bundle);
        bundle
    };
    let foreign = foreign();
    let other = User::of(foreign.model(), 5);
    let image = vec![0.5; foreign.model().program().input.elements()];
    let mut rng = <rand_chacha::ChaCha20Rng as rand_core::SeedableRng>::seed_from_u64(3);
    let elsewhere = other
        .client
        .encrypt(&[&image], &mut rng)
        .expect("encrypted");
    vec![
        ("query.other-key", User::new(9).encrypt(1)),
        ("query.other-ensemble", elsewhere.clone()),
        (
            "query.other-ensemble",
            with(&|bundle| bundle.ciphertexts = elsewhere.ciphertexts.clone()),
        ),
        (
            "query.kind",
            with(&|bundle| bundle.kind = BundleKind::Reply),
        ),
        ("query.count", with(&|bundle| bundle.images = 2)),
        (
            "query.count",
            with(&|bundle| bundle.ciphertexts.push(bundle.ciphertexts[0].clone())),
        ),
        (
            "query.malformed",
            with(&|bundle| bundle.ciphertexts[0].truncate(100)),
        ),
        (
            "query.malformed",
            with(&|bundle| bundle.ciphertexts[0][200] ^= 1),
        ),
        (
            "query.level",
            changed(&good, |evaluator, ciphertext| {
                let level = ciphertext.level() - 1;
                evaluator.mod_drop(&ciphertext, level).expect("dropped")
            }),
        ),
        (
            "query.scale",
            changed(&good, |_, mut ciphertext| {
                let scale = ciphertext.scale() * 2.0;
                ciphertext.set_scale(scale).expect("a scale");
                ciphertext
            }),
        ),
        (
            "query.transparent",
            changed(&good, |evaluator, ciphertext| {
                evaluator.sub(&ciphertext, &ciphertext).expect("nothing")
            }),
        ),
    ]
}

#[test]
fn ciphertexts_that_do_not_fit_are_refused_by_what_is_wrong_with_them() {
    let user = User::new(1);
    let unfit = unfit(&user);
    run(async {
        for service in &both().await {
            let mut caller = service.caller();
            user.upload(&mut caller).await;
            for (expected, bundle) in &unfit {
                let query = user.sign(user.question(), bundle);
                assert_eq!(code(caller.predict(&query).await), *expected);
            }
            let questions = [
                (
                    "query.other-key",
                    Question {
                        key_id: User::new(9).key_id,
                        ..user.question()
                    },
                ),
                (
                    "query.other-ensemble",
                    Question {
                        parameters: Digest([1; 32]),
                        ..user.question()
                    },
                ),
            ];
            for (expected, question) in questions {
                let query = user.sign(question, &user.encrypt(1));
                assert_eq!(code(caller.predict(&query).await), expected);
            }
            user.ask(&mut caller, 1).await;
        }
    });
}

#[test]
fn a_rule_that_there_is_not_is_refused_before_anybody_is_asked() {
    let user = User::new(1);
    run(async {
        let [holder, coordinator] = both().await;
        let mut caller = coordinator.caller();
        user.upload(&mut caller).await;
        let question = Question {
            rule: Some(name("dictator")),
            ..user.question()
        };
        let query = user.sign(question, &user.encrypt(1));
        assert_eq!(code(caller.predict(&query).await), "query.rule");
        assert!(
            !holder
                .metrics()
                .await
                .contains("scuro_ensemble_queries_total")
        );
    });
}

#[test]
fn messages_that_are_no_queries_are_refused() {
    let user = User::new(1);
    run(async {
        for service in &both().await {
            let mut caller = service.caller();
            let large = 64 << contract().model().context().parameters().log_n();
            let bodies: [(&str, Vec<u8>, &str); 4] = [
                ("wire.malformed", Vec::new(), "0"),
                ("wire.malformed", b"{}".to_vec(), "2"),
                ("wire.malformed", b"{}".to_vec(), "two"),
                ("wire.too-large", vec![0; large + (1 << 20)], "2"),
            ];
            for (expected, body, head) in bodies {
                let headers = [("inference-header-content-length", head.to_string())];
                let sent = caller.send(Method::POST, paths::INFER, &headers, body.into());
                assert_eq!(code(sent.await), expected);
            }
            user.upload(&mut caller).await;
            user.ask(&mut caller, 1).await;
        }
    });
}

/// The beginning of a query, on a connection of its own.
async fn begin(service: &Running) -> tokio::net::TcpStream {
    use tokio::io::AsyncWriteExt;
    let stream = tokio::net::TcpStream::connect(service.address).await;
    let mut stream = stream.expect("connected");
    let head = "POST /v2/models/ensemble/infer HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream
}

#[test]
fn more_queries_than_there_is_room_for_are_told_to_come_again() {
    let user = User::new(1);
    run(async {
        let holder = holder(1).await;
        user.upload(&mut holder.caller()).await;
        let mut slow = Vec::new();
        for _ in 0..=scuro_server::ensemble::holder::QUEUE {
            slow.push(begin(&holder).await);
        }
        crate::support::eventually("the holder is full", || async {
            let found = holder.caller().predict(&user.query(1)).await;
            found.is_err_and(|error| code::<()>(Err(error)) == "queue.full")
        })
        .await;
        drop(slow);
        crate::support::eventually("there is room again", || async {
            holder.caller().predict(&user.query(1)).await.is_ok()
        })
        .await;
    });
}

#[test]
fn a_model_opens_what_the_face_says() {
    let model = Model::open(contract().bytes()).expect("a model");
    assert_eq!(Digest(model.digest()), contract().digest());
}
