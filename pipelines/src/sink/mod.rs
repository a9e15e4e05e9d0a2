//! Where results go.
//!
//! To add a sink: write `sink/<name>.rs` with its [`Sink`], then add its `mod` line and one entry in [`SINKS`].

mod avi;
mod draw;
pub(crate) mod files;
mod font;
mod json;
mod jsonl;
mod look;
pub(crate) mod markup;
mod masks;
mod mjpeg;
mod overlay;
pub(crate) mod palette;
mod pictures;
mod report;
mod summary;

use std::path::Path;

use tapetum_runtime::{Error, Result};

use crate::{Item, RunInfo, Summary};

pub(crate) use draw::Canvas;
pub use jsonl::ResultLine;
pub(crate) use masks::mask_png;
pub use mjpeg::MjpegVideo;
pub(crate) use overlay::overlay;

/// Takes every frame's results, in order.
pub trait Sink: Send {
    /// As in [`SINKS`].
    fn name(&self) -> &'static str;

    /// Takes one frame. What it was given is complete on disk when this returns, or when [`Sink::finish`] does where
    /// a file's format needs an end.
    ///
    /// # Errors
    /// The sink cannot go on; the run ends, unless others remain.
    fn deliver(&mut self, item: &Item, run: &RunInfo) -> Result<()>;

    /// The run is over, also after Ctrl-C: completes the files.
    ///
    /// # Errors
    /// What could not be written.
    fn finish(&mut self, run: &RunInfo, summary: &Summary) -> Result<()>;
}

/// A kind of sink.
pub struct SinkKind {
    /// For `--sink`.
    pub name: &'static str,
    /// What it writes, for people.
    pub writes: &'static str,
    /// Makes one that writes below the folder `out`, which exists.
    pub open: fn(out: &Path, run: &RunInfo) -> Result<Box<dyn Sink>>,
}

/// Every kind of sink in this build.
pub static SINKS: &[SinkKind] =
    &[jsonl::JSONL, masks::MASKS, overlay::OVERLAY, pictures::PICTURES, report::REPORT];

/// The sink called `name`, writing below `out`.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::InvalidConfig`] naming the sinks there are, or what the sink says.
pub fn open(name: &str, out: &Path, run: &RunInfo) -> Result<Box<dyn Sink>> {
    let kind = SINKS.iter().find(|kind| kind.name == name).ok_or_else(|| {
        let names: Vec<_> = SINKS.iter().map(|kind| kind.name).collect();
        Error::config(format!("unknown sink {name:?}; there are {}", names.join(", ")))
    })?;
    (kind.open)(out, run)
}
