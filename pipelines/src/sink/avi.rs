//! Motion-JPEG in AVI: the video file that nearly everything plays and that needs no codec.

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use tapetum_runtime::{Error, Result};

use super::files;

/// Bytes before the first frame.
const HEADER: usize = 224;
/// The header is brought up to date after this many frames, so that a killed run leaves a video that plays.
const UPDATE: usize = 32;
/// Where a file ends at the latest: sizes in AVI have 32 bits, and some readers take them as signed.
const MOST: u64 = 2_000_000_000;

/// An AVI file that grows.
pub(super) struct Avi {
    path: PathBuf,
    file: File,
    width: u32,
    height: u32,
    /// Offset and size of every frame.
    index: Vec<(u32, u32)>,
    /// Bytes written, header included.
    length: u64,
}

impl Avi {
    /// Makes the file; all its frames have one size.
    pub fn create(path: &Path, (width, height): (usize, usize)) -> Result<Self> {
        let side = |n: usize| {
            u16::try_from(n).ok().filter(|n| *n > 0).map(u32::from).ok_or_else(|| {
                Error::unsupported(format!("{}: no video of {width}×{height}", path.display()))
            })
        };
        let mut avi = Self {
            path: path.to_owned(),
            width: side(width)?,
            height: side(height)?,
            file: files::create(path)?,
            index: Vec::new(),
            length: HEADER as u64,
        };
        let header = avi.header(Duration::ZERO, 0);
        avi.write(&header)?;
        Ok(avi)
    }

    /// Whether another frame of `bytes` would make the file too long.
    pub fn is_full(&self, bytes: usize) -> bool {
        // The index takes 16 bytes per frame.
        self.length + (bytes + 16 * (self.index.len() + 2)) as u64 > MOST
    }

    /// Adds a JPEG. `interval` is the time between two frames as known by now.
    pub fn add(&mut self, jpeg: &[u8], interval: Duration) -> Result<()> {
        let size = u32::try_from(jpeg.len()).map_err(|_| Error::internal("a frame of over 4 GB"))?;
        // Offsets count from the letters `movi`.
        self.index.push(((self.length - HEADER as u64) as u32 + 4, size));
        self.write(b"00dc")?;
        self.write(&size.to_le_bytes())?;
        self.write(jpeg)?;
        if size % 2 == 1 {
            self.write(&[0])?;
        }
        self.length += 8 + u64::from(size.next_multiple_of(2));
        if self.index.len().is_multiple_of(UPDATE) || self.index.len() == 1 {
            self.update(interval, 0)?;
        }
        Ok(())
    }

    /// Adds the index and completes the header.
    pub fn finish(&mut self, interval: Duration) -> Result<()> {
        let mut index = Vec::with_capacity(8 + 16 * self.index.len());
        index.extend(b"idx1");
        index.extend((16 * self.index.len() as u32).to_le_bytes());
        for (offset, size) in &self.index {
            index.extend(b"00dc");
            // Every frame is a key frame.
            [0x10, *offset, *size].iter().for_each(|n: &u32| index.extend(n.to_le_bytes()));
        }
        self.write(&index)?;
        self.update(interval, index.len())?;
        self.file.sync_all().map_err(|e| files::failed(&self.path, "write", e))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| files::failed(&self.path, "write", e))
    }

    fn update(&mut self, interval: Duration, index: usize) -> Result<()> {
        let header = self.header(interval, index);
        self.seek(SeekFrom::Start(0))?;
        self.write(&header)?;
        self.seek(SeekFrom::End(0))
    }

    fn seek(&mut self, to: SeekFrom) -> Result<()> {
        self.file.seek(to).map(|_| ()).map_err(|e| files::failed(&self.path, "seek", e))
    }

    /// The header, for frames so far and an index of `index` bytes behind them.
    fn header(&self, interval: Duration, index: usize) -> Vec<u8> {
        let micros = u32::try_from(interval.as_micros()).unwrap_or(u32::MAX).max(1);
        let frames = self.index.len() as u32;
        let longest = self.index.iter().map(|(_, size)| *size).max().unwrap_or(0);
        let has_index = if index > 0 { 0x10 } else { 0 };
        let mut out = Vec::with_capacity(HEADER);
        let mut put = |letters: &[u8; 4], numbers: &[u32]| {
            out.extend(letters);
            numbers.iter().for_each(|n| out.extend(n.to_le_bytes()));
        };
        put(b"RIFF", &[(self.length as u32 + index as u32) - 8]);
        put(b"AVI ", &[]);
        put(b"LIST", &[192]);
        put(b"hdrl", &[]);
        let (w, h) = (self.width, self.height);
        put(b"avih", &[56, micros, 0, 0, has_index, frames, 0, 1, longest, w, h, 0, 0, 0, 0]);
        put(b"LIST", &[116]);
        put(b"strl", &[]);
        put(b"strh", &[56]);
        put(b"vids", &[]);
        // Rate over scale is frames per second; the quality is not said.
        put(b"MJPG", &[0, 0, 0, micros, 1_000_000, 0, frames, longest, u32::MAX, 0, 0, h << 16 | w]);
        put(b"strf", &[40, 40, w, h, 24 << 16 | 1]);
        put(b"MJPG", &[w * h * 3, 0, 0, 0, 0]);
        put(b"LIST", &[(self.length as usize - HEADER) as u32 + 4]);
        put(b"movi", &[]);
        out
    }
}
