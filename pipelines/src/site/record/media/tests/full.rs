//! A full disk: a small one, where the machine lets us mount it.

use tapetum_parts::SmallDisk;

use super::{
    later::{half_done, lay},
    *,
};
use crate::site::record::media::worker::Worker;

#[test]
fn a_full_disk_costs_the_oldest_and_then_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(dir.path(), 2 << 20) else { return };
    let media = Media::start(&spec(dir.path(), 1 << 30)).unwrap();
    let ids = ids(5);
    for (n, id) in ids[..4].iter().enumerate() {
        record(&media, id, 60, 10_000);
        until(&media, "written", |s| s.written.get("recording") == Some(&(n as u64 + 1)));
    }
    let status = media.status();
    assert!(status.removed.get("recording: disk full").is_some_and(|n| *n >= 1), "{status:?}");
    assert!(!dir.path().join(place(&ids[0])).exists() && dir.path().join(place(&ids[3])).exists());
    // Larger than the disk: what there was room for is whole.
    record(&media, &ids[4], 400, 10_000);
    let status = until(&media, "given up", |s| !s.dropped.is_empty() && s.recording == 0);
    assert_eq!(status.dropped.get("recording: disk full"), Some(&1));
    assert!(!status.up && status.why.is_some());
    let left: Vec<_> =
        fs::read_dir(dir.path().join("gate")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, [ids[4].as_str()]);
    let recording = Recording::open(&dir.path().join(place(&ids[4]))).unwrap();
    assert_eq!(recording.summary.ended, Ended::Full);
    assert!((100..210).contains(&recording.frames.len()), "{}", recording.frames.len());
    assert_eq!(recording.frames.len() as u64, recording.summary.packets);
}

#[test]
fn what_a_kill_left_is_worth_more_than_the_oldest_on_a_full_disk_too() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path(), 2 << 20) else { return };
    let ids = ids(3);
    ids[..2].iter().for_each(|id| lay(dir.path(), id, 60, 10_000));
    half_done(dir.path(), &ids[2], 50, 10_000);
    // Somebody else takes the rest, to the last byte.
    disk.fill();
    let spec = spec(dir.path(), 1 << 30);
    let shared = Shared::new(&spec);
    Worker::new(&shared, &spec).tidy_up();
    let status = shared.figures().clone();
    assert_eq!(status.written.get("salvaged"), Some(&1), "{status:?}");
    assert_eq!(status.removed.get("recording: disk full"), Some(&1), "{status:?}");
    assert_eq!(Recording::open(&dir.path().join(place(&ids[2]))).unwrap().frames.len(), 50);
    assert!(!dir.path().join(place(&ids[0])).exists() && dir.path().join(place(&ids[1])).exists());
}
