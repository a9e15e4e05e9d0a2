//! What merged nodes and constants are called: the part of the names that was common to what they came from.

use crate::graph::{Index, Node};

/// Names of a merged node.
pub(super) struct Names {
    /// The node's.
    pub(super) node: String,
    /// What its constants' names begin with.
    base: String,
}

impl Names {
    pub(super) fn weight(&self) -> String {
        format!("{}.weight", self.base)
    }

    pub(super) fn bias(&self) -> String {
        format!("{}.bias", self.base)
    }

    /// Those of `node` itself.
    pub(super) fn of(node: &Node) -> Self {
        Self { node: node.name.clone(), base: module(node).to_owned() }
    }

    /// For branches that are summed: their block's name, as `block` for `block.conv` + `block.scale`.
    pub(super) fn parallel(nodes: &[&Node]) -> Self {
        Self::merged(nodes, |_, _| true)
    }

    /// For a node that takes in the ones after it: the common part if it is theirs alone, as `block` for
    /// `block.conv` → `block.bn`; else the first one's name, as `conv1` for `conv1` → `bn1` beside `conv2`.
    pub(super) fn sequence(index: &Index<'_>, nodes: &[&Node]) -> Self {
        Self::merged(nodes, |prefix, name| {
            let inside = |n: &Node| {
                let rest = name(n).strip_prefix(prefix);
                rest.is_some_and(|r| r.is_empty() || r.starts_with(SEPARATORS))
            };
            let weighted = |n: &Node| n.inputs.len() > 1 && WEIGHTED.iter().any(|op| n.is(op));
            let others = index.graph().nodes.iter().filter(|n| weighted(n) && inside(n));
            others.take(nodes.len() + 1).all(|n| nodes.iter().any(|m| m.name == n.name))
        })
    }

    fn merged(nodes: &[&Node], accept: impl Fn(&str, &dyn for<'n> Fn(&'n Node) -> &'n str) -> bool) -> Self {
        let pick = |name: &dyn for<'n> Fn(&'n Node) -> &'n str| {
            let all: Vec<&str> = nodes.iter().map(|n| name(n)).collect();
            let prefix = common_prefix(&all);
            (!prefix.is_empty())
                .then(|| if accept(prefix, name) { prefix.to_owned() } else { all[0].to_owned() })
        };
        let first = nodes.first().map_or("", |n| &n.name);
        let node = pick(&|n| n.name.as_str());
        let base = pick(&|n| module(n)).or_else(|| node.clone());
        let base = base.unwrap_or_else(|| nodes.first().map_or("", |n| module(n)).to_owned());
        let node = node.unwrap_or_else(|| if base.is_empty() { first.to_owned() } else { base.clone() });
        Self { node, base }
    }
}

const SEPARATORS: [char; 2] = ['.', '/'];
const WEIGHTED: [&str; 5] = ["Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization"];

/// The module a node's weight belongs to, or its own name: exporters name nodes freely but keep parameter names.
fn module(node: &Node) -> &str {
    let weight = node.inputs.iter().skip(1).find_map(|i| i.strip_suffix(".weight"));
    weight.filter(|w| !w.is_empty()).unwrap_or(&node.name)
}

/// The longest common beginning that ends where a part of the name ends; empty if there is none.
fn common_prefix<'n>(names: &[&'n str]) -> &'n str {
    let Some((&first, rest)) = names.split_first() else { return "" };
    let mut end = first.len();
    for name in rest {
        let shared = first.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        end = end.min(shared);
    }
    while !first.is_char_boundary(end) {
        end -= 1;
    }
    let whole = names.iter().all(|n| n[end..].is_empty() || n[end..].starts_with(SEPARATORS));
    let prefix = if whole { &first[..end] } else { &first[..first[..end].rfind(SEPARATORS).unwrap_or(0)] };
    prefix.trim_end_matches(SEPARATORS)
}

#[cfg(test)]
mod tests {
    use super::common_prefix;

    #[test]
    fn the_common_part_ends_at_a_separator() {
        for (names, want) in [
            (
                &["encoder.stage1.0.rbr_conv.0.conv", "encoder.stage1.0.rbr_scale.conv"][..],
                "encoder.stage1.0",
            ),
            (
                &["/stage1/stage1.0/rbr_conv.0/conv/Conv", "/stage1/stage1.0/rbr_conv.1/bn/Bn"],
                "/stage1/stage1.0/rbr_conv",
            ),
            (&["a.b", "a.b"], "a.b"),
            (&["a.b", "a.b.c"], "a.b"),
            (&["a.bc", "a.bd"], "a"),
            (&["conv1", "conv2"], ""),
            (&["/conv1", "/conv2"], ""),
            (&["größe.a", "größf.a"], ""),
            (&["x.ö", "x.ü"], "x"),
        ] {
            assert_eq!(common_prefix(names), want, "{names:?}");
        }
    }
}
