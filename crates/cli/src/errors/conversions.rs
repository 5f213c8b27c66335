//! Typed errors of the crates below -> failure with exit code, stable code and hint.
// tidy: catalogue

use scuro_client::{BundleError, Error as ClientError};
use scuro_compiler::CompileError;
use scuro_ensemble::Error as EnsembleError;
use scuro_fhe::Error as FheError;
use scuro_fhe::codec::CodecError;
use scuro_nn::Error as NetworkError;
use scuro_nn::error::DataFault;
use scuro_polyring::Error as RingError;
use scuro_program::ProgramError;
use scuro_runtime::RuntimeError;
use scuro_server::Error as ServerError;
use scuro_server::ensemble::Fault;
use scuro_train::Error as TrainError;
use scuro_wire::WireError;

use super::{Exit, Failure};

/// Hint for keys that a model needs and a file lacks.
const KEYGEN: &str = "make the keys for this model: `scuro keygen model.scuro --out keys/`";
/// Hint for files that were damaged on the way.
const DAMAGED: &str = "the file is damaged or incomplete: copy or make it again";
/// Hint for a file of rules that is none, or lacks one.
const RULES: &str = "make one with `scuro ensemble train`";
/// Hint for files of another release.
const OTHER_VERSION: &str = "it was made by another version of Scuro: make it again with this one";
/// Hint for keys and ciphertexts that do not belong together.
const OTHER_KEYS: &str =
    "use the keys, query and reply of one `scuro keygen` run for this very model";

impl From<NetworkError> for Failure {
    fn from(error: NetworkError) -> Self {
        let text = error.to_string();
        let fault = match &error {
            NetworkError::Model { source, .. } => source,
            other => other,
        };
        let (code, hint) = match fault {
            NetworkError::UnsupportedOp { .. } | NetworkError::UnsupportedAttribute { .. } => (
                "network.unsupported",
                "change that layer as the message says and export the model again",
            ),
            NetworkError::DataNotFound { .. } => (
                "data.not-found",
                "fetch it with `scuro data fetch NAME`, pass --data-dir, or use --data generated",
            ),
            NetworkError::UnknownData { .. } => ("data.unknown", "see `scuro data list`"),
            NetworkError::NoDigit { .. } => (
                "input.no-digit",
                "take the picture closer and in even light, one digit on plain paper",
            ),
            NetworkError::DataFile {
                fault: DataFault::Picture { .. },
                ..
            } => ("input.picture", "give a PNG or JPEG picture"),
            NetworkError::DataFile { .. } => ("data.damaged", "fetch it again: `scuro data fetch`"),
            NetworkError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                ("file.not-found", "check the path")
            }
            NetworkError::Io { .. } => ("file.io", "check the path and its permissions"),
            NetworkError::UnknownFormat { .. } => (
                "file.unknown",
                "give a .onnx, .h5, .keras or .safetensors model, or a file that Scuro made",
            ),
            NetworkError::FileTooLarge { .. } => ("file.too-large", "is it the right file?"),
            NetworkError::ImageShape { .. } => (
                "input.shape",
                "choose the data set that the model was trained on",
            ),
            NetworkError::InputShape { .. } => ("input.shape", "check the input's size"),
            NetworkError::Normalisation { .. } => {
                ("input.normalisation", "give one value, or one a channel")
            }
            NetworkError::Classes { .. } => (
                "accuracy.classes",
                "choose the data set that the model was trained on",
            ),
            NetworkError::NothingToReplace { .. } => (
                "activation.none",
                "leave --replace out: only ReLU, sigmoid and tanh are replaced",
            ),
            NetworkError::Interval { .. } => (
                "activation.interval",
                "the network's values are not finite, or --interval is empty",
            ),
            NetworkError::Node { .. } => ("network.layer", "repair or re-export the model file"),
            _ => (
                "network.invalid",
                "re-export the model; `scuro inspect` shows what is read",
            ),
        };
        Self::bad_input(code, text).hint(hint)
    }
}

impl From<RingError> for Failure {
    fn from(error: RingError) -> Self {
        Self::bad_input("ring.invalid", error.to_string()).hint("choose another ring degree")
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        let text = error.to_string();
        match error {
            TrainError::Network(inner) => inner.into(),
            TrainError::Diverged { .. } => Self::new(Exit::JobFailed, "train.diverged", text)
                .hint("lower --lr, for example to a tenth"),
            TrainError::Threads { .. } => {
                Self::new(Exit::JobFailed, "train.threads", text).hint("pass --threads 1")
            }
            TrainError::UnknownSplit { .. } | TrainError::Holders { .. } => {
                Self::bad_input("train.split", text)
                    .hint("fewer --holders, more images, or another --split")
            }
            TrainError::ExampleShape { .. } => Self::bad_input("train.shape", text)
                .hint("choose data of the architecture's size: mnist or generated, cifar10"),
            _ => Self::bad_input("train.setting", text).hint("see `scuro train --help`"),
        }
    }
}

impl From<EnsembleError> for Failure {
    fn from(error: EnsembleError) -> Self {
        let text = error.to_string();
        let (code, hint) = match error {
            EnsembleError::Version { .. } => ("rules.version", OTHER_VERSION),
            EnsembleError::Malformed(_) | EnsembleError::TooMany { .. } => ("rules.invalid", RULES),
            EnsembleError::NotFitted { .. } => ("rules.not-fitted", RULES),
            EnsembleError::UnknownRule { .. } => {
                ("ensemble.rule", "choose one of those, for example mean")
            }
            EnsembleError::TooFewExamples { .. } => (
                "ensemble.held-out",
                "hold more out: --held-out 0.1, or more images",
            ),
            _ => (
                "ensemble.invalid",
                "use the rules and the networks of one `scuro ensemble train` run",
            ),
        };
        Self::bad_input(code, text).hint(hint)
    }
}

impl From<CompileError> for Failure {
    fn from(error: CompileError) -> Self {
        let text = error.to_string();
        let (code, hint) = match error {
            CompileError::Network(inner) => return inner.into(),
            CompileError::Program(_) => return Self::internal(text),
            CompileError::NotFinite { .. } => (
                "compile.not-finite",
                "the weights hold NaN: train again or repair the file",
            ),
            CompileError::NotFriendly(_) => (
                "compile.not-friendly",
                "cheapest: `--approximate 4` fits polynomials; best: train with square activations",
            ),
            CompileError::Overflow { .. } => (
                "compile.overflow",
                "train with a range penalty (the default of `scuro train`)",
            ),
            CompileError::TooDeep {
                security_bits,
                log_n,
                ..
            } => ("compile.too-deep", too_deep_hint(security_bits, log_n)),
            CompileError::ImagesPerQuery { .. } => (
                "compile.images-per-query",
                "pass --images-per-query 1, 2, 4 and so on up to 64",
            ),
            CompileError::TooNoisy { .. } => {
                ("compile.too-noisy", "a larger --log-n, or fewer layers")
            }
            CompileError::EncryptedWeights => {
                ("compile.encrypted-weights", "pass --scheme bgv, or ckks")
            }
            CompileError::Rounding { .. } => (
                "compile.rounding",
                "`scuro train --from` fine-tunes; --agreement asks for less",
            ),
            CompileError::TooNoisyToFlood { .. } => (
                "compile.flooding",
                "leave --scheme out: integers bear any flooding; or ask for fewer bits",
            ),
            CompileError::NoRoomToFlood { log_n, .. } => {
                ("compile.flooding", no_room_to_flood_hint(log_n))
            }
            CompileError::TooFewRotations { .. } => {
                ("compile.rotations", "a larger --galois-budget, or none")
            }
            CompileError::EnsembleRange { .. } => (
                "ensemble.range",
                "`scuro train` again with a range penalty, or a smaller --margin",
            ),
            CompileError::EnsembleKey { .. }
            | CompileError::RotationOutOfReach { .. }
            | CompileError::RotationLevel { .. } => (
                "ensemble.keys",
                "compile the network that needs most with --ensemble, the others with --contract",
            ),
            CompileError::EnsembleReply { .. }
            | CompileError::EnsembleLayout { .. }
            | CompileError::EnsembleShape { .. }
            | CompileError::EnsembleFace(_)
            | CompileError::EnsembleOption { .. } => (
                "ensemble.network",
                "holders of an ensemble classify the same images into the same classes",
            ),
            CompileError::CalibrationShape { .. } => (
                "compile.calibration",
                "choose data of the model's input size with --data",
            ),
            CompileError::InputRange { .. } => (
                "compile.input-range",
                "check --input-scale, --mean and --std",
            ),
            _ => ("compile.refused", "`scuro plan` shows what would fit"),
        };
        Self::bad_input(code, text).hint(hint)
    }
}

/// What makes room for flooding.
fn no_room_to_flood_hint(log_n: u32) -> &'static str {
    match log_n {
        ..16 => "a larger --log-n, fewer bits: --flooding statistical:20, or --decryptor owner",
        _ => "fewer bits, for example --flooding statistical:20, or --decryptor owner",
    }
}

/// What makes room for more multiplications.
fn too_deep_hint(security_bits: u32, log_n: u32) -> &'static str {
    match (security_bits, log_n) {
        (_, ..16) => "a larger --log-n (or none: the smallest that serves is found)",
        (129.., _) => "fewer activations, a lower --approximate, or --security 128",
        _ => "fewer activations, or a lower --approximate",
    }
}

impl From<ProgramError> for Failure {
    fn from(error: ProgramError) -> Self {
        let text = error.to_string();
        let (code, hint) = match error {
            ProgramError::WrongMagic { .. } => (
                "program.wrong-magic",
                "make one with `scuro compile model.onnx -o model.scuro`",
            ),
            ProgramError::WrongVersion { .. } => ("program.wrong-version", OTHER_VERSION),
            ProgramError::Truncated { .. } => ("program.truncated", DAMAGED),
            ProgramError::WrongDigest => ("program.damaged", DAMAGED),
            _ => ("program.invalid", "compile the model again"),
        };
        Self::bad_input(code, text).hint(hint)
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        let text = error.to_string();
        match error {
            RuntimeError::Program(inner) => inner.into(),
            RuntimeError::Fhe(inner) => inner.into(),
            RuntimeError::MissingRotationKey { .. } => {
                Self::bad_input("keys.missing-rotation", text).hint(KEYGEN)
            }
            RuntimeError::MissingRelinearizationKey { .. } | RuntimeError::MissingPublicKey => {
                Self::bad_input("keys.missing", text).hint(KEYGEN)
            }
            RuntimeError::Randomness { .. } => {
                Self::new(Exit::JobFailed, "random.unavailable", text)
                    .hint("check the machine: its operating system must provide randomness")
            }
            RuntimeError::Overflow { .. } => Self::new(Exit::JobFailed, "simulate.overflow", text)
                .hint("compile with calibration data like the input, or a larger --margin"),
            RuntimeError::PlainQuery { .. } => Self::bad_input("evaluate.plain-query", text)
                .hint("encrypt the input, or protect the model from its first layer on"),
            RuntimeError::Threads { .. } => {
                Self::new(Exit::JobFailed, "evaluate.threads", text).hint("pass --threads 1")
            }
            _ => Self::bad_input("evaluate.refused", text).hint(OTHER_KEYS),
        }
    }
}

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Self {
        let (code, hint) = match error {
            BundleError::WrongMagic => (
                "bundle.wrong-magic",
                "a query comes from `scuro encrypt`, a reply from `evaluate`",
            ),
            BundleError::WrongVersion { .. } => ("bundle.wrong-version", OTHER_VERSION),
            BundleError::Truncated { .. } => ("bundle.truncated", DAMAGED),
            BundleError::Checksum => ("bundle.damaged", DAMAGED),
            _ => ("bundle.invalid", DAMAGED),
        };
        Self::bad_input(code, error.to_string()).hint(hint)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let text = error.to_string();
        match error {
            ClientError::Program(inner) => inner.into(),
            ClientError::Bundle(inner) => inner.into(),
            ClientError::Fhe(inner) => inner.into(),
            ClientError::WrongProgram { .. } => {
                Self::new(Exit::Refused, "bundle.wrong-program", text).hint(OTHER_KEYS)
            }
            ClientError::WrongKind { .. } => Self::bad_input("bundle.wrong-kind", text)
                .hint("`evaluate` takes a query, `decrypt` takes a reply"),
            ClientError::SecurityLevel { .. } => {
                Self::new(Exit::Refused, "security.unknown-level", text)
                    .hint("compile the model again with --security 128, 192 or 256")
            }
            ClientError::ImageShape { .. } => {
                Self::bad_input("input.shape", text).hint("use images of the model's input size")
            }
            ClientError::ImageNotFinite { .. } => Self::bad_input("input.not-finite", text)
                .hint("check --std: a division by zero makes infinity"),
            ClientError::ImageOutOfRange { .. } => Self::bad_input("input.out-of-range", text)
                .hint("scale inputs as in the calibration, or compile with data that covers them"),
            ClientError::NoImages => Self::bad_input("input.none", text)
                .hint("name a picture, or pass --data mnist:test"),
            _ => Self::bad_input("client.refused", text).hint(DAMAGED),
        }
    }
}

impl From<FheError> for Failure {
    fn from(error: FheError) -> Self {
        let text = error.to_string();
        match error {
            FheError::Codec(inner) => inner.into(),
            FheError::InsecureParameters { .. }
            | FheError::NoSecurityBound { .. }
            | FheError::NoDegreeFits { .. } => {
                Self::new(Exit::Refused, "security.below-level", text)
                    .hint("compile the model again; Scuro never runs below the stated security")
            }
            FheError::KeyMismatch { .. } => {
                Self::new(Exit::Refused, "keys.mismatch", text).hint(OTHER_KEYS)
            }
            FheError::ParameterMismatch { .. } => {
                Self::new(Exit::Refused, "keys.other-parameters", text).hint(OTHER_KEYS)
            }
            FheError::MissingRotationKey { .. } => {
                Self::bad_input("keys.missing-rotation", text).hint(KEYGEN)
            }
            FheError::MissingRelinearizationKey
            | FheError::MissingConjugationKey
            | FheError::MissingPublicKey
            | FheError::KeyLevelTooLow { .. } => Self::bad_input("keys.missing", text).hint(KEYGEN),
            _ => Self::bad_input("ciphertext.invalid", text).hint(OTHER_KEYS),
        }
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        let (text, code, hint) = (error.to_string(), error.code(), error.hint());
        let exit = match error {
            ServerError::Model(inner) => return inner.into(),
            ServerError::Network(inner) => return inner.into(),
            ServerError::Ensemble(Fault::Runtime(inner)) => return inner.into(),
            ServerError::Ensemble(Fault::Message(inner)) => return inner.into(),
            ServerError::Ensemble(Fault::Combination(inner)) => return inner.into(),
            ServerError::Ensemble(Fault::NoFace { .. }) => Exit::Connection,
            ServerError::Wire(inner @ WireError::NotLoopback { .. }) => return inner.into(),
            ServerError::Setting { .. } | ServerError::InUse { .. } => Exit::BadInput,
            ServerError::Ensemble(Fault::Setting { .. } | Fault::NotAFace) => Exit::BadInput,
            ServerError::Ensemble(
                Fault::Rule { .. } | Fault::MaskedRule { .. } | Fault::NoRoom { .. },
            ) => Exit::BadInput,
            ServerError::SpoolDamaged { .. } | ServerError::Ensemble(Fault::Votes { .. }) => {
                Exit::Refused
            }
            ServerError::Panicked => return Self::internal(text),
            ServerError::Wire(WireError::Connection { .. }) => Exit::Connection,
            ServerError::Wire(_) => Exit::BadInput,
            _ => Exit::JobFailed,
        };
        Self::new(exit, code, text).hint(hint)
    }
}

impl From<CodecError> for Failure {
    fn from(error: CodecError) -> Self {
        let text = error.to_string();
        let (exit, code, hint) = match error {
            CodecError::WrongParameters { .. } => {
                (Exit::Refused, "keys.other-parameters", OTHER_KEYS)
            }
            CodecError::WrongMagic => (
                Exit::BadInput,
                "file.wrong-magic",
                "`scuro inspect FILE` says what it is",
            ),
            CodecError::WrongKind { .. } => (
                Exit::BadInput,
                "file.wrong-kind",
                "`scuro inspect FILE` says what it is",
            ),
            CodecError::WrongVersion { .. } => {
                (Exit::BadInput, "file.wrong-version", OTHER_VERSION)
            }
            CodecError::Truncated { .. } | CodecError::LengthMismatch { .. } => {
                (Exit::BadInput, "file.truncated", DAMAGED)
            }
            CodecError::NonCanonical { .. } => (Exit::BadInput, "file.non-canonical", DAMAGED),
            CodecError::Checksum => (Exit::BadInput, "file.damaged", DAMAGED),
            CodecError::Transparent => (
                Exit::Refused,
                "ciphertext.transparent",
                "its sender did not encrypt: do not trust it",
            ),
            _ => (Exit::BadInput, "file.invalid", DAMAGED),
        };
        Self::new(exit, code, text).hint(hint)
    }
}
