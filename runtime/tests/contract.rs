//! The contract: what is written, what is refused, what TOML may replace, and the golden check.

mod common;

use common::{engines, onnx};
use tapetum_runtime::{
    DType, ErrorKind, Tensor,
    backend::{LoadOptions, ModelSource, Port},
    contract::*,
};

fn port(name: &str, shape: &[Option<usize>]) -> Port {
    Port { name: name.into(), dtype: DType::F32, shape: shape.into() }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}

fn ports() -> (Vec<Port>, Vec<Port>) {
    let inputs = vec![port("image", &[Some(1), Some(3), Some(240), Some(320)])];
    let outputs = vec![
        port("probs", &[Some(1), Some(4)]),
        port("boxes", &[Some(1), Some(7), Some(300)]),
        port("mask", &[Some(1), Some(2), None, None]),
    ];
    (inputs, outputs)
}

/// A contract that uses every part.
fn full() -> Contract {
    let (inputs, outputs) = ports();
    let mut c = Contract::of_ports(&inputs, &outputs).unwrap();
    c.network = Network { name: "tfdet".into(), variant: Some("s0".into()), form: Form::Deployment };
    c.outputs[0].kind = OutputKind::Classes {
        labels: words(&["clear", "closed", "broken", "blur"]),
        activation: Activation::Softmax,
    };
    c.outputs[1].kind = OutputKind::Boxes {
        labels: words(&["inside", "middle", "outside"]),
        layout: BoxLayout::CxcywhScores,
        score_threshold: 0.25,
        iou_threshold: Some(0.45),
    };
    c.outputs[2].kind = OutputKind::Mask { labels: words(&["sound", "broken"]), rule: MaskRule::Argmax };
    c.source = Some(Source {
        file: "det.pt".into(),
        sha256: "0123456789abcdef".repeat(4),
        container: Container::PytorchZip,
        form: Form::Training,
    });
    c.folds = [("sum_parallel".to_owned(), 5), ("conv_then_bn".to_owned(), 38)].into();
    c.proof = Some(Proof {
        backend: "tract 0.23.9".into(),
        seeds: vec![1, 2],
        input_shape: vec![1, 3, 240, 320],
        max_abs: 1e-6,
        max_rel: 5e-7,
        per_output: vec![OutputError { name: "probs".into(), max_abs: 1e-6, max_rel: 5e-7 }],
        tolerance: 1e-5,
        parameters_before: 673_671,
        parameters_after: 603_095,
    });
    let made = Tensor::new(&[1, 4], vec![0.25f32, 0.5, -3.5, 0.125]).unwrap();
    c.golden = Some(Golden::record(7, &[1, 3, 240, 320], &[("probs", &made)], 1e-4).unwrap());
    c
}

#[test]
fn json_is_exact_and_comes_back() {
    let json = full().to_json();
    assert_eq!(Contract::from_json(&json).unwrap(), full());
    assert_eq!(Contract::from_json(&json).unwrap().to_json(), json);
    let start = concat!(
        r#"{"version":1,"network":{"name":"tfdet","variant":"s0","form":"deployment"},"#,
        r#""input":{"name":"image","size":{"fixed":{"height":240,"width":320}},"#,
        r#""resize":{"stretch":{"filter":"bilinear"}},"colour":"rgb","scale":0.003921569,"#,
        r#""mean":[0.0,0.0,0.0],"std":[1.0,1.0,1.0],"pad":"none"},"#,
        r#""outputs":[{"name":"probs","kind":{"classes":{"labels":["clear","closed","broken","blur"],"#,
        r#""activation":"softmax"}}},"#
    );
    assert!(json.starts_with(start), "{json}");
    assert!(json.contains(r#""folds":{"conv_then_bn":38,"sum_parallel":5}"#), "{json}");
    assert!(json.contains(r#""samples":[[0,0.25],[1,0.5],[2,-3.5],[3,0.125]]"#), "{json}");
}

#[test]
fn what_is_not_known_is_refused() {
    let json = full().to_json();
    let refused = |from: &str, to: &str| {
        assert!(json.contains(from), "{from}");
        Contract::from_json(&json.replacen(from, to, 1)).unwrap_err()
    };
    for (from, to, says) in [
        (r#""version":1,"#, r#""version":1,"more":2,"#, "more"),
        (r#"{"height":240"#, r#"{"depth":1,"height":240"#, "depth"),
        (r#""filter":"bilinear""#, r#""filter":"bicubic""#, "bicubic"),
        (r#""pad":"none""#, r#""pad":{"zero_centred":{"multiple":8,"value":0}}"#, "value"),
        (r#""form":"training""#, r#""form":"folded""#, "folded"),
        (r#""labels":["sound","broken"],"#, "", "labels"),
        (r#""seed":7,"#, r#""seed":7,"age":1,"#, "age"),
    ] {
        let error = refused(from, to);
        assert_eq!(error.kind(), ErrorKind::BadFile);
        assert!(error.to_string().contains(says), "{error}");
    }
    let newer = refused(r#""version":1,"#, r#""version":2,"shiny":true,"#);
    assert_eq!(newer.kind(), ErrorKind::Unsupported);
    assert!(newer.to_string().contains("version 2"), "{newer}");
    assert_eq!(Contract::from_json("").unwrap_err().kind(), ErrorKind::BadFile);
}

#[test]
fn values_that_cannot_be_are_told_together() {
    let mut c = full();
    c.input.std = vec![1.0, 0.0, 1.0];
    c.input.mean.pop();
    c.input.scale = f32::NAN;
    c.input.size =
        SizePolicy::Range { min_height: 8, min_width: 64, max_height: 4, max_width: 64, multiple: 0 };
    c.outputs[1].kind = OutputKind::Embedding { dim: 0, metric: Metric::Cosine };
    c.outputs[2].name = "probs".into();
    c.outputs[2].kind =
        OutputKind::Mask { labels: words(&["a", "a"]), rule: MaskRule::Threshold { above: 1.5 } };
    c.source.as_mut().unwrap().sha256 = "ABC".into();
    c.proof.as_mut().unwrap().max_rel = 1.0;
    c.golden.as_mut().unwrap().outputs[0].samples.push((4, 0.0));
    let text = c.validate().unwrap_err().to_string();
    for part in [
        "input.std: must not be 0",
        "input.mean: 2 values for 3 channels",
        "input.scale",
        "input.size.multiple: must not be 0",
        "height 8 to 4 is empty",
        "outputs[1] (boxes).dim: must not be 0",
        "\"probs\" is there twice",
        "\"a\" is there twice",
        "1.5 is not within 0 to 1",
        "a threshold decides on one label",
        "source.sha256",
        "its own tolerance",
        "golden: output \"probs\"",
    ] {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
    // What `to_json` wrote of it does not come back.
    assert!(Contract::from_json(&c.to_json()).is_err());
}

#[test]
fn the_graph_and_the_contract_must_agree() {
    let (inputs, mut outputs) = ports();
    full().check_ports(&inputs, &outputs).unwrap();
    outputs[0].shape = vec![Some(1), Some(1000)];
    outputs[1].name = "other".into();
    let text = full()
        .check_ports(&[port("image", &[Some(1), Some(1), None, None])], &outputs)
        .unwrap_err()
        .to_string();
    for part in [
        "input \"image\": the graph takes [1, 1, ?, ?], the contract says [?, 3, 240, 320]",
        "output \"probs\": the graph gives [1, 1000], the contract says 4 labels: [N, 4]",
        "output \"boxes\": the graph has none of that name",
    ] {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
    let open = SizePolicy::Multiple { of: 4, min_height: 16, min_width: 16 };
    assert!(open.takes(16, 20) && !open.takes(18, 20) && !open.takes(12, 20));
}

#[test]
fn toml_replaces_parts() {
    let text = r#"
        [input]
        size = { multiple = { of = 0x10, min_height = 16, min_width = 16 } }
        resize = "none"
        colour = "bgr"
        scale = 1
        mean = [0.5, 1, 2.5]
        std = [2, 2.0, 2]
        [input.pad.zero_centred]
        multiple = 128

        [output.probs]
        labels = ["a", "b", "c", "d"]

        [output.boxes]
        score_threshold = 0.5
        iou_threshold = 0.7

        [output.mask]
        kind = { mask = { labels = ["broken"], rule = { threshold = { above = 0.5 } } } }
        above = 0.6
    "#;
    let mut c = full();
    ContractOverride::from_toml(text, "det.toml").unwrap().apply(&mut c).unwrap();
    assert_eq!(c.input.size, SizePolicy::Multiple { of: 16, min_height: 16, min_width: 16 });
    assert_eq!((c.input.resize, c.input.colour), (ResizeRule::None, Colour::Bgr));
    assert_eq!(
        (c.input.scale, c.input.mean.clone(), c.input.std.clone()),
        (1.0, vec![0.5, 1.0, 2.5], vec![2.0; 3])
    );
    assert_eq!(c.input.pad, PadRule::ZeroCentred { multiple: 128 });
    assert!(matches!(&c.outputs[0].kind, OutputKind::Classes { labels, activation: Activation::Softmax }
        if *labels == ["a", "b", "c", "d"]));
    assert!(matches!(c.outputs[1].kind, OutputKind::Boxes { score_threshold, iou_threshold: Some(iou), .. }
        if (score_threshold, iou) == (0.5, 0.7)));
    let rule = MaskRule::Threshold { above: 0.6 };
    assert_eq!(c.outputs[2].kind, OutputKind::Mask { labels: words(&["broken"]), rule });
    assert_eq!(c.network, full().network);
}

#[test]
fn every_kind_can_be_written_in_toml() {
    let text = r#"
        [input]
        resize = { shorter_side_crop = { filter = "bilinear_antialiased", shorter_side = 256 } }
        [output.a]
        kind = { classes = { labels = ["x", "y"], activation = "none" } }
        [output.b]
        kind = { boxes = { labels = ["x"], layout = "grid_obj_offsets", score_threshold = 0.1 } }
        [output.c.kind.image]
        range = [0, 1]
        clamp = true
        crop = true
        [output.d.kind.embedding]
        dim = 512
        metric = "cosine"
        [output.e]
        kind = { decision = { stride = 8 } }
        [output.f]
        kind = "aux"
    "#;
    let all = ContractOverride::from_toml(text, "all.toml").unwrap();
    let crop = ResizeRule::ShorterSideCrop { filter: Filter::BilinearAntialiased, shorter_side: 256 };
    assert_eq!(all.input.resize, Some(crop));
    let kind = |name: &str| all.outputs[name].kind.clone().unwrap();
    assert!(matches!(kind("a"), OutputKind::Classes { activation: Activation::None, .. }));
    assert!(matches!(
        kind("b"),
        OutputKind::Boxes { layout: BoxLayout::GridObjOffsets, iou_threshold: None, .. }
    ));
    assert_eq!(kind("c"), OutputKind::Image { range: [0.0, 1.0], clamp: true, crop: true });
    assert_eq!(kind("d"), OutputKind::Embedding { dim: 512, metric: Metric::Cosine });
    assert_eq!(kind("e"), OutputKind::Decision { stride: 8, shift: 0 });
    assert_eq!(kind("f"), OutputKind::Aux);
}

#[test]
fn toml_tells_every_mistake_with_its_place() {
    let text = r#"[inputs]
[input]
color = "rgb"
colour = "rbg"
scale = "1/255"
mean = [0.5, "half", nan]
size = { fixed = { heigth = 2, width = -1 } }
resize = { strech = { filter = "bilinear" } }
pad = { zero_centred = {} }
[output.mask]
kind = { mask = { labels = "x", rule = "argmin" } }
thresold = 1
[output.image.kind.image]
range = [0]
clamp = "yes"
"#;
    let error = ContractOverride::from_toml(text, "m.toml").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    let want = r#"m.toml:1:2: unknown key "inputs" in the file; did you mean "input"?
m.toml:3:1: unknown key "color" in input; did you mean "colour"?
m.toml:4:10: unknown colour "rbg"; did you mean "rgb"?
m.toml:5:9: scale must be a finite number, this is a value of type string
m.toml:6:14: mean must be a list of finite numbers, this is a value of type string
m.toml:6:22: mean must be a list of finite numbers, this is a value of type float
m.toml:7:18: height is missing here
m.toml:7:20: unknown key "heigth" in fixed; did you mean "height"?
m.toml:7:40: width must be a whole number from 0 on, this is a value of type integer
m.toml:8:12: unknown resize "strech"; did you mean "stretch"?
m.toml:9:24: multiple is missing here
m.toml:11:28: labels must be a list of strings, this is a value of type string
m.toml:11:40: unknown rule "argmin"; did you mean "argmax"?
m.toml:12:1: unknown key "thresold" in mask; known: kind, labels, score_threshold, iou_threshold, above
m.toml:13:1: crop is missing here
m.toml:14:9: range must be two numbers
m.toml:15:9: clamp must be true or false, this is a value of type string"#;
    assert_eq!(error.to_string(), want);
    let syntax =
        ContractOverride::from_toml("[input]\nscale = = 2\nstd = [\n", "s.toml").unwrap_err().to_string();
    assert!(syntax.starts_with("s.toml:2:"), "{syntax}");
}

#[test]
fn an_override_that_does_not_fit_changes_nothing() {
    for (text, says) in [
        ("[output.maks]\nabove = 0.5", "[output.maks]: the model's outputs are probs, boxes, mask"),
        ("[output.probs]\nscore_threshold = 0.5", "[output.probs]: score_threshold belongs to boxes"),
        ("[output.mask]\nabove = 0.5", "above belongs to a mask that a threshold decides"),
        ("[input]\nstd = [0, 1, 1]", "input.std: must not be 0"),
        ("[input]\ncolour = \"grey\"", "input.mean: 3 values for 1 channels"),
    ] {
        let mut c = full();
        let error = ContractOverride::from_toml(text, "o.toml").unwrap().apply(&mut c).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        let text = error.to_string();
        assert!(text.starts_with("o.toml: ") && text.contains(says), "{text}");
        assert_eq!(c, full());
    }
}

/// Stored in deployed models by its seed: never change these values.
#[test]
fn the_golden_input_is_frozen() {
    let drawn = golden::input(42, &[1, 2, 6, 5]);
    let bits: Vec<u32> = drawn.f32s().unwrap().iter().map(|v| v.to_bits()).collect();
    assert_eq!(bits, FROZEN);
    let values = drawn.f32s().unwrap();
    assert!(values.iter().all(|v| (0.0..=1.0).contains(v)));
    let large = golden::input(1, &[2, 3, 64, 48]);
    let count = |value: f32| large.f32s().unwrap().iter().filter(|&&v| v == value).count();
    assert!(count(0.0) >= 3 && count(1.0) >= 3);
    assert_eq!(golden::input(3, &[0, 3, 4, 4]).len(), 0);
    assert_eq!(golden::input(3, &[5]).len(), 5);
}

const FROZEN: [u32; 60] = [
    0x3f3dd732, 0x3e23bf8c, 0, 0, 0x3d1bc580, 0x3f5e4431, 0x3e5fa59c, 0, 0, 0x3f659d84, 0x3e51d1c8,
    0x3f800000, 0x3f800000, 0, 0x3f659d84, 0x3e505148, 0x3f800000, 0x3f800000, 0x3f659d84, 0x3f659d84,
    0x3f751344, 0x3f800000, 0x3f800000, 0x3f1eac75, 0x3d97e198, 0x3ea660a8, 0x3ea660a8, 0x3f49167e,
    0x3dcab340, 0x3dcab340, 0x3f4a376d, 0x3f572c16, 0, 0, 0x3f23351c, 0x3ec2925a, 0x3d811338, 0, 0,
    0x3f2c434f, 0x3f07bebc, 0x3f800000, 0x3f800000, 0, 0x3f2c434f, 0x3ea48d66, 0x3f800000, 0x3f800000,
    0x3f2c434f, 0x3f2c434f, 0x3ebc8058, 0x3f800000, 0x3f800000, 0x3ea3eaf0, 0x3cd5a0e0, 0x3f1f87c0,
    0x3f1f87c0, 0x3f0e53b8, 0x3f4f7091, 0x3f4f7091,
];

#[test]
fn the_golden_check_tells_another_model() {
    let model = |weight: f32| {
        onnx::Onnx::default()
            .input("x", onnx::F32, &[1, 3, -1, -2])
            .floats("w", &[2, 3, 1, 1], &[1.0, -2.0, 3.0, weight, 0.0, 1.0])
            .node("Conv", &["x", "w"], &["y"], &[("kernel_shape", onnx::Attr::Ints(&[1, 1]))])
            .output("y", onnx::F32, Some(&[1, 2, -1, -2]))
            .bytes()
    };
    let shape = [1, 3, 16, 24];
    for engine in engines() {
        let load = |weight| engine.load(ModelSource::Bytes(&model(weight)), &LoadOptions::default()).unwrap();
        let made = load(0.5).run(&[golden::input(9, &shape)]).unwrap();
        let golden = Golden::record(9, &shape, &[("y", &made[0])], 1e-5).unwrap();
        assert!((32..=64).contains(&golden.outputs[0].samples.len()));
        assert!(golden.check(&mut *load(0.5)).unwrap() <= 1e-6);
        let error = golden.check(&mut *load(0.6)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ProofFailed);
        assert!(error.to_string().contains("output \"y\" is"), "{error}");
        let mut other = golden.clone();
        other.outputs[0].name = "z".into();
        assert_eq!(other.check(&mut *load(0.5)).unwrap_err().kind(), ErrorKind::BadFile);
    }
    let nan = Tensor::vector(vec![f32::NAN]);
    assert_eq!(Golden::record(1, &[1], &[("y", &nan)], 1e-5).unwrap_err().kind(), ErrorKind::ProofFailed);
}
