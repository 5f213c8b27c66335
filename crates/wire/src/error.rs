//! Errors of this crate.

use std::path::PathBuf;

use crate::hex::UserId;
use crate::problem::Problem;

/// Everything that can be wrong with a message, a certificate or a connection.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    // The message.
    /// Not a name.
    #[error(
        "{found:?} is not a name: lower-case letters, digits and inner hyphens, 1 to 63 characters"
    )]
    Name {
        /// Its start.
        found: String,
    },
    /// A name that no certificate can carry.
    #[error("{found:?} cannot be the name in a certificate: it needs at least one letter")]
    NumericName {
        /// The name.
        found: String,
    },
    /// Not a version.
    #[error("{found:?} is not a version: 1, 2, ...")]
    Version {
        /// Its start.
        found: String,
    },
    /// Not hexadecimal of the right length.
    #[error("{found:?} is not a {what}: {expected} lower-case hexadecimal digits")]
    Hex {
        /// What it should be.
        what: &'static str,
        /// Its start.
        found: String,
        /// Digits of a right one.
        expected: usize,
    },
    /// Not JSON of the right form.
    #[error("the {what} is not valid: {message}")]
    Json {
        /// What was read.
        what: &'static str,
        /// The parser's message.
        message: String,
    },
    /// Not TOML of the right form.
    #[error("the {what} is not valid: {message}")]
    Toml {
        /// What was read.
        what: &'static str,
        /// The parser's message.
        message: String,
    },
    /// A roster that cannot be.
    #[error("the roster has {found}; expected {expected}")]
    Roster {
        /// What is wrong with it.
        found: String,
        /// What there should be.
        expected: &'static str,
    },
    /// Another spelling of the same content.
    #[error("the {what} is not in its canonical form")]
    NotCanonical {
        /// What was read.
        what: &'static str,
    },
    /// More bytes than allowed.
    #[error("the {what} has {found} bytes; the limit is {limit}")]
    TooLarge {
        /// What was read.
        what: &'static str,
        /// Bytes.
        found: u64,
        /// Limit.
        limit: u64,
    },
    /// More entries than allowed.
    #[error("{found} {what}; the limit is {limit}")]
    AboveLimit {
        /// What is counted.
        what: &'static str,
        /// Entries.
        found: u64,
        /// Limit.
        limit: u64,
    },
    /// Nothing where something must be.
    #[error("the {what} is empty")]
    Empty {
        /// What was read.
        what: &'static str,
    },
    /// A role twice, or a needed one missing.
    #[error("the manifest has {found} artefacts of role {role}; expected {expected}")]
    RoleCount {
        /// Which.
        role: &'static str,
        /// How many.
        found: usize,
        /// How many there should be.
        expected: &'static str,
    },
    /// Expires before it was made.
    #[error("the manifest expires at {expires}, before it was made at {created}")]
    Lifetime {
        /// Seconds since 1970.
        created: u64,
        /// Seconds since 1970.
        expires: u64,
    },
    /// Not a frame of inferences.
    #[error("not a frame of inferences: wrong magic bytes")]
    WrongMagic,
    /// Another version.
    #[error("frame version {found}; this build reads version {expected}")]
    WrongVersion {
        /// Version in the frame.
        found: u16,
        /// Version of this build.
        expected: u16,
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
    /// Damaged bytes.
    #[error("checksum mismatch: the frame is damaged")]
    Checksum,

    /// Not the length of a head.
    #[error("the header inference-header-content-length is {found:?}; expected decimal digits")]
    HeadLength {
        /// Its start.
        found: String,
    },
    /// A word where another must stand.
    #[error("the {what} is {found:?}; expected {expected:?}")]
    Word {
        /// What it says.
        what: &'static str,
        /// Its start.
        found: String,
        /// The right one.
        expected: &'static str,
    },
    /// A length that is not the one that was announced.
    #[error("the {what} has length {found}; expected {expected}")]
    Length {
        /// What is measured.
        what: &'static str,
        /// Length.
        found: u64,
        /// The right one.
        expected: u64,
    },
    /// A signature of somebody else, or of something else.
    #[error("the signature is not that of user {user} for this message")]
    Signature {
        /// Who should have signed.
        user: UserId,
    },

    // Certificates and connections.
    /// Not a usable key of a user.
    #[error("the user's signing key cannot be used: {message}")]
    UserKey {
        /// Why not.
        message: String,
    },
    /// Not a usable identity of a holder, or no randomness for its masks.
    #[error("the holder's identity key cannot be used: {message}")]
    HolderKey {
        /// Why not.
        message: String,
    },
    /// An address of another machine, without certificates.
    #[error("{address} is no address of this machine: it needs mutual TLS")]
    NotLoopback {
        /// The address.
        address: String,
    },
    /// The other side refuses.
    #[error("refused with status {status}: {problem}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its reason.
        problem: Problem,
    },
    /// A file of a certificate bundle.
    #[error("cannot read {}: {message}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's message.
        message: String,
    },
    /// A private key that others can read.
    #[error("{} has mode {mode:03o}: others can read it; expected 600", path.display())]
    KeyMode {
        /// Which.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
    },
    /// Not a usable certificate or key.
    #[error("{what}: {message}")]
    Certificate {
        /// What was read.
        what: &'static str,
        /// Why not.
        message: String,
    },
    /// Not a topic of a broker, or one that must not be entered like this.
    #[error("the MQTT address is {found:?}; expected {expected}")]
    MqttAddress {
        /// What was given, without what may be a password.
        found: String,
        /// What there should be.
        expected: &'static str,
    },
    /// No connection.
    #[error("no connection to {peer} at {address}: {message}")]
    Connection {
        /// Name that its certificate must carry.
        peer: String,
        /// Where.
        address: String,
        /// Why.
        message: String,
    },
    /// It took too long.
    #[error("{peer} at {address} did not answer within {seconds} s")]
    Timeout {
        /// Name.
        peer: String,
        /// Where.
        address: String,
        /// Limit.
        seconds: u64,
    },
}

impl WireError {
    /// An error if `found` bytes are above `limit`.
    pub(crate) fn check_size(what: &'static str, found: usize, limit: usize) -> Result<(), Self> {
        if found <= limit {
            return Ok(());
        }
        Err(Self::TooLarge {
            what,
            found: found as u64,
            limit: limit as u64,
        })
    }

    /// An error if `found` entries are above `limit`.
    pub(crate) fn check_count(what: &'static str, found: usize, limit: usize) -> Result<(), Self> {
        if found <= limit {
            return Ok(());
        }
        Err(Self::AboveLimit {
            what,
            found: found as u64,
            limit: limit as u64,
        })
    }

    /// Reads JSON.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(
        what: &'static str,
        bytes: &[u8],
    ) -> Result<T, Self> {
        serde_json::from_slice(bytes).map_err(|error| Self::Json {
            what,
            message: error.to_string(),
        })
    }
}
