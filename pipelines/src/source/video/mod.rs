//! Video files, read without system libraries.

use std::{fs::File, io::Read, path::Path};

use tapetum_runtime::{Error, ErrorKind, Result};

use super::{Opened, Source};

pub mod avi;
pub(super) mod h264;
pub(super) mod mjpeg;
mod mp4;
#[cfg(feature = "opencv")]
pub(super) mod opencv;

/// For people.
pub const USAGE: &str = match cfg!(feature = "opencv") {
    true => "VIDEO (H.264 in MP4, MJPEG in AVI; others as OpenCV reads them)",
    false => "VIDEO (H.264 in MP4, MJPEG in AVI; others in a build with the feature opencv)",
};

/// What `?decoder=opencv` is written as, behind a file's name.
const BY_OPENCV: &str = "?decoder=opencv";

/// Opens `spec` if it is a video file, told by its first bytes. `FILE?decoder=opencv` has OpenCV read what this program
/// could read itself.
pub(super) fn open(spec: &str) -> Option<Opened> {
    if let Some(file) = spec.strip_suffix(BY_OPENCV) {
        return Some(others(Path::new(file), Error::unsupported(format!("{file}: to be read by OpenCV"))));
    }
    let path = Path::new(spec);
    match built_in(path)? {
        Err(e) if e.kind() == ErrorKind::Unsupported => Some(others(path, e)),
        opened => Some(opened),
    }
}

fn built_in(path: &Path) -> Option<Opened> {
    let mut first = [0; 12];
    let read = File::open(path).and_then(|mut file| file.read(&mut first)).ok()?;
    let name = path.display();
    let video = ["mp4", "mov", "m4v", "avi", "mkv", "webm", "ts", "mpg", "mpeg", "wmv", "flv", "ogv", "y4m"];
    let by_name =
        path.extension().is_some_and(|e| video.contains(&e.to_string_lossy().to_lowercase().as_str()));
    match &first[..read] {
        [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', b' '] => Some(boxed(mjpeg::Avi::open(path))),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Some(boxed(mp4::Mp4::open(path))),
        [0x1a, 0x45, 0xdf, 0xa3, ..] => Some(Err(Error::unsupported(format!(
            "{name}: a Matroska or WebM file; by itself this program reads H.264 in MP4 and MJPEG in AVI"
        )))),
        _ if by_name => Some(Err(Error::unsupported(format!(
            "{name}: neither an MP4 nor an AVI file ({read} of its first bytes read)"
        )))),
        _ => None,
    }
}

/// Formats beyond those of this program; `refused` is why it does not read `path` itself.
#[cfg(feature = "opencv")]
fn others(path: &Path, refused: Error) -> Opened {
    boxed(opencv::Capture::open(path)).map_err(|e| Error::new(e.kind(), format!("{refused}; OpenCV: {e}")))
}

/// Formats beyond those of this program; `refused` is why it does not read `path` itself.
#[cfg(not(feature = "opencv"))]
fn others(_: &Path, refused: Error) -> Opened {
    Err(Error::unsupported(format!("{refused}; build it with --features opencv for what OpenCV reads")))
}

fn boxed(source: Result<impl Source + 'static>) -> Opened {
    source.map(|source| Box::new(source) as Box<dyn Source>)
}
