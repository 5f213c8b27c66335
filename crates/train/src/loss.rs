//! Cross-entropy on logits, with labels and with a teacher's soft answers.

/// What a batch costs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Loss {
    /// Mean over the batch.
    pub(crate) mean: f64,
    /// Examples whose largest logit is the label's.
    pub(crate) correct: usize,
    /// Gradient of the mean by the logits.
    pub(crate) gradient: Vec<f32>,
}

/// Soft targets of one batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SoftTargets<'a> {
    /// The teacher's logits.
    pub(crate) logits: &'a [f32],
    /// Divides both networks' logits.
    pub(crate) temperature: f32,
    /// Share of the soft loss; labels have the rest.
    pub(crate) weight: f32,
}

/// `(1 - w) * CE(label, softmax(z)) + w * T^2 * KL(softmax(t / T), softmax(z / T))`, mean over the
/// batch.
///
/// Source: Hinton, Vinyals, Dean 2015, section 2 (the factor `T^2` keeps gradients of the two terms
/// comparable).
pub(crate) fn cross_entropy(
    logits: &[f32],
    labels: &[usize],
    classes: usize,
    teacher: Option<SoftTargets<'_>>,
) -> Loss {
    let batch = labels.len().max(1) as f64;
    let mut gradient = vec![0.0; logits.len()];
    let (mut total, mut correct) = (0.0, 0);
    let rows = logits
        .chunks_exact(classes)
        .zip(gradient.chunks_exact_mut(classes));
    for (example, ((z, out), &label)) in rows.zip(labels).enumerate() {
        let hard = 1.0 - teacher.map_or(0.0, |t| f64::from(t.weight));
        let p = softmax(z, 1.0);
        // A clamp, unlike a maximum, lets NaN through to the check of the caller.
        total -= hard * p[label].clamp(f64::MIN_POSITIVE, 1.0).ln();
        for (c, (out, p)) in out.iter_mut().zip(&p).enumerate() {
            *out = (hard * (p - f64::from(u8::from(c == label))) / batch) as f32;
        }
        if let Some(teacher) = teacher {
            let soft = &teacher.logits[example * classes..][..classes];
            total += add_soft(z, soft, &teacher, batch, out);
        }
        correct += usize::from(scuro_nn::tensor::argmax(z) == label);
    }
    Loss {
        mean: total / batch,
        correct,
        gradient,
    }
}

fn add_soft(z: &[f32], soft: &[f32], t: &SoftTargets<'_>, batch: f64, out: &mut [f32]) -> f64 {
    let (temperature, weight) = (f64::from(t.temperature), f64::from(t.weight));
    let (p, q) = (softmax(z, temperature), softmax(soft, temperature));
    let mut divergence = 0.0;
    for ((out, p), q) in out.iter_mut().zip(&p).zip(&q) {
        *out += (weight * temperature * (p - q) / batch) as f32;
        divergence += q * (q.max(f64::MIN_POSITIVE) / p.clamp(f64::MIN_POSITIVE, 1.0)).ln();
    }
    weight * temperature * temperature * divergence
}

fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let terms: Vec<f64> = logits
        .iter()
        .map(|z| (f64::from(z - top) / temperature).exp())
        .collect();
    let sum: f64 = terms.iter().sum();
    terms.into_iter().map(|t| t / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_match_finite_differences_with_and_without_a_teacher() {
        let logits = [0.3, -1.2, 2.0, 0.1, 0.0, 0.7];
        let soft = [1.0, 0.5, -0.3, 0.0, 2.0, -2.0];
        for weight in [0.0, 0.7] {
            let targets = SoftTargets {
                logits: &soft,
                temperature: 3.0,
                weight,
            };
            let value = |z: &[f32]| cross_entropy(z, &[2, 0], 3, Some(targets)).mean;
            let found = cross_entropy(&logits, &[2, 0], 3, Some(targets)).gradient;
            for i in 0..logits.len() {
                let (mut up, mut down) = (logits, logits);
                up[i] += 1e-2;
                down[i] -= 1e-2;
                let slope = (value(&up) - value(&down)) / f64::from(up[i] - down[i]);
                assert!(
                    (slope - f64::from(found[i])).abs() < 1e-4,
                    "{i}: {slope} {}",
                    found[i]
                );
            }
        }
    }

    #[test]
    fn logits_that_are_not_numbers_give_a_loss_that_is_none() {
        assert!(cross_entropy(&[f32::NAN, 1.0], &[1], 2, None).mean.is_nan());
    }

    #[test]
    fn a_confident_right_answer_costs_nothing() {
        let loss = cross_entropy(&[0.0, 100.0], &[1], 2, None);
        assert_eq!((loss.correct, loss.mean), (1, 0.0));
    }
}
