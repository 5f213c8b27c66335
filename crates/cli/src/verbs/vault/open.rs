//! Finding the vault and its key.

use std::path::{Path, PathBuf};

use scuro_vault::{KeySource, Vault};

use super::Place;
use crate::errors::Failure;

/// Environment variable with the passphrase.
const PASSPHRASE: &str = "SCURO_VAULT_PASSPHRASE";

/// What locks the vault.
#[derive(Debug, clap::Args)]
pub(crate) struct KeyArguments {
    /// Vault key (mode 0600); `vault.key` in the folder by default.
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    key_file: Option<PathBuf>,
    /// File with a passphrase (mode 0600) instead; also $SCURO_VAULT_PASSPHRASE.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl KeyArguments {
    /// The key file, the passphrase file, the environment, or the default key file.
    pub(crate) fn source(&self, folder: &Path) -> Result<KeySource, Failure> {
        if let Some(path) = &self.key_file {
            return Ok(KeySource::File(path.clone()));
        }
        if let Some(path) = &self.passphrase_file {
            return Ok(KeySource::passphrase_file(path)?);
        }
        match std::env::var(PASSPHRASE) {
            Ok(text) => Ok(KeySource::passphrase(&text)?),
            Err(_) => Ok(KeySource::File(Vault::default_key_file(folder))),
        }
    }
}

/// Opens the vault.
pub(crate) fn open(place: &Place) -> Result<Vault, Failure> {
    let source = place.key.source(&place.dir)?;
    Ok(Vault::open(&place.dir, &source)?)
}
