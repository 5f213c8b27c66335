//! Errors of the services -> failure with exit code, stable code and hint.
// tidy: catalogue

use scuro_vault::VaultError;
use scuro_wire::{Problem, WireError};

use super::{Exit, Failure};

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        use WireError as E;
        let text = error.to_string();
        if let E::Refused { status, problem } = error {
            return refused(status, problem, text);
        }
        let (exit, code, hint) = match &error {
            E::Name { .. } | E::Version { .. } | E::Hex { .. } => (
                Exit::BadInput,
                "arguments.invalid",
                "write it as the message says",
            ),
            E::NumericName { .. } => (
                Exit::BadInput,
                "peer.numeric-name",
                "add a letter, for example `cam-` before the number",
            ),
            E::File { .. } => (
                Exit::BadInput,
                "file.not-found",
                "give the folder that `scuro vault enroll` wrote",
            ),
            E::KeyMode { .. } => (
                Exit::Refused,
                "keys.readable-by-others",
                "make it private: `chmod 600 FILE`; if others may have read it, make a new one",
            ),
            E::Certificate { .. } => (
                Exit::Refused,
                "peer.certificate",
                "enrol again: `scuro vault enroll NAME -o DIR`",
            ),
            E::MqttAddress { .. } => (
                Exit::BadInput,
                "mqtt.address",
                "see `scuro vault serve --help` and `scuro edge serve --help`",
            ),
            E::NotLoopback { .. } => (
                Exit::Refused,
                "peer.needs-tls",
                "pass --identity DIR with the certificates of `scuro vault enroll NAME -o DIR`",
            ),
            E::UserKey { .. } => (
                Exit::BadInput,
                "user.key",
                "move user.key away: a new one is made, and with it a new user",
            ),
            E::HolderKey { .. } => (
                Exit::BadInput,
                "masks.key",
                "make another: `scuro holder identity -o FILE --name NAME`, and change the roster",
            ),
            E::Toml { .. } | E::Roster { .. } => (
                Exit::BadInput,
                "masks.roster",
                "put it together from the lines of `scuro holder identity`; see \
                 docs/reference/ensemble.md",
            ),
            E::Signature { .. } => (
                Exit::Refused,
                "user.signature",
                "sign with the key of the user who is named",
            ),
            E::Connection { .. } => (
                Exit::Connection,
                "connection.failed",
                "is it running, is the address right, and are both certificates of one vault?",
            ),
            E::Timeout { .. } => (
                Exit::Timeout,
                "connection.timeout",
                "check the network and the load of the other side, and try again",
            ),
            _ => (
                Exit::BadInput,
                "wire.malformed",
                "the two sides must be of one version of Scuro",
            ),
        };
        Self::new(exit, code, text).hint(hint)
    }
}

/// What the other side of a connection refuses.
fn refused(status: u16, problem: Problem, text: String) -> Failure {
    let exit = match status {
        429 | 503 => Exit::Connection,
        500 => Exit::JobFailed,
        _ => Exit::Refused,
    };
    Failure::new(exit, &problem.code, text).hint(problem.hint)
}

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Self {
        let text = error.to_string();
        let (exit, code, hint) = match error {
            VaultError::Wire(error) => return error.into(),
            VaultError::Model(error) => return error.into(),
            VaultError::Device {
                problem, status, ..
            } => return refused(status, problem, text),
            error => describe(&error),
        };
        Self::new(exit, code, text).hint(hint)
    }
}

fn describe(error: &VaultError) -> (Exit, &'static str, &'static str) {
    use VaultError as E;
    match error {
        E::NotFound { .. } => (
            Exit::BadInput,
            "vault.not-found",
            "see `scuro vault list` and `scuro vault devices`",
        ),
        E::NotAVault { .. } => (
            Exit::BadInput,
            "vault.not-a-vault",
            "make one with `scuro vault init DIR`, or pass --dir",
        ),
        E::Exists { .. } => (
            Exit::BadInput,
            "vault.exists",
            "use it as it is, or choose another folder",
        ),
        E::Format { .. } => (
            Exit::BadInput,
            "vault.format",
            "open it with the version of Scuro that made it",
        ),
        E::Retired { .. } => (
            Exit::Refused,
            "model.retired",
            "deploy another version, or make a new one: `scuro vault rotate NAME MODEL`",
        ),
        E::Expired { .. } => (
            Exit::Refused,
            "model.key-expired",
            "make a version with a new key: `scuro vault rotate NAME MODEL`",
        ),
        E::WeightsInClear => (
            Exit::Refused,
            "model.weights-in-clear",
            "encrypt them: `scuro protect` takes this file too, with --vault DIR --name NAME",
        ),
        E::WeightsFile { .. } => (
            Exit::BadInput,
            "model.weights-file",
            "pass --weights weights.ct with the program.scuro beside it, and only then",
        ),
        E::ReservedName { .. } => (Exit::BadInput, "peer.reserved-name", "choose another name"),
        E::WrongRole { .. } => (
            Exit::BadInput,
            "peer.role",
            "see `scuro vault devices` for who is what",
        ),
        E::Peer { .. } => (
            Exit::Refused,
            "peer.refused",
            "enrol it again: `scuro vault enroll NAME -o DIR`",
        ),
        E::NoAddress { .. } => (
            Exit::BadInput,
            "deploy.no-address",
            "pass --address HOST:PORT, or enrol the device with it",
        ),
        E::NothingBefore { .. } => (
            Exit::Refused,
            "deploy.nothing-before",
            "deploy the version that you want: `scuro deploy NAME:VERSION --device ...`",
        ),
        E::WrongDeployment { .. } => (
            Exit::Refused,
            "deploy.wrong-deployment",
            "device and vault must be of one version of Scuro",
        ),
        E::KeyFile { .. } => (
            Exit::BadInput,
            "vault.key-file",
            "pass the right file with --key-file or --passphrase-file",
        ),
        E::WrongKey => (
            Exit::Refused,
            "vault.wrong-key",
            "pass the key or passphrase of this vault",
        ),
        E::KeyKind { .. } => (
            Exit::BadInput,
            "vault.key-kind",
            "pass --key-file, --passphrase-file or $SCURO_VAULT_PASSPHRASE, as the message says",
        ),
        E::Passphrase { .. } => (
            Exit::BadInput,
            "vault.short-passphrase",
            "take a longer one: several words",
        ),
        E::Sealed { .. } => (
            Exit::Refused,
            "vault.damaged-secret",
            "restore the vault's folder from a backup",
        ),
        E::Tampered { .. } => (
            Exit::Refused,
            "vault.tampered",
            "restore the artefact from a backup, or protect the model again",
        ),
        E::KeyMismatch { .. } => (
            Exit::Refused,
            "keys.mismatch",
            "use the keys of one `scuro keygen` run for this very model",
        ),
        E::DiskFull { .. } => (
            Exit::JobFailed,
            "file.disk-full",
            "free some space and run it again; nothing half-written counts",
        ),
        E::File { source, .. } if source.kind() == std::io::ErrorKind::WouldBlock => (
            Exit::JobFailed,
            "vault.in-use",
            "a server runs on this vault: stop it first",
        ),
        E::Listen { .. } => (
            Exit::JobFailed,
            "service.listen",
            "choose another port with --listen and --metrics, or stop what has it",
        ),
        E::Certificate { .. } | E::Crypto { .. } => (
            Exit::Internal,
            "vault.crypto",
            "this is a bug in Scuro: please report it with the command line",
        ),
        _ => (
            Exit::JobFailed,
            "vault.failed",
            "check the folder of the vault and its disk",
        ),
    }
}
