//! Processes that a test starts and kills.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command};

/// A process that is killed with -9 when it is dropped, if not before: one that a failed test
/// leaves behind would hold ports and files.
#[derive(Debug)]
pub struct Victim(Child);

impl Victim {
    /// Starts it.
    ///
    /// # Panics
    /// If the program does not start.
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("a child"))
    }

    /// The lines that it says, if its standard output is a pipe.
    ///
    /// # Panics
    /// If it is not, or they are taken already.
    pub fn words(&mut self) -> impl Iterator<Item = String> + use<> {
        let out = self.0.stdout.take().expect("its words");
        BufReader::new(out).lines().map_while(Result::ok)
    }

    /// Its id, for signals.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it has ended by itself.
    ///
    /// # Panics
    /// If the system does not know it.
    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("a child").is_some()
    }

    /// Kills it, and waits until it is dead.
    ///
    /// # Panics
    /// If it cannot be killed.
    pub fn kill(&mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("dead");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
