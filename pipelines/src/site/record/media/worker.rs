//! The thread that writes the media folder.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;

use super::{
    Order, Shared,
    shelf::{Shelf, part_name},
};
use crate::{
    recording::{
        format::{Ended, EventLine, HEAD, Head, SUMMARY},
        part::{Part, complete, sync_folder},
    },
    site::record::MediaSpec,
    source::packets::Packet,
};

/// How often age is looked at, and a folder that could not be written.
const LOOK: Duration = Duration::from_secs(10);

/// Does what is ordered until it is told to stop and nothing waits.
pub(super) fn work(shared: &Shared, spec: MediaSpec) {
    let shelf = Shelf::new(spec.dir.clone());
    let mut worker = Worker { shared, spec, shelf, parts: HashMap::new(), growing: 0, wanted: false };
    worker.tidy_up();
    let mut looked = Instant::now();
    loop {
        match shared.next(LOOK) {
            Ok(Some(order)) => worker.obey(order),
            Ok(None) => {}
            Err(()) => break,
        }
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            worker.look();
        }
        worker.tell();
    }
}

struct Worker<'s> {
    shared: &'s Shared,
    spec: MediaSpec,
    shelf: Shelf,
    /// Recordings under way, with their sizes.
    parts: HashMap<PathBuf, (Part, u64)>,
    /// Of these, in bytes.
    growing: u64,
    /// Whether any camera records.
    wanted: bool,
}

impl Worker<'_> {
    /// Completes or removes what an earlier process left half done.
    fn tidy_up(&mut self) {
        // A folder that is not there yet holds nothing.
        let half_done = self.shelf.scan().unwrap_or_default();
        for path in half_done {
            let done = if path.is_dir() { self.salvage(&path) } else { None };
            match done {
                Some(()) => self.shared.figures().wrote("salvaged"),
                None => {
                    let removed =
                        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                    if removed.is_ok() {
                        self.shared.figures().removed("half done");
                    }
                }
            }
        }
        self.tell();
    }

    fn salvage(&mut self, part: &Path) -> Option<()> {
        if part.join(HEAD).exists() || !part.join(SUMMARY).exists() {
            complete(part, Vec::new(), Ended::Killed).ok()?;
        }
        let name = part.file_name()?.to_str()?.strip_prefix('.')?.strip_suffix(".part")?;
        let whole = part.with_file_name(name);
        fs::rename(part, &whole).ok()?;
        self.shelf.put(name, whole.strip_prefix(&self.spec.dir).ok()?);
        Some(())
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Look => {
                self.wanted = true;
                self.probe();
            }
            Order::Begin(place, head) => self.begin(place, &head),
            Order::More(place, packets, frames) => self.more(&place, &packets, &frames),
            Order::End(place, events, why) => self.end(&place, events, why),
            Order::Snapshot(place, jpeg, done) => {
                let written = self.snapshot(&place, &jpeg);
                done(written);
            }
        }
    }

    fn look(&mut self) {
        if let Some(keep) = self.spec.keep {
            while let Some(what) = self.shelf.remove_older(keep, SystemTime::now()) {
                self.shared.figures().removed(&format!("{what}: keep_days"));
            }
        }
        if self.wanted && !self.shared.figures().up {
            self.probe();
        }
    }

    /// Whether the folder can be written.
    fn probe(&mut self) {
        let file = self.spec.dir.join(".probe");
        let tried = fs::create_dir_all(&self.spec.dir).and_then(|()| fs::write(&file, "?"));
        fs::remove_file(&file).ok();
        match tried {
            Ok(()) => self.shared.figures().works(),
            Err(e) => self.trouble(&e),
        }
    }

    fn begin(&mut self, place: PathBuf, head: &Head) {
        let folder = self.half_done(&place);
        match self.with_room(4096, || Part::create(&folder, head)) {
            Ok(part) => {
                self.parts.insert(place, (part, 0));
            }
            Err(e) => self.failed("recording", &e),
        }
    }

    fn more(&mut self, place: &Path, packets: &[Packet], frames: &[u8]) {
        let Some((mut part, size)) = self.parts.remove(place) else { return };
        let needs =
            packets.iter().map(|packet| packet.bytes.len() as u64 + 100).sum::<u64>() + frames.len() as u64;
        match self.with_room(needs, || part.add(packets, frames)) {
            Ok(added) => {
                self.growing += added;
                self.parts.insert(place.to_owned(), (part, size + added));
            }
            Err(e) if e.kind() == io::ErrorKind::FileTooLarge => {
                // The others are gone, and it has the whole of the room: what there is of it stays.
                self.shared.figures().drop_one("recording", "longer than max_mb");
                self.growing -= size;
                self.completed((part, size), place, Vec::new(), Ended::Full);
            }
            Err(e) => {
                self.growing -= size;
                fs::remove_dir_all(part.folder()).ok();
                self.failed("recording", &e);
            }
        }
    }

    fn end(&mut self, place: &Path, events: Vec<EventLine>, why: Ended) {
        let Some((part, size)) = self.parts.remove(place) else { return };
        self.growing -= size;
        self.completed((part, size), place, events, why);
    }

    fn completed(&mut self, (part, size): (Part, u64), place: &Path, events: Vec<EventLine>, why: Ended) {
        let (folder, whole) = (part.folder().to_owned(), self.spec.dir.join(place));
        drop(part);
        // Index and summary are small beside the pictures; where there is no room for them but its own, it takes that.
        self.make_room(size + 65_536);
        let done = self.unless_full(|| complete(&folder, events.clone(), why));
        match done.and_then(|_| fs::rename(&folder, &whole)) {
            Ok(()) => {
                whole.parent().map(sync_folder);
                self.shelf.put(&id_at(place), place);
                let mut figures = self.shared.figures();
                figures.wrote("recording");
                figures.works();
            }
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                fs::remove_dir_all(&folder).ok();
                self.shared.figures().drop_one("recording", "no picture came");
            }
            Err(e) => {
                fs::remove_dir_all(&folder).ok();
                self.failed("recording", &e);
            }
        }
    }

    fn snapshot(&mut self, place: &Path, jpeg: &Bytes) -> bool {
        let half_done = self.half_done(place);
        let whole = self.spec.dir.join(place);
        let written = self.with_room(jpeg.len() as u64, || {
            half_done.parent().map_or(Ok(()), fs::create_dir_all)?;
            let mut file = File::create(&half_done)?;
            file.write_all(jpeg)?;
            file.sync_data()?;
            fs::rename(&half_done, &whole)
        });
        match written {
            Ok(()) => {
                self.shelf.put(&id_at(place), place);
                let mut figures = self.shared.figures();
                figures.wrote("snapshot");
                figures.works();
                true
            }
            Err(e) => {
                fs::remove_file(&half_done).ok();
                self.failed("snapshot", &e);
                false
            }
        }
    }

    /// Where something grows until it is whole.
    fn half_done(&self, place: &Path) -> PathBuf {
        let name = place.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        self.spec.dir.join(place).with_file_name(part_name(&name))
    }

    /// Does `step`, which needs so many bytes; the oldest recordings and snapshots go until there is room for it.
    fn with_room<T>(&mut self, needs: u64, step: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        if !self.make_room(needs) {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than max_mb"));
        }
        self.unless_full(step)
    }

    /// Whether there is room for so many bytes now.
    fn make_room(&mut self, needs: u64) -> bool {
        while self.shelf.bytes() + self.growing + needs > self.spec.most {
            let Some(what) = self.shelf.remove_oldest() else { return false };
            self.shared.figures().removed(&format!("{what}: max_mb"));
        }
        true
    }

    /// Does `step`, again and again while the disk is full and something old can go.
    fn unless_full<T>(&mut self, mut step: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            match step() {
                Err(e) if is_full(&e) => {
                    let Some(what) = self.shelf.remove_oldest() else { return Err(e) };
                    self.shared.figures().removed(&format!("{what}: disk full"));
                }
                done => return done,
            }
        }
    }

    fn failed(&mut self, what: &str, e: &io::Error) {
        let reason = match e.kind() {
            io::ErrorKind::FileTooLarge => "longer than max_mb",
            _ if is_full(e) => "disk full",
            _ => "cannot be written",
        };
        self.shared.figures().drop_one(what, reason);
        self.trouble(e);
    }

    fn trouble(&self, e: &io::Error) {
        let why = format!("{}: cannot be written: {e}", self.spec.dir.display());
        let mut figures = self.shared.figures();
        (figures.up, figures.why) = (false, Some(why));
    }

    fn tell(&self) {
        let mut figures = self.shared.figures();
        figures.bytes = self.shelf.bytes() + self.growing;
        [figures.recordings, figures.snapshots] = self.shelf.counts();
        figures.recording = self.parts.len();
    }
}

/// The id that a recording or a snapshot is called by.
fn id_at(place: &Path) -> String {
    place.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
