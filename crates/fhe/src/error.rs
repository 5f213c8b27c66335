//! The crate's error type, grouped by who is at fault.

use crate::params::{SecurityLevel, SecurityTable};

/// Everything that can go wrong in this crate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // Caller: parameters.
    /// log2(QP) is above what the table certifies.
    #[error(
        "log2(QP) = {found:.2} is above {bound}, the {level} bound of the {table} \
         at N = 2^{log_n}{}",
        fix_hint(*.smallest_log_n)
    )]
    InsecureParameters {
        /// log2 of the product of all primes, special primes included.
        found: f64,
        /// Largest log2(QP) that the table certifies.
        bound: u32,
        /// Ring degree.
        log_n: u32,
        /// Wanted security.
        level: SecurityLevel,
        /// Table used.
        table: SecurityTable,
        /// Smallest degree at which the same primes would be accepted.
        smallest_log_n: Option<u32>,
    },
    /// The table has no entry for this degree and level.
    #[error(
        "the {table} certifies no modulus at N = 2^{log_n} for {level} security{}",
        fix_hint(*.smallest_log_n)
    )]
    NoSecurityBound {
        /// Ring degree.
        log_n: u32,
        /// Wanted security.
        level: SecurityLevel,
        /// Table used.
        table: SecurityTable,
        /// Smallest degree at which the same primes would be accepted.
        smallest_log_n: Option<u32>,
    },
    /// No degree that the library builds admits so many bits.
    #[error(
        "no ring degree up to 2^{largest_log_n} certifies log2(QP) = {log_qp:.2} \
         at {level} security"
    )]
    NoDegreeFits {
        /// Bits asked for.
        log_qp: f64,
        /// Wanted security.
        level: SecurityLevel,
        /// Largest degree tried.
        largest_log_n: u32,
    },
    /// Ring degree out of range.
    #[error("ring degree 2^{found} is outside 2^{min}..=2^{max}")]
    DegreeOutOfRange {
        /// Asked for.
        found: u32,
        /// Smallest.
        min: u32,
        /// Largest.
        max: u32,
    },
    /// A prime size out of range.
    #[error("prime size of {found} bits is outside {min}..={max} for this ring")]
    PrimeSizeOutOfRange {
        /// Asked for.
        found: u32,
        /// Smallest.
        min: u32,
        /// Largest.
        max: u32,
    },
    /// A wrong number of primes.
    #[error("{found} {what} primes; {min}..={max} are possible")]
    PrimeCountOutOfRange {
        /// "ciphertext" or "special".
        what: &'static str,
        /// Asked for.
        found: usize,
        /// Fewest.
        min: usize,
        /// Most.
        max: usize,
    },
    /// There are not enough primes of a size for this degree.
    #[error("fewer than {wanted} usable primes of {bits} bits exist at this ring degree")]
    NotEnoughPrimes {
        /// Prime size.
        bits: u32,
        /// Asked for.
        wanted: usize,
    },
    /// The digit size of key switching is out of range.
    #[error("key-switching digits of {found} limbs; 1..={max} are possible")]
    DigitSizeOutOfRange {
        /// Asked for.
        found: usize,
        /// Number of ciphertext primes.
        max: usize,
    },

    // Caller: operands.
    /// A compaction of no meaning under these parameters.
    #[error("{found} {what}; {min}..={max} are possible")]
    CompactionOutOfRange {
        /// Which number.
        what: &'static str,
        /// Asked for.
        found: u32,
        /// Fewest.
        min: u32,
        /// Most.
        max: u32,
    },
    /// A period after which slots cannot repeat.
    #[error("a message cannot repeat after {found} of {slots} slots: the period is a power of two")]
    BadPeriod {
        /// Asked for.
        found: usize,
        /// Slots of a row.
        slots: usize,
    },
    /// A precision that no compact ciphertext has.
    #[error("a precision of {precision} takes more than {max_bits} bits a coefficient")]
    PrecisionOutOfReach {
        /// Asked for, in units of the scaled message.
        precision: f64,
        /// Most bits of a coefficient.
        max_bits: u32,
    },
    /// A ciphertext of integers that would not keep the noise budget asked for.
    #[error("{kept} bits of noise budget cannot be kept of {budget}")]
    NoBudgetToCompact {
        /// Bits that there are.
        budget: f64,
        /// Bits to keep.
        kept: f64,
    },
    /// A level above the chain or above the operand's own.
    #[error("level {found} is above {max}")]
    LevelTooHigh {
        /// Asked for.
        found: usize,
        /// Highest possible.
        max: usize,
    },
    /// More products for one giant step than a lazy sum holds.
    #[error("{found} encrypted diagonals of one giant step; at most {max} are summed at once")]
    TooManyTerms {
        /// Asked for.
        found: usize,
        /// Most.
        max: usize,
    },
    /// More queries at once than are evaluated together.
    #[error("{found} queries at once; at most {max} are evaluated together")]
    TooManyQueries {
        /// Asked for.
        found: usize,
        /// Most.
        max: usize,
    },
    /// A flooding of no meaning.
    #[error("{what} of {found}; {min}..={max} are possible")]
    FloodingOutOfRange {
        /// Which parameter.
        what: &'static str,
        /// Asked for.
        found: u32,
        /// Smallest.
        min: u32,
        /// Largest.
        max: u32,
    },
    /// The modulus has no room for the noise that would hide the computation.
    #[error(
        "flooded, the ciphertext takes {needed_bits:.1} bits of {room_bits:.1}; \
         flood with fewer bits or compile for more primes"
    )]
    NoRoomToFlood {
        /// log2 of the largest coefficient after flooding.
        needed_bits: f64,
        /// log2 of half the modulus.
        room_bits: f64,
    },
    /// A weight under which masks cannot cancel.
    #[error("a masked ciphertext cannot count {weight} times: zero modulo a prime")]
    MaskWeight {
        /// The weight.
        weight: u64,
    },
    /// Rescaling at level 0.
    #[error("no level left: rescale needs at least two limbs")]
    NoLevelLeft,
    /// Two operands at different levels.
    #[error("operands at levels {left} and {right}")]
    LevelMismatch {
        /// Left operand.
        left: usize,
        /// Right operand.
        right: usize,
    },
    /// Two operands of different scale.
    #[error("operands of scales 2^{:.6} and 2^{:.6}", left.log2(), right.log2())]
    ScaleMismatch {
        /// Left operand.
        left: f64,
        /// Right operand.
        right: f64,
    },
    /// A scale that is not finite and positive, or too large for the modulus.
    #[error(
        "scale {found} is not usable: it must be finite, at least 1 and fit the modulus \
         of {modulus_bits:.1} bits"
    )]
    BadScale {
        /// Asked for.
        found: f64,
        /// log2 of the modulus at that level.
        modulus_bits: f64,
    },
    /// A ciphertext with a number of parts that the operation does not take.
    #[error("ciphertext of {found} parts; the operation takes {expected}")]
    PartCount {
        /// Parts of the operand.
        found: usize,
        /// Parts that the operation takes.
        expected: usize,
    },
    /// A vector of the wrong length.
    #[error("{found} {what}; expected {expected}")]
    LengthMismatch {
        /// What is counted.
        what: &'static str,
        /// Length given.
        found: usize,
        /// Length needed.
        expected: usize,
    },
    /// An index out of range.
    #[error("{what} {found} is outside 0..{bound}")]
    IndexOutOfRange {
        /// What is indexed.
        what: &'static str,
        /// Index given.
        found: usize,
        /// One past the last.
        bound: usize,
    },
    /// An output of a linear map to which nothing contributes.
    #[error("output {output} of the linear map has no diagonal")]
    EmptyOutput {
        /// The output.
        output: usize,
    },
    /// NaN or infinity at encoding.
    #[error("slot {slot} holds a value that is not finite")]
    NotFinite {
        /// Slot of the first such value.
        slot: usize,
    },
    /// A value too large for the modulus at encoding.
    #[error(
        "the largest encoded magnitude is 2^{magnitude_bits:.1}; \
         level {level} holds less than 2^{modulus_bits:.1}"
    )]
    ValueTooLarge {
        /// log2 of the largest slot magnitude times scale.
        magnitude_bits: f64,
        /// log2 of half the modulus.
        modulus_bits: f64,
        /// Level.
        level: usize,
    },
    /// A plaintext prime that this context cannot use.
    #[error(
        "plaintext modulus {found} is not usable: it must be a prime below 2^47 and q_0, \
         1 mod {order} and none of the ciphertext or special primes"
    )]
    BadPlainModulus {
        /// Asked for.
        found: u64,
        /// 2N.
        order: u64,
    },
    /// An integer outside the plaintext modulus.
    #[error("the value of slot {slot} is above {bound} in magnitude, half the plaintext modulus")]
    ValueOutsidePlaintext {
        /// Slot of the first such value.
        slot: usize,
        /// Largest magnitude.
        bound: u64,
    },
    /// A factor of messages that is 0 or not below the plaintext modulus.
    #[error("message factor {found} is not a unit modulo the plaintext modulus")]
    BadFactor {
        /// Asked for.
        found: u64,
    },
    /// Two operands whose messages carry different factors.
    #[error("operands with message factors {left} and {right}")]
    FactorMismatch {
        /// Left operand.
        left: u64,
        /// Right operand.
        right: u64,
    },
    /// An exchange of rows in the conjugate-invariant ring.
    #[error("the slots are one row; only the standard ring has two to exchange")]
    StandardRingOnly,
    /// Operation on complex slots in the conjugate-invariant ring.
    #[error("the conjugate-invariant ring has real slots only")]
    RealSlotsOnly,

    // Caller or peer: keys.
    /// Rotation key missing.
    #[error("no rotation key for step {step}; add it to the key manifest and generate keys again")]
    MissingRotationKey {
        /// The rotation step.
        step: usize,
    },
    /// Key for relinearising and rotating at once missing.
    #[error(
        "no key to relinearise and rotate by step {step}; add it to the key manifest and \
         generate keys again"
    )]
    MissingRelinearizedRotationKey {
        /// The rotation step.
        step: usize,
    },
    /// Relinearisation key missing.
    #[error("no relinearisation key in the evaluation keys")]
    MissingRelinearizationKey,
    /// Public encryption key missing.
    #[error("no public key in the evaluation keys")]
    MissingPublicKey,
    /// Conjugation key missing.
    #[error("no conjugation key in the evaluation keys")]
    MissingConjugationKey,
    /// Key truncated below the level of use.
    #[error("the {} is good up to level {max}; it is used at level {found}", key_name(*.step))]
    KeyLevelTooLow {
        /// Rotation step; `None` for the relinearisation key.
        step: Option<usize>,
        /// Level of use.
        found: usize,
        /// Highest level of the key.
        max: usize,
    },
    /// Objects made under different secret keys.
    #[error("objects belong to different secret keys (found {found}, expected {expected})")]
    KeyMismatch {
        /// Key id of the object.
        found: crate::KeyId,
        /// Key id needed.
        expected: crate::KeyId,
    },
    /// Objects made under different parameters.
    #[error("objects belong to different parameters (found {found}, expected {expected})")]
    ParameterMismatch {
        /// Digest of the object.
        found: crate::params::Digest,
        /// Digest needed.
        expected: crate::params::Digest,
    },

    // Broken invariant of a checked parameter set.
    /// The ring refused the primes or an automorphism.
    #[error(transparent)]
    Ring(#[from] scuro_polyring::Error),

    // Peer: files and messages.
    /// Bytes that do not parse.
    #[error(transparent)]
    Codec(#[from] crate::codec::CodecError),
}

fn fix_hint(smallest_log_n: Option<u32>) -> String {
    match smallest_log_n {
        Some(log_n) => format!("; cheapest fix: N = 2^{log_n}, or fewer or smaller primes"),
        None => "; use fewer or smaller primes".to_owned(),
    }
}

fn key_name(step: Option<usize>) -> String {
    match step {
        Some(step) => format!("rotation key for step {step}"),
        None => "relinearisation key".to_owned(),
    }
}
