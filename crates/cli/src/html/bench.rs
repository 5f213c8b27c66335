//! The page of a benchmark: each figure against its target and its peers.

use crate::bench::{Case, Outcome, Results};

use super::charts::{Bar, WIDE, bars};
use super::page::{MARK, footer, page};
use super::tables::tables_body;
use super::{escape, sections};

/// A page with a section for each group.
pub(crate) fn bench_page(results: &Results) -> String {
    let holding = results.cases.iter().filter(|case| case.holds).count();
    let hero = format!(
        "<header><div class=brand>{MARK}<span>scuro</span></div>\
         <h1>{holding} of {} figures hold</h1>\
         <p class=lead>{}</p></header>",
        results.cases.len(),
        escape(&results.method)
    );
    let mut groups: Vec<&str> = results.cases.iter().map(group).collect();
    groups.dedup();
    let sections: String = groups
        .iter()
        .map(|name| group_section(results, name))
        .collect();
    let tables = results.tables.as_ref().map_or(String::new(), tables_body);
    page(
        "Scuro: benchmark",
        &format!("{hero}{sections}{tables}"),
        &footer(&results.header),
    )
}

fn group(case: &Outcome) -> &str {
    case.id.split('.').next().unwrap_or(&case.id)
}

fn group_section(results: &Results, name: &str) -> String {
    let cases = results.cases.iter().filter(|case| group(case) == name);
    sections::section(
        &escape(name),
        "",
        &cases.map(case_block).collect::<String>(),
    )
}

fn case_block(case: &Outcome) -> String {
    let mark = if case.holds { "holds" } else { "does not hold" };
    let class = if case.holds { "good" } else { "bad" };
    let value = case.value.map_or(String::new(), |value| {
        let shown = Case::shown(&case.unit, value);
        format!(" · <b>{shown} {}</b>", escape(&case.unit))
    });
    let target = case.target.map_or(String::new(), |target| {
        format!(
            " · target {} {}",
            Case::shown(&case.unit, target),
            escape(&case.unit)
        )
    });
    format!(
        "<h3><code>{}</code> <span class={class}>{mark}</span></h3>\
         <p class=small>{}{value}{target}{}</p>{}",
        escape(&case.id),
        escape(&case.about),
        if case.note.is_empty() {
            String::new()
        } else {
            format!("<br>{}", escape(&case.note))
        },
        comparison(case)
    )
}

fn comparison(case: &Outcome) -> String {
    let bar = |label: &str, value: f64, class| Bar {
        label: label.to_string(),
        value,
        text: format!("{} {}", Case::shown(&case.unit, value), case.unit),
        class,
    };
    let own = case.value.map(|value| bar("Scuro", value, "enc"));
    let peers = case
        .peers
        .iter()
        .map(|peer| bar(&peer.name, peer.value, "clear"));
    let all: Vec<Bar> = own.into_iter().chain(peers).collect();
    if all.is_empty() {
        String::new()
    } else {
        bars(WIDE, &all, None)
    }
}
