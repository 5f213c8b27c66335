//! `scuro bench he`: figures with targets and peers.

use std::path::PathBuf;

use serde_json::Value;

use crate::bench::gomez::{self, Tables};
use crate::bench::{self, Case, Outcome, Results, Settings};
use crate::context::Context;
use crate::errors::Failure;
use crate::machine::Machine;
use crate::output::Reply;
use crate::progress::Progress;
use crate::table::Table;
use crate::{files, units};

const METHOD: &str = "processor time; value is the median of the samples";

/// Arguments of `scuro bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Group or case: `he`, `mnist`, `gomez`, `he.ntt`, `he.ntt.n8192`; all if left out.
    wanted: Option<String>,
    /// Only list the cases.
    #[arg(long)]
    list: bool,
    /// Samples of each case.
    #[arg(long, value_name = "COUNT")]
    samples: Option<usize>,
    /// With `gomez`, which prints them after the cases, or one of its networks
    /// (`gomez.last-layer`): only the tables of the paper.
    #[arg(long)]
    tables: bool,
    /// Whole test sets too; takes minutes.
    #[arg(long)]
    full: bool,
    /// Network for the LeNet cases.
    #[arg(long, value_name = "FILE")]
    lenet: Option<PathBuf>,
    /// Network for the CryptoNets cases [default: the built-in one].
    #[arg(long, value_name = "FILE")]
    cryptonets: Option<PathBuf>,
    /// Folder of trained networks for the cases with encrypted weights: `mnist-cnn-relu.onnx`,
    /// `cifar10-cnn-modified-square.onnx`, `cifar10-he.onnx` and so on [default: networks of the
    /// same form with random weights, which have no accuracy].
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Write the JSON to a file too.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Measures.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    let cases = bench::select(arguments.wanted.as_deref());
    if cases.is_empty() {
        let wanted = arguments.wanted.unwrap_or_default();
        return Err(
            Failure::bad_input("bench.unknown", format!("no case `{wanted}`"))
                .hint("see `scuro bench --list`"),
        );
    }
    if arguments.list {
        return Ok(list(context, &cases));
    }
    let settings = Settings {
        samples: arguments.samples,
        full: arguments.full,
        lenet: arguments.lenet,
        cryptonets: arguments.cryptonets,
        models: arguments.models,
        ..Settings::new(context)
    };
    if arguments.tables {
        return tables(context, &settings, arguments.wanted, arguments.out);
    }
    let mut results = Results {
        header: Machine::detect(),
        method: METHOD.into(),
        cases: measure(&cases, &settings),
        tables: None,
    };
    let mut human = table(context, &results);
    if arguments.wanted.as_deref() == Some(gomez::GROUP) {
        let tables = gomez::measure_all(&settings, None)?;
        human.push_str(&sheets(context, &tables));
        results.tables = Some(tables);
    }
    let data = json(&results, arguments.out)?;
    let rows = data["cases"].as_array().cloned().unwrap_or_default();
    Ok(Reply::new(data, human).with_rows(rows))
}

/// The results as JSON, written to a file if one is named.
fn json(results: &impl serde::Serialize, out: Option<PathBuf>) -> Result<Value, Failure> {
    let data = serde_json::to_value(results)
        .map_err(|error| Failure::internal(format!("the results are not JSON: {error}")))?;
    if let Some(path) = &out {
        files::write(path, format!("{data:#}\n").as_bytes())?;
    }
    Ok(data)
}

fn tables(
    context: &Context,
    settings: &Settings<'_>,
    wanted: Option<String>,
    out: Option<PathBuf>,
) -> Result<Reply, Failure> {
    let group = wanted.as_deref().and_then(|w| w.strip_prefix(gomez::GROUP));
    let Some(group) = group else {
        return Err(
            Failure::bad_input("bench.tables", "only one group has tables")
                .hint("`scuro bench gomez --tables`"),
        );
    };
    let only = group.strip_prefix('.');
    let tables = gomez::measure_all(settings, only)?;
    let header = format!("{}\n{}\n", tables.header.summary(), tables.method);
    let human = header + &sheets(context, &tables);
    let data = json(&tables, out)?;
    let rows = data["rows"].as_array().cloned().unwrap_or_default();
    Ok(Reply::new(data, human).with_rows(rows))
}

/// Tables as text, and what is missing in them.
fn sheets(context: &Context, tables: &Tables) -> String {
    let mut human = String::new();
    for sheet in gomez::sheets(tables) {
        let mut table = Table::new(&sheet.heads);
        sheet.rows.into_iter().for_each(|row| {
            table.row(row);
        });
        let title = context.style.bold(sheet.title);
        let text = table.render(context.style);
        human.push_str(&format!("\n{title}\n{}\n{text}", sheet.lead));
    }
    for missing in &tables.missing {
        human.push_str(&format!("\n{missing}"));
    }
    human + "\n"
}

fn measure(cases: &[&Case], settings: &Settings<'_>) -> Vec<Outcome> {
    let progress = Progress::bar(settings.context, "benchmark", cases.len());
    let one = |case: &&Case| {
        progress.say(case.id);
        let outcome = case.run(settings);
        progress.advance(1);
        outcome
    };
    cases.iter().map(one).collect()
}

fn list(context: &Context, cases: &[&Case]) -> Reply {
    let mut table = Table::new(&["id", "target", "unit", "about"]);
    let mut rows = Vec::new();
    for case in cases {
        let target = case
            .target
            .map_or("–".to_string(), |value| Case::shown(case.unit, value));
        table.row([case.id, &target, case.unit, case.about]);
        rows.push(serde_json::json!({
            "id": case.id, "target": case.target, "unit": case.unit, "better": case.better,
            "about": case.about,
        }));
    }
    Reply::new(
        serde_json::json!({ "cases": rows }),
        table.render(context.style),
    )
    .with_rows(rows)
}

fn table(context: &Context, results: &Results) -> String {
    let mut table = Table::new(&["case", "value", "unit", "target", "", "best peer"]);
    let mut notes = String::new();
    for case in &results.cases {
        let mark = match (case.holds, case.target) {
            (true, None) => String::new(),
            (true, Some(_)) => context.style.good("holds"),
            (false, _) => context.style.bad("no"),
        };
        table.row([
            case.id.clone(),
            case.value
                .map_or("–".into(), |value| Case::shown(&case.unit, value)),
            case.unit.clone(),
            case.target
                .map_or("–".into(), |value| Case::shown(&case.unit, value)),
            mark,
            best_peer(case),
        ]);
        if !case.note.is_empty() {
            notes.push_str(&format!("{}: {}\n", case.id, case.note));
        }
    }
    let header = results.header.summary();
    format!(
        "{header}\n{METHOD}\n\n{}\n{notes}",
        table.render(context.style)
    )
}

fn best_peer(case: &Outcome) -> String {
    let sign = match case.better {
        bench::Better::Lower => 1.0,
        bench::Better::Higher => -1.0,
    };
    let best = case
        .peers
        .iter()
        .min_by(|a, b| (sign * a.value).total_cmp(&(sign * b.value)));
    best.map_or(String::new(), |peer| {
        format!("{} {}", peer.name, units::significant(peer.value))
    })
}
