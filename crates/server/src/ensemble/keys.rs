//! Evaluation keys of users, by digest: checked once, kept in memory while they are used.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use scuro_fhe::codec;
use scuro_fhe::keys::EvaluationKeys;
use scuro_runtime::check_keys;
use scuro_wire::{Digest, Signature, UserId};

use super::contract::Contract;
use super::fault::Fault;

/// Most bytes that key sets take in memory; the last one stays in any case.
pub const KEY_MEMORY_BYTES: usize = 2 << 30;
/// Most key sets.
pub const KEY_SETS: usize = 1024;

/// The keys of a user, ready for use.
#[derive(Debug)]
pub struct UserKeys {
    digest: Digest,
    user: UserId,
    keys: EvaluationKeys,
    upload: Option<Upload>,
}

/// What a coordinator passes on to holders.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    pub(super) bytes: Bytes,
    pub(super) signature: Signature,
}

impl UserKeys {
    /// Reads keys and checks that an evaluator of the face can work with them.
    pub(super) fn open(
        contract: &Contract,
        digest: Digest,
        user: UserId,
        bytes: &Bytes,
    ) -> Result<Self, Fault> {
        let found = Digest::of(bytes);
        if found != digest {
            let expected = digest;
            return Err(Fault::KeysDigest { found, expected });
        }
        let described = codec::describe(bytes);
        let described = described.map_err(|error| Fault::KeysMalformed(error.into()))?;
        let context = contract.model().context();
        let (found, expected) = (Digest(described.parameters.0), Digest(context.digest().0));
        if found != expected {
            return Err(Fault::KeysOtherEnsemble { found, expected });
        }
        let keys = EvaluationKeys::from_bytes(bytes, context).map_err(Fault::KeysMalformed)?;
        if keys.public_key().is_err() {
            return Err(Fault::KeysWithoutPublic);
        }
        check_keys(contract.model().program(), &keys).map_err(Fault::KeysIncomplete)?;
        Ok(Self {
            digest,
            user,
            keys,
            upload: None,
        })
    }

    /// Keeps what was uploaded, to pass it on.
    pub(super) fn with_upload(self, bytes: Bytes, signature: Signature) -> Self {
        let upload = Some(Upload { bytes, signature });
        Self { upload, ..self }
    }

    /// Their digest.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Who uploaded them.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// The keys.
    pub fn keys(&self) -> &EvaluationKeys {
        &self.keys
    }

    pub(super) fn upload(&self) -> Option<&Upload> {
        self.upload.as_ref()
    }

    fn memory_bytes(&self) -> usize {
        let upload = self.upload.as_ref().map_or(0, |upload| upload.bytes.len());
        self.keys.memory_bytes() + upload
    }
}

/// Key sets, the least recently used of which goes when there is no room.
#[derive(Debug)]
pub(super) struct KeyCache {
    limit: usize,
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    sets: HashMap<Digest, Place>,
    bytes: usize,
    /// Counts uses.
    clock: u64,
}

#[derive(Debug)]
struct Place {
    set: Arc<UserKeys>,
    used: u64,
}

impl KeyCache {
    /// Room for so many bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            shelf: Mutex::default(),
        }
    }

    /// The keys that a user names.
    pub(super) fn get(&self, digest: Digest, user: UserId) -> Result<Arc<UserKeys>, Fault> {
        let mut shelf = self.lock();
        shelf.clock += 1;
        let now = shelf.clock;
        let place = shelf.sets.get_mut(&digest);
        let place = place.ok_or(Fault::KeysUnknown { digest })?;
        if place.set.user != user {
            return Err(Fault::KeysOtherUser { digest });
        }
        place.used = now;
        Ok(Arc::clone(&place.set))
    }

    /// Keeps a set; one that is there already stays, and stays its user's.
    pub(super) fn put(&self, set: UserKeys) -> Result<(), Fault> {
        let digest = set.digest;
        let mut shelf = self.lock();
        if let Some(place) = shelf.sets.get(&digest) {
            return match place.set.user == set.user {
                true => Ok(()),
                false => Err(Fault::KeysOtherUser { digest }),
            };
        }
        shelf.bytes += set.memory_bytes();
        shelf.clock += 1;
        let (set, used) = (Arc::new(set), shelf.clock);
        shelf.sets.insert(digest, Place { set, used });
        shelf.make_room(self.limit);
        Ok(())
    }

    /// Number of sets, and their bytes.
    pub(super) fn depth(&self) -> (usize, usize) {
        let shelf = self.lock();
        (shelf.sets.len(), shelf.bytes)
    }

    /// What is in there is consistent after every statement that can panic.
    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn make_room(&mut self, limit: usize) {
        while self.sets.len() > 1 && (self.bytes > limit || self.sets.len() > KEY_SETS) {
            let oldest = self.sets.iter().min_by_key(|(_, place)| place.used);
            let Some(digest) = oldest.map(|(digest, _)| *digest) else {
                return;
            };
            if let Some(place) = self.sets.remove(&digest) {
                self.bytes -= place.set.memory_bytes();
            }
        }
    }
}
