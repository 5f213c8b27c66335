//! Errors of the client.

use scuro_fhe::Error as FheError;
use scuro_program::ProgramError;

use crate::bundle::BundleKind;

/// What can be wrong with the bytes of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// Not a bundle.
    #[error("not a query or reply of Scuro: wrong magic bytes")]
    WrongMagic,
    /// Another version of the format.
    #[error("format version {found}; this build reads version {expected}")]
    WrongVersion {
        /// Version in the file.
        found: u16,
        /// Version of this build.
        expected: u16,
    },
    /// Neither query nor reply.
    #[error("unknown kind of bundle {found}")]
    UnknownKind {
        /// Byte in the file.
        found: u8,
    },
    /// The bytes end early.
    #[error("truncated: {needed} bytes needed at offset {offset}, {available} left")]
    Truncated {
        /// Where.
        offset: usize,
        /// Bytes needed.
        needed: usize,
        /// Bytes left.
        available: usize,
    },
    /// Bytes after the end.
    #[error("{count} bytes follow the end")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// A count above its limit.
    #[error("{found} {what}; the limit is {max}")]
    AboveLimit {
        /// What is counted.
        what: &'static str,
        /// Count in the file.
        found: u32,
        /// Limit.
        max: u32,
    },
    /// Counts that do not belong together.
    #[error("{images} images in {count} ciphertexts of {group} an evaluation: that cannot be")]
    Counts {
        /// Images.
        images: u32,
        /// Ciphertexts per evaluation.
        group: u32,
        /// Ciphertexts.
        count: u32,
    },
    /// Damaged bytes.
    #[error("checksum mismatch: the file is damaged")]
    Checksum,
}

/// Everything that can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // The file.
    /// Not a usable program.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// Not a usable bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A reply where a query is needed, or the other way round.
    #[error("wrong kind of file: {found}; expected: {expected}")]
    WrongKind {
        /// What it is.
        found: BundleKind,
        /// What is needed.
        expected: BundleKind,
    },
    /// Made for another program.
    #[error("made for program {}, not for {}", short(.found), short(.expected))]
    WrongProgram {
        /// Digest in the bundle.
        found: [u8; 32],
        /// Digest of the program.
        expected: [u8; 32],
    },
    /// A number of ciphertexts that the program does not have.
    #[error("{found} ciphertexts an evaluation; the program has {expected}")]
    CiphertextCount {
        /// Found.
        found: usize,
        /// Expected.
        expected: usize,
    },

    /// A reply with fewer runs than images.
    #[error("the reply holds answers for {found} of {expected} images")]
    ImagesMissing {
        /// Answers found.
        found: usize,
        /// Images announced.
        expected: usize,
    },
    /// A ciphertext of the other scheme.
    #[error("the ciphertext is of another scheme than the program")]
    WrongScheme,
    /// An encrypted weight at another level than the program reads it.
    #[error("encrypted weight {index} is at level {found}; the program reads it at {expected}")]
    WeightLevel {
        /// Index in the file.
        index: usize,
        /// Level found.
        found: usize,
        /// Level expected.
        expected: usize,
    },
    /// Weights that are not private are not encrypted.
    #[error("the program's weights are not private; compile it with private weights first")]
    NotPrivate,
    /// A security level that no table has.
    #[error("security level of {found} bits; 128, 192 and 256 exist")]
    SecurityLevel {
        /// Level in the program.
        found: u32,
    },

    // The image.
    /// No image at all.
    #[error("there is no image to encrypt")]
    NoImages,
    /// More images than slots.
    #[error("{found} images; one run of this program takes {limit}")]
    TooManyImages {
        /// Images given.
        found: usize,
        /// Most that fit.
        limit: usize,
    },
    /// An image of another size.
    #[error("image {image} has {found} values; the model takes {expected}")]
    ImageShape {
        /// Index of the image.
        image: usize,
        /// Values given.
        found: usize,
        /// Values needed.
        expected: usize,
    },
    /// A value that is NaN or infinite.
    #[error("image {image} holds a value that is NaN or infinite at position {position}")]
    ImageNotFinite {
        /// Index of the image.
        image: usize,
        /// Row-major position.
        position: usize,
    },
    /// A value outside the range that the program was calibrated for.
    #[error(
        "image {image} holds {value} at position {position}; the program was calibrated for \
         {minimum} to {maximum}"
    )]
    ImageOutOfRange {
        /// Index of the image.
        image: usize,
        /// Row-major position.
        position: usize,
        /// Value found.
        value: f32,
        /// Smallest value accepted.
        minimum: f32,
        /// Largest value accepted.
        maximum: f32,
    },

    // Keys and ciphertexts.
    /// The homomorphic library refuses.
    #[error(transparent)]
    Fhe(#[from] FheError),
}

/// The first bytes of a digest in hexadecimal.
fn short(digest: &[u8; 32]) -> String {
    digest[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
