//! Homomorphic arithmetic: transforms, key switches, products, encoding.

use std::hint::black_box;
use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use scuro_fhe::ckks::{Ciphertext, Encoder, Evaluator};
use scuro_fhe::keys::{EvaluationKeys, KeyManifest};
use scuro_fhe::owner::{Decryptor, Encryptor, KeyGenerator, SecretKey};
use scuro_fhe::params::{ParameterSpec, Parameters};
use scuro_fhe::{Context, RingKind};

use super::case::{Case, Sampling, Settings};
use super::clock;
use crate::errors::Failure;

/// Scale of the messages.
const SCALE: f64 = (1u64 << 30) as f64;
/// Terms of the inner product.
const TERMS: usize = 16;
/// Batches measured of each case.
const SAMPLES: usize = 40;

/// All cases of the group.
pub(super) const CASES: &[Case] = &[
    Case::lower(
        "he.ntt.n8192",
        "forward NTT, one 50-bit prime",
        "us",
        4.3,
        |s| ntt(s, 13),
    ),
    Case::lower(
        "he.ntt.n16384",
        "forward NTT, one 50-bit prime",
        "us",
        9.3,
        |s| ntt(s, 14),
    ),
    Case::lower(
        "he.ntt.n32768",
        "forward NTT, one 50-bit prime",
        "us",
        20.0,
        |s| ntt(s, 15),
    ),
    Case::lower(
        "he.rotate.n8192",
        "rotation, 4 + 1 limbs",
        "ms",
        0.25,
        |s| rotate(s, SMALL),
    ),
    Case::lower(
        "he.rotate.n16384",
        "rotation, 8 + 1 limbs",
        "ms",
        1.9,
        |s| rotate(s, LARGE),
    ),
    Case::lower(
        "he.relinearize.n8192",
        "3 parts to 2, 4 + 1 limbs",
        "ms",
        0.25,
        |s| relinearize(s, SMALL),
    ),
    Case::lower(
        "he.relinearize.n16384",
        "3 parts to 2, 8 + 1 limbs",
        "ms",
        1.9,
        |s| relinearize(s, LARGE),
    ),
    Case::lower(
        "he.rotate-hoisted.n8192",
        "one of 16 rotations, 4 + 1 limbs",
        "ms",
        0.12,
        hoisted,
    ),
    Case::lower(
        "he.multiply.n8192",
        "ct * ct to 3 parts, 4 limbs",
        "us",
        15.0,
        multiply,
    ),
    Case::lower(
        "he.inner-product.n8192",
        "ct * ct, one of 16 terms",
        "us",
        8.0,
        inner_product,
    ),
    Case::lower(
        "he.rescale.n8192",
        "division by the last of 4 primes",
        "us",
        92.8,
        rescale,
    ),
    Case::lower(
        "he.encode.n8192",
        "8192 reals to a plaintext of 4 limbs",
        "us",
        60.0,
        encode,
    ),
    Case::lower(
        "he.decode.n8192",
        "plaintext of 2 limbs to 8192 reals",
        "us",
        100.0,
        decode,
    ),
    Case::lower(
        "he.encrypt-secret.n8192",
        "seeded, secret key, 4 limbs",
        "us",
        250.0,
        encrypt,
    ),
];

/// Ring degree, data primes and special prime of a measurement, in bits.
pub(super) type Shape = (u32, usize, u32, u32);
/// Four primes and a special one.
pub(super) const SMALL: Shape = (13, 4, 41, 50);
/// Eight primes and a special one.
pub(super) const LARGE: Shape = (14, 8, 47, 50);

/// Everything that the cases need, with fixed randomness.
pub(super) struct Bench {
    pub(super) context: Arc<Context>,
    pub(super) secret: SecretKey,
    pub(super) keys: EvaluationKeys,
    pub(super) encoder: Encoder,
    pub(super) evaluator: Evaluator,
    pub(super) rng: ChaCha20Rng,
}

impl Bench {
    pub(super) fn new(
        (log_n, limbs, q_bits, p_bits): Shape,
        rotations: &[usize],
    ) -> Result<Self, Failure> {
        let mut rng = ChaCha20Rng::from_seed([7; 32]);
        let mut spec = ParameterSpec::new(log_n, &vec![q_bits; limbs], &[p_bits]);
        spec.ring = RingKind::ConjugateInvariant;
        let context = Context::new(Parameters::new(spec)?)?;
        let secret = SecretKey::generate(&context, &mut rng);
        let level = limbs - 1;
        let manifest = KeyManifest {
            relinearization: Some(level),
            rotations: rotations.iter().map(|&step| (step, level)).collect(),
            ..KeyManifest::default()
        };
        let keys = KeyGenerator::new(&context, &secret)?.evaluation_keys(&manifest, &mut rng)?;
        let (encoder, evaluator) = (Encoder::new(&context), Evaluator::new(&context));
        Ok(Self {
            context,
            secret,
            keys,
            encoder,
            evaluator,
            rng,
        })
    }

    fn values(&mut self) -> Vec<f64> {
        let slots = self.context.parameters().slots();
        (0..slots)
            .map(|_| f64::from(self.rng.next_u32()) / f64::from(u32::MAX) - 0.5)
            .collect()
    }

    pub(super) fn ciphertext(&mut self) -> Result<Ciphertext, Failure> {
        let level = self.context.parameters().max_level();
        let values = self.values();
        let plain = self.encoder.encode(&values, level, SCALE)?;
        let seeded = Encryptor::new(&self.context, &self.secret)?.encrypt(&plain, &mut self.rng)?;
        Ok(seeded.expand(&self.context)?)
    }
}

/// Microseconds of a fallible operation; its first call says whether it works at all.
pub(super) fn time<T, E: Into<Failure>>(
    samples: usize,
    mut work: impl FnMut() -> Result<T, E>,
) -> Result<Sampling, Failure> {
    work().map_err(Into::into)?;
    Ok(clock::microseconds(samples, || {
        let _ = black_box(work());
    }))
}

fn ntt(settings: &Settings<'_>, log_n: u32) -> Result<Sampling, Failure> {
    let kind = scuro_polyring::RingKind::Standard;
    let primes = scuro_polyring::primes::ntt_primes(50, kind.root_order(log_n), 1, &[])?;
    let kernel = scuro_polyring::Kernel::detect();
    let ring = scuro_polyring::Ring::new(kind, log_n, &primes, kernel)?;
    let counted: Vec<u64> = (0..1u64 << log_n).collect();
    let mut values = scuro_polyring::AlignedBuffer::from_slice(&counted);
    time(settings.samples(SAMPLES), || {
        ring.prime(0).forward(black_box(&mut values));
        Ok::<(), Failure>(())
    })
}

fn rotate(settings: &Settings<'_>, shape: Shape) -> Result<Sampling, Failure> {
    let mut bench = Bench::new(shape, &[5])?;
    let ciphertext = bench.ciphertext()?;
    let sampling = time(settings.samples(SAMPLES), || {
        bench.evaluator.rotate(&ciphertext, 5, &bench.keys)
    })?;
    Ok(sampling.scaled(1e-3))
}

fn relinearize(settings: &Settings<'_>, shape: Shape) -> Result<Sampling, Failure> {
    let mut bench = Bench::new(shape, &[])?;
    let ciphertext = bench.ciphertext()?;
    let square = bench.evaluator.square(&ciphertext)?;
    let sampling = time(settings.samples(SAMPLES), || {
        bench.evaluator.relinearize(&square, &bench.keys)
    })?;
    Ok(sampling.scaled(1e-3))
}

fn hoisted(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let steps: Vec<usize> = (1..=16).collect();
    let mut bench = Bench::new(SMALL, &steps)?;
    let ciphertext = bench.ciphertext()?;
    let sampling = time(settings.samples(SAMPLES), || {
        bench
            .evaluator
            .rotate_hoisted(&ciphertext, &steps, &bench.keys)
    })?;
    Ok(sampling.scaled(1e-3 / steps.len() as f64))
}

fn multiply(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let mut bench = Bench::new(SMALL, &[])?;
    let (a, b) = (bench.ciphertext()?, bench.ciphertext()?);
    time(settings.samples(SAMPLES), || bench.evaluator.mul(&a, &b))
}

fn inner_product(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let mut bench = Bench::new(SMALL, &[])?;
    let mut row = || {
        (0..TERMS)
            .map(|_| bench.ciphertext())
            .collect::<Result<Vec<_>, _>>()
    };
    let (a, b) = (row()?, row()?);
    let (a, b): (Vec<&Ciphertext>, Vec<&Ciphertext>) = (a.iter().collect(), b.iter().collect());
    let sampling = time(settings.samples(SAMPLES), || {
        bench.evaluator.inner_product(&a, &b)
    })?;
    Ok(sampling.scaled(1.0 / TERMS as f64))
}

fn rescale(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let mut bench = Bench::new(SMALL, &[])?;
    let ciphertext = bench.ciphertext()?;
    time(settings.samples(SAMPLES), || {
        bench.evaluator.rescale(&ciphertext)
    })
}

fn encode(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let mut bench = Bench::new(SMALL, &[])?;
    let values = bench.values();
    let level = bench.context.parameters().max_level();
    time(settings.samples(SAMPLES), || {
        bench.encoder.encode(&values, level, SCALE)
    })
}

fn decode(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let mut bench = Bench::new(SMALL, &[])?;
    let ciphertext = bench.ciphertext()?;
    let low = bench.evaluator.mod_drop(&ciphertext, 1)?;
    let plain = Decryptor::new(&bench.context, &bench.secret)?.decrypt(&low)?;
    time(settings.samples(SAMPLES), || bench.encoder.decode(&plain))
}

fn encrypt(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let mut bench = Bench::new(SMALL, &[])?;
    let values = bench.values();
    let level = bench.context.parameters().max_level();
    let plain = bench.encoder.encode(&values, level, SCALE)?;
    let encryptor = Encryptor::new(&bench.context, &bench.secret)?;
    let rng = &mut bench.rng;
    time(settings.samples(SAMPLES), || encryptor.encrypt(&plain, rng))
}
