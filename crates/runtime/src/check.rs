//! Checks before anything is computed.

use scuro_fhe::keys::EvaluationKeys;
use scuro_fhe::{AnyCiphertext, AnyContext};
use scuro_program::{Program, WeightPlace, Weights};

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

/// The public key is there, with which replies are re-randomised.
pub(crate) fn public_key(keys: &EvaluationKeys) -> Result<(), RuntimeError> {
    let found = keys.public_key().map(drop);
    found.map_err(|_| RuntimeError::MissingPublicKey)
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

/// An encrypted weight has the form that its place wants.
pub(crate) fn weight(
    weight: &AnyCiphertext,
    place: &WeightPlace,
    index: usize,
) -> Result<(), RuntimeError> {
    let (found, expected) = (weight.level(), place.level as usize);
    if found != expected {
        return Err(RuntimeError::WeightLevel {
            index,
            found,
            expected,
        });
    }
    encoding_of_weight(weight, place, index)
}

/// Scale of an approximate weight, factor of an exact one.
fn encoding_of_weight(
    weight: &AnyCiphertext,
    place: &WeightPlace,
    index: usize,
) -> Result<(), RuntimeError> {
    match weight {
        AnyCiphertext::Approximate(weight) => {
            let (found, expected) = (weight.scale(), place.scale);
            if (found / expected - 1.0).abs() <= SCALE_TOLERANCE {
                return Ok(());
            }
            let (found_log2, expected_log2) = (found.log2(), expected.log2());
            Err(RuntimeError::WeightScale {
                index,
                found_log2,
                expected_log2,
            })
        }
        AnyCiphertext::Exact(weight) => {
            let (found, expected) = (weight.factor(), place.factor);
            if found == expected {
                return Ok(());
            }
            Err(RuntimeError::WeightFactor {
                index,
                found,
                expected,
            })
        }
    }
}

/// An encrypted query has the program's form; an exact one the factor `factor`.
pub(crate) fn query(
    program: &Program,
    query: &[AnyCiphertext],
    factor: u64,
) -> Result<(), RuntimeError> {
    query_length(program, query.len())?;
    let expected = program.input.level as usize;
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
        encoding_of_query(ciphertext, scale, factor, index)?;
        let found = ciphertext.parts().len();
        if found != 2 {
            return Err(RuntimeError::QueryParts { index, found });
        }
    }
    Ok(())
}

/// Scale of an approximate query, factor of an exact one.
fn encoding_of_query(
    ciphertext: &AnyCiphertext,
    scale: f64,
    factor: u64,
    index: usize,
) -> Result<(), RuntimeError> {
    match ciphertext {
        AnyCiphertext::Approximate(ciphertext) => {
            let found = ciphertext.scale();
            if (found / scale - 1.0).abs() <= SCALE_TOLERANCE {
                return Ok(());
            }
            let (found_log2, expected_log2) = (found.log2(), scale.log2());
            Err(RuntimeError::QueryScale {
                index,
                found_log2,
                expected_log2,
            })
        }
        AnyCiphertext::Exact(ciphertext) if ciphertext.factor() == factor => Ok(()),
        AnyCiphertext::Exact(ciphertext) => {
            let (found, expected) = (ciphertext.factor(), factor);
            Err(RuntimeError::QueryFactor {
                index,
                found,
                expected,
            })
        }
    }
}

fn query_length(program: &Program, found: usize) -> Result<(), RuntimeError> {
    let expected = program.input.ciphertexts();
    if found == expected {
        Ok(())
    } else {
        Err(RuntimeError::QueryLength { found, expected })
    }
}

/// That `keys` hold everything that the program's manifest names.
///
/// # Errors
/// [`RuntimeError::MissingRotationKey`], [`RuntimeError::MissingRelinearizedRotationKey`],
/// [`RuntimeError::MissingRelinearizationKey`], [`RuntimeError::MissingPublicKey`].
pub fn keys(program: &Program, keys: &EvaluationKeys) -> Result<(), RuntimeError> {
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
    if program.keys.public && !manifest.public {
        return Err(RuntimeError::MissingPublicKey);
    }
    match program.keys.relinearize.map(|level| level as usize) {
        Some(level) if manifest.relinearization.is_none_or(|held| held < level) => {
            Err(RuntimeError::MissingRelinearizationKey { level })
        }
        _ => Ok(()),
    }
}

/// The context belongs to the program's parameters.
pub(crate) fn context(program: &Program, context: &AnyContext) -> Result<(), RuntimeError> {
    let (plan, parameters) = (&program.parameters, context.core().parameters());
    let plain_bits = match context {
        AnyContext::Approximate(_) => None,
        AnyContext::Exact(context) => Some(context.plain_bits()),
    };
    let expected = plan.scheme.plain_bits();
    if plain_bits != expected {
        return Err(RuntimeError::WrongPlaintext {
            found: plain_bits,
            expected,
        });
    }
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
