//! A Motion-JPEG video that grows frame by frame.

use std::{path::PathBuf, time::Duration};

use tapetum_runtime::Result;

use super::avi::Avi;

/// Intervals between frames that are looked at for their median.
const INTERVALS: usize = 1024;

/// Frames → AVI files. A new file (`NAME-2.avi`, …) is begun where one would grow too long or the frames change their
/// size. The rate is the median of the frames' own.
pub struct MjpegVideo {
    /// The first file.
    path: PathBuf,
    /// Opened with the first frame, which says the size.
    avi: Option<Avi>,
    /// Size of the open file's frames.
    size: (usize, usize),
    /// Files begun.
    begun: usize,
    last: Option<Duration>,
    intervals: Vec<Duration>,
}

impl MjpegVideo {
    /// Nothing is written before the first frame.
    pub fn new(path: PathBuf) -> Self {
        Self { path, avi: None, size: (0, 0), begun: 0, last: None, intervals: Vec::with_capacity(INTERVALS) }
    }

    /// Adds a frame of `size` (width, height), a JPEG, shown at `pts`.
    ///
    /// # Errors
    /// The file cannot be written, or no video has frames of this size.
    pub fn add(&mut self, jpeg: &[u8], size: (usize, usize), pts: Duration) -> Result<()> {
        if let Some(last) = self.last.replace(pts)
            && self.intervals.len() < INTERVALS
        {
            self.intervals.push(pts.saturating_sub(last));
        }
        let interval = self.interval();
        if self.size != size || self.avi.as_ref().is_some_and(|avi| avi.is_full(jpeg.len())) {
            self.finish()?;
        }
        let avi = match &mut self.avi {
            Some(avi) => avi,
            none => {
                self.begun += 1;
                let path = match self.begun {
                    1 => self.path.clone(),
                    n => {
                        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
                        self.path.with_file_name(format!("{stem}-{n}.avi"))
                    }
                };
                self.size = size;
                none.insert(Avi::create(&path, size)?)
            }
        };
        avi.add(jpeg, interval)
    }

    /// Completes the open file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(&mut self) -> Result<()> {
        let interval = self.interval();
        self.avi.take().map_or(Ok(()), |mut avi| avi.finish(interval))
    }

    /// The median time between two frames; 1/25 s before there are two.
    fn interval(&mut self) -> Duration {
        self.intervals.sort_unstable();
        let middle = self.intervals.get(self.intervals.len() / 2).copied();
        middle.filter(|time| !time.is_zero()).unwrap_or(Duration::from_millis(40))
    }
}
