//! What the services of an ensemble refuse, and why they do not answer.

use axum::http::StatusCode;
use scuro_runtime::RuntimeError;
use scuro_wire::mask::MaskFault;
use scuro_wire::predict::LeftOut;
use scuro_wire::{Digest, Name, WireError};

use super::contract::Flaw;

/// Why a request, or a start, fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    // Whoever starts a service.
    /// A setting that cannot be.
    #[error("{what} is {found:?}; expected {expected}")]
    Setting {
        /// Which.
        what: &'static str,
        /// What was given.
        found: String,
        /// What there should be.
        expected: &'static str,
    },
    /// A program with weights where a face should be.
    #[error("the file is not the face of an ensemble: there is more in it")]
    NotAFace,
    /// No holder to take the face from.
    #[error("no holder answers, so there is no face: {}", reasons(left_out))]
    NoFace {
        /// Why not.
        left_out: Vec<LeftOut>,
    },

    // The user.
    /// A message that cannot be read, or is not signed by who it says.
    #[error(transparent)]
    Message(#[from] WireError),
    /// A query that was signed too long ago, before the service started, or in the future.
    #[error("the query was signed {what}: {seconds} s {direction}")]
    Stale {
        /// What is wrong.
        what: &'static str,
        /// By how much.
        seconds: u64,
        /// Before or after what.
        direction: &'static str,
    },
    /// A query that was here before.
    #[error("a query with this nonce was here before")]
    Replayed,
    /// A query that is not what it should be.
    #[error("the query is refused: {0}")]
    Query(Flaw),
    /// No such way of combining.
    #[error("there is no rule {found}; there are: {known}")]
    Rule {
        /// The name.
        found: Name,
        /// The known names.
        known: String,
    },

    /// A way of combining under which masks would not cancel.
    #[error(
        "the rule {found} cannot be computed of masked predictions: only sums can, with the \
         weights of the roster; there are: {known}"
    )]
    MaskedRule {
        /// The name.
        found: Name,
        /// The names of those that can.
        known: String,
    },

    // Masks.
    /// A query for a prediction that leaves this holder only in a sum.
    #[error("this holder releases its predictions masked, in a sum with others, and not otherwise")]
    MasksRequired,
    /// A request about masks to a service that has none.
    #[error("this service does not mask its predictions")]
    Unmasked,
    /// A release of what is not held, or not any more.
    #[error("no prediction is held for this query and caller")]
    NotHeld,
    /// A second release for another sum.
    #[error("the prediction was released for another sum: a second one would tell the difference")]
    Released,
    /// A release for a sum that does not hide enough, or is not of the roster.
    #[error("the prediction is not released: {0}")]
    Release(#[from] MaskFault),
    /// A holder that offered masks and is missing in the sum.
    #[error(
        "masks do not cancel in a sum without everybody in it; {}",
        reasons(left_out)
    )]
    Masks {
        /// Who is missing, and why.
        left_out: Vec<LeftOut>,
    },
    /// Votes that are not those of the holders that are named.
    #[error("the answer has {found} different predictions; {holders} holders answered")]
    Votes {
        /// Different predictions.
        found: usize,
        /// Holders that should have one each.
        holders: usize,
    },
    /// No randomness for masks.
    #[error("no system randomness: {message}")]
    Randomness {
        /// The system's message.
        message: String,
    },

    // Keys.
    /// No such keys, or not any more.
    #[error("keys {} are not here", digest.short())]
    KeysUnknown {
        /// Their digest.
        digest: Digest,
    },
    /// Keys that somebody else has uploaded.
    #[error("keys {} are another user's", digest.short())]
    KeysOtherUser {
        /// Their digest.
        digest: Digest,
    },
    /// Bytes that are not what their name says.
    #[error("the keys have digest {}, not {}", found.short(), expected.short())]
    KeysDigest {
        /// Digest of the bytes.
        found: Digest,
        /// Digest that names them.
        expected: Digest,
    },
    /// Keys under other parameters.
    #[error(
        "the keys belong to parameters {}; this ensemble has {}",
        found.short(),
        expected.short()
    )]
    KeysOtherEnsemble {
        /// Digest of the keys' parameters.
        found: Digest,
        /// Digest of the ensemble's.
        expected: Digest,
    },
    /// Keys that the weights of this holder are not encrypted under.
    #[error(
        "the weights of this holder are encrypted under key {expected}; the keys are of {found}"
    )]
    KeysOtherWeights {
        /// The secret key that the keys belong to.
        found: scuro_fhe::KeyId,
        /// The one that the weights belong to.
        expected: scuro_fhe::KeyId,
    },
    /// Keys that lack some.
    #[error("the key set is not complete: {0}")]
    KeysIncomplete(RuntimeError),
    /// Keys without the public key.
    #[error("the key set has no public key")]
    KeysWithoutPublic,
    /// Bytes that are no keys.
    #[error("the keys cannot be read: {0}")]
    KeysMalformed(scuro_fhe::Error),

    // The service.
    /// More than it can take now.
    #[error("{what} are waiting: there is no room for another")]
    Full {
        /// What there is too much of.
        what: &'static str,
    },
    /// Too few holders answered.
    #[error(
        "{answered} of {needed} needed holders answered; {}",
        reasons(left_out)
    )]
    Quorum {
        /// Those that did.
        answered: usize,
        /// Fewest that make an answer.
        needed: usize,
        /// The others.
        left_out: Vec<LeftOut>,
    },
    /// A program that cannot run.
    #[error("the computation failed: {0}")]
    Runtime(#[from] RuntimeError),
    /// Predictions that cannot be combined, or rules that cannot be used.
    #[error("the predictions cannot be combined: {0}")]
    Combination(#[from] scuro_ensemble::Error),
    /// A rule whose results would not fit.
    #[error("the replies have no room for the rule {rule}")]
    NoRoom {
        /// Its name.
        rule: &'static str,
    },
    /// A combination or an answer that cannot be opened or written.
    #[error("the answer is not possible: {0}")]
    Reply(scuro_client::Error),
    /// A bug.
    #[error("the computation panicked")]
    Panicked,
}

fn reasons(left_out: &[LeftOut]) -> String {
    let reason = |left: &LeftOut| format!("{}: {} ({})", left.holder, left.message, left.code);
    let reasons: Vec<String> = left_out.iter().map(reason).collect();
    reasons.join("; ")
}

impl Fault {
    /// Stable name, `area.what`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Setting { .. } => "ensemble.setting",
            Self::NotAFace => "ensemble.not-a-face",
            Self::NoFace { .. } => "ensemble.no-face",
            Self::Message(WireError::Signature { .. }) => "user.signature",
            Self::Message(WireError::TooLarge { .. }) => "wire.too-large",
            Self::Message(_) => "wire.malformed",
            Self::Stale { .. } => "query.stale",
            Self::Replayed => "query.replayed",
            Self::Query(flaw) => query_code(flaw),
            Self::Rule { .. } => "query.rule",
            Self::MaskedRule { .. } => "query.rule-masked",
            Self::MasksRequired => "masks.required",
            Self::Unmasked => "masks.none",
            Self::NotHeld => "release.unknown",
            Self::Released => "release.repeated",
            Self::Release(fault) => release_code(fault),
            Self::Masks { .. } => "ensemble.masks",
            Self::Votes { .. } => "ensemble.votes",
            Self::Randomness { .. } => "random.unavailable",
            Self::KeysUnknown { .. } => "keys.unknown",
            Self::KeysOtherUser { .. } => "keys.other-user",
            Self::KeysDigest { .. } => "keys.digest",
            Self::KeysOtherEnsemble { .. } => "keys.other-ensemble",
            Self::KeysOtherWeights { .. } => "keys.other-weights",
            Self::KeysIncomplete(_) => "keys.incomplete",
            Self::KeysWithoutPublic => "keys.no-public-key",
            Self::KeysMalformed(_) => "keys.malformed",
            Self::Full { .. } => "queue.full",
            Self::Quorum { .. } => "ensemble.quorum",
            Self::Runtime(_) => "ensemble.evaluation",
            Self::Combination(_) => "ensemble.combination",
            Self::NoRoom { .. } => "ensemble.no-room",
            Self::Reply(_) | Self::Panicked => "internal.bug",
        }
    }

    /// The cheapest fix.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Setting { .. } => {
                "see `scuro holder serve --help`, `scuro coordinator serve --help`"
            }
            Self::NotAFace => "take the file from a holder: `GET /v1/ensemble/face`",
            Self::NoFace { .. } => "start the holders first, or pass --contract FACE-FILE",
            Self::Message(WireError::Signature { .. }) => {
                "sign with the key of the user who is named"
            }
            Self::Message(_) => "send it as docs/reference/ensemble.md shows it",
            Self::Stale { .. } => "set the clock right and sign the query anew",
            Self::Replayed => "sign the query anew, with another nonce",
            Self::Query(_) => "encrypt for the face that `GET /v1/ensemble/face` answers with",
            Self::Rule { .. } | Self::MaskedRule { .. } => "choose one of them, or leave it out",
            Self::MasksRequired => "ask a coordinator that has the roster: --roster FILE",
            Self::Unmasked => "start it with --roster FILE and --mask-key FILE",
            Self::NotHeld => "sign the query anew: predictions are held for a time only",
            Self::Released => "sign the query anew",
            Self::Release(_) => "all holders and the coordinator need the same roster",
            Self::Masks { .. } => "sign the query anew: it is answered by those that remain",
            Self::Votes { .. } => "ask again; if it stays so, the coordinator is not to be trusted",
            Self::Randomness { .. } => "nothing can be masked on this machine",
            Self::KeysUnknown { .. } => "send the keys again: they are kept for a time only",
            Self::KeysOtherUser { .. } => "make keys of your own",
            Self::KeysDigest { .. } => "the keys were altered on the way: send them again",
            Self::KeysOtherWeights { .. } => {
                "the holder serves one user: `scuro protect --public-key` for this one"
            }
            Self::KeysOtherEnsemble { .. }
            | Self::KeysIncomplete(_)
            | Self::KeysWithoutPublic
            | Self::KeysMalformed(_) => "make new keys for the ensemble's face",
            Self::Full { .. } => "send again after the time in retry-after",
            Self::Quorum { .. } => "ask again when the holders are back, or lower --min-holders",
            Self::NoRoom { .. } => "compile the first program with --ensemble=square or cube",
            Self::Runtime(_) | Self::Combination(_) => "look at the log of the service",
            Self::Reply(_) | Self::Panicked => {
                "this is a bug in Scuro: please report it with the log"
            }
        }
    }

    /// Whether the same request may be answered a little later.
    pub(super) fn is_worth_a_retry(&self) -> bool {
        matches!(
            self,
            Self::Full { .. } | Self::Quorum { .. } | Self::Masks { .. }
        )
    }

    /// The one place that maps faults to HTTP statuses.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Message(WireError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Message(WireError::Signature { .. })
            | Self::KeysOtherUser { .. }
            | Self::KeysOtherWeights { .. } => StatusCode::FORBIDDEN,
            Self::Message(_) => StatusCode::BAD_REQUEST,
            Self::Stale { .. } | Self::Replayed | Self::Released => StatusCode::CONFLICT,
            Self::KeysUnknown { .. } | Self::NotHeld => StatusCode::NOT_FOUND,
            Self::Query(_)
            | Self::Rule { .. }
            | Self::MaskedRule { .. }
            | Self::MasksRequired
            | Self::Unmasked
            | Self::Release(_)
            | Self::KeysDigest { .. }
            | Self::KeysOtherEnsemble { .. }
            | Self::KeysIncomplete(_)
            | Self::KeysWithoutPublic
            | Self::KeysMalformed(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Full { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Quorum { .. } | Self::Masks { .. } => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

fn release_code(fault: &MaskFault) -> &'static str {
    match fault {
        MaskFault::Unknown { .. } => "release.unknown-holder",
        MaskFault::OtherRoster { .. } => "release.other-roster",
        MaskFault::Order { .. } => "release.order",
        MaskFault::Keys { .. } => "release.keys",
        MaskFault::Signature { .. } => "release.signature",
        MaskFault::Weight { .. } => "release.weight",
        MaskFault::TooFew { .. } => "release.too-few",
        MaskFault::Absent { .. } => "release.absent",
        MaskFault::Changed { .. } => "release.changed",
        MaskFault::Agreement { .. } => "release.agreement",
    }
}

fn query_code(flaw: &Flaw) -> &'static str {
    match flaw {
        Flaw::Malformed { .. } => "query.malformed",
        Flaw::Kind { .. } => "query.kind",
        Flaw::OtherEnsemble { .. } => "query.other-ensemble",
        Flaw::Count { .. } => "query.count",
        Flaw::OtherKey { .. } => "query.other-key",
        Flaw::Level { .. } => "query.level",
        Flaw::Scale { .. } => "query.scale",
        Flaw::Parts { .. } => "query.parts",
        Flaw::Transparent => "query.transparent",
    }
}
