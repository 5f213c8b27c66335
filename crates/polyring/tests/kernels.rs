//! Every kernel of this processor against schoolbook arithmetic in 128-bit integers, and against
//! each other.

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use scuro_polyring::{
    BaseConverter, Basis, Kernel, Modulus, PairProducts, Poly, PrimeRing, Ring, RingKind,
    RowFactors, RowPairs, automorphism_coefficients, primes, sampling,
};

const KINDS: [RingKind; 2] = [RingKind::Standard, RingKind::ConjugateInvariant];

fn prime_ring(kind: RingKind, log_n: u32, bits: u32, kernel: Kernel) -> PrimeRing {
    let primes = primes::ntt_primes(bits, kind.root_order(log_n), 1, &[]).unwrap();
    PrimeRing::new(Modulus::new(primes[0]).unwrap(), kind, log_n, kernel).unwrap()
}

fn random_row(rng: &mut ChaCha20Rng, q: u64, n: usize) -> Vec<u64> {
    (0..n).map(|_| rng.next_u64() % q).collect()
}

/// Mostly random, with the extreme residues mixed in.
fn adversarial_row(rng: &mut ChaCha20Rng, q: u64, n: usize) -> Vec<u64> {
    let edge = [0, 1, q / 2, q / 2 + 1, q - 2, q - 1];
    let pick = |word: u64| {
        if word & 1 == 0 {
            edge[(word >> 1) as usize % 6]
        } else {
            word % q
        }
    };
    (0..n).map(|_| pick(rng.next_u64())).collect()
}

/// The product from the definition of the ring.
fn schoolbook(kind: RingKind, q: u64, x: &[u64], y: &[u64]) -> Vec<u64> {
    let n = x.len();
    let mul = |a: u64, b: u64| u128::from(a) * u128::from(b) % u128::from(q);
    // Both are embedded in Z_q[X]/(X^m + 1).
    let (m, x, y) = match kind {
        RingKind::Standard => (n, x.to_vec(), y.to_vec()),
        RingKind::ConjugateInvariant => (2 * n, symmetric(q, x), symmetric(q, y)),
    };
    let mut product = vec![0u128; m];
    for (i, &a) in x.iter().enumerate() {
        for (j, &b) in y.iter().enumerate() {
            let term = mul(a, b);
            let (at, term) = if i + j < m {
                (i + j, term)
            } else {
                (i + j - m, u128::from(q) - term)
            };
            product[at] = (product[at] + term) % u128::from(q);
        }
    }
    product[..n].iter().map(|&v| v as u64).collect()
}

/// a_0 + Σ a_i (X^i + X^-i) with X^-i = -X^(2N-i).
fn symmetric(q: u64, x: &[u64]) -> Vec<u64> {
    let n = x.len();
    let mut full = vec![0; 2 * n];
    full[..n].copy_from_slice(x);
    for i in 1..n {
        full[2 * n - i] = (q - x[i]) % q;
    }
    full
}

fn product(ring: &PrimeRing, x: &[u64], y: &[u64]) -> Vec<u64> {
    let (mut x, mut y) = (x.to_vec(), y.to_vec());
    ring.forward(&mut x);
    ring.forward(&mut y);
    ring.mul_assign(&mut x, &y);
    ring.inverse(&mut x);
    x
}

#[test]
#[allow(
    clippy::print_stdout,
    reason = "the test run says which kernels it compared"
)]
fn the_run_names_its_kernels() {
    let names: Vec<&str> = Kernel::available().into_iter().map(Kernel::name).collect();
    println!("kernels of this processor: {}", names.join(", "));
    assert_eq!(names[0], "portable");
    assert_eq!(Kernel::detect().name(), *names.last().unwrap());
    for name in names {
        assert_eq!(Kernel::named(name).unwrap().name(), name);
    }
}

#[test]
fn products_follow_the_definition_of_the_ring() {
    for kernel in Kernel::available() {
        for kind in KINDS {
            for (log_n, bits) in [
                (4, 20),
                (5, 50),
                (6, 30),
                (7, 50),
                (8, 45),
                (9, 50),
                (10, 49),
            ] {
                let ring = prime_ring(kind, log_n, bits, kernel);
                let q = ring.modulus().value();
                let mut rng = ChaCha20Rng::seed_from_u64(u64::from(log_n));
                let x = adversarial_row(&mut rng, q, 1 << log_n);
                let y = adversarial_row(&mut rng, q, 1 << log_n);
                let expected = schoolbook(kind, q, &x, &y);
                assert_eq!(
                    product(&ring, &x, &y),
                    expected,
                    "{kernel} {kind:?} 2^{log_n}"
                );
            }
        }
    }
}

#[test]
fn transforms_of_all_kernels_agree_and_invert() {
    for kind in KINDS {
        for log_n in 4..=16 {
            for bits in [36, 46, 47, 48, 49, 50] {
                let q = prime_ring(kind, log_n, bits, Kernel::named("portable").unwrap());
                let mut rng = ChaCha20Rng::seed_from_u64(u64::from(100 * log_n + bits));
                let x = adversarial_row(&mut rng, q.modulus().value(), 1 << log_n);
                let mut expected = x.clone();
                q.forward(&mut expected);
                for kernel in Kernel::available() {
                    let ring = prime_ring(kind, log_n, bits, kernel);
                    let mut values = x.clone();
                    ring.forward(&mut values);
                    assert!(
                        values == expected,
                        "{kernel} {kind:?} 2^{log_n} {bits} bits"
                    );
                    let mut apart = vec![0; values.len()];
                    ring.inverse_from(&mut apart, &values);
                    assert!(
                        apart == x,
                        "inverse to another row: {kernel} {kind:?} 2^{log_n} {bits} bits"
                    );
                    ring.inverse(&mut values);
                    assert!(
                        values == x,
                        "inverse: {kernel} {kind:?} 2^{log_n} {bits} bits"
                    );
                }
            }
        }
    }
}

#[test]
fn transforms_of_residues_of_another_prime_lift_them_first() {
    for kind in KINDS {
        for log_n in [4, 7, 9, 10, 12, 13, 14] {
            for (bits, source_bits) in [(41, 41), (41, 50), (50, 41), (47, 47), (49, 50), (50, 50)]
            {
                let order = kind.root_order(log_n);
                let source = primes::ntt_primes(source_bits, order, 2, &[]).unwrap()[1];
                let source = Modulus::new(source).unwrap();
                let mut rng = ChaCha20Rng::seed_from_u64(u64::from(100 * log_n + bits));
                let x = adversarial_row(&mut rng, source.value(), 1 << log_n);
                for kernel in Kernel::available() {
                    let ring = prime_ring(kind, log_n, bits, kernel);
                    let mut expected = vec![0; x.len()];
                    ring.lift_centred(&mut expected, &x, source);
                    ring.forward(&mut expected);
                    let mut out = vec![1; x.len()];
                    ring.forward_lifted(&mut out, &x, source);
                    assert!(
                        out == expected,
                        "{kernel} {kind:?} 2^{log_n} {source_bits} -> {bits}"
                    );
                }
            }
        }
    }
}

#[test]
fn transforms_evaluate_at_the_published_roots() {
    for kernel in Kernel::available() {
        for kind in KINDS {
            let log_n = 7;
            let order = kind.root_order(log_n);
            let prime = primes::ntt_primes(40, order, 1, &[]).unwrap()[0];
            let ring = Ring::new(kind, log_n, &[prime], kernel).unwrap();
            let q = ring.prime(0).modulus();
            let mut rng = ChaCha20Rng::seed_from_u64(3);
            let x = random_row(&mut rng, prime, 1 << log_n);
            let mut values = x.clone();
            ring.prime(0).forward(&mut values);
            let psi = q.root_of_unity(order).unwrap();
            for (value, &exponent) in values.iter().zip(ring.exponents()) {
                let root = q.pow(psi, u64::from(exponent));
                assert_eq!(*value, evaluate(kind, q, &x, root));
            }
        }
    }
}

fn evaluate(kind: RingKind, q: Modulus, x: &[u64], root: u64) -> u64 {
    let inverse = q.inv(root).unwrap();
    let mut sum = x[0];
    for (i, &a) in x.iter().enumerate().skip(1) {
        let power = q.pow(root, i as u64);
        let basis = match kind {
            RingKind::Standard => power,
            RingKind::ConjugateInvariant => q.add(power, q.pow(inverse, i as u64)),
        };
        sum = q.add(sum, q.mul(a, basis));
    }
    sum
}

#[test]
fn automorphisms_permute_the_values_at_roots() {
    for kernel in Kernel::available() {
        for kind in KINDS {
            for log_n in [4, 5, 6, 8, 11, 13] {
                let prime = primes::ntt_primes(45, kind.root_order(log_n), 1, &[]).unwrap()[0];
                let ring = Ring::new(kind, log_n, &[prime], kernel).unwrap();
                let mut rng = ChaCha20Rng::seed_from_u64(11);
                let n = ring.degree();
                let x = random_row(&mut rng, prime, n);
                let rotations = [0, 1, -1, 5, 7].map(|steps| ring.rotation_element(steps));
                for element in rotations.into_iter().chain([ring.conjugation_element()]) {
                    let mut expected = vec![0; n];
                    let q = ring.prime(0).modulus();
                    automorphism_coefficients(kind, q, element, &mut expected, &x);
                    ring.prime(0).forward(&mut expected);
                    let mut values = x.clone();
                    ring.prime(0).forward(&mut values);
                    let mut image = vec![0; n];
                    ring.permutation(element)
                        .unwrap()
                        .apply(&mut image, &values);
                    assert!(image == expected, "{kernel} {kind:?} 2^{log_n} {element}");
                    images_are_added_and_laid_out(&ring, element, &values, &image);
                }
            }
        }
    }
}

/// The image of `values` arrives the same whichever way it is taken.
fn images_are_added_and_laid_out(ring: &Ring, element: u64, values: &[u64], image: &[u64]) {
    let (permutation, prime) = (ring.permutation(element).unwrap(), ring.prime(0));
    let mut expected = values.to_vec();
    prime.add_assign(&mut expected, image);
    let mut sum = values.to_vec();
    permutation.add_image(prime.modulus(), &mut sum, values);
    assert!(sum == expected, "{} {element}", ring.kernel());
    let mut pairs = RowPairs::recycled(2, values.len(), 3);
    for (term, half) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)] {
        pairs.set(1, term, half, values);
    }
    pairs.set_image(1, 1, 1, values, &permutation);
    let mut out = vec![0; values.len()];
    for (term, half) in [(0, 1), (1, 0), (1, 1), (2, 0)] {
        pairs.get(1, term, half, &mut out);
        let expected = if (term, half) == (1, 1) {
            image
        } else {
            values
        };
        assert!(out == expected, "{} {element}", ring.kernel());
    }
}

#[test]
fn lazy_sums_equal_schoolbook_sums_at_their_bounds() {
    let n = 1 << 6;
    for kernel in Kernel::available() {
        let ring = prime_ring(RingKind::Standard, 6, 50, kernel);
        let q = ring.modulus().value();
        for terms in [0, 1, 2, 3, 7, 4096, 4099] {
            let row = vec![q - 1; n];
            let rows = vec![row.as_slice(); terms];
            let expected = (terms as u128 * u128::from(q - 1).pow(2) % u128::from(q)) as u64;
            let mut out = vec![1; n];
            ring.dot(&mut out, &rows, &rows);
            assert_eq!(out, vec![expected; n], "{kernel}: {terms} terms");
            let weights = vec![q - 1; terms];
            if terms <= 4096 {
                ring.weighted_sum(&mut out, &weights, &rows);
                assert_eq!(out, vec![expected; n], "{kernel}: {terms} weighted terms");
            }
            if (1..=4096).contains(&terms) {
                let (pairs, mut other) = (row_pairs(&rows, &rows, None), vec![1; n]);
                let (shared, pairs) = (&rows[..], pairs.row(0));
                ring.dot_row_pairs([&mut out, &mut other], &[PairProducts { shared, pairs }]);
                assert_eq!((&out, &other), (&vec![expected; n], &vec![expected; n]));
            }
        }
        let row = vec![q - 1; n];
        let rows = row_pairs(
            &vec![row.as_slice(); 1024],
            &vec![row.as_slice(); 1024],
            None,
        );
        let (mut outs, operands) = (
            [vec![0; n], vec![0; n], vec![0; n]],
            Vec::from_iter(0..1024),
        );
        let [a, b, c] = &mut outs;
        ring.tensor_row_pairs([a, b, c], rows.row(0), rows.row(0), &operands);
        let expected = [vec![1024; n], vec![2048; n], vec![1024; n]];
        assert_eq!(outs, expected, "{kernel}");
        let pairs = vec![[row.as_slice(); 2]; 2048];
        let mut outs = [vec![0; n], vec![0; n], vec![0; n]];
        let [a, b, c] = &mut outs;
        ring.tensor([a, b, c], &pairs, &pairs);
        assert_eq!(
            outs,
            [vec![2048; n], vec![4096; n], vec![2048; n]],
            "{kernel}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn slice_operations_equal_128_bit_arithmetic(seed in any::<u64>(), bits in 20u32..=50) {
        let n = 64;
        for kernel in Kernel::available() {
            let ring = prime_ring(RingKind::Standard, 6, bits, kernel);
            let q = ring.modulus();
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let [x, y, z] = [0; 3].map(|_| adversarial_row(&mut rng, q.value(), n));
            let w = rng.next_u64() % q.value();
            check_slices(&ring, &x, &y, &z, w);
        }
    }

    #[test]
    fn sums_of_products_equal_128_bit_arithmetic(seed in any::<u64>(), terms in 1usize..40) {
        let n = 64;
        for kernel in Kernel::available() {
            let ring = prime_ring(RingKind::Standard, 6, 50, kernel);
            let q = ring.modulus().value();
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let rows: Vec<_> = (0..4 * terms).map(|_| adversarial_row(&mut rng, q, n)).collect();
            check_sums(&ring, &rows, terms);
        }
    }

    #[test]
    fn base_conversion_keeps_the_centred_integer(seed in any::<u64>(), sources in 1usize..5) {
        for kernel in Kernel::available() {
            let order = RingKind::Standard.root_order(5);
            let mut moduli = primes::ntt_primes(44, order, 4, &[]).unwrap();
            moduli.extend(primes::ntt_primes(50, order, 3, &moduli).unwrap());
            let ring = Ring::new(RingKind::Standard, 5, &moduli, kernel).unwrap();
            check_conversion(&ring, sources, seed);
        }
    }
}

fn check_slices(ring: &PrimeRing, x: &[u64], y: &[u64], z: &[u64], w: u64) {
    let q = ring.modulus().value();
    let wide = |f: &dyn Fn(u128, u128, u128) -> u128| -> Vec<u64> {
        let rows = x.iter().zip(y).zip(z);
        rows.map(|((&x, &y), &z)| (f(x.into(), y.into(), z.into()) % u128::from(q)) as u64)
            .collect()
    };
    let wide_q = u128::from(q);
    let scalar = ring.multiplier(w);
    let w = u128::from(w);
    let run = |f: &dyn Fn(&mut Vec<u64>)| {
        let mut out = x.to_vec();
        f(&mut out);
        out
    };
    assert_eq!(run(&|out| ring.add(out, x, y)), wide(&|x, y, _| x + y));
    assert_eq!(run(&|out| ring.add_assign(out, y)), wide(&|x, y, _| x + y));
    assert_eq!(
        run(&|out| ring.sub(out, x, y)),
        wide(&|x, y, _| x + wide_q - y)
    );
    assert_eq!(
        run(&|out| ring.sub_assign(out, y)),
        wide(&|x, y, _| x + wide_q - y)
    );
    assert_eq!(
        run(&|out| ring.neg_assign(out)),
        wide(&|x, _, _| wide_q - x)
    );
    assert_eq!(run(&|out| ring.mul(out, x, y)), wide(&|x, y, _| x * y));
    assert_eq!(run(&|out| ring.mul_assign(out, y)), wide(&|x, y, _| x * y));
    assert_eq!(
        run(&|out| ring.mul_add_assign(out, y, z)),
        wide(&|x, y, z| x + y * z)
    );
    assert_eq!(
        run(&|out| ring.mul_scalar(out, x, scalar)),
        wide(&|x, _, _| x * w)
    );
    assert_eq!(
        run(&|out| ring.mul_scalar_assign(out, scalar)),
        wide(&|x, _, _| x * w)
    );
    assert_eq!(
        run(&|out| ring.mul_scalar_add_assign(out, y, scalar)),
        wide(&|x, y, _| x + y * w)
    );
    let difference = wide(&|x, y, _| (x + wide_q - y) % wide_q * w);
    assert_eq!(
        run(&|out| ring.sub_mul_scalar(out, x, y, scalar)),
        difference
    );
    assert_eq!(
        run(&|out| ring.sub_mul_scalar_assign(out, y, scalar)),
        difference
    );
    check_reductions(ring, x);
}

fn check_reductions(ring: &PrimeRing, x: &[u64]) {
    let q = ring.modulus().value();
    let run = |f: &dyn Fn(&mut Vec<u64>)| {
        let mut out = x.to_vec();
        f(&mut out);
        out
    };
    let words: Vec<u64> = x
        .iter()
        .map(|x| x.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .collect();
    let expected: Vec<u64> = words.iter().map(|word| word % q).collect();
    assert_eq!(run(&|out| ring.reduce(out, &words)), expected);
    let signed: Vec<i64> = words.iter().map(|&word| word as i64).collect();
    let expected: Vec<u64> = signed
        .iter()
        .map(|s| s.rem_euclid(q as i64) as u64)
        .collect();
    assert_eq!(run(&|out| ring.reduce_signed(out, &signed)), expected);
    let small: Vec<i8> = words.iter().map(|&word| word as i8).collect();
    let expected: Vec<u64> = small
        .iter()
        .map(|&s| i64::from(s).rem_euclid(q as i64) as u64)
        .collect();
    assert_eq!(run(&|out| ring.lift_small(out, &small)), expected);
}

/// One row of interleaved pairs, packed if values have a number of bits.
fn row_pairs(first: &[&[u64]], second: &[&[u64]], bits: Option<u32>) -> RowPairs {
    let degree = first.first().map_or(64, |row| row.len());
    let mut pairs = match bits {
        Some(bits) => RowPairs::packed([bits], degree, first.len()),
        None => RowPairs::recycled(1, degree, first.len()),
    };
    for (half, rows) in [first, second].into_iter().enumerate() {
        for (term, row) in rows.iter().enumerate() {
            pairs.set(0, term, half, row);
            let mut back = vec![0; degree];
            pairs.get(0, term, half, &mut back);
            assert_eq!(back, *row);
        }
    }
    pairs
}

fn check_sums(ring: &PrimeRing, rows: &[Vec<u64>], terms: usize) {
    let (q, n) = (u128::from(ring.modulus().value()), rows[0].len());
    let group = |i: usize| -> Vec<&[u64]> {
        rows[i * terms..(i + 1) * terms]
            .iter()
            .map(Vec::as_slice)
            .collect()
    };
    let [a, b, c, d] = [0, 1, 2, 3].map(group);
    let sum = |x: &[&[u64]], y: &[&[u64]]| -> Vec<u128> {
        let term = |at: usize| {
            x.iter()
                .zip(y)
                .map(move |(x, y)| u128::from(x[at]) * u128::from(y[at]))
        };
        (0..n).map(|at| term(at).sum::<u128>() % q).collect()
    };
    let narrow = |sums: Vec<u128>| -> Vec<u64> { sums.iter().map(|&s| (s % q) as u64).collect() };
    let mut outs = [vec![1; n], vec![2; n], vec![3; n]];
    ring.dot(&mut outs[0], &a, &b);
    assert_eq!(outs[0], narrow(sum(&a, &b)));
    let [out_0, out_1, out_2] = &mut outs;
    let bits = ring.modulus().bits();
    let keys = [None, Some(bits)].map(|bits| row_pairs(&b, &c, bits));
    // A key of a higher level has more terms than are used.
    let used = &a[..terms.div_ceil(2)];
    let switched = |x: &[&[u64]]| {
        let (one, two) = (sum(used, x), sum(&d, x));
        let both = one.iter().zip(two).map(|(one, two)| one + two).collect();
        [narrow(one), narrow(both)]
    };
    check_switches(ring, [used, &d], &keys, [switched(&b), switched(&c)]);
    let [pairs, _] = &keys;
    // Operands in another order than terms.
    let operands: Vec<usize> = (0..terms).rev().collect();
    let [b_back, c_back, d_back]: [Vec<&[u64]>; 3] =
        [&b, &c, &d].map(|x| x.iter().rev().copied().collect());
    for run in [1, n / 4, n] {
        let even: Vec<Vec<u64>> = a.iter().map(|row| in_runs(row, run)).collect();
        let even: Vec<&[u64]> = even.iter().map(Vec::as_slice).collect();
        let expected = [&b_back, &c_back].map(|back| narrow(sum(&even, back)));
        check_factors(ring, (&even, run), (pairs, &operands), &expected);
    }
    let left: Vec<[&[u64]; 2]> = a.iter().zip(&b).map(|(&a, &b)| [a, b]).collect();
    let right: Vec<[&[u64]; 2]> = c.iter().zip(&d).map(|(&c, &d)| [c, d]).collect();
    ring.tensor([out_0, out_1, out_2], &left, &right);
    let cross = sum(&a, &d)
        .iter()
        .zip(sum(&b, &c))
        .map(|(x, y)| x + y)
        .collect();
    let expected = [narrow(sum(&a, &c)), narrow(cross), narrow(sum(&b, &d))];
    assert_eq!(outs, expected);
    let pairs = row_pairs(&c_back, &d_back, None);
    for bits in [None, Some(bits)] {
        let weights = row_pairs(&a, &b, bits);
        let [out_0, out_1, out_2] = &mut outs;
        out_1.fill(0);
        let (first, second) = (weights.block(0, 0, n), pairs.block(0, 0, n));
        ring.tensor_row_pairs([out_0, out_1, out_2], first, second, &operands);
        assert_eq!(outs, expected, "packed to {bits:?} bits");
    }
}

/// The first value of every run, all along it.
fn in_runs(row: &[u64], run: usize) -> Vec<u64> {
    let run = run.max(1);
    (0..row.len()).map(|at| row[at / run * run]).collect()
}

/// Factors that are the same along every run, in one block and in several.
fn check_factors(
    ring: &PrimeRing,
    (rows, run): (&[&[u64]], usize),
    (pairs, operands): (&RowPairs, &[usize]),
    expected: &[Vec<u64>; 2],
) {
    let n = rows[0].len();
    let mut factors = RowFactors::packed([ring.modulus().bits()], n, rows.len(), run.max(1));
    for (term, row) in rows.iter().enumerate() {
        factors.set(0, term, row);
    }
    for block in [n, n / 2, n / 8] {
        if block == 0 || !block.is_multiple_of(n.min(32)) {
            continue;
        }
        for start in (0..n).step_by(block) {
            let (mut out_0, mut out_1) = (vec![1; block], vec![2; block]);
            let (first, second) = (factors.block(0, start, block), pairs.block(0, start, block));
            ring.dot_row_factors([&mut out_0, &mut out_1], first, second, operands);
            let expected = expected.each_ref().map(|row| &row[start..start + block]);
            assert_eq!([&out_0[..], &out_1[..]], expected, "runs of {run}");
        }
    }
}

/// The first inner product alone and both in one sum, with keys packed or not; of each half both
/// results are expected.
fn check_switches(
    ring: &PrimeRing,
    [first, second]: [&[&[u64]]; 2],
    keys: &[RowPairs; 2],
    expected: [[Vec<u64>; 2]; 2],
) {
    let n = expected[0][0].len();
    let (mut out_0, mut out_1) = (vec![1; n], vec![2; n]);
    let [[one_0, both_0], [one_1, both_1]] = &expected;
    let [whole, packed] = keys.each_ref().map(|pairs| pairs.row(0));
    for [key, other] in [[whole, whole], [packed, packed], [packed, whole]] {
        let products = |shared, pairs| PairProducts { shared, pairs };
        let terms = [products(first, key), products(second, other)];
        ring.dot_row_pairs([&mut out_0, &mut out_1], &terms[..1]);
        assert_eq!([&out_0, &out_1], [one_0, one_1]);
        ring.dot_row_pairs([&mut out_0, &mut out_1], &terms);
        assert_eq!([&out_0, &out_1], [both_0, both_1]);
    }
}

fn check_conversion(ring: &Ring, sources: usize, seed: u64) {
    let n = ring.degree();
    let moduli: Vec<u64> = ring.moduli().map(Modulus::value).collect();
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    // Random 62-bit integers, or smaller than half of the only source prime.
    let product = moduli[..sources]
        .iter()
        .fold(1, |p: u128, &q| p.saturating_mul(q.into()));
    let bound = (product / 2).min(1 << 62) as i64;
    let integers: Vec<i64> = (0..n).map(|_| rng.next_u64() as i64 % bound).collect();
    let poly = Poly::from_signed(ring, Basis::range(0..moduli.len()), &integers);
    let converter = BaseConverter::new(
        ring,
        Basis::range(0..sources),
        Basis::range(4..moduli.len()),
    )
    .unwrap();
    let xs: Vec<&[u64]> = (0..sources).map(|i| poly.limb(i)).collect();
    let mut outs = vec![vec![0; n]; moduli.len() - 4];
    let mut slices: Vec<&mut [u64]> = outs.iter_mut().map(Vec::as_mut_slice).collect();
    converter.convert(ring, &mut slices, &xs);
    for (i, out) in outs.iter().enumerate() {
        assert_eq!(out, poly.limb(4 + i), "{} target {i}", ring.kernel());
    }
    // With f = -3^-1 and g = -3 the factors undo each other but for multiples of the sources'
    // product B: -3·[-3^-1·x] = x + k·B with |k| <= 2.
    let bases = [0..sources, 4..moduli.len()].map(Basis::range);
    let [from, to] = bases;
    let before = |b: Modulus| b.neg(b.inv(3).unwrap());
    let converter = BaseConverter::with_factors(ring, from, to, before, |p| p.neg(3)).unwrap();
    let mut slices: Vec<&mut [u64]> = outs.iter_mut().map(Vec::as_mut_slice).collect();
    converter.convert(ring, &mut slices, &xs);
    let primes: Vec<Modulus> = ring.moduli().collect();
    let multiple = |p: Modulus, k: i64| {
        let product = primes[..sources].iter();
        let product = product.fold(1, |product, b| p.mul(product, p.reduce(b.value())));
        p.mul(p.reduce_signed(k), product)
    };
    for c in 0..n {
        let holds = |k: i64| {
            let mut targets = outs.iter().zip(&primes[4..]).enumerate();
            targets.all(|(i, (out, &p))| out[c] == p.add(poly.limb(4 + i)[c], multiple(p, k)))
        };
        assert_eq!(
            (-2..=2).filter(|&k| holds(k)).count(),
            1,
            "{}",
            ring.kernel()
        );
    }
}

#[test]
fn samplers_give_equal_values_on_every_kernel() {
    let mut expected = None;
    for kernel in Kernel::available() {
        let mut out = vec![0; 5000];
        sampling::gaussian(&mut ChaCha20Rng::seed_from_u64(5), kernel, &mut out);
        assert_eq!(*expected.get_or_insert(out.clone()), out, "{kernel}");
    }
}
