//! Queries that are answered.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::Method;
use scuro_ensemble::{HeldOut, Rules};
use scuro_server::ensemble::coordinator::HolderAddress;
use scuro_wire::Digest;
use scuro_wire::ensemble::{HolderState, ModelMetadata, Role};
use scuro_wire::predict::Question;

use crate::pki;
use crate::support::{
    CLASSES, NAMES, User, addresses, code, contract, coordinator, coordinator_options,
    coordinator_with, eventually, holder, holder_options, holder_with, name, program, run, three,
    try_coordinator, try_holder,
};

#[test]
fn an_encrypted_image_gets_one_answer_of_all_holders() {
    run(async {
        let holders = three().await;
        let coordinator = coordinator(&addresses(&holders)).await;
        let (user, mut caller) = (User::new(1), coordinator.caller());
        user.upload(&mut caller).await;
        for bright in 0..CLASSES {
            let reply = caller.predict(&user.query(bright)).await.expect("answered");
            assert_eq!(user.label(&reply), bright);
            let answered: Vec<&str> = reply.answered.iter().map(|a| &*a.holder).collect();
            let expected: Vec<String> = holders.iter().map(|h| h.address.to_string()).collect();
            assert_eq!(answered, expected);
            assert_eq!((reply.rule, reply.left_out.len()), (Some(name("mean")), 0));
        }
        let metrics = coordinator.metrics().await;
        let line = r#"scuro_ensemble_queries_total{outcome="ok"} 10"#;
        assert!(metrics.contains(line), "{metrics}");
        coordinator.stop().await;
    });
}

#[test]
fn users_choose_among_fitted_rules_and_one_of_another_ensemble_is_refused() {
    run(async {
        let holders = three().await;
        let rules = rules(&["holder-1", "holder-2", "holder-3"]);
        let mut options = coordinator_options(&addresses(&holders));
        options.rules = Some(rules.to_bytes());
        options.rule = Some(name("weighted"));
        let coordinator = coordinator_with(options).await;
        let (user, mut caller) = (User::new(1), coordinator.caller());
        user.upload(&mut caller).await;
        let status = caller.status().await.expect("status");
        let expected = ["weighted", "mean", "log-opinion", "stacking", "soft-vote"];
        assert_eq!(status.rules, expected.map(name));
        let file = caller.rules().await.expect("rules").expect("a file");
        assert_eq!(file, rules.to_bytes());
        for (bright, rule) in expected.iter().enumerate() {
            let question = Question {
                rule: Some(name(rule)),
                ..user.question()
            };
            let query = user.sign(question, &user.encrypt(bright));
            let reply = caller.predict(&query).await.expect("answered");
            assert_eq!(reply.rule, Some(name(rule)));
            assert_eq!(user.label_by(&reply, Some(&rules)), bright, "{rule}");
        }
        let reply = caller.predict(&user.query(7)).await.expect("answered");
        assert_eq!(reply.rule, Some(name("weighted")));
        let mut options = coordinator_options(&addresses(&holders[..2]));
        options.rules = Some(rules.to_bytes());
        let found = try_coordinator(options).await.err().expect("refused");
        assert_eq!(found.code(), "ensemble.setting", "{found}");
    });
}

/// Rules fitted on predictions that are right.
fn rules(holders: &[&str]) -> Rules {
    let names = holders.iter().map(|name| name.to_string()).collect();
    let classes = NAMES.split('\n').map(str::to_string).collect();
    let labels: Vec<usize> = (0..60).map(|example| example * 7 % CLASSES).collect();
    let noise = |i: usize| (i * 37 % 19) as f64 / 100.0;
    let scores = |holder: usize, label: usize| {
        let score = |class: usize| f64::from(class == label) + noise(holder + 11 * class + label);
        (0..CLASSES).map(score).collect()
    };
    let of_holder = |holder| labels.iter().map(|&label| scores(holder, label)).collect();
    let predictions = (0..holders.len()).map(of_holder).collect();
    let held_out = HeldOut::new(predictions, labels.clone()).expect("held out");
    Rules::fitted(names, classes, &held_out).expect("fitted")
}

#[test]
fn to_a_user_a_holder_answers_as_a_coordinator_does() {
    run(async {
        let holder = holder(1).await;
        let (user, mut caller) = (User::new(1), holder.caller());
        user.upload(&mut caller).await;
        let reply = caller.predict(&user.query(3)).await.expect("answered");
        assert_eq!(user.label(&reply), 3);
        assert_eq!((reply.rule, reply.answered.len()), (None, 1));
        assert_eq!(reply.answered[0].holder, "holder-1");
        assert_eq!(reply.face, contract().digest());
    });
}

#[test]
fn both_say_what_they_are() {
    run(async {
        let holder = holder(1).await;
        let coordinator = coordinator(&[holder.address]).await;
        for (service, role) in [(&holder, Role::Holder), (&coordinator, Role::Coordinator)] {
            let mut caller = service.caller();
            let status = caller.status().await.expect("status");
            assert_eq!((status.role, status.face), (role, contract().digest()));
            assert_eq!(status.classes.len(), CLASSES);
            assert_eq!(caller.face().await.expect("face"), contract().bytes());
            let model = caller.send(Method::GET, "/v2/models/ensemble", &[], Bytes::new());
            let model: ModelMetadata = model.await.expect("metadata").json().expect("JSON");
            assert_eq!(model, ModelMetadata::of(contract().digest()));
            for path in ["/v2/health/live", "/v2/health/ready"] {
                let health = caller.send(Method::GET, path, &[], Bytes::new());
                assert_eq!(health.await.expect("healthy").status, 200, "{path}");
            }
            let nothing = caller.send(Method::GET, "/v1/nothing", &[], Bytes::new());
            assert_eq!(code(nothing.await), "http.not-found");
        }
        let status = coordinator.caller().status().await.expect("status");
        assert_eq!((status.min_holders, status.rules), (1, vec![name("mean")]));
        assert_eq!(status.holders[0].state, HolderState::Well);
    });
}

#[test]
fn mutual_tls_goes_all_the_way_and_nobody_else_gets_in() {
    run(async {
        let authority = pki::authority();
        let identity = |name: &str| pki::identity(&authority, name);
        let mut options = holder_options(1, &program(1));
        options.identity = Some(identity("alpha"));
        let alpha = holder_with(options).await;
        let mut options = coordinator_options(&[]);
        let address = format!("alpha@{}", alpha.address);
        options.holders = vec![address.parse::<HolderAddress>().expect("an address")];
        options.identity = Some(identity("hub"));
        let hub = coordinator_with(options).await;
        let (user, me) = (User::new(1), identity("someone"));
        let mut caller = hub.caller_with(Some((&me, "hub")));
        user.upload(&mut caller).await;
        assert_eq!(user.ask(&mut caller, 4).await, []);
        let answered = caller.predict(&user.query(2)).await.expect("answered");
        assert_eq!(answered.answered[0].holder, "alpha");

        let stranger = pki::identity(&pki::authority(), "someone");
        for other in [Some((&stranger, "hub")), Some((&me, "alpha")), None] {
            let mut caller = hub.caller_with(other);
            assert!(caller.status().await.is_err(), "{other:?}");
        }
        // The same query by somebody else than who brought it.
        let query = user.query(5);
        let (hub_identity, mut direct) = (identity("hub"), alpha.caller_with(Some((&me, "alpha"))));
        direct.predict(&query).await.expect("answered");
        let mut other = alpha.caller_with(Some((&hub_identity, "alpha")));
        assert_eq!(code(other.predict(&query).await), "query.replayed");
        let again = direct.predict(&query).await.expect("the same answer");
        assert_eq!(user.label(&again), 5);
    });
}

#[test]
fn without_certificates_nothing_leaves_this_machine() {
    run(async {
        let mut options = holder_options(1, &program(1));
        options.listen = "0.0.0.0:0".parse().expect("an address");
        let found = try_holder(options).await.err().expect("refused");
        assert!(found.to_string().contains("mutual TLS"), "{found}");
        let mut options = coordinator_options(&["192.0.2.1:7001".parse().expect("an address")]);
        options.contract = Some(contract().bytes().to_vec());
        let found = try_coordinator(options).await.err().expect("refused");
        assert!(found.to_string().contains("mutual TLS"), "{found}");
    });
}

#[test]
fn settings_that_cannot_be_are_named() {
    run(async {
        let holder = holder(1).await;
        let address = holder.address;
        let settings: [fn(&mut scuro_server::ensemble::coordinator::Options); 6] = [
            |options| options.holders.clear(),
            |options| options.holders.push(options.holders[0].clone()),
            |options| options.min_holders = Some(2),
            |options| options.min_holders = Some(0),
            |options| options.deadline = std::time::Duration::ZERO,
            |options| options.deadline = std::time::Duration::from_secs(3600),
        ];
        for (number, set) in settings.iter().enumerate() {
            let mut options = coordinator_options(&[address]);
            set(&mut options);
            let found = try_coordinator(options).await.err().expect("refused");
            assert_eq!(found.code(), "ensemble.setting", "{number}: {found}");
        }
        let mut options = coordinator_options(&[address]);
        options.rule = Some(name("vote"));
        let found = try_coordinator(options).await.err().expect("refused");
        assert_eq!(found.code(), "query.rule", "{found}");
        let mut options = coordinator_options(&[address]);
        options.contract = Some(program(1).to_bytes());
        let found = try_coordinator(options).await.err().expect("refused");
        assert_eq!(found.code(), "ensemble.not-a-face", "{found}");
    });
}

#[test]
fn keys_are_sent_once_and_again_to_a_holder_that_lost_them() {
    run(async {
        let mut holders = three().await;
        let coordinator = coordinator(&addresses(&holders)).await;
        let (user, mut caller) = (User::new(1), coordinator.caller());
        user.upload(&mut caller).await;
        assert_eq!(user.ask(&mut caller, 1).await, []);
        assert_eq!(user.ask(&mut caller, 2).await, []);
        let uploads = r#"scuro_ensemble_key_uploads_total{outcome="ok"} 1"#;
        assert!(holders[0].metrics().await.contains(uploads));

        let first = holders.remove(0);
        let address = first.address;
        first.stop().await;
        let mut options = holder_options(1, &program(1));
        options.listen = address;
        let first = holder_with(options).await;
        // It may have been missed meanwhile.
        eventually("all holders are well", || async {
            let status = coordinator.caller().status().await.expect("status");
            let well =
                |holder: &scuro_wire::ensemble::HolderStatus| holder.state == HolderState::Well;
            status.holders.iter().all(well)
        })
        .await;
        assert_eq!(user.ask(&mut caller, 3).await, []);
        assert!(first.metrics().await.contains(uploads));
    });
}

#[test]
fn eight_users_at_the_same_time_get_their_own_answers() {
    run(async {
        let holders = three().await;
        let coordinator = Arc::new(coordinator(&addresses(&holders)).await);
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..8 {
            let coordinator = Arc::clone(&coordinator);
            tasks.spawn(async move {
                let user = tokio::task::spawn_blocking(move || User::new(number)).await;
                let (user, mut caller) = (user.expect("made"), coordinator.caller());
                user.upload(&mut caller).await;
                for round in 0..3 {
                    let bright = (number as usize + round) % CLASSES;
                    assert_eq!(user.ask(&mut caller, bright).await, []);
                }
                Digest::of(&user.keys)
            });
        }
        let keys: BTreeSet<Digest> = tasks.join_all().await.into_iter().collect();
        assert_eq!(keys.len(), 8);
    });
}
