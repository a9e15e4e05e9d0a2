//! Random blocks of the re-parameterisation literature against the operators' definitions in `f64`.

mod blocks;
mod reference;
mod support;

use blocks::{Block, Branch, block};
use proptest::prelude::*;
use support::{folded, histogram, same_function};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// MobileOne, RepVGG and ACNet blocks in every mixture become one convolution.
    #[test]
    fn parallel_blocks_become_one_convolution(block in block()) {
        let before = block.graph();
        let (after, report) = folded(&before);
        let ops = histogram(&after);
        let convs = ops.get("Conv").copied().unwrap_or(0);
        prop_assert_eq!(convs, 1, "{:?}\n{:?}\n{:?}", &block, ops, report.refused);
        prop_assert_eq!(after.nodes.len(), 1, "{:?}\n{:?}", &block, ops);
        same_function(&before, &after, block.seed, &format!("{block:?}"));
    }

    /// The same blocks with branches that only look alike: whatever is folded, the function stays.
    #[test]
    fn near_misses_keep_their_function(mut block in block(), odd in blocks::odd()) {
        block.odd = Some(odd);
        let before = block.graph();
        let (after, _) = folded(&before);
        same_function(&before, &after, block.seed, &format!("{block:?}"));
    }

    /// DBB-like sequences: 1×1 → BN → k×k → BN beside a k×k → BN, padded or not.
    #[test]
    fn sequences_keep_their_function(seed in 0u64..1 << 40, shape in blocks::chain::sequence()) {
        let before = shape.graph(seed);
        let (after, _) = folded(&before);
        same_function(&before, &after, seed, &format!("{shape:?}"));
    }

    /// Linear → BN, SSF after everything it goes into, difference kernels summed: one node or two.
    #[test]
    fn affine_chains_keep_their_function(seed in 0u64..1 << 40, chain in blocks::chain::chain()) {
        let before = chain.graph(seed);
        let (after, report) = folded(&before);
        let most = chain.most_nodes();
        prop_assert!(after.nodes.len() <= most, "{:?}: {:?}\n{:?}", chain, histogram(&after), report.refused);
        same_function(&before, &after, seed, &format!("{chain:?}"));
    }
}

/// A whole block by name, as the networks have it: five rules, each as often as the block has its pattern.
#[test]
fn a_mobileone_block_counts_its_folds() {
    let block = Block {
        seed: 7,
        channels: [6, 6],
        groups: 2,
        kernel: 3,
        stride: 1,
        branches: vec![Branch::Full, Branch::Full, Branch::Point, Branch::Skip],
        order: 1,
        odd: None,
    };
    let (after, report) = folded(&block.graph());
    let counts: Vec<(&str, usize)> = report.counts().into_iter().collect();
    let want = [("bn_as_conv", 1), ("conv_then_bn", 3), ("grow_kernel", 1), ("sum_parallel", 1)];
    assert_eq!(counts, want);
    assert_eq!(after.nodes[0].name, "stage.0");
    let constants: Vec<&String> = after.constants.keys().collect();
    assert_eq!(constants, ["stage.0.bias", "stage.0.weight"]);
}
