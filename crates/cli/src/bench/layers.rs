//! Encrypted weights and exact arithmetic: linear layers, products of BGV and BFV.

use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use scuro_fhe::circuits::linear::encrypted::{EncryptedDiagonal, EncryptedTransform};
use scuro_fhe::keys::{EvaluationKeys, KeyManifest};
use scuro_fhe::owner::{KeyGenerator, SecretKey};
use scuro_fhe::params::{ParameterSpec, Parameters};
use scuro_fhe::{Context, RingKind, bfv, bgv, ckks, owner};

use super::case::{Case, Sampling, Settings};
use super::he::{Bench, LARGE, SMALL, Shape, time};
use crate::errors::Failure;

/// Batches measured of a layer.
const SAMPLES: usize = 20;
/// Queries of a block.
const QUERIES: usize = 8;
/// Three primes of 50 bits and a special one.
const LAYER: Shape = (13, 3, 50, 50);
/// Size of the plaintext prime.
const PLAIN_BITS: u32 = 20;
/// Step of the rotations.
const STEP: usize = 5;

/// All cases.
pub(super) const CASES: &[Case] = &[
    Case::lower(
        "he.linear-encrypted.n8192",
        "2304 x 512 encrypted weights, one query, 3 + 1 limbs",
        "ms",
        9.0,
        |s| encrypted_layer(s, 1),
    ),
    Case::lower(
        "he.linear-encrypted-block.n8192",
        "the same, one of a block of 8 queries",
        "ms",
        6.0,
        |s| encrypted_layer(s, QUERIES),
    ),
    Case::lower(
        "he.bgv-multiply.n8192",
        "BGV ct * ct to 3 parts, 4 limbs",
        "us",
        20.0,
        |s| bgv(s, SMALL, |b, x| b.bgv.square(x).map(drop)),
    ),
    Case::lower(
        "he.bgv-multiply.n16384",
        "BGV ct * ct to 3 parts, 8 limbs",
        "us",
        80.0,
        |s| bgv(s, LARGE, |b, x| b.bgv.square(x).map(drop)),
    ),
    Case::lower(
        "he.bgv-switch.n8192",
        "BGV modulus switch, 4 limbs to 3",
        "us",
        92.8,
        |s| bgv(s, SMALL, |b, x| b.bgv.mod_switch(x).map(drop)),
    ),
    Case::lower(
        "he.bgv-switch.n16384",
        "BGV modulus switch, 8 limbs to 7",
        "us",
        400.0,
        |s| bgv(s, LARGE, |b, x| b.bgv.mod_switch(x).map(drop)),
    ),
    Case::lower(
        "he.bgv-rotate.n8192",
        "BGV rotation, 4 + 1 limbs",
        "us",
        250.0,
        |s| bgv(s, SMALL, |b, x| b.bgv.rotate(x, STEP, &b.keys).map(drop)),
    ),
    Case::lower(
        "he.bgv-rotate.n16384",
        "BGV rotation, 8 + 1 limbs",
        "us",
        1900.0,
        |s| bgv(s, LARGE, |b, x| b.bgv.rotate(x, STEP, &b.keys).map(drop)),
    ),
    Case::lower(
        "he.bfv-multiply.n8192",
        "BFV ct * ct to 3 parts, 4 limbs",
        "ms",
        1.0,
        |s| bfv_multiply(s, SMALL),
    ),
    Case::lower(
        "he.bfv-multiply.n16384",
        "BFV ct * ct to 3 parts, 8 limbs",
        "ms",
        5.0,
        |s| bfv_multiply(s, LARGE),
    ),
];

/// The first layer of the classifier 2304-512-10: 2048 inputs repeated four times in one
/// ciphertext, 256 repeated 32 times in another; 8 giant steps of 16 + 2 products.
fn diagonals(
    mut weights: impl FnMut() -> Result<ckks::Ciphertext, Failure>,
) -> Result<Vec<EncryptedDiagonal>, Failure> {
    const GIANT: usize = 64;
    let mut list = Vec::new();
    for giant in (0..8).map(|group| group * GIANT) {
        let first = (0..16).map(|baby| (0, 4 * baby));
        for (input, baby) in first.chain((0..2).map(|baby| (1, 32 * baby))) {
            list.push(EncryptedDiagonal {
                input,
                giant,
                baby,
                weights: weights()?,
            });
        }
    }
    Ok(list)
}

fn encrypted_layer(settings: &Settings<'_>, queries: usize) -> Result<Sampling, Failure> {
    let mut bench = Bench::new(LAYER, &[])?;
    let list = diagonals(|| bench.ciphertext())?;
    let layer = EncryptedTransform::new(&bench.context, 2, vec![list])?;
    let generator = KeyGenerator::new(&bench.context, &bench.secret)?;
    let keys = generator.evaluation_keys(&layer.key_manifest(), &mut bench.rng)?;
    let inputs = [bench.ciphertext()?, bench.ciphertext()?];
    let inputs = inputs.each_ref();
    let block: Vec<&[&ckks::Ciphertext]> = vec![&inputs; queries];
    let samples = settings.samples(SAMPLES);
    let sampling = time(samples, || {
        layer.apply_batch(&bench.evaluator, &block, &keys, false)
    })?;
    let note = format!(
        "{} MB of weights, {} MB of keys",
        layer.memory_bytes() / 1_000_000,
        keys.memory_bytes() / 1_000_000
    );
    Ok(sampling.scaled(1e-3 / queries as f64).note(note))
}

/// Everything that exact cases need, over the standard ring, with fixed randomness.
struct Exact {
    context: Arc<bfv::BfvContext>,
    secret: SecretKey,
    keys: EvaluationKeys,
    bgv: bgv::Evaluator,
    rng: ChaCha20Rng,
}

impl Exact {
    fn new((log_n, limbs, q_bits, p_bits): Shape) -> Result<Self, Failure> {
        let mut rng = ChaCha20Rng::from_seed([9; 32]);
        let mut spec = ParameterSpec::new(log_n, &vec![q_bits; limbs], &[p_bits]);
        spec.ring = RingKind::Standard;
        let core = Context::new(Parameters::new(spec)?)?;
        let secret = SecretKey::generate(&core, &mut rng);
        let manifest = KeyManifest {
            rotations: [(STEP, limbs - 1)].into(),
            ..KeyManifest::default()
        };
        let keys = KeyGenerator::new(&core, &secret)?.evaluation_keys(&manifest, &mut rng)?;
        let context = bfv::BfvContext::with_plain_bits(&core, PLAIN_BITS)?;
        Ok(Self {
            bgv: bgv::Evaluator::new(context.exact()),
            context,
            secret,
            keys,
            rng,
        })
    }

    fn level(&self) -> usize {
        self.context.context().parameters().max_level()
    }

    fn values(&self) -> Vec<i64> {
        (0..self.context.exact().slots() as i64).collect()
    }
}

/// Microseconds of an operation of BGV.
fn bgv(
    settings: &Settings<'_>,
    shape: Shape,
    operation: impl Fn(&Exact, &bgv::Ciphertext) -> Result<(), scuro_fhe::Error>,
) -> Result<Sampling, Failure> {
    let mut bench = Exact::new(shape)?;
    let exact = bench.context.exact();
    let plain = bgv::Encoder::new(exact).encode(&bench.values(), bench.level())?;
    let encryptor = owner::bgv::Encryptor::new(exact, &bench.secret)?;
    let x = encryptor.encrypt(&plain, &mut bench.rng)?.expand(exact)?;
    time(settings.samples(SAMPLES), || operation(&bench, &x))
}

fn bfv_multiply(settings: &Settings<'_>, shape: Shape) -> Result<Sampling, Failure> {
    let mut bench = Exact::new(shape)?;
    let (context, level) = (&bench.context, bench.level());
    let plain = bfv::Encoder::new(context).encode(&bench.values())?;
    let encryptor = owner::bfv::Encryptor::new(context, &bench.secret)?;
    let mut encrypt = || {
        let seeded = encryptor.encrypt(&plain, level, &mut bench.rng)?;
        seeded.expand(context)
    };
    let (x, y) = (encrypt()?, encrypt()?);
    let evaluator = bfv::Evaluator::new(context);
    let sampling = time(settings.samples(SAMPLES), || evaluator.mul(&x, &y))?;
    Ok(sampling.scaled(1e-3))
}
