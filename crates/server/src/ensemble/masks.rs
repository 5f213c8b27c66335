//! What a holder does that shows its prediction to nobody: it holds it, agrees with others on masks
//! that cancel in their sum, and releases it masked, once.
//!
//! Whoever has the user's secret key *and* sees all that passes the coordinator decrypts one
//! released reply to a uniform polynomial. See [`scuro_wire::mask`] for the messages and
//! [`scuro_fhe::masking`] for the sum.

use scuro_fhe::masking::PairMask;
use scuro_fhe::{AnyCiphertext, AnyContext};
use scuro_wire::mask::{HolderKey, MaskSecrets, Offer, Pair, Release, Subject};
use scuro_wire::predict::{PredictReply, Timings};
use scuro_wire::roster::{HOLDERS_MIN, Roster};
use scuro_wire::{Digest, Name, QueryId};

use super::fault::Fault;

/// How a holder masks.
#[derive(Debug)]
pub struct Masks {
    /// Who masks together.
    pub roster: Roster,
    /// This holder's identity.
    pub key: HolderKey,
    /// Fewest holders in whose sum it releases; all of the roster if nothing is said.
    pub min_holders: Option<usize>,
}

/// [`Masks`] of a holder that is in the roster.
#[derive(Debug)]
pub(super) struct Masking {
    name: Name,
    place: usize,
    roster: Roster,
    digest: Digest,
    key: HolderKey,
    min_holders: usize,
}

/// A prediction that waits for its release, or was released.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) offer: Offer,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting(Box<Waiting>),
    Released {
        /// Digest of the request.
        request: Digest,
        reply: PredictReply,
    },
    /// Its keys are used and nothing came of it.
    Gone,
}

#[derive(Debug)]
struct Waiting {
    subject: Subject,
    secrets: MaskSecrets,
    prediction: Prediction,
}

/// What a holder has computed for a query.
#[derive(Debug)]
pub(super) struct Prediction {
    pub(super) id: QueryId,
    pub(super) images: u32,
    pub(super) ciphertexts: Vec<AnyCiphertext>,
    pub(super) timings: Timings,
    pub(super) took_us: u64,
}

impl Masking {
    /// # Errors
    /// [`Fault::Setting`] for a name or a key that is not the roster's, or a minimum that cannot
    /// be.
    pub(super) fn new(name: Name, masks: Masks) -> Result<Self, Fault> {
        let Masks {
            roster,
            key,
            min_holders,
        } = masks;
        let setting = |what, found, expected| Fault::Setting {
            what,
            found,
            expected,
        };
        let Some(place) = roster.place(&name) else {
            let expected = "the name of a holder in the roster";
            return Err(setting("--name", name.to_string(), expected));
        };
        if roster.holders()[place].key != key.id() {
            let expected = "the key that the roster has for this holder";
            return Err(setting("--mask-key", key.id().to_string(), expected));
        }
        let all = roster.holders().len();
        let min_holders = min_holders.unwrap_or(all);
        if !(HOLDERS_MIN..=all).contains(&min_holders) {
            let expected = "2 to the number of holders in the roster";
            return Err(setting("--min-holders", min_holders.to_string(), expected));
        }
        Ok(Self {
            digest: roster.digest(),
            name,
            place,
            roster,
            key,
            min_holders,
        })
    }

    pub(super) fn min_holders(&self) -> usize {
        self.min_holders
    }

    /// Digest of the roster.
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// Holds a prediction, with fresh keys for its masks.
    pub(super) fn hold(
        &self,
        face: Digest,
        query: Digest,
        prediction: Prediction,
    ) -> Result<Held, Fault> {
        let roster = self.digest;
        let subject = Subject {
            face,
            query,
            roster,
        };
        let drawn = MaskSecrets::draw(&self.roster, self.place);
        let (secrets, keys) = drawn.map_err(|error| Fault::Randomness {
            message: error.to_string(),
        })?;
        let (name, least) = (self.name.clone(), self.min_holders);
        Ok(Held {
            offer: Offer::sign(&subject, name, least, keys, &self.key),
            state: State::Waiting(Box::new(Waiting {
                subject,
                secrets,
                prediction,
            })),
        })
    }

    /// Puts the masks for a release on a prediction, which is gone then.
    fn mask(
        &self,
        waiting: Waiting,
        release: &Release,
        scheme: &AnyContext,
    ) -> Result<Prediction, Fault> {
        let Waiting {
            subject,
            secrets,
            mut prediction,
        } = waiting;
        let pairs = secrets.agree(release, &subject, &self.roster)?;
        let weight = u64::from(self.roster.holders()[self.place].weight.get());
        for (number, ciphertext) in prediction.ciphertexts.iter_mut().enumerate() {
            let mask = |pair: &Pair| PairMask::new(*pair.seed(number as u32), pair.is_first());
            let masks: Vec<PairMask> = pairs.iter().map(mask).collect();
            let masked = ciphertext.masked(scheme, &masks, weight);
            *ciphertext = masked.map_err(|error| Fault::Reply(error.into()))?;
        }
        Ok(prediction)
    }
}

impl Held {
    /// The prediction before it is masked.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> Option<&[AnyCiphertext]> {
        match &self.state {
            State::Waiting(waiting) => Some(&waiting.prediction.ciphertexts),
            _ => None,
        }
    }

    /// Releases what is held, or again what was released for the very same request; `seal` makes an
    /// answer of a masked prediction. If that fails nothing is held any more: keys are used once.
    ///
    /// # Errors
    /// [`Fault::Release`] for a sum that this holder is not for, and it holds on;
    /// [`Fault::Released`] if it was released for another request; [`Fault::NotHeld`].
    pub(super) fn release(
        &mut self,
        masking: &Masking,
        (release, request): (&Release, Digest),
        scheme: &AnyContext,
        seal: impl FnOnce(Prediction) -> Result<PredictReply, Fault>,
    ) -> Result<PredictReply, Fault> {
        match &self.state {
            State::Waiting(waiting) if waiting.subject.query == release.query => {
                release.check(&waiting.subject, &masking.roster, &self.offer)?;
            }
            State::Released { request: known, .. } if *known != request => {
                return Err(Fault::Released);
            }
            State::Released { reply, .. } => return Ok(reply.clone()),
            State::Waiting(_) | State::Gone => return Err(Fault::NotHeld),
        }
        let State::Waiting(waiting) = std::mem::replace(&mut self.state, State::Gone) else {
            return Err(Fault::NotHeld);
        };
        let reply = seal(masking.mask(*waiting, release, scheme)?)?;
        self.state = State::Released {
            request,
            reply: reply.clone(),
        };
        Ok(reply)
    }
}
