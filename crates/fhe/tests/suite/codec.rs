//! Every object as bytes: round trips, sizes, and every way to be wrong.

use std::sync::OnceLock;

use proptest::prelude::*;
use scuro_fhe::ckks::{Ciphertext, CompactCiphertext, SeededCiphertext};
use scuro_fhe::codec::{
    CHECKSUM_BYTES, CodecError, HEADER_BYTES, Kind, VERSION, decode_parameters, describe,
    encode_parameters,
};
use scuro_fhe::compact::Compaction;
use scuro_fhe::keys::{EvaluationKeys, PublicKey};
use scuro_fhe::owner::{Encryptor, KeyGenerator, SecretKey};
use scuro_fhe::params::{ParameterSpec, Parameters};
use scuro_fhe::{Context, Error};
use subtle::ConstantTimeEq;

use crate::common::{Keyring, rng, test_values};

const SCALE: f64 = (1u64 << 28) as f64;

/// One object of each kind, as bytes.
struct Objects {
    ring: Keyring,
    bytes: Vec<(Kind, Vec<u8>)>,
}

/// The smallest degree keeps thousands of mutated parses quick.
fn objects() -> &'static Objects {
    static OBJECTS: OnceLock<Objects> = OnceLock::new();
    OBJECTS.get_or_init(|| {
        let ring = Keyring::new(ParameterSpec::new(11, &[26], &[26]), &[1, 700]);
        let context = &ring.context;
        let values = test_values(ring.encoder.slots(), 1);
        let plain = ring.encoder.encode(&values, 0, 2f64.powi(15)).unwrap();
        let encryptor = Encryptor::new(context, &ring.secret).unwrap();
        let seeded = encryptor.encrypt(&plain, &mut rng(1)).unwrap();
        let public = KeyGenerator::new(context, &ring.secret)
            .unwrap()
            .public_key(&mut rng(2));
        let whole = seeded.expand(context).unwrap();
        let compact = whole.compact(context, Compaction::new(4, 20)).unwrap();
        let bytes = vec![
            (Kind::Parameters, encode_parameters(context.parameters())),
            (Kind::PublicKey, public.to_bytes(context)),
            (Kind::EvaluationKeys, ring.keys.to_bytes(context)),
            (Kind::Ciphertext, whole.to_bytes(context)),
            (Kind::SeededCiphertext, seeded.to_bytes(context)),
            (
                Kind::SeededCiphertext,
                seeded.leaving_out(context, 3).unwrap().to_bytes(context),
            ),
            (Kind::SecretKey, ring.secret.to_bytes().to_vec()),
            (Kind::CompactCiphertext, compact.to_bytes()),
        ];
        Objects { ring, bytes }
    })
}

/// Parses as `kind` and writes again.
fn reencode(kind: Kind, bytes: &[u8], context: &Context) -> Result<Vec<u8>, Error> {
    Ok(match kind {
        Kind::Parameters => encode_parameters(&decode_parameters(bytes)?),
        Kind::PublicKey => PublicKey::from_bytes(bytes, context)?.to_bytes(context),
        Kind::EvaluationKeys => EvaluationKeys::from_bytes(bytes, context)?.to_bytes(context),
        Kind::Ciphertext => Ciphertext::from_bytes(bytes, context)?.to_bytes(context),
        Kind::SeededCiphertext => SeededCiphertext::from_bytes(bytes, context)?.to_bytes(context),
        Kind::SecretKey => SecretKey::from_bytes(bytes, context)?.to_bytes().to_vec(),
        Kind::CompactCiphertext => CompactCiphertext::from_bytes(bytes, context)?.to_bytes(),
        Kind::ExactCiphertext | Kind::ExactSeededCiphertext | Kind::ExactCompactCiphertext => {
            unreachable!("tested in bgv and compact")
        }
    })
}

/// Makes the checksum right again, so that the parser behind it is reached.
fn repair(bytes: &mut [u8]) {
    let end = bytes.len() - CHECKSUM_BYTES;
    let digest = blake3::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&digest.as_bytes()[..CHECKSUM_BYTES]);
}

fn refused(kind: Kind, change: impl FnOnce(&mut Vec<u8>)) -> CodecError {
    let objects = objects();
    let (_, bytes) = objects.bytes.iter().find(|(k, _)| *k == kind).unwrap();
    let mut bytes = bytes.clone();
    change(&mut bytes);
    match reencode(kind, &bytes, &objects.ring.context) {
        Err(Error::Codec(error)) => error,
        other => panic!("{kind}: {:?}", other.map(|_| "accepted")),
    }
}

#[test]
fn every_object_round_trips_byte_for_byte() {
    let objects = objects();
    for (kind, bytes) in &objects.bytes {
        assert!(
            reencode(*kind, bytes, &objects.ring.context).unwrap() == *bytes,
            "{kind}"
        );
        let description = describe(bytes).unwrap();
        assert_eq!(description.kind, *kind);
        assert_eq!(description.parameters, objects.ring.context.digest());
        let content = description.content_bytes as usize;
        assert_eq!(content + HEADER_BYTES + CHECKSUM_BYTES, bytes.len());
    }
}

#[test]
fn loaded_keys_and_ciphertexts_work() {
    let ring = Keyring::new(ParameterSpec::new(12, &[36, 32], &[37]), &[5]);
    let context = &ring.context;
    let values = test_values(ring.encoder.slots(), 1);
    let x = ring.encrypt(&values, 1, SCALE, 1);
    let x = Ciphertext::from_bytes(&x.to_bytes(context), context).unwrap();
    let keys = EvaluationKeys::from_bytes(&ring.keys.to_bytes(context), context).unwrap();
    assert_eq!(keys.manifest(), ring.keys.manifest());
    let fresh = ring.evaluator.rotate(&x, 5, &ring.keys).unwrap();
    assert!(ring.evaluator.rotate(&x, 5, &keys).unwrap() == fresh);
    let secret = SecretKey::from_bytes(&ring.secret.to_bytes(), context).unwrap();
    assert!(bool::from(secret.ct_eq(&ring.secret)));
    let other = SecretKey::generate(context, &mut rng(9));
    assert!(!bool::from(other.ct_eq(&ring.secret)));
}

#[test]
fn a_seeded_query_is_packed_to_the_bits_of_its_primes() {
    let ring = Keyring::new(ParameterSpec::new(13, &[38; 4], &[50]), &[]);
    let plain = ring.encoder.encode(&[1.0], 3, SCALE).unwrap();
    let encryptor = Encryptor::new(&ring.context, &ring.secret).unwrap();
    let bytes = encryptor
        .encrypt(&plain, &mut rng(1))
        .unwrap()
        .to_bytes(&ring.context);
    assert!(bytes.len() < 4 * 38 * 1024 + 200, "{}", bytes.len());
}

#[test]
fn damaged_headers_are_refused_by_name() {
    let kind = Kind::Ciphertext;
    assert_eq!(refused(kind, |b| b[0] ^= 1), CodecError::WrongMagic);
    assert_eq!(
        refused(kind, |b| b[6] = 99),
        CodecError::UnknownKind { found: 99 }
    );
    assert_eq!(
        refused(kind, |b| b[6] = 64),
        CodecError::UnknownKind { found: 64 }
    );
    let found = Kind::SeededCiphertext;
    assert_eq!(
        refused(kind, |b| b[6] = 5),
        CodecError::WrongKind {
            found,
            expected: kind
        }
    );
    assert!(matches!(
        refused(kind, |b| b[7] = 1),
        CodecError::BadField { .. }
    ));
    // Public keys of version 2 have no special primes.
    for found in [VERSION - 1, VERSION + 1] {
        let expected = VERSION;
        let refused = refused(kind, |b| {
            b[8] = found as u8;
            repair(b);
        });
        assert_eq!(refused, CodecError::WrongVersion { found, expected });
    }
    let digest = refused(kind, |b| {
        b[10] ^= 1;
        repair(b);
    });
    assert!(matches!(digest, CodecError::WrongParameters { .. }));
    assert!(matches!(
        refused(kind, |b| b[42] ^= 1),
        CodecError::LengthMismatch { .. }
    ));
    assert!(matches!(
        refused(kind, |b| b[49] = 1),
        CodecError::AboveLimit { .. }
    ));
    assert!(matches!(
        refused(kind, |b| b.push(0)),
        CodecError::LengthMismatch { .. }
    ));
    assert_eq!(
        refused(kind, |b| *b.last_mut().unwrap() ^= 1),
        CodecError::Checksum
    );
    assert_eq!(refused(kind, |b| b[100] ^= 1), CodecError::Checksum);
}

#[test]
fn every_truncation_is_refused() {
    let objects = objects();
    for (kind, bytes) in &objects.bytes {
        let stride = (bytes.len() / 64).max(1);
        for end in (0..bytes.len()).step_by(stride).chain([bytes.len() - 1]) {
            let parsed = reencode(*kind, &bytes[..end], &objects.ring.context);
            assert!(
                matches!(parsed, Err(Error::Codec(_))),
                "{kind} cut to {end}"
            );
        }
    }
}

#[test]
fn contents_that_do_not_fit_are_refused() {
    let content = HEADER_BYTES;
    let change = |kind, at: usize, byte: u8| {
        refused(kind, |b| {
            b[content + at] = byte;
            repair(b);
        })
    };
    // Part count, ternary digit, key flag, coefficient.
    assert!(matches!(
        change(Kind::Ciphertext, 25, 1),
        CodecError::BadField { .. }
    ));
    assert!(matches!(
        change(Kind::Ciphertext, 25, 3),
        CodecError::Truncated { .. }
    ));
    assert!(matches!(
        change(Kind::SecretKey, 16, 0xff),
        CodecError::BadField { .. }
    ));
    assert!(matches!(
        change(Kind::EvaluationKeys, 16, 2),
        CodecError::BadField { .. }
    ));
    let full = refused(Kind::Ciphertext, |b| {
        b[content + 26..content + 26 + 26].fill(0xff);
        repair(b);
    });
    assert_eq!(full, CodecError::NonCanonical { limb: 0, index: 0 });
}

#[test]
fn scales_that_the_modulus_cannot_hold_are_refused() {
    let objects = objects();
    let (_, bytes) = objects
        .bytes
        .iter()
        .find(|(kind, _)| *kind == Kind::Ciphertext)
        .unwrap();
    for (scale, codec) in [(2f64.powi(30), false), (f64::NAN, true), (0.5, true)] {
        let mut bytes = bytes.clone();
        let at = HEADER_BYTES + 17;
        bytes[at..at + 8].copy_from_slice(&scale.to_bits().to_le_bytes());
        repair(&mut bytes);
        let error = Ciphertext::from_bytes(&bytes, &objects.ring.context).unwrap_err();
        assert_eq!(
            matches!(error, Error::Codec(CodecError::BadField { .. })),
            codec,
            "{scale}"
        );
        assert_eq!(matches!(error, Error::BadScale { .. }), !codec, "{scale}");
    }
}

#[test]
fn transparent_ciphertexts_are_refused() {
    let transparent = refused(Kind::Ciphertext, |b| {
        let half = HEADER_BYTES + 26 + 2048 / 8 * 26;
        let end = b.len() - CHECKSUM_BYTES;
        b[half..end].fill(0);
        repair(b);
    });
    assert_eq!(transparent, CodecError::Transparent);
}

#[test]
fn insecure_parameters_in_a_file_are_refused() {
    let set = Parameters::new(ParameterSpec::new(13, &[41; 4], &[50])).unwrap();
    let mut bytes = encode_parameters(&set);
    // The ring degree field: N = 2^12 certifies only 106 bits.
    bytes[HEADER_BYTES + 1] = 12;
    repair(&mut bytes);
    assert!(matches!(
        decode_parameters(&bytes),
        Err(Error::InsecureParameters { bound: 106, .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn mutated_objects_never_panic_and_never_reencode_differently(
        which in 0usize..8,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        near_front in any::<bool>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
        repaired in any::<bool>(),
    ) {
        let objects = objects();
        let (kind, bytes) = &objects.bytes[which];
        let mut bytes = bytes.clone();
        let range = if near_front { bytes.len().min(160) } else { bytes.len() };
        for (at, byte) in changes {
            bytes[at.index(range)] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if repaired && bytes.len() > HEADER_BYTES + CHECKSUM_BYTES {
            let content = (bytes.len() - HEADER_BYTES - CHECKSUM_BYTES) as u64;
            bytes[42..50].copy_from_slice(&content.to_le_bytes());
            repair(&mut bytes);
        }
        if let Ok(again) = reencode(*kind, &bytes, &objects.ring.context) {
            prop_assert!(again == bytes, "accepted bytes must be canonical");
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for (kind, _) in &objects().bytes {
            prop_assert!(reencode(*kind, &bytes, &objects().ring.context).is_err());
        }
    }
}
