//! A camera as a source of frames.

use std::{
    io,
    time::{Duration, Instant, SystemTime},
};

use tapetum_runtime::{Error, ErrorKind, Frame, Image, Result, pixels::Layout};

use super::{
    Options,
    device::{Device, Filled, Picture, Stream},
    format::{FORMATS, Format},
    negotiate::{self, Given, Offer},
    sequence::Sequence,
};
use crate::source::{Next, SequenceFaults, Source, SourceInfo, StampFaults, stamps::Mender, video::mjpeg};

/// Longest wait until whoever reads may look at something else, as [`Next::Idle`] says.
const GLANCE: Duration = Duration::from_millis(100);

/// A streaming camera. Its size stays as it was opened with; after an error it must be opened again.
pub(super) struct Camera {
    stream: Stream,
    info: SourceInfo,
    remarks: Vec<String>,
    format: Format,
    picture: Picture,
    stall: Duration,
    /// Since when the next frame is waited for.
    waits: Option<Instant>,
    sequence: Sequence,
    mender: Mender,
    /// The driver's stamp of the first frame.
    first: Option<Duration>,
}

impl Camera {
    /// Opens, negotiates and starts.
    pub(super) fn open(options: Options) -> Result<Self> {
        let name = format!("v4l2:{}", options.path.display());
        Self::start(&options, &name).map_err(|e| e.at(&name))
    }

    fn start(options: &Options, name: &str) -> Result<Self> {
        let device = Device::open(&options.path)?;
        let codes = device.codes();
        let offers: Vec<Offer> = FORMATS
            .into_iter()
            .filter(|format| codes.contains(&format.fourcc))
            .map(|format| {
                let size = negotiate::nearest_size(&device.sizes(format.fourcc), options.size);
                let fps = size.and_then(|size| device.highest_rate(format.fourcc, size));
                Offer { format, size, fps }
            })
            .collect();
        let offer = negotiate::choose(&offers, &codes, options)?;
        let picture = device
            .set_format(offer.format.fourcc, offer.size.or(options.size))
            .map_err(|e| failed("its format cannot be set", e))?;
        let fps = device.set_rate(options.fps.or(offer.fps.map(|most| most.min(30.0))));
        let format = Format::by_fourcc(picture.fourcc).ok_or_else(|| {
            let code = picture.fourcc.escape_ascii();
            Error::unsupported(format!("the camera gives {code}, which is not read"))
        })?;
        if picture.halves {
            return Err(Error::unsupported("the camera gives half pictures (interlaced fields)"));
        }
        let given = Given { fourcc: picture.fourcc, size: picture.size, fps };
        let remarks = remarks(options, &given, &picture, format)?;
        for (control, value) in &options.controls {
            device.set_control(control, *value)?;
        }
        if let Some(layout) = layout(format, &picture) {
            layout.check()?;
        }
        let stream = device.stream(options.buffers).map_err(|e| match e.raw_os_error() {
            Some(libc::EBUSY) => failed("another program is using it", e),
            _ => failed("it cannot be started", e),
        })?;
        let interval = Duration::from_secs_f64(1.0 / fps.or(options.fps).unwrap_or(30.0));
        let info = SourceInfo {
            name: name.to_owned(),
            live: true,
            frames: None,
            interval: Some(interval),
            size: Some((picture.size.0 as usize, picture.size.1 as usize)),
        };
        let (stall, sequence, mender) = (options.stall, Sequence::default(), Mender::new(interval));
        Ok(Self { stream, info, remarks, format, picture, stall, waits: None, sequence, mender, first: None })
    }

    /// Number and times of a frame, whether it can be read or not.
    fn stamp(&mut self, filled: &Filled, frame: &mut Frame) {
        frame.seq = self.sequence.number(filled.sequence);
        let first = self.first.or(filled.stamp);
        self.first = first;
        let since = filled.stamp.zip(first).map(|(stamp, first)| stamp.saturating_sub(first));
        frame.pts = self.mender.mend(since);
        let age = filled.stamp.zip(monotonic()).map(|(stamp, now)| now.saturating_sub(stamp));
        frame.captured = SystemTime::now().checked_sub(age.unwrap_or_default());
    }

    fn read(&self, filled: &Filled, out: &mut Image) -> Result<()> {
        let bytes = self.stream.bytes(filled);
        if filled.damaged {
            return Err(Error::bad_input("the driver says that it is damaged"));
        }
        match layout(self.format, &self.picture) {
            Some(layout) => layout.unpack(bytes, out),
            None => {
                mjpeg::jpeg(bytes, out)?;
                let (got, want) = ((out.width(), out.height()), self.info.size.unwrap_or_default());
                if got != want {
                    return Err(Error::bad_input(format!(
                        "a picture of {}×{} from a camera that was opened with {}×{}",
                        got.0, got.1, want.0, want.1
                    )));
                }
                Ok(())
            }
        }
    }
}

impl Source for Camera {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn next(&mut self, frame: &mut Frame) -> Result<Next> {
        let lost = |e: io::Error| {
            let what = match e.raw_os_error() {
                Some(libc::ENODEV | libc::ENXIO) => "the camera was unplugged",
                _ => "the camera is lost",
            };
            failed(what, e).at(&self.info.name)
        };
        let waits = *self.waits.get_or_insert_with(Instant::now);
        let Some(filled) = self.stream.take(self.stall.min(GLANCE)).map_err(lost)? else {
            let waited = waits.elapsed();
            if waited < self.stall {
                return Ok(Next::Idle);
            }
            let (name, waited) = (&self.info.name, waited.as_secs_f64());
            return Err(Error::new(ErrorKind::Environment, format!("{name}: no frame for {waited:.1} s")));
        };
        self.waits = None;
        self.stamp(&filled, frame);
        let read = self.read(&filled, &mut frame.image);
        // If the camera is gone, the next call tells; this frame is whole.
        let _ = self.stream.give(filled.index);
        match read {
            Ok(()) => Ok(Next::Frame),
            Err(e) => Ok(Next::Unreadable(e.at(format!("{}: frame {}", self.info.name, frame.seq)))),
        }
    }

    fn stamps(&self) -> StampFaults {
        self.mender.faults()
    }

    fn sequence(&self) -> SequenceFaults {
        self.sequence.faults()
    }

    fn remarks(&self) -> &[String] {
        &self.remarks
    }
}

/// How the bytes of a buffer lie; `None` for JPEG.
fn layout(format: Format, picture: &Picture) -> Option<Layout> {
    let packing = format.packing?;
    let [width, height, stride] = [picture.size.0, picture.size.1, picture.stride].map(|n| n as usize);
    let stride = if stride == 0 { packing.row_bytes(width) } else { stride };
    Some(Layout { packing, width, height, stride, encoding: picture.encoding })
}

/// What was chosen, and what was asked for and not given; the latter is an error if the camera must be exact.
fn remarks(options: &Options, given: &Given, picture: &Picture, format: Format) -> Result<Vec<String>> {
    let differences = negotiate::differences(options, given);
    if options.exact && !differences.is_empty() {
        return Err(Error::config(format!("the camera gives {}", differences.join(", "))));
    }
    let rate = given.fps.map_or("an unsaid rate".to_owned(), |fps| format!("{fps:.2} frames/s"));
    let code = given.fourcc.escape_ascii();
    let mut chosen = format!("{code} {}×{} at {rate}", given.size.0, given.size.1);
    if matches!(format.packing, Some(packing) if packing.has_chroma()) {
        chosen += &format!(", {:?} {:?}", picture.encoding.matrix, picture.encoding.range).to_lowercase();
    }
    let given = differences.into_iter().map(|what| format!("the camera gives {what}"));
    Ok(std::iter::once(chosen).chain(given).collect())
}

fn failed(what: &str, e: io::Error) -> Error {
    Error::new(ErrorKind::Environment, format!("{what} ({e})")).caused_by(e)
}

/// Now, on the clock that drivers stamp with.
fn monotonic() -> Option<Duration> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists on every Linux, and the structure outlives the call.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let seconds = u64::try_from(now.tv_sec).ok().filter(|_| done == 0)?;
    Some(Duration::new(seconds, u32::try_from(now.tv_nsec).ok()?))
}
