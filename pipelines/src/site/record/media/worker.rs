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
    room::{Room, is_full},
    salvage::Looked,
    shelf::part_name,
};
use crate::{
    recording::{
        format::{Ended, EventLine, Head},
        part::{Part, complete, shorten, sync_folder},
    },
    site::record::MediaSpec,
    source::packets::Packet,
};

/// How often age is looked at, and a folder that could not be written.
const LOOK: Duration = Duration::from_secs(10);

/// Does what is ordered until it is told to stop and nothing waits.
pub(super) fn work(shared: &Shared, spec: MediaSpec) {
    let mut worker = Worker::new(shared, &spec);
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

pub(super) struct Worker<'s> {
    pub shared: &'s Shared,
    pub dir: PathBuf,
    pub room: Room<'s>,
    /// Recordings under way, with their sizes.
    pub parts: HashMap<PathBuf, (Part, u64)>,
    pub looked: Looked,
    /// Whether any camera records.
    wanted: bool,
    began: Instant,
}

impl<'s> Worker<'s> {
    pub fn new(shared: &'s Shared, spec: &MediaSpec) -> Self {
        Self {
            shared,
            dir: spec.dir.clone(),
            room: Room::new(shared, spec),
            parts: HashMap::new(),
            looked: Looked::default(),
            wanted: false,
            began: Instant::now(),
        }
    }
}

impl Worker<'_> {
    pub fn obey(&mut self, order: Order) {
        match order {
            Order::Look => {
                self.wanted = true;
                if self.probe() {
                    self.tidy_up();
                }
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

    /// What is due from time to time.
    pub fn look(&mut self) {
        let down = self.wanted && !self.shared.figures().up;
        if (down && self.probe()) || self.looked.is_due(&self.dir, self.note().is_some()) {
            self.tidy_up();
        }
        self.by_age(SystemTime::now());
    }

    pub fn by_age(&mut self, now: SystemTime) {
        self.room.by_age(now, self.began.elapsed());
    }

    /// Whether the folder can be written, and could not before: then it may be another.
    fn probe(&mut self) -> bool {
        let down = !self.shared.figures().up;
        let file = self.dir.join(".probe");
        let tried = fs::create_dir_all(&self.dir).and_then(|()| fs::write(&file, "?"));
        fs::remove_file(&file).ok();
        match tried {
            Ok(()) => {
                self.works();
                down
            }
            Err(e) => {
                self.trouble(&e);
                false
            }
        }
    }

    fn begin(&mut self, place: PathBuf, head: &Head) {
        let folder = self.half_done(&place);
        match self.room.with_room(4096, || Part::create(&folder, head)) {
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
        match self.room.with_room(needs, || part.add(packets, frames)) {
            Ok(added) => {
                self.room.growing += added;
                self.parts.insert(place.to_owned(), (part, size + added));
            }
            Err(e) => {
                self.room.growing -= size;
                // The others are gone or the disk fails: what there is of it is worth more than nothing.
                let kept = self.complete((part, size), place, Vec::new(), Ended::Full);
                self.shared.figures().drop_one("recording", reason(&e));
                match kept {
                    _ if e.kind() != io::ErrorKind::FileTooLarge => self.trouble(&e),
                    Ok(()) => self.works(),
                    Err(e) if e.kind() == io::ErrorKind::InvalidData => {}
                    Err(e) => self.trouble(&e),
                }
            }
        }
    }

    fn end(&mut self, place: &Path, events: Vec<EventLine>, why: Ended) {
        let Some((part, size)) = self.parts.remove(place) else { return };
        self.room.growing -= size;
        match self.complete((part, size), place, events, why) {
            Ok(()) => self.works(),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                self.shared.figures().drop_one("recording", "no picture came");
            }
            Err(e) => self.failed("recording", &e),
        }
    }

    /// Makes a recording whole, and gives it its name. What cannot be is removed.
    fn complete(
        &mut self,
        (part, size): (Part, u64),
        place: &Path,
        events: Vec<EventLine>,
        why: Ended,
    ) -> io::Result<()> {
        let (folder, whole) = (part.folder().to_owned(), self.dir.join(place));
        drop(part);
        // Index and summary are small beside the pictures; where there is no room for them but its own, it takes that.
        self.room.make_room(size + 65_536);
        let mut done = self.room.unless_full(|| complete(&folder, events.clone(), why));
        if done.as_ref().is_err_and(is_full) {
            // Nothing is left that could make room for them but its last pictures.
            done = shorten(&folder).and_then(|()| complete(&folder, events, Ended::Full));
        }
        let done = done.and_then(|_| fs::rename(&folder, &whole));
        if done.is_ok() {
            whole.parent().map(sync_folder);
            self.room.shelf.put(&id_at(place), place);
            self.shared.figures().wrote("recording");
        } else {
            fs::remove_dir_all(&folder).ok();
        }
        done
    }

    fn snapshot(&mut self, place: &Path, jpeg: &Bytes) -> bool {
        let half_done = self.half_done(place);
        let whole = self.dir.join(place);
        let written = self.room.with_room(jpeg.len() as u64, || {
            half_done.parent().map_or(Ok(()), fs::create_dir_all)?;
            let mut file = File::create(&half_done)?;
            file.write_all(jpeg)?;
            file.sync_data()?;
            fs::rename(&half_done, &whole)
        });
        match written {
            Ok(()) => {
                self.room.shelf.put(&id_at(place), place);
                self.shared.figures().wrote("snapshot");
                self.works();
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
        self.dir.join(place).with_file_name(part_name(&name))
    }

    fn failed(&self, what: &str, e: &io::Error) {
        self.shared.figures().drop_one(what, reason(e));
        self.trouble(e);
    }

    fn trouble(&self, e: &io::Error) {
        let why = format!("{}: cannot be written: {e}", self.dir.display());
        let mut figures = self.shared.figures();
        (figures.up, figures.why) = (false, Some(why));
    }

    /// It can be written, whatever else may be wrong in it.
    fn works(&self) {
        let note = self.note();
        let mut figures = self.shared.figures();
        (figures.up, figures.why) = (true, note);
    }

    /// What is wrong although it can be written.
    fn note(&self) -> Option<String> {
        let mut notes = self.looked.notes.iter().chain(&self.room.stuck);
        let first = notes.next()?;
        Some(match notes.count() {
            0 => first.clone(),
            more => format!("{first} (and {more} more like this)"),
        })
    }

    pub fn tell(&self) {
        let note = self.note();
        let mut figures = self.shared.figures();
        if figures.up {
            figures.why = note;
        }
        figures.bytes = self.room.used();
        [figures.recordings, figures.snapshots] = self.room.shelf.counts();
        figures.recording = self.parts.len();
    }
}

/// The id that a recording or a snapshot is called by.
fn id_at(place: &Path) -> String {
    place.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

fn reason(e: &io::Error) -> &'static str {
    match e.kind() {
        io::ErrorKind::FileTooLarge => "longer than max_mb",
        _ if is_full(e) => "disk full",
        _ => "cannot be written",
    }
}
