//! A program's flooding in the library's words.

use scuro_fhe::flooding::Flooding;
use scuro_fhe::noise::Noise;
use scuro_program::Flood;

pub(crate) fn flooding(flood: &Flood) -> Flooding {
    match flood.flooding {
        scuro_program::Flooding::Statistical { bits } => Flooding::Statistical { bits },
        scuro_program::Flooding::Relaxed { bits, decryptions }
        | scuro_program::Flooding::Estimated { bits, decryptions } => {
            Flooding::Relaxed { bits, decryptions }
        }
    }
}

/// The error of the reply before it is flooded, as the program bounds it.
pub(crate) fn worst_case(flood: &Flood) -> Noise {
    let bound = flood.bound_log2.exp2();
    Noise { std: 0.0, bound }
}
