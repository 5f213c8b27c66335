//! Products, truncation and ReLU on shares against integers in clear.

use crate::common::{opened, random, rng, run};
use proptest::prelude::*;
use scuro_mpc::{Error, Party, Share, fixed};

fn relu(value: u64) -> u64 {
    (value as i64).max(0) as u64
}

#[test]
fn any_two_neighbours_open_a_tensor() {
    let values = random(1, 100, 64);
    let parts = Share::deal(&values, &mut rng(2));
    assert_eq!(opened(&parts), values);
    let other = Share::deal(&values, &mut rng(3));
    assert!(Share::open(&parts[0], &other[1]).is_err());
}

#[test]
fn sums_and_public_numbers_are_local() {
    let (x, y) = (random(1, 50, 64), random(2, 50, 64));
    let (a, b) = (Share::deal(&x, &mut rng(3)), Share::deal(&y, &mut rng(4)));
    let sums = [0, 1, 2].map(|i| {
        let sum = a[i].plus(&b[i]).unwrap();
        sum.plus_public(Party::ALL[i], &x).unwrap()
    });
    let expected: Vec<u64> = x
        .iter()
        .zip(&y)
        .map(|(x, y)| x.wrapping_mul(2).wrapping_add(*y))
        .collect();
    assert_eq!(opened(&sums), expected);
    assert!(a[0].plus(&Share::deal(&[1], &mut rng(5))[0]).is_err());
}

#[test]
fn products_of_matrices_are_exact() {
    let ([m, k, n], seed) = ([5, 7, 9], 1);
    let (x, y) = (random(1, m * k, 64), random(2, k * n, 64));
    let (a, b) = (Share::deal(&x, &mut rng(3)), Share::deal(&y, &mut rng(4)));
    let parts = run(seed, |session| {
        let i = session.party().index();
        let product = session.matrix_product(&a[i], &b[i], [m, k, n]).unwrap();
        let share = session.reshare(product).unwrap();
        (share, session.transport().traffic())
    });
    assert!(
        parts
            .iter()
            .all(|(_, traffic)| traffic.hops == 1 && traffic.sent == 8 * m * n)
    );
    let product = |at: usize| {
        let terms = (0..k).map(|j| x[at / n * k + j].wrapping_mul(y[j * n + at % n]));
        terms.fold(0, u64::wrapping_add)
    };
    let expected: Vec<u64> = (0..m * n).map(product).collect();
    assert_eq!(opened(&parts.map(|(share, _)| share)), expected);
}

#[test]
fn relu_of_shares_is_exact_for_every_value_it_is_for() {
    let edges = [
        0,
        1,
        2,
        -1,
        -2,
        0x7fff_ffff,
        -0x7fff_ffff,
        1 << 30,
        -1 << 30,
        1 << 16,
    ];
    let mut values: Vec<u64> = edges.map(|edge: i64| edge as u64).to_vec();
    values.extend(random(1, 20_000, 32));
    values.extend(random(2, 5_000, 8));
    let a = Share::deal(&values, &mut rng(3));
    let parts = run(4, |session| {
        let share = session.relu(&a[session.party().index()]).unwrap();
        (share, session.transport().traffic())
    });
    assert!(parts.iter().all(|(_, traffic)| traffic.hops == 5));
    let expected: Vec<u64> = values.iter().map(|&value| relu(value)).collect();
    assert_eq!(opened(&parts.map(|(share, _)| share)), expected);
}

#[test]
fn the_larger_of_two_is_one_of_them() {
    let (x, y) = (random(1, 500, 31), random(2, 500, 31));
    let (a, b) = (Share::deal(&x, &mut rng(3)), Share::deal(&y, &mut rng(4)));
    let parts = run(5, |session| {
        let i = session.party().index();
        assert!(
            session
                .maximum(&a[i], &Share::deal(&[0], &mut rng(6))[i])
                .is_err()
        );
        session.maximum(&a[i], &b[i]).unwrap()
    });
    let larger = |(x, y): (&u64, &u64)| (*x as i64).max(*y as i64) as u64;
    let expected: Vec<u64> = x.iter().zip(&y).map(larger).collect();
    assert_eq!(opened(&parts), expected);
}

#[test]
fn numbers_are_selected_by_signs_whatever_they_are() {
    let signs = random(1, 1000, 32);
    let (x, y) = (random(2, 1000, 64), random(3, 1000, 64));
    let parts = [&signs, &x, &y].map(|values| Share::deal(values, &mut rng(4)));
    let selected = run(5, |session| {
        let i = session.party().index();
        let [signs, x, y] = parts.each_ref().map(|parts| &parts[i]);
        let [x, y] = session.where_not_negative(signs, [x, y]).unwrap();
        (x, y, session.transport().traffic().hops)
    });
    assert!(selected.iter().all(|(_, _, hops)| *hops == 5));
    let found = [
        opened(&selected.each_ref().map(|(x, _, _)| x.clone())),
        opened(&selected.each_ref().map(|(_, y, _)| y.clone())),
    ];
    for (values, found) in [x, y].iter().zip(found) {
        let expected = values.iter().zip(&signs);
        let expected = expected.map(|(x, s)| if *s as i64 >= 0 { *x } else { 0 });
        assert_eq!(found, expected.collect::<Vec<_>>());
    }
}

#[test]
fn the_position_of_the_largest_is_that_in_clear() {
    for (classes, hops) in [(1, 0), (2, 5), (3, 10), (10, 20), (16, 20)] {
        let mut values = random(classes as u64, 40 * classes, 30);
        // Of equal ones the first.
        values[..classes].fill(7);
        let a = Share::deal(&values, &mut rng(1));
        let parts = run(2, |session| {
            let share = session.argmax(&a[session.party().index()], classes);
            (share.unwrap(), session.transport().traffic().hops)
        });
        assert!(parts.iter().all(|(_, found)| *found == hops), "{classes}");
        let largest = |row: &[u64]| {
            let first = |best: usize, at: usize| match row[at] as i64 > row[best] as i64 {
                true => at,
                false => best,
            };
            (0..row.len()).fold(0, first) as u64
        };
        let expected: Vec<u64> = values.chunks(classes).map(largest).collect();
        assert_eq!(
            opened(&parts.map(|(share, _)| share)),
            expected,
            "{classes}"
        );
    }
    let a = Share::deal(&[1, 2, 3], &mut rng(1));
    let refused = run(2, |session| {
        let x = &a[session.party().index()];
        [0, 2].map(|classes| session.argmax(x, classes).is_err())
    });
    assert_eq!(refused, [[true; 2]; 3]);
}

/// A layer as networks have it: product, truncation, ReLU. The result is ReLU of the quotient,
/// rounded up or down, in five hops.
#[test]
fn relu_of_products_rounds_up_or_down_and_never_fails() {
    let [m, k, n] = [40, 32, 64];
    // Sums are below 2^(21 + 21 + 5) in magnitude.
    let (x, y) = (random(1, m * k, 22), random(2, k * n, 22));
    let (a, b) = (Share::deal(&x, &mut rng(3)), Share::deal(&y, &mut rng(4)));
    let f = fixed::FRACTION_BITS;
    let parts = run(5, |session| {
        let i = session.party().index();
        let product = session.matrix_product(&a[i], &b[i], [m, k, n]).unwrap();
        let share = session.relu_of(product, f).unwrap();
        (share, session.transport().traffic())
    });
    for (_, traffic) in &parts {
        assert_eq!(traffic.hops, 5);
        let each = traffic.sent as f64 / (m * n) as f64;
        assert!((27.0..30.0).contains(&each), "{each} bytes a result");
    }
    let found = opened(&parts.map(|(share, _)| share));
    let mut off = 0.0;
    for (at, found) in found.iter().enumerate() {
        let terms = (0..k).map(|j| x[at / n * k + j].wrapping_mul(y[j * n + at % n]));
        let sum = terms.fold(0, u64::wrapping_add) as i64;
        let (down, up) = (sum >> f, (sum >> f) + 1);
        let found = *found as i64;
        assert!(
            found == down.max(0) || found == up.max(0),
            "{sum} became {found}"
        );
        if down > 0 {
            off += found as f64 - sum as f64 / f64::from(1 << f);
        }
    }
    // Right in the mean: deviations of up to a half, over some 1280 results.
    let mean = off / (m * n / 2) as f64;
    assert!(mean.abs() < 0.07, "{mean}");
}

/// Numbers of both signs up to the bounds; the result is exact modulo 2^64, not modulo 2^32.
#[test]
fn quotients_round_up_or_down_and_never_fail() {
    let f = fixed::FRACTION_BITS;
    let largest = (1i64 << (30 + f)) - 1;
    let edges = [
        0, 1, -1, 65_535, 65_536, -65_536, -65_537, largest, -largest,
    ];
    let mut values: Vec<u64> = edges.map(|edge| edge as u64).to_vec();
    values.extend(random(1, 10_000, 31 + f));
    values.extend(random(2, 5_000, 18));
    let one = Share::deal(&[1], &mut rng(3));
    let a = Share::deal(&values, &mut rng(4));
    let parts = run(5, |session| {
        let i = session.party().index();
        let product = session.matrix_product(&a[i], &one[i], [values.len(), 1, 1]);
        let share = session.quotient(product.unwrap(), f).unwrap();
        (share, session.transport().traffic())
    });
    assert!(parts.iter().all(|(_, traffic)| traffic.hops == 2));
    let found = opened(&parts.map(|(share, _)| share));
    let mut ups = 0;
    for (value, found) in values.iter().zip(&found) {
        let (value, found) = (*value as i64, *found as i64);
        let down = value >> f;
        assert!((down..=down + 1).contains(&found), "{value} became {found}");
        ups += usize::from(found > down);
    }
    let share = ups as f64 / values.len() as f64;
    assert!((0.45..0.55).contains(&share), "{share} rounded up");
}

#[test]
fn divisions_take_up_to_thirty_two_bits() {
    let values: Vec<u64> = random(1, 200, 62);
    let one = Share::deal(&[1], &mut rng(3));
    let a = Share::deal(&values, &mut rng(4));
    for f in [0, 1, 32] {
        let small: Vec<u64> = values
            .iter()
            .map(|v| (*v as i64 >> (32 - f)) as u64)
            .collect();
        let b = Share::deal(&small, &mut rng(5));
        let parts = run(6, |session| {
            let i = session.party().index();
            let product = session.matrix_product(&b[i], &one[i], [values.len(), 1, 1]);
            session.quotient(product.unwrap(), f).unwrap()
        });
        for (value, found) in small.iter().zip(opened(&parts)) {
            let (down, up) = (*value as i64 >> f, i64::from(f > 0));
            assert!(
                (down..=down + up).contains(&(found as i64)),
                "{value} >> {f} is {found}"
            );
        }
    }
    let refused = run(7, |session| {
        let i = session.party().index();
        let product = session.matrix_product(&a[i], &one[i], [values.len(), 1, 1]);
        session.relu_of(product.unwrap(), 33).err()
    });
    let expected = Some(Error::FractionBits { found: 33, max: 32 });
    assert_eq!(refused, [expected.clone(), expected.clone(), expected]);
}

#[test]
fn sums_of_summands_are_those_of_a_pool() {
    let x = random(1, 16, 20);
    let one = Share::deal(&[1 << 16], &mut rng(2));
    let a = Share::deal(&x, &mut rng(3));
    let places = [0, 1, 4, 5, 2, 3, 6, 7];
    let parts = run(4, |session| {
        let i = session.party().index();
        let product = session.matrix_product(&a[i], &one[i], [16, 1, 1]).unwrap();
        assert!(product.sums(&[16, 0], 2).is_err());
        assert!(product.sums(&[0, 1, 2], 2).is_err());
        assert!(product.sums(&[0, 1, 2], 0).is_err());
        session.reshare(product.sums(&places, 4).unwrap()).unwrap()
    });
    let sum = |places: &[usize]| {
        let values = places.iter().map(|&at| x[at] << 16);
        values.fold(0, u64::wrapping_add)
    };
    let expected: Vec<u64> = places.chunks(4).map(sum).collect();
    assert_eq!(opened(&parts), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn tensors_of_any_length_are_rectified(len in 0usize..300, seed in 0u64..1000) {
        let values = random(seed, len, 32);
        let a = Share::deal(&values, &mut rng(seed + 1));
        let parts = run(seed + 2, |session| {
            let first = session.relu(&a[session.party().index()]).unwrap();
            // Once more: randomness goes on in step.
            session.relu(&first).unwrap()
        });
        let expected: Vec<u64> = values.iter().map(|&value| relu(value)).collect();
        prop_assert_eq!(opened(&parts), expected);
    }
}
