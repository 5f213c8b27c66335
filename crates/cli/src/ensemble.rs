//! What is known of an ensemble: the files of its folder, and what an evaluation found.

pub(crate) mod evaluation;
pub(crate) mod figure;
mod folder;
pub(crate) mod members;

pub(crate) use evaluation::{EVALUATION_KIND, Evaluation, HolderScore, Member, RuleScore, Summary};
pub(crate) use folder::{Folder, HolderCard, MANIFEST, Manifest, RULES};
