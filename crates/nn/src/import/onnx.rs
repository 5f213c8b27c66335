//! ONNX files.
//!
//! Nodes that the answer depends on are taken in topological order; each gives a value that is
//! either stored (weights, shapes) or a node of the graph. The batch axis, the first of every
//! computed value, is dropped on the way.

mod activations;
mod external;
mod fold;
mod layers;
mod limits;
mod order;
mod parts;
mod pointwise;
pub(crate) mod proto;
mod stored;
#[cfg(test)]
mod tests;
mod views;

use std::collections::HashMap;
use std::path::Path;

use prost::Message;

use super::lowering::Lowering;
use crate::data::Preprocess;
use crate::error::{Error, Result};
use crate::graph::{Graph, NodeId, Op};
use crate::tensor::Tensor;
use proto::{Attribute, Extent, GraphProto, METADATA_PREFIX, Model, NodeProto, ValueInfo};
use stored::{BATCH, Stored};

/// Operator sets understood.
const OPSETS: [i64; 2] = [1, 25];
/// Most stored values that nodes may give, all together: copies of a weight cost a few bytes of the
/// file each.
const STORED_MAX: usize = 1 << 27;
const REPLACE: &str = "replace it by supported layers (scuro inspect lists them) and export again";

/// Reads an ONNX model.
///
/// # Errors
/// [`Error::Protobuf`] if the bytes are no ONNX file; an error naming node and operator where one
/// is not supported, or naming the tensor where a weight cannot be used.
pub fn from_bytes(bytes: &[u8]) -> Result<Graph> {
    decode(bytes)?.lower()
}

/// As [`from_bytes`], for the file at `path`: weights that it keeps in other files of its folder
/// are read too.
pub(super) fn from_file(bytes: &[u8], path: &Path) -> Result<Graph> {
    let mut model = decode(bytes)?;
    external::read(&mut model.graph, path.parent().unwrap_or(Path::new("")))?;
    model.lower()
}

/// What a file holds.
struct Decoded {
    graph: GraphProto,
    opset: i64,
    preprocess: Option<Preprocess>,
}

fn decode(bytes: &[u8]) -> Result<Decoded> {
    limits::check(bytes)?;
    let model = Model::decode(bytes)?;
    let opset = opset(&model)?;
    let preprocess = preprocess(&model)?;
    let graph = model.graph.ok_or(Error::NoGraph)?;
    Ok(Decoded {
        graph,
        opset,
        preprocess,
    })
}

impl Decoded {
    fn lower(&self) -> Result<Graph> {
        let preprocess = self.preprocess.clone();
        Ok(Graph {
            preprocess,
            ..lower(&self.graph, self.opset)?
        })
    }
}

/// The preprocessing that the exporter wrote into the file's metadata.
fn preprocess(model: &Model) -> Result<Option<Preprocess>> {
    let notes = || {
        let entries = model.metadata_props.iter();
        entries.filter_map(|e| Some((e.key.strip_prefix(METADATA_PREFIX)?, &*e.value)))
    };
    let find = |name: &str| notes().find(|note| note.0 == name).map(|note| note.1);
    let any = notes().next().is_some();
    any.then(|| Preprocess::from_notes(find)).transpose()
}

/// Reads a stored tensor as the ONNX test data sets hold them (`TensorProto`).
///
/// # Errors
/// [`Error::Protobuf`], or [`Error::StoredTensor`] if it holds no floats.
pub fn tensor_from_bytes(bytes: &[u8]) -> Result<Tensor> {
    let proto = proto::TensorProto::decode(bytes)?;
    match stored::read(&proto.name, &proto)? {
        Stored::Floats(tensor) => Ok(tensor),
        Stored::Ints { .. } => Err(Error::StoredTensor {
            tensor: proto.name,
            fault: crate::error::TensorFault::ElementType {
                found: proto.data_type.to_string(),
            },
        }),
    }
}

fn opset(model: &Model) -> Result<i64> {
    let standard = model
        .opset_import
        .iter()
        .find(|set| matches!(set.domain.as_str(), "" | "ai.onnx"));
    // Files of before operator sets were versioned name none.
    let found = standard.map_or(1, |set| set.version);
    let [lowest, highest] = OPSETS;
    if !(lowest..=highest).contains(&found) {
        return Err(Error::OperatorSet {
            found,
            lowest,
            highest,
        });
    }
    Ok(found)
}

fn lower(graph: &GraphProto, opset: i64) -> Result<Graph> {
    let mut importer = Importer::new(graph, opset)?;
    for position in order::topological(graph)? {
        importer.node(&graph.node[position])?;
    }
    let [output] = graph.output.as_slice() else {
        let found = graph.output.iter().map(|o| o.name.clone()).collect();
        return Err(Error::Ends {
            what: "output",
            found,
        });
    };
    match importer.values.get(&output.name) {
        Some(Value::Computed(id)) => {
            let id = *id;
            importer.lowering.finish(id)
        }
        Some(Value::Stored(_)) => Err(Error::ConstantOperand {
            node: output.name.clone(),
            op: "output".into(),
            operand: output.name.clone(),
        }),
        None => Err(Error::UndefinedName {
            node: "output".into(),
            name: output.name.clone(),
        }),
    }
}

/// What a name in the file stands for.
#[derive(Debug, Clone)]
enum Value {
    /// Known now.
    Stored(Stored),
    /// Computed by the network; shapes are those of one example.
    Computed(NodeId),
}

struct Importer {
    lowering: Lowering,
    values: HashMap<String, Value>,
    opset: i64,
    /// Batch size fixed in the file, if it is.
    batch: Option<usize>,
    /// Stored values given by nodes so far.
    stored: usize,
}

impl Importer {
    fn new(graph: &GraphProto, opset: i64) -> Result<Self> {
        let mut values = HashMap::new();
        for proto in &graph.initializer {
            let value = Value::Stored(stored::read(&proto.name, proto)?);
            if values.insert(proto.name.clone(), value).is_some() {
                return Err(Error::DefinedTwice {
                    name: proto.name.clone(),
                });
            }
        }
        let inputs: Vec<&ValueInfo> = graph
            .input
            .iter()
            .filter(|input| !values.contains_key(&input.name))
            .collect();
        let [input] = inputs.as_slice() else {
            let found = inputs.iter().map(|i| i.name.clone()).collect();
            return Err(Error::Ends {
                what: "input",
                found,
            });
        };
        let (batch, shape) = input_shape(input)?;
        let mut lowering = Lowering::new(&graph.name);
        let id = lowering.push(&input.name, Op::Input { shape }, &[])?;
        values.insert(input.name.clone(), Value::Computed(id));
        Ok(Self {
            lowering,
            values,
            opset,
            batch,
            stored: 0,
        })
    }

    fn node(&mut self, proto: &NodeProto) -> Result<()> {
        let name = match (proto.name.as_str(), proto.output.first()) {
            ("", Some(output)) => output.as_str(),
            (name, _) => name,
        };
        let site = Site { proto, name };
        if !matches!(proto.domain.as_str(), "" | "ai.onnx") {
            return Err(site.unsupported(
                "operators of other domains have no translation; export without fusing operators",
            ));
        }
        let values = match proto.op_type.as_str() {
            "Split" => self.split(&site)?,
            _ => vec![self.translate(&site)?],
        };
        if proto.output.is_empty() {
            return Err(site.missing("an output"));
        }
        for (output, value) in proto.output.iter().zip(values) {
            self.count(&site, &value)?;
            if self.values.insert(output.clone(), value).is_some() {
                return Err(Error::DefinedTwice {
                    name: output.clone(),
                });
            }
        }
        Ok(())
    }

    fn count(&mut self, site: &Site<'_>, value: &Value) -> Result<()> {
        if let Value::Stored(stored) = value {
            self.stored += stored.shape().iter().product::<usize>();
        }
        if self.stored <= STORED_MAX {
            return Ok(());
        }
        Err(site.attribute_error("size", self.stored, "store fewer copies of large weights"))
    }

    fn translate(&mut self, site: &Site<'_>) -> Result<Value> {
        if let Some(value) = self.folded(site)? {
            return Ok(Value::Stored(value));
        }
        match site.proto.op_type.as_str() {
            "Conv" => self.conv(site),
            "Gemm" => self.gemm(site),
            "MatMul" => self.mat_mul(site),
            "AveragePool" | "MaxPool" => self.pool(site),
            "GlobalAveragePool" => self.global_pool(site, Op::GlobalAvgPool),
            "GlobalMaxPool" => self.global_pool(site, Op::GlobalMaxPool),
            "ReduceMean" | "ReduceSum" => self.reduce(site, Op::GlobalAvgPool),
            "ReduceMax" => self.reduce(site, Op::GlobalMaxPool),
            "BatchNormalization" => self.batch_norm(site),
            "Pad" => self.pad(site),
            "Add" | "Sub" | "Mul" | "Div" => self.binary(site),
            "Sum" | "Mean" => self.sum(site),
            "Constant" => constant(site),
            "Softmax" | "LogSoftmax" => self.softmax(site),
            _ => self.view_or_activation(site),
        }
    }

    fn view_or_activation(&mut self, site: &Site<'_>) -> Result<Value> {
        match site.proto.op_type.as_str() {
            "Flatten" => self.flatten(site),
            "Reshape" => self.reshape(site),
            "Squeeze" | "Unsqueeze" => self.squeeze(site),
            "Transpose" => self.transpose(site),
            "Shape" => self.shape_of(site),
            "Gather" => self.gather(site),
            "Slice" => self.slice(site),
            "Concat" => self.concat(site),
            "Identity" | "Dropout" | "Cast" => self.identity(site),
            "Relu" => self.unary(site, Op::Relu),
            "Sigmoid" => self.unary(site, Op::Sigmoid),
            "Tanh" => self.unary(site, Op::Tanh),
            "Neg" => self.scaled(site, -1.0),
            "Pow" => self.power(site),
            "Clip" => self.clip(site),
            "LeakyRelu" | "PRelu" => self.leaky(site),
            "Abs" => self.absolute(site),
            "Max" | "Min" => self.extreme(site),
            "HardSigmoid" | "HardSwish" => self.hard(site),
            other => Err(site.unsupported(hint_for(other))),
        }
    }

    fn value(&self, site: &Site<'_>, index: usize, what: &'static str) -> Result<&Value> {
        let name = site.operand(index).ok_or_else(|| site.missing(what))?;
        let undefined = || Error::UndefinedName {
            node: site.name.to_owned(),
            name: name.to_owned(),
        };
        self.values.get(name).ok_or_else(undefined)
    }

    /// An operand that the network computes.
    fn computed(&self, site: &Site<'_>, index: usize) -> Result<NodeId> {
        match self.value(site, index, "an operand")? {
            Value::Computed(id) => Ok(*id),
            Value::Stored(_) => Err(Error::ConstantOperand {
                node: site.name.to_owned(),
                op: site.proto.op_type.clone(),
                operand: site.operand(index).unwrap_or_default().to_owned(),
            }),
        }
    }

    /// A stored operand.
    fn stored(&self, site: &Site<'_>, index: usize, what: &'static str) -> Result<&Stored> {
        match self.value(site, index, what)? {
            Value::Stored(stored) => Ok(stored),
            Value::Computed(_) => Err(self.not_constant(site, index)),
        }
    }

    /// Stored floats.
    fn weight(&self, site: &Site<'_>, index: usize, what: &'static str) -> Result<&Tensor> {
        match self.stored(site, index, what)? {
            Stored::Floats(tensor) => Ok(tensor),
            Stored::Ints { .. } => Err(self.not_constant(site, index)),
        }
    }

    /// Stored integers.
    fn integers(&self, site: &Site<'_>, index: usize, what: &'static str) -> Result<&[i64]> {
        match self.stored(site, index, what)? {
            Stored::Ints { data, .. } => Ok(data),
            Stored::Floats(_) => Err(self.not_constant(site, index)),
        }
    }

    fn not_constant(&self, site: &Site<'_>, index: usize) -> Error {
        Error::NotConstant {
            node: site.name.to_owned(),
            op: site.proto.op_type.clone(),
            operand: site.operand(index).unwrap_or_default().to_owned(),
        }
    }

    fn push(&mut self, site: &Site<'_>, op: Op, inputs: &[NodeId]) -> Result<Value> {
        Ok(Value::Computed(self.lowering.push(site.name, op, inputs)?))
    }

    fn unary(&mut self, site: &Site<'_>, op: Op) -> Result<Value> {
        let input = self.computed(site, 0)?;
        self.push(site, op, &[input])
    }

    /// Axis of one example for `axis` of a value with the batch; the batch itself is refused.
    fn example_axis(&self, site: &Site<'_>, axis: i64, rank: usize) -> Result<usize> {
        let counted = if axis < 0 {
            axis + rank as i64 + 1
        } else {
            axis
        };
        if counted >= 1 && counted <= rank as i64 {
            return Ok(counted as usize - 1);
        }
        Err(site.attribute_error("axis", axis, "the first axis is the batch and stays apart"))
    }
}

/// Splits the batch from an input's shape.
fn input_shape(input: &ValueInfo) -> Result<(Option<usize>, Vec<usize>)> {
    let shape = input
        .kind
        .as_ref()
        .and_then(|kind| kind.tensor_type.as_ref()?.shape.as_ref());
    let dims = shape.map_or(&[][..], |shape| &shape.dim);
    let open = || {
        let words = dims.iter().map(|d| match &d.value {
            Some(Extent::Value(value)) => value.to_string(),
            Some(Extent::Param(name)) => name.clone(),
            None => "?".to_owned(),
        });
        let shape = format!("[{}]", words.collect::<Vec<_>>().join(", "));
        Error::OpenShape {
            name: input.name.clone(),
            shape,
        }
    };
    let extent = |dim: &proto::Dimension| match dim.value {
        Some(Extent::Value(value)) => usize::try_from(value).ok().filter(|&v| v > 0),
        _ => None,
    };
    let (batch, example) = dims.split_first().ok_or_else(open)?;
    let shape: Option<Vec<usize>> = example.iter().map(extent).collect();
    Ok((
        extent(batch),
        shape.filter(|shape| !shape.is_empty()).ok_or_else(open)?,
    ))
}

/// A node of the file under translation.
struct Site<'a> {
    proto: &'a NodeProto,
    /// Its name, or that of its output.
    name: &'a str,
}

impl Site<'_> {
    /// Name of operand `index`; an empty name means it is left out.
    fn operand(&self, index: usize) -> Option<&str> {
        self.proto
            .input
            .get(index)
            .map(String::as_str)
            .filter(|name| !name.is_empty())
    }

    fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.proto
            .attribute
            .iter()
            .find(|attribute| attribute.name == name)
    }

    fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name)
            .map_or(default, |attribute| attribute.i)
    }

    fn float(&self, name: &str, default: f32) -> f32 {
        self.attribute(name)
            .map_or(default, |attribute| attribute.f)
    }

    fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name)
            .map(|attribute| attribute.ints.as_slice())
    }

    /// Refuses a setting that must have its default value.
    fn require(&self, name: &'static str, default: i64, hint: &'static str) -> Result<()> {
        match self.int(name, default) {
            value if value == default => Ok(()),
            value => Err(self.attribute_error(name, value, hint)),
        }
    }

    fn attribute_error(
        &self,
        attribute: &'static str,
        value: impl std::fmt::Debug,
        hint: &'static str,
    ) -> Error {
        Error::UnsupportedAttribute {
            node: self.name.to_owned(),
            op: self.proto.op_type.clone(),
            attribute,
            value: format!("{value:?}"),
            hint,
        }
    }

    fn unsupported(&self, hint: &'static str) -> Error {
        Error::UnsupportedOp {
            node: self.name.to_owned(),
            op: self.proto.op_type.clone(),
            hint,
        }
    }

    fn missing(&self, what: &'static str) -> Error {
        Error::Missing {
            node: self.name.to_owned(),
            op: self.proto.op_type.clone(),
            what,
        }
    }
}

/// Position `axis` counted from the end if negative, of `rank`.
fn counted(site: &Site<'_>, axis: i64, rank: usize) -> Result<usize> {
    let from_front = if axis < 0 {
        axis.saturating_add(rank as i64)
    } else {
        axis
    };
    let sound = usize::try_from(from_front).ok().filter(|&axis| axis < rank);
    sound.ok_or_else(|| site.attribute_error("axes", axis, REPLACE))
}

fn constant(site: &Site<'_>) -> Result<Value> {
    if let Some(attribute) = site.attribute("value") {
        let proto = attribute
            .t
            .as_ref()
            .ok_or_else(|| site.missing("the value"))?;
        return Ok(Value::Stored(stored::read(site.name, proto)?));
    }
    let ints = |shape, data| Ok(Value::Stored(Stored::Ints { shape, data }));
    let floats = |shape, data| Ok(Value::Stored(Stored::Floats(Tensor::new(shape, data)?)));
    if let Some(attribute) = site.attribute("value_float") {
        return floats(vec![], vec![attribute.f]);
    }
    if let Some(attribute) = site.attribute("value_floats") {
        return floats(vec![attribute.floats.len()], attribute.floats.clone());
    }
    if let Some(attribute) = site.attribute("value_int") {
        return ints(vec![], vec![attribute.i]);
    }
    match site.attribute("value_ints") {
        Some(attribute) => ints(vec![attribute.ints.len()], attribute.ints.clone()),
        None => Err(site.missing("the value")),
    }
}

/// What could stand in for an operator that has no translation.
fn hint_for(op: &str) -> &'static str {
    match op {
        "Elu" | "Selu" | "Celu" | "ThresholdedRelu" | "Gelu" | "Mish" | "Softplus" | "Softsign"
        | "Erf" => "use Relu, LeakyRelu, Sigmoid, Tanh or a polynomial activation",
        "Exp" | "Log" | "Sqrt" | "Reciprocal" => "use Softmax, LogSoftmax or a polynomial",
        "ConvTranspose" | "Resize" | "Upsample" => "only Conv and pooling change the image size",
        "InstanceNormalization" | "LayerNormalization" | "GroupNormalization" | "LRN" => {
            "use BatchNormalization, whose statistics are fixed"
        }
        "LSTM" | "GRU" | "RNN" | "Loop" | "If" | "Scan" => "unroll it: the graph has no state",
        "ReduceL1" | "ReduceL2" | "LpPool" => "use AveragePool or GlobalAveragePool and a factor",
        "ArgMax" | "TopK" => "remove it: the answer is the list of scores",
        "QLinearConv" | "QuantizeLinear" | "DequantizeLinear" | "ConvInteger" | "MatMulInteger"
        | "QLinearMatMul" => "export the model before quantisation",
        _ => REPLACE,
    }
}
