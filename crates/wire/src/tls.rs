//! TLS 1.3 with a certificate on both sides, under the vault's own authority.
//!
//! Names are identities, not addresses: the vault's certificate carries [`VAULT_NAME`], a device's
//! its own name, wherever they listen. Whether a certificate is revoked is the vault's registry's
//! business: it knows [`Peer::fingerprint`].

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::error::WireError;
use crate::hex::Digest;
use crate::limits;
use crate::name::Name;

/// Name in the vault's certificate; no device can be called so.
pub const VAULT_NAME: &str = "scuro-vault";
/// File of the authority's certificate in a bundle.
pub const AUTHORITY_FILE: &str = "ca.pem";
/// File of the own certificate in a bundle.
pub const CERTIFICATE_FILE: &str = "certificate.pem";
/// File of the own private key in a bundle; mode 0600.
pub const KEY_FILE: &str = "private-key.pem";

/// A certificate with its private key, and the authority that both sides trust.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    authority: CertificateDer<'static>,
}

impl Identity {
    /// Reads the three PEM texts.
    ///
    /// # Errors
    /// [`WireError::Certificate`].
    pub fn from_pem(authority: &[u8], certificate: &[u8], key: &[u8]) -> Result<Self, WireError> {
        let read =
            |what, pem| CertificateDer::from_pem_slice(pem).map_err(|error| unusable(what, &error));
        Ok(Self {
            authority: read("certificate of the authority", authority)?,
            certificate: read("certificate", certificate)?,
            key: PrivateKeyDer::from_pem_slice(key)
                .map_err(|error| unusable("private key", &error))?,
        })
    }

    /// Reads the bundle that `scuro vault enroll` wrote.
    ///
    /// # Errors
    /// [`WireError::File`], [`WireError::KeyMode`], [`WireError::Certificate`].
    pub fn load(folder: &Path) -> Result<Self, WireError> {
        let key = folder.join(KEY_FILE);
        check_mode(&key)?;
        Self::from_pem(
            &read(&folder.join(AUTHORITY_FILE))?,
            &read(&folder.join(CERTIFICATE_FILE))?,
            &read(&key)?,
        )
    }

    /// Name and fingerprint of the own certificate.
    ///
    /// # Errors
    /// [`WireError::Certificate`].
    pub fn peer(&self) -> Result<Peer, WireError> {
        Peer::of(std::slice::from_ref(&self.certificate))
    }

    /// For a server: every client must show a certificate of the authority.
    ///
    /// # Errors
    /// [`WireError::Certificate`] if key and certificate do not belong together.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, WireError> {
        let roots = Arc::new(self.roots()?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
        let verifier = verifier.map_err(|error| unusable("authority", &error))?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| unusable("TLS 1.3", &error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain(), self.key.clone_key())
            .map_err(|error| unusable("certificate and key", &error))?;
        Ok(Arc::new(config))
    }

    /// For a client: shows its own certificate, trusts the authority alone.
    ///
    /// # Errors
    /// As [`Identity::server_config`].
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, WireError> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| unusable("TLS 1.3", &error))?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(self.chain(), self.key.clone_key())
            .map_err(|error| unusable("certificate and key", &error))?;
        Ok(Arc::new(config))
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    fn roots(&self) -> Result<RootCertStore, WireError> {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.authority.clone())
            .map_err(|error| unusable("authority", &error))?;
        Ok(roots)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fingerprint = Digest::of(&self.certificate);
        write!(out, "Identity({}, redacted)", fingerprint.short())
    }
}

/// The other side of a connection, from its verified certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The certificate's only DNS name.
    pub name: Name,
    /// BLAKE3 of the certificate.
    pub fingerprint: Digest,
}

impl Peer {
    /// Name and fingerprint of a chain that TLS has verified.
    ///
    /// # Errors
    /// [`WireError::Certificate`] if there is none, or it has not exactly one name.
    pub fn of(chain: &[CertificateDer<'_>]) -> Result<Self, WireError> {
        let what = "certificate of the other side";
        let certificate = chain.first().ok_or_else(|| unusable(what, &"absent"))?;
        let parsed = webpki::EndEntityCert::try_from(certificate);
        let parsed = parsed.map_err(|error| unusable(what, &error))?;
        let mut names = parsed.valid_dns_names();
        let (Some(name), None) = (names.next(), names.next()) else {
            return Err(unusable(what, &"it has not exactly one name"));
        };
        Ok(Self {
            name: Name::new(name)?,
            fingerprint: Digest::of(certificate),
        })
    }

    /// Whether it is the vault.
    pub fn is_vault(&self) -> bool {
        self.name.as_str() == VAULT_NAME
    }
}

/// An error if others than the owner can read the file.
///
/// # Errors
/// [`WireError::File`], [`WireError::KeyMode`].
pub fn check_mode(path: &Path) -> Result<(), WireError> {
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.to_path_buf();
        return Err(WireError::KeyMode { path, mode });
    }
    Ok(())
}

/// For a client of a server that is not ours, a broker for example: trusts the certificates in the
/// first file alone, and shows the certificate in the others if the server asks for one. The server
/// must have the name or address that it is reached by. TLS 1.3.
///
/// # Errors
/// [`WireError::File`], [`WireError::KeyMode`] if others can read the private key,
/// [`WireError::Certificate`].
pub fn foreign_client(
    authorities: &Path,
    own: Option<(&Path, &Path)>,
) -> Result<Arc<ClientConfig>, WireError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates("certificate of the authority", authorities)? {
        let added = roots.add(authority);
        added.map_err(|error| unusable("authority", &error))?;
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable("TLS 1.3", &error))?
        .with_root_certificates(roots);
    let Some((certificate, key)) = own else {
        return Ok(Arc::new(builder.with_no_client_auth()));
    };
    check_mode(key)?;
    let chain = certificates("certificate", certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|error| unusable("private key", &error))?;
    let config = builder.with_client_auth_cert(chain, key);
    let config = config.map_err(|error| unusable("certificate and key", &error))?;
    Ok(Arc::new(config))
}

/// All certificates of a PEM file; at least one.
fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, WireError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| unusable(what, &error))?;
    match found.is_empty() {
        true => Err(unusable(what, &"there is none in the file")),
        false => Ok(found),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(path: &Path) -> Result<Vec<u8>, WireError> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let mut bytes = Vec::new();
    file.take(limits::PEM_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(path, &error))?;
    WireError::check_size("PEM file", bytes.len(), limits::PEM_BYTES as usize)?;
    Ok(bytes)
}

fn unreadable(path: &Path, error: &std::io::Error) -> WireError {
    WireError::File {
        path: path.to_path_buf(),
        message: error.to_string(),
    }
}

fn unusable(what: &'static str, error: &dyn fmt::Display) -> WireError {
    WireError::Certificate {
        what,
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_no_authority() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "nothing").expect("written");
        let found = foreign_client(&path, None).expect_err("refused");
        assert!(matches!(found, WireError::Certificate { .. }), "{found}");
        let absent = foreign_client(&folder.path().join("none"), None);
        assert!(matches!(absent, Err(WireError::File { .. })));
    }

    #[test]
    fn a_private_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let key = folder.path().join(KEY_FILE);
        std::fs::write(&key, "key").expect("written");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).expect("mode");
        let found = Identity::load(folder.path()).expect_err("refused");
        assert!(
            matches!(found, WireError::KeyMode { mode: 0o640, .. }),
            "{found}"
        );
    }
}
