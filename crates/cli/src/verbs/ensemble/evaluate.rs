//! `scuro ensemble evaluate iid/ skewed/ --data mnist:test`: the accuracy of every network and
//! every rule.

use std::path::PathBuf;
use std::time::Instant;

use scuro_ensemble::RuleKind;
use serde_json::{Value, json};

use crate::context::Context;
use crate::ensemble::figure;
use crate::ensemble::{
    EVALUATION_KIND, Evaluation, Folder, HolderScore, Member, RuleScore, Summary,
};
use crate::errors::{At, Failure};
use crate::inputs::{self, Examples, InputArguments};
use crate::machine::Machine;
use crate::output::Reply;
use crate::report::argmax;
use crate::scoring::{self, Scores};
use crate::table::Table;
use crate::{files, units};

/// Arguments of `scuro ensemble evaluate`.
#[derive(Debug, clap::Args)]
pub(crate) struct EvaluateArguments {
    /// Folders of `scuro ensemble train`, of one split or several.
    #[arg(required = true, value_name = "DIR")]
    ensembles: Vec<PathBuf>,
    /// Data set that scores them.
    #[arg(long, value_name = "NAME[:split]", default_value = "mnist:test")]
    data: String,
    /// Only the first images.
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    /// How networks and rules are run.
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
    #[command(flatten)]
    input: InputArguments,
    /// Write the JSON to a file too; `scuro report` makes a page of it.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The figure as SVG.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// How networks and rules are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Mode {
    /// The plain networks, and rules on plain numbers.
    #[default]
    Clear,
}

impl Mode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Clear => "clear",
        }
    }
}

/// Scores of every network, and of every rule.
struct Answers {
    holders: Vec<Scores>,
    rules: Vec<(RuleKind, Scores)>,
}

/// Scores all ensembles.
pub(crate) fn run(arguments: &EvaluateArguments, context: &Context) -> Result<Reply, Failure> {
    for path in [&arguments.out, &arguments.svg].into_iter().flatten() {
        files::check_writable(path)?;
    }
    let start = Instant::now();
    let data = inputs::load(context, &arguments.data, arguments.limit)?;
    let images = data.len();
    let mut ensembles = Vec::with_capacity(arguments.ensembles.len());
    for path in &arguments.ensembles {
        let folder = Folder::open(path)?;
        let examples = examples(arguments, &folder, data.clone())?;
        let answers = answers(arguments.mode, &folder, &examples).at(path.display())?;
        let member = member(&folder, &examples, &answers);
        context.note(line(&member));
        ensembles.push(member);
    }
    let evaluation = Evaluation {
        kind: EVALUATION_KIND.to_string(),
        machine: Machine::detect(),
        data: arguments.data.clone(),
        images,
        mode: arguments.mode.as_str().to_string(),
        seconds: start.elapsed().as_secs_f64(),
        splits: Summary::of(&ensembles),
        ensembles,
    };
    let data = json!(evaluation);
    if let Some(path) = &arguments.out {
        files::write(path, format!("{data:#}\n").as_bytes())?;
    }
    if let Some(path) = &arguments.svg {
        files::write(path, figure::svg(&evaluation).as_bytes())?;
    }
    let rows: Vec<Value> = evaluation
        .ensembles
        .iter()
        .map(|member| json!(member))
        .collect();
    Ok(Reply::new(data, table(context, &evaluation)).with_rows(rows))
}

/// The images as all networks of the ensemble take them.
fn examples(
    arguments: &EvaluateArguments,
    folder: &Folder,
    data: scuro_nn::data::Dataset,
) -> Result<Examples, Failure> {
    let first = folder.networks.first().ok_or_else(|| {
        Failure::bad_input(
            "ensemble.empty",
            format!("{}: no holders", folder.path.display()),
        )
        .hint("make it with `scuro ensemble train`")
    })?;
    let inner = |graph: &scuro_nn::graph::Graph| {
        (
            graph.input_shape().to_vec(),
            arguments.input.preprocess(graph.preprocess.as_ref()),
        )
    };
    let (shape, preprocess) = inner(first);
    if folder
        .networks
        .iter()
        .any(|graph| inner(graph) != (shape.clone(), preprocess.clone()))
    {
        let message = format!("{}: networks take different inputs", folder.path.display());
        return Err(Failure::bad_input("ensemble.mixed", message)
            .hint("use the files of one `scuro ensemble train` run"));
    }
    Examples::new(data, &preprocess, &shape)
}

/// What every network and every rule says of every image. All modes end here.
fn answers(mode: Mode, folder: &Folder, examples: &Examples) -> Result<Answers, Failure> {
    match mode {
        Mode::Clear => clear(folder, examples),
    }
}

/// The reference executor, and rules on plain numbers.
fn clear(folder: &Folder, examples: &Examples) -> Result<Answers, Failure> {
    let networks = folder.networks.iter();
    let scores = |graph| scoring::reference(&scoring::without_softmax(graph), examples);
    let holders: Vec<Scores> = networks.map(scores).collect::<Result<_, _>>()?;
    let kinds = RuleKind::ALL.into_iter();
    let fitted = kinds.filter_map(|kind| Some((kind, folder.rules.rule(kind).ok()?)));
    let combine = |(kind, rule): (RuleKind, scuro_ensemble::Rule)| {
        let image = |index: usize| {
            let of_image: Vec<Vec<f64>> = holders.iter().map(|h| h[index].clone()).collect();
            rule.combine(&of_image)
        };
        let scores = (0..examples.len())
            .map(image)
            .collect::<Result<Scores, _>>()?;
        Ok::<_, Failure>((kind, scores))
    };
    let rules = fitted.map(combine).collect::<Result<_, _>>()?;
    Ok(Answers { holders, rules })
}

fn accuracy(scores: &Scores, examples: &Examples) -> f64 {
    let right = |index: &usize| argmax(&scores[*index]) == examples.label(*index);
    let right = (0..examples.len()).filter(right).count();
    right as f64 / examples.len().max(1) as f64
}

fn member(folder: &Folder, examples: &Examples, answers: &Answers) -> Member {
    let manifest = &folder.manifest;
    let cards = manifest.holders.iter().zip(&answers.holders);
    let holders: Vec<HolderScore> = cards
        .map(|(card, scores)| HolderScore {
            name: card.name.clone(),
            images: card.images,
            classes_seen: card.classes_seen(),
            accuracy: accuracy(scores, examples),
        })
        .collect();
    let best_single = holders
        .iter()
        .map(|holder| holder.accuracy)
        .fold(0.0, f64::max);
    let rule = |(kind, scores): &(RuleKind, Scores)| {
        let accuracy = accuracy(scores, examples);
        RuleScore {
            rule: kind.to_string(),
            accuracy,
            margin: accuracy - best_single,
        }
    };
    let name = folder.path.file_name().unwrap_or(folder.path.as_os_str());
    Member {
        name: name.to_string_lossy().into_owned(),
        split: manifest.split.clone(),
        seed: manifest.seed,
        holders,
        best_single,
        rules: answers.rules.iter().map(rule).collect(),
    }
}

/// One ensemble in one line.
fn line(member: &Member) -> String {
    let rules = member.rules.iter();
    let rules: Vec<String> = rules
        .map(|score| format!("{} {}", score.rule, units::percent(score.accuracy)))
        .collect();
    format!(
        "{} ({}): best single {} · {}",
        member.name,
        member.split,
        units::percent(member.best_single),
        rules.join(" · ")
    )
}

fn table(context: &Context, evaluation: &Evaluation) -> String {
    let heads = [
        "split",
        "answer of",
        "accuracy",
        "margin",
        "smallest",
        "better in",
    ];
    let mut table = Table::new(&heads);
    for summary in &evaluation.splits {
        let singles = &summary.singles;
        let mean = singles.iter().sum::<f64>() / singles.len().max(1) as f64;
        table.row([
            &summary.split,
            "single, mean",
            &units::percent(mean),
            "–",
            "–",
            "–",
        ]);
        let best = units::percent(summary.best_single);
        table.row(["", "single, best", &best, "–", "–", "–"]);
        for rule in &summary.rules {
            table.row([
                String::new(),
                rule.rule.clone(),
                units::percent(rule.accuracy),
                format!("{:+.2}", 100.0 * rule.margin),
                format!("{:+.2}", 100.0 * rule.smallest_margin),
                format!("{} of {}", rule.wins, summary.ensembles),
            ]);
        }
    }
    format!(
        "{}{} images of {} · {} · {:.1} s\n",
        table.render(context.style),
        evaluation.images,
        evaluation.data,
        evaluation.mode,
        evaluation.seconds
    )
}
