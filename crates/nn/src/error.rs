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
        "no files of `{name}` in {}; name a folder with --data or SCURO_DATA, or use `generated:test`",
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
    #[error("{found} value(s) of `{parameter}` for {channels} channel(s): give one or one per channel, finite{}", if *parameter == "std" { " and not 0" } else { "" })]
    Normalisation {
        /// `mean`, `std` or `scale`.
        parameter: &'static str,
        /// Number of values.
        found: usize,
        /// Channels of the images.
        channels: usize,
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
