//! Time and error of the steps under one choice of primes and scales.

use scuro_fhe::noise::NoiseModel;
use scuro_fhe::params::Parameters;

use super::statistics::{MatrixStatistics, Spread};

/// One-core times at N = 8192 in microseconds per limb (see docs/PLAN.md for the machine).
const PRODUCT_MICROS: f64 = 0.16;
const TENSOR_MICROS: f64 = 3.0;
const TRANSFORM_MICROS: f64 = 5.0;
const EXPAND_MICROS: f64 = 12.0;
/// Room between the largest value and half the modulus, in bits.
const HEADROOM_BITS: f64 = 1.2;
/// Smallest scale after rescaling: below, nothing is left above the rounding noise.
const SCALE_MIN_LOG2: f64 = 10.0;
/// Deviation of a rounded weight, in units of the last place.
const ROUNDING_STD: f64 = 0.288_675_134_594_812_9;

/// One choice of everything that is the same for all stages.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) parameters: Parameters,
    pub(super) q_bits: u32,
    pub(super) input_scale_log2: f64,
    noise: NoiseModel,
}

/// What is known of a variable's ciphertexts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct State {
    pub(super) level: usize,
    pub(super) scale_log2: f64,
    pub(super) parts: usize,
    /// Standard deviation of the error, in units of the values.
    pub(super) error: f64,
}

impl Setting {
    pub(super) fn new(parameters: Parameters, q_bits: u32, input_scale_log2: f64) -> Self {
        let noise = NoiseModel::new(&parameters);
        Self {
            parameters,
            q_bits,
            input_scale_log2,
            noise,
        }
    }

    /// The query.
    pub(super) fn input(&self) -> State {
        let error = self.noise.fresh_secret().std / self.input_scale_log2.exp2();
        let level = self.parameters.max_level();
        State {
            level,
            scale_log2: self.input_scale_log2,
            parts: 2,
            error,
        }
    }

    /// Error of a matrix's result.
    pub(super) fn matrix_error(
        &self,
        matrix: &MatrixStatistics,
        x: Spread,
        error: f64,
        weight_scale_log2: f64,
    ) -> f64 {
        let rounding = ROUNDING_STD / weight_scale_log2.exp2();
        (matrix.norm * error).hypot(rounding * matrix.entries_per_row.sqrt() * x.rms)
    }

    /// Whether values of that size and scale fit the modulus.
    pub(super) fn fits(&self, state: &State, max_abs: f64) -> bool {
        let bits = f64::from(self.q_bits) * (state.level + 1) as f64;
        state.scale_log2 + max_abs.log2().max(0.0) + HEADROOM_BITS < bits
    }

    pub(super) fn relinearized(&self, state: State) -> State {
        let added = self.noise.key_switch(state.level).std / state.scale_log2.exp2();
        State {
            parts: 2,
            error: state.error.hypot(added),
            ..state
        }
    }

    /// `None` if no level or no scale is left.
    pub(super) fn rescaled(&self, state: State) -> Option<State> {
        let scale_log2 = state.scale_log2 - f64::from(self.q_bits);
        if state.level == 0 || scale_log2 < SCALE_MIN_LOG2 {
            return None;
        }
        // A third part is rounded too, and multiplied by the square of the secret.
        let rounding = if state.parts == 3 {
            self.noise.embedding_factor()
        } else {
            1.0
        };
        let error = state
            .error
            .hypot(self.noise.rescale().std * rounding / scale_log2.exp2());
        Some(State {
            level: state.level - 1,
            scale_log2,
            error,
            ..state
        })
    }

    fn relative_degree(&self) -> f64 {
        self.parameters.n() as f64 / 8192.0
    }

    pub(super) fn input_micros(&self, count: usize) -> f64 {
        let limbs = self.parameters.q().len() as f64;
        EXPAND_MICROS * count as f64 * limbs * self.relative_degree()
    }

    pub(super) fn matrix_micros(&self, products: usize, state: &State) -> f64 {
        let polynomials = (state.parts * (state.level + 1)) as f64;
        PRODUCT_MICROS * products as f64 * polynomials * self.relative_degree()
    }

    pub(super) fn product_micros(&self, count: usize, state: &State) -> f64 {
        TENSOR_MICROS * count as f64 * (state.level + 1) as f64 * self.relative_degree()
    }

    /// `state` is the operand's.
    pub(super) fn relinearize_micros(&self, count: usize, state: &State) -> f64 {
        let special = self.parameters.p().len();
        let limbs = state.level + 1;
        let digits = self.parameters.digit_count(state.level);
        self.transforms(count, digits * (limbs + special) + 2 * (special + limbs))
    }

    /// `state` is the operand's.
    pub(super) fn rescale_micros(&self, count: usize, state: &State) -> f64 {
        self.transforms(count, state.parts * (state.level + 1))
    }

    fn transforms(&self, count: usize, transforms: usize) -> f64 {
        TRANSFORM_MICROS * (count * transforms) as f64 * self.relative_degree()
    }
}

/// Largest scale at which weights up to `max_abs` fit `weight_bits`, sign included.
pub(super) fn weight_scale_log2(max_abs: f64, weight_bits: u32) -> f64 {
    let largest = (1i64 << (weight_bits - 1)) - 1;
    (largest as f64 / max_abs.max(1e-12)).log2()
}
