//! The frame of a page and the order of the sections.

use crate::machine;
use crate::report::RunReport;
use crate::units;

use super::{escape, gallery, sections};

const STYLE: &str = include_str!("../../assets/report.css");

/// A whole document around `body`.
pub(super) fn page(title: &str, body: &str, footer: &str) -> String {
    format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8>\
         <meta name=viewport content='width=device-width,initial-scale=1'>\
         <meta name=color-scheme content='light dark'><title>{}</title><style>{STYLE}</style>\
         </head><body><main>{body}</main><footer>{footer}</footer></body></html>\n",
        escape(title)
    )
}

/// The report of a demo run.
pub(crate) fn run_page(run: &RunReport) -> String {
    let body = [
        hero(run),
        tiles(run),
        sections::flow(run),
        images(run),
        sections::accuracy(run),
        sections::latency(run),
        sections::noise(run),
        sections::security(&run.security),
        sections::sizes(run),
        sections::model(&run.model),
    ];
    page(
        "Scuro: encrypted predictions",
        &body.concat(),
        &footer(&run.machine),
    )
}

/// The line at the end.
pub(super) fn footer(machine: &machine::Machine) -> String {
    format!(
        "{} · {}",
        escape(&machine.summary()),
        machine::date(machine.unix_time)
    )
}

/// The mark: a disc, half dark.
pub(super) const MARK: &str = "<svg class=mark viewBox='0 0 32 32' aria-hidden=true>\
    <circle cx=16 cy=16 r=14 class=ring></circle>\
    <path d='M16 2 a14 14 0 0 1 0 28z' class=half></path></svg>";

fn hero(run: &RunReport) -> String {
    let card = &run.accuracy;
    let agreeing = (card.agreement * card.images as f64).round() as usize;
    format!(
        "<header><div class=brand>{MARK}<span>scuro</span></div>\
         <h1>{agreeing} of {} encrypted answers equal the clear ones</h1>\
         <p class=lead>{} · {}</p></header>",
        card.images,
        escape(&run.model.name),
        escape(&run.data.note)
    )
}

fn tiles(run: &RunReport) -> String {
    let query = run.sizes.iter().find(|row| row.what.starts_with("query"));
    let mut times: Vec<f64> = run.images.iter().map(|image| image.evaluate_ms).collect();
    times.sort_by(f64::total_cmp);
    let evaluate = times.get(times.len() / 2).copied().unwrap_or(0.0);
    let tiles = [
        (units::percent(run.accuracy.encrypted), "right, encrypted"),
        (units::percent(run.accuracy.agreement), "agree with clear"),
        (
            units::significant(run.accuracy.worst_logit_error),
            "worst score error",
        ),
        (
            format!("{} ms", units::significant(evaluate)),
            "per encrypted image",
        ),
        (
            query.map_or("–".into(), |row| units::bytes(row.bytes)),
            "sent per image",
        ),
        (format!("{} bit", run.security.level), "security"),
    ];
    let tile =
        |(value, what): &(String, &str)| format!("<div><b>{value}</b><span>{what}</span></div>");
    format!(
        "<div class=tiles>{}</div>",
        tiles.iter().map(tile).collect::<String>()
    )
}

fn images(run: &RunReport) -> String {
    let lead = format!(
        "Left: what the key holder sees. Right: the bytes that the evaluator sees. {}",
        escape(&run.data.calibration)
    );
    sections::section("Images", &lead, &gallery::gallery(&run.images))
}
