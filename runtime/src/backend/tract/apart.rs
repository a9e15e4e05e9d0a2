//! Keeps tract from folding `c − conv(x)` and `c ÷ conv(x)` into the convolution, which comes out wrong.
//!
//! tract folds an operator between a convolution and a value of `[1, C, 1, 1]` into weights and bias, whichever side the
//! convolution is on. With the convolution on the right of a Sub it keeps the weights' sign, and of a Div it
//! divides by each weight (0.23.9, `declutter_channel_arithmetic_succ`; `1 − conv(x)` of one channel is such a case,
//! too). A node in between that tract does not look through leaves both as they are.

use tract_onnx::{
    prelude::*,
    tract_hir::{
        internal::*,
        tract_core::ops::{
            binary::TypedBinOp,
            math::{Div, Sub},
        },
    },
};

/// Hands its input on. Unlike tract's own Identity it is never taken out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Apart;

impl Op for Apart {
    fn name(&self) -> StaticName {
        "Apart".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Apart {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        Ok(inputs)
    }
}

impl TypedOp for Apart {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(inputs.iter().map(|fact| fact.without_value()).collect())
    }

    as_op!();
}

/// Sets the right side of every Sub and Div apart whose left side could be folded into a convolution.
///
/// Whether a convolution comes to stand there is only known once tract has rearranged the graph, so it is not asked.
pub(super) fn keep_apart(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes.len() {
        let node = model.node(id);
        let Some(TypedBinOp(op, _)) = node.op_as::<TypedBinOp>() else { continue };
        if !op.is::<Sub>() && !op.is::<Div>() {
            continue;
        }
        let (name, right) = (node.name.clone(), node.inputs[1]);
        let left = model.outlet_fact(node.inputs[0])?;
        // Pictures have at least an axis beside batch and channels, and one value per channel has one extent at most.
        let extents = left.shape.iter().filter(|d| **d != 1.to_dim()).count();
        if left.rank() < 3 || extents > 1 || model.outlet_fact(right)?.konst.is_some() {
            continue;
        }
        let fact = model.outlet_fact(right)?.without_value();
        let apart = model.add_node(format!("{name}.apart"), Apart, tvec!(fact))?;
        model.add_edge(right, InletId::new(apart, 0))?;
        model.add_edge(OutletId::new(apart, 0), InletId::new(id, 1))?;
    }
    Ok(())
}
