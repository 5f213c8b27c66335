//! The majority: every single prediction goes to the user, where a coordinator offers that.

use scuro_client::{Bundle, Client};
use scuro_server::ensemble::combine;
use scuro_wire::predict::{PredictReply, Question};

use crate::support::masked::Group;
use crate::support::{
    Running, User, addresses, code, contract, coordinator, coordinator_options, coordinator_with,
    name, run, three, try_coordinator,
};

/// A query for the majority.
async fn ask(coordinator: &Running, user: &User, bright: usize) -> PredictReply {
    let question = Question {
        rule: Some(name("majority")),
        ..user.question()
    };
    let query = user.sign(question, &user.encrypt(bright));
    let reply = coordinator.caller().predict(&query).await;
    reply.expect("answered")
}

/// What the user reads votes by.
fn voting(user: &User) -> Client {
    let model = combine::vote_model(contract().model().program());
    let client = user.client.with_model(&model.expect("a model"));
    client.expect("a client")
}

async fn revealing(holders: &[Running]) -> Running {
    let mut options = coordinator_options(&addresses(holders));
    options.reveal_votes = true;
    coordinator_with(options).await
}

#[test]
fn the_user_decrypts_every_vote_and_counts() {
    let user = User::new(1);
    run(async {
        let mut holders = three().await;
        let hub = revealing(&holders).await;
        user.upload(&mut hub.caller()).await;
        let status = hub.caller().status().await.expect("status");
        assert_eq!(status.rules, [name("mean"), name("majority")]);
        assert_eq!(status.reveals, [name("majority")]);
        for left in [3, 2] {
            let reply = ask(&hub, &user, 7).await;
            assert_eq!(
                (reply.rule.as_ref(), reply.answered.len()),
                (Some(&name("majority")), left)
            );
            let bundle = Bundle::from_bytes(&reply.bundle).expect("a bundle");
            let votes = voting(&user).decrypt(&bundle).expect("decrypted");
            assert!(votes.iter().all(|vote| vote.label == 7 && !vote.overflowed));
            let whole = combine::majority(&bundle, &votes, left).expect("counted");
            assert_eq!((whole.label, whole.confidence), (7, 1.0));
            holders.pop().expect("a holder").stop().await;
        }
    });
}

#[test]
fn votes_stay_where_they_are_unless_a_coordinator_offers_them_and_never_with_masks() {
    let user = User::new(1);
    let group = Group::new(&[1, 1, 1]);
    run(async {
        let holders = three().await;
        let hub = coordinator(&addresses(&holders)).await;
        let mut caller = hub.caller();
        user.upload(&mut caller).await;
        let status = caller.status().await.expect("status");
        assert_eq!((status.rules, status.reveals), (vec![name("mean")], vec![]));
        let question = Question {
            rule: Some(name("majority")),
            ..user.question()
        };
        let query = user.sign(question, &user.encrypt(1));
        assert_eq!(code(caller.predict(&query).await), "query.rule");
        let mut options = group.coordinator(&addresses(&holders));
        options.reveal_votes = true;
        let found = try_coordinator(options).await.err().expect("refused");
        assert_eq!(found.code(), "ensemble.setting", "{found}");
        assert!(found.to_string().contains("--reveal-votes"), "{found}");
    });
}

type Change = fn(&mut Bundle);

#[test]
fn votes_that_are_not_one_of_each_holder_are_refused() {
    let (user, other) = (User::new(1), User::new(2));
    run(async {
        let holders = three().await;
        let hub = revealing(&holders).await;
        user.upload(&mut hub.caller()).await;
        let reply = ask(&hub, &user, 4).await;
        let good = Bundle::from_bytes(&reply.bundle).expect("a bundle");
        let changes: [(usize, Change); 3] = [
            (3, |bundle| {
                bundle.ciphertexts.pop();
                bundle.images -= 1;
            }),
            (3, |bundle| {
                bundle.ciphertexts[2] = bundle.ciphertexts[0].clone()
            }),
            (2, |_| {}),
        ];
        for (number, (holders, change)) in changes.into_iter().enumerate() {
            let mut bundle = good.clone();
            change(&mut bundle);
            let votes = voting(&user).decrypt(&bundle).expect("decrypted");
            let found = combine::majority(&bundle, &votes, holders).expect_err("refused");
            assert_eq!(found.code(), "ensemble.votes", "{number}: {found}");
        }
        // Under another key nothing is decrypted at all.
        assert!(voting(&other).decrypt(&good).is_err());
        let mut mixed = good;
        other.upload(&mut hub.caller()).await;
        let foreign = ask(&hub, &other, 4).await;
        let foreign = Bundle::from_bytes(&foreign.bundle).expect("a bundle");
        mixed.ciphertexts[1] = foreign.ciphertexts[1].clone();
        assert!(voting(&user).decrypt(&mixed).is_err());
    });
}
