//! What can be wrong with a training job.

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A fault in the network, the data or the configuration of a training job.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // The network.
    /// The graph itself is not valid.
    #[error(transparent)]
    Network(#[from] scuro_nn::Error),
    /// The network's answer is not one score per class.
    #[error("the network must end in a vector of class scores, found shape {found:?}")]
    OutputShape {
        /// Shape of the answer.
        found: Vec<usize>,
    },
    /// Two networks with different numbers of classes.
    #[error("the teacher has {found} classes, the network {expected}")]
    TeacherClasses {
        /// Classes of the trained network.
        expected: usize,
        /// Classes of the teacher.
        found: usize,
    },
    /// A network whose scores do not come from a dense layer.
    #[error("the network ends in `{found}`, not in a dense layer with a bias")]
    LastLayer {
        /// The last node.
        found: String,
    },
    /// No architecture of that name.
    #[error("no architecture `{name}`; there are {known}")]
    UnknownArchitecture {
        /// What was asked for.
        name: String,
        /// All names.
        known: String,
    },
    /// A setting names a node that the network lacks.
    #[error("no node `{name}` in the network")]
    UnknownNode {
        /// What was asked for.
        name: String,
    },

    // The data.
    /// Examples of another shape than the network takes.
    #[error("the network takes examples of shape {expected:?}, the data has {found:?}")]
    ExampleShape {
        /// The network's input.
        expected: Vec<usize>,
        /// The data's.
        found: Vec<usize>,
    },
    /// Values that are not a whole number of examples.
    #[error("{labels} examples of shape {shape:?} do not have {found} values")]
    ExampleCount {
        /// Shape of one example.
        shape: Vec<usize>,
        /// Number of labels.
        labels: usize,
        /// Number of values.
        found: usize,
    },
    /// A label that names no class.
    #[error("label {found} of example {example}: the network has {classes} classes")]
    Label {
        /// Position of the example.
        example: usize,
        /// Its label.
        found: usize,
        /// Number of classes.
        classes: usize,
    },
    /// Nothing to train or validate on.
    #[error("{found} examples leave none for the {part} part")]
    TooFewExamples {
        /// Training or validation.
        part: &'static str,
        /// Examples given.
        found: usize,
    },

    /// Examples that cannot be dealt out to so many holders.
    #[error(
        "{examples} examples cannot be dealt out to {holders} holders so that each has {least}",
        least = crate::split::EXAMPLES_MIN
    )]
    Holders {
        /// Number of holders.
        holders: usize,
        /// Number of examples.
        examples: usize,
    },

    // The configuration.
    /// No split of that name.
    #[error(
        "no split `{found}`; there are iid, label-skew:ALPHA, disjoint-classes, size-skew:POWER"
    )]
    UnknownSplit {
        /// What was asked for.
        found: String,
    },
    /// A prior for more or fewer classes than the network has.
    #[error("the prior is for {found} classes, the network has {expected}")]
    PriorClasses {
        /// Classes of the network.
        expected: usize,
        /// Numbers given.
        found: usize,
    },
    /// A setting outside its range.
    #[error("{setting} is {found}, it must be {expected}")]
    Setting {
        /// Which one.
        setting: &'static str,
        /// Its value.
        found: f64,
        /// The range in words.
        expected: &'static str,
    },
    /// A dropout rate outside `[0, 1)`.
    #[error("dropout after `{node}` is {found}, it must be in [0, 1)")]
    DropoutRate {
        /// The node.
        node: String,
        /// Its rate.
        found: f32,
    },
    /// The loss left the finite numbers.
    #[error("the loss is not finite in epoch {epoch}, batch {batch}; lower the learning rate")]
    Diverged {
        /// Epoch, from 1.
        epoch: usize,
        /// Batch in it, from 1.
        batch: usize,
    },
    /// The threads could not be started.
    #[error("cannot start {threads} threads")]
    Threads {
        /// Number asked for.
        threads: usize,
        /// What the pool said.
        #[source]
        source: rayon::ThreadPoolBuildError,
    },
}
