//! Graph to program: ordered passes, one file each.
//!
//! 1. `check`: weights and calibration data are finite and fit.
//! 2. [`friendliness`](mod@friendliness), [`activations`]: what ciphertexts cannot compute, and
//!    replacements on demand.
//! 3. `normalise`: affine maps and slotwise products; `rounding`: how exact programs round weights.
//! 4. `layout`: elements to slots, diagonals, baby and giant steps.
//! 5. `lower`: steps; `interleave`: several images in one query; `rotations`: those that there may
//!    be keys for; `ranges`: how large values grow on calibration data.
//! 6. `levels`: scales, rescales, primes; `primes`: those that sizes stand for; `worst`: how large
//!    values become for any input, which is what replies are flooded by; `keys`: what the client
//!    must make; `cost` and `noise`: predictions.
//! 7. [`ensemble`]: what programs of several holders have in common.
//!
//! Non-goals: no ciphertexts, no files, no clock. The same graph, options and calibration data give
//! the same program.

pub mod activations;
mod agreement;
mod batch;
mod check;
mod compile;
mod conceal;
pub mod cost;
mod digest;
mod drafts;
mod dumps;
pub mod ensemble;
mod error;
pub mod friendliness;
mod interleave;
mod keys;
mod layout;
mod levels;
mod lower;
mod noise;
mod normalise;
mod options;
mod parameters;
mod primes;
mod ranges;
mod report;
mod rotations;
mod rounding;
mod sensitivity;
mod sparse;
mod spread;
mod worst;

pub use compile::{Compilation, compile};
pub use dumps::Dump;
pub use error::CompileError;
pub use friendliness::friendliness;
pub use options::{Arithmetic, IMAGES_PER_QUERY_MAX, Options, Rotations};
pub use report::Report;
