//! Video files of every format that the installed OpenCV reads.

use std::{path::Path, time::Duration};

use opencv::{
    core::{CV_8UC1, CV_8UC3, LogLevel, Mat, set_log_level},
    prelude::{MatTraitConst, MatTraitConstManual, VideoCaptureTrait, VideoCaptureTraitConst},
    videoio::{
        CAP_ANY, CAP_PROP_FPS, CAP_PROP_FRAME_COUNT, CAP_PROP_FRAME_HEIGHT, CAP_PROP_FRAME_WIDTH,
        CAP_PROP_POS_MSEC, VideoCapture,
    },
};
use tapetum_runtime::{Error, ErrorKind, Frame, Image, PixelFormat, Result};

use crate::source::{Next, Source, SourceInfo, StampFaults, stamps::Mender};

/// A file that OpenCV has opened.
///
/// OpenCV scales frames of a stream that changes its size to the first one's, and does not tell a stream that ends from one that
/// breaks off; what is missing of the number that the file announces is counted.
pub(super) struct Capture {
    capture: VideoCapture,
    info: SourceInfo,
    mender: Mender,
    seq: u64,
    ended: bool,
    bgr: Mat,
}

impl Capture {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let lost = |e: opencv::Error| {
            Error::new(ErrorKind::Environment, format!("{name}: {}", e.message)).caused_by(e)
        };
        // What it would print is in the errors given here.
        set_log_level(LogLevel::LOG_LEVEL_SILENT).map_err(lost)?;
        let capture = VideoCapture::from_file(path, CAP_ANY).map_err(lost)?;
        if !capture.is_opened().map_err(lost)? {
            return Err(Error::bad_file(format!("{name}: no video that it can read")));
        }
        let number = |what| capture.get(what).ok().filter(|n| n.is_finite() && *n > 0.0);
        let fps = number(CAP_PROP_FPS).filter(|fps| *fps <= 1e4);
        let interval = Duration::from_secs_f64(1.0 / fps.unwrap_or(25.0).max(1e-3));
        let size = number(CAP_PROP_FRAME_WIDTH).zip(number(CAP_PROP_FRAME_HEIGHT));
        let info = SourceInfo {
            live: false,
            frames: number(CAP_PROP_FRAME_COUNT).map(|n| n as u64),
            interval: Some(interval),
            size: size.map(|(width, height)| (width as usize, height as usize)),
            name,
        };
        let mender = Mender::new(interval);
        Ok(Self { capture, info, mender, seq: 0, ended: false, bgr: Mat::default() })
    }

    /// The end, and whether it came too early. Containers without an index estimate their number of frames from the
    /// duration, so one in fifty is allowed for.
    fn end(&mut self) -> Next {
        let announced = self.info.frames.unwrap_or(0);
        if !std::mem::replace(&mut self.ended, true) && self.seq + 1 + announced / 50 < announced {
            let what = format!(
                "{}: ends after {} of about {announced} frames: cut off, or undecodable from there",
                self.info.name, self.seq
            );
            self.seq += 1;
            return Next::Unreadable(Error::bad_file(what));
        }
        Next::End
    }

    fn stamp(&mut self, frame: &mut Frame) {
        let ms = self.capture.get(CAP_PROP_POS_MSEC).ok().filter(|ms| ms.is_finite() && *ms >= 0.0);
        // Readers that know no times say 0 for every frame.
        let known = ms.filter(|ms| *ms > 0.0 || self.seq == 0);
        frame.pts = self.mender.mend(known.map(|ms| Duration::from_secs_f64(ms / 1e3)));
        frame.seq = self.seq;
        frame.captured = None;
        self.seq += 1;
    }
}

impl Source for Capture {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn next(&mut self, frame: &mut Frame) -> Result<Next> {
        if self.ended || !matches!(self.capture.read(&mut self.bgr), Ok(true)) {
            return Ok(self.end());
        }
        self.stamp(frame);
        match copy(&self.bgr, &mut frame.image) {
            Ok(()) => Ok(Next::Frame),
            Err(e) => Ok(Next::Unreadable(e.at(format!("{}: frame {}", self.info.name, frame.seq)))),
        }
    }

    fn stamps(&self) -> StampFaults {
        self.mender.faults()
    }
}

/// From OpenCV's BGR or grey to ours.
pub(in crate::source) fn copy(from: &Mat, to: &mut Image) -> Result<()> {
    let failed = |e: opencv::Error| Error::bad_file(format!("no picture: {}", e.message));
    let (rows, columns) = (from.rows() as usize, from.cols() as usize);
    match from.typ() {
        _ if rows == 0 || columns == 0 => Err(Error::bad_file("an empty picture")),
        CV_8UC3 => {
            let bgr = from.data_bytes().map_err(failed)?;
            let pixels = to.reset(columns, rows, PixelFormat::Rgb8).chunks_exact_mut(3);
            for (to, from) in pixels.zip(bgr.chunks_exact(3)) {
                to.copy_from_slice(&[from[2], from[1], from[0]]);
            }
            Ok(())
        }
        CV_8UC1 => {
            let grey = from.data_bytes().map_err(failed)?;
            to.reset(columns, rows, PixelFormat::Grey8).copy_from_slice(grey);
            Ok(())
        }
        other => Err(Error::unsupported(format!("pixels of OpenCV's type {other}"))),
    }
}
