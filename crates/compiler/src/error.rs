//! Why a network could not be compiled.

use scuro_program::Flooding;

use crate::friendliness::Friendliness;

/// A fault in the network, the calibration data or the wishes of the caller.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The graph itself is wrong (shapes, references).
    #[error(transparent)]
    Network(#[from] scuro_nn::Error),
    /// The finished program broke a rule: a fault of the compiler.
    #[error("the compiled program is inconsistent: {0}")]
    Program(#[from] scuro_program::ProgramError),
    /// A weight that is NaN or infinite.
    #[error(
        "layer `{layer}`: {tensor}[{index}] is not a finite number; train again or repair the file"
    )]
    NotFinite {
        /// Node name.
        layer: String,
        /// Which tensor.
        tensor: &'static str,
        /// Position in it.
        index: usize,
    },
    /// Operators that ciphertexts cannot compute.
    #[error("the network cannot run on ciphertexts as it stands:\n{0}")]
    NotFriendly(Friendliness),
    /// Calibration data that does not fit.
    #[error("calibration example {index} has shape {found:?}, the network takes {expected:?}")]
    CalibrationShape {
        /// Which example.
        index: usize,
        /// Its shape.
        found: Vec<usize>,
        /// The network's input.
        expected: Vec<usize>,
    },
    /// Calibration data with NaN, or a range that is empty or not finite.
    #[error(
        "the input range {minimum}..{maximum} is empty or not finite (calibration data or \
         `input_range`)"
    )]
    InputRange {
        /// Smallest value.
        minimum: f32,
        /// Largest value.
        maximum: f32,
    },
    /// Values grow beyond what any permitted modulus holds.
    #[error(
        "layer `{layer}`: values reach 2^{magnitude_log2:.1} on the calibration data, too large to \
         encrypt; train with a range penalty or normalise the layer"
    )]
    Overflow {
        /// Layer.
        layer: String,
        /// Base-two logarithm of the largest value.
        magnitude_log2: f64,
    },
    /// No parameters of the asked security carry the depth.
    #[error(
        "{depth} multiplications in sequence need more modulus than {security_bits}-bit security \
         allows at degree 2^{log_n} ({log_qp_bound} bits); use fewer or lower-degree activations"
    )]
    TooDeep {
        /// Multiplicative depth.
        depth: u32,
        /// Security level.
        security_bits: u32,
        /// Largest degree tried.
        log_n: u32,
        /// Bound at that degree.
        log_qp_bound: u32,
    },
    /// No parameters reach the wanted precision.
    #[error(
        "the predicted output error {predicted:.2e} exceeds the tolerance {tolerance:.2e} at every \
         permitted parameter set; raise the tolerance or the degree"
    )]
    TooNoisy {
        /// Best predicted error.
        predicted: f64,
        /// Tolerance.
        tolerance: f64,
    },
    /// Encrypted weights under BFV.
    #[error(
        "encrypted weights are multiplied as ciphertexts, which takes BFV ten times as long as \
         the other schemes: compile for BGV, or for CKKS"
    )]
    EncryptedWeights,
    /// An exact program whose rounding changes too many answers.
    #[error(
        "rounded to integers, the network keeps its answer on {:.1} % of the calibration examples, \
         {:.1} % are asked for; fine-tune it for a smaller range of values, or use the approximate \
         scheme (ckks)",
        100.0 * .found,
        100.0 * .least
    )]
    Rounding {
        /// Best share of answers kept.
        found: f64,
        /// What was asked for.
        least: f64,
    },
    /// An approximate reply that cannot bear the noise that hides how it was computed.
    #[error(
        "a reply with {flooding} of flooding would be off by {predicted:.2e}, {tolerance:.2e} is \
         tolerated; compile for exact arithmetic, or ask for fewer bits"
    )]
    TooNoisyToFlood {
        /// What was asked for.
        flooding: Flooding,
        /// Best predicted error.
        predicted: f64,
        /// Tolerance.
        tolerance: f64,
    },
    /// A network that the modulus has room for, but not for the noise that hides how a reply was
    /// computed.
    #[error(
        "{flooding} of flooding need more modulus than {security_bits}-bit security allows at \
         degree 2^{log_n} ({log_qp_bound} bits), without flooding the network fits; ask for fewer \
         bits, or let the model owner decrypt"
    )]
    NoRoomToFlood {
        /// What was asked for.
        flooding: Flooding,
        /// Security level.
        security_bits: u32,
        /// Largest degree tried.
        log_n: u32,
        /// Bound at that degree.
        log_qp_bound: u32,
    },
    /// A network whose reply cannot be brought to the scale of an ensemble.
    #[error("layer {layer}: products follow the last weights; end the network with a dense layer")]
    EnsembleReply {
        /// The last layer.
        layer: String,
    },
    /// Scores larger than those of the ensemble.
    #[error(
        "scores of up to {found}; those of the ensemble stay below {limit}: divide the last layer, \
         which changes no answer, or make the first program of this network"
    )]
    EnsembleRange {
        /// Largest score, margin included.
        found: String,
        /// What is allowed.
        limit: String,
    },
    /// A reply that does not repeat its outputs all over one ciphertext.
    #[error(
        "layer {layer}: {outputs} outputs do not repeat over {slots} slots; an ensemble takes \
         classifiers whose outputs fit one ciphertext"
    )]
    EnsembleLayout {
        /// The last layer.
        layer: String,
        /// Outputs.
        outputs: usize,
        /// Slots of a ciphertext.
        slots: usize,
    },
    /// A network for other images or of other classes than those of the ensemble.
    #[error("the network's {what} is {found:?}; that of the ensemble is {expected:?}")]
    EnsembleShape {
        /// Input or output.
        what: &'static str,
        /// Shape of the network.
        found: Vec<usize>,
        /// Shape that all holders have.
        expected: Vec<usize>,
    },
    /// A key that the users of the ensemble do not make, or not up to the level.
    #[error(
        "the program needs {key} at level {level}, the keys of the ensemble have it {held}; make \
         the ensemble's first program from the network that needs most"
    )]
    EnsembleKey {
        /// Which.
        key: String,
        /// Level of its use.
        level: u32,
        /// Up to which level it is there.
        held: String,
    },
    /// A program that is not as the ensemble's are.
    #[error("the program does not fit the ensemble: {0}")]
    EnsembleFace(#[from] scuro_program::face::Mismatch),
    /// Options that an ensemble does not go with.
    #[error("an ensemble goes without {what}")]
    EnsembleOption {
        /// What was asked for.
        what: &'static str,
    },
    /// A wish that batch packing cannot meet.
    #[error("batch packing goes without {what}; compile for single images")]
    SingleImageOnly {
        /// What was asked for.
        what: &'static str,
    },
    /// A number of images that cannot share a query.
    #[error("{found} images per query: must be a power of two, at most {limit}")]
    ImagesPerQuery {
        /// What was asked for.
        found: usize,
        /// Most.
        limit: usize,
    },
    /// Rotations that the allowed ones do not add up to.
    #[error(
        "layer `{layer}` rotates by {amount}, which few of the allowed rotations do not add up to; \
         allow rotations by {fix} too"
    )]
    RotationOutOfReach {
        /// Layer.
        layer: String,
        /// Slots to the left.
        amount: u32,
        /// The rotation that helps most; if no single one is enough, this one.
        fix: u32,
    },
    /// Fewer rotation keys than a program can do with.
    #[error("{found} rotation keys are too few for this network: {least} are enough")]
    TooFewRotations {
        /// What was asked for.
        found: usize,
        /// What is enough.
        least: usize,
    },
    /// A rotation above the level of the key that there is for it.
    #[error(
        "layer `{layer}` rotates by {amount} at level {needed}, the common key is for level \
         {found} at most; make the key for level {needed}, or compile without rotations by {amount}"
    )]
    RotationLevel {
        /// Layer.
        layer: String,
        /// Slots to the left.
        amount: u32,
        /// Level of the rotation.
        needed: u32,
        /// Level of the key.
        found: u32,
    },
    /// A sum of values that exact arithmetic has multiplied by different factors.
    #[error(
        "layer `{layer}` adds values of different depth, which exact programs cannot; use \
         activations of degree two and no shortcuts, or the approximate scheme (ckks)"
    )]
    ExactSum {
        /// Layer.
        layer: String,
    },
    /// A layer too large for the limits of a program.
    #[error(
        "layer `{layer}`: {what}: {found} is above the limit {limit}; split or shrink the layer"
    )]
    TooLarge {
        /// Layer.
        layer: String,
        /// What was counted.
        what: &'static str,
        /// The count.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// A security level without a table row.
    #[error("security level {found} is not one of 128, 192, 256")]
    SecurityLevel {
        /// What was asked for.
        found: u32,
    },
    /// A ring degree outside the tables, or one at which nothing fits.
    #[error("ring degree 2^{found} is outside 2^{minimum}..2^{maximum}")]
    RingDegree {
        /// What was asked for.
        found: u32,
        /// Smallest.
        minimum: u32,
        /// Largest.
        maximum: u32,
    },
    /// The output would not be free of intermediate values.
    #[error("no layout of layer `{layer}` keeps intermediate values out of the reply")]
    LeakyOutput {
        /// Layer.
        layer: String,
    },
}
