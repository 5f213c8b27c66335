//! Names of models, devices and users: DNS labels, because certificates carry them.

use std::fmt;
use std::str::FromStr;

use crate::error::WireError;

/// Most characters of a name.
pub const NAME_CHARACTERS: usize = 63;

/// Lower-case letters, digits and inner hyphens, at most 63 characters: one label of a domain name,
/// so also a safe file name.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(into = "String", try_from = "String")]
pub struct Name(String);

impl Name {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`WireError::Name`].
    pub fn new(text: &str) -> Result<Self, WireError> {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let good = (1..=NAME_CHARACTERS).contains(&text.len())
            && text.bytes().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if !good {
            return Err(WireError::Name {
                found: text.chars().take(80).collect(),
            });
        }
        Ok(Self(text.to_string()))
    }

    /// An error for a name that no certificate can carry: a domain name whose last label is a
    /// number is an address to TLS. Models may be called so.
    ///
    /// # Errors
    /// [`WireError::NumericName`].
    pub fn check_for_certificate(&self) -> Result<(), WireError> {
        match self.0.bytes().any(|byte| byte.is_ascii_lowercase()) {
            true => Ok(()),
            false => Err(WireError::NumericName {
                found: self.0.clone(),
            }),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, WireError> {
        Self::new(text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl TryFrom<String> for Name {
    type Error = WireError;

    fn try_from(text: String) -> Result<Self, WireError> {
        Self::new(&text)
    }
}

/// `NAME` (the newest active version) or `NAME:VERSION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelReference {
    /// Name of the model.
    pub name: Name,
    /// Version; `None` for the newest that is active.
    pub version: Option<u32>,
}

impl FromStr for ModelReference {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, WireError> {
        let Some((name, version)) = text.split_once(':') else {
            return Ok(Self {
                name: Name::new(text)?,
                version: None,
            });
        };
        let number = version.parse().ok().filter(|number| *number > 0);
        let version = number.ok_or_else(|| WireError::Version {
            found: version.chars().take(80).collect(),
        })?;
        Ok(Self {
            name: Name::new(name)?,
            version: Some(version),
        })
    }
}

impl fmt::Display for ModelReference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(out, "{}:{version}", self.name),
            None => self.name.fmt(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "cam-7", "0", &"x".repeat(63)] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a.b",
            "../x",
            "a b",
            "é",
            &"x".repeat(64),
        ] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_for_certificates_are_those_that_tls_takes_and_have_a_letter() {
        for (text, good) in [
            ("cam-7", true),
            ("7a", true),
            ("a", true),
            ("0", false),
            ("42", false),
        ] {
            let name = Name::new(text).expect("a name");
            assert_eq!(name.check_for_certificate().is_ok(), good, "{text}");
            let taken = rustls::pki_types::DnsName::try_from(text).is_ok();
            assert_eq!(taken, good, "{text}");
        }
        let no_letter = Name::new("4-2").expect("a name");
        assert!(no_letter.check_for_certificate().is_err());
    }

    #[test]
    fn a_reference_has_an_optional_version() {
        let parsed = "digits:3".parse::<ModelReference>().expect("a reference");
        assert_eq!((parsed.name.as_str(), parsed.version), ("digits", Some(3)));
        assert_eq!(parsed.to_string(), "digits:3");
        for bad in ["digits:", "digits:0", "digits:-1", "digits:1:2", ":1"] {
            assert!(bad.parse::<ModelReference>().is_err(), "{bad}");
        }
    }
}
