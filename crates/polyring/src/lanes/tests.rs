use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::{Lanes, ScalarMatrix, TILE};
use crate::kernel::Kernel;
use crate::modulus::Modulus;
use crate::primes;

fn tiles(rng: &mut ChaCha20Rng, q: Modulus, count: usize) -> Vec<[u64; TILE]> {
    let extreme = |word: u64| match word >> 61 {
        0 => q.value() - 1,
        1 => 0,
        _ => q.reduce(word),
    };
    (0..count)
        .map(|_| std::array::from_fn(|_| extreme(rng.next_u64())))
        .collect()
}

fn sparse(rng: &mut ChaCha20Rng, rows: usize, columns: u32, bits: u32) -> Vec<Vec<(u32, i32)>> {
    let bound = (1i64 << bits) - 1;
    let sets = [3, 5, 7].map(|step| (rng.next_u32() % step..columns).step_by(step as usize));
    (0..rows)
        .map(|r| {
            let set = sets[r % 3].clone();
            let mut weight = || match rng.next_u32() % 5 {
                0 => bound,
                1 => -bound,
                _ => i64::from(rng.next_u32()) % (bound + 1),
            };
            set.map(|c| (c, weight() as i32)).collect()
        })
        .collect()
}

/// Every kernel against 128-bit sums.
fn check(modulus_bits: u32, weight_bits: u32, rows: usize, columns: usize) {
    let mut rng = ChaCha20Rng::seed_from_u64(u64::from(modulus_bits * 64 + weight_bits));
    let q = primes::ntt_primes(modulus_bits, 1 << 12, 1, &[]).unwrap()[0];
    let q = Modulus::new(q).unwrap();
    let entries = sparse(&mut rng, rows, columns as u32, weight_bits);
    let matrix = ScalarMatrix::new(columns, &entries);
    let xs = tiles(&mut rng, q, columns);
    let xs: Vec<&[u64; TILE]> = xs.iter().collect();
    for kernel in Kernel::available() {
        let mut outs = vec![[u64::MAX; TILE]; rows];
        Lanes::new(q, kernel).matrix(&matrix, &mut outs, &xs);
        for (r, row) in entries.iter().enumerate() {
            for lane in 0..TILE {
                let terms = row
                    .iter()
                    .map(|&(c, w)| i128::from(w) * i128::from(xs[c as usize][lane]));
                let expected = q.reduce_signed_wide(terms.sum());
                assert_eq!(outs[r][lane], expected, "{kernel} row {r} lane {lane}");
            }
        }
    }
}

#[test]
fn matrices_of_small_weights_agree_with_wide_sums() {
    check(40, 11, 13, 100);
    check(40, 11, 1, 1);
    check(30, 7, 26, 845);
    check(36, 1, 10, 40);
}

#[test]
fn matrices_that_exceed_words_agree_with_wide_sums() {
    check(50, 11, 7, 30);
    check(40, 20, 6, 30);
    check(45, 31, 6, 30);
    check(40, 11, 3, 30_000);
}

#[test]
fn a_row_without_entries_gives_zero() {
    let q = Modulus::new(primes::ntt_primes(40, 1 << 12, 1, &[]).unwrap()[0]).unwrap();
    let matrix = ScalarMatrix::new(2, &[vec![], vec![(1, -1)]]);
    let x = [5; TILE];
    let mut outs = vec![[9; TILE]; 2];
    Lanes::new(q, Kernel::detect()).matrix(&matrix, &mut outs, &[&x, &x]);
    assert_eq!(outs, [[0; TILE], [q.value() - 5; TILE]]);
}

#[test]
fn rows_of_a_convolution_share_their_panels() {
    // One row of nine positions, kernel of three, two maps.
    let rows = (0..7u32).flat_map(|p| [1, 2].map(|m| (0..3).map(|k| (p + k, m)).collect()));
    let matrix = ScalarMatrix::new(9, &rows.collect::<Vec<_>>());
    assert_eq!((matrix.blocks.len(), matrix.panels.len()), (7, 1));
    assert_eq!(matrix.products(), 7 * 3 * 2);
}
