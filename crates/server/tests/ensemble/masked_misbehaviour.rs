//! Coordinators that cheat, and holders that do: nothing is released that a sum does not hide, and
//! who is in the way is named.

use axum::body::Bytes;
use axum::http::{Method, StatusCode};
use axum::response::IntoResponse;
use scuro_wire::mask::{Member, Offer, Release};
use scuro_wire::predict::PredictReply;
use scuro_wire::{MaskKey, WireError, limits, paths};

use crate::support::fake::{Masquerade, break_off, masquerade, respond};
use crate::support::masked::{Group, holder_name, offer, offers, release, release_bytes};
use crate::support::{User, addresses, code, coordinator_with, eventually, name, run};

type Change<'a> = &'a dyn Fn(&mut Release);

#[test]
fn a_holder_releases_for_no_sum_that_is_not_what_the_roster_says() {
    let user = User::new(1);
    let (group, strangers) = (Group::new(&[1, 2, 3, 4]), Group::new(&[1, 2, 3, 4]));
    run(async {
        let holders = group.holders(Some(3)).await;
        let query = user.query(4);
        let offers = offers(&holders, &user, &query).await;
        let another = user.query(4);
        let later = offer(&mut holders[3].caller(), &another)
            .await
            .expect("offered");
        let mine = vec![MaskKey([9; 32]); 3];
        let subject = group.subject(&query);
        let forged = Offer::sign(&subject, holder_name(3), 3, mine.clone(), &strangers.key(3));
        let cases: [(&str, Change<'_>); 14] = [
            ("release.too-few", &|r| r.members.truncate(2)),
            ("release.too-few", &|r| r.members.clear()),
            ("release.absent", &|r| drop(r.members.remove(0))),
            ("release.order", &|r| r.members.reverse()),
            ("release.order", &|r| r.members[3] = r.members[2].clone()),
            ("release.unknown-holder", &|r| {
                r.members[3].holder = name("omega")
            }),
            ("release.signature", &|r| r.members[3].signature.0[9] ^= 1),
            // Keys of the coordinator in the place of a holder's.
            ("release.signature", &|r| r.members[3].keys = mine.clone()),
            ("release.signature", &|r| {
                r.members[3] = Member::of(&forged, 4)
            }),
            // Keys that were offered for another query.
            ("release.signature", &|r| {
                r.members[3] = Member::of(&later, 4)
            }),
            ("release.signature", &|r| r.members[0].keys.swap(0, 1)),
            ("release.keys", &|r| r.members[3].keys.clear()),
            ("release.weight", &|r| r.members[3].weight = 5),
            ("release.weight", &|r| r.members[0].weight = 0),
        ];
        let good = group.release(&query, &offers);
        let mut caller = holders[0].caller();
        for (number, (expected, change)) in cases.iter().enumerate() {
            let mut told = good.clone();
            change(&mut told);
            let found = code(release(&mut caller, &told).await);
            assert_eq!(found, *expected, "{number}");
        }
        for (what, change) in [
            (
                "nonce",
                (&|r: &mut Release| r.nonce.0[0] ^= 1) as Change<'_>,
            ),
            ("user", &|r| r.user.0[0] ^= 1),
            ("query", &|r| r.query.0[0] ^= 1),
        ] {
            let mut told = good.clone();
            change(&mut told);
            let found = code(release(&mut caller, &told).await);
            assert_eq!(found, "release.unknown", "{what}");
        }
        // None of this made it let go of what it holds.
        assert!(release(&mut caller, &good).await.is_ok());
    });
}

#[test]
fn a_prediction_is_released_once_and_the_same_request_gets_the_same_bytes() {
    let user = User::new(1);
    let group = Group::new(&[1, 1, 1]);
    run(async {
        let holders = group.holders(Some(2)).await;
        let query = user.query(4);
        let offers = offers(&holders, &user, &query).await;
        let mut caller = holders[0].caller();
        let again = offer(&mut caller, &query).await.expect("offered");
        assert_eq!(again, offers[0]);
        let (whole, pair) = (
            group.release(&query, &offers),
            group.release(&query, &offers[..2]),
        );
        let first = release_bytes(&mut caller, whole.to_bytes())
            .await
            .expect("released");
        let second = release_bytes(&mut caller, whole.to_bytes())
            .await
            .expect("released");
        assert_eq!(first, second);
        assert_eq!(code(release(&mut caller, &pair).await), "release.repeated");
        // Nor is anything computed or offered anew for the query after that.
        let again = offer(&mut caller, &query).await.expect("offered");
        assert_eq!(again, offers[0]);
        assert_eq!(code(release(&mut caller, &pair).await), "release.repeated");
        let metrics = holders[0].metrics().await;
        let line = r#"scuro_ensemble_releases_total{outcome="release.repeated"} 2"#;
        assert!(metrics.contains(line), "{metrics}");
    });
}

#[test]
fn garbage_in_the_place_of_messages_is_refused() {
    let user = User::new(1);
    let group = Group::new(&[1, 1]);
    run(async {
        let holders = group.holders(None).await;
        let mut caller = holders[0].caller();
        assert_eq!(
            code(offer(&mut caller, &user.query(1)).await),
            "keys.unknown"
        );
        user.upload(&mut caller).await;
        let bodies: [(&str, Vec<u8>); 4] = [
            ("wire.malformed", Vec::new()),
            ("wire.malformed", b"{}".to_vec()),
            ("wire.malformed", vec![0xff; 1000]),
            ("wire.too-large", vec![b' '; limits::RELEASE_BYTES + 1]),
        ];
        for (expected, body) in bodies {
            let sent = release_bytes(&mut caller, body.into()).await;
            assert_eq!(code(sent), expected);
        }
        let sent = caller.send(Method::POST, paths::OFFER, &[], Bytes::from_static(b"x"));
        assert_eq!(code(sent.await), "wire.malformed");
        let mut query = user.query(1);
        query.question.time_ms += 1;
        assert_eq!(code(offer(&mut caller, &query).await), "user.signature");
    });
}

/// What a holder may offer, and what it is told to have done.
fn bad_offers() -> [(&'static str, Masquerade); 5] {
    let offering = |change: fn(&mut Offer)| {
        Masquerade::default().offering(move |mut offer| {
            change(&mut offer);
            offer.to_bytes().into_response()
        })
    };
    [
        ("holder.signature", offering(|offer| offer.keys.swap(0, 1))),
        (
            "holder.other-roster",
            offering(|offer| offer.roster.0[0] ^= 1),
        ),
        (
            "holder.other-name",
            offering(|offer| offer.holder = name("omega")),
        ),
        ("holder.garbage", offering(|offer| offer.keys.truncate(1))),
        (
            "holder.garbage",
            Masquerade::default().offering(|_| "nonsense".into_response()),
        ),
    ]
}

#[test]
fn a_holder_that_offers_badly_is_left_out_by_name_and_the_others_answer() {
    let user = User::new(1);
    let group = Group::new(&[1, 1, 1]);
    run(async {
        let real = group.holders(Some(2)).await;
        for (expected, twist) in bad_offers() {
            let twisted = masquerade(real[1].address, twist).await;
            let all = [real[0].address, twisted, real[2].address];
            let hub = coordinator_with(group.coordinator(&all)).await;
            let mut caller = hub.caller();
            user.upload(&mut caller).await;
            let left_out = user.ask(&mut caller, 3).await;
            assert_eq!(left_out, [("holder-2".to_string(), expected.to_string())]);
            hub.stop().await;
        }
        // A holder in the place of another.
        let all = [real[0].address, real[2].address, real[1].address];
        let hub = coordinator_with(group.coordinator(&all)).await;
        let mut caller = hub.caller();
        user.upload(&mut caller).await;
        let refused = code(caller.predict(&user.query(1)).await);
        assert_eq!(refused, "ensemble.quorum");
    });
}

#[test]
fn a_holder_that_drops_out_between_the_rounds_is_named_and_a_new_query_does_without_it() {
    let user = User::new(1);
    let group = Group::new(&[1, 1, 1]);
    let garbage = |mut reply: PredictReply| {
        reply.id.0[0] ^= 1;
        respond(&reply)
    };
    let cases = [
        (
            "holder.connection",
            Masquerade::default().releasing(|_| break_off()),
        ),
        ("holder.garbage", Masquerade::default().releasing(garbage)),
        (
            "holder.refused",
            Masquerade::default().releasing(|_| (StatusCode::IM_A_TEAPOT, "no").into_response()),
        ),
    ];
    run(async {
        let real = group.holders(Some(2)).await;
        for (expected, twist) in cases {
            let twisted = masquerade(real[1].address, twist).await;
            let all = [real[0].address, twisted, real[2].address];
            let hub = coordinator_with(group.coordinator(&all)).await;
            let mut caller = hub.caller();
            user.upload(&mut caller).await;
            let refused = caller.predict(&user.query(2)).await.expect_err("refused");
            let WireError::Refused { status, problem } = refused else {
                panic!("{refused}");
            };
            assert_eq!((status, problem.code.as_str()), (503, "ensemble.masks"));
            assert!(problem.message.contains("holder-2"), "{problem}");
            assert!(problem.message.contains(expected), "{problem}");
            // It is looked at again soon, and is not well for longer every time.
            let reply = loop {
                match caller.predict(&user.query(3)).await {
                    Err(refused) => assert_eq!(code::<()>(Err(refused)), "ensemble.masks"),
                    Ok(reply) => break reply,
                }
            };
            assert_eq!(user.label(&reply), 3);
            let [left] = &reply.left_out[..] else {
                panic!("{reply:?}");
            };
            assert_eq!((&*left.holder, &*left.code), ("holder-2", expected));
            hub.stop().await;
        }
    });
}

#[test]
fn a_holder_that_is_gone_in_the_first_round_is_left_out() {
    let user = User::new(1);
    let group = Group::new(&[1, 1, 1]);
    run(async {
        let mut holders = group.holders(Some(2)).await;
        let all = addresses(&holders);
        let hub = coordinator_with(group.coordinator(&all)).await;
        let mut caller = hub.caller();
        user.upload(&mut caller).await;
        assert_eq!(user.ask(&mut caller, 1).await, []);
        holders.remove(1).stop().await;
        let left_out = user.ask(&mut caller, 2).await;
        assert_eq!(
            left_out,
            [("holder-2".to_string(), "holder.connection".to_string())]
        );
        let mut options = group.options(1, Some(2));
        options.listen = all[1];
        let _back = crate::support::holder_with(options).await;
        eventually("its return is noticed", || async {
            let mut caller = hub.caller();
            user.ask(&mut caller, 3).await.is_empty()
        })
        .await;
    });
}
