//! Errors of the vault.

use std::io;
use std::path::{Path, PathBuf};

use scuro_wire::{Digest, Problem, WireError, disk};

/// Everything that can go wrong in this crate. No variant holds a secret or a decrypted value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    // The caller.
    /// No such thing.
    #[error("there is no {what} {name}")]
    NotFound {
        /// Kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Not a vault.
    #[error("{} is not a vault", path.display())]
    NotAVault {
        /// Folder.
        path: PathBuf,
    },
    /// There is one already.
    #[error("{} is a vault already", path.display())]
    Exists {
        /// Folder.
        path: PathBuf,
    },
    /// A database of another version.
    #[error("the vault has format {found}; this build reads format {expected}")]
    Format {
        /// Version in the database.
        found: u32,
        /// Version of this build.
        expected: u32,
    },
    /// A model that is out of use.
    #[error("{model} is retired")]
    Retired {
        /// Name and version.
        model: String,
    },
    /// A key that is too old.
    #[error("the key of {model} expired at {expired} (seconds since 1970)")]
    Expired {
        /// Name and version.
        model: String,
        /// When.
        expired: u64,
    },
    /// A name that means something else.
    #[error("{name} is the vault's own name")]
    ReservedName {
        /// The name.
        name: String,
    },
    /// A peer that may not.
    #[error("{name} is not a {expected}")]
    WrongRole {
        /// The peer.
        name: String,
        /// Role needed.
        expected: &'static str,
    },
    /// A certificate of ours that is not in the registry any more.
    #[error("the certificate of {name} is {reason}")]
    Peer {
        /// Name in the certificate.
        name: String,
        /// `unknown`, `replaced`, `revoked` or `expired`.
        reason: &'static str,
    },
    /// A device without an address.
    #[error("the address of device {name} is not known")]
    NoAddress {
        /// Device.
        name: String,
    },

    // Keys.
    /// A key or password file that others can read, or of the wrong form.
    #[error("{}: {message}", path.display())]
    KeyFile {
        /// Which.
        path: PathBuf,
        /// Why not.
        message: String,
    },
    /// Not the key of this vault.
    #[error("this is not the key of the vault")]
    WrongKey,
    /// A file where a passphrase is needed, or the other way round.
    #[error("the vault is locked with a {expected}")]
    KeyKind {
        /// What it is locked with.
        expected: &'static str,
    },
    /// A sealed secret that does not open.
    #[error("the sealed secret {id} is damaged or was moved")]
    Sealed {
        /// Which.
        id: String,
    },
    /// A passphrase that is too short.
    #[error("the passphrase has {found} characters; at least {expected} are needed")]
    Passphrase {
        /// Characters.
        found: usize,
        /// Fewest.
        expected: usize,
    },
    /// The system gives no randomness or the key function fails.
    #[error("{what} failed")]
    Crypto {
        /// Which step.
        what: &'static str,
    },

    // The model.
    /// Program, key or reply that is not what it should be.
    #[error(transparent)]
    Model(#[from] scuro_client::Error),
    /// Keys that do not belong together.
    #[error("the {what} is of key {found}, the secret key is {expected}")]
    KeyMismatch {
        /// Which.
        what: &'static str,
        /// Key id found.
        found: String,
        /// Key id of the secret key.
        expected: String,
    },
    /// Weights that the device could read.
    #[error("the weights of the program are to be encrypted and still are in the clear")]
    WeightsInClear,
    /// Encrypted weights where there must be none, or none where there must be some.
    #[error("the program {program}, and {given} file of encrypted weights was given")]
    WeightsFile {
        /// Where its weights are.
        program: &'static str,
        /// `a` or `no`.
        given: &'static str,
    },
    /// An artefact with other bytes than it was stored with.
    #[error("artefact {} is damaged: its digest is {}", .expected.short(), .found.short())]
    Tampered {
        /// Digest of what is there.
        found: Digest,
        /// Digest that names it.
        expected: Digest,
    },

    // Storage.
    /// No room.
    #[error("the disk is full: {action}")]
    DiskFull {
        /// What was tried.
        action: String,
    },
    /// The database refuses.
    #[error("database: {message}")]
    Database {
        /// SQLite's message.
        message: String,
    },
    /// A file operation.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },

    // The network.
    /// A message or connection.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A certificate that cannot be made.
    #[error("cannot make a certificate: {message}")]
    Certificate {
        /// Why not.
        message: String,
    },
    /// A device that says no.
    #[error("{device} answered {status} to {action}: {problem}")]
    Device {
        /// Which.
        device: String,
        /// What was asked.
        action: &'static str,
        /// HTTP status.
        status: u16,
        /// Its reason.
        problem: Problem,
    },
    /// A device without a deployment to go back to.
    #[error("{device} has no deployment before the present one")]
    NothingBefore {
        /// Which.
        device: String,
    },
    /// A device that answers for something else.
    #[error("{device} activated {}, not {}", .found.short(), .expected.short())]
    WrongDeployment {
        /// Which.
        device: String,
        /// What it answers for.
        found: Digest,
        /// What was asked.
        expected: Digest,
    },
    /// A port that cannot be opened.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// An MQTT broker that refuses or went away.
    #[error("MQTT broker {address}: {message}")]
    Broker {
        /// Where.
        address: String,
        /// Why.
        message: String,
    },
}

impl VaultError {
    /// An error of a file operation; a full disk has a variant of its own.
    pub(crate) fn file(action: &'static str, path: &Path, source: io::Error) -> Self {
        if disk::is_full(&source) {
            let action = format!("{action} {}", path.display());
            return Self::DiskFull { action };
        }
        let path = path.to_path_buf();
        Self::File {
            action,
            path,
            source,
        }
    }

    pub(crate) fn not_found(what: &'static str, name: impl ToString) -> Self {
        let name = name.to_string();
        Self::NotFound { what, name }
    }
}

impl From<rusqlite::Error> for VaultError {
    fn from(error: rusqlite::Error) -> Self {
        let message = error.to_string();
        let code = error.sqlite_error().map(|fault| fault.extended_code);
        match code.is_some_and(disk::is_full_for_sqlite) {
            true => Self::DiskFull { action: message },
            false => Self::Database { message },
        }
    }
}

impl From<scuro_fhe::Error> for VaultError {
    fn from(error: scuro_fhe::Error) -> Self {
        Self::Model(error.into())
    }
}

impl From<rcgen::Error> for VaultError {
    fn from(error: rcgen::Error) -> Self {
        let message = error.to_string();
        Self::Certificate { message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    #[test]
    fn databases_that_find_no_room_are_told_from_broken_ones() {
        let found = |code| {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            VaultError::from(error)
        };
        for code in [
            ffi::SQLITE_FULL,
            ffi::SQLITE_IOERR_WRITE,
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_IOERR_TRUNCATE,
            ffi::SQLITE_IOERR_SHMOPEN,
            ffi::SQLITE_IOERR_SHMSIZE,
            ffi::SQLITE_IOERR_SHMMAP,
        ] {
            assert!(matches!(found(code), VaultError::DiskFull { .. }), "{code}");
        }
        for code in [ffi::SQLITE_IOERR_READ, ffi::SQLITE_CORRUPT] {
            assert!(matches!(found(code), VaultError::Database { .. }), "{code}");
        }
    }
}
