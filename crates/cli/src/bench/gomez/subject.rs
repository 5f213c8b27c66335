//! The networks of the group: trained ones from a folder, or ones of the same form with random
//! weights, compiled with encrypted weights.

use std::path::PathBuf;
use std::rc::Rc;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use scuro_nn::activation::Replacement;
use scuro_nn::graph::{Graph, Part};
use scuro_nn::tensor::Tensor;
use scuro_train::architectures::{Activation, architecture};

use crate::bench::case::Settings;
use crate::compiled::{self, CompileArguments, Compiled, EncryptChoice, SchemeChoice, Source};
use crate::errors::Failure;
use crate::inputs::{self, InputArguments};
use crate::privacy::DecryptorChoice;

/// Seed of random weights and inputs.
const SEED: u64 = 2019;
/// Random inputs that ranges are calibrated on.
const RANDOM_INPUTS: usize = 256;
/// Random numbers behind the features of one input.
const CAUSES: usize = 32;
/// Inputs that a subject keeps.
const INPUTS: usize = 32;

/// What is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Network {
    /// 2304-512-modified square-10, the classifier of `cifar10_cnn`.
    Classifier,
    /// The same without an activation.
    NoActivation,
    /// 512-10.
    LastLayer,
    /// The MNIST network of CryptoNets, whole.
    CryptoNets,
    /// `cifar10_cnn` with averages and quadratic activations, whole.
    WholeCifar10,
}

impl Network {
    /// As in the names of cases.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Classifier => "classifier",
            Self::NoActivation => "no-activation",
            Self::LastLayer => "last-layer",
            Self::CryptoNets => "cryptonets",
            Self::WholeCifar10 => "cifar10-cnn",
        }
    }

    /// The file in the folder of models.
    fn file(self) -> Option<&'static str> {
        match self {
            Self::Classifier | Self::LastLayer => Some("cifar10-cnn-modified-square.onnx"),
            Self::NoActivation => Some("cifar10-cnn-none.onnx"),
            Self::WholeCifar10 => Some("cifar10-he.onnx"),
            Self::CryptoNets => None,
        }
    }

    fn encrypted(self) -> EncryptChoice {
        match self {
            Self::Classifier | Self::NoActivation => EncryptChoice::Classifier,
            Self::LastLayer => EncryptChoice::Last,
            Self::CryptoNets | Self::WholeCifar10 => EncryptChoice::All,
        }
    }
}

/// Arithmetic of the ciphertexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// Approximate.
    Ckks,
    /// Exact.
    Bgv,
}

impl Scheme {
    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ckks => "CKKS",
            Self::Bgv => "BGV",
        }
    }
}

/// One network under one protection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    /// What is evaluated.
    pub(super) network: Network,
    /// Whether weights are encrypted, or inputs only.
    pub(super) private: bool,
    /// Arithmetic.
    pub(super) scheme: Scheme,
    /// 128, 192 or 256.
    pub(super) security: u32,
    /// Images that share a query.
    pub(super) images: usize,
    /// Who decrypts.
    pub(super) decryptor: DecryptorChoice,
}

impl Point {
    /// A network with encrypted weights.
    pub(super) const fn private(network: Network, scheme: Scheme, security: u32) -> Self {
        Self {
            network,
            private: true,
            scheme,
            security,
            images: 1,
            decryptor: DecryptorChoice::Owner,
        }
    }

    /// The same with replies that hide the weights from who decrypts.
    pub(super) const fn flooded(self) -> Self {
        let decryptor = DecryptorChoice::Other;
        Self { decryptor, ..self }
    }

    /// The same with several images a query.
    pub(super) const fn shared_by(self, images: usize) -> Self {
        Self { images, ..self }
    }

    /// The compiler's arguments.
    pub(super) fn arguments(self) -> CompileArguments {
        CompileArguments {
            encrypt: self.private.then(|| self.network.encrypted()),
            scheme: Some(match self.scheme {
                Scheme::Ckks => SchemeChoice::Ckks,
                Scheme::Bgv => SchemeChoice::Bgv,
            }),
            images_per_query: self.images,
            decryptor: self.decryptor,
            ..CompileArguments::standard(self.security)
        }
    }
}

/// A compiled network and inputs for it.
#[derive(Debug)]
pub(super) struct Subject {
    /// With its weights, to be encrypted.
    pub(super) compiled: Compiled,
    /// Inputs of the program.
    pub(super) inputs: Vec<Vec<f32>>,
    /// Where weights and inputs are from.
    pub(super) origin: String,
    /// Whether the layers are one affine map, which alone is encrypted.
    affine: bool,
}

impl Subject {
    /// Compiles the network of `point`; the one compiled last is kept.
    pub(super) fn get(settings: &Settings<'_>, point: Point) -> Result<Rc<Self>, Failure> {
        let kept = settings.gomez.subject.borrow().clone();
        if let Some((_, subject)) = kept.filter(|(known, _)| *known == point) {
            return Ok(subject);
        }
        // Freed first: two of the largest at a time would be gigabytes.
        *settings.gomez.subject.borrow_mut() = None;
        let subject = Rc::new(Self::new(settings, point)?);
        *settings.gomez.subject.borrow_mut() = Some((point, Rc::clone(&subject)));
        Ok(subject)
    }

    fn new(settings: &Settings<'_>, point: Point) -> Result<Self, Failure> {
        let arguments = point.arguments();
        let subject = match (point.network, trained(settings, point.network)) {
            (Network::CryptoNets, _) => Self::cryptonets(settings, &arguments),
            (_, Some(path)) => Self::trained(settings, path, &arguments),
            (network, None) => Self::random(network, &arguments),
        };
        Ok(Self {
            affine: point.network == Network::NoActivation,
            ..subject?
        })
    }

    /// 32-bit floats of the weights that are encrypted.
    pub(super) fn float_bytes(&self) -> Result<f64, Failure> {
        let program = self.compiled.model.program();
        let (inputs, outputs) = (program.input.elements(), program.output.addresses.len());
        let graph = self.compiled.graph.as_ref();
        let graph =
            graph.ok_or_else(|| Failure::internal("a subject is compiled from a network"))?;
        let floats = match self.affine {
            true => (inputs + 1) * outputs / program.input.examples as usize,
            false => graph.totals()?.parameters,
        };
        Ok((4 * floats) as f64)
    }

    /// Parameters and origin, for notes.
    pub(super) fn describe(&self) -> String {
        format!("{}; {}", self.parameters(), self.origin)
    }

    /// Ring, primes, bits of modulus and how many the level of security allows.
    pub(super) fn parameters(&self) -> String {
        let parameters = self.compiled.model.context().parameters();
        let plan = &self.compiled.model.program().parameters;
        format!(
            "N = {}, {} + {} primes, log2 QP = {:.1} of {}",
            parameters.n(),
            plan.q_bits.len(),
            plan.p_bits.len(),
            parameters.log_qp(),
            parameters.log_qp_bound()
        )
    }

    fn cryptonets(settings: &Settings<'_>, arguments: &CompileArguments) -> Result<Self, Failure> {
        let source = match &settings.cryptonets {
            Some(path) => Source::File {
                path,
                architecture: None,
            },
            None => Source::BuiltIn,
        };
        let data = inputs::digits(settings.context, INPUTS)?;
        Self::compile(settings, source.network()?, data, arguments)
    }

    fn trained(
        settings: &Settings<'_>,
        path: PathBuf,
        arguments: &CompileArguments,
    ) -> Result<Self, Failure> {
        let graph = inputs::load_network(&path, None)?;
        let data = inputs::load(settings.context, "cifar10:test", Some(INPUTS))?;
        Self::compile(settings, graph, data, arguments)
    }

    fn compile(
        settings: &Settings<'_>,
        graph: Graph,
        data: scuro_nn::data::Dataset,
        arguments: &CompileArguments,
    ) -> Result<Self, Failure> {
        let input = InputArguments::default();
        let origin = format!("trained network {}", graph.name);
        let compiled = compiled::compile(settings.context, graph, None, &input, arguments)?;
        let examples = compiled.examples(data)?;
        Ok(Self {
            inputs: (0..examples.len()).map(|i| examples.input(i)).collect(),
            compiled,
            origin,
            affine: false,
        })
    }

    fn random(network: Network, arguments: &CompileArguments) -> Result<Self, Failure> {
        let graph = untrained(network)?;
        let inputs = random_inputs(network, graph.input_shape())?;
        let compilation = scuro_compiler::compile(&graph, &arguments.options()?, &inputs)?;
        let inputs = inputs.into_iter().take(INPUTS).map(|tensor| tensor.data);
        Ok(Self {
            inputs: inputs.collect(),
            compiled: Compiled::new(compilation, graph)?,
            origin: "a network of this form with random weights".into(),
            affine: false,
        })
    }
}

/// The trained network, if there is a folder with it.
fn trained(settings: &Settings<'_>, network: Network) -> Option<PathBuf> {
    let path = settings.models.as_ref()?.join(network.file()?);
    path.is_file().then_some(path)
}

/// A network with random weights.
fn untrained(network: Network) -> Result<Graph, Failure> {
    if network == Network::WholeCifar10 {
        return Ok(architecture("cifar10-he", None, SEED)?.graph);
    }
    let (part, activation) = match network {
        Network::LastLayer => (Part::LastLayer, None),
        Network::NoActivation => {
            let none = Activation::Replaced(Replacement::None);
            (Part::Classifier, Some(none))
        }
        _ => (Part::Classifier, None),
    };
    let graph = architecture("cifar10-cnn", activation, SEED)?.graph;
    let cut = graph.input_of(part);
    let cut = cut.ok_or_else(|| Failure::internal("cifar10-cnn ends in dense layers"))?;
    Ok(graph.split(cut)?.1)
}

/// Pixels in `[0, 1]`, or what a ReLU leaves of a few causes that show in all features: those of
/// images go together too, and the compiler makes use of it.
fn random_inputs(network: Network, shape: &[usize]) -> Result<Vec<Tensor>, Failure> {
    let mut rng = ChaCha20Rng::seed_from_u64(SEED);
    let count: usize = shape.iter().product();
    let mut values = |count: usize, lowest: f32| -> Vec<f32> {
        let unit = |_| rng.next_u32() as f32 / u32::MAX as f32;
        let unit = (0..count).map(unit);
        unit.map(|unit| lowest + (1.0 - lowest) * unit).collect()
    };
    let mixing = values(count * CAUSES, -1.0);
    let mut input = |_| {
        let data = match network {
            Network::WholeCifar10 => values(count, 0.0),
            _ => {
                let causes = values(CAUSES, -1.0);
                let mixed = |row: &[f32]| row.iter().zip(&causes).map(|(m, c)| m * c).sum();
                let mixed = mixing.chunks(CAUSES).map(|row| f32::max(mixed(row), 0.0));
                mixed.collect()
            }
        };
        Ok(Tensor::new(shape.to_vec(), data)?)
    };
    (0..RANDOM_INPUTS).map(&mut input).collect()
}
