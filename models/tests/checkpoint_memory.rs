//! Reading needs about as much memory as the tensors take, and a lie about sizes needs next to none.

mod forge;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Cursor, Write},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Instant,
};

use forge::{Pickle, floats};
use tapetum_models::checkpoint::{self, Limits, StateDict};
use tapetum_runtime::Tensor;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// The system's allocator, with the bytes in use and their peak counted.
struct Counting;

static USED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes unchanged to `System`, which keeps the contract; the counters allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(USED.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The result of `work`, and how many bytes above the present it had in use at once.
fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = USED.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = work();
    (result, PEAK.load(Relaxed) - before)
}

const TENSORS: usize = 32;

/// `{"t0": [n], ..}`, one storage each.
fn object(elements: usize) -> Vec<u8> {
    let object = Pickle::new().op(b"}(");
    let tensor = |p: Pickle, i| p.text(&format!("t{i}")).tensor(&format!("{i}"), &[elements as i64]);
    (0..TENSORS).fold(object, tensor).op(b"u").stop()
}

fn write_zip(path: &Path, elements: usize, method: CompressionMethod) {
    let options = SimpleFileOptions::default().compression_method(method);
    let mut writer = ZipWriter::new(BufWriter::new(File::create(path).unwrap()));
    writer.start_file("net/data.pkl", options).unwrap();
    writer.write_all(&object(elements)).unwrap();
    let storage = floats(elements);
    for i in 0..TENSORS {
        writer.start_file(format!("net/data/{i}"), options).unwrap();
        writer.write_all(&storage).unwrap();
    }
    writer.finish().unwrap().flush().unwrap();
}

fn write_legacy(path: &Path, elements: usize) {
    let storage = floats(elements);
    let keys: Vec<String> = (0..TENSORS).map(|i| i.to_string()).collect();
    let storages: Vec<(&str, i64, &[u8])> =
        keys.iter().map(|key| (key.as_str(), elements as i64, storage.as_slice())).collect();
    std::fs::write(path, forge::legacy(&object(elements), &storages)).unwrap();
}

/// Megabytes of tensors in the big files; `TAPETUM_CHECKPOINT_MB` for a measurement by hand.
fn megabytes() -> usize {
    std::env::var("TAPETUM_CHECKPOINT_MB").ok().and_then(|mb| mb.parse().ok()).unwrap_or(32)
}

// One test, so that no other allocates meanwhile.
#[test]
fn memory_follows_the_tensors_and_not_the_claims() {
    let folder = tempfile::tempdir().unwrap();
    let elements = megabytes() * 1_000_000 / TENSORS / 4;
    let tensor_bytes = elements * TENSORS * 4;
    let path = |name: &str| folder.path().join(name);
    write_zip(&path("stored"), elements, CompressionMethod::Stored);
    write_zip(&path("deflated"), elements, CompressionMethod::Deflated);
    write_legacy(&path("legacy"), elements);

    let (mut reports, mut tensors) = (Vec::new(), BTreeMap::new());
    for name in ["stored", "deflated", "legacy", "safetensors"] {
        if name == "safetensors" {
            let written = peak_of(|| {
                checkpoint::write_safetensors(&path(name), &tensors, &BTreeMap::new()).unwrap();
            });
            assert!(written.1 < 2 << 20, "writing used {} bytes", written.1);
        }
        tensors.clear();
        let start = Instant::now();
        let (read, peak) = peak_of(|| checkpoint::open(&path(name), &Limits::default()));
        let seconds = start.elapsed().as_secs_f64();
        let (state, origin) = read.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(state.len(), TENSORS);
        let budget = tensor_bytes + tensor_bytes / 20 + (2 << 20);
        assert!(peak <= budget, "{name}: {peak} bytes for {tensor_bytes} bytes of tensors");
        reports.push(format!("{name}: {} bytes in {seconds:.3} s, peak {peak} bytes", origin.bytes));
        tensors = state.into_tensors();
    }
    drop(tensors);
    if std::env::var_os("TAPETUM_CHECKPOINT_MB").is_some() {
        let _ = writeln!(std::io::stderr(), "{}", reports.join("\n"));
    }

    a_lie_costs_nothing();
    taking_converts_one_tensor_at_a_time();
}

fn a_lie_costs_nothing() {
    let claim = 256i64 << 20;
    let big = Pickle::new().op(b"}").text("w").tensor("0", &[claim]).op(b"s").stop();
    let header = r#"{"w":{"dtype":"F32","shape":[268435456],"data_offsets":[0,1073741824]}}"#;
    let broadcast = Pickle::new().op(b"}").text("w");
    let broadcast = broadcast.view("FloatStorage", "0", 1, 0, &[claim * 2], &[0]).op(b"s").stop();
    let mut lies = vec![
        ("stored", forge::stored(&big, &[("0", &floats(16))])),
        ("legacy", forge::legacy(&big, &[("0", claim, &floats(16))])),
        ("safetensors", forge::safetensors(header, &floats(16))),
        ("broadcast", forge::stored(&broadcast, &[("0", &floats(1))])),
        ("text", forge::stored(&Pickle::new().op(b"X\xff\xff\xff\x03ab").0, &[])),
    ];
    // A deflated entry whose headers declare 1 MiB for 64 KiB: within deflate's reach, but not there.
    let object = Pickle::new().op(b"}").text("w").tensor("0", &[1 << 18]).op(b"s").stop();
    let mut lying = forge::zip(&object, &[("0", &vec![7; 65536])], CompressionMethod::Deflated);
    for at in 0..lying.len() - 4 {
        if lying[at..at + 4] == 65536u32.to_le_bytes() {
            lying[at..at + 4].copy_from_slice(&(1u32 << 20).to_le_bytes());
        }
    }
    lies.push(("deflated", lying));
    for (name, bytes) in lies {
        let (read, peak) = peak_of(|| checkpoint::read(Cursor::new(&bytes), &Limits::default()));
        assert!(read.is_err(), "{name}");
        assert!(peak < 1 << 20, "{name}: {peak} bytes for a file of {}", bytes.len());
    }
}

fn taking_converts_one_tensor_at_a_time() {
    let half = || Tensor::vector(vec![half::f16::ONE; 1 << 18]);
    let mut state = StateDict::new((0..8).map(|i| (format!("t{i}"), half())));
    let (_, peak) = peak_of(|| state.take("t0", &[1 << 18]).unwrap());
    assert!(peak <= (1 << 20) + 4096, "{peak}");
}
