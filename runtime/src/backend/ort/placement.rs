//! Which provider got which nodes, as ONNX Runtime itself tells after it has divided a model.
//!
//! It tells the nodes of the graph after its basic optimisations (constants folded), before a provider fuses any; a
//! provider that compiles a subgraph into one node is credited with every node in it.

use std::{
    collections::BTreeMap,
    ffi::{CStr, c_char},
    ptr, slice,
};

use ort::{
    AsPointer,
    sys::{OrtEpAssignedNode, OrtEpAssignedSubgraph, OrtSession, OrtStatusPtr},
};

use super::provider::Provider;
use crate::{Error, Result};

/// Asks ONNX Runtime to keep what [`read`] reads.
pub(super) const RECORD: (&str, &str) = ("session.record_ep_graph_assignment_info", "1");

/// Names shown of the nodes that fell back.
const SHOWN: usize = 5;

/// Operators that only tell a shape. Their results lie in main memory, so every accelerator leaves them to the CPU.
const SHAPE_ONLY: &[&str] = &["Shape", "Size"];

/// A node of the model.
pub(super) struct Node {
    operator: String,
    name: String,
}

/// The nodes of a loaded model by provider (`cpu`, `openvino`, ..).
pub(super) struct Placement(Vec<(String, Vec<Node>)>);

/// What ONNX Runtime assigned for `session`.
///
/// # Errors
/// If it was not told to keep it, or answers with what is no text.
pub(super) fn read(session: &ort::session::Session) -> ort::Result<Placement> {
    let api = ort::api();
    let session: *const OrtSession = session.ptr();
    // SAFETY: the session lives for the whole call. The list, its subgraphs, their nodes and the texts belong to it,
    // and are copied here.
    let subgraphs: &[*const OrtEpAssignedSubgraph] =
        unsafe { list(|out, n| (api.Session_GetEpGraphAssignmentInfo)(session, out, n)) }?;
    let mut nodes: Vec<(String, Vec<Node>)> = Vec::new();
    for &subgraph in subgraphs {
        // SAFETY: as above.
        let provider = short(&unsafe { text(|out| (api.EpAssignedSubgraph_GetEpName)(subgraph, out)) }?);
        // SAFETY: as above.
        let assigned: &[*const OrtEpAssignedNode] =
            unsafe { list(|out, n| (api.EpAssignedSubgraph_GetNodes)(subgraph, out, n)) }?;
        let at = nodes.iter().position(|(p, _)| *p == provider).unwrap_or_else(|| {
            nodes.push((provider, Vec::new()));
            nodes.len() - 1
        });
        for &node in assigned {
            // SAFETY: as above.
            let operator = unsafe { text(|out| (api.EpAssignedNode_GetOperatorType)(node, out)) }?;
            // SAFETY: as above.
            let name = unsafe { text(|out| (api.EpAssignedNode_GetName)(node, out)) }?;
            nodes[at].1.push(Node { operator, name });
        }
    }
    Ok(Placement(nodes))
}

/// A list that `get` lends.
///
/// # Safety
/// `get` must give a pointer to as many elements as it says, which live for `'a`, unless it returns an error.
unsafe fn list<'a, T>(
    get: impl FnOnce(*mut *const *const T, *mut usize) -> OrtStatusPtr,
) -> ort::Result<&'a [*const T]> {
    let (mut first, mut count) = (ptr::null(), 0);
    // SAFETY: the status is the one that ONNX Runtime just returned, checked once.
    unsafe { ort::Error::result_from_status(get(&mut first, &mut count)) }?;
    // An empty list may come as a null pointer, which a slice must not be made of.
    if count == 0 || first.is_null() {
        return Ok(&[]);
    }
    // SAFETY: as the caller promises.
    Ok(unsafe { slice::from_raw_parts(first, count) })
}

/// A text that `get` lends, copied.
///
/// # Safety
/// `get` must give a zero-terminated string that lives until this returns, unless it returns an error.
unsafe fn text(get: impl FnOnce(*mut *const c_char) -> OrtStatusPtr) -> ort::Result<String> {
    let mut text = ptr::null();
    // SAFETY: the status is the one that ONNX Runtime just returned, checked once.
    unsafe { ort::Error::result_from_status(get(&mut text)) }?;
    if text.is_null() {
        return Ok(String::new());
    }
    // SAFETY: not null, and as the caller promises.
    Ok(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// `CPUExecutionProvider` → `cpu`.
pub(super) fn short(provider: &str) -> String {
    provider.strip_suffix("ExecutionProvider").unwrap_or(provider).to_ascii_lowercase()
}

impl Placement {
    /// How many nodes each provider got.
    pub(super) fn counts(&self) -> Vec<(String, usize)> {
        self.0.iter().map(|(provider, nodes)| (provider.clone(), nodes.len())).collect()
    }

    /// Checks that `provider` got at least `min_share` of the nodes, those that only tell shapes left out.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] with the share, and the operators and nodes that fell back.
    pub(super) fn check(&self, provider: Provider, min_share: f32) -> Result<()> {
        let counted =
            |nodes: &[Node]| nodes.iter().filter(|n| !SHAPE_ONLY.contains(&n.operator.as_str())).count();
        let all: usize = self.0.iter().map(|(_, nodes)| counted(nodes)).sum();
        let own: usize =
            self.0.iter().filter(|(p, _)| p == provider.name()).map(|(_, nodes)| counted(nodes)).sum();
        let share = if all == 0 { 1.0 } else { own as f32 / all as f32 };
        if share >= min_share {
            return Ok(());
        }
        let mut elsewhere = Vec::new();
        for (other, nodes) in self.0.iter().filter(|(p, _)| p != provider.name()) {
            let mut operators = BTreeMap::new();
            for node in nodes.iter().filter(|n| !SHAPE_ONLY.contains(&n.operator.as_str())) {
                *operators.entry(node.operator.as_str()).or_insert(0usize) += 1;
            }
            let operators: Vec<String> = operators.iter().map(|(op, n)| format!("{n} {op}")).collect();
            let named = nodes.iter().map(|n| n.name.as_str()).filter(|n| !n.is_empty());
            let named: Vec<&str> = named.take(SHOWN).collect();
            let names =
                if named.is_empty() { String::new() } else { format!(" ({}, …)", named.join(", ")) };
            elsewhere.push(format!("on {other}: {}{names}", operators.join(", ")));
        }
        Err(Error::unsupported(format!(
            "{} got {own} of {all} nodes, a share of {share:.3} where {min_share} is asked for (min_share); {}",
            provider.name(),
            elsewhere.join("; ")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(of: &[(&str, &str)]) -> Vec<Node> {
        of.iter().map(|(op, name)| Node { operator: (*op).into(), name: (*name).into() }).collect()
    }

    #[test]
    fn a_share_below_the_least_names_what_fell_back() {
        let placement = Placement(vec![
            ("openvino".into(), nodes(&[("Conv", "a"), ("Relu", "b"), ("Conv", "c")])),
            ("cpu".into(), nodes(&[("NonZero", "kept"), ("Shape", "s")])),
        ]);
        assert_eq!(placement.counts(), [("openvino".to_owned(), 3), ("cpu".to_owned(), 2)]);
        // The Shape does not count: 3 of 4.
        placement.check(Provider::OpenVino, 0.75).unwrap();
        let error = placement.check(Provider::OpenVino, 0.76).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Unsupported);
        let text = error.to_string();
        assert!(text.contains("3 of 4") && text.contains("1 NonZero") && text.contains("kept"), "{text}");
        assert!(!text.contains("1 Shape"), "{text}");
    }

    #[test]
    fn a_model_without_nodes_is_no_fallback() {
        Placement(Vec::new()).check(Provider::Cuda, 1.0).unwrap();
    }
}
