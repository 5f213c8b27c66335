//! Ensembles of model holders.

pub(crate) mod members;
