//! A real MQTT broker, for tests of what talks to one.

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Lines of a configuration that lets everyone in.
pub const OPEN: &str = "allow_anonymous true\n";

/// The broker's program; without it a test is skipped, unless in CI.
///
/// # Panics
/// In CI, if there is none.
pub fn program() -> Option<PathBuf> {
    let places = [
        "/usr/sbin",
        "/usr/bin",
        "/usr/local/sbin",
        "/opt/homebrew/sbin",
    ];
    let found = places
        .iter()
        .map(|place| Path::new(place).join("mosquitto"));
    let found = found.into_iter().find(|path| path.exists());
    if found.is_none() {
        let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!in_ci, "mosquitto must be there in CI");
        let line = "SKIPPED: there is no mosquitto (apt-get install mosquitto)";
        writeln!(std::io::stderr(), "{line}").expect("told");
    }
    found
}

/// A port of this machine that nobody has.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("port");
    listener.local_addr().expect("address").port()
}

/// A broker on loopback that is killed when it is dropped.
#[derive(Debug)]
pub struct Broker {
    child: Child,
}

impl Broker {
    /// Starts it and waits until it listens. What it stores is in `folder`, and outlives it; `more`
    /// are lines of its configuration: [`OPEN`], [`guarded`].
    ///
    /// # Panics
    /// If it does not run.
    pub fn start(program: &Path, folder: &Path, port: u16, more: &str) -> Self {
        let configuration = folder.join("mosquitto.conf");
        let mut file = File::create(&configuration).expect("configuration");
        let stored = folder.join("broker");
        std::fs::create_dir_all(&stored).expect("folder");
        writeln!(
            file,
            "listener {port} 127.0.0.1\nuser root\npersistence true\n\
             persistence_location {}/\nautosave_interval 1\n{more}",
            stored.display()
        )
        .expect("written");
        // Ends with what holds it, also if it never listens.
        let broker = Command::new(program)
            .arg("-c")
            .arg(&configuration)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map(|child| Self { child })
            .expect("a broker");
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return broker;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("the broker does not listen");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines for TLS with the PEM files `authority`, `certificate` and `key`, for clients that have a
/// certificate of the same authority and a password; the passwords go to `folder`.
///
/// # Panics
/// If the passwords cannot be written.
pub fn guarded(
    folder: &Path,
    [authority, certificate, key]: [&Path; 3],
    login: [&str; 2],
) -> String {
    let passwords = folder.join("passwords");
    let [user, password] = login;
    let made = Command::new("mosquitto_passwd")
        .args(["-b", "-c"])
        .arg(&passwords)
        .args([user, password])
        .status();
    let made = made.expect("mosquitto_passwd comes with mosquitto");
    assert!(made.success());
    format!(
        "allow_anonymous false\npassword_file {}\nrequire_certificate true\ncafile {}\n\
         certfile {}\nkeyfile {}\n",
        passwords.display(),
        authority.display(),
        certificate.display(),
        key.display()
    )
}
