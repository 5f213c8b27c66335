//! Ring products and decryption against Microsoft SEAL (`vectors/ckks`), on every kernel.

use scuro_polyring::{Basis, Coeff, Kernel, Poly, Ring, RingKind};
use scuro_testkit::vectors::{CkksSet, Limbs};

const RINGS: [(&str, RingKind); 2] = [
    ("standard", RingKind::Standard),
    ("real", RingKind::ConjugateInvariant),
];

/// Runs a check on both rings and every kernel that the processor has.
fn on_every_ring(check: impl Fn(&CkksSet, &Ring)) {
    for (name, kind) in RINGS {
        let set = CkksSet::load(name);
        for kernel in Kernel::available() {
            let ring = Ring::new(kind, set.log_n, &set.q, kernel).expect("SEAL's primes fit");
            check(&set, &ring);
        }
    }
}

fn poly(ring: &Ring, limbs: &Limbs) -> Poly<Coeff> {
    let mut poly = Poly::zero(ring, Basis::range(0..limbs.len()));
    for (row, limb) in limbs.iter().enumerate() {
        poly.limb_mut(row).copy_from_slice(limb);
    }
    poly
}

fn limbs(poly: &Poly<Coeff>) -> Limbs {
    poly.rows().map(|(_, row)| row.to_vec()).collect()
}

#[test]
fn a_ring_product_equals_seals() {
    on_every_ring(|set, ring| {
        let cipher = &set.parts("cipher_a", 2)[0][..1];
        let mut product = poly(ring, &cipher.to_vec()).into_ntt(ring);
        product.mul_assign(ring, &poly(ring, &set.limbs("plain_a")).into_ntt(ring));
        assert_eq!(limbs(&product.into_coeff(ring)), set.limbs("a_by_plain_a"));
    });
}

#[test]
fn a_ciphertext_product_equals_seals() {
    on_every_ring(|set, ring| {
        let [a, b] = ["cipher_a", "cipher_b"].map(|name| {
            let parts = set.parts(name, 2);
            parts
                .iter()
                .map(|part| poly(ring, part).into_ntt(ring))
                .collect::<Vec<_>>()
        });
        let mut parts = [a[0].clone(), a[0].clone(), a[1].clone()];
        parts[0].mul_assign(ring, &b[0]);
        parts[1].mul_assign(ring, &b[1]);
        parts[1].mul_add_assign(ring, &a[1], &b[0]);
        parts[2].mul_assign(ring, &b[1]);
        let found: Vec<Limbs> = parts
            .into_iter()
            .map(|p| limbs(&p.into_coeff(ring)))
            .collect();
        assert_eq!(found, set.parts("product", 2));
    });
}

#[test]
fn a_ciphertext_of_seal_decrypts_to_its_plaintext_and_a_small_error() {
    on_every_ring(|set, ring| {
        let q = set.q[0];
        let parts = set.parts("cipher_a", 2);
        let secret = Poly::from_small(ring, Basis::range(0..1), &set.secret()).into_ntt(ring);
        let mut message = poly(ring, &parts[1][..1].to_vec()).into_ntt(ring);
        message.mul_assign(ring, &secret);
        message.add_assign(ring, &poly(ring, &parts[0][..1].to_vec()).into_ntt(ring));
        message.sub_assign(ring, &poly(ring, &set.limbs("plain_a")).into_ntt(ring));
        let error = message.into_coeff(ring);
        let largest = error.limb(0).iter().map(|&e| e.min(q - e)).max();
        // Fresh SEAL errors are below 21; the trace into the real ring and its halved message add
        // 21.
        assert!(
            largest.is_some_and(|e| e <= 64),
            "largest error {largest:?}"
        );
    });
}
