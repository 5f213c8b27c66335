//! The holders of an ensemble, their user and their coordinator in one process: to score, to
//! measure.

use std::borrow::Cow;
use std::collections::BTreeMap;

use scuro_client::{Bundle, Client, KeySet, Model, Prediction, gather, scatter};
use scuro_compiler::ensemble::Ensemble;
use scuro_compiler::{Options, compile};
use scuro_ensemble::{Rule, RuleKind, combination};
use scuro_fhe::AnyCiphertext;
use scuro_fhe::keys::EvaluationKeys;
use scuro_nn::graph::Graph;
use scuro_nn::tensor::Tensor;
use scuro_program::{Program, SlotValue};
use scuro_runtime::encrypted::Prepared;
use scuro_runtime::simulate::Simulator;

use crate::errors::{At, Failure};
use crate::membership;
use crate::scoring::without_softmax;
use crate::secrets;

/// One network compiled for each holder, all with one face.
#[derive(Debug)]
pub(crate) struct Members {
    /// What the user has.
    pub(crate) face: Model,
    /// In the order of the holders.
    pub(crate) programs: Vec<Model>,
}

impl Members {
    /// Compiles the networks; the one with the largest scores first, as the others have to fit its
    /// face.
    pub(crate) fn compile(
        networks: &[Graph],
        options: &Options,
        calibration: &[Tensor],
    ) -> Result<Self, Failure> {
        let first = largest_scores(networks, calibration)?;
        let mut programs: Vec<Option<Program>> = vec![None; networks.len()];
        let compile_one = |at: usize, options: &Options| {
            let graph = without_softmax(&networks[at]);
            let compiled = compile(&graph, options, calibration);
            Ok::<_, Failure>(
                compiled
                    .map_err(Failure::from)
                    .at(&networks[at].name)?
                    .program,
            )
        };
        let program = compile_one(first, options)?;
        let face = membership::face(&Model::new(program.clone())?)?;
        programs[first] = Some(program);
        let further = Options {
            ensemble: options.ensemble.as_ref().map(|ensemble| Ensemble {
                face: Some(Box::new(face.clone())),
                ..ensemble.clone()
            }),
            ..options.clone()
        };
        for at in (0..networks.len()).filter(|&at| at != first) {
            programs[at] = Some(compile_one(at, &further)?);
        }
        let programs = programs.into_iter().flatten().map(Model::new);
        Ok(Self {
            face: Model::new(face)?,
            programs: programs.collect::<Result<_, _>>()?,
        })
    }

    /// Whether the replies have room for a rule.
    pub(crate) fn has_room(&self, rule: &Rule) -> bool {
        let program = combination::program(self.face.program(), rule, self.programs.len());
        !matches!(program, Err(scuro_ensemble::Error::NoRoom { .. }))
    }

    /// The program that combines the replies of all holders.
    pub(crate) fn combination(&self, rule: &Rule) -> Result<Model, Failure> {
        let program = combination::program(self.face.program(), rule, self.programs.len())?;
        Ok(Model::new(program)?)
    }
}

/// Holders and coordinator on plain slots, with the noise that encryption would add.
pub(crate) struct Simulation<'a> {
    face: &'a Model,
    holders: Vec<(&'a Model, Simulator<'a>)>,
    combinations: Vec<(&'a Model, Simulator<'a>)>,
}

impl<'a> Simulation<'a> {
    /// Of all holders and some combinations of theirs.
    pub(crate) fn new(members: &'a Members, combinations: &'a [Model]) -> Result<Self, Failure> {
        let simulators = |models: &'a [Model]| {
            let one = |model: &'a Model| {
                let parameters = model.context().parameters();
                Ok::<_, Failure>((model, Simulator::new(model.program(), parameters)?))
            };
            models.iter().map(one).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            face: &members.face,
            holders: simulators(&members.programs)?,
            combinations: simulators(combinations)?,
        })
    }

    /// Scores of every holder and of every combination.
    pub(crate) fn answers(&self, image: &[f32], seed: u64) -> Result<Answers, Failure> {
        let query = gather(self.face.program(), &[image])?;
        let mut replies: SlotValue = Vec::new();
        let mut holders = Vec::new();
        for (at, (model, simulator)) in self.holders.iter().enumerate() {
            let reply = simulator.run(&query, seed ^ ((at as u64 + 1) << 32))?;
            holders.push(scatter(model.program(), &reply, 1)?.remove(0));
            replies.extend(reply);
        }
        let combine = |(model, simulator): &(&Model, Simulator<'_>)| {
            let slots = simulator.run(&replies, seed)?;
            Ok::<_, Failure>(scatter(model.program(), &slots, 1)?.remove(0))
        };
        let rules = self.combinations.iter().map(combine);
        Ok(Answers {
            holders,
            rules: rules.collect::<Result<_, _>>()?,
        })
    }
}

/// The network whose scores are largest on the calibration data.
fn largest_scores(networks: &[Graph], calibration: &[Tensor]) -> Result<usize, Failure> {
    let mut largest = (0, 0.0f32);
    for (at, graph) in networks.iter().enumerate() {
        let graph = without_softmax(graph);
        let executor = scuro_nn::reference::Executor::new(&graph)?;
        let fill = |i: usize, out: &mut [f32]| out.copy_from_slice(&calibration[i].data);
        let scores = executor.run_each(calibration.len(), fill);
        let most = scores
            .iter()
            .fold(0.0f32, |most, score| most.max(score.abs()));
        if most > largest.1 {
            largest = (at, most);
        }
    }
    Ok(largest.0)
}

/// Scores of one image.
#[derive(Debug, Clone)]
pub(crate) struct Answers {
    /// Of every holder.
    pub(crate) holders: Vec<Vec<f64>>,
    /// Of every combination, in the order in which they were given.
    pub(crate) rules: Vec<Vec<f64>>,
}

/// A user with keys, holders with encoded weights, and a coordinator with encoded rules.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    keys: EvaluationKeys,
    holders: Vec<Prepared>,
    /// Who reads what a rule gives, and what computes it.
    combinations: BTreeMap<RuleKind, (Client, Prepared)>,
}

impl Session {
    /// Makes keys for the face and encodes all weights.
    pub(crate) fn new(members: &Members, rules: &[Rule]) -> Result<Self, Failure> {
        let keys = KeySet::generate(&members.face, &mut secrets::generator()?)?;
        let prepare = |model: &Model| Prepared::new(model.program(), model.scheme().clone());
        let holders = members
            .programs
            .iter()
            .map(prepare)
            .collect::<Result<_, _>>()?;
        let client = Client::new(&members.face, keys.secret)?;
        let mut combinations = BTreeMap::new();
        for rule in rules.iter().filter(|rule| rule.kind().is_polynomial()) {
            let model = members.combination(rule)?;
            let prepared = prepare(&model)?;
            let reader = client.with_model(&model)?;
            combinations.insert(rule.kind(), (reader, prepared));
        }
        Ok(Self {
            client,
            keys: keys.evaluation,
            holders,
            combinations,
        })
    }

    /// One image as the user sends it.
    pub(crate) fn encrypt(&self, image: &[f32]) -> Result<Bundle, Failure> {
        Ok(self.client.encrypt(&[image], &mut secrets::generator()?)?)
    }

    /// The query's ciphertexts, as holders read them.
    pub(crate) fn open(&self, query: &Bundle) -> Result<Vec<AnyCiphertext>, Failure> {
        let mut runs = self.client.model().open_query(query)?;
        runs.pop()
            .ok_or_else(|| Failure::internal("a query without a run".to_string()))
    }

    /// The reply of one holder.
    pub(crate) fn ask(
        &self,
        holder: usize,
        query: &[AnyCiphertext],
    ) -> Result<Vec<AnyCiphertext>, Failure> {
        Ok(self.holders[holder].evaluate(&self.keys, query, 1, &mut |_| {})?)
    }

    /// What the coordinator makes of all replies.
    pub(crate) fn combined<'r>(
        &self,
        rule: RuleKind,
        replies: impl Into<Cow<'r, [AnyCiphertext]>>,
    ) -> Result<Vec<AnyCiphertext>, Failure> {
        let (_, prepared) = self.combination(rule)?;
        Ok(prepared.evaluate(&self.keys, replies, 1, &mut |_| {})?)
    }

    /// The same as the user gets it.
    pub(crate) fn combine(
        &self,
        rule: RuleKind,
        replies: &[AnyCiphertext],
    ) -> Result<Bundle, Failure> {
        let model = self.combination(rule)?.0.model();
        let (period, precision) = {
            let program = model.program();
            (
                combination::period(program),
                combination::precision(program),
            )
        };
        let reply = model.reply(1, &[self.combined(rule, replies)?])?;
        Ok(model.short_reply(&reply, period, precision)?)
    }

    /// Bytes of the evaluation keys as they are sent.
    pub(crate) fn key_bytes(&self) -> usize {
        self.keys.to_bytes(self.client.model().context()).len()
    }

    /// What the user reads in a combined reply.
    pub(crate) fn decrypt(&self, rule: RuleKind, reply: &Bundle) -> Result<Prediction, Failure> {
        let mut predictions = self.combination(rule)?.0.decrypt(reply)?;
        predictions
            .pop()
            .ok_or_else(|| Failure::internal("a reply without an answer".to_string()))
    }

    /// Scores of every holder and of every rule, all on ciphertexts.
    pub(crate) fn answers(&self, rules: &[RuleKind], image: &[f32]) -> Result<Answers, Failure> {
        let query = self.open(&self.encrypt(image)?)?;
        let (mut replies, mut holders) = (Vec::new(), Vec::new());
        for holder in 0..self.holders.len() {
            let reply = self.ask(holder, &query)?;
            let single = self.client.model().reply(1, std::slice::from_ref(&reply))?;
            holders.extend(self.client.decrypt(&single)?.into_iter().map(|p| p.scores));
            replies.extend(reply);
        }
        let combined = |&rule: &RuleKind| {
            let reply = self.combine(rule, &replies)?;
            Ok::<_, Failure>(self.decrypt(rule, &reply)?.scores)
        };
        let rules = rules.iter().map(combined).collect::<Result<_, _>>()?;
        Ok(Answers { holders, rules })
    }

    fn combination(&self, rule: RuleKind) -> Result<&(Client, Prepared), Failure> {
        let found = self.combinations.get(&rule);
        found.ok_or_else(|| Failure::internal(format!("the rule {rule} was not prepared")))
    }
}
