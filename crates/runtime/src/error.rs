//! Errors of running a program.

use scuro_program::ProgramError;

/// Why a program could not be run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The program breaks one of its own rules.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// An operation on ciphertexts, keys or parameters was refused.
    #[error(transparent)]
    Fhe(#[from] scuro_fhe::Error),
    /// The context was made for other parameters than the program's.
    #[error(
        "the program wants ring degree 2^{expected_log_n} with {expected_primes} primes, \
         the context has 2^{found_log_n} with {found_primes}"
    )]
    WrongContext {
        /// log2 of the context's ring degree.
        found_log_n: u32,
        /// log2 of the program's ring degree.
        expected_log_n: u32,
        /// Ciphertext primes of the context.
        found_primes: usize,
        /// Ciphertext primes of the program.
        expected_primes: usize,
    },
    /// A step that programs of this packing cannot have.
    #[error("step {step}: a {operation} step does not go with the packing of the program")]
    WrongPacking {
        /// Step index.
        step: usize,
        /// What it computes.
        operation: &'static str,
    },
    /// The query has too many or too few ciphertexts (or slot vectors).
    #[error("the query has {found} ciphertexts, the program reads {expected}")]
    QueryLength {
        /// Count found.
        found: usize,
        /// Count expected.
        expected: usize,
    },
    /// A slot vector of the query has the wrong length.
    #[error("slot vector {index} of the query has {found} values for {expected} slots")]
    QuerySlots {
        /// Position in the query.
        index: usize,
        /// Length found.
        found: usize,
        /// Slots of a ciphertext.
        expected: usize,
    },
    /// A ciphertext of the query was encrypted at another level.
    #[error(
        "ciphertext {index} of the query is at level {found}, the program starts at {expected}"
    )]
    QueryLevel {
        /// Position in the query.
        index: usize,
        /// Level found.
        found: usize,
        /// Level expected.
        expected: usize,
    },
    /// A ciphertext of the query was encoded at another scale.
    #[error(
        "ciphertext {index} of the query has scale 2^{found_log2:.3}, \
         the program expects 2^{expected_log2:.3}"
    )]
    QueryScale {
        /// Position in the query.
        index: usize,
        /// log2 of the scale found.
        found_log2: f64,
        /// log2 of the scale expected.
        expected_log2: f64,
    },
    /// A ciphertext of the query has three parts.
    #[error("ciphertext {index} of the query has {found} parts, a query has 2")]
    QueryParts {
        /// Position in the query.
        index: usize,
        /// Parts found.
        found: usize,
    },
    /// The rotation key for a step is missing or stops below the level where it is used.
    #[error(
        "the evaluation keys have no key for rotation by {step} at level {level}; \
         make keys for this program with `scuro keygen`"
    )]
    MissingRotationKey {
        /// Rotation.
        step: usize,
        /// Level at which it is used.
        level: usize,
    },
    /// The key that relinearises and rotates at once is missing or stops below the level where it
    /// is used.
    #[error(
        "the evaluation keys have no key for relinearisation with rotation by {step} at level \
         {level}; make keys for this program with `scuro keygen`"
    )]
    MissingRelinearizedRotationKey {
        /// Rotation.
        step: usize,
        /// Level at which it is used.
        level: usize,
    },
    /// A step that cannot take a query of plain slots.
    #[error(
        "step {step} reads the query and is no product with encrypted weights: \
         features in clear go with a program whose first layer is encrypted"
    )]
    PlainQuery {
        /// Step index.
        step: usize,
    },
    /// A program without its weights can only run on ciphertexts.
    #[error(
        "the weights of this program are encrypted beside it: it runs on ciphertexts only; \
         use the model owner's copy to run it in clear or to simulate it"
    )]
    WeightsWithheld,
    /// The program's weights are not to be run as they stand, or it has none to be encrypted.
    #[error(
        "the program's weights are {found}, but {expected} are wanted here: \
         `scuro protect` encrypts a private model"
    )]
    WrongWeights {
        /// Who may read the program's weights.
        found: &'static str,
        /// What is wanted.
        expected: &'static str,
    },
    /// The encrypted weights are too many or too few.
    #[error("{found} encrypted weights for a program that reads {expected}")]
    WeightCount {
        /// Count found.
        found: usize,
        /// Count expected.
        expected: usize,
    },
    /// A weight was encrypted at another level.
    #[error("encrypted weight {index} is at level {found}, the program reads it at {expected}")]
    WeightLevel {
        /// Position.
        index: usize,
        /// Level found.
        found: usize,
        /// Level expected.
        expected: usize,
    },
    /// An exact weight was encoded with another factor.
    #[error("encrypted weight {index} has factor {found}, the program expects {expected}")]
    WeightFactor {
        /// Position.
        index: usize,
        /// Factor found.
        found: u64,
        /// Factor expected.
        expected: u64,
    },
    /// An exact query was encoded with another factor: that of BGV is 1, those of BFV follow from
    /// the modulus.
    #[error(
        "ciphertext {index} of the query has factor {found}, the program expects {expected}: \
         was it encrypted for another scheme?"
    )]
    QueryFactor {
        /// Position in the query.
        index: usize,
        /// Factor found.
        found: u64,
        /// Factor expected.
        expected: u64,
    },
    /// A ciphertext of the other scheme.
    #[error("ciphertext {index} is of another scheme than the program")]
    WrongScheme {
        /// Position.
        index: usize,
    },
    /// The context has another plaintext prime than the program, or only one of them is exact.
    #[error("the context has a plaintext prime of {found:?} bits, the program of {expected:?}")]
    WrongPlaintext {
        /// Bits of the context's plaintext prime.
        found: Option<u32>,
        /// Bits of the program's.
        expected: Option<u32>,
    },
    /// A weight was encoded at another scale.
    #[error(
        "encrypted weight {index} has scale 2^{found_log2:.3}, \
         the program expects 2^{expected_log2:.3}"
    )]
    WeightScale {
        /// Position.
        index: usize,
        /// log2 of the scale found.
        found_log2: f64,
        /// log2 of the scale expected.
        expected_log2: f64,
    },
    /// The relinearisation key is missing or stops below the level where it is used.
    #[error(
        "the evaluation keys have no relinearisation key at level {level}; \
         make keys for this program with `scuro keygen`"
    )]
    MissingRelinearizationKey {
        /// Level at which it is used.
        level: usize,
    },
    /// The public key, with which replies are re-randomised, is missing.
    #[error(
        "the evaluation keys have no public key, which re-randomises the reply; \
         make keys for this program with `scuro keygen`"
    )]
    MissingPublicKey,
    /// The operating system gave no randomness.
    #[error("no randomness from the operating system: {reason}")]
    Randomness {
        /// Its own words.
        reason: String,
    },
    /// A simulated value does not fit the modulus, or a score of an exact program the range that it
    /// was planned for.
    #[error(
        "layer {layer} (step {step}): a value of {magnitude_log2:.1} bits does not fit the \
         modulus of {modulus_log2:.1} bits; compile with calibration data like the input"
    )]
    Overflow {
        /// Step index.
        step: usize,
        /// Layer of the step.
        layer: String,
        /// log2 of the largest scaled value.
        magnitude_log2: f64,
        /// log2 of the modulus.
        modulus_log2: f64,
    },
    /// Worker threads could not be started.
    #[error("could not start {threads} threads")]
    Threads {
        /// How many were asked for.
        threads: usize,
    },
}
