//! Networks of an ensemble: squares beside quadratics, in either arithmetic.

use scuro_compiler::ensemble::{Degree, Ensemble};
use scuro_compiler::{Arithmetic, CompileError, Options, compile};
use scuro_fhe::params::{ParameterSpec, Parameters};
use scuro_nn::graph::{Graph, GraphBuilder, Op};
use scuro_nn::tensor::Tensor;
use scuro_program::face::compare;
use scuro_program::{Flooding, Operation, Program, Scheme};

use super::common::{Random, cryptonets, dense};

/// The network with a polynomial of degree two, an estimate of ReLU, in the place of squares.
fn rectified(mut graph: Graph) -> Graph {
    for node in &mut graph.nodes {
        if node.op == Op::Square {
            node.op = Op::Polynomial {
                coefficients: vec![0.119, 0.5, 0.232],
            };
        }
    }
    graph
}

fn options(arithmetic: Arithmetic, face: Option<&Program>) -> Options {
    let (bits, decryptions) = (20, 1);
    Options {
        arithmetic,
        flooding: Some(Flooding::Estimated { bits, decryptions }),
        // Scores of random networks differ in size, and lie close together.
        range_margin: if face.is_some() { 2.0 } else { 8.0 },
        agreement: 0.0,
        ensemble: Some(Ensemble {
            degree: Degree::Linear,
            face: face.cloned().map(Box::new),
        }),
        ..Options::default()
    }
}

fn face_of(program: &Program) -> Program {
    let plan = &program.parameters;
    let spec = ParameterSpec::new(plan.log_n, &plan.q_bits, &plan.p_bits);
    let parameters = Parameters::new(spec).unwrap();
    program.face(parameters.q()).unwrap()
}

fn images(random: &mut Random) -> Vec<Tensor> {
    (0..16).map(|_| random.image(&[1, 28, 28])).collect()
}

#[test]
fn cryptonets_of_squares_and_of_estimates_of_relu_have_one_face() {
    for arithmetic in [Arithmetic::Approximate, Arithmetic::ScaleInvariant] {
        let mut random = Random::new(130);
        let images = images(&mut random);
        let squares = cryptonets(&mut random);
        let quadratics = rectified(cryptonets(&mut random));
        let first = compile(&squares, &options(arithmetic, None), &images);
        let first = first.unwrap().program;
        let face = face_of(&first);
        let exact = arithmetic.is_exact();
        assert_eq!(matches!(face.parameters.scheme, Scheme::Bfv { .. }), exact);
        // The contract says the arithmetic.
        let asked = options(Arithmetic::Approximate, Some(&face));
        let joined = compile(&quadratics, &asked, &images).unwrap().program;
        assert_eq!(compare(&face, &face_of(&joined)), Ok(()));
        assert_eq!(first.output.factor, joined.output.factor);
        let traced = |p: &Program| {
            let trace = |o: &Operation| matches!(o, Operation::Trace { .. });
            p.steps.iter().any(|step| trace(&step.operation))
        };
        assert_eq!((traced(&first), traced(&joined)), (!exact, !exact));
    }
}

#[test]
fn what_does_not_fit_an_exact_ensemble_is_refused_by_name() {
    let mut random = Random::new(131);
    let images = images(&mut random);
    let graph = cryptonets(&mut random);
    let exact = options(Arithmetic::ScaleInvariant, None);
    let face = face_of(&compile(&graph, &exact, &images).unwrap().program);
    let joining = options(Arithmetic::ScaleInvariant, Some(&face));
    let mut loud = graph.clone();
    if let Some(Op::Dense { weight, .. }) = loud.nodes.last_mut().map(|node| &mut node.op) {
        weight.data.iter_mut().for_each(|w| *w *= 64.0);
    }
    let refused = compile(&loud, &joining, &images).unwrap_err();
    assert!(
        matches!(refused, CompileError::EnsembleRange { .. }),
        "{refused}"
    );
    let mut net = GraphBuilder::new("squares last", [1, 28, 28]);
    net.then(Op::Flatten).then(dense(&mut random, 10, 784));
    net.then(Op::Square);
    let squared = net.finish().unwrap();
    let refused = compile(&squared, &exact, &images).unwrap_err();
    assert!(
        matches!(refused, CompileError::EnsembleReply { .. }),
        "{refused}"
    );
}
