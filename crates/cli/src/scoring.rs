//! Scores and answers of many images, clear, simulated or encrypted, on all threads.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use scuro_client::{Model, Prediction, gather, scatter};
use scuro_nn::graph::{Graph, Op};
use scuro_nn::reference::Executor;
use scuro_program::Scheme;
use scuro_runtime::RuntimeError;
use scuro_runtime::simulate::Simulator;

use crate::context::Context;
use crate::errors::Failure;
use crate::inputs::Examples;
use crate::progress::Progress;
use crate::session::Session;

/// How a model is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Mode {
    /// The plain network.
    #[default]
    Clear,
    /// The compiled program on plain slots, with the noise that encryption would add.
    Simulate,
    /// The compiled program on ciphertexts.
    Encrypted,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Clear => "clear",
            Self::Simulate => "simulate",
            Self::Encrypted => "encrypted",
        })
    }
}

/// Scores of each image.
pub(crate) type Scores = Vec<Vec<f64>>;

/// Scores of the reference executor.
pub(crate) fn reference(graph: &Graph, examples: &Examples) -> Result<Scores, Failure> {
    let executor = Executor::new(graph)?;
    let classes: usize = executor.output_shape().iter().product();
    let fill = |i: usize, out: &mut [f32]| out.copy_from_slice(&examples.input(i));
    let flat = executor.run_each(examples.len(), fill);
    let row = |scores: &[f32]| scores.iter().map(|&s| f64::from(s)).collect();
    Ok(flat.chunks_exact(classes.max(1)).map(row).collect())
}

/// The network without its last softmax, which the key holder applies: scores before it are what
/// the compiled program gives.
pub(crate) fn without_softmax(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    let last = &graph.nodes[graph.output.0];
    if matches!(last.op, Op::Softmax { .. } | Op::LogSoftmax { .. }) {
        graph.output = last.inputs[0];
    }
    graph
}

/// Scores of the compiled program on plain slots, without noise.
pub(crate) fn clear_program(
    context: &Context,
    model: &Model,
    examples: &Examples,
) -> Result<Scores, Failure> {
    let run = |images: &[&[f32]], _: usize| {
        let slots = scuro_runtime::clear::run(model.program(), &gather(model.program(), images)?)?;
        Ok(scatter(model.program(), &slots, images.len())?)
    };
    in_parallel(context, model, examples, "clear program", run)
}

/// Answers of the simulation.
pub(crate) fn simulated(
    context: &Context,
    model: &Model,
    examples: &Examples,
) -> Result<Vec<Prediction>, Failure> {
    let simulator = Simulator::new(model.program(), model.context().parameters())?;
    let run = |images: &[&[f32]], first: usize| simulate(model, &simulator, images, first as u64);
    in_parallel(context, model, examples, "simulating", run)
}

/// The simulated answers of images that share a query; those whose values outgrow the modulus have
/// no scores and are marked as decryption would mark them.
pub(crate) fn simulate(
    model: &Model,
    simulator: &Simulator<'_>,
    images: &[&[f32]],
    seed: u64,
) -> Result<Vec<Prediction>, Failure> {
    let program = model.program();
    match simulator.run(&gather(program, images)?, seed) {
        Ok(slots) => {
            let scores = scatter(program, &slots, images.len())?.into_iter();
            Ok(scores.map(Prediction::from_scores).collect())
        }
        // Integers wrap slot by slot, approximate numbers all over their ciphertext.
        Err(RuntimeError::Overflow { .. }) if images.len() > 1 && is_exact(model) => {
            let alone = images
                .iter()
                .map(|&i| simulate(model, simulator, &[i], seed));
            Ok(alone.collect::<Result<Vec<_>, _>>()?.concat())
        }
        Err(RuntimeError::Overflow { .. }) => {
            let lost = Prediction {
                overflowed: true,
                ..Prediction::from_scores(vec![0.0; program.output.elements()])
            };
            Ok(vec![lost; images.len()])
        }
        Err(error) => Err(error.into()),
    }
}

fn is_exact(model: &Model) -> bool {
    model.program().parameters.scheme != Scheme::Ckks
}

/// Answers of the encrypted evaluation, with fresh keys, all in this process.
pub(crate) fn encrypted(
    context: &Context,
    model: &Model,
    examples: &Examples,
) -> Result<Vec<Prediction>, Failure> {
    let session = {
        let _spinner = Progress::spinner(context, "making keys");
        Session::new(model, 1)?
    };
    let (model, client, evaluator) = (session.model(), &session.client, &session.evaluator);
    let run = |images: &[&[f32]], _: usize| {
        let query = session.encrypt(images)?;
        let ciphertexts = model.open_query(&query)?;
        let replies = ciphertexts.iter().map(|run| evaluator.run_shared(run));
        let reply = model.seal_reply(&query, &replies.collect::<Result<Vec<_>, _>>()?)?;
        Ok(client.decrypt(&reply)?)
    };
    in_parallel(context, model, examples, "encrypted", run)
}

/// Runs `work` on blocks of as many images as one run of the program takes.
fn in_parallel<T: Clone + Send>(
    context: &Context,
    model: &Model,
    examples: &Examples,
    what: &str,
    work: impl Fn(&[&[f32]], usize) -> Result<Vec<T>, Failure> + Sync,
) -> Result<Vec<T>, Failure> {
    let block = |range: Range<usize>| {
        let images: Vec<Vec<f32>> = range.clone().map(|i| examples.input(i)).collect();
        let views: Vec<&[f32]> = images.iter().map(Vec::as_slice).collect();
        work(&views, range.start)
    };
    by_blocks(context, what, examples.len(), model.images_per_run(), block)
}

/// Runs `work` on `count` things, `block` at a time, on all threads; the results in order.
pub(crate) fn by_blocks<T: Clone + Send>(
    context: &Context,
    what: &str,
    count: usize,
    block: usize,
    work: impl Fn(Range<usize>) -> Result<Vec<T>, Failure> + Sync,
) -> Result<Vec<T>, Failure> {
    let blocks = count.div_ceil(block);
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Vec<T>>>> = Mutex::new(vec![None; blocks]);
    let fault: Mutex<Option<Failure>> = Mutex::new(None);
    let progress = Progress::bar(context, what, count);
    let worker = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= blocks || lock(&fault).is_some() {
                return;
            }
            let range = index * block..count.min((index + 1) * block);
            match work(range.clone()) {
                Ok(answers) => lock(&results)[index] = Some(answers),
                Err(failure) => *lock(&fault) = Some(failure),
            }
            progress.advance(range.len());
        }
    };
    std::thread::scope(|scope| {
        (1..context.thread_count().min(blocks)).for_each(|_| drop(scope.spawn(worker)));
        worker();
    });
    if let Some(failure) = lock(&fault).take() {
        return Err(failure);
    }
    Ok(lock(&results).drain(..).flatten().flatten().collect())
}

/// A poisoned lock means that a worker panicked; the panic itself is reported, so the data is not
/// used.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use scuro_compiler::{Arithmetic, Options, compile};
    use scuro_nn::data::{Dataset, DatasetName, Preprocess};
    use scuro_nn::graph::GraphBuilder;
    use scuro_nn::tensor::Tensor;

    use super::*;
    use crate::compiled::{self, CompileArguments, Compiled, SchemeChoice, Source};
    use crate::context::Format;
    use crate::inputs::{self, InputArguments};
    use crate::style::Style;
    use crate::verbs::accuracy;

    const PIXELS: usize = 16;
    /// Images that the demo network looks at.
    const IMAGES: usize = 4;

    fn context() -> Context {
        Context {
            format: Format::Json,
            quiet: true,
            verbose: 0,
            style: Style { color: false },
            data_dir: None,
            threads: 2,
        }
    }

    /// Pictures of one gray each.
    fn pictures(grays: &[u8]) -> Dataset {
        Dataset {
            name: "generated".parse::<DatasetName>().expect("a name"),
            shape: [1, 4, 4],
            images: grays.iter().flat_map(|&gray| [gray; PIXELS]).collect(),
            labels: vec![0; grays.len()],
            classes: vec!["bright".into(), "dark".into()],
        }
    }

    /// The square of the sum of all pixels and the opposite, compiled for dark pictures only.
    fn compiled(arithmetic: Arithmetic, images_per_query: usize) -> Compiled {
        let mut net = GraphBuilder::new("brightness", [1, 4, 4]);
        let dense = |outputs, inputs, weights| Op::Dense {
            weight: Tensor::new(vec![outputs, inputs], weights).expect("weights"),
            bias: None,
        };
        net.then(Op::Flatten)
            .then(dense(1, PIXELS, vec![1.0; PIXELS]));
        net.then(Op::Square).then(dense(2, 1, vec![1.0, -1.0]));
        let graph = net.finish().expect("a network");
        let dark = |gray: u8| {
            let value = f32::from(gray) / 255.0;
            Tensor::new(vec![1, 4, 4], vec![value; PIXELS]).expect("a picture")
        };
        let calibration: Vec<Tensor> = (1..5).map(dark).collect();
        let options = Options {
            arithmetic,
            images_per_query,
            input_range: Some((0.0, 1.0)),
            ..Options::default()
        };
        let compilation = compile(&graph, &options, &calibration).expect("compiles");
        Compiled::new(compilation, graph).expect("a model")
    }

    #[test]
    fn images_beyond_the_modulus_are_counted_and_do_not_end_a_simulation() {
        for (arithmetic, shared) in [
            (Arithmetic::Approximate, 1),
            (Arithmetic::Exact, 1),
            (Arithmetic::Exact, 2),
        ] {
            let compiled = compiled(arithmetic, shared);
            let (data, context) = (pictures(&[1, 4, 255, 3, 2, 255]), context());
            let score = accuracy::score_compiled(&context, &compiled, data, Mode::Simulate);
            let score = score.expect("a score");
            assert_eq!((score.images, score.correct), (6, 4), "{arithmetic:?}");
            assert_eq!(score.overflowed, [2, 5], "{arithmetic:?}, {shared} a query");
            assert_eq!(score.disagreements, [2, 5]);
            assert!(score.worst_logit_error < 0.1, "{}", score.worst_logit_error);
        }
    }

    #[test]
    fn every_logit_of_the_demo_network_is_that_of_the_clear_program() {
        let context = context();
        for scheme in [SchemeChoice::Bgv, SchemeChoice::Bfv] {
            let arguments = CompileArguments {
                scheme: Some(scheme),
                calibration: 256,
                ..CompileArguments::standard(128)
            };
            let (graph, input) = (Source::BuiltIn.network(), InputArguments::default());
            let graph = graph.expect("the built-in network");
            let data = Some("generated:train");
            let compiled = compiled::compile(&context, graph, data, &input, &arguments);
            let compiled = compiled.expect("compiles");
            let images = inputs::load(&context, "generated:test", Some(IMAGES));
            let examples = compiled.examples(images.expect("images")).expect("fit");
            let clear = simulated(&context, &compiled.model, &examples).expect("simulated");
            let found = encrypted(&context, &compiled.model, &examples).expect("encrypted");
            assert_eq!(clear.len(), IMAGES);
            assert_eq!(found, clear, "{scheme:?}");
        }
    }

    #[test]
    fn what_decryption_marks_the_simulation_marks() {
        let compiled = compiled(Arithmetic::Exact, 1);
        let preprocess = Preprocess::default();
        // Around the ends of the range: the largest calibration picture has 4.
        let grays: Vec<u8> = (4..9).collect();
        let examples = Examples::new(pictures(&grays), &preprocess, &[1, 4, 4]).expect("fit");
        let simulated = simulated(&context(), &compiled.model, &examples).expect("simulated");
        let encrypted = encrypted(&context(), &compiled.model, &examples).expect("encrypted");
        let marks = |answers: &[Prediction]| answers.iter().map(|a| a.overflowed).collect();
        let (simulated, encrypted): (Vec<bool>, Vec<bool>) = (marks(&simulated), marks(&encrypted));
        assert!(!simulated[0] && simulated.contains(&true), "{simulated:?}");
        assert_eq!(simulated[..2], encrypted[..2]);
    }
}
