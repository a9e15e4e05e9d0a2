//! The layers that LMD-ViT is made of, on tokens `[.., C]`.

use tapetum_runtime::{Result, Tensor};

use crate::graph::{Attr, Builder};
use crate::zoo::Weights;
use crate::zoo::blocks::EPS;

/// Values in a row of several tokens.
const ROW: usize = 512;
/// Tokens in such a row at most; their number in any plane is a multiple of this.
const TOGETHER: usize = 64;

/// The graph being built and where its tensors come from.
pub(super) struct Emit<'a> {
    pub b: Builder,
    pub w: &'a mut Weights,
}

impl Emit<'_> {
    /// Takes a learned tensor and stores it under its own name.
    pub fn param(&mut self, name: &str, shape: &[usize]) -> Result<String> {
        let tensor = self.w.take(name, shape)?;
        Ok(self.b.param(name, tensor))
    }

    /// `x · Wᵀ + b` for `x [.., c_in]`, stored as `name.weight [c_out, c_in]` and `name.bias`.
    pub fn linear(&mut self, name: &str, x: &str, c_in: usize, c_out: usize) -> Result<String> {
        let weight = self.matrix(&format!("{name}.weight"), c_in, c_out)?;
        let bias = self.param(&format!("{name}.bias"), &[c_out])?;
        Ok(self.affine(name, x, &weight, &bias))
    }

    /// `x · W + b` of values; `b` broadcasts.
    ///
    /// ONNX Runtime makes a Gemm of this where `x` has two axes, which fills its result with the bias first, and leaves
    /// it as it is on three, where a GELU takes the sum along row by row. Wide rows gain by three axes, narrow ones lose.
    pub fn affine(&mut self, name: &str, x: &str, weight: &str, bias: &str) -> String {
        let product = self.b.binary("MatMul", &format!("{name}/product"), x, weight);
        self.b.binary("Add", name, &product, bias)
    }

    /// Takes the matrix `name [c_out, c_in]` and stores it as MatMul wants it, `[c_in, c_out]`.
    pub fn matrix(&mut self, name: &str, c_in: usize, c_out: usize) -> Result<String> {
        let stored = self.w.take(name, &[c_out, c_in])?;
        Ok(self.b.param(name, Tensor::new(&[c_in, c_out], turned(stored.f32s()?, c_out, c_in))?))
    }

    /// LayerNorm over the last axis, stored as `name.{weight, bias} [channels]`.
    pub fn layer_norm(&mut self, name: &str, x: &str, channels: usize) -> Result<String> {
        let weight = self.param(&format!("{name}.weight"), &[channels])?;
        let bias = self.param(&format!("{name}.bias"), &[channels])?;
        let attrs = [("axis", Attr::Int(-1)), ("epsilon", Attr::Float(EPS))];
        Ok(self.b.op("LayerNormalization", name, &[x, &weight, &bias], &attrs))
    }

    /// GELU in its exact form, `0.5·x · (1 + erf(x / √2))`, spelled in the pattern that ONNX Runtime fuses.
    pub fn gelu(&mut self, name: &str, x: &str) -> String {
        let [root, one, half] = [std::f32::consts::SQRT_2, 1.0, 0.5].map(|v| self.b.float(v));
        let scaled = self.b.binary("Div", &format!("{name}/scaled"), x, &root);
        let erf = self.b.unary("Erf", &format!("{name}/erf"), &scaled);
        let share = self.b.binary("Add", &format!("{name}/share"), &erf, &one);
        let twice = self.b.binary("Mul", &format!("{name}/twice"), x, &share);
        self.b.binary("Mul", name, &twice, &half)
    }

    /// `GELU(x · W + b)` of all tokens of a plane, `x [H·W, C]` → `[H·W, width]`; `b` is `[width]` or `[1, width]`.
    ///
    /// Several tokens together make a row for `b` and the GELU. Where the sum has the rows of the product, ONNX Runtime
    /// makes a Gemm of both, which first fills the whole result with `b`, on one thread; where it has not, the GELU
    /// takes `b` along, and long rows are what it does well.
    pub fn affine_gelu(
        &mut self,
        names: [&str; 2],
        x: &str,
        weight: &str,
        bias: &str,
        width: usize,
    ) -> String {
        let [linear, gelu] = names;
        let together = 1 << (ROW / width).clamp(2, TOGETHER).ilog2();
        let product = self.b.binary("MatMul", &format!("{linear}/product"), x, weight);
        let rows = self.b.reshape(&format!("{linear}/rows"), &product, &[-1, together * width as i64]);
        let shape = self.b.ints(&[together, width as i64]);
        let bias = self.b.binary("Expand", &format!("{linear}/bias/each"), bias, &shape);
        let bias = self.b.reshape(&format!("{linear}/bias/row"), &bias, &[-1]);
        let sum = self.b.binary("Add", linear, &rows, &bias);
        let rows = self.gelu(gelu, &sum);
        self.b.reshape(&format!("{gelu}/tokens"), &rows, &[-1, width as i64])
    }

    /// Mean along one axis, which disappears.
    pub fn mean(&mut self, name: &str, x: &str, axis: i64) -> String {
        let attrs = [("axes", Attr::Ints(vec![axis])), ("keepdims", Attr::Int(0))];
        self.b.op("ReduceMean", name, &[x], &attrs)
    }

    /// `Gather` along axis 0.
    pub fn gather(&mut self, name: &str, table: &str, indices: &str) -> String {
        self.b.op("Gather", name, &[table, indices], &[("axis", Attr::Int(0))])
    }
}

/// The matrix `values [rows, cols]`, transposed.
pub(super) fn turned(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..rows * cols).map(|at| values[at % rows * cols + at / rows]).collect()
}
