//! Everything that can be wrong with a network, a file or a data set.

// tidy: catalogue

use std::path::PathBuf;

use crate::graph::Window;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A fault in what a caller, a model file or a data file brought.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // The caller's own values.
    /// A tensor whose length is not the product of its shape.
    #[error("a tensor of shape {shape:?} cannot hold {found} values")]
    TensorLength {
        /// Shape asked for.
        shape: Vec<usize>,
        /// Values given.
        found: usize,
    },
    /// A list of axes that is not a permutation.
    #[error("{permutation:?} is not a permutation of {rank} axes")]
    NotAPermutation {
        /// What was given.
        permutation: Vec<usize>,
        /// Number of axes.
        rank: usize,
    },
    /// An example of the wrong shape.
    #[error("the network takes examples of shape {expected:?}, found {found:?}")]
    InputShape {
        /// The network's input.
        expected: Vec<usize>,
        /// What was given.
        found: Vec<usize>,
    },

    // The network.
    /// A fault at one node.
    #[error("node `{node}` ({op}): {fault}")]
    Node {
        /// Name of the node.
        node: String,
        /// Operator.
        op: &'static str,
        /// What is wrong.
        #[source]
        fault: Box<NodeFault>,
    },
    /// Not exactly one input node.
    #[error("a network has exactly one input, found {found}")]
    Inputs {
        /// Number of input nodes.
        found: usize,
    },
    /// The output names no node.
    #[error("the output refers to node {output}, but there are {nodes} nodes")]
    Output {
        /// Index given.
        output: usize,
        /// Number of nodes.
        nodes: usize,
    },
    /// Too many nodes.
    #[error("{found} nodes exceed the limit of {limit}")]
    TooManyNodes {
        /// Number of nodes.
        found: usize,
        /// [`crate::graph::MAX_NODES`].
        limit: usize,
    },

    // Replacements of activation functions.
    /// A name that is no replacement.
    #[error(
        "unknown activation `{name}`; known: none, square, modified-square, taylor:DEGREE, \
         derivative-fit:DEGREE, least-squares:DEGREE, chebyshev:DEGREE, learned-quadratic"
    )]
    ReplacementName {
        /// What was asked for.
        name: String,
    },
    /// A degree for which there is no polynomial.
    #[error("polynomials have degrees from 1 to {limit}, found {found}")]
    PolynomialDegree {
        /// What was asked for.
        found: usize,
        /// [`crate::activation::DEGREE_MAX`].
        limit: usize,
    },
    /// An interval that is empty or not finite.
    #[error("the interval {low}..{high} is empty or not finite")]
    Interval {
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
    },
    /// A network without activations that could be replaced.
    #[error("network `{network}` has no ReLU, sigmoid or tanh to replace")]
    NothingToReplace {
        /// Its name.
        network: String,
    },

    /// A network that cannot be cut before its first dense layer.
    #[error(
        "network `{network}` has no classifier: dense layers that use what is before them once"
    )]
    NoClassifier {
        /// Its name.
        network: String,
    },

    // Files.
    /// The file system refused.
    #[error("cannot read or write {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file larger than anything expected there, as stored or unpacked.
    #[error("{} exceeds the limit of {limit} bytes for such a file", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// A data file that does not follow its format.
    #[error("{}: {fault}", path.display())]
    DataFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        fault: DataFault,
    },

    // Data sets.
    /// A name that is no data set.
    #[error("unknown data set `{name}`; known: {}", known.join(", "))]
    UnknownData {
        /// What was asked for.
        name: String,
        /// What there is.
        known: &'static [&'static str],
    },
    /// A known data set whose files are in none of the folders.
    #[error(
        "no files of `{name}` in {}; \
         name a folder with --data-dir or SCURO_DATA, or use `generated:test`",
        list(searched)
    )]
    DataNotFound {
        /// The data set.
        name: String,
        /// Folders looked at.
        searched: Vec<PathBuf>,
    },
    /// Images that the network cannot take.
    #[error("images of shape {image:?} do not fit a network that takes {network:?}: {hint}")]
    ImageShape {
        /// Shape of the images.
        image: Vec<usize>,
        /// Shape of the network's input.
        network: Vec<usize>,
        /// What would help.
        hint: &'static str,
    },
    /// Normalisation constants that do not match the image channels, or a zero deviation.
    #[error(
        "{found} value(s) of `{parameter}` for {channels} channel(s): \
         give one, or one per channel; finite, and no deviation of 0"
    )]
    Normalisation {
        /// `mean`, `std` or `scale`.
        parameter: &'static str,
        /// Number of values.
        found: usize,
        /// Channels of the images.
        channels: usize,
    },
    /// A note of a program or a network that says what its inputs are, and cannot be read.
    #[error("the note `{name}` says {text:?}, which is no preprocessing: the file is damaged")]
    Note {
        /// Name of the note.
        name: &'static str,
        /// Its text, or the start of it.
        text: String,
    },
    /// An answer that is no list of class scores for this data set.
    #[error("the network gives {found:?} values, the data set has {classes} classes")]
    Classes {
        /// Shape of the answer.
        found: Vec<usize>,
        /// Classes of the data set.
        classes: usize,
    },
    /// A picture in which no digit can be found.
    #[error("no digit found in the picture: {reason}")]
    NoDigit {
        /// Why.
        reason: &'static str,
    },

    // Model files.
    /// A file that is no model format known here.
    #[error("{}: not an ONNX, Keras (.h5, .keras) or safetensors model", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// A model file that cannot be used; says which file.
    #[error("{}: {source}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<Error>,
    },
    /// Bytes that are no ONNX protobuf.
    #[error("not a readable ONNX file: {source}")]
    Protobuf {
        /// Why.
        #[from]
        source: prost::DecodeError,
    },
    /// An ONNX file of more parts than any network has.
    #[error("the ONNX file has more than {limit} fields")]
    TooManyFields {
        /// The limit.
        limit: usize,
    },
    /// An ONNX file without a graph.
    #[error("the ONNX file holds no graph")]
    NoGraph,
    /// An operator set older or newer than what is understood.
    #[error("operator set {found} is not among those supported, {lowest} to {highest}")]
    OperatorSet {
        /// Version in the file.
        found: i64,
        /// Lowest understood.
        lowest: i64,
        /// Highest understood.
        highest: i64,
    },
    /// An operator or layer that has no translation.
    #[error("node `{node}`: operator {op} is not supported; {hint}")]
    UnsupportedOp {
        /// Name of the node.
        node: String,
        /// Operator in the source format.
        op: String,
        /// What could replace it.
        hint: &'static str,
    },
    /// A setting of an operator that has no translation.
    #[error("node `{node}` ({op}): {attribute} = {value} is not supported; {hint}")]
    UnsupportedAttribute {
        /// Name of the node.
        node: String,
        /// Operator in the source format.
        op: String,
        /// The setting.
        attribute: &'static str,
        /// Its value.
        value: String,
        /// What would be.
        hint: &'static str,
    },
    /// An operand computed by the network where only stored weights are possible.
    #[error("node `{node}` ({op}): operand `{operand}` must be a stored weight")]
    NotConstant {
        /// Name of the node.
        node: String,
        /// Operator.
        op: String,
        /// Name of the operand.
        operand: String,
    },
    /// A stored weight where the network's data is expected.
    #[error("node `{node}` ({op}): operand `{operand}` does not depend on the network's input")]
    ConstantOperand {
        /// Name of the node.
        node: String,
        /// Operator.
        op: String,
        /// Name of the operand.
        operand: String,
    },
    /// An operand that is missing, or a setting that the operator needs.
    #[error("node `{node}` ({op}): {what} is missing")]
    Missing {
        /// Name of the node.
        node: String,
        /// Operator.
        op: String,
        /// What.
        what: &'static str,
    },
    /// A name that nothing defines.
    #[error("node `{node}` uses `{name}`, which nothing defines")]
    UndefinedName {
        /// Name of the node.
        node: String,
        /// The undefined name.
        name: String,
    },
    /// A value that depends on itself.
    #[error("node `{node}` depends on its own output")]
    Cycle {
        /// Name of a node on the cycle.
        node: String,
    },
    /// Two definitions of one name.
    #[error("`{name}` is defined twice")]
    DefinedTwice {
        /// The name.
        name: String,
    },
    /// Not exactly one input or output.
    #[error("a network has exactly one {what}, found {}: {}", found.len(), found.join(", "))]
    Ends {
        /// `input` or `output`.
        what: &'static str,
        /// Their names.
        found: Vec<String>,
    },
    /// An input whose extents, other than the batch, are not fixed.
    #[error(
        "input `{name}` has no fixed shape: {shape}; export the model with fixed height and width"
    )]
    OpenShape {
        /// Name of the input.
        name: String,
        /// Shape as written in the file.
        shape: String,
    },
    /// A stored tensor that cannot be used.
    #[error("tensor `{tensor}`: {fault}")]
    StoredTensor {
        /// Name of the tensor.
        tensor: String,
        /// What is wrong.
        #[source]
        fault: TensorFault,
    },
    /// Bytes that are no HDF5 file, or one that lacks something.
    #[error("reading HDF5 {what}: {source}")]
    Hdf5 {
        /// What was read.
        what: String,
        /// Why it failed.
        source: Box<hdf5_reader::error::Error>,
    },
    /// Bytes that are no zip archive, or one that lacks a member.
    #[error("reading `{member}` of the .keras archive: {source}")]
    Zip {
        /// The member.
        member: &'static str,
        /// Why it failed.
        source: zip::result::ZipError,
    },
    /// JSON that does not describe a model.
    #[error("reading {what}: {source}")]
    Json {
        /// What was read.
        what: &'static str,
        /// Why it failed.
        source: serde_json::Error,
    },
    /// Bytes that are no safetensors file.
    #[error("not a readable safetensors file: {source}")]
    Safetensors {
        /// Why.
        #[from]
        source: safetensors::SafeTensorError,
    },
}

/// What is wrong with a stored tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorFault {
    /// NaN or infinity.
    #[error("holds a value that is NaN or infinite at position {position}")]
    NonFinite {
        /// Row-major position.
        position: usize,
    },
    /// A number of values other than the shape's.
    #[error("holds {found} values for shape {shape:?}")]
    Length {
        /// Shape declared.
        shape: Vec<usize>,
        /// Values stored.
        found: usize,
    },
    /// Another shape than its layer needs.
    #[error("has shape {found:?}, its layer needs {expected:?}")]
    Shape {
        /// Shape needed.
        expected: Vec<usize>,
        /// Shape stored.
        found: Vec<usize>,
    },
    /// Another number of axes than its layer needs.
    #[error("has shape {found:?}, its layer needs {expected} axes")]
    Rank {
        /// Axes needed.
        expected: usize,
        /// Shape stored.
        found: Vec<usize>,
    },
    /// Extents that are negative or too large.
    #[error("has impossible extents {extents:?}")]
    Extents {
        /// Extents as stored.
        extents: Vec<i64>,
    },
    /// A type of number that is not read.
    #[error("has element type {found}, which is not read; store it as 32-bit floats")]
    ElementType {
        /// The type in the source format.
        found: String,
    },
    /// Values kept in another file that may not be read: outside the model's folder, or unnamed.
    #[error(
        "keeps its values in another file, which is not read; \
         keep that file beside the model, or save the model as a single file"
    )]
    External,
    /// Values kept in another file that is too short.
    #[error("lies beyond the end of `{file}`, which has {found} bytes")]
    BeyondFile {
        /// The other file.
        file: String,
        /// Its size.
        found: usize,
    },
    /// Not in the file.
    #[error("is not in the file")]
    Absent,
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    if paths.is_empty() {
        "any folder".to_owned()
    } else {
        paths.join(", ")
    }
}

/// What is wrong with a data file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataFault {
    /// The first bytes are not those of the format.
    #[error("starts with {found:#010x}, expected {expected:#010x}")]
    Magic {
        /// Big-endian first four bytes.
        found: u32,
        /// What they should be.
        expected: u32,
    },
    /// Shorter or longer than its header says.
    #[error("holds {found} bytes where its header asks for {expected}")]
    Length {
        /// Bytes there are.
        found: u64,
        /// Bytes there should be.
        expected: u64,
    },
    /// Images and labels differ in number.
    #[error("holds {labels} labels for {images} images")]
    LabelCount {
        /// Number of images.
        images: usize,
        /// Number of labels.
        labels: usize,
    },
    /// A label that is no class.
    #[error("label {found} at position {position}, but there are {classes} classes")]
    Label {
        /// Where.
        position: usize,
        /// The label.
        found: u8,
        /// Number of classes.
        classes: usize,
    },
    /// Extents that are zero or larger than allowed.
    #[error("extents {found:?} are empty or exceed {limit} values")]
    Extent {
        /// Extents in the header.
        found: Vec<usize>,
        /// Most values allowed.
        limit: usize,
    },
    /// A PNG or JPEG that does not decode.
    #[error("not a readable PNG or JPEG: {source}")]
    Picture {
        /// Why.
        #[from]
        source: image::ImageError,
    },
}

/// What is wrong with one node.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeFault {
    /// Another node has the same name.
    #[error("the name is used twice")]
    DuplicateName,
    /// Wrong number of operands.
    #[error("takes {expected} operand(s), found {found}")]
    OperandCount {
        /// How many are right, in words.
        expected: &'static str,
        /// How many there are.
        found: usize,
    },
    /// An operand that does not come before the node.
    #[error("operand {operand} does not come before node {position}")]
    OperandOrder {
        /// Index of the operand.
        operand: usize,
        /// Index of the node.
        position: usize,
    },
    /// An operand with the wrong number of axes.
    #[error("needs an operand of {expected} axes, found shape {found:?}")]
    Rank {
        /// Axes needed.
        expected: usize,
        /// Shape found.
        found: Vec<usize>,
    },
    /// Operands that do not fit each other.
    #[error("operand of shape {found:?} does not fit {expected:?}")]
    OperandShape {
        /// Shape needed.
        expected: Vec<usize>,
        /// Shape found.
        found: Vec<usize>,
    },
    /// A weight of the wrong shape.
    #[error("`{parameter}` should have shape {expected:?}, found {found:?}")]
    Parameter {
        /// Which weight.
        parameter: &'static str,
        /// Shape needed.
        expected: Vec<usize>,
        /// Shape found.
        found: Vec<usize>,
    },
    /// A weight that is NaN or infinite.
    #[error("`{parameter}` holds a value that is NaN or infinite at position {position}")]
    NonFinite {
        /// Which weight.
        parameter: &'static str,
        /// Row-major position.
        position: usize,
    },
    /// A window that does not fit its input, or with a zero extent.
    #[error("window {window:?} does not fit an input of shape {input:?}")]
    Window {
        /// The window.
        window: Window,
        /// Shape it slides over.
        input: Vec<usize>,
    },
    /// Groups that do not divide the channels.
    #[error("{groups} groups do not divide {inputs} input and {outputs} output channels")]
    Groups {
        /// Groups given.
        groups: usize,
        /// Input channels.
        inputs: usize,
        /// Output channels.
        outputs: usize,
    },
    /// A reshape that changes the number of values.
    #[error("cannot reshape {from:?} to {to:?}: the number of values differs")]
    Reshape {
        /// Shape of the operand.
        from: Vec<usize>,
        /// Shape asked for.
        to: Vec<usize>,
    },
    /// An axis that the operand lacks.
    #[error("axis {axis} of an operand with {rank} axes")]
    Axis {
        /// Axis asked for.
        axis: usize,
        /// Axes there are.
        rank: usize,
    },
    /// A list of axes that is not a permutation.
    #[error("{permutation:?} is not a permutation of {rank} axes")]
    Permutation {
        /// What was given.
        permutation: Vec<usize>,
        /// Axes there are.
        rank: usize,
    },
    /// A polynomial without coefficients.
    #[error("a polynomial needs at least one coefficient")]
    NoCoefficients,
    /// A value larger than any network here needs, or with no elements.
    #[error("a value of shape {shape:?} is empty or exceeds {limit} elements")]
    Size {
        /// Shape of the value.
        shape: Vec<usize>,
        /// [`crate::graph::MAX_NODE_VALUES`].
        limit: usize,
    },
}
