//! What the client must know: how to fill the query, how to read the reply, which keys to make.

/// In a [`Gather::Slots`] map: the slot holds zero.
pub const NO_ELEMENT: u32 = u32::MAX;

/// How the elements of the examples of one query reach its slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gather {
    /// Few examples; per ciphertext and slot `element + example * elements`, with the row-major
    /// index of the element, or [`NO_ELEMENT`].
    Slots(Vec<Vec<u32>>),
    /// As many examples as slots: ciphertext `e` holds element `e` of all of them.
    Batch,
}

/// The query.
#[derive(Debug, Clone, PartialEq)]
pub struct InputSpec {
    /// Shape of one example.
    pub shape: Vec<u32>,
    /// Examples of one query; with [`Gather::Batch`] as many as slots.
    pub examples: u32,
    /// Which element goes where.
    pub gather: Gather,
    /// Level of the query's ciphertexts.
    pub level: u32,
    /// Slots after which the query's ciphertexts repeat and beyond which they keep nothing, if they
    /// are replies: see [`crate::ValueShape::traced`].
    pub traced: Option<u32>,
    /// Base-two logarithm of the encoding scale.
    pub scale_log2: f64,
    /// Smallest value the ranges were calibrated for; smaller inputs must be refused.
    pub minimum: f32,
    /// Largest value the ranges were calibrated for; larger inputs must be refused.
    pub maximum: f32,
}

impl InputSpec {
    /// Elements of one example.
    pub fn elements(&self) -> usize {
        self.shape.iter().map(|&d| d as usize).product()
    }

    /// Ciphertexts of the query.
    pub fn ciphertexts(&self) -> usize {
        match &self.gather {
            Gather::Slots(maps) => maps.len(),
            Gather::Batch => self.elements(),
        }
    }
}

/// Where an output element is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotAddress {
    /// Ciphertext of the reply.
    pub ciphertext: u32,
    /// Slot (with batch packing: 0; the slot is the example's position).
    pub slot: u32,
}

/// What the key holder applies after decryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostOperation {
    /// Nothing.
    None,
    /// Softmax over an axis of the output shape.
    Softmax {
        /// Axis.
        axis: u32,
    },
    /// Logarithm of softmax over an axis of the output shape.
    LogSoftmax {
        /// Axis.
        axis: u32,
    },
    /// Elementwise logistic function.
    Sigmoid,
}

/// The reply.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputSpec {
    /// Shape of one output.
    pub shape: Vec<u32>,
    /// Place of each row-major output element, example by example; with batch packing those of the
    /// first example alone.
    pub addresses: Vec<SlotAddress>,
    /// What the result's numbers are multiplied by: exact programs compute in units that fill their
    /// plaintext prime.
    pub factor: f64,
    /// What the key holder applies after decryption.
    pub post: PostOperation,
}

impl OutputSpec {
    /// Elements of one output.
    pub fn elements(&self) -> usize {
        self.shape.iter().map(|&d| d as usize).product()
    }
}

/// A rotation key that the program needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GaloisStep {
    /// Left rotation in slots, `1 .. slots`.
    pub step: u32,
    /// Highest level at which it is used.
    pub level: u32,
}

/// The evaluation keys that the program needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyManifest {
    /// Highest level of a relinearisation, if any.
    pub relinearize: Option<u32>,
    /// Rotations, by ascending step.
    pub galois: Vec<GaloisStep>,
    /// Keys that relinearise and rotate at once, by ascending step.
    pub relinearized: Vec<GaloisStep>,
    /// Whether the evaluator needs the public encryption key.
    pub public: bool,
}
