//! How encrypted predictions become one: rules as programs on the holders' replies.
//!
//! A user who knows the face, the rules and whose predictions are in an answer makes the same
//! program as the coordinator, and reads the answer by it: its digest is in the answer.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use scuro_client::{Bundle, Model, Prediction};
use scuro_ensemble::{Rule, RuleKind, Rules, combination};
use scuro_fhe::AnyCiphertext;
use scuro_fhe::keys::EvaluationKeys;
use scuro_program::Program;
use scuro_runtime::encrypted::Prepared;
use scuro_wire::Name;
use scuro_wire::roster::Roster;

use super::fault::Fault;

/// Combinations that are kept ready: one for each rule and set of holders that answered.
const READY: usize = 32;

/// The model whose replies are the answers of a rule, when only the holders at `present`, of
/// `holders`, have answered.
///
/// # Errors
/// [`Fault::Combination`], [`Fault::NoRoom`], [`Fault::Reply`].
pub fn model(
    face: &Program,
    rule: &Rule,
    present: &[usize],
    holders: usize,
) -> Result<Model, Fault> {
    let rule = rule.restricted(present, holders)?;
    let program = match combination::program(face, &rule, present.len()) {
        Err(scuro_ensemble::Error::NoRoom { rule }) => {
            let rule = rule.as_str();
            return Err(Fault::NoRoom { rule });
        }
        program => program?,
    };
    Model::new(program).map_err(Fault::Reply)
}

/// The rule of that name, with the parameters in `rules`; the mean needs none.
///
/// # Errors
/// [`Fault::Combination`] for a rule that is unknown or was not fitted.
pub fn rule(rules: Option<&Rules>, name: &str) -> Result<Rule, Fault> {
    let kind: RuleKind = name.parse()?;
    match (rules, kind) {
        (_, RuleKind::Mean) => Ok(Rule::Mean),
        (Some(rules), kind) => Ok(rules.rule(kind)?),
        (None, rule) => Err(scuro_ensemble::Error::NotFitted { rule }.into()),
    }
}

/// What the majority of `holders` holders says, whose predictions were decrypted from a bundle;
/// confidence is the share of its votes.
///
/// # Errors
/// [`Fault::Votes`] unless there is one prediction, in a ciphertext of its own, of each of them;
/// [`Fault::Combination`] for scores that are no numbers.
pub fn majority(
    bundle: &Bundle,
    predictions: &[Prediction],
    holders: usize,
) -> Result<Prediction, Fault> {
    let distinct: HashSet<&Vec<u8>> = bundle.ciphertexts.iter().collect();
    let found = predictions.len().min(distinct.len());
    if found != holders || predictions.len() != holders {
        return Err(Fault::Votes { found, holders });
    }
    let scores: Vec<Vec<f64>> = predictions.iter().map(|p| p.scores.clone()).collect();
    let mut whole = Prediction::from_scores(Rule::Majority.combine(&scores)?);
    let votes = predictions.iter().filter(|p| p.label == whole.label);
    whole.confidence = votes.count() as f64 / holders as f64;
    whole.overflowed = predictions.iter().any(|p| p.overflowed);
    Ok(whole)
}

/// The model whose replies are single votes: each is the mean of one holder, so it is as small as
/// any other answer.
///
/// # Errors
/// As [`model`].
pub fn vote_model(face: &Program) -> Result<Model, Fault> {
    model(face, &Rule::Mean, &[0], 1)
}

/// What there is to combine.
#[derive(Debug)]
pub(super) struct Predictions<'a> {
    /// Images of the query.
    pub(super) images: u32,
    /// The user's keys.
    pub(super) keys: &'a EvaluationKeys,
    /// For each holder that answered, in their order: its place in the ensemble, and the ciphertext
    /// of its reply.
    pub(super) replies: Vec<(usize, Vec<AnyCiphertext>)>,
    /// Threads to use.
    pub(super) threads: usize,
}

/// The ways of combining that an ensemble offers.
#[derive(Debug)]
pub(super) struct Combiner {
    face: Program,
    holders: usize,
    rules: Vec<(Name, Rule)>,
    /// The file that the parameters came from.
    file: Option<Bytes>,
    ready: Mutex<Shelf>,
}

/// Combinations by rule and places of the holders that answered.
type Shelf = HashMap<(Name, Vec<usize>), Arc<Ready>>;

#[derive(Debug)]
struct Ready {
    model: Model,
    prepared: Prepared,
}

impl Ready {
    /// The answer with these results, compact if it can be.
    fn answer(&self, images: u32, results: &[Vec<AnyCiphertext>]) -> Result<Bundle, Fault> {
        let (model, program) = (&self.model, self.model.program());
        let whole = model.reply(images, results).map_err(Fault::Reply)?;
        let (period, precision) = (
            combination::period(program),
            combination::precision(program),
        );
        let answer = model.short_reply(&whole, period, precision);
        answer.map_err(Fault::Reply)
    }
}

impl Combiner {
    /// All rules that replies of the face have room for: the mean, and those of the file; with
    /// masks only sums with the weights of the roster.
    ///
    /// # Errors
    /// [`Fault::Combination`] for a bad file; [`Fault::Setting`] for one of other holders or
    /// classes, and if there is no rule at all.
    pub(super) fn new(
        face: &Program,
        holders: &[&str],
        file: Option<Vec<u8>>,
        masks: Option<&Roster>,
    ) -> Result<Self, Fault> {
        let rules = file.as_deref().map(Rules::from_bytes).transpose()?;
        if let Some(rules) = &rules {
            check(rules, face, holders)?;
        }
        let all: Vec<usize> = (0..holders.len()).collect();
        let mut offered = Vec::new();
        for kind in RuleKind::ALL.into_iter().filter(|k| k.is_polynomial()) {
            let Ok(rule) = rule(rules.as_ref(), kind.as_str()) else {
                continue;
            };
            match model(face, &rule, &all, holders.len()) {
                Ok(_) if !cancels(face, &rule, masks) => {
                    tracing::info!(rule = kind.as_str(), "rule not offered: masks would stay");
                }
                Ok(_) => offered.push((Name::new(kind.as_str())?, rule)),
                Err(fault) => tracing::info!(rule = kind.as_str(), %fault, "rule not offered"),
            }
        }
        if offered.is_empty() && masks.is_some() {
            return Err(Fault::Setting {
                what: "the roster",
                found: "weights of no rule".to_string(),
                expected: "1 for every holder (the mean), or the integers of weighted or \
                           log-opinion in the file of rules",
            });
        }
        if offered.is_empty() {
            return Err(Fault::Setting {
                what: "the contract",
                found: "a face without room for any rule".to_string(),
                expected: "one of programs that are compiled with --ensemble",
            });
        }
        Ok(Self {
            face: face.clone(),
            holders: holders.len(),
            rules: offered,
            file: file.map(Bytes::from),
            ready: Mutex::default(),
        })
    }

    /// Names of the rules.
    pub(super) fn names(&self) -> Vec<Name> {
        self.rules.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The file of rules, if there is one.
    pub(super) fn file(&self) -> Option<&Bytes> {
        self.file.as_ref()
    }

    /// Combines by one of [`Combiner::names`] into the answer for the user.
    pub(super) fn combine(
        &self,
        rule: &Name,
        predictions: Predictions<'_>,
    ) -> Result<Bundle, Fault> {
        let (present, replies): (Vec<usize>, Vec<Vec<AnyCiphertext>>) =
            predictions.replies.into_iter().unzip();
        let ready = self.ready(rule, present)?;
        let query: Vec<AnyCiphertext> = replies.into_iter().flatten().collect();
        let (keys, threads) = (predictions.keys, predictions.threads);
        let reply = ready.prepared.evaluate(keys, query, threads, &mut |_| {})?;
        ready.answer(predictions.images, &[reply])
    }

    /// Every prediction as it is, in one answer of [`vote_model`]: for as many images as there are
    /// holders.
    pub(super) fn votes(&self, predictions: Predictions<'_>) -> Result<Bundle, Fault> {
        let model = vote_model(&self.face)?;
        let prepared = Prepared::new(model.program(), model.scheme().clone())?;
        let ready = Ready { model, prepared };
        let (keys, threads) = (predictions.keys, predictions.threads);
        let vote = |(_, reply): &(usize, Vec<AnyCiphertext>)| {
            let prepared = &ready.prepared;
            prepared.evaluate(keys, reply, threads, &mut |_| {})
        };
        let votes: Result<Vec<_>, _> = predictions.replies.iter().map(vote).collect();
        let votes = votes?;
        ready.answer(votes.len() as u32, &votes)
    }

    fn ready(&self, name: &Name, present: Vec<usize>) -> Result<Arc<Ready>, Fault> {
        let key = (name.clone(), present);
        if let Some(ready) = self.lock().get(&key) {
            return Ok(Arc::clone(ready));
        }
        let rule = self.rules.iter().find(|(known, _)| known == name);
        let unknown = || Fault::Rule {
            found: name.clone(),
            known: list(&self.names()),
        };
        let (_, rule) = rule.ok_or_else(unknown)?;
        let model = model(&self.face, rule, &key.1, self.holders)?;
        let prepared = Prepared::new(model.program(), model.scheme().clone())?;
        let ready = Arc::new(Ready { model, prepared });
        let mut all = self.lock();
        if all.len() >= READY {
            // Holders come and go: most of these sets are of the past.
            all.clear();
        }
        all.insert(key, Arc::clone(&ready));
        Ok(ready)
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether masks with the roster's weights cancel in what the rule computes, whoever is absent.
fn cancels(face: &Program, rule: &Rule, masks: Option<&Roster>) -> bool {
    let Some(roster) = masks else {
        return true;
    };
    let pinned = roster.holders().iter().map(|entry| entry.weight.get());
    combination::fixed_weights(face, rule, roster.holders().len())
        .is_some_and(|weights| pinned.eq(weights))
}

/// Names for people.
pub(super) fn list(rules: &[Name]) -> String {
    let rules: Vec<&str> = rules.iter().map(Name::as_str).collect();
    rules.join(", ")
}

/// That rules are of these holders and classes, in this order.
fn check(rules: &Rules, face: &Program, holders: &[&str]) -> Result<(), Fault> {
    let setting = |found: String, expected| Fault::Setting {
        what: "--rules",
        found,
        expected,
    };
    // Holders without a name are called by their address: only their order is known.
    let differs = |(own, given): (&String, &&str)| own != given && !given.contains(':');
    let named = rules.holders();
    if named.len() != holders.len() || named.iter().zip(holders).any(differs) {
        let found = named.join(",");
        return Err(setting(
            found,
            "rules of the holders of --holders, in their order",
        ));
    }
    let classes = face.classes();
    if !classes.is_empty() && classes != rules.classes() {
        let found = rules.classes().join(",");
        return Err(setting(found, "rules for the classes of the face"));
    }
    Ok(())
}
