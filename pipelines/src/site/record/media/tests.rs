//! The folder with planned orders: what is whole, what is salvaged, what goes, what is told.

#[cfg(target_os = "linux")]
mod full;
mod later;
mod much;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;

use super::*;
use crate::{
    recording::{
        format::{Encoding, Ended, Head, RunHead, SUMMARY},
        part::Part,
        read::Recording,
    },
    site::event::Ids,
    source::packets::{Codec, Packet},
};

fn spec(dir: &Path, most: u64) -> MediaSpec {
    MediaSpec { dir: dir.to_owned(), most, keep: None }
}

fn ids(count: u64) -> Vec<String> {
    let ids = Ids::new().unwrap();
    (0..count).map(|n| ids.next(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + n))).collect()
}

fn place(id: &str) -> PathBuf {
    Path::new("gate").join(id)
}

fn head(id: &str) -> Head {
    Head {
        format: 1,
        id: id.to_owned(),
        camera: "gate".to_owned(),
        site: "test".to_owned(),
        tapetum: "0".to_owned(),
        source: "made".to_owned(),
        size: (16, 16),
        codec: Encoding::Jpeg,
        exact: false,
        begin_ns: 0,
        label: "person".to_owned(),
        run: RunHead { text: "[pipeline]".to_owned(), ..RunHead::default() },
    }
}

/// Frame `n` of a recording: `bytes` of a picture, and its line.
fn frame(n: u64, bytes: usize) -> (Vec<Packet>, Vec<u8>) {
    let pts = Duration::from_millis(100 * n);
    let picture = Bytes::from(vec![7; bytes]);
    let packet = Packet { codec: Codec::Jpeg, key: true, gap: false, pts, parameters: None, bytes: picture };
    let line =
        format!("{{\"seq\":{n},\"pts_ns\":{},\"captured\":null,\"fate\":\"delivered\"}}\n", pts.as_nanos());
    (vec![packet], line.into_bytes())
}

fn record(media: &Media, id: &str, frames: u64, bytes: usize) {
    assert!(media.offer(Order::Begin(place(id), Box::new(head(id)))));
    for n in 0..frames {
        let (packets, lines) = frame(n, bytes);
        assert!(media.offer(Order::More(place(id), packets, lines)));
    }
    assert!(media.offer(Order::End(place(id), Vec::new(), Ended::Over)));
}

fn until(media: &Media, what: &str, done: impl Fn(&MediaStatus) -> bool) -> MediaStatus {
    let from = Instant::now();
    loop {
        let status = media.status();
        if done(&status) {
            return status;
        }
        assert!(from.elapsed() < Duration::from_secs(60), "never: {what}: {status:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_recording_is_there_when_it_is_whole_and_its_files_are_as_their_digests_say() {
    let dir = tempfile::tempdir().unwrap();
    let media = Media::start(&spec(dir.path(), 1 << 30)).unwrap();
    let id = &ids(1)[0];
    record(&media, id, 20, 1000);
    let status = until(&media, "written", |s| s.written.get("recording") == Some(&1));
    assert_eq!((status.recordings, status.up, status.dropped.len()), (1, true, 0));
    let recording = Recording::open(&dir.path().join(place(id))).unwrap();
    assert_eq!((recording.summary.packets, recording.frames.len()), (20, 20));
    assert!((recording.summary.seconds - 1.9).abs() < 1e-9);
    assert_eq!(recording.summary.ended, Ended::Over);
    // One byte is another.
    let clip = dir.path().join(place(id)).join("clip.mp4");
    let mut bytes = fs::read(&clip).unwrap();
    bytes[300] ^= 1;
    fs::write(&clip, bytes).unwrap();
    let Err(e) = Recording::open(&dir.path().join(place(id))) else { panic!("it was opened") };
    assert!(e.to_string().contains("clip.mp4: changed since it was recorded"), "{e}");
}

/// Bytes below a folder.
fn on_disk(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let size = |path: PathBuf| match path.is_dir() {
        true => on_disk(&path),
        false => fs::metadata(path).map_or(0, |meta| meta.len()),
    };
    entries.map(|entry| size(entry.path())).sum()
}

#[test]
fn there_is_never_more_than_the_bound_and_the_oldest_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let most = 1_000_000;
    let media = Media::start(&spec(dir.path(), most)).unwrap();
    let ids = ids(12);
    for (n, id) in ids.iter().enumerate() {
        record(&media, id, 20, 10_000);
        until(&media, "written", |s| s.written.get("recording") == Some(&(n as u64 + 1)));
        assert!(on_disk(dir.path()) <= most, "{} bytes after {n}", on_disk(dir.path()));
    }
    let status = media.status();
    assert_eq!(status.removed.get("recording: max_mb"), Some(&(12 - status.recordings as u64)));
    assert!(status.recordings >= 3, "{status:?}");
    let left: Vec<bool> = ids.iter().map(|id| dir.path().join(place(id)).exists()).collect();
    assert!(left.is_sorted() && left.iter().filter(|there| **there).count() == status.recordings, "{left:?}");
}

#[test]
fn a_recording_that_has_all_the_room_ends_there_and_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let media = Media::start(&spec(dir.path(), 300_000)).unwrap();
    let id = &ids(1)[0];
    record(&media, id, 100, 10_000);
    let status = until(&media, "given up", |s| !s.dropped.is_empty() && s.recording == 0);
    assert_eq!(status.dropped.get("recording: longer than max_mb"), Some(&1), "{status:?}");
    let recording = Recording::open(&dir.path().join(place(id))).unwrap();
    assert_eq!(recording.summary.ended, Ended::Full);
    assert!((20..30).contains(&recording.frames.len()), "{}", recording.frames.len());
}

#[test]
fn what_a_kill_left_is_completed_as_far_as_it_goes_and_nothing_half_done_looks_whole() {
    let dir = tempfile::tempdir().unwrap();
    let ids = ids(4);
    fs::create_dir_all(dir.path().join("gate")).unwrap();
    let part_of = |id: &str| dir.path().join("gate").join(format!(".{id}.part"));
    for (n, id) in ids.iter().enumerate() {
        let mut part = Part::create(&part_of(id), &head(id)).unwrap();
        for frame in (0..10).map(|n| frame(n, 500)) {
            part.add(&frame.0, &frame.1).unwrap();
        }
        match n {
            // In the middle of a line; in the middle of a picture that a line already speaks of; before the first picture.
            0 => append(&part_of(id).join("frames.jsonl"), b"{\"seq\":10,\"pts"),
            1 => truncate(&part_of(id).join("clip.mp4"), 48 + 7 * 500 + 20),
            2 => truncate(&part_of(id).join("packets.jsonl"), 0),
            // While it was being completed.
            _ => append(&part_of(id).join("clip.mp4"), b"\0\0\0\x10moov"),
        }
    }
    fs::write(dir.path().join("gate").join(format!(".{}.jpg.part", ids[0])), "half").unwrap();
    assert!(ids.iter().all(|id| !dir.path().join(place(id)).exists()));
    let media = Media::start(&spec(dir.path(), 1 << 30)).unwrap();
    let status = until(&media, "tidy", |s| s.removed.values().sum::<u64>() == 2 && s.recordings == 3);
    assert_eq!(status.written.get("salvaged"), Some(&3));
    for (id, frames) in [(&ids[0], 10), (&ids[1], 7), (&ids[3], 10)] {
        let recording = Recording::open(&dir.path().join(place(id))).unwrap();
        assert_eq!((recording.frames.len(), recording.summary.ended), (frames, Ended::Killed));
        assert_eq!(recording.summary.packets, frames as u64);
    }
    let hidden = fs::read_dir(dir.path().join("gate")).unwrap().flatten();
    assert!(hidden.map(|e| e.file_name()).all(|name| !name.to_string_lossy().starts_with('.')));
}

fn append(path: &Path, bytes: &[u8]) {
    let mut all = fs::read(path).unwrap();
    all.extend_from_slice(bytes);
    fs::write(path, all).unwrap();
}

fn truncate(path: &Path, bytes: u64) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

#[test]
fn a_folder_that_cannot_be_made_is_told_and_works_once_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let blocked = dir.path().join("state");
    fs::write(&blocked, "a file, not a folder").unwrap();
    let media = Media::start(&spec(&blocked.join("media"), 1 << 30)).unwrap();
    media.offer(Order::Look);
    let status = until(&media, "told", |s| !s.up);
    assert!(status.why.unwrap().contains("cannot be written"));
    let ids = ids(2);
    record(&media, &ids[0], 3, 100);
    let (tell, told) = mpsc::sync_channel(1);
    let snapshot = |id: &str| {
        let tell = tell.clone();
        let done = Box::new(move |there| tell.send(there).unwrap());
        media.offer(Order::Snapshot(place(&format!("{id}.jpg")), Bytes::from_static(b"jpeg"), done));
        told.recv_timeout(Duration::from_secs(60)).unwrap()
    };
    assert!(!snapshot(&ids[0]));
    let status = media.status();
    assert_eq!(status.dropped.get("recording: cannot be written"), Some(&1), "{status:?}");
    fs::remove_file(&blocked).unwrap();
    record(&media, &ids[1], 3, 100);
    assert!(snapshot(&ids[1]));
    let status = until(&media, "written", |s| s.recordings == 1 && s.snapshots == 1);
    assert!(status.up && status.why.is_none());
    assert!(blocked.join("media").join(place(&ids[1])).join(SUMMARY).is_file());
}
