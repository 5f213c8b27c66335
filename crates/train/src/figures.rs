//! What replacements of ReLU look like and what they cost, as self-contained SVG drawings that are
//! legible on light and dark pages.

use crate::curves::{add, escape};
use scuro_nn::activation::{Fit, Function};

/// Colours: equal contrast on white and on near-black.
const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#57606a}\
.title{font-size:15px;font-weight:600;fill:#24292f}\
.name{fill:#24292f}\
.grid{stroke:#57606a;stroke-opacity:.25}\
.relu{fill:none;stroke:#57606a;stroke-width:1.5;stroke-dasharray:4 3}\
.fit{fill:none;stroke:#2f81f7;stroke-width:2;stroke-linejoin:round}\
.before{fill:#2f81f7;fill-opacity:.35}.after{fill:#2f81f7}\
.original{stroke:#d9730d;stroke-width:1.5}\
@media(prefers-color-scheme:dark){text{fill:#9da7b3}.title,.name{fill:#e6edf3}\
.grid,.relu{stroke:#9da7b3}}";

/// Panels of [`functions`] in one row.
const COLUMNS: usize = 4;
/// Width and height of one panel, and the room around it.
const PANEL: [f64; 2] = [150.0, 110.0];
const GAP: [f64; 2] = [24.0, 62.0];
/// Points of one curve.
const POINTS: usize = 96;

/// Draws each fit beside `max(x, 0)`, one panel each, all on the first fit's interval and on the
/// same scale; curves are cut at the panel's edge.
pub fn functions(fits: &[(String, Fit)], title: &str) -> String {
    let rows = fits.len().div_ceil(COLUMNS).max(1);
    let width = 16.0 + COLUMNS as f64 * (PANEL[0] + GAP[0]);
    let height = 48.0 + rows as f64 * (PANEL[1] + GAP[1]) + 24.0;
    let mut out = head(width, height, title);
    for (index, (name, fit)) in fits.iter().enumerate() {
        let left = 28.0 + (index % COLUMNS) as f64 * (PANEL[0] + GAP[0]);
        let top = 66.0 + (index / COLUMNS) as f64 * (PANEL[1] + GAP[1]);
        panel(&mut out, [left, top], name, fit);
    }
    let y = height - 12.0;
    add(
        &mut out,
        format_args!("<path class=\"relu\" d=\"M28 {}h22\"/>", y - 4.0),
    );
    add(
        &mut out,
        format_args!("<text x=\"56\" y=\"{y}\">ReLU</text>"),
    );
    add(
        &mut out,
        format_args!("<path class=\"fit\" d=\"M112 {}h22\"/>", y - 4.0),
    );
    add(
        &mut out,
        format_args!("<text x=\"140\" y=\"{y}\">replacement</text>\n"),
    );
    out.push_str("</svg>\n");
    out
}

fn panel(out: &mut String, [left, top]: [f64; 2], name: &str, fit: &Fit) {
    let (low, high) = (fit.interval.low(), fit.interval.high());
    // From a quarter below zero to the largest value of ReLU, with some air.
    let reach = low.abs().max(high.abs());
    let (bottom, peak) = (-0.3 * reach, 1.15 * reach);
    let x = |v: f64| left + PANEL[0] * (v - low) / (high - low);
    let y = |v: f64| top + PANEL[1] * (peak - v) / (peak - bottom);
    let name = escape(name);
    add(
        out,
        format_args!(
            "<text class=\"name\" x=\"{left}\" y=\"{}\">{name}</text>\n",
            top - 8.0
        ),
    );
    let (zero, right, end) = (y(0.0), left + PANEL[0], top + PANEL[1]);
    add(
        out,
        format_args!("<path class=\"grid\" d=\"M{left} {zero:.1}H{right}\"/>\n"),
    );
    if low < 0.0 && high > 0.0 {
        add(
            out,
            format_args!("<path class=\"grid\" d=\"M{:.1} {top}V{end}\"/>\n", x(0.0)),
        );
    }
    for (class, value) in [
        (
            "relu",
            &(|v| Function::Relu.value(v)) as &dyn Fn(f64) -> f64,
        ),
        ("fit", &|v| fit.value(v)),
    ] {
        add(out, format_args!("<path class=\"{class}\" d=\""));
        let mut pen = 'M';
        for i in 0..=POINTS {
            let at = low + (high - low) * i as f64 / POINTS as f64;
            let v = value(at);
            if (bottom..=peak).contains(&v) {
                add(out, format_args!("{pen}{:.1} {:.1}", x(at), y(v)));
                pen = 'L';
            } else {
                pen = 'M';
            }
        }
        out.push_str("\"/>\n");
    }
    let (below, error) = (end + 16.0, fit.error);
    add(
        out,
        format_args!("<text x=\"{left}\" y=\"{below}\">{low} to {high}</text>"),
    );
    add(
        out,
        format_args!(
            "<text x=\"{right}\" y=\"{below}\" text-anchor=\"end\">error {error:.2}</text>\n"
        ),
    );
}

/// Accuracy of one replacement.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Name of the replacement.
    pub name: String,
    /// Share of right answers once it is in place.
    pub before: f64,
    /// The same after fine-tuning.
    pub after: f64,
}

/// Draws the accuracy of each replacement before and after fine-tuning, as bars from 0 to 100 %,
/// with a line at the original's.
pub fn accuracies(outcomes: &[Outcome], original: f64, title: &str) -> String {
    const LEFT: f64 = 150.0;
    const LENGTH: f64 = 420.0;
    const STEP: f64 = 34.0;
    let end = 72.0 + STEP * outcomes.len() as f64;
    let mut out = head(760.0, end + 58.0, title);
    let x = |share: f64| LEFT + LENGTH * share.clamp(0.0, 1.0);
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let (at, percent) = (x(tick), tick * 100.0);
        add(
            &mut out,
            format_args!("<path class=\"grid\" d=\"M{at} 60V{end}\"/>"),
        );
        add(
            &mut out,
            format_args!(
                "<text x=\"{at}\" y=\"{}\" text-anchor=\"middle\">{percent} %</text>\n",
                end + 18.0
            ),
        );
    }
    for (index, outcome) in outcomes.iter().enumerate() {
        let top = 66.0 + STEP * index as f64;
        let (name, right) = (escape(&outcome.name), LEFT - 8.0);
        add(
            &mut out,
            format_args!(
                "<text class=\"name\" x=\"{right}\" y=\"{}\" text-anchor=\"end\">{name}</text>",
                top + 15.0
            ),
        );
        for (class, share, at) in [
            ("before", outcome.before, top),
            ("after", outcome.after, top + 11.0),
        ] {
            let width = x(share) - LEFT;
            add(
                &mut out,
                format_args!(
                    "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{at}\" width=\"{width:.1}\" \
                     height=\"10\"/>"
                ),
            );
        }
        let (before, after) = (100.0 * outcome.before, 100.0 * outcome.after);
        add(
            &mut out,
            format_args!(
                "<text x=\"{}\" y=\"{}\">{before:.2} % → {after:.2} %</text>\n",
                LEFT + LENGTH + 12.0,
                top + 15.0
            ),
        );
    }
    let at = x(original);
    add(
        &mut out,
        format_args!("<path class=\"original\" d=\"M{at:.1} 56V{end}\"/>\n"),
    );
    legend(&mut out, end + 46.0, original);
    out.push_str("</svg>\n");
    out
}

fn legend(out: &mut String, y: f64, original: f64) {
    let top = y - 10.0;
    for (x, class, text) in [(150, "before", "replaced"), (250, "after", "fine-tuned")] {
        add(
            out,
            format_args!(
                "<rect class=\"{class}\" x=\"{x}\" y=\"{top}\" width=\"22\" height=\"10\"/>\
                 <text x=\"{}\" y=\"{y}\">{text}</text>",
                x + 28
            ),
        );
    }
    let percent = 100.0 * original;
    add(
        out,
        format_args!(
            "<path class=\"original\" d=\"M371 {}V{y}\"/>\
             <text x=\"388\" y=\"{y}\">original, {percent:.2} %</text>\n",
            y - 12.0
        ),
    );
}

fn head(width: f64, height: f64, title: &str) -> String {
    let title = escape(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\">\
         <title>{title}</title><style>{STYLE}</style>\n\
         <text class=\"title\" x=\"16\" y=\"24\">{title}</text>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use scuro_nn::activation::{Interval, Replacement};

    #[test]
    fn every_function_has_a_panel_with_both_curves_inside_it() {
        let interval = Interval::new(-4.0, 4.0).unwrap();
        let fit = |r: Replacement| (r.to_string(), r.fit(Function::Relu, interval).unwrap());
        let drawing = functions(&Replacement::STUDIED.map(fit), "a < b");
        assert_eq!(drawing.matches("class=\"fit\"").count(), 8 + 1);
        assert!(drawing.contains("a &lt; b") && !drawing.contains("NaN"));
        assert!(functions(&[], "").ends_with("</svg>\n"));
    }

    #[test]
    fn bars_are_as_long_as_the_share_and_stay_on_the_scale() {
        let outcome = |before, after| Outcome {
            name: "x".into(),
            before,
            after,
        };
        let drawing = accuracies(&[outcome(0.5, 1.0), outcome(-1.0, 7.0)], 0.9, "t");
        assert_eq!(drawing.matches("width=\"210.0\"").count(), 1);
        assert_eq!(drawing.matches("width=\"420.0\"").count(), 2);
        assert_eq!(drawing.matches("width=\"0.0\"").count(), 1);
        assert!(drawing.contains("original, 90.00 %"));
    }
}
