//! Network cameras: H.264 and MJPEG by RTSP.
//!
//! The protocol is the crate retina's; what is ours is the choice of the stream, decoding that never shows a picture whose
//! references are missing, times, figures, and words without secrets.

use std::time::Duration;

use tapetum_runtime::{Error, ErrorKind, Result};

mod address;
mod connect;
mod secret;
mod stream;

pub use address::{Credentials, RtspOptions, Transport};
pub use stream::Rtsp;

use super::{
    Opened, Source, gst,
    live::{Live, Stop},
};

/// For people.
pub const USAGE: &str = "rtsp://[USER:PASSWORD@]HOST/PATH, with #transport=udp&stall=SECONDS&connect=SECONDS";

/// How an address of this kind begins.
pub(super) const SCHEME: &str = "rtsp:";

/// Opens `spec` if it is an RTSP address. The camera is read by a thread of its own; if it is lost, that is the end.
pub(super) fn open(spec: &str) -> Option<Opened> {
    if !spec.starts_with(SCHEME) {
        return None;
    }
    let stop = Stop::default();
    let source = Rtsp::open(spec, &RtspOptions::default(), &stop);
    Some(source.and_then(|source| Ok(Box::new(Live::start(Box::new(source), stop)?) as Box<dyn Source>)))
}

/// Whether `spec` is a sound address, if it is one of this kind.
pub(super) fn sound(spec: &str) -> Result<()> {
    match spec.starts_with(SCHEME) {
        true => address::Address::parse(spec, &RtspOptions::default()).map(|_| ()),
        false => Ok(()),
    }
}

/// How long the camera may be silent, if its address says so.
pub(super) fn silence(spec: &str) -> Option<Duration> {
    let unsaid = RtspOptions { stall: Duration::ZERO, ..RtspOptions::default() };
    let address = spec.starts_with(SCHEME).then(|| address::Address::parse(spec, &unsaid).ok())??;
    (!address.options.stall.is_zero()).then_some(address.options.stall)
}

/// How a source is shown to people before it is open: without what may be secret.
pub fn shown(spec: &str) -> String {
    if spec.starts_with(gst::SCHEME) {
        return gst::shown(spec);
    }
    if spec.starts_with(SCHEME) {
        let address = address::Address::parse(spec, &RtspOptions::default());
        return address.map_or_else(|_| "rtsp://…".to_owned(), |address| address.name);
    }
    // Of addresses that nothing here reads nobody knows where the password is.
    match (spec.split_once("://"), spec.split_once(':')) {
        (Some((scheme, _)), _) => format!("{scheme}://…"),
        (None, Some((kind, rest))) if rest.contains('@') && !std::path::Path::new(rest).exists() => {
            format!("{kind}:…")
        }
        _ => spec.to_owned(),
    }
}

/// An error of the way to the camera: it may go away by itself.
fn lost(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Environment, what)
}
