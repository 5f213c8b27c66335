//! Replies in few bytes: see [`scuro_fhe::compact`].

use scuro_fhe::bgv::NoiseModel as ExactNoiseModel;
use scuro_fhe::compact::Compaction;
use scuro_fhe::flooding::Flooding;
use scuro_fhe::noise::{Noise, NoiseModel, Operand};
use scuro_fhe::{AnyCiphertext, AnyContext};
use scuro_program::{Flood, Flooding as ProgramFlooding};

use crate::bundle::{Bundle, BundleKind};
use crate::error::Error;
use crate::model::Model;

/// Bits of noise budget that an exact reply has: the compiler leaves more than one, and among the
/// coefficients of noise that wrapped some leave less.
pub(crate) const LEAST_BUDGET: f64 = 0.5;
/// What the compiler leaves.
const PLANNED_BUDGET: f64 = 1.0;
/// Scores so many times beyond the largest planned ones still fit a compact reply.
const MARGIN: f64 = 4.0;
/// Share of the modulus that is taken if nothing is known of the scores: no headroom is left out.
const WHOLE: f64 = 0.75;

impl Model {
    /// A reply whose ciphertexts are compact: a fifth of the size and less. Nothing can be computed
    /// with it any more; [`crate::Client::decrypt`] reads it as any other.
    ///
    /// The caller vouches that slots repeat every `period` slots, a power of two; what does not
    /// repeat is lost. `precision` is what scores may be off by at most, beyond their noise; those
    /// of exact programs stay exact, whatever it is. Scores of approximate programs that are more
    /// than four times the largest planned ones come out wrong, and are known for it where at least
    /// a few slots repeat.
    ///
    /// # Errors
    /// [`Error::WrongKind`], [`Error::WrongProgram`]; [`Error::Fhe`] for a bad ciphertext (one that
    /// is compact, above all), a period that cannot be, a precision that no compact reply has, or
    /// too little noise budget.
    pub fn compact_reply(
        &self,
        reply: &Bundle,
        period: usize,
        precision: f64,
    ) -> Result<Bundle, Error> {
        self.check(reply, BundleKind::Reply)?;
        let compact = |bytes: &Vec<u8>| {
            let whole = AnyCiphertext::from_bytes(bytes, self.scheme())?;
            let compaction = self.compaction(&whole, period, precision)?;
            Ok::<_, Error>(whole.compact(self.scheme(), compaction)?.to_bytes())
        };
        Ok(Bundle {
            kind: reply.kind,
            program: reply.program,
            images: reply.images,
            group: reply.group,
            ciphertexts: reply
                .ciphertexts
                .iter()
                .map(compact)
                .collect::<Result<_, _>>()?,
        })
    }

    /// As [`Model::compact_reply`]; the reply as it is if it cannot be compact: that of an exact
    /// program whose plaintext prime is too large.
    ///
    /// # Errors
    /// As there, but for too little noise budget.
    pub fn short_reply(
        &self,
        reply: &Bundle,
        period: usize,
        precision: f64,
    ) -> Result<Bundle, Error> {
        match self.compact_reply(reply, period, precision) {
            Err(Error::Fhe(scuro_fhe::Error::NoBudgetToCompact { .. })) => Ok(reply.clone()),
            compact => compact,
        }
    }

    fn compaction(
        &self,
        ciphertext: &AnyCiphertext,
        period: usize,
        precision: f64,
    ) -> Result<Compaction, Error> {
        let level = ciphertext.level();
        match (ciphertext, self.scheme()) {
            (AnyCiphertext::Approximate(ciphertext), AnyContext::Approximate(context)) => {
                let half = (context.parameters().log_q(level) - 1.0).exp2();
                let operand = Operand {
                    magnitude: self.largest(ciphertext.scale(), WHOLE * half),
                    noise: Noise::ZERO,
                };
                let unit = ciphertext.scale() / self.program().output.factor.abs();
                let model = NoiseModel::new(context.parameters());
                Ok(model.compaction(period, level, operand, precision * unit)?)
            }
            (AnyCiphertext::Exact(_), AnyContext::Exact(context)) => {
                let model = ExactNoiseModel::new(context);
                let budget = match self.program().flood() {
                    Some(flood) => {
                        let (noise, flooding) = flooded(flood);
                        model.flooded_budget(noise, flooding, level)
                    }
                    None => PLANNED_BUDGET,
                };
                let kept = LEAST_BUDGET.min(budget / 2.0);
                Ok(model.compaction(period, level, budget, kept)?)
            }
            _ => Err(Error::WrongScheme),
        }
    }

    /// What the slots of a reply stay below, in units of the scaled message, at most `whole`. A
    /// program whose ranges are withheld plans none, and noise that floods takes all that there is.
    fn largest(&self, scale: f64, whole: f64) -> f64 {
        let program = self.program();
        let last = (program.result.0 as usize).checked_sub(1);
        let planned = last.and_then(|step| program.steps.get(step));
        match planned.map(|step| step.estimate.max_abs) {
            Some(largest) if largest > 0.0 && program.flood().is_none() => {
                whole.min(MARGIN * largest * scale)
            }
            _ => whole,
        }
    }
}

/// The error of a reply before it is flooded, as the program bounds it, and what floods it.
fn flooded(flood: &Flood) -> (Noise, Flooding) {
    let bound = flood.bound_log2.exp2();
    let noise = Noise { std: bound, bound };
    let flooding = match flood.flooding {
        ProgramFlooding::Statistical { bits } => Flooding::Statistical { bits },
        ProgramFlooding::Relaxed { bits, decryptions }
        | ProgramFlooding::Estimated { bits, decryptions } => {
            Flooding::Relaxed { bits, decryptions }
        }
    };
    (noise, flooding)
}
