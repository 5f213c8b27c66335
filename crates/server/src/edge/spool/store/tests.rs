use super::super::REMEMBERED_IDS;
use super::*;

/// A new spool's file, and the folder that it is in.
fn made(limits: Limits) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("folder");
    let store = Store::open(&folder.path().join("spool.db"), limits).expect("made");
    (folder, store)
}

fn accept(number: u64) -> Command {
    let (done, _) = tokio::sync::oneshot::channel();
    let frame = NewFrame {
        id: FrameId::of_bytes("test", &number.to_le_bytes()),
        source: "test",
        query_id: QueryId([1; 16]),
        captured_us: 1,
        record: Content::Pixels(number.to_le_bytes().to_vec()).to_record(),
    };
    Command::Accept { frame, done }
}

fn letter() -> Letter {
    Letter {
        stage: "vault",
        code: "model.retired".to_string(),
        message: "the vault refuses the inference".to_string(),
    }
}

fn numbers(store: &Store, sql: &str) -> Vec<i64> {
    let mut find = store.connection.prepare(sql).expect("SQL");
    let rows = find.query_map([], |row| row.get(0)).expect("read");
    rows.collect::<Result<_, _>>().expect("numbers")
}

/// What is answered is on disk, also if the power fails: no other setting says so.
#[test]
fn every_commit_is_synced() {
    let (_folder, store) = made(Limits::default());
    assert_eq!(numbers(&store, "PRAGMA synchronous"), [2], "FULL");
    let mode = store
        .connection
        .pragma_query_value(None, "journal_mode", |row| row.get(0));
    assert_eq!(mode, Ok("wal".to_string()));
}

#[test]
fn ids_are_forgotten_after_a_million_frames_but_not_those_of_frames_that_are_here() {
    let (_folder, mut store) = made(Limits::default());
    let frames = "INSERT INTO taken SELECT value, 'f' || value, zeroblob(16), zeroblob(32)
            FROM (SELECT 1 AS value UNION VALUES (2), (3), (4), (5), (1000005));
        INSERT INTO frames VALUES (1, 'f1', 'test', zeroblob(16), 0, x'');
        INSERT INTO inferences VALUES (2, 'f2', zeroblob(16), zeroblob(32), zeroblob(32), 0, 0,
            0, 0, 0, 0, x'', 0, 'test', x'');
        INSERT INTO dead VALUES (3, 'f3', zeroblob(16), 0, 'vault', 'c', 'm')";
    store.connection.execute_batch(frames).expect("SQL");
    let transaction = store.connection.transaction().expect("begun");
    prune(&transaction, 1_000_005, REMEMBERED_IDS).expect("pruned");
    transaction.commit().expect("committed");
    let left = numbers(&store, "SELECT seq FROM taken ORDER BY seq");
    assert_eq!(left, [1, 2, 3, 5, 1_000_005]);
}

#[test]
fn the_oldest_dead_letters_go_with_their_ids_and_withdrawals() {
    let (_folder, mut store) = made(Limits::default());
    let letters = "CREATE TEMP TABLE numbers AS WITH RECURSIVE n(value) AS
            (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 100003)
            SELECT value FROM n;
        INSERT INTO taken SELECT value, 'f' || value, zeroblob(16), zeroblob(32) FROM numbers;
        INSERT INTO dead SELECT value, 'f' || value, zeroblob(16), 0, 'vault', 'c', 'm'
            FROM numbers;
        INSERT INTO withdrawals SELECT value, zeroblob(16) FROM numbers";
    store.connection.execute_batch(letters).expect("SQL");
    let transaction = store.connection.transaction().expect("begun");
    prune(&transaction, 100_003, REMEMBERED_IDS).expect("pruned");
    transaction.commit().expect("committed");
    for table in ["taken", "dead", "withdrawals"] {
        let left = numbers(&store, &format!("SELECT min(seq) FROM {table}"));
        assert_eq!(left, [4], "{table}");
    }
}

#[test]
fn ids_of_frames_long_gone_do_not_fill_a_small_file() {
    let limits = Limits {
        file_bytes: 2 << 20,
        ..Limits::default()
    };
    let (_folder, mut store) = made(limits);
    for batch in 0..60 {
        let frames: Vec<Command> = (0..250)
            .map(|number| accept(250 * batch + number))
            .collect();
        let answers = store.apply(&frames).expect("room");
        let bury = |answer: Result<Option<Accepted>, Refused>| Command::GiveUp {
            seq: answer.ok().flatten().expect("accepted").seq,
            letter: letter(),
        };
        store
            .apply(&answers.into_iter().map(bury).collect::<Vec<_>>())
            .expect("room");
        // As if the vault had been told, and people had looked.
        let gone = "DELETE FROM dead; DELETE FROM withdrawals";
        store.connection.execute_batch(gone).expect("SQL");
    }
    let found = numbers(&store, "SELECT count(*) FROM taken");
    assert!(found[0] >= 256, "{found:?}");
}

/// A spool as version `version` had left it, with something in every table.
fn spool_of(version: i64) -> (tempfile::TempDir, std::path::PathBuf) {
    let (folder, store) = made(Limits::default());
    let filled = "INSERT INTO taken SELECT value, 'f' || value, zeroblob(16), zeroblob(32)
            FROM (SELECT 1 AS value UNION VALUES (2), (3), (4));
        INSERT INTO frames VALUES (1, 'f1', 'test', zeroblob(16), 5000, x'0102');
        INSERT INTO inferences(seq, id, query_id, deployment, query_digest, captured_ms, queue_us,
            features_us, encrypt_us, evaluate_us, bytes, reply) VALUES
            (2, 'f2', zeroblob(16), zeroblob(32), zeroblob(32), 5, 0, 0, 0, 0, 3, x'');
        INSERT INTO dead VALUES (3, 'f3', zeroblob(16), 0, 'vault', 'c', 'm');";
    let without = [
        (
            4,
            "ALTER TABLE inferences DROP COLUMN record; ALTER TABLE inferences DROP COLUMN source;",
        ),
        (3, "ALTER TABLE inferences DROP COLUMN image;"),
        (2, "DROP TABLE withdrawals;"),
    ];
    store.connection.execute_batch(filled).expect("SQL");
    for (_, sql) in without.into_iter().filter(|(since, _)| version < *since) {
        store.connection.execute_batch(sql).expect("SQL");
    }
    store
        .connection
        .pragma_update(None, "user_version", version)
        .expect("set");
    let path = folder.path().join("spool.db");
    (folder, path)
}

#[test]
fn a_spool_of_any_version_before_keeps_all_that_it_holds() {
    for version in 1..SCHEMA_VERSION {
        let (_folder, path) = spool_of(version);
        let store = Store::open(&path, Limits::default()).expect("brought up to date");
        let found = taken(&store.connection, 10).expect("read");
        let found: Vec<_> = found
            .iter()
            .map(|row| (row.id.as_str(), row.state))
            .collect();
        let all = [
            ("f4", "answered"),
            ("f3", "dead"),
            ("f2", "waiting"),
            ("f1", "accepted"),
        ];
        assert_eq!(found, all, "version {version}");
        let depth = Depth {
            frames: 1,
            frame_bytes: 2,
            inferences: 1,
            inference_bytes: 3,
        };
        assert_eq!(store.depth(), depth);
        let kept = frames(&store.connection, 0, 10).expect("read");
        assert_eq!(
            (kept[0].captured_us, kept[0].digest),
            (5000, Digest::of(&[1, 2]))
        );
        let waiting = inferences(&store.connection, u64::MAX, 10, 1 << 20).expect("read");
        assert_eq!((waiting.len(), waiting[0].inference.image), (1, 0));
        // Version 1 had told the vault of none.
        let told = withdrawals(&store.connection, 10).expect("read");
        assert_eq!(told.len(), usize::from(version == 1), "version {version}");
    }
}

#[test]
fn a_spool_is_brought_up_to_date_as_a_whole_or_not_at_all() {
    let (_folder, path) = spool_of(1);
    let connection = Connection::open(&path).expect("opens");
    // The last step fails.
    let column = "ALTER TABLE inferences ADD COLUMN record BLOB";
    connection.execute_batch(column).expect("SQL");
    drop(connection);
    assert!(Store::open(&path, Limits::default()).is_err());
    // A connection of before would tell of the tables as they were.
    let connection = Connection::open(&path).expect("opens");
    let version = connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0));
    assert_eq!(version, Ok(1));
    assert!(!connection.table_exists(None, "withdrawals").expect("read"));
    for column in ["image", "source"] {
        let there = connection.column_exists(None, "inferences", column);
        assert!(!there.expect("read"), "{column}");
    }
}

#[test]
fn a_spool_of_a_later_version_is_left_as_it_is() {
    let (_folder, path) = spool_of(SCHEMA_VERSION + 1);
    let refused = Store::open(&path, Limits::default())
        .err()
        .expect("refused");
    assert_eq!(refused.code(), "spool.damaged", "{refused}");
}

/// SQLite calls a write that the system cuts short an I/O error.
#[test]
fn a_write_that_the_system_cuts_short_is_a_full_disk_and_a_bad_sector_is_not() {
    let found = |code| {
        let error = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        failure("write", &error)
    };
    for code in [
        rusqlite::ffi::SQLITE_FULL,
        rusqlite::ffi::SQLITE_IOERR_WRITE,
        rusqlite::ffi::SQLITE_IOERR_SHMSIZE,
    ] {
        assert!(matches!(found(code), Error::StorageFull { .. }), "{code}");
    }
    let sector = found(rusqlite::ffi::SQLITE_IOERR_READ);
    assert!(matches!(sector, Error::Spool { .. }));
}

#[test]
fn a_spool_of_version_1_withdraws_the_queries_of_its_dead_letters_once() {
    let (_folder, path) = spool_of(1);
    let store = Store::open(&path, Limits::default()).expect("brought up to date");
    let found = withdrawals(&store.connection, 10).expect("read");
    assert_eq!(found, [(3, QueryId([0; 16]))]);
    store
        .connection
        .execute_batch("DELETE FROM withdrawals")
        .expect("SQL");
    drop(store);
    let store = Store::open(&path, Limits::default()).expect("opens");
    let found = withdrawals(&store.connection, 10).expect("read");
    assert_eq!(found, []);
}

#[test]
fn an_inference_without_a_frame_is_given_up_where_another_runs_again() {
    let (_folder, mut store) = made(Limits::default());
    let as_it_was = "INSERT INTO inferences VALUES
            (7, 'f', zeroblob(16), zeroblob(32), zeroblob(32), 5, 0, 0, 0, 0, 3, x'', 0,
             NULL, NULL),
            (8, 'g', zeroblob(16), zeroblob(32), zeroblob(32), 5, 0, 0, 0, 0, 3, x'', 0,
             'http', x'010203')";
    store.connection.execute_batch(as_it_was).expect("SQL");
    let places = vec![(7, letter()), (8, letter()), (9, letter())];
    let (done, _) = tokio::sync::oneshot::channel();
    let command = Command::RunAgain { places, done };
    assert!(store.apply(&[command]).is_ok());
    let rows = rows(&store.connection, 10).expect("read");
    let rows = rows.iter().map(|row| (row.seq, row.state, row.bytes));
    assert_eq!(
        rows.collect::<Vec<_>>(),
        [(8, "accepted", 3), (7, "dead", 0)]
    );
    let found = depth(&store.connection).expect("read");
    assert_eq!((found.frames, found.inferences), (1, 0));
    let frames = frames(&store.connection, 0, 10).expect("read");
    assert_eq!(frames[0].captured_us, 5000);
}
