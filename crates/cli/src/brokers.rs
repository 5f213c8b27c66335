//! MQTT brokers on the command line: addresses there, secrets in files or the environment.

use std::path::PathBuf;

use scuro_wire::mqtt::Access;
use scuro_wire::{WireError, tls};
use zeroize::Zeroizing;

use crate::errors::Failure;
use crate::files;

/// Environment variable with the password.
const PASSWORD: &str = "SCURO_MQTT_PASSWORD";

/// How the brokers of `--mqtt` are entered.
#[derive(Debug, clap::Args)]
pub(crate) struct BrokerArguments {
    /// Certificate of the authority that the broker of mqtts:// must have its own from, PEM.
    #[arg(long, value_name = "FILE", requires = "mqtt")]
    mqtt_ca: Option<PathBuf>,
    /// Our certificate for a broker that asks for one, PEM.
    #[arg(long, value_name = "FILE", requires = "mqtt_key", requires = "mqtt_ca")]
    mqtt_certificate: Option<PathBuf>,
    /// Its private key, PEM, mode 0600.
    #[arg(long, value_name = "FILE", requires = "mqtt_certificate")]
    mqtt_key: Option<PathBuf>,
    /// File with the password of the broker's user, mode 0600; line feeds at its end are cut off.
    #[arg(long, value_name = "FILE", requires = "mqtt")]
    mqtt_password_file: Option<PathBuf>,
}

impl BrokerArguments {
    /// Reads the files.
    pub(crate) fn access(&self) -> Result<Access, Failure> {
        let own = self
            .mqtt_certificate
            .as_deref()
            .zip(self.mqtt_key.as_deref());
        let tls = self.mqtt_ca.as_deref();
        let tls = tls.map(|authorities| tls::foreign_client(authorities, own));
        Ok(Access {
            password: self.password()?,
            tls: tls.transpose().map_err(unusable)?,
        })
    }

    fn password(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        let Some(path) = &self.mqtt_password_file else {
            return Ok(std::env::var(PASSWORD).ok().map(Zeroizing::new));
        };
        tls::check_mode(path).map_err(unusable)?;
        let bytes = Zeroizing::new(files::read(path)?);
        let text = std::str::from_utf8(&bytes).map_err(|_| {
            let message = format!("{} is not UTF-8", path.display());
            Failure::bad_input("mqtt.password", message).hint("write the password as text")
        })?;
        let text = text.trim_end_matches(['\r', '\n']);
        Ok(Some(Zeroizing::new(text.to_string())))
    }
}

/// These files are the broker's owner's, not of a bundle of ours.
fn unusable(error: WireError) -> Failure {
    let hint = match &error {
        WireError::File { .. } => "check the path",
        WireError::KeyMode { .. } => return error.into(),
        _ => {
            "check --mqtt-ca, --mqtt-certificate and --mqtt-key: PEM files from the broker's owner"
        }
    };
    Failure::from(error).hint(hint)
}
