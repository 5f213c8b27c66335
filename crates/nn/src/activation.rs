//! Polynomials that stand for activation functions, which ciphertexts cannot compute.
//!
//! [`Replacement`] names every kind that there is, [`Replacement::fit`] gives its coefficients on
//! an interval with the largest error there, and [`replace`] puts them into a network.

mod fits;
mod network;
mod series;

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::graph::Op;

pub use network::{Calibration, Plan, Which, replace};

/// Highest degree of a replacement: beyond it, coefficients in powers of `x` lose their digits.
pub const DEGREE_MAX: usize = 31;
/// Points at which the error of a fit is measured, beside its ends and the kink at zero.
const ERROR_POINTS: usize = 4096;

/// A function that is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// `max(x, 0)`.
    Relu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
}

impl Function {
    /// The function that `op` computes, if ciphertexts cannot.
    pub fn of(op: &Op) -> Option<Self> {
        match op {
            Op::Relu => Some(Self::Relu),
            Op::Sigmoid => Some(Self::Sigmoid),
            Op::Tanh => Some(Self::Tanh),
            _ => None,
        }
    }

    /// Its value.
    pub fn value(self, x: f64) -> f64 {
        match self {
            Self::Relu => x.max(0.0),
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Tanh => x.tanh(),
        }
    }

    /// Its derivative; a half at the kink of ReLU.
    pub fn slope(self, x: f64) -> f64 {
        match self {
            Self::Relu if x == 0.0 => 0.5,
            Self::Relu => f64::from(u8::from(x > 0.0)),
            Self::Sigmoid => self.value(x) * (1.0 - self.value(x)),
            Self::Tanh => 1.0 - x.tanh() * x.tanh(),
        }
    }
}

/// Where a replacement should be close: `low < high`, both finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    low: f64,
    high: f64,
}

impl Interval {
    /// The interval from `low` to `high`.
    ///
    /// # Errors
    /// [`Error::Interval`] unless `low < high` and both are finite.
    pub fn new(low: f64, high: f64) -> Result<Self> {
        if low < high && low.is_finite() && high.is_finite() {
            Ok(Self { low, high })
        } else {
            Err(Error::Interval { low, high })
        }
    }

    /// Its lower end.
    pub fn low(self) -> f64 {
        self.low
    }

    /// Its upper end.
    pub fn high(self) -> f64 {
        self.high
    }

    /// Its middle and half its width.
    fn centre(self) -> (f64, f64) {
        ((self.low + self.high) / 2.0, (self.high - self.low) / 2.0)
    }
}

/// What stands for an activation function. Written `none`, `square`, `modified-square`,
/// `taylor:4`, `derivative-fit:2`, `least-squares:3`, `chebyshev:3` or `learned-quadratic`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Replacement {
    /// `x`: the activation is skipped.
    ///
    /// Source: Gomez et al. 2019, section 4.2 ("we skip activation function").
    None,
    /// `x^2`, whatever the function.
    ///
    /// Source: Gilad-Bachrach et al. 2016 (CryptoNets), section 3.
    Square,
    /// `x^2 / 4 + x / 2 = ((x + 1)^2 - 1) / 4`, for ReLU; one square, exact on integers that are
    /// multiples of 4.
    ///
    /// Source: Gomez et al. 2019, section 4.2: the ReLU approximation of Chabanne et al. 2017
    /// (0.1992 + 0.5002 x + 0.1997 x^2) "with simpler coefficients". The paper draws its
    /// coefficients (figure 6) and does not print them; these are the nearest powers of two, and
    /// the constant goes into the bias of the next layer anyway.
    ModifiedSquare,
    /// The Taylor polynomial about 0: of softplus `ln(1 + e^x)` for ReLU, else of the function
    /// itself. Diverges beyond `|x| = pi` (`pi / 2` for tanh) as the degree grows.
    ///
    /// Source: Chabanne et al. 2017, section 3.
    Taylor {
        /// Degree.
        degree: usize,
    },
    /// The derivative's least-squares fit, integrated; equal to the function at 0, or at the
    /// interval's end next to it.
    ///
    /// Source: Hesamifard et al. 2017 (CryptoDL), section 4.
    DerivativeFit {
        /// Degree of the integral.
        degree: usize,
    },
    /// Least squares over the interval, all of it weighing the same (Legendre series).
    LeastSquares {
        /// Degree.
        degree: usize,
    },
    /// The Chebyshev series over the interval: least squares with its ends weighing more, within a
    /// small factor of the smallest possible largest error.
    Chebyshev {
        /// Degree.
        degree: usize,
    },
    /// The least-squares quadratic, whose coefficients training then changes.
    LearnedQuadratic,
}

/// A polynomial and how far it is from what it stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// Coefficients, lowest degree first.
    pub coefficients: Vec<f64>,
    /// The interval that it was made for.
    pub interval: Interval,
    /// Largest distance from the function on the interval, found at 4096 even points, the ends and
    /// the kink.
    pub error: f64,
}

impl Fit {
    /// The value at `x`.
    pub fn value(&self, x: f64) -> f64 {
        self.coefficients.iter().rev().fold(0.0, |s, c| s * x + c)
    }
}

impl Replacement {
    /// One of each kind, with the degrees of the papers: what the study compares.
    pub const STUDIED: [Self; 8] = [
        Self::None,
        Self::Square,
        Self::ModifiedSquare,
        Self::Taylor { degree: 4 },
        Self::DerivativeFit { degree: 2 },
        Self::LeastSquares { degree: 4 },
        Self::Chebyshev { degree: 4 },
        Self::LearnedQuadratic,
    ];

    /// The polynomial for `function` on `interval`.
    ///
    /// # Errors
    /// [`Error::PolynomialDegree`] for a degree of 0 or above [`DEGREE_MAX`].
    pub fn fit(self, function: Function, interval: Interval) -> Result<Fit> {
        let found = self.degree();
        if !(1..=DEGREE_MAX).contains(&found) {
            let limit = DEGREE_MAX;
            return Err(Error::PolynomialDegree { found, limit });
        }
        let coefficients = match self {
            Self::None => vec![0.0, 1.0],
            Self::Square => vec![0.0, 0.0, 1.0],
            Self::ModifiedSquare => vec![0.0, 0.5, 0.25],
            Self::Taylor { degree } => fits::taylor(function, degree),
            Self::DerivativeFit { degree } => fits::derivative(function, interval, degree),
            Self::LeastSquares { .. } | Self::LearnedQuadratic => {
                fits::least_squares(|x| function.value(x), interval, found)
            }
            Self::Chebyshev { degree } => fits::chebyshev(|x| function.value(x), interval, degree),
        };
        let mut fit = Fit {
            coefficients,
            interval,
            error: 0.0,
        };
        fit.error = largest_error(&fit, function);
        Ok(fit)
    }

    /// Degree of the polynomial.
    pub fn degree(self) -> usize {
        match self {
            Self::None => 1,
            Self::Square | Self::ModifiedSquare | Self::LearnedQuadratic => 2,
            Self::Taylor { degree }
            | Self::DerivativeFit { degree }
            | Self::LeastSquares { degree }
            | Self::Chebyshev { degree } => degree,
        }
    }

    /// Whether training changes the coefficients.
    pub fn is_learned(self) -> bool {
        self == Self::LearnedQuadratic
    }

    /// The operator for a fit of this replacement; none if the activation goes away.
    pub fn op(self, fit: &Fit) -> Option<Op> {
        match self {
            Self::None => None,
            Self::Square => Some(Op::Square),
            _ => Some(Op::Polynomial {
                coefficients: fit.coefficients.iter().map(|&c| c as f32).collect(),
            }),
        }
    }
}

fn largest_error(fit: &Fit, function: Function) -> f64 {
    let (low, width) = (fit.interval.low, fit.interval.high - fit.interval.low);
    let even = (0..=ERROR_POINTS).map(|i| low + width * i as f64 / ERROR_POINTS as f64);
    let kink = 0f64.clamp(fit.interval.low, fit.interval.high);
    even.chain([kink])
        .map(|x| (fit.value(x) - function.value(x)).abs())
        .fold(0.0, f64::max)
}

impl fmt::Display for Replacement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => out.write_str("none"),
            Self::Square => out.write_str("square"),
            Self::ModifiedSquare => out.write_str("modified-square"),
            Self::Taylor { degree } => write!(out, "taylor:{degree}"),
            Self::DerivativeFit { degree } => write!(out, "derivative-fit:{degree}"),
            Self::LeastSquares { degree } => write!(out, "least-squares:{degree}"),
            Self::Chebyshev { degree } => write!(out, "chebyshev:{degree}"),
            Self::LearnedQuadratic => out.write_str("learned-quadratic"),
        }
    }
}

/// Names with a degree take `NAME:DEGREE`; without one the degree is that of [`STUDIED`].
///
/// [`STUDIED`]: Replacement::STUDIED
impl FromStr for Replacement {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || Error::ReplacementName { name: text.into() };
        let (name, degree) = match text.split_once(':') {
            Some((name, degree)) => (name, Some(degree.parse().map_err(|_| unknown())?)),
            None => (text, None),
        };
        let replacement = match (name, degree) {
            ("none", None) => Self::None,
            ("square", None) => Self::Square,
            ("modified-square", None) => Self::ModifiedSquare,
            ("learned-quadratic", None) => Self::LearnedQuadratic,
            ("taylor", degree) => Self::Taylor {
                degree: degree.unwrap_or(4),
            },
            ("derivative-fit", degree) => Self::DerivativeFit {
                degree: degree.unwrap_or(2),
            },
            ("least-squares", degree) => Self::LeastSquares {
                degree: degree.unwrap_or(4),
            },
            ("chebyshev", degree) => Self::Chebyshev {
                degree: degree.unwrap_or(4),
            },
            _ => return Err(unknown()),
        };
        match replacement.degree() {
            1..=DEGREE_MAX => Ok(replacement),
            found => Err(Error::PolynomialDegree {
                found,
                limit: DEGREE_MAX,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
