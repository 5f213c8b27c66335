//! What the constructors refuse.

use scuro_polyring::{BaseConverter, Basis, Error, Kernel, Modulus, Ring, RingKind, primes};

fn ring() -> Ring {
    let kind = RingKind::Standard;
    let moduli = primes::ntt_primes(40, kind.root_order(5), 2, &[]).unwrap();
    Ring::new(kind, 5, &moduli, Kernel::detect()).unwrap()
}

#[test]
fn moduli_must_be_odd_primes_below_two_to_the_fifty() {
    for found in [0, 1, 2, 4, (1 << 50) + 1, u64::MAX] {
        assert_eq!(Modulus::new(found), Err(Error::ModulusOutOfRange { found }));
    }
    for found in [9, 561, 1_373_653, (1 << 49) + 1] {
        assert_eq!(Modulus::new(found), Err(Error::ModulusNotPrime { found }));
    }
}

#[test]
fn primes_are_nearest_first_distinct_and_congruent_to_one() {
    let order = RingKind::ConjugateInvariant.root_order(13);
    let primes = primes::ntt_primes(41, order, 8, &[]).unwrap();
    let distance = |p: &u64| p.abs_diff(1 << 41);
    assert!(
        primes
            .windows(2)
            .all(|pair| distance(&pair[0]) <= distance(&pair[1]))
    );
    assert!(
        primes
            .iter()
            .all(|p| p % order == 1 && primes::is_prime(*p))
    );
    let others = primes::ntt_primes(41, order, 2, &primes).unwrap();
    assert!(others.iter().all(|p| !primes.contains(p)));
    assert!(
        primes::ntt_primes(50, order, 4, &[])
            .unwrap()
            .iter()
            .all(|p| p >> 50 == 0)
    );
    assert!(matches!(
        primes::ntt_primes(51, order, 1, &[]),
        Err(Error::PrimeSizeOutOfRange { found: 51, .. })
    ));
    assert!(matches!(
        primes::ntt_primes(18, order, 50, &[]),
        Err(Error::TooFewPrimes { .. })
    ));
}

#[test]
fn rings_refuse_wrong_degrees_and_moduli() {
    let kernel = Kernel::detect();
    let new = |log_n, moduli: &[u64]| Ring::new(RingKind::Standard, log_n, moduli, kernel).err();
    assert!(matches!(
        new(3, &[97]),
        Some(Error::DegreeOutOfRange { found: 3, .. })
    ));
    assert!(matches!(
        new(17, &[97]),
        Some(Error::DegreeOutOfRange { found: 17, .. })
    ));
    assert_eq!(
        new(4, &[97, 97]),
        Some(Error::ModulusRepeated { found: 97 })
    );
    assert_eq!(new(4, &[97]), None);
    assert_eq!(
        new(6, &[97]),
        Some(Error::NoRootOfUnity {
            modulus: 97,
            order: 128
        })
    );
}

#[test]
fn kernels_are_known_by_name_only() {
    let found = "sse".to_owned();
    assert_eq!(Kernel::named("sse"), Err(Error::UnknownKernel { found }));
}

#[test]
fn automorphisms_need_odd_elements_below_the_order() {
    let ring = ring();
    for found in [0, 2, 64, 65] {
        let refused = ring.permutation(found).err();
        assert_eq!(refused, Some(Error::NotAGaloisElement { found, order: 64 }));
    }
}

#[test]
fn base_conversion_needs_disjoint_bases_of_the_ring() {
    let ring = ring();
    let new = |from, to| BaseConverter::new(&ring, from, to).err();
    let [first, both, outside] = [0..1, 0..2, 2..3].map(Basis::range);
    assert_eq!(new(first.clone(), both), Some(Error::BasesNotDisjoint));
    assert_eq!(
        new(Basis::range(0..0), first.clone()),
        Some(Error::BasesNotDisjoint)
    );
    assert_eq!(
        new(first, outside),
        Some(Error::BasisOutOfRange {
            found: 2,
            moduli: 2
        })
    );
}
