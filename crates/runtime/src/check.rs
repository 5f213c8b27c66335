//! Checks before anything is computed.

use scuro_fhe::Context;
use scuro_fhe::ckks::Ciphertext;
use scuro_fhe::keys::EvaluationKeys;
use scuro_program::{Program, Weights};

use crate::error::RuntimeError;

/// Relative difference up to which two scales are the same.
const SCALE_TOLERANCE: f64 = 1e-9;

/// A query of plain slots has the program's form.
pub(crate) fn query_slots(program: &Program, query: &[Vec<f64>]) -> Result<(), RuntimeError> {
    query_length(program, query.len())?;
    let expected = program.slots();
    match query.iter().position(|slots| slots.len() != expected) {
        Some(index) => {
            let found = query[index].len();
            Err(RuntimeError::QuerySlots {
                index,
                found,
                expected,
            })
        }
        None => Ok(()),
    }
}

/// The weights are in the program, not encrypted beside it.
pub(crate) fn weights_present(program: &Program) -> Result<(), RuntimeError> {
    match program.weights {
        Weights::Plain | Weights::Private => Ok(()),
        Weights::Withheld => Err(RuntimeError::WeightsWithheld),
    }
}

/// The program's weights are of the kind that the caller can run.
pub(crate) fn wanted_weights(program: &Program, expected: Weights) -> Result<(), RuntimeError> {
    let word = |weights| match weights {
        Weights::Plain => "plain",
        Weights::Private => "private and not encrypted yet",
        Weights::Withheld => "encrypted beside the program",
    };
    if program.weights == expected {
        return Ok(());
    }
    Err(RuntimeError::WrongWeights {
        found: word(program.weights),
        expected: word(expected),
    })
}

/// Encrypted weights have the program's form.
pub(crate) fn weights(
    program: &Program,
    context: &Context,
    weights: &[Ciphertext],
) -> Result<(), RuntimeError> {
    let places = program.weight_places(context.parameters().q())?;
    if weights.len() != places.len() {
        let (found, expected) = (weights.len(), places.len());
        return Err(RuntimeError::WeightCount { found, expected });
    }
    for (index, (weight, place)) in weights.iter().zip(&places).enumerate() {
        let (found, expected) = (weight.level(), place.level as usize);
        if found != expected {
            return Err(RuntimeError::WeightLevel {
                index,
                found,
                expected,
            });
        }
        if (weight.scale() / place.scale - 1.0).abs() > SCALE_TOLERANCE {
            let (found_log2, expected_log2) = (weight.scale().log2(), place.scale.log2());
            return Err(RuntimeError::WeightScale {
                index,
                found_log2,
                expected_log2,
            });
        }
        let (found, expected) = (weight.key_id(), weights[0].key_id());
        if found != expected {
            return Err(scuro_fhe::Error::KeyMismatch { found, expected }.into());
        }
    }
    Ok(())
}

/// An encrypted query has the program's form.
pub(crate) fn query(program: &Program, query: &[Ciphertext]) -> Result<(), RuntimeError> {
    query_length(program, query.len())?;
    let expected = program.parameters.level_max() as usize;
    let scale = program.input.scale_log2.exp2();
    for (index, ciphertext) in query.iter().enumerate() {
        let found = ciphertext.level();
        if found != expected {
            return Err(RuntimeError::QueryLevel {
                index,
                found,
                expected,
            });
        }
        if (ciphertext.scale() / scale - 1.0).abs() > SCALE_TOLERANCE {
            let (found_log2, expected_log2) = (ciphertext.scale().log2(), scale.log2());
            return Err(RuntimeError::QueryScale {
                index,
                found_log2,
                expected_log2,
            });
        }
        let found = ciphertext.parts().len();
        if found != 2 {
            return Err(RuntimeError::QueryParts { index, found });
        }
    }
    Ok(())
}

fn query_length(program: &Program, found: usize) -> Result<(), RuntimeError> {
    let expected = program.input.ciphertexts();
    if found == expected {
        Ok(())
    } else {
        Err(RuntimeError::QueryLength { found, expected })
    }
}

/// The keys hold everything that the program's manifest names.
pub(crate) fn keys(program: &Program, keys: &EvaluationKeys) -> Result<(), RuntimeError> {
    let manifest = keys.manifest();
    for key in &program.keys.galois {
        let (step, level) = (key.step as usize, key.level as usize);
        if manifest
            .rotations
            .get(&step)
            .is_none_or(|&held| held < level)
        {
            return Err(RuntimeError::MissingRotationKey { step, level });
        }
    }
    for key in &program.keys.relinearized {
        let (step, level) = (key.step as usize, key.level as usize);
        let held = manifest.relinearized_rotations.get(&step);
        if held.is_none_or(|&held| held < level) {
            return Err(RuntimeError::MissingRelinearizedRotationKey { step, level });
        }
    }
    match program.keys.relinearize.map(|level| level as usize) {
        Some(level) if manifest.relinearization.is_none_or(|held| held < level) => {
            Err(RuntimeError::MissingRelinearizationKey { level })
        }
        _ => Ok(()),
    }
}

/// The context belongs to the program's parameters.
pub(crate) fn context(program: &Program, context: &Context) -> Result<(), RuntimeError> {
    let (plan, parameters) = (&program.parameters, context.parameters());
    let found = parameters.q().iter().map(|q| u64::BITS - q.leading_zeros());
    let special = parameters.p().iter().map(|p| u64::BITS - p.leading_zeros());
    let fits = parameters.log_n() == plan.log_n
        && found.eq(plan.q_bits.iter().copied())
        && special.eq(plan.p_bits.iter().copied())
        && parameters.slots() == plan.slots();
    if fits {
        return Ok(());
    }
    Err(RuntimeError::WrongContext {
        found_log_n: parameters.log_n(),
        expected_log_n: plan.log_n,
        found_primes: parameters.q().len(),
        expected_primes: plan.q_bits.len(),
    })
}
