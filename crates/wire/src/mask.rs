//! How holders agree on masks that cancel in their sum, by way of a coordinator that learns none.
//!
//! ```text
//! offer     holder i -> coordinator    one fresh X25519 key for every other holder j of the
//!                                      roster, signed: face, query, roster, name, keys
//! release   coordinator -> holder i    the set S of those that are in the sum, with their weights,
//!                                      keys and signatures
//! masks     s_ij = HKDF-SHA256(salt: digest of face, query, roster and S;  secret: X25519(i, j);
//!                              info: places of i and j, number of the ciphertext)
//! ```
//!
//! Keys are signed by identities that the [roster](crate::roster) pins, so a coordinator cannot put
//! its own in their place; whatever two holders are told differently makes their seeds differ, and
//! the sum is noise then. A key pair is for one pair of holders and one query: `ring` gives no way
//! to use it twice.
//!
//! Source: Bonawitz et al. 2017, "Practical secure aggregation", section 4.1 (pairwise masks), with
//!     a key for each pair instead of one for each party, and no recovery of those that drop out

use std::fmt;

use axum::body::Bytes;
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use ring::rand::SystemRandom;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::WireError;
use crate::hex::{Digest, HolderId, MaskKey, Nonce, Signature, UserId};
use crate::limits;
use crate::name::Name;
use crate::roster::{Roster, push_name};
use crate::user::{Message, UserKey};

/// What the seed of a pair is for.
const PAIR: &[u8] = b"scuro ensemble pair mask 1\n";
/// Bytes of a seed.
const SEED: usize = 32;

/// What is wrong with an offer or a release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaskFault {
    /// Nobody of that name.
    #[error("{holder} is not in the roster")]
    Unknown {
        /// The name.
        holder: Name,
    },
    /// Made for another roster.
    #[error("{holder} has the roster {}, not {}", found.short(), expected.short())]
    OtherRoster {
        /// Who.
        holder: Name,
        /// Digest of its roster.
        found: Digest,
        /// Digest of the roster here.
        expected: Digest,
    },
    /// Twice, or not in everybody's order.
    #[error("{holder} comes twice, or not in the roster's order")]
    Order {
        /// Who.
        holder: Name,
    },
    /// Too many keys, or too few.
    #[error("{holder} has {found} keys; expected {expected}, one for every other holder")]
    Keys {
        /// Whose.
        holder: Name,
        /// Found.
        found: usize,
        /// Expected.
        expected: usize,
    },
    /// Keys that the holder did not sign for this query.
    #[error("the keys of {holder} are not signed by it for this query")]
    Signature {
        /// Whose.
        holder: Name,
    },
    /// A weight that the roster does not have.
    #[error("{holder} counts {found} times; the roster says {expected}")]
    Weight {
        /// Who.
        holder: Name,
        /// Weight in the release.
        found: u8,
        /// Weight in the roster.
        expected: u8,
    },
    /// A sum that hides too little.
    #[error("{found} holders are in the sum; {needed} are needed")]
    TooFew {
        /// Holders in the sum.
        found: usize,
        /// Fewest for which this holder releases.
        needed: usize,
    },
    /// A sum without the holder that is asked.
    #[error("{holder} itself is not in the sum")]
    Absent {
        /// The holder.
        holder: Name,
    },
    /// An own offer that is not the one that was made.
    #[error("the keys of {holder} itself are not those that it offered")]
    Changed {
        /// The holder.
        holder: Name,
    },
    /// A key that makes no secret.
    #[error("a key of {holder} cannot be used")]
    Agreement {
        /// Whose.
        holder: Name,
    },
}

impl MaskFault {
    /// What is wrong, in a word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "unknown-holder",
            Self::OtherRoster { .. } => "other-roster",
            Self::Order { .. } => "order",
            Self::Keys { .. } => "keys",
            Self::Signature { .. } => "signature",
            Self::Weight { .. } => "weight",
            Self::TooFew { .. } => "too-few",
            Self::Absent { .. } => "absent",
            Self::Changed { .. } => "changed",
            Self::Agreement { .. } => "agreement",
        }
    }
}

/// The identity of a holder that masks: an Ed25519 key pair that signs offers and nothing else.
#[derive(Debug)]
pub struct HolderKey(UserKey);

impl HolderKey {
    /// The bytes of a new key pair, PKCS #8, for a file that nobody else can read.
    ///
    /// # Errors
    /// [`WireError::HolderKey`] if the system has no randomness.
    pub fn generate() -> Result<Zeroizing<Vec<u8>>, WireError> {
        UserKey::generate().map_err(unusable)
    }

    /// Reads [`HolderKey::generate`].
    ///
    /// # Errors
    /// [`WireError::HolderKey`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        UserKey::from_bytes(bytes).map(Self).map_err(unusable)
    }

    /// The public half, which goes into the roster.
    pub fn id(&self) -> HolderId {
        HolderId(self.0.id().0)
    }
}

fn unusable(error: WireError) -> WireError {
    match error {
        WireError::UserKey { message } => WireError::HolderKey { message },
        other => other,
    }
}

/// What an offer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// Digest of the ensemble's face.
    pub face: Digest,
    /// [Digest of the query](crate::predict::PredictQuery::digest).
    pub query: Digest,
    /// [Digest of the roster](Roster::digest).
    pub roster: Digest,
}

/// What a holder answers to a query while it holds its prediction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// Who.
    pub holder: Name,
    /// Digest of its roster.
    pub roster: Digest,
    /// Fewest holders in whose sum it releases.
    pub min_holders: usize,
    /// A key for every other holder of the roster, in its order.
    pub keys: Vec<MaskKey>,
    /// The holder's signature.
    pub signature: Signature,
}

impl Offer {
    /// Signs keys for a subject.
    pub fn sign(
        subject: &Subject,
        holder: Name,
        min_holders: usize,
        keys: Vec<MaskKey>,
        identity: &HolderKey,
    ) -> Self {
        let signature = identity.0.sign(&message(subject, &holder, &keys));
        Self {
            holder,
            roster: subject.roster,
            min_holders,
            keys,
            signature,
        }
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`WireError::TooLarge`], [`WireError::Json`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let what = "offer of masks";
        WireError::check_size(what, bytes.len(), limits::PREDICT_HEAD_BYTES)?;
        WireError::json(what, bytes)
    }

    /// The answer.
    pub fn to_bytes(&self) -> Bytes {
        to_json(self)
    }

    /// That it is for the subject, from the holder whose name it has.
    ///
    /// # Errors
    /// [`MaskFault::OtherRoster`], [`MaskFault::Unknown`], [`MaskFault::Keys`],
    /// [`MaskFault::Signature`].
    pub fn check(&self, subject: &Subject, roster: &Roster) -> Result<(), MaskFault> {
        if self.roster != subject.roster {
            return Err(MaskFault::OtherRoster {
                holder: self.holder.clone(),
                found: self.roster,
                expected: subject.roster,
            });
        }
        verify(subject, roster, (&self.holder, &self.keys, &self.signature)).map(|_| ())
    }
}

/// The place of a holder whose keys are good.
fn verify(
    subject: &Subject,
    roster: &Roster,
    (holder, keys, signature): (&Name, &[MaskKey], &Signature),
) -> Result<usize, MaskFault> {
    let holder = || holder.clone();
    let place = roster.place(&holder());
    let place = place.ok_or_else(|| MaskFault::Unknown { holder: holder() })?;
    let (found, expected) = (keys.len(), roster.holders().len() - 1);
    if found != expected {
        return Err(MaskFault::Keys {
            holder: holder(),
            found,
            expected,
        });
    }
    let signer = UserId(roster.holders()[place].key.0);
    let verified = signer.verify(&message(subject, &holder(), keys), signature);
    match verified {
        Ok(()) => Ok(place),
        Err(_) => Err(MaskFault::Signature { holder: holder() }),
    }
}

/// What a holder signs.
fn message(subject: &Subject, holder: &Name, keys: &[MaskKey]) -> Message {
    let mut text = b"scuro ensemble mask offer 1\n".to_vec();
    push_subject(&mut text, subject);
    push_name(&mut text, holder);
    keys.iter().for_each(|key| text.extend_from_slice(&key.0));
    Message::of_holder(text)
}

fn push_subject(text: &mut Vec<u8>, subject: &Subject) {
    for digest in [&subject.face, &subject.query, &subject.roster] {
        text.extend_from_slice(&digest.0);
    }
}

/// What a coordinator asks holders to release their masked predictions for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Who asked.
    pub user: UserId,
    /// The nonce of the query.
    pub nonce: Nonce,
    /// Its digest.
    pub query: Digest,
    /// Everybody in the sum, in the roster's order.
    pub members: Vec<Member>,
}

/// A holder in a sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Who.
    pub holder: Name,
    /// How often it counts.
    pub weight: u8,
    /// What it offered.
    pub keys: Vec<MaskKey>,
    /// Its signature of the offer.
    pub signature: Signature,
}

impl Release {
    /// Reads a request.
    ///
    /// # Errors
    /// [`WireError::TooLarge`], [`WireError::Json`], [`WireError::AboveLimit`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let what = "release of masked predictions";
        WireError::check_size(what, bytes.len(), limits::RELEASE_BYTES)?;
        let release: Self = WireError::json(what, bytes)?;
        WireError::check_count("holders", release.members.len(), limits::HOLDERS)?;
        Ok(release)
    }

    /// The request.
    pub fn to_bytes(&self) -> Bytes {
        to_json(self)
    }

    /// That a holder which offered `own` may release for this sum.
    ///
    /// # Errors
    /// [`MaskFault`]: the first fault.
    pub fn check(&self, subject: &Subject, roster: &Roster, own: &Offer) -> Result<(), MaskFault> {
        let (found, needed) = (self.members.len(), own.min_holders);
        if found < needed {
            return Err(MaskFault::TooFew { found, needed });
        }
        let mut last = None;
        for member in &self.members {
            let place = member.check(subject, roster)?;
            if last >= Some(place) {
                let holder = member.holder.clone();
                return Err(MaskFault::Order { holder });
            }
            last = Some(place);
        }
        let holder = own.holder.clone();
        match self.members.iter().find(|member| member.holder == holder) {
            None => Err(MaskFault::Absent { holder }),
            Some(member) if member.keys != own.keys => Err(MaskFault::Changed { holder }),
            Some(_) => Ok(()),
        }
    }

    /// The same for all who are told the same.
    ///
    /// Math:   BLAKE3("scuro ensemble masks 1\n" | face (32) | query (32) | roster (32) |
    ///         holders (1) | for each: bytes of the name (1), name, weight (1), keys (32 each))
    fn transcript(&self, subject: &Subject) -> Digest {
        let mut text = b"scuro ensemble masks 1\n".to_vec();
        push_subject(&mut text, subject);
        text.push(self.members.len() as u8);
        for member in &self.members {
            push_name(&mut text, &member.holder);
            text.push(member.weight);
            let keys = member.keys.iter();
            keys.for_each(|key| text.extend_from_slice(&key.0));
        }
        Digest::of(&text)
    }
}

impl Member {
    /// A holder as its offer and the roster have it.
    pub fn of(offer: &Offer, weight: u8) -> Self {
        Self {
            holder: offer.holder.clone(),
            weight,
            keys: offer.keys.clone(),
            signature: offer.signature,
        }
    }

    fn check(&self, subject: &Subject, roster: &Roster) -> Result<usize, MaskFault> {
        let place = verify(subject, roster, (&self.holder, &self.keys, &self.signature))?;
        let (found, expected) = (self.weight, roster.holders()[place].weight.get());
        match found == expected {
            true => Ok(place),
            false => Err(MaskFault::Weight {
                holder: self.holder.clone(),
                found,
                expected,
            }),
        }
    }
}

/// The secret halves of an offer's keys, for one use; `ring` keeps them and does not overwrite
/// them.
pub struct MaskSecrets {
    own: usize,
    secrets: Vec<EphemeralPrivateKey>,
}

impl MaskSecrets {
    /// New keys for every other holder than that at place `own`: the secret halves and the public.
    ///
    /// # Errors
    /// [`WireError::HolderKey`] if the system has no randomness.
    pub fn draw(roster: &Roster, own: usize) -> Result<(Self, Vec<MaskKey>), WireError> {
        let (mut secrets, mut keys) = (Vec::new(), Vec::new());
        let random = SystemRandom::new();
        for _ in 1..roster.holders().len() {
            let failed = |error: ring::error::Unspecified| WireError::HolderKey {
                message: error.to_string(),
            };
            let secret = EphemeralPrivateKey::generate(&X25519, &random).map_err(failed)?;
            let public = secret.compute_public_key().map_err(failed)?;
            let mut key = MaskKey([0; 32]);
            key.0.copy_from_slice(public.as_ref());
            secrets.push(secret);
            keys.push(key);
        }
        Ok((Self { own, secrets }, keys))
    }

    /// What this holder shares with every other one of a release that
    /// [is good](Release::check); the keys are gone then.
    ///
    /// # Errors
    /// [`MaskFault::Agreement`] for a key of low order.
    pub fn agree(
        self,
        release: &Release,
        subject: &Subject,
        roster: &Roster,
    ) -> Result<Vec<Pair>, MaskFault> {
        let transcript = release.transcript(subject);
        let salt = Salt::new(HKDF_SHA256, &transcript.0);
        let mut pairs = Vec::new();
        for (index, secret) in self.secrets.into_iter().enumerate() {
            let other = if index < self.own { index } else { index + 1 };
            let name = &roster.holders()[other].name;
            let mut members = release.members.iter();
            let Some(member) = members.find(|member| member.holder == *name) else {
                continue;
            };
            let failed = || MaskFault::Agreement {
                holder: name.clone(),
            };
            let theirs = member.keys.get(key_for(self.own, other));
            let theirs = UnparsedPublicKey::new(&X25519, theirs.ok_or_else(failed)?.0);
            let agreed = agree_ephemeral(secret, &theirs, |shared| salt.extract(shared));
            let secret = agreed.map_err(|_| failed())?;
            let (own, first) = (self.own, self.own < other);
            let places = [own.min(other) as u8, own.max(other) as u8];
            pairs.push(Pair {
                secret,
                places,
                first,
            });
        }
        Ok(pairs)
    }
}

/// Where the keys of `of` have the one for `own`: `of` has none for itself.
fn key_for(own: usize, of: usize) -> usize {
    if own < of { own } else { own - 1 }
}

impl fmt::Debug for MaskSecrets {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "MaskSecrets({}, redacted)", self.secrets.len())
    }
}

/// What two holders share for one sum.
pub struct Pair {
    secret: Prk,
    places: [u8; 2],
    first: bool,
}

impl Pair {
    /// Whether the holder that asks comes first.
    pub fn is_first(&self) -> bool {
        self.first
    }

    /// The seed of the mask of a ciphertext, by its number in the reply.
    pub fn seed(&self, ciphertext: u32) -> Zeroizing<[u8; SEED]> {
        let number = ciphertext.to_le_bytes();
        let info = [PAIR, &self.places, &number];
        let mut seed = Zeroizing::new([0; SEED]);
        // HKDF-SHA256 gives up to 255 times 32 bytes.
        let expanded = self.secret.expand(&info, Length);
        let filled = expanded.and_then(|text| text.fill(&mut *seed));
        filled.expect("32 bytes are within the limit");
        seed
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Pair({:?}, redacted)", self.places)
    }
}

/// Length of a seed.
struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        SEED
    }
}

fn to_json(message: &impl Serialize) -> Bytes {
    // Strings, numbers and lists of them: there is nothing in it that JSON cannot say.
    serde_json::to_vec(message).expect("it is JSON").into()
}

#[cfg(test)]
mod tests;
