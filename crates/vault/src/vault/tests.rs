use super::*;

const NOW: u64 = 1_800_000_000;

fn source(folder: &Path) -> KeySource {
    KeySource::File(Vault::default_key_file(folder))
}

#[test]
fn a_vault_is_made_once_and_opens_with_its_key_only() {
    let desk = tempfile::tempdir().expect("folder");
    let folder = desk.path().join("vault");
    let key = source(&folder);
    assert!(matches!(
        Vault::open(&folder, &key),
        Err(VaultError::NotAVault { .. })
    ));
    drop(Vault::init(&folder, &key, NOW).expect("made"));
    assert!(matches!(
        Vault::init(&folder, &key, NOW),
        Err(VaultError::Exists { .. })
    ));
    let vault = Vault::open(&folder, &key).expect("opens");
    assert!(
        vault
            .identity(NOW)
            .expect("identity")
            .peer()
            .expect("peer")
            .is_vault()
    );
    let foreign = desk.path().join("foreign.key");
    VaultKey::create(&foreign).expect("a key");
    assert!(matches!(
        Vault::open(&folder, &KeySource::File(foreign)),
        Err(VaultError::WrongKey)
    ));
    let passphrase = KeySource::passphrase("a passphrase for tests").expect("long");
    assert!(matches!(
        Vault::open(&folder, &passphrase),
        Err(VaultError::KeyKind {
            expected: "key file"
        })
    ));
}

#[test]
fn a_vault_moves_from_a_key_file_to_a_passphrase_and_back() {
    let desk = tempfile::tempdir().expect("folder");
    let file = source(desk.path());
    let passphrase = KeySource::passphrase("a passphrase for tests").expect("long");
    let mut vault = Vault::init(desk.path(), &file, NOW).expect("made");
    let write = |vault: &Vault| {
        vault
            .database
            .write(|db| vault.store_secret(db, "model/a/1/x", b"secret"))
    };
    write(&vault).expect("stored");
    assert_eq!(vault.rekey(&passphrase).expect("changed"), 4);
    assert!(Vault::open(desk.path(), &file).is_err());
    let mut vault = Vault::open(desk.path(), &passphrase).expect("opens");
    vault.rekey(&file).expect("changed back");
    let vault = Vault::open(desk.path(), &file).expect("opens");
    let secret = vault
        .database
        .read(|db| vault.open_secret(db, "model/a/1/x"));
    assert_eq!(&secret.expect("there")[..], b"secret");
}

#[test]
fn a_vault_of_format_1_is_brought_up_to_date_once_and_a_newer_one_is_refused() {
    let desk = tempfile::tempdir().expect("folder");
    let key = source(desk.path());
    let vault = Vault::init(desk.path(), &key, NOW).expect("made");
    let run = |vault: &Vault, sql: &str| {
        let done = vault.database.read(|db| Ok(db.execute_batch(sql)?));
        done.expect("SQL");
    };
    // As it was before replies were remembered.
    run(&vault, "DROP TABLE replies; PRAGMA user_version = 1");
    drop(vault);
    for _ in 0..2 {
        let vault = Vault::open(desk.path(), &key).expect("opens");
        assert_eq!(vault.database.format().expect("format"), 2);
        run(&vault, "INSERT INTO replies SELECT randomblob(32)");
    }
    let vault = Vault::open(desk.path(), &key).expect("opens");
    run(&vault, "PRAGMA user_version = 3");
    assert!(matches!(
        Vault::open(desk.path(), &key),
        Err(VaultError::Format {
            found: 3,
            expected: 2
        })
    ));
}

#[test]
fn a_rekey_that_was_cut_off_is_finished_or_forgotten() {
    let desk = tempfile::tempdir().expect("folder");
    let key = source(desk.path());
    let path = Vault::default_key_file(desk.path());
    let mut vault = Vault::init(desk.path(), &key, NOW).expect("made");
    // Cut off before the commit: a new key waits that fits nothing.
    VaultKey::create(&waiting(&path)).expect("a key");
    Vault::open(desk.path(), &key).expect("the old key still opens");
    let old = std::fs::read(&path).expect("old key");
    vault.rekey(&key).expect("changed");
    let new = std::fs::read(&path).expect("new key");
    assert_ne!(old, new);
    // Cut off after it: the old file is still in place.
    std::fs::rename(&path, waiting(&path)).expect("as it was");
    std::fs::write(&path, &old).expect("as it was");
    drop(vault);
    Vault::open(desk.path(), &key).expect("finished");
    assert_eq!(std::fs::read(&path).expect("key"), new);
}

#[test]
fn the_database_is_its_owners_alone_even_in_an_open_folder() {
    use std::os::unix::fs::PermissionsExt;
    let desk = tempfile::tempdir().expect("folder");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(desk.path(), open).expect("mode");
    let _vault = Vault::init(desk.path(), &source(desk.path()), NOW).expect("made");
    for name in [DATABASE_FILE, "vault.db-wal", KEY_FILE] {
        let metadata = std::fs::metadata(desk.path().join(name)).expect("there");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_running_server_keeps_rekey_out() {
    let desk = tempfile::tempdir().expect("folder");
    let key = source(desk.path());
    let mut vault = Vault::init(desk.path(), &key, NOW).expect("made");
    let server = Vault::open(desk.path(), &key).expect("opens");
    let lock = server.lock().expect("free");
    assert!(vault.rekey(&key).is_err());
    drop(lock);
    vault.rekey(&key).expect("free again");
}

#[test]
fn the_own_certificate_renews_itself() {
    let desk = tempfile::tempdir().expect("folder");
    let vault = Vault::init(desk.path(), &source(desk.path()), NOW).expect("made");
    let fingerprint = |now| {
        let identity = vault.identity(now).expect("identity");
        identity.peer().expect("peer").fingerprint
    };
    let first = fingerprint(NOW);
    assert_eq!(fingerprint(NOW + 100 * DAY), first);
    assert_ne!(fingerprint(NOW + 310 * DAY), first);
}
