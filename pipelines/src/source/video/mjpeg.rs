//! AVI files with MJPEG video.

use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use tapetum_runtime::{Error, ErrorKind, Frame, Image, PixelFormat, Result};
use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

use super::avi::{self, Video};
use crate::source::{
    Next, Source, SourceInfo,
    packets::{Codec, Packet},
};

/// Codecs that are JPEG pictures one after the other.
const CODECS: [&[u8; 4]; 6] = [b"MJPG", b"mjpg", b"AVRn", b"dmb1", b"jpeg", b"JPEG"];

/// Largest picture, in pixels on a side.
const MOST_SIDE: usize = 16_384;

/// The video stream of an AVI file.
pub(super) struct Avi {
    path: PathBuf,
    file: BufReader<File>,
    info: SourceInfo,
    video: Video,
    next: usize,
    data: Vec<u8>,
    /// The picture shown last, for frames that show it again.
    shown: Option<Image>,
    /// Packets for who asks, once somebody does.
    keep: bool,
    packets: Vec<Packet>,
    /// The latest packet's bytes, for frames that show it again.
    latest: Option<Bytes>,
    begun: bool,
}

impl Avi {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path)
            .map_err(|e| Error::new(ErrorKind::Environment, format!("{}: {e}", path.display())))?;
        let mut file = BufReader::new(file);
        let video = avi::read(&mut file).map_err(|e| e.at(path.display()))?;
        if !CODECS.contains(&&video.codec) {
            let codec = video.codec.escape_ascii();
            return Err(Error::unsupported(format!(
                "{}: the video's codec is {codec}; this build decodes MJPEG in AVI only",
                path.display()
            )));
        }
        if video.frames.is_empty() {
            return Err(Error::bad_file(format!("{}: the video stream holds no frames", path.display())));
        }
        let info = SourceInfo {
            name: path.display().to_string(),
            live: false,
            frames: Some(video.frames.len() as u64),
            interval: Some(video.interval),
            size: Some(video.size),
        };
        Ok(Self {
            path: path.to_owned(),
            file,
            info,
            video,
            next: 0,
            data: Vec::new(),
            shown: None,
            keep: false,
            packets: Vec::new(),
            latest: None,
            begun: false,
        })
    }

    /// Keeps the picture that is in `data`, or the one before, as the packet of the frame at `pts`.
    fn keep(&mut self, pts: Duration, again: bool) {
        if !again {
            self.latest = Some(Bytes::copy_from_slice(&self.data));
        }
        if let Some(bytes) = self.latest.clone() {
            let gap = !std::mem::replace(&mut self.begun, true);
            self.packets.push(Packet { codec: Codec::Jpeg, key: true, gap, pts, parameters: None, bytes });
        }
    }

    fn decode(&mut self, at: u64, size: u32, out: &mut Image) -> Result<()> {
        if size == 0 {
            let shown =
                self.shown.as_ref().ok_or_else(|| Error::bad_file("there is no picture to repeat"))?;
            out.copy_from(shown);
            return Ok(());
        }
        self.data.resize(size as usize, 0);
        let read = self.file.seek(SeekFrom::Start(at));
        read.and_then(|_| self.file.read_exact(&mut self.data))
            .map_err(|e| Error::bad_file(format!("{size} bytes at {at} cannot be read: {e}")))?;
        jpeg(&self.data, out)?;
        // Kept only where the stream repeats pictures.
        if self.video.frames.get(self.next).is_some_and(|(_, size)| *size == 0) {
            self.shown.get_or_insert_default().copy_from(out);
        }
        Ok(())
    }
}

impl Source for Avi {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn next(&mut self, frame: &mut Frame) -> Result<Next> {
        let Some(&(at, size)) = self.video.frames.get(self.next) else { return Ok(Next::End) };
        frame.seq = self.next as u64;
        frame.pts = self.video.interval * self.next as u32;
        frame.captured = None;
        self.next += 1;
        match self.decode(at, size, &mut frame.image) {
            Ok(()) => {
                if self.keep {
                    self.keep(frame.pts, size == 0);
                }
                Ok(Next::Frame)
            }
            Err(e) => Ok(Next::Unreadable(e.at(format!("{}: frame {}", self.path.display(), frame.seq)))),
        }
    }

    fn keep_packets(&mut self) -> bool {
        self.keep = true;
        true
    }

    fn packets(&mut self, take: &mut dyn FnMut(Packet)) {
        self.packets.drain(..).for_each(take);
    }
}

/// Decodes a JPEG picture; grey ones stay grey. Pictures without Huffman tables, as MJPEG has them, get the usual ones.
pub(in crate::source) fn jpeg(data: &[u8], out: &mut Image) -> Result<()> {
    let bad = |e: &dyn std::fmt::Display| Error::bad_file(format!("no whole JPEG picture: {e}"));
    let options =
        DecoderOptions::default().set_max_width(MOST_SIDE).set_max_height(MOST_SIDE).set_strict_mode(true);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(data), options);
    decoder.decode_headers().map_err(|e| bad(&e))?;
    let info = decoder.info().ok_or_else(|| bad(&"there is no header"))?;
    let grey = info.components == 1;
    let (space, format) = match grey {
        true => (ColorSpace::Luma, PixelFormat::Grey8),
        false => (ColorSpace::RGB, PixelFormat::Rgb8),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let pixels = out.reset(usize::from(info.width), usize::from(info.height), format);
    decoder.decode_into(pixels).map_err(|e| bad(&e))
}
