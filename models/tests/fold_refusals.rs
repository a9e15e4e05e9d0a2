//! Patterns that only look alike stay as they are, each for its reason, and hostile graphs do no harm.

mod blocks;
mod reference;
mod support;

use blocks::Draw;
use support::{folded, histogram, same_function};
use tapetum_models::graph::{Attr, Builder, Constant, Conv2d, Dim, Graph, Node};
use tapetum_runtime::Tensor;
use tapetum_runtime::seed::Seeded;

struct Case {
    b: Builder,
    draw: Draw,
    x: String,
}

fn case(dims: &[usize]) -> Case {
    let mut b = Builder::new("case");
    let x = b.input("x", dims.iter().copied().map(Dim::Fixed).collect());
    Case { b, draw: Draw(Seeded::new(21)), x }
}

impl Case {
    /// A convolution of 4 to 4 channels that keeps the size.
    fn conv(&mut self, name: &str, x: &str, k: usize, spec: Conv2d) -> String {
        let weight = self.draw.tensor(&[4, 4 / spec.groups, k, k]);
        let bias = self.draw.tensor(&[4]);
        self.b.conv(name, x, weight, Some(bias), spec)
    }

    fn same(k: usize) -> Conv2d {
        Conv2d { pad: k / 2, ..Conv2d::default() }
    }

    fn norm(&mut self, name: &str, x: &str, c: usize) -> String {
        let norm = self.draw.norm(c);
        self.b.batch_norm(name, x, norm)
    }

    fn constant(&mut self, name: &str, shape: &[usize]) -> String {
        let t = self.draw.factors(shape);
        self.b.param(name, t)
    }

    fn done(mut self, outputs: &[&str]) -> Graph {
        for (i, y) in outputs.iter().enumerate() {
            self.b.output(&format!("y{i}"), y, vec![Dim::Unknown; 4]);
        }
        self.b.finish().unwrap()
    }
}

/// Folds and expects nothing to happen, for this reason (if one is stated).
#[track_caller]
fn stays(graph: &Graph, reason: &str) {
    let (after, report) = folded(graph);
    assert!(report.applied.is_empty(), "{:?}", report.applied);
    assert_eq!(after.nodes, graph.nodes);
    let reasons: Vec<&str> = report.refused.iter().map(|r| r.reason.as_str()).collect();
    assert!(reason.is_empty() || reasons.iter().any(|r| r.contains(reason)), "{reason:?} not in {reasons:?}");
}

#[test]
fn a_convolution_that_is_read_twice_keeps_its_batch_norm() {
    let mut c = case(&[1, 4, 5, 6]);
    let conv = c.conv("conv", &c.x.clone(), 3, Case::same(3));
    let bn = c.norm("bn", &conv, 4);
    stays(&c.done(&[&bn, &conv]), "also read elsewhere");
}

#[test]
fn a_sub_graph_that_captures_a_result_counts_as_a_reader() {
    let mut c = case(&[1, 4, 5, 6]);
    let conv = c.conv("conv", &c.x.clone(), 3, Case::same(3));
    let bn = c.norm("bn", &conv, 4);
    let captures = Attr::Opaque { raw: bytes::Bytes::new(), captures: vec![conv.clone()] };
    let body = c.b.op("If", "if", &[&c.x], &[("then_branch", captures)]);
    stays(&c.done(&[&bn, &body]), "also read elsewhere");
}

#[test]
fn a_value_that_a_sub_graph_captures_is_not_renamed() {
    let mut c = case(&[1, 4, 5, 6]);
    let same = c.b.unary("Identity", "same", &c.x.clone());
    let captures = Attr::Opaque { raw: bytes::Bytes::new(), captures: vec![same.clone()] };
    let body = c.b.op("If", "if", &[&c.x], &[("then_branch", captures)]);
    stays(&c.done(&[&body]), "");
}

#[test]
fn batch_norm_in_training_mode_and_without_spread() {
    let mut c = case(&[1, 4, 5, 6]);
    let conv = c.conv("conv", &c.x.clone(), 1, Conv2d::default());
    let bn = c.norm("bn", &conv, 4);
    let mut training = c.done(&[&bn]);
    let mut flat = training.clone();
    training.nodes[1].attrs.insert("training_mode".into(), Attr::Int(1));
    stays(&training, "training mode");
    let var = flat.nodes[1].inputs[4].clone();
    let minus = Tensor::vector(vec![1f32, 1.0, -0.5, 1.0]);
    flat.constants.insert(var, Constant::Dense(minus.into()));
    stays(&flat, "channel 2: variance + epsilon = -");
}

#[test]
fn batch_norm_along_another_axis() {
    // [N, T, C] · W: the BatchNorm's axis 1 is T.
    let mut c = case(&[2, 4, 3]);
    let w = c.constant("w", &[3, 4]);
    let product = c.b.binary("MatMul", "product", &c.x.clone(), &w);
    let bn = c.norm("bn", &product, 4);
    stays(&c.done(&[&bn]), "rank 2");
}

#[test]
fn sums_of_convolutions_that_differ() {
    let wide = Conv2d { stride: 1, pad: 1, groups: 1 };
    type Change = &'static [(&'static str, fn() -> Attr)];
    let differ: [(&str, [Conv2d; 2], [usize; 2], Change); 4] = [
        ("groups", [wide, Conv2d { groups: 2, ..wide }], [3, 3], &[]),
        ("grouped point", [wide, Conv2d { pad: 0, groups: 2, ..wide }], [3, 1], &[]),
        ("dilation", [wide, Conv2d { pad: 2, ..wide }], [3, 3], &[("dilations", || Attr::Ints(vec![2, 2]))]),
        ("pads", [wide, wide], [3, 3], &[("pads", || Attr::Ints(vec![0, 1, 2, 1]))]),
    ];
    for (what, specs, k, attrs) in differ {
        let mut c = case(&[1, 4, 6, 6]);
        let left = c.conv("left", &c.x.clone(), k[0], specs[0]);
        let right = c.conv("right", &c.x.clone(), k[1], specs[1]);
        let y = c.b.binary("Add", "sum", &left, &right);
        let mut graph = c.done(&[&y]);
        for (name, attr) in attrs {
            graph.nodes[1].attrs.insert((*name).into(), attr());
        }
        println!("{what}");
        stays(&graph, "");
    }
}

#[test]
fn sums_of_other_inputs_and_steps() {
    let mut c = case(&[1, 4, 6, 6]);
    let other = c.b.unary("Relu", "other", &c.x.clone());
    let left = c.conv("left", &c.x.clone(), 3, Case::same(3));
    let right = c.conv("right", &other, 3, Case::same(3));
    let y = c.b.binary("Add", "sum", &left, &right);
    stays(&c.done(&[&y]), "");
    // 1×1 with step 6 makes one pixel, which the sum broadcasts.
    let mut c = case(&[1, 4, 6, 6]);
    let left = c.conv("left", &c.x.clone(), 3, Case::same(3));
    let right = c.conv("right", &c.x.clone(), 1, Conv2d { stride: 6, ..Conv2d::default() });
    let y = c.b.binary("Add", "sum", &left, &right);
    stays(&c.done(&[&y]), "strides [6, 6] and [1, 1]");
    // One output channel is broadcast to four.
    let mut c = case(&[1, 4, 6, 6]);
    let left = c.conv("left", &c.x.clone(), 3, Case::same(3));
    let narrow = c.draw.tensor(&[1, 4, 3, 3]);
    let right = c.b.conv("right", &c.x.clone(), narrow, None, Case::same(3));
    let y = c.b.binary("Add", "sum", &left, &right);
    stays(&c.done(&[&y]), "");
}

#[test]
fn a_partial_sum_that_is_an_output_stays() {
    let mut c = case(&[1, 4, 6, 6]);
    let [one, two, three] = ["one", "two", "three"].map(|n| c.conv(n, &c.x.clone(), 3, Case::same(3)));
    let inner = c.b.binary("Add", "inner", &one, &two);
    let y = c.b.binary("Add", "sum", &inner, &three);
    let before = c.done(&[&y, &inner]);
    let (after, report) = folded(&before);
    assert_eq!(report.counts()["sum_parallel"], 1);
    assert_eq!(histogram(&after)["Conv"], 2);
    same_function(&before, &after, 1, "partial sum");
}

#[test]
fn addends_in_between_are_passed_over() {
    let mut c = case(&[1, 4, 6, 6]);
    let x = c.x.clone();
    let [one, two] = ["one", "two"].map(|n| c.conv(n, &x, 3, Case::same(3)));
    let relu = c.b.unary("Relu", "relu", &x);
    let tanh = c.b.unary("Sigmoid", "sigmoid", &x);
    let a = c.b.binary("Add", "a", &relu, &one);
    let b = c.b.binary("Add", "b", &tanh, &a);
    let y = c.b.binary("Add", "c", &b, &two);
    let before = c.done(&[&y]);
    let (after, _) = folded(&before);
    let ops = histogram(&after);
    assert_eq!((ops["Conv"], ops["Add"]), (1, 2));
    same_function(&before, &after, 1, "addends in between");
}

#[test]
fn a_shared_weight_is_not_changed_for_its_other_reader() {
    let mut c = case(&[1, 4, 6, 6]);
    let x = c.x.clone();
    let weight = c.constant("weight", &[4, 4, 3, 3]);
    let pads = [("pads", Attr::Ints(vec![1; 4]))];
    let one = c.b.op("Conv", "one", &[&x, &weight], &pads);
    let relu = c.b.unary("Relu", "relu", &x);
    let two = c.b.op("Conv", "two", &[&relu, &weight], &pads);
    let bn = c.norm("bn", &one, 4);
    let before = c.done(&[&bn, &two]);
    let (after, report) = folded(&before);
    assert_eq!(report.counts()["conv_then_bn"], 1);
    assert_eq!(after.constants["weight"], before.constants["weight"]);
    same_function(&before, &after, 1, "shared weight");
}

#[test]
fn a_constant_divided_by_a_convolution() {
    for shape in [&[][..], &[1, 4, 1, 1]] {
        let mut c = case(&[1, 4, 6, 6]);
        let conv = c.conv("conv", &c.x.clone(), 3, Case::same(3));
        let over = c.constant("over", shape);
        let y = c.b.binary("Div", "y", &over, &conv);
        stays(&c.done(&[&y]), "not linear");
    }
}

#[test]
fn constants_along_other_axes_or_that_enlarge() {
    for shape in [&[4][..], &[1, 1, 4], &[1, 1, 4, 1], &[3, 4, 1, 1], &[1, 1, 4, 1, 1]] {
        let mut c = case(&[1, 4, 4, 4]);
        let conv = c.conv("conv", &c.x.clone(), 3, Case::same(3));
        let by = c.constant("by", shape);
        let y = c.b.binary("Mul", "y", &conv, &by);
        stays(&c.done(&[&y]), "not one number per channel");
    }
    // Zeros that enlarge the result are no no-op.
    let mut c = case(&[1, 1, 4, 4]);
    let zeros = c.b.param("zeros", Tensor::full(&[3, 1, 1, 1], 0f32));
    let y = c.b.binary("Add", "y", &c.x.clone(), &zeros);
    stays(&c.done(&[&y]), "");
}

#[test]
fn a_divisor_of_zero_stays_in_the_graph() {
    let mut c = case(&[1, 4, 4, 4]);
    let conv = c.conv("conv", &c.x.clone(), 1, Conv2d::default());
    let zero = c.b.param("by", Tensor::new(&[4, 1, 1], vec![1f32, 0.0, 2.0, 3.0]).unwrap());
    let y = c.b.binary("Div", "y", &conv, &zero);
    stays(&c.done(&[&y]), "channel 1 is divided by zero");
}

#[test]
fn sequences_that_would_not_be_exact_or_not_pay() {
    // A bias before padding.
    let mut c = case(&[1, 4, 6, 6]);
    let one = c.conv("one", &c.x.clone(), 1, Conv2d::default());
    let y = c.conv("two", &one, 3, Case::same(3));
    stays(&c.done(&[&y]), "bias");
    // Padding after more than one tap.
    let mut c = case(&[1, 4, 6, 6]);
    let one = c.conv("one", &c.x.clone(), 3, Case::same(3));
    let y = c.conv("two", &one, 3, Case::same(3));
    stays(&c.done(&[&y]), "pads with zeros");
    // 1×1 before a depthwise 3×3, as OSNet has it.
    let mut c = case(&[1, 8, 6, 6]);
    let point = c.draw.tensor(&[8, 8, 1, 1]);
    let one = c.b.conv("one", &c.x.clone(), point, None, Conv2d::default());
    let depthwise = c.draw.tensor(&[8, 1, 3, 3]);
    let y = c.b.conv("two", &one, depthwise, None, Conv2d { pad: 1, groups: 8, stride: 1 });
    stays(&c.done(&[&y]), "576 multiplications where the two need 136");
}

#[test]
fn bare_batch_norms_stay_where_no_convolution_takes_them() {
    let mut c = case(&[1, 4, 6, 6]);
    let bn = c.norm("bn", &c.x.clone(), 4);
    let y = c.b.unary("Relu", "relu", &bn);
    stays(&c.done(&[&y]), "not summed with a convolution");
    let mut c = case(&[1, 4, 6, 6]);
    let x = c.x.clone();
    let relu = c.b.unary("Relu", "relu", &x);
    let (bn, conv) = (c.norm("bn", &relu, 4), c.conv("conv", &x, 3, Case::same(3)));
    let y = c.b.binary("Add", "sum", &bn, &conv);
    stays(&c.done(&[&y]), "not summed with a convolution of the same input");
}

#[test]
fn average_pools_whose_divisor_varies() {
    for (attr, reason) in [("count_include_pad", "not counted"), ("ceil_mode", "ceil_mode")] {
        let mut c = case(&[1, 4, 6, 6]);
        let x = c.x.clone();
        let conv = c.conv("conv", &x, 3, Case::same(3));
        let attrs = [
            ("kernel_shape", Attr::Ints(vec![3; 2])),
            ("pads", Attr::Ints(vec![1; 4])),
            ("count_include_pad", Attr::Int(i64::from(attr == "ceil_mode"))),
            ("ceil_mode", Attr::Int(i64::from(attr == "ceil_mode"))),
        ];
        let pool = c.b.op("AveragePool", "pool", &[&x], &attrs);
        let y = c.b.binary("Add", "sum", &conv, &pool);
        stays(&c.done(&[&y]), reason);
    }
}

#[test]
fn expanding_a_number_does_not_blow_the_file_up() {
    let mut c = case(&[1, 4, 6, 6]);
    let (one, shape) = (c.b.float(0.5), c.b.ints(&[1000, 1000, 1000, 1000]));
    let big = c.b.op("Expand", "big", &[&one, &shape], &[]);
    let zeros = c.b.op("ConstantOfShape", "zeros", &[&shape], &[]);
    let y = c.b.binary("Mul", "y", &big, &zeros);
    stays(&c.done(&[&y]), "");
}

#[test]
fn auto_pad_is_left_alone_by_what_does_not_need_it() {
    let mut c = case(&[1, 4, 7, 7]);
    let weight = c.constant("weight", &[4, 4, 3, 3]);
    let attrs = [("auto_pad", Attr::Str("SAME_LOWER".into())), ("strides", Attr::Ints(vec![2, 2]))];
    let conv = c.b.op("Conv", "conv", &[&c.x.clone(), &weight], &attrs);
    let bn = c.norm("bn", &conv, 4);
    let before = c.done(&[&bn]);
    let (after, _) = folded(&before);
    assert_eq!(after.nodes.len(), 1);
    assert_eq!(after.nodes[0].str("auto_pad"), Some("SAME_LOWER"));
    same_function(&before, &after, 1, "auto_pad");
}

#[test]
fn operators_of_other_domains_are_not_touched() {
    let mut c = case(&[1, 4, 6, 6]);
    let conv = c.conv("conv", &c.x.clone(), 1, Conv2d::default());
    let bn = c.norm("bn", &conv, 4);
    let mut graph = c.done(&[&bn]);
    graph.nodes[1].domain = "com.example".into();
    stays(&graph, "");
    let node = Node { domain: "com.example".into(), ..Node::new("Identity", "i", &["y0"], &["z"]) };
    graph.nodes.push(node);
    graph.outputs[0].name = "z".into();
    stays(&graph, "");
}

/// A head of `classes` maps, doubled, with a softmax along `axis`.
fn segmenter(classes: usize, groups: usize, axis: i64) -> (Graph, [String; 2]) {
    let mut c = case(&[1, 4, 6, 6]);
    let weight = c.draw.tensor(&[classes, 4 / groups, 1, 1]);
    let scores = c.b.conv("head", &c.x.clone(), weight, None, Conv2d { groups, ..Conv2d::default() });
    let scales = c.b.helper("scales", Tensor::vector(vec![1.0f32, 1.0, 2.0, 2.0]));
    let up = c.b.op("Resize", "up", &[&scores, "", &scales], &[("mode", Attr::Str("linear".into()))]);
    let y = c.b.op("Softmax", "softmax", &[&up], &[("axis", Attr::Int(axis))]);
    (c.done(&[&y]), [scores, up])
}

#[test]
fn a_softmax_that_is_not_over_two_maps_stays() {
    stays(&segmenter(3, 1, 1).0, "");
    stays(&segmenter(2, 1, 2).0, "");
    stays(&segmenter(2, 2, 1).0, "grouped");
    let (mut crops, _) = segmenter(2, 1, 1);
    let mode = Attr::Str("tf_crop_and_resize".into());
    crops.nodes[1].attrs.insert("coordinate_transformation_mode".into(), mode);
    stays(&crops, "fill in a value");
    for read in segmenter(2, 1, 1).1 {
        let (mut graph, _) = segmenter(2, 1, 1);
        graph.outputs.push(tapetum_models::graph::Value { name: read, ..graph.outputs[0].clone() });
        stays(&graph, "read elsewhere");
    }
    for axis in [1, -3] {
        let (before, _) = segmenter(2, 1, axis);
        let (after, _) = folded(&before);
        let ops = histogram(&after).into_keys().collect::<Vec<_>>();
        assert_eq!(ops, ["Conv", "Resize", "Sigmoid"]);
        same_function(&before, &after, 1, "two classes");
    }
}

/// `x` and a map made of it below each other, read as `shape`, into a convolution of `groups`.
fn interleaved(rows: Dim, axis: i64, shape: &[i64]) -> Graph {
    let mut c = case(&[1, 4, 6, 6]);
    let x = c.b.input("second", vec![Dim::Fixed(1), Dim::Fixed(4), rows, Dim::Fixed(6)]);
    let stacked = c.b.concat("stack", &[&c.x.clone(), &x], axis);
    let pairs = c.b.reshape("interleave", &stacked, shape);
    let weight = c.draw.tensor(&[4, 2, 3, 3]);
    let y = c.b.conv("mix", &pairs, weight, None, Conv2d { groups: 4, ..Case::same(3) });
    c.done(&[&y])
}

#[test]
fn groups_that_are_not_two_interleaved_maps_stay() {
    let interleaves = [0, 8, -1, 0];
    let (after, _) = folded(&interleaved(Dim::Fixed(6), 2, &interleaves));
    assert_eq!(histogram(&after).into_iter().collect::<Vec<_>>(), [("Add".into(), 1), ("Conv".into(), 2)]);
    // Rows of another map would end up in its neighbour's channels.
    stays(&interleaved(Dim::Fixed(2), 2, &interleaves), "not known to have as many rows");
    stays(&interleaved(Dim::Unknown, 2, &interleaves), "not known to have as many rows");
    // Side by side, the columns are mixed.
    stays(&interleaved(Dim::Fixed(6), 3, &[0, 8, 6, 6]), "");
    // One after the other is no interleaving, only a Reshape that does nothing.
    let (after, report) = folded(&interleaved(Dim::Fixed(6), 1, &interleaves));
    assert_eq!(report.counts().into_keys().collect::<Vec<_>>(), ["no_op"]);
    assert_eq!(histogram(&after)["Conv"], 1);
    let mut read = interleaved(Dim::Fixed(6), 2, &interleaves);
    let pairs = read.nodes[1].output().to_owned();
    read.outputs.push(tapetum_models::graph::Value { name: pairs, ..read.outputs[0].clone() });
    stays(&read, "");
}
