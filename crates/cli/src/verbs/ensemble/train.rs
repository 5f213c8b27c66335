//! `scuro ensemble train --holders 5 --split label-skew:0.5 --data mnist --out ensemble/`

use std::path::PathBuf;
use std::time::Instant;

use scuro_ensemble::{HOLDERS_MAX, HeldOut, Rules};
use scuro_nn::graph::Graph;
use scuro_train::architectures::{Activation, NAMES};
use scuro_train::recipes::{self, Recipe};
use scuro_train::split::Partition;
use scuro_train::{Examples, Holder, Scores};
use serde_json::json;

use crate::context::Context;
use crate::ensemble::{HolderCard, MANIFEST, Manifest, RULES};
use crate::errors::Failure;
use crate::inputs::{self, InputArguments};
use crate::output::Reply;
use crate::table::Table;
use crate::verbs::train::{Listener, activation, load};
use crate::{files, units};

/// The usual number of holders, their network, and the share of examples that none of them has.
const HOLDERS: u64 = 5;
const ARCHITECTURE: &str = "cryptonets";
const HELD_OUT: f32 = 0.05;

/// Arguments of `scuro ensemble train`.
#[derive(Debug, clap::Args)]
pub(crate) struct TrainArguments {
    /// Number of holders, each with a network of its own.
    #[arg(long, value_name = "M", default_value_t = HOLDERS)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=HOLDERS_MAX as u64))]
    holders: u64,
    /// How examples are dealt out: iid, label-skew:ALPHA, disjoint-classes, size-skew:POWER.
    #[arg(long, value_name = "SPLIT", default_value = "iid", value_parser = partition)]
    split: Partition,
    /// Training data, several joined by commas; the training part unless a part is named.
    #[arg(long, value_name = "NAME[:split]", value_delimiter = ',')]
    #[arg(default_value = "mnist")]
    data: Vec<String>,
    /// Architecture of every holder.
    #[arg(long, default_value = ARCHITECTURE)]
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(NAMES))]
    architecture: String,
    /// Activation function instead of the architecture's own, as `scuro train` takes it.
    #[arg(long, value_name = "NAME[:DEGREE]", value_parser = activation)]
    activation: Option<Activation>,
    /// Passes of each holder over its own examples [default: the architecture's, so that all
    /// holders together take as many steps as one network would].
    #[arg(long)]
    epochs: Option<usize>,
    /// Only the first images of each data set.
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    /// Share of the data that no holder is given: the rules are fitted on it.
    #[arg(long, value_name = "SHARE", default_value_t = HELD_OUT)]
    held_out: f32,
    /// Train without distorting the images.
    #[arg(long)]
    no_augmentation: bool,
    /// Leave scores as training makes them: no correction for how frequent classes are, no
    /// silence about unseen ones, no temperature.
    #[arg(long)]
    plain: bool,
    /// Decides split, weights, order and distortion: equal seeds give equal ensembles.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    input: InputArguments,
    /// Folder for the networks, rules.json and ensemble.json.
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
}

impl TrainArguments {
    /// Networks of the usual kind for the holders of a split, from a data set.
    pub(crate) fn of(
        split: &str,
        seed: u64,
        data: &str,
        epochs: usize,
        out: PathBuf,
    ) -> Result<Self, Failure> {
        Ok(Self {
            holders: HOLDERS,
            split: split.parse()?,
            data: vec![data.into()],
            architecture: ARCHITECTURE.into(),
            activation: None,
            epochs: Some(epochs),
            limit: None,
            held_out: HELD_OUT,
            no_augmentation: false,
            plain: false,
            seed,
            input: InputArguments::default(),
            out,
        })
    }
}

fn partition(text: &str) -> Result<Partition, String> {
    text.parse().map_err(|e: scuro_train::Error| e.to_string())
}

/// Deals the examples out, trains, fits the rules and writes the folder.
pub(crate) fn run(arguments: &TrainArguments, context: &Context) -> Result<Reply, Failure> {
    if !(arguments.held_out > 0.0 && arguments.held_out < 1.0) {
        let message = format!("--held-out is {}", arguments.held_out);
        return Err(Failure::bad_input("ensemble.held-out", message)
            .hint("a share between 0 and 1, for example 0.05"));
    }
    files::check_writable(&arguments.out.join(MANIFEST))?;
    let start = Instant::now();
    let classes = class_names(arguments, context)?;
    let examples = load(
        context,
        &arguments.data,
        arguments.limit,
        &arguments.input,
        None,
    )?;
    let (given, held_out) = examples.split(arguments.held_out, arguments.seed)?;
    let holders = holders(arguments, &given, classes.len(), context)?;
    let held_out = predictions(&holders, &held_out)?;
    let names = (0..holders.len()).map(holder_name).collect();
    let rules = Rules::fitted(names, classes, &held_out)?;
    let epochs = recipe(arguments, given.shape(), 0, context)?.config.epochs;
    let manifest = manifest(arguments, &holders, &rules, &held_out, epochs);
    write(arguments, &holders, &rules, &manifest)?;
    Ok(reply(
        context,
        arguments,
        &manifest,
        start.elapsed().as_secs_f64(),
    ))
}

/// Deals the examples out and trains a network on each part.
fn holders(
    arguments: &TrainArguments,
    given: &Examples,
    classes: usize,
    context: &Context,
) -> Result<Vec<Holder>, Failure> {
    let count = arguments.holders as usize;
    let dealt = arguments
        .split
        .deal(given.labels(), count, arguments.seed)?;
    let train = |(index, part): (usize, &Vec<usize>)| {
        let (name, own) = (holder_name(index), given.select(part));
        context.note(format!("{name} of {count}: {} images", own.len()));
        let recipe = recipe(arguments, own.shape(), index, context)?;
        let mut listener = Listener::new(context);
        let scores = scores(arguments);
        let holder = scuro_train::train_holder(&recipe, &own, classes, scores, &mut listener)?;
        if holder.histogram.iter().filter(|count| **count > 0).count() < 2 {
            let what = "has one class: its network has nothing to tell apart";
            context.note(format!("{name} {what}"));
        }
        Ok(holder)
    };
    dealt.iter().enumerate().map(train).collect()
}

fn scores(arguments: &TrainArguments) -> Scores {
    match arguments.plain {
        true => Scores::Plain,
        false => Scores::Comparable,
    }
}

fn holder_name(index: usize) -> String {
    format!("holder-{}", index + 1)
}

/// Names of the classes, which all data sets share.
fn class_names(arguments: &TrainArguments, context: &Context) -> Result<Vec<String>, Failure> {
    let first = arguments.data.first().map_or("mnist", String::as_str);
    let name = match first.contains(':') {
        true => first.to_string(),
        false => format!("{first}:train"),
    };
    Ok(inputs::load(context, &name, Some(1))?.classes)
}

/// The architecture's own recipe; every holder draws its own weights and order.
fn recipe(
    arguments: &TrainArguments,
    shape: &[usize],
    index: usize,
    context: &Context,
) -> Result<Recipe, Failure> {
    let seed = arguments.seed.wrapping_add((index as u64 + 1) << 32);
    let mut recipe = recipes::recipe_for(&arguments.architecture, Some(shape), seed)?;
    recipe.activation = arguments.activation;
    recipe.config.threads = Some(context.thread_count());
    recipe.config.epochs = arguments.epochs.unwrap_or(recipe.config.epochs);
    if arguments.no_augmentation {
        recipe.config.augmentation = None;
    }
    Ok(recipe)
}

/// What every holder says of the examples that none of them was given.
fn predictions(holders: &[Holder], held_out: &Examples) -> Result<HeldOut, Failure> {
    let of_holder = |holder: &Holder| -> Result<Vec<Vec<f64>>, Failure> {
        let flat = scuro_train::logits(&holder.graph, held_out)?;
        let classes = holder.histogram.len();
        let row = |scores: &[f32]| scores.iter().map(|&score| f64::from(score)).collect();
        Ok(flat.chunks_exact(classes).map(row).collect())
    };
    let predictions = holders.iter().map(of_holder).collect::<Result<_, _>>()?;
    Ok(HeldOut::new(predictions, held_out.labels().to_vec())?)
}

fn manifest(
    arguments: &TrainArguments,
    holders: &[Holder],
    rules: &Rules,
    held_out: &HeldOut,
    epochs: usize,
) -> Manifest {
    let card = |(index, holder): (usize, &Holder)| HolderCard {
        name: holder_name(index),
        network: format!("{}.onnx", holder_name(index)),
        images: holder.histogram.iter().sum(),
        histogram: holder.histogram.clone(),
        temperature: holder.temperature,
        own_accuracy: holder.own_accuracy,
        held_out_accuracy: held_out.accuracy(index),
    };
    Manifest {
        kind: Manifest::kind(),
        split: arguments.split.to_string(),
        seed: arguments.seed,
        data: arguments.data.clone(),
        architecture: arguments.architecture.clone(),
        activation: arguments
            .activation
            .map(|activation| activation.to_string()),
        plain: arguments.plain,
        epochs,
        held_out: held_out.examples(),
        classes: rules.classes().to_vec(),
        holders: holders.iter().enumerate().map(card).collect(),
    }
}

fn write(
    arguments: &TrainArguments,
    holders: &[Holder],
    rules: &Rules,
    manifest: &Manifest,
) -> Result<(), Failure> {
    for (holder, card) in holders.iter().zip(&manifest.holders) {
        let graph = Graph {
            preprocess: Some(arguments.input.preprocess(None)),
            ..holder.graph.clone()
        };
        let file = arguments.out.join(&card.network);
        files::write(&file, &scuro_nn::export::onnx(&graph)?)?;
    }
    files::write(&arguments.out.join(RULES), &rules.to_bytes())?;
    let text = format!("{:#}\n", json!(manifest));
    files::write(&arguments.out.join(MANIFEST), text.as_bytes())
}

fn reply(
    context: &Context,
    arguments: &TrainArguments,
    manifest: &Manifest,
    seconds: f64,
) -> Reply {
    let heads = [
        "holder",
        "images",
        "classes",
        "temperature",
        "own",
        "held out",
    ];
    let mut table = Table::new(&heads);
    for card in &manifest.holders {
        table.row([
            card.name.clone(),
            card.images.to_string(),
            card.classes_seen().to_string(),
            format!("{:.2}", card.temperature),
            units::percent(card.own_accuracy),
            units::percent(card.held_out_accuracy),
        ]);
    }
    let mut human = table.render(context.style);
    human.push_str(&format!(
        "split {} · {} images held out · {seconds:.1} s\nwrote {}\n",
        manifest.split,
        manifest.held_out,
        arguments.out.display()
    ));
    let mut data = json!(manifest);
    data["out"] = json!(arguments.out);
    data["seconds"] = json!(seconds);
    Reply::new(data, human)
}
