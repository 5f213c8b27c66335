//! The checks behind `cargo xtask tidy`, as a library so that the test suite runs them too.

pub mod tidy;
