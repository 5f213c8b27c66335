//! The coordinator: asks every holder with the user's encrypted query and combines what comes back.
//!
//! Holders work for themselves: one that is gone, late or does not fit is left out, with the
//! reason, and the others answer as long as they are enough. With a roster, holders are asked
//! twice, in `rounds`.

mod rounds;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use scuro_ensemble::RuleKind;
use scuro_fhe::AnyCiphertext;
use scuro_wire::ensemble::{EnsembleStatus, Role};
use scuro_wire::predict::{Answered, LeftOut, PredictReply, Timings};
use scuro_wire::roster::Roster;
use scuro_wire::tls::Identity;
use scuro_wire::{Digest, Name, limits};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::combine::{Combiner, Predictions, list};
use super::contract::Contract;
use super::counters::{ANSWERS, HOLDER, HOLDER_UP, STAGE};
use super::desk::{self, Admitted, Desk, Service};
use super::fault::Fault;
use super::ledger::Repeats;
use super::listen::Door;
pub use super::member::HolderAddress;
use super::member::{Lapse, Member};
use crate::clock;
use crate::error::Error;

/// Queries that may be under way.
pub const QUERIES_AT_ONCE: usize = 64;
/// Combinations that are computed at the same time.
const COMBINATIONS_AT_ONCE: usize = 2;
/// The longest deadline: the answer must still reach the user within a request's time.
pub const DEADLINE_MAX: Duration = Duration::from_secs(110);
/// How long a coordinator waits at its start for a face.
const START_TIME: Duration = Duration::from_secs(30);
/// How long a start waits for the first look at every holder.
const FIRST_LOOKS: Duration = Duration::from_secs(3);
/// Pause between two looks for one.
const START_PAUSE: Duration = Duration::from_millis(500);

/// How a coordinator is run.
#[derive(Debug)]
pub struct Options {
    /// Its name.
    pub name: Name,
    /// The holders, in the order of the ensemble.
    pub holders: Vec<HolderAddress>,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Certificates; without any, only loopback is listened on and connected to.
    pub identity: Option<Identity>,
    /// Bytes of a file of fitted rules; without one there is only the mean.
    pub rules: Option<Vec<u8>>,
    /// The rule for queries that name none, instead of the mean.
    pub rule: Option<Name>,
    /// How long holders are waited for.
    pub deadline: Duration,
    /// Fewest holders that make an answer; more than half of them if nothing is said.
    pub min_holders: Option<usize>,
    /// Who masks predictions, one for each of the holders, in their order; without, nobody may.
    pub roster: Option<Roster>,
    /// Whether users may ask for a majority, for which they decrypt every single prediction.
    pub reveal_votes: bool,
    /// Bytes of the face; that of the first holder that answers, if nothing is given.
    pub contract: Option<Vec<u8>>,
    /// Threads for a combination.
    pub threads: usize,
}

#[derive(Debug, Clone)]
struct Coordinator {
    desk: Arc<Desk>,
    members: Arc<[Arc<Member>]>,
    combiner: Arc<Combiner>,
    /// Names of its rules, the usual one first.
    rules: Arc<[Name]>,
    roster: Option<Arc<Roster>>,
    combining: Arc<Semaphore>,
    deadline: Duration,
    min_holders: usize,
    threads: usize,
}

/// Serves until `stop` is ready, then finishes what is under way. `started` is told the address.
///
/// # Errors
/// [`Fault::Setting`], [`Fault::NoFace`], [`Fault::NotAFace`], [`Error::Model`] for a contract that
/// cannot be used, [`Error::Wire`] for certificates, or an address that needs some.
pub async fn serve(
    options: Options,
    started: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    tokio::pin!(stop);
    let mut options = options;
    name_holders(&mut options)?;
    let min_holders = check(&options)?;
    let door = Door::open(options.listen, options.identity.as_ref()).await?;
    let address = door.address();
    let identity = options.identity.map(Arc::new);
    let roster = options.roster.map(Arc::new);
    let digest = roster.as_ref().map(|roster| roster.digest());
    let member = |at: HolderAddress| Arc::new(Member::new(at, digest, identity.clone()));
    let members: Arc<[Arc<Member>]> = options.holders.into_iter().map(member).collect();
    let face = tokio::select! {
        face = first_face(options.contract, &members) => face?,
        () = &mut stop => return Ok(()),
    };
    let (labels, file, usual) = (members.clone(), options.rules, options.rule);
    let (masks, reveal_votes) = (roster.clone(), options.reveal_votes);
    let opened = tokio::task::spawn_blocking(move || {
        let contract = Contract::open(face)?;
        let labels: Vec<&str> = labels.iter().map(|member| member.label()).collect();
        let combiner = Combiner::new(contract.model().program(), &labels, file, masks.as_deref())?;
        let mut rules = combiner.names();
        if reveal_votes {
            rules.push(majority()?);
        }
        let rules = in_order(rules, usual, masks.is_some())?;
        Ok::<_, Error>((contract, combiner, rules))
    });
    let (contract, combiner, rules) = opened.await.map_err(|_| Error::Panicked)??;
    let desk = Desk::new(options.name, contract, QUERIES_AT_ONCE, Repeats::Refused);
    let coordinator = Coordinator {
        desk: Arc::new(desk),
        members,
        combiner: Arc::new(combiner),
        rules: rules.into(),
        roster,
        combining: Arc::new(Semaphore::new(COMBINATIONS_AT_ONCE)),
        deadline: options.deadline,
        min_holders,
        threads: options.threads.max(1),
    };
    let watchers = coordinator.watch().await;
    let desk = Arc::clone(&coordinator.desk);
    let (name, face) = (&desk.name, desk.contract.digest().short());
    tracing::info!(%name, %address, face, "coordinator listens");
    started(address);
    let metrics = Arc::clone(&desk.metrics);
    door.serve(desk::router(coordinator), metrics, stop).await;
    drop(watchers);
    tracing::info!(name = %desk.name, "coordinator stopped");
    Ok(())
}

/// Gives holders the names that the roster has for them.
fn name_holders(options: &mut Options) -> Result<(), Fault> {
    let Some(roster) = &options.roster else {
        return Ok(());
    };
    let setting = |found| Fault::Setting {
        what: "--holders",
        found,
        expected: "every holder of the roster, in its order",
    };
    let (count, all) = (options.holders.len(), roster.holders().len());
    if count != all {
        return Err(setting(format!("{count} addresses for {all} holders")));
    }
    for (holder, entry) in options.holders.iter_mut().zip(roster.holders()) {
        match &holder.name {
            Some(name) if *name != entry.name => return Err(setting(name.to_string())),
            Some(_) => {}
            // Without certificates a name is what people are told, and nothing else.
            None if options.identity.is_none() => holder.name = Some(entry.name.clone()),
            None => {}
        }
    }
    Ok(())
}

/// The fewest holders, if settings can be.
fn check(options: &Options) -> Result<usize, Error> {
    let setting = |what, found: String, expected| Fault::Setting {
        what,
        found,
        expected,
    };
    let count = options.holders.len();
    if !(1..=limits::HOLDERS).contains(&count) {
        let found = format!("{count} addresses");
        return Err(setting("--holders", found, "1 to 64 addresses").into());
    }
    for (index, holder) in options.holders.iter().enumerate() {
        let mut before = options.holders[..index].iter();
        if before.any(|other| other.label() == holder.label() || other.address == holder.address) {
            let found = holder.label().to_string();
            return Err(setting("--holders", found, "every holder once").into());
        }
        // What cannot be connected to is known before anybody asks.
        holder.client(options.identity.as_ref())?;
    }
    if options.deadline.is_zero() || options.deadline > DEADLINE_MAX {
        let found = format!("{} s", options.deadline.as_secs_f64());
        return Err(setting("--deadline", found, "more than 0, at most 110 s").into());
    }
    if options.reveal_votes && options.roster.is_some() {
        let found = "together with --roster".to_string();
        return Err(setting("--reveal-votes", found, "one of them: masks hide votes").into());
    }
    let min_holders = options.min_holders.unwrap_or(count / 2 + 1);
    if !(1..=count).contains(&min_holders) {
        let found = min_holders.to_string();
        return Err(setting("--min-holders", found, "1 to the number of holders").into());
    }
    Ok(min_holders)
}

/// Rules with the usual one first.
fn in_order(mut rules: Vec<Name>, usual: Option<Name>, masked: bool) -> Result<Vec<Name>, Fault> {
    let Some(found) = usual else {
        return Ok(rules);
    };
    match rules.iter().position(|rule| *rule == found) {
        Some(place) => rules[..=place].rotate_right(1),
        None => return Err(no_rule(found, &rules, masked)),
    }
    Ok(rules)
}

/// The rule under which users decrypt every single prediction.
fn majority() -> Result<Name, Fault> {
    Ok(Name::new(RuleKind::Majority.as_str())?)
}

/// Whether it is that.
fn reveals(rule: &Name) -> bool {
    rule.as_str() == RuleKind::Majority.as_str()
}

/// Why a rule is not among those that are offered.
fn no_rule(found: Name, rules: &[Name], masked: bool) -> Fault {
    let known = list(rules);
    match masked && found.as_str().parse::<RuleKind>().is_ok() {
        true => Fault::MaskedRule { found, known },
        false => Fault::Rule { found, known },
    }
}

/// The face that is given, or that of the first holder that has one.
async fn first_face(given: Option<Vec<u8>>, members: &[Arc<Member>]) -> Result<Bytes, Error> {
    if let Some(bytes) = given {
        return Ok(bytes.into());
    }
    let start = Instant::now();
    loop {
        let mut left_out = Vec::new();
        for member in members {
            let found = member.face().await;
            match found {
                Ok(face) if Contract::open(face.clone()).is_ok() => return Ok(face),
                Ok(_) => left_out.push(Lapse::no_face().left_out(member.label())),
                Err(lapse) => left_out.push(lapse.left_out(member.label())),
            }
        }
        if start.elapsed() > START_TIME {
            return Err(Fault::NoFace { left_out }.into());
        }
        sleep(START_PAUSE).await;
    }
}

/// What became of asking the holders, by their places in the ensemble.
#[derive(Debug)]
struct Harvest<T> {
    answers: Vec<(usize, T)>,
    answered: Vec<(usize, Answered)>,
    lapses: Vec<(usize, Lapse)>,
}

/// Encrypted predictions of the holders at their places.
type Replies = Vec<(usize, Vec<AnyCiphertext>)>;

impl Coordinator {
    /// Looks at every holder once, if that does not take long, then whenever it is not well, until
    /// the result is dropped.
    async fn watch(&self) -> JoinSet<()> {
        let mut first = JoinSet::new();
        for member in self.members.iter() {
            let (member, desk) = (Arc::clone(member), Arc::clone(&self.desk));
            first.spawn(async move { member.look(&desk.contract).await });
        }
        let all = async { while first.join_next().await.is_some() {} };
        // Those that are slow are looked at again by their watchers.
        let _ = timeout(FIRST_LOOKS, all).await;
        drop(first);
        let mut watchers = JoinSet::new();
        for member in self.members.iter() {
            let (member, desk) = (Arc::clone(member), Arc::clone(&self.desk));
            watchers.spawn(async move { member.watch(&desk.contract).await });
        }
        watchers
    }

    /// The rule that a query is answered by.
    fn rule(&self, asked: Option<&Name>) -> Result<Name, Fault> {
        let Some(asked) = asked else {
            return Ok(self.rules[0].clone());
        };
        match self.rules.contains(asked) {
            true => Ok(asked.clone()),
            false => Err(no_rule(asked.clone(), &self.rules, self.roster.is_some())),
        }
    }

    /// Asks the holders at some places at the same time; a user who hangs up ends it.
    async fn ask<T, F>(
        &self,
        places: impl IntoIterator<Item = usize>,
        deadline: Duration,
        ask: impl Fn(usize, Arc<Member>) -> F,
    ) -> Harvest<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Lapse>> + Send + 'static,
    {
        let mut asks = JoinSet::new();
        for place in places {
            let member = Arc::clone(&self.members[place]);
            let asked = ask(place, Arc::clone(&member));
            asks.spawn(async move {
                let start = Instant::now();
                let asked = timeout(deadline, asked).await.unwrap_or_else(|_| {
                    let lapse = Lapse::late(deadline);
                    member.learn(Some(&lapse));
                    Err(lapse)
                });
                (place, start.elapsed(), asked)
            });
        }
        let mut harvest = Harvest::default();
        while let Some(asked) = asks.join_next().await {
            // A task that panicked has been reported by its hook, and is missed below.
            if let Ok((place, took, asked)) = asked {
                self.note(&mut harvest, place, took, asked);
            }
        }
        harvest.sort();
        harvest
    }

    /// The predictions of all holders as they are.
    async fn replies(&self, query: &Arc<Admitted>) -> Harvest<Vec<AnyCiphertext>> {
        let everybody = 0..self.members.len();
        let ask = |_, member: Arc<Member>| {
            let (query, desk) = (Arc::clone(query), Arc::clone(&self.desk));
            async move { member.ask(&query, &desk).await }
        };
        self.ask(everybody, self.deadline, ask).await
    }

    fn note<T>(
        &self,
        harvest: &mut Harvest<T>,
        place: usize,
        took: Duration,
        asked: Result<T, Lapse>,
    ) {
        let (holder, metrics) = (self.members[place].label(), &self.desk.metrics);
        let outcome = asked.as_ref().map_or_else(Lapse::code, |_| "ok");
        let labels = [("holder", holder), ("outcome", outcome)];
        metrics.add(ANSWERS, &labels, 1);
        match asked {
            Ok(answer) => {
                metrics.observe(HOLDER, &[("holder", holder)], took);
                let answered = Answered {
                    holder: holder.to_string(),
                    place,
                    took_us: took.as_micros() as u64,
                };
                harvest.answers.push((place, answer));
                harvest.answered.push((place, answered));
            }
            Err(lapse) => harvest.lapses.push((place, lapse)),
        }
    }

    /// Who is left out, for the user.
    fn left_out(&self, lapses: Vec<(usize, Lapse)>) -> Vec<LeftOut> {
        let told = |(place, lapse): (usize, Lapse)| lapse.left_out(self.members[place].label());
        lapses.into_iter().map(told).collect()
    }

    /// That so many holders are enough.
    fn check_quorum<T>(&self, harvest: &Harvest<T>, needed: usize) -> Result<(), Fault> {
        let answered = harvest.answers.len();
        match answered >= needed {
            true => Ok(()),
            false => Err(Fault::Quorum {
                answered,
                needed,
                left_out: self.left_out(harvest.lapses.clone()),
            }),
        }
    }

    /// Combines off the threads that serve.
    async fn combine(
        &self,
        rule: &Name,
        query: Arc<Admitted>,
        replies: Replies,
    ) -> Result<Bytes, Fault> {
        let place = Arc::clone(&self.combining).acquire_owned().await;
        let place = place.map_err(|_| Fault::Panicked)?;
        let (coordinator, rule) = (self.clone(), rule.clone());
        desk::blocking(move || {
            let _place = place;
            let predictions = Predictions {
                images: query.images,
                keys: query.keys.keys(),
                replies,
                threads: coordinator.threads,
            };
            let combined = match reveals(&rule) {
                true => coordinator.combiner.votes(predictions)?,
                false => coordinator.combiner.combine(&rule, predictions)?,
            };
            Ok(combined.to_bytes().into())
        })
        .await
    }
}

impl<T> Default for Harvest<T> {
    fn default() -> Self {
        Self {
            answers: Vec::new(),
            answered: Vec::new(),
            lapses: Vec::new(),
        }
    }
}

impl<T> Harvest<T> {
    /// By the order of the ensemble, whoever came first.
    fn sort(&mut self) {
        self.answers.sort_by_key(|(place, _)| *place);
        self.answered.sort_by_key(|(place, _)| *place);
        self.lapses.sort_by_key(|(place, _)| *place);
    }
}

fn without_index<T>(list: Vec<(usize, T)>) -> Vec<T> {
    list.into_iter().map(|(_, value)| value).collect()
}

impl Service for Coordinator {
    fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    fn status(&self) -> EnsembleStatus {
        let contract = &self.desk.contract;
        EnsembleStatus {
            name: self.desk.name.clone(),
            role: Role::Coordinator,
            face: contract.digest(),
            parameters: contract.parameters(),
            classes: contract.classes().to_vec(),
            rules: self.rules.to_vec(),
            reveals: self
                .rules
                .iter()
                .filter(|rule| reveals(rule))
                .cloned()
                .collect(),
            masked: self.roster.is_some(),
            roster: self.roster.as_ref().map(|roster| roster.digest()),
            min_holders: self.min_holders,
            holders: self.members.iter().map(|member| member.status()).collect(),
        }
    }

    fn rules(&self) -> Option<Bytes> {
        self.combiner.file().cloned()
    }

    fn is_ready(&self) -> bool {
        let well = self.members.iter().filter(|member| member.is_well());
        well.count() >= self.min_holders
    }

    fn measure(&self) {
        for member in self.members.iter() {
            let up = if member.is_well() { 1.0 } else { 0.0 };
            let labels = [("holder", member.label())];
            self.desk.metrics.set(HOLDER_UP, &labels, up);
        }
    }

    async fn answer(
        &self,
        admitted: Admitted,
        caller: Option<Name>,
    ) -> Result<PredictReply, Fault> {
        let question = &admitted.query.question;
        let rule = self.rule(question.rule.as_ref())?;
        let request = Digest::of(&admitted.body);
        let ledger = &self.desk.ledger;
        ledger.enter(question, request, caller, clock::now_ms())?;
        let (id, query) = (question.id, Arc::new(admitted));
        let start = Instant::now();
        let harvest = match &self.roster {
            None => {
                let harvest = self.replies(&query).await;
                self.check_quorum(&harvest, self.min_holders)?;
                harvest
            }
            Some(roster) => self.masked_replies(roster, &query).await?,
        };
        let evaluate = start.elapsed();
        let (replies, left_out) = (harvest.answers, self.left_out(harvest.lapses));
        let start = Instant::now();
        let bundle = self.combine(&rule, query, replies).await?;
        let combine = start.elapsed();
        let metrics = &self.desk.metrics;
        metrics.observe(STAGE, &[("stage", "holders")], evaluate);
        metrics.observe(STAGE, &[("stage", "combine")], combine);
        Ok(PredictReply {
            id,
            face: self.desk.contract.digest(),
            rule: Some(rule),
            answered: without_index(harvest.answered),
            left_out,
            timings: Timings {
                queue_us: 0,
                evaluate_us: evaluate.as_micros() as u64,
                combine_us: combine.as_micros() as u64,
            },
            bundle,
        })
    }
}
