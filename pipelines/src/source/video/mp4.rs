//! MP4 files with H.264 video.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use re_mp4::{Sample, StsdBoxContent, Track, TrackKind};
use tapetum_runtime::{Error, ErrorKind, Frame, Result};

use super::h264::{H264, refuse_profile};
use crate::source::{
    Next, Source, SourceInfo, StampFaults,
    packets::{self, Codec, Packet},
    stamps::Mender,
};

/// Largest access unit that is read, in bytes.
const MOST_BYTES: u64 = 64 << 20;

/// The first video track of an MP4 file.
pub(super) struct Mp4 {
    path: PathBuf,
    file: BufReader<File>,
    info: SourceInfo,
    samples: Vec<Sample>,
    next: usize,
    /// Parameter sets, in Annex B form.
    headers: Vec<u8>,
    /// Bytes of the length before each NAL unit.
    length_size: usize,
    decoder: H264,
    /// Composition times of the samples whose pictures have not come out yet.
    pending: BinaryHeap<Reverse<i64>>,
    mender: Mender,
    seq: u64,
    /// Scratch.
    sample: Vec<u8>,
    unit: Vec<u8>,
    /// Packets for who asks, once somebody does.
    keep: bool,
    packets: Vec<Packet>,
    told: Bytes,
}

impl Mp4 {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let place = |e: Error| e.at(path.display());
        let unreadable =
            |e: std::io::Error| Error::new(ErrorKind::Environment, e.to_string()).at(path.display());
        let file = File::open(path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let mut file = BufReader::new(file);
        // The parser is written for sound files: what a broken one makes it do is an error of that file.
        let parsed = catch_unwind(AssertUnwindSafe(|| re_mp4::Mp4::read(&mut file, size)));
        let mp4 = match parsed {
            Ok(Ok(mp4)) => mp4,
            Ok(Err(e)) => {
                return Err(Error::bad_file(format!("{}: not a whole MP4 file: {e}", path.display())));
            }
            Err(_) => return Err(Error::bad_file(format!("{}: a corrupt MP4 file", path.display()))),
        };
        let tracks: Vec<_> = mp4.tracks().values().collect();
        // The handler says so of codecs too that the parser does not know.
        let is_video = |t: &&&Track| {
            t.kind == Some(TrackKind::Video) || &t.trak(&mp4).mdia.hdlr.handler_type.value == b"vide"
        };
        let Some(track) = tracks.iter().find(is_video) else {
            let n = tracks.len();
            return Err(Error::bad_file(format!("{}: no video among its {n} tracks", path.display())));
        };
        let StsdBoxContent::Avc1(avc) = &track.trak(&mp4).mdia.minf.stbl.stsd.contents else {
            let codec = match &track.trak(&mp4).mdia.minf.stbl.stsd.contents {
                StsdBoxContent::Unknown(four) => four.value.escape_ascii().to_string(),
                _ => track.codec_string(&mp4).unwrap_or_else(|| "unknown".to_owned()),
            };
            return Err(Error::unsupported(format!(
                "{}: the video's codec is {codec}; this build decodes H.264 (avc1) only",
                path.display()
            )));
        };
        let avcc = &avc.avcc;
        refuse_profile(avcc.avc_profile_indication).map_err(place)?;
        let mut headers = Vec::new();
        for set in avcc.sequence_parameter_sets.iter().chain(&avcc.picture_parameter_sets) {
            headers.extend_from_slice(&[0, 0, 0, 1]);
            headers.extend_from_slice(&set.bytes);
        }
        let samples = track.samples.clone();
        if samples.is_empty() || track.timescale == 0 {
            return Err(Error::bad_file(format!("{}: the video track holds no frames", path.display())));
        }
        let usual = samples[samples.len() / 2].duration.max(1);
        let interval = Duration::from_secs_f64(usual as f64 / track.timescale as f64);
        let info = SourceInfo {
            name: path.display().to_string(),
            live: false,
            frames: Some(samples.len() as u64),
            interval: Some(interval),
            size: Some((usize::from(track.width), usize::from(track.height))),
        };
        Ok(Self {
            path: path.to_owned(),
            file,
            info,
            next: 0,
            headers,
            length_size: usize::from(avcc.length_size_minus_one & 3) + 1,
            decoder: H264::new()?,
            pending: BinaryHeap::with_capacity(64),
            mender: Mender::new(interval),
            seq: 0,
            sample: Vec::new(),
            unit: Vec::new(),
            keep: false,
            packets: Vec::new(),
            told: Bytes::new(),
            samples,
        })
    }

    /// Reads sample `at` and puts its NAL units into `unit`, in Annex B form.
    fn read(&mut self, at: usize) -> Result<()> {
        let sample = &self.samples[at];
        if sample.size > MOST_BYTES {
            return Err(Error::bad_file(format!("frame {at} has {} bytes", sample.size)));
        }
        self.sample.resize(sample.size as usize, 0);
        let read = self.file.seek(SeekFrom::Start(sample.offset));
        read.and_then(|_| self.file.read_exact(&mut self.sample)).map_err(|e| {
            let (size, from) = (sample.size, sample.offset);
            Error::bad_file(format!("frame {at}: {size} bytes at {from} cannot be read: {e}"))
        })?;
        self.unit.clear();
        if sample.is_sync || at == 0 {
            self.unit.extend_from_slice(&self.headers);
        }
        let mut rest = self.sample.as_slice();
        while !rest.is_empty() {
            let cut = || Error::bad_file(format!("frame {at} is cut short"));
            let (length, after) = rest.split_at_checked(self.length_size).ok_or_else(cut)?;
            let length = length.iter().fold(0usize, |n, &byte| n << 8 | usize::from(byte));
            let (nal, after) = after.split_at_checked(length).ok_or_else(cut)?;
            self.unit.extend_from_slice(&[0, 0, 0, 1]);
            self.unit.extend_from_slice(nal);
            rest = after;
        }
        Ok(())
    }

    /// Feeds sample `at`; true if a picture came out.
    fn feed(&mut self, at: usize, frame: &mut Frame) -> Result<bool> {
        self.read(at)?;
        let shown = self.samples[at].composition_timestamp;
        if self.keep {
            self.keep(at, shown);
        }
        self.pending.push(Reverse(shown));
        self.decoder.feed(&self.unit, &mut frame.image).inspect_err(|_| {
            self.pending.retain(|Reverse(time)| *time != shown);
        })
    }

    /// Keeps sample `at`, which is in `unit`, as a packet.
    fn keep(&mut self, at: usize, shown: i64) {
        let bytes = Bytes::copy_from_slice(&self.unit);
        let key = self.samples[at].is_sync && packets::has_idr(&bytes);
        let mut parameters = None;
        if key && self.told != self.headers {
            self.told = Bytes::copy_from_slice(&self.headers);
            parameters = Some(self.told.clone());
        }
        let pts = Duration::from_secs_f64(self.seconds(shown));
        // Only the first of the file: what is broken was fed to the decoder all the same.
        let gap = at == 0;
        self.packets.push(Packet { codec: Codec::H264, key, gap, pts, parameters, bytes });
    }

    fn seconds(&self, shown: i64) -> f64 {
        shown.max(0) as f64 / self.samples[0].timescale.max(1) as f64
    }

    /// Stamps the picture that just came out: pictures come in the order in which they are shown.
    fn stamp(&mut self, frame: &mut Frame) {
        let shown = self.pending.pop().map(|Reverse(time)| self.seconds(time));
        frame.pts = self.mender.mend(shown.map(Duration::from_secs_f64));
        self.number(frame);
    }

    fn number(&mut self, frame: &mut Frame) {
        frame.seq = self.seq;
        frame.captured = None;
        self.seq += 1;
    }
}

impl Source for Mp4 {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn next(&mut self, frame: &mut Frame) -> Result<Next> {
        while self.next < self.samples.len() {
            let at = self.next;
            self.next += 1;
            match self.feed(at, frame) {
                Ok(true) => {
                    self.stamp(frame);
                    return Ok(Next::Frame);
                }
                Ok(false) => {}
                Err(e) => {
                    self.number(frame);
                    return Ok(Next::Unreadable(e.at(self.path.display())));
                }
            }
        }
        if self.decoder.flush(&mut frame.image).unwrap_or(false) {
            self.stamp(frame);
            return Ok(Next::Frame);
        }
        // Samples that gave no picture and no error: counted, not passed over.
        if self.pending.pop().is_some() {
            self.number(frame);
            let what = format!("{}: a frame gave no picture", self.path.display());
            return Ok(Next::Unreadable(Error::bad_file(what)));
        }
        Ok(Next::End)
    }

    fn stamps(&self) -> StampFaults {
        self.mender.faults()
    }

    fn keep_packets(&mut self) -> bool {
        self.keep = true;
        true
    }

    fn packets(&mut self, take: &mut dyn FnMut(Packet)) {
        self.packets.drain(..).for_each(take);
    }
}
