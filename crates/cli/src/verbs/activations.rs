//! `scuro activations model.onnx --data mnist`: what each replacement of ReLU costs.

use std::path::PathBuf;

use scuro_nn::activation::{Fit, Function, Interval, Plan, Replacement};
use scuro_nn::data::Preprocess;
use scuro_nn::graph::Graph;
use scuro_train::figures::{self, Outcome};
use scuro_train::{Adaptation, Examples, Subject, adapt, recipes};
use serde_json::{Value, json};

use crate::compiled::Source;
use crate::context::Context;
use crate::errors::Failure;
use crate::inputs::{self, InputArguments};
use crate::output::Reply;
use crate::progress::Progress;
use crate::table::Table;
use crate::verbs::train::{WhichChoice, interval, load};
use crate::{files, units};

/// Arguments of `scuro activations`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Network with ReLU: .onnx, .h5, .keras or .safetensors.
    model: PathBuf,
    /// Data set: its training part tunes, its test part scores.
    #[arg(long, value_name = "NAME", default_value = "mnist")]
    data: String,
    /// Replacements to compare, as `scuro train --replace` has them [default: one of each kind].
    #[arg(long, value_name = "NAME[:DEGREE]", value_delimiter = ',')]
    replace: Vec<Replacement>,
    /// Replace the last activation, or all of them.
    #[arg(long, value_enum, default_value_t)]
    which: WhichChoice,
    /// Average pools instead of maximum pools too.
    #[arg(long)]
    average_pools: bool,
    /// Passes of fine-tuning.
    #[arg(long, default_value_t = 3)]
    epochs: usize,
    /// Only the first images of the training part.
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    #[command(flatten)]
    input: InputArguments,
    /// Interval of the drawn functions and of their errors.
    #[arg(long, value_name = "LOW,HIGH", value_parser = interval, default_value = "-4,4")]
    #[arg(allow_hyphen_values = true)]
    interval: Interval,
    /// Decides order and dropout.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write each fine-tuned network to this folder, as REPLACEMENT.onnx.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Accuracies as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// The functions themselves as SVG.
    #[arg(long, value_name = "FILE")]
    functions: Option<PathBuf>,
    /// Write the JSON to a file too.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// One replacement's figures.
struct Line {
    replacement: Replacement,
    fit: Fit,
    outcome: Outcome,
    ranges: Vec<(String, f32)>,
}

/// Compares.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    for path in [&arguments.plot, &arguments.functions, &arguments.out]
        .into_iter()
        .flatten()
    {
        files::check_writable(path)?;
    }
    let study = Study::new(&arguments, context)?;
    let replacements = match &arguments.replace[..] {
        [] => &Replacement::STUDIED[..],
        given => given,
    };
    let progress = Progress::bar(context, "replacements", replacements.len());
    let mut lines = Vec::with_capacity(replacements.len());
    for &replacement in replacements {
        progress.say(replacement.to_string());
        let line = study.line(replacement)?;
        context.note(format!(
            "{replacement}: {} replaced, {} fine-tuned",
            units::percent(line.outcome.before),
            units::percent(line.outcome.after)
        ));
        lines.push(line);
        progress.advance(1);
    }
    drop(progress);
    draw(&arguments, &study, &lines)?;
    let data = study.data(&lines);
    if let Some(path) = &arguments.out {
        files::write(path, format!("{data:#}\n").as_bytes())?;
    }
    let rows = data["replacements"].as_array().cloned().unwrap_or_default();
    Ok(Reply::new(data, table(context, &study, &lines)).with_rows(rows))
}

/// The network, cut where replacements begin to matter, and what enters it there.
struct Study<'a> {
    arguments: &'a Arguments,
    threads: usize,
    subject: Subject,
    training: Examples,
    test: Examples,
    original: f64,
    preprocess: Preprocess,
}

impl<'a> Study<'a> {
    fn new(arguments: &'a Arguments, context: &Context) -> Result<Self, Failure> {
        let (path, architecture) = (arguments.model.as_path(), None);
        let mut graph = Source::File { path, architecture }.network()?;
        graph.preprocess = Some(arguments.input.preprocess(graph.preprocess.as_ref()));
        let subject = Subject::new(&graph, plan(arguments, None));
        let (name, input) = (std::slice::from_ref(&arguments.data), &arguments.input);
        let training = load(context, name, arguments.limit, input, Some(&graph))?;
        let test = inputs::load(context, &format!("{}:test", arguments.data), None)?;
        let test = subject.features(&input.examples(&test, Some(&graph))?)?;
        let training = subject.features(&training)?;
        let original = scuro_train::score(subject.network(), &test)?.accuracy;
        context.note(format!("original: {}", units::percent(original)));
        let threads = context.thread_count();
        Ok(Self {
            arguments,
            threads,
            subject,
            training,
            test,
            original,
            preprocess: graph.preprocess.unwrap_or_default(),
        })
    }

    fn line(&self, replacement: Replacement) -> Result<Line, Failure> {
        let mut config = recipes::fine_tuning(&self.subject, &self.training, self.arguments.seed);
        config.epochs = self.arguments.epochs;
        config.threads = Some(self.threads);
        let adaptation = Adaptation {
            plan: plan(self.arguments, Some(replacement)),
            interval: None,
            config: (config.epochs > 0).then_some(config),
            distil: None,
        };
        let network = self.subject.network();
        let adapted = adapt(network, &adaptation, &self.training, &mut ())?;
        let before = scuro_train::score(&adapted.replaced, &self.test)?;
        let after = scuro_train::score(&adapted.trained.graph, &self.test)?;
        self.keep(replacement, &adapted.trained.graph)?;
        Ok(Line {
            replacement,
            fit: replacement.fit(Function::Relu, self.arguments.interval)?,
            outcome: Outcome {
                name: replacement.to_string(),
                before: before.accuracy,
                after: after.accuracy,
            },
            ranges: after.activation_ranges,
        })
    }

    /// Writes the network, if a folder was given.
    fn keep(&self, replacement: Replacement, changed: &Graph) -> Result<(), Failure> {
        let Some(folder) = &self.arguments.models else {
            return Ok(());
        };
        let name = replacement.to_string().replace(':', "-");
        let bytes = scuro_nn::export::onnx(&self.subject.whole(changed)?)?;
        files::write(&folder.join(format!("{name}.onnx")), &bytes)
    }

    fn data(&self, lines: &[Line]) -> Value {
        let interval = self.arguments.interval;
        let rows: Vec<Value> = lines.iter().map(Line::data).collect();
        json!({
            "model": model_name(self.arguments), "data": self.arguments.data,
            "seed": self.arguments.seed, "preprocessing": inputs::to_json(&self.preprocess),
            "which": if self.subject.is_classifier() { "last" } else { which(self.arguments) },
            "average_pools": self.arguments.average_pools, "epochs": self.arguments.epochs,
            "training_images": self.training.len(), "test_images": self.test.len(),
            "error_interval": [interval.low(), interval.high()],
            "original": self.original, "replacements": rows,
        })
    }
}

impl Line {
    fn data(&self) -> Value {
        let ranges: serde_json::Map<String, Value> = self
            .ranges
            .iter()
            .map(|(layer, largest)| (layer.clone(), json!(largest)))
            .collect();
        json!({
            "replacement": self.outcome.name, "degree": self.replacement.degree(),
            "coefficients": self.fit.coefficients, "error": self.fit.error,
            "before": self.outcome.before, "after": self.outcome.after, "ranges": ranges,
        })
    }
}

/// The file's name: where it lies is no figure of the study.
fn model_name(arguments: &Arguments) -> String {
    let name = arguments.model.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn which(arguments: &Arguments) -> &'static str {
    match arguments.which {
        WhichChoice::Last => "last",
        WhichChoice::All => "all",
    }
}

fn plan(arguments: &Arguments, activation: Option<Replacement>) -> Plan {
    Plan {
        activation,
        which: arguments.which.which(),
        average_pools: arguments.average_pools,
    }
}

fn draw(arguments: &Arguments, study: &Study<'_>, lines: &[Line]) -> Result<(), Failure> {
    if let Some(path) = &arguments.plot {
        let which = match arguments.which {
            WhichChoice::Last => "the last ReLU",
            WhichChoice::All => "every ReLU",
        };
        let (model, data) = (model_name(arguments), &arguments.data);
        let title = format!("Replacing {which} of {model}: accuracy on {data}");
        let outcomes: Vec<Outcome> = lines.iter().map(|line| line.outcome.clone()).collect();
        let drawing = figures::accuracies(&outcomes, study.original, &title);
        files::write(path, drawing.as_bytes())?;
    }
    if let Some(path) = &arguments.functions {
        let fits = lines
            .iter()
            .map(|line| (line.outcome.name.clone(), line.fit.clone()));
        let fits: Vec<(String, Fit)> = fits.collect();
        let drawing = figures::functions(&fits, "What stands for ReLU");
        files::write(path, drawing.as_bytes())?;
    }
    Ok(())
}

fn table(context: &Context, study: &Study<'_>, lines: &[Line]) -> String {
    let heads = [
        "replacement",
        "error",
        "replaced",
        "fine-tuned",
        "points lost",
    ];
    let mut table = Table::new(&heads);
    let original = units::percent(study.original);
    table.row(["none replaced", "–", &original, &original, "–"]);
    for line in lines {
        let Outcome {
            name,
            before,
            after,
        } = &line.outcome;
        table.row([
            name.clone(),
            format!("{:.3}", line.fit.error),
            units::percent(*before),
            units::percent(*after),
            format!("{:.2}", 100.0 * (study.original - after)),
        ]);
    }
    let mut text = table.render(context.style);
    if let Some(flags) = inputs::flags(&study.preprocess) {
        text.push_str(&format!("inputs: {flags} (noted in the files)\n"));
    }
    text
}
