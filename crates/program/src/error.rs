//! Errors of reading and checking programs.

/// Why bytes are not a program, or a program cannot be run as it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// The first bytes are not those of a program.
    #[error(
        "not a Scuro program: the file starts with {found:02x?}; was it made by `scuro compile`?"
    )]
    WrongMagic {
        /// The first bytes found.
        found: Vec<u8>,
    },
    /// A format this build does not read.
    #[error(
        "program format {found} is not read by this build (it reads {expected}); compile again"
    )]
    WrongVersion {
        /// Version in the file.
        found: u16,
        /// Version of this build.
        expected: u16,
    },
    /// The bytes end early.
    #[error("truncated program: {needed} bytes needed at offset {offset}, {left} left")]
    Truncated {
        /// Where reading stopped.
        offset: usize,
        /// Bytes needed.
        needed: usize,
        /// Bytes left.
        left: usize,
    },
    /// Bytes after the end.
    #[error("{count} bytes follow the end of the program")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// The digest at the end does not belong to the bytes.
    #[error("the program's digest does not match its bytes: the file was damaged or altered")]
    WrongDigest,
    /// A reply at a scale of its own.
    #[error(
        "the reply's scale 2^{found} is not one that programs can have in common; compile for an \
         ensemble"
    )]
    FaceScale {
        /// Base-two logarithm, rounded to hundredths.
        found: String,
    },
    /// Programs of an ensemble answer single images.
    #[error("programs with batch packing answer no common query; compile for single images")]
    NoFace,
    /// A product or a sum that a traced value does not bear.
    #[error(
        "step {step}: traced values are summed with their like and multiplied with weights only"
    )]
    Traced {
        /// Index of the step.
        step: usize,
    },
    /// A count above its limit.
    #[error("{what}: {found} is above the limit {limit}")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// The count.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// An unknown tag of an enumeration.
    #[error("unknown {what} tag {found}")]
    UnknownTag {
        /// Which enumeration.
        what: &'static str,
        /// The tag.
        found: u8,
    },
    /// A field that has no meaning where it stands and is not zero.
    #[error("{what} is {found} where it has no meaning and must be 0")]
    NotCanonical {
        /// Which field.
        what: &'static str,
        /// Value found.
        found: u32,
    },
    /// Text that is not UTF-8.
    #[error("text at offset {offset} is not UTF-8")]
    NotText {
        /// Where.
        offset: usize,
    },
    /// A number that is NaN or infinite.
    #[error("step {step}: {what} is not a finite number")]
    NotFinite {
        /// Step index (`usize::MAX` for the header).
        step: usize,
        /// Which number.
        what: &'static str,
    },
    /// An index outside its range.
    #[error("step {step}: {what} {found} must be below {limit}")]
    OutOfRange {
        /// Step index (`usize::MAX` for the header, input or output).
        step: usize,
        /// Which index.
        what: &'static str,
        /// Value found.
        found: u64,
        /// Exclusive bound.
        limit: u64,
    },
    /// A step with the wrong number of operands or of per-ciphertext entries.
    #[error("step {step}: {what}: found {found}, expected {expected}")]
    WrongCount {
        /// Step index (`usize::MAX` for the header, input or output).
        step: usize,
        /// What was counted.
        what: &'static str,
        /// Count found.
        found: usize,
        /// Count expected.
        expected: usize,
    },
    /// A level that does not follow from the operands.
    #[error("step {step}: level {found} where {expected} follows from its operands")]
    WrongLevel {
        /// Step index.
        step: usize,
        /// Level found.
        found: u32,
        /// Level expected.
        expected: u32,
    },
    /// A rescale or a level drop below level 0.
    #[error("step {step}: no level left to drop")]
    NoLevelLeft {
        /// Step index.
        step: usize,
    },
    /// An operation on a product that still has three parts.
    #[error("step {step}: operand {operand} has three parts and must be relinearised first")]
    NeedsRelinearize {
        /// Step index.
        step: usize,
        /// Operand position.
        operand: usize,
    },
    /// A rotation or relinearisation whose key the manifest lacks (or has at too low a level).
    #[error("step {step}: the key manifest has no key for {what} at level {level}")]
    MissingKey {
        /// Step index.
        step: usize,
        /// Rotation step, or relinearisation.
        what: KeyName,
        /// Level at which it is needed.
        level: u32,
    },
    /// A weight in a program whose weights are encrypted beside it.
    #[error("step {step}: the program holds weights in clear although it withholds them")]
    WeightsNotWithheld {
        /// Step index.
        step: usize,
    },
    /// Encrypted weights in a scheme whose products of ciphertexts cost too much for them.
    #[error("weights of a {scheme} program cannot be encrypted: compile for BGV or CKKS")]
    EncryptedWeights {
        /// The scheme.
        scheme: &'static str,
    },
    /// A flooding whose result is not the reply: what is computed from it is not hidden.
    #[error("step {step}: a flooding must be the last step, whose value is the reply")]
    FloodInside {
        /// Step index.
        step: usize,
    },
    /// Slot vectors whose runs overlap, are unordered, empty or leave the row.
    #[error(
        "step {step}: slot vector runs must be ordered, apart, not empty and inside {slots} slots"
    )]
    BadRuns {
        /// Step index.
        step: usize,
        /// Slots of a ciphertext.
        slots: usize,
    },
}

/// Which evaluation key is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyName {
    /// The key for rotation by this many slots.
    Rotation(u32),
    /// The relinearisation key.
    Relinearization,
    /// The key that relinearises and rotates by this many slots at once.
    RelinearizedRotation(u32),
    /// The public encryption key.
    Public,
}

impl std::fmt::Display for KeyName {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KeyName::Rotation(step) => write!(out, "rotation by {step}"),
            KeyName::Relinearization => write!(out, "relinearisation"),
            KeyName::RelinearizedRotation(step) => {
                write!(out, "relinearisation with rotation by {step}")
            }
            KeyName::Public => write!(out, "public encryption"),
        }
    }
}
