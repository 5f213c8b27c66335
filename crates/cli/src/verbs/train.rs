//! `scuro train cryptonets --data mnist,generated --out model.onnx`

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use scuro_nn::graph::Graph;
use scuro_train::architectures::{Activation, NAMES};
use scuro_train::recipes::{self, Recipe, Teacher};
use scuro_train::{BatchReport, EpochRecord, Examples, History, Optimiser, Schedule, Trained};
use serde_json::{Value, json};

use crate::context::Context;
use crate::errors::Failure;
use crate::output::Reply;
use crate::progress::Progress;
use crate::table::Table;
use crate::{files, inputs, units};

/// Arguments of `scuro train`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Architecture: cryptonets, lenet, lenet5, mlp or cifar10-cnn.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(NAMES))]
    architecture: String,
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
    /// Passes over the data.
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
    /// Activation function instead of the architecture's own.
    #[arg(long, value_enum)]
    activation: Option<ActivationChoice>,
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
    #[arg(long)]
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

/// Activation functions by name.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ActivationChoice {
    Relu,
    Square,
    Quadratic,
    Tanh,
}

/// Trains, scores and writes the network.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    files::check_writable(&arguments.out)?;
    arguments
        .curves
        .iter()
        .try_for_each(|path| files::check_writable(path))?;
    let examples = load(context, &arguments)?;
    let recipe = recipe(&arguments, examples.shape(), context)?;
    context.note(format!(
        "{} images, architecture {}",
        examples.len(),
        arguments.architecture
    ));
    let start = Instant::now();
    let mut listener = Listener::new(context);
    let trained = recipes::cook(&recipe, &examples, &mut listener)?;
    drop(listener);
    let seconds = start.elapsed().as_secs_f64();
    let bytes = scuro_nn::export::onnx(&trained.graph)?;
    files::write(&arguments.out, &bytes)?;
    if let Some(path) = &arguments.curves {
        let title = format!(
            "{} on {}",
            arguments.architecture,
            arguments.data.join(" + ")
        );
        files::write(
            path,
            scuro_train::curves::svg(&trained.history, &title).as_bytes(),
        )?;
    }
    let test = test_accuracy(context, &arguments, &trained.graph)?;
    Ok(reply(context, &arguments.out, &trained, test, seconds))
}

/// The data sets, joined; a name without a part means the training part.
fn load(context: &Context, arguments: &Arguments) -> Result<Examples, Failure> {
    let mut joined: Option<Examples> = None;
    for name in &arguments.data {
        let name = if name.contains(':') {
            name.clone()
        } else {
            format!("{name}:train")
        };
        let examples = Examples::from_dataset(&inputs::load(context, &name, arguments.limit)?);
        joined = Some(match joined {
            None => examples,
            Some(before) => before.joined(&examples)?,
        });
    }
    joined.ok_or_else(|| Failure::bad_input("train.no-data", "no training data is named"))
}

fn recipe(arguments: &Arguments, shape: &[usize], context: &Context) -> Result<Recipe, Failure> {
    let mut recipe = recipes::recipe_for(&arguments.architecture, Some(shape), arguments.seed)?;
    recipe.activation = arguments.activation.map(ActivationChoice::activation);
    let config = &mut recipe.config;
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
    if arguments.teacher {
        recipe.teacher = Some(Teacher::for_digits(arguments.seed));
    }
    Ok(recipe)
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

impl ActivationChoice {
    fn activation(self) -> Activation {
        match self {
            Self::Relu => Activation::Relu,
            Self::Square => Activation::Square,
            Self::Quadratic => Activation::Quadratic,
            Self::Tanh => Activation::Tanh,
        }
    }
}

/// Shows loss, accuracy and speed while the training runs.
struct Listener<'a> {
    context: &'a Context,
    bar: Option<Progress>,
    network: String,
    epoch_start: Instant,
}

impl<'a> Listener<'a> {
    fn new(context: &'a Context) -> Self {
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

/// Accuracy on the test data; nothing if there is none on this machine.
fn test_accuracy(
    context: &Context,
    arguments: &Arguments,
    graph: &Graph,
) -> Result<Option<(String, f64)>, Failure> {
    let first = arguments
        .data
        .first()
        .map(|name| name.split(':').next().unwrap_or(name));
    let name = match (&arguments.test, first) {
        (Some(name), _) => name.clone(),
        (None, Some(first)) => format!("{first}:test"),
        (None, None) => return Ok(None),
    };
    let data = match inputs::load(context, &name, None) {
        Ok(data) => data,
        Err(failure) if arguments.test.is_some() => return Err(failure),
        Err(_) => return Ok(None),
    };
    let score = scuro_train::score(graph, &Examples::from_dataset(&data))?;
    Ok(Some((name, score.accuracy)))
}

fn reply(
    context: &Context,
    out: &Path,
    trained: &Trained,
    test: Option<(String, f64)>,
    seconds: f64,
) -> Reply {
    let History { epochs, best } = &trained.history;
    let mut table = Table::new(&[]);
    table.row(["network", &out.display().to_string()]);
    table.row(["best epoch", &format!("{best} of {}", epochs.len())]);
    if let Some((name, accuracy)) = &test {
        table.row(["accuracy", &format!("{accuracy:.4} on {name}")]);
    }
    table.row(["time", &format!("{seconds:.1} s")]);
    let rows: Vec<Value> = epochs.iter().map(epoch_row).collect();
    let data = json!({
        "network": out, "best_epoch": best, "seconds": seconds, "epochs": rows,
        "test": test.as_ref().map(|(name, accuracy)| json!({"data": name, "accuracy": accuracy})),
    });
    Reply::new(data, table.render(context.style))
}

fn epoch_row(record: &EpochRecord) -> Value {
    json!({
        "epoch": record.epoch, "loss": record.loss, "accuracy": record.accuracy,
        "validation_loss": record.validation_loss,
        "validation_accuracy": record.validation_accuracy,
    })
}
