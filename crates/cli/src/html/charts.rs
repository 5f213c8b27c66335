//! Charts as inline SVG; colours come from the page's style.

use std::fmt::Write;

use super::escape;

/// One bar: text in front, value, text behind, class for the colour.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) value: f64,
    pub(super) text: String,
    pub(super) class: &'static str,
}

const VALUE_WIDTH: f64 = 124.0;
const ROW: f64 = 26.0;

/// Horizontal measures of a chart of bars.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    /// Units across.
    width: f64,
    /// Units for the text in front.
    label: f64,
}

/// Across the page.
pub(super) const WIDE: Frame = Frame {
    width: 780.0,
    label: 250.0,
};
/// Beside something else.
pub(super) const NARROW: Frame = Frame {
    width: 480.0,
    label: 90.0,
};

/// Horizontal bars from zero to `full` (or the largest value).
pub(super) fn bars(frame: Frame, bars: &[Bar], full: Option<f64>) -> String {
    let largest = bars
        .iter()
        .map(|bar| bar.value)
        .fold(f64::MIN_POSITIVE, f64::max);
    let full = full.unwrap_or(largest).max(f64::MIN_POSITIVE);
    let height = ROW * bars.len() as f64 + 4.0;
    let width = frame.width;
    let mut svg = format!("<svg class=chart viewBox='0 0 {width} {height}' role=img>");
    for (i, bar) in bars.iter().enumerate() {
        svg.push_str(&one_bar(frame, bar, full, i as f64 * ROW + 2.0));
    }
    svg + "</svg>"
}

fn one_bar(frame: Frame, bar: &Bar, full: f64, top: f64) -> String {
    let start = frame.label;
    let room = frame.width - start - VALUE_WIDTH;
    let width = (bar.value / full).clamp(0.0, 1.0) * room;
    let middle = top + ROW / 2.0 + 4.0;
    let (label, text) = (escape(&bar.label), escape(&bar.text));
    let value_x = start + width.max(2.0) + 8.0;
    format!(
        "<text x='{:.1}' y='{middle:.1}' text-anchor=end class=lab>{label}</text>\
         <rect x='{start}' y='{:.1}' width='{room:.1}' height='{:.1}' rx=3 class=track></rect>\
         <rect x='{start}' y='{:.1}' width='{:.1}' height='{:.1}' rx=3 class='{}'></rect>\
         <text x='{value_x:.1}' y='{middle:.1}' class=val>{text}</text>",
        start - 12.0,
        top + 5.0,
        ROW - 10.0,
        top + 5.0,
        width.max(2.0),
        ROW - 10.0,
        bar.class,
    )
}

/// The encrypted logit of every image and class against the clear one.
pub(super) fn scatter(points: &[(f64, f64)], x_title: &str, y_title: &str) -> String {
    const SIDE: f64 = 300.0;
    const EDGE: f64 = 36.0;
    let all = || points.iter().flat_map(|(x, y)| [*x, *y]);
    let low = all().fold(f64::INFINITY, f64::min);
    let high = all().fold(f64::NEG_INFINITY, f64::max);
    let span = (high - low).max(1e-9);
    let place = |v: f64| EDGE + (v - low) / span * (SIDE - 2.0 * EDGE);
    let mut svg = format!("<svg class=scatter viewBox='0 0 {SIDE} {SIDE}' role=img>");
    let (start, end) = (EDGE - 8.0, SIDE - EDGE + 8.0);
    let _ = write!(
        svg,
        "<rect x='{start}' y='{start}' width='{0}' height='{0}' rx=4 class=track></rect>\
         <line x1='{start}' y1='{end}' x2='{end}' y2='{start}' class=axis></line>",
        end - start
    );
    for (x, y) in points {
        let (cx, cy) = (place(*x), SIDE - place(*y));
        let _ = write!(
            svg,
            "<circle cx='{cx:.1}' cy='{cy:.1}' r=2.6 class=dot></circle>"
        );
    }
    let middle = SIDE / 2.0;
    let _ = write!(
        svg,
        "<text x='{middle}' y='{:.0}' text-anchor=middle class=lab>{}</text>\
         <text x='12' y='{middle}' text-anchor=middle class=lab \
         transform='rotate(-90 12 {middle})'>{}</text></svg>",
        SIDE - 8.0,
        escape(x_title),
        escape(y_title)
    );
    svg
}

/// A row of thin columns, one a class; the chosen one stands out.
pub(super) fn class_columns(shares: &[f64], chosen: usize) -> String {
    const HEIGHT: f64 = 30.0;
    const STEP: f64 = 11.0;
    let width = STEP * shares.len() as f64;
    let mut svg = format!(
        "<svg class=classes viewBox='0 0 {width} {}'>",
        HEIGHT + 11.0
    );
    for (i, share) in shares.iter().enumerate() {
        let height = (share * HEIGHT).max(1.0);
        let (x, y) = (i as f64 * STEP + 1.5, HEIGHT - height);
        let class = if i == chosen { "enc" } else { "rest" };
        let _ = write!(
            svg,
            "<rect x='{x}' y='{y:.1}' width=8 height='{height:.1}' rx=1.5 class={class}>\
             <title>class {i}: {:.1} %</title></rect>\
             <text x='{:.1}' y='{:.1}' text-anchor=middle class=tick>{i}</text>",
            share * 100.0,
            x + 4.0,
            HEIGHT + 9.5
        );
    }
    svg + "</svg>"
}
