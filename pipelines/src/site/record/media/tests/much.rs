//! More than the disk takes.

use super::*;
use crate::site::record::{
    RecordSpec, Recorder,
    tape::{Delivered, Span},
};

/// A folder whose orders nobody takes.
fn idle(dir: &Path) -> Media {
    let shared = Arc::new(Shared::new(&spec(dir, 1 << 30)));
    Media { dir: dir.to_owned(), shared, thread: Mutex::default() }
}

fn more(n: u64, bytes: usize) -> Order {
    let (packets, lines) = frame(n, bytes);
    Order::More(place("x"), packets, lines)
}

#[test]
fn orders_beyond_the_bound_are_refused_and_counted_and_nobody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let media = idle(dir.path());
    let mut taken = 0;
    while media.offer(more(taken, 1 << 20)) {
        taken += 1;
        assert!(taken < 100);
    }
    assert_eq!(taken, 63);
    assert_eq!(media.status().dropped.get("recording: the disk is too slow"), Some(&1));
    assert!(media.offer(Order::End(place("x"), Vec::new(), Ended::Slow)), "an end is always taken");
}

#[test]
fn text_counts_too() {
    let dir = tempfile::tempdir().unwrap();
    let media = idle(dir.path());
    let mut head = head("x");
    head.run.text = "x".repeat(40 << 20);
    assert!(media.offer(Order::Begin(place("x"), Box::new(head.clone()))));
    assert!(media.status().waiting_bytes > 40 << 20);
    assert!(!media.offer(Order::Begin(place("y"), Box::new(head))));
}

#[test]
fn what_is_larger_than_the_bound_is_taken_where_nothing_waits() {
    let dir = tempfile::tempdir().unwrap();
    let media = idle(dir.path());
    assert!(media.offer(more(0, 70 << 20)));
    assert!(!media.offer(more(1, 1)));
    media.shared.waiting().take().unwrap();
    assert!(media.offer(more(1, 1)));
    assert_eq!(media.status().waiting_bytes as usize, {
        let (_, line) = frame(1, 1);
        place("x").as_os_str().len() + 1 + line.len()
    });
}

#[test]
fn all_cameras_may_begin_at_once_with_all_that_they_have_and_the_disk_gets_it_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let media = Arc::new(idle(dir.path()));
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let spec =
        RecordSpec { memory: 100 << 20, pre: minutes(5), longest: minutes(20), ..RecordSpec::default() };
    // All pictures share their bytes.
    let picture = Bytes::from(vec![7; 1 << 20]);
    let mut cameras = Vec::new();
    for camera in ["gate", "yard", "roof"] {
        let window = Duration::from_secs(2);
        let mut recorder = Recorder::new(["test", camera, "made"], &spec, window, media.clone());
        for seq in 0..90 {
            let pts = Duration::from_secs(seq);
            let bytes = picture.clone();
            let packet = Packet { codec: Codec::Jpeg, key: true, gap: false, pts, parameters: None, bytes };
            recorder.packets(std::iter::once(packet));
            recorder.given(seq, pts, None, true);
        }
        let frame = Delivered { seq: 89, pts: Duration::from_secs(89), ..Delivered::default() };
        let open = [Span { id: camera, label: "x", age: Duration::ZERO, unseen: Duration::ZERO }];
        assert_eq!(recorder.delivered(frame, None, &open).len(), 1);
        cameras.push(recorder);
    }
    let status = media.status();
    assert!(status.dropped.is_empty(), "{status:?}");
    let (mut pictures, mut lines) = (0, 0);
    let next = || media.shared.waiting().take();
    for order in std::iter::from_fn(next) {
        let Order::More(_, packets, frames) = order else { continue };
        assert!(packets.len() <= 4, "{} MiB at once", packets.len());
        pictures += packets.len();
        lines += frames.iter().filter(|byte| **byte == b'\n').count();
    }
    assert_eq!((pictures, lines), (3 * 90, 3 * 90));
    // Without them the bound is what it was.
    cameras.clear();
    let taken = (0..100).take_while(|n| media.offer(more(*n, 1 << 20))).count();
    assert_eq!(taken, 63);
}
