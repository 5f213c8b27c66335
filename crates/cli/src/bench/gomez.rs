//! Encrypted models: the figures of Gomez, Wilhelm, Márquez, Duverger 2019, and what is asked
//! beyond them.
// tidy: catalogue

pub(super) mod edge;
mod measure;
mod published;
mod score;
mod sheets;
mod subject;
mod tables;

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use super::case::{Better, Case};
use crate::errors::Failure;
use crate::scoring::Mode;
use crate::verbs::accuracy::Score;
use measure::{decryption, latency, latency_plain, memory, size, throughput};
use score::{Data, Integers, agreement, exact, exact_loss, loss, whole, whole_loss};
use subject::Network::{self, Classifier, CryptoNets, LastLayer, NoActivation, WholeCifar10};
use subject::{Point, Scheme, Subject};

pub(super) use published::peer;
pub(crate) use sheets::sheets;
pub(crate) use tables::{KIND, Tables, measure_all};

/// Name of the group.
pub(crate) const GROUP: &str = "gomez";
/// Cases of another group that say how fast the machine is, and those of its figures that are asked
/// for here.
pub(super) const REFERENCES: [&str; 4] = [
    "he.ntt.n8192",
    "he.rotate.n8192",
    "he.bfv-multiply.n8192",
    "he.bfv-multiply.n16384",
];

/// What cases share: compiling takes seconds, scoring minutes.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// The network that was compiled last.
    subject: RefCell<Option<(Point, Rc<Subject>)>>,
    /// Encrypted scorings of classifiers.
    scores: RefCell<Vec<(Data, Score)>>,
    /// Scorings of the integer reference.
    integers: RefCell<Vec<(Data, Integers)>>,
    /// The run of vault and device as processes.
    edge: OnceCell<Result<edge::Run, Failure>>,
}

const fn ckks(network: Network, security: u32) -> Point {
    Point::private(network, Scheme::Ckks, security)
}

const fn bgv(network: Network, security: u32) -> Point {
    Point::private(network, Scheme::Bgv, security)
}

/// Images a query where as many images a second as possible are wanted.
const SHARED: usize = 16;

const WHOLE: Point = ckks(WholeCifar10, 128);
const WHOLE_PLAIN: Point = Point {
    private: false,
    ..WHOLE
};

/// All cases of the group.
pub(super) const CASES: &[Case] = &[
    Case::lower(
        "gomez.classifier.ckks.128.latency",
        "2304-512-act-10, weights and input encrypted",
        "ms",
        14.0,
        |s| latency(s, ckks(Classifier, 128)),
    ),
    Case::lower(
        "gomez.classifier.ckks.192.latency",
        "2304-512-act-10, weights and input encrypted",
        "ms",
        20.0,
        |s| latency(s, ckks(Classifier, 192)),
    ),
    Case::lower(
        "gomez.classifier.ckks.256.latency",
        "2304-512-act-10, weights and input encrypted",
        "ms",
        20.0,
        |s| latency(s, ckks(Classifier, 256)),
    ),
    Case::lower(
        "gomez.classifier.bgv.128.latency",
        "2304-512-act-10, weights and input encrypted",
        "ms",
        40.0,
        |s| latency(s, bgv(Classifier, 128)),
    ),
    Case::lower(
        "gomez.classifier.bgv.192.latency",
        "2304-512-act-10, weights and input encrypted",
        "ms",
        65.0,
        |s| latency(s, bgv(Classifier, 192)),
    ),
    Case::lower(
        "gomez.classifier.bgv.256.latency",
        "2304-512-act-10, weights and input encrypted",
        "ms",
        65.0,
        |s| latency(s, bgv(Classifier, 256)),
    ),
    Case::untargeted(
        "gomez.classifier.bgv.128.latency-flooded",
        "2304-512-act-10, replies hide the weights from who decrypts",
        "ms",
        |s| latency(s, bgv(Classifier, 128).flooded()),
    ),
    Case::untargeted(
        "gomez.no-activation.ckks.128.latency",
        "2304-512-10, weights and input encrypted",
        "ms",
        |s| latency(s, ckks(NoActivation, 128)),
    ),
    Case::untargeted(
        "gomez.no-activation.ckks.192.latency",
        "2304-512-10, weights and input encrypted",
        "ms",
        |s| latency(s, ckks(NoActivation, 192)),
    ),
    Case::untargeted(
        "gomez.no-activation.ckks.256.latency",
        "2304-512-10, weights and input encrypted",
        "ms",
        |s| latency(s, ckks(NoActivation, 256)),
    ),
    Case::untargeted(
        "gomez.no-activation.bgv.128.latency",
        "2304-512-10, weights and input encrypted",
        "ms",
        |s| latency(s, bgv(NoActivation, 128)),
    ),
    Case::untargeted(
        "gomez.no-activation.bgv.192.latency",
        "2304-512-10, weights and input encrypted",
        "ms",
        |s| latency(s, bgv(NoActivation, 192)),
    ),
    Case::untargeted(
        "gomez.no-activation.bgv.256.latency",
        "2304-512-10, weights and input encrypted",
        "ms",
        |s| latency(s, bgv(NoActivation, 256)),
    ),
    Case::lower(
        "gomez.last-layer.ckks.128.latency",
        "512-10, weights and input encrypted",
        "ms",
        1.2,
        |s| latency(s, ckks(LastLayer, 128)),
    ),
    Case::untargeted(
        "gomez.last-layer.ckks.192.latency",
        "512-10, weights and input encrypted",
        "ms",
        |s| latency(s, ckks(LastLayer, 192)),
    ),
    Case::untargeted(
        "gomez.last-layer.ckks.256.latency",
        "512-10, weights and input encrypted",
        "ms",
        |s| latency(s, ckks(LastLayer, 256)),
    ),
    Case::lower(
        "gomez.last-layer.bgv.128.latency",
        "512-10, weights and input encrypted",
        "ms",
        1.2,
        |s| latency(s, bgv(LastLayer, 128)),
    ),
    Case::untargeted(
        "gomez.last-layer.bgv.192.latency",
        "512-10, weights and input encrypted",
        "ms",
        |s| latency(s, bgv(LastLayer, 192)),
    ),
    Case::untargeted(
        "gomez.last-layer.bgv.256.latency",
        "512-10, weights and input encrypted",
        "ms",
        |s| latency(s, bgv(LastLayer, 256)),
    ),
    Case::untargeted(
        "gomez.classifier.ckks.128.latency-plain",
        "2304-512-act-10, features in clear",
        "ms",
        |s| latency_plain(s, ckks(Classifier, 128)),
    ),
    Case::untargeted(
        "gomez.classifier.ckks.192.latency-plain",
        "2304-512-act-10, features in clear",
        "ms",
        |s| latency_plain(s, ckks(Classifier, 192)),
    ),
    Case::untargeted(
        "gomez.classifier.ckks.256.latency-plain",
        "2304-512-act-10, features in clear",
        "ms",
        |s| latency_plain(s, ckks(Classifier, 256)),
    ),
    Case::untargeted(
        "gomez.classifier.bgv.128.latency-plain",
        "2304-512-act-10, features in clear",
        "ms",
        |s| latency_plain(s, bgv(Classifier, 128)),
    ),
    Case::untargeted(
        "gomez.classifier.bgv.192.latency-plain",
        "2304-512-act-10, features in clear",
        "ms",
        |s| latency_plain(s, bgv(Classifier, 192)),
    ),
    Case::untargeted(
        "gomez.classifier.bgv.256.latency-plain",
        "2304-512-act-10, features in clear",
        "ms",
        |s| latency_plain(s, bgv(Classifier, 256)),
    ),
    Case::untargeted(
        "gomez.no-activation.ckks.128.latency-plain",
        "2304-512-10, features in clear",
        "ms",
        |s| latency_plain(s, ckks(NoActivation, 128)),
    ),
    Case::untargeted(
        "gomez.no-activation.ckks.192.latency-plain",
        "2304-512-10, features in clear",
        "ms",
        |s| latency_plain(s, ckks(NoActivation, 192)),
    ),
    Case::untargeted(
        "gomez.no-activation.ckks.256.latency-plain",
        "2304-512-10, features in clear",
        "ms",
        |s| latency_plain(s, ckks(NoActivation, 256)),
    ),
    Case::untargeted(
        "gomez.no-activation.bgv.128.latency-plain",
        "2304-512-10, features in clear",
        "ms",
        |s| latency_plain(s, bgv(NoActivation, 128)),
    ),
    Case::untargeted(
        "gomez.no-activation.bgv.192.latency-plain",
        "2304-512-10, features in clear",
        "ms",
        |s| latency_plain(s, bgv(NoActivation, 192)),
    ),
    Case::untargeted(
        "gomez.no-activation.bgv.256.latency-plain",
        "2304-512-10, features in clear",
        "ms",
        |s| latency_plain(s, bgv(NoActivation, 256)),
    ),
    Case::untargeted(
        "gomez.last-layer.ckks.128.latency-plain",
        "512-10, features in clear",
        "ms",
        |s| latency_plain(s, ckks(LastLayer, 128)),
    ),
    Case::untargeted(
        "gomez.last-layer.ckks.192.latency-plain",
        "512-10, features in clear",
        "ms",
        |s| latency_plain(s, ckks(LastLayer, 192)),
    ),
    Case::untargeted(
        "gomez.last-layer.ckks.256.latency-plain",
        "512-10, features in clear",
        "ms",
        |s| latency_plain(s, ckks(LastLayer, 256)),
    ),
    Case::untargeted(
        "gomez.last-layer.bgv.128.latency-plain",
        "512-10, features in clear",
        "ms",
        |s| latency_plain(s, bgv(LastLayer, 128)),
    ),
    Case::untargeted(
        "gomez.last-layer.bgv.192.latency-plain",
        "512-10, features in clear",
        "ms",
        |s| latency_plain(s, bgv(LastLayer, 192)),
    ),
    Case::untargeted(
        "gomez.last-layer.bgv.256.latency-plain",
        "512-10, features in clear",
        "ms",
        |s| latency_plain(s, bgv(LastLayer, 256)),
    ),
    Case::lower(
        "gomez.classifier.ckks.128.size",
        "encrypted weights on disk",
        "x float32",
        5.0,
        |s| size(s, ckks(Classifier, 128)),
    ),
    Case::lower(
        "gomez.classifier.ckks.128.memory",
        "evaluator, peak",
        "MB",
        250.0,
        |s| memory(s, ckks(Classifier, 128)),
    ),
    Case::lower(
        "gomez.classifier.ckks.128.decrypt",
        "reply to scores",
        "ms",
        1.0,
        |s| decryption(s, ckks(Classifier, 128)),
    ),
    Case::untargeted(
        "gomez.classifier.ckks.192.size",
        "encrypted weights on disk",
        "x float32",
        |s| size(s, ckks(Classifier, 192)),
    ),
    Case::untargeted(
        "gomez.classifier.ckks.192.memory",
        "evaluator, peak",
        "MB",
        |s| memory(s, ckks(Classifier, 192)),
    ),
    Case::lower(
        "gomez.classifier.ckks.192.decrypt",
        "reply to scores",
        "ms",
        1.0,
        |s| decryption(s, ckks(Classifier, 192)),
    ),
    Case::untargeted(
        "gomez.classifier.ckks.256.size",
        "encrypted weights on disk",
        "x float32",
        |s| size(s, ckks(Classifier, 256)),
    ),
    Case::untargeted(
        "gomez.classifier.ckks.256.memory",
        "evaluator, peak",
        "MB",
        |s| memory(s, ckks(Classifier, 256)),
    ),
    Case::lower(
        "gomez.classifier.ckks.256.decrypt",
        "reply to scores",
        "ms",
        1.0,
        |s| decryption(s, ckks(Classifier, 256)),
    ),
    Case::lower(
        "gomez.classifier.bgv.128.size",
        "encrypted weights on disk",
        "x float32",
        5.0,
        |s| size(s, bgv(Classifier, 128)),
    ),
    Case::lower(
        "gomez.classifier.bgv.128.memory",
        "evaluator, peak",
        "MB",
        250.0,
        |s| memory(s, bgv(Classifier, 128)),
    ),
    Case::lower(
        "gomez.classifier.bgv.128.decrypt",
        "reply to scores",
        "ms",
        1.0,
        |s| decryption(s, bgv(Classifier, 128)),
    ),
    Case::untargeted(
        "gomez.classifier.bgv.192.size",
        "encrypted weights on disk",
        "x float32",
        |s| size(s, bgv(Classifier, 192)),
    ),
    Case::untargeted(
        "gomez.classifier.bgv.192.memory",
        "evaluator, peak",
        "MB",
        |s| memory(s, bgv(Classifier, 192)),
    ),
    Case::lower(
        "gomez.classifier.bgv.192.decrypt",
        "reply to scores",
        "ms",
        1.0,
        |s| decryption(s, bgv(Classifier, 192)),
    ),
    Case::untargeted(
        "gomez.classifier.bgv.256.size",
        "encrypted weights on disk",
        "x float32",
        |s| size(s, bgv(Classifier, 256)),
    ),
    Case::untargeted(
        "gomez.classifier.bgv.256.memory",
        "evaluator, peak",
        "MB",
        |s| memory(s, bgv(Classifier, 256)),
    ),
    Case::lower(
        "gomez.classifier.bgv.256.decrypt",
        "reply to scores",
        "ms",
        1.0,
        |s| decryption(s, bgv(Classifier, 256)),
    ),
    Case::higher(
        "gomez.classifier.ckks.128.rate",
        "weights encrypted, 16 images a query",
        "images/s",
        150.0,
        |s| throughput(s, ckks(Classifier, 128).shared_by(SHARED)),
    ),
    Case::higher(
        "gomez.classifier.bgv.128.rate",
        "weights encrypted, 16 images a query",
        "images/s",
        150.0,
        |s| throughput(s, bgv(Classifier, 128).shared_by(SHARED)),
    ),
    Case::untargeted(
        "gomez.classifier.ckks.128.rate-1",
        "weights encrypted, one image a query",
        "images/s",
        |s| throughput(s, ckks(Classifier, 128).shared_by(1)),
    ),
    Case::untargeted(
        "gomez.classifier.ckks.128.rate-4",
        "weights encrypted, 4 images a query",
        "images/s",
        |s| throughput(s, ckks(Classifier, 128).shared_by(4)),
    ),
    Case::untargeted(
        "gomez.classifier.ckks.128.rate-8",
        "weights encrypted, 8 images a query",
        "images/s",
        |s| throughput(s, ckks(Classifier, 128).shared_by(8)),
    ),
    Case::lower(
        "gomez.cryptonets.ckks.128.latency",
        "every weight encrypted",
        "ms",
        12.0,
        |s| latency(s, ckks(CryptoNets, 128)),
    ),
    Case::higher(
        "gomez.mnist.ckks.128.agreement",
        "encrypted classifier = clear answer",
        "share",
        0.999,
        |s| agreement(s, Data::Mnist),
    ),
    Case::lower(
        "gomez.mnist.ckks.128.loss",
        "accuracy below the float network",
        "points",
        0.5,
        |s| loss(s, Data::Mnist),
    ),
    Case::higher(
        "gomez.mnist.bgv.128.exact",
        "logits = integer reference",
        "share",
        1.0,
        |s| exact(s, Data::Mnist),
    ),
    Case::lower(
        "gomez.mnist.bgv.128.loss",
        "accuracy below the float network",
        "points",
        0.5,
        |s| exact_loss(s, Data::Mnist),
    ),
    Case::higher(
        "gomez.cifar10.ckks.128.agreement",
        "encrypted classifier = clear answer",
        "share",
        0.999,
        |s| agreement(s, Data::Cifar10),
    ),
    Case::lower(
        "gomez.cifar10.ckks.128.loss",
        "accuracy below the float network",
        "points",
        2.0,
        |s| loss(s, Data::Cifar10),
    ),
    Case::higher(
        "gomez.cifar10.bgv.128.exact",
        "logits = integer reference",
        "share",
        1.0,
        |s| exact(s, Data::Cifar10),
    ),
    Case::lower(
        "gomez.cifar10.bgv.128.loss",
        "accuracy below the float network",
        "points",
        2.0,
        |s| exact_loss(s, Data::Cifar10),
    ),
    Case::lower(
        "gomez.cifar10-cnn.plain.latency",
        "whole network, image encrypted",
        "ms",
        400.0,
        |s| latency(s, WHOLE_PLAIN),
    ),
    Case::lower(
        "gomez.cifar10-cnn.plain.memory",
        "evaluator, peak",
        "MB",
        6000.0,
        |s| memory(s, WHOLE_PLAIN),
    ),
    Case::higher(
        "gomez.cifar10-cnn.plain.agreement",
        "= clear answer; 1000 images with --full",
        "share",
        1.0,
        |s| whole(s, WHOLE_PLAIN, Mode::Encrypted),
    ),
    Case::higher(
        "gomez.cifar10-cnn.plain.simulated",
        "= clear answer; all images with --full",
        "share",
        1.0,
        |s| whole(s, WHOLE_PLAIN, Mode::Simulate),
    ),
    Case::lower(
        "gomez.cifar10-cnn.encrypted.latency",
        "whole network, every weight encrypted",
        "ms",
        800.0,
        |s| latency(s, WHOLE),
    ),
    Case::lower(
        "gomez.cifar10-cnn.encrypted.memory",
        "evaluator, peak",
        "MB",
        6000.0,
        |s| memory(s, WHOLE),
    ),
    Case::higher(
        "gomez.cifar10-cnn.encrypted.agreement",
        "= clear answer; 1000 images with --full",
        "share",
        1.0,
        |s| whole(s, WHOLE, Mode::Encrypted),
    ),
    Case::higher(
        "gomez.cifar10-cnn.encrypted.simulated",
        "= clear answer; all images with --full",
        "share",
        1.0,
        |s| whole(s, WHOLE, Mode::Simulate),
    ),
    Case::lower(
        "gomez.cifar10-cnn.loss",
        "accuracy below ReLU and max-pool",
        "points",
        2.0,
        whole_loss,
    ),
    Case {
        better: Better::Higher,
        ..Case::untargeted(
            "gomez.edge.rate",
            "frames with a label out, queue full, loopback",
            "frames/s",
            edge::rate,
        )
    },
    Case::untargeted(
        "gomez.edge.latency.p50",
        "frame in to label out, 80 % of the rate",
        "ms",
        |s| edge::latency(s, 0.5),
    ),
    Case::untargeted(
        "gomez.edge.latency.p99",
        "frame in to label out, 80 % of the rate",
        "ms",
        |s| edge::latency(s, 0.99),
    ),
    Case::lower(
        "gomez.edge.lost",
        "device and vault killed; 10,000 frames with --full",
        "frames",
        0.0,
        edge::lost,
    ),
    Case::lower(
        "gomez.edge.twice",
        "answers beyond one a frame, in the same run",
        "answers",
        0.0,
        edge::twice,
    ),
    Case::higher(
        "gomez.edge.agreement",
        "labels out = clear answer, in the same run",
        "share",
        0.999,
        edge::agreement,
    ),
];
