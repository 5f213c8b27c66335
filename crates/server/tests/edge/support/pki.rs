//! Certificates of the test's vendor.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use scuro_wire::tls::Identity;

/// Name of the test's device.
pub(crate) const DEVICE: &str = "cam-7";

pub(crate) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
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

pub(crate) fn identity(authority: &Authority, name: &str) -> Identity {
    let [authority, certificate, key] = pem(authority, name);
    let texts = [authority.as_bytes(), certificate.as_bytes(), key.as_bytes()];
    Identity::from_pem(texts[0], texts[1], texts[2]).expect("identity")
}
