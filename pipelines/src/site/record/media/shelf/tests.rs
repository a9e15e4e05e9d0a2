//! Planned folders: what goes, in which order, and what stays.

use std::time::UNIX_EPOCH;

use super::*;
use crate::site::event::Ids;

/// A disk that refuses.
impl Shelf {
    pub fn refuse_to_read_yard(&mut self) {
        self.disk.read = |folder| match folder.ends_with("yard") {
            true => Err(io::ErrorKind::PermissionDenied.into()),
            false => fs::read_dir(folder),
        };
    }

    pub fn refuse_to_read(&mut self) {
        self.disk.read = |_| Err(io::ErrorKind::PermissionDenied.into());
    }

    pub fn read_again(&mut self) {
        self.disk.read = |folder| fs::read_dir(folder);
    }

    fn refuse_to_remove(&mut self) {
        self.disk.remove = |_| Err(io::ErrorKind::PermissionDenied.into());
    }
}

/// After all that is planned.
fn later() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000)
}

/// A folder with recordings and snapshots of planned times and sizes; a file of somebody else.
fn folder(seconds: &[u64]) -> (tempfile::TempDir, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let ids = Ids::new().unwrap();
    let ids: Vec<String> =
        seconds.iter().map(|s| ids.next(SystemTime::UNIX_EPOCH + Duration::from_secs(*s))).collect();
    for (n, id) in ids.iter().enumerate() {
        let camera = dir.path().join(["gate", "yard"][n % 2]);
        fs::create_dir_all(camera.join(id)).unwrap();
        fs::write(camera.join(id).join("clip.mp4"), vec![0; 1000]).unwrap();
        fs::write(camera.join(id).join(SUMMARY), vec![0; 200]).unwrap();
        fs::write(camera.join(format!("{id}.jpg")), vec![0; 100]).unwrap();
    }
    fs::create_dir_all(dir.path().join("gate/holiday")).unwrap();
    fs::write(dir.path().join("gate/notes.txt"), "mine").unwrap();
    (dir, ids)
}

fn scanned(dir: &Path) -> Shelf {
    let mut shelf = Shelf::new(dir.to_owned());
    assert!(shelf.scan(|_| false).unwrap().unread.is_empty());
    shelf
}

#[test]
fn the_oldest_go_first_over_all_cameras_and_strangers_files_stay() {
    let (dir, ids) = folder(&[1000, 2000, 3000]);
    let part = dir.path().join("gate").join(part_name(&ids[0]));
    fs::create_dir_all(&part).unwrap();
    fs::write(part.join("clip.mp4"), vec![0; 50]).unwrap();
    let mut shelf = Shelf::new(dir.path().to_owned());
    assert_eq!(shelf.scan(|_| false).unwrap().half_done, std::slice::from_ref(&part));
    assert_eq!((shelf.bytes(), shelf.counts()), (3 * 1300 + 50, [3, 3]));
    shelf.left(part.strip_prefix(dir.path()).unwrap());
    let mut order = Vec::new();
    while let Some(went) = shelf.remove_oldest(later()) {
        order.push((went, shelf.bytes()));
    }
    let expected = [
        (Went::Removed("recording"), 2700),
        (Went::Removed("snapshot"), 2600),
        (Went::Removed("recording"), 1400),
        (Went::Removed("snapshot"), 1300),
        (Went::Removed("recording"), 100),
        (Went::Removed("snapshot"), 0),
    ];
    assert_eq!((order.as_slice(), shelf.counts()), (&expected[..], [0, 0]));
    assert!(dir.path().join("gate/holiday").is_dir() && dir.path().join("gate/notes.txt").is_file());
    assert_eq!(fs::read_dir(dir.path().join("yard")).unwrap().count(), 0);
}

#[test]
fn age_is_by_the_events_time_and_what_is_of_the_future_stays() {
    let (dir, _) = folder(&[1000, 2000, 900_000]);
    let mut shelf = scanned(dir.path());
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(2500);
    let keep = Duration::from_secs(1000);
    let removed = std::iter::from_fn(|| shelf.remove_older(keep, now)).count();
    assert_eq!((removed, shelf.counts()), (2, [2, 2]));
}

#[test]
fn what_was_made_before_the_clock_was_set_back_goes_before_what_was_made_since() {
    // Two of a clock that ran ahead, and one from before that.
    let (dir, _) = folder(&[1000, 80_000, 90_000]);
    let mut shelf = scanned(dir.path());
    let (at, now) = (|s| UNIX_EPOCH + Duration::from_secs(s), UNIX_EPOCH + Duration::from_secs(2500));
    let ids = Ids::new().unwrap();
    // Since then, by a clock that is right, and that is set back once more: ids never go back.
    let made: Vec<PathBuf> = [2000, 2400, 300_000]
        .map(|s| {
            let id = ids.next(at(s));
            let place = PathBuf::from("gate").join(format!("{id}.jpg"));
            fs::write(dir.path().join(&place), vec![0; 100]).unwrap();
            shelf.put(&id, &place);
            place
        })
        .to_vec();
    // All are known again, and what is ours is still told from what was there.
    shelf.scan(|_| false).unwrap();
    let left = |shelf: &Shelf| {
        let seconds = |(id, _): &Key| id::time(id).unwrap().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut left: Vec<u64> = shelf.kept.keys().map(seconds).collect();
        left.dedup();
        left
    };
    let mut order = vec![left(&shelf)];
    while shelf.remove_oldest(now).is_some() {
        order.push(left(&shelf));
    }
    order.dedup();
    let expected: [&[u64]; 7] = [
        &[1000, 2000, 2400, 80_000, 90_000, 300_000],
        &[1000, 2000, 2400, 90_000, 300_000],
        &[1000, 2000, 2400, 300_000],
        &[2000, 2400, 300_000],
        &[2400, 300_000],
        &[300_000],
        &[],
    ];
    assert_eq!(order, expected);
    assert!(shelf.ours.is_empty() && made.iter().all(|place| !dir.path().join(place).exists()));
}

#[test]
fn a_picture_that_is_written_anew_counts_once() {
    let (dir, ids) = folder(&[1000, 2000]);
    let mut shelf = scanned(dir.path());
    let place = PathBuf::from("gate").join(format!("{}.jpg", ids[0]));
    fs::write(dir.path().join(&place), vec![0; 400]).unwrap();
    shelf.put(&ids[0], &place);
    assert_eq!((shelf.bytes(), shelf.counts()), (2 * 1300 + 300, [2, 2]));
}

#[test]
fn what_somebody_tidied_up_by_hand_costs_nothing_younger() {
    let (dir, ids) = folder(&[1000, 2000]);
    let mut shelf = scanned(dir.path());
    fs::remove_dir_all(dir.path().join("gate").join(&ids[0])).unwrap();
    fs::remove_file(dir.path().join("gate").join(format!("{}.jpg", ids[0]))).unwrap();
    // Older than 500 seconds is the first only.
    let (keep, now) = (Duration::from_secs(500), SystemTime::UNIX_EPOCH + Duration::from_secs(2100));
    let went: Vec<Went> = std::iter::from_fn(|| shelf.remove_older(keep, now)).collect();
    assert_eq!((went.as_slice(), shelf.bytes()), (&[Went::Gone, Went::Gone][..], 1300));
    assert!(dir.path().join("yard").join(&ids[1]).join(SUMMARY).is_file());
}

#[test]
fn what_cannot_be_removed_is_tried_once_and_still_counts() {
    let (dir, ids) = folder(&[1000, 2000]);
    let mut shelf = scanned(dir.path());
    shelf.refuse_to_remove();
    let went: Vec<Went> = std::iter::from_fn(|| shelf.remove_oldest(later())).collect();
    assert_eq!(went.len(), 4);
    assert!(
        went.iter().all(|went| matches!(went, Went::Stays(why) if why.contains("cannot be removed"))),
        "{went:?}"
    );
    assert_eq!((shelf.bytes(), shelf.counts()), (2 * 1300, [0, 0]));
    // The next look takes it up again.
    shelf.scan(|_| false).unwrap();
    assert_eq!((shelf.bytes(), shelf.counts()), (2 * 1300, [2, 2]));
    assert!(dir.path().join("gate").join(&ids[0]).is_dir());
}

#[test]
fn a_folder_that_cannot_be_read_is_told_and_the_others_are_looked_through() {
    let (dir, ids) = folder(&[1000, 2000]);
    fs::create_dir_all(dir.path().join("lost+found").join(&ids[0])).unwrap();
    let mut shelf = Shelf::new(dir.path().to_owned());
    shelf.refuse_to_read_yard();
    let found = shelf.scan(|_| false).unwrap();
    assert_eq!(found.unread.len(), 1);
    assert!(
        found.unread[0].contains("yard: cannot be read") && found.unread[0].contains("permission denied"),
        "{:?}",
        found.unread
    );
    assert_eq!((shelf.bytes(), shelf.counts()), (1300, [1, 1]));
    // What is known is not forgotten when nothing can be read.
    shelf.refuse_to_read();
    assert!(shelf.scan(|_| false).is_err());
    assert_eq!((shelf.bytes(), shelf.counts()), (1300, [1, 1]));
}

#[cfg(unix)]
#[test]
fn links_are_not_followed() {
    use std::os::unix::fs::symlink;
    let (dir, ids) = folder(&[1000, 2000]);
    let outside = tempfile::tempdir().unwrap();
    let (own, gate) = (outside.path().join(&ids[0]), dir.path().join("gate"));
    fs::rename(gate.join(&ids[0]), &own).unwrap();
    let mut shelf = scanned(dir.path());
    assert_eq!(shelf.counts(), [1, 2]);
    // A recording, a camera, and a file in a recording that lie elsewhere.
    symlink(&own, gate.join(&ids[0])).unwrap();
    symlink(outside.path(), dir.path().join("cellar")).unwrap();
    symlink(own.join("clip.mp4"), dir.path().join("yard").join(&ids[1]).join("more.mp4")).unwrap();
    shelf.scan(|_| false).unwrap();
    assert_eq!(shelf.counts(), [1, 2]);
    assert!(shelf.bytes() < 1300 + 100 + 1000, "{}: the link, not what it names", shelf.bytes());
    // One that took the place of a recording since.
    shelf.put(&ids[0], &PathBuf::from("gate").join(&ids[0]));
    while shelf.remove_oldest(later()).is_some() {}
    assert!(own.join("clip.mp4").is_file() && own.join(SUMMARY).is_file());
    assert!(gate.join(&ids[0]).symlink_metadata().is_ok_and(|meta| meta.is_symlink()));
}
