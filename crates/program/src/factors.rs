//! What the messages of exact programs are multiplied by.

use crate::parameters::Scheme;
use crate::program::{Program, ValueShape};
use crate::step::{Operation, Step};

impl Program {
    /// The public factor, modulo the plaintext prime t, of every value of an exact program, the
    /// query's first: with BGV, dividing by a prime q multiplies messages by q^-1, with BFV they
    /// are those of the modulus Q of their level, -Q. All 1 for approximate programs.
    ///
    /// `shapes` are those of [`Program::validate`], `primes` the ciphertext primes, lowest level
    /// first, `plain` the plaintext prime.
    pub fn factors(&self, shapes: &[ValueShape], primes: &[u64], plain: u64) -> Vec<u64> {
        match self.parameters.scheme {
            Scheme::Ckks => vec![1; shapes.len()],
            Scheme::Bgv { .. } => self.followed_factors(shapes, primes, plain),
            Scheme::Bfv { .. } => {
                let of =
                    |shape: &ValueShape| scale_invariant(&primes[..=shape.level as usize], plain);
                shapes.iter().map(of).collect()
            }
        }
    }

    fn followed_factors(&self, shapes: &[ValueShape], primes: &[u64], plain: u64) -> Vec<u64> {
        let mut factors = vec![1];
        for step in &self.steps {
            factors.push(factor_of(step, &factors, shapes, primes, plain));
        }
        factors
    }
}

/// -Q modulo a prime.
fn scale_invariant(primes: &[u64], plain: u64) -> u64 {
    let modulus = primes
        .iter()
        .fold(1, |q, &prime| product(q, prime % plain, plain));
    plain - modulus
}

fn factor_of(
    step: &Step,
    factors: &[u64],
    shapes: &[ValueShape],
    primes: &[u64],
    plain: u64,
) -> u64 {
    let operand = |i: usize| factors[step.inputs[i].0 as usize];
    match &step.operation {
        Operation::Square => product(operand(0), operand(0), plain),
        Operation::Multiply => product(operand(0), operand(1), plain),
        Operation::Rescale => {
            let level = shapes[step.inputs[0].0 as usize].level as usize;
            product(operand(0), inverse(primes[level], plain), plain)
        }
        _ => operand(0),
    }
}

fn product(left: u64, right: u64, modulus: u64) -> u64 {
    (u128::from(left) * u128::from(right) % u128::from(modulus)) as u64
}

/// `value^(p - 2)` modulo a prime p (Fermat).
fn inverse(value: u64, prime: u64) -> u64 {
    let (mut power, mut base, mut exponent) = (1, value % prime, prime - 2);
    while exponent > 0 {
        if exponent & 1 == 1 {
            power = product(power, base, prime);
        }
        base = product(base, base, prime);
        exponent >>= 1;
    }
    power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_invariant_factors_follow_from_the_modulus_alone() {
        let (t, primes) = (65537, [786_433, 7_340_033]);
        let modulus = primes.iter().map(|&q| u128::from(q)).product::<u128>();
        let factor = u128::from(scale_invariant(&primes, t));
        assert_eq!((factor + modulus) % u128::from(t), 0);
        // Dividing by a prime takes one to the other.
        let lower = scale_invariant(&primes[..1], t);
        let switched = product(factor as u64, inverse(primes[1], t), t);
        assert_eq!(lower, switched);
    }

    #[test]
    fn inverses_are_inverses() {
        for prime in [17, 65537, 1_099_511_480_321] {
            for value in [2, 5, 1_125_899_906_826_241] {
                assert_eq!(product(value % prime, inverse(value, prime), prime), 1);
            }
        }
    }
}
