//! Shapes of every value, as far as they can be known.

use std::collections::BTreeMap;

use tapetum_runtime::DType;

use super::{Dim, Graph};

/// Element type and extents of a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Element type.
    pub dtype: DType,
    /// Extents.
    pub dims: Vec<Dim>,
}

/// What is known of each value of `graph`, by name. Values behind operators that are not known here are left out.
pub fn infer(graph: &Graph) -> BTreeMap<String, Known> {
    let mut known = BTreeMap::new();
    for v in &graph.inputs {
        known.insert(v.name.clone(), Known { dtype: v.dtype, dims: v.dims.clone() });
    }
    known
}
