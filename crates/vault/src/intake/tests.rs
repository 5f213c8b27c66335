//! What happens to a query while its answer is being decrypted.

use scuro_wire::inference::Timings;

use super::*;
use crate::seal::KeySource;

const NOW: u64 = 1_800_000_000;
const QUERY: QueryId = QueryId([1; 16]);
const DIGEST: Digest = Digest([2; 32]);
const FIRST: Digest = Digest([3; 32]);
const SECOND: Digest = Digest([4; 32]);
const REPLY: Digest = Digest([5; 32]);

fn camera() -> Name {
    Name::new("cam-7").expect("a name")
}

/// A vault in which the camera's query is open for the first deployment.
fn vault() -> (tempfile::TempDir, Vault) {
    let folder = tempfile::tempdir().expect("folder");
    let key = KeySource::File(Vault::default_key_file(folder.path()));
    let vault = Vault::init(folder.path(), &key, NOW).expect("a vault");
    register(&vault, FIRST);
    (folder, vault)
}

fn register(vault: &Vault, deployment: Digest) {
    let query = QueryRegistration {
        query_id: QUERY,
        deployment,
        query_digest: DIGEST,
    };
    let done = vault
        .database
        .write(|db| register_one(db, &camera(), &query, Ok(()), &mut 1, NOW));
    done.expect("registered");
}

/// Stores an answer under the first deployment.
fn settle_first(vault: &Vault) -> InferenceAck {
    let inference = Inference {
        query_id: QUERY,
        deployment: FIRST,
        query_digest: DIGEST,
        image: 0,
        timings: Timings::default(),
        reply: Vec::new(),
    };
    let result = InferenceResult {
        seq: 0,
        query_id: QUERY,
        query_digest: DIGEST,
        deployment: FIRST,
        model: Name::new("digits").expect("a name"),
        version: 1,
        device: camera(),
        answers: Vec::new(),
        timings: Timings::default(),
        received_ms: NOW,
        decrypt_us: 0,
    };
    let verdict = Verdict::Decrypted(Box::new(result), REPLY);
    let settled = vault
        .database
        .write(|db| settle(db, &camera(), &inference, &verdict));
    settled.expect("settled")
}

#[test]
fn a_query_that_moves_while_it_is_decrypted_is_not_answered_for_the_other_deployment() {
    let (_folder, vault) = vault();
    register(&vault, SECOND);
    let moved = settle_first(&vault);
    assert_eq!(moved.outcome, Outcome::Refused);
    assert_eq!(moved.code.as_deref(), Some(OTHER_DEPLOYMENT));
    // The same reply is as good as new once its query is back.
    register(&vault, FIRST);
    assert_eq!(settle_first(&vault).outcome, Outcome::Accepted);
    assert_eq!(settle_first(&vault).outcome, Outcome::Duplicate);
}

#[test]
fn a_query_that_is_withdrawn_while_it_is_decrypted_gets_no_answer() {
    let (_folder, vault) = vault();
    let vault = Arc::new(vault);
    let intake = Intake::new(Arc::clone(&vault), Arc::default());
    let queries = vec![QUERY];
    let reply = intake.withdraw(&camera(), &WithdrawalBatch { queries });
    assert_eq!(reply.expect("withdrawn").withdrawn, 1);
    let gone = settle_first(&vault);
    assert_eq!(gone.code.as_deref(), Some(NOT_REGISTERED));
    assert_eq!(vault.last_result().expect("read"), 0);
}
