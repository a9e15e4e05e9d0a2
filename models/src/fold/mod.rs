//! From training form to deployment form: small equations over the graph, applied until none applies.
//!
//! A rule is one equation in one file. It reads the graph, proposes a [`Patch`] or refuses with a reason, and knows
//! nothing of networks: a MobileOne block is `conv_then_bn` and `bn_as_conv` per branch, then `grow_kernel` and
//! `sum_parallel`. To add a rule: write `fold/<rule>.rs` with its example, then add its `mod` line and one entry in
//! [`RULES`]; the suites iterate that list.
//!
//! All arithmetic is in `f64`. What a rule computes stays in `f64` inside the graph until the last rule is done and
//! is then rounded to `f32` once.

mod addtree;
mod avg_pool_as_conv;
mod bn_as_conv;
mod constant_folding;
mod conv_then_bn;
mod difference_kernel;
mod driver;
mod eval;
mod example;
mod grow_kernel;
mod interleaved_groups;
mod linear_then_bn;
mod names;
mod no_op;
mod patch;
mod scale_shift;
mod sequence_of_convs;
mod shapes;
mod sum_parallel;
mod two_class_softmax;
mod view;

pub use driver::{Applied, FoldReport, Refused, fold_all, fold_with};
pub use patch::{Patch, Refusal};
pub(crate) use two_class_softmax::{SUFFIX as DIFFERENCES, TwoClassSoftmax};

use crate::graph::{Graph, Index};

/// Every rule, in the order in which each round tries them.
///
/// 1. `difference_kernel` before `constant_folding`, which would compute the same kernel without naming it.
/// 2. `constant_folding` and `no_op` clear away what exporters leave, so that the others see neighbours.
/// 3. The rules that shorten a branch (`*_then_bn`, `scale_shift`, `sequence_of_convs`), so that branches end in a
///    convolution before they are compared.
/// 4. The rules that make branches alike (`avg_pool_as_conv`, `bn_as_conv`, `grow_kernel`).
/// 5. `sum_parallel`, which needs them alike.
/// 6. `interleaved_groups` and `two_class_softmax`, which write what is left so that engines have a kernel for it.
pub static RULES: &[&dyn FoldRule] = &[
    &difference_kernel::DifferenceKernel,
    &constant_folding::ConstantFolding,
    &no_op::NoOp,
    &conv_then_bn::ConvThenBn,
    &linear_then_bn::LinearThenBn,
    &scale_shift::ScaleShift,
    &sequence_of_convs::SequenceOfConvs,
    &avg_pool_as_conv::AvgPoolAsConv,
    &bn_as_conv::BnAsConv,
    &grow_kernel::GrowKernel,
    &sum_parallel::SumParallel,
    &interleaved_groups::InterleavedGroups,
    &two_class_softmax::TwoClassSoftmax,
];

/// One equation that turns a piece of graph into a smaller one which computes the same.
///
/// Every patch must strictly lower, in lexicographic order: the number of Reshapes, of nodes, of Softmaxes, of
/// BatchNormalizations, of AveragePools, and the negated sum of all kernel areas. So folding ends by arithmetic; a rule that does not shrink is
/// an [`crate::ErrorKind::Internal`] error with its name. (Areas are bounded: a kernel only grows to the size of one
/// that is there.)
pub trait FoldRule: Sync {
    /// Key in reports; `snake_case`, unique within [`RULES`].
    fn name(&self) -> &'static str;

    /// The equation in one line, for people.
    fn equation(&self) -> &'static str;

    /// Whether the node at position `at` ends this rule's pattern. Reads only. `Ok(None)`: there is nothing here for
    /// this rule.
    ///
    /// # Errors
    /// A [`Refusal`] where the pattern is nearly there: one line why it stays as it is.
    fn check(&self, graph: &Index<'_>, at: usize) -> Result<Option<Patch>, Refusal>;

    /// A graph, determined by `seed`, in which this rule fires exactly once. Every suite iterates these.
    fn example(&self, seed: u64) -> Graph;
}
