//! From a model file to a compiled model: the steps that `plan`, `compile`, `simulate`, `accuracy`,
//! `predict` and `demo` share.

use std::path::{Path, PathBuf};

use scuro_client::Model;
use scuro_compiler::activations::Replacement;
use scuro_compiler::{Arithmetic, Compilation, Options, Rotations};
use scuro_nn::data::{Dataset, Preprocess};
use scuro_nn::graph::{Graph, NodeId, Part};
use scuro_nn::tensor::Tensor;
use scuro_program::{MAGIC, Packing, Program, Ring, SecurityTable, Weights};

use crate::context::Context;
use crate::errors::{At, Failure};
use crate::files;
use crate::inputs::{self, Examples, InputArguments};
use crate::membership::MembershipArguments;
use crate::privacy::{self, DecryptorChoice, FloodingChoice};
use crate::progress::Progress;

/// Images that calibrate the ranges, unless `--calibration` says otherwise.
const CALIBRATION_IMAGES: usize = 4096;

/// How images are packed into ciphertexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum PackingChoice {
    /// One image in as few ciphertexts as possible: lowest latency.
    #[default]
    Image,
    /// As many images as slots, one ciphertext a pixel: highest throughput.
    Batch,
}

/// Ring of the ciphertexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum RingChoice {
    /// Conjugate-invariant: N real slots.
    #[default]
    Real,
    /// Power-of-two cyclotomic: N / 2 complex slots.
    Standard,
}

/// Table that certifies the parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum TableChoice {
    /// Security guidelines of 2024.
    #[default]
    #[value(name = "2024")]
    Guideline2024,
    /// HomomorphicEncryption.org standard of 2018.
    #[value(name = "2018")]
    Standard2018,
}

/// Arithmetic on ciphertexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SchemeChoice {
    /// Real numbers with a small error.
    Ckks,
    /// Fixed-point numbers as integers modulo a prime, without any error.
    Bgv,
    /// The same with products that need no small primes; plain weights only.
    Bfv,
}

impl SchemeChoice {
    /// That a contract is of this scheme.
    fn check(self, contract: Option<&Program>) -> Result<(), Failure> {
        let asked = match self {
            Self::Ckks => "CKKS",
            Self::Bgv => "BGV",
            Self::Bfv => "BFV",
        };
        match contract.map(|face| face.parameters.scheme.name()) {
            Some(found) if found != asked => {
                let message = format!("--scheme: {asked} asked for, the contract is of {found}");
                Err(Failure::bad_input("ensemble.contract", message)
                    .hint("leave --scheme out: the contract says"))
            }
            _ => Ok(()),
        }
    }
}

/// Which weights are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum EncryptChoice {
    /// Those of the last layer; what comes before runs in clear.
    Last,
    /// Those of the dense layers at the end; what comes before runs in clear.
    Classifier,
    /// All of them.
    All,
}

impl EncryptChoice {
    /// The word of the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Classifier => "classifier",
            Self::All => "all",
        }
    }

    /// The network that runs in clear, if any, and the one whose weights are encrypted.
    fn split(self, graph: &Graph) -> Result<(Option<Graph>, Graph), Failure> {
        let part = match self {
            Self::All => return Ok((None, graph.clone())),
            Self::Last => Part::LastLayer,
            Self::Classifier => Part::Classifier,
        };
        let Some(cut) = graph.input_of(part) else {
            let message = format!(
                "`--encrypt {}`: {} has no single value that this part depends on",
                self.name(),
                graph.name
            );
            let failure = Failure::bad_input("encrypt.no-cut", message);
            return Err(failure.hint("encrypt every weight with --encrypt all"));
        };
        if cut == NodeId(0) {
            return Ok((None, graph.clone()));
        }
        let (features, classifier) = graph.split(cut)?;
        Ok((Some(features), classifier))
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a share between 0 and 1".into()),
    }
}

/// Arguments of a compilation.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CompileArguments {
    /// Bits of security: 128, 192 or 256.
    #[arg(long, default_value_t = 128, value_parser = security_level)]
    pub(crate) security: u32,
    /// Table that certifies the parameters.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) table: TableChoice,
    /// How images are packed into ciphertexts.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) packing: PackingChoice,
    /// Arithmetic on ciphertexts [default: ckks; bgv where replies are flooded].
    #[arg(long, value_enum)]
    pub(crate) scheme: Option<SchemeChoice>,
    /// Images that share a query, a power of two: less time an image, more memory for weights.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub(crate) images_per_query: usize,
    /// Ring of the ciphertexts.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) ring: RingChoice,
    /// log2 of the ring degree [default: the cheapest that fits].
    #[arg(long, value_name = "BITS")]
    pub(crate) log_n: Option<u32>,
    /// Factor between the ranges seen and the ranges allowed.
    #[arg(long, value_name = "FACTOR")]
    pub(crate) margin: Option<f64>,
    /// How many times more precise than usual the scores must be: larger parameters where needed.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = positive)]
    pub(crate) precision: f64,
    /// Exact scheme: share of the calibration images that must keep their answer when the network
    /// is rounded to integers; larger parameters where needed.
    #[arg(
        long,
        value_name = "SHARE",
        default_value_t = Options::default().agreement,
        value_parser = share
    )]
    pub(crate) agreement: f64,
    /// Replace ReLU, sigmoid and tanh by polynomials of this degree, fitted on the calibration
    /// data.
    #[arg(long, value_name = "DEGREE")]
    pub(crate) approximate: Option<usize>,
    /// Encrypt weights too; layers before them run in clear.
    #[arg(long, value_name = "LAYERS", value_enum)]
    pub(crate) encrypt: Option<EncryptChoice>,
    /// Who decrypts: if not the model owner, replies are flooded.
    #[arg(long, value_name = "ROLE", value_enum, default_value_t)]
    pub(crate) decryptor: DecryptorChoice,
    /// How strongly replies hide the weights: off, statistical:BITS, relaxed:BITS:DECRYPTIONS or
    /// estimated:BITS:DECRYPTIONS [default: by the role and the scheme].
    #[arg(long, value_name = "HOW")]
    pub(crate) flooding: Option<FloodingChoice>,
    /// Most rotation keys: fewer take less memory and more time [default: as many as are fastest].
    #[arg(long, value_name = "COUNT")]
    pub(crate) galois_budget: Option<usize>,
    #[command(flatten)]
    pub(crate) membership: MembershipArguments,
    /// Images that calibrate the ranges.
    #[arg(long, value_name = "COUNT", default_value_t = CALIBRATION_IMAGES)]
    pub(crate) calibration: usize,
}

/// With fewer answers kept than this, people are told.
const USUAL_AGREEMENT: f64 = 0.99;

fn security_level(text: &str) -> Result<u32, String> {
    match text {
        "128" => Ok(128),
        "192" => Ok(192),
        "256" => Ok(256),
        _ => Err("128, 192 or 256".into()),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(factor) if f64::is_finite(factor) && factor > 0.0 => Ok(factor),
        _ => Err("a number above 0".into()),
    }
}

impl CompileArguments {
    /// The arguments as `scuro demo` uses them.
    pub(crate) fn standard(security: u32) -> Self {
        Self {
            security,
            table: TableChoice::default(),
            packing: PackingChoice::default(),
            scheme: None,
            images_per_query: 1,
            ring: RingChoice::default(),
            log_n: None,
            margin: None,
            precision: 1.0,
            agreement: Options::default().agreement,
            approximate: None,
            encrypt: None,
            decryptor: DecryptorChoice::default(),
            flooding: None,
            galois_budget: None,
            membership: MembershipArguments::default(),
            calibration: CALIBRATION_IMAGES,
        }
    }

    /// That an ensemble's users have nothing to run in clear.
    fn check_layers(&self) -> Result<(), Failure> {
        match self.encrypt {
            Some(EncryptChoice::Last | EncryptChoice::Classifier)
                if self.membership.is_member() =>
            {
                let message = "layers that run in clear: users of an ensemble encrypt images";
                Err(Failure::bad_input("ensemble.network", message)
                    .hint("encrypt every weight with --encrypt all"))
            }
            _ => Ok(()),
        }
    }

    /// The same for the compiler.
    ///
    /// # Errors
    /// A contract that cannot be read.
    pub(crate) fn options(&self) -> Result<Options, Failure> {
        let usual = Options::default();
        let flooding = match self.flooding {
            None if self.membership.is_member() => {
                let exact = |scheme| scheme != SchemeChoice::Ckks;
                self.membership.flooding(self.scheme.is_some_and(exact))
            }
            asked => privacy::flooding(self.decryptor, asked),
        };
        // Flooding costs approximate numbers their precision; integers have only been rounded.
        let scheme = self.scheme.unwrap_or(match flooding {
            Some(flooding) if flooding.is_worst_case() => SchemeChoice::Bgv,
            _ => SchemeChoice::Ckks,
        });
        let ensemble = self.membership.ensemble()?;
        if let (Some(asked), Some(ensemble)) = (self.scheme, &ensemble) {
            asked.check(ensemble.face.as_deref())?;
        }
        Ok(Options {
            packing: match self.packing {
                PackingChoice::Image => Packing::SingleImage,
                PackingChoice::Batch => Packing::Batch,
            },
            images_per_query: self.images_per_query,
            security_bits: self.security,
            table: match self.table {
                TableChoice::Guideline2024 => SecurityTable::Guideline2024,
                TableChoice::Standard2018 => SecurityTable::Standard2018,
            },
            arithmetic: match scheme {
                SchemeChoice::Ckks => Arithmetic::Approximate,
                SchemeChoice::Bgv => Arithmetic::Exact,
                SchemeChoice::Bfv => Arithmetic::ScaleInvariant,
            },
            ring: match self.ring {
                RingChoice::Real => Ring::ConjugateInvariant,
                RingChoice::Standard => Ring::Standard,
            },
            log_n: self.log_n,
            range_margin: self.margin.unwrap_or(usual.range_margin),
            tolerance: usual.tolerance / self.precision,
            agreement: self.agreement,
            weights: match self.encrypt {
                Some(_) => Weights::Private,
                None => Weights::Plain,
            },
            flooding,
            rotations: self
                .galois_budget
                .map_or(Rotations::Free, Rotations::Budget),
            replace: self.approximate.map(|degree| Replacement { degree }),
            ensemble,
            ..usual
        })
    }
}

/// A compiled model ready for use.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// Program and parameters.
    pub(crate) model: Model,
    /// How pixels become inputs.
    pub(crate) preprocess: Preprocess,
    /// What the compiler predicts; absent for a program read from a file.
    pub(crate) compilation: Option<Compilation>,
    /// The network that the program computes, unless only the program was given.
    pub(crate) graph: Option<Graph>,
    /// The layers before it, which run in clear.
    pub(crate) features: Option<Graph>,
}

impl Compiled {
    /// A network as it was compiled, whose inputs are not images or need no preprocessing.
    pub(crate) fn new(compilation: Compilation, graph: Graph) -> Result<Self, Failure> {
        Ok(Self {
            model: Model::new(compilation.program.clone())?,
            preprocess: Preprocess::default(),
            compilation: Some(compilation),
            graph: Some(graph),
            features: None,
        })
    }

    /// The inputs of the program for the images of a data set.
    pub(crate) fn examples(&self, data: Dataset) -> Result<Examples, Failure> {
        match &self.features {
            Some(features) => {
                let images = Examples::new(data, &self.preprocess, features.input_shape())?;
                images.with_features(features)
            }
            None => Examples::new(data, &self.preprocess, &self.image_shape()),
        }
    }

    /// Shape of one image.
    pub(crate) fn image_shape(&self) -> Vec<usize> {
        match &self.features {
            Some(features) => features.input_shape().to_vec(),
            None => {
                let shape = &self.model.program().input.shape;
                shape.iter().map(|&extent| extent as usize).collect()
            }
        }
    }

    /// The input of the program for a preprocessed image.
    pub(crate) fn input(&self, image: &[f32]) -> Result<Vec<f32>, Failure> {
        match &self.features {
            Some(features) => {
                let image = Tensor::new(self.image_shape(), image.to_vec())?;
                Ok(scuro_nn::reference::run(features, &image)?.data)
            }
            None => Ok(image.to_vec()),
        }
    }
}

/// Where a model comes from.
#[derive(Debug, Clone)]
pub(crate) enum Source<'a> {
    /// A network or compiled program on disk.
    File {
        /// The file.
        path: &'a Path,
        /// Architecture of a safetensors file.
        architecture: Option<&'a Path>,
    },
    /// The demo's network.
    BuiltIn,
}

/// The network that is part of the binary.
pub(crate) const BUILT_IN: &[u8] = include_bytes!("../assets/demo-cryptonets.onnx");

impl Source<'_> {
    /// The network.
    pub(crate) fn network(&self) -> Result<Graph, Failure> {
        match self {
            Source::File { path, architecture } => inputs::load_network(path, *architecture),
            Source::BuiltIn => Ok(scuro_nn::import::onnx::from_bytes(BUILT_IN)?),
        }
    }
}

/// Opens a compiled program, or compiles a network with the calibration data `data`.
pub(crate) fn open(
    context: &Context,
    source: &Source<'_>,
    data: Option<&str>,
    input: &InputArguments,
    arguments: &CompileArguments,
) -> Result<Compiled, Failure> {
    if let Source::File { path, .. } = source
        && let Some(program) = read_program(path)?
    {
        return from_program(program, input).at(path.display());
    }
    let graph = source.network()?;
    compile(context, graph, data, input, arguments)
}

/// The program in a file, or nothing if the file is something else.
pub(crate) fn read_program(path: &Path) -> Result<Option<Program>, Failure> {
    let bytes = files::read(path)?;
    if !bytes.starts_with(&MAGIC) {
        return Ok(None);
    }
    Program::from_bytes(&bytes).map(Some).at(path.display())
}

/// Opens a compiled model that must be one.
pub(crate) fn open_model(path: &Path) -> Result<Compiled, Failure> {
    let bytes = files::read(path)?;
    let program = Program::from_bytes(&bytes).at(path.display())?;
    from_program(program, &InputArguments::default()).at(path.display())
}

/// A program as a compiled model, with the preprocessing that it notes unless `input` says other.
pub(crate) fn from_program(program: Program, input: &InputArguments) -> Result<Compiled, Failure> {
    let noted = Preprocess::from_notes(|key| program.note(key))?;
    let preprocess = input.preprocess(Some(&noted));
    Ok(Compiled {
        model: Model::new(program)?,
        preprocess,
        compilation: None,
        graph: None,
        features: None,
    })
}

/// Compiles a network.
pub(crate) fn compile(
    context: &Context,
    mut graph: Graph,
    data: Option<&str>,
    input: &InputArguments,
    arguments: &CompileArguments,
) -> Result<Compiled, Failure> {
    input.check_resize(graph.input_shape())?;
    let preprocess = input.preprocess(graph.preprocess.as_ref());
    // What is written of the network notes what holds, not what its file did.
    graph.preprocess = Some(preprocess.clone());
    let images = calibration_images(context, data, &graph, &preprocess, arguments.calibration)?;
    arguments.check_layers()?;
    let (features, graph) = match arguments.encrypt {
        Some(choice) => choice.split(&graph)?,
        None => (None, graph),
    };
    let images = match &features {
        Some(features) => images.with_features(features)?,
        None => images,
    };
    let tensors = images.tensors(images.len())?;
    let spinner = Progress::spinner(context, "compiling");
    let mut options = arguments.options()?;
    if let Some(warning) = privacy::warning(arguments.decryptor, options.flooding) {
        context.note(warning);
    }
    if features.is_some() || preprocess.standardize.is_some() {
        options.input_range = Some(open_range(&tensors, options.range_margin));
    }
    let mut compilation = scuro_compiler::compile(&graph, &options, &tensors)?;
    drop(spinner);
    if let Some(share) = compilation
        .report
        .agreement
        .filter(|&share| share < USUAL_AGREEMENT)
    {
        context.note(format!(
            "rounded to integers, the network keeps its answer on {:.1} % of the calibration \
             images; --precision or --agreement ask for more, --scheme ckks does not round",
            100.0 * share
        ));
    }
    note_preprocess(&mut compilation.program, &preprocess, &images);
    let membership = &arguments.membership;
    membership.note_classes(&mut compilation.program, &images.data)?;
    let compiled = Compiled::new(compilation, graph)?;
    membership.check(&compiled.model)?;
    Ok(Compiled {
        preprocess,
        features,
        ..compiled
    })
}

/// The range of features or standardised images that a program takes: that of the calibration data
/// times the margin. Pixels have bounds of their own; these go as far as the next image takes them.
fn open_range(tensors: &[Tensor], margin: f64) -> (f32, f32) {
    let values = || tensors.iter().flat_map(|tensor| &tensor.data);
    let lowest = values().copied().fold(0.0, f32::min);
    let highest = values().copied().fold(0.0, f32::max);
    (lowest * margin as f32, highest * margin as f32)
}

/// The named data, its training part unless a part is named, or the training part of whatever fits
/// the network: MNIST or CIFAR-10 if present, else generated.
fn calibration_images(
    context: &Context,
    data: Option<&str>,
    graph: &Graph,
    preprocess: &Preprocess,
    count: usize,
) -> Result<Examples, Failure> {
    let named = |name: &str| {
        let data = inputs::load(context, name, Some(count))?;
        Examples::new(data, preprocess, graph.input_shape())
    };
    if let Some(name) = data {
        let training = match name.contains(':') {
            true => None,
            false => inputs::training_part(context, name),
        };
        return named(training.as_deref().unwrap_or(name));
    }
    let colour = graph.input_shape().contains(&3) || graph.input_shape() == [3072];
    let usual = if colour {
        "cifar10:train"
    } else {
        "mnist:train"
    };
    match named(usual) {
        Ok(images) => Ok(images),
        Err(failure) if !colour => {
            context.detail(format!("{failure}: calibrating on generated digits"));
            named("generated:train")
        }
        Err(failure) => Err(failure),
    }
}

/// Which images the ranges come from.
pub(crate) const NOTE_CALIBRATION: &str = "calibration";

/// Writes the preprocessing into the program, so that `encrypt` and `predict` need no flags.
fn note_preprocess(program: &mut Program, preprocess: &Preprocess, images: &Examples) {
    let calibration = format!("{} images of {}", images.len(), images.data.name);
    program.notes.extend(preprocess.to_notes());
    program
        .notes
        .push((NOTE_CALIBRATION.to_string(), calibration));
}

/// Arguments that name a model.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ModelArguments {
    /// Network (.onnx, .h5, .keras, .safetensors) or compiled model (.scuro).
    pub(crate) model: PathBuf,
    /// Architecture file of a .safetensors model.
    #[arg(long, value_name = "FILE")]
    pub(crate) architecture: Option<PathBuf>,
}

impl ModelArguments {
    /// The model's place.
    pub(crate) fn source(&self) -> Source<'_> {
        Source::File {
            path: &self.model,
            architecture: self.architecture.as_deref(),
        }
    }
}
