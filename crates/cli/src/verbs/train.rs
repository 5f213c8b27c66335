//! `scuro train cryptonets --data mnist,generated --out model.onnx`, or from a trained network:
//! `scuro train --from model.onnx --replace modified-square --data mnist --out model2.onnx`

mod from;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use scuro_nn::activation::{Interval, Replacement, Which};
use scuro_nn::graph::Graph;
use scuro_train::architectures::{Activation, NAMES};
use scuro_train::recipes::{self, Recipe, Teacher};
use scuro_train::{
    BatchReport, EpochRecord, Examples, History, Optimiser, Schedule, Score, TrainConfig, Trained,
};
use serde_json::{Value, json};

use crate::context::Context;
use crate::errors::Failure;
use crate::inputs::{self, InputArguments};
use crate::output::Reply;
use crate::progress::Progress;
use crate::table::Table;
use crate::{files, units};

/// Arguments of `scuro train`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Architecture: cryptonets, lenet, lenet5, mlp, cifar10-cnn or cifar10-he.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(NAMES))]
    #[arg(required_unless_present = "from", conflicts_with = "from")]
    architecture: Option<String>,
    /// Start from a trained network instead: .onnx, .h5, .keras or .safetensors.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    #[command(flatten)]
    replacement: ReplacementArguments,
    /// Training data, several joined by commas; the training part unless a part is named.
    #[arg(
        long,
        value_name = "NAME[:split]",
        value_delimiter = ',',
        default_value = "mnist"
    )]
    data: Vec<String>,
    /// Only the first images of each data set.
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    #[command(flatten)]
    input: InputArguments,
    /// Passes over the data; 0 with --from only replaces and scores.
    #[arg(long)]
    epochs: Option<usize>,
    /// Images a step.
    #[arg(long)]
    batch: Option<usize>,
    /// Update rule.
    #[arg(long, value_enum)]
    optimizer: Option<OptimizerChoice>,
    /// Base learning rate.
    #[arg(long, value_name = "RATE")]
    lr: Option<f32>,
    /// Course of the learning rate.
    #[arg(long, value_enum)]
    schedule: Option<ScheduleChoice>,
    /// Activation function instead of the architecture's own (cifar10-cnn: relu, the last one
    /// modified-square): relu, tanh, quadratic, or what --replace takes.
    #[arg(long, value_name = "NAME[:DEGREE]", value_parser = activation)]
    #[arg(conflicts_with = "from")]
    activation: Option<Activation>,
    /// Share of the data held out to choose the best epoch.
    #[arg(long, value_name = "SHARE")]
    validation: Option<f32>,
    /// Epochs without a better validation accuracy before stopping.
    #[arg(long, value_name = "EPOCHS")]
    patience: Option<usize>,
    /// Train without distorting the images.
    #[arg(long)]
    no_augmentation: bool,
    /// Train a larger network first and learn from its answers too (digits only).
    #[arg(long, conflicts_with = "from")]
    teacher: bool,
    /// Decides weights, order and distortion: equal seeds give equal networks.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Data set that scores the result [default: the test part of the first].
    #[arg(long, value_name = "NAME[:split]")]
    test: Option<String>,
    /// The trained network, as ONNX.
    #[arg(long, short)]
    out: PathBuf,
    /// Curves of loss and accuracy, as SVG.
    #[arg(long, value_name = "FILE")]
    curves: Option<PathBuf>,
}

/// Update rules by name.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum OptimizerChoice {
    Adam,
    Rmsprop,
    Sgd,
}

/// Schedules by name.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ScheduleChoice {
    Constant,
    Cosine,
}

/// What is replaced in the network of `--from`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReplacementArguments {
    /// Replace activations: none, square, modified-square, learned-quadratic, or a fit, with its
    /// degree if wanted: taylor:4, derivative-fit:2, least-squares:4, chebyshev:4.
    #[arg(long, value_name = "NAME[:DEGREE]", conflicts_with = "architecture")]
    replace: Option<Replacement>,
    /// The last activation, or all of them.
    #[arg(
        long,
        value_name = "WHICH",
        value_enum,
        default_value_t,
        conflicts_with = "architecture"
    )]
    replace_which: WhichChoice,
    /// Average pools instead of maximum pools.
    #[arg(long, conflicts_with = "architecture")]
    average_pools: bool,
    /// Interval of the fits [default: what enters each activation of the training images].
    #[arg(long, value_name = "LOW,HIGH", value_parser = interval)]
    #[arg(allow_hyphen_values = true, conflicts_with = "architecture")]
    interval: Option<Interval>,
    /// Learn from the answers of the original network too.
    #[arg(long, conflicts_with = "architecture")]
    distil: bool,
}

/// Which activations are replaced.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub(crate) enum WhichChoice {
    #[default]
    Last,
    All,
}

impl WhichChoice {
    /// The choice as the library has it.
    pub(crate) fn which(self) -> Which {
        match self {
            Self::Last => Which::Last,
            Self::All => Which::All,
        }
    }
}

pub(crate) fn activation(text: &str) -> Result<Activation, String> {
    match text {
        "relu" => Ok(Activation::Relu),
        "tanh" => Ok(Activation::Tanh),
        "quadratic" => Ok(Activation::Quadratic),
        "square" => Ok(Activation::Square),
        _ => {
            let replacement = text.parse().map_err(|e: scuro_nn::Error| e.to_string())?;
            Ok(Activation::Replaced(replacement))
        }
    }
}

/// `-4,4`.
pub(crate) fn interval(text: &str) -> Result<Interval, String> {
    let number = |part: &str| part.trim().parse::<f64>().map_err(|e| e.to_string());
    let (low, high) = text
        .split_once(',')
        .ok_or("two numbers, joined by a comma")?;
    Interval::new(number(low)?, number(high)?).map_err(|e| e.to_string())
}

/// Trains, scores and writes the network.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    files::check_writable(&arguments.out)?;
    arguments
        .curves
        .iter()
        .try_for_each(|path| files::check_writable(path))?;
    match (&arguments.from, &arguments.architecture) {
        (Some(path), _) => from::run(&arguments, path, context),
        (None, Some(name)) => train_architecture(&arguments, name, context),
        (None, None) => Err(Failure::bad_input(
            "train.nothing",
            "neither an architecture nor --from is given",
        )),
    }
}

fn train_architecture(
    arguments: &Arguments,
    name: &str,
    context: &Context,
) -> Result<Reply, Failure> {
    let examples = &load(
        context,
        &arguments.data,
        arguments.limit,
        &arguments.input,
        None,
    )?;
    let recipe = recipe(arguments, name, examples.shape(), context)?;
    context.note(format!("{} images, architecture {name}", examples.len()));
    let start = Instant::now();
    let mut listener = Listener::new(context);
    let mut trained = recipes::cook(&recipe, examples, &mut listener)?;
    drop(listener);
    trained.graph.preprocess = Some(arguments.input.preprocess(None));
    let seconds = start.elapsed().as_secs_f64();
    write(arguments, &trained, name)?;
    let test = test_score(context, arguments, &trained.graph)?;
    Ok(reply(context, arguments, &trained, test, seconds))
}

/// Writes the network, and the curves if wanted.
fn write(arguments: &Arguments, trained: &Trained, name: &str) -> Result<(), Failure> {
    files::write(&arguments.out, &scuro_nn::export::onnx(&trained.graph)?)?;
    if let Some(path) = &arguments.curves {
        let title = format!("{name} on {}", arguments.data.join(" + "));
        let drawing = scuro_train::curves::svg(&trained.history, &title);
        files::write(path, drawing.as_bytes())?;
    }
    Ok(())
}

/// The data sets, joined, as `network` takes them, or one that is made for them; a name without a
/// part means the training part.
pub(crate) fn load(
    context: &Context,
    names: &[String],
    limit: Option<usize>,
    input: &InputArguments,
    network: Option<&Graph>,
) -> Result<Examples, Failure> {
    let mut joined: Option<Examples> = None;
    for name in names {
        let name = if name.contains(':') {
            name.clone()
        } else {
            format!("{name}:train")
        };
        let data = inputs::load(context, &name, limit)?;
        let examples = input.examples(&data, network)?;
        joined = Some(match joined {
            None => examples,
            Some(before) => before.joined(&examples)?,
        });
    }
    joined.ok_or_else(|| Failure::bad_input("train.no-data", "no training data is named"))
}

fn recipe(
    arguments: &Arguments,
    name: &str,
    shape: &[usize],
    context: &Context,
) -> Result<Recipe, Failure> {
    let mut recipe = recipes::recipe_for(name, Some(shape), arguments.seed)?;
    recipe.activation = arguments.activation;
    settle(arguments, &mut recipe.config, context);
    if arguments.teacher {
        recipe.teacher = Some(Teacher::for_digits(arguments.seed));
    }
    Ok(recipe)
}

/// Puts what was given in place of the recipe's settings.
fn settle(arguments: &Arguments, config: &mut TrainConfig, context: &Context) {
    config.epochs = arguments.epochs.unwrap_or(config.epochs);
    config.batch = arguments.batch.unwrap_or(config.batch);
    config.learning_rate = arguments.lr.unwrap_or(config.learning_rate);
    config.validation = arguments.validation.unwrap_or(config.validation);
    config.patience = arguments.patience.or(config.patience);
    config.threads = Some(context.thread_count());
    if let Some(choice) = arguments.optimizer {
        config.optimiser = choice.optimiser();
    }
    if let Some(choice) = arguments.schedule {
        config.schedule = choice.schedule();
    }
    if arguments.no_augmentation {
        config.augmentation = None;
    }
}

impl OptimizerChoice {
    fn optimiser(self) -> Optimiser {
        match self {
            Self::Adam => Optimiser::adam(),
            Self::Rmsprop => Optimiser::rms_prop(),
            Self::Sgd => Optimiser::sgd(0.9, true),
        }
    }
}

impl ScheduleChoice {
    fn schedule(self) -> Schedule {
        match self {
            Self::Constant => Schedule::Constant,
            Self::Cosine => Schedule::Cosine { floor: 0.0 },
        }
    }
}

/// Shows loss, accuracy and speed while the training runs.
pub(crate) struct Listener<'a> {
    context: &'a Context,
    bar: Option<Progress>,
    network: String,
    epoch_start: Instant,
}

impl<'a> Listener<'a> {
    pub(crate) fn new(context: &'a Context) -> Self {
        Self {
            context,
            bar: None,
            network: String::new(),
            epoch_start: Instant::now(),
        }
    }
}

impl scuro_train::Progress for Listener<'_> {
    fn phase(&mut self, network: &str, epochs: usize) {
        self.bar = None;
        self.network = network.to_string();
        self.context
            .note(format!("training {network} for {epochs} epochs"));
    }

    fn batch(&mut self, report: &BatchReport) {
        if report.batch == 1 {
            self.epoch_start = Instant::now();
        }
        let total = report.epochs * report.batches;
        let bar = self
            .bar
            .get_or_insert_with(|| Progress::bar(self.context, "training", total));
        let rate = report.images as f64 / self.epoch_start.elapsed().as_secs_f64().max(1e-9);
        bar.at((report.epoch - 1) * report.batches + report.batch);
        bar.say(format!(
            "epoch {}/{} · loss {:.4} · {} · {rate:.0} images/s",
            report.epoch,
            report.epochs,
            report.loss,
            units::percent(report.accuracy)
        ));
    }

    fn epoch(&mut self, record: &EpochRecord, _graph: &Graph) -> ControlFlow<()> {
        let held_out = record.validation_accuracy.map_or(String::new(), |share| {
            format!(" · held out {}", units::percent(share))
        });
        self.context.note(format!(
            "{} epoch {}: loss {:.4} · {}{held_out}",
            self.network,
            record.epoch,
            record.loss,
            units::percent(record.accuracy)
        ));
        ControlFlow::Continue(())
    }
}

/// The test data for `network`; nothing if there is none on this machine.
fn test_data(
    context: &Context,
    arguments: &Arguments,
    network: &Graph,
) -> Result<Option<(String, Examples)>, Failure> {
    let first = arguments
        .data
        .first()
        .map(|name| name.split(':').next().unwrap_or(name));
    let name = match (&arguments.test, first) {
        (Some(name), _) => name.clone(),
        (None, Some(first)) => format!("{first}:test"),
        (None, None) => return Ok(None),
    };
    match inputs::load(context, &name, None) {
        Ok(data) => Ok(Some((
            name,
            arguments.input.examples(&data, Some(network))?,
        ))),
        Err(failure) if arguments.test.is_some() => Err(failure),
        Err(_) => Ok(None),
    }
}

fn test_score(
    context: &Context,
    arguments: &Arguments,
    graph: &Graph,
) -> Result<Option<(String, Score)>, Failure> {
    let data = test_data(context, arguments, graph)?;
    data.map(|(name, examples)| Ok((name, scuro_train::score(graph, &examples)?)))
        .transpose()
}

fn reply(
    context: &Context,
    arguments: &Arguments,
    trained: &Trained,
    test: Option<(String, Score)>,
    seconds: f64,
) -> Reply {
    let History { epochs, best } = &trained.history;
    let out = &arguments.out;
    let preprocess = trained.graph.preprocess.clone().unwrap_or_default();
    let mut table = Table::new(&[]);
    table.row(["network", &out.display().to_string()]);
    table.row(["best epoch", &format!("{best} of {}", epochs.len())]);
    if let Some((name, score)) = &test {
        table.row(["accuracy", &format!("{:.4} on {name}", score.accuracy)]);
        for (layer, largest) in &score.activation_ranges {
            table.row(["into", &format!("{layer}: at most {largest:.2}")]);
        }
    }
    table.row(["time", &format!("{seconds:.1} s")]);
    if let Some(flags) = inputs::flags(&preprocess) {
        table.row(["inputs", &format!("{flags} (noted in the file)")]);
    }
    let rows: Vec<Value> = epochs.iter().map(epoch_row).collect();
    let data = json!({
        "network": out, "best_epoch": best, "seconds": seconds, "epochs": rows,
        "preprocessing": inputs::to_json(&preprocess),
        "test": test.as_ref().map(|(name, score)| score_row(name, score)),
    });
    Reply::new(data, table.render(context.style))
}

fn score_row(name: &str, score: &Score) -> Value {
    let ranges = score.activation_ranges.iter();
    let ranges: serde_json::Map<String, Value> = ranges
        .map(|(layer, largest)| (layer.clone(), json!(largest)))
        .collect();
    json!({"data": name, "accuracy": score.accuracy, "loss": score.loss, "ranges": ranges})
}

fn epoch_row(record: &EpochRecord) -> Value {
    json!({
        "epoch": record.epoch, "loss": record.loss, "accuracy": record.accuracy,
        "validation_loss": record.validation_loss,
        "validation_accuracy": record.validation_accuracy,
    })
}
