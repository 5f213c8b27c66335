//! Noise that the key holder measures after each step: decrypted slots against the clear program.

use scuro_client::{Client, gather};
use scuro_fhe::{AnyCiphertext, AnyContext};
use scuro_program::{Program, interpret_all};
use scuro_runtime::Observation;
use serde::{Deserialize, Serialize};

use crate::errors::Failure;
use crate::session::Session;

/// What was measured after one step.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Probe {
    /// Index in the program.
    pub(crate) step: usize,
    /// Primes left.
    pub(crate) limbs: usize,
    /// log2 of the modulus left.
    pub(crate) log_modulus: f64,
    /// log2 of the scale.
    pub(crate) log_scale: f64,
    /// Largest |decrypted - clear| over all slots.
    pub(crate) slot_error: f64,
    /// Largest |clear| over all slots.
    pub(crate) largest: f64,
    /// Bits that the noise of an exact program may still grow by.
    pub(crate) budget: Option<f64>,
}

/// Bits of a number in double precision: no error is seen below.
const DOUBLE_BITS: f64 = 53.0;

impl Probe {
    /// Bits of the largest value that stand above the noise.
    pub(crate) fn precision_bits(&self) -> f64 {
        let ratio = self.largest.max(f64::MIN_POSITIVE) / self.slot_error.max(f64::MIN_POSITIVE);
        ratio.log2().min(DOUBLE_BITS)
    }

    /// Bits that are left: of noise budget in an exact program, else between the largest scaled
    /// value and half the modulus.
    pub(crate) fn room_bits(&self) -> f64 {
        if let Some(budget) = self.budget {
            return budget;
        }
        self.log_modulus - 1.0 - self.log_scale - self.largest.max(f64::MIN_POSITIVE).log2()
    }
}

/// How the input of a measured evaluation arrives.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input<'a> {
    /// Encrypted.
    Sealed(&'a [f32]),
    /// As it is, for a model whose weights are encrypted.
    Clear(&'a [f32]),
}

/// Evaluates one input in this process, which holds the secret key, and looks into every step;
/// `program` is the model owner's copy, with weights.
pub(crate) fn measure(
    session: &Session,
    program: &Program,
    input: Input<'_>,
) -> Result<Vec<Probe>, Failure> {
    let (Input::Sealed(values) | Input::Clear(values)) = input;
    let slots = gather(program, &[values])?;
    let expected = interpret_all(&program.steps, slots.clone());
    let shapes = program.validate().map_err(scuro_client::Error::from)?;
    let primes = session.model().context().parameters().q();
    let scales = program.scales(&shapes, primes);
    let mut probes = Vec::new();
    let mut fault = None;
    let mut observe = |event: Observation<'_>| match probe(
        &session.client,
        event.step,
        &event.result.to_vec(),
        scales[event.step + 1],
        &expected[event.step + 1],
    ) {
        Ok(probe) => probes.push(probe),
        Err(failure) => fault = Some(failure),
    };
    match input {
        Input::Sealed(values) => {
            let query = session.encrypt(&[values])?;
            let runs = session.model().open_query(&query)?;
            session.evaluator.run_watched(&runs[0], &mut observe)?;
        }
        Input::Clear(_) => {
            session.evaluator.run_features(&slots, &mut observe)?;
        }
    }
    fault.map_or(Ok(probes), Err)
}

fn probe(
    client: &Client,
    step: usize,
    ciphertexts: &[AnyCiphertext],
    scale: f64,
    expected: &[Vec<f64>],
) -> Result<Probe, Failure> {
    let mut probe = Probe {
        step,
        limbs: 0,
        log_modulus: 0.0,
        log_scale: scale.log2(),
        slot_error: 0.0,
        largest: 0.0,
        budget: None,
    };
    let scheme = client.model().scheme();
    for (ciphertext, expected) in ciphertexts.iter().zip(expected) {
        let found = client.reveal(ciphertext, scale)?;
        let errors = found
            .iter()
            .zip(expected)
            .map(|(a, b)| distance(scheme, scale, *a, *b));
        probe.slot_error = errors.fold(probe.slot_error, f64::max);
        probe.largest = expected
            .iter()
            .map(|v| v.abs())
            .fold(probe.largest, f64::max);
        probe.limbs = ciphertext.level() + 1;
        if let Some(budget) = client.noise_budget(ciphertext)? {
            probe.budget = Some(probe.budget.unwrap_or(f64::INFINITY).min(budget));
        }
    }
    let primes = client.model().context().parameters().q();
    probe.log_modulus = primes
        .iter()
        .take(probe.limbs)
        .map(|&q| (q as f64).log2())
        .sum();
    Ok(probe)
}

/// How far a decrypted slot is from the clear one; exact ones count modulo the plaintext prime,
/// which slots that nobody reads may exceed.
fn distance(scheme: &AnyContext, scale: f64, found: f64, expected: f64) -> f64 {
    let AnyContext::Exact(context) = scheme else {
        return (found - expected).abs();
    };
    let t = i128::from(context.plain_modulus().value());
    let integer = |value: f64| (value * scale).round() as i128;
    let off = (integer(found) - integer(expected)).rem_euclid(t);
    off.min(t - off) as f64 / scale
}
