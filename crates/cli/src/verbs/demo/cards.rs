//! The cards of the report: model, data, security, sizes, steps.

use scuro_client::Model;
use scuro_program::{Ring, SecurityTable};

use crate::compiled::{Compiled, NOTE_CALIBRATION};
use crate::errors::Failure;
use crate::inputs::Examples;
use crate::noise::Probe;
use crate::report::{DataCard, LayerRow, ModelCard, PartyRow, SecurityCard, SizeRow, StepResult};
use crate::verbs::evaluate::Account;
use crate::verbs::inspect::hex;
use crate::workspace::Sizes;

/// Bytes of ciphertext that are drawn as a picture, taken from the middle of the message.
const HEAD: usize = 28 * 28;

/// What the evaluator sees of an image.
pub(super) fn ciphertext_head(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.len() / 3;
    bytes.get(start..start + HEAD).unwrap_or_default().to_vec()
}

/// The network.
pub(super) fn model(compiled: &Compiled) -> Result<ModelCard, Failure> {
    let Some(graph) = &compiled.graph else {
        return Err(Failure::internal(
            "the demo compiles a network, so there is one",
        ));
    };
    let program = compiled.model.program();
    let layer = |row: scuro_nn::graph::SummaryRow| LayerRow {
        name: row.name,
        operator: row.op,
        output: row.shape,
        parameters: row.parameters,
    };
    Ok(ModelCard {
        name: graph.name.clone(),
        origin: "Trained with `scuro train` and imported from ONNX; its weights are known to the \
                 evaluator, its inputs and outputs are not."
            .into(),
        digest: hex(&program.model_digest),
        input: graph.input_shape().to_vec(),
        classes: program
            .output
            .shape
            .iter()
            .map(|&extent| extent as usize)
            .product(),
        parameters: graph.totals()?.parameters,
        layers: graph.summary()?.into_iter().map(layer).collect(),
    })
}

/// The images.
pub(super) fn data(compiled: &Compiled, examples: &Examples) -> DataCard {
    let name = examples.data.name.to_string();
    let generated = name.starts_with("generated");
    let note = if generated {
        format!("{} digits drawn in code, not MNIST", examples.len())
    } else {
        format!("the first {} images of {name}", examples.len())
    };
    let calibration = compiled
        .model
        .program()
        .note(NOTE_CALIBRATION)
        .unwrap_or("no images");
    DataCard {
        name,
        note,
        calibration: format!("Ranges calibrated on {calibration}."),
    }
}

/// What protects what from whom.
pub(super) fn security(model: &Model) -> SecurityCard {
    let plan = &model.program().parameters;
    let parameters = model.context().parameters();
    let ring = match plan.ring {
        Ring::ConjugateInvariant => {
            "conjugate-invariant subring of Z_Q[X]/(X^2N + 1): N real slots in one cyclic row"
        }
        Ring::Standard => "Z_Q[X]/(X^N + 1): N/2 slots",
    };
    let table = match plan.table {
        SecurityTable::Guideline2024 => {
            "Security Guidelines for Implementing Homomorphic Encryption (2024), ternary secret"
        }
        SecurityTable::Standard2018 => "HomomorphicEncryption.org standard (2018), ternary secret",
    };
    let bits = |bits: &[u32]| {
        bits.iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(" + ")
    };
    SecurityCard {
        scheme: "CKKS, RNS variant, hybrid key switching".into(),
        ring: ring.into(),
        degree: parameters.n(),
        log_qp: parameters.log_qp(),
        bound: parameters.log_qp_bound(),
        level: plan.security_bits,
        table: table.into(),
        distributions: "uniform ternary secret, discrete Gaussian error with sigma 3.19".into(),
        primes: format!(
            "{} bits, special {} bits",
            bits(&plan.q_bits),
            bits(&plan.p_bits)
        ),
        parties: parties(),
        not_protected: not_protected(),
    }
}

fn parties() -> Vec<PartyRow> {
    let row = |who: &str, sees: &str, never: &str| PartyRow {
        who: who.into(),
        sees: sees.into(),
        never: never.into(),
    };
    vec![
        row("key holder", "the images, the secret key, the scores", "–"),
        row(
            "evaluator",
            "the network, the evaluation keys, ciphertexts, their number, sizes and times",
            "the images, the scores, the labels, the secret key",
        ),
        row(
            "anyone on the way",
            "what the evaluator sees of the messages",
            "the rest",
        ),
    ]
}

fn not_protected() -> Vec<String> {
    [
        "The network's weights: this evaluator knows them.",
        "How many images are sent, and when.",
        "The answer's correctness: an evaluator that computes something else is not noticed.",
        "Whoever publishes decrypted scores with all their digits gives a little of the secret \
         key away (CKKS is not secure against that); labels are harmless.",
        "A stolen secret key, or a spied-on computer of the key holder.",
    ]
    .map(String::from)
    .to_vec()
}

/// Sizes of everything.
pub(super) fn sizes(sizes: Sizes, account: &Account) -> Vec<SizeRow> {
    let row = |what: &str, bytes: u64, note: &str| SizeRow {
        what: what.into(),
        bytes,
        note: note.into(),
    };
    let reply = account.queries.first().map_or(0, |query| query.bytes);
    let mut rows = vec![
        row(
            "query (one encrypted image)",
            sizes.query,
            "key holder to evaluator",
        ),
        row("reply (encrypted scores)", reply, "evaluator to key holder"),
        row("evaluation keys", sizes.evaluation, "evaluator, sent once"),
        row("secret key", sizes.secret, "key holder only"),
        row("compiled model", sizes.program, "both"),
    ];
    if let Some(peak) = account.peak_memory_bytes {
        rows.push(row("evaluator's memory at most", peak, "evaluator"));
    }
    rows
}

/// Time of each step from the evaluator, noise from the key holder.
pub(super) fn steps(account: &Account, probes: &[Probe]) -> Vec<StepResult> {
    let step = |time: &crate::evaluator::StepTime| {
        let probe = probes.iter().find(|probe| probe.step == time.step);
        StepResult {
            layer: time.layer.clone(),
            operation: time.operation.clone(),
            milliseconds: time.milliseconds,
            limbs: probe.map_or(0, |probe| probe.limbs),
            log_modulus: probe.map_or(0.0, |probe| probe.log_modulus),
            log_scale: probe.map_or(0.0, |probe| probe.log_scale),
            slot_error: probe.map(|probe| probe.slot_error),
            precision_bits: probe.map(Probe::precision_bits),
            room_bits: probe.map(Probe::room_bits),
        }
    };
    account.steps.iter().map(step).collect()
}
