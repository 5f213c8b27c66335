//! Figures of other tools, for the eye beside our own.
//!
//! Measured on 2026-11-20 on a 2-core AMD Zen 5 virtual machine (AVX-512 with IFMA, about 4.1 GHz),
//! one thread, processor time, minimum of at least five samples. On another machine read them as
//! ratios.
// tidy: catalogue

use super::case::Peer;

const ZEN5: &str = "measured 2026-11-20, AMD Zen 5 at 4.1 GHz, one thread, CPU time, minimum";
const ZEN5_MULTI: &str = "measured 2026-11-20, AMD Zen 5 at 4.1 GHz, minimum of two runs";
const PAPER: &str = "published: nGraph-HE2 (2019), many-core server";
const LOLA: &str = "published: LoLa (README of CryptoNets), Azure B8ms, 76.3 % right";
const CONCRETE: &str =
    "published: Concrete ML use case, m6i.metal with 128 virtual processors, 86.0 % right";

/// (case, tool, value in the unit of the case, source)
const FIGURES: &[(&str, &str, f64, &str)] = &[
    ("he.ntt.n8192", "tfhe-ntt 0.7.1 (IFMA)", 5.9, ZEN5),
    ("he.ntt.n8192", "SEAL 4.4.3 + HEXL 1.2.6", 7.0, ZEN5),
    ("he.ntt.n8192", "Lattigo 6.2", 57.6, ZEN5),
    ("he.ntt.n16384", "tfhe-ntt 0.7.1 (IFMA)", 13.1, ZEN5),
    ("he.ntt.n16384", "SEAL 4.4.3 + HEXL 1.2.6", 15.3, ZEN5),
    ("he.ntt.n16384", "Lattigo 6.2", 124.0, ZEN5),
    ("he.ntt.n32768", "tfhe-ntt 0.7.1 (IFMA)", 27.8, ZEN5),
    ("he.ntt.n32768", "SEAL 4.4.3 + HEXL 1.2.6", 28.8, ZEN5),
    ("he.ntt.n32768", "Lattigo 6.2", 260.0, ZEN5),
    ("he.rotate.n8192", "SEAL 4.4.3 + HEXL 1.2.6", 0.609, ZEN5),
    ("he.rotate.n8192", "Lattigo 6.2", 2.936, ZEN5),
    ("he.rotate.n8192", "OpenFHE 1.6.1", 3.490, ZEN5),
    ("he.rotate.n16384", "SEAL 4.4.3 + HEXL 1.2.6", 5.542, ZEN5),
    ("he.rotate.n16384", "Lattigo 6.2", 18.121, ZEN5),
    (
        "he.relinearize.n8192",
        "SEAL 4.4.3 + HEXL 1.2.6",
        0.576,
        ZEN5,
    ),
    ("he.relinearize.n8192", "Lattigo 6.2", 2.925, ZEN5),
    (
        "he.relinearize.n16384",
        "SEAL 4.4.3 + HEXL 1.2.6",
        5.399,
        ZEN5,
    ),
    ("he.relinearize.n16384", "Lattigo 6.2", 18.076, ZEN5),
    ("he.rotate-hoisted.n8192", "Lattigo 6.2", 1.049, ZEN5),
    ("he.rotate-hoisted.n8192", "OpenFHE 1.6.1", 1.651, ZEN5),
    ("he.multiply.n8192", "SEAL 4.4.3 + HEXL 1.2.6", 28.3, ZEN5),
    ("he.multiply.n8192", "Lattigo 6.2", 168.0, ZEN5),
    (
        "he.inner-product.n8192",
        "SEAL 4.4.3 + HEXL 1.2.6 (single products)",
        28.3,
        ZEN5,
    ),
    ("he.rescale.n8192", "SEAL 4.4.3 + HEXL 1.2.6", 92.8, ZEN5),
    ("he.encode.n8192", "SEAL 4.4.3 + HEXL 1.2.6", 164.0, ZEN5),
    ("he.encode.n8192", "Lattigo 6.2", 491.0, ZEN5),
    ("he.decode.n8192", "SEAL 4.4.3 + HEXL 1.2.6", 579.0, ZEN5),
    ("he.decode.n8192", "Lattigo 6.2", 3396.0, ZEN5),
    (
        "he.encrypt-secret.n8192",
        "SEAL 4.4.3 + HEXL 1.2.6",
        715.0,
        ZEN5,
    ),
    ("he.encrypt-secret.n8192", "Lattigo 6.2", 1715.0, ZEN5),
    (
        "he.bfv-multiply.n8192",
        "SEAL 4.4.3 + HEXL 1.2.6",
        4.5,
        ZEN5,
    ),
    (
        "he.bfv-multiply.n16384",
        "SEAL 4.4.3 + HEXL 1.2.6",
        20.9,
        ZEN5,
    ),
    (
        "he.bgv-multiply.n8192",
        "SEAL 4.4.3 + HEXL 1.2.6",
        28.3,
        ZEN5,
    ),
    (
        "mnist.cryptonets.latency",
        "hand-packed SEAL 4.4.3 + HEXL 1.2.6",
        24.1,
        ZEN5,
    ),
    (
        "mnist.cryptonets.latency",
        "Orion 1.0.2 + Lattigo (LoLA variant)",
        219.0,
        ZEN5,
    ),
    (
        "mnist.cryptonets.latency",
        "TenSEAL 0.3.18 (tutorial network)",
        2471.0,
        ZEN5,
    ),
    (
        "mnist.cryptonets.keys",
        "hand-packed SEAL 4.4.3 + HEXL 1.2.6",
        137.0,
        ZEN5,
    ),
    (
        "mnist.cryptonets.keys",
        "TenSEAL 0.3.18 (tutorial network)",
        92.0,
        ZEN5,
    ),
    (
        "mnist.cryptonets.query",
        "TenSEAL 0.3.18 (tutorial network)",
        466.0,
        ZEN5,
    ),
    (
        "mnist.cryptonets.query",
        "hand-packed SEAL 4.4.3 + HEXL 1.2.6",
        5376.0,
        ZEN5,
    ),
    ("mnist.batch.rate", "nGraph-HE2, batch 8192", 1998.0, PAPER),
    (
        "mnist.lenet.latency",
        "Orion 1.0.2 + Lattigo",
        2439.0,
        ZEN5_MULTI,
    ),
    (
        "mnist.lenet.memory",
        "Orion 1.0.2 + Lattigo",
        9318.0,
        ZEN5_MULTI,
    ),
    (
        "gomez.classifier.ckks.128.latency",
        "hand-packed SEAL 4.4.3 + HEXL 1.2.6",
        114.0,
        ZEN5,
    ),
    (
        "gomez.classifier.ckks.128.latency",
        "SEAL's BFV examples, HEXL, 50-bit t",
        18_200.0,
        ZEN5,
    ),
    (
        "gomez.classifier.bgv.128.latency",
        "hand-packed SEAL 4.4.3 + HEXL 1.2.6, 20-bit t",
        71.0,
        ZEN5,
    ),
    (
        "gomez.classifier.bgv.128.latency",
        "SEAL's BFV examples, HEXL, 20-bit t",
        6900.0,
        ZEN5,
    ),
    (
        "gomez.classifier.bgv.128.latency",
        "SEAL's BFV examples, HEXL, 50-bit t",
        18_200.0,
        ZEN5,
    ),
    (
        "gomez.last-layer.ckks.128.latency",
        "hand-packed SEAL 4.4.3 + HEXL 1.2.6",
        4.2,
        ZEN5,
    ),
    (
        "gomez.last-layer.ckks.128.latency",
        "TenSEAL 0.3.18, ten dot products",
        192.0,
        ZEN5,
    ),
    (
        "gomez.last-layer.bgv.128.latency",
        "hand-packed SEAL 4.4.3 + HEXL 1.2.6",
        4.2,
        ZEN5,
    ),
    (
        "gomez.last-layer.bgv.128.latency",
        "SEAL's BFV examples, HEXL",
        1340.0,
        ZEN5,
    ),
    (
        "gomez.classifier.ckks.128.memory",
        "hand-packed SEAL 4.4.3 + HEXL 1.2.6",
        468.7,
        ZEN5,
    ),
    (
        "gomez.classifier.bgv.128.memory",
        "hand-packed SEAL 4.4.3 + HEXL 1.2.6",
        339.7,
        ZEN5,
    ),
    (
        "gomez.cryptonets.ckks.128.latency",
        "hand-packed SEAL 4.4.3 + HEXL 1.2.6",
        33.0,
        ZEN5,
    ),
    (
        "gomez.cifar10-cnn.plain.latency",
        "LoLa-CIFAR (another network)",
        750_000.0,
        LOLA,
    ),
    (
        "gomez.cifar10-cnn.plain.latency",
        "Concrete ML VGG, 128 cores",
        40_000.0,
        CONCRETE,
    ),
];

/// The figures for a case.
pub(super) fn of(id: &str) -> Vec<Peer> {
    let peer = |(_, name, value, source): &(&str, &str, f64, &str)| Peer {
        name: (*name).to_string(),
        value: *value,
        source: (*source).to_string(),
    };
    let measured = FIGURES.iter().filter(|figure| figure.0 == id).map(peer);
    measured.chain(super::gomez::peer(id)).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_figure_belongs_to_a_case() {
        for figure in super::FIGURES {
            assert!(
                crate::bench::all().any(|case| case.id == figure.0),
                "no case {}",
                figure.0
            );
        }
    }
}
