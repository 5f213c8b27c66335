//! BGV and BFV: SEAL's ciphertexts decrypt here, products agree (`vectors/bgv`, `vectors/bfv`).

use std::sync::Arc;

use scuro_fhe::bfv::{self, BfvContext};
use scuro_fhe::bgv::{BgvContext, Ciphertext, Evaluator};
use scuro_fhe::keys::{EvaluationKeys, KeyManifest};
use scuro_fhe::owner::bgv::Decryptor;
use scuro_fhe::owner::{KeyGenerator, SecretKey};
use scuro_fhe::params::{ParameterSpec, Parameters};
use scuro_fhe::{Context, RingKind};
use scuro_polyring::{Ntt, Poly};
use scuro_testkit::vectors::{ExactSet, Limbs};

use crate::{coefficients, foreign_secret, from_coefficients};

/// One vector set under SEAL's secret key.
struct Fixture {
    set: ExactSet,
    context: Arc<BgvContext>,
    invariant: Arc<BfvContext>,
    secret: SecretKey,
    keys: EvaluationKeys,
}

impl Fixture {
    fn new(name: &str) -> Self {
        let set = ExactSet::load(name);
        let spec = ParameterSpec {
            ring: RingKind::Standard,
            ..ParameterSpec::new(set.log_n, &[36, 33], &[37])
        };
        let parameters = Parameters::new(spec).unwrap();
        assert_eq!((parameters.q(), parameters.p()), (&set.q[..], &set.p[..]));
        let core = Context::new(parameters).unwrap();
        let secret = foreign_secret(&core, &set.secret());
        let manifest = KeyManifest {
            relinearization: Some(1),
            rotations: [(set.step, 1)].into(),
            conjugation: Some(1),
            ..KeyManifest::default()
        };
        let generator = KeyGenerator::new(&core, &secret).unwrap();
        let keys = generator.evaluation_keys(&manifest, &mut crate::rng());
        let context = BgvContext::new(&core, set.t).unwrap();
        Self {
            invariant: BfvContext::new(&context).unwrap(),
            keys: keys.unwrap(),
            set,
            context,
            secret,
        }
    }

    fn polys(&self, name: &str, limbs: usize) -> Vec<Poly<Ntt>> {
        let parts = self.set.parts(name, limbs);
        let poly = |part| from_coefficients(self.context.context(), part);
        parts.iter().map(poly).collect()
    }

    /// SEAL's BGV ciphertext.
    fn textbook(&self, name: &str, limbs: usize, factor: u64) -> Ciphertext {
        let (parts, key) = (self.polys(name, limbs), self.secret.key_id());
        Ciphertext::from_textbook(&self.context, parts, factor, key).unwrap()
    }

    /// SEAL's BFV ciphertext.
    fn invariant(&self, name: &str, limbs: usize) -> bfv::Ciphertext {
        let (parts, key) = (self.polys(name, limbs), self.secret.key_id());
        let factor = self.context.scale_invariant_factor(limbs - 1).unwrap();
        let exact = Ciphertext::from_parts(&self.context, parts, factor, key).unwrap();
        bfv::Ciphertext::from_exact(&self.invariant, exact).unwrap()
    }

    /// Decrypts to what SEAL decrypts and to the exact values.
    #[track_caller]
    fn check(&self, found: &Ciphertext, name: &str, exact: &[i64]) {
        let decryptor = Decryptor::new(&self.context, &self.secret).unwrap();
        assert!(decryptor.noise_budget(found).unwrap() > 0.5);
        let found = decryptor.decrypt(found).unwrap();
        let theirs = self.set.slots(name);
        assert!(!theirs.is_empty() && found[..theirs.len()] == theirs);
        assert!(found == exact);
    }

    /// a, b, a * b, a rotated, a with its rows exchanged.
    fn values(&self) -> [Vec<i64>; 5] {
        let (a, b) = (self.set.values(37, 11), self.set.values(53, 7));
        let product = a.iter().zip(&b).map(|(a, b)| self.set.centred(a * b));
        let (first, second) = a.split_at(a.len() / 2);
        let step = self.set.step;
        let turned = [first, second].map(|row| [&row[step..], &row[..step]].concat());
        let swapped = [second, first].concat();
        let product = product.collect();
        [a, b, product, turned.concat(), swapped]
    }
}

#[test]
fn bgv_ciphertexts_of_seal_decrypt_to_its_values() {
    let fixture = Fixture::new("bgv");
    let [a, b, product, rotated, swapped] = fixture.values();
    fixture.check(&fixture.textbook("cipher_a", 2, 1), "cipher_a", &a);
    fixture.check(&fixture.textbook("cipher_b", 2, 1), "cipher_b", &b);
    fixture.check(&fixture.textbook("product", 2, 1), "product", &product);
    fixture.check(&fixture.textbook("rotated_a", 2, 1), "rotated_a", &rotated);
    fixture.check(&fixture.textbook("swapped_a", 2, 1), "swapped_a", &swapped);
    // SEAL counts the factor of a modulus switch as this library does.
    let t = fixture.context.plain_modulus();
    let factor = t.inv(t.reduce(fixture.set.q[1])).unwrap();
    let switched = fixture.textbook("switched", 1, factor);
    fixture.check(&switched, "switched", &product);
}

#[test]
fn bgv_operations_on_ciphertexts_of_seal_agree_with_its_own() {
    let fixture = Fixture::new("bgv");
    let [_, _, product, rotated, swapped] = fixture.values();
    let evaluator = Evaluator::new(&fixture.context);
    let (a, b) = (
        fixture.textbook("cipher_a", 2, 1),
        fixture.textbook("cipher_b", 2, 1),
    );
    let found = evaluator.mul(&a, &b).unwrap();
    let parts = found.textbook_parts(&fixture.context);
    let core = fixture.context.context();
    let parts: Vec<Limbs> = parts.iter().map(|part| coefficients(core, part)).collect();
    assert_eq!(parts, fixture.set.parts("product", 2), "not bit by bit");
    fixture.check(&found, "product", &product);
    let switched = evaluator.mod_switch(&found).unwrap();
    fixture.check(&switched, "switched", &product);
    let two = evaluator.relinearize(&found, &fixture.keys).unwrap();
    fixture.check(&two, "product", &product);
    let turned = evaluator
        .rotate(&a, fixture.set.step, &fixture.keys)
        .unwrap();
    fixture.check(&turned, "rotated_a", &rotated);
    let exchanged = evaluator.swap_rows(&a, &fixture.keys).unwrap();
    fixture.check(&exchanged, "swapped_a", &swapped);
}

#[test]
fn bfv_ciphertexts_of_seal_decrypt_to_its_values() {
    let fixture = Fixture::new("bfv");
    let [a, b, product, rotated, swapped] = fixture.values();
    let check = |name, limbs, values: &[i64]| {
        fixture.check(fixture.invariant(name, limbs).exact(), name, values);
    };
    check("cipher_a", 2, &a);
    check("cipher_b", 2, &b);
    check("product", 2, &product);
    check("switched", 1, &product);
    check("rotated_a", 2, &rotated);
    check("swapped_a", 2, &swapped);
}

#[test]
fn bfv_operations_on_ciphertexts_of_seal_decrypt_as_its_own() {
    let fixture = Fixture::new("bfv");
    let [_, _, product, rotated, swapped] = fixture.values();
    let evaluator = bfv::Evaluator::new(&fixture.invariant);
    let (a, b) = (
        fixture.invariant("cipher_a", 2),
        fixture.invariant("cipher_b", 2),
    );
    let found = evaluator.mul(&a, &b).unwrap();
    fixture.check(found.exact(), "product", &product);
    let switched = evaluator.mod_switch(&found).unwrap();
    fixture.check(switched.exact(), "switched", &product);
    let two = evaluator.relinearize(&found, &fixture.keys).unwrap();
    fixture.check(two.exact(), "product", &product);
    let turned = evaluator
        .rotate(&a, fixture.set.step, &fixture.keys)
        .unwrap();
    fixture.check(turned.exact(), "rotated_a", &rotated);
    let exchanged = evaluator.swap_rows(&a, &fixture.keys).unwrap();
    fixture.check(exchanged.exact(), "swapped_a", &swapped);
    // Noise of a product is no larger than SEAL's by more than a bit.
    let decryptor = Decryptor::new(&fixture.context, &fixture.secret).unwrap();
    let budget = |c: &bfv::Ciphertext| decryptor.noise_budget(c.exact()).unwrap();
    assert!(budget(&found) > budget(&fixture.invariant("product", 2)) - 1.0);
}
