//! The database of protected models: versions, states, artefacts, sealed secret keys.

use rusqlite::{Connection, OptionalExtension, Row, params};
use scuro_client::{Bundle, Model};
use scuro_fhe::Error as FheError;
use scuro_fhe::keys::{EvaluationKeys, PublicKey};
use scuro_fhe::owner::SecretKey;
use scuro_program::{Operation, Program, Step, Weights};
use scuro_wire::manifest::{Decryptor, EncryptedScope};
use scuro_wire::{Artefact, Digest, KeyId, Manifest, ModelReference, Name, Role};
use zeroize::Zeroizing;

use crate::devices::text;
use crate::error::VaultError;
use crate::vault::Vault;

/// A protected model as it comes out of protection.
pub struct NewModel<'a> {
    /// Name; the version is the vault's to give.
    pub name: Name,
    /// The compiled program.
    pub program: &'a [u8],
    /// ONNX of the clear feature extractor.
    pub features: Option<&'a [u8]>,
    /// Encrypted weights: there if the program withholds them, and only then.
    pub weights: Option<&'a [u8]>,
    /// `PublicKey::to_bytes`.
    pub public_key: &'a [u8],
    /// `EvaluationKeys::to_bytes`.
    pub evaluation_keys: &'a [u8],
    /// `SecretKey::to_bytes`; sealed before it is stored.
    pub secret_key: &'a [u8],
    /// Names of the classes.
    pub labels: Vec<String>,
    /// When the key expires, seconds since 1970.
    pub expires: u64,
}

/// State of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelState {
    /// The newest: what is deployed by name.
    Active,
    /// A newer one took its place; devices that still have it are still answered.
    Superseded,
    /// Neither deployed nor decrypted any more.
    Retired,
}

impl ModelState {
    /// The word in the registry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Superseded => "superseded",
            Self::Retired => "retired",
        }
    }
}

/// One version of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRecord {
    /// What was stored.
    pub manifest: Manifest,
    /// Digest of the manifest.
    pub deployment: Digest,
    /// State.
    pub state: ModelState,
    /// When the state changed last, seconds since 1970.
    pub changed: u64,
}

impl ModelRecord {
    /// `NAME:VERSION`.
    pub fn reference(&self) -> String {
        format!("{}:{}", self.manifest.name, self.manifest.version)
    }

    /// An error if it may not be deployed or decrypted at `now`.
    ///
    /// # Errors
    /// [`VaultError::Retired`], [`VaultError::Expired`].
    pub fn check_usable(&self, now: u64) -> Result<(), VaultError> {
        let model = self.reference();
        if self.state == ModelState::Retired {
            return Err(VaultError::Retired { model });
        }
        if self.manifest.is_expired(now) {
            let expired = self.manifest.expires;
            return Err(VaultError::Expired { model, expired });
        }
        Ok(())
    }
}

impl Vault {
    /// Stores a protected model as the next version of its name; the version before is superseded.
    /// Everything is on disk when this returns.
    ///
    /// # Errors
    /// [`VaultError::Model`] and [`VaultError::KeyMismatch`] if program, weights and keys do not
    /// belong together; [`VaultError::WeightsInClear`], [`VaultError::WeightsFile`];
    /// [`VaultError::Wire`] for bad labels or dates; [`VaultError::DiskFull`].
    pub fn store(&self, new: &NewModel<'_>, now: u64) -> Result<ModelRecord, VaultError> {
        let model = Model::open(new.program)?;
        let (parameters, key_id) = check_keys(new, &model)?;
        check_weights(&model, new.weights, key_id)?;
        let artefacts = self.store_artefacts(new)?;
        self.database.write(|db| {
            let manifest = Manifest {
                name: new.name.clone(),
                version: last_version(db, &new.name)? + 1,
                artefacts,
                parameters,
                key_id,
                created: now,
                expires: new.expires,
                labels: new.labels.clone(),
                encrypted: encrypted(model.program(), new.features.is_some()),
                decryptor: decryptor(model.program()),
            };
            manifest.validate()?;
            let record = ModelRecord {
                deployment: manifest.digest(),
                manifest,
                state: ModelState::Active,
                changed: now,
            };
            supersede(db, &new.name, now)?;
            insert(db, &record)?;
            self.store_secret(db, &secret_id(&record.manifest), new.secret_key)?;
            Ok(record)
        })
    }

    /// Every version of every model, by name, newest first.
    ///
    /// # Errors
    /// [`VaultError::Database`].
    pub fn models(&self) -> Result<Vec<ModelRecord>, VaultError> {
        self.database.read(|db| {
            let sql = format!("{SELECT} ORDER BY name, version DESC");
            let mut statement = db.prepare(&sql)?;
            let rows = statement.query_map([], read_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// The version asked for; by name alone the newest that is active.
    ///
    /// # Errors
    /// [`VaultError::NotFound`].
    pub fn model(&self, reference: &ModelReference) -> Result<ModelRecord, VaultError> {
        let found = self.database.read(|db| {
            let chosen = match reference.version {
                Some(_) => "version = ?2",
                None => "state = 'active' AND ?2 IS NULL",
            };
            let sql =
                format!("{SELECT} WHERE name = ?1 AND {chosen} ORDER BY version DESC LIMIT 1");
            let values = params![reference.name.as_str(), reference.version];
            Ok(db.query_row(&sql, values, read_row).optional()?)
        })?;
        found.ok_or_else(|| VaultError::not_found("model", reference))
    }

    /// Takes a version, or all versions of a name, out of use for good.
    ///
    /// # Errors
    /// [`VaultError::NotFound`] if there is nothing in use by that name.
    pub fn retire(&self, reference: &ModelReference, now: u64) -> Result<usize, VaultError> {
        let sql = "UPDATE models SET state = 'retired', changed = ?3
                   WHERE name = ?1 AND (?2 IS NULL OR version = ?2) AND state != 'retired'";
        let values = params![reference.name.as_str(), reference.version, now as i64];
        match self.database.write(|db| Ok(db.execute(sql, values)?))? {
            0 => Err(VaultError::not_found("model in use called", reference)),
            count => Ok(count),
        }
    }

    /// The model that a deployment is of.
    pub(crate) fn model_of(
        &self,
        db: &Connection,
        deployment: &Digest,
    ) -> Result<Option<ModelRecord>, VaultError> {
        let sql = format!("{SELECT} WHERE deployment = ?1");
        let found = db.query_row(&sql, [deployment.0], read_row).optional()?;
        Ok(found)
    }

    /// The secret key of a version.
    pub(crate) fn secret_key(&self, manifest: &Manifest) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        self.database
            .read(|db| self.open_secret(db, &secret_id(manifest)))
    }

    fn store_artefacts(&self, new: &NewModel<'_>) -> Result<Vec<Artefact>, VaultError> {
        let content = |role| match role {
            Role::Features => new.features,
            Role::Program => Some(new.program),
            Role::Weights => new.weights,
            Role::PublicKey => Some(new.public_key),
            Role::EvaluationKeys => Some(new.evaluation_keys),
        };
        let present = Role::ALL
            .into_iter()
            .filter_map(|role| Some((role, content(role)?)));
        let store = |(role, bytes): (Role, &[u8])| {
            Ok(Artefact {
                role,
                bytes: bytes.len() as u64,
                digest: self.blobs.put(bytes)?,
            })
        };
        present.map(store).collect()
    }
}

/// Parameter digest and key id, if program and keys belong together.
fn check_keys(new: &NewModel<'_>, model: &Model) -> Result<(Digest, KeyId), VaultError> {
    let context = model.context();
    let expected = SecretKey::from_bytes(new.secret_key, context)?.key_id();
    let public = PublicKey::from_bytes(new.public_key, context)?.key_id();
    let evaluation = EvaluationKeys::from_bytes(new.evaluation_keys, context)?.key_id();
    for (what, found) in [
        ("public key", public),
        ("set of evaluation keys", evaluation),
    ] {
        if found != expected {
            return Err(VaultError::KeyMismatch {
                what,
                found: found.to_string(),
                expected: expected.to_string(),
            });
        }
    }
    Ok((Digest(context.digest().0), KeyId(expected.0)))
}

/// A device gets the program: weights that are to be hidden from it are in a file of their own,
/// under this key.
fn check_weights(model: &Model, weights: Option<&[u8]>, key: KeyId) -> Result<(), VaultError> {
    let wrong = |program, given| Err(VaultError::WeightsFile { program, given });
    match (model.program().weights, weights) {
        (Weights::Private, _) => Err(VaultError::WeightsInClear),
        (Weights::Plain, None) => Ok(()),
        (Weights::Plain, Some(_)) => wrong("has its weights inside", "a"),
        (Weights::Withheld, None) => wrong("is without its weights", "no"),
        (Weights::Withheld, Some(bytes)) => {
            let bundle = Bundle::from_bytes(bytes).map_err(scuro_client::Error::from)?;
            let checked = model.check_weights(&bundle, scuro_fhe::KeyId(key.0));
            checked.map_err(|error| match error {
                scuro_client::Error::Fhe(FheError::KeyMismatch { found, expected }) => {
                    VaultError::KeyMismatch {
                        what: "file of encrypted weights",
                        found: found.to_string(),
                        expected: expected.to_string(),
                    }
                }
                error => error.into(),
            })
        }
    }
}

/// Which weights are encrypted: of what the device gets, the program's alone can be.
fn encrypted(program: &Program, has_features: bool) -> EncryptedScope {
    let linear = |step: &&Step| matches!(step.operation, Operation::Linear(_));
    let layers = program.steps.iter().filter(linear).count();
    match (program.weights, has_features, layers) {
        (Weights::Plain, ..) => EncryptedScope::None,
        (_, false, _) => EncryptedScope::All,
        (_, true, ..=1) => EncryptedScope::Last,
        (_, true, _) => EncryptedScope::Classifier,
    }
}

/// Who may decrypt the replies of a program: what it does decides, not what was meant.
fn decryptor(program: &Program) -> Decryptor {
    match program.flood() {
        Some(_) => Decryptor::Other,
        None => Decryptor::ModelOwner,
    }
}

/// Where the secret key of a version rests; it is the additional data of its seal.
fn secret_id(manifest: &Manifest) -> String {
    let (name, version) = (&manifest.name, manifest.version);
    format!("model/{name}/{version}/{}", manifest.key_id)
}

const SELECT: &str = "SELECT state, deployment, manifest, changed FROM models";

fn last_version(db: &Connection, name: &Name) -> Result<u32, VaultError> {
    let sql = "SELECT coalesce(max(version), 0) FROM models WHERE name = ?1";
    Ok(db.query_row(sql, [name.as_str()], |row| row.get(0))?)
}

fn supersede(db: &Connection, name: &Name, now: u64) -> Result<(), VaultError> {
    db.execute(
        "UPDATE models SET state = 'superseded', changed = ?2 WHERE name = ?1 AND state = 'active'",
        params![name.as_str(), now as i64],
    )?;
    Ok(())
}

fn insert(db: &Connection, record: &ModelRecord) -> Result<(), VaultError> {
    db.execute(
        "INSERT INTO models VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            record.manifest.name.as_str(),
            record.manifest.version,
            record.state.as_str(),
            record.deployment.0,
            record.manifest.to_bytes(),
            record.changed as i64,
        ],
    )?;
    Ok(())
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<ModelRecord> {
    let bytes: Vec<u8> = row.get(2)?;
    let manifest = Manifest::from_bytes(&bytes).map_err(|error| {
        let kind = rusqlite::types::Type::Blob;
        rusqlite::Error::FromSqlConversionFailure(2, kind, Box::new(error))
    })?;
    Ok(ModelRecord {
        manifest,
        deployment: Digest(row.get(1)?),
        state: text(row, 0)?,
        changed: row.get::<_, i64>(3)? as u64,
    })
}

impl std::str::FromStr for ModelState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let all = [Self::Active, Self::Superseded, Self::Retired];
        all.into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(())
    }
}
