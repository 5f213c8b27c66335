//! The network model: graph, shapes, operators, importers, data sets and the reference executor.

pub mod graph;
pub mod tensor;
