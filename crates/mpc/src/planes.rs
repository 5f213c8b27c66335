//! Bits of many numbers, one plane of words for each bit.

/// One bit of every element, 64 to a word; bits behind the last element mean nothing.
pub(crate) type Plane = Vec<u64>;

/// Bits of a number.
pub(crate) const BITS: usize = 32;
const WORD: usize = 64;

/// The planes of numbers, lowest bit first.
pub(crate) fn planes(numbers: &[u32]) -> Vec<Plane> {
    let mut planes = vec![vec![0; numbers.len().div_ceil(WORD)]; BITS];
    for (word, numbers) in numbers.chunks(WORD).enumerate() {
        let mut low = [0; BITS];
        let mut high = [0; BITS];
        let (first, second) = numbers.split_at(numbers.len().min(BITS));
        low[..first.len()].copy_from_slice(first);
        high[..second.len()].copy_from_slice(second);
        transpose(&mut low);
        transpose(&mut high);
        for (plane, (low, high)) in planes.iter_mut().zip(low.into_iter().zip(high)) {
            plane[word] = u64::from(low) | u64::from(high) << BITS;
        }
    }
    planes
}

/// Bit `i` of number `j` becomes bit `j` of number `i`.
///
/// Source: Warren 2012, "Hacker's Delight", section 7-3; differs in that bit 0 is the lowest
fn transpose(rows: &mut [u32; BITS]) {
    let (mut step, mut mask) = (16, 0x0000_ffffu32);
    while step != 0 {
        for k in (0..BITS).filter(|k| k & step == 0) {
            let moved = ((rows[k] >> step) ^ rows[k + step]) & mask;
            rows[k] ^= moved << step;
            rows[k + step] ^= moved;
        }
        step >>= 1;
        mask ^= mask << step;
    }
}

/// The bit of element `at`.
pub(crate) fn bit(plane: &[u64], at: usize) -> u64 {
    plane[at / WORD] >> (at % WORD) & 1
}

pub(crate) fn xor(left: &[u64], right: &[u64]) -> Plane {
    left.iter().zip(right).map(|(l, r)| l ^ r).collect()
}

pub(crate) fn xor_assign(left: &mut [u64], right: &[u64]) {
    left.iter_mut().zip(right).for_each(|(l, r)| *l ^= r);
}

pub(crate) fn and_assign(left: &mut [u64], right: &[u64]) {
    left.iter_mut().zip(right).for_each(|(l, r)| *l &= r);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_hold_every_bit_of_every_number() {
        for len in [1, 31, 32, 33, 64, 65, 200] {
            let number = |at: u32| at.wrapping_mul(0x9e37_79b9).rotate_left(at);
            let numbers: Vec<u32> = (0..len).map(number).collect();
            let planes = planes(&numbers);
            for (at, number) in numbers.iter().enumerate() {
                for (place, plane) in planes.iter().enumerate() {
                    assert_eq!(bit(plane, at), u64::from(number >> place & 1));
                }
            }
        }
    }
}
