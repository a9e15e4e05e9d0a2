//! Graph → ONNX bytes: deterministic, streamed (weights are never held twice), with shapes of every value.

use std::io::{self, Write};

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use tapetum_runtime::{Error, ErrorKind, Result};

use super::{convert, proto};
use crate::graph::{Attr, Constant, Dim, Graph, Node, Value, infer};

/// What one protobuf message, hence one ONNX file without external data, can hold.
const LIMIT: u64 = i32::MAX as u64;
/// The oldest IR version that allows initializers which are not graph inputs and everything in use here.
const IR_VERSION: i64 = 8;
const GRAPH_FIELD: u32 = 7;
const INITIALIZER_FIELD: u32 = 5;
const RAW_DATA_FIELD: u32 = 9;

/// Writes `graph` as an ONNX model. The same graph gives the same bytes, always.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if the model needs more than 2 GiB (it would need external data, which Tapetum does not
/// write: a model is one file); [`ErrorKind::Environment`] if `out` fails.
pub fn write(graph: &Graph, out: &mut dyn Write) -> Result<()> {
    let skeleton = skeleton(graph).encode_to_vec();
    let weights: Vec<Weight<'_>> = graph.constants.iter().map(|(name, c)| Weight::new(name, c)).collect();
    let body = skeleton.len() as u64 + weights.iter().map(Weight::field_len).sum::<u64>();
    if body > LIMIT {
        return Err(Error::unsupported(format!(
            "the model needs {body} bytes, an ONNX file holds {LIMIT}; weights in external files are not written, \
             since a model is one file"
        )));
    }
    let envelope = proto::Model {
        ir_version: IR_VERSION,
        producer_name: "tapetum".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        opset_import: graph
            .opsets
            .iter()
            .map(|(domain, &version)| proto::OperatorSet { domain: domain.clone(), version })
            .collect(),
        metadata_props: graph.metadata.iter().map(|(k, v)| entry(k, v)).collect(),
        ..proto::Model::default()
    };
    let mut head = envelope.encode_to_vec();
    encode_key(GRAPH_FIELD, WireType::LengthDelimited, &mut head);
    encode_varint(body, &mut head);
    let mut emit = || -> io::Result<()> {
        out.write_all(&head)?;
        out.write_all(&skeleton)?;
        weights.iter().try_for_each(|w| w.emit(out))
    };
    emit().map_err(|e| Error::new(ErrorKind::Environment, format!("writing the model: {e}")).caused_by(e))
}

/// Adds metadata to the end of an ONNX file that `out` is at the end of. Protobuf allows a repeated field anywhere, so
/// what is only known after the proof can be added without writing the weights again.
///
/// # Errors
/// [`ErrorKind::Environment`] if `out` fails.
pub fn append_metadata(out: &mut dyn Write, key: &str, value: &str) -> Result<()> {
    let tail = proto::Model { metadata_props: vec![entry(key, value)], ..proto::Model::default() };
    out.write_all(&tail.encode_to_vec()).map_err(|e| {
        Error::new(ErrorKind::Environment, format!("writing the model's metadata: {e}")).caused_by(e)
    })
}

/// One initializer: its encoded header, and where its numbers come from.
struct Weight<'g> {
    header: Vec<u8>,
    constant: &'g Constant,
    raw_len: u64,
}

impl<'g> Weight<'g> {
    fn new(name: &str, constant: &'g Constant) -> Self {
        match constant {
            Constant::Dense(t) => {
                let raw_len = t.len() as u64 * t.dtype().size() as u64;
                let mut header = convert::header(name, t).encode_to_vec();
                encode_key(RAW_DATA_FIELD, WireType::LengthDelimited, &mut header);
                encode_varint(raw_len, &mut header);
                Self { header, constant, raw_len }
            }
            Constant::Opaque { raw, .. } => Self { header: raw.to_vec(), constant, raw_len: 0 },
        }
    }

    fn len(&self) -> u64 {
        self.header.len() as u64 + self.raw_len
    }

    fn field_len(&self) -> u64 {
        1 + encoded_len_varint(self.len()) as u64 + self.len()
    }

    fn emit(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut key = Vec::new();
        encode_key(INITIALIZER_FIELD, WireType::LengthDelimited, &mut key);
        encode_varint(self.len(), &mut key);
        out.write_all(&key)?;
        out.write_all(&self.header)?;
        match self.constant {
            Constant::Dense(t) => convert::for_each_chunk(t, &mut |bytes| out.write_all(bytes)),
            Constant::Opaque { .. } => Ok(()),
        }
    }
}

/// The graph without its weights.
fn skeleton(graph: &Graph) -> proto::Graph {
    let shapes = infer::infer(graph);
    let inner = graph.nodes.iter().flat_map(|n| &n.outputs).filter(|o| !graph.is_output(o));
    let inferred = inner.filter_map(|name| {
        let known = shapes.get(name)?;
        Some(value_info(&Value { name: name.clone(), dtype: known.dtype, dims: known.dims.clone() }))
    });
    proto::Graph {
        name: graph.name.clone(),
        node: graph.nodes.iter().map(node).collect(),
        input: graph.inputs.iter().map(value_info).collect(),
        output: graph.outputs.iter().map(value_info).collect(),
        value_info: inferred.collect(),
        ..proto::Graph::default()
    }
}

fn value_info(value: &Value) -> proto::ValueInfo {
    let dim = |d: &Dim| proto::Dimension {
        value: match d {
            Dim::Fixed(n) => Some(proto::DimensionValue::Value(*n as i64)),
            Dim::Symbol(s) => Some(proto::DimensionValue::Param(s.clone())),
            Dim::Unknown => None,
        },
    };
    proto::ValueInfo {
        name: value.name.clone(),
        r#type: Some(proto::Type {
            tensor_type: Some(proto::TensorType {
                elem_type: value.dtype.onnx(),
                shape: Some(proto::Shape { dim: value.dims.iter().map(dim).collect() }),
            }),
            ..proto::Type::default()
        }),
        ..proto::ValueInfo::default()
    }
}

fn node(node: &Node) -> proto::Node {
    proto::Node {
        input: node.inputs.clone(),
        output: node.outputs.clone(),
        name: node.name.clone(),
        op_type: node.op.clone(),
        domain: node.domain.clone(),
        attribute: node.attrs.iter().map(|(name, attr)| attribute(name, attr)).collect(),
        ..proto::Node::default()
    }
}

fn attribute(name: &str, attr: &Attr) -> proto::Attribute {
    use proto::attribute_type as ty;
    let mut out = proto::Attribute { name: name.into(), ..proto::Attribute::default() };
    let text = |s: &String| bytes::Bytes::from(s.clone().into_bytes());
    out.r#type = match attr {
        Attr::Int(v) => {
            out.i = *v;
            ty::INT
        }
        Attr::Float(v) => {
            out.f = *v;
            ty::FLOAT
        }
        Attr::Str(v) => {
            out.s = text(v);
            ty::STRING
        }
        Attr::Ints(v) => {
            out.ints.clone_from(v);
            ty::INTS
        }
        Attr::Floats(v) => {
            out.floats.clone_from(v);
            ty::FLOATS
        }
        Attr::Strings(v) => {
            out.strings = v.iter().map(text).collect();
            ty::STRINGS
        }
        Attr::Tensor(t) => {
            out.t = Some(convert::to_proto("", t));
            ty::TENSOR
        }
        // Decoded once at reading, so it decodes again.
        Attr::Opaque { raw, .. } => return proto::Attribute::decode(raw.clone()).unwrap_or(out),
    };
    out
}

fn entry(key: &str, value: &str) -> proto::StringEntry {
    proto::StringEntry { key: key.into(), value: value.into() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tapetum_runtime::Tensor;

    use super::*;
    use crate::graph::{Builder, Conv2d};

    #[test]
    fn more_than_an_onnx_file_holds_is_refused_before_a_byte_is_written() {
        let mut graph = Graph::default();
        // One allocation, named nine times: 9 · 256 MiB.
        let shared = Arc::new(Tensor::full(&[64, 1024, 1024], 0f32));
        for n in 0..9 {
            graph.constants.insert(format!("w{n}"), Constant::Dense(shared.clone()));
        }
        let mut out = Vec::new();
        let error = write(&graph, &mut out).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("2415919"), "{error}");
        assert!(out.is_empty());
    }

    #[test]
    fn what_is_written_reads_back_equal_and_metadata_can_follow() {
        let mut b = Builder::new("round trip");
        let x = b.input("x", vec![Dim::symbol("batch"), Dim::Fixed(2), Dim::Fixed(4), Dim::Unknown]);
        let weight = Tensor::new(&[3, 2, 1, 1], vec![1.0f32, -2.0, 3.5, 0.0, 5.0, -0.25]).unwrap();
        let y = b.conv("c", &x, weight, Some(Tensor::vector(vec![1f32, 2.0, 3.0])), Conv2d::default());
        let y = b.reshape("r", &y, &[0, -1]);
        b.output("out", &y, vec![Dim::symbol("batch"), Dim::Unknown]);
        let mut graph = b.finish().unwrap();
        let mut bytes = Vec::new();
        write(&graph, &mut bytes).unwrap();
        append_metadata(&mut bytes, "key", "value").unwrap();
        graph.metadata.insert("key".into(), "value".into());
        assert_eq!(crate::onnx::read(bytes.into()).unwrap(), graph);
    }
}
