//! A holder: one network that is computed on ciphertexts of users it does not know.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use scuro_client::{Bundle, Model};
use scuro_fhe::KeyId;
use scuro_program::Program;
use scuro_runtime::encrypted::Prepared;
use scuro_wire::ensemble::{EnsembleStatus, Role};
use scuro_wire::mask::{Offer, Release};
use scuro_wire::predict::{Answered, PredictReply, Timings};
use scuro_wire::tls::Identity;
use scuro_wire::{Digest, Name};
use tokio::sync::{OwnedMutexGuard, Semaphore};

use super::contract::Contract;
use super::counters::{REPEATED, STAGE};
use super::desk::{self, Admitted, Desk, Service};
use super::fault::Fault;
use super::ledger::{Kept, Place, Repeats};
use super::listen::Door;
pub use super::masks::Masks;
use super::masks::{Masking, Prediction};
use crate::clock;
use crate::error::Error;

/// Queries that may wait, besides those that are being computed.
pub const QUEUE: usize = 16;

/// How a holder is run.
#[derive(Debug)]
pub struct Options {
    /// Its name.
    pub name: Name,
    /// Bytes of its program.
    pub program: Vec<u8>,
    /// Bytes of its encrypted weights, if the program withholds them.
    pub weights: Option<Vec<u8>>,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Certificates; without any, only loopback is listened on.
    pub identity: Option<Identity>,
    /// With whom it masks; without, its predictions go to the coordinator as they are.
    pub masks: Option<Masks>,
    /// Queries that are computed at the same time.
    pub workers: usize,
    /// Threads for each.
    pub threads: usize,
}

#[derive(Debug, Clone)]
struct Holder {
    desk: Arc<Desk>,
    prepared: Arc<Prepared>,
    masking: Option<Arc<Masking>>,
    workers: Arc<Semaphore>,
    threads: usize,
}

/// Serves until `stop` is ready, then finishes what is under way. `started` is told the address.
///
/// # Errors
/// [`Error::Model`], [`Error::Runtime`] for a program that cannot run, [`Error::Wire`] for
/// certificates, or an address that needs some; [`Fault::Setting`], also for masks with a name, a
/// key or a minimum that the roster does not have.
pub async fn serve(
    options: Options,
    started: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let door = Door::open(options.listen, options.identity.as_ref()).await?;
    let address = door.address();
    let opened = tokio::task::spawn_blocking(|| Holder::open(options)).await;
    let holder = opened.map_err(|_| Error::Panicked)??;
    let desk = Arc::clone(&holder.desk);
    let (name, face) = (&desk.name, desk.contract.digest().short());
    tracing::info!(%name, %address, face, "holder listens");
    started(address);
    let metrics = Arc::clone(&desk.metrics);
    door.serve(desk::router(holder), metrics, stop).await;
    tracing::info!(name = %desk.name, "holder stopped");
    Ok(())
}

impl Holder {
    fn open(options: Options) -> Result<Self, Error> {
        let masking = options
            .masks
            .map(|masks| Masking::new(options.name.clone(), masks));
        let masking = masking.transpose()?;
        let program = Program::from_bytes(&options.program);
        let program = program.map_err(scuro_client::Error::from)?;
        let contract = Contract::of(&program)?;
        let (prepared, weights_key) = prepare(program, options.weights.as_deref())?;
        let workers = options.workers.max(1);
        let desk = Desk::new(options.name, contract, workers + QUEUE, Repeats::Answered);
        let desk = desk.with_weights_key(weights_key);
        Ok(Self {
            desk: Arc::new(desk),
            prepared: Arc::new(prepared),
            masking: masking.map(Arc::new),
            workers: Arc::new(Semaphore::new(workers)),
            threads: options.threads.max(1),
        })
    }

    /// Where the answer of a query is, or goes. Whoever hangs up ends the wait.
    async fn enter(
        &self,
        admitted: &Admitted,
        caller: Option<Name>,
    ) -> Result<OwnedMutexGuard<Option<Kept>>, Fault> {
        let request = Digest::of(&admitted.body);
        let question = &admitted.query.question;
        let ledger = &self.desk.ledger;
        let place: Place = ledger.enter(question, request, caller, clock::now_ms())?;
        let place = place.lock_owned().await;
        if place.is_some() {
            self.desk.metrics.add(REPEATED, &[], 1);
        }
        Ok(place)
    }

    /// Computes for a query when a worker has time for it; `keep` makes of the prediction what is
    /// remembered, and what is answered.
    ///
    /// A caller that hangs up ends this future: what it waits for here is then not computed. Once a
    /// worker has it, it is finished and remembered, for a caller that comes back.
    async fn compute<T, K>(
        &self,
        admitted: Admitted,
        mut place: OwnedMutexGuard<Option<Kept>>,
        queued: Instant,
        keep: K,
    ) -> Result<T, Fault>
    where
        T: Send + 'static,
        K: FnOnce(&Self, &Admitted, Prediction) -> Result<(Kept, T), Fault> + Send + 'static,
    {
        let worker = Arc::clone(&self.workers).acquire_owned().await;
        let worker = worker.map_err(|_| Fault::Panicked)?;
        let holder = self.clone();
        desk::blocking(move || {
            let prediction = holder.evaluate(&admitted, queued)?;
            let (kept, answer) = keep(&holder, &admitted, prediction)?;
            *place = Some(kept);
            drop(worker);
            Ok(answer)
        })
        .await
    }

    fn evaluate(&self, admitted: &Admitted, queued: Instant) -> Result<Prediction, Fault> {
        let queue = queued.elapsed();
        let start = Instant::now();
        let keys = admitted.keys.keys();
        let query = &admitted.ciphertexts;
        let ciphertexts = self
            .prepared
            .evaluate(keys, query, self.threads, &mut |_| {})?;
        let evaluate = start.elapsed();
        let metrics = &self.desk.metrics;
        metrics.observe(STAGE, &[("stage", "queue")], queue);
        metrics.observe(STAGE, &[("stage", "evaluate")], evaluate);
        Ok(Prediction {
            id: admitted.query.question.id,
            images: admitted.images,
            ciphertexts,
            timings: Timings {
                queue_us: queue.as_micros() as u64,
                evaluate_us: evaluate.as_micros() as u64,
                combine_us: 0,
            },
            took_us: queued.elapsed().as_micros() as u64,
        })
    }

    /// The answer with a prediction.
    fn seal(&self, prediction: Prediction) -> Result<PredictReply, Fault> {
        let contract = &self.desk.contract;
        let ciphertexts = [prediction.ciphertexts];
        let sealed = contract.model().reply(prediction.images, &ciphertexts);
        let sealed = sealed.map_err(Fault::Reply)?;
        Ok(PredictReply {
            id: prediction.id,
            face: contract.digest(),
            rule: None,
            answered: vec![Answered {
                holder: self.desk.name.to_string(),
                place: 0,
                took_us: prediction.took_us,
            }],
            left_out: Vec::new(),
            timings: prediction.timings,
            bundle: sealed.to_bytes().into(),
        })
    }
}

impl Service for Holder {
    fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    fn status(&self) -> EnsembleStatus {
        let (contract, masking) = (&self.desk.contract, self.masking.as_ref());
        EnsembleStatus {
            name: self.desk.name.clone(),
            role: Role::Holder,
            face: contract.digest(),
            parameters: contract.parameters(),
            classes: contract.classes().to_vec(),
            rules: Vec::new(),
            reveals: Vec::new(),
            masked: masking.is_some(),
            roster: masking.map(|masking| masking.digest()),
            min_holders: masking.map_or(1, |masking| masking.min_holders()),
            holders: Vec::new(),
        }
    }

    fn is_ready(&self) -> bool {
        true
    }

    fn masks(&self) -> bool {
        self.masking.is_some()
    }

    async fn answer(
        &self,
        admitted: Admitted,
        caller: Option<Name>,
    ) -> Result<PredictReply, Fault> {
        let queued = Instant::now();
        let place = self.enter(&admitted, caller).await?;
        if let Some(Kept::Reply(reply)) = &*place {
            return Ok(reply.clone());
        }
        let keep = |holder: &Self, _: &Admitted, prediction| {
            let reply = holder.seal(prediction)?;
            Ok((Kept::Reply(reply.clone()), reply))
        };
        self.compute(admitted, place, queued, keep).await
    }

    async fn offer(&self, admitted: Admitted, caller: Option<Name>) -> Result<Offer, Fault> {
        let queued = Instant::now();
        let masking = Arc::clone(self.masking.as_ref().ok_or(Fault::Unmasked)?);
        let place = self.enter(&admitted, caller).await?;
        if let Some(Kept::Held(held)) = &*place {
            return Ok(held.offer.clone());
        }
        let keep = move |holder: &Self, admitted: &Admitted, prediction| {
            let face = holder.desk.contract.digest();
            let held = masking.hold(face, admitted.query.digest(), prediction)?;
            let offer = held.offer.clone();
            Ok((Kept::Held(held), offer))
        };
        self.compute(admitted, place, queued, keep).await
    }

    async fn release(
        &self,
        release: Release,
        request: Digest,
        caller: Option<Name>,
    ) -> Result<PredictReply, Fault> {
        let masking = Arc::clone(self.masking.as_ref().ok_or(Fault::Unmasked)?);
        let ledger = &self.desk.ledger;
        let id = (release.user, release.nonce);
        let place = ledger.find(id, caller.as_ref(), clock::now_ms());
        let mut place = place.ok_or(Fault::NotHeld)?.lock_owned().await;
        let holder = self.clone();
        desk::blocking(move || {
            let Some(Kept::Held(held)) = &mut *place else {
                return Err(Fault::NotHeld);
            };
            let scheme = holder.desk.contract.model().scheme();
            let seal = |prediction| holder.seal(prediction);
            held.release(&masking, (&release, request), scheme, seal)
        })
        .await
    }
}

/// The program with its weights, and the key that those are encrypted under, if they are.
fn prepare(program: Program, weights: Option<&[u8]>) -> Result<(Prepared, Option<KeyId>), Error> {
    let model = Model::new(program)?;
    let scheme = model.scheme().clone();
    let Some(bytes) = weights else {
        return Ok((Prepared::new(model.program(), scheme)?, None));
    };
    let bundle = Bundle::from_bytes(bytes).map_err(scuro_client::Error::from)?;
    let key = model.weights_key(&bundle)?;
    let weights = model.open_weights(bundle)?;
    Ok((
        Prepared::with_weights(model.program(), scheme, weights)?,
        Some(key),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Bytes;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;
    use scuro_client::{Client, KeySet};
    use scuro_ensemble::{Rule, Weights};
    use scuro_fhe::AnyCiphertext;
    use scuro_nn::graph::{GraphBuilder, Op};
    use scuro_nn::tensor::Tensor;
    use scuro_wire::mask::{HolderKey, Member};
    use scuro_wire::predict::{PredictQuery, Question};
    use scuro_wire::roster::{Roster, RosterEntry};
    use scuro_wire::user::UserKey;
    use scuro_wire::{KeyId, Nonce, QueryId};

    /// A holder of a network that doubles.
    fn holder(name: Name, masks: Option<Masks>) -> Holder {
        let mut network = GraphBuilder::new("double", [4]);
        network.then(Op::Dense {
            weight: Tensor::new([4, 4], vec![0.5; 16]).expect("weights"),
            bias: None,
        });
        let network = network.finish().expect("network");
        let example = Tensor::new([4], EXAMPLE.to_vec()).expect("tensor");
        let options = scuro_compiler::Options {
            ensemble: Some(scuro_compiler::ensemble::Ensemble {
                degree: Default::default(),
                face: None,
            }),
            ..scuro_compiler::Options::default()
        };
        let compiled = scuro_compiler::compile(&network, &options, &[example]);
        let holder = Holder::open(Options {
            name,
            program: compiled.expect("compiled").program.to_bytes(),
            weights: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            identity: None,
            masks,
            workers: 1,
            threads: 1,
        });
        holder.expect("opened")
    }

    const EXAMPLE: [f32; 4] = [0.0, 0.5, 0.7, 1.0];

    fn name(text: &str) -> Name {
        Name::new(text).expect("a name")
    }

    /// A query to holders, with its keys.
    fn query(holders: &[Holder]) -> PredictQuery {
        let contract = &holders[0].desk.contract;
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let set = KeySet::generate(contract.model(), &mut rng).expect("keys");
        let keys = set.evaluation.with_public_key(set.public.clone());
        let keys: Bytes = keys
            .expect("one set")
            .to_bytes(contract.model().context())
            .into();
        let user = UserKey::from_bytes(&UserKey::generate().expect("made")).expect("read");
        let digest = Digest::of(&keys);
        for holder in holders {
            let brought = holder.desk.bring(digest, user.id(), keys.clone());
            brought.expect("kept");
        }
        let client = Client::new(contract.model(), set.secret).expect("client");
        let bundle = client.encrypt(&[&EXAMPLE], &mut rng).expect("encrypted");
        let question = Question {
            id: QueryId([1; 16]),
            key_id: KeyId(set.public.key_id().0),
            parameters: contract.parameters(),
            rule: None,
            keys: digest,
            user: user.id(),
            nonce: Nonce([2; 16]),
            time_ms: clock::now_ms(),
        };
        PredictQuery::sign(question, bundle.to_bytes().into(), &user)
    }

    fn admitted(holder: &Holder, query: &PredictQuery) -> Admitted {
        let (head, body) = query.to_bytes();
        let admitted = holder.desk.admit(Some(&head.to_string()), body);
        admitted.expect("admitted")
    }

    #[tokio::test]
    async fn a_query_whose_caller_hung_up_before_it_began_is_dropped_and_may_come_again() {
        let holder = holder(name("alpha"), None);
        let query = query(std::slice::from_ref(&holder));
        let busy = Arc::clone(&holder.workers).acquire_owned().await;
        let (waiting, first) = (holder.clone(), admitted(&holder, &query));
        let task = tokio::spawn(async move { waiting.answer(first, None).await });
        while holder.desk.ledger.is_empty() {
            tokio::task::yield_now().await;
        }
        task.abort();
        assert!(task.await.is_err_and(|error| error.is_cancelled()));
        drop(busy);
        assert_eq!(holder.workers.available_permits(), 1);
        let evaluated = || holder.desk.metrics.render().contains("evaluate");
        assert!(!evaluated());
        let reply = holder.answer(admitted(&holder, &query), None).await;
        let reply = reply.expect("answered");
        assert!(evaluated());
        let again = holder.answer(admitted(&holder, &query), None).await;
        assert_eq!(again.expect("remembered"), reply);
        assert_eq!(holder.desk.metrics.count(REPEATED, &[]), 1);
    }

    /// Holders of one roster with these weights.
    fn masked(weights: &[u8]) -> (Roster, Vec<Holder>) {
        let made = |_: &u8| HolderKey::generate().expect("made");
        let keys: Vec<_> = weights.iter().map(made).collect();
        let key = |at: usize| HolderKey::from_bytes(&keys[at]).expect("read");
        let named = |at: usize| name(&format!("holder-{at}"));
        let entry = |(at, &weight): (usize, &u8)| RosterEntry {
            name: named(at),
            key: key(at).id(),
            weight: weight.try_into().expect("not zero"),
        };
        let roster = Roster::new(weights.iter().enumerate().map(entry).collect());
        let roster = roster.expect("a roster");
        let holder = |at| {
            let masks = Masks {
                roster: roster.clone(),
                key: key(at),
                min_holders: None,
            };
            holder(named(at), Some(masks))
        };
        let holders = (0..weights.len()).map(holder).collect();
        (roster, holders)
    }

    /// What the holder has computed for a query and not released.
    async fn held(holder: &Holder, query: &PredictQuery) -> Vec<AnyCiphertext> {
        let id = (query.question.user, query.question.nonce);
        let place = holder.desk.ledger.find(id, None, clock::now_ms());
        let place = place.expect("known").lock_owned().await;
        match &*place {
            Some(Kept::Held(held)) => held.waiting().expect("not released").to_vec(),
            _ => panic!("nothing is held"),
        }
    }

    #[tokio::test]
    async fn masks_cancel_bit_by_bit_in_what_a_coordinator_computes() {
        const WEIGHTS: [u8; 3] = [3, 1, 200];
        let (roster, holders) = masked(&WEIGHTS);
        let query = query(&holders);
        let (mut offers, mut plain) = (Vec::new(), Vec::new());
        for (holder, weight) in holders.iter().zip(WEIGHTS) {
            let offer = holder.offer(admitted(holder, &query), None).await;
            offers.push(Member::of(&offer.expect("offered"), weight));
            plain.extend(held(holder, &query).await);
        }
        let release = Release {
            user: query.question.user,
            nonce: query.question.nonce,
            query: query.digest(),
            members: offers,
        };
        let key = admitted(&holders[0], &query).keys.keys().key_id();
        let mut masked = Vec::new();
        for holder in &holders {
            let reply = holder.release(release.clone(), Digest([0; 32]), None).await;
            let bundle = reply.expect("released").bundle;
            let opened = holder.desk.contract.open_reply(&bundle, key);
            masked.extend(opened.expect("a reply of the face").1);
        }
        for (plain, masked) in plain.iter().zip(&masked) {
            assert_ne!(plain.parts()[0].words(), masked.parts()[0].words());
            assert_eq!(plain.parts()[1].words(), masked.parts()[1].words());
        }
        // By the program that a coordinator runs for a weighted mean.
        let face = holders[0].desk.contract.model().program();
        let rule = Rule::Weighted(Weights::new(WEIGHTS.to_vec()).expect("weights"));
        let model = super::super::combine::model(face, &rule, &[0, 1, 2], roster.holders().len());
        let model = model.expect("a model");
        let prepared = Prepared::new(model.program(), model.scheme().clone()).expect("prepared");
        let keys = admitted(&holders[0], &query).keys;
        let combined = |replies: &[AnyCiphertext]| {
            let sum = prepared.evaluate(keys.keys(), replies, 1, &mut |_| {});
            sum.expect("combined").remove(0)
        };
        let (expected, found) = (combined(&plain), combined(&masked));
        assert_eq!(expected.parts(), found.parts());
    }
}
