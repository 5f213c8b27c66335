//! The embedded database: SQLite in WAL mode, every commit on disk before it returns.

use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use scuro_wire::private;

use crate::error::VaultError;

/// Version of the tables below.
const FORMAT: u32 = 2;
/// How long a command waits while another process writes.
const BUSY: Duration = Duration::from_secs(10);

const TABLES: &str = "
CREATE TABLE meta(key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
-- Everything under the vault key: `id` is the additional data.
CREATE TABLE secrets(id TEXT PRIMARY KEY, sealed BLOB NOT NULL) STRICT;
CREATE TABLE models(
    name TEXT NOT NULL, version INTEGER NOT NULL, state TEXT NOT NULL,
    deployment BLOB NOT NULL UNIQUE, manifest BLOB NOT NULL, changed INTEGER NOT NULL,
    PRIMARY KEY(name, version)) STRICT;
CREATE TABLE peers(
    name TEXT PRIMARY KEY, role TEXT NOT NULL, fingerprint BLOB NOT NULL, state TEXT NOT NULL,
    enrolled INTEGER NOT NULL, expires INTEGER NOT NULL, address TEXT) STRICT;
CREATE TABLE deployments(
    device TEXT NOT NULL REFERENCES peers(name), deployment BLOB NOT NULL, state TEXT NOT NULL,
    changed INTEGER NOT NULL, PRIMARY KEY(device, deployment)) STRICT;
-- `result` is NULL until the query is answered; an answered one is kept, so that a replay is known.
CREATE TABLE queries(
    id BLOB PRIMARY KEY, device TEXT NOT NULL, deployment BLOB NOT NULL, digest BLOB NOT NULL,
    registered_ms INTEGER NOT NULL, result INTEGER) STRICT, WITHOUT ROWID;
CREATE INDEX open_queries ON queries(device) WHERE result IS NULL;
CREATE TABLE results(
    seq INTEGER PRIMARY KEY AUTOINCREMENT, query BLOB NOT NULL UNIQUE, body TEXT NOT NULL) STRICT;
-- How far each sink has come in `results`.
CREATE TABLE sinks(name TEXT PRIMARY KEY, published INTEGER NOT NULL) STRICT;
";
/// What format 2 has more than format 1.
const TABLES_2: &str = "
-- BLAKE3 of every encrypted reply, or image of one, that was decrypted: none answers two queries.
CREATE TABLE replies(digest BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
";

/// One connection; readers of other processes go on while it writes.
#[derive(Debug)]
pub(crate) struct Database {
    connection: Mutex<Connection>,
}

impl Database {
    /// Opens or makes the file, for its owner alone. Tables come with [`Database::create_tables`].
    pub(crate) fn open(path: &Path) -> Result<Self, VaultError> {
        // SQLite gives its log the mode of the database.
        let file = private::open_file(path);
        file.map_err(|error| VaultError::file("open", path, error))?;
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // A sealed secret that was replaced must not stay in a free page.
        connection.pragma_update(None, "secure_delete", true)?;
        Ok(Self {
            connection: Mutex::new(connection),
        })
    }

    /// Format of the tables; 0 if there are none yet.
    pub(crate) fn format(&self) -> Result<u32, VaultError> {
        self.read(format)
    }

    /// Brings tables of an older version up to this one's, all or nothing; an error for others.
    ///
    /// Of what was answered under format 1 no digests are known: its replies are not refused as
    /// replays, but their queries stay answered.
    pub(crate) fn migrate(&self) -> Result<(), VaultError> {
        if self.format()? == FORMAT {
            return Ok(());
        }
        self.write(|db| {
            // Read again: another process may have done it meanwhile.
            match format(db)? {
                FORMAT => return Ok(()),
                1 => db.execute_batch(TABLES_2)?,
                found => {
                    let expected = FORMAT;
                    return Err(VaultError::Format { found, expected });
                }
            }
            Ok(db.pragma_update(None, "user_version", FORMAT)?)
        })
    }

    /// Makes the tables and fills them, all or nothing.
    pub(crate) fn create_tables(
        &self,
        fill: impl FnOnce(&Connection) -> Result<(), VaultError>,
    ) -> Result<(), VaultError> {
        self.write(|db| {
            db.execute_batch(TABLES)?;
            db.execute_batch(TABLES_2)?;
            db.pragma_update(None, "user_version", FORMAT)?;
            fill(db)
        })
    }

    /// Reads.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        read(&self.lock())
    }

    /// Writes in one transaction that is on disk when this returns, or leaves no trace.
    pub(crate) fn write<T>(
        &self,
        write: impl FnOnce(&Connection) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = write(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }

    /// A panic while it was held has rolled its transaction back.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn format(db: &Connection) -> Result<u32, VaultError> {
    Ok(db.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

/// A value of `meta`.
pub(crate) fn meta(db: &Connection, key: &str) -> Result<Option<Vec<u8>>, VaultError> {
    let sql = "SELECT value FROM meta WHERE key = ?1";
    Ok(db.query_row(sql, [key], |row| row.get(0)).optional()?)
}

/// Sets a value of `meta`.
pub(crate) fn set_meta(db: &Connection, key: &str, value: &[u8]) -> Result<(), VaultError> {
    db.execute(
        "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT(key) DO UPDATE SET value = excluded.value",
        params![key, value],
    )?;
    Ok(())
}

/// A sealed secret.
pub(crate) fn sealed(db: &Connection, id: &str) -> Result<Vec<u8>, VaultError> {
    let sql = "SELECT sealed FROM secrets WHERE id = ?1";
    let found = db.query_row(sql, [id], |row| row.get(0)).optional()?;
    found.ok_or_else(|| VaultError::not_found("secret", id))
}

/// Stores a sealed secret.
pub(crate) fn set_sealed(db: &Connection, id: &str, sealed: &[u8]) -> Result<(), VaultError> {
    db.execute(
        "INSERT INTO secrets VALUES (?1, ?2)
         ON CONFLICT(id) DO UPDATE SET sealed = excluded.sealed",
        params![id, sealed],
    )?;
    Ok(())
}
