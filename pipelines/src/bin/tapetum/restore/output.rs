//! Where the restored pictures go.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use image::ExtendedColorType;
use tapetum::sink::{MjpegVideo, Sink};
use tapetum::source::images::{self, Images};
use tapetum::{Item, RunInfo, Summary};
use tapetum_runtime::finding::Finding;
use tapetum_runtime::{Error, ErrorKind, Image, PixelFormat, Result};

use super::compare::Comparison;
use super::panels;

/// Quality of JPEGs in videos, 1–100.
const QUALITY: u8 = 92;

/// What is written.
pub enum Target {
    /// One picture: from, to.
    Picture(PathBuf, PathBuf),
    /// Pictures by the names of their inputs: inputs, folder.
    Folder(Vec<PathBuf>, PathBuf),
    /// A video.
    Video(PathBuf),
}

impl Target {
    /// For the input `spec`.
    ///
    /// # Errors
    /// `out` does not fit the input, or would overwrite it.
    pub fn new(spec: &str, out: Option<&Path>) -> Result<Self> {
        let input = Path::new(spec);
        let beside = |ending: &str| {
            let stem = input.file_stem().unwrap_or_default().to_string_lossy();
            input.with_file_name(format!("{stem}-restored{ending}"))
        };
        let picture = input
            .extension()
            .is_some_and(|e| images::ENDINGS.iter().any(|ending| e.eq_ignore_ascii_case(ending)));
        let several = input.is_dir() || spec.contains(['*', '?', '[']);
        let target = if !picture && !several {
            let out = out.map_or_else(|| beside(".avi"), Path::to_owned);
            if !out.extension().is_some_and(|e| e.eq_ignore_ascii_case("avi")) {
                let what = format!("{}: a video is written as .avi (Motion-JPEG)", out.display());
                return Err(Error::config(what));
            }
            Self::Video(out)
        } else {
            let inputs = Images::open(spec)?.paths().to_vec();
            match (!several, out) {
                (true, Some(out)) if out.is_dir() => Self::Folder(inputs, out.to_owned()),
                (true, out) => {
                    Self::Picture(input.to_owned(), out.map_or_else(|| beside(".png"), Path::to_owned))
                }
                (false, out) => Self::Folder(inputs, out.map_or_else(|| beside(""), Path::to_owned)),
            }
        };
        match &target {
            Self::Folder(_, out) => std::fs::create_dir_all(out)
                .map_err(|e| Error::config(format!("{}: {e}", out.display())).caused_by(e))?,
            Self::Picture(_, out) | Self::Video(out) if same(input, out) => {
                return Err(Error::config(format!(
                    "{}: the result would overwrite the input",
                    out.display()
                )));
            }
            Self::Picture(_, out) => {
                let written = image::ImageFormat::from_path(out).is_ok_and(|format| format.writing_enabled());
                if !written {
                    let what = format!("{}: png, jpg and bmp can be written", out.display());
                    return Err(Error::config(what));
                }
            }
            Self::Video(_) => {}
        }
        Ok(target)
    }

    /// The pictures that are read, if they are pictures.
    pub fn inputs(&self) -> Option<&[PathBuf]> {
        match self {
            Self::Picture(input, _) => Some(std::slice::from_ref(input)),
            Self::Folder(inputs, _) => Some(inputs),
            Self::Video(_) => None,
        }
    }

    /// Where the result is, for people.
    pub fn shown(&self) -> String {
        match self {
            Self::Picture(_, out) | Self::Folder(_, out) | Self::Video(out) => out.display().to_string(),
        }
    }

    /// The picture file of frame `seq`; `None` in a video.
    fn file(&self, seq: u64) -> Option<PathBuf> {
        match self {
            Self::Picture(_, out) => Some(out.clone()),
            Self::Folder(inputs, out) => {
                let input = inputs.get(usize::try_from(seq).ok()?)?;
                Some(out.join(input.file_stem()?).with_extension("png"))
            }
            Self::Video(_) => None,
        }
    }
}

fn same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Writes every restored frame, and compares it with what it should have become.
pub struct Output {
    target: Target,
    video: Option<MjpegVideo>,
    side_by_side: bool,
    comparison: Option<Arc<Mutex<Comparison>>>,
    panels: Image,
    jpeg: Vec<u8>,
}

impl Output {
    /// # Errors
    /// Two inputs would be written to the same file.
    pub fn new(
        target: Target,
        side_by_side: bool,
        comparison: Option<Arc<Mutex<Comparison>>>,
    ) -> Result<Self> {
        if let Target::Folder(inputs, _) = &target {
            let mut files: Vec<_> = (0..inputs.len() as u64).filter_map(|n| target.file(n)).collect();
            files.sort();
            if let Some(twice) = files.windows(2).find(|w| w[0] == w[1]) {
                let what = format!("two of the pictures would be written as {}", twice[0].display());
                return Err(Error::config(what));
            }
            let overwritten = inputs.iter().find(|input| files.iter().any(|file| same(file, input)));
            if let Some(input) = overwritten {
                return Err(Error::config(format!(
                    "{}: the result would overwrite the input",
                    input.display()
                )));
            }
        }
        let video = match &target {
            Target::Video(path) => Some(MjpegVideo::new(path.clone())),
            _ => None,
        };
        Ok(Self { target, video, side_by_side, comparison, panels: Image::default(), jpeg: Vec::new() })
    }
}

impl Sink for Output {
    fn name(&self) -> &'static str {
        "restore"
    }

    fn deliver(&mut self, item: &Item, _: &RunInfo) -> Result<()> {
        let Some(Finding::Image(restored)) = item.found(0) else { return Ok(()) };
        let mut pictures = vec![&item.frame.image, &restored.image];
        let mut truth = Image::default();
        if let Some(comparison) = &self.comparison {
            let mut comparison = comparison.lock().unwrap_or_else(PoisonError::into_inner);
            comparison.frame(item.frame.seq, &item.frame.image, &restored.image, &mut truth)?;
            pictures.push(&truth);
        }
        let shown = if self.side_by_side {
            panels::beside(&pictures, &mut self.panels);
            &self.panels
        } else {
            &restored.image
        };
        match (self.target.file(item.frame.seq), &mut self.video) {
            (Some(path), _) => save(shown, &path),
            (None, Some(video)) => {
                self.jpeg.clear();
                let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut self.jpeg, QUALITY);
                encoder
                    .encode(shown.data(), side(shown.width()), side(shown.height()), colour(shown))
                    .map_err(|e| Error::internal(format!("frame {}: {e}", item.frame.seq)).caused_by(e))?;
                video.add(&self.jpeg, (shown.width(), shown.height()), item.frame.pts)
            }
            (None, None) => Err(Error::internal(format!("no file for frame {}", item.frame.seq))),
        }
    }

    fn finish(&mut self, _: &RunInfo, _: &Summary) -> Result<()> {
        self.video.as_mut().map_or(Ok(()), MjpegVideo::finish)
    }
}

fn save(picture: &Image, path: &Path) -> Result<()> {
    image::save_buffer(path, picture.data(), side(picture.width()), side(picture.height()), colour(picture))
        .map_err(|e| Error::new(ErrorKind::Environment, format!("{}: {e}", path.display())).caused_by(e))
}

fn side(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn colour(picture: &Image) -> ExtendedColorType {
    match picture.format() {
        PixelFormat::Grey8 => ExtendedColorType::L8,
        PixelFormat::Rgb8 => ExtendedColorType::Rgb8,
    }
}
