//! First-order optimisers with the update rules and defaults of Keras 3, and learning-rate
//! schedules.

use crate::layers::parameters;
use crate::network::ParameterGradients;
use scuro_nn::graph::Graph;

/// An update rule.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Optimiser {
    /// Stochastic gradient descent: `v = m v - lr g`, `w += v` (or `w += m v - lr g` with
    /// Nesterov's look-ahead).
    Sgd {
        /// `m`.
        momentum: f32,
        /// Nesterov's form.
        nesterov: bool,
    },
    /// Adam (Kingma and Ba 2015, the efficient form of section 2).
    Adam {
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Added to the root.
        epsilon: f32,
    },
    /// RMSprop as Keras has it: `s = rho s + (1 - rho) g^2`, `step = lr g / sqrt(s + epsilon)`, `v
    /// = m v + step`.
    RmsProp {
        /// Decay of the squares.
        rho: f32,
        /// `m`; 0 for none.
        momentum: f32,
        /// Added under the root.
        epsilon: f32,
    },
}

impl Optimiser {
    /// Adam with Keras's constants.
    pub fn adam() -> Self {
        Self::Adam {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-7,
        }
    }

    /// RMSprop with Keras's constants.
    pub fn rms_prop() -> Self {
        Self::RmsProp {
            rho: 0.9,
            momentum: 0.0,
            epsilon: 1e-7,
        }
    }

    /// Gradient descent with momentum.
    pub fn sgd(momentum: f32, nesterov: bool) -> Self {
        Self::Sgd { momentum, nesterov }
    }
}

/// The learning rate over a run, as a multiple of the base rate.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Schedule {
    /// Always the base rate.
    Constant,
    /// Times `factor` after every `epochs` epochs.
    Step {
        /// Epochs between two steps.
        epochs: usize,
        /// Multiplier of each step.
        factor: f32,
    },
    /// Half a cosine from the base rate to `floor` times it.
    Cosine {
        /// Last rate as a share of the base rate.
        floor: f32,
    },
}

impl Schedule {
    /// Share of the base rate at `step` of `steps`; the first `warm_up` steps rise linearly.
    pub fn share(self, step: usize, steps: usize, steps_per_epoch: usize, warm_up: usize) -> f32 {
        if step < warm_up {
            return (step + 1) as f32 / warm_up as f32;
        }
        match self {
            Self::Constant => 1.0,
            Self::Step { epochs, factor } => {
                let epoch = step / steps_per_epoch.max(1);
                factor.powi(i32::try_from(epoch / epochs.max(1)).unwrap_or(i32::MAX))
            }
            Self::Cosine { floor } => {
                let done = (step - warm_up) as f32 / steps.saturating_sub(warm_up).max(1) as f32;
                let wave = 0.5 * (1.0 + (std::f32::consts::PI * done.min(1.0)).cos());
                floor + (1.0 - floor) * wave
            }
        }
    }
}

/// An update rule with its moments.
#[derive(Debug)]
pub(crate) struct Updates {
    rule: Optimiser,
    weight_decay: f32,
    steps: i32,
    first: ParameterGradients,
    second: ParameterGradients,
}

impl Updates {
    /// Starts with zero moments, shaped as `zeros`.
    pub(crate) fn new(rule: Optimiser, weight_decay: f32, zeros: ParameterGradients) -> Self {
        Self {
            rule,
            weight_decay,
            steps: 0,
            first: zeros.clone(),
            second: zeros,
        }
    }

    /// Changes the weights of `graph` by one step. Weight decay is decoupled: `w -= lr * decay *
    /// w`, before the step.
    pub(crate) fn apply(&mut self, graph: &mut Graph, gradients: &ParameterGradients, rate: f32) {
        self.steps = self.steps.saturating_add(1);
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((node, gradients), (first, second)) in
            graph.nodes.iter_mut().zip(gradients).zip(moments)
        {
            let moments = first.iter_mut().zip(second);
            for ((parameter, g), (m, v)) in parameters(&mut node.op)
                .into_iter()
                .zip(gradients)
                .zip(moments)
            {
                if parameter.decays && self.weight_decay > 0.0 {
                    let keep = 1.0 - rate * self.weight_decay;
                    parameter.values.iter_mut().for_each(|w| *w *= keep);
                }
                update(self.rule, self.steps, rate, parameter.values, g, m, v);
            }
        }
    }
}

fn update(
    rule: Optimiser,
    steps: i32,
    rate: f32,
    weights: &mut [f32],
    gradients: &[f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    let moments = first.iter_mut().zip(second);
    let all = weights.iter_mut().zip(gradients).zip(moments);
    match rule {
        Optimiser::Sgd { momentum, nesterov } => all.for_each(|((w, g), (m, _))| {
            *m = momentum * *m - rate * g;
            *w += if nesterov {
                momentum * *m - rate * g
            } else {
                *m
            };
        }),
        Optimiser::Adam {
            beta1,
            beta2,
            epsilon,
        } => {
            let alpha = rate * (1.0 - beta2.powi(steps)).sqrt() / (1.0 - beta1.powi(steps));
            all.for_each(|((w, g), (m, v))| {
                *m += (g - *m) * (1.0 - beta1);
                *v += (g * g - *v) * (1.0 - beta2);
                *w -= alpha * *m / (v.sqrt() + epsilon);
            });
        }
        Optimiser::RmsProp {
            rho,
            momentum,
            epsilon,
        } => all.for_each(|((w, g), (m, v))| {
            *v = rho * *v + (1.0 - rho) * g * g;
            let step = rate * g / (*v + epsilon).sqrt();
            *m = momentum * *m + step;
            *w -= *m;
        }),
    }
}

/// Scales the gradients down to a total Euclidean norm of `limit`, if they exceed it; returns the
/// norm before.
pub(crate) fn clip_norm(gradients: &mut ParameterGradients, limit: f32) -> f32 {
    let all = gradients.iter().flatten().flatten();
    let norm = all
        .map(|g| f64::from(*g) * f64::from(*g))
        .sum::<f64>()
        .sqrt() as f32;
    if norm > limit {
        let factor = limit / norm;
        gradients
            .iter_mut()
            .flatten()
            .flatten()
            .for_each(|g| *g *= factor);
    }
    norm
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The weight after `gradients.len()` steps from 1 at a rate of 0.1.
    fn walk(rule: Optimiser, gradients: &[f32]) -> f32 {
        let (mut w, mut first, mut second) = ([1.0], [0.0], [0.0]);
        for (step, g) in gradients.iter().enumerate() {
            update(
                rule,
                step as i32 + 1,
                0.1,
                &mut w,
                &[*g],
                &mut first,
                &mut second,
            );
        }
        w[0]
    }

    /// The expected values follow from the formulas in double precision.
    #[test]
    fn updates_follow_keras_step_by_step() {
        let gradients = [0.5, -0.2, 0.3];
        let cases = [
            (Optimiser::sgd(0.0, false), 1.0 - 0.1 * 0.6),
            (Optimiser::sgd(0.9, false), 0.8725),
            (Optimiser::sgd(0.9, true), 0.825_25),
            (Optimiser::adam(), 0.810_996),
            (Optimiser::rms_prop(), 0.641_111),
        ];
        for (rule, expected) in cases {
            let found = walk(rule, &gradients);
            assert!(
                (found - expected).abs() < 1e-4,
                "{rule:?}: {found}, expected {expected}"
            );
        }
    }

    #[test]
    fn schedules_start_warm_end_low_and_step_by_epochs() {
        let cosine = Schedule::Cosine { floor: 0.1 };
        let shares = [0, 9, 10, 55, 100].map(|step| cosine.share(step, 100, 10, 10));
        for (found, expected) in shares.into_iter().zip([0.1, 1.0, 1.0, 0.55, 0.1]) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
        let step = Schedule::Step {
            epochs: 2,
            factor: 0.5,
        };
        assert_eq!(
            [0, 19, 20, 40].map(|s| step.share(s, 100, 10, 0)),
            [1.0, 1.0, 0.5, 0.25]
        );
    }

    #[test]
    fn clipping_keeps_the_direction() {
        let mut gradients = vec![vec![vec![3.0], vec![]], vec![vec![-4.0]]];
        assert_eq!(clip_norm(&mut gradients, 1.0), 5.0);
        assert_eq!(gradients, vec![vec![vec![0.6], vec![]], vec![vec![-0.8]]]);
        clip_norm(&mut gradients, 2.0);
        assert_eq!(gradients[1][0], [-0.8]);
    }
}
