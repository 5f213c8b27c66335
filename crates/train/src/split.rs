//! How the examples of one data set are dealt out to several holders, who share none of them.

use std::fmt;
use std::str::FromStr;

use rand_core::Rng;

use crate::error::{Error, Result};
use crate::random::{Purpose, normal_f64, permutation, stream, uniform_f64};

/// Fewest examples that a holder is left with.
pub const EXAMPLES_MIN: usize = 10;
/// Draws of a label skew before it counts as impossible.
const DRAWS_MAX: u64 = 1000;
/// Concentrations that are taken.
const ALPHA: (f64, f64) = (1e-3, 1e6);
/// Exponents that are taken.
const POWER: (f64, f64) = (0.0, 8.0);

/// How examples are dealt out. Written `iid`, `label-skew:0.5`, `disjoint-classes` or
/// `size-skew:1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Partition {
    /// At random, in equal shares.
    Iid,
    /// Of each class, holder `h` gets a share `p_h`, and `p` is Dirichlet with `M` times `alpha`:
    /// the smaller, the fewer classes a holder sees.
    ///
    /// Source: Hsu, Qi, Brown 2019, section 3, in the form of Yurochkin et al. 2019 that draws for
    /// each class; drawn again until nobody has fewer than [`EXAMPLES_MIN`].
    LabelSkew {
        /// Concentration.
        alpha: f64,
    },
    /// Every class belongs to one holder; with more holders than classes, to a few who share its
    /// examples.
    DisjointClasses,
    /// Holder `h = 1, 2, ...` gets a share of all examples that falls as `h^-power`; labels are
    /// as everywhere.
    SizeSkew {
        /// Exponent of the power law.
        power: f64,
    },
}

impl Partition {
    /// For each of `holders` holders the positions of its examples, in ascending order; every
    /// position of `labels` is dealt once, and equal arguments deal equally.
    ///
    /// # Errors
    /// [`Error::Holders`] if there are none, or too few examples, or too few classes for them;
    /// [`Error::Setting`] for a concentration or an exponent out of range.
    pub fn deal(self, labels: &[usize], holders: usize, seed: u64) -> Result<Vec<Vec<usize>>> {
        self.check()?;
        let examples = labels.len();
        if holders == 0 || examples / EXAMPLES_MIN < holders {
            return Err(Error::Holders { holders, examples });
        }
        let mut dealt = match self {
            Self::Iid => by_size(&vec![1.0; holders], examples, seed),
            Self::SizeSkew { power } => {
                let share = |holder: usize| (holder as f64).powf(-power);
                let shares: Vec<f64> = (1..=holders).map(share).collect();
                by_size(&shares, examples, seed)
            }
            Self::DisjointClasses => disjoint(&by_class(labels, seed), holders, seed),
            Self::LabelSkew { alpha } => {
                let classes = by_class(labels, seed);
                let draws = (0..DRAWS_MAX).map(|draw| skewed(&classes, holders, alpha, seed, draw));
                let enough = |dealt: &Vec<Vec<usize>>| smallest(dealt) >= EXAMPLES_MIN;
                draws.into_iter().find(enough).unwrap_or_default()
            }
        };
        if dealt.len() != holders || smallest(&dealt) < EXAMPLES_MIN {
            return Err(Error::Holders { holders, examples });
        }
        dealt.iter_mut().for_each(|part| part.sort_unstable());
        Ok(dealt)
    }

    fn check(self) -> Result<()> {
        let (setting, found, (low, high), expected) = match self {
            Self::LabelSkew { alpha } => ("alpha", alpha, ALPHA, "0.001 to 1000000"),
            Self::SizeSkew { power } => ("power", power, POWER, "0 to 8"),
            Self::Iid | Self::DisjointClasses => return Ok(()),
        };
        match (low..=high).contains(&found) {
            true => Ok(()),
            false => Err(Error::Setting {
                setting,
                found,
                expected,
            }),
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Iid => out.write_str("iid"),
            Self::LabelSkew { alpha } => write!(out, "label-skew:{alpha}"),
            Self::DisjointClasses => out.write_str("disjoint-classes"),
            Self::SizeSkew { power } => write!(out, "size-skew:{power}"),
        }
    }
}

impl FromStr for Partition {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || Error::UnknownSplit {
            found: text.chars().take(80).collect(),
        };
        let (name, number) = match text.split_once(':') {
            Some((name, number)) => (name, Some(number.parse().map_err(|_| unknown())?)),
            None => (text, None),
        };
        let split = match (name, number) {
            ("iid", None) => Self::Iid,
            ("disjoint-classes", None) => Self::DisjointClasses,
            ("label-skew", number) => Self::LabelSkew {
                alpha: number.unwrap_or(0.5),
            },
            ("size-skew", number) => Self::SizeSkew {
                power: number.unwrap_or(1.0),
            },
            _ => return Err(unknown()),
        };
        split.check()?;
        Ok(split)
    }
}

fn smallest(dealt: &[Vec<usize>]) -> usize {
    dealt.iter().map(Vec::len).min().unwrap_or(0)
}

/// Pieces of `order` whose sizes are as the shares, up to rounding.
fn cut(order: &[usize], shares: &[f64]) -> Vec<Vec<usize>> {
    let total: f64 = shares.iter().sum();
    let (mut start, mut sum) = (0, 0.0);
    let mut piece = |(at, share): (usize, &f64)| {
        sum += share;
        // The last piece ends where the order ends, whatever the sum has lost.
        let end = match at + 1 == shares.len() {
            true => order.len(),
            false => (sum / total * order.len() as f64).round() as usize,
        };
        let end = end.clamp(start, order.len());
        let piece = order[start..end].to_vec();
        start = end;
        piece
    };
    shares.iter().enumerate().map(&mut piece).collect()
}

fn by_size(shares: &[f64], examples: usize, seed: u64) -> Vec<Vec<usize>> {
    let order = permutation(&mut stream(seed, Purpose::Deal, 0), examples);
    cut(&order, shares)
}

/// The examples of each class that has some, in random order.
fn by_class(labels: &[usize], seed: u64) -> Vec<Vec<usize>> {
    let order = permutation(&mut stream(seed, Purpose::Deal, 0), labels.len());
    let classes = labels.iter().max().map_or(0, |most| most + 1);
    let mut found = vec![Vec::new(); classes];
    order.into_iter().for_each(|i| found[labels[i]].push(i));
    found.retain(|examples| !examples.is_empty());
    found
}

/// Classes in random order, dealt out like cards; if there are fewer of them than holders, holders
/// are dealt out to classes.
fn disjoint(classes: &[Vec<usize>], holders: usize, seed: u64) -> Vec<Vec<usize>> {
    let order = permutation(&mut stream(seed, Purpose::Deal, 1), classes.len());
    let mut dealt = vec![Vec::new(); holders];
    if classes.len() >= holders {
        for (turn, class) in order.into_iter().enumerate() {
            dealt[turn % holders].extend_from_slice(&classes[class]);
        }
        return dealt;
    }
    for (turn, class) in order.iter().enumerate() {
        let owners: Vec<usize> = (turn..holders).step_by(classes.len()).collect();
        let pieces = cut(&classes[*class], &vec![1.0; owners.len()]);
        for (owner, piece) in owners.into_iter().zip(pieces) {
            dealt[owner] = piece;
        }
    }
    dealt
}

fn skewed(
    classes: &[Vec<usize>],
    holders: usize,
    alpha: f64,
    seed: u64,
    draw: u64,
) -> Vec<Vec<usize>> {
    let mut rng = stream(seed, Purpose::Deal, 2 + draw);
    let mut dealt = vec![Vec::new(); holders];
    for class in classes {
        let pieces = cut(class, &dirichlet(&mut rng, alpha, holders));
        for (holder, piece) in dealt.iter_mut().zip(pieces) {
            holder.extend(piece);
        }
    }
    dealt
}

/// Shares that sum to 1, uniform over them for `alpha = 1`: gamma variates, divided by their sum.
/// Logarithms, since for small `alpha` the variates themselves are below the smallest double.
fn dirichlet(rng: &mut impl Rng, alpha: f64, count: usize) -> Vec<f64> {
    let logs: Vec<f64> = (0..count).map(|_| log_gamma_variate(rng, alpha)).collect();
    let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logs.iter().map(|log| (log - top).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// The logarithm of a gamma variate of this shape and scale 1.
///
/// Source: Marsaglia, Tsang 2000, section 2; for shapes below 1 their note: a variate of shape
/// `a + 1`, times `U^(1/a)`.
fn log_gamma_variate(rng: &mut impl Rng, shape: f64) -> f64 {
    if shape < 1.0 {
        let boost = (1.0 - uniform_f64(rng)).ln() / shape;
        return log_gamma_variate(rng, shape + 1.0) + boost;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal_f64(rng);
        let v = (1.0 + c * x).powi(3);
        let u = 1.0 - uniform_f64(rng);
        if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d.ln() + v.ln();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn labels(classes: usize, each: usize) -> Vec<usize> {
        (0..classes * each).map(|i| i * 7 % classes).collect()
    }

    fn histogram(part: &[usize], labels: &[usize], classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        part.iter().for_each(|&i| counts[labels[i]] += 1);
        counts
    }

    fn any_partition() -> impl Strategy<Value = Partition> {
        prop_oneof![
            Just(Partition::Iid),
            Just(Partition::DisjointClasses),
            (0.05..100.0).prop_map(|alpha| Partition::LabelSkew { alpha }),
            (0.0..1.5).prop_map(|power| Partition::SizeSkew { power }),
        ]
    }

    proptest! {
        #[test]
        fn every_example_goes_to_one_holder_and_each_gets_some(
            partition in any_partition(), holders in 1usize..8, seed in any::<u64>(),
        ) {
            let labels = labels(5, 120);
            let dealt = partition.deal(&labels, holders, seed).unwrap();
            prop_assert_eq!(dealt.len(), holders);
            prop_assert!(smallest(&dealt) >= EXAMPLES_MIN);
            let mut all = dealt.concat();
            all.sort_unstable();
            prop_assert!(all.into_iter().eq(0..labels.len()));
            prop_assert_eq!(&dealt, &partition.deal(&labels, holders, seed).unwrap());
            if holders > 1 {
                let other = partition.deal(&labels, holders, seed ^ 1).unwrap();
                prop_assert!(dealt != other || partition == Partition::DisjointClasses);
            }
        }

        #[test]
        fn names_are_read_as_they_are_written(partition in any_partition()) {
            prop_assert_eq!(partition.to_string().parse::<Partition>().unwrap(), partition);
        }

        #[test]
        fn disjoint_classes_are_shared_only_if_there_are_too_few(holders in 1usize..12) {
            let labels = labels(5, 120);
            let dealt = Partition::DisjointClasses.deal(&labels, holders, 3).unwrap();
            let classes = dealt.iter().map(|part| -> BTreeSet<usize> {
                part.iter().map(|&i| labels[i]).collect()
            });
            let classes: Vec<BTreeSet<usize>> = classes.collect();
            let (most, least) = (5usize.div_ceil(holders), (5 / holders).max(1));
            prop_assert!(classes.iter().all(|c| (least..=most).contains(&c.len())));
            if holders <= 5 {
                prop_assert_eq!(classes.iter().map(BTreeSet::len).sum::<usize>(), 5);
            }
        }
    }

    #[test]
    fn sizes_follow_the_power_law() {
        let labels = labels(10, 120);
        let dealt = Partition::SizeSkew { power: 1.0 }
            .deal(&labels, 3, 1)
            .unwrap();
        // 1 : 1/2 : 1/3 of 1200.
        assert_eq!(
            dealt.iter().map(Vec::len).collect::<Vec<_>>(),
            [655, 327, 218]
        );
        let even = Partition::Iid.deal(&labels, 3, 1).unwrap();
        assert!(even.iter().all(|part| part.len() == 400));
    }

    #[test]
    fn a_small_concentration_skews_more() {
        let labels = labels(10, 400);
        let imbalance = |alpha: f64| -> usize {
            let dealt = Partition::LabelSkew { alpha }.deal(&labels, 4, 5).unwrap();
            let worst = |part: &Vec<usize>| {
                let counts = histogram(part, &labels, 10);
                counts.iter().map(|&n| n.abs_diff(100)).sum::<usize>()
            };
            dealt.iter().map(worst).sum()
        };
        assert!(imbalance(0.1) > imbalance(1.0) && imbalance(1.0) > imbalance(100.0));
        assert!(imbalance(1e6) < 40);
    }

    #[test]
    fn gamma_variates_have_the_right_mean_and_variance() {
        for shape in [0.3, 1.0, 4.5] {
            let mut rng = stream(11, Purpose::Deal, 0);
            let draws = 40_000;
            let values: Vec<f64> = (0..draws)
                .map(|_| log_gamma_variate(&mut rng, shape).exp())
                .collect();
            let mean = values.iter().sum::<f64>() / f64::from(draws);
            let square = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
            let variance = square / f64::from(draws);
            // Mean and variance are both the shape.
            assert!((mean / shape - 1.0).abs() < 0.03, "{shape}: {mean}");
            assert!((variance / shape - 1.0).abs() < 0.08, "{shape}: {variance}");
        }
    }

    #[test]
    fn shares_of_a_tiny_concentration_are_numbers() {
        let mut rng = stream(1, Purpose::Deal, 0);
        for _ in 0..100 {
            let shares = dirichlet(&mut rng, 1e-3, 5);
            assert!(
                (shares.iter().sum::<f64>() - 1.0).abs() < 1e-9,
                "{shares:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_dealt_is_an_error() {
        let labels = labels(2, 20);
        for holders in [0, 5] {
            let dealt = Partition::Iid.deal(&labels, holders, 1);
            assert!(matches!(dealt, Err(Error::Holders { .. })));
        }
        let unequal = Partition::SizeSkew { power: 8.0 }.deal(&labels, 3, 1);
        assert!(matches!(unequal, Err(Error::Holders { .. })));
        let alpha = Partition::LabelSkew { alpha: f64::NAN }.deal(&labels, 2, 1);
        assert!(matches!(
            alpha,
            Err(Error::Setting {
                setting: "alpha",
                ..
            })
        ));
        for text in ["", "noniid", "iid:1", "label-skew:x", "disjoint-classes:2"] {
            let parsed = text.parse::<Partition>();
            assert!(matches!(parsed, Err(Error::UnknownSplit { .. })), "{text}");
        }
        for text in [
            "label-skew:0",
            "label-skew:-1",
            "size-skew:9",
            "size-skew:nan",
        ] {
            let parsed = text.parse::<Partition>();
            assert!(matches!(parsed, Err(Error::Setting { .. })), "{text}");
        }
    }
}
