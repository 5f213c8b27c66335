//! Certificates of the test's vendor.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use scuro_wire::tls::{AUTHORITY_FILE, CERTIFICATE_FILE, Identity, KEY_FILE};

/// Name of the test's device.
pub(crate) const DEVICE: &str = "cam-7";

pub(crate) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    // Of the same name as its certificates it would pass for one of them at OpenSSL.
    let names = &mut params.distinguished_name;
    names.push(DnType::CommonName, "authority of a test");
    let key = KeyPair::generate().expect("key");
    CertifiedIssuer::self_signed(params, key).expect("authority")
}

/// Authority, certificate and key as PEM.
pub(crate) fn pem(authority: &Authority, name: &str) -> [String; 3] {
    let key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::new(vec![name.to_string()]).expect("name");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2090, 1, 1);
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    let certificate = params.signed_by(&key, authority).expect("certificate");
    [
        authority.as_ref().pem(),
        certificate.pem(),
        key.serialize_pem(),
    ]
}

/// Authority, certificate and key as the files of a bundle.
pub(crate) fn write(authority: &Authority, name: &str, bundle: &Path) {
    std::fs::create_dir_all(bundle).expect("folder");
    let names = [AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE];
    for (name, text) in names.iter().zip(pem(authority, name)) {
        let path = bundle.join(name);
        std::fs::write(&path, text).expect("written");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, mode).expect("mode");
    }
}

pub(crate) fn identity(authority: &Authority, name: &str) -> Identity {
    let [authority, certificate, key] = pem(authority, name);
    let texts = [authority.as_bytes(), certificate.as_bytes(), key.as_bytes()];
    Identity::from_pem(texts[0], texts[1], texts[2]).expect("identity")
}
