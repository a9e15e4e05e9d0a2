//! A large frame is restored in bounded memory. A process of its own: what is measured is the whole process.

use std::fs;
use std::path::Path;

use tapetum_tests::goldens::engines;
use tapetum_tests::restoration::{fused, pipeline, restore};

/// The whole frame's values alone would take 973 MiB: the working set is 123 bytes per pixel.
const MEMORY_MIB: u64 = 384;

/// A line of `/proc/self/status`, in bytes.
fn status(key: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|l| l.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// What the process takes at most during `work` beyond what it takes before.
fn peak(work: impl FnOnce()) -> u64 {
    // 5: the peak begins again at what is in use now.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS");
    work();
    status("VmHWM") - before
}

#[test]
#[cfg(target_os = "linux")]
fn a_4k_frame_needs_no_more_than_the_memory_that_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let model = fused("deanet_train_dim8", folder.path());
    let picture = folder.path().join("4k.png");
    let pixel = |x: u32, y: u32| image::Rgb([(x / 16) as u8, (y / 9) as u8, (x * y / 4096) as u8]);
    image::RgbImage::from_fn(3840, 2160, pixel).save(&picture).unwrap();
    // Frame, result, their copies and the tiles' sums; the picture's decoder.
    let pictures = 30 * 3840 * 2160;
    for engine in engines() {
        let used = peak(|| {
            let file = pipeline(&model, &format!("memory_mib = {MEMORY_MIB}")).unwrap();
            let made = restore(&file, engine.name(), path(&picture)).unwrap().frames.remove(0).unwrap();
            assert!(made.tiles.run > 8, "{:?}", made.tiles);
            assert_eq!((made.image.width(), made.image.height()), (3840, 2160));
        });
        let most = (MEMORY_MIB << 20) + pictures;
        println!("{}: {} MiB of {}", engine.name(), used >> 20, most >> 20);
        assert!(used < most, "{}: {} MiB, {} were given", engine.name(), used >> 20, most >> 20);
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
