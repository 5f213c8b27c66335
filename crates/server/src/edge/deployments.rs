//! Which versions the device has, and which one answers.
//!
//! `deployments.json` lists them, the active one first; it is replaced in one step, so after
//! `kill -9` either the old version or the new one is active, never none and never half of one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use scuro_wire::deployment::{DeploymentList, DeploymentState, DeploymentStatus};
use scuro_wire::{Digest, Manifest, limits};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::artefacts::Artefacts;
use super::version::Version;
use super::{clock, disk};
use crate::error::Error;

const FILE: &str = "deployments.json";
/// Versions kept: the active one and those before it.
pub const KEPT: usize = 4;

/// Seconds that a vault has to note what it deployed.
const FRESH_SECONDS: u64 = 600;
/// Age from which on artefacts of no version are taken for left over when the device starts: a push
/// that was cut off goes on before.
const LEFT_OVER: Duration = Duration::from_secs(7 * 86_400);

/// One version on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    manifest: Manifest,
    activated: u64,
}

/// The device's versions.
#[derive(Debug)]
pub struct Deployments {
    path: PathBuf,
    artefacts: Arc<Artefacts>,
    /// The active one first.
    entries: Mutex<Vec<Entry>>,
    active: watch::Sender<Option<Arc<Version>>>,
}

impl Deployments {
    /// Reads the list in `device` and loads the active version; one that cannot be loaded any more
    /// is logged, and the device waits for another. Artefacts that are of no version, and have been
    /// so for long, are removed.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Wire`] for a list that is damaged.
    pub fn open(device: &Path, artefacts: Arc<Artefacts>) -> Result<Self, Error> {
        let path = device.join(FILE);
        let entries = read_list(&path)?;
        let (active, _) = watch::channel(None);
        let deployments = Self {
            path,
            artefacts,
            entries: Mutex::new(entries),
            active,
        };
        deployments.load_active();
        deployments.collect_left_over()?;
        Ok(deployments)
    }

    /// The active version, now and after every change.
    pub fn active(&self) -> watch::Receiver<Option<Arc<Version>>> {
        self.active.subscribe()
    }

    /// Makes the version of a manifest's canonical bytes the active one; the one before is kept.
    /// Returns once the switch is on disk.
    ///
    /// # Errors
    /// [`Error::Wire`] for a bad manifest, [`Error::Expired`], everything that [`Version::load`]
    /// finds, [`Error::StorageFull`]: the version before stays active. If the manifest can never
    /// become active, the artefacts that it alone names are removed.
    pub fn activate(&self, manifest: &[u8]) -> Result<DeploymentStatus, Error> {
        let manifest = Manifest::from_bytes(manifest)?;
        let switched = check_expiry(&manifest).and_then(|()| self.switch(manifest.clone()));
        if let Err(error) = &switched
            && is_for_good(error)
        {
            self.forget(&self.lock(), std::slice::from_ref(&manifest));
        }
        switched
    }

    /// Makes the version that was active before the active one.
    ///
    /// # Errors
    /// [`Error::NoPrevious`], or as [`Deployments::activate`].
    pub fn roll_back(&self) -> Result<DeploymentStatus, Error> {
        let before = self.lock().get(1).map(|entry| entry.manifest.clone());
        let manifest = before.ok_or(Error::NoPrevious)?;
        check_expiry(&manifest)?;
        self.switch(manifest)
    }

    /// Every version, the active one first.
    pub fn list(&self) -> DeploymentList {
        status_list(&self.lock())
    }

    /// Whether this version became active so short a time ago that the vault may not have noted it.
    pub(super) fn is_fresh(&self, deployment: &Digest) -> bool {
        let entries = self.lock();
        let mut fresh = entries
            .iter()
            .filter(|entry| clock::now().saturating_sub(entry.activated) < FRESH_SECONDS);
        fresh.any(|entry| entry.manifest.digest() == *deployment)
    }

    fn switch(&self, manifest: Manifest) -> Result<DeploymentStatus, Error> {
        let version = Arc::new(Version::load(&self.artefacts, &manifest)?);
        let mut entries = self.lock();
        let mut changed = entries.clone();
        changed.retain(|entry| entry.manifest != manifest);
        let activated = clock::now();
        changed.insert(
            0,
            Entry {
                manifest,
                activated,
            },
        );
        let dropped = changed.split_off(changed.len().min(KEPT));
        let bytes = serde_json::to_vec(&changed).map_err(|error| list_fault(&error))?;
        disk::replace(&self.path, &bytes)?;
        *entries = changed;
        self.active.send_replace(Some(version));
        let dropped: Vec<Manifest> = dropped.into_iter().map(|entry| entry.manifest).collect();
        self.forget(&entries, &dropped);
        Ok(status(&entries[0], 0))
    }

    /// Removes the artefacts that only these manifests name.
    fn forget(&self, kept: &[Entry], dropped: &[Manifest]) {
        let dropped = digests(dropped.iter());
        self.remove(dropped.difference(&digests(kept.iter().map(|entry| &entry.manifest))));
    }

    /// Removes what no version names and nothing has been added to for long.
    fn collect_left_over(&self) -> Result<(), Error> {
        let old = self.artefacts.untouched_for(LEFT_OVER)?;
        let entries = self.lock();
        let kept = digests(entries.iter().map(|entry| &entry.manifest));
        self.remove(old.difference(&kept));
        Ok(())
    }

    fn remove<'d>(&self, unused: impl Iterator<Item = &'d Digest>) {
        for digest in unused {
            match self.artefacts.remove(digest) {
                Ok(()) => tracing::info!(%digest, "an artefact of no version is removed"),
                Err(error) => tracing::warn!(%error, "an old artefact stays on disk"),
            }
        }
    }

    fn load_active(&self) {
        let Some(manifest) = self.lock().first().map(|entry| entry.manifest.clone()) else {
            return;
        };
        let (model, version) = (manifest.name.clone(), manifest.version);
        match Version::load(&self.artefacts, &manifest) {
            Ok(loaded) => {
                tracing::info!(%model, version, "active version loaded");
                self.active.send_replace(Some(Arc::new(loaded)));
            }
            Err(error) => {
                tracing::error!(%model, version, %error, "the active version cannot be loaded");
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What manifests name.
fn digests<'m>(manifests: impl Iterator<Item = &'m Manifest>) -> BTreeSet<Digest> {
    let artefacts = manifests.flat_map(|manifest| &manifest.artefacts);
    artefacts.map(|artefact| artefact.digest).collect()
}

/// Whether a manifest is refused whatever is sent after it: not for a part that is missing, or was
/// damaged here and is sent again, and not for a fault of this machine.
fn is_for_good(error: &Error) -> bool {
    !matches!(
        error,
        Error::ArtefactMissing { .. }
            | Error::ArtefactDigest { .. }
            | Error::StorageFull { .. }
            | Error::Io { .. }
            | Error::Wire(_)
    )
}

/// The versions in `device`, also while a service runs there.
///
/// # Errors
/// [`Error::Io`], [`Error::Wire`].
pub fn list(device: &Path) -> Result<DeploymentList, Error> {
    Ok(status_list(&read_list(&device.join(FILE))?))
}

fn read_list(path: &Path) -> Result<Vec<Entry>, Error> {
    if disk::length(path)?.is_none() {
        return Ok(Vec::new());
    }
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let limit = KEPT * (limits::MANIFEST_BYTES + 1024);
    let entries: Vec<Entry> = match bytes.len() <= limit {
        true => serde_json::from_slice(&bytes).map_err(|error| list_fault(&error))?,
        false => {
            let (what, found) = ("list of deployments", bytes.len() as u64);
            let limit = limit as u64;
            return Err(scuro_wire::WireError::TooLarge { what, found, limit }.into());
        }
    };
    entries
        .iter()
        .try_for_each(|entry| entry.manifest.validate())?;
    Ok(entries)
}

fn list_fault(error: &serde_json::Error) -> Error {
    Error::Wire(scuro_wire::WireError::Json {
        what: "list of deployments",
        message: error.to_string(),
    })
}

fn check_expiry(manifest: &Manifest) -> Result<(), Error> {
    let expires = manifest.expires;
    match manifest.is_expired(clock::now()) {
        true => Err(Error::Expired { expires }),
        false => Ok(()),
    }
}

fn status_list(entries: &[Entry]) -> DeploymentList {
    let rows = entries.iter().enumerate();
    DeploymentList {
        deployments: rows.map(|(place, entry)| status(entry, place)).collect(),
    }
}

fn status(entry: &Entry, place: usize) -> DeploymentStatus {
    DeploymentStatus {
        deployment: entry.manifest.digest(),
        name: entry.manifest.name.clone(),
        version: entry.manifest.version,
        state: match place {
            0 => DeploymentState::Active,
            _ => DeploymentState::Previous,
        },
        activated: entry.activated,
    }
}
