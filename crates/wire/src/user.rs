//! Users who sign: an Ed25519 key pair names whoever uploads keys and asks.
//!
//! What is signed begins with words that say what it is, so that a signature of one message never
//! passes for one of another. The key pair signs and nothing else: it decrypts nothing.

use std::fmt;

use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::Zeroizing;

use crate::error::WireError;
use crate::hex::{Digest, Signature, UserId};

/// The key pair of a user. Its bytes are PKCS #8, for a file that nobody else can read; `ring`
/// keeps it in memory and does not overwrite it there.
pub struct UserKey(Ed25519KeyPair);

impl UserKey {
    /// The bytes of a new key pair.
    ///
    /// # Errors
    /// [`WireError::UserKey`] if the system has no randomness.
    pub fn generate() -> Result<Zeroizing<Vec<u8>>, WireError> {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        let made = made.map_err(|error| unusable(&error))?;
        Ok(Zeroizing::new(made.as_ref().to_vec()))
    }

    /// Reads [`UserKey::generate`].
    ///
    /// # Errors
    /// [`WireError::UserKey`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let read = Ed25519KeyPair::from_pkcs8(bytes);
        read.map(Self).map_err(|error| unusable(&error))
    }

    /// The public half: the user's name.
    pub fn id(&self) -> UserId {
        let mut id = UserId([0; 32]);
        id.0.copy_from_slice(self.0.public_key().as_ref());
        id
    }

    /// Signs a message.
    pub fn sign(&self, message: &Message) -> Signature {
        let mut signature = Signature([0; 64]);
        let signed = self.0.sign(&message.0);
        signature.0.copy_from_slice(signed.as_ref());
        signature
    }
}

impl fmt::Debug for UserKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "UserKey({}, redacted)", self.id())
    }
}

impl UserId {
    /// Whether `signature` is this user's, of this message.
    ///
    /// # Errors
    /// [`WireError::Signature`].
    pub fn verify(&self, message: &Message, signature: &Signature) -> Result<(), WireError> {
        let key = UnparsedPublicKey::new(&ED25519, &self.0);
        let verified = key.verify(&message.0, &signature.0);
        verified.map_err(|_| WireError::Signature { user: *self })
    }
}

/// What a user signs, or a holder that masks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message(Vec<u8>);

impl Message {
    /// An upload of the key set of that digest, for the ensemble of that face.
    pub fn upload(keys: &Digest, face: &Digest) -> Self {
        Self::of(b"scuro ensemble keys 1\n", [keys, face])
    }

    /// A query: its head without the signature, and its ciphertexts.
    pub fn query(head: &Digest, bundle: &Digest) -> Self {
        Self::of(b"scuro ensemble query 1\n", [head, bundle])
    }

    fn of(what: &[u8], digests: [&Digest; 2]) -> Self {
        Self([what, &digests[0].0, &digests[1].0].concat())
    }

    /// What a holder signs; it begins with words of its own.
    pub(crate) fn of_holder(text: Vec<u8>) -> Self {
        Self(text)
    }

    /// Digest of what is signed.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }
}

fn unusable(error: &dyn fmt::Display) -> WireError {
    let message = error.to_string();
    WireError::UserKey { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> UserKey {
        UserKey::from_bytes(&UserKey::generate().expect("made")).expect("read")
    }

    #[test]
    fn a_signature_is_of_one_message_by_one_user() {
        let (user, other) = (user(), user());
        let (one, two) = (Digest([1; 32]), Digest([2; 32]));
        let message = Message::upload(&one, &two);
        let signature = user.sign(&message);
        assert_eq!(user.id().verify(&message, &signature), Ok(()));
        let refused = [
            (user.id(), Message::upload(&two, &one)),
            (user.id(), Message::query(&one, &two)),
            (other.id(), message.clone()),
        ];
        for (user, message) in refused {
            let found = user.verify(&message, &signature);
            assert_eq!(found, Err(WireError::Signature { user }));
        }
        let mut changed = signature;
        changed.0[5] ^= 1;
        assert!(user.id().verify(&message, &changed).is_err());
    }

    #[test]
    fn a_damaged_key_is_no_key_and_none_is_shown() {
        let bytes = UserKey::generate().expect("made");
        let mut changed = bytes.clone();
        changed[20] ^= 1;
        assert!(UserKey::from_bytes(&changed).is_err());
        assert!(UserKey::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        let key = UserKey::from_bytes(&bytes).expect("read");
        assert_eq!(
            format!("{key:?}"),
            format!("UserKey({}, redacted)", key.id())
        );
    }
}
