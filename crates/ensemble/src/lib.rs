//! How the predictions of several networks become one.
//!
//! `M` *holders* each have a network; for one example holder `h` gives the scores `z_h`, one a
//! class (logits: before a softmax). A [`Rule`] makes one vector of scores of them:
//!
//! ```text
//! mean         (1/M) sum_h z_h
//! weighted     sum_h w_h z_h / sum_h w_h           w_h: integers of 8 bits
//! log-opinion  sum_h t_h z_h                       softmax of it: the product of p_h^t_h
//! stacking     W [z_1 ... z_M] + b                 a linear model of the predictions
//! soft-vote    sum_h a (z_h / B + b)^2 + c         a polynomial stands for softmax
//! confidence   sum_h 5/16 (z_h / B) + 35/48 (z_h / B)^3      close to x |x|
//! majority     votes of the largest scores         needs the predictions in clear
//! ```
//!
//! All but the last are polynomials of degree at most 3 in the predictions, so that a coordinator
//! can compute them on ciphertexts. Parameters are fitted on [`HeldOut`] predictions, which no
//! holder was trained on, and travel as [`Rules`].
//!
//! Layers, lower ones first: `numeric`; a file for the parameters of each rule; [`Rule`];
//! [`Rules`], the file; [`combination`], rules as programs on ciphertexts. Nothing here reads a
//! clock, a file or a random generator: equal predictions give equal rules.

pub mod combination;
mod confidence;
mod error;
mod held_out;
mod linear;
mod majority;
mod numeric;
mod rule;
mod rules;
mod soft_vote;
mod stacking;

pub use confidence::Confidence;
pub use error::{Error, Result};
pub use held_out::HeldOut;
pub use linear::{Exponents, Weights};
pub use numeric::{argmax, softmax};
pub use rule::{Rule, RuleKind, votes};
pub use rules::{HOLDERS_MAX, RULES_BYTES, Rules, VERSION};
pub use soft_vote::SoftVote;
pub use stacking::Stacking;
