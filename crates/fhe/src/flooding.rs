//! Circuit privacy: hiding from the holder of the secret key how a result was computed.
//!
//! The error of a ciphertext depends on the evaluator's constants, and its uniform part on the
//! query. Before a result goes to a decryptor who must not learn the constants, the evaluator adds
//! an encryption of zero under the public key, which makes the uniform part a fresh one, and noise
//! that drowns the error.
//!
//! [`Flooding::Statistical`]: uniform noise in [-R, R) on every coefficient, R a power of two of at
//! least 2^(bits - 1) sqrt(N) B. With B a bound on the slots of the error (that of the ciphertext
//! and of the encryption of zero together), the error's coefficients have a Euclidean norm of at
//! most B, so that the sum of their magnitudes is at most sqrt(N) B, and the decryptions for an
//! error and for none are within a statistical distance of 2^-bits.
//!
//! [`Flooding::Relaxed`]: Gaussian noise of deviation at least sqrt(12 decryptions) 2^(bits/2) B.
//! *Weaker*: it leaves an attacker who sees so many decryptions `bits` bits of security in the
//! sense of bounded divergence, not a negligible advantage. For approximate arithmetic, where each
//! bit of noise is a bit of the result.
//!
//! B must be a worst-case bound for the declared inputs, not a measurement. The bounds of
//! [`crate::noise::NoiseModel`] hold except with a probability below 2^-52 per ciphertext (2^-55 at
//! N = 2^13) for each random error that they sum.
//!
//! Source: Gentry 2009, section 4 (drowning); Li, Micciancio, Schultz, Sorrell 2022, "Securing
//!     approximate homomorphic encryption using differential privacy", Theorem 2 (Relaxed).

use rand_core::CryptoRng;
use scuro_polyring::sampling::{WIDE_BITS_MAX, WideIntegers};
use zeroize::Zeroize;

use crate::ckks;
use crate::context::Context;
use crate::error::Error;
use crate::keys::PublicKey;
use crate::noise::{Noise, NoiseModel, Operand};
use crate::subring;

/// Most bits of flooding.
pub const FLOODING_BITS_MAX: u32 = 128;
/// Most decryptions that a relaxed flooding is for.
pub const DECRYPTIONS_MAX: u32 = 1 << 30;

/// How strongly a result is hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flooding {
    /// A result is within a statistical distance of 2^-bits of one without any error.
    Statistical {
        /// At least 1, at most [`FLOODING_BITS_MAX`].
        bits: u32,
    },
    /// So many bits of security for a number of decryptions; weaker, see the module's words.
    Relaxed {
        /// At least 1, at most [`FLOODING_BITS_MAX`].
        bits: u32,
        /// Results under one key that the decryptor sees.
        decryptions: u32,
    },
}

impl Default for Flooding {
    /// 40 statistical bits.
    fn default() -> Self {
        Self::Statistical { bits: 40 }
    }
}

/// A flooding for a known bound: the distribution of the noise.
#[derive(Debug, Clone, Copy)]
enum Distribution {
    /// in [-2^bits, 2^bits)
    Uniform {
        bits: u32,
    },
    Gaussian {
        doublings: u32,
    },
}

impl Flooding {
    fn check(self) -> Result<(), Error> {
        let in_range = |what, found, max| match (1..=max).contains(&found) {
            true => Ok(()),
            false => Err(Error::FloodingOutOfRange {
                what,
                found,
                min: 1,
                max,
            }),
        };
        match self {
            Self::Statistical { bits } => in_range("flooding bits", bits, FLOODING_BITS_MAX),
            Self::Relaxed { bits, decryptions } => {
                in_range("flooding bits", bits, FLOODING_BITS_MAX)?;
                in_range("decryptions", decryptions, DECRYPTIONS_MAX)
            }
        }
    }

    /// For errors with slots below `bound`, of degree `n`.
    fn distribution(self, bound: f64, n: usize) -> Distribution {
        match self {
            Self::Statistical { bits } => {
                let log_r = f64::from(bits) - 1.0 + (n as f64).log2() / 2.0 + bound.log2();
                Distribution::Uniform {
                    bits: log_r.clamp(0.0, f64::from(WIDE_BITS_MAX)).ceil() as u32,
                }
            }
            Self::Relaxed { bits, decryptions } => {
                let log_sigma = (12.0 * f64::from(decryptions)).log2() / 2.0
                    + f64::from(bits) / 2.0
                    + bound.log2();
                // Deviations double with every step, from that of fresh errors.
                let wide = |&doublings: &u32| {
                    WideIntegers::gaussian_deviation(doublings).log2() >= log_sigma
                };
                let from = (log_sigma.min(f64::from(WIDE_BITS_MAX)) as u32).saturating_sub(4);
                Distribution::Gaussian {
                    doublings: (from..from + 8).find(wide).unwrap_or(WIDE_BITS_MAX),
                }
            }
        }
    }
}

impl Distribution {
    /// Deviations of a Gaussian that all coefficients stay below but for a probability of 2^-60.
    const TAIL: f64 = 11.0;

    /// Deviation of a coefficient, and the largest magnitude.
    fn coefficient(self) -> (f64, f64) {
        match self {
            Self::Uniform { bits } => {
                let bound = 2f64.powi(bits as i32);
                (bound / 3f64.sqrt(), bound)
            }
            Self::Gaussian { doublings } => {
                let deviation = WideIntegers::gaussian_deviation(doublings);
                (deviation, Self::TAIL * deviation)
            }
        }
    }

    /// Noise for `kept` coefficients of the ring's, as far apart from each other as they can be.
    fn sample(self, context: &Context, kept: usize, rng: &mut impl CryptoRng) -> WideIntegers {
        let (n, kernel) = (context.ring().degree(), context.ring().kernel());
        let noise = match self {
            Self::Uniform { bits } => WideIntegers::uniform(rng, bits, kept),
            Self::Gaussian { doublings } => WideIntegers::gaussian(rng, kernel, doublings, kept),
        };
        noise.spread(n / kept)
    }
}

impl NoiseModel {
    /// The error of a ciphertext with this noise and of an encryption of zero together, and what
    /// drowns it.
    fn drowned(&self, noise: Noise, flooding: Flooding) -> (Noise, Distribution) {
        let mut error = noise.plus(self.fresh_public());
        // A bound that is not known is none.
        if error.bound.is_nan() {
            error.bound = f64::INFINITY;
        }
        (error, flooding.distribution(error.bound, self.kept()))
    }

    /// After [`ckks::Evaluator::flood`] of a ciphertext with this noise; without a bound if the
    /// noise has none.
    pub fn flooded(&self, noise: Noise, flooding: Flooding) -> Noise {
        let (error, distribution) = self.drowned(noise, flooding);
        let (std, _) = distribution.coefficient();
        let kept = (self.kept() as f64 / self.degree() as f64).sqrt();
        error.plus(self.independent(std * kept))
    }

    /// What the coefficients of the error stay below after [`ckks::Evaluator::flood`] of a
    /// ciphertext with this noise: with the message, it has to fit half the modulus.
    pub fn flooded_coefficients(&self, noise: Noise, flooding: Flooding) -> f64 {
        let (error, distribution) = self.drowned(noise, flooding);
        let (_, largest) = distribution.coefficient();
        error.bound + largest
    }
}

impl ckks::Evaluator {
    /// Adds a fresh encryption of zero: without the secret key nobody can tell any more what the
    /// ciphertext was computed from. It hides nothing from who decrypts: see [`crate::flooding`].
    ///
    /// Level, scale: unchanged     Noise: + [`NoiseModel::fresh_public`]
    /// Timing: independent of the ciphertext
    ///
    /// # Errors
    /// [`Error::PartCount`] unless relinearised, [`Error::KeyMismatch`],
    /// [`Error::ParameterMismatch`].
    pub fn rerandomize(
        &self,
        ciphertext: &ckks::Ciphertext,
        public: &PublicKey,
        rng: &mut impl CryptoRng,
    ) -> Result<ckks::Ciphertext, Error> {
        self.check_rerandomizable(ciphertext, public)?;
        let context = &**self.context();
        let fresh = public.zero(context, ciphertext.level, rng)?;
        let mut out = ciphertext.clone();
        for (part, fresh) in out.parts.iter_mut().zip(&fresh) {
            part.add_assign(context.ring(), fresh);
        }
        Ok(out)
    }

    fn check_rerandomizable(
        &self,
        ciphertext: &ckks::Ciphertext,
        public: &PublicKey,
    ) -> Result<(), Error> {
        self.context().check_digest(ciphertext.digest)?;
        ciphertext.check_parts(2)?;
        ciphertext.check_key(public.key_id())
    }

    /// Re-randomises a ciphertext and drowns its error: see [`crate::flooding`].
    ///
    /// `operand` bounds the message (times the scale) and the error of the ciphertext.
    ///
    /// Level, scale: unchanged     Noise: [`NoiseModel::flooded`]
    /// Timing: independent of the ciphertext
    ///
    /// # Errors
    /// [`Error::NoRoomToFlood`] if message and noise would not fit the modulus,
    /// [`Error::FloodingOutOfRange`], [`Error::PartCount`] unless relinearised,
    /// [`Error::KeyMismatch`], [`Error::ParameterMismatch`].
    pub fn flood(
        &self,
        ciphertext: &ckks::Ciphertext,
        operand: Operand,
        public: &PublicKey,
        flooding: Flooding,
        rng: &mut impl CryptoRng,
    ) -> Result<ckks::Ciphertext, Error> {
        self.context().check_digest(ciphertext.digest)?;
        let model = NoiseModel::new(self.context().parameters());
        let room_bits = self.context().parameters().log_q(ciphertext.level) - 1.0;
        self.flood_within(
            ciphertext,
            operand,
            (&model, room_bits),
            public,
            flooding,
            rng,
        )
    }

    /// The same for a [traced](ckks::Evaluator::trace) ciphertext, whose error is that of the few
    /// coefficients that it keeps: less noise drowns it, and nothing else is left of it.
    ///
    /// # Errors
    /// As [`ckks::Evaluator::flood`]; [`Error::BadPeriod`].
    pub fn flood_traced(
        &self,
        ciphertext: &ckks::Ciphertext,
        operand: Operand,
        period: usize,
        public: &PublicKey,
        flooding: Flooding,
        rng: &mut impl CryptoRng,
    ) -> Result<ckks::Ciphertext, Error> {
        let context = &**self.context();
        context.check_digest(ciphertext.digest)?;
        let stride = subring::stride(context, period)?;
        let model = NoiseModel::new(context.parameters()).traced(stride);
        let room_bits = context.parameters().log_q(ciphertext.level) - 1.0;
        let within = (&model, room_bits);
        let mut out = self.flood_within(ciphertext, operand, within, public, flooding, rng)?;
        subring::keep(context, &mut out.parts[0], stride);
        Ok(out)
    }

    /// [`ckks::Evaluator::flood`] by a model of the noise, with a bound of the coefficients in
    /// bits.
    pub(crate) fn flood_within(
        &self,
        ciphertext: &ckks::Ciphertext,
        operand: Operand,
        (model, room_bits): (&NoiseModel, f64),
        public: &PublicKey,
        flooding: Flooding,
        rng: &mut impl CryptoRng,
    ) -> Result<ckks::Ciphertext, Error> {
        let context = &**self.context();
        self.check_rerandomizable(ciphertext, public)?;
        flooding.check()?;
        let (error, distribution) = model.drowned(operand.noise, flooding);
        let (_, largest) = distribution.coefficient();
        let needed_bits = (operand.magnitude.abs() + error.bound + largest).log2();
        if needed_bits >= room_bits || needed_bits.is_nan() {
            return Err(Error::NoRoomToFlood {
                needed_bits,
                room_bits,
            });
        }
        let mut out = self.rerandomize(ciphertext, public, rng)?;
        let noise = distribution.sample(context, model.kept(), rng);
        let noise = noise.to_poly(context.ring(), context.basis(ciphertext.level));
        let mut noise = noise.into_ntt(context.ring());
        out.parts[0].add_assign(context.ring(), &noise);
        noise.zeroize();
        Ok(out)
    }
}
