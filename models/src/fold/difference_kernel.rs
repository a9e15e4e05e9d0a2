//! A difference convolution becomes a plain one.

use super::example::Example;
use super::names::Names;
use super::shapes::{float_shape, floats, ints};
use super::{FoldRule, Patch, Refusal};
use crate::graph::{Attr, Graph, Index, Node};
use crate::zoo::difference::Difference;

/// A kernel that is computed from learned taps by one of DEA-Net's difference matrices becomes a stored kernel.
///
/// ```text
/// K = reshape(reshape(w, [-1, taps]) · D, [C_out, C_in / groups, 3, 3])     D [taps, 9], one of `Difference::ALL`
/// ```
///
/// Not touched: a matrix that is not exactly one of these (it is folded as what it is, a product of constants), taps
/// that are computed, kernels that do not go to a convolution.
///
/// Source: Chen et al., *DEA-Net*, arXiv:2301.04805, section 3.1.
pub(super) struct DifferenceKernel;

impl FoldRule for DifferenceKernel {
    fn name(&self) -> &'static str {
        "difference_kernel"
    }

    fn equation(&self) -> &'static str {
        "conv(x, w·D) with D one of the central, horizontal, vertical, angular difference maps: K = w·D"
    }

    fn check(&self, graph: &Index<'_>, at: usize) -> Result<Option<Patch>, Refusal> {
        let Some(found) = find(graph, at) else { return Ok(None) };
        let mut kernel = vec![0.0; found.taps.len() / found.matrix.taps() * 9];
        let matrix = found.matrix.matrix();
        for (w, k) in found.taps.chunks_exact(found.matrix.taps()).zip(kernel.chunks_exact_mut(9)) {
            for (tap, w) in w.iter().enumerate() {
                for (k, d) in k.iter_mut().zip(&matrix[tap * 9..]) {
                    *k += w * f64::from(*d);
                }
            }
        }
        let names = Names::of(found.conv);
        let mut patch = Patch::removing(found.nodes);
        let kernel = patch.widened(&names.weight(), &found.shape, kernel)?;
        Ok(Some(patch.with_replacement(graph.graph().nodes[at].output(), &kernel)))
    }

    fn example(&self, seed: u64) -> Graph {
        let mut e = Example::new("difference_kernel", seed);
        let difference = Difference::ALL[e.pick(&[0, 1, 2, 3])];
        let x = e.image(4);
        let weight = e.tensor(&[&[6, 4], difference.taps_shape()].concat());
        let weight = e.b.param("conv1_1.conv.weight", weight);
        let matrix = e.b.helper("difference", difference.tensor());
        let rows = e.b.reshape("conv1_1.conv/rows", &weight, &[-1, difference.taps() as i64]);
        let flat = e.b.binary("MatMul", "conv1_1.conv/difference", &rows, &matrix);
        let kernel = e.b.reshape("conv1_1.conv/kernel", &flat, &[6, 4, 3, 3]);
        let attrs = [("pads", Attr::Ints(vec![1; 4])), ("kernel_shape", Attr::Ints(vec![3; 2]))];
        let y = e.b.op("Conv", "conv1_1.conv", &[&x, &kernel], &attrs);
        e.finish(&y, 4)
    }
}

struct Found<'g> {
    conv: &'g Node,
    matrix: Difference,
    taps: Vec<f64>,
    /// Of the kernel.
    shape: Vec<usize>,
    /// The nodes that nobody needs any more.
    nodes: Vec<usize>,
}

/// The difference kernel whose last Reshape is at `at`.
fn find<'g>(index: &Index<'g>, at: usize) -> Option<Found<'g>> {
    let graph = index.graph();
    let reshape = graph.nodes.get(at).filter(|n| n.is("Reshape"))?;
    let kernel = reshape.output();
    let conv = index.only_reader(kernel).map(|(_, n)| n)?;
    if !(conv.is("Conv") && conv.input(1) == Some(kernel)) {
        return None;
    }
    let (product_at, product) = index.producer(reshape.input(0)?).filter(|(_, n)| n.is("MatMul"))?;
    let matrix = product.input(1)?;
    let (shape, values) = (float_shape(graph, matrix)?, floats(graph, matrix)?);
    let exact = |d: &Difference| {
        *shape == [d.taps(), 9] && d.matrix().iter().zip(&values).all(|(a, b)| f64::from(*a) == *b)
    };
    let matrix = Difference::ALL.into_iter().find(exact)?;
    let mut nodes = vec![at];
    if index.only_reader(product.output()).is_some() {
        nodes.push(product_at);
    }
    // The taps are stored as rows, or reshaped into them; both keep their order.
    let rows = product.input(0)?;
    let raw = match index.producer(rows) {
        Some((rows_at, n)) if n.is("Reshape") => {
            if nodes.len() == 2 && index.only_reader(rows).is_some() {
                nodes.push(rows_at);
            }
            let to = ints(graph, n.input(1)?)?;
            if to.len() != 2 || usize::try_from(to[1]) != Ok(matrix.taps()) {
                return None;
            }
            n.input(0)?
        }
        Some(_) => return None,
        None => {
            Some(rows).filter(|r| float_shape(graph, r).is_some_and(|s| s.last() == Some(&matrix.taps())))?
        }
    };
    let taps = floats(graph, raw)?;
    let wanted = ints(graph, reshape.input(1)?)?;
    let [c_out, c_in, 3, 3] = wanted[..] else { return None };
    let shape = vec![usize::try_from(c_out).ok()?, usize::try_from(c_in).ok()?, 3, 3];
    let kernels = shape[0].checked_mul(shape[1])?;
    (kernels > 0 && kernels.checked_mul(matrix.taps())? == taps.len()).then_some(Found {
        conv,
        matrix,
        taps,
        shape,
        nodes,
    })
}
