//! Exact arithmetic with keys from fixed seeds, and the same sums on integers.

use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_core::Rng;
use scuro_fhe::bgv::{BgvContext, Ciphertext, Encoder, Evaluator};
use scuro_fhe::keys::{EvaluationKeys, KeyManifest};
use scuro_fhe::owner::bgv::{Decryptor, Encryptor};
use scuro_fhe::owner::{KeyGenerator, SecretKey};
use scuro_fhe::params::{ParameterSpec, Parameters};
use scuro_fhe::{Context, Kernel, RingKind};

use super::rng;

/// Steps that there are keys for.
pub(crate) const STEPS: [usize; 3] = [1, 5, 700];

/// Both roles in one hand.
pub(crate) struct Exact {
    pub(crate) context: Arc<BgvContext>,
    pub(crate) encoder: Encoder,
    pub(crate) evaluator: Evaluator,
    pub(crate) secret: SecretKey,
    pub(crate) keys: EvaluationKeys,
}

/// A context of the standard ring.
pub(crate) fn core(log_n: u32, q_bits: &[u32], p_bits: &[u32], kernel: Kernel) -> Arc<Context> {
    over(RingKind::Standard, log_n, q_bits, p_bits, kernel)
}

/// A context.
pub(crate) fn over(
    ring: RingKind,
    log_n: u32,
    q_bits: &[u32],
    p_bits: &[u32],
    kernel: Kernel,
) -> Arc<Context> {
    let spec = ParameterSpec {
        ring,
        ..ParameterSpec::new(log_n, q_bits, p_bits)
    };
    Context::with_kernel(Parameters::new(spec).unwrap(), kernel).unwrap()
}

impl Exact {
    /// Keys for a plaintext prime of so many bits.
    pub(crate) fn new(core: &Arc<Context>, plain_bits: u32) -> Self {
        let top = core.parameters().max_level();
        let steps = STEPS.map(|step| (step, top));
        let manifest = KeyManifest {
            relinearization: Some(top),
            rotations: steps.into(),
            conjugation: (core.parameters().ring() == RingKind::Standard).then_some(top),
            relinearized_rotations: steps.into(),
            public: false,
        };
        let secret = SecretKey::generate(core, &mut rng(7));
        let generator = KeyGenerator::new(core, &secret).unwrap();
        let keys = generator.evaluation_keys(&manifest, &mut rng(8)).unwrap();
        let context = BgvContext::with_plain_bits(core, plain_bits).unwrap();
        Self {
            encoder: Encoder::new(&context),
            evaluator: Evaluator::new(&context),
            context,
            secret,
            keys,
        }
    }

    /// The plaintext prime.
    pub(crate) fn t(&self) -> i64 {
        self.context.plain_modulus().value() as i64
    }

    /// The highest level.
    pub(crate) fn top(&self) -> usize {
        self.context.context().parameters().max_level()
    }

    /// Random integers modulo t.
    pub(crate) fn values(&self, seed: u64) -> Vec<i64> {
        let (mut rng, t) = (rng(seed), self.context.plain_modulus());
        let value = |rng: &mut ChaCha20Rng| t.centre(t.reduce(rng.next_u64()));
        (0..self.encoder.slots()).map(|_| value(&mut rng)).collect()
    }

    /// A fresh secret-key ciphertext.
    pub(crate) fn encrypt(&self, values: &[i64], level: usize, seed: u64) -> Ciphertext {
        let plain = self.encoder.encode(values, level).unwrap();
        let encryptor = Encryptor::new(&self.context, &self.secret).unwrap();
        let seeded = encryptor.encrypt(&plain, &mut rng(seed)).unwrap();
        seeded.expand(&self.context).unwrap()
    }

    /// A decryptor.
    pub(crate) fn decryptor(&self) -> Decryptor<'_> {
        Decryptor::new(&self.context, &self.secret).unwrap()
    }

    /// Panics unless the slots are the expected ones, with noise budget left.
    #[track_caller]
    pub(crate) fn check(&self, ciphertext: &Ciphertext, expected: &[i64]) {
        let budget = self.decryptor().noise_budget(ciphertext).unwrap();
        assert!(budget > 0.5, "only {budget} bits of noise budget left");
        let found = self.decryptor().decrypt(ciphertext).unwrap();
        assert!(found == expected, "decryption is not exact");
    }

    /// Slot by slot, modulo t.
    pub(crate) fn zip(&self, a: &[i64], b: &[i64], f: impl Fn(i128, i128) -> i128) -> Vec<i64> {
        let pairs = a.iter().zip(b);
        pairs
            .map(|(&a, &b)| centred(f(a.into(), b.into()), self.t()))
            .collect()
    }

    /// Each row rotated.
    pub(crate) fn rotated(&self, values: &[i64], step: usize) -> Vec<i64> {
        let row = values.len() / self.context.rows();
        let at = |p: usize| values[p / row * row + (p + step) % row];
        (0..values.len()).map(at).collect()
    }

    /// Rows exchanged.
    pub(crate) fn swapped(&self, values: &[i64]) -> Vec<i64> {
        let (first, second) = values.split_at(values.len() / 2);
        [second, first].concat()
    }
}

/// In (-t/2, t/2].
pub(crate) fn centred(x: i128, t: i64) -> i64 {
    let residue = x.rem_euclid(t.into()) as i64;
    if residue > t / 2 {
        residue - t
    } else {
        residue
    }
}
