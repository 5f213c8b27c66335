//! Holders that answer late, too much, nonsense or not at all: they are left out and named, the
//! others answer.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use scuro_client::{Bundle, BundleKind};
use scuro_fhe::AnyCiphertext;
use scuro_fhe::ckks::{Ciphertext, Evaluator};
use scuro_program::Program;
use scuro_program::face::CLASSES_NOTE;
use scuro_wire::WireError;
use scuro_wire::ensemble::HolderState;
use scuro_wire::predict::PredictReply;

use crate::support::fake::{break_off, fake, late, respond};
use crate::support::{
    NAMES, Running, User, addresses, compiled, contract, coordinator, coordinator_options,
    coordinator_with, holder, holder_options, holder_with, program, run, three,
};

/// The answer with another bundle.
fn with(mut reply: PredictReply, change: impl FnOnce(&mut Bundle)) -> Response {
    let mut bundle = Bundle::from_bytes(&reply.bundle).expect("a bundle");
    change(&mut bundle);
    reply.bundle = bundle.to_bytes().into();
    respond(&reply)
}

/// The answer with another ciphertext.
fn with_ciphertext(
    reply: PredictReply,
    change: impl FnOnce(&Evaluator, Ciphertext) -> Ciphertext,
) -> Response {
    let model = contract().model();
    let context = model.context();
    with(reply, |bundle| {
        let read = AnyCiphertext::from_bytes(&bundle.ciphertexts[0], model.scheme());
        let AnyCiphertext::Approximate(ciphertext) = read.expect("a ciphertext") else {
            panic!("the test's programs are approximate");
        };
        let changed = change(&Evaluator::new(context), ciphertext);
        bundle.ciphertexts[0] = changed.to_bytes(context);
    })
}

type Case = (&'static str, fn(PredictReply) -> Response);

/// What holders may do, and what they are told to have done.
const CASES: [Case; 12] = [
    ("holder.garbage", |_| "nonsense".into_response()),
    ("holder.garbage", |reply| {
        let mut reply = reply;
        reply.id.0[0] ^= 1;
        respond(&reply)
    }),
    ("holder.garbage", |reply| {
        with(reply, |bundle| bundle.kind = BundleKind::Query)
    }),
    ("holder.garbage", |reply| {
        with(reply, |bundle| bundle.ciphertexts[0][200] ^= 1)
    }),
    ("holder.too-large", |reply| {
        let mut reply = reply;
        let bytes = 2 * reply.bundle.len() + (1 << 17);
        reply.bundle = vec![7; bytes].into();
        respond(&reply)
    }),
    ("holder.connection", |_| break_off()),
    ("holder.other-ensemble", |reply| {
        with(reply, |bundle| bundle.program[0] ^= 1)
    }),
    ("holder.count", |reply| {
        with(reply, |bundle| bundle.images = 2)
    }),
    ("holder.count", |reply| {
        with(reply, |bundle| bundle.group = 1 << 10)
    }),
    ("holder.scale", |reply| {
        with_ciphertext(reply, |_, mut ciphertext| {
            let scale = ciphertext.scale() * 1.5;
            ciphertext.set_scale(scale).expect("a scale");
            ciphertext
        })
    }),
    ("holder.transparent", |reply| {
        with_ciphertext(reply, |evaluator, ciphertext| {
            evaluator.sub(&ciphertext, &ciphertext).expect("nothing")
        })
    }),
    ("holder.refused", |_| {
        (axum::http::StatusCode::IM_A_TEAPOT, "no").into_response()
    }),
];

#[test]
fn a_holder_that_answers_badly_is_left_out_by_name_and_the_others_answer() {
    let user = User::new(1);
    run(async {
        let real = three().await;
        for (number, (expected, twist)) in CASES.into_iter().enumerate() {
            // A count that does not divide the ciphertexts cannot be read at all.
            let expected = if number == 8 {
                "holder.garbage"
            } else {
                expected
            };
            let twisted = fake(real[0].address, twist).await;
            let all = [real[1].address, twisted, real[2].address];
            let coordinator = coordinator(&all).await;
            let mut caller = coordinator.caller();
            user.upload(&mut caller).await;
            let left_out = user.ask(&mut caller, 3).await;
            let found = vec![(twisted.to_string(), expected.to_string())];
            assert_eq!(left_out, found, "{number}");
            coordinator.stop().await;
        }
    });
}

#[test]
fn a_reply_under_another_key_is_left_out() {
    let (user, other) = (User::new(1), User::new(2));
    run(async {
        let real = three().await;
        let mut direct = real[0].caller();
        other.upload(&mut direct).await;
        let stolen = direct.predict(&other.query(1)).await.expect("answered");
        let twisted = fake(real[0].address, move |mut reply| {
            reply.bundle = stolen.bundle.clone();
            respond(&reply)
        });
        let twisted = twisted.await;
        let coordinator = coordinator(&[twisted, real[1].address, real[2].address]).await;
        let mut caller = coordinator.caller();
        user.upload(&mut caller).await;
        let left_out = user.ask(&mut caller, 3).await;
        let expected = (twisted.to_string(), "holder.other-key".to_string());
        assert_eq!(left_out, [expected]);
    });
}

/// A holder that never answers.
async fn silent() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok(connection) = listener.accept().await {
            held.push(connection);
        }
    });
    address
}

#[test]
fn a_holder_that_is_too_late_is_left_out_at_the_deadline() {
    let user = User::new(1);
    run(async {
        let real = three().await;
        let late = late(real[0].address, Duration::from_secs(60)).await;
        let mut options = coordinator_options(&[late, real[1].address, real[2].address]);
        options.deadline = Duration::from_secs(5);
        let coordinator = coordinator_with(options).await;
        let mut caller = coordinator.caller();
        user.upload(&mut caller).await;
        let left_out = user.ask(&mut caller, 3).await;
        let expected = (late.to_string(), "holder.timeout".to_string());
        assert_eq!(left_out, [expected]);
    });
}

#[test]
fn below_the_quorum_the_user_is_told_who_is_missing_and_why() {
    let user = User::new(1);
    run(async {
        let mut holders = three().await;
        let all = addresses(&holders);
        let coordinator = coordinator(&all).await;
        let mut caller = coordinator.caller();
        user.upload(&mut caller).await;
        assert_eq!(user.ask(&mut caller, 1).await, []);
        for _ in 0..2 {
            holders.pop().expect("a holder").stop().await;
        }
        let refused = caller.predict(&user.query(2)).await.expect_err("refused");
        let WireError::Refused { status, problem } = refused else {
            panic!("{refused}");
        };
        assert_eq!((status, problem.code.as_str()), (503, "ensemble.quorum"));
        assert!(problem.message.starts_with("1 of 2 needed"), "{problem}");
        for missing in &all[1..] {
            assert!(problem.message.contains(&missing.to_string()), "{problem}");
        }
        assert!(problem.message.contains("holder.connection"), "{problem}");
    });
}

/// A program of the ensemble that names its classes otherwise.
fn with_classes(seed: u64, names: &str) -> Program {
    let mut program = program(seed);
    program.notes.retain(|(key, _)| key != CLASSES_NOTE);
    program.notes.push((CLASSES_NOTE.into(), names.into()));
    program
}

#[test]
fn a_holder_that_does_not_fit_is_left_out_with_what_differs() {
    let user = User::new(1);
    run(async {
        let mut fitting = three().await;
        let classes = with_classes(4, &NAMES.replace("a\nb", "b\na"));
        let parameters = compiled(5, 192, None);
        for program in [classes, parameters] {
            fitting.push(holder_with(holder_options(9, &program)).await);
        }
        let all = addresses(&fitting);
        let coordinator = coordinator(&all).await;
        let mut caller = coordinator.caller();
        user.upload(&mut caller).await;
        let left_out = user.ask(&mut caller, 3).await;
        let expected = [
            (all[3].to_string(), "holder.other-classes".to_string()),
            (all[4].to_string(), "holder.other-parameters".to_string()),
        ];
        assert_eq!(left_out, expected);
        let status = caller.status().await.expect("status");
        let states: Vec<HolderState> = status.holders.iter().map(|h| h.state).collect();
        assert_eq!(
            states[2..],
            [HolderState::Well, HolderState::Misfit, HolderState::Misfit]
        );
    });
}

#[test]
fn a_holder_that_comes_back_with_another_network_form_is_noticed() {
    let user = User::new(1);
    run(async {
        let mut holders = three().await;
        let all = addresses(&holders);
        let coordinator = coordinator(&all).await;
        let mut caller = coordinator.caller();
        user.upload(&mut caller).await;
        assert_eq!(user.ask(&mut caller, 1).await, []);
        holders.pop().expect("a holder").stop().await;
        let mut options = holder_options(3, &with_classes(3, "zero\none"));
        options.listen = all[2];
        let changed: Running = holder_with(options).await;
        crate::support::eventually("the change is noticed", || async {
            let mut caller = coordinator.caller();
            user.ask(&mut caller, 2).await;
            let status = caller.status().await.expect("status");
            status.holders[2].state == HolderState::Misfit
        })
        .await;
        // And its return as it was.
        changed.stop().await;
        let mut options = holder_options(3, &program(3));
        options.listen = all[2];
        let _back = holder_with(options).await;
        crate::support::eventually("the return is noticed", || async {
            let mut caller = coordinator.caller();
            user.ask(&mut caller, 2).await.is_empty()
        })
        .await;
    });
}

#[test]
fn a_holder_that_is_silent_from_the_start_costs_no_answer() {
    let user = User::new(1);
    run(async {
        let (one, two) = (holder(1).await, holder(2).await);
        let silent = silent().await;
        let mut options = coordinator_options(&[one.address, silent, two.address]);
        options.contract = Some(contract().bytes().to_vec());
        let coordinator = coordinator_with(options).await;
        let mut caller = coordinator.caller();
        user.upload(&mut caller).await;
        let left_out = user.ask(&mut caller, 3).await;
        assert_eq!(
            left_out,
            [(silent.to_string(), "holder.unknown".to_string())]
        );
    });
}
