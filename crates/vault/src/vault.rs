//! The folder of a vault, and its locks.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use scuro_wire::private;
use scuro_wire::tls::{Identity, VAULT_NAME};
use zeroize::Zeroizing;

use crate::authority::{self, DAY, Issued};
use crate::blobs::{Blobs, sync_folder};
use crate::database::{self, Database, meta, sealed, set_meta, set_sealed};
use crate::error::VaultError;
use crate::seal::{KeySource, SALT_BYTES, VaultKey, random};

/// Database in the folder.
const DATABASE_FILE: &str = "vault.db";
/// Artefacts in the folder.
const ARTEFACT_FOLDER: &str = "artefacts";
/// Held by a running server and by `rekey`.
const LOCK_FILE: &str = "vault.lock";
/// Default place of the vault key.
pub(crate) const KEY_FILE: &str = "vault.key";

/// What the key check seals.
const CHECK: &[u8] = b"scuro vault";
const CHECK_ID: &str = "check";
const AUTHORITY_KEY_ID: &str = "authority-key";
const IDENTITY_KEY_ID: &str = "identity-key";

const META_KIND: &str = "lock";
const META_SALT: &str = "salt";
const META_AUTHORITY_NAME: &str = "authority-name";
const META_AUTHORITY: &str = "authority";
const META_IDENTITY: &str = "identity";
const META_IDENTITY_EXPIRES: &str = "identity-expires";

/// Life of the vault's own certificate; it renews itself.
const IDENTITY_DAYS: u64 = 365;
/// It is renewed once it has less life than this.
const RENEW_DAYS: u64 = 60;

/// An open vault.
#[derive(Debug)]
pub struct Vault {
    folder: PathBuf,
    pub(crate) database: Database,
    pub(crate) blobs: Blobs,
    key: VaultKey,
}

/// While it lives, no other process serves or re-keys this vault.
#[derive(Debug)]
pub struct ServeLock {
    _file: File,
}

impl Vault {
    /// Makes a vault in `folder`: key, database, authority, own certificate.
    ///
    /// # Errors
    /// [`VaultError::Exists`], or whatever stops it; the next call finishes a half-made vault.
    pub fn init(folder: &Path, source: &KeySource, now: u64) -> Result<Self, VaultError> {
        if Self::exists(folder)? {
            let path = folder.to_path_buf();
            return Err(VaultError::Exists { path });
        }
        for path in [folder, &folder.join(ARTEFACT_FOLDER)] {
            let made = private::make_folder(path);
            made.map_err(|error| VaultError::file("create", path, error))?;
        }
        let salt: [u8; SALT_BYTES] = random()?;
        let key = match source {
            KeySource::File(path) if !path.exists() => VaultKey::create(path)?,
            source => VaultKey::derive(source, &salt)?,
        };
        let database = Database::open(&folder.join(DATABASE_FILE))?;
        let name = format!("Scuro vault {}", scuro_wire::KeyId(random()?));
        database.create_tables(|db| {
            set_meta(db, META_KIND, source.kind().as_bytes())?;
            set_meta(db, META_SALT, &salt)?;
            set_sealed(db, CHECK_ID, &key.seal(CHECK_ID, CHECK)?)?;
            let authority = authority::create(&name, now)?;
            set_meta(db, META_AUTHORITY_NAME, name.as_bytes())?;
            set_meta(db, META_AUTHORITY, authority.certificate_pem.as_bytes())?;
            let secret = authority.key_pem.as_bytes();
            set_sealed(db, AUTHORITY_KEY_ID, &key.seal(AUTHORITY_KEY_ID, secret)?)?;
            renew_identity(db, &key, now)
        })?;
        sync_folder(folder)?;
        Ok(Self::assemble(folder, database, key))
    }

    /// Opens the vault in `folder`; one of an older format is brought up to date.
    ///
    /// # Errors
    /// [`VaultError::NotAVault`], [`VaultError::WrongKey`], [`VaultError::KeyKind`],
    /// [`VaultError::KeyFile`], [`VaultError::Format`].
    pub fn open(folder: &Path, source: &KeySource) -> Result<Self, VaultError> {
        if !Self::exists(folder)? {
            let path = folder.to_path_buf();
            return Err(VaultError::NotAVault { path });
        }
        let database = Database::open(&folder.join(DATABASE_FILE))?;
        database.migrate()?;
        let key = database.read(|db| unlock(db, source))?;
        Ok(Self::assemble(folder, database, key))
    }

    /// Whether `folder` holds a vault whose making was finished.
    ///
    /// # Errors
    /// [`VaultError::DiskFull`]: a database cannot even be opened without some room.
    pub fn exists(folder: &Path) -> Result<bool, VaultError> {
        let file = folder.join(DATABASE_FILE);
        if !file.is_file() {
            return Ok(false);
        }
        match Database::open(&file).and_then(|database| database.format()) {
            Ok(format) => Ok(format > 0),
            Err(full @ VaultError::DiskFull { .. }) => Err(full),
            Err(_) => Ok(false),
        }
    }

    /// The place of the vault key if no other is given.
    pub fn default_key_file(folder: &Path) -> PathBuf {
        folder.join(KEY_FILE)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps other servers and `rekey` out.
    ///
    /// # Errors
    /// [`VaultError::File`] with `WouldBlock` if another process holds the lock.
    pub fn lock(&self) -> Result<ServeLock, VaultError> {
        let path = self.folder.join(LOCK_FILE);
        let fail = |error| VaultError::file("lock", &path, error);
        let file = File::options().create(true).append(true).open(&path);
        let file = file.map_err(fail)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => fail(std::io::ErrorKind::WouldBlock.into()),
            TryLockError::Error(error) => fail(error),
        })?;
        Ok(ServeLock { _file: file })
    }

    /// Puts every secret under a new vault key. A new key file takes the place of the old one.
    ///
    /// # Errors
    /// As [`Vault::lock`]; on any error the old key still opens the vault.
    pub fn rekey(&mut self, source: &KeySource) -> Result<usize, VaultError> {
        let _lock = self.lock()?;
        let salt: [u8; SALT_BYTES] = random()?;
        let key = match source {
            KeySource::File(path) => {
                // Left by a run that was cut off before it changed anything.
                let _ = std::fs::remove_file(waiting(path));
                VaultKey::create(&waiting(path))?
            }
            source => VaultKey::derive(source, &salt)?,
        };
        let count = self.database.write(|db| {
            set_meta(db, META_KIND, source.kind().as_bytes())?;
            set_meta(db, META_SALT, &salt)?;
            reseal(db, &self.key, &key)
        })?;
        if let KeySource::File(path) = source {
            promote(path)?;
        }
        self.key = key;
        // The old seals must not stay in the log either.
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        self.database
            .read(|db| Ok(db.query_row(checkpoint, [], |_| Ok(()))?))?;
        Ok(count)
    }

    /// The vault's certificate and key, renewed if they are about to expire.
    ///
    /// # Errors
    /// [`VaultError::Sealed`], [`VaultError::Wire`].
    pub fn identity(&self, now: u64) -> Result<Identity, VaultError> {
        let expires = self.database.read(|db| {
            let bytes = meta(db, META_IDENTITY_EXPIRES)?.unwrap_or_default();
            Ok(bytes.try_into().map_or(0, u64::from_le_bytes))
        })?;
        if expires < now + RENEW_DAYS * DAY {
            self.database
                .write(|db| renew_identity(db, &self.key, now))?;
        }
        let (authority, certificate, key) = self.database.read(|db| {
            let certificate = meta(db, META_IDENTITY)?.unwrap_or_default();
            let key = self.open_secret(db, IDENTITY_KEY_ID)?;
            Ok((authority_pem(db)?, certificate, key))
        })?;
        Ok(Identity::from_pem(&authority, &certificate, &key)?)
    }

    /// The authority's certificate.
    pub(crate) fn authority_pem(&self) -> Result<Vec<u8>, VaultError> {
        self.database.read(authority_pem)
    }

    /// A certificate of the vault's authority.
    pub(crate) fn issue(
        &self,
        db: &Connection,
        name: &str,
        now: u64,
        expires: u64,
    ) -> Result<Issued, VaultError> {
        issue(db, &self.key, name, now, expires)
    }

    /// Seals a secret and stores it.
    pub(crate) fn store_secret(
        &self,
        db: &Connection,
        id: &str,
        secret: &[u8],
    ) -> Result<(), VaultError> {
        set_sealed(db, id, &self.key.seal(id, secret)?)
    }

    /// Opens a stored secret.
    pub(crate) fn open_secret(
        &self,
        db: &Connection,
        id: &str,
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        self.key.open(id, &sealed(db, id)?)
    }

    fn assemble(folder: &Path, database: Database, key: VaultKey) -> Self {
        Self {
            blobs: Blobs::new(folder.join(ARTEFACT_FOLDER)),
            folder: folder.to_path_buf(),
            database,
            key,
        }
    }
}

/// The key of `source`, if it is this vault's. Finishes a `rekey` that was cut off after its
/// commit.
fn unlock(db: &Connection, source: &KeySource) -> Result<VaultKey, VaultError> {
    let expected = match meta(db, META_KIND)?.as_deref() {
        Some(b"passphrase") => "passphrase",
        _ => "key file",
    };
    if source.kind() != expected {
        return Err(VaultError::KeyKind { expected });
    }
    let salt = meta(db, META_SALT)?.unwrap_or_default();
    let check = sealed(db, CHECK_ID)?;
    let fits = |key: &VaultKey| key.open(CHECK_ID, &check).is_ok();
    let found = VaultKey::derive(source, &salt);
    if let Ok(key) = found.as_ref()
        && fits(key)
    {
        return found;
    }
    if let KeySource::File(path) = source {
        let next = VaultKey::derive(&KeySource::File(waiting(path)), &salt);
        if let Ok(key) = next
            && fits(&key)
        {
            promote(path)?;
            return Ok(key);
        }
    }
    found.and(Err(VaultError::WrongKey))
}

/// Where a new key file waits until the database is under it.
fn waiting(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

fn promote(path: &Path) -> Result<(), VaultError> {
    std::fs::rename(waiting(path), path)
        .map_err(|error| VaultError::file("replace", path, error))?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => sync_folder(folder),
        _ => sync_folder(Path::new(".")),
    }
}

fn reseal(db: &Connection, old: &VaultKey, new: &VaultKey) -> Result<usize, VaultError> {
    let mut statement = db.prepare("SELECT id FROM secrets")?;
    let ids = statement.query_map([], |row| row.get::<_, String>(0))?;
    let ids = ids.collect::<Result<Vec<_>, _>>()?;
    for id in &ids {
        let secret = old.open(id, &database::sealed(db, id)?)?;
        set_sealed(db, id, &new.seal(id, &secret)?)?;
    }
    Ok(ids.len())
}

fn authority_pem(db: &Connection) -> Result<Vec<u8>, VaultError> {
    meta(db, META_AUTHORITY)?.ok_or_else(|| VaultError::not_found("certificate", META_AUTHORITY))
}

fn issue(
    db: &Connection,
    key: &VaultKey,
    name: &str,
    now: u64,
    expires: u64,
) -> Result<Issued, VaultError> {
    let authority = meta(db, META_AUTHORITY_NAME)?.unwrap_or_default();
    let secret = key.open(AUTHORITY_KEY_ID, &sealed(db, AUTHORITY_KEY_ID)?)?;
    let damaged = |_| VaultError::Sealed {
        id: AUTHORITY_KEY_ID.to_string(),
    };
    let secret = std::str::from_utf8(&secret).map_err(damaged)?;
    authority::issue(
        &String::from_utf8_lossy(&authority),
        secret,
        name,
        now,
        expires,
    )
}

fn renew_identity(db: &Connection, key: &VaultKey, now: u64) -> Result<(), VaultError> {
    let own = issue(db, key, VAULT_NAME, now, now + IDENTITY_DAYS * DAY)?;
    set_meta(db, META_IDENTITY, own.certificate_pem.as_bytes())?;
    set_meta(db, META_IDENTITY_EXPIRES, &own.expires.to_le_bytes())?;
    let secret = own.key_pem.as_bytes();
    set_sealed(db, IDENTITY_KEY_ID, &key.seal(IDENTITY_KEY_ID, secret)?)
}

#[cfg(test)]
mod tests;
