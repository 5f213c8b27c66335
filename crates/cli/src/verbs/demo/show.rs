//! The demo in the terminal.

use crate::context::Context;
use crate::report::{ImageResult, RunReport, argmax, softmax};
use crate::table::Table;
use crate::terminal::Picture;
use crate::units;
use crate::verbs::data::side_by_side;

/// Columns of a picture.
const COLUMNS: usize = 20;

/// Pictures, answers, times, sizes and the verdict.
pub(super) fn run(context: &Context, run: &RunReport) -> String {
    let cards: Vec<Vec<String>> = run
        .images
        .iter()
        .map(|image| card(context, image))
        .collect();
    let pictures = side_by_side(&cards, COLUMNS + 2);
    format!(
        "{}\n\n{pictures}{}\n{}\n{}\n{}\n",
        heading(context, run),
        answers(context, run),
        steps(context, run),
        sizes(context, run),
        verdict(context, run)
    )
}

fn heading(context: &Context, run: &RunReport) -> String {
    let style = context.style;
    let security = &run.security;
    format!(
        "{}  {} · {}\n{}",
        style.bold("scuro demo"),
        run.model.name,
        run.data.note,
        style.dim(&format!(
            "CKKS, N = {}, log2 QP = {:.1} of {} allowed at {} bits · kernel {}",
            security.degree, security.log_qp, security.bound, security.level, run.machine.kernel
        ))
    )
}

fn card(context: &Context, image: &ImageResult) -> Vec<String> {
    let style = context.style;
    let values: Vec<f32> = image.pixels.iter().map(|&p| f32::from(p) / 255.0).collect();
    let mut lines = Picture::from_planes(&image.shape, &values)
        .map_or(Vec::new(), |picture| picture.fitted(COLUMNS).lines(style));
    let (clear, encrypted) = (argmax(&image.clear), argmax(&image.encrypted));
    let answer = format!("true {}  encrypted {encrypted}", image.label);
    let painted = if encrypted == clear {
        style.good(&answer)
    } else {
        style.bad(&answer)
    };
    lines.push(painted);
    lines
}

fn answers(context: &Context, run: &RunReport) -> String {
    let heads = [
        "image",
        "true",
        "clear",
        "encrypted",
        "sure",
        "encrypt, ms",
        "evaluate, ms",
        "decrypt, ms",
    ];
    let mut table = Table::new(&heads);
    for image in &run.images {
        let encrypted = argmax(&image.encrypted);
        let sure = softmax(&image.encrypted)[encrypted];
        table.row([
            image.index.to_string(),
            image.label.to_string(),
            argmax(&image.clear).to_string(),
            encrypted.to_string(),
            units::percent(sure),
            units::significant(image.encrypt_ms),
            units::significant(image.evaluate_ms),
            units::significant(image.decrypt_ms),
        ]);
    }
    table.render(context.style)
}

fn steps(context: &Context, run: &RunReport) -> String {
    let mut table = Table::new(&[
        "layer",
        "step",
        "time, ms",
        "primes left",
        "precision, bits",
    ]);
    for step in &run.steps {
        table.row([
            step.layer.clone(),
            step.operation.clone(),
            units::significant(step.milliseconds),
            step.limbs.to_string(),
            step.precision_bits
                .map_or("–".into(), |bits| format!("{bits:.1}")),
        ]);
    }
    let mut stages = Table::new(&["stage", "wall time"]);
    for stage in &run.stages {
        let time = std::time::Duration::from_secs_f64(stage.milliseconds / 1e3);
        stages.row([stage.what.clone(), units::duration(time)]);
    }
    format!(
        "{}\n{}",
        table.render(context.style),
        stages.render(context.style)
    )
}

fn sizes(context: &Context, run: &RunReport) -> String {
    let mut table = Table::new(&["what", "size", "who"]);
    for row in &run.sizes {
        table.row([row.what.clone(), units::bytes(row.bytes), row.note.clone()]);
    }
    table.render(context.style)
}

fn verdict(context: &Context, run: &RunReport) -> String {
    let style = context.style;
    let card = &run.accuracy;
    let right = (card.encrypted * card.images as f64).round();
    let agree = (card.agreement * card.images as f64).round();
    let line = format!(
        "{right} of {} right · {agree} of {} equal to the clear answer · worst score error {}",
        card.images,
        card.images,
        units::significant(card.worst_logit_error)
    );
    let painted = if card.agreement >= 1.0 {
        style.good(&line)
    } else {
        style.bad(&line)
    };
    let privacy = "The process that computed this never had the secret key: it saw noise.";
    format!("{painted}\n{}", style.dim(privacy))
}
