//! Operations on ciphertexts that need no secret key.

mod fold;
mod keyed;
mod linear;
mod merged;
mod product;

use std::sync::Arc;

pub(crate) use merged::MergedSum;

use super::{Ciphertext, Plaintext};
use crate::context::Context;
use crate::error::Error;

/// Relative difference up to which two scales count as equal.
pub const SCALE_TOLERANCE: f64 = 1.0 / (1 << 20) as f64;

/// Computes on ciphertexts under one parameter set.
#[derive(Debug, Clone)]
pub struct Evaluator {
    context: Arc<Context>,
}

impl Evaluator {
    /// An evaluator for `context`.
    pub fn new(context: &Arc<Context>) -> Self {
        Self {
            context: Arc::clone(context),
        }
    }

    /// The context.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    fn check(&self, ciphertext: &Ciphertext) -> Result<(), Error> {
        self.context.check_digest(ciphertext.digest)
    }

    fn check_pair(&self, left: &Ciphertext, right: &Ciphertext) -> Result<(), Error> {
        self.check(left)?;
        self.check(right)?;
        right.check_key(left.key_id)?;
        check_levels(left.level, right.level)
    }

    fn check_plain(&self, ciphertext: &Ciphertext, plaintext: &Plaintext) -> Result<(), Error> {
        self.check(ciphertext)?;
        self.context.check_digest(plaintext.digest)?;
        if plaintext.level < ciphertext.level {
            return Err(Error::LevelMismatch {
                left: ciphertext.level,
                right: plaintext.level,
            });
        }
        Ok(())
    }
}

fn check_levels(left: usize, right: usize) -> Result<(), Error> {
    if left != right {
        return Err(Error::LevelMismatch { left, right });
    }
    Ok(())
}

/// Refuses scales that differ by more than [`SCALE_TOLERANCE`].
pub(crate) fn check_scales(left: f64, right: f64) -> Result<(), Error> {
    if (left - right).abs() > SCALE_TOLERANCE * left.abs() {
        return Err(Error::ScaleMismatch { left, right });
    }
    Ok(())
}
