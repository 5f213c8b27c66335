//! `scuro ensemble evaluate iid/ skewed/ --data mnist:test`: the accuracy of every network and
//! every rule.

use std::path::PathBuf;
use std::time::Instant;

use scuro_ensemble::{Rule, RuleKind};
use scuro_nn::tensor::Tensor;
use serde_json::{Value, json};

use crate::compiled::CompileArguments;
use crate::context::Context;
use crate::ensemble::evaluation::{COMPARED, share};
use crate::ensemble::figure;
use crate::ensemble::members::{Members, Session, Simulation};
use crate::ensemble::{
    EVALUATION_KIND, Evaluation, Folder, HolderCard, HolderScore, Member, RuleScore, Summary,
};
use crate::errors::{At, Failure};
use crate::inputs::{self, Examples, InputArguments};
use crate::machine::Machine;
use crate::membership::{DegreeChoice, MembershipArguments};
use crate::output::Reply;
use crate::progress::Progress;
use crate::report::argmax;
use crate::scoring::{self, Scores, by_blocks};
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
    /// Only so many images.
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    /// Images before the first: ciphertexts take hours for a whole data set, which may be scored in
    /// parts.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    from: usize,
    /// How networks and rules are run.
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
    /// Only these rules [default: all that are fitted].
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    rules: Vec<RuleKind>,
    #[command(flatten)]
    input: InputArguments,
    #[command(flatten)]
    compile: CompileArguments,
    /// Write the JSON to a file too; `scuro report` makes a page of it.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The figure as SVG.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// How networks and rules are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Mode {
    /// The plain networks, and rules on plain numbers.
    #[default]
    Clear,
    /// The holders' programs and the coordinator's on plain slots, with the noise that encryption
    /// would add.
    Simulate,
    /// Both on ciphertexts: one query for all holders, replies combined before they are decrypted.
    Encrypted,
}

impl Mode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Simulate => "simulate",
            Self::Encrypted => "encrypted",
        }
    }
}

/// The rules by what replies must have room for: of those that are only added up, replies are
/// smaller and holders faster.
const BY_DEGREE: [(DegreeChoice, &[RuleKind]); 3] = [
    (
        DegreeChoice::Linear,
        &[
            RuleKind::Mean,
            RuleKind::Weighted,
            RuleKind::LogOpinion,
            RuleKind::Stacking,
        ],
    ),
    (DegreeChoice::Square, &[RuleKind::SoftVote]),
    (DegreeChoice::Cube, &[RuleKind::Confidence]),
];

/// Scores of every network, and of every rule.
struct Answers {
    holders: Vec<Scores>,
    rules: Vec<(RuleKind, Scores)>,
}

impl EvaluateArguments {
    /// Ensembles on the test part of a data set.
    pub(crate) fn of(ensembles: Vec<PathBuf>, data: &str, mode: Mode) -> Self {
        Self {
            ensembles,
            data: format!("{data}:test"),
            limit: None,
            from: 0,
            mode,
            rules: Vec::new(),
            input: InputArguments::default(),
            compile: CompileArguments::standard(128),
            out: None,
            svg: None,
        }
    }

    /// The first images only.
    pub(crate) fn limited(self, limit: Option<usize>) -> Self {
        Self { limit, ..self }
    }

    /// The rules that are scored, in the order of tables.
    fn rules(&self, folder: &Folder) -> Result<Vec<Rule>, Failure> {
        let kinds = RuleKind::ALL.into_iter();
        if self.rules.is_empty() {
            let fitted = kinds.filter_map(|kind| folder.rules.rule(kind).ok());
            return Ok(fitted.collect());
        }
        let wanted = kinds.filter(|kind| self.rules.contains(kind));
        let rules = wanted.map(|kind| folder.rules.rule(kind));
        Ok(rules.collect::<Result<_, _>>()?)
    }

    /// What holders are compiled for, and the rules that are run on their replies: all of them with
    /// `--ensemble`, else those of a degree under a contract of that degree.
    fn contracts(&self, rules: &[Rule]) -> Vec<(DegreeChoice, Vec<Rule>)> {
        let of = |kinds: &[RuleKind]| -> Vec<Rule> {
            let these = rules.iter().filter(|rule| kinds.contains(&rule.kind()));
            these.cloned().collect()
        };
        if let Some(degree) = self.compile.membership.ensemble {
            let kinds = BY_DEGREE.map(|(_, kinds)| kinds).concat();
            return vec![(degree, of(&kinds))];
        }
        let mut contracts: Vec<_> = BY_DEGREE
            .iter()
            .map(|(degree, kinds)| (*degree, of(kinds)))
            .collect();
        match contracts.iter().all(|(_, rules)| rules.is_empty()) {
            // The majority takes replies, whatever they have room for.
            true => contracts.truncate(1),
            false => contracts.retain(|(_, rules)| !rules.is_empty()),
        }
        contracts
    }
}

/// Scores all ensembles and tells of it.
pub(crate) fn run(arguments: &EvaluateArguments, context: &Context) -> Result<Reply, Failure> {
    for path in [&arguments.out, &arguments.svg].into_iter().flatten() {
        files::check_writable(path)?;
    }
    let evaluation = scored(arguments, context)?;
    let data = json!(evaluation);
    if let Some(path) = &arguments.out {
        files::write(path, format!("{data:#}\n").as_bytes())?;
    }
    if let Some(path) = &arguments.svg {
        files::write(path, figure::svg(&evaluation).as_bytes())?;
    }
    let members = evaluation.ensembles.iter();
    let rows: Vec<Value> = members.map(|member| json!(member)).collect();
    Ok(Reply::new(data, table(context, &evaluation)).with_rows(rows))
}

/// Scores all ensembles.
pub(crate) fn scored(
    arguments: &EvaluateArguments,
    context: &Context,
) -> Result<Evaluation, Failure> {
    if arguments.compile.membership.contract.is_some() {
        let message = "--contract: the networks make an ensemble of their own";
        return Err(Failure::bad_input("ensemble.options", message).hint("leave it out"));
    }
    let start = Instant::now();
    let from = arguments.from;
    let last = arguments.limit.map(|limit| from.saturating_add(limit));
    let mut data = inputs::load(context, &arguments.data, last)?;
    if from >= data.len() {
        let message = format!("--from {from}: {} has {}", arguments.data, data.len());
        return Err(Failure::bad_input("input.none", message).hint("begin with an earlier image"));
    }
    data.drop_first(from);
    let images = data.len();
    let mut ensembles = Vec::with_capacity(arguments.ensembles.len());
    for path in &arguments.ensembles {
        let folder = Folder::open(path)?;
        let examples = examples(arguments, &folder, data.clone())?;
        let rules = arguments.rules(&folder).at(path.display())?;
        let clear = clear(&folder, &rules, &examples).at(path.display())?;
        let found = match arguments.mode {
            Mode::Clear => None,
            mode => {
                let compiled = compiled(context, (arguments, mode), &folder, &rules, &examples);
                Some(compiled.at(path.display())?)
            }
        };
        let member = member(&folder, &examples, &clear, found.as_ref());
        context.note(line(&member));
        ensembles.push(member);
    }
    Ok(Evaluation {
        kind: EVALUATION_KIND.to_string(),
        machine: Machine::detect(),
        data: arguments.data.clone(),
        from,
        images,
        mode: arguments.mode.as_str().to_string(),
        seconds: start.elapsed().as_secs_f64(),
        splits: Summary::of(&ensembles),
        ensembles,
    })
}

/// The images as all networks of the ensemble take them.
fn examples(
    arguments: &EvaluateArguments,
    folder: &Folder,
    data: scuro_nn::data::Dataset,
) -> Result<Examples, Failure> {
    if data.classes != folder.manifest.classes {
        let message = format!("{}: other classes than the data", folder.path.display());
        return Err(Failure::bad_input("ensemble.classes", message)
            .hint("score it on the data set that it was trained on"));
    }
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

/// The reference executor, and rules on plain numbers.
fn clear(folder: &Folder, rules: &[Rule], examples: &Examples) -> Result<Answers, Failure> {
    let networks = folder.networks.iter();
    let scores = |graph| scoring::reference(&scoring::without_softmax(graph), examples);
    let holders: Vec<Scores> = networks.map(scores).collect::<Result<_, _>>()?;
    let count = examples.len();
    let combine = |rule: &Rule| Ok((rule.kind(), combined(rule, &holders, count)?));
    let rules = rules.iter().map(combine).collect::<Result<_, Failure>>()?;
    Ok(Answers { holders, rules })
}

/// A rule on the scores of all holders, image by image.
fn combined(rule: &Rule, holders: &[Scores], images: usize) -> Result<Scores, Failure> {
    let image = |index: usize| {
        let of_image: Vec<Vec<f64>> = holders.iter().map(|h| h[index].clone()).collect();
        rule.combine(&of_image)
    };
    Ok((0..images).map(image).collect::<Result<_, _>>()?)
}

/// The programs of holders and coordinator, simulated or on ciphertexts.
fn compiled(
    context: &Context,
    (arguments, mode): (&EvaluateArguments, Mode),
    folder: &Folder,
    wanted: &[Rule],
    examples: &Examples,
) -> Result<Answers, Failure> {
    let calibration = calibration(context, arguments, folder)?;
    let mut answers: Option<Answers> = None;
    for (degree, rules) in arguments.contracts(wanted) {
        let options = CompileArguments {
            membership: MembershipArguments::first(degree),
            ..arguments.compile.clone()
        };
        let options = options.options()?;
        if options.arithmetic.is_exact() && degree != DegreeChoice::Linear {
            rules.iter().for_each(|rule| context.note(no_room(rule)));
            continue;
        }
        let spinner = Progress::spinner(context, "compiling");
        let members = Members::compile(&folder.networks, &options, &calibration)?;
        drop(spinner);
        let (rules, others): (Vec<Rule>, Vec<Rule>) =
            rules.into_iter().partition(|rule| members.has_room(rule));
        others.iter().for_each(|rule| context.note(no_room(rule)));
        let part = run_members(context, mode, &members, &rules, examples)?;
        let whole = answers.get_or_insert_with(|| Answers {
            holders: part.holders,
            rules: Vec::new(),
        });
        whole.rules.extend(part.rules);
    }
    let mut answers = answers.ok_or_else(|| {
        let message = "exact replies have no room for any of these rules: they are added up alone";
        Failure::bad_input("ensemble.no-room", message)
            .hint("choose mean, weighted or log-opinion, and --ensemble=linear or none")
    })?;
    if wanted.contains(&Rule::Majority) {
        let votes = combined(&Rule::Majority, &answers.holders, examples.len())?;
        answers.rules.push((RuleKind::Majority, votes));
    }
    Ok(answers)
}

/// What is said of a rule that is left out.
fn no_room(rule: &Rule) -> String {
    let name = rule.kind();
    format!("{name} is left out: replies have no room for it (exact ones are added up alone)")
}

/// Scores of all images.
fn run_members(
    context: &Context,
    mode: Mode,
    members: &Members,
    rules: &[Rule],
    examples: &Examples,
) -> Result<Answers, Failure> {
    let kinds: Vec<RuleKind> = rules.iter().map(Rule::kind).collect();
    let (count, what) = (examples.len(), mode.as_str());
    let images = match mode {
        Mode::Encrypted => {
            let session = Session::new(members, rules)?;
            let one = |at: usize| session.answers(&kinds, &examples.input(at));
            by_blocks(context, what, count, 1, |range| range.map(one).collect())?
        }
        _ => {
            let combine = |rule| members.combination(rule);
            let combinations = rules.iter().map(combine).collect::<Result<Vec<_>, _>>()?;
            let simulation = Simulation::new(members, &combinations)?;
            let one = |at: usize| simulation.answers(&examples.input(at), at as u64);
            by_blocks(context, what, count, 1, |range| range.map(one).collect())?
        }
    };
    let holder = |holder: usize| images.iter().map(|i| i.holders[holder].clone()).collect();
    let rule = |(at, kind): (usize, &RuleKind)| {
        let scores: Scores = images.iter().map(|image| image.rules[at].clone()).collect();
        (*kind, scores)
    };
    Ok(Answers {
        holders: (0..members.programs.len()).map(holder).collect(),
        rules: kinds.iter().enumerate().map(rule).collect(),
    })
}

/// Images that calibrate ranges: training data of the ensemble.
fn calibration(
    context: &Context,
    arguments: &EvaluateArguments,
    folder: &Folder,
) -> Result<Vec<Tensor>, Failure> {
    let name = folder.manifest.data.first().map_or("mnist", String::as_str);
    let name = match name.contains(':') {
        true => name.to_string(),
        false => format!("{name}:train"),
    };
    let data = inputs::load(context, &name, Some(arguments.compile.calibration))?;
    let images = examples(arguments, folder, data)?;
    images.tensors(images.len())
}

fn accuracy(scores: &Scores, examples: &Examples) -> f64 {
    let right = |index: &usize| argmax(&scores[*index]) == examples.label(*index);
    let right = (0..examples.len()).filter(right).count();
    right as f64 / examples.len().max(1) as f64
}

/// Share of images with the same answer.
fn agreement(found: &Scores, clear: &Scores) -> f64 {
    let pairs = found.iter().zip(clear);
    let same = pairs.filter(|(a, b)| argmax(a) == argmax(b)).count();
    same as f64 / clear.len().max(1) as f64
}

/// What is told of an ensemble that answered in clear and perhaps otherwise.
fn member(
    folder: &Folder,
    examples: &Examples,
    clear: &Answers,
    found: Option<&Answers>,
) -> Member {
    let (manifest, answers) = (&folder.manifest, found.unwrap_or(clear));
    let cards = manifest.holders.iter().zip(&answers.holders);
    let holder = |(at, (card, scores)): (usize, (&HolderCard, &Scores))| HolderScore {
        name: card.name.clone(),
        images: card.images,
        classes_seen: card.classes_seen(),
        accuracy: accuracy(scores, examples),
        clear: found.map(|_| accuracy(&clear.holders[at], examples)),
        agreement: found.map(|_| agreement(scores, &clear.holders[at])),
    };
    let holders: Vec<HolderScore> = cards.enumerate().map(holder).collect();
    let best_single = holders
        .iter()
        .map(|holder| holder.accuracy)
        .fold(0.0, f64::max);
    let rule = |(kind, scores): &(RuleKind, Scores)| {
        let share = accuracy(scores, examples);
        let same = |(other, _): &&(RuleKind, Scores)| other == kind;
        let clear = clear.rules.iter().find(same).filter(|_| found.is_some());
        RuleScore {
            rule: kind.to_string(),
            accuracy: share,
            margin: share - best_single,
            clear: clear.map(|(_, clear)| accuracy(clear, examples)),
            agreement: clear.map(|(_, clear)| agreement(scores, clear)),
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
    let mut heads = vec![
        "split",
        "answer of",
        "accuracy",
        "margin",
        "smallest",
        "better in",
    ];
    if evaluation.is_compared() {
        heads.extend(COMPARED);
    }
    let mut table = Table::new(&heads);
    let mut row = |cells: &[&str]| {
        table.row(cells.iter().copied().take(heads.len()));
    };
    for summary in &evaluation.splits {
        let singles = units::percent(mean(&summary.singles).unwrap_or_default());
        let clear = share(mean(&summary.clear_singles));
        let split = &summary.split;
        row(&[split, "single, mean", &singles, "–", "–", "–", &clear, "–"]);
        let best = units::percent(summary.best_single);
        row(&["", "single, best", &best, "–", "–", "–", "–", "–"]);
        for rule in &summary.rules {
            row(&[
                "",
                &rule.rule,
                &units::percent(rule.accuracy),
                &format!("{:+.2}", 100.0 * rule.margin),
                &format!("{:+.2}", 100.0 * rule.smallest_margin),
                &format!("{} of {}", rule.wins, summary.ensembles),
                &share(rule.clear),
                &share(rule.agreement),
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

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
