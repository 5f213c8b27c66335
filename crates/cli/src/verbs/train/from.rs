//! `scuro train --from model.onnx`: replaces activations of a trained network and fine-tunes it.

use std::path::Path;
use std::time::Instant;

use scuro_nn::activation::Plan;
use scuro_nn::graph::Graph;
use scuro_train::{Adaptation, Adapted, Examples, Score, Subject, Trained, adapt, recipes};
use serde_json::json;

use super::{Arguments, Listener, load, reply, score_row, settle, test_data, write};
use crate::compiled::Source;
use crate::context::Context;
use crate::errors::Failure;
use crate::output::Reply;
use crate::units;

/// Softens the answers of the original network.
const TEMPERATURE: f32 = 3.0;
/// Their share in the loss.
const TEACHER_WEIGHT: f32 = 0.7;

/// Replaces, trains, scores and writes.
pub(super) fn run(arguments: &Arguments, path: &Path, context: &Context) -> Result<Reply, Failure> {
    let architecture = None;
    let mut graph = Source::File { path, architecture }.network()?;
    graph.preprocess = Some(arguments.input.preprocess(graph.preprocess.as_ref()));
    let examples = load(
        context,
        &arguments.data,
        arguments.limit,
        &arguments.input,
        Some(&graph),
    )?;
    let wanted = &arguments.replacement;
    let plan = Plan {
        activation: wanted.replace,
        which: wanted.replace_which.which(),
        average_pools: wanted.average_pools,
    };
    let subject = Subject::new(&graph, plan);
    let start = Instant::now();
    let adapted = fine_tune(arguments, &subject, plan, &examples, context)?;
    let seconds = start.elapsed().as_secs_f64();
    let trained = Trained {
        graph: subject.whole(&adapted.trained.graph)?,
        history: adapted.trained.history,
    };
    write(arguments, &trained, &graph.name)?;
    let scores = scores(
        context,
        arguments,
        [&graph, &subject.whole(&adapted.replaced)?, &trained.graph],
    )?;
    let (name, [original, replaced, tuned]) = match scores {
        Some((name, scores)) => (name, scores.map(Some)),
        None => (String::new(), [None, None, None]),
    };
    let tuned = tuned.map(|score| (name.clone(), score));
    let mut reply = reply(context, arguments, &trained, tuned, seconds);
    for (key, score) in [("original", original), ("replaced", replaced)] {
        let Some(score) = score else { continue };
        let percent = units::percent(score.accuracy);
        reply
            .human
            .push_str(&format!("{key}: {percent} on {name}\n"));
        reply.data[key] = score_row(&name, &score);
    }
    reply.data["replacement"] = json!(wanted.replace.map(|r| r.to_string()));
    Ok(reply)
}

fn fine_tune(
    arguments: &Arguments,
    subject: &Subject,
    plan: Plan,
    examples: &Examples,
    context: &Context,
) -> Result<Adapted, Failure> {
    let mut config = recipes::fine_tuning(subject, examples, arguments.seed);
    settle(arguments, &mut config, context);
    let wanted = &arguments.replacement;
    let adaptation = Adaptation {
        plan,
        interval: wanted.interval,
        config: (config.epochs > 0).then_some(config),
        distil: wanted.distil.then_some((TEMPERATURE, TEACHER_WEIGHT)),
    };
    let features = subject.features(examples)?;
    let mut listener = Listener::new(context);
    Ok(adapt(
        subject.network(),
        &adaptation,
        &features,
        &mut listener,
    )?)
}

/// The name of the test data and the score of each network on it.
fn scores(
    context: &Context,
    arguments: &Arguments,
    graphs: [&Graph; 3],
) -> Result<Option<(String, [Score; 3])>, Failure> {
    let data = test_data(context, arguments, graphs[0])?;
    let Some((name, examples)) = data else {
        return Ok(None);
    };
    let [a, b, c] = graphs.map(|graph| scuro_train::score(graph, &examples));
    Ok(Some((name, [a?, b?, c?])))
}
