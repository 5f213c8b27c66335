//! A holder: one network that is computed on ciphertexts of users it does not know.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use scuro_client::{Bundle, Model};
use scuro_program::Program;
use scuro_runtime::encrypted::Prepared;
use scuro_wire::ensemble::{EnsembleStatus, Role};
use scuro_wire::predict::{Answered, PredictReply, Timings};
use scuro_wire::tls::Identity;
use scuro_wire::{Digest, Name};
use tokio::sync::Semaphore;

use super::contract::Contract;
use super::counters::{REPEATED, STAGE};
use super::desk::{self, Admitted, Desk, Service};
use super::fault::Fault;
use super::ledger::Repeats;
use super::listen::Door;
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
    /// Queries that are computed at the same time.
    pub workers: usize,
    /// Threads for each.
    pub threads: usize,
}

#[derive(Debug, Clone)]
struct Holder {
    desk: Arc<Desk>,
    prepared: Arc<Prepared>,
    workers: Arc<Semaphore>,
    threads: usize,
}

/// Serves until `stop` is ready, then finishes what is under way. `started` is told the address.
///
/// # Errors
/// [`Error::Model`], [`Error::Runtime`] for a program that cannot run, [`Error::Wire`] for
/// certificates, or an address that needs some; [`Fault::Setting`].
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
        let program = Program::from_bytes(&options.program);
        let program = program.map_err(scuro_client::Error::from)?;
        let contract = Contract::of(&program)?;
        let prepared = prepare(program, options.weights.as_deref())?;
        let workers = options.workers.max(1);
        let desk = Desk::new(options.name, contract, workers + QUEUE, Repeats::Answered);
        Ok(Self {
            desk: Arc::new(desk),
            prepared: Arc::new(prepared),
            workers: Arc::new(Semaphore::new(workers)),
            threads: options.threads.max(1),
        })
    }

    fn evaluate(&self, admitted: &Admitted, queued: Instant) -> Result<PredictReply, Fault> {
        let queue = queued.elapsed();
        let start = Instant::now();
        let keys = admitted.keys.keys();
        let query = &admitted.ciphertexts;
        let reply = self
            .prepared
            .evaluate(keys, query, self.threads, &mut |_| {})?;
        let evaluate = start.elapsed();
        let metrics = &self.desk.metrics;
        metrics.observe(STAGE, &[("stage", "queue")], queue);
        metrics.observe(STAGE, &[("stage", "evaluate")], evaluate);
        let contract = &self.desk.contract;
        let sealed = contract.model().reply(admitted.images, &[reply]);
        let sealed = sealed.map_err(Fault::Reply)?;
        Ok(PredictReply {
            id: admitted.query.question.id,
            face: contract.digest(),
            rule: None,
            answered: vec![Answered {
                holder: self.desk.name.to_string(),
                place: 0,
                took_us: queued.elapsed().as_micros() as u64,
            }],
            left_out: Vec::new(),
            timings: Timings {
                queue_us: queue.as_micros() as u64,
                evaluate_us: evaluate.as_micros() as u64,
                combine_us: 0,
            },
            bundle: sealed.to_bytes().into(),
        })
    }
}

impl Service for Holder {
    fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    fn status(&self) -> EnsembleStatus {
        let contract = &self.desk.contract;
        EnsembleStatus {
            name: self.desk.name.clone(),
            role: Role::Holder,
            face: contract.digest(),
            parameters: contract.parameters(),
            classes: contract.classes().to_vec(),
            rules: Vec::new(),
            min_holders: 1,
            holders: Vec::new(),
        }
    }

    fn is_ready(&self) -> bool {
        true
    }

    async fn answer(
        &self,
        admitted: Admitted,
        caller: Option<Name>,
    ) -> Result<PredictReply, Fault> {
        let (desk, queued) = (&self.desk, Instant::now());
        let request = Digest::of(&admitted.body);
        let question = &admitted.query.question;
        let place = desk
            .ledger
            .enter(question, request, caller, clock::now_ms());
        // A caller that hangs up ends this future: what it waits for here is then not computed.
        // Once a worker has it, it is finished and remembered, for a caller that comes back.
        let mut place = place?.lock_owned().await;
        if let Some(reply) = &*place {
            desk.metrics.add(REPEATED, &[], 1);
            return Ok(reply.clone());
        }
        let worker = Arc::clone(&self.workers).acquire_owned().await;
        let worker = worker.map_err(|_| Fault::Panicked)?;
        let holder = self.clone();
        desk::blocking(move || {
            let reply = holder.evaluate(&admitted, queued)?;
            *place = Some(reply.clone());
            drop(worker);
            Ok(reply)
        })
        .await
    }
}

fn prepare(program: Program, weights: Option<&[u8]>) -> Result<Prepared, Error> {
    let model = Model::new(program)?;
    let scheme = model.scheme().clone();
    let Some(bytes) = weights else {
        return Ok(Prepared::new(model.program(), scheme)?);
    };
    let bundle = Bundle::from_bytes(bytes).map_err(scuro_client::Error::from)?;
    let weights = model.open_weights(bundle)?;
    Ok(Prepared::with_weights(model.program(), scheme, weights)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Bytes;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;
    use scuro_client::{Client, KeySet};
    use scuro_nn::graph::{GraphBuilder, Op};
    use scuro_nn::tensor::Tensor;
    use scuro_wire::predict::{PredictQuery, Question};
    use scuro_wire::user::UserKey;
    use scuro_wire::{KeyId, Nonce, QueryId};

    /// A holder of a network that doubles, and a query to it with its keys.
    fn holder_and_query() -> (Holder, PredictQuery) {
        let mut network = GraphBuilder::new("double", [4]);
        network.then(Op::Dense {
            weight: Tensor::new([4, 4], vec![0.5; 16]).expect("weights"),
            bias: None,
        });
        let network = network.finish().expect("network");
        let example = Tensor::new([4], vec![0.0, 0.5, 0.7, 1.0]).expect("tensor");
        let options = scuro_compiler::Options {
            ensemble: Some(scuro_compiler::ensemble::Ensemble {
                degree: Default::default(),
                face: None,
            }),
            ..scuro_compiler::Options::default()
        };
        let compiled = scuro_compiler::compile(&network, &options, std::slice::from_ref(&example));
        let name = Name::new("alpha").expect("a name");
        let holder = Holder::open(Options {
            name,
            program: compiled.expect("compiled").program.to_bytes(),
            weights: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            identity: None,
            workers: 1,
            threads: 1,
        });
        let holder = holder.expect("opened");
        let query = query(&holder, &example.data);
        (holder, query)
    }

    fn query(holder: &Holder, image: &[f32]) -> PredictQuery {
        let contract = &holder.desk.contract;
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let set = KeySet::generate(contract.model(), &mut rng).expect("keys");
        let keys = set.evaluation.with_public_key(set.public.clone());
        let keys: Bytes = keys
            .expect("one set")
            .to_bytes(contract.model().context())
            .into();
        let user = UserKey::from_bytes(&UserKey::generate().expect("made")).expect("read");
        let digest = Digest::of(&keys);
        holder.desk.bring(digest, user.id(), keys).expect("kept");
        let client = Client::new(contract.model(), set.secret).expect("client");
        let bundle = client.encrypt(&[image], &mut rng).expect("encrypted");
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
        let (holder, query) = holder_and_query();
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
}
