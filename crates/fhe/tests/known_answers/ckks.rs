//! CKKS: encode, decrypt, multiply, relinearise, rotate and rescale (`vectors/ckks`), over the
//! standard and the conjugate-invariant ring.
//!
//! Operations that are exact must agree bit by bit. Those that add an error of their own (key
//! switching) must decrypt to what SEAL decrypts, within a bound.

use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use scuro_fhe::ckks::{Ciphertext, Encoder, Evaluator};
use scuro_fhe::keys::{EvaluationKeys, KeyManifest};
use scuro_fhe::owner::{Decryptor, KeyGenerator, SecretKey};
use scuro_fhe::params::{ParameterSpec, Parameters};
use scuro_fhe::{Context, KeyId, RingKind};
use scuro_testkit::vectors::{CkksSet, Limbs};

use crate::{KEY_ID_BYTES, coefficients, foreign_secret, from_coefficients};

/// Fresh SEAL ciphertexts at scale 2^30 are this close to their message, and so are ours.
const FRESH: f64 = 3e-6;
/// Key switching with one 40-bit special prime adds up to this much at scale 2^30.
const SWITCHED: f64 = 2e-4;

/// Everything of one vector set, under SEAL's secret key.
struct Fixture {
    set: CkksSet,
    context: Arc<Context>,
    secret: SecretKey,
    keys: EvaluationKeys,
}

impl Fixture {
    fn new(name: &str, ring: RingKind) -> Self {
        let set = CkksSet::load(name);
        let mut spec = ParameterSpec::new(set.log_n, &[36, 30], &[40]);
        spec.ring = ring;
        let parameters = Parameters::new(spec).expect("the set is secure");
        assert_eq!((parameters.q(), parameters.p()), (&set.q[..], &set.p[..]));
        let context = Context::new(parameters).expect("the set is usable");
        let secret = foreign_secret(&context, &set.secret());
        let slots = context.parameters().slots();
        let manifest = KeyManifest {
            relinearization: Some(1),
            rotations: [(1, 1), (5, 1), (slots - 3, 1)].into(),
            conjugation: None,
            ..KeyManifest::default()
        };
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let generator = KeyGenerator::new(&context, &secret).expect("the key fits");
        let keys = generator
            .evaluation_keys(&manifest, &mut rng)
            .expect("the manifest fits");
        Self {
            set,
            context,
            secret,
            keys,
        }
    }

    fn evaluator(&self) -> Evaluator {
        Evaluator::new(&self.context)
    }

    fn ciphertext(&self, name: &str, limbs: usize, scale: f64) -> Ciphertext {
        let parts = self.set.parts(name, limbs);
        let parts = parts
            .iter()
            .map(|part| from_coefficients(&self.context, part))
            .collect();
        let made = Ciphertext::from_parts(&self.context, parts, scale, self.secret.key_id());
        made.expect("SEAL's ciphertext fits")
    }

    fn fresh(&self, name: &str) -> Ciphertext {
        self.ciphertext(name, 2, self.set.scale)
    }

    fn parts(&self, ciphertext: &Ciphertext) -> Vec<Limbs> {
        ciphertext
            .parts()
            .iter()
            .map(|part| coefficients(&self.context, part))
            .collect()
    }

    fn decrypt(&self, ciphertext: &Ciphertext) -> Vec<(f64, f64)> {
        let decryptor = Decryptor::new(&self.context, &self.secret).expect("the key fits");
        let plain = decryptor.decrypt(ciphertext).expect("it decrypts");
        let encoder = Encoder::new(&self.context);
        let (re, im) = encoder.decode_complex(&plain).expect("it decodes");
        // The real ring has no imaginary parts.
        re.into_iter()
            .zip(im.into_iter().chain(std::iter::repeat(0.0)))
            .collect()
    }

    fn values(&self, name: &str) -> Vec<(f64, f64)> {
        let slots = self.context.parameters().slots();
        let values = match name {
            "a" => self.set.values_a(slots),
            _ => self.set.values_b(slots),
        };
        match self.context.parameters().ring() {
            RingKind::Standard => values,
            RingKind::ConjugateInvariant => values.into_iter().map(|(re, _)| (re, 0.0)).collect(),
        }
    }

    /// Decrypts, and compares with SEAL's first slots and with the exact values of all slots.
    fn check(&self, found: &Ciphertext, name: &str, exact: &[(f64, f64)], tolerance: f64) {
        let found = self.decrypt(found);
        let theirs = self.set.slots(name);
        assert!(!theirs.is_empty() && found.len() == exact.len());
        for (what, expected) in [("SEAL", &theirs[..]), ("exact", exact)] {
            let worst = found
                .iter()
                .zip(expected)
                .map(|(x, y)| distance(*x, *y))
                .fold(0.0, f64::max);
            assert!(
                worst <= tolerance,
                "{name}: {worst:e} from {what}, at most {tolerance:e}"
            );
        }
    }
}

fn distance(x: (f64, f64), y: (f64, f64)) -> f64 {
    (x.0 - y.0).hypot(x.1 - y.1)
}

fn products(x: &[(f64, f64)], y: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let product =
        |(x, y): (&(f64, f64), &(f64, f64))| (x.0 * y.0 - x.1 * y.1, x.0 * y.1 + x.1 * y.0);
    x.iter().zip(y).map(product).collect()
}

fn on_both_rings(check: impl Fn(&Fixture)) {
    check(&Fixture::new("standard", RingKind::Standard));
    check(&Fixture::new("real", RingKind::ConjugateInvariant));
}

#[test]
fn an_encoding_equals_seals() {
    on_both_rings(|fixture| {
        let (re, im): (Vec<f64>, Vec<f64>) = fixture.values("a").into_iter().unzip();
        let encoder = Encoder::new(&fixture.context);
        let plain = match fixture.context.parameters().ring() {
            RingKind::Standard => encoder.encode_complex(&re, &im, 0, fixture.set.scale),
            RingKind::ConjugateInvariant => encoder.encode(&re, 0, fixture.set.scale),
        };
        let plain = plain.expect("the values fit");
        let (ours, theirs) = (
            coefficients(&fixture.context, plain.poly()),
            fixture.set.limbs("plain_a"),
        );
        let q = fixture.set.q[0];
        let difference = |(x, y): (&u64, &u64)| x.abs_diff(*y).min(q - x.abs_diff(*y));
        let worst = ours[0].iter().zip(&theirs[0]).map(difference).max();
        let differing = ours[0]
            .iter()
            .zip(&theirs[0])
            .filter(|(x, y)| x != y)
            .count();
        // Both round the same real number, computed in double precision along different ways.
        assert!(
            worst <= Some(1) && differing <= 4,
            "{differing} differ, by at most {worst:?}"
        );
    });
}

#[test]
fn ciphertexts_of_seal_decrypt_to_their_values() {
    on_both_rings(|fixture| {
        fixture.check(
            &fixture.fresh("cipher_a"),
            "cipher_a",
            &fixture.values("a"),
            FRESH,
        );
        fixture.check(
            &fixture.fresh("cipher_b"),
            "cipher_b",
            &fixture.values("b"),
            FRESH,
        );
    });
}

#[test]
fn a_product_equals_seals_bit_by_bit() {
    on_both_rings(|fixture| {
        let (a, b) = (fixture.fresh("cipher_a"), fixture.fresh("cipher_b"));
        let product = fixture.evaluator().mul(&a, &b).expect("they multiply");
        assert_eq!(fixture.parts(&product), fixture.set.parts("product", 2));
        let exact = products(&fixture.values("a"), &fixture.values("b"));
        fixture.check(&product, "product", &exact, FRESH);
    });
}

#[test]
fn a_product_with_a_plaintext_agrees_with_seals() {
    on_both_rings(|fixture| {
        let (re, im): (Vec<f64>, Vec<f64>) = fixture.values("a").into_iter().unzip();
        let encoder = Encoder::new(&fixture.context);
        let plain = match fixture.context.parameters().ring() {
            RingKind::Standard => encoder.encode_complex(&re, &im, 1, fixture.set.scale),
            RingKind::ConjugateInvariant => encoder.encode(&re, 1, fixture.set.scale),
        };
        let plain = plain.expect("the values fit");
        let product = fixture
            .evaluator()
            .mul_plain(&fixture.fresh("cipher_a"), &plain);
        let exact = products(&fixture.values("a"), &fixture.values("a"));
        fixture.check(
            &product.expect("they multiply"),
            "a_by_plain_a",
            &exact,
            FRESH,
        );
    });
}

#[test]
fn a_rescaled_product_equals_seals_bit_by_bit() {
    on_both_rings(|fixture| {
        let scale = fixture.set.scale * fixture.set.scale;
        let product = fixture.ciphertext("product", 2, scale);
        let rescaled = fixture
            .evaluator()
            .rescale(&product)
            .expect("a level is left");
        assert_eq!(fixture.parts(&rescaled), fixture.set.parts("rescaled", 1));
        assert!((rescaled.scale() / fixture.set.rescaled_scale - 1.0).abs() < 1e-12);
        // Rounding three parts costs the square of the secret's size.
        let exact = products(&fixture.values("a"), &fixture.values("b"));
        fixture.check(&rescaled, "rescaled", &exact, 4e-3);
    });
}

#[test]
fn a_relinearised_product_decrypts_as_seals() {
    on_both_rings(|fixture| {
        let scale = fixture.set.scale * fixture.set.scale;
        let product = fixture.ciphertext("product", 2, scale);
        let evaluator = fixture.evaluator();
        let two = evaluator
            .relinearize(&product, &fixture.keys)
            .expect("the key is there");
        assert_eq!(two.parts().len(), 2);
        let exact = products(&fixture.values("a"), &fixture.values("b"));
        fixture.check(&two, "relinearized", &exact, FRESH);
        let rescaled = evaluator.rescale(&two).expect("a level is left");
        fixture.check(&rescaled, "relinearized_rescaled", &exact, SWITCHED);
    });
}

#[test]
fn rotations_decrypt_as_seals() {
    on_both_rings(|fixture| {
        let slots = fixture.context.parameters().slots();
        let values = fixture.values("a");
        for (name, step) in [("1", 1), ("5", 5), ("-3", slots - 3)] {
            let cipher = fixture.fresh("cipher_a");
            let rotated = fixture.evaluator().rotate(&cipher, step, &fixture.keys);
            let exact: Vec<_> = (0..slots).map(|p| values[(p + step) % slots]).collect();
            let name = format!("rotated_a_by_{name}");
            fixture.check(&rotated.expect("the key is there"), &name, &exact, SWITCHED);
        }
    });
}

#[test]
fn a_ciphertext_of_another_key_is_refused() {
    let fixture = Fixture::new("real", RingKind::ConjugateInvariant);
    let parts = fixture.set.parts("cipher_a", 2);
    let parts = parts
        .iter()
        .map(|part| from_coefficients(&fixture.context, part))
        .collect();
    let other = KeyId([7; KEY_ID_BYTES]);
    let cipher = Ciphertext::from_parts(&fixture.context, parts, fixture.set.scale, other);
    let cipher = cipher.expect("it has the right shape");
    assert!(
        fixture
            .evaluator()
            .rotate(&cipher, 1, &fixture.keys)
            .is_err()
    );
    let decryptor = Decryptor::new(&fixture.context, &fixture.secret).expect("the key fits");
    assert!(decryptor.decrypt(&cipher).is_err());
}
