//! Stacking: a linear model of all predictions.

use crate::error::{Error, Result};
use crate::held_out::HeldOut;
use crate::linear::Exponents;
use crate::numeric::{Factor, softmax, surprise};
use crate::rule::RuleKind;

/// Strengths of regularisation that are tried, the strongest first.
const STRENGTHS: [f64; 4] = [1.0, 1e-1, 1e-2, 1e-3];
/// Parts of the held-out examples in cross-validation.
const FOLDS: usize = 5;
/// Steps of one fit.
const STEPS: usize = 60;
/// Regularisation of the bias: only so much that it is determined.
const BIAS_STRENGTH: f64 = 1e-6;

/// `W [z_1 ... z_M] + b`, one row of `W` for each class.
///
/// Math:   `W`, `b` minimise the mean of `-ln softmax(W z + b)[label] + strength/2 |W - W_0|^2`;
///         `W_0` is the log-opinion pool: much regularisation gives the pool, little a free linear
///         model. The strength is chosen by cross-validation on the held-out examples.
/// Source: Wolpert 1992 (stacked generalisation: fitted on predictions of unseen examples); Bohning
///         1992 for the steps: the curvature is at most `1/2 (1 ⊗ Z'Z)`, so that steps with that
///         bound in the place of the curvature never overshoot
///
/// It keeps each holder's mean prediction, which stands for a holder that is absent.
#[derive(Debug, Clone, PartialEq)]
pub struct Stacking {
    holders: usize,
    classes: usize,
    /// `[class][holder * classes + class]`
    weights: Vec<Vec<f64>>,
    bias: Vec<f64>,
    /// `[holder * classes + class]`
    means: Vec<f64>,
}

impl Stacking {
    /// Checks the numbers of weights `[class][holder * classes + class]`, biases `[class]` and
    /// mean predictions `[holder * classes + class]`.
    ///
    /// # Errors
    /// [`Error::NoPredictions`] without holders or classes; [`Error::Count`];
    /// [`Error::Parameter`] for what is not finite.
    pub fn new(weights: Vec<Vec<f64>>, bias: Vec<f64>, means: Vec<f64>) -> Result<Self> {
        let (classes, columns) = (bias.len(), means.len());
        if classes == 0 || columns < classes {
            return Err(Error::NoPredictions);
        }
        count(
            "mean predictions",
            columns,
            columns.next_multiple_of(classes),
        )?;
        count("rows of weights", weights.len(), classes)?;
        weights
            .iter()
            .try_for_each(|row| count("weights in a row", row.len(), columns))?;
        let all = weights.iter().flatten().chain(&bias).chain(&means);
        if let Some(&found) = all.into_iter().find(|value| !value.is_finite()) {
            return Err(Error::Parameter {
                rule: RuleKind::Stacking,
                what: "a weight",
                found,
                expected: "finite",
            });
        }
        Ok(Self {
            holders: columns / classes,
            classes,
            weights,
            bias,
            means,
        })
    }

    /// Fitted on the held-out predictions.
    pub fn fitted(held_out: &HeldOut) -> Self {
        let problem = Problem::new(held_out);
        let all: Vec<usize> = (0..held_out.examples()).collect();
        let model = problem.fit(&all, problem.best_strength());
        let columns = problem.columns - 1;
        let weights = model.chunks_exact(problem.columns);
        Self {
            holders: held_out.holders(),
            classes: held_out.classes(),
            bias: weights.clone().map(|row| row[columns]).collect(),
            weights: weights
                .map(|row| row[..columns].iter().map(|w| w / problem.scale).collect())
                .collect(),
            means: problem.means(),
        }
    }

    /// Number of holders.
    pub fn holders(&self) -> usize {
        self.holders
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// One row for each class, in it the classes of the first holder, then of the second.
    pub fn weights(&self) -> &[Vec<f64>] {
        &self.weights
    }

    /// One for each class.
    pub fn bias(&self) -> &[f64] {
        &self.bias
    }

    /// Mean predictions, in the order of a row of weights.
    pub fn means(&self) -> &[f64] {
        &self.means
    }

    /// For the holders at `present` alone, in that order: what the others' mean predictions would
    /// add goes into the bias.
    ///
    /// # Panics
    /// If a position names no holder.
    pub(crate) fn restricted(&self, present: &[usize]) -> Self {
        let columns = |holder: &usize| holder * self.classes..(holder + 1) * self.classes;
        let picked = |row: &[f64]| -> Vec<f64> {
            let parts = present.iter().map(|holder| &row[columns(holder)]);
            parts.flatten().copied().collect()
        };
        let absent = (0..self.holders).filter(|holder| !present.contains(holder));
        let absent: Vec<usize> = absent.flat_map(|holder| columns(&holder)).collect();
        let stand_in = |row: &Vec<f64>| -> f64 {
            absent
                .iter()
                .map(|&column| row[column] * self.means[column])
                .sum()
        };
        let bias = self.weights.iter().zip(&self.bias);
        Self {
            holders: present.len(),
            classes: self.classes,
            bias: bias.map(|(row, bias)| bias + stand_in(row)).collect(),
            weights: self.weights.iter().map(|row| picked(row)).collect(),
            means: picked(&self.means),
        }
    }

    pub(crate) fn combine(&self, predictions: &[Vec<f64>]) -> Vec<f64> {
        let rows = self.weights.iter().zip(&self.bias);
        rows.map(|(row, bias)| {
            let values = predictions.iter().flatten();
            bias + row.iter().zip(values).map(|(w, z)| w * z).sum::<f64>()
        })
        .collect()
    }
}

fn count(what: &'static str, found: usize, expected: usize) -> Result<()> {
    let rule = RuleKind::Stacking;
    match found == expected {
        true => Ok(()),
        false => Err(Error::Count {
            rule,
            what,
            expected,
            found,
        }),
    }
}

/// The regression: predictions divided by their size, and a 1 for the bias as last column.
struct Problem<'a> {
    held_out: &'a HeldOut,
    classes: usize,
    columns: usize,
    scale: f64,
    /// `[example][column]`
    inputs: Vec<f64>,
    /// `W_0`, `[class][column]`.
    start: Vec<f64>,
}

impl<'a> Problem<'a> {
    fn new(held_out: &'a HeldOut) -> Self {
        let (holders, classes) = (held_out.holders(), held_out.classes());
        let (columns, scale) = (holders * classes + 1, held_out.root_mean_square());
        let mut inputs = Vec::with_capacity(held_out.examples() * columns);
        for example in 0..held_out.examples() {
            for holder in 0..holders {
                let scores = held_out.scores(holder, example).iter();
                inputs.extend(scores.map(|score| score / scale));
            }
            inputs.push(1.0);
        }
        let mut start = vec![0.0; classes * columns];
        for (holder, exponent) in Exponents::fitted(held_out).values().enumerate() {
            for class in 0..classes {
                start[class * columns + holder * classes + class] = exponent * scale;
            }
        }
        Self {
            held_out,
            classes,
            columns,
            scale,
            inputs,
            start,
        }
    }

    fn input(&self, example: usize) -> &[f64] {
        &self.inputs[example * self.columns..][..self.columns]
    }

    /// Mean prediction of each holder, unscaled.
    fn means(&self) -> Vec<f64> {
        let mut means = vec![0.0; self.columns - 1];
        for example in 0..self.held_out.examples() {
            let added = means.iter_mut().zip(self.input(example));
            added.for_each(|(mean, value)| *mean += value);
        }
        let factor = self.scale / self.held_out.examples() as f64;
        means.into_iter().map(|mean| mean * factor).collect()
    }

    fn scores(&self, model: &[f64], example: usize) -> Vec<f64> {
        let input = self.input(example);
        let rows = model.chunks_exact(self.columns);
        rows.map(|row| row.iter().zip(input).map(|(w, x)| w * x).sum())
            .collect()
    }

    /// The strength with the smallest cross-validated loss.
    fn best_strength(&self) -> f64 {
        let examples = 0..self.held_out.examples();
        let part = |inside: bool, fold: usize| -> Vec<usize> {
            let chosen = examples.clone().filter(|i| (i % FOLDS == fold) == inside);
            chosen.collect()
        };
        let loss = |strength: f64| -> f64 {
            let folds = (0..FOLDS).map(|fold| {
                let model = self.fit(&part(false, fold), strength);
                self.loss(&model, &part(true, fold))
            });
            folds.sum()
        };
        let losses = STRENGTHS.map(|strength| (strength, loss(strength)));
        let best = losses.iter().min_by(|a, b| a.1.total_cmp(&b.1));
        best.map_or(STRENGTHS[0], |best| best.0)
    }

    fn loss(&self, model: &[f64], examples: &[usize]) -> f64 {
        let labels = self.held_out.labels();
        let surprises = examples
            .iter()
            .map(|&example| surprise(&self.scores(model, example), labels[example]));
        surprises.sum()
    }

    /// Minimises over the examples named.
    fn fit(&self, examples: &[usize], strength: f64) -> Vec<f64> {
        let bound = Factor::new(&self.curvature_bound(examples, strength), self.columns);
        let mut model = self.start.clone();
        for _ in 0..STEPS {
            self.descend_assign(&mut model, &bound, examples, strength);
        }
        model
    }

    /// One step: the gradient divided by the bound of the curvature.
    fn descend_assign(&self, model: &mut [f64], bound: &Factor, examples: &[usize], strength: f64) {
        let mut step = self.gradient(model, examples, strength);
        let rows = step.chunks_exact_mut(self.columns);
        rows.for_each(|row| bound.solve_assign(row));
        let pairs = model.iter_mut().zip(&step);
        pairs.for_each(|(weight, step)| *weight -= step);
    }

    fn strength_of(&self, column: usize, strength: f64) -> f64 {
        if column + 1 == self.columns {
            BIAS_STRENGTH
        } else {
            strength
        }
    }

    /// `Z'Z / 2n + strength`.
    fn curvature_bound(&self, examples: &[usize], strength: f64) -> Vec<f64> {
        let n = self.columns;
        let mut bound = vec![0.0; n * n];
        for &example in examples {
            let input = self.input(example);
            for (row, x) in input.iter().enumerate() {
                let lower = &mut bound[row * n..][..=row];
                let pairs = lower.iter_mut().zip(input);
                pairs.for_each(|(sum, y)| *sum += x * y);
            }
        }
        let factor = 0.5 / examples.len() as f64;
        bound.iter_mut().for_each(|value| *value *= factor);
        for column in 0..n {
            bound[column * n + column] += self.strength_of(column, strength);
        }
        bound
    }

    fn gradient(&self, model: &[f64], examples: &[usize], strength: f64) -> Vec<f64> {
        let pull = model.iter().zip(&self.start).enumerate();
        let pull =
            pull.map(|(at, (w, w0))| self.strength_of(at % self.columns, strength) * (w - w0));
        let mut gradient: Vec<f64> = pull.collect();
        let share = 1.0 / examples.len() as f64;
        for &example in examples {
            let mut errors = softmax(&self.scores(model, example));
            errors[self.held_out.labels()[example]] -= 1.0;
            let rows = gradient.chunks_exact_mut(self.columns);
            for (row, error) in rows.zip(errors) {
                let pairs = row.iter_mut().zip(self.input(example));
                pairs.for_each(|(sum, x)| *sum += share * error * x);
            }
        }
        debug_assert_eq!(gradient.len(), self.classes * self.columns);
        gradient
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::held_out::samples::held_out;
    use crate::numeric::argmax;

    fn hand_made() -> Stacking {
        // Two holders, two classes.
        let weights = vec![vec![1.0, 0.0, 2.0, 0.0], vec![0.0, 1.0, -1.0, 3.0]];
        Stacking::new(weights, vec![0.5, -0.5], vec![1.0, 2.0, 3.0, 4.0]).unwrap()
    }

    #[test]
    fn scores_are_those_worked_by_hand() {
        let found = hand_made().combine(&[vec![1.0, -1.0], vec![0.5, 2.0]]);
        assert_eq!(found, [1.0 + 1.0 + 0.5, -1.0 - 0.5 + 6.0 - 0.5]);
    }

    #[test]
    fn the_mean_prediction_stands_for_an_absent_holder() {
        let whole = hand_made();
        let rest = whole.restricted(&[0]);
        let here = vec![1.0, -1.0];
        let stand_in = vec![3.0, 4.0];
        assert_eq!(
            rest.combine(std::slice::from_ref(&here)),
            whole.combine(&[here.clone(), stand_in])
        );
        assert_eq!(rest.means(), [1.0, 2.0]);
        let swapped = whole.restricted(&[1, 0]);
        let other = vec![0.5, 2.0];
        assert_eq!(
            swapped.combine(&[other.clone(), here.clone()]),
            whole.combine(&[here, other])
        );
    }

    #[test]
    fn steps_never_raise_the_cost() {
        let held_out = held_out(&[1.0, 2.0], 3, 150);
        let problem = Problem::new(&held_out);
        let all: Vec<usize> = (0..150).collect();
        let cost = |model: &[f64]| {
            let pairs = model.iter().zip(&problem.start).enumerate();
            let pull = pairs.map(|(at, (w, w0))| {
                problem.strength_of(at % problem.columns, 1e-3) * (w - w0).powi(2) / 2.0
            });
            problem.loss(model, &all) / 150.0 + pull.sum::<f64>()
        };
        let bound = Factor::new(&problem.curvature_bound(&all, 1e-3), problem.columns);
        let mut model = problem.start.clone();
        let size = |model: &[f64]| {
            let slope = problem.gradient(model, &all, 1e-3);
            slope.iter().map(|v| v * v).sum::<f64>().sqrt()
        };
        let steep = size(&model);
        for _ in 0..200 {
            let before = cost(&model);
            problem.descend_assign(&mut model, &bound, &all, 1e-3);
            assert!(cost(&model) <= before + 1e-12);
        }
        assert!(size(&model) < 0.2 * steep, "{} {steep}", size(&model));
    }

    #[test]
    fn it_learns_what_a_mean_cannot() {
        // The second holder calls class 0 what is class 1, and the other way round.
        let honest = held_out(&[0.3, 4.0], 2, 400);
        let labels = honest.labels().to_vec();
        let predictions = (0..2)
            .map(|holder| {
                let turn = |example| {
                    let scores = honest.scores(holder, example);
                    match holder {
                        0 => scores.to_vec(),
                        _ => vec![scores[1], scores[0]],
                    }
                };
                (0..400).map(turn).collect()
            })
            .collect();
        let liar = HeldOut::new(predictions, labels).unwrap();
        let stacking = Stacking::fitted(&liar);
        let right = (0..400).filter(|&example| {
            let both = [0, 1].map(|holder| liar.scores(holder, example).to_vec());
            argmax(&stacking.combine(&both)) == liar.labels()[example]
        });
        assert!(right.count() > 380);
        assert!(liar.accuracy(0) < 0.8 && liar.accuracy(1) < 0.1);
    }

    #[test]
    fn wrong_counts_and_numbers_are_errors() {
        let rows = |row: Vec<f64>| vec![row.clone(), row];
        let (bias, means) = (vec![0.0; 2], vec![0.0; 4]);
        let narrow = Stacking::new(rows(vec![0.0; 3]), bias.clone(), means.clone());
        assert!(matches!(narrow, Err(Error::Count { found: 3, .. })));
        let short = Stacking::new(vec![vec![0.0; 4]], bias.clone(), means.clone());
        assert!(matches!(short, Err(Error::Count { found: 1, .. })));
        let uneven = Stacking::new(rows(vec![0.0; 3]), bias.clone(), vec![0.0; 3]);
        assert!(matches!(uneven, Err(Error::Count { found: 3, .. })));
        let infinite = Stacking::new(rows(vec![f64::INFINITY; 4]), bias, means);
        assert!(matches!(infinite, Err(Error::Parameter { .. })));
        let empty = Stacking::new(Vec::new(), Vec::new(), Vec::new());
        assert!(matches!(empty, Err(Error::NoPredictions)));
    }
}
