//! Orthogonal series and powers.

/// A family of orthogonal polynomials on `-1..1`, with `P_0 = 1` and `P_1 = x`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Basis {
    /// `T_(k+1) = 2 x T_k - T_(k-1)`.
    Chebyshev,
    /// `(k + 1) P_(k+1) = (2 k + 1) x P_k - k P_(k-1)`.
    Legendre,
}

impl Basis {
    /// `(a, b)` of `P_(k+1) = a x P_k - b P_(k-1)`, with `P_(-1) = 0`.
    pub(super) fn recurrence(self, k: usize) -> (f64, f64) {
        let k = k as f64;
        match self {
            Self::Chebyshev if k == 0.0 => (1.0, 0.0),
            Self::Chebyshev => (2.0, 1.0),
            Self::Legendre => ((2.0 * k + 1.0) / (k + 1.0), k / (k + 1.0)),
        }
    }

    /// The polynomial `sum series[k] P_k`, lowest power first.
    pub(super) fn to_powers(self, series: &[f64]) -> Vec<f64> {
        let size = series.len();
        let (mut before, mut current) = (vec![0.0; size], vec![0.0; size]);
        current[0] = 1.0;
        let mut sum = vec![0.0; size];
        for (k, &c) in series.iter().enumerate() {
            sum.iter_mut().zip(&current).for_each(|(s, p)| *s += c * p);
            let (a, b) = self.recurrence(k);
            let mut next: Vec<f64> = before.iter().map(|p| -b * p).collect();
            (1..size).for_each(|i| next[i] += a * current[i - 1]);
            before = std::mem::replace(&mut current, next);
        }
        sum
    }
}

/// Coefficients of `p(scale * x + offset)`.
pub(super) fn substitute(p: &[f64], scale: f64, offset: f64) -> Vec<f64> {
    let mut result = vec![0.0; p.len()];
    for &c in p.iter().rev() {
        let mut next = vec![0.0; p.len()];
        for (i, &r) in result.iter().enumerate() {
            next[i] += offset * r;
            if i + 1 < p.len() {
                next[i + 1] += scale * r;
            }
        }
        next[0] += c;
        result = next;
    }
    result
}
