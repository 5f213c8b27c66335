//! Noise that the key holder measures after each step: decrypted slots against the clear program.

use scuro_client::{Client, Model, gather};
use scuro_fhe::AnyCiphertext;
use scuro_fhe::keys::EvaluationKeys;
use scuro_program::{SlotValue, interpret};
use scuro_runtime::Observation;
use scuro_runtime::encrypted::Prepared;

use crate::errors::Failure;
use crate::secrets;

/// What was measured after one step.
#[derive(Debug, Clone, Copy)]
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
}

impl Probe {
    /// Bits of the largest value that stand above the noise.
    pub(crate) fn precision_bits(&self) -> f64 {
        (self.largest.max(f64::MIN_POSITIVE) / self.slot_error.max(f64::MIN_POSITIVE)).log2()
    }

    /// Bits between the largest scaled value and half the modulus.
    pub(crate) fn room_bits(&self) -> f64 {
        self.log_modulus - 1.0 - self.log_scale - self.largest.max(f64::MIN_POSITIVE).log2()
    }
}

/// Evaluates one image in this process, which holds the secret key, and looks into every step.
pub(crate) fn measure(
    model: &Model,
    client: &Client,
    keys: &EvaluationKeys,
    image: &[f32],
) -> Result<Vec<Probe>, Failure> {
    let program = model.program();
    let expected = clear_values(model, image)?;
    let query = client.encrypt(&[image], &mut secrets::generator()?)?;
    let runs = model.open_query(&query)?;
    let prepared = Prepared::new(program, model.scheme().clone())?;
    let shapes = program.validate().map_err(scuro_client::Error::from)?;
    let scales = program.scales(&shapes, model.context().parameters().q());
    let mut probes = Vec::new();
    let mut fault = None;
    let mut observe = |event: Observation<'_>| match probe(
        client,
        event.step,
        &event.result.to_vec(),
        scales[event.step + 1],
        &expected[event.step + 1],
    ) {
        Ok(probe) => probes.push(probe),
        Err(failure) => fault = Some(failure),
    };
    prepared.evaluate(keys, &runs[0], 1, &mut observe)?;
    fault.map_or(Ok(probes), Err)
}

/// The value after each step on plain slots; the query first.
fn clear_values(model: &Model, image: &[f32]) -> Result<Vec<SlotValue>, Failure> {
    let program = model.program();
    let mut values = vec![gather(program, &[image])?];
    for step in &program.steps {
        let operands: Vec<&SlotValue> = step
            .inputs
            .iter()
            .map(|id| &values[id.0 as usize])
            .collect();
        let value = interpret(&step.operation, &operands);
        values.push(value);
    }
    Ok(values)
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
    };
    for (ciphertext, expected) in ciphertexts.iter().zip(expected) {
        let found = client.reveal(ciphertext, scale)?;
        let errors = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
        probe.slot_error = errors.fold(probe.slot_error, f64::max);
        probe.largest = expected
            .iter()
            .map(|v| v.abs())
            .fold(probe.largest, f64::max);
        probe.limbs = ciphertext.level() + 1;
    }
    let primes = client.model().context().parameters().q();
    probe.log_modulus = primes
        .iter()
        .take(probe.limbs)
        .map(|&q| (q as f64).log2())
        .sum();
    Ok(probe)
}
