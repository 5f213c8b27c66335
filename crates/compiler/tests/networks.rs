//! Compiled programs compute what the reference executor computes.

mod common;
mod ensembles;
mod rotations;

use common::{Random, conv, cryptonets, dense, lenet, outputs, query, run};
use scuro_compiler::activations::Replacement;
use scuro_compiler::{Arithmetic, Compilation, CompileError, Options, compile};
use scuro_nn::graph::{Graph, GraphBuilder, Op, Padding, Window};
use scuro_nn::reference;
use scuro_nn::tensor::Tensor;
use scuro_program::{Diagonal, Flooding, Operation, Packing, Program, Scheme, Step, Weights};

/// Compiles and compares with the reference; every reply slot must be an output or zero.
fn check(graph: &Graph, options: &Options, random: &mut Random) -> Compilation {
    let images: Vec<_> = (0..4).map(|_| random.image(graph.input_shape())).collect();
    let compilation = compile(graph, options, &images).unwrap();
    let program = &compilation.program;
    for image in &images {
        let expected = reference::run(&compilation.graph, image).unwrap();
        let result = run(program, query(program, &image.data));
        let got = outputs(program, &result);
        for (got, &want) in got.iter().zip(&expected.data) {
            let want = f64::from(want);
            assert!(
                (got - want).abs() <= 1e-3 * (1.0 + want.abs()),
                "{got} for {want}"
            );
        }
        for &slot in result.iter().flatten() {
            let known = slot == 0.0 || got.iter().any(|v| (v - slot).abs() < 1e-9);
            assert!(known, "slot value {slot} leaks");
        }
    }
    compilation
}

#[test]
fn cryptonets_fits_one_ciphertext_of_degree_8192() {
    let mut random = Random::new(1);
    let graph = cryptonets(&mut random);
    let compilation = check(&graph, &Options::default(), &mut random);
    let program = &compilation.program;
    assert_eq!(program.parameters.log_n, 13);
    assert_eq!(program.input.ciphertexts(), 1);
    assert!(program.keys.galois.len() <= 45);
}

#[test]
fn lenet_fits_one_ciphertext_of_degree_16384_with_few_keys() {
    let mut random = Random::new(2);
    let graph = lenet(&mut random);
    let images = vec![random.image(graph.input_shape())];
    let compilation = compile(&graph, &Options::default(), &images).unwrap();
    let program = &compilation.program;
    assert_eq!(
        (program.parameters.log_n, program.input.ciphertexts()),
        (14, 1)
    );
    assert!(
        program.keys.galois.len() <= 90,
        "{} keys",
        program.keys.galois.len()
    );
}

/// A random network: convolutions of any form, pools, normalisation, residual sums, concatenations,
/// polynomials.
fn random_network(random: &mut Random) -> Graph {
    let mut shape = [
        1 + random.below(3),
        5 + random.below(6),
        5 + random.below(6),
    ];
    let mut net = GraphBuilder::new("random", shape);
    for _ in 0..1 + random.below(2) {
        shape = random_convolution(&mut net, random, shape);
        if random.below(2) == 0 {
            random_branch(&mut net, random, shape);
        }
        random_activation(&mut net, random);
        if random.below(3) == 0 && shape[1] >= 2 && shape[2] >= 2 {
            let window = Window::valid([2, 2], [2, 2]);
            net.then(Op::AvgPool {
                window,
                count_padding: true,
            });
            shape = [shape[0], shape[1] / 2, shape[2] / 2];
        }
    }
    net.then(Op::Flatten);
    let mut size = shape.iter().product();
    for _ in 0..random.below(2) {
        let next = 3 + random.below(20);
        net.then(dense(random, next, size));
        random_activation(&mut net, random);
        size = next;
    }
    let classes = 2 + random.below(9);
    net.then(dense(random, classes, size));
    net.finish().unwrap()
}

fn random_convolution(
    net: &mut GraphBuilder,
    random: &mut Random,
    shape: [usize; 3],
) -> [usize; 3] {
    let mut pad = || random.below(2);
    let padding = Padding {
        top: pad(),
        left: pad(),
        bottom: pad(),
        right: pad(),
    };
    let kernel = [
        1 + random.below(shape[1].min(4)),
        1 + random.below(shape[2].min(4)),
    ];
    let stride = [1 + random.below(3), 1 + random.below(3)];
    let groups = if random.below(3) == 0 { shape[0] } else { 1 };
    let maps = groups * (1 + random.below(4));
    let op = conv(random, maps, shape[0], kernel, stride, padding, groups);
    let window = Window {
        kernel,
        stride,
        padding,
    };
    let [height, width] = window.output_extent([shape[1], shape[2]], [1, 1]).unwrap();
    net.then(op);
    [maps, height, width]
}

/// A residual sum, or a concatenation that a 1x1 convolution reduces again, or batch norm.
fn random_branch(net: &mut GraphBuilder, random: &mut Random, shape: [usize; 3]) {
    let [maps, ..] = shape;
    let start = net.last();
    let name = |net: &GraphBuilder, what: &str| format!("{what}_{}", net.last().0 + 1);
    let unit = |r: &mut Random| conv(r, maps, maps, [1, 1], [1, 1], Padding::default(), 1);
    match random.below(3) {
        0 => {
            let square = net.push(name(net, "square"), Op::Square, &[start]);
            let mixed = net.push(name(net, "mix"), unit(random), &[square]);
            net.push(name(net, "add"), Op::Add, &[mixed, start]);
        }
        1 => {
            let square = net.push(name(net, "square"), Op::Square, &[start]);
            let both = net.push(
                name(net, "concat"),
                Op::Concat { axis: 0 },
                &[start, square],
            );
            let op = conv(
                random,
                maps,
                2 * maps,
                [1, 1],
                [1, 1],
                Padding::default(),
                1,
            );
            net.push(name(net, "reduce"), op, &[both]);
        }
        _ => {
            let [scale, shift, mean] = [0.9, 0.3, 0.2].map(|size| random.tensor(&[maps], size));
            let variance = Tensor::vector(vec![0.7; maps]);
            net.then(Op::BatchNorm {
                scale,
                shift,
                mean,
                variance,
                epsilon: 1e-3,
            });
        }
    }
}

fn random_activation(net: &mut GraphBuilder, random: &mut Random) {
    match random.below(4) {
        0 => net.then(Op::Polynomial {
            coefficients: vec![0.1, 0.5, 0.25],
        }),
        1 => net.then(Op::Polynomial {
            coefficients: vec![0.2, 0.5, 0.0, -0.05],
        }),
        _ => net.then(Op::Square),
    };
}

#[test]
fn random_networks_compute_what_the_reference_computes() {
    for seed in 0..14 {
        let mut random = Random::new(seed);
        let graph = random_network(&mut random);
        check(&graph, &Options::default(), &mut random);
    }
}

/// A convolution of pooled maps, large enough that pool and convolution are not made one.
fn pooled_network(random: &mut Random) -> Graph {
    let mut net = GraphBuilder::new("pooled", [4, 12, 12]);
    let same = Padding {
        top: 1,
        left: 1,
        bottom: 1,
        right: 1,
    };
    net.then(conv(random, 16, 4, [3, 3], [1, 1], same, 1));
    net.then(Op::Square);
    let window = Window::valid([2, 2], [2, 2]);
    net.then(Op::AvgPool {
        window,
        count_padding: true,
    });
    net.then(conv(random, 32, 16, [3, 3], [1, 1], Padding::default(), 1));
    net.then(Op::Square);
    net.then(Op::Flatten);
    net.then(dense(random, 5, 32 * 4 * 4));
    net.finish().unwrap()
}

/// Sums of windows by rotations.
fn window_sums(compilation: &Compilation) -> usize {
    let steps = compilation.program.steps.iter();
    let sums = |step: &&Step| match &step.operation {
        Operation::Fold { stages } => stages.iter().any(|stage| stage.len() == 3),
        _ => false,
    };
    steps.filter(sums).count()
}

#[test]
fn pools_are_summed_in_place_where_the_modulus_is_spent() {
    let mut random = Random::new(12);
    let graph = pooled_network(&mut random);
    let images = [random.image(graph.input_shape())];
    for weights in [Weights::Plain, Weights::Private] {
        let usual = Options {
            weights,
            log_n: Some(13),
            ..Options::default()
        };
        let finer = |factor: f64| Options {
            tolerance: usual.tolerance / factor,
            ..usual.clone()
        };
        let compiled = |options| compile(&graph, &options, &images).unwrap();
        let (packed, in_place) = (compiled(finer(1.0 / 16.0)), compiled(finer(2.0)));
        assert_eq!((window_sums(&packed), window_sums(&in_place)), (0, 1));
        assert!(in_place.report.output_error < packed.report.output_error);
        check(&graph, &finer(2.0), &mut random);
    }
}

#[test]
fn a_dense_network_with_more_images_a_query_needs_as_many_products_an_image() {
    let mut random = Random::new(6);
    let mut net = GraphBuilder::new("classifier", [2304]);
    net.then(dense(&mut random, 512, 2304)).then(Op::Square);
    net.then(dense(&mut random, 10, 512));
    let graph = net.finish().unwrap();
    let images: Vec<_> = (0..4).map(|_| random.image(&[2304])).collect();
    let mut rotations_before = usize::MAX;
    for images_per_query in [1, 2, 4, 8] {
        let options = Options {
            images_per_query,
            weights: Weights::Private,
            ..Options::default()
        };
        let program = compile(&graph, &options, &images).unwrap().program;
        assert_eq!(program.input.examples as usize, images_per_query);
        let Some(linear) = program.steps.iter().find_map(|step| match &step.operation {
            Operation::Linear(linear) => Some(linear),
            _ => None,
        }) else {
            panic!("a dense layer is linear")
        };
        assert_eq!(linear.diagonals.len(), 144 * images_per_query);
        let rotations = program.keys.galois.len();
        assert!(
            rotations / images_per_query < rotations_before,
            "{rotations} rotations"
        );
        rotations_before = rotations / images_per_query;
    }
}

#[test]
fn outputs_of_exact_programs_fill_the_plaintext_prime() {
    for seed in 20..26 {
        let mut random = Random::new(seed);
        let mut net = GraphBuilder::new("classifier", [64]);
        net.then(dense(&mut random, 16, 64)).then(Op::Square);
        net.then(dense(&mut random, 5, 16));
        let images: Vec<_> = (0..8).map(|_| random.image(&[64])).collect();
        let options = Options {
            arithmetic: Arithmetic::Exact,
            ..Options::default()
        };
        let program = compile(&net.finish().unwrap(), &options, &images).unwrap();
        let program = program.program;
        let plain_bits = plain_bits(&program);
        let result = &program.steps[program.result.0 as usize - 1].estimate;
        // With the sign; scales are quarters of a bit, and primes next to their size.
        let taken = result.scale_log2 + result.max_abs.log2() + 1.0;
        let free = f64::from(plain_bits) - taken;
        assert!((-0.05..0.3).contains(&free), "{free} bits are free");
    }
}

#[test]
fn numbers_of_images_that_cannot_share_a_query_are_refused() {
    let mut random = Random::new(7);
    let mut net = GraphBuilder::new("small", [4]);
    net.then(dense(&mut random, 2, 4));
    let graph = net.finish().unwrap();
    let refused = |images_per_query, packing| {
        let options = Options {
            images_per_query,
            packing,
            ..Options::default()
        };
        compile(&graph, &options, &[]).unwrap_err()
    };
    for found in [0, 3, 128] {
        let error = refused(found, Packing::SingleImage);
        assert!(matches!(error, CompileError::ImagesPerQuery { found: f, .. } if f == found));
    }
    let error = refused(2, Packing::Batch);
    assert!(matches!(error, CompileError::SingleImageOnly { .. }));
}

#[test]
fn products_of_two_branches_share_a_layout() {
    let mut random = Random::new(5);
    let mut net = GraphBuilder::new("gate", [2, 4, 4]);
    let input = net.input();
    let a = conv(&mut random, 3, 2, [3, 3], [1, 1], Padding::default(), 1);
    let b = conv(&mut random, 3, 2, [3, 3], [1, 1], Padding::default(), 1);
    let a = net.push("a", a, &[input]);
    let b = net.push("b", b, &[input]);
    let gate = net.push("gate", Op::Mul, &[a, b]);
    let flat = net.push("flat", Op::Flatten, &[gate]);
    net.push("fc", dense(&mut random, 3, 12), &[flat]);
    check(&net.finish().unwrap(), &Options::default(), &mut random);
}

#[test]
fn unfriendly_networks_are_refused_by_layer_or_replaced_on_demand() {
    let mut random = Random::new(6);
    let mut net = GraphBuilder::new("relu", [1, 6, 6]);
    net.then(conv(
        &mut random,
        2,
        1,
        [3, 3],
        [1, 1],
        Padding::default(),
        1,
    ));
    net.then(Op::Relu).then(Op::MaxPool {
        window: Window::valid([2, 2], [2, 2]),
    });
    net.then(Op::Flatten)
        .then(dense(&mut random, 3, 8))
        .then(Op::Softmax { axis: 0 });
    let graph = net.finish().unwrap();
    let images = vec![random.image(&[1, 6, 6])];
    let error = compile(&graph, &Options::default(), &images).unwrap_err();
    let CompileError::NotFriendly(report) = error else {
        panic!("{error}")
    };
    assert_eq!(report.findings.len(), 2);
    let options = Options {
        replace: Some(Replacement { degree: 3 }),
        ..Options::default()
    };
    compile(&graph, &options, &images).unwrap();
}

#[test]
fn weights_that_are_not_numbers_are_named() {
    let mut random = Random::new(7);
    let mut net = GraphBuilder::new("nan", [4]);
    net.then(dense(&mut random, 2, 4));
    let mut graph = net.finish().unwrap();
    if let Op::Dense { weight, .. } = &mut graph.nodes[1].op {
        weight.data[5] = f32::NAN;
    }
    let error = compile(&graph, &Options::default(), &[]).unwrap_err();
    assert!(
        matches!(error, CompileError::NotFinite { index: 5, .. }),
        "{error}"
    );
}

#[test]
fn values_that_outgrow_every_modulus_are_an_overflow() {
    let mut random = Random::new(8);
    let mut net = GraphBuilder::new("huge", [4]);
    let mut op = dense(&mut random, 4, 4);
    if let Op::Dense { weight, .. } = &mut op {
        weight.data.iter_mut().for_each(|w| *w *= 1e30);
    }
    net.then(op).then(Op::Square).then(dense(&mut random, 2, 4));
    let error = compile(&net.finish().unwrap(), &Options::default(), &[]).unwrap_err();
    assert!(matches!(error, CompileError::Overflow { .. }), "{error}");
}

#[test]
fn the_same_inputs_give_the_same_program() {
    let mut random = Random::new(9);
    let graph = random_network(&mut random);
    let images = vec![random.image(graph.input_shape())];
    let once = compile(&graph, &Options::default(), &images).unwrap();
    let again = compile(&graph, &Options::default(), &images).unwrap();
    assert_eq!(once.program.digest(), again.program.digest());
}

#[test]
fn a_network_without_room_for_flooding_is_refused_for_the_flooding() {
    let mut random = Random::new(12);
    let mut net = GraphBuilder::new("linear", [64]);
    net.then(dense(&mut random, 4, 64));
    let graph = net.finish().unwrap();
    let images: Vec<Tensor> = (0..4).map(|_| random.image(&[64])).collect();
    let options = |flooding| Options {
        arithmetic: Arithmetic::Exact,
        flooding,
        log_n: Some(13),
        ..Options::default()
    };
    compile(&graph, &options(None), &images).unwrap();
    let flooding = Some(Flooding::Statistical { bits: 128 });
    let refused = compile(&graph, &options(flooding), &images).unwrap_err();
    let text = refused.to_string();
    assert!(
        matches!(refused, CompileError::NoRoomToFlood { log_n: 13, .. }),
        "{text}"
    );
    let named = ["128 statistical bits", "fewer bits", "owner"];
    assert!(named.iter().all(|words| text.contains(words)), "{text}");
}

#[test]
fn the_largest_of_many_examples_has_to_fit_a_batch() {
    let mut random = Random::new(13);
    let mut net = GraphBuilder::new("net", [6]);
    net.then(dense(&mut random, 4, 6)).then(Op::Square);
    let graph = net.finish().unwrap();
    let mut images: Vec<Tensor> = (0..520).map(|_| random.image(&[6])).collect();
    images[516].data.iter_mut().for_each(|value| *value *= 8.0);
    let options = Options {
        packing: Packing::Batch,
        ..Options::default()
    };
    let program = compile(&graph, &options, &images).unwrap().program;
    let outputs = reference::run(&graph, &images[516]).unwrap();
    let largest = outputs.data.iter().fold(0f32, |max, x| max.max(x.abs()));
    let provided = program.steps[program.result.0 as usize - 1]
        .estimate
        .max_abs;
    assert!(
        provided > 1.2 * f64::from(largest),
        "{largest} in room for {provided}"
    );
}

/// The bits of the plaintext prime of an exact program.
fn plain_bits(program: &Program) -> u32 {
    let bits = program.parameters.scheme.plain_bits();
    bits.expect("the program is exact")
}

/// Three dense layers with squares between them, whose exact numbers take a large plaintext prime.
fn twice_squared(arithmetic: Arithmetic, weights: Weights) -> Result<Program, CompileError> {
    let mut random = Random::new(14);
    let mut net = GraphBuilder::new("deep", [40]);
    net.then(dense(&mut random, 20, 40)).then(Op::Square);
    net.then(dense(&mut random, 20, 20)).then(Op::Square);
    net.then(dense(&mut random, 5, 20));
    let images: Vec<_> = (0..8).map(|_| random.image(&[40])).collect();
    let options = Options {
        arithmetic,
        weights,
        ..Options::default()
    };
    let compiled = compile(&net.finish().unwrap(), &options, &images)?;
    Ok(compiled.program)
}

#[test]
fn primes_that_are_divided_out_may_be_smaller_than_the_plaintext_prime() {
    let program = twice_squared(Arithmetic::Exact, Weights::Plain).unwrap();
    let (plain, sizes) = (plain_bits(&program), &program.parameters.q_bits);
    assert!(plain > 34, "a large one: {plain}");
    assert!(sizes[0] > plain, "the last one holds the messages");
    assert!(sizes.iter().any(|&bits| bits < plain), "{sizes:?}");
    assert_eq!(program.parameters.log_n, 14);
}

#[test]
fn scale_invariant_programs_take_fewer_primes_of_one_size() {
    let plain = twice_squared(Arithmetic::Exact, Weights::Plain).unwrap();
    let invariant = twice_squared(Arithmetic::ScaleInvariant, Weights::Plain).unwrap();
    let scheme = invariant.parameters.scheme;
    assert!(matches!(scheme, Scheme::Bfv { .. }), "{scheme:?}");
    assert_eq!(plain_bits(&plain), plain_bits(&invariant));
    let primes = |program: &Program| program.parameters.q_bits.len();
    assert!(primes(&invariant) < primes(&plain));
    let refused = twice_squared(Arithmetic::ScaleInvariant, Weights::Private).unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, CompileError::EncryptedWeights), "{text}");
    assert!(text.contains("BGV"), "{text}");
}

#[test]
fn exact_programs_keep_as_many_answers_as_are_asked_for() {
    let mut random = Random::new(13);
    let mut net = GraphBuilder::new("classifier", [30]);
    net.then(dense(&mut random, 20, 30)).then(Op::Square);
    net.then(dense(&mut random, 8, 20));
    let graph = net.finish().unwrap();
    let images: Vec<_> = (0..400).map(|_| random.image(&[30])).collect();
    let compiled = |agreement: f64| {
        let options = Options {
            arithmetic: Arithmetic::Exact,
            agreement,
            ..Options::default()
        };
        compile(&graph, &options, &images)
    };
    let coarse = compiled(0.0).unwrap();
    let found = coarse.report.agreement.unwrap();
    assert!((0.5..0.999).contains(&found), "{found}");
    // What the report says is what the program does.
    let kept = |image: &&Tensor| {
        let scale = coarse.program.input.scale_log2.exp2() as f32;
        let rounded: Vec<f32> = image
            .data
            .iter()
            .map(|x| (x * scale).round() / scale)
            .collect();
        let result = run(&coarse.program, query(&coarse.program, &rounded));
        let expected = reference::run(&coarse.graph, image).unwrap().data;
        let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
        largest(&outputs(&coarse.program, &result)) == largest(&expected)
    };
    let share = images.iter().filter(kept).count() as f64 / images.len() as f64;
    assert!((share - found).abs() < 1e-9, "{share} and {found}");
    let fine = compiled(0.999).unwrap();
    assert!(fine.report.agreement.unwrap() >= 0.999);
    assert!(plain_bits(&fine.program) > plain_bits(&coarse.program));
    let error = compiled(2.0).unwrap_err();
    let CompileError::Rounding { found, least } = error else {
        panic!("{error}")
    };
    assert!(least == 2.0 && found >= 0.999);
}

fn largest(scores: &[f64]) -> usize {
    let order = |&a: &usize, &b: &usize| scores[a].total_cmp(&scores[b]);
    (0..scores.len()).max_by(order).unwrap()
}

/// What a program shows of its layers: operations and diagonals, without scales, primes and levels.
fn structure(compilation: &Compilation) -> Vec<String> {
    let of = |step: &Step| match &step.operation {
        Operation::Rescale | Operation::ModDrop { .. } => None,
        Operation::Linear(linear) => {
            let place = |d: &Diagonal| (d.output, d.operand, d.ciphertext, d.giant, d.baby);
            let places: Vec<_> = linear.diagonals.iter().map(place).collect();
            Some(format!("linear {} {places:?}", linear.outputs))
        }
        Operation::Fold { stages } => Some(format!("fold {stages:?}")),
        Operation::AddConstant { values } => Some(format!("add {}", values.len())),
        operation => Some(operation.name().to_string()),
    };
    compilation.program.steps.iter().filter_map(of).collect()
}

/// The graph with `tenths` of ten weights and biases of its dense layers set to zero.
fn pruned(graph: &Graph, random: &mut Random, tenths: usize) -> Graph {
    let mut graph = graph.clone();
    for node in &mut graph.nodes {
        if let Op::Dense { weight, bias } = &mut node.op {
            let values = weight
                .data
                .iter_mut()
                .chain(bias.iter_mut().flat_map(|b| &mut b.data));
            for value in values.filter(|_| random.below(10) < tenths) {
                *value = 0.0;
            }
        }
    }
    graph
}

#[test]
fn a_private_program_of_pruned_weights_has_the_structure_of_any_others() {
    let mut random = Random::new(31);
    let mut net = GraphBuilder::new("classifier", [144]);
    net.then(dense(&mut random, 32, 144)).then(Op::Square);
    net.then(dense(&mut random, 5, 32));
    let graph = net.finish().unwrap();
    let images: Vec<_> = (0..8).map(|_| random.image(&[144])).collect();
    for arithmetic in [Arithmetic::Approximate, Arithmetic::Exact] {
        let compiled = |graph: &Graph, weights| {
            let options = Options {
                weights,
                arithmetic,
                // The ring degree may follow the weights, and the layout follows it.
                log_n: Some(14),
                ..Options::default()
            };
            compile(graph, &options, &images).unwrap()
        };
        let private = Weights::Private;
        let whole = compiled(&graph, private);
        for tenths in [5, 9] {
            let other = compiled(&pruned(&graph, &mut random, tenths), private);
            assert_eq!(
                structure(&whole),
                structure(&other),
                "{arithmetic:?}, {tenths}"
            );
        }
        // Without a place for zeros it would show.
        let mut empty = graph.clone();
        for node in &mut empty.nodes {
            if let Op::Dense { weight, .. } = &mut node.op {
                weight
                    .data
                    .iter_mut()
                    .skip(1)
                    .for_each(|value| *value = 0.0);
            }
        }
        let [shown, hidden] = [Weights::Plain, private].map(|w| structure(&compiled(&empty, w)));
        assert_ne!(shown, structure(&compiled(&graph, Weights::Plain)));
        assert_eq!(hidden, structure(&whole), "{arithmetic:?}");
    }
}
