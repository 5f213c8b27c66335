//! One file a verb: its arguments and what it does.

pub(crate) mod accuracy;
pub(crate) mod activations;
pub(crate) mod bench;
pub(crate) mod compile;
pub(crate) mod completion;
pub(crate) mod coordinator;
pub(crate) mod data;
pub(crate) mod decrypt;
pub(crate) mod demo;
pub(crate) mod deploy;
pub(crate) mod doctor;
pub(crate) mod edge;
pub(crate) mod encrypt;
pub(crate) mod ensemble;
pub(crate) mod evaluate;
pub(crate) mod holder;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod keygen;
pub(crate) mod plan;
pub(crate) mod predict;
pub(crate) mod protect;
pub(crate) mod report;
pub(crate) mod simulate;
pub(crate) mod train;
pub(crate) mod vault;
