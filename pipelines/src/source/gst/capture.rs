//! What OpenCV makes of a pipeline.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError, mpsc::sync_channel},
    time::{Duration, SystemTime},
};

use opencv::{
    core::{LogLevel, Mat, set_log_level},
    prelude::{MatTraitConst, VideoCaptureTrait, VideoCaptureTraitConst},
    videoio::{CAP_GSTREAMER, CAP_PROP_FPS, VideoCapture},
};
use tapetum_runtime::{
    Error, ErrorKind, Frame, Result,
    clock::{Clock, Monotonic},
};

use crate::source::{Next, Source, SourceInfo, video::opencv::copy};

/// Pipelines that are open: one that hangs holds its camera, and must not be opened a second time.
static OPEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn open_ones() -> std::sync::MutexGuard<'static, BTreeSet<String>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pipeline that runs.
pub(super) struct Capture {
    capture: VideoCapture,
    pipeline: String,
    info: SourceInfo,
    clock: Monotonic,
    seq: u64,
    bgr: Mat,
}

/// What a pipeline that does not run may lack.
const WHY: &str = "`gst-launch-1.0` with the same elements and a fakesink tells why (an element that is not installed, a camera that is \
                   not there or in use)";

impl Capture {
    /// Opens it, or gives up after `limit`. One that hangs is left to its thread and is no pipeline to be opened again until it ends.
    pub(super) fn within(limit: Duration, pipeline: &str, name: &str) -> Result<Self> {
        let (say, opened) = sync_channel(1);
        let lost = |what: String| Error::new(ErrorKind::Environment, format!("{name}: {what}"));
        let (its, shown) = (pipeline.to_owned(), name.to_owned());
        std::thread::Builder::new()
            .name("gst".to_owned())
            // If nobody waits any more, it is closed again.
            .spawn(move || say.send(Self::open(&its, &shown)).unwrap_or_default())
            .map_err(|e| lost(format!("no thread for it: {e}")))?;
        opened.recv_timeout(limit).unwrap_or_else(|_| {
            Err(lost(format!("the pipeline has not started within {} s; {WHY}", limit.as_secs())))
        })
    }

    fn open(pipeline: &str, name: &str) -> Result<Self> {
        let lost = |what: String| Error::new(ErrorKind::Environment, format!("{name}: {what}"));
        if !open_ones().insert(pipeline.to_owned()) {
            return Err(lost(
                "this pipeline is open already, or the one before hangs and has not ended yet".into(),
            ));
        }
        // From here on it is taken off the list when it is dropped.
        let capture = VideoCapture::default().map_err(|e| {
            open_ones().remove(pipeline);
            lost(e.message)
        })?;
        let info = SourceInfo { name: name.to_owned(), live: true, ..SourceInfo::default() };
        let (pipeline, clock) = (pipeline.to_owned(), Monotonic::start());
        let mut opened = Self { capture, pipeline, info, clock, seq: 0, bgr: Mat::default() };
        // What it would print is in the errors given here.
        set_log_level(LogLevel::LOG_LEVEL_SILENT).map_err(|e| lost(e.message))?;
        match opened.capture.open_file(&opened.pipeline, CAP_GSTREAMER) {
            Ok(true) => {}
            Ok(false) => {
                return Err(lost(format!("GStreamer cannot run this pipeline; {WHY}")));
            }
            Err(e) => return Err(lost(e.message)),
        }
        let fps = opened.capture.get(CAP_PROP_FPS).ok().filter(|fps| (0.001..=1e4).contains(fps));
        opened.info.interval = fps.map(|fps| Duration::from_secs_f64(1.0 / fps));
        Ok(opened)
    }
}

impl Source for Capture {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn next(&mut self, frame: &mut Frame) -> Result<Next> {
        match self.capture.read(&mut self.bgr) {
            Ok(true) => {}
            // OpenCV does not tell the end of a stream from an error of an element.
            Ok(false) => return Ok(Next::End),
            Err(e) => {
                let what = format!("{}: {}", self.info.name, e.message);
                return Err(Error::new(ErrorKind::Environment, what).caused_by(e));
            }
        }
        // The time when it came: the pipeline's own clock is not told.
        (frame.seq, frame.pts, frame.captured) = (self.seq, self.clock.now(), Some(SystemTime::now()));
        self.seq += 1;
        self.info.size = Some((self.bgr.cols() as usize, self.bgr.rows() as usize));
        match copy(&self.bgr, &mut frame.image) {
            Ok(()) => Ok(Next::Frame),
            Err(e) => Ok(Next::Unreadable(e.at(format!("{}: frame {}", self.info.name, frame.seq)))),
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // Before another may open it: the camera is free then.
        self.capture.release().ok();
        open_ones().remove(&self.pipeline);
    }
}
