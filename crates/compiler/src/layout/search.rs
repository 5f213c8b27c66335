//! Beam search over the layouts of all variables.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::assignment::Assignment;
use super::bsgs::{self, SplitCost, StepGroup, StepSets};
use super::matching::{self, Operand};
use super::windows::WindowSum;
use super::{Layout, candidates};
use crate::cost::CostModel;
use crate::ensemble::{self, Ensemble};
use crate::error::CompileError;
use crate::normalise::{AffineMap, Network, Pools, Stage, StageKind, Var};
use crate::sparse::Sparse;

/// Partial plans kept after each stage.
const BEAM: usize = 4;
/// Candidates this many times dearer than the cheapest are not looked at further.
const PRUNE_FACTOR: f64 = 4.0;
/// Plans up to this many times dearer than the cheapest are worth a second look.
const COMPARABLE: f64 = 1.25;
/// Most values of all diagonals of a stage (four bytes each).
const MAX_DIAGONAL_VALUES: u64 = 1 << 29;

/// The plan of one affine stage.
#[derive(Debug, Clone)]
pub(crate) enum Choice {
    /// Products with diagonals.
    Diagonals {
        assignment: Arc<Assignment>,
        cost: SplitCost,
        count: usize,
    },
    /// The sum of the operand and its rotations by these steps.
    Rotations(Vec<u32>),
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Rotations(offsets) => write!(f, "sums, rotations by {offsets:?}"),
            Choice::Diagonals {
                assignment,
                cost,
                count,
            } => {
                let SplitCost {
                    split,
                    babies,
                    giants,
                    keys,
                    micros,
                } = cost;
                write!(
                    f,
                    "{}: {count} diagonals, width {} inner {:?} ({babies} babies, {giants} giants, \
                     {keys} keys), folds {:?}, {micros:.0} us",
                    assignment.name, split.width, split.inner, assignment.folds,
                )
            }
        }
    }
}

/// Layouts of all variables and plans of all affine stages.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) layouts: Vec<Arc<Layout>>,
    pub(crate) choices: Vec<Option<Choice>>,
    pub(crate) micros: f64,
    /// Says which normal form it is a plan of.
    pub(crate) pools: Pools,
    /// Whether the last sums are read by a trace instead of folded.
    pub(crate) traced: bool,
}

impl Plan {
    pub(crate) fn dump(&self, network: &Network) -> String {
        let mut text = format!(
            "estimated {:.0} us\nx0: {}\n",
            self.micros,
            self.layouts[0].describe()
        );
        for (index, stage) in network.stages.iter().enumerate() {
            let _ = writeln!(
                text,
                "x{}: {}",
                index + 1,
                self.layouts[index + 1].describe()
            );
            if let Some(choice) = &self.choices[index] {
                let _ = writeln!(text, "    [{}] {choice}", stage.layer);
            }
        }
        text
    }
}

/// What is searched for: plans for one image in ciphertexts of `slots` slots, each of which stands
/// for one of every of `images` images.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) slots: usize,
    pub(crate) images: usize,
    pub(crate) pools: Pools,
    /// Query and reply are laid out as those of other programs.
    pub(crate) ensemble: Option<&'a Ensemble>,
    /// Whether the reply is traced.
    pub(crate) traced: bool,
}

/// Finds the cheapest plan, and those that cost little more: which of them is fastest depends on
/// the noise too, which is not known yet.
///
/// # Errors
/// A stage whose diagonals exceed the limit under every candidate, or an output that no candidate
/// keeps clean.
pub(crate) fn run(
    network: &Network,
    wanted: Wanted<'_>,
    cost: &CostModel,
) -> Result<(Plan, Vec<Plan>), CompileError> {
    let Wanted {
        slots,
        images,
        pools,
        ensemble,
        traced,
    } = wanted;
    let search = Search {
        network,
        slots,
        images,
        pools,
        ensemble,
        traced,
        cost,
        depth: remaining_depth(network),
    };
    let mut beam = search.start();
    for index in 0..network.stages.len() {
        beam = search.extend(beam, index)?;
    }
    // `extend` never returns an empty beam.
    let mut others = beam.split_off(1);
    let best = beam.swap_remove(0);
    others.retain(|plan| plan.micros <= best.micros * COMPARABLE);
    Ok((best, others))
}

/// Multiplications on the longest path from each stage (included) to the output.
fn remaining_depth(network: &Network) -> Vec<u32> {
    let count = network.stages.len();
    let mut depth = vec![1; count + 1];
    for index in (0..count).rev() {
        let own = depth[index + 1];
        for var in operands_of(&network.stages[index].kind) {
            depth[var] = depth[var].max(own + 1);
        }
    }
    depth.split_off(1)
}

/// Variables that a stage reads.
pub(crate) fn operands_of(kind: &StageKind) -> Vec<Var> {
    match kind {
        StageKind::Affine(map) => map.terms.iter().map(|(var, _)| *var).collect(),
        StageKind::Square(var) => vec![*var],
        StageKind::Product(a, b) => vec![*a, *b],
        StageKind::Combine { terms, .. } => terms.iter().map(|(var, _)| *var).collect(),
    }
}

struct Search<'a> {
    network: &'a Network,
    slots: usize,
    images: usize,
    pools: Pools,
    ensemble: Option<&'a Ensemble>,
    traced: bool,
    cost: &'a CostModel,
    depth: Vec<u32>,
}

impl Search<'_> {
    fn start(&self) -> Vec<Plan> {
        let reads_query = |stage: &'_ Stage| match &stage.kind {
            StageKind::Affine(map) => {
                let (_, matrix) = map.terms.iter().find(|(var, _)| *var == 0)?;
                Some((matrix.clone(), stage.shape.clone()))
            }
            _ => None,
        };
        let first: Vec<_> = self.network.stages.iter().filter_map(reads_query).collect();
        let first: Vec<_> = first
            .iter()
            .map(|(m, s)| (m.as_ref(), s.as_slice()))
            .collect();
        let mut layouts = candidates::inputs(&self.network.input_shape, &first, self.slots);
        if let Some(face) = self.ensemble.and_then(|ensemble| ensemble.face.as_ref()) {
            layouts = ensemble::query_layout(face, layouts).into_iter().collect();
        }
        let plan = |layout: Layout| Plan {
            micros: (layout.ciphertexts() - 1) as f64 * self.cost.query_penalty(),
            layouts: vec![Arc::new(layout)],
            choices: Vec::new(),
            pools: self.pools,
            traced: self.traced,
        };
        layouts.into_iter().map(plan).collect()
    }

    fn extend(&self, beam: Vec<Plan>, index: usize) -> Result<Vec<Plan>, CompileError> {
        let mut next = Vec::new();
        for plan in &beam {
            match &self.network.stages[index].kind {
                StageKind::Affine(map) => self.affine(plan, index, map, &mut next),
                other => next.extend(slotwise(plan, other)),
            }
        }
        next.sort_by(|a, b| a.micros.total_cmp(&b.micros));
        let mut seen = HashSet::new();
        next.retain(|plan| seen.insert(fingerprint(plan)));
        next.truncate(BEAM);
        if next.is_empty() {
            return Err(self.nothing_fits(index));
        }
        Ok(next)
    }

    fn nothing_fits(&self, index: usize) -> CompileError {
        let stage = &self.network.stages[index];
        let layer = stage.layer.clone();
        let outputs = stage.shape.iter().product();
        if index + 1 == self.network.output && self.ensemble.is_some() {
            let slots = self.slots;
            return CompileError::EnsembleLayout {
                layer,
                outputs,
                slots,
            };
        }
        if index + 1 == self.network.output {
            return CompileError::LeakyOutput { layer };
        }
        CompileError::TooLarge {
            layer,
            what: "values of all diagonals",
            found: outputs as u64 * self.values_of_diagonal(),
            limit: MAX_DIAGONAL_VALUES,
        }
    }

    fn values_of_diagonal(&self) -> u64 {
        self.slots as u64 * self.images as u64
    }

    /// A factor of a product must have the layout of the other factor, if that has one already.
    fn twin(&self, plan: &Plan, index: usize) -> Option<Var> {
        let var = index + 1;
        self.network
            .stages
            .iter()
            .find_map(|stage| match stage.kind {
                StageKind::Product(a, b) if b == var && a < plan.layouts.len() => Some(a),
                StageKind::Product(a, b) if a == var && b < plan.layouts.len() => Some(b),
                _ => None,
            })
    }

    fn affine(&self, plan: &Plan, index: usize, map: &AffineMap, next: &mut Vec<Plan>) {
        let stage = &self.network.stages[index];
        if let Some(plan) = self.in_place(plan, index, map) {
            next.push(plan);
            return;
        }
        let operands = operands(map, &plan.layouts);
        let elements = stage.shape.iter().product();
        let mut assignments = match self.twin(plan, index) {
            Some(twin) => vec![Assignment::like(&plan.layouts[twin])],
            None => self.candidates(plan, index, map),
        };
        if assignments.len() > 1 || self.twin(plan, index).is_none() {
            let grid = super::Grid::VECTOR;
            assignments.push(Assignment::sequential(elements, self.slots, grid));
        }
        let mut priced: Vec<(Assignment, SplitCost, usize)> = Vec::new();
        let mut limit = f64::INFINITY;
        for assignment in assignments {
            if let Some((cost, diagonals)) = self.price(&assignment, &operands, index, limit) {
                limit = limit.min(PRUNE_FACTOR * cost.micros);
                priced.push((assignment, cost, diagonals));
            }
        }
        priced.sort_by(|a, b| a.1.micros.total_cmp(&b.1.micros));
        let mut kept = 0;
        for (assignment, cost, diagonals) in priced {
            let layout = assignment.layout(self.slots, elements);
            let is_output = index + 1 == self.network.output;
            let fits = layout.is_complete() && (!is_output || self.may_reply(&layout));
            if kept >= 2 * BEAM || !fits {
                continue;
            }
            kept += 1;
            let mut plan = plan.clone();
            plan.micros += cost.micros;
            plan.layouts.push(Arc::new(layout));
            plan.choices.push(Some(Choice::Diagonals {
                assignment: Arc::new(assignment),
                cost,
                count: diagonals,
            }));
            next.push(plan);
        }
    }

    /// The plan with the sums of a pool in place, if that is asked for and can be.
    fn in_place(&self, plan: &Plan, index: usize, map: &AffineMap) -> Option<Plan> {
        let &[(operand, _)] = &map.terms[..] else {
            return None;
        };
        if self.pools == Pools::Packed || self.twin(plan, index).is_some() {
            return None;
        }
        let (input, output) = (self.network.shape(operand), self.network.shape(index + 1));
        let WindowSum { offsets, layout } =
            WindowSum::find(map, &plan.layouts[operand], input, output)?;
        if index + 1 == self.network.output && !self.may_reply(&layout) {
            return None;
        }
        let mut plan = plan.clone();
        let each = self.cost.hoisted(self.limbs(index), offsets.len());
        plan.micros += layout.ciphertexts() as f64 * each;
        plan.layouts.push(Arc::new(layout));
        plan.choices.push(Some(Choice::Rotations(offsets)));
        Some(plan)
    }

    /// Whether a reply may lie so.
    fn may_reply(&self, layout: &Layout) -> bool {
        layout.is_leak_free() && (self.ensemble.is_none() || ensemble::is_common(layout))
    }

    /// About how many primes are left at a stage.
    fn limbs(&self, index: usize) -> usize {
        (self.depth[index] as usize + 3) / 2
    }

    fn candidates(&self, plan: &Plan, index: usize, map: &AffineMap) -> Vec<Assignment> {
        let Some((main, matrix)) = map.terms.iter().max_by_key(|(_, m)| m.nonzeros()) else {
            return Vec::new();
        };
        let period = map.terms.iter().map(|(v, _)| plan.layouts[*v].period).max();
        candidates::outputs(
            &plan.layouts[*main],
            matrix,
            self.network.shape(*main),
            &self.network.stages[index].shape,
            period.unwrap_or(self.slots),
        )
    }

    fn price(
        &self,
        assignment: &Assignment,
        operands: &[Operand<'_>],
        index: usize,
        limit: f64,
    ) -> Option<(SplitCost, usize)> {
        let sets = step_sets(assignment, operands, true)?;
        if sets.diagonals() as u64 * self.values_of_diagonal() > MAX_DIAGONAL_VALUES {
            return None;
        }
        let limbs = self.limbs(index);
        let row = assignment.grid.row;
        let mut cost = bsgs::best_split(&sets, self.cost, limbs, row, limit)?;
        let last = index + 1 == self.network.output;
        let fold_limbs = if last { limbs - 1 } else { limbs };
        let folds: f64 = match last && self.traced {
            true => 0.0,
            false => assignment
                .folds
                .iter()
                .map(|stage| self.cost.hoisted(fold_limbs, stage.len()))
                .sum(),
        };
        let ciphertexts = assignment.rows.len() as f64;
        // The slotwise product and the relinearisation that follow.
        let after = if last {
            0.0
        } else {
            self.cost.rotation(limbs) + self.cost.rescale(limbs, 2)
        };
        cost.micros += ciphertexts * (folds + after);
        Some((cost, sets.diagonals()))
    }
}

/// Operands of an affine map with their layouts.
pub(crate) fn operands<'a>(map: &'a AffineMap, layouts: &'a [Arc<Layout>]) -> Vec<Operand<'a>> {
    let operand = |(var, matrix): &'a (Var, Arc<Sparse>)| Operand {
        layout: &layouts[*var],
        matrix,
    };
    map.terms.iter().map(operand).collect()
}

/// The steps that an assignment needs; `None` if some weight has no place.
pub(crate) fn step_sets(
    assignment: &Assignment,
    operands: &[Operand<'_>],
    sampled: bool,
) -> Option<StepSets> {
    let modulus = assignment.modulus;
    let mut first_input = vec![0];
    for operand in operands {
        first_input.push(first_input[first_input.len() - 1] + operand.layout.ciphertexts());
    }
    let inputs = first_input[operands.len()];
    let outputs = assignment.rows.len();
    let mut used = vec![false; outputs * inputs * modulus];
    let complete = matching::place(assignment, operands, sampled, |p| {
        let input = first_input[p.operand as usize] + p.ciphertext as usize;
        used[(p.output as usize * inputs + input) * modulus + p.step as usize] = true;
    });
    let mut groups = Vec::new();
    for (group, flags) in used.chunks(modulus).enumerate() {
        let steps: Vec<u32> = flags
            .iter()
            .enumerate()
            .filter(|&(_, &f)| f)
            .map(|(s, _)| s as u32)
            .collect();
        if !steps.is_empty() {
            groups.push(StepGroup {
                output: (group / inputs) as u32,
                input: group % inputs,
                steps,
            });
        }
    }
    complete.then_some(StepSets {
        modulus,
        outputs,
        groups,
    })
}

/// Extends a plan by a slotwise stage; nothing if its operands' layouts do not meet.
fn slotwise(plan: &Plan, kind: &StageKind) -> Option<Plan> {
    let layout = match kind {
        StageKind::Product(a, b) => {
            let (a, b) = (&plan.layouts[*a], &plan.layouts[*b]);
            if a.ciphertexts() != b.ciphertexts() {
                return None;
            }
            Arc::new(a.product(b))
        }
        other => plan.layouts[operands_of(other)[0]].clone(),
    };
    if !layout.is_complete() {
        return None;
    }
    let mut plan = plan.clone();
    plan.layouts.push(layout);
    plan.choices.push(None);
    Some(plan)
}

fn fingerprint(plan: &Plan) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut known: HashMap<*const Layout, u64> = HashMap::new();
    for layout in &plan.layouts {
        let pointer = Arc::as_ptr(layout);
        let value = *known.entry(pointer).or_insert_with(|| {
            let mut own = DefaultHasher::new();
            layout.hash(&mut own);
            own.finish()
        });
        value.hash(&mut hasher);
    }
    hasher.finish()
}
