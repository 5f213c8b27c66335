//! The poster's figure: accuracy of single networks and of rules, split by split, as SVG that is
//! legible on light and dark pages.

use std::fmt::Write;

use super::evaluation::{Evaluation, Summary};
use crate::html::escape;
use crate::units;

/// Colours: equal contrast on white and on near-black; the class keeps them out of a page around.
const STYLE: &str = "\
.ensemble text{font:12px system-ui,sans-serif;fill:#57606a}\
.ensemble .title{font-size:15px;font-weight:600;fill:#24292f}\
.ensemble .split{font-size:13px;font-weight:600;fill:#24292f}\
.ensemble .value{fill:#24292f}\
.ensemble .grid{stroke:#57606a;stroke-opacity:.22;fill:none}\
.ensemble .best{stroke:#d9730d;stroke-dasharray:4 3;fill:none}\
.ensemble .single{fill:#d9730d;fill-opacity:.55}\
.ensemble .range{stroke:#2f81f7;stroke-width:3;stroke-opacity:.35;stroke-linecap:round}\
.ensemble .rule{fill:#2f81f7}\
.ensemble .clear{stroke:#57606a;stroke-width:1.5;fill:none}\
@media(prefers-color-scheme:dark){.ensemble text{fill:#9da7b3}\
.ensemble .title,.ensemble .split,.ensemble .value{fill:#e6edf3}.ensemble .grid,\
.ensemble .clear{stroke:#9da7b3}}";

/// Width of the drawing, in its own units.
const WIDTH: f64 = 760.0;
/// Where the axis of every panel begins and ends.
const AXIS: (f64, f64) = (132.0, 560.0);
/// Height of a row.
const ROW: f64 = 22.0;
/// Room above the first panel, above the rows of a panel, and below them.
const TOP: f64 = 66.0;
const HEAD: f64 = 30.0;
const FOOT: f64 = 38.0;

/// Draws one panel a split: a row for the single networks, then one for each rule, with the mean
/// over the ensembles of that split and what they range over.
pub(crate) fn svg(evaluation: &Evaluation) -> String {
    let heights = evaluation.splits.iter().map(height);
    let total = TOP + heights.sum::<f64>();
    let title = format!("Accuracy on {}, {}", evaluation.data, evaluation.mode);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"ensemble\" \
         viewBox=\"0 0 {WIDTH} {total}\" role=\"img\"><title>{0}</title><style>{STYLE}</style>\
         <text class=\"title\" x=\"16\" y=\"26\">{0}</text>\n",
        escape(&title)
    );
    legend(&mut out, evaluation.is_compared());
    let mut top = TOP;
    for summary in &evaluation.splits {
        panel(&mut out, summary, top);
        top += height(summary);
    }
    out.push_str("</svg>\n");
    out
}

fn height(summary: &Summary) -> f64 {
    HEAD + ROW * (1.0 + summary.rules.len() as f64) + FOOT
}

/// Appends to a text, which cannot fail.
fn add(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

/// How what was answered in clear is drawn: around the dot, if it is the same.
fn clear_mark(out: &mut String, x: f64, y: f64) {
    add(
        out,
        format_args!("<circle class=\"clear\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"6.5\"/>"),
    );
}

fn legend(out: &mut String, is_compared: bool) {
    if is_compared {
        clear_mark(out, 606.0, 46.0);
        add(
            out,
            format_args!("<text x=\"620\" y=\"50\">in clear</text>"),
        );
    }
    add(
        out,
        format_args!(
            "<circle class=\"single\" cx=\"20\" cy=\"46\" r=\"4\"/>\
             <text x=\"30\" y=\"50\">single network</text>\
             <path class=\"best\" d=\"M142 46h22\"/><text x=\"170\" y=\"50\">best single, mean\
             </text><path class=\"range\" d=\"M296 46h22\"/>\
             <circle class=\"rule\" cx=\"307\" cy=\"46\" r=\"4\"/>\
             <text x=\"326\" y=\"50\">rule: mean and range over the ensembles</text>\n"
        ),
    );
}

/// Accuracies from `low` to 1, across the axis.
struct Scale {
    low: f64,
    step: f64,
}

impl Scale {
    /// From a whole step below everything that is drawn, with at most six ticks.
    fn new(summary: &Summary) -> Self {
        let rules = summary.rules.iter().map(|rule| rule.range[0]);
        let clear = summary.rules.iter().filter_map(|rule| rule.clear);
        let singles = summary.singles.iter().chain(&summary.clear_singles);
        let all = singles.copied().chain(rules).chain(clear);
        let least = all.fold(1.0, f64::min);
        let steps = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2];
        let room = 1.0 - least;
        let step = steps
            .into_iter()
            .find(|step| step * 6.0 >= room)
            .unwrap_or(0.2);
        let low = 1.0 - step * (room / step + 0.1).ceil();
        Self { low, step }
    }

    fn x(&self, share: f64) -> f64 {
        AXIS.0 + (AXIS.1 - AXIS.0) * (share - self.low) / (1.0 - self.low)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let (step, count) = (self.step, ((1.0 - self.low) / self.step).round() as usize);
        (0..=count).map(move |i| 1.0 - step * i as f64)
    }
}

fn panel(out: &mut String, summary: &Summary, top: f64) {
    let scale = Scale::new(summary);
    let (first, rows) = (top + HEAD, 1.0 + summary.rules.len() as f64);
    let bottom = first + ROW * rows;
    let ensembles = match summary.ensembles {
        1 => "1 ensemble".to_string(),
        many => format!("{many} ensembles"),
    };
    add(
        out,
        format_args!(
            "<text class=\"split\" x=\"16\" y=\"{:.1}\">{} \
             <tspan font-weight=\"400\">· {ensembles}</tspan></text>\n\
             <text x=\"{}\" y=\"{y:.1}\" text-anchor=\"end\">margin, smallest</text>\n",
            top + 14.0,
            escape(&summary.split),
            WIDTH - 16.0,
            y = top + 14.0,
        ),
    );
    for tick in scale.ticks() {
        let x = scale.x(tick);
        // Only as many digits as the step has.
        let label = format!("{:.*} %", usize::from(scale.step < 0.01), 100.0 * tick);
        add(
            out,
            format_args!(
                "<path class=\"grid\" d=\"M{x:.1} {first:.1}V{bottom:.1}\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>\n",
                bottom + 15.0
            ),
        );
    }
    let best = scale.x(summary.best_single);
    add(
        out,
        format_args!("<path class=\"best\" d=\"M{best:.1} {first:.1}V{bottom:.1}\"/>\n"),
    );
    singles(out, summary, &scale, first + ROW / 2.0);
    rules(out, summary, &scale, first + 1.5 * ROW);
}

fn label(out: &mut String, middle: f64, name: &str, value: &str, margin: &str) {
    let y = middle + 4.0;
    add(
        out,
        format_args!(
            "<text x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"end\">{}</text>\
             <text class=\"value\" x=\"{:.1}\" y=\"{y:.1}\">{value}</text>\
             <text x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"end\">{margin}</text>\n",
            AXIS.0 - 14.0,
            escape(name),
            AXIS.1 + 14.0,
            WIDTH - 16.0,
        ),
    );
}

fn singles(out: &mut String, summary: &Summary, scale: &Scale, middle: f64) {
    for share in &summary.singles {
        let x = scale.x(*share);
        add(
            out,
            format_args!("<circle class=\"single\" cx=\"{x:.1}\" cy=\"{middle:.1}\" r=\"4\"/>"),
        );
    }
    for share in &summary.clear_singles {
        clear_mark(out, scale.x(*share), middle);
    }
    let best = format!("best {}", units::percent(summary.best_single));
    label(out, middle, "single networks", &best, "");
}

fn rules(out: &mut String, summary: &Summary, scale: &Scale, top: f64) {
    for (row, rule) in summary.rules.iter().enumerate() {
        let middle = top + ROW * row as f64;
        let [low, high] = rule.range.map(|share| scale.x(share));
        let x = scale.x(rule.accuracy);
        add(
            out,
            format_args!(
                "<path class=\"range\" d=\"M{low:.1} {middle:.1}H{high:.1}\"/>\
                 <circle class=\"rule\" cx=\"{x:.1}\" cy=\"{middle:.1}\" r=\"4\"/>"
            ),
        );
        if let Some(clear) = rule.clear {
            clear_mark(out, scale.x(clear), middle);
        }
        let margin = format!(
            "{:+.2}, {:+.2}",
            100.0 * rule.margin,
            100.0 * rule.smallest_margin
        );
        label(
            out,
            middle,
            &rule.rule,
            &units::percent(rule.accuracy),
            &margin,
        );
    }
}
