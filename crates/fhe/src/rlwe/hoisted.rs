//! Many automorphisms of few polynomials: digits are lifted once, and each key is read once.

use scuro_polyring::{AlignedBuffer, Ntt, Poly};

use super::{Streamed, division};
use crate::context::Context;
use crate::keys::GaloisKey;

/// Where a row of a result belongs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Index of the ciphertext.
    pub(crate) input: usize,
    /// Index of the key.
    pub(crate) key: usize,
    /// Row of Q_level.
    pub(crate) row: usize,
    /// 0 for the body, 1 for the mask.
    pub(crate) half: usize,
}

/// Switches every input (body, mask) with every key and divides by P. `emit` gets row after row of
/// the results, to which the key's automorphism is still to be applied.
///
/// Row by row and in each row key by key, so that a row of a key is read from memory once for all
/// inputs.
pub(crate) fn rotate_all(
    context: &Context,
    inputs: &[[&Poly<Ntt>; 2]],
    keys: &[&GaloisKey],
    level: usize,
    mut emit: impl FnMut(Place, &[u64]),
) {
    let n = context.ring().degree();
    let mut digits: Vec<Streamed<'_>> = inputs
        .iter()
        .map(|[_, mask]| Streamed::new(context, mask.words(), level))
        .collect();
    let division = context.division(level, false);
    let prepared_len = division.converter.prepared_rows() * n;
    let prepared = special_rows(context, &mut digits, keys, level);
    let mut work = AlignedBuffer::recycled(3 * n);
    let (sums, lifted) = work.split_at_mut(2 * n);
    for row in 0..=level {
        let mut remainders = prepared.chunks_exact(prepared_len);
        for (key, galois) in keys.iter().enumerate() {
            for (input, digits) in digits.iter_mut().enumerate() {
                let (body, mask) = sums.split_at_mut(n);
                digits.inner_product(context, &galois.key, row, [body, mask]);
                for (half, sum) in sums.chunks_exact_mut(n).enumerate() {
                    let Some(remainder) = remainders.next() else {
                        unreachable!("one remainder for each input, key and half");
                    };
                    division::subtract_lifted(context, division, row, sum, remainder, lifted);
                    if half == 0 {
                        let own = inputs[input][0].limb(row);
                        context.ring().prime(row).add_assign(sum, own);
                    }
                    let place = Place {
                        input,
                        key,
                        row,
                        half,
                    };
                    emit(place, sum);
                }
            }
        }
    }
}

/// The results modulo P, ready to be lifted: [keys][inputs][2][prepared rows][n].
fn special_rows(
    context: &Context,
    digits: &mut [Streamed<'_>],
    keys: &[&GaloisKey],
    level: usize,
) -> AlignedBuffer {
    let (ring, n) = (context.ring(), context.ring().degree());
    let converter = &context.division(level, false).converter;
    let len = converter.prepared_rows() * n;
    let mut prepared = AlignedBuffer::recycled(keys.len() * digits.len() * 2 * len);
    for special in 0..context.special_count() {
        let row = level + 1 + special;
        let mut pairs = prepared.chunks_exact_mut(2 * len);
        for galois in keys {
            for (digits, pair) in digits.iter_mut().zip(pairs.by_ref()) {
                let (body, mask) = pair.split_at_mut(len);
                let range = special * n..(special + 1) * n;
                let (body, mask) = (&mut body[range.clone()], &mut mask[range]);
                digits.inner_product(context, &galois.key, row, [&mut *body, &mut *mask]);
                let prime = ring.prime(context.modulus_index(row, level));
                prime.inverse(body);
                prime.inverse(mask);
            }
        }
    }
    for rows in prepared.chunks_exact_mut(len) {
        converter.prepare(ring, rows);
    }
    prepared
}
