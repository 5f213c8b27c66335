//! ONNX files, operator set 13.
//!
//! `Square` becomes `Mul(x, x)` and `Polynomial` a chain of products and sums after Horner; the
//! importer recognises both, so that a network survives export and import unchanged.

use std::path::Path;

use prost::Message;

use crate::data::Preprocess;
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Op, Padding, Window};
use crate::import::onnx::proto::{
    Attribute, Dimension, Entry, Extent, GraphProto, METADATA_PREFIX, Model, NodeProto,
    OperatorSet, Shape, TensorProto, TensorType, TypeProto, ValueInfo, attribute_kind, data_type,
};
use crate::tensor::Tensor;

/// File format version that goes with operator set 13.
const IR_VERSION: i64 = 7;
const OPSET: i64 = 13;

/// The network as the bytes of an ONNX file.
///
/// # Errors
/// As [`Graph::validate`].
pub fn onnx(graph: &Graph) -> Result<Vec<u8>> {
    graph.validate()?;
    let shapes = graph.shapes()?;
    let mut writer = Writer {
        graph,
        out: GraphProto {
            name: graph.name.clone(),
            ..Default::default()
        },
    };
    for (node, shape) in graph.nodes.iter().zip(&shapes) {
        writer.node(node, shape);
    }
    let answer = graph.output.0;
    writer.out.output = vec![value_info(&graph.nodes[answer].name, &shapes[answer])];
    let model = Model {
        ir_version: IR_VERSION,
        producer_name: "scuro".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(writer.out),
        opset_import: vec![OperatorSet {
            domain: String::new(),
            version: OPSET,
        }],
        metadata_props: metadata(graph),
    };
    Ok(model.encode_to_vec())
}

/// The preprocessing, for whoever uses the network next.
fn metadata(graph: &Graph) -> Vec<Entry> {
    let notes = graph.preprocess.iter().flat_map(Preprocess::to_notes);
    let entry = |(name, value)| Entry {
        key: format!("{METADATA_PREFIX}{name}"),
        value,
    };
    notes.map(entry).collect()
}

/// Writes the network to `path`; an older file there is replaced only once the new one is complete.
///
/// # Errors
/// As [`onnx()`], or [`Error::Io`].
pub fn write_onnx(graph: &Graph, path: &Path) -> Result<()> {
    let bytes = onnx(graph)?;
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let io = |source| Error::Io {
        path: path.to_path_buf(),
        source,
    };
    std::fs::write(&partial, bytes).map_err(io)?;
    std::fs::rename(&partial, path).map_err(io)
}

struct Writer<'g> {
    graph: &'g Graph,
    out: GraphProto,
}

impl Writer<'_> {
    fn node(&mut self, node: &Node, shape: &[usize]) {
        let name = node.name.as_str();
        match &node.op {
            Op::Input { shape } => self.out.input.push(value_info(name, shape)),
            Op::Constant(value) => self.out.initializer.push(floats(name, value)),
            Op::Square => {
                let x = self.operand(node, 0);
                self.push(name, "Mul", vec![x.clone(), x], vec![]);
            }
            Op::Polynomial { coefficients } => {
                let x = self.operand(node, 0);
                self.horner(name, &x, coefficients);
            }
            op => {
                let mut inputs: Vec<String> = (0..node.inputs.len())
                    .map(|i| self.operand(node, i))
                    .collect();
                for (parameter, tensor) in op.parameters() {
                    inputs.push(self.weight(name, parameter, tensor));
                }
                if let Op::Reshape { .. } = op {
                    inputs.push(self.shape(name, shape));
                }
                let (kind, attributes) = translate(op);
                self.push(name, kind, inputs, attributes);
            }
        }
    }

    fn operand(&self, node: &Node, index: usize) -> String {
        self.graph.nodes[node.inputs[index].0].name.clone()
    }

    fn push(&mut self, name: &str, kind: &str, input: Vec<String>, attribute: Vec<Attribute>) {
        self.out.node.push(NodeProto {
            input,
            output: vec![name.to_owned()],
            name: name.to_owned(),
            op_type: kind.to_owned(),
            attribute,
            domain: String::new(),
        });
    }

    fn weight(&mut self, name: &str, parameter: &str, tensor: &Tensor) -> String {
        let name = format!("{name}.{parameter}");
        self.out.initializer.push(floats(&name, tensor));
        name
    }

    /// The target of a `Reshape`; 0 keeps the batch.
    fn shape(&mut self, name: &str, shape: &[usize]) -> String {
        let name = format!("{name}.shape");
        let extents = std::iter::once(0).chain(shape.iter().map(|&extent| extent as i64));
        self.out.initializer.push(TensorProto {
            dims: vec![shape.len() as i64 + 1],
            data_type: data_type::INT64,
            int64_data: extents.collect(),
            name: name.clone(),
            ..Default::default()
        });
        name
    }

    /// `((c_n x + c_{n-1}) x + ...) x + c_0`; the last node carries the name.
    fn horner(&mut self, name: &str, x: &str, coefficients: &[f32]) {
        let scalar = |value: f32| Tensor {
            shape: vec![],
            data: vec![value],
        };
        let last = coefficients.len() - 1;
        let leading = self.weight(name, &format!("c{last}"), &scalar(coefficients[last]));
        let mut sum = leading;
        for degree in (0..last.max(1)).rev() {
            // A constant polynomial still has to depend on x: 0 x + c.
            let (factor, c) = if last == 0 {
                (self.weight(name, "zero", &scalar(0.0)), sum.clone())
            } else {
                let c = self.weight(name, &format!("c{degree}"), &scalar(coefficients[degree]));
                (sum, c)
            };
            let product = format!("{name}/product{degree}");
            self.push(&product, "Mul", vec![x.to_owned(), factor], vec![]);
            sum = if degree == 0 {
                name.to_owned()
            } else {
                format!("{name}/sum{degree}")
            };
            self.push(&sum, "Add", vec![product, c], vec![]);
        }
    }
}

/// Operator type and attributes of the operators that translate one to one.
fn translate(op: &Op) -> (&'static str, Vec<Attribute>) {
    match op {
        Op::Conv2d {
            window,
            dilation,
            groups,
            ..
        } => {
            let mut attributes = window_attributes(window);
            attributes.push(ints("dilations", dilation));
            attributes.push(int("group", *groups));
            ("Conv", attributes)
        }
        Op::AvgPool {
            window,
            count_padding,
        } => {
            let mut attributes = window_attributes(window);
            attributes.push(int("count_include_pad", usize::from(*count_padding)));
            ("AveragePool", attributes)
        }
        Op::MaxPool { window } => ("MaxPool", window_attributes(window)),
        Op::GlobalAvgPool => ("GlobalAveragePool", vec![]),
        Op::GlobalMaxPool => ("GlobalMaxPool", vec![]),
        Op::Dense { .. } => ("Gemm", vec![int("transB", 1)]),
        Op::BatchNorm { epsilon, .. } => {
            let kind = attribute_kind::FLOAT;
            let name = "epsilon".to_owned();
            let attribute = Attribute {
                name,
                f: *epsilon,
                kind,
                ..Default::default()
            };
            ("BatchNormalization", vec![attribute])
        }
        Op::Flatten => ("Flatten", vec![int("axis", 1)]),
        Op::Reshape { .. } => ("Reshape", vec![]),
        Op::Transpose { permutation } => {
            let axes: Vec<usize> = std::iter::once(0)
                .chain(permutation.iter().map(|&axis| axis + 1))
                .collect();
            ("Transpose", vec![ints("perm", &axes)])
        }
        Op::Concat { axis } => ("Concat", vec![int("axis", axis + 1)]),
        Op::Softmax { axis } => ("Softmax", vec![int("axis", axis + 1)]),
        Op::LogSoftmax { axis } => ("LogSoftmax", vec![int("axis", axis + 1)]),
        // The remaining operators have the same name and no settings.
        other => (other.name(), vec![]),
    }
}

fn window_attributes(window: &Window) -> Vec<Attribute> {
    let Padding {
        top,
        left,
        bottom,
        right,
    } = window.padding;
    vec![
        ints("kernel_shape", &window.kernel),
        ints("strides", &window.stride),
        ints("pads", &[top, left, bottom, right]),
    ]
}

fn int(name: &str, value: usize) -> Attribute {
    let kind = attribute_kind::INT;
    Attribute {
        name: name.to_owned(),
        i: value as i64,
        kind,
        ..Default::default()
    }
}

fn ints(name: &str, values: &[usize]) -> Attribute {
    let ints = values.iter().map(|&value| value as i64).collect();
    Attribute {
        name: name.to_owned(),
        ints,
        kind: attribute_kind::INTS,
        ..Default::default()
    }
}

fn floats(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto {
        dims: tensor.shape.iter().map(|&extent| extent as i64).collect(),
        data_type: data_type::FLOAT,
        raw_data: tensor
            .data
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
        name: name.to_owned(),
        ..Default::default()
    }
}

fn value_info(name: &str, shape: &[usize]) -> ValueInfo {
    let batch = Extent::Param("N".into());
    let extents = shape.iter().map(|&extent| Extent::Value(extent as i64));
    let dim = std::iter::once(batch)
        .chain(extents)
        .map(|value| Dimension { value: Some(value) });
    let shape = Some(Shape { dim: dim.collect() });
    let tensor_type = Some(TensorType {
        elem_type: data_type::FLOAT,
        shape,
    });
    ValueInfo {
        name: name.to_owned(),
        kind: Some(TypeProto { tensor_type }),
    }
}
