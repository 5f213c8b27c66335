//! What the caller may ask of the compiler.

use scuro_program::{Flooding, GaloisStep, Packing, Ring, SecurityTable, Weights};

use crate::activations::Replacement;
use crate::ensemble::Ensemble;

/// Most images of one query; weights take as many times the memory.
pub const IMAGES_PER_QUERY_MAX: usize = 64;

/// What slots hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// Real numbers with a small error (CKKS).
    Approximate,
    /// Fixed-point numbers as integers modulo a prime, without any error (BGV).
    Exact,
    /// The same with products that keep the scale of the message in the modulus (BFV): dearer ones,
    /// but of fewer and larger primes.
    ScaleInvariant,
}

impl Arithmetic {
    /// Whether numbers are integers without any error.
    pub fn is_exact(self) -> bool {
        match self {
            Self::Approximate => false,
            Self::Exact | Self::ScaleInvariant => true,
        }
    }
}

/// Which rotation keys a program may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Rotations {
    /// Whatever is fastest.
    #[default]
    Free,
    /// At most so many, whichever of that many are fastest.
    Budget(usize),
    /// These alone, at no higher levels: the keys that an ensemble has in common.
    Within(Vec<GaloisStep>),
}

/// Wishes and limits; `Options::default()` is right for most.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// One image in few ciphertexts (latency), or one element of many images per ciphertext
    /// (throughput).
    pub packing: Packing,
    /// Images that share a query of [`Packing::SingleImage`], a power of two: their elements lie
    /// side by side, so that rotations serve all of them. Time and memory grow with it, the time
    /// of an image shrinks.
    pub images_per_query: usize,
    /// 128, 192 or 256.
    pub security_bits: u32,
    /// Table that certifies the parameters.
    pub table: SecurityTable,
    /// Real numbers with a small error, or integers without.
    pub arithmetic: Arithmetic,
    /// Ring.
    pub ring: Ring,
    /// Ring degree; otherwise the smallest that serves.
    pub log_n: Option<u32>,
    /// Range of the inputs; otherwise that of the calibration data.
    pub input_range: Option<(f32, f32)>,
    /// Factor between the largest value on the calibration data and the largest value provided for.
    pub range_margin: f64,
    /// Predicted standard deviation of the output error, relative to the deviation among the
    /// outputs of an example that has them close together.
    pub tolerance: f64,
    /// Who may read the weights: everyone, or only the model owner, who encrypts them.
    pub weights: Weights,
    /// How strongly replies hide the weights from whoever decrypts them; nothing if that is the
    /// model owner.
    pub flooding: Option<Flooding>,
    /// Rotations that there may be keys for; other rotations are made up of them. Programs that
    /// join an ensemble take its keys, unless something else is asked for.
    pub rotations: Rotations,
    /// Smallest share of the calibration examples to which an exact program must give the
    /// answer of the network; it is made more precise until it
    /// does.
    pub agreement: f64,
    /// Replace operators that ciphertexts cannot compute.
    pub replace: Option<Replacement>,
    /// The program is one of several holders', whose replies are combined.
    pub ensemble: Option<Ensemble>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            packing: Packing::SingleImage,
            images_per_query: 1,
            security_bits: 128,
            table: SecurityTable::Guideline2024,
            arithmetic: Arithmetic::Approximate,
            ring: Ring::ConjugateInvariant,
            log_n: None,
            input_range: None,
            range_margin: 2.0,
            tolerance: 1.0 / 384.0,
            weights: Weights::Plain,
            flooding: None,
            rotations: Rotations::Free,
            agreement: 0.9,
            replace: None,
            ensemble: None,
        }
    }
}
