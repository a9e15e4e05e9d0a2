//! The AVI container: where a video stream's chunks are, and how fast they follow each other.
//!
//! Format: RIFF (`RIFF size AVI `, lists `hdrl` and `movi` of chunks `id size data`, padded to even sizes), Microsoft's *AVI RIFF
//! File Reference*. The index is not needed: the chunks are walked. A file that was cut off gives what is there.

use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

use tapetum_runtime::{Error, ErrorKind, Result};

/// Most chunks that are kept: a day at 60 frames/s.
const MOST_CHUNKS: usize = 86_400 * 60;
/// Deepest lists are walked to this level.
const MOST_DEPTH: usize = 4;

/// The video stream of an AVI file.
#[derive(Clone, Debug, PartialEq)]
pub struct Video {
    /// Codec, four letters.
    pub codec: [u8; 4],
    /// Width and height in pixels.
    pub size: (usize, usize),
    /// Time between two frames.
    pub interval: Duration,
    /// Offset and length of each frame's data, in bytes. A length of 0: the frame before is shown again.
    pub frames: Vec<(u64, u32)>,
}

/// Finds the first video stream.
///
/// # Errors
/// [`ErrorKind::BadFile`] if this is no AVI file or has no video stream.
pub fn read(file: &mut (impl Read + Seek)) -> Result<Video> {
    let end = file.seek(SeekFrom::End(0)).map_err(unreadable)?;
    let mut walk = Walk { end, streams: 0, found: None, frames: Vec::new() };
    if end < 12 || &bytes::<4>(file, 0)? != b"RIFF" || &bytes::<4>(file, 8)? != b"AVI " {
        return Err(Error::bad_file("not an AVI file"));
    }
    walk.list(file, 12, end, 0)?;
    let Some((_, mut video)) = walk.found else {
        return Err(Error::bad_file(format!("no video among the {} streams of the AVI file", walk.streams)));
    };
    video.frames = walk.frames;
    Ok(video)
}

struct Walk {
    end: u64,
    streams: u8,
    /// Number of the video stream and what is known of it.
    found: Option<(u8, Video)>,
    frames: Vec<(u64, u32)>,
}

impl Walk {
    /// Walks the chunks from `at` to `end`.
    fn list(&mut self, file: &mut (impl Read + Seek), mut at: u64, end: u64, depth: usize) -> Result<()> {
        let end = end.min(self.end);
        while at + 8 <= end {
            let id = bytes::<4>(file, at)?;
            let size = u64::from(u32::from_le_bytes(bytes::<4>(file, at + 4)?));
            let data = at + 8;
            match &id {
                b"LIST" | b"RIFF" if size >= 4 && depth < MOST_DEPTH && data + 4 <= end => {
                    match &bytes::<4>(file, data)? {
                        b"strl" => self.stream(file, data + 4, data + size)?,
                        b"hdrl" | b"movi" | b"rec " => self.list(file, data + 4, data + size, depth + 1)?,
                        _ => {}
                    }
                }
                [a, b, b'd', b'c' | b'b'] => self.frame([*a, *b], data, size, end)?,
                _ => {}
            }
            at = data + size + size % 2;
        }
        Ok(())
    }

    fn frame(&mut self, number: [u8; 2], data: u64, size: u64, end: u64) -> Result<()> {
        let number = std::str::from_utf8(&number).ok().and_then(|n| n.parse::<u8>().ok());
        // A chunk that reaches beyond the end was cut off: it is kept and will fail to decode, so that it is counted.
        let there = size.min(end.saturating_sub(data));
        if self.found.as_ref().is_some_and(|(video, _)| Some(*video) == number) {
            if self.frames.len() == MOST_CHUNKS {
                return Err(Error::unsupported(format!("an AVI file of more than {MOST_CHUNKS} frames")));
            }
            self.frames.push((data, there as u32));
        }
        Ok(())
    }

    /// Reads the headers of one stream.
    fn stream(&mut self, file: &mut (impl Read + Seek), mut at: u64, end: u64) -> Result<()> {
        let end = end.min(self.end);
        let (mut header, mut format) = (None, None);
        while at + 8 <= end {
            let id = bytes::<4>(file, at)?;
            let size = u64::from(u32::from_le_bytes(bytes::<4>(file, at + 4)?));
            match &id {
                b"strh" if size >= 28 && at + 36 <= end => header = Some(bytes::<28>(file, at + 8)?),
                b"strf" if size >= 20 && at + 28 <= end => format = Some(bytes::<20>(file, at + 8)?),
                _ => {}
            }
            at += 8 + size + size % 2;
        }
        let number = self.streams;
        self.streams = self.streams.saturating_add(1);
        let (Some(header), Some(format)) = (header, format) else { return Ok(()) };
        if &header[..4] != b"vids" || self.found.is_some() {
            return Ok(());
        }
        let word =
            |from: &[u8], at: usize| u32::from_le_bytes([from[at], from[at + 1], from[at + 2], from[at + 3]]);
        let (scale, rate) = (word(&header, 20), word(&header, 24));
        let seconds = f64::from(scale) / f64::from(rate);
        if !(1e-4..=3600.0).contains(&seconds) {
            return Err(Error::bad_file(format!("the AVI file's frame rate is {rate}/{scale}")));
        }
        let (width, height) = (word(&format, 4), word(&format, 8).cast_signed().unsigned_abs());
        let codec = [format[16], format[17], format[18], format[19]];
        let video = Video {
            codec,
            size: (width as usize, height as usize),
            interval: Duration::from_secs_f64(seconds),
            frames: Vec::new(),
        };
        self.found = Some((number, video));
        Ok(())
    }
}

fn bytes<const N: usize>(file: &mut (impl Read + Seek), at: u64) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut bytes)).map_err(unreadable)?;
    Ok(bytes)
}

fn unreadable(e: std::io::Error) -> Error {
    Error::new(ErrorKind::BadFile, format!("the AVI file cannot be read: {e}")).caused_by(e)
}
