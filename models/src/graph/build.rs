//! Building a graph by hand: what the zoo's networks are written in.

use std::collections::BTreeMap;

use tapetum_runtime::{DType, Result, Tensor};

use super::{Attr, Dim, Graph, HELPER_PREFIX, Node, Value};

/// The operator set that networks of the zoo are written in: the newest that every engine in use knows, with
/// LayerNormalization (17) and without the axes-as-inputs change of the reductions (18).
pub const OPSET: i64 = 17;

/// Geometry of a 2-D convolution; the kernel size comes from the weight.
#[derive(Clone, Copy, Debug)]
pub struct Conv2d {
    /// Step in both axes.
    pub stride: usize,
    /// Zeros added on each side.
    pub pad: usize,
    /// Number of groups; `C_in` for a depthwise convolution.
    pub groups: usize,
}

impl Default for Conv2d {
    fn default() -> Self {
        Self { stride: 1, pad: 0, groups: 1 }
    }
}

/// A convolution kernel that is already a value of the graph: computed there, or shared by several nodes.
#[derive(Clone, Copy, Debug)]
pub struct Kernel<'a> {
    /// `[C_out, C_in / groups, kH, kW]`
    pub weight: &'a str,
    /// `[C_out]`
    pub bias: Option<&'a str>,
    /// `[kH, kW]`
    pub size: [usize; 2],
}

/// Geometry of a transposed 2-D convolution; the kernel size comes from the weight.
#[derive(Clone, Copy, Debug)]
pub struct ConvTranspose2d {
    /// Growth in both axes.
    pub stride: usize,
    /// Rows and columns cut from each side of the result.
    pub pad: usize,
    /// Rows and columns added at the bottom and right of the result.
    pub output_pad: usize,
}

/// Window of a 2-D pooling.
#[derive(Clone, Copy, Debug)]
pub struct Pool2d {
    /// Square window size.
    pub kernel: usize,
    /// Step in both axes.
    pub stride: usize,
    /// Cells added on each side.
    pub pad: usize,
}

/// The five parts of a BatchNorm in inference mode; each tensor is `[C]`.
#[derive(Clone, Debug)]
pub struct Norm {
    /// γ
    pub gamma: Tensor,
    /// β
    pub beta: Tensor,
    /// Running mean μ.
    pub mean: Tensor,
    /// Running variance σ².
    pub var: Tensor,
    /// Added to σ² under the root. There is deliberately no default.
    pub eps: f32,
}

/// Builds a [`Graph`] node by node. A node's (first) output value has the node's name.
pub struct Builder {
    graph: Graph,
}

impl Builder {
    /// An empty graph called `name`.
    pub fn new(name: &str) -> Self {
        let opsets = BTreeMap::from([(String::new(), OPSET)]);
        Self { graph: Graph { name: name.into(), opsets, ..Graph::default() } }
    }

    /// A float input; returns its value.
    pub fn input(&mut self, name: &str, dims: Vec<Dim>) -> String {
        self.graph.inputs.push(Value { name: name.into(), dtype: DType::F32, dims });
        name.into()
    }

    /// A learned tensor under its checkpoint name; returns its value.
    pub fn param(&mut self, name: &str, tensor: Tensor) -> String {
        self.graph.add_constant(name, tensor)
    }

    /// A tensor that belongs to the arithmetic (a shape, mask or matrix); returns its value. Equal helpers of the
    /// same name are stored once.
    pub fn helper(&mut self, name: &str, tensor: Tensor) -> String {
        let full = format!("{HELPER_PREFIX}{name}");
        match self.graph.dense(&full) {
            Some(have) if **have == tensor => full,
            _ => self.graph.add_constant(&full, tensor),
        }
    }

    /// A rank-1 `i64` helper, as shapes, axes and slice bounds want it.
    pub fn ints(&mut self, values: &[i64]) -> String {
        let text: Vec<String> = values.iter().map(i64::to_string).collect();
        self.helper(&format!("ints[{}]", text.join(",")), Tensor::vector(values.to_vec()))
    }

    /// A scalar `f32` helper.
    pub fn float(&mut self, value: f32) -> String {
        self.helper(&format!("{value}"), Tensor::scalar(value))
    }

    /// Adds operator `op`; returns its output.
    pub fn op(&mut self, op: &str, name: &str, inputs: &[&str], attrs: &[(&str, Attr)]) -> String {
        self.ops(op, name, inputs, attrs, 1).remove(0)
    }

    /// Adds operator `op` with `outputs` outputs: the first has the node's name, the others `name.1`, `name.2`, ...
    pub fn ops(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&str],
        attrs: &[(&str, Attr)],
        outputs: usize,
    ) -> Vec<String> {
        let outputs: Vec<String> =
            (0..outputs).map(|i| if i == 0 { name.into() } else { format!("{name}.{i}") }).collect();
        let mut node = Node::new(op, name, inputs, &[]);
        node.outputs.clone_from(&outputs);
        node.attrs = attrs.iter().map(|(k, v)| ((*k).into(), v.clone())).collect();
        self.graph.nodes.push(node);
        outputs
    }

    /// Convolution with weight `[C_out, C_in / groups, kH, kW]` and optional bias `[C_out]`, stored as
    /// `name.weight` and `name.bias`.
    pub fn conv(
        &mut self,
        name: &str,
        x: &str,
        weight: Tensor,
        bias: Option<Tensor>,
        spec: Conv2d,
    ) -> String {
        let kernel = kernel_shape(&weight);
        let (weight, bias) = self.weight_and_bias(name, weight, bias);
        let mut inputs = vec![x, &weight];
        inputs.extend(bias.as_deref());
        self.op("Conv", name, &inputs, &conv_attrs(kernel, spec))
    }

    /// Convolution with a kernel that is already in the graph.
    pub fn conv_with(&mut self, name: &str, x: &str, kernel: Kernel<'_>, spec: Conv2d) -> String {
        let mut inputs = vec![x, kernel.weight];
        inputs.extend(kernel.bias);
        let size = kernel.size.map(|k| k as i64).to_vec();
        self.op("Conv", name, &inputs, &conv_attrs(size, spec))
    }

    /// Transposed convolution with weight `[C_in, C_out, kH, kW]` and optional bias `[C_out]`, stored as
    /// `name.weight` and `name.bias`.
    pub fn conv_transpose(
        &mut self,
        name: &str,
        x: &str,
        weight: Tensor,
        bias: Option<Tensor>,
        spec: ConvTranspose2d,
    ) -> String {
        let kernel = kernel_shape(&weight);
        let (weight, bias) = self.weight_and_bias(name, weight, bias);
        let mut inputs = vec![x, &weight];
        inputs.extend(bias.as_deref());
        let attrs = [
            ("kernel_shape", Attr::Ints(kernel)),
            ("strides", Attr::Ints(vec![spec.stride as i64; 2])),
            ("pads", Attr::Ints(vec![spec.pad as i64; 4])),
            ("output_padding", Attr::Ints(vec![spec.output_pad as i64; 2])),
        ];
        self.op("ConvTranspose", name, &inputs, &attrs)
    }

    /// `MaxPool` or `AveragePool`.
    pub fn pool(&mut self, op: &str, name: &str, x: &str, window: Pool2d) -> String {
        let attrs = [
            ("kernel_shape", Attr::Ints(vec![window.kernel as i64; 2])),
            ("strides", Attr::Ints(vec![window.stride as i64; 2])),
            ("pads", Attr::Ints(vec![window.pad as i64; 4])),
        ];
        self.op(op, name, &[x], &attrs)
    }

    fn weight_and_bias(
        &mut self,
        name: &str,
        weight: Tensor,
        bias: Option<Tensor>,
    ) -> (String, Option<String>) {
        let weight = self.param(&format!("{name}.weight"), weight);
        (weight, bias.map(|b| self.param(&format!("{name}.bias"), b)))
    }

    /// BatchNorm in inference mode, stored as `name.{weight, bias, running_mean, running_var}`.
    pub fn batch_norm(&mut self, name: &str, x: &str, norm: Norm) -> String {
        let parts = [
            ("weight", norm.gamma),
            ("bias", norm.beta),
            ("running_mean", norm.mean),
            ("running_var", norm.var),
        ]
        .map(|(part, tensor)| self.param(&format!("{name}.{part}"), tensor));
        let inputs = [x, &parts[0], &parts[1], &parts[2], &parts[3]];
        self.op("BatchNormalization", name, &inputs, &[("epsilon", Attr::Float(norm.eps))])
    }

    /// Operator with one input and no attributes (`Relu`, `Sigmoid`, `GlobalAveragePool`, ...).
    pub fn unary(&mut self, op: &str, name: &str, x: &str) -> String {
        self.op(op, name, &[x], &[])
    }

    /// Operator with two inputs and no attributes (`Add`, `Mul`, `MatMul`, ...).
    pub fn binary(&mut self, op: &str, name: &str, a: &str, b: &str) -> String {
        self.op(op, name, &[a, b], &[])
    }

    /// Concatenation along `axis`.
    pub fn concat(&mut self, name: &str, parts: &[&str], axis: i64) -> String {
        self.op("Concat", name, parts, &[("axis", Attr::Int(axis))])
    }

    /// Reshape to constant extents (0 copies, −1 infers).
    pub fn reshape(&mut self, name: &str, x: &str, shape: &[i64]) -> String {
        let shape = self.ints(shape);
        self.op("Reshape", name, &[x, &shape], &[])
    }

    /// Transpose by `perm`.
    pub fn transpose(&mut self, name: &str, x: &str, perm: &[i64]) -> String {
        self.op("Transpose", name, &[x], &[("perm", Attr::Ints(perm.to_vec()))])
    }

    /// Conversion to element type `to`.
    pub fn cast(&mut self, name: &str, x: &str, to: DType) -> String {
        let code = i64::from(to.onnx());
        self.op("Cast", name, &[x], &[("to", Attr::Int(code))])
    }

    /// Slice `start..end` along one axis.
    pub fn slice(&mut self, name: &str, x: &str, axis: i64, start: i64, end: i64) -> String {
        let bounds = [start, end, axis].map(|v| self.ints(&[v]));
        self.op("Slice", name, &[x, &bounds[0], &bounds[1], &bounds[2]], &[])
    }

    /// Makes `value` the graph output `name` (an Identity node is added only if `value` is an input, a constant or
    /// an output already).
    pub fn output(&mut self, name: &str, value: &str, dims: Vec<Dim>) {
        let taken = self.graph.is_output(value);
        let made = self.graph.nodes.iter_mut().find(|n| n.outputs.iter().any(|o| o == value));
        match made {
            Some(node) if !taken => {
                node.outputs.iter_mut().filter(|o| *o == value).for_each(|o| name.clone_into(o));
                self.graph.replace_uses(value, name);
            }
            _ => self.graph.nodes.push(Node::new("Identity", &format!("{name}/identity"), &[value], &[name])),
        }
        self.graph.outputs.push(Value { name: name.into(), dtype: DType::F32, dims });
    }

    /// The finished graph, checked.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::Internal`] if an invariant does not hold.
    pub fn finish(mut self) -> Result<Graph> {
        self.graph.remove_dead();
        self.graph.check()?;
        Ok(self.graph)
    }
}

fn kernel_shape(weight: &Tensor) -> Vec<i64> {
    weight.shape().iter().skip(2).map(|&k| k as i64).collect()
}

fn conv_attrs(kernel: Vec<i64>, spec: Conv2d) -> [(&'static str, Attr); 4] {
    let (stride, pad) = (spec.stride as i64, spec.pad as i64);
    [
        ("kernel_shape", Attr::Ints(kernel)),
        ("strides", Attr::Ints(vec![stride; 2])),
        ("pads", Attr::Ints(vec![pad; 4])),
        ("group", Attr::Int(spec.groups as i64)),
    ]
}
