//! Video files, read without system libraries.

use std::{fs::File, io::Read, path::Path};

use tapetum_runtime::{Error, Result};

use super::{Opened, Source};

pub mod avi;
mod h264;
mod mjpeg;
mod mp4;

/// For people.
pub const USAGE: &str = "VIDEO (H.264 in MP4, MJPEG in AVI)";

/// Opens `spec` if it is a video file, told by its first bytes.
pub(super) fn open(spec: &str) -> Option<Opened> {
    let path = Path::new(spec);
    let mut first = [0; 12];
    let read = File::open(path).and_then(|mut file| file.read(&mut first)).ok()?;
    let video = ["mp4", "mov", "m4v", "avi", "mkv", "webm"];
    let by_name =
        path.extension().is_some_and(|e| video.contains(&e.to_string_lossy().to_lowercase().as_str()));
    match &first[..read] {
        [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', b' '] => Some(boxed(mjpeg::Avi::open(path))),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Some(boxed(mp4::Mp4::open(path))),
        [0x1a, 0x45, 0xdf, 0xa3, ..] => Some(Err(Error::unsupported(format!(
            "{spec}: a Matroska or WebM file; this build reads H.264 in MP4 and MJPEG in AVI"
        )))),
        _ if by_name => Some(Err(Error::bad_file(format!(
            "{spec}: neither an MP4 nor an AVI file, whatever its name says ({read} of its first bytes read)"
        )))),
        _ => None,
    }
}

fn boxed(source: Result<impl Source + 'static>) -> Opened {
    source.map(|source| Box::new(source) as Box<dyn Source>)
}
