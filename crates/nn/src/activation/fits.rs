//! Coefficients of each kind of fit, lowest degree first.

use super::series::{Basis, substitute};
use super::{Function, Interval};

/// Samples of a Chebyshev series.
const CHEBYSHEV_SAMPLES: usize = 512;
/// Samples of a Legendre series: the midpoint rule then leaves an error below 1e-7 of the width.
const LEGENDRE_SAMPLES: usize = 8192;

/// Least squares with weight `1 / sqrt(1 - u^2)`, `u` the interval scaled to `-1..1`.
///
/// Math: `c_k = (2 - [k = 0]) / n  sum_j f(u_j) T_k(u_j)` at the `n` Chebyshev points `u_j`
pub(super) fn chebyshev(
    function: impl Fn(f64) -> f64,
    interval: Interval,
    degree: usize,
) -> Vec<f64> {
    let (middle, half) = interval.centre();
    let mut series = vec![0.0; degree + 1];
    for sample in 0..CHEBYSHEV_SAMPLES {
        let angle = std::f64::consts::PI * (sample as f64 + 0.5) / CHEBYSHEV_SAMPLES as f64;
        let value = function(middle + half * angle.cos());
        for (k, c) in series.iter_mut().enumerate() {
            let weight = if k == 0 { 1.0 } else { 2.0 };
            *c += weight * value * (k as f64 * angle).cos() / CHEBYSHEV_SAMPLES as f64;
        }
    }
    on_interval(&Basis::Chebyshev.to_powers(&series), interval)
}

/// Least squares with weight 1.
///
/// Math: `c_k = (2 k + 1) / 2  integral f(u) P_k(u) du` over `-1..1`, by the midpoint rule
pub(super) fn least_squares(
    function: impl Fn(f64) -> f64,
    interval: Interval,
    degree: usize,
) -> Vec<f64> {
    let (middle, half) = interval.centre();
    let mut series = vec![0.0; degree + 1];
    for sample in 0..LEGENDRE_SAMPLES {
        let u = (2.0 * sample as f64 + 1.0) / LEGENDRE_SAMPLES as f64 - 1.0;
        let value = function(middle + half * u);
        let (mut before, mut current) = (0.0, 1.0);
        for (k, c) in series.iter_mut().enumerate() {
            *c += (2 * k + 1) as f64 * value * current / LEGENDRE_SAMPLES as f64;
            let (a, b) = Basis::Legendre.recurrence(k);
            (before, current) = (current, a * u * current - b * before);
        }
    }
    on_interval(&Basis::Legendre.to_powers(&series), interval)
}

/// The integral of the least-squares fit of the derivative, equal to the function at zero or the
/// interval's end next to it.
pub(super) fn derivative(function: Function, interval: Interval, degree: usize) -> Vec<f64> {
    let slope = least_squares(|x| function.slope(x), interval, degree - 1);
    let mut integral = vec![0.0];
    integral.extend(slope.iter().enumerate().map(|(k, c)| c / (k + 1) as f64));
    let anchor = 0f64.clamp(interval.low(), interval.high());
    let value = integral.iter().rev().fold(0.0, |s, c| s * anchor + c);
    integral[0] = function.value(anchor) - value;
    integral
}

/// The first terms of the power series about zero.
///
/// Math: the logistic function has `s' = s - s^2`, tanh `t' = 1 - t^2`, softplus is the integral of
/// the logistic function; each gives the next coefficient from those before.
pub(super) fn taylor(function: Function, degree: usize) -> Vec<f64> {
    match function {
        Function::Relu => {
            let slope = logistic(degree.saturating_sub(1));
            let mut series = vec![std::f64::consts::LN_2];
            series.extend(slope.iter().enumerate().map(|(k, c)| c / (k + 1) as f64));
            series
        }
        Function::Sigmoid => logistic(degree),
        Function::Tanh => {
            let mut series = vec![0.0];
            for k in 0..degree {
                let unit = if k == 0 { 1.0 } else { 0.0 };
                series.push((unit - square_term(&series, k)) / (k + 1) as f64);
            }
            series
        }
    }
}

fn logistic(degree: usize) -> Vec<f64> {
    let mut series = vec![0.5];
    for k in 0..degree {
        series.push((series[k] - square_term(&series, k)) / (k + 1) as f64);
    }
    series
}

/// Coefficient `k` of the square of `series`.
fn square_term(series: &[f64], k: usize) -> f64 {
    (0..=k).map(|i| series[i] * series[k - i]).sum()
}

/// `p(u)` with `u` the interval scaled to `-1..1`, in powers of `x`.
fn on_interval(p: &[f64], interval: Interval) -> Vec<f64> {
    let (middle, half) = interval.centre();
    substitute(p, 1.0 / half, -middle / half)
}
