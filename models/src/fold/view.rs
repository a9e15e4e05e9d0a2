//! Nodes read as what the equations speak of. A node that is not exactly that (computed weights, shapes that do not
//! fit, attributes out of range) is not seen at all, so rules need not check again.

use super::patch::Refusal;
use super::shapes::{float_shape, floats};
use crate::graph::{Attr, Graph, Index, Node};

/// A Conv or ConvTranspose with constant `f32` weight and bias, of any spatial rank.
pub(super) struct Conv<'g> {
    pub(super) at: usize,
    pub(super) node: &'g Node,
    graph: &'g Graph,
    /// ConvTranspose: weight `[C_in, C_out / groups, k...]` instead of `[C_out, C_in / groups, k...]`.
    pub(super) transposed: bool,
    pub(super) shape: &'g [usize],
    pub(super) groups: usize,
    pub(super) strides: Vec<usize>,
    pub(super) dilations: Vec<usize>,
    /// Zeros before and after each axis; `None` if `auto_pad` decides.
    pub(super) pads: Option<Pads>,
}

/// Zeros before and after, per axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Pads {
    pub(super) before: Vec<usize>,
    pub(super) after: Vec<usize>,
}

impl Pads {
    fn read(node: &Node, rank: usize) -> Option<Option<Self>> {
        let zeros = Self { before: vec![0; rank], after: vec![0; rank] };
        match node.str("auto_pad").unwrap_or("NOTSET") {
            "NOTSET" => {
                let Some(pads) = node.ints("pads") else { return Some(Some(zeros)) };
                let pads = extents(pads, 0)?;
                (pads.len() == 2 * rank)
                    .then(|| Some(Self { before: pads[..rank].to_vec(), after: pads[rank..].to_vec() }))
            }
            "VALID" => Some(Some(zeros)),
            _ => Some(None),
        }
    }

    pub(super) fn none(&self) -> bool {
        self.before.iter().chain(&self.after).all(|&p| p == 0)
    }

    pub(super) fn attr(&self) -> Attr {
        Attr::Ints(self.before.iter().chain(&self.after).map(|&p| p as i64).collect())
    }
}

/// All of `values`, if none is below `least` or absurdly large.
fn extents(values: &[i64], least: i64) -> Option<Vec<usize>> {
    values.iter().map(|&v| (least..1 << 31).contains(&v).then_some(v as usize)).collect()
}

fn steps(node: &Node, name: &str, rank: usize) -> Option<Vec<usize>> {
    let Some(values) = node.ints(name) else { return Some(vec![1; rank]) };
    extents(values, 1).filter(|v| v.len() == rank)
}

/// `values` as an attribute.
pub(super) fn ints_attr(values: &[usize]) -> Attr {
    Attr::Ints(values.iter().map(|&v| v as i64).collect())
}

impl<'g> Conv<'g> {
    pub(super) fn at(index: &Index<'g>, at: usize) -> Option<Self> {
        let (graph, node) = (index.graph(), index.graph().nodes.get(at)?);
        let transposed = node.is("ConvTranspose");
        if !(transposed || node.is("Conv")) || node.outputs.len() != 1 || node.inputs.len() > 3 {
            return None;
        }
        node.input(0)?;
        let shape = float_shape(graph, node.input(1)?)?;
        let groups = usize::try_from(node.int("group", 1)).ok().filter(|&g| g > 0)?;
        if shape.len() < 3 || shape.contains(&0) || !shape[0].is_multiple_of(groups) {
            return None;
        }
        let rank = shape.len() - 2;
        if node.ints("kernel_shape").is_some_and(|k| extents(k, 1).is_none_or(|k| k != shape[2..])) {
            return None;
        }
        let conv = Self {
            at,
            node,
            graph,
            transposed,
            shape,
            groups,
            strides: steps(node, "strides", rank)?,
            dilations: steps(node, "dilations", rank)?,
            pads: Pads::read(node, rank)?,
        };
        let bias_fits = node.input(2).is_none_or(|b| float_shape(graph, b) == Some(&[conv.c_out()]));
        bias_fits.then_some(conv)
    }

    /// The convolution that makes `value`, if `value` goes nowhere but to the one node that reads it.
    pub(super) fn only_for(index: &Index<'g>, value: &str) -> Option<Self> {
        index.only_reader(value)?;
        Self::at(index, index.producer(value)?.0)
    }

    pub(super) fn input(&self) -> &'g str {
        self.node.input(0).unwrap_or_default()
    }

    pub(super) fn c_out(&self) -> usize {
        if self.transposed { self.shape[1] * self.groups } else { self.shape[0] }
    }

    pub(super) fn c_in(&self) -> usize {
        if self.transposed { self.shape[0] } else { self.shape[1] * self.groups }
    }

    pub(super) fn kernel(&self) -> &'g [usize] {
        &self.shape[2..]
    }

    pub(super) fn taps(&self) -> usize {
        self.kernel().iter().product()
    }

    /// Whether step and dilation are 1 on every axis.
    pub(super) fn unit_dilation(&self) -> bool {
        self.dilations.iter().all(|&d| d == 1)
    }

    pub(super) fn weight(&self) -> Vec<f64> {
        self.node.input(1).and_then(|w| floats(self.graph, w)).unwrap_or_default()
    }

    /// `[C_out]`; zeros where there is none.
    pub(super) fn bias(&self) -> Vec<f64> {
        let bias = self.node.input(2).and_then(|b| floats(self.graph, b));
        bias.unwrap_or_else(|| vec![0.0; self.c_out()])
    }

    /// Multiplies the kernel of each output channel by its factor.
    pub(super) fn scale_outputs(&self, weight: &mut [f64], factors: &[f64]) {
        let taps = self.taps();
        if self.transposed {
            let (per_group_in, per_group_out) = (self.shape[0] / self.groups, self.shape[1]);
            for (n, kernel) in weight.chunks_exact_mut(taps).enumerate() {
                let (c_in, within) = (n / per_group_out, n % per_group_out);
                let c_out = c_in / per_group_in * per_group_out + within;
                kernel.iter_mut().for_each(|w| *w *= factors[c_out]);
            }
        } else {
            for (kernel, factor) in weight.chunks_exact_mut(self.shape[1] * taps).zip(factors) {
                kernel.iter_mut().for_each(|w| *w *= factor);
            }
        }
    }

    /// This node with other constants and another output.
    pub(super) fn rebuilt(&self, name: &str, weight: &str, bias: &str, output: &str) -> Node {
        let mut node = self.node.clone();
        node.name = name.into();
        node.inputs = vec![self.input().into(), weight.into(), bias.into()];
        node.outputs = vec![output.into()];
        node
    }
}

/// A BatchNormalization in inference mode with constant parameters.
pub(super) struct Norm<'g> {
    pub(super) node: &'g Node,
    pub(super) channels: usize,
    graph: &'g Graph,
}

impl<'g> Norm<'g> {
    /// `Ok(None)`: not a BatchNormalization over constants. The refusal: it computes its statistics itself.
    pub(super) fn at(index: &Index<'g>, at: usize) -> Result<Option<Self>, Refusal> {
        let (graph, node) = (index.graph(), &index.graph().nodes[at]);
        if !node.is("BatchNormalization") || node.inputs.len() != 5 {
            return Ok(None);
        }
        if node.int("training_mode", 0) != 0 {
            return Err(Refusal::new("it is in training mode: its statistics come from the batch"));
        }
        if node.outputs.iter().skip(1).any(|o| !o.is_empty()) || node.int("spatial", 1) != 1 {
            return Ok(None);
        }
        let shapes: Option<Vec<&[usize]>> =
            (1..5).map(|i| node.input(i).and_then(|p| float_shape(graph, p))).collect();
        let Some(shapes) = shapes.filter(|_| node.input(0).is_some()) else { return Ok(None) };
        let &[channels] = shapes[0] else { return Ok(None) };
        if channels == 0 || shapes.iter().any(|s| *s != [channels]) {
            return Ok(None);
        }
        Ok(Some(Self { node, channels, graph }))
    }

    pub(super) fn input(&self) -> &'g str {
        self.node.input(0).unwrap_or_default()
    }

    /// Scale and shift per channel: `s = γ / √(σ² + ε)`, `t = β − μ · s`, each `[C]`.
    ///
    /// # Errors
    /// A refusal naming the channel whose `σ² + ε` is not positive.
    pub(super) fn scale_shift(&self) -> Result<(Vec<f64>, Vec<f64>), Refusal> {
        let part = |i| self.node.input(i).and_then(|p| floats(self.graph, p)).unwrap_or_default();
        let (gamma, beta, mean, var) = (part(1), part(2), part(3), part(4));
        // 1e-5 is the default that the operator itself defines.
        let eps = f64::from(self.node.float("epsilon", 1e-5));
        let mut scale = gamma;
        for (c, (s, var)) in scale.iter_mut().zip(&var).enumerate() {
            let spread = var + eps;
            if !(spread > 0.0 && spread.is_finite()) {
                return Err(Refusal::new(format!(
                    "channel {c}: variance + epsilon = {spread:e}, expected > 0"
                )));
            }
            *s /= spread.sqrt();
        }
        let shift = beta.iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
        Ok((scale, shift))
    }
}

/// A Gemm, or a MatMul by a constant matrix from the right: `y = x · W (+ c)`, `W` `[K, N]`.
pub(super) struct Linear<'g> {
    pub(super) at: usize,
    pub(super) node: &'g Node,
    graph: &'g Graph,
    pub(super) gemm: bool,
    pub(super) trans_b: bool,
    pub(super) k: usize,
    pub(super) n: usize,
}

impl<'g> Linear<'g> {
    pub(super) fn at(index: &Index<'g>, at: usize) -> Option<Self> {
        let (graph, node) = (index.graph(), index.graph().nodes.get(at)?);
        let gemm = node.is("Gemm");
        if !(gemm || node.is("MatMul")) || node.outputs.len() != 1 {
            return None;
        }
        node.input(0)?;
        let &[rows, columns] = float_shape(graph, node.input(1)?)? else { return None };
        let trans_b = gemm && node.int("transB", 0) != 0;
        let (k, n) = if trans_b { (columns, rows) } else { (rows, columns) };
        let addend = if gemm { node.input(2) } else { None };
        let fits = |shape: &[usize]| matches!(*shape, [] | [1] | [1, 1]) || *shape == [n] || *shape == [1, n];
        if k == 0 || n == 0 || addend.is_some_and(|c| float_shape(graph, c).is_none_or(|s| !fits(s))) {
            return None;
        }
        Some(Self { at, node, graph, gemm, trans_b, k, n })
    }

    pub(super) fn only_for(index: &Index<'g>, value: &str) -> Option<Self> {
        index.only_reader(value)?;
        Self::at(index, index.producer(value)?.0)
    }

    /// `α · W`, in the order it is stored in.
    pub(super) fn weight(&self) -> Vec<f64> {
        let mut weight = self.node.input(1).and_then(|w| floats(self.graph, w)).unwrap_or_default();
        let alpha = if self.gemm { f64::from(self.node.float("alpha", 1.0)) } else { 1.0 };
        weight.iter_mut().for_each(|w| *w *= alpha);
        weight
    }

    /// `β · c` as `[N]`; zeros where there is none.
    pub(super) fn bias(&self) -> Vec<f64> {
        let beta = f64::from(self.node.float("beta", 1.0));
        let bias = self.node.input(2).filter(|_| self.gemm).and_then(|c| floats(self.graph, c));
        let bias = bias.and_then(|c| super::shapes::spread(c, self.n));
        bias.map_or_else(|| vec![0.0; self.n], |c| c.into_iter().map(|c| c * beta).collect())
    }

    pub(super) fn shape(&self) -> [usize; 2] {
        if self.trans_b { [self.n, self.k] } else { [self.k, self.n] }
    }

    /// Multiplies each output's weights by its factor.
    pub(super) fn scale_outputs(&self, weight: &mut [f64], factors: &[f64]) {
        for (i, w) in weight.iter_mut().enumerate() {
            *w *= factors[if self.trans_b { i / self.k } else { i % self.n }];
        }
    }

    /// A Gemm with α = β = 1, the same transpositions and other constants.
    pub(super) fn as_gemm(&self, name: &str, weight: &str, bias: &str, output: &str) -> Node {
        let inputs = [self.node.input(0).unwrap_or_default(), weight, bias];
        Node::new("Gemm", name, &inputs, &[output])
            .with("transA", Attr::Int(if self.gemm { self.node.int("transA", 0) } else { 0 }))
            .with("transB", Attr::Int(i64::from(self.trans_b)))
    }
}
