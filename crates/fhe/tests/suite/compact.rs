//! Compact ciphertexts: what they decrypt to, how noisy they are, what they weigh, and every way to
//! be wrong.

use std::sync::{Arc, OnceLock};

use proptest::prelude::*;
use scuro_fhe::bfv::{self, BfvContext};
use scuro_fhe::bgv::{self, BgvContext, NoiseModel as ExactNoiseModel};
use scuro_fhe::ckks::{CompactCiphertext, Encoder};
use scuro_fhe::codec::{CHECKSUM_BYTES, CodecError, HEADER_BYTES, Kind, describe};
use scuro_fhe::compact::{COMPACT_BITS_MAX, COMPACT_BITS_MIN, Compaction};
use scuro_fhe::noise::{Noise, NoiseModel, Operand};
use scuro_fhe::owner::{Decryptor, Encryptor, SecretKey, bfv as bfv_owner};
use scuro_fhe::params::ParameterSpec;
use scuro_fhe::{Context, Error, Kernel, RingKind, ckks};

use crate::common::exact::{Exact, core, over};
use crate::common::{Keyring, assert_close, rng, test_values};

const PERIODS: [usize; 5] = [1, 2, 16, 256, 2048];

/// A secret key without evaluation keys.
struct Ring {
    context: Arc<Context>,
    secret: SecretKey,
}

impl Ring {
    fn new(kind: RingKind, log_n: u32, q_bits: &[u32], p_bits: &[u32]) -> Self {
        let context = over(kind, log_n, q_bits, p_bits, Kernel::detect());
        let secret = SecretKey::generate(&context, &mut rng(7));
        Self { context, secret }
    }

    fn slots(&self) -> usize {
        self.context.parameters().slots()
    }

    fn model(&self) -> NoiseModel {
        NoiseModel::new(self.context.parameters())
    }

    fn encrypt(&self, values: &[f64], level: usize, scale: f64, seed: u64) -> ckks::Ciphertext {
        let plain = Encoder::new(&self.context).encode(values, level, scale);
        let encryptor = Encryptor::new(&self.context, &self.secret).unwrap();
        let seeded = encryptor.encrypt(&plain.unwrap(), &mut rng(seed)).unwrap();
        seeded.expand(&self.context).unwrap()
    }

    fn decrypt(&self, compact: &CompactCiphertext) -> Vec<f64> {
        let decryptor = Decryptor::new(&self.context, &self.secret).unwrap();
        decryptor.decrypt_compact(compact).unwrap()
    }

    /// Most bits whose products with the secret the context's primes hold.
    fn most_bits(&self) -> u32 {
        let parameters = self.context.parameters();
        let held = parameters.log_qp() - f64::from(parameters.log_n()) - 1.001;
        (held as u32).min(COMPACT_BITS_MAX)
    }
}

/// One to four primes of 20 to 50 bits, both rings.
fn rings() -> &'static [Ring] {
    static RINGS: OnceLock<Vec<Ring>> = OnceLock::new();
    let (standard, real) = (RingKind::Standard, RingKind::ConjugateInvariant);
    RINGS.get_or_init(|| {
        vec![
            Ring::new(real, 11, &[27], &[26]),
            Ring::new(standard, 12, &[30, 20], &[36]),
            Ring::new(real, 12, &[36, 32], &[37]),
            Ring::new(standard, 13, &[50], &[50]),
            Ring::new(real, 13, &[50, 40, 30], &[50]),
            Ring::new(standard, 13, &[50, 40, 20, 30], &[50]),
            Ring::new(real, 14, &[50, 50, 50, 50], &[50]),
        ]
    })
}

/// `period` values, again and again.
fn repeated<T: Copy>(values: &[T], count: usize) -> Vec<T> {
    values.iter().copied().cycle().take(count).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_compact_ciphertext_decrypts_to_its_message_within_the_bound(
        which in 0usize..7,
        level in 0usize..4,
        period in prop::sample::select(&PERIODS[..]),
        bits in 19u32..=COMPACT_BITS_MAX,
        headroom in 0u32..100,
        seed in any::<u64>(),
    ) {
        let ring = &rings()[which];
        let level = level.min(ring.context.parameters().max_level());
        let log_q = ring.context.parameters().log_q(level);
        let bits = bits.min(ring.most_bits());
        // The message takes a quarter of what the headroom leaves: more than its noise, and less
        // than the encoder's most.
        let least = (log_q as u32).saturating_sub(118);
        let headroom_bits = headroom.min(log_q as u32 - 18).max(least);
        let scale = (log_q - 3.0 - f64::from(headroom_bits)).exp2();
        let values = repeated(&test_values(period, seed), ring.slots());
        let ciphertext = ring.encrypt(&values, level, scale, seed);
        let compaction = Compaction { period, bits, headroom_bits };
        let compact = ciphertext.compact(&ring.context, compaction).unwrap();
        let found = ring.decrypt(&compact);
        let model = ring.model();
        let noise = model.fresh_secret().plus(model.compacted(compaction, level));
        assert_close(&found, &values, noise.bound / scale);
        let stored = compact.to_bytes();
        let kept = ring.context.parameters().n() / ring.slots() * period;
        let words = kept.next_multiple_of(8) + ring.context.parameters().n();
        prop_assert_eq!(stored.len(), 50 + 26 + words / 8 * bits as usize + 8);
        let again = CompactCiphertext::from_bytes(&stored, &ring.context).unwrap();
        prop_assert!(again == compact && ring.decrypt(&again) == found);
    }
}

#[test]
fn measured_deviations_are_the_predicted_ones_and_bounds_hold() {
    for ring in [&rings()[2], &rings()[3]] {
        let scale = 2f64.powi(30);
        for (period, trials) in [(1, 600), (16, 100), (256, 30), (ring.slots(), 10)] {
            let compaction = Compaction::new(period, 20);
            // A unit is far above the noise of encryption.
            let predicted = ring.model().compacted(compaction, 0);
            let (mut sum, mut largest, mut count) = (0.0, 0.0f64, 0);
            for seed in 0..trials {
                let compact = ring.encrypt(&[], 0, scale, seed);
                let compact = compact.compact(&ring.context, compaction).unwrap();
                for slot in &ring.decrypt(&compact)[..period] {
                    let error = slot * scale;
                    (sum, count) = (sum + error * error, count + 1);
                    largest = largest.max(error.abs());
                }
            }
            let standard = ring.context.parameters().ring() == RingKind::Standard;
            // Real parts have their share of complex deviations.
            let share = if standard { 0.5f64.sqrt() } else { 1.0 };
            let ratio = (sum / f64::from(count)).sqrt() / (share * predicted.std);
            assert!((0.85..1.15).contains(&ratio), "{period}: {ratio}");
            assert!(largest <= predicted.bound, "{period}");
            assert!(largest > predicted.bound / 16.0, "{period}: a loose bound");
        }
    }
}

#[test]
fn what_does_not_repeat_is_averaged() {
    let ring = &rings()[2];
    let (values, period) = (test_values(ring.slots(), 3), 16);
    let whole = ring.encrypt(&values, 1, 2f64.powi(40), 1);
    let compaction = Compaction {
        period,
        bits: 40,
        headroom_bits: 26,
    };
    let compact = whole.compact(&ring.context, compaction);
    let average = |slot: usize| {
        let repetitions = values.iter().skip(slot).step_by(period);
        repetitions.sum::<f64>() * period as f64 / values.len() as f64
    };
    let averages: Vec<f64> = (0..period).map(average).collect();
    let expected = repeated(&averages, ring.slots());
    assert_close(&ring.decrypt(&compact.unwrap()), &expected, 1e-3);
}

#[test]
fn the_chosen_bits_are_enough_and_no_more() {
    for ring in rings() {
        let model = ring.model();
        let level = ring.context.parameters().max_level();
        let log_q = ring.context.parameters().log_q(level);
        let scale = (log_q - 8.0).min(40.0).exp2();
        let operand = Operand {
            magnitude: 8.0 * scale,
            noise: model.fresh_secret(),
        };
        for (period, precision) in [(16, 0.25), (256, 0.02)] {
            let precision = precision * scale;
            let chosen = model.compaction(period, level, operand, precision).unwrap();
            let values = repeated(&test_values(period, 4), ring.slots());
            let values: Vec<f64> = values.iter().map(|value| 8.0 * value).collect();
            let whole = ring.encrypt(&values, level, scale, 5);
            let compact = whole.compact(&ring.context, chosen).unwrap();
            let fresh = operand.noise.bound;
            assert_close(
                &ring.decrypt(&compact),
                &values,
                (precision + fresh) / scale,
            );
            assert!(compact.largest_value() >= 8.0 && compact.largest_value() <= 40.0);
            let fewer = Compaction {
                bits: chosen.bits - 1,
                ..chosen
            };
            assert!(model.compacted(fewer, level).bound > precision);
        }
    }
}

#[test]
fn a_choice_that_cannot_be_is_refused() {
    let model = rings()[2].model();
    let operand = |magnitude: f64| Operand {
        magnitude,
        noise: Noise::ZERO,
    };
    let choose =
        |period, magnitude, precision| model.compaction(period, 0, operand(magnitude), precision);
    for precision in [0.0, -1.0, f64::NAN, 1e-20] {
        let refused = choose(16, 1e6, precision).unwrap_err();
        assert!(
            matches!(refused, Error::PrecisionOutOfReach { .. }),
            "{precision}"
        );
    }
    for magnitude in [f64::NAN, f64::INFINITY, 2f64.powi(35)] {
        let refused = choose(16, magnitude, 1.0).unwrap_err();
        assert!(
            matches!(refused, Error::ValueTooLarge { .. }),
            "{magnitude}"
        );
    }
    let refused = choose(8192, 1e6, 1.0).unwrap_err();
    let (found, slots) = (8192, 4096);
    assert_eq!(refused, Error::BadPeriod { found, slots });
}

#[test]
fn a_reply_of_two_primes_takes_less_than_a_hundred_kilobytes() {
    let ring = Ring::new(RingKind::ConjugateInvariant, 14, &[40, 30], &[40]);
    let values = repeated(&test_values(16, 1), ring.slots());
    let whole = ring.encrypt(&values, 1, 2f64.powi(40), 1);
    assert!(whole.to_bytes(&ring.context).len() > 280_000);
    for (bits, bytes) in [(28, 57_484), (32, 65_684)] {
        let compaction = Compaction {
            period: 16,
            bits,
            headroom_bits: 27,
        };
        let compact = whole.compact(&ring.context, compaction).unwrap();
        assert_eq!(compact.to_bytes().len(), bytes);
        assert_close(&ring.decrypt(&compact), &values, 1e-3);
    }
}

#[test]
fn compactions_without_meaning_are_refused() {
    let ring = Keyring::new(ParameterSpec::new(12, &[36, 32], &[37]), &[]);
    let context = &ring.context;
    let whole = ring.encrypt(&[1.0], 0, 2f64.powi(28), 1);
    let compact = |compaction| whole.compact(context, compaction).unwrap_err();
    for found in [0, 3, 8192] {
        let refused = compact(Compaction::new(found, 30));
        assert_eq!(refused, Error::BadPeriod { found, slots: 4096 });
    }
    for found in [COMPACT_BITS_MIN - 1, COMPACT_BITS_MAX + 1, u32::MAX] {
        let refused = compact(Compaction::new(16, found));
        assert!(matches!(refused, Error::CompactionOutOfRange { .. }));
    }
    let with_headroom = |headroom_bits| Compaction {
        period: 16,
        bits: 30,
        headroom_bits,
    };
    for found in [36, u32::MAX] {
        let refused = compact(with_headroom(found));
        assert!(matches!(
            refused,
            Error::CompactionOutOfRange { max: 34 | 35, .. }
        ));
    }
    let square = ring
        .evaluator
        .square(&ring.encrypt(&[0.5], 1, 2f64.powi(28), 2));
    let refused = square.unwrap().compact(context, with_headroom(0));
    assert_eq!(
        refused.unwrap_err(),
        Error::PartCount {
            found: 3,
            expected: 2
        }
    );
    // A message of which rounding leaves nothing.
    let small = ring.encrypt(&[1.0], 1, 2f64.powi(20), 3);
    let refused = small.compact(context, Compaction::new(16, 20)).unwrap_err();
    assert!(matches!(refused, Error::BadScale { .. }));
    let other = Keyring::new(ParameterSpec::new(12, &[36, 33], &[36]), &[]);
    let refused = whole.compact(&other.context, with_headroom(0)).unwrap_err();
    assert!(matches!(refused, Error::ParameterMismatch { .. }));
}

#[test]
fn another_key_or_other_parameters_are_refused() {
    let ring = &rings()[2];
    let whole = ring.encrypt(&[1.0], 0, 2f64.powi(28), 1);
    let compact = whole
        .compact(&ring.context, Compaction::new(16, 30))
        .unwrap();
    let stranger = SecretKey::generate(&ring.context, &mut rng(8));
    let decryptor = Decryptor::new(&ring.context, &stranger).unwrap();
    let refused = decryptor.decrypt_compact(&compact).unwrap_err();
    let (found, expected) = (ring.secret.key_id(), stranger.key_id());
    assert_eq!(refused, Error::KeyMismatch { found, expected });
    let other = &rings()[1];
    let decryptor = Decryptor::new(&other.context, &other.secret).unwrap();
    let refused = decryptor.decrypt_compact(&compact).unwrap_err();
    assert!(matches!(refused, Error::ParameterMismatch { .. }));
    let refused = CompactCiphertext::from_bytes(&compact.to_bytes(), &other.context);
    let refused = refused.unwrap_err();
    assert!(matches!(
        refused,
        Error::Codec(CodecError::WrongParameters { .. })
    ));
}

/// Plaintext primes from small to the largest, both rings.
fn exact_rings() -> Vec<Exact> {
    let (kernel, real) = (Kernel::detect(), RingKind::ConjugateInvariant);
    vec![
        Exact::new(&core(12, &[36, 34], &[36], kernel), 16),
        Exact::new(&core(13, &[50, 50, 50], &[50], kernel), 30),
        Exact::new(&over(real, 13, &[50, 50, 50], &[50], kernel), 40),
        Exact::new(&over(real, 14, &[50; 4], &[50; 2], kernel), 46),
    ]
}

/// Rows that repeat after so many slots.
fn periodic(ring: &Exact, period: usize, seed: u64) -> Vec<i64> {
    let (values, rows) = (ring.values(seed), ring.context.rows());
    let row = |row: usize| {
        let values = &values[row * period..(row + 1) * period];
        repeated(values, ring.encoder.slots() / rows)
    };
    (0..rows).flat_map(row).collect()
}

#[test]
fn integers_come_out_exactly_and_keep_the_budget_asked_for() {
    for ring in exact_rings() {
        let (context, model) = (&ring.context, ExactNoiseModel::new(&ring.context));
        for period in [1, 2, 16, 256] {
            let values = periodic(&ring, period, 9);
            for level in 1..=ring.top() {
                // Switched down, so that the factor is not 1.
                let whole = ring.encrypt(&values, level, 3);
                let whole = ring.evaluator.mod_switch(&whole).unwrap();
                let noise = model.mod_switch(model.fresh_secret(), level);
                let budget = model.budget(noise, level - 1);
                if budget < 1.0 {
                    continue;
                }
                let chosen = model.compaction(period, level - 1, budget, 0.5).unwrap();
                let compact = whole.compact(context, chosen).unwrap();
                let (found, left) = ring.decryptor().decrypt_compact_measured(&compact).unwrap();
                assert!(found == values, "not exact");
                assert!(left >= 0.5, "{left} bits");
                // The bound of slots is one of coefficients too, and above the measured noise.
                let bound = model.budget(model.compacted(noise, chosen, level - 1), level - 1);
                assert!(left >= bound, "{left} below {bound}");
                let again = bgv::CompactCiphertext::from_bytes(&compact.to_bytes(), context);
                assert_eq!(again.unwrap(), compact);
            }
        }
    }
}

#[test]
fn budgets_of_compact_integers_are_those_of_whole_ones_where_rounding_is_small() {
    let ring = &exact_rings()[0];
    let values = periodic(ring, ring.context.context().parameters().slots(), 2);
    let whole = ring.encrypt(&values, 0, 1);
    let budget = ring.decryptor().noise_budget(&whole).unwrap();
    // Rounding is 2^-22 of the noise.
    let compact = whole.compact(&ring.context, Compaction::new(2048, 58));
    let (_, left) = ring
        .decryptor()
        .decrypt_compact_measured(&compact.unwrap())
        .unwrap();
    assert!((left - budget).abs() < 1e-3, "{left} for {budget}");
}

#[test]
fn scale_invariant_integers_come_out_exactly() {
    let ring = Exact::new(&core(13, &[50, 50, 50], &[50], Kernel::detect()), 20);
    let context = BfvContext::new(&ring.context).unwrap();
    let values = periodic(&ring, 16, 4);
    let plain = bfv::Encoder::new(&context).encode(&values).unwrap();
    let encryptor = bfv_owner::Encryptor::new(&context, &ring.secret).unwrap();
    let seeded = encryptor.encrypt(&plain, 1, &mut rng(1)).unwrap();
    let whole = seeded.expand(&context).unwrap();
    let compact = whole
        .exact()
        .compact(&ring.context, Compaction::new(16, 32))
        .unwrap();
    assert_eq!(compact.factor(), 1);
    let (found, budget) = ring.decryptor().decrypt_compact_measured(&compact).unwrap();
    assert!(found == values && budget > 0.5);
}

#[test]
fn integers_without_budget_or_with_headroom_are_refused() {
    let ring = &exact_rings()[0];
    let model = ExactNoiseModel::new(&ring.context);
    for (budget, kept) in [(1.0, 1.0), (0.5, 1.0), (f64::NAN, 0.0), (1.0, f64::NAN)] {
        let refused = model.compaction(16, 0, budget, kept).unwrap_err();
        assert!(matches!(refused, Error::NoBudgetToCompact { .. }));
    }
    let whole = ring.encrypt(&[1], 0, 1);
    let compaction = Compaction {
        period: 16,
        bits: 30,
        headroom_bits: 1,
    };
    let refused = whole.compact(&ring.context, compaction).unwrap_err();
    assert!(matches!(
        refused,
        Error::CompactionOutOfRange { max: 0, .. }
    ));
    let other = BgvContext::with_plain_bits(ring.context.context(), 20).unwrap();
    let refused = whole.compact(&other, Compaction::new(16, 30)).unwrap_err();
    assert!(matches!(refused, Error::ParameterMismatch { .. }));
    let compact = whole
        .compact(&ring.context, Compaction::new(16, 30))
        .unwrap();
    let decryptor = scuro_fhe::owner::bgv::Decryptor::new(&other, &ring.secret).unwrap();
    assert!(decryptor.decrypt_compact_measured(&compact).is_err());
    let core = ring.context.context();
    let stranger = SecretKey::generate(core, &mut rng(99));
    let decryptor = scuro_fhe::owner::bgv::Decryptor::new(&ring.context, &stranger).unwrap();
    let refused = decryptor.decrypt_compact_measured(&compact).unwrap_err();
    assert!(matches!(refused, Error::KeyMismatch { .. }));
}

/// A compact ciphertext of numbers and one of integers, the smallest, as bytes, and how to read
/// both.
struct Stored {
    ring: Ring,
    exact: Exact,
    numbers: Vec<u8>,
    integers: Vec<u8>,
}

impl Stored {
    fn new() -> Self {
        let ring = Ring::new(RingKind::ConjugateInvariant, 11, &[27], &[26]);
        let exact = Exact::new(&core(11, &[26], &[26], Kernel::detect()), 16);
        let numbers = ring.encrypt(&[1.0], 0, 2f64.powi(20), 1);
        let numbers = numbers.compact(&ring.context, Compaction::new(4, 20));
        let integers = exact.encrypt(&[1], 0, 1);
        let integers = integers.compact(&exact.context, Compaction::new(2, 30));
        Self {
            numbers: numbers.unwrap().to_bytes(),
            integers: integers.unwrap().to_bytes(),
            ring,
            exact,
        }
    }

    fn read(&self, bytes: &[u8]) -> [Result<(), Error>; 2] {
        [
            CompactCiphertext::from_bytes(bytes, &self.ring.context).map(|_| ()),
            bgv::CompactCiphertext::from_bytes(bytes, &self.exact.context).map(|_| ()),
        ]
    }
}

#[test]
fn every_truncation_and_every_changed_bit_of_the_header_is_refused() {
    let stored = Stored::new();
    let kinds = [Kind::CompactCiphertext, Kind::ExactCompactCiphertext];
    for (which, bytes) in [&stored.numbers, &stored.integers].into_iter().enumerate() {
        assert_eq!(describe(bytes).unwrap().kind, kinds[which]);
        assert!(stored.read(bytes)[which].is_ok() && stored.read(bytes)[1 - which].is_err());
        for length in 0..bytes.len() {
            let read = stored.read(&bytes[..length]);
            assert!(read.iter().all(|read| matches!(read, Err(Error::Codec(_)))));
        }
        for bit in 0..8 * (HEADER_BYTES + 84) {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let read = stored.read(&changed);
            assert!(
                read.iter().all(|read| matches!(read, Err(Error::Codec(_)))),
                "bit {bit}"
            );
        }
    }
}

#[test]
fn contents_that_cannot_be_are_refused_by_name() {
    let stored = Stored::new();
    let change = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = stored.numbers.clone();
        change(&mut bytes);
        let content = (bytes.len() - HEADER_BYTES - CHECKSUM_BYTES) as u64;
        bytes[42..50].copy_from_slice(&content.to_le_bytes());
        let end = bytes.len() - CHECKSUM_BYTES;
        let digest = blake3::hash(&bytes[..end]);
        bytes[end..].copy_from_slice(&digest.as_bytes()[..CHECKSUM_BYTES]);
        let [read, _] = stored.read(&bytes);
        read.unwrap_err()
    };
    let field = |error: &Error| match error {
        Error::Codec(CodecError::BadField { what, .. }) => *what,
        _ => "another error",
    };
    let (scale, bits, period, body) = (66, 74, 75, 76);
    // The context multiplies 53 - 11 - 1 bits at most.
    for found in [0, COMPACT_BITS_MIN as u8 - 1, 42, 255] {
        let refused = change(&|bytes| bytes[bits] = found);
        assert_eq!(field(&refused), "bits of a coefficient", "{found}");
    }
    for found in [12, 63, 64, 255] {
        assert_eq!(
            field(&change(&|bytes| bytes[period] = found)),
            "period",
            "{found}"
        );
    }
    let scaled = |scale_bits: f64| {
        let to = scale_bits.to_bits().to_le_bytes();
        change(&|bytes: &mut Vec<u8>| bytes[scale..scale + 8].copy_from_slice(&to))
    };
    assert_eq!(field(&scaled(0.5)), "scale");
    assert!(matches!(scaled(2f64.powi(20)), Error::BadScale { .. }));
    // Eight words are stored of which four are kept.
    let padding = change(&|bytes| bytes[body + 19] = 1);
    assert_eq!(field(&padding), "padding of a compact ciphertext");
    let transparent = change(&|bytes| {
        let end = bytes.len() - CHECKSUM_BYTES;
        bytes[body + 20..end].fill(0);
    });
    assert_eq!(transparent, Error::Codec(CodecError::Transparent));
    let longer = change(&|bytes| bytes.extend([0; 5]));
    assert!(matches!(
        longer,
        Error::Codec(CodecError::TrailingBytes { count: 5 })
    ));
    // A larger period would need more words than follow.
    let truncated = change(&|bytes| bytes[period] = 11);
    assert!(matches!(
        truncated,
        Error::Codec(CodecError::Truncated { .. })
    ));
}
