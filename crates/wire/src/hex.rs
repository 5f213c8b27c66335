//! Fixed-size byte strings that are written as hexadecimal.

use std::fmt;
use std::str::FromStr;

use crate::error::WireError;

/// Declares a byte string that is shown, parsed and serialised as lower-case hexadecimal.
///
/// `hex_bytes! { /// Doc. Digest: 32, "digest" }` expands to `pub struct Digest(pub [u8; 32])` with
/// `Display`, `Debug`, `FromStr` and serde through them.
macro_rules! hex_bytes {
    ($($(#[$doc:meta])* $name:ident: $length:literal, $what:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(pub [u8; $length]);

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = WireError;

            fn from_str(text: &str) -> Result<Self, WireError> {
                parse(text, $what).map(Self)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = WireError;

            fn try_from(text: String) -> Result<Self, WireError> {
                text.parse()
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
    )*};
}

hex_bytes! {
    /// A BLAKE3 digest.
    Digest: 32, "digest";
    /// The random name that a device gives to one query.
    QueryId: 16, "query id";
    /// The public name of a secret key.
    KeyId: 16, "key id";
    /// The name of a user: the public half of an Ed25519 key pair.
    UserId: 32, "user id";
    /// Random bytes that make a message unlike every other.
    Nonce: 16, "nonce";
    /// The identity of a holder that masks: the public half of an Ed25519 key pair.
    HolderId: 32, "holder key";
    /// The public half of an X25519 key pair that is used once.
    MaskKey: 32, "mask key";
    /// An Ed25519 signature.
    Signature: 64, "signature";
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The first bytes, for people.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_string()
    }
}

/// Lower-case hexadecimal of exactly `N` bytes: one spelling, so that text compares as bytes do.
fn parse<const N: usize>(text: &str, what: &'static str) -> Result<[u8; N], WireError> {
    let wrong = || WireError::Hex {
        what,
        found: text.chars().take(80).collect(),
        expected: 2 * N,
    };
    let nibble = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(wrong()),
    };
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return Err(wrong());
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_has_one_spelling_and_one_length() {
        let digest = Digest::of(b"scuro");
        assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        let upper = digest.to_string().to_uppercase();
        assert!(upper.parse::<Digest>().is_err());
        assert!(digest.to_string()[2..].parse::<Digest>().is_err());
        assert!("é".repeat(16).parse::<QueryId>().is_err());
    }
}
