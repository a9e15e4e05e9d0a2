//! The folder as it is come upon, and what becomes of it later: the worker without its thread, by planned clocks and disks.

use super::*;
use crate::site::record::media::{room::Room, worker::Worker};

/// A whole recording.
pub fn lay(dir: &Path, id: &str, frames: u64, bytes: usize) {
    grown(&dir.join(place(id)), id, frames, bytes).complete(Vec::new(), Ended::Over).unwrap();
}

/// What a killed process leaves of one.
pub fn half_done(dir: &Path, id: &str, frames: u64, bytes: usize) -> PathBuf {
    let folder = dir.join(place(id)).with_file_name(format!(".{id}.part"));
    drop(grown(&folder, id, frames, bytes));
    folder
}

fn grown(folder: &Path, id: &str, frames: u64, bytes: usize) -> Part {
    let mut part = Part::create(folder, &head(id)).unwrap();
    for (packets, lines) in (0..frames).map(|n| frame(n, bytes)) {
        part.add(&packets, &lines).unwrap();
    }
    part
}

/// What is told. A copy: the lock is not to be held while it is asked for again.
fn now(shared: &Shared) -> MediaStatus {
    shared.figures().clone()
}

fn snapshot(worker: &mut Worker<'_>, id: &str, bytes: usize) {
    let jpeg = Bytes::from(vec![7; bytes]);
    worker.obey(Order::Snapshot(place(&format!("{id}.jpg")), jpeg, Box::new(|there| assert!(there))));
    worker.tell();
}

#[test]
fn a_camera_whose_folder_cannot_be_read_is_told_and_the_bounds_hold_for_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let ids = ids(6);
    ids[..4].iter().for_each(|id| lay(dir.path(), id, 10, 1000));
    half_done(dir.path(), &ids[4], 10, 1000);
    for strange in ["yard", "lost+found"] {
        fs::create_dir(dir.path().join(strange)).unwrap();
    }
    let spec = spec(dir.path(), 100_000);
    let shared = Shared::new(&spec);
    let mut worker = Worker::new(&shared, &spec);
    worker.room.shelf.refuse_to_read_yard();
    worker.tidy_up();
    let status = now(&shared);
    assert!(
        status.up && status.why.as_ref().is_some_and(|why| why.contains("yard: cannot be read")),
        "{status:?}"
    );
    assert_eq!((status.written.get("salvaged"), status.recordings), (Some(&1), 5 - removed(&status)));
    // The bound holds, and what is told stays so.
    snapshot(&mut worker, &ids[5], 70_000);
    let status = now(&shared);
    assert!(removed(&status) >= 1 && status.bytes <= 100_000, "{status:?}");
    assert!(status.why.is_some_and(|why| why.contains("yard")));
    worker.room.shelf.read_again();
    worker.tidy_up();
    assert_eq!(now(&shared).why, None);
}

fn removed(status: &MediaStatus) -> usize {
    status.removed.get("recording: max_mb").copied().unwrap_or(0) as usize
}

#[test]
fn a_folder_that_cannot_be_read_is_told_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    lay(dir.path(), &ids(1)[0], 3, 100);
    let spec = spec(dir.path(), 1 << 30);
    let shared = Shared::new(&spec);
    let mut worker = Worker::new(&shared, &spec);
    worker.room.shelf.refuse_to_read();
    worker.tidy_up();
    assert!(now(&shared).why.as_ref().is_some_and(|why| why.contains("cannot be read")));
    worker.look();
    assert_eq!(now(&shared).recordings, 0);
    worker.room.shelf.read_again();
    worker.look();
    let status = now(&shared);
    assert_eq!((status.recordings, status.why), (1, None));
}

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn a_wall_clock_that_jumps_ahead_costs_nothing_until_it_has_stood_for_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let spec = MediaSpec { keep: Some(14 * DAY), ..spec(dir.path(), 1 << 30) };
    let shared = Shared::new(&spec);
    // The second as on a board that has no clock of its own, which is set after the start.
    for (true_time, ahead) in
        [(Duration::from_secs(1_780_000_000), 4000 * DAY), (Duration::from_secs(60), 20_000 * DAY)]
    {
        let now = SystemTime::UNIX_EPOCH + true_time;
        let mut room = Room::new(&shared, &spec);
        let id = Ids::new().unwrap().next(now);
        room.shelf.put(&id, &place(&id));
        let left = |room: &Room<'_>| room.shelf.counts()[0];
        let minute = Duration::from_secs(60);
        room.by_age(now, minute);
        room.by_age(now + ahead, 2 * minute);
        assert_eq!(left(&room), 1);
        room.by_age(now + ahead + DAY - minute, DAY);
        assert_eq!(left(&room), 1);
        room.by_age(now + ahead + DAY, DAY + 2 * minute);
        assert_eq!(left(&room), 0);
    }
    // Without a jump age is age.
    let now = SystemTime::UNIX_EPOCH + 20_000 * DAY;
    let mut room = Room::new(&shared, &spec);
    let ids = Ids::new().unwrap();
    for id in [ids.next(now - 15 * DAY), ids.next(now)] {
        room.shelf.put(&id, &place(&id));
    }
    room.by_age(now, Duration::ZERO);
    assert_eq!(room.shelf.counts()[0], 1);
}

#[test]
fn a_folder_that_comes_later_is_looked_through_and_what_is_being_written_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (media, disk, ids) = (dir.path().join("media"), dir.path().join("disk"), ids(3));
    lay(&disk, &ids[0], 5, 1000);
    half_done(&disk, &ids[1], 5, 1000);
    let spec = spec(&media, 1 << 30);
    let shared = Shared::new(&spec);
    let mut worker = Worker::new(&shared, &spec);
    worker.tidy_up();
    let status = now(&shared);
    assert_eq!((status.recordings, status.why), (0, None));
    fs::rename(&disk, &media).unwrap();
    worker.look();
    let salvaged = || now(&shared).written.get("salvaged").copied();
    assert_eq!((now(&shared).recordings, salvaged()), (2, Some(1)));

    worker.obey(Order::Begin(place(&ids[2]), Box::new(head(&ids[2]))));
    for n in 0..10 {
        let (packets, lines) = frame(n, 1000);
        worker.obey(Order::More(place(&ids[2]), packets, lines));
        if n == 5 {
            worker.tidy_up();
        }
    }
    let before = now(&shared).bytes;
    worker.obey(Order::End(place(&ids[2]), Vec::new(), Ended::Over));
    worker.tell();
    assert_eq!((now(&shared).recordings, salvaged()), (3, Some(1)));
    assert_eq!(now(&shared).bytes, on_disk(&media));
    assert!(before < on_disk(&media) && before > 3 * 5000, "{before}: once, and not twice");
    let recording = Recording::open(&media.join(place(&ids[2]))).unwrap();
    assert_eq!((recording.frames.len(), recording.summary.ended), (10, Ended::Over));
}

#[test]
fn a_folder_that_can_be_written_at_last_is_looked_through() {
    let dir = tempfile::tempdir().unwrap();
    let (media, disk, id) = (dir.path().join("media"), dir.path().join("disk"), &ids(1)[0]);
    fs::write(&media, "a file, not a folder").unwrap();
    lay(&disk, id, 5, 1000);
    let spec = spec(&media, 1 << 30);
    let shared = Shared::new(&spec);
    let mut worker = Worker::new(&shared, &spec);
    worker.tidy_up();
    worker.obey(Order::Look);
    assert!(!now(&shared).up);
    fs::remove_file(&media).unwrap();
    fs::rename(&disk, &media).unwrap();
    worker.obey(Order::Look);
    let status = now(&shared);
    assert_eq!((status.up, status.recordings), (true, 1));
}

#[test]
fn what_a_kill_left_and_cannot_be_completed_for_now_is_not_thrown_away() {
    let dir = tempfile::tempdir().unwrap();
    let id = &ids(1)[0];
    let part = half_done(dir.path(), id, 10, 1000);
    // In the place of its summary, so that this cannot be written; a full disk is as good, and harder to come by.
    fs::create_dir(part.join(SUMMARY)).unwrap();
    let spec = spec(dir.path(), 1 << 30);
    let shared = Shared::new(&spec);
    let mut worker = Worker::new(&shared, &spec);
    worker.tidy_up();
    let status = now(&shared);
    assert!(status.why.is_some_and(|why| why.contains("cannot be completed for now")));
    assert!(status.removed.is_empty() && status.bytes > 10_000, "it takes room, which is counted");
    fs::remove_dir(part.join(SUMMARY)).unwrap();
    worker.tidy_up();
    let status = now(&shared);
    assert_eq!((status.why, status.recordings), (None, 1));
    assert_eq!(Recording::open(&dir.path().join(place(id))).unwrap().frames.len(), 10);
}

#[test]
fn what_was_removed_by_hand_makes_room_as_if_it_had_been_removed_here() {
    let dir = tempfile::tempdir().unwrap();
    let ids = ids(4);
    ids[..3].iter().for_each(|id| lay(dir.path(), id, 10, 10_000));
    let spec = spec(dir.path(), on_disk(dir.path()) + 10_000);
    let shared = Shared::new(&spec);
    let mut worker = Worker::new(&shared, &spec);
    worker.tidy_up();
    fs::remove_dir_all(dir.path().join(place(&ids[0]))).unwrap();
    snapshot(&mut worker, &ids[3], 50_000);
    let status = now(&shared);
    assert!(status.removed.is_empty() && status.recordings == 2, "{status:?}");
}
