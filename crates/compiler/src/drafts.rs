//! Plans of layouts worth settling, and the steps that follow from them.

use std::collections::BTreeMap;

use crate::cost::CostModel;
use crate::error::CompileError;
use crate::layout::search::{self, Plan, Wanted};
use crate::levels::Emitted;
use crate::lower;
use crate::normalise::{Network, Pools};
use crate::options::{Options, Rotations};
use crate::parameters::Degree;
use crate::rotations::{Keys, Rotating, Within};
use crate::{ensemble, interleave};

/// Where keys are few, what they are worth in the search for layouts, as multiples of the usual:
/// plans that need few differ from those that are fast.
const KEY_WORTHS: [f64; 4] = [1.0, 4.0, 16.0, 64.0];
/// Plans kept of those found.
const KEPT: usize = 3;
/// The same of each guess at the levels of steps, where keys are given.
const KEPT_WITHIN: usize = 2;

/// A plan with what decides about its steps.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) plan: Plan,
    pub(crate) lowering: Lowering,
}

/// How steps follow from a plan.
#[derive(Debug, Clone)]
pub(crate) struct Lowering {
    cost: CostModel,
    images: usize,
    /// Rotations that there may be keys for, if not all.
    allowed: Option<Keys>,
}

/// Steps with a choice of keys, and their predicted time.
type Allowing = Result<(f64, Lowering), CompileError>;

impl Lowering {
    /// The steps of a plan.
    ///
    /// # Errors
    /// Rotations that the allowed ones do not add up to.
    pub(crate) fn steps(&self, network: &Network, plan: &Plan) -> Result<Within, CompileError> {
        let mut skeleton = lower::run(network, plan, &self.cost)?;
        interleave::skeleton(&mut skeleton, self.images);
        match &self.allowed {
            Some(keys) => Rotating::new(&skeleton, self.cost).within(keys),
            None => Ok(Within {
                of: (0..skeleton.steps.len()).collect(),
                skeleton,
            }),
        }
    }

    /// Takes in at which levels rotations are: a step for which some key is too low is not to use
    /// such keys. `steps` says of each step of the skeleton which step it was made for.
    ///
    /// # Errors
    /// [`CompileError::RotationLevel`] for the first such step.
    pub(crate) fn check_levels(
        &mut self,
        steps: &[usize],
        emitted: &Emitted,
    ) -> Result<(), CompileError> {
        let Some(keys) = &mut self.allowed else {
            return Ok(());
        };
        let mut first = None;
        for (step, &of) in emitted.steps.iter().zip(&emitted.of) {
            if let Some((amount, found)) = keys.short(step) {
                let needed = step.estimate.level;
                keys.raise(steps[of], needed);
                first.get_or_insert_with(|| CompileError::RotationLevel {
                    layer: step.layer.clone(),
                    amount,
                    needed,
                    found,
                });
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// The same with rotations that may be, and the predicted time of the steps: for each choice of
    /// keys.
    fn allowing(
        &self,
        network: &Network,
        plan: &Plan,
        rotations: &Rotations,
    ) -> Result<Vec<Allowing>, CompileError> {
        let Within { skeleton, .. } = self.steps(network, plan)?;
        let rotating = Rotating::new(&skeleton, self.cost);
        let choices = match rotations {
            Rotations::Free => return Ok(vec![Ok((plan.micros, self.clone()))]),
            Rotations::Budget(count) => vec![Keys::of(rotating.choose(*count)?)],
            Rotations::Within(keys) => rotating.held(keys).to_vec(),
        };
        let with = |keys: Keys| {
            let micros = rotating.micros(&keys)?;
            let allowed = Some(keys);
            Ok((micros, Self { allowed, ..*self }))
        };
        Ok(choices.into_iter().map(with).collect())
    }
}

/// The draft for a degree that seems fastest, and others.
///
/// # Errors
/// As the search, and rotations that cannot be done with the keys that there may be.
pub(crate) fn run(
    network: &Network,
    options: &Options,
    degree: Degree,
    pools: Pools,
) -> Result<(Draft, Vec<Draft>), CompileError> {
    let images = options.images_per_query;
    let places = slots(options, degree) / images;
    let usual = cost(options, degree);
    let wanted = Wanted {
        slots: places,
        images,
        pools,
        ensemble: options.ensemble.as_ref(),
        traced: ensemble::is_traced(options),
    };
    let plans = |worth| search::run(network, wanted, &usual.with_key_worth(worth));
    let draft = |plan, worth| Draft {
        plan,
        lowering: Lowering {
            cost: usual.with_key_worth(worth),
            images,
            allowed: None,
        },
    };
    if options.rotations == Rotations::Free {
        let (best, others) = plans(1.0)?;
        let others = others.into_iter().map(|plan| draft(plan, 1.0));
        return Ok((draft(best, 1.0), others.collect()));
    }
    let mut found = Found::default();
    for worth in KEY_WORTHS {
        let (best, others) = plans(worth)?;
        for plan in std::iter::once(best).chain(others) {
            let Draft { plan, lowering } = draft(plan, worth);
            match lowering.allowing(network, &plan, &options.rotations) {
                Ok(choices) => found.take(&plan, choices),
                Err(error) => found.refuse(error),
            }
        }
    }
    found.best(&options.rotations)
}

/// Drafts with few keys.
#[derive(Default)]
struct Found {
    /// With which choice of keys each is, and its predicted time.
    drafts: Vec<(usize, f64, Draft)>,
    refusal: Option<CompileError>,
}

impl Found {
    fn take(&mut self, plan: &Plan, choices: Vec<Allowing>) {
        for (mut choice, lowered) in choices.into_iter().enumerate() {
            match lowered {
                Ok((micros, lowering)) => {
                    // The plan that would be taken if keys were free: programs of one network share
                    // their keys.
                    if self.drafts.is_empty() {
                        choice = usize::MAX;
                    }
                    let plan = plan.clone();
                    self.drafts.push((choice, micros, Draft { plan, lowering }));
                }
                Err(error) => self.refuse(error),
            }
        }
    }

    fn refuse(&mut self, error: CompileError) {
        self.refusal = Some(milder(self.refusal.take(), error));
    }

    /// The fastest, those of each choice of keys among them: which keys are high enough depends on
    /// the levels, which are only guessed yet.
    fn best(mut self, rotations: &Rotations) -> Result<(Draft, Vec<Draft>), CompileError> {
        self.drafts.sort_by(|a, b| a.1.total_cmp(&b.1));
        match rotations {
            Rotations::Within(_) => {
                let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
                self.drafts.retain(|(choice, ..)| {
                    let count = seen.entry(*choice).or_default();
                    *count += 1;
                    *count <= KEPT_WITHIN
                });
            }
            _ => self.drafts.truncate(KEPT),
        }
        let mut drafts = self.drafts.into_iter().map(|(_, _, draft)| draft);
        match (drafts.next(), self.refusal) {
            (Some(first), _) => Ok((first, drafts.collect())),
            (None, Some(error)) => Err(error),
            (None, None) => unreachable!("the search finds plans, and each is drafted or refused"),
        }
    }
}

/// Of two refusals the one that asks for less.
fn milder(first: Option<CompileError>, second: CompileError) -> CompileError {
    match (first, &second) {
        (None, _) => second,
        (
            Some(CompileError::TooFewRotations { least: before, .. }),
            CompileError::TooFewRotations { least, .. },
        ) if *least < before => second,
        (Some(first), _) => first,
    }
}

/// What steps cost, as far as it is known before the primes are.
fn cost(options: &Options, degree: Degree) -> CostModel {
    CostModel::new(degree.log_n, likely_special_primes(degree))
        .with_weights(options.weights)
        .with_arithmetic(options.arithmetic)
}

/// Special primes that a modulus of this degree is likely to have room for; the layouts are chosen
/// before the primes are.
fn likely_special_primes(degree: Degree) -> usize {
    if degree.log_n > 13 { 2 } else { 1 }
}

fn slots(options: &Options, degree: Degree) -> usize {
    match options.ring {
        scuro_program::Ring::ConjugateInvariant => 1 << degree.log_n,
        scuro_program::Ring::Standard => 1 << (degree.log_n - 1),
    }
}
