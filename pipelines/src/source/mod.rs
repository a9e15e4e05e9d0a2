//! Where frames come from.
//!
//! To add a source: write `source/<name>.rs` with its [`Source`], then add its `mod` line and one entry in [`SOURCES`].

use std::time::Duration;

pub mod gst;
mod health;
pub mod images;
pub mod live;
pub mod looped;
pub mod packets;
pub mod recover;
pub mod rtsp;
mod spec;
pub mod stamps;
pub mod supervised;
pub mod synthetic;
pub mod v4l;
pub mod video;

use tapetum_runtime::{Error, Frame, Result};

use packets::Packet;
pub use supervised::open_live;

/// A stream of frames.
pub trait Source: Send {
    /// What is known before the first frame.
    fn info(&self) -> &SourceInfo;

    /// Fills `frame` (sequence number, times and picture) with the next frame, in `frame`'s own memory.
    ///
    /// # Errors
    /// The source is lost and will give nothing more; a single frame that cannot be read is [`Next::Unreadable`].
    fn next(&mut self, frame: &mut Frame) -> Result<Next>;

    /// Mended timestamps so far.
    fn stamps(&self) -> StampFaults {
        StampFaults::default()
    }

    /// What was lost so far, on the way to the source and in it.
    fn losses(&self) -> Losses {
        Losses::default()
    }

    /// Has the encoded pictures kept from here on, for [`Source::packets`], which has to be called after every frame then.
    /// False if this source has none.
    fn keep_packets(&mut self) -> bool {
        false
    }

    /// Gives the encoded pictures that were decoded since the last call, in the order of decoding. Nothing before
    /// [`Source::keep_packets`].
    fn packets(&mut self, take: &mut dyn FnMut(Packet)) {
        let _ = take;
    }

    /// Faults of the driver's frame counter so far.
    fn sequence(&self) -> SequenceFaults {
        SequenceFaults::default()
    }

    /// What opening it came to that people should know, a line each: what was chosen, and what was asked for and not given.
    fn remarks(&self) -> &[String] {
        &[]
    }
}

/// What [`Source::next`] gave.
#[derive(Debug)]
pub enum Next {
    /// `frame` is filled.
    Frame,
    /// Nothing came for a moment (a tenth of a second at most): ask again. Only live sources give it.
    Idle,
    /// This one frame could not be read, for the given reason; it has used up a sequence number. There may be more.
    Unreadable(Error),
    /// The stream is over.
    End,
}

/// What is known of a source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceInfo {
    /// As shown to people and written into results: no secrets.
    pub name: String,
    /// Whether frames come by themselves and go stale (cameras), or wait to be read (files).
    pub live: bool,
    /// Number of frames, if known.
    pub frames: Option<u64>,
    /// Usual time between two frames, if known.
    pub interval: Option<Duration>,
    /// Width and height of the first frame, in pixels, if known.
    pub size: Option<(usize, usize)>,
}

/// Timestamps that a source had to mend; a count each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StampFaults {
    /// Frames without a timestamp; the usual interval was added to the one before.
    pub missing: u64,
    /// Timestamps not greater than the one before; the stream was re-based there.
    pub backwards: u64,
    /// Timestamps of a live stream that leapt, back or ahead of the time that had passed; the stream was re-based there.
    pub jumps: u64,
}

/// What a source lost; a count each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Packets of the network that did not arrive.
    pub packets: u64,
    /// Frames that never arrived whole, as far as known: gaps in the sequence numbers.
    pub frames: u64,
    /// Frames that arrived and could not be decoded, or not without those that were lost: [`Next::Unreadable`].
    pub damaged: u64,
    /// Pictures that a newer one replaced before anybody took them: gaps in the sequence numbers.
    pub overtaken: u64,
}

impl std::ops::AddAssign for Losses {
    fn add_assign(&mut self, more: Self) {
        self.packets += more.packets;
        self.frames += more.frames;
        self.damaged += more.damaged;
        self.overtaken += more.overtaken;
    }
}

impl std::ops::AddAssign for SequenceFaults {
    fn add_assign(&mut self, more: Self) {
        self.skipped += more.skipped;
        self.repeated += more.repeated;
        self.restarted += more.restarted;
    }
}

impl std::ops::AddAssign for StampFaults {
    fn add_assign(&mut self, more: Self) {
        self.missing += more.missing;
        self.backwards += more.backwards;
        self.jumps += more.jumps;
    }
}

/// What a driver's frame counter did other than count; a number each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SequenceFaults {
    /// Frames that it left out; they are gaps in [`Frame::seq`].
    pub skipped: u64,
    /// Frames with the number of the one before.
    pub repeated: u64,
    /// Times that it went back or leapt, as when it began anew.
    pub restarted: u64,
}

/// A kind of source.
pub struct SourceKind {
    /// For people: what to write, for example `synthetic:eye`.
    pub usage: &'static str,
    /// Opens it if `spec` is of this kind; `None` if it is of another.
    pub open: fn(spec: &str) -> Option<Opened>,
}

/// What opening a source gave.
pub type Opened = Result<Box<dyn Source>>;

/// Every kind of source in this build, in the order that they are asked.
pub static SOURCES: &[SourceKind] = &[
    SourceKind { usage: synthetic::USAGE, open: synthetic::open },
    SourceKind { usage: rtsp::USAGE, open: rtsp::open },
    SourceKind { usage: v4l::USAGE, open: v4l::open },
    SourceKind { usage: gst::USAGE, open: gst::open },
    SourceKind { usage: looped::USAGE, open: looped::open },
    SourceKind { usage: "rtsps://…, http://…: not in this build", open: elsewhere },
    SourceKind { usage: video::USAGE, open: video::open },
    SourceKind { usage: images::USAGE, open: images::open },
];

/// Refuses addresses of other kinds, misspelt ones too, without repeating what may hold a password.
fn elsewhere(spec: &str) -> Option<Opened> {
    const OURS: [&str; 5] = ["rtsp", "v4l2", "gst", "loop", "synthetic"];
    let (kind, rest) = spec.split_once(':')?;
    if OURS.contains(&kind) || std::path::Path::new(spec).exists() {
        return None;
    }
    let cameras = ["rtsp", "rtsps", "http", "https"];
    if !rest.starts_with("//") && !rest.contains('@') && !cameras.iter().any(|c| kind.eq_ignore_ascii_case(c))
    {
        return None;
    }
    let kind = if kind.bytes().all(|b| b.is_ascii_alphanumeric()) { kind } else { "…" };
    let what = format!(
        "a source of the kind {kind}:… is not in this build; there are rtsp:// (in small letters), v4l2:, gst:, files, images, \
         loop: and synthetic:"
    );
    Some(Err(Error::new(tapetum_runtime::ErrorKind::Unsupported, what)))
}

/// What can be told of `spec` without opening anything: that no source of this build could ever be it. Whether a file, device or camera
/// is there is another matter: it may come.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::InvalidConfig`] or `Unsupported`, without what may be secret.
pub fn sound(spec: &str) -> Result<()> {
    if let Some(looped) = spec.strip_prefix("loop:") {
        return sound(looped);
    }
    if let Some(Err(e)) = elsewhere(spec) {
        return Err(e);
    }
    rtsp::sound(spec)?;
    v4l::sound(spec)?;
    gst::sound(spec)
}

/// Opens the source that `spec` names.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::InvalidConfig`] naming the kinds there are, or what the kind says.
pub fn open(spec: &str) -> Opened {
    let is_file = |spec: &str| std::path::Path::new(spec).exists();
    if !spec.contains(['*', '?', ':']) && !is_file(spec) {
        return Err(Error::config(format!("{spec}: there is no such file or folder")));
    }
    SOURCES.iter().find_map(|kind| (kind.open)(spec)).unwrap_or_else(|| {
        let usages: Vec<_> = SOURCES.iter().map(|kind| kind.usage).collect();
        Err(Error::config(format!("{:?} is no source; there are {}", rtsp::shown(spec), usages.join(", "))))
    })
}
