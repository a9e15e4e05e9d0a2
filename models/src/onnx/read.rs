//! ONNX bytes → graph. Any operator is read; what Tapetum cannot carry through faithfully is refused by name.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use tapetum_runtime::{DType, Error, Result, Tensor};

use super::{convert, proto};
use crate::graph::{Attr, Constant, Dim, Graph, Node, Value};

/// Reads a model from the bytes of an ONNX file.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::BadFile`] if the bytes are not a sound model; [`tapetum_runtime::ErrorKind::Unsupported`]
/// for external data, model-local functions, sparse initializers and non-tensor inputs.
pub fn read(bytes: Bytes) -> Result<Graph> {
    let model = decode(bytes)?;
    if !model.functions.is_empty() {
        return Err(Error::unsupported(format!(
            "the model defines {} functions of its own; inline them first (onnx.inliner)",
            model.functions.len()
        )));
    }
    let opsets: BTreeMap<String, i64> = model
        .opset_import
        .iter()
        .map(|o| (if o.domain == "ai.onnx" { String::new() } else { o.domain.clone() }, o.version))
        .collect();
    if !opsets.contains_key("") {
        return Err(Error::bad_file("the model imports no version of ONNX's operator set".to_owned()));
    }
    let graph =
        model.graph.ok_or_else(|| Error::bad_file("the file holds no graph; is it an ONNX model?"))?;
    if !graph.sparse_initializer.is_empty() {
        return Err(Error::unsupported("the model has sparse initializers; make them dense first"));
    }
    let mut out = Graph { name: graph.name.clone(), opsets, ..Graph::default() };
    out.metadata = model.metadata_props.into_iter().map(|e| (e.key, e.value)).collect();
    for tensor in &graph.initializer {
        if out.constants.insert(tensor.name.clone(), convert::to_constant(tensor)?).is_some() {
            return Err(Error::bad_file(format!("two initializers are called {:?}", tensor.name)));
        }
    }
    // Before IR version 4 every initializer was listed as an input too: a constant stays a constant.
    let fed = graph.input.iter().filter(|v| !out.constants.contains_key(&v.name));
    out.inputs = fed.map(value).collect::<Result<_>>()?;
    out.outputs = graph.output.iter().map(value).collect::<Result<_>>()?;
    let mut names = BTreeSet::new();
    for (at, n) in graph.node.into_iter().enumerate() {
        if n.op_type == "Constant" && n.domain.is_empty() && lift_constant(&n, &mut out)? {
            continue;
        }
        out.nodes.push(node(n, at, &mut names)?);
    }
    out.check().map_err(|e| Error::bad_file(format!("the graph is not sound: {e}")))?;
    Ok(out)
}

/// Reads one `TensorProto`, as recorded inputs and outputs are kept (`.pb`), with its name.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::BadFile`] if the bytes are not a sound tensor; [`tapetum_runtime::ErrorKind::Unsupported`]
/// for an element type that Tapetum does not compute with.
pub fn read_tensor(bytes: Bytes) -> Result<(String, Tensor)> {
    let tensor = proto::Tensor::decode(bytes)
        .map_err(|e| Error::bad_file(format!("not an ONNX tensor, or cut short: {e}")).caused_by(e))?;
    match convert::to_constant(&tensor)? {
        Constant::Dense(dense) => Ok((tensor.name, std::sync::Arc::unwrap_or_clone(dense))),
        Constant::Opaque { .. } => {
            let message = format!("tensor {:?} has ONNX element type {}", tensor.name, tensor.data_type);
            Err(Error::unsupported(message))
        }
    }
}

fn decode(bytes: Bytes) -> Result<proto::Model> {
    if bytes.is_empty() {
        return Err(Error::bad_file("the file is empty"));
    }
    proto::Model::decode(bytes)
        .map_err(|e| Error::bad_file(format!("not an ONNX model, or cut short: {e}")).caused_by(e))
}

fn value(v: &proto::ValueInfo) -> Result<Value> {
    let tensor = v.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let Some(tensor) = tensor else {
        return Err(Error::unsupported(format!(
            "{:?} is a sequence, map or optional; only tensors are handled",
            v.name
        )));
    };
    let dtype = DType::from_onnx(tensor.elem_type).ok_or_else(|| {
        Error::unsupported(format!("{:?} has ONNX element type {}", v.name, tensor.elem_type))
    })?;
    let dim = |d: &proto::Dimension| match &d.value {
        Some(proto::DimensionValue::Value(n)) => usize::try_from(*n).map_or(Dim::Unknown, Dim::Fixed),
        Some(proto::DimensionValue::Param(s)) if !s.is_empty() => Dim::symbol(s),
        _ => Dim::Unknown,
    };
    let dims = tensor.shape.as_ref().map_or_else(Vec::new, |s| s.dim.iter().map(dim).collect());
    Ok(Value { name: v.name.clone(), dtype, dims })
}

/// Turns a `Constant` node into a stored tensor; false if its form is carried through as a node.
fn lift_constant(n: &proto::Node, graph: &mut Graph) -> Result<bool> {
    let [output] = n.output.as_slice() else { return Ok(false) };
    let [a] = n.attribute.as_slice() else { return Ok(false) };
    let constant = match (a.name.as_str(), &a.t) {
        ("value", Some(t)) => convert::to_constant(t)?,
        ("value_float", _) => dense(Tensor::scalar(a.f)),
        ("value_int", _) => dense(Tensor::scalar(a.i)),
        ("value_floats", _) => dense(Tensor::vector(a.floats.clone())),
        ("value_ints", _) => dense(Tensor::vector(a.ints.clone())),
        _ => return Ok(false),
    };
    if graph.constants.insert(output.clone(), constant).is_some() {
        return Err(Error::bad_file(format!("{output:?} is made twice")));
    }
    Ok(true)
}

fn dense(tensor: Tensor) -> Constant {
    Constant::Dense(std::sync::Arc::new(tensor))
}

fn node(n: proto::Node, at: usize, names: &mut BTreeSet<String>) -> Result<Node> {
    if n.op_type.is_empty() {
        return Err(Error::bad_file(format!("node {at} has no operator")));
    }
    let wanted = if n.name.is_empty() { format!("{}_{at}", n.op_type) } else { n.name.clone() };
    let mut name = wanted.clone();
    let mut k = 1;
    while !names.insert(name.clone()) {
        k += 1;
        name = format!("{wanted}.{k}");
    }
    let attrs = n.attribute.into_iter().map(|a| Ok((a.name.clone(), attribute(a)?))).collect::<Result<_>>();
    let attrs = attrs.map_err(|e| e.at(format!("node {name:?} ({})", n.op_type)))?;
    Ok(Node { name, op: n.op_type, domain: n.domain, inputs: n.input, outputs: n.output, attrs })
}

fn attribute(a: proto::Attribute) -> Result<Attr> {
    use proto::attribute_type as ty;
    let text = |s: &Bytes| {
        String::from_utf8(s.to_vec())
            .map_err(|_| Error::bad_file(format!("attribute {:?} is not text", a.name)))
    };
    Ok(match (a.r#type, &a.t) {
        (ty::INT, _) => Attr::Int(a.i),
        (ty::FLOAT, _) => Attr::Float(a.f),
        (ty::STRING, _) => Attr::Str(text(&a.s)?),
        (ty::INTS, _) => Attr::Ints(a.ints),
        (ty::FLOATS, _) => Attr::Floats(a.floats),
        (ty::STRINGS, _) => Attr::Strings(a.strings.iter().map(text).collect::<Result<_>>()?),
        (ty::TENSOR, Some(t)) => match convert::to_constant(t)? {
            Constant::Dense(t) => Attr::Tensor((*t).clone()),
            Constant::Opaque { .. } => Attr::Opaque { raw: a.encode_to_vec().into(), captures: Vec::new() },
        },
        _ => Attr::Opaque { captures: captures(&a)?, raw: a.encode_to_vec().into() },
    })
}

/// Names that sub-graphs of an attribute read and do not make themselves. Too many is safe, too few is not: every name
/// read anywhere inside counts unless some node inside makes it.
fn captures(a: &proto::Attribute) -> Result<Vec<String>> {
    let (mut read, mut made) = (BTreeSet::new(), BTreeSet::new());
    let mut open: Vec<(Bytes, u32)> = a.g.iter().chain(&a.graphs).map(|g| (g.clone(), 0)).collect();
    while let Some((raw, depth)) = open.pop() {
        if depth > 32 {
            return Err(Error::bad_file(format!("attribute {:?} nests graphs more than 32 deep", a.name)));
        }
        let graph = proto::Graph::decode(raw)
            .map_err(|e| Error::bad_file(format!("the graph in attribute {:?} is not sound: {e}", a.name)))?;
        // A sub-graph's output may be an outer value passed straight through.
        read.extend(graph.output.iter().map(|v| v.name.clone()));
        made.extend(graph.input.iter().map(|v| v.name.clone()));
        made.extend(graph.initializer.iter().map(|t| t.name.clone()));
        for n in graph.node {
            read.extend(n.input);
            made.extend(n.output);
            open.extend(
                n.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)).map(|g| (g.clone(), depth + 1)),
            );
        }
    }
    Ok(read.into_iter().filter(|n| !n.is_empty() && !made.contains(n)).collect())
}
