//! Which versions the device has, and which one answers.
//!
//! `deployments.json` lists them, the active one first; it is replaced in one step, so after
//! `kill -9` either the old version or the new one is active, never none and never half of one.
//!
//! Versions before the active one are kept for a roll-back, and for frames that were accepted under
//! one of another input size. A version is barred while the vault decrypts nothing of it: no frame
//! runs under it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use scuro_wire::deployment::{DeploymentList, DeploymentState, DeploymentStatus};
use scuro_wire::{Digest, Manifest, limits};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::artefacts::Artefacts;
use super::disk;
use super::frame::Content;
use super::version::Version;
use crate::clock;
use crate::error::Error;

const FILE: &str = "deployments.json";
/// Versions kept: the active one and those before it.
pub const KEPT: usize = 4;

/// Seconds that a vault has to note what it deployed.
const FRESH_SECONDS: u64 = 600;
/// Age from which on artefacts of no version are taken for left over when the device starts: a push
/// that was cut off goes on before.
const LEFT_OVER: Duration = Duration::from_secs(7 * 86_400);

/// Why nothing runs under a version: the vault would decrypt none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bar {
    /// The vendor took it out of use.
    Retired,
    /// Its key's time is over, by the vault's clock or the device's.
    Expired,
}

impl Bar {
    /// What the vault means by a code.
    pub(super) fn of_code(code: Option<&str>) -> Option<Self> {
        match code {
            Some("model.retired") => Some(Self::Retired),
            Some("model.key-expired") => Some(Self::Expired),
            _ => None,
        }
    }

    /// The word in the metric.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Retired => "retired",
            Self::Expired => "expired",
        }
    }
}

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
    /// By the vault's word.
    barred: Mutex<BTreeMap<Digest, Bar>>,
    /// How often the active version, or what the vault says of one, has changed.
    changes: AtomicU64,
    /// Versions before the active one, as far as they were looked at.
    earlier: Mutex<BTreeMap<Digest, Earlier>>,
}

/// A version before the active one.
#[derive(Debug)]
struct Earlier {
    /// Numbers of its frames; nothing if it cannot be loaded any more.
    elements: Option<usize>,
    /// There while frames run under it.
    version: Weak<Version>,
}

impl Earlier {
    fn of(version: Option<&Arc<Version>>) -> Self {
        Self {
            elements: version.map(|version| version.layout().elements()),
            version: version.map_or_else(Weak::new, Arc::downgrade),
        }
    }
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
            barred: Mutex::default(),
            changes: AtomicU64::default(),
            earlier: Mutex::default(),
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

    /// Makes the version that was active before the active one. If another than `leave` is active,
    /// the request came a second time: nothing changes.
    ///
    /// # Errors
    /// [`Error::NoPrevious`], or as [`Deployments::activate`].
    pub fn roll_back(&self, leave: Option<&Digest>) -> Result<DeploymentStatus, Error> {
        let manifest = {
            let entries = self.lock();
            let active = entries.first().ok_or(Error::NoPrevious)?;
            if leave.is_some_and(|leave| *leave != active.manifest.digest()) {
                return Ok(status(active, 0));
            }
            entries.get(1).ok_or(Error::NoPrevious)?.manifest.clone()
        };
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

    /// Bars a version by the vault's word.
    pub(super) fn bar(&self, deployment: &Digest, bar: Bar) {
        if self.barred().insert(*deployment, bar) != Some(bar) {
            let (deployment, reason) = (deployment.short(), bar.as_str());
            tracing::warn!(
                deployment,
                reason,
                "the vault decrypts nothing of a version"
            );
        }
    }

    /// The vault takes queries for this version, again.
    pub(super) fn unbar(&self, deployment: &Digest) {
        if self.barred().remove(deployment).is_some() {
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often the active version, or what the vault says of one, has changed.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Whether the vault's last word is that it decrypts nothing of this version.
    pub(super) fn is_barred(&self, deployment: &Digest) -> bool {
        self.barred().contains_key(deployment)
    }

    /// Why nothing runs under this version, if so.
    pub(super) fn bar_of(&self, manifest: &Manifest, deployment: &Digest) -> Option<Bar> {
        if manifest.is_expired(clock::now()) {
            return Some(Bar::Expired);
        }
        self.barred().get(deployment).copied()
    }

    /// The version that a frame with this content runs under: the active one, or if frames of
    /// that have another size, the newest before it that takes this one. None while the active one
    /// is barred, or if none takes it.
    pub(super) fn version_for(&self, content: &Content) -> Option<Arc<Version>> {
        let active = self.active.borrow().clone()?;
        if self
            .bar_of(active.manifest(), &active.deployment())
            .is_some()
        {
            return None;
        }
        match content.elements() == active.layout().elements() {
            true => Some(active),
            false => self.earlier_for(content.elements()),
        }
    }

    fn earlier_for(&self, elements: usize) -> Option<Arc<Version>> {
        let manifests: Vec<Manifest> = {
            let entries = self.lock();
            let earlier = entries.iter().skip(1);
            earlier.map(|entry| entry.manifest.clone()).collect()
        };
        let mut known = self.earlier();
        let mut usable = manifests.iter().filter_map(|manifest| {
            let deployment = manifest.digest();
            match self.bar_of(manifest, &deployment) {
                None => Some((deployment, manifest)),
                Some(_) => None,
            }
        });
        usable.find_map(|(deployment, manifest)| {
            match known.get(&deployment) {
                Some(earlier) if earlier.elements != Some(elements) => return None,
                Some(earlier) => {
                    if let Some(version) = earlier.version.upgrade() {
                        return Some(version);
                    }
                }
                None => {}
            }
            let version = self.load(manifest, "a version before the active one");
            known.insert(deployment, Earlier::of(version.as_ref()));
            version.filter(|version| version.layout().elements() == elements)
        })
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
        // What was learned of it before is learned anew.
        self.unbar(&version.deployment());
        self.earlier().clear();
        self.active.send_replace(Some(version));
        self.changes.fetch_add(1, Ordering::Relaxed);
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
        let first = self.lock().first().map(|entry| entry.manifest.clone());
        let loaded = first.and_then(|manifest| self.load(&manifest, "the active version"));
        if loaded.is_some() {
            self.active.send_replace(loaded);
        }
    }

    fn load(&self, manifest: &Manifest, which: &'static str) -> Option<Arc<Version>> {
        let (model, version) = (&manifest.name, manifest.version);
        match Version::load(&self.artefacts, manifest) {
            Ok(loaded) => {
                tracing::info!(%model, version, "{which} is loaded");
                Some(Arc::new(loaded))
            }
            Err(error) => {
                tracing::error!(%model, version, %error, "{which} cannot be loaded");
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn barred(&self) -> MutexGuard<'_, BTreeMap<Digest, Bar>> {
        self.barred.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn earlier(&self) -> MutexGuard<'_, BTreeMap<Digest, Earlier>> {
        self.earlier.lock().unwrap_or_else(PoisonError::into_inner)
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
