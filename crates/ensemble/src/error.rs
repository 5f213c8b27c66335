//! What can be wrong with predictions, parameters and files of rules.

use crate::rule::RuleKind;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A fault in what was given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // Predictions.
    /// Predictions of more or fewer holders than the rule is for.
    #[error("the rule is for {expected} holders, there are predictions of {found}")]
    Holders {
        /// Holders of the rule.
        expected: usize,
        /// Predictions given.
        found: usize,
    },
    /// No prediction at all.
    #[error("there are no predictions")]
    NoPredictions,
    /// A prediction with more or fewer classes than the others.
    #[error("holder {holder} has scores of {found} classes, expected {expected}")]
    Classes {
        /// Position of the holder.
        holder: usize,
        /// Classes of the rule, or of the first holder.
        expected: usize,
        /// Scores given.
        found: usize,
    },
    /// A score that is no number.
    #[error("the score of class {class} from holder {holder} is not finite")]
    NotFinite {
        /// Position of the holder.
        holder: usize,
        /// Position of the class.
        class: usize,
    },
    /// A position that no holder has, or that was named before.
    #[error("holder {found} is not one of {holders}, or is named twice")]
    Present {
        /// The position.
        found: usize,
        /// Number of holders.
        holders: usize,
    },

    // Held-out examples.
    /// A holder with predictions of more or fewer examples than there are labels.
    #[error("holder {holder} has predictions of {found} examples, there are {expected} labels")]
    Examples {
        /// Position of the holder.
        holder: usize,
        /// Number of labels.
        expected: usize,
        /// Predictions given.
        found: usize,
    },
    /// Too few examples to fit anything.
    #[error("{found} held-out examples; rules are fitted on {least} or more")]
    TooFewExamples {
        /// Number of examples.
        found: usize,
        /// The least.
        least: usize,
    },
    /// A label that names no class.
    #[error("label {found} of example {example}: there are {classes} classes")]
    Label {
        /// Position of the example.
        example: usize,
        /// Its label.
        found: usize,
        /// Number of classes.
        classes: usize,
    },

    // Rules and their parameters.
    /// No rule of that name.
    #[error("no rule `{found}`; there are {known}")]
    UnknownRule {
        /// What was asked for.
        found: String,
        /// All names.
        known: String,
    },
    /// The file has no parameters for the rule.
    #[error("the rule {rule} was not fitted")]
    NotFitted {
        /// The rule.
        rule: RuleKind,
    },
    /// More or fewer numbers than holders and classes ask for.
    #[error("{rule}: {found} {what}, expected {expected}")]
    Count {
        /// The rule.
        rule: RuleKind,
        /// Which numbers.
        what: &'static str,
        /// How many it must be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A parameter outside its range.
    #[error("{rule}: {what} is {found}, it must be {expected}")]
    Parameter {
        /// The rule.
        rule: RuleKind,
        /// Which one.
        what: &'static str,
        /// Its value.
        found: f64,
        /// The range in words.
        expected: &'static str,
    },
    /// Every present holder has weight 0.
    #[error("{rule}: no present holder has a weight")]
    NoWeight {
        /// The rule.
        rule: RuleKind,
    },

    // Ciphertexts.
    /// The majority, which compares.
    #[error("a majority compares predictions, which ciphertexts cannot; decrypt them one by one")]
    NotOnCiphertexts,
    /// Replies that are not laid out for combination.
    #[error("the replies have {what}; compile the holders' programs for an ensemble")]
    Reply {
        /// What is wrong.
        what: &'static str,
    },
    /// Replies whose modulus is too small for the rule.
    #[error("the replies have no room for {rule}; compile the holders' programs with more")]
    NoRoom {
        /// The rule.
        rule: RuleKind,
    },
    /// A combination that is no program: a face of damaged bytes.
    #[error("the combination is no program: {0}")]
    Program(#[from] scuro_program::ProgramError),

    // Files.
    /// More than a file may have.
    #[error("{found} {what}, at most {limit} are taken")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Not the JSON that a file of rules is.
    #[error("not a file of rules: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A file of another version.
    #[error("version {found} of the file of rules, this program reads {expected}")]
    Version {
        /// Version of the file.
        found: u32,
        /// Version that is read.
        expected: u32,
    },
    /// A name of a holder that is empty, too long, not of `a-z 0-9 -`, or there twice.
    #[error("`{found}` names no holder, or two: 1 to 63 of a-z, 0-9 and inner hyphens")]
    HolderName {
        /// The name.
        found: String,
    },
    /// A name of a class that is too long, holds a line feed, or is there twice.
    #[error("`{found}` names no class, or two")]
    ClassName {
        /// The name.
        found: String,
    },
}
