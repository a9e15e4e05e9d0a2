//! The kernel's calls: one capture device, its lists, its format, its buffers.
//!
//! The structures and call numbers are those of the crate `v4l`; its own device and stream are not used, as they panic on what a
//! driver may say (a field order or control type that they do not know, an error while a stream is closed).

use std::{
    fs::{File, OpenOptions},
    io, mem,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::Path,
    ptr::NonNull,
    time::{Duration, Instant},
};

use tapetum_runtime::{
    Error, ErrorKind, Result,
    pixels::{Encoding, Matrix, Range},
};
use v4l::{v4l_sys as sys, v4l2, v4l2::vidioc};

use super::{controls::Control, negotiate::Sizes};

const CAPTURE: u32 = sys::v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE;
const MMAP: u32 = sys::v4l2_memory_V4L2_MEMORY_MMAP;
/// No list of a sound driver is longer.
const MOST_ENTRIES: u32 = 256;

/// An open capture device.
pub(super) struct Device {
    file: File,
}

/// The format that a driver gave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Picture {
    pub(super) fourcc: [u8; 4],
    pub(super) size: (u32, u32),
    /// Bytes from row to row; 0 where rows have no meaning.
    pub(super) stride: u32,
    pub(super) encoding: Encoding,
    /// Whether each buffer is one half of the rows only.
    pub(super) halves: bool,
}

/// A buffer that the driver has filled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filled {
    pub(super) index: u32,
    pub(super) used: u32,
    pub(super) sequence: u32,
    /// On the monotonic clock; `None` if the driver stamps otherwise or not at all.
    pub(super) stamp: Option<Duration>,
    /// The driver says that what it holds is damaged.
    pub(super) damaged: bool,
}

/// A plain kernel structure of zeros.
fn zeroed<T: Copy>() -> T {
    // SAFETY: only used with the kernel's structures, which are integers, arrays and unions of them; all zeros are valid.
    unsafe { mem::zeroed() }
}

impl Device {
    /// Opens the device at `path`, which must capture single-plane video into mapped buffers.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
        let file = file.map_err(|e| {
            let hint = match e.kind() {
                io::ErrorKind::PermissionDenied => "; is this user in the group video?",
                _ => "",
            };
            Error::new(ErrorKind::Environment, format!("{e}{hint}")).caused_by(e)
        })?;
        let device = Self { file };
        let mut caps: sys::v4l2_capability = zeroed();
        device.call(vidioc::VIDIOC_QUERYCAP, &mut caps).map_err(|e| {
            let what = format!("this is no video device ({e})");
            Error::config(what).caused_by(e)
        })?;
        let can = match caps.capabilities & sys::V4L2_CAP_DEVICE_CAPS {
            0 => caps.capabilities,
            _ => caps.device_caps,
        };
        if can & sys::V4L2_CAP_VIDEO_CAPTURE == 0 {
            let what = match can & sys::V4L2_CAP_VIDEO_CAPTURE_MPLANE {
                0 => {
                    "this device captures no video (a camera may have several nodes; the first is the picture)"
                }
                _ => "this device captures in several planes, which is not read",
            };
            return Err(Error::unsupported(what));
        }
        if can & sys::V4L2_CAP_STREAMING == 0 {
            return Err(Error::unsupported("this device has no buffers to map"));
        }
        Ok(device)
    }

    /// A call that fills or reads `argument`, begun again when a signal interrupts it.
    fn call<T: Copy>(&self, request: vidioc::_IOC_TYPE, argument: &mut T) -> io::Result<()> {
        loop {
            // SAFETY: the descriptor is open, and every request is made with the structure whose size its number carries.
            let done = unsafe { v4l2::ioctl(self.file.as_raw_fd(), request, (&raw mut *argument).cast()) };
            match done {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    /// What `one` gives for 0, 1, … until the driver has no more.
    fn list<T>(&self, mut one: impl FnMut(u32) -> io::Result<T>) -> Vec<T> {
        (0..MOST_ENTRIES).map_while(|index| one(index).ok()).collect()
    }

    /// Codes of the device's formats.
    pub(super) fn codes(&self) -> Vec<[u8; 4]> {
        self.list(|index| {
            let mut entry: sys::v4l2_fmtdesc = zeroed();
            (entry.index, entry.type_) = (index, CAPTURE);
            self.call(vidioc::VIDIOC_ENUM_FMT, &mut entry).map(|()| entry.pixelformat.to_le_bytes())
        })
    }

    /// Sizes of a format.
    pub(super) fn sizes(&self, fourcc: [u8; 4]) -> Vec<Sizes> {
        self.list(|index| {
            let mut entry: sys::v4l2_frmsizeenum = zeroed();
            (entry.index, entry.pixel_format) = (index, u32::from_le_bytes(fourcc));
            self.call(vidioc::VIDIOC_ENUM_FRAMESIZES, &mut entry)?;
            if entry.type_ == sys::v4l2_frmsizetypes_V4L2_FRMSIZE_TYPE_DISCRETE {
                // SAFETY: the type says which member the driver filled; either is integers.
                let one = unsafe { entry.__bindgen_anon_1.discrete };
                return Ok(Sizes::one(one.width, one.height));
            }
            // SAFETY: as above.
            let range = unsafe { entry.__bindgen_anon_1.stepwise };
            Ok(Sizes {
                least: (range.min_width, range.min_height),
                most: (range.max_width, range.max_height),
                step: (range.step_width, range.step_height),
            })
        })
    }

    /// The highest rate of a format and size, in frames per second.
    pub(super) fn highest_rate(&self, fourcc: [u8; 4], size: (u32, u32)) -> Option<f64> {
        let rates = self.list(|index| {
            let mut entry: sys::v4l2_frmivalenum = zeroed();
            (entry.index, entry.pixel_format) = (index, u32::from_le_bytes(fourcc));
            (entry.width, entry.height) = size;
            self.call(vidioc::VIDIOC_ENUM_FRAMEINTERVALS, &mut entry)?;
            // SAFETY: the type says which member the driver filled; either is integers.
            let shortest = unsafe {
                match entry.type_ {
                    sys::v4l2_frmivaltypes_V4L2_FRMIVAL_TYPE_DISCRETE => entry.__bindgen_anon_1.discrete,
                    _ => entry.__bindgen_anon_1.stepwise.min,
                }
            };
            Ok(rate(&shortest))
        });
        rates.into_iter().flatten().max_by(f64::total_cmp)
    }

    /// Asks for a format and size; `None` leaves the size as it is.
    pub(super) fn set_format(&self, fourcc: [u8; 4], size: Option<(u32, u32)>) -> io::Result<Picture> {
        let mut format: sys::v4l2_format = zeroed();
        format.type_ = CAPTURE;
        self.call(vidioc::VIDIOC_G_FMT, &mut format)?;
        // SAFETY: for this type of buffer `pix` is the member that the kernel uses; it is integers.
        let mut pix = unsafe { format.fmt.pix };
        pix.pixelformat = u32::from_le_bytes(fourcc);
        (pix.width, pix.height) = size.unwrap_or((pix.width, pix.height));
        // Whole pictures, and the driver's own distance of rows.
        pix.field = sys::v4l2_field_V4L2_FIELD_NONE;
        (pix.bytesperline, pix.sizeimage) = (0, 0);
        format.fmt.pix = pix;
        self.call(vidioc::VIDIOC_S_FMT, &mut format)?;
        // SAFETY: as above.
        let pix = unsafe { format.fmt.pix };
        // SAFETY: both members of this union are the same kind of number.
        let matrix = unsafe { pix.__bindgen_anon_1.ycbcr_enc };
        Ok(Picture {
            fourcc: pix.pixelformat.to_le_bytes(),
            size: (pix.width, pix.height),
            stride: pix.bytesperline,
            encoding: encoding(pix.colorspace, matrix, pix.quantization),
            halves: matches!(
                pix.field,
                sys::v4l2_field_V4L2_FIELD_TOP
                    | sys::v4l2_field_V4L2_FIELD_BOTTOM
                    | sys::v4l2_field_V4L2_FIELD_ALTERNATE
            ),
        })
    }

    /// Asks for a rate, or only for what it is. `None` if the driver does not say.
    pub(super) fn set_rate(&self, fps: Option<f64>) -> Option<f64> {
        let mut parm: sys::v4l2_streamparm = zeroed();
        parm.type_ = CAPTURE;
        self.call(vidioc::VIDIOC_G_PARM, &mut parm).ok()?;
        if let Some(fps) = fps {
            // SAFETY: for this type of buffer `capture` is the member that the kernel uses; it is integers.
            let mut capture = unsafe { parm.parm.capture };
            capture.timeperframe =
                sys::v4l2_fract { numerator: 1000, denominator: (fps * 1000.0).round() as u32 };
            parm.parm.capture = capture;
            // A driver that cannot be asked (HDMI inputs) still says its rate.
            let _ = self.call(vidioc::VIDIOC_S_PARM, &mut parm);
            self.call(vidioc::VIDIOC_G_PARM, &mut parm).ok()?;
        }
        // SAFETY: as above.
        rate(&unsafe { parm.parm.capture }.timeperframe)
    }

    /// Sets a control that the camera must have.
    pub(super) fn set_control(&self, control: &Control, value: i32) -> Result<()> {
        let name = control.name;
        let mut query: sys::v4l2_queryctrl = zeroed();
        query.id = control.id;
        let there = self.call(vidioc::VIDIOC_QUERYCTRL, &mut query);
        if there.is_err() || query.flags & sys::V4L2_CTRL_FLAG_DISABLED != 0 {
            return Err(Error::unsupported(format!("the camera has no control {name}")));
        }
        control.fits(value, query.minimum, query.maximum, query.step)?;
        let mut set = sys::v4l2_control { id: control.id, value };
        self.call(vidioc::VIDIOC_S_CTRL, &mut set).map_err(|e| {
            Error::new(ErrorKind::Environment, format!("{name} cannot be set to {value}: {e}")).caused_by(e)
        })
    }

    /// Maps up to `count` buffers and has the driver begin to fill them.
    pub(super) fn stream(self, count: u32) -> io::Result<Stream> {
        let mut request: sys::v4l2_requestbuffers = zeroed();
        (request.count, request.type_, request.memory) = (count, CAPTURE, MMAP);
        self.call(vidioc::VIDIOC_REQBUFS, &mut request)?;
        let mut stream = Stream { buffers: Vec::new(), device: self };
        for index in 0..request.count {
            let mut buffer = blank(index);
            stream.device.call(vidioc::VIDIOC_QUERYBUF, &mut buffer)?;
            stream.buffers.push(Mapped::new(&stream.device.file, &buffer)?);
            stream.give(index)?;
        }
        let mut kind = CAPTURE;
        stream.device.call(vidioc::VIDIOC_STREAMON, &mut kind)?;
        Ok(stream)
    }
}

/// A streaming device with its buffers. Closing it ends the stream, whatever state the device is in.
pub(super) struct Stream {
    // Unmapped before the device is closed.
    buffers: Vec<Mapped>,
    device: Device,
}

impl Stream {
    /// Waits up to `limit` for a filled buffer; `None` if none came.
    pub(super) fn take(&self, limit: Duration) -> io::Result<Option<Filled>> {
        let begun = Instant::now();
        loop {
            let left = limit.saturating_sub(begun.elapsed());
            if !self.wait(left)? {
                return Ok(None);
            }
            let mut buffer = blank(0);
            match self.device.call(vidioc::VIDIOC_DQBUF, &mut buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
                done => done?,
            }
            let monotonic =
                buffer.flags & sys::V4L2_BUF_FLAG_TIMESTAMP_MASK == sys::V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
            return Ok(Some(Filled {
                index: buffer.index,
                used: buffer.bytesused,
                sequence: buffer.sequence,
                stamp: stamp(&buffer.timestamp).filter(|_| monotonic),
                damaged: buffer.flags & sys::V4L2_BUF_FLAG_ERROR != 0,
            }));
        }
    }

    /// Whether there is something to take, or an error to be told, within `limit`.
    fn wait(&self, limit: Duration) -> io::Result<bool> {
        let mut poll = libc::pollfd { fd: self.device.file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // Rounded up, so that the last millisecond is not spent in a loop.
        let ms = limit.as_micros().div_ceil(1000).min(i32::MAX as u128) as i32;
        // SAFETY: one structure, as the count says, which outlives the call.
        match unsafe { libc::poll(&raw mut poll, 1, ms) } {
            0 => Ok(false),
            1.. => Ok(true),
            _ => match io::Error::last_os_error() {
                // The caller looks at the time and waits on.
                e if e.kind() == io::ErrorKind::Interrupted => Ok(!limit.is_zero()),
                e => Err(e),
            },
        }
    }

    /// What a buffer taken and not given back holds; empty for an index that is none.
    pub(super) fn bytes(&self, filled: &Filled) -> &[u8] {
        let bytes = self.buffers.get(filled.index as usize).map_or(&[][..], Mapped::bytes);
        &bytes[..bytes.len().min(filled.used as usize)]
    }

    /// Has the driver fill a buffer again.
    pub(super) fn give(&self, index: u32) -> io::Result<()> {
        self.device.call(vidioc::VIDIOC_QBUF, &mut blank(index))
    }
}

fn blank(index: u32) -> sys::v4l2_buffer {
    sys::v4l2_buffer { index, type_: CAPTURE, memory: MMAP, ..zeroed() }
}

/// A driver's buffer in this process.
struct Mapped {
    at: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping is of the process, not of a thread, and has one owner.
unsafe impl Send for Mapped {}

impl Mapped {
    fn new(file: &File, buffer: &sys::v4l2_buffer) -> io::Result<Self> {
        let length = buffer.length as usize;
        // SAFETY: for mapped memory `offset` is the member that the driver filled.
        let offset = unsafe { buffer.m.offset };
        // SAFETY: a new mapping at a place of the kernel's choice; nothing of ours is replaced.
        let at = unsafe {
            v4l2::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                offset.into(),
            )
        }?;
        let at = NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { at, length })
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is this long and lives as long as `self`; the driver writes to it only between `give` and `take`,
        // when no caller has the slice.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.length) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this address and length, and nobody has a slice of it any more. If it fails, the
        // memory stays mapped until the process ends, which harms nobody.
        let _ = unsafe { v4l2::munmap(self.at.as_ptr().cast(), self.length) };
    }
}

/// Frames per second of an interval.
fn rate(interval: &sys::v4l2_fract) -> Option<f64> {
    let fps = f64::from(interval.denominator) / f64::from(interval.numerator);
    Some(fps).filter(|fps| (0.001..=100_000.0).contains(fps))
}

#[allow(clippy::unnecessary_cast, reason = "the fields are narrower on 32 bits")]
fn stamp(time: &sys::timeval) -> Option<Duration> {
    let (seconds, micros) =
        (u64::try_from(time.tv_sec as i64).ok()?, u64::try_from(time.tv_usec as i64).ok()?);
    let stamp = Duration::from_secs(seconds).checked_add(Duration::from_micros(micros))?;
    Some(stamp).filter(|s| !s.is_zero())
}

/// What luma and chroma mean: what the driver says, and where it says nothing what the kernel's documents have as the default of
/// its colour space (BT.709 for Rec. 709, BT.601 for all others; full range for JPEG, limited for all others).
fn encoding(space: u32, matrix: u32, range: u32) -> Encoding {
    let matrix = match (matrix, space) {
        (sys::v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_709, _)
        | (
            sys::v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_DEFAULT,
            sys::v4l2_colorspace_V4L2_COLORSPACE_REC709 | sys::v4l2_colorspace_V4L2_COLORSPACE_DCI_P3,
        ) => Matrix::Bt709,
        _ => Matrix::Bt601,
    };
    let range = match (range, space) {
        (sys::v4l2_quantization_V4L2_QUANTIZATION_FULL_RANGE, _)
        | (sys::v4l2_quantization_V4L2_QUANTIZATION_DEFAULT, sys::v4l2_colorspace_V4L2_COLORSPACE_JPEG) => {
            Range::Full
        }
        _ => Range::Limited,
    };
    Encoding { matrix, range }
}
