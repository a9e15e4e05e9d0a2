//! The bodies of the fuzz targets of the daemon's side (`tests/fuzz`), on their first inputs and on seeded changes of them: what needs
//! no fuzzer, on every run of the tests. What a fuzzer finds is kept among the first inputs, `tests/fuzz/seeds`.

#[path = "../../tests/fuzz/bodies/access_units.rs"]
mod access_units;
#[path = "../../tests/fuzz/bodies/http_request.rs"]
mod http_request;
#[path = "../../tests/fuzz/bodies/pipeline_file.rs"]
mod pipeline_file;
#[path = "../../tests/fuzz/bodies/rtsp_address.rs"]
mod rtsp_address;
#[path = "../../tests/fuzz/bodies/site_file.rs"]
mod site_file;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use tapetum_runtime::seed::Seeded;

/// What is put in besides single bytes: what parsers look for.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\"",
    b"'",
    b"[",
    b"]",
    b"{",
    b"}",
    b"=",
    b"%2e%2e/",
    b"%00",
    b"@",
    b":",
    b"/",
    b"#",
    b"?",
    b"&",
    b"..",
    b"-1",
    b"99999999999999999999",
    b"1e309",
    b"nan",
    b"\x00\x00\x00\x01",
    b"\xff\xfe\xfd\xfc",
    b"\xff\xd8",
    b"\xff\xd9",
    b"\xf0\x9f\x92\xa9",
    b"Authorization: Bearer ",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked",
    b"[[output]]",
    b"[camera.x]",
    b"events = ",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of a folder whose names begin and end so.
fn inputs(folder: &str, begin: &str, end: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(root().join(folder)).unwrap().map(|file| file.unwrap().path());
    let wanted = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with(begin) && name.ends_with(end)
    };
    let mut files: Vec<_> = files.filter(wanted).collect();
    files.sort();
    assert!(!files.is_empty(), "{folder}/{begin}*{end}");
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// `input` with a few changes.
fn changed(input: &[u8], others: &[Vec<u8>], random: &mut Seeded) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        let end = (at + random.below(16) as usize).min(bytes.len());
        match random.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.below(256) as u8,
            2 => drop(bytes.drain(at..end)),
            3 => drop(bytes.splice(at..at, WORDS[random.below(WORDS.len() as u64) as usize].iter().copied())),
            4 => {
                drop(bytes.splice(at..end, WORDS[random.below(WORDS.len() as u64) as usize].iter().copied()))
            }
            5 => {
                let piece = bytes[at..end].to_vec();
                let to = random.below(bytes.len() as u64 + 1) as usize;
                drop(bytes.splice(to..to, piece));
            }
            _ => {
                // The rest of another input.
                let other = &others[random.below(others.len() as u64) as usize];
                let from = random.below(other.len() as u64 + 1) as usize;
                bytes.truncate(at);
                bytes.extend(&other[from..]);
            }
        }
    }
    bytes
}

/// All first inputs as they are, then `rounds` changes; an input that fails is left in the target folder.
fn run(name: &str, look: fn(&[u8]), inputs: &[Vec<u8>], rounds: usize) {
    let mut random = Seeded::new(name.bytes().map(u64::from).sum());
    let changes = (0..rounds).map(|_| {
        let input = &inputs[random.below(inputs.len() as u64) as usize];
        changed(input, inputs, &mut random)
    });
    let mut all: Vec<Vec<u8>> = inputs.to_vec();
    all.extend(changes);
    for bytes in all {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| look(&bytes))) {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-failed"));
            fs::write(&kept, &bytes).unwrap();
            eprintln!("the input is in {}; keep it in tests/fuzz/seeds", kept.display());
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn site_files() {
    let mut files = inputs("tests/fuzz/seeds", "site-", ".toml");
    files.extend(inputs("firmware-config", "site", ".toml"));
    run("site_file", site_file::look, &files, 3000);
}

#[test]
fn pipeline_files() {
    run("pipeline_file", pipeline_file::look, &inputs("pipelines", "", ".toml"), 3000);
}

#[test]
fn addresses_of_cameras() {
    run("rtsp_address", rtsp_address::look, &inputs("tests/fuzz/seeds", "rtsp_address-", ""), 20_000);
}

#[test]
fn access_units_and_pictures() {
    let mut units = inputs("tests/fuzz/seeds", "", ".h264");
    let pixels: Vec<u8> = (0..3 * 32 * 16).map(|n| (n * 7 % 256) as u8).collect();
    let mut jpeg = Vec::new();
    let encoder = jpeg_encoder::Encoder::new(&mut jpeg, 80);
    encoder.encode(&pixels, 32, 16, jpeg_encoder::ColorType::Rgb).unwrap();
    units.push(jpeg);
    run("access_units", access_units::look, &units, 2000);
}

#[test]
fn requests() {
    let mut requests = inputs("tests/fuzz/seeds", "http_request-", "");
    requests.extend(inputs("tests/fuzz/seeds", "http_host-", ""));
    run("http_request", http_request::look, &requests, 150);
}
