//! Just enough of ONNX to write little models in a test: nodes, inputs, outputs, constants.

use prost::Message;

/// A model under construction.
#[derive(Default)]
pub struct Onnx {
    graph: Graph,
}

/// Element types, by their numbers in `TensorProto.DataType`.
pub const F32: i32 = 1;
pub const U8: i32 = 2;
pub const I32: i32 = 6;
pub const I64: i32 = 7;
pub const BOOL: i32 = 9;
pub const F16: i32 = 10;

impl Onnx {
    /// Adds an input; an extent below zero is open.
    pub fn input(mut self, name: &str, dtype: i32, shape: &[i64]) -> Self {
        self.graph.input.push(value_info(name, dtype, Some(shape)));
        self
    }

    /// Adds an output; `None` leaves its shape out.
    pub fn output(mut self, name: &str, dtype: i32, shape: Option<&[i64]>) -> Self {
        self.graph.output.push(value_info(name, dtype, shape));
        self
    }

    /// Adds a node with integer-list, integer and string attributes.
    pub fn node(
        mut self,
        op: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[(&str, Attr<'_>)],
    ) -> Self {
        let owned = |names: &[&str]| names.iter().map(|s| (*s).to_owned()).collect();
        let attribute = attributes.iter().map(|(name, value)| value.encode(name)).collect();
        let (input, output) = (owned(inputs), owned(outputs));
        self.graph.node.push(Node { input, output, op_type: op.into(), attribute });
        self
    }

    /// Adds a constant of `f32`.
    pub fn floats(mut self, name: &str, dims: &[i64], values: &[f32]) -> Self {
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.graph.initializer.push(TensorProto {
            dims: dims.into(),
            data_type: F32,
            name: name.into(),
            raw,
        });
        self
    }

    /// Adds a constant of `i64`.
    pub fn ints(mut self, name: &str, dims: &[i64], values: &[i64]) -> Self {
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.graph.initializer.push(TensorProto {
            dims: dims.into(),
            data_type: I64,
            name: name.into(),
            raw,
        });
        self
    }

    /// The file.
    pub fn bytes(mut self) -> Vec<u8> {
        self.graph.name = "test".into();
        let opset_import = vec![Opset { domain: String::new(), version: 17 }];
        Model { ir_version: 8, graph: Some(self.graph), opset_import }.encode_to_vec()
    }
}

/// The value of an attribute.
pub enum Attr<'a> {
    Int(i64),
    Ints(&'a [i64]),
}

impl Attr<'_> {
    fn encode(&self, name: &str) -> Attribute {
        let name = name.to_owned();
        match self {
            Self::Int(i) => Attribute { name, i: Some(*i), ints: Vec::new(), kind: 2 },
            Self::Ints(ints) => Attribute { name, i: None, ints: ints.to_vec(), kind: 7 },
        }
    }
}

fn value_info(name: &str, dtype: i32, shape: Option<&[i64]>) -> ValueInfo {
    let dim = |&d: &i64| match d {
        0.. => Dim { value: Some(d), param: None },
        _ => Dim { value: None, param: Some(format!("open{}", -d)) },
    };
    let shape = shape.map(|s| Shape { dim: s.iter().map(dim).collect() });
    let tensor_type = Some(TensorType { elem_type: dtype, shape });
    ValueInfo { name: name.into(), r#type: Some(Type { tensor_type }) }
}

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<Opset>,
}

#[derive(Clone, PartialEq, Message)]
struct Opset {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int64, optional, tag = "3")]
    i: Option<i64>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    ints: Vec<i64>,
    #[prost(int32, tag = "20")]
    kind: i32,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", tag = "9")]
    raw: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    r#type: Option<Type>,
}

#[derive(Clone, PartialEq, Message)]
struct Type {
    #[prost(message, optional, tag = "1")]
    tensor_type: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<Dim>,
}

#[derive(Clone, PartialEq, Message)]
struct Dim {
    #[prost(int64, optional, tag = "1")]
    value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    param: Option<String>,
}
