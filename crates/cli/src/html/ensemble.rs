//! The page of `scuro ensemble evaluate`: networks, rules and splits.

use crate::ensemble::evaluation::{COMPARED, share};
use crate::ensemble::{Evaluation, Member, Summary, figure};
use crate::units;

use super::page::{MARK, footer, page};
use super::{escape, sections, table};

/// A page for one evaluation.
pub(crate) fn ensemble_page(evaluation: &Evaluation) -> String {
    let body = [
        hero(evaluation),
        chart(evaluation),
        margins(evaluation),
        evaluation.ensembles.iter().map(member).collect(),
    ];
    page(
        "Scuro: ensembles",
        &body.concat(),
        &footer(&evaluation.machine),
    )
}

fn hero(evaluation: &Evaluation) -> String {
    let mean = |summary: &Summary| summary.rule("mean").map_or(0, |rule| rule.wins);
    let wins: usize = evaluation.splits.iter().map(mean).sum();
    format!(
        "<header><div class=brand>{MARK}<span>scuro</span></div>\
         <h1>The mean beats the best single network in {wins} of {} ensembles</h1>\
         <p class=lead>{} images of {} · {}</p></header>",
        evaluation.ensembles.len(),
        evaluation.images,
        escape(&evaluation.data),
        escape(&evaluation.mode)
    )
}

fn chart(evaluation: &Evaluation) -> String {
    let lead = "Every panel has its own scale. A dot of a rule is the mean over the ensembles of \
                the split, its line what they range over; the margin is over the best single \
                network, in points.";
    sections::section("Accuracy by split", lead, &figure::svg(evaluation))
}

fn margins(evaluation: &Evaluation) -> String {
    let row = |summary: &Summary| -> Vec<Vec<String>> {
        let rules = summary.rules.iter().map(|rule| {
            let mut cells = vec![
                escape(&summary.split),
                escape(&rule.rule),
                units::percent(rule.accuracy),
                units::percent(summary.best_single),
                format!("{:+.2}", 100.0 * rule.margin),
                format!("{:+.2}", 100.0 * rule.smallest_margin),
                format!("{} of {}", rule.wins, summary.ensembles),
            ];
            if evaluation.is_compared() {
                cells.extend([rule.clear, rule.agreement].map(share));
            }
            cells
        });
        rules.collect()
    };
    let mut heads = vec![
        "split",
        "rule",
        "accuracy",
        "best single",
        "margin",
        "smallest",
        "better in",
    ];
    if evaluation.is_compared() {
        heads.extend(COMPARED);
    }
    let rows: Vec<Vec<String>> = evaluation.splits.iter().flat_map(row).collect();
    let lead = "Means over the ensembles of a split; margins in points.";
    sections::section(
        "Rules against the best single network",
        lead,
        &table(&heads, &rows),
    )
}

fn member(member: &Member) -> String {
    let holders = member.holders.iter().map(|holder| {
        vec![
            escape(&holder.name),
            holder.images.to_string(),
            holder.classes_seen.to_string(),
            units::percent(holder.accuracy),
            share(holder.clear),
            share(holder.agreement),
        ]
    });
    let rules = member.rules.iter().map(|score| {
        vec![
            escape(&score.rule),
            units::percent(score.accuracy),
            format!("{:+.2}", 100.0 * score.margin),
            share(score.clear),
            share(score.agreement),
        ]
    });
    let [clear, same] = COMPARED;
    let heads = [
        "network",
        "own images",
        "classes seen",
        "accuracy",
        clear,
        same,
    ];
    let rule_heads = ["rule", "accuracy", "margin", clear, same];
    let body = format!(
        "<details><summary>{} networks, {} rules</summary>{}{}</details>",
        member.holders.len(),
        member.rules.len(),
        table(&heads, &holders.collect::<Vec<_>>()),
        table(&rule_heads, &rules.collect::<Vec<_>>()),
    );
    let lead = format!("{} · seed {}", escape(&member.split), member.seed);
    sections::section(&escape(&member.name), &lead, &body)
}
