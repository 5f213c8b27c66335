//! Times of the primitives on this machine: `cargo run --release -p scuro-fhe --example timing`.
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use scuro_fhe::circuits::linear::{Diagonal, LinearTransform, SlotValues};
use scuro_fhe::ckks::{Encoder, Evaluator};
use scuro_fhe::keys::{EvaluationKeys, KeyManifest};
use scuro_fhe::owner::{Decryptor, Encryptor, KeyGenerator, SecretKey};
use scuro_fhe::params::{ParameterSpec, Parameters};
use scuro_fhe::{Context, Error};

/// Prints the least wall time, and where the system tells it the mean processor time, of one call.
fn time<T>(name: &str, mut f: impl FnMut() -> T) {
    let mut best = f64::INFINITY;
    let mut calls = 0;
    let (start, processor) = (Instant::now(), processor_seconds());
    while start.elapsed().as_secs_f64() < 0.5 {
        let once = Instant::now();
        black_box(f());
        best = best.min(once.elapsed().as_secs_f64());
        calls += 1;
    }
    let mean = (processor_seconds() - processor) / f64::from(calls);
    println!("{name:28} {:10.1} us {:10.1} us", best * 1e6, mean * 1e6);
}

/// Processor time of this process, on Linux.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanoseconds = stat
        .split(' ')
        .next()
        .and_then(|field| field.parse::<f64>().ok());
    nanoseconds.unwrap_or(f64::NAN) / 1e9
}

fn run(log_n: u32, q_bits: &[u32], p_bits: &[u32]) -> Result<(), Error> {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let context = Context::new(Parameters::new(ParameterSpec::new(log_n, q_bits, p_bits))?)?;
    let level = context.parameters().max_level();
    println!(
        "N = 2^{log_n}, {} + {} limbs, kernel {}",
        level + 1,
        p_bits.len(),
        context.ring().kernel()
    );
    let secret = SecretKey::generate(&context, &mut rng);
    let rotations = [(1, level), (2, level), (3, level)].into();
    let manifest = KeyManifest {
        relinearization: Some(level),
        rotations,
        ..KeyManifest::default()
    };
    let keys = KeyGenerator::new(&context, &secret)?.evaluation_keys(&manifest, &mut rng)?;
    let (encoder, evaluator) = (Encoder::new(&context), Evaluator::new(&context));
    let values: Vec<f64> = (0..encoder.slots())
        .map(|i| (i as f64 * 0.37).sin())
        .collect();
    let scale = 2f64.powi(30);
    let plain = encoder.encode(&values, level, scale)?;
    let encryptor = Encryptor::new(&context, &secret)?;
    let decryptor = Decryptor::new(&context, &secret)?;
    let seeded = encryptor.encrypt(&plain, &mut rng)?;
    let x = seeded.expand(&context)?;
    let y = evaluator.mul(&x, &x)?;
    let decrypted = decryptor.decrypt(&x)?;
    let mut limb = x.parts()[0].limb(0).to_vec();
    time("clone of a ciphertext", || x.clone());
    let prime = context.ring().prime(0);
    let words = limb.clone();
    let row = &words[..];
    let mut out = [limb.clone(), limb.clone(), limb.clone()];
    time("tensor of a row", || {
        let [o0, o1, o2] = &mut out;
        prime.tensor([o0, o1, o2], &[[row, row]], &[[row, row]]);
    });
    time("dot_pair of 4", || {
        let [o0, o1, _] = &mut out;
        prime.dot_pair([o0, o1], &[row; 4], [&[row; 4], &[row; 4]]);
    });
    time("lift_centred", || {
        prime.lift_centred(&mut out[0], row, context.ring().prime(1).modulus())
    });
    let w = prime.multiplier(12345);
    time("sub_mul_scalar_assign", || {
        prime.sub_mul_scalar_assign(&mut out[0], row, w)
    });
    time("add_assign", || prime.add_assign(&mut out[0], row));
    if let Ok(permutation) = context.ring().permutation(5) {
        time("permute", || permutation.apply(&mut out[0], row));
    }
    time("ntt", || context.ring().prime(0).forward(&mut limb));
    time("intt", || context.ring().prime(0).inverse(&mut limb));
    time("encode", || encoder.encode(&values, level, scale));
    time("encrypt, secret key", || {
        encryptor.encrypt(&plain, &mut rng)
    });
    time("expand", || seeded.expand(&context));
    time("decrypt", || decryptor.decrypt(&x));
    time("decode", || encoder.decode(&decrypted));
    time("add", || evaluator.add(&x, &x));
    time("mul_plain", || evaluator.mul_plain(&x, &plain));
    time("mul", || evaluator.mul(&x, &x));
    let many = vec![&x; 16];
    time("inner product of 16", || {
        evaluator.inner_product(&many, &many)
    });
    time("rescale", || evaluator.rescale(&x));
    time("relinearize", || evaluator.relinearize(&y, &keys));
    time("relinearize_rescale", || {
        evaluator.relinearize_rescale(&y, &keys)
    });
    time("rotate", || evaluator.rotate(&x, 1, &keys));
    time("rotate_hoisted of 3", || {
        evaluator.rotate_hoisted(&x, &[1, 2, 3], &keys)
    });
    time("rotate_sum of 4 (radix 4)", || {
        evaluator.rotate_sum(&x, &[0, 1, 2, 3], &keys)
    });
    time_transform(&context, &secret, scale)
}

/// Eight babies and four giants, every slot in use: a dense layer of 32 diagonals.
fn time_transform(context: &Arc<Context>, secret: &SecretKey, scale: f64) -> Result<(), Error> {
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let (encoder, evaluator) = (Encoder::new(context), Evaluator::new(context));
    let level = context.parameters().max_level();
    let values: Vec<f64> = (0..encoder.slots())
        .map(|i| (i as f64 * 0.11).sin())
        .collect();
    let diagonals = (0..32).map(|k| Diagonal {
        output: 0,
        input: 0,
        giant: k / 8 * 8,
        baby: k % 8,
        values: SlotValues::Dense(values.clone()),
    });
    let transform = LinearTransform {
        inputs: 1,
        outputs: 1,
        scale: 2f64.powi(15),
        diagonals: diagonals.collect(),
    };
    let rotations = transform
        .rotation_steps()
        .into_iter()
        .map(|step| (step, level))
        .collect();
    let manifest = KeyManifest {
        rotations,
        ..KeyManifest::default()
    };
    let keys = KeyGenerator::new(context, secret)?.evaluation_keys(&manifest, &mut rng)?;
    let plain = encoder.encode(&values, level, scale)?;
    let x = Encryptor::new(context, secret)?
        .encrypt(&plain, &mut rng)?
        .expand(context)?;
    let prepared = transform.prepare(&encoder, level)?;
    time("7 baby rotations", || {
        prepared.operands(&evaluator, &[&x], &keys)
    });
    time("32 diagonals, 8 x 4", || {
        prepared.apply(&evaluator, &[&x], &keys)
    });
    let bytes = keys.to_bytes(context);
    println!("{} keys in {} bytes", manifest.rotations.len(), bytes.len());
    time("load the keys", || {
        EvaluationKeys::from_bytes(&bytes, context)
    });
    Ok(())
}

fn main() -> Result<(), Error> {
    run(13, &[41; 4], &[50])?;
    run(14, &[47; 8], &[50])?;
    run(15, &[43; 17], &[45, 45, 45])
}
