//! Lattice homomorphic encryption over one RNS-RLWE core: parameters, keys, CKKS, BGV, circuits,
//! codec.
//!
//! Layers, downwards: [`circuits`] (linear transforms, folds, polynomials) on [`ckks`] and [`bgv`]
//! (encode, evaluate) on the RLWE core (key switching, division by primes) on the rings of
//! `scuro-polyring`.
//! [`params`] certifies every parameter set against a security table; there is no way around it.
//! [`owner`] is the only module that can name a secret key. [`codec`] is the only way in and out.
//!
//! Security: IND-CPA. Decryptions of approximate numbers must not be shown to anyone but the key's
//! owner without further noise. Evaluation does not hide the evaluator's own constants from the
//! key's owner, unless the result is flooded ([`flooding`]).
//! Timing: operations do not branch on coefficients, plaintexts or secrets; rejection sampling
//!     depends on the stream only.

mod any;
mod context;
mod error;
mod key_id;
mod rlwe;

pub mod bfv;
pub mod bgv;
pub mod circuits;
pub mod ckks;
pub mod codec;
pub mod compact;
pub mod flooding;
pub mod keys;
pub mod masking;
pub mod noise;
pub mod owner;
pub mod params;
pub mod subring;

pub use any::{AnyCiphertext, AnyCompactCiphertext, AnyContext};
pub use context::Context;
pub use error::Error;
pub use key_id::KeyId;
pub use scuro_polyring::{Kernel, RingKind};
