//! The page of `scuro accuracy` and `scuro simulate`: one model on one data set.

use crate::machine::Machine;
use crate::units;
use crate::verbs::accuracy::Score;

use super::charts::{Bar, WIDE, bars};
use super::page::{MARK, footer, page};
use super::{escape, sections};

/// Most disagreeing images that are listed.
const LISTED: usize = 200;

/// A page for one scoring.
pub(crate) fn score_page(score: &Score, machine: &Machine) -> String {
    let hero = format!(
        "<header><div class=brand>{MARK}<span>scuro</span></div>\
         <h1>{} of {} images right</h1><p class=lead>{} · {} · {}</p></header>",
        score.correct,
        score.images,
        escape(&score.model),
        escape(&score.data),
        escape(&score.mode)
    );
    let body = [hero, tiles(score), shares(score), disagreements(score)];
    page("Scuro: accuracy", &body.concat(), &footer(machine))
}

fn tiles(score: &Score) -> String {
    let rate = score.images as f64 / score.seconds.max(1e-9);
    let mut tiles = vec![(units::percent(score.accuracy), "right")];
    if score.mode != "clear" {
        tiles.push((units::percent(score.agreement), "agree with clear"));
        tiles.push((
            units::significant(score.worst_logit_error),
            "worst score error",
        ));
    }
    tiles.push((units::significant(rate), "images a second"));
    tiles.push((score.threads.to_string(), "threads"));
    let tile =
        |(value, what): &(String, &str)| format!("<div><b>{value}</b><span>{what}</span></div>");
    format!(
        "<div class=tiles>{}</div>",
        tiles.iter().map(tile).collect::<String>()
    )
}

fn shares(score: &Score) -> String {
    let bar = |label: &str, value: f64, class| Bar {
        label: label.to_string(),
        value,
        text: units::percent(value),
        class,
    };
    let mut rows = vec![bar("clear", score.clear_accuracy, "clear")];
    if score.mode != "clear" {
        rows.push(bar(&score.mode, score.accuracy, "enc"));
    }
    let lead = "Share of images with the right label, on the same images.";
    sections::section("Accuracy", lead, &bars(WIDE, &rows, Some(1.0)))
}

fn disagreements(score: &Score) -> String {
    if score.mode == "clear" {
        return String::new();
    }
    let lead = "Images whose label is not the clear model's, or that have no answer.";
    let listed = score.disagreements.iter().take(LISTED);
    let mut text: Vec<String> = listed.map(usize::to_string).collect();
    if score.disagreements.len() > LISTED {
        text.push(format!("and {} more", score.disagreements.len() - LISTED));
    }
    let text = match text.is_empty() {
        true => "None.".to_string(),
        false => format!("By position in the data set: {}.", text.join(", ")),
    };
    sections::section("Disagreements", lead, &format!("<p>{text}</p>"))
}
