//! Errors of the services.

use std::io;
use std::path::{Path, PathBuf};

use scuro_client::Error as ClientError;
use scuro_nn::Error as NetworkError;
use scuro_runtime::RuntimeError;
use scuro_wire::{Digest, KeyId, Name, WireError, disk};

use crate::edge::frame::FrameFault;
use crate::ensemble::Fault;

/// Everything that can go wrong on a device, or in a service of an ensemble.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // The caller.
    /// Another process works in the same folder.
    #[error("{} is in use by another `scuro edge serve`", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
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

    // The data stream.
    /// Not a frame.
    #[error(transparent)]
    Frame(#[from] FrameFault),
    /// No room: the processing or the vault is behind.
    #[error("the queue holds {frames} frames of {bytes} bytes: it is full")]
    QueueFull {
        /// Frames in the queue.
        frames: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// No room in memory: frames are being read already.
    #[error("frames of {bytes} bytes are being read: there is no room for another")]
    Busy {
        /// Bytes that all frames may have while they are read.
        bytes: usize,
    },
    /// Frames before there is a model.
    #[error("no model is deployed yet")]
    NoModel,
    /// The service is about to end.
    #[error("the service is stopping")]
    Stopping,

    // The vault.
    /// A peer with a good certificate that is not the vault.
    #[error("{peer} is not the vault")]
    NotTheVault {
        /// Its name.
        peer: Name,
    },
    /// A message that is not what it should be, or no connection.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The vault answers with a status that has no meaning here.
    #[error("the vault answers {status} to {path}: {message}")]
    Vault {
        /// HTTP status.
        status: u16,
        /// Endpoint.
        path: &'static str,
        /// Its code and message.
        message: String,
    },
    /// The piece of an artefact starts somewhere else.
    #[error("the piece starts at {found}; {expected} bytes are here")]
    ArtefactOffset {
        /// Offset of the piece.
        found: u64,
        /// Bytes on disk.
        expected: u64,
    },
    /// More bytes than the artefact has.
    #[error("the piece ends at {found}; the artefact has {expected} bytes")]
    ArtefactLength {
        /// End of the piece.
        found: u64,
        /// Bytes of the whole.
        expected: u64,
    },
    /// The bytes are not what their name says.
    #[error(
        "the artefact {} has digest {}: it was altered on the way",
        expected.short(),
        found.short()
    )]
    ArtefactDigest {
        /// Digest of the bytes.
        found: Digest,
        /// Digest that names the artefact.
        expected: Digest,
    },
    /// A deployment whose files are not all here.
    #[error("the artefact {role} ({}) is not here whole", digest.short())]
    ArtefactMissing {
        /// Its role.
        role: &'static str,
        /// Its digest.
        digest: Digest,
    },
    /// The manifest and the files disagree about a size.
    #[error("the artefact {role} has {found} bytes; the manifest says {expected}")]
    ArtefactBytes {
        /// Its role.
        role: &'static str,
        /// Bytes on disk.
        found: u64,
        /// Bytes in the manifest.
        expected: u64,
    },
    /// A part of the model that was made under other encryption parameters.
    #[error(
        "the {role} belongs to parameters {}; the manifest says {}",
        found.short(),
        expected.short()
    )]
    Parameters {
        /// Which part.
        role: &'static str,
        /// Its parameter digest.
        found: Digest,
        /// The manifest's parameter digest.
        expected: Digest,
    },
    /// A key of another secret key.
    #[error("the {role} belongs to key {found}; the manifest says {expected}")]
    ForeignKey {
        /// Which key.
        role: &'static str,
        /// Its id.
        found: KeyId,
        /// The manifest's id.
        expected: KeyId,
    },
    /// A key after its time.
    #[error("the model's key expired at {expires} (seconds since 1970)")]
    Expired {
        /// When.
        expires: u64,
    },
    /// The features do not fit the program.
    #[error("the feature extractor gives {found} values; the program takes {expected}")]
    Features {
        /// Values given.
        found: usize,
        /// Values taken.
        expected: usize,
    },
    /// Programs that take many images at a time.
    #[error("the program takes {found} images at a time; a data stream has at most {limit}")]
    Packing {
        /// Images of one run.
        found: usize,
        /// Most that a device gathers.
        limit: usize,
    },
    /// A roll-back without a version before.
    #[error("there is no deployment before the active one")]
    NoPrevious,

    // The ensemble.
    /// What its services refuse.
    #[error(transparent)]
    Ensemble(#[from] Fault),

    // The model.
    /// A program, key or ciphertext that is refused.
    #[error(transparent)]
    Model(#[from] ClientError),
    /// A program that cannot run.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A feature extractor that cannot run.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A worker met a bug.
    #[error("the worker panicked on this frame")]
    Panicked,

    // The machine.
    /// A file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// No room on the disk, or none left of what the settings allow.
    #[error("no room on disk for {what}")]
    StorageFull {
        /// What was to be written.
        what: &'static str,
    },
    /// The spool.
    #[error("the spool refuses to {action}: {message}")]
    Spool {
        /// What was tried.
        action: &'static str,
        /// The database's message.
        message: String,
    },
    /// A spool file that is no spool or was damaged.
    #[error("the spool {} is damaged: {message}", path.display())]
    SpoolDamaged {
        /// The file.
        path: PathBuf,
        /// The database's message.
        message: String,
    },
    /// No system randomness.
    #[error("no system randomness: {message}")]
    Randomness {
        /// The system's message.
        message: String,
    },
}

impl Error {
    /// Adds the file to an error of the operating system.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match disk::is_full(&source) {
            true => Self::StorageFull { what: "a file" },
            false => Self::Io {
                action,
                path: path.to_path_buf(),
                source,
            },
        }
    }

    /// Stable name, `area.what`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "edge.in-use",
            Self::Setting { .. } => "edge.setting",
            Self::Frame(_) => "frame.malformed",
            Self::QueueFull { .. } => "queue.full",
            Self::Busy { .. } => "queue.busy",
            Self::NoModel => "deployment.none",
            Self::Stopping => "edge.stopping",
            Self::NotTheVault { .. } => "peer.forbidden",
            Self::Wire(_) => "wire.invalid",
            Self::Vault { .. } => "vault.refused",
            Self::ArtefactOffset { .. } => "artefact.offset",
            Self::ArtefactLength { .. } | Self::ArtefactBytes { .. } => "artefact.length",
            Self::ArtefactDigest { .. } => "artefact.digest",
            Self::ArtefactMissing { .. } => "artefact.missing",
            Self::Parameters { .. } => "deployment.parameters",
            Self::ForeignKey { .. } => "deployment.key",
            Self::Expired { .. } => "deployment.expired",
            Self::Features { .. } | Self::Packing { .. } => "deployment.shape",
            Self::NoPrevious => "deployment.no-previous",
            Self::Ensemble(fault) => fault.code(),
            Self::Model(_) | Self::Runtime(_) | Self::Network(_) => "model.invalid",
            Self::Panicked => "internal.bug",
            Self::Io { .. } => "file.io",
            Self::StorageFull { .. } => "file.disk-full",
            Self::Spool { .. } => "spool.failed",
            Self::SpoolDamaged { .. } => "spool.damaged",
            Self::Randomness { .. } => "random.unavailable",
        }
    }

    /// The cheapest fix.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "stop the other process, or choose another folder",
            Self::Setting { .. } => "see `scuro edge serve --help`",
            Self::Frame(FrameFault::IdReused) => "give every frame a name of its own",
            Self::Frame(_) => "send frames as docs/reference/edge.md shows them",
            Self::QueueFull { .. } | Self::Busy { .. } => {
                "send again after the time in retry-after"
            }
            Self::NoModel => "deploy a model first: `scuro deploy NAME --device THIS`",
            Self::Stopping => "send again when the service is back",
            Self::NotTheVault { .. } => "only the vault may write to a device",
            Self::Wire(_) => "check certificate, address and versions on both sides",
            Self::Vault { .. } => "look at the vault's log",
            Self::ArtefactOffset { .. } => "ask with HEAD how many bytes are here, and go on there",
            Self::ArtefactLength { .. } => "send the size of the whole and pieces within it",
            Self::ArtefactDigest { .. } => "the bytes were thrown away: send the artefact again",
            Self::ArtefactMissing { .. } => "send the artefact first, then the manifest",
            Self::ArtefactBytes { .. } | Self::Parameters { .. } | Self::ForeignKey { .. } => {
                "protect the model again and deploy that version"
            }
            Self::Expired { .. } => "`scuro vault rotate NAME MODEL`, and deploy the new version",
            Self::Features { .. } | Self::Packing { .. } => {
                "compile the classifier for the extractor's output, with --packing image"
            }
            Self::NoPrevious => "deploy a version; the one before it is then kept",
            Self::Ensemble(fault) => fault.hint(),
            Self::Model(_) | Self::Runtime(_) | Self::Network(_) => {
                "compile and protect the model again with this version of Scuro"
            }
            Self::Panicked => "this is a bug in Scuro: please report it with the log",
            Self::Io { .. } => "check the path and its permissions",
            Self::StorageFull { .. } => "free some space; the service goes on by itself",
            Self::Spool { .. } => "check the disk; frames stay where they are",
            Self::SpoolDamaged { .. } => "move the file away: frames in it are lost",
            Self::Randomness { .. } => "nothing can be encrypted on this machine",
        }
    }
}
