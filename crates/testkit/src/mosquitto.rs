//! A real MQTT broker, for tests of what talks to one.

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::process::Victim;

/// Lines of a configuration that lets everyone in.
pub const OPEN: &str = "allow_anonymous true\n";

/// Longest that a broker may take to start.
const PATIENCE: Duration = Duration::from_secs(120);
/// Ports that the system gives to nobody unasked: its own begin at 32,768.
const PORTS: RangeInclusive<u16> = 20_000..=32_000;

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

/// A port of this machine that nobody has. While its broker is away, no connection that goes out
/// takes it.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that run side by side begin far from each other.
    let first = std::process::id().wrapping_mul(101);
    let count = u32::from(PORTS.end() - PORTS.start());
    let port = |_| {
        let step = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % count;
        PORTS.start() + u16::try_from(step).expect("a port")
    };
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (0..count).map(port).find(is_free).expect("a free port")
}

/// A broker on loopback that is killed when it is dropped.
#[derive(Debug)]
pub struct Broker {
    process: Victim,
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
        let mut command = Command::new(program);
        command.arg("-c").arg(&configuration);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let process = Victim::start(&mut command);
        Self { process }.wait_for(port)
    }

    fn wait_for(mut self, port: u16) -> Self {
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(!self.process.has_ended(), "the broker has ended");
            assert!(start.elapsed() < PATIENCE, "the broker does not listen");
            std::thread::sleep(Duration::from_millis(25));
        }
        self
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
