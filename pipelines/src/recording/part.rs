//! A recording that grows, and how it becomes whole: by the same steps whether it was ended or a kill ended it.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::{
    format::{
        CLIP, Ended, EventLine, FRAMES, FileLine, FrameFate, HEAD, Head, PACKETS, PIPELINE, PacketLine,
        SUMMARY, Summary, nanos,
    },
    mp4::{self, Sample},
};
use crate::{
    prepare::hex,
    source::packets::{Codec, Packet},
};

/// Memory that is kept for what comes next, in bytes: a recording begins with far more at once than it goes on with.
const SCRATCH: usize = 256 << 10;

/// A recording under way, in a folder that is not its own yet.
pub struct Part {
    folder: PathBuf,
    codec: Codec,
    clip: Growing,
    packets: Growing,
    frames: Growing,
    scratch: [Vec<u8>; 2],
}

/// A file that takes whole pieces only.
struct Growing {
    file: File,
    length: u64,
}

impl Growing {
    fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create(path)?, length: 0 })
    }

    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// What was written after `length` was not.
    fn back_to(&mut self, length: u64) {
        self.length = length;
        // What cannot be cut off is not spoken of in the index, and written over.
        self.file.set_len(length).ok();
        self.file.seek(SeekFrom::Start(length)).ok();
    }
}

impl Part {
    /// Begins in `folder`, which is made.
    ///
    /// # Errors
    /// It cannot be written; nothing is left then.
    pub fn create(folder: &Path, head: &Head) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let begin = || {
            let mut clip = Growing::create(&folder.join(CLIP))?;
            clip.add(&mp4::header(0))?;
            let part = Self {
                folder: folder.to_owned(),
                codec: head.codec.into(),
                clip,
                packets: Growing::create(&folder.join(PACKETS))?,
                frames: Growing::create(&folder.join(FRAMES))?,
                scratch: Default::default(),
            };
            fs::write(folder.join(PIPELINE), &head.run.text)?;
            fs::write(folder.join(HEAD), serde_json::to_vec(head)?)?;
            Ok(part)
        };
        begin().inspect_err(|_| {
            fs::remove_dir_all(folder).ok();
        })
    }

    /// Where it grows.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Adds pictures, and lines of `frames.jsonl`; all of it or nothing. Returns by how many bytes it grew.
    ///
    /// # Errors
    /// It cannot be written; it may be tried again.
    pub fn add(&mut self, packets: &[Packet], frames: &[u8]) -> io::Result<u64> {
        let added = self.write(packets, frames);
        for scratch in &mut self.scratch {
            scratch.clear();
            scratch.shrink_to(SCRATCH);
        }
        added
    }

    fn write(&mut self, packets: &[Packet], frames: &[u8]) -> io::Result<u64> {
        let [pictures, lines] = &mut self.scratch;
        for packet in packets {
            let from = pictures.len();
            mp4::pack(self.codec, &packet.bytes, pictures);
            let line = PacketLine {
                at: self.clip.length + from as u64,
                bytes: u32::try_from(pictures.len() - from).map_err(io::Error::other)?,
                pts_ns: nanos(packet.pts),
                key: packet.key,
                gap: packet.gap,
            };
            serde_json::to_writer(&mut *lines, &line)?;
            lines.push(b'\n');
        }
        let before = [self.clip.length, self.packets.length, self.frames.length];
        // The picture before the line that speaks of it: a kill in between leaves bytes that nothing speaks of.
        let written = self.clip.add(pictures).and_then(|()| self.packets.add(lines));
        let written = written.and_then(|()| self.frames.add(frames));
        if let Err(e) = written {
            self.clip.back_to(before[0]);
            self.packets.back_to(before[1]);
            self.frames.back_to(before[2]);
            return Err(e);
        }
        Ok((pictures.len() + lines.len() + frames.len()) as u64)
    }

    /// Makes it whole; see [`complete`].
    ///
    /// # Errors
    /// It cannot be written, or holds no picture.
    pub fn complete(self, events: Vec<EventLine>, ended: Ended) -> io::Result<Summary> {
        let folder = self.folder.clone();
        drop(self);
        complete(&folder, events, ended)
    }
}

/// Makes what lies in `folder` a whole recording, as far as it goes: cuts off what is not complete, writes the clip's index and
/// [`SUMMARY`]. May be done again after it was broken off. `events`: those that it shows; that which it was begun for, if empty.
///
/// # Errors
/// It cannot be read or written; [`io::ErrorKind::InvalidData`] if there is nothing in it that can be shown.
pub fn complete(folder: &Path, events: Vec<EventLine>, ended: Ended) -> io::Result<Summary> {
    let head: Head = serde_json::from_slice(&fs::read(folder.join(HEAD))?)?;
    let codec = Codec::from(head.codec);
    let mut clip = OpenOptions::new().read(true).write(true).open(folder.join(CLIP))?;
    let size = clip.metadata()?.len();
    let mut end = mp4::HEADER;
    let (packets, cut): (Vec<PacketLine>, bool) = whole_lines(&folder.join(PACKETS), |line: &PacketLine| {
        let follows = line.at == end && line.bytes > 0 && line.at + u64::from(line.bytes) <= size;
        end += if follows { u64::from(line.bytes) } else { 0 };
        follows
    })?;
    let last = packets.iter().map(|packet| packet.pts_ns).max().unwrap_or(0);
    // A kill may have come between a frame's line and its picture; an end does not, but for pictures that were given up.
    let shown = |frame: &Brief| !(cut || ended == Ended::Killed) || frame.pts_ns <= last;
    let (frames, _): (Vec<Brief>, bool) = whole_lines(&folder.join(FRAMES), shown)?;
    let nothing = || io::Error::new(io::ErrorKind::InvalidData, "it holds no picture");
    let first = packets.first().ok_or_else(nothing)?;
    if frames.is_empty() {
        return Err(nothing());
    }
    let mut key = vec![0; first.bytes as usize];
    clip.seek(SeekFrom::Start(first.at))?;
    clip.read_exact(&mut key)?;
    let key = mp4::unpack(codec, &key).ok_or_else(nothing)?;
    let sample = |p: &PacketLine| Sample { at: p.at, bytes: p.bytes, pts: p.pts_ns, key: p.key };
    let samples: Vec<Sample> = packets.iter().map(sample).collect();
    clip.set_len(end)?;
    clip.seek(SeekFrom::Start(end))?;
    clip.write_all(&mp4::index(&samples, codec, head.size, &key))?;
    clip.seek(SeekFrom::Start(0))?;
    clip.write_all(&mp4::header(end))?;
    drop(clip);

    let mut fates = BTreeMap::new();
    for frame in &frames {
        *fates.entry(frame.fate.name().to_owned()).or_default() += 1;
    }
    let times = || frames.iter().map(|frame| frame.pts_ns);
    let span = times().max().unwrap_or(0).saturating_sub(times().min().unwrap_or(0));
    let mut files = BTreeMap::new();
    for name in [CLIP, PACKETS, FRAMES, PIPELINE] {
        files.insert(name.to_owned(), digested(&folder.join(name))?);
    }
    let begun_for = EventLine { id: head.id.clone(), label: head.label.clone() };
    let summary = Summary {
        head,
        events: if events.is_empty() { vec![begun_for] } else { events },
        ended,
        packets: packets.len() as u64,
        frames: fates,
        seconds: span as f64 / 1e9,
        files,
    };
    let mut file = File::create(folder.join(SUMMARY))?;
    serde_json::to_writer_pretty(&mut file, &summary)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::remove_file(folder.join(HEAD))?;
    sync_folder(folder);
    Ok(summary)
}

/// Gives up the last pictures of what lies in `folder`, so that a full disk has room for the index of the others. To be
/// [`complete`]d then.
///
/// # Errors
/// It cannot be written, or nothing would be left.
pub fn shorten(folder: &Path) -> io::Result<()> {
    let clip = OpenOptions::new().write(true).open(folder.join(CLIP))?;
    // A picture's place in the index takes less than its line; besides there is the summary.
    let given_up = fs::metadata(folder.join(PACKETS))?.len() + 65_536;
    let left = clip.metadata()?.len().checked_sub(given_up).filter(|left| *left > mp4::HEADER);
    clip.set_len(left.ok_or(io::ErrorKind::StorageFull)?)
}

/// What has to be known of a frame's line here.
#[derive(Deserialize)]
struct Brief {
    pts_ns: u64,
    fate: FrameFate,
}

/// The lines of a file up to the first that is broken or not `fit`; what comes after them is cut off. Also whether that was
/// anything.
fn whole_lines<T: DeserializeOwned>(
    path: &Path,
    mut fit: impl FnMut(&T) -> bool,
) -> io::Result<(Vec<T>, bool)> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut reader = BufReader::new(&file);
    let (mut all, mut line, mut kept) = (Vec::new(), Vec::new(), 0);
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        let value = line.strip_suffix(b"\n").and_then(|line| serde_json::from_slice(line).ok());
        match value.filter(&mut fit) {
            Some(value) => all.push(value),
            None => break,
        }
        kept += read as u64;
    }
    drop(reader);
    let cut = file.metadata()?.len() > kept;
    file.set_len(kept)?;
    Ok((all, cut))
}

/// Size and digest of a file, which is on disk then.
fn digested(path: &Path) -> io::Result<FileLine> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut chunk = vec![0; 1 << 16];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        digest.update(&chunk[..read]);
        bytes += read as u64;
    }
    file.sync_all()?;
    Ok(FileLine { bytes, sha256: hex(&digest.finalize()) })
}

/// Has the names in a folder brought to disk, where the system can.
pub(crate) fn sync_folder(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        folder.sync_all().ok();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::recording::format::{Encoding, RunHead};

    fn head() -> Head {
        Head {
            format: 1,
            id: "01J00000000000000000000000".to_owned(),
            camera: "gate".to_owned(),
            site: "test".to_owned(),
            tapetum: "0".to_owned(),
            source: "made".to_owned(),
            size: (16, 16),
            codec: Encoding::Jpeg,
            exact: false,
            begin_ns: 0,
            label: "person".to_owned(),
            run: RunHead::default(),
        }
    }

    fn add(part: &mut Part, n: u64, bytes: usize) {
        let pts = Duration::from_millis(100 * n);
        let bytes = Bytes::from(vec![7; bytes]);
        let packet = Packet { codec: Codec::Jpeg, key: true, gap: false, pts, parameters: None, bytes };
        let line = format!("{{\"seq\":{n},\"pts_ns\":{},\"fate\":\"delivered\"}}\n", pts.as_nanos());
        part.add(&[packet], line.as_bytes()).unwrap();
    }

    #[test]
    fn a_large_beginning_takes_no_memory_for_as_long_as_the_recording_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut part = Part::create(&dir.path().join("part"), &head()).unwrap();
        add(&mut part, 0, 4 << 20);
        add(&mut part, 1, 1000);
        assert!(part.scratch.iter().all(|scratch| scratch.capacity() <= SCRATCH));
    }

    #[test]
    fn what_is_given_up_for_the_index_costs_pictures_and_their_frames_and_the_rest_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("part");
        let mut part = Part::create(&folder, &head()).unwrap();
        (0..40).for_each(|n| add(&mut part, n, 10_000));
        drop(part);
        shorten(&folder).unwrap();
        let summary = complete(&folder, Vec::new(), Ended::Full).unwrap();
        assert!((30..35).contains(&summary.packets), "{}", summary.packets);
        assert_eq!(summary.frames["delivered"], summary.packets);
        // Of a short one nothing would be left.
        let folder = dir.path().join("short");
        let mut part = Part::create(&folder, &head()).unwrap();
        add(&mut part, 0, 10_000);
        drop(part);
        assert_eq!(shorten(&folder).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(complete(&folder, Vec::new(), Ended::Full).unwrap().packets, 1);
    }
}
