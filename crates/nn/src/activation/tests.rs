use super::*;
use crate::graph::{Graph, GraphBuilder, Window};
use crate::reference;
use crate::tensor::Tensor;

fn close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{found:?} {expected:?}");
    for (f, e) in found.iter().zip(expected) {
        assert!(
            (f - e).abs() < tolerance,
            "{found:?}, expected {expected:?}"
        );
    }
}

fn fit(text: &str, function: Function, low: f64, high: f64) -> Fit {
    let replacement: Replacement = text.parse().unwrap();
    let interval = Interval::new(low, high).unwrap();
    replacement.fit(function, interval).unwrap()
}

#[test]
fn fits_of_relu_on_a_symmetric_interval_have_their_closed_forms() {
    let r = 5.0;
    let relu = |text: &str| fit(text, Function::Relu, -r, r).coefficients;
    // |x| is r (3/16 + 15/16 u^2) in the mean square, and 2/pi + 4/(3 pi) T_2(u) + ... in Chebyshev
    // polynomials, with u = x / r; ReLU is half of x + |x|.
    let least = [3.0 * r / 32.0, 0.5, 15.0 / (32.0 * r)];
    close(&relu("least-squares:2"), &least, 1e-6);
    close(&relu("learned-quadratic"), &least, 1e-6);
    let pi = std::f64::consts::PI;
    let t2 = 2.0 * r / (3.0 * pi);
    close(
        &relu("chebyshev:2"),
        &[r / pi - t2, 0.5, 2.0 * t2 / (r * r)],
        1e-4,
    );
    // The step is 1/2 + 3/4 u in the mean square.
    close(
        &relu("derivative-fit:2"),
        &[0.0, 0.5, 3.0 / (8.0 * r)],
        1e-6,
    );
    close(
        &relu("modified-square"),
        &[0.0, 0.5, 0.25],
        f64::MIN_POSITIVE,
    );
    close(&relu("none"), &[0.0, 1.0], f64::MIN_POSITIVE);
    close(&relu("square"), &[0.0, 0.0, 1.0], f64::MIN_POSITIVE);
}

#[test]
fn taylor_polynomials_are_the_known_series() {
    let ln2 = std::f64::consts::LN_2;
    let softplus = [ln2, 0.5, 0.125, 0.0, -1.0 / 192.0, 0.0, 1.0 / 2880.0];
    close(
        &fit("taylor:6", Function::Relu, -1.0, 1.0).coefficients,
        &softplus,
        1e-15,
    );
    let logistic = [0.5, 0.25, 0.0, -1.0 / 48.0, 0.0, 1.0 / 480.0];
    close(
        &fit("taylor:5", Function::Sigmoid, -1.0, 1.0).coefficients,
        &logistic,
        1e-15,
    );
    let tanh = [
        0.0,
        1.0,
        0.0,
        -1.0 / 3.0,
        0.0,
        2.0 / 15.0,
        0.0,
        -17.0 / 315.0,
    ];
    close(
        &fit("taylor:7", Function::Tanh, -1.0, 1.0).coefficients,
        &tanh,
        1e-15,
    );
}

#[test]
fn the_error_is_the_largest_distance_on_the_interval() {
    // x^2 / 4 + x / 2 meets ReLU at 2, 0 and -2, and is furthest in between.
    assert!((fit("modified-square", Function::Relu, -2.0, 2.0).error - 0.25).abs() < 1e-12);
    assert!((fit("modified-square", Function::Relu, -4.0, 4.0).error - 2.0).abs() < 1e-12);
    assert!((fit("none", Function::Relu, -3.0, 8.0).error - 3.0).abs() < 1e-12);
    assert!((fit("square", Function::Relu, -3.0, 3.0).error - 9.0).abs() < 1e-12);
}

#[test]
fn a_higher_degree_is_closer_and_chebyshev_is_nearly_the_best() {
    for function in [Function::Relu, Function::Sigmoid, Function::Tanh] {
        for kind in ["least-squares", "chebyshev", "derivative-fit"] {
            let error = |degree| fit(&format!("{kind}:{degree}"), function, -4.0, 6.0).error;
            assert!(
                error(9) < error(5) && error(5) < error(2),
                "{kind} {function:?}"
            );
        }
    }
    assert!(fit("chebyshev:15", Function::Sigmoid, -4.0, 6.0).error < 2e-4);
    // Best possible for |x| on -1..1 by degree n: about 0.28 / n (Bernstein), so 0.14 r / n here.
    let best = 0.14 * 4.0 / 8.0;
    assert!(fit("chebyshev:8", Function::Relu, -4.0, 4.0).error < 4.0 * best);
}

#[test]
fn least_squares_beats_its_neighbours_in_the_mean_square() {
    let fitted = fit("least-squares:3", Function::Tanh, -2.0, 3.0);
    let cost = |coefficients: &[f64]| -> f64 {
        (0..2000)
            .map(|i| {
                let x = -2.0 + 5.0 * (f64::from(i) + 0.5) / 2000.0;
                let p = coefficients.iter().rev().fold(0.0, |s, c| s * x + c);
                (p - x.tanh()).powi(2)
            })
            .sum()
    };
    for k in 0..4 {
        for step in [-1e-3, 1e-3] {
            let mut moved = fitted.coefficients.clone();
            moved[k] += step;
            assert!(cost(&moved) > cost(&fitted.coefficients), "{k} {step}");
        }
    }
}

#[test]
fn an_integrated_derivative_meets_the_function_at_zero_or_the_nearest_end() {
    assert!((fit("derivative-fit:4", Function::Sigmoid, -3.0, 5.0).value(0.0) - 0.5).abs() < 1e-12);
    assert!((fit("derivative-fit:4", Function::Relu, 1.0, 5.0).value(1.0) - 1.0).abs() < 1e-12);
}

#[test]
fn names_are_read_and_written_alike_and_wrong_ones_are_errors() {
    for replacement in Replacement::STUDIED {
        assert_eq!(
            replacement.to_string().parse::<Replacement>().unwrap(),
            replacement
        );
    }
    assert_eq!(
        "taylor".parse::<Replacement>().unwrap(),
        Replacement::Taylor { degree: 4 }
    );
    for wrong in [
        "",
        "relu",
        "square:2",
        "taylor:",
        "taylor:x",
        "chebyshev:-1",
    ] {
        let found = wrong.parse::<Replacement>();
        assert!(
            matches!(found, Err(Error::ReplacementName { .. })),
            "{wrong}"
        );
    }
    for wrong in ["taylor:0", "least-squares:32", "chebyshev:99999"] {
        let found = wrong.parse::<Replacement>();
        assert!(
            matches!(found, Err(Error::PolynomialDegree { limit: 31, .. })),
            "{wrong}"
        );
    }
    let wide = Replacement::Chebyshev { degree: 32 };
    let unit = Interval::new(-1.0, 1.0).unwrap();
    assert!(matches!(
        wide.fit(Function::Relu, unit),
        Err(Error::PolynomialDegree { .. })
    ));
    for (low, high) in [
        (1.0, 1.0),
        (2.0, 1.0),
        (f64::NAN, 1.0),
        (0.0, f64::INFINITY),
    ] {
        assert!(matches!(
            Interval::new(low, high),
            Err(Error::Interval { .. })
        ));
    }
}

/// 1 x 4 x 4, ReLU, max pool, ReLU, sigmoid at the end.
fn network() -> Graph {
    let mut net = GraphBuilder::new("small", [1, 4, 4]);
    let window = Window::valid([2, 2], [2, 2]);
    net.then(Op::Relu)
        .then(Op::MaxPool { window })
        .then(Op::Relu)
        .then(Op::Sigmoid);
    net.finish().unwrap()
}

fn names(graph: &Graph) -> Vec<&'static str> {
    graph.nodes.iter().map(|node| node.op.name()).collect()
}

#[test]
fn the_last_or_all_activations_are_replaced_and_an_output_sigmoid_stays() {
    let given = Calibration::Given(Interval::new(-1.0, 1.0).unwrap());
    let plan = |text: &str, which, average_pools| Plan {
        activation: Some(text.parse().unwrap()),
        which,
        average_pools,
    };
    let run = |plan| names(&replace(&network(), plan, given).unwrap());
    let last = run(plan("square", Which::Last, false));
    assert_eq!(last, ["Input", "Relu", "MaxPool", "Square", "Sigmoid"]);
    let all = run(plan("chebyshev:3", Which::All, true));
    assert_eq!(
        all,
        ["Input", "Polynomial", "AvgPool", "Polynomial", "Sigmoid"]
    );
    let none = run(plan("none", Which::All, false));
    assert_eq!(none, ["Input", "MaxPool", "Sigmoid"]);
    let nothing = Plan {
        activation: None,
        which: Which::All,
        average_pools: true,
    };
    assert_eq!(
        run(nothing),
        ["Input", "Relu", "AvgPool", "Relu", "Sigmoid"]
    );
    let twice = replace(&network(), plan("none", Which::All, false), given).unwrap();
    let again = replace(&twice, plan("none", Which::All, false), given);
    assert!(matches!(again, Err(Error::NothingToReplace { .. })));
}

#[test]
fn a_calibrated_replacement_covers_the_range_it_saw() {
    let image = |scale: f32| {
        let data = (0..16).map(|i| scale * (i as f32 - 7.5)).collect();
        Tensor::new([1, 4, 4], data).unwrap()
    };
    let examples = [image(0.5), image(1.0)];
    let plan = Plan {
        activation: Some(Replacement::Chebyshev { degree: 9 }),
        which: Which::All,
        average_pools: false,
    };
    let exact = reference::run(&network(), &examples[1]).unwrap();
    for calibration in [
        Calibration::Original(&examples),
        Calibration::Successive(&examples),
    ] {
        let graph = replace(&network(), plan, calibration).unwrap();
        let found = reference::run(&graph, &examples[1]).unwrap();
        for (f, e) in found.data.iter().zip(&exact.data) {
            assert!((f - e).abs() < 0.1, "{f} {e}");
        }
    }
    let wrong = [Tensor::new([16], vec![0.0; 16]).unwrap()];
    let found = replace(&network(), plan, Calibration::Original(&wrong));
    assert!(matches!(found, Err(Error::InputShape { .. })));
}
