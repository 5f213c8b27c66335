//! The tables as cells, for the terminal and for the page.

use super::published::{self, PAPER_SIZE_FACTOR, SEAL};
use super::subject::{Network, Scheme};
use super::tables::{Processing, Row, Tables, Usage};
use crate::units::significant;

/// One table.
#[derive(Debug)]
pub(crate) struct Sheet {
    /// Heading.
    pub(crate) title: &'static str,
    /// A sentence or two.
    pub(crate) lead: String,
    /// Column heads.
    pub(crate) heads: Vec<&'static str>,
    /// Cells.
    pub(crate) rows: Vec<Vec<String>>,
}

const NONE: &str = "–";
const PROCESSING: [&str; 11] = [
    "network",
    "scheme",
    "bits",
    "ms",
    "MB",
    "bits of room",
    "bits above noise",
    "paper, s",
    "paper, MB",
    "paper, budget",
    "times faster",
];

/// The tables, in the paper's order.
pub(crate) fn sheets(tables: &Tables) -> Vec<Sheet> {
    vec![
        protection(tables),
        processing(tables, Features::Clear),
        processing(tables, Features::Sealed),
        decryption(tables),
        seal(tables),
    ]
}

fn names(row: &Row) -> Vec<String> {
    let bits = row.security.to_string();
    vec![row.network.clone(), row.scheme.clone(), bits]
}

fn usage(usage: Usage) -> [String; 2] {
    [significant(usage.milliseconds), optional(usage.memory_mb)]
}

fn optional(value: Option<f64>) -> String {
    value.map_or(NONE.into(), significant)
}

fn protection(tables: &Tables) -> Sheet {
    let row = |row: &Row| {
        let mut cells = names(row);
        cells.extend(usage(row.protection));
        cells.push(significant(row.weights_mb));
        cells.push(significant(row.weights_factor));
        cells.push(significant(PAPER_SIZE_FACTOR));
        cells.push(row.parameters.clone());
        cells
    };
    let lead = format!(
        "Keys made, weights encrypted: {}. The paper's own table is not in the text that we have, \
         but for the best factor. Without an activation the two dense layers are one affine map \
         of 2304 values to 10, and that is what is encrypted.",
        origins(tables)
    );
    Sheet {
        title: "Model encryption",
        lead,
        heads: vec![
            "network",
            "scheme",
            "bits",
            "ms",
            "MB",
            "MB on disk",
            "x float32",
            "paper at best",
            "parameters",
        ],
        rows: tables.rows.iter().map(row).collect(),
    }
}

/// Where the networks are from, each once.
fn origins(tables: &Tables) -> String {
    let mut origins: Vec<&str> = tables.rows.iter().map(|row| &*row.origin).collect();
    origins.sort_unstable();
    origins.dedup();
    origins.join(", ")
}

/// How the features arrive.
#[derive(Clone, Copy)]
enum Features {
    Clear,
    Sealed,
}

fn processing(tables: &Tables, features: Features) -> Sheet {
    let row = |row: &Row| {
        let ours: Processing = match features {
            Features::Clear => row.plain,
            Features::Sealed => row.sealed,
        };
        let paper = published::of(&row.network, row.security).map(|paper| match features {
            Features::Clear => paper.plain,
            Features::Sealed => paper.sealed,
        });
        let mut cells = names(row);
        cells.extend(usage(ours.usage));
        cells.push(format!("{:.1}", ours.room_bits));
        cells.push(format!("{:.1}", ours.precision_bits));
        cells.extend((0..3).map(|i| optional(paper.map(|paper| paper[i]))));
        let same = paper.filter(|_| row.network != Network::NoActivation.name());
        let faster = same.map(|paper| paper[0] * 1e3 / ours.usage.milliseconds);
        cells.push(faster.map_or(NONE.into(), |factor| format!("{factor:.0}")));
        cells
    };
    let (title, lead) = match features {
        Features::Clear => ("Processing, features in clear", "The paper's table 1. "),
        Features::Sealed => ("Processing, features encrypted", "The paper's table 2. "),
    };
    let lead = format!(
        "{lead}Room: bits of modulus that the reply leaves free before it overflows, the budget of \
         approximate arithmetic. The paper's budget is that of BGV, on another machine. Without \
         an activation it computes both layers, we their product: no factor is given."
    );
    Sheet {
        title,
        lead,
        heads: PROCESSING.to_vec(),
        rows: tables.rows.iter().map(row).collect(),
    }
}

fn decryption(tables: &Tables) -> Sheet {
    let row = |row: &Row| {
        let paper = published::of(&row.network, row.security);
        let mut cells = names(row);
        cells.extend(usage(row.decryption));
        cells.push(optional(paper.map(|paper| paper.decryption[0])));
        cells.push(optional(paper.map(|paper| paper.decryption[1])));
        cells
    };
    Sheet {
        title: "Decryption",
        lead: "The paper's table 3.".into(),
        heads: vec![
            "network",
            "scheme",
            "bits",
            "ms",
            "MB",
            "paper, s",
            "paper, MB",
        ],
        rows: tables.rows.iter().map(row).collect(),
    }
}

/// The noise budget of exact replies; approximate ones have none.
fn budget(row: &Row) -> String {
    match row.scheme == Scheme::Bgv.name() {
        true => format!("{:.1}", row.sealed.room_bits),
        false => NONE.into(),
    }
}

fn seal(tables: &Tables) -> Sheet {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let at_128 = |row: &&Row| row.security == 128 && row.network != "no-activation";
    for row in tables.rows.iter().filter(at_128) {
        rows.push(vec![
            format!("Scuro: {}, {}", row.network, row.scheme),
            significant(row.sealed.usage.milliseconds),
            significant(row.weights_mb),
            optional(row.sealed.usage.memory_mb),
            budget(row),
        ]);
    }
    let megabytes = |mebibytes: Option<f64>| optional(mebibytes.map(|m| m * 1.048_576));
    rows.extend(SEAL.iter().map(|seal| {
        vec![
            format!("SEAL + HEXL: {}", seal.what),
            significant(seal.milliseconds),
            megabytes(seal.weights),
            megabytes(seal.memory),
            optional(seal.budget),
        ]
    }));
    Sheet {
        title: "Beside Microsoft SEAL at 128 bits, features encrypted",
        lead: "SEAL 4.4.3 with HEXL 1.2.6, measured on 2026-11-20 on an AMD Zen 5 at 4.1 GHz: on \
               another machine read its times as ratios. Its weights are in memory or written out, \
               ours are seeded on disk."
            .into(),
        heads: vec![
            "program",
            "ms",
            "MB of weights",
            "MB of process",
            "bits of budget",
        ],
        rows,
    }
}
