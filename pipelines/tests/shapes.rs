//! Which shapes a pipeline's engines are built for, before the first frame.

use std::path::Path;

use tapetum::{config::PipelineFile, shapes};
use tapetum_runtime::contract::{Golden, SizePolicy};

fn parse(text: &str, changes: &[(&str, &str)]) -> PipelineFile {
    let mut text = text.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from:?}");
        text = text.replacen(from, to, 1);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("x.toml");
    PipelineFile::parse(text, &path).unwrap()
}

/// The shapes of model `at` as they are shown, and what is tuned for.
fn shown(file: &PipelineFile, at: usize) -> (String, Vec<usize>) {
    let contract = file.models[at].contract.as_ref().unwrap();
    let profile = shapes::profile(file, at, contract).unwrap().expect("bounded");
    (profile.to_string(), profile.usual().to_vec())
}

#[test]
fn a_fixed_size_is_one_shape_and_crops_make_a_batch() {
    let text = include_str!("../tf-collab.toml");
    let file = parse(text, &[]);
    assert_eq!(shown(&file, 1), ("[1, 3, 240, 320]".to_owned(), vec![1, 3, 240, 320]));
    assert_eq!(shown(&file, 2).0, "[1, 3, 512, 512]");
    // Up to three regions of a frame at once; of many, as many as go into one run.
    let file = parse(text, &[("min_size = 16, most = 1", "most = 3")]);
    assert_eq!(shown(&file, 2), ("[1 to 3, 3, 512, 512]".to_owned(), vec![1, 3, 512, 512]));
    let file = parse(text, &[("min_size = 16, most = 1", "most = 64")]);
    assert_eq!(shown(&file, 2).0, format!("[1 to {}, 3, 512, 512]", shapes::BATCH));
}

#[test]
fn a_restoration_is_built_for_its_tiles_and_the_golden_record_fits_in() {
    let text = include_str!("../dehaze.toml");
    let mut file = parse(text, &[("memory_mib = 1024", "tile = 256")]);
    assert_eq!(shown(&file, 0), ("[1, 3, 16 to 256, 16 to 256]".to_owned(), vec![1, 3, 256, 256]));
    // By memory: the tile that fits.
    let (by_memory, usual) = shown(&parse(text, &[]), 0);
    assert_eq!(by_memory, format!("[1, 3, 16 to {0}, 16 to {0}]", usual[2]));
    assert!(usual[2] > 256 && usual[2].is_multiple_of(64), "{usual:?}");
    // A tile that is no multiple of what the network takes is padded.
    assert_eq!(shown(&parse(text, &[("memory_mib = 1024", "tile = 250")]), 0).1, [1, 3, 252, 252]);

    let contract = file.models[0].contract.as_mut().unwrap();
    let golden = Golden { seed: 1, input_shape: vec![1, 3, 8, 320], outputs: Vec::new(), tolerance: 1e-4 };
    contract.golden = Some(golden);
    assert_eq!(shown(&file, 0), ("[1, 3, 8 to 256, 16 to 320]".to_owned(), vec![1, 3, 256, 256]));
}

#[test]
fn what_comes_as_it_is_has_no_bounds_but_those_of_its_contract() {
    let mut file = parse(include_str!("../tf-collab.toml"), &[]);
    let contract = file.models[0].contract.as_mut().unwrap();
    contract.input.size = SizePolicy::Multiple { of: 32, min_height: 32, min_width: 32 };
    let contract = contract.clone();
    assert_eq!(shapes::profile(&file, 0, &contract).unwrap(), None);
    file.models[0].contract.as_mut().unwrap().input.size =
        SizePolicy::Range { min_height: 32, min_width: 64, max_height: 480, max_width: 640, multiple: 32 };
    assert_eq!(shown(&file, 0).0, "[1, 3, 32 to 480, 64 to 640]");
}
