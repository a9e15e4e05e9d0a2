//! A recording that is whole: what is in it, checked, and its way back to frames.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tapetum_runtime::{Error, ErrorKind, Frame, Result};

use super::{
    format::{CLIP, FRAMES, FrameLine, PACKETS, PIPELINE, PacketLine, SUMMARY, Summary, VERSION},
    mp4,
};
use crate::{
    prepare::hex,
    source::packets::{Codec, Decoder, Packet},
};

/// Largest picture that is read, in bytes.
const MOST_BYTES: u32 = 64 << 20;

/// A recording whose files are as they were written.
pub struct Recording {
    /// Its folder.
    pub folder: PathBuf,
    /// What is known of the whole.
    pub summary: Summary,
    /// The pipeline file's text.
    pub pipeline: String,
    /// Every frame that the camera gave.
    pub frames: Vec<FrameLine>,
    packets: Vec<PacketLine>,
}

impl Recording {
    /// Reads the recording in `folder`, and checks every file against its digest.
    ///
    /// # Errors
    /// [`ErrorKind::BadFile`] naming the file that is missing, changed or broken; [`ErrorKind::Unsupported`] for a newer format.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(SUMMARY);
        let text = fs::read(&path).map_err(|e| {
            let what = format!("{}: {e}; this is no folder of a whole recording", path.display());
            Error::config(what).caused_by(e)
        })?;
        let version: serde_json::Value = serde_json::from_slice(&text).map_err(|e| broken(&path, &e))?;
        let version = version["format"].as_u64().unwrap_or(0);
        if version > u64::from(VERSION) {
            let what = format!("{}: format {version}, of a newer Tapetum", path.display());
            return Err(Error::unsupported(what));
        }
        let summary: Summary = serde_json::from_slice(&text).map_err(|e| broken(&path, &e))?;
        for name in [CLIP, PACKETS, FRAMES, PIPELINE] {
            check(&folder.join(name), summary.files.get(name).map(|file| file.sha256.as_str()))?;
        }
        let packets: Vec<PacketLine> = lines(&folder.join(PACKETS))?;
        let frames: Vec<FrameLine> = lines(&folder.join(FRAMES))?;
        let path = folder.join(PIPELINE);
        let pipeline = fs::read_to_string(&path).map_err(|e| broken(&path, &e))?;
        Ok(Self { folder: folder.to_owned(), summary, pipeline, frames, packets })
    }

    /// Its pictures, decoded by the decoder that decoded them then, from the first on.
    ///
    /// # Errors
    /// The clip cannot be opened.
    pub fn pictures(&self) -> Result<Pictures> {
        let path = self.folder.join(CLIP);
        let clip = File::open(&path).map_err(|e| broken(&path, &e))?;
        Ok(Pictures {
            clip: BufReader::new(clip),
            codec: self.summary.head.codec.into(),
            packets: self.packets.clone(),
            next: 0,
            ahead: None,
            decoder: Decoder::new(),
            broken: 0,
        })
    }
}

/// Decodes a recording.
pub struct Pictures {
    clip: BufReader<File>,
    codec: Codec,
    packets: Vec<PacketLine>,
    next: usize,
    /// A packet before which the decoder has to give what it holds.
    ahead: Option<Packet>,
    decoder: Decoder,
    broken: u64,
}

impl Pictures {
    /// The next picture, into `frame`: its time and pixels. False at the end.
    ///
    /// # Errors
    /// The clip cannot be read. What cannot be decoded is passed over, as the camera's source did.
    pub fn next(&mut self, frame: &mut Frame) -> Result<bool> {
        loop {
            if let Some(packet) = self.ahead.take() {
                // The source that it came from began anew here, after it had given all that it held.
                if self.decoder.finish(frame)? {
                    self.ahead = Some(packet);
                    return Ok(true);
                }
                if self.feed(&packet, frame) {
                    return Ok(true);
                }
                continue;
            }
            let Some(line) = self.packets.get(self.next).copied() else { return self.decoder.finish(frame) };
            self.next += 1;
            let packet = self.read(&line)?;
            if packet.gap && self.next > 1 {
                self.ahead = Some(packet);
            } else if self.feed(&packet, frame) {
                return Ok(true);
            }
        }
    }

    /// Packets that could not be decoded so far.
    pub fn broken(&self) -> u64 {
        self.broken
    }

    fn feed(&mut self, packet: &Packet, frame: &mut Frame) -> bool {
        match self.decoder.decode(packet, frame) {
            Ok(came) => came,
            Err(_) => {
                self.broken += 1;
                false
            }
        }
    }

    fn read(&mut self, line: &PacketLine) -> Result<Packet> {
        let bad = |what: String| Error::bad_file(format!("{CLIP}: {what}"));
        if line.bytes > MOST_BYTES {
            return Err(bad(format!("a picture of {} bytes", line.bytes)));
        }
        let mut packed = vec![0; line.bytes as usize];
        let read = self.clip.seek(SeekFrom::Start(line.at));
        read.and_then(|_| self.clip.read_exact(&mut packed))
            .map_err(|e| bad(format!("{} bytes at {} cannot be read: {e}", line.bytes, line.at)))?;
        let bytes = mp4::unpack(self.codec, &packed)
            .ok_or_else(|| bad(format!("what lies at {} is no picture", line.at)))?;
        Ok(Packet {
            codec: self.codec,
            key: line.key,
            gap: line.gap,
            pts: Duration::from_nanos(line.pts_ns),
            parameters: None,
            bytes: Bytes::from(bytes),
        })
    }
}

fn broken(path: &Path, e: &dyn std::fmt::Display) -> Error {
    Error::bad_file(format!("{}: {e}", path.display()))
}

fn check(path: &Path, sha256: Option<&str>) -> Result<()> {
    let mut file = File::open(path).map_err(|e| broken(path, &e))?;
    let mut digest = Sha256::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => digest.update(&chunk[..read]),
            Err(e) => return Err(broken(path, &e)),
        }
    }
    if sha256 != Some(hex(&digest.finalize()).as_str()) {
        let what = format!("{}: changed since it was recorded (its SHA-256 is another)", path.display());
        return Err(Error::new(ErrorKind::BadFile, what));
    }
    Ok(())
}

fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let file = File::open(path).map_err(|e| broken(path, &e))?;
    let one = |(at, line): (usize, std::io::Result<String>)| {
        let line = line.map_err(|e| broken(path, &e))?;
        serde_json::from_str(&line)
            .map_err(|e| Error::bad_file(format!("{}:{}: {e}", path.display(), at + 1)).caused_by(e))
    };
    BufReader::new(file).lines().enumerate().map(one).collect()
}
