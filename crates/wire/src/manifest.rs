//! A protected model as a list of artefacts.

use serde::{Deserialize, Serialize};

use crate::error::WireError;
use crate::hex::{Digest, KeyId};
use crate::limits;
use crate::name::Name;

/// What an artefact is for. The secret key is no artefact: it never leaves the vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// ONNX file of the clear feature extractor.
    Features,
    /// The compiled program.
    Program,
    /// Encrypted weights.
    Weights,
    /// Encrypts.
    PublicKey,
    /// Lets the device compute.
    EvaluationKeys,
}

impl Role {
    /// Every role, in the order of a manifest.
    pub const ALL: [Self; 5] = [
        Self::Features,
        Self::Program,
        Self::Weights,
        Self::PublicKey,
        Self::EvaluationKeys,
    ];

    /// Name as in the manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Features => "features",
            Self::Program => "program",
            Self::Weights => "weights",
            Self::PublicKey => "public-key",
            Self::EvaluationKeys => "evaluation-keys",
        }
    }

    /// Whether a manifest may lack it.
    pub fn is_optional(self) -> bool {
        matches!(self, Self::Features | Self::Weights)
    }
}

/// One file of a protected model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artefact {
    /// What it is for.
    pub role: Role,
    /// Size.
    pub bytes: u64,
    /// BLAKE3 of the content.
    pub digest: Digest,
}

/// Which weights are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EncryptedScope {
    /// None: only the data is.
    None,
    /// Those of the last layer.
    Last,
    /// Those of the classifier.
    Classifier,
    /// All.
    All,
}

/// Who decrypts replies. If it is not the model's owner, replies must hide the weights (circuit
/// privacy).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decryptor {
    /// The model's owner.
    ModelOwner,
    /// Somebody else.
    Other,
}

/// A version of a protected model. The digest of its canonical bytes names the deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Model.
    pub name: Name,
    /// 1, 2, ...
    pub version: u32,
    /// Files, at most one a role, in the order of [`Role::ALL`].
    pub artefacts: Vec<Artefact>,
    /// Digest of the encryption parameters, as in every key and ciphertext.
    pub parameters: Digest,
    /// Public name of the secret key.
    pub key_id: KeyId,
    /// When it was protected, seconds since 1970.
    pub created: u64,
    /// When its key expires, seconds since 1970.
    pub expires: u64,
    /// Names of the classes; empty if there are none.
    pub labels: Vec<String>,
    /// Which weights are encrypted.
    pub encrypted: EncryptedScope,
    /// Who decrypts.
    pub decryptor: Decryptor,
}

impl Manifest {
    /// The canonical bytes: JSON without spaces, fields in the order of this type.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings, numbers and lists of them: there is nothing in it that JSON cannot say.
        serde_json::to_vec(self).expect("a manifest is JSON")
    }

    /// Reads and validates canonical bytes.
    ///
    /// # Errors
    /// [`WireError`]: the first fault.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        WireError::check_size("manifest", bytes.len(), limits::MANIFEST_BYTES)?;
        let manifest: Self = WireError::json("manifest", bytes)?;
        manifest.validate()?;
        if manifest.to_bytes() != bytes {
            return Err(WireError::NotCanonical { what: "manifest" });
        }
        Ok(manifest)
    }

    /// Digest of the canonical bytes: the deployment's id.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// The artefact of that role.
    pub fn artefact(&self, role: Role) -> Option<&Artefact> {
        self.artefacts.iter().find(|found| found.role == role)
    }

    /// Bytes of all artefacts.
    pub fn bytes(&self) -> u64 {
        self.artefacts.iter().map(|found| found.bytes).sum()
    }

    /// Whether its key has expired at `now`, in seconds since 1970.
    pub fn is_expired(&self, now: u64) -> bool {
        now >= self.expires
    }

    /// Checks counts, roles and times.
    ///
    /// # Errors
    /// [`WireError`]: the first fault.
    pub fn validate(&self) -> Result<(), WireError> {
        if self.version == 0 {
            let found = self.version.to_string();
            return Err(WireError::Version { found });
        }
        WireError::check_count("artefacts", self.artefacts.len(), limits::ARTEFACTS)?;
        Role::ALL
            .iter()
            .try_for_each(|role| self.check_role(*role))?;
        if !self.artefacts.is_sorted_by_key(|found| found.role) {
            return Err(WireError::NotCanonical { what: "manifest" });
        }
        self.artefacts.iter().try_for_each(check_artefact)?;
        WireError::check_count("labels", self.labels.len(), limits::LABELS)?;
        for label in &self.labels {
            WireError::check_size("label", label.len(), limits::LABEL_BYTES)?;
        }
        if self.expires <= self.created {
            let (created, expires) = (self.created, self.expires);
            return Err(WireError::Lifetime { created, expires });
        }
        Ok(())
    }

    fn check_role(&self, role: Role) -> Result<(), WireError> {
        let count = self.artefacts.iter().filter(|a| a.role == role).count();
        match (count, role.is_optional()) {
            (1, _) | (0, true) => Ok(()),
            (found, optional) => Err(WireError::RoleCount {
                role: role.as_str(),
                found,
                expected: if optional { "0 or 1" } else { "1" },
            }),
        }
    }
}

fn check_artefact(artefact: &Artefact) -> Result<(), WireError> {
    if artefact.bytes > limits::ARTEFACT_BYTES {
        return Err(WireError::TooLarge {
            what: artefact.role.as_str(),
            found: artefact.bytes,
            limit: limits::ARTEFACT_BYTES,
        });
    }
    if artefact.bytes == 0 {
        let what = artefact.role.as_str();
        return Err(WireError::Empty { what });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let artefact = |role| Artefact {
            role,
            bytes: 3,
            digest: Digest::of(b"abc"),
        };
        Manifest {
            name: Name::new("digits").expect("a name"),
            version: 1,
            artefacts: [Role::Program, Role::PublicKey, Role::EvaluationKeys]
                .map(artefact)
                .to_vec(),
            parameters: Digest([1; 32]),
            key_id: KeyId([2; 16]),
            created: 100,
            expires: 200,
            labels: vec!["0".into(), "1".into()],
            encrypted: EncryptedScope::Last,
            decryptor: Decryptor::ModelOwner,
        }
    }

    #[test]
    fn a_manifest_survives_its_bytes_and_has_one_spelling() {
        let bytes = manifest().to_bytes();
        assert_eq!(Manifest::from_bytes(&bytes), Ok(manifest()));
        let mut spaced = bytes.clone();
        spaced.push(b' ');
        let found = Manifest::from_bytes(&spaced);
        assert_eq!(found, Err(WireError::NotCanonical { what: "manifest" }));
    }

    #[test]
    fn roles_are_counted_and_ordered() {
        let mut missing = manifest();
        missing.artefacts.remove(0);
        assert!(matches!(
            Manifest::from_bytes(&missing.to_bytes()),
            Err(WireError::RoleCount {
                role: "program",
                found: 0,
                ..
            })
        ));
        let mut twice = manifest();
        twice.artefacts.push(twice.artefacts[2].clone());
        assert!(Manifest::from_bytes(&twice.to_bytes()).is_err());
        let mut swapped = manifest();
        swapped.artefacts.swap(0, 1);
        assert!(Manifest::from_bytes(&swapped.to_bytes()).is_err());
    }

    #[test]
    fn a_secret_key_is_no_artefact() {
        let text = String::from_utf8(manifest().to_bytes()).expect("text");
        let with_secret = text.replace("public-key", "secret-key");
        assert!(Manifest::from_bytes(with_secret.as_bytes()).is_err());
    }

    #[test]
    fn limits_and_lifetimes_are_checked() {
        let broken = [
            Manifest {
                version: 0,
                ..manifest()
            },
            Manifest {
                expires: 100,
                ..manifest()
            },
            Manifest {
                labels: vec![String::new(); limits::LABELS + 1],
                ..manifest()
            },
            Manifest {
                labels: vec!["x".repeat(limits::LABEL_BYTES + 1)],
                ..manifest()
            },
        ];
        for manifest in broken {
            assert!(Manifest::from_bytes(&manifest.to_bytes()).is_err());
        }
        assert!(!manifest().is_expired(199) && manifest().is_expired(200));
    }
}
