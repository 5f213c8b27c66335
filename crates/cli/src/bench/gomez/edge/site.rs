//! A vault and a device of it as processes on loopback, to be killed and started again.
//!
//! The integration tests drive the same processes and include this file, as a binary has no modules
//! that a test could use: it stands on the standard library alone.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// File with what the processes say.
pub(crate) const LOG: &str = "services.log";
/// Words that push the model to the device.
pub(crate) const DEPLOY: [&str; 4] = ["deploy", "digits", "--device", "cam-7"];

/// A process that is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Service(pub(crate) Child);

impl Service {
    /// As `kill -9`.
    pub(crate) fn kill(mut self) -> io::Result<()> {
        self.0.kill()?;
        self.0.wait().map(|_| ())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder with `vault/`, `device/` and `bundle/`, and the addresses of the two.
#[derive(Debug)]
pub(crate) struct Site {
    binary: PathBuf,
    folder: PathBuf,
    /// Where the vault listens for devices and users, and for those who ask for metrics.
    pub(crate) vault: String,
    pub(crate) metrics: String,
    device: String,
}

impl Site {
    /// Chooses addresses.
    pub(crate) fn new(binary: &Path, folder: &Path) -> io::Result<Self> {
        Ok(Self {
            binary: binary.to_path_buf(),
            folder: folder.to_path_buf(),
            vault: free_address()?,
            metrics: free_address()?,
            device: free_address()?,
        })
    }

    /// Words, in their order, that make the vault, enrol the device, and protect `model.onnx`.
    pub(crate) fn set_up(&self) -> [Vec<&str>; 3] {
        let enrol = ["vault", "enroll", "cam-7", "--out", "bundle", "--address"];
        let addresses = [&self.device, "--vault-address", &self.vault];
        let protect = ["protect", "model.onnx", "--vault", "vault", "--name"];
        [
            vec!["vault", "init"],
            [&enrol[..], &addresses[..]].concat(),
            [&protect[..], &["digits"]].concat(),
        ]
    }

    /// Starts the vault.
    pub(crate) fn vault(&self) -> io::Result<Service> {
        let words = ["vault", "serve", "vault", "--listen", &self.vault];
        self.start(&[&words[..], &["--metrics", &self.metrics]].concat())
    }

    /// Starts the device with these sources and settings.
    pub(crate) fn edge(&self, more: &[&str]) -> io::Result<Service> {
        let words = ["edge", "serve", "device", "--bundle", "bundle", "--listen"];
        self.start(&[&words[..], &[&self.device], more].concat())
    }

    fn start(&self, words: &[&str]) -> io::Result<Service> {
        start(&self.binary, &self.folder, words)
    }
}

/// Starts the binary in a folder; what it says goes to the log there.
pub(crate) fn start(binary: &Path, folder: &Path, words: &[&str]) -> io::Result<Service> {
    let mut log = File::options();
    let log = log.create(true).append(true).open(folder.join(LOG))?;
    let mut command = Command::new(binary);
    command.args(words).current_dir(folder).stderr(log);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Ok(Service(command.spawn()?))
}

/// An address on loopback that was free a moment ago.
pub(crate) fn free_address() -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.to_string())
}
