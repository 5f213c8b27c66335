//! The vault's own certificate authority.
//!
//! Its private key rests sealed and is opened only to issue a certificate. A certificate carries
//! one name; what its owner may do stands in the registry, not in the certificate.

use std::time::{Duration, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use scuro_wire::Digest;
use zeroize::Zeroizing;

use crate::error::VaultError;

/// Seconds of a day.
pub(crate) const DAY: u64 = 86_400;
/// Life of the authority.
const AUTHORITY_DAYS: u64 = 3650;
/// A clock that is a little behind must not refuse a fresh certificate.
const SLACK: u64 = 3600;

/// A certificate with its private key.
pub(crate) struct Issued {
    /// The certificate.
    pub(crate) certificate_pem: String,
    /// Its key.
    pub(crate) key_pem: Zeroizing<String>,
    /// BLAKE3 of the certificate.
    pub(crate) fingerprint: Digest,
    /// Last second of its life, since 1970.
    pub(crate) expires: u64,
}

/// A new authority called `common_name`.
pub(crate) fn create(common_name: &str, now: u64) -> Result<Issued, VaultError> {
    let key = KeyPair::generate()?;
    let expires = now + AUTHORITY_DAYS * DAY;
    let mut params = authority_params(common_name);
    set_life(&mut params, now, expires);
    let certificate = params.self_signed(&key)?;
    Ok(issued(&certificate, &key, expires))
}

/// A certificate for `name`, good for both ends of a connection.
pub(crate) fn issue(
    common_name: &str,
    authority_key_pem: &str,
    name: &str,
    now: u64,
    expires: u64,
) -> Result<Issued, VaultError> {
    let authority_key = KeyPair::from_pem(authority_key_pem)?;
    let issuer = Issuer::new(authority_params(common_name), authority_key);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name.to_string()])?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    set_life(&mut params, now, expires);
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(issued(&certificate, &key, expires))
}

/// The part of the authority that every certificate of it repeats: so it is made again from the
/// name, and no certificate has to be parsed.
fn authority_params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params
}

fn set_life(params: &mut CertificateParams, now: u64, expires: u64) {
    let at = |seconds| (UNIX_EPOCH + Duration::from_secs(seconds)).into();
    params.not_before = at(now.saturating_sub(SLACK));
    params.not_after = at(expires);
}

fn issued(certificate: &rcgen::Certificate, key: &KeyPair, expires: u64) -> Issued {
    Issued {
        fingerprint: Digest::of(certificate.der()),
        certificate_pem: certificate.pem(),
        key_pem: Zeroizing::new(key.serialize_pem()),
        expires,
    }
}
