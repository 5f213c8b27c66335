//! Figures of others for the same classifier.
//!
//! The paper's text as we have it gives no table for the encryption of the model: only that its
//! size grows by a factor of 8.22 in the best case.

use crate::bench::case::Peer;

/// What the paper's tables give for one variant at one level of security.
#[derive(Debug, Clone, Copy)]
pub(super) struct Published {
    /// Features in clear: seconds, megabytes, bits of noise budget left.
    pub(super) plain: [f64; 3],
    /// Features encrypted: the same.
    pub(super) sealed: [f64; 3],
    /// Decryption: seconds, megabytes.
    pub(super) decryption: [f64; 2],
}

/// How much larger the paper's encrypted model is, at best.
pub(super) const PAPER_SIZE_FACTOR: f64 = 8.22;
const PAPER: &str =
    "published: Gomez et al. 2019, SEAL of 2018 (BGV), Jetson TX2; decryption DGX-1";

/// Networks in the order of the paper's tables.
pub(super) const NETWORKS: [&str; 3] = ["classifier", "no-activation", "last-layer"];
/// Levels in the order of the paper's tables.
pub(super) const LEVELS: [u32; 3] = [128, 192, 256];

const fn published(plain: [f64; 3], sealed: [f64; 3], decryption: [f64; 2]) -> Published {
    Published {
        plain,
        sealed,
        decryption,
    }
}

/// Tables 1, 2 and 3 of the paper: `[network][level]`.
const TABLES: [[Published; 3]; 3] = [
    [
        published(
            [287.2, 4683.1, 221.6],
            [2902.6, 5047.8, 206.0],
            [2.9, 963.8],
        ),
        published([174.6, 2924.3, 80.2], [1048.6, 5809.0, 65.0], [1.7, 397.4]),
        published(
            [1221.3, 4899.2, 88.8],
            [5627.0, 4906.0, 76.0],
            [3.2, 2062.5],
        ),
    ],
    [
        published([43.7, 1162.5, 91.4], [367.1, 2314.8, 79.0], [0.6, 123.4]),
        published([32.9, 869.2, 23.8], [272.2, 1733.7, 11.0], [0.6, 73.4]),
        published([90.2, 2342.3, 16.2], [835.9, 4644.5, 3.0], [1.0, 267.1]),
    ],
    [
        published([2.1, 53.9, 58.8], [19.2, 119.5, 45.0], [0.2, 17.8]),
        published([2.1, 54.0, 20.2], [19.2, 118.5, 10.0], [0.1, 17.8]),
        published([4.5, 117.7, 60.2], [40.2, 253.0, 52.0], [0.2, 38.7]),
    ],
];

/// The paper's figures for a network of this name.
pub(super) fn of(network: &str, security: u32) -> Option<Published> {
    let row = NETWORKS.iter().position(|name| *name == network)?;
    let column = LEVELS.iter().position(|level| *level == security)?;
    Some(TABLES[row][column])
}

/// The paper's figure for a case, in the case's unit.
pub(in crate::bench) fn peer(id: &str) -> Option<Peer> {
    let parts: Vec<&str> = id.split('.').collect();
    let ["gomez", network, _, security, what] = parts[..] else {
        return None;
    };
    let paper = of(network, security.parse().ok()?)?;
    let value = match what {
        "latency" => paper.sealed[0] * 1e3,
        "latency-plain" => paper.plain[0] * 1e3,
        "memory" => paper.sealed[1],
        "decrypt" => paper.decryption[0] * 1e3,
        "size" => PAPER_SIZE_FACTOR,
        _ => return None,
    };
    Some(Peer {
        name: "Gomez et al. 2019".into(),
        value,
        source: PAPER.into(),
    })
}

/// One program on Microsoft SEAL 4.4.3 with HEXL 1.2.6 for the same classifier at 128 bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seal {
    /// Network and way of writing it.
    pub(super) what: &'static str,
    /// Milliseconds, weights and features encrypted.
    pub(super) milliseconds: f64,
    /// MiB of encrypted weights, if known.
    pub(super) weights: Option<f64>,
    /// MiB of the process, if known.
    pub(super) memory: Option<f64>,
    /// Bits of noise budget left, if known.
    pub(super) budget: Option<f64>,
}

const fn seal(
    what: &'static str,
    milliseconds: f64,
    weights: Option<f64>,
    memory: Option<f64>,
    budget: Option<f64>,
) -> Seal {
    Seal {
        what,
        milliseconds,
        weights,
        memory,
        budget,
    }
}

/// Measured on 2026-11-20 on an AMD Zen 5 at 4.1 GHz, one thread, processor time, minimum.
pub(super) const SEAL: [Seal; 6] = [
    seal(
        "classifier, CKKS, hand-packed",
        114.0,
        Some(257.0),
        Some(447.0),
        None,
    ),
    seal(
        "classifier, BGV (20-bit t), hand-packed",
        71.0,
        Some(128.0),
        Some(324.0),
        Some(6.0),
    ),
    seal(
        "classifier, BFV (20-bit t), as in its examples",
        6900.0,
        Some(256.0),
        None,
        Some(46.0),
    ),
    seal(
        "classifier, BFV (50-bit t), as in its examples",
        18_200.0,
        Some(512.0),
        None,
        Some(137.0),
    ),
    seal(
        "last layer, CKKS or BGV, hand-packed",
        4.2,
        None,
        None,
        None,
    ),
    seal(
        "last layer, BFV, as in its examples",
        1340.0,
        None,
        None,
        None,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_quote_the_papers_figure_in_their_own_unit() {
        let value = |id: &str| peer(id).map(|peer| peer.value);
        assert_eq!(
            value("gomez.classifier.ckks.128.latency"),
            Some(2_902_600.0)
        );
        assert_eq!(
            value("gomez.last-layer.bgv.256.latency-plain"),
            Some(4500.0)
        );
        assert_eq!(value("gomez.no-activation.ckks.192.decrypt"), Some(600.0));
        assert_eq!(value("gomez.classifier.ckks.128.rate"), None);
        assert_eq!(value("gomez.cryptonets.ckks.128.latency"), None);
        assert_eq!(value("he.ntt.n8192"), None);
    }
}
