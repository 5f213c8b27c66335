//! MQTT brokers on the command line: addresses there, secrets in files or the environment.

use std::path::PathBuf;

use scuro_server::Error;
use scuro_server::edge::sources::Access;
use scuro_wire::tls;
use zeroize::Zeroizing;

use crate::errors::Failure;
use crate::files;

/// Environment variable with the password.
const PASSWORD: &str = "SCURO_MQTT_PASSWORD";

/// Topics and how their brokers are entered.
#[derive(Debug, clap::Args)]
pub(super) struct Brokers {
    /// Take the messages of a topic; may be given several times. A user's password comes from
    /// --mqtt-password-file or $SCURO_MQTT_PASSWORD.
    #[arg(long, value_name = "mqtt[s]://[USER@]HOST[:PORT]/TOPIC")]
    pub(super) mqtt: Vec<String>,
    /// Certificate of the authority that the brokers of mqtts:// must have theirs from, PEM.
    #[arg(long, value_name = "FILE")]
    mqtt_ca: Option<PathBuf>,
    /// Certificate of this device for brokers that ask for one, PEM.
    #[arg(long, value_name = "FILE", requires = "mqtt_key", requires = "mqtt_ca")]
    mqtt_certificate: Option<PathBuf>,
    /// Its private key, PEM, mode 0600.
    #[arg(long, value_name = "FILE", requires = "mqtt_certificate")]
    mqtt_key: Option<PathBuf>,
    /// File with the password of the brokers' user, mode 0600; line feeds at its end are cut off.
    #[arg(long, value_name = "FILE")]
    mqtt_password_file: Option<PathBuf>,
}

impl Brokers {
    /// Reads the files.
    pub(super) fn access(&self) -> Result<Access, Failure> {
        let own = self
            .mqtt_certificate
            .as_deref()
            .zip(self.mqtt_key.as_deref());
        let tls = self.mqtt_ca.as_deref();
        let tls = tls.map(|authorities| tls::foreign_client(authorities, own));
        Ok(Access {
            password: self.password()?,
            tls: tls.transpose().map_err(Error::from)?,
        })
    }

    fn password(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        let Some(path) = &self.mqtt_password_file else {
            return Ok(std::env::var(PASSWORD).ok().map(Zeroizing::new));
        };
        tls::check_mode(path).map_err(Error::from)?;
        let bytes = Zeroizing::new(files::read(path)?);
        let text = std::str::from_utf8(&bytes).map_err(|_| {
            let message = format!("{} is not UTF-8", path.display());
            Failure::bad_input("edge.password", message).hint("write the password as text")
        })?;
        let text = text.trim_end_matches(['\r', '\n']);
        Ok(Some(Zeroizing::new(text.to_string())))
    }
}
