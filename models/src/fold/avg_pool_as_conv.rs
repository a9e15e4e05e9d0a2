//! An average pool beside a convolution becomes a convolution itself.

use super::addtree::Sum;
use super::example::Example;
use super::names::Names;
use super::view::{Conv, Norm, ints_attr};
use super::{FoldRule, Patch, Refusal};
use crate::graph::{Attr, Conv2d, Graph, Index, Node};

/// An AveragePool that is summed with a convolution of the same input, directly or after a BatchNormalization, becomes a
/// convolution of that kind.
///
/// ```text
/// W[c, c mod (C / groups), every tap] = 1 / Π k     [C, C / groups, k...], 0 elsewhere
/// b = 0                                           [C]
/// ```
///
/// Kernel, strides and pads stay the pool's own, groups are the partner's.
///
/// Refused: `ceil_mode`, dilation, `auto_pad`; padding that is not counted (the divisor would vary); no partner in the
/// sum with `C_in = C_out`, the same strides and a kernel at least as large.
///
/// Source: Ding et al., *Diverse Branch Block*, arXiv:2103.13425, transform V.
pub(super) struct AvgPoolAsConv;

impl FoldRule for AvgPoolAsConv {
    fn name(&self) -> &'static str {
        "avg_pool_as_conv"
    }

    fn equation(&self) -> &'static str {
        "AvgPool_k(x) = (I/k²)*x, I the identity map on every tap in the partner's groups"
    }

    fn check(&self, graph: &Index<'_>, at: usize) -> Result<Option<Patch>, Refusal> {
        let node = &graph.graph().nodes[at];
        if !node.is("AveragePool") || node.outputs.len() != 1 {
            return Ok(None);
        }
        let (Some(input), Some(kernel)) = (node.input(0), node.ints("kernel_shape")) else { return Ok(None) };
        let summed = match graph.only_reader(node.output()) {
            Some((after, n)) if n.is("BatchNormalization") => match Norm::at(graph, after) {
                Ok(Some(norm)) if norm.input() == node.output() => n.output(),
                _ => return Ok(None),
            },
            _ => node.output(),
        };
        let Some(sum) = Sum::around(graph, summed) else { return Ok(None) };
        let partners: Vec<Conv<'_>> = sum
            .leaves
            .iter()
            .filter_map(|leaf| Conv::only_for(graph, leaf))
            .filter(|c| !c.transposed && c.input() == input && c.kernel().len() == kernel.len())
            .collect();
        if partners.is_empty() {
            return Ok(None);
        }
        let pool = Pool::read(node, kernel)?;
        let Some(partner) = partners.iter().find(|c| pool.fits(c)) else {
            return Err(Refusal::new(
                "no convolution of the sum has the same strides and channels and a kernel at least as large that \
                 meets the same inputs",
            ));
        };
        let channels = partner.c_out();
        let (per_group, taps) = (channels / partner.groups, pool.kernel.iter().product::<usize>());
        let mut weight = vec![0.0; channels * per_group * taps];
        for c in 0..channels {
            weight[(c * per_group + c % per_group) * taps..][..taps].fill(1.0 / taps as f64);
        }
        let names = Names::of(node);
        let mut patch = Patch::removing([at]);
        let shape: Vec<usize> =
            [channels, per_group].into_iter().chain(pool.kernel.iter().copied()).collect();
        let weight = patch.widened(&names.weight(), &shape, weight)?;
        let mut conv = Node::new("Conv", &names.node, &[input, &weight], &[node.output()])
            .with("kernel_shape", ints_attr(&pool.kernel))
            .with("strides", ints_attr(&pool.strides))
            .with("group", Attr::Int(partner.groups as i64));
        conv.attrs.insert("pads".into(), ints_attr(&pool.pads));
        Ok(Some(patch.with_node(conv)))
    }

    fn example(&self, seed: u64) -> Graph {
        let mut e = Example::new("avg_pool_as_conv", seed);
        let (groups, stride) = (e.pick(&[1, 2, 3]), e.pick(&[1, 2]));
        let x = e.image(6);
        let weight = e.tensor(&[6, 6 / groups, 3, 3]);
        let conv = e.b.conv("block.conv", &x, weight, None, Conv2d { stride, pad: 1, groups });
        let attrs = [
            ("kernel_shape", Attr::Ints(vec![3; 2])),
            ("strides", Attr::Ints(vec![stride as i64; 2])),
            ("pads", Attr::Ints(vec![1; 4])),
            ("count_include_pad", Attr::Int(1)),
        ];
        let pool = e.b.op("AveragePool", "block.avg", &[&x], &attrs);
        let y = e.b.binary("Add", "block.sum", &pool, &conv);
        e.finish(&y, 4)
    }
}

struct Pool {
    kernel: Vec<usize>,
    strides: Vec<usize>,
    /// Before each axis, then after each.
    pads: Vec<usize>,
}

impl Pool {
    fn read(node: &Node, kernel: &[i64]) -> Result<Self, Refusal> {
        let refuse = |why: &str| Refusal::new(why);
        let rank = kernel.len();
        let list = |name: &str, default: i64, n: usize| -> Result<Vec<usize>, Refusal> {
            let values = node.ints(name).map_or_else(|| vec![default; n], <[i64]>::to_vec);
            let sound: Option<Vec<usize>> =
                values.iter().map(|&v| (default..1 << 31).contains(&v).then_some(v as usize)).collect();
            sound.filter(|v| v.len() == n).ok_or_else(|| refuse(&format!("its {name} are {values:?}")))
        };
        let pool = Self {
            kernel: list("kernel_shape", 1, rank)?,
            strides: list("strides", 1, rank)?,
            pads: list("pads", 0, 2 * rank)?,
        };
        if node.int("ceil_mode", 0) != 0 || list("dilations", 1, rank)?.iter().any(|&d| d != 1) {
            return Err(refuse("ceil_mode or dilation"));
        }
        match node.str("auto_pad").unwrap_or("NOTSET") {
            "NOTSET" => {}
            "VALID" if pool.pads.iter().all(|&p| p == 0) => {}
            other => {
                return Err(refuse(&format!("auto_pad {other} decides the pads, so they are not known")));
            }
        }
        if node.int("count_include_pad", 0) == 0 && pool.pads.iter().any(|&p| p != 0) {
            return Err(refuse("its padding is not counted, so the divisor varies along the border"));
        }
        Ok(pool)
    }

    /// Whether this pool as a convolution can be summed with `conv` once its kernel has grown.
    fn fits(&self, conv: &Conv<'_>) -> bool {
        let Some(pads) = &conv.pads else { return false };
        let rank = self.kernel.len();
        let axis = |i: usize| {
            let before = pads.before[i].checked_sub(self.pads[i]);
            let after = pads.after[i].checked_sub(self.pads[rank + i]);
            before.zip(after).is_some_and(|(b, a)| self.kernel[i] + b + a == conv.kernel()[i])
        };
        conv.c_in() == conv.c_out()
            && conv.strides == self.strides
            && conv.unit_dilation()
            && (0..rank).all(axis)
    }
}
