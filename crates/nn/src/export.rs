//! Writing networks in other formats.

mod onnx;

pub use onnx::{onnx, write_onnx};
