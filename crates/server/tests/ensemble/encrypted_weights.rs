//! A holder whose machine cannot read its weights: they are encrypted for one user.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use scuro_client::{Model, protect_for_user};
use scuro_compiler::Options as CompilerOptions;
use scuro_fhe::keys::EvaluationKeys;
use scuro_program::{Program, Weights};
use scuro_server::ensemble::contract::Contract;
use scuro_server::ensemble::holder::Options;

use crate::support::{
    User, code, compiled, compiled_with, coordinator_options, coordinator_with, holder_options,
    holder_with, run, try_holder,
};

/// A program whose weights are to be encrypted.
fn private(seed: u64, face: Option<&Program>) -> Program {
    let options = CompilerOptions {
        weights: Weights::Private,
        ..CompilerOptions::default()
    };
    compiled_with(seed, options, face)
}

/// What a holder gets of a private program: without weights, and those for a user.
fn protected(program: &Program, user: &User) -> (Model, Vec<u8>) {
    let model = user.client.model();
    let keys = EvaluationKeys::from_bytes(&user.keys, model.context()).expect("keys");
    let public = keys.public_key().expect("a public key");
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let (model, weights) = protect_for_user(program, public, &mut rng).expect("protected");
    (model, weights.to_bytes())
}

fn options(number: u64, model: &Model, weights: Option<Vec<u8>>) -> Options {
    Options {
        weights,
        ..holder_options(number, model.program())
    }
}

#[test]
fn encrypted_weights_answer_the_user_that_they_are_encrypted_for() {
    let contract = Contract::of(&private(0, None)).expect("a contract");
    let face = contract.model();
    let (user, other) = (User::of(face, 1), User::of(face, 2));
    let (model, weights) = protected(&private(1, Some(face.program())), &user);
    let plain = compiled(2, 128, Some(face.program()));
    run(async {
        let closed = holder_with(options(1, &model, Some(weights))).await;
        let open = holder_with(holder_options(2, &plain)).await;
        let mut options = coordinator_options(&[closed.address, open.address]);
        options.min_holders = Some(1);
        let coordinator = coordinator_with(options).await;
        for service in [&closed, &coordinator] {
            let mut caller = service.caller();
            user.upload(&mut caller).await;
            for bright in 0..3 {
                assert_eq!(user.ask(&mut caller, bright).await, []);
            }
        }
        let mut caller = closed.caller();
        let digest = contract.digest();
        let sent = caller.put_keys(other.keys.clone(), &digest, &other.sign);
        assert_eq!(code(sent.await), "keys.other-weights");
        // Of the others' answer one is left out, and named.
        let mut caller = coordinator.caller();
        other.upload(&mut caller).await;
        let left_out = other.ask(&mut caller, 4).await;
        let name = closed.address.to_string();
        assert_eq!(left_out, [(name, "holder.refused".to_string())]);
    });
}

#[test]
fn weights_that_do_not_fit_their_program_are_refused_before_anybody_asks() {
    let contract = Contract::of(&private(0, None)).expect("a contract");
    let face = contract.model();
    let (user, other) = (User::of(face, 1), User::of(face, 2));
    let program = private(1, Some(face.program()));
    let (model, weights) = protected(&program, &user);
    let (_, for_another) = protected(&program, &other);
    let cut = weights[..weights.len() - 9].to_vec();
    run(async {
        for (what, weights) in [
            ("none", None),
            ("cut off", Some(cut)),
            ("no weights", Some(b"weights".to_vec())),
            ("for two users", Some(mixed(&weights, &for_another))),
        ] {
            let started = try_holder(options(1, &model, weights)).await;
            assert!(started.is_err(), "{what}");
        }
    });
}

/// The weights of one bundle, the last for another user.
fn mixed(one: &[u8], other: &[u8]) -> Vec<u8> {
    let read = |bytes| scuro_client::Bundle::from_bytes(bytes).expect("a bundle");
    let (mut one, mut other) = (read(one), read(other));
    let last = one.ciphertexts.len() - 1;
    one.ciphertexts[last] = other.ciphertexts.remove(last);
    one.to_bytes()
}
