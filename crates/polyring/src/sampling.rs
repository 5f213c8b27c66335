//! Samplers: uniform residues from an extendable-output function, ternary and discrete Gaussian
//! coefficients.
//!
//! All take their randomness as an argument, and give the same values on every kernel and every
//! machine.

mod wide;

use rand_core::CryptoRng;
use zeroize::Zeroize;

pub use wide::{WIDE_BITS_MAX, WideIntegers};

use crate::kernel::Kernel;
use crate::modulus::Modulus;

/// Bytes of a seed.
pub const SEED_BYTES: usize = 32;

/// A seed of an [`Xof`].
pub type Seed = [u8; SEED_BYTES];

/// Standard deviation of the error distribution.
pub const GAUSSIAN_SIGMA: f64 = 3.19;

/// Largest magnitude that [`gaussian`] gives: a discrete Gaussian exceeds it with probability below
/// 2^-64.
pub const GAUSSIAN_BOUND: i8 = 29;

/// A deterministic stream of random bytes: BLAKE3 in its extendable-output mode, keyed with the
/// seed.
///
/// Chosen over ChaCha20 under a derived key because it is six times as fast at the same security,
/// and expanding seeds is most of the time of loading keys.
pub struct Xof(blake3::OutputReader);

impl Xof {
    /// The stream of `seed` for one purpose. Different domains or indices give independent streams.
    pub fn new(seed: &Seed, domain: &str, index: u64) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(seed);
        hasher.update(b"scuro polyring xof v1");
        hasher.update(&(domain.len() as u64).to_le_bytes());
        hasher.update(domain.as_bytes());
        hasher.update(&index.to_le_bytes());
        Self(hasher.finalize_xof())
    }

    /// Fills `out` with uniform residues modulo q.
    ///
    /// Math:   words of the stream, cut to the bits of q; those not below q are skipped
    /// Timing: depends on the stream, which is public whenever its seed is published
    pub fn uniform(&mut self, modulus: Modulus, out: &mut [u64]) {
        uniform_from(|bytes| self.0.fill(bytes), modulus, out);
    }

    /// The next words of the stream, by way of `bytes`.
    fn words(&mut self, bytes: &mut [u8], words: &mut [u64]) {
        let bytes = &mut bytes[..8 * words.len()];
        self.0.fill(bytes);
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
    }
}

/// Words drawn from the generator at once.
const BATCH_WORDS: usize = 512;

/// Fills `out` with uniform residues modulo q; see [`Xof::uniform`].
pub fn uniform(rng: &mut impl CryptoRng, modulus: Modulus, out: &mut [u64]) {
    uniform_from(|bytes| rng.fill_bytes(bytes), modulus, out);
}

fn uniform_from(mut fill: impl FnMut(&mut [u8]), modulus: Modulus, out: &mut [u64]) {
    let mask = (1 << modulus.bits()) - 1;
    let mut filled = 0;
    let mut bytes = [0; 8 * BATCH_WORDS];
    while filled < out.len() {
        let wanted = (out.len() - filled).min(BATCH_WORDS);
        let bytes = &mut bytes[..8 * wanted];
        fill(bytes);
        let batch = &mut out[filled..filled + wanted];
        for (word, bytes) in batch.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes) & mask;
        }
        filled += keep_below(modulus.value(), batch);
    }
}

/// Moves the words below `bound` to the front, in order, and counts them.
fn keep_below(bound: u64, words: &mut [u64]) -> usize {
    if words.iter().all(|&word| word < bound) {
        return words.len();
    }
    let mut kept = 0;
    for at in 0..words.len() {
        words[kept] = words[at];
        kept += usize::from(words[at] < bound);
    }
    kept
}

/// A stream for one call of a secret sampler, keyed with fresh bytes of the generator.
///
/// A sample takes eight bytes, and most generators are slower than [`Xof`].
fn expanded(rng: &mut impl CryptoRng, domain: &str) -> Xof {
    let mut seed = Seed::default();
    rng.fill_bytes(&mut seed);
    let xof = Xof::new(&seed, domain, 0);
    seed.zeroize();
    xof
}

/// Fills `out` with uniform values of {-1, 0, 1}.
///
/// Math:   bytes below 243 = 3^5 give five base-3 digits each; others are skipped. The bytes are
///         [`Xof`]'s, under a seed from the generator
/// Timing: depends on which bytes are skipped, and that is independent of the values
pub fn ternary(rng: &mut impl CryptoRng, out: &mut [i8]) {
    const DIGITS: usize = 5;
    let mut stream = expanded(rng, "ternary");
    let mut bytes = [0; 1024];
    let mut next = bytes.len();
    for chunk in out.chunks_mut(DIGITS) {
        let mut packed = loop {
            if next == bytes.len() {
                stream.0.fill(&mut bytes);
                next = 0;
            }
            next += 1;
            if bytes[next - 1] < 243 {
                break bytes[next - 1];
            }
        };
        for value in chunk {
            *value = (packed % 3) as i8 - 1;
            packed /= 3;
        }
    }
    bytes.zeroize();
}

/// Fills `out` with discrete Gaussian values of standard deviation [`GAUSSIAN_SIGMA`].
///
/// Math:   inversion: |x| = #{k : u >= C_k} for a uniform 64-bit u and C_k = 2^64·P(|X| <= k); then
///         a random sign, which leaves 0 as it is. The bits are [`Xof`]'s, under a seed from the
///         generator
/// Bounds: |x| <= [`GAUSSIAN_BOUND`]; probabilities exact to 2^-64 each
/// Timing: constant: every sample compares with every table entry
pub fn gaussian(rng: &mut impl CryptoRng, kernel: Kernel, out: &mut [i8]) {
    let mut stream = expanded(rng, "gaussian");
    let mut bytes = [0; 8 * BATCH_WORDS];
    let mut words = [0; BATCH_WORDS];
    let mut signs = [0; BATCH_WORDS / 64];
    for chunk in out.chunks_mut(BATCH_WORDS) {
        stream.words(&mut bytes, &mut words);
        stream.words(&mut bytes, &mut signs);
        kernel.ops().gaussian(chunk, &words, &signs);
    }
    bytes.zeroize();
    words.zeroize();
    signs.zeroize();
}

/// C_k = round(2^64·P(|X| <= k)), k = 0..28, for the discrete Gaussian of [`GAUSSIAN_SIGMA`];
/// 120-digit decimal arithmetic.
pub(crate) const GAUSSIAN_TABLE: [u64; GAUSSIAN_BOUND as usize] = [
    0x2003_f343_6595_28d1,
    0x5cf9_e7de_0f06_d96c,
    0x9194_fd0b_b069_4af4,
    0xbaba_a2ef_1eec_1101,
    0xd7e6_ab30_aa08_4360,
    0xeaa5_b921_00f7_7dac,
    0xf591_040a_c349_92ea,
    0xfb54_cb2c_a496_fffa,
    0xfe17_0229_7749_d972,
    0xff49_53f8_bd4a_e9d1,
    0xffc1_c20e_f5de_7234,
    0xffec_ac7f_021e_2ba0,
    0xfffa_8921_3337_8b2a,
    0xfffe_9810_099a_70db,
    0xffff_abc3_1cff_b430,
    0xffff_ee13_8cf3_85dc,
    0xffff_fc88_b8f2_1ed8,
    0xffff_ff64_1ef5_4a95,
    0xffff_ffe7_207a_46bb,
    0xffff_fffc_6560_da3b,
    0xffff_ffff_86a2_4b99,
    0xffff_ffff_f182_2ec9,
    0xffff_ffff_fe6d_fc67,
    0xffff_ffff_ffd8_77f0,
    0xffff_ffff_fffc_7916,
    0xffff_ffff_ffff_b6eb,
    0xffff_ffff_ffff_faa2,
    0xffff_ffff_ffff_ffa5,
    0xffff_ffff_ffff_fffa,
];
