//! Pipeline files with mistakes: all of them at once, each with its place and the word that was probably meant.

use std::path::Path;

use tapetum::config::{Choice, PipelineFile, PrecisionChoice};
use tapetum_runtime::ErrorKind;

/// Parses `text` as if it lay beside tf-collab.toml; every mistake without the file's name.
fn mistakes(text: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("x.toml");
    let place = format!("{}:", path.display());
    match PipelineFile::parse(text.to_owned(), &path) {
        Ok(_) => Vec::new(),
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{e}");
            e.to_string().lines().map(|line| line.replace(&place, "")).collect()
        }
    }
}

/// The shipped file with some of its text replaced.
fn changed(changes: &[(&str, &str)]) -> Vec<String> {
    let mut text = include_str!("../tf-collab.toml").to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from:?} is not in tf-collab.toml");
        text = text.replacen(from, to, 1);
    }
    mistakes(&text)
}

#[test]
fn the_shipped_pipeline_is_sound() {
    assert_eq!(changed(&[]), [""; 0]);
}

#[test]
fn every_mistake_is_told_at_once_with_its_place_and_what_was_meant() {
    let text = "\
[pipeline]
name = 7
engine = [\"tract\", \"orrt\"]
queue = \"newest\"
wrokers = 2

[model.classifier]
checkpoint = \"demo/tf-cls.pt\"
contract = \"demo/tf-cls.contract.toml\"

[[stage]]
name = \"state\"
kind = \"clasify\"
model = \"classifier\"

[[stage]]
name = \"kind\"
kind = \"classify\"
model = \"clasifier\"
every = 0

[[stage]]
kind = \"break-up-time\"
classes = \"later\"
min_rnu = 3
";
    let got = mistakes(text);
    for (place, what) in [
        ("2:8:", "name must be a string"),
        ("3:20:", "unknown engine \"orrt\"; did you mean \"ort\"?"),
        ("4:9:", "unknown queue \"newest\"; known: block, latest"),
        ("5:1:", "unknown key \"wrokers\" in pipeline; did you mean \"workers\"?"),
        ("13:8:", "unknown kind \"clasify\"; did you mean \"classify\"?"),
        ("19:9:", "no sound [model.clasifier]; did you mean \"classifier\"?"),
        ("20:9:", "every must be from 1 to 1000000, this is 0"),
        ("22:1:", "name is missing here"),
        ("24:11:", "no stage \"later\" before this one"),
        ("25:1:", "unknown key \"min_rnu\" in a stage of kind \"break-up-time\"; did you mean \"min_run\"?"),
    ] {
        let line = got.iter().find(|line| line.starts_with(place));
        let line = line.unwrap_or_else(|| panic!("nothing at {place} in {got:#?}"));
        assert!(line.contains(what), "{line:?} does not say {what:?}");
    }
    assert_eq!(got.len(), 10, "{got:#?}");
}

#[test]
fn classes_and_labels_are_held_against_the_models() {
    let got =
        changed(&[("[\"clear\", \"broken\"]", "[\"clear\", \"brocken\"]"), ("\"outside\"", "\"pupil\"")]);
    assert_eq!(got.len(), 2, "{got:#?}");
    assert!(
        got[0].contains("stage \"state\" has no label \"brocken\"; did you mean \"broken\"?"),
        "{got:#?}"
    );
    assert!(
        got[1].contains("stage \"rings\" has no label \"pupil\"; known: inside, middle, outside"),
        "{got:#?}"
    );
}

#[test]
fn a_stage_refers_to_earlier_ones_of_the_right_kind_only() {
    let got = changed(&[("classes = \"state\"", "classes = \"rings\"")]);
    assert!(got[0].contains("stage \"rings\" is of kind \"detect\"; needed is classify"), "{got:#?}");
    let got = changed(&[("name = \"rings\"", "name = \"state\"")]);
    assert!(got.iter().any(|line| line.contains("two stages are called \"state\"")), "{got:#?}");
}

#[test]
fn a_model_that_is_missing_or_of_another_kind_is_named() {
    let got = changed(&[("demo/tf-det.pt", "demo/tf-dot.pt")]);
    assert!(got[0].starts_with("17:14:") && got[0].contains("tf-dot.pt"), "{got:#?}");
    let got = changed(&[("model = \"localizer\"", "model = \"segmenter\"")]);
    let says = "a stage of kind \"detect\" cannot use tfnet: its outputs are probabilities (mask)";
    assert!(got[0].contains(says), "{got:#?}");
    assert_eq!(got.len(), 1, "what follows from a mistake is not told again: {got:#?}");
}

#[test]
fn what_is_left_to_a_tuning_is_understood() {
    let auto = "name = \"tf-collab\"\nengine = \"auto\"\nprecision = \"auto\"";
    assert_eq!(changed(&[("name = \"tf-collab\"", auto)]), [""; 0]);
    let text = include_str!("../tf-collab.toml").replacen("name = \"tf-collab\"", auto, 1);
    let text = text.replacen("[model.segmenter]", "[model.segmenter]\ngate = 0.995", 1);
    let file = PipelineFile::parse(text, &Path::new(env!("CARGO_MANIFEST_DIR")).join("x.toml")).unwrap();
    assert_eq!(file.engine, Some(Choice::Auto));
    assert_eq!(file.precision, Some(PrecisionChoice::Auto));
    assert_eq!(file.models.iter().map(|m| m.gate).collect::<Vec<_>>(), [None, None, Some(0.995)]);
}

#[test]
fn precisions_gates_and_lists_with_auto_are_held_to_what_they_can_be() {
    let head = "name = \"tf-collab\"";
    let got = changed(&[(head, "name = \"x\"\nprecision = \"atuo\"\nengine = [\"auto\", \"tract\"]")]);
    assert_eq!(got.len(), 2, "{got:#?}");
    assert!(got[0].starts_with("11:13:") && got[0].contains("unknown precision \"atuo\""), "{got:#?}");
    assert!(got[0].contains("did you mean \"auto\"?"), "{got:#?}");
    assert!(got[1].starts_with("12:11:") && got[1].contains("\"auto\" stands alone"), "{got:#?}");
    let got = changed(&[("[model.classifier]", "[model.classifier]\ngate = 40")]);
    assert!(got[0].starts_with("13:8:") && got[0].contains("a share, from 0 to 1; this is 40"), "{got:#?}");
    let got = changed(&[("[model.classifier]", "[model.classifier]\ngaet = 1")]);
    assert!(got[0].contains("unknown key \"gaet\"") && got[0].contains("\"gate\""), "{got:#?}");
    // Two places that say a precision would have to agree.
    let two = "[engine.openvino]\nprecision = \"bf16\"\n\n[model.classifier]";
    let got = changed(&[(head, "name = \"x\"\nprecision = \"auto\""), ("[model.classifier]", two)]);
    assert_eq!(got.len(), 1, "{got:#?}");
    assert!(got[0].contains("[engine.openvino] says bf16: leave one of them out"), "{got:#?}");
}

#[test]
fn what_is_not_toml_and_what_is_empty() {
    assert!(mistakes("[pipeline\nname = 3")[0].starts_with("1:"), "{:#?}", mistakes("[pipeline\nname = 3"));
    let got = mistakes("");
    assert!(got.iter().any(|line| line.contains("pipeline is missing here")), "{got:#?}");
    assert!(got.iter().any(|line| line.contains("there is no [[stage]]")), "{got:#?}");
}

#[test]
fn what_engines_are_told_is_read_typed_and_held_to_what_they_know() {
    let head = "[engine.openvino]\n";
    let with = |text: &str| {
        let shipped = include_str!("../tf-collab.toml");
        mistakes(&format!("{shipped}\n{text}"))
            .into_iter()
            .map(|line| {
                // Line and column do not matter where the text is appended.
                line.splitn(3, ':').nth(2).unwrap_or_default().trim().to_owned()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(
        with(&format!("{head}device = \"CPU\"\nprecision = \"bf16\"\nthreads = 2\ncache = \"ov\"")),
        [""; 0]
    );
    let cuda = "[engine.cuda]\ndevice = 1\nprecision = \"tf32\"\nmemory_limit_mib = 2048\narena = \"exact\"\n\
                conv_search = \"heuristic\"";
    assert_eq!(with(cuda), [""; 0]);
    let tensorrt = "[engine.tensorrt]\ndevice = 0\nprecision = \"int8\"\nworkspace_mib = 512\n\
                    share_context_memory = true\nengine_cache = \"trt\"\ntiming_cache = \"trt\"\n\
                    context_models = \"ctx\"\ncalibration = \"table.flatbuffers\"";
    assert_eq!(with(tensorrt), [""; 0]);
    for cache in ["auto", "on", "off", "some/folder"] {
        assert_eq!(with(&format!("[engine]\ncache = \"{cache}\"")), [""; 0]);
    }
    for (text, says) in [
        ("[engine.openvno]", "unknown key \"openvno\" in engine; did you mean \"openvino\"?"),
        (
            "[engine.openvino]\npresicion = \"bf16\"",
            "unknown key \"presicion\" in openvino; did you mean \"precision\"?",
        ),
        ("[engine.openvino]\nprecision = \"fp23\"", "unknown precision \"fp23\"; did you mean \"fp32\"?"),
        ("[engine.openvino]\nprecision = \"fp16\"", "OpenVINO computes fp16 as bf16"),
        ("[engine.openvino]\ndevice = \"AUTO\"", "device \"AUTO\" is none of CPU, GPU"),
        ("[engine.openvino]\nthreads = 0", "threads must be from 1 to 256, this is 0"),
        ("[engine.openvino]\ncache = \"\"", "cache must name a folder"),
        ("[engine]\ncache = \"\"", "cache must name a folder"),
        ("[engine]\ncache = true", "cache must be a string"),
        ("[engine.cuda]\narena = \"dubling\"", "unknown arena \"dubling\"; did you mean \"doubling\"?"),
        ("[engine.cuda]\nmemory_limit_mib = 99999999", "memory_limit_mib must be from 1 to 1048576"),
        ("[engine.tensorrt]\ncalibration = \"t\"", "a calibration table is for precision"),
        ("[engine.tensorrt]\nworkspace = 3", "unknown key \"workspace\" in tensorrt; did you mean"),
        ("[engine.tensorrt]\nprecision = \"tf32\"", "unknown precision \"tf32\""),
    ] {
        let got = with(text);
        assert!(got.iter().any(|line| line.contains(says)), "{text:?}: {got:#?}");
    }
    let got = changed(&[("[model.classifier]", "[model.classifier]\nmin_share = 1.5")]);
    assert!(got[0].contains("min_share is a share of the nodes, from 0 to 1"), "{got:#?}");
}
