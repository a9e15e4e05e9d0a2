//! What an ONNX graph says about its inputs and outputs.

use std::collections::HashSet;

use tract_onnx::{pb, prelude::TypedModel};

use super::convert;
use crate::{DType, Error, Result, backend::Port};

/// The inputs to be fed: those of the graph that are not initialised in the file.
pub(super) fn inputs(graph: &pb::GraphProto) -> Result<Vec<Port>> {
    let initialised: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let fed = graph.input.iter().filter(|i| !initialised.contains(i.name.as_str()));
    fed.map(|info| {
        let port = port(info, "input")?;
        match tensor_type(info).and_then(|t| t.shape.as_ref()) {
            Some(_) => Ok(port),
            None => Err(Error::unsupported(format!("input {:?} has no rank in the file", port.name))),
        }
    })
    .collect()
}

/// The graph's outputs. One whose rank the file does not state has the shape `[]`, see [`fill_from_plan`].
pub(super) fn outputs(graph: &pb::GraphProto) -> Result<Vec<Port>> {
    graph.output.iter().map(|info| port(info, "output")).collect()
}

/// Bytes of all initialisers.
pub(super) fn weight_bytes(graph: &pb::GraphProto) -> usize {
    let extent = |&d: &i64| usize::try_from(d).unwrap_or(0);
    let elements = |t: &pb::TensorProto| t.dims.iter().map(extent).fold(1, usize::saturating_mul);
    let size = |t: &pb::TensorProto| {
        elements(t).saturating_mul(DType::from_onnx(t.data_type).map_or(1, DType::size))
    };
    graph.initializer.iter().map(size).fold(0, usize::saturating_add)
}

/// Extents that the file leaves open, as the planner found them.
pub(super) fn fill_from_plan(outputs: &mut [Port], model: &TypedModel) {
    for (n, port) in outputs.iter_mut().enumerate() {
        if let Ok(fact) = model.output_fact(n) {
            let declared = std::mem::take(&mut port.shape);
            let found = fact.shape.iter().map(|d| d.to_i64().ok().and_then(|d| usize::try_from(d).ok()));
            port.shape =
                found.enumerate().map(|(axis, f)| f.or(declared.get(axis).copied().flatten())).collect();
        }
    }
}

fn tensor_type(info: &pb::ValueInfoProto) -> Option<&pb::type_proto::Tensor> {
    let pb::type_proto::Value::TensorType(tensor) = info.r#type.as_ref()?.value.as_ref()?;
    Some(tensor)
}

fn port(info: &pb::ValueInfoProto, role: &str) -> Result<Port> {
    let name = info.name.clone();
    let tensor = tensor_type(info).ok_or_else(|| Error::bad_file(format!("{role} {name:?} is no tensor")))?;
    let dtype = DType::from_onnx(tensor.elem_type).filter(|&d| convert::datum_type(d).is_some()).ok_or_else(
        || {
            let message =
                format!("{role} {name:?} has ONNX element type {}, which tract lacks", tensor.elem_type);
            Error::unsupported(message)
        },
    )?;
    let extent = |d: &pb::tensor_shape_proto::Dimension| match d.value {
        Some(pb::tensor_shape_proto::dimension::Value::DimValue(n)) => usize::try_from(n).ok(),
        _ => None,
    };
    let shape = tensor.shape.iter().flat_map(|s| &s.dim).map(extent).collect();
    Ok(Port { name, dtype, shape })
}
