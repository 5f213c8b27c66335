//! The spool's tables, and how those of earlier versions become them.

use rusqlite::Connection;

/// Version of the tables.
pub(super) const SCHEMA_VERSION: i64 = 4;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS taken(
        seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
        query_id BLOB NOT NULL, digest BLOB NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS frames(
        seq INTEGER PRIMARY KEY, id TEXT NOT NULL, source TEXT NOT NULL, query_id BLOB NOT NULL,
        captured_us INTEGER NOT NULL, record BLOB NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS inferences(
        seq INTEGER PRIMARY KEY, id TEXT NOT NULL, query_id BLOB NOT NULL,
        deployment BLOB NOT NULL, query_digest BLOB NOT NULL, captured_ms INTEGER NOT NULL,
        queue_us INTEGER NOT NULL, features_us INTEGER NOT NULL, encrypt_us INTEGER NOT NULL,
        evaluate_us INTEGER NOT NULL, bytes INTEGER NOT NULL, reply BLOB NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS dead(
        seq INTEGER PRIMARY KEY, id TEXT NOT NULL, query_id BLOB NOT NULL, at_ms INTEGER NOT NULL,
        stage TEXT NOT NULL, code TEXT NOT NULL, message TEXT NOT NULL) STRICT;
    -- Since version 2: queries of dead letters that the vault has not been told of.
    CREATE TABLE IF NOT EXISTS withdrawals(
        seq INTEGER PRIMARY KEY, query_id BLOB NOT NULL) STRICT;
";
/// What a spool of version 1 gets besides its new table.
const SINCE_2: &str = "INSERT INTO withdrawals SELECT seq, query_id FROM dead";
/// Which image of the reply is the frame's.
const SINCE_3: &str = "ALTER TABLE inferences ADD COLUMN image INTEGER NOT NULL DEFAULT 0";
/// The frame that an inference is of; inferences of before have none.
const SINCE_4: &str = "ALTER TABLE inferences ADD COLUMN source TEXT;
    ALTER TABLE inferences ADD COLUMN record BLOB";

/// Brings the tables up to date, all or nothing.
pub(super) fn upgrade(connection: &mut Connection, version: i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    if version < 2 {
        transaction.execute_batch(SINCE_2)?;
    }
    if version < 3 {
        transaction.execute_batch(SINCE_3)?;
    }
    transaction.execute_batch(SINCE_4)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()
}
