//! The cards of a run report.

use crate::report::{AccuracyCard, ModelCard, RunReport, SecurityCard, StepResult};
use crate::units;

use super::charts::{Bar, NARROW, WIDE, bars, scatter};
use super::{escape, table};

/// A titled section.
pub(super) fn section(title: &str, lead: &str, body: &str) -> String {
    format!("<section><h2>{title}</h2><p class=lead>{lead}</p>{body}</section>")
}

/// Who sends what to whom.
pub(super) fn flow(run: &RunReport) -> String {
    let size = |name: &str| {
        let row = run.sizes.iter().find(|row| row.what.starts_with(name));
        row.map_or_else(|| "–".to_string(), |row| units::bytes(row.bytes))
    };
    format!(
        "<svg class=flow viewBox='0 0 720 150' role=img>\
         <rect x=4 y=20 width=190 height=110 rx=10 class=box></rect>\
         <rect x=526 y=20 width=190 height=110 rx=10 class='box dark'></rect>\
         <text x=99 y=52 text-anchor=middle class=who>key holder</text>\
         <text x=99 y=76 text-anchor=middle class=lab>image, secret key, answer</text>\
         <text x=99 y=104 text-anchor=middle class=lab>encrypts and decrypts</text>\
         <text x=621 y=52 text-anchor=middle class='who light'>evaluator</text>\
         <text x=621 y=76 text-anchor=middle class='lab light'>another process</text>\
         <text x=621 y=104 text-anchor=middle class='lab light'>no secret key, sees noise</text>\
         <path d='M206 58 H506' class=arrow></path>\
         <path d='M500 52 l10 6 l-10 6' class=head></path>\
         <path d='M514 100 H214' class=arrow></path>\
         <path d='M220 94 l-10 6 l10 6' class=head></path>\
         <text x=360 y=48 text-anchor=middle class=lab>encrypted image · {}</text>\
         <text x=360 y=120 text-anchor=middle class=lab>encrypted scores · {}</text></svg>",
        size("query"),
        size("reply")
    )
}

/// Accuracy of the three ways of running the same program.
pub(super) fn accuracy(run: &RunReport) -> String {
    let card = &run.accuracy;
    let bar = |label: &str, value: f64, class| Bar {
        label: label.to_string(),
        value,
        text: units::percent(value),
        class,
    };
    let chart = bars(
        NARROW,
        &[
            bar("clear", card.clear, "clear"),
            bar("simulated", card.simulated, "sim"),
            bar("encrypted", card.encrypted, "enc"),
        ],
        Some(1.0),
    );
    let points: Vec<(f64, f64)> = run
        .images
        .iter()
        .flat_map(|image| {
            image
                .clear
                .iter()
                .copied()
                .zip(image.encrypted.iter().copied())
        })
        .collect();
    let plot = scatter(&points, "clear score", "encrypted score");
    let lead = format!("The same {} images through all three.", card.images);
    let body = format!(
        "<div class=two><div>{chart}{}</div><div>{plot}</div></div>",
        facts(card)
    );
    section("Accuracy", &lead, &body)
}

fn facts(card: &AccuracyCard) -> String {
    let rows = [
        (
            "encrypted answer equals clear answer",
            units::percent(card.agreement),
        ),
        (
            "worst score error, encrypted",
            units::significant(card.worst_logit_error),
        ),
        (
            "worst score error, simulated",
            units::significant(card.worst_simulated_error),
        ),
    ];
    let rows: Vec<Vec<String>> = rows
        .map(|(what, value)| vec![what.to_string(), value])
        .to_vec();
    table(&["", ""], &rows)
}

/// Time of each step.
pub(super) fn latency(run: &RunReport) -> String {
    let bar = |step: &StepResult| Bar {
        label: step_name(step),
        value: step.milliseconds,
        text: format!("{} ms", units::significant(step.milliseconds)),
        class: "enc",
    };
    let chart = bars(WIDE, &run.steps.iter().map(bar).collect::<Vec<_>>(), None);
    let total: f64 = run.steps.iter().map(|step| step.milliseconds).sum();
    let lead = format!(
        "One encrypted image takes {} ms in the network.",
        units::significant(total)
    );
    let stages = run.stages.iter().map(|stage| {
        vec![
            escape(&stage.what),
            format!("{} ms", units::significant(stage.milliseconds)),
        ]
    });
    let stages = table(
        &["stage of this run", "wall time"],
        &stages.collect::<Vec<_>>(),
    );
    section("Latency by layer", &lead, &format!("{chart}{stages}"))
}

fn step_name(step: &StepResult) -> String {
    if step.layer.is_empty() {
        return step.operation.clone();
    }
    format!("{} · {}", step.layer, step.operation)
}

/// Noise left after each step.
pub(super) fn noise(run: &RunReport) -> String {
    let measured: Vec<&StepResult> = run
        .steps
        .iter()
        .filter(|step| step.precision_bits.is_some())
        .collect();
    if measured.is_empty() {
        return String::new();
    }
    let bar = |step: &&StepResult| Bar {
        label: step_name(step),
        value: step.precision_bits.unwrap_or(0.0),
        text: format!("{:.1} bits", step.precision_bits.unwrap_or(0.0)),
        class: "sim",
    };
    let chart = bars(WIDE, &measured.iter().map(bar).collect::<Vec<_>>(), None);
    let number = |value: Option<f64>| value.map_or("–".into(), |v| format!("{v:.1}"));
    let row = |step: &&StepResult| {
        vec![
            escape(&step_name(step)),
            step.limbs.to_string(),
            format!("{:.0}", step.log_modulus),
            format!("{:.1}", step.log_scale),
            step.slot_error
                .map_or("–".into(), |error| format!("{error:.1e}")),
            number(step.room_bits),
        ]
    };
    let heads = [
        "step",
        "primes",
        "log₂ Q",
        "log₂ scale",
        "worst slot error",
        "room, bits",
    ];
    let details = table(&heads, &measured.iter().map(row).collect::<Vec<_>>());
    let lead = "Bits of precision that remain above the noise, measured with the secret key by \
                the key holder. Room is what values may still grow before the modulus.";
    let body = format!("{chart}<details><summary>levels and scales</summary>{details}</details>");
    section("Noise left by layer", lead, &body)
}

/// The network.
pub(super) fn model(card: &ModelCard) -> String {
    let shape = |dims: &[usize]| {
        dims.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" × ")
    };
    let layers = card.layers.iter().map(|layer| {
        vec![
            escape(&layer.name),
            escape(&layer.operator),
            shape(&layer.output),
            layer.parameters.to_string(),
        ]
    });
    let layers = table(
        &["layer", "operator", "result", "weights"],
        &layers.collect::<Vec<_>>(),
    );
    let lead = format!(
        "{} · input {} · {} classes · {} weights",
        escape(&card.name),
        shape(&card.input),
        card.classes,
        card.parameters
    );
    let origin = format!(
        "<p class=small>{}<br>BLAKE3 <code>{}</code></p>",
        escape(&card.origin),
        escape(&card.digest)
    );
    section("Model card", &lead, &format!("{layers}{origin}"))
}

/// What protects what from whom.
pub(super) fn security(card: &SecurityCard) -> String {
    let share = card.log_qp / f64::from(card.bound);
    let gauge = bars(
        WIDE,
        &[Bar {
            label: "log₂ QP used".into(),
            value: share,
            text: format!("{:.1} of {}", card.log_qp, card.bound),
            class: "enc",
        }],
        Some(1.0),
    );
    let facts = [
        ("scheme", &card.scheme),
        ("ring", &card.ring),
        ("primes", &card.primes),
        ("secret and error", &card.distributions),
        ("certified by", &card.table),
    ];
    let facts: Vec<Vec<String>> = facts
        .iter()
        .map(|(what, value)| vec![(*what).to_string(), escape(value)])
        .collect();
    let parties = card.parties.iter().map(|party| {
        vec![
            format!("<b>{}</b>", escape(&party.who)),
            escape(&party.sees),
            escape(&party.never),
        ]
    });
    let parties = table(
        &["role", "holds and sees", "never sees"],
        &parties.collect::<Vec<_>>(),
    );
    let open: String = card
        .not_protected
        .iter()
        .map(|text| format!("<li>{}</li>", escape(text)))
        .collect();
    let lead = format!(
        "{} bits against classical attacks, N = {}.",
        card.level, card.degree
    );
    let body = format!(
        "{gauge}{}{parties}<h3>Not protected</h3><ul>{open}</ul>",
        table(&["", ""], &facts)
    );
    section("Security card", &lead, &body)
}

/// Sizes of everything.
pub(super) fn sizes(run: &RunReport) -> String {
    let rows = run.sizes.iter().map(|row| {
        vec![
            escape(&row.what),
            units::bytes(row.bytes),
            escape(&row.note),
        ]
    });
    let rows = table(&["what", "size", "who holds it"], &rows.collect::<Vec<_>>());
    section("Sizes", "As they lie on disk and travel.", &rows)
}
