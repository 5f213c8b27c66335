//! Loss and accuracy over the epochs as a self-contained SVG drawing, legible on light and dark
//! pages.

use crate::history::{EpochRecord, History};
use std::fmt::Write;

/// Width of the drawing, in its own units.
const WIDTH: f64 = 720.0;
/// Height of the drawing.
const HEIGHT: f64 = 300.0;
/// Edges of the two panels: left, width.
const PANELS: [(f64, f64); 2] = [(52.0, 280.0), (404.0, 280.0)];
/// Upper and lower edge of both panels.
const TOP: f64 = 64.0;
const BOTTOM: f64 = 250.0;
/// Colours of the training and the held-out curve: equal contrast on white and on near-black.
const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#57606a}\
.title{font-size:15px;font-weight:600;fill:#24292f}\
.grid{stroke:#57606a;stroke-opacity:.25}\
.training,.held{fill:none;stroke-width:2;stroke-linejoin:round}\
.training{stroke:#2f81f7}.held{stroke:#d9730d}\
circle.training{fill:#2f81f7;stroke:none}circle.held{fill:#d9730d;stroke:none}\
.best{stroke:#57606a;stroke-dasharray:3 3}\
@media(prefers-color-scheme:dark){text{fill:#9da7b3}.title{fill:#e6edf3}\
.grid,.best{stroke:#9da7b3}}";

/// Draws `history`: loss at the left (logarithmic), error rate at the right (logarithmic), with the
/// epoch that was kept marked. An empty history gives empty axes.
pub fn svg(history: &History, title: &str) -> String {
    let title = escape(title);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\
         <title>{title}</title><style>{STYLE}</style>\
         <text class=\"title\" x=\"16\" y=\"24\">{title}</text>\n"
    );
    let error = |accuracy: f64| 100.0 * (1.0 - accuracy);
    let loss = [
        curve(history, |r| Some(r.loss)),
        curve(history, |r| r.validation_loss),
    ];
    let errors = [
        curve(history, |r| Some(error(r.accuracy))),
        curve(history, |r| r.validation_accuracy.map(error)),
    ];
    panel(&mut out, PANELS[0], "Loss", "", &loss, history);
    panel(&mut out, PANELS[1], "Wrong answers", " %", &errors, history);
    legend(&mut out);
    out.push_str("</svg>\n");
    out
}

/// Epoch and value of each epoch that has one.
fn curve(history: &History, value: impl Fn(&EpochRecord) -> Option<f64>) -> Vec<(f64, f64)> {
    let points = history.epochs.iter().map(|r| (r.epoch as f64, value(r)));
    points
        .filter_map(|(x, y)| y.filter(|y| y.is_finite()).map(|y| (x, y)))
        .collect()
}

/// Axes of one panel: epochs linear, values logarithmic.
struct Scale {
    left: f64,
    width: f64,
    epochs: f64,
    low: f64,
    high: f64,
}

impl Scale {
    fn new((left, width): (f64, f64), curves: &[Vec<(f64, f64)>; 2], epochs: usize) -> Self {
        let positive = curves.iter().flatten().map(|p| p.1).filter(|y| *y > 0.0);
        let low = positive.clone().fold(f64::INFINITY, f64::min);
        let high = positive.fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low <= high { (low, high) } else { (0.1, 1.0) };
        // Whole steps of the tick ladder around the data.
        let low = ladder(low.log10().floor() as i32, 2)
            .filter(|t| *t <= low)
            .last();
        let high = ladder(high.log10().floor() as i32, 2).find(|t| *t >= high);
        let (low, high) = (low.unwrap_or(0.1), high.unwrap_or(1.0));
        Self {
            left,
            width,
            epochs: epochs.max(2) as f64,
            low,
            high: high.max(low * 2.0),
        }
    }

    fn x(&self, epoch: f64) -> f64 {
        self.left + self.width * (epoch - 1.0) / (self.epochs - 1.0)
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value.max(self.low) / self.low).ln() / (self.high / self.low).ln();
        BOTTOM - (BOTTOM - TOP) * share
    }
}

/// 1, 2, 5, 10, 20, ... times `10^exponent`, over `decades` decades.
fn ladder(exponent: i32, decades: i32) -> impl Iterator<Item = f64> + Clone {
    let powers = (exponent..exponent + decades).map(|e| 10f64.powi(e));
    powers.flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * power))
}

fn panel(
    out: &mut String,
    place: (f64, f64),
    title: &str,
    unit: &str,
    curves: &[Vec<(f64, f64)>; 2],
    history: &History,
) {
    let scale = Scale::new(place, curves, history.epochs.len());
    let (left, right) = (scale.left, scale.left + scale.width);
    add(
        out,
        format_args!("<text x=\"{left}\" y=\"{}\">{title}</text>\n", TOP - 12.0),
    );
    let decades = (scale.high / scale.low).log10().ceil() as i32 + 1;
    let ticks = ladder(scale.low.log10().floor() as i32, decades);
    for tick in ticks.filter(|t| *t >= scale.low * 0.999 && *t <= scale.high * 1.001) {
        let y = scale.y(tick);
        add(
            out,
            format_args!("<path class=\"grid\" d=\"M{left} {y:.1}H{right}\"/>"),
        );
        let (x, y) = (left - 6.0, y + 4.0);
        let label = format!("{}{unit}", (tick * 1e6).round() / 1e6);
        add(
            out,
            format_args!("<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{label}</text>\n"),
        );
    }
    for epoch in epoch_ticks(scale.epochs) {
        let (x, y) = (scale.x(epoch), BOTTOM + 18.0);
        add(
            out,
            format_args!("<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{epoch}</text>\n"),
        );
    }
    if history.best > 0 {
        let x = scale.x(history.best as f64);
        add(
            out,
            format_args!("<path class=\"best\" d=\"M{x:.1} {TOP}V{BOTTOM}\"/>\n"),
        );
    }
    for (class, points) in ["training", "held"].into_iter().zip(curves) {
        line(out, &scale, class, points);
    }
}

fn line(out: &mut String, scale: &Scale, class: &str, points: &[(f64, f64)]) {
    if let [(x, y)] = points[..] {
        let (x, y) = (scale.x(x), scale.y(y));
        add(
            out,
            format_args!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>\n"),
        );
    } else if !points.is_empty() {
        add(out, format_args!("<polyline class=\"{class}\" points=\""));
        for &(x, y) in points {
            add(out, format_args!("{:.1},{:.1} ", scale.x(x), scale.y(y)));
        }
        out.push_str("\"/>\n");
    }
}

/// The first and last epoch and about four round numbers between.
fn epoch_ticks(epochs: f64) -> Vec<f64> {
    let step = ladder(0, 6)
        .find(|step| epochs / step <= 6.0)
        .unwrap_or(epochs);
    let mut ticks = vec![1.0];
    let mut tick = step.max(2.0);
    while tick <= epochs - step / 2.0 {
        ticks.push(tick);
        tick += step;
    }
    ticks.push(epochs);
    ticks
}

fn legend(out: &mut String) {
    let y = HEIGHT - 12.0;
    for (x, class, name) in [(52.0, "training", "training"), (142.0, "held", "held out")] {
        add(
            out,
            format_args!("<path class=\"{class}\" d=\"M{x} {}h22\"/>", y - 4.0),
        );
        add(
            out,
            format_args!("<text x=\"{}\" y=\"{y}\">{name}</text>\n", x + 28.0),
        );
    }
    add(
        out,
        format_args!("<path class=\"best\" d=\"M232 {}h22\"/>", y - 4.0),
    );
    add(
        out,
        format_args!("<text x=\"260\" y=\"{y}\">epoch kept</text>\n"),
    );
    add(
        out,
        format_args!("<text x=\"684\" y=\"{y}\" text-anchor=\"end\">epoch</text>\n"),
    );
}

pub(crate) fn add(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(text);
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(epochs: usize, held_out: bool) -> History {
        let record = |epoch: usize| EpochRecord {
            epoch,
            learning_rate: 1e-3,
            loss: 0.7 / epoch as f64,
            accuracy: 1.0 - 0.2 / epoch as f64,
            penalty: 0.0,
            validation_loss: held_out.then_some(0.5 / epoch as f64),
            validation_accuracy: held_out.then_some(1.0 - 0.1 / epoch as f64),
        };
        History {
            epochs: (1..=epochs).map(record).collect(),
            best: epochs,
        }
    }

    #[test]
    fn a_drawing_has_one_curve_for_each_measured_quantity() {
        let count = |held_out| svg(&history(9, held_out), "t").matches("<polyline").count();
        assert_eq!((count(true), count(false)), (4, 2));
        assert_eq!(svg(&history(1, true), "t").matches("<circle").count(), 4);
    }

    #[test]
    fn titles_are_escaped_and_perfect_or_missing_values_stay_inside_the_drawing() {
        let mut perfect = history(3, true);
        perfect.epochs[2].validation_accuracy = Some(1.0);
        perfect.epochs[2].validation_loss = Some(f64::NAN);
        let drawing = svg(&perfect, "a < b & c");
        assert!(drawing.contains("a &lt; b &amp; c"));
        assert!(
            !drawing.contains("NaN") && !drawing.contains("inf"),
            "{drawing}"
        );
        assert!(svg(&History::default(), "").ends_with("</svg>\n"));
    }
}
