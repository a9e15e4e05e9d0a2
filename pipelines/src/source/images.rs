//! Single pictures: a folder, a glob or one file.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use image::{DynamicImage, ImageReader, Limits};
use tapetum_runtime::{Error, Frame, Image, PixelFormat, Result};

use super::{Next, Opened, Source, SourceInfo, spec::Spec};

/// For people.
pub const USAGE: &str = "FOLDER, GLOB or IMAGE (png, jpeg, bmp), with ?fps=N";

/// Endings that are taken for pictures in a folder.
pub const ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "bmp"];

/// Most pixels on a side; more is an error before any memory is taken.
const MOST_SIDE: u32 = 20_000;
/// Most bytes of a decoded picture.
const MOST_BYTES: u64 = 512 << 20;

/// Pictures in the natural order of their names (`2.png` before `10.png`), at a stated rate.
///
/// Grey pictures stay grey; others become 8-bit RGB. Transparency is left out: a pixel keeps the colour that the file
/// gives it, however transparent it is. 16-bit values are divided by 257 and rounded.
pub struct Images {
    info: SourceInfo,
    paths: Vec<PathBuf>,
    next: usize,
    interval: Duration,
}

pub(super) fn open(spec: &str) -> Option<Opened> {
    Some(Images::open(spec).map(|source| Box::new(source) as Box<dyn Source>))
}

impl Images {
    /// The pictures, in the order of their frames: frame `n` is read from the `n`-th.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Opens a folder, a glob or a picture.
    ///
    /// # Errors
    /// There is no picture.
    pub fn open(spec: &str) -> Result<Self> {
        // A glob may hold a question mark, too: only one before a key is a query.
        let (name, query) = match spec.rsplit_once('?') {
            Some((name, query)) if query.contains('=') => (name, query),
            _ => (spec, ""),
        };
        let rate = format!("{name}?{query}").replace(name, "images");
        let fps = Spec::parse(&rate, &["fps"])?.fps()?;
        let mut paths = if Path::new(name).is_dir() {
            in_folder(Path::new(name))?
        } else if name.contains(['*', '?', '[']) {
            let found = glob::glob(name).map_err(|e| Error::config(format!("{name}: {e}")))?;
            found.filter_map(std::result::Result::ok).filter(|path| path.is_file()).collect()
        } else if Path::new(name).exists() {
            vec![PathBuf::from(name)]
        } else {
            return Err(Error::config(format!(
                "{}: there is no such file or folder",
                super::rtsp::shown(name)
            )));
        };
        if paths.is_empty() {
            let endings = ENDINGS.join(", .");
            return Err(Error::config(format!("{name}: no pictures there (looked for .{endings})")));
        }
        paths.sort_by_cached_key(|path| natural(&path.to_string_lossy()));
        let interval = Duration::from_secs_f64(1.0 / fps);
        let size = paths.first().and_then(|path| image::image_dimensions(path).ok());
        let info = SourceInfo {
            name: name.to_owned(),
            live: false,
            frames: Some(paths.len() as u64),
            interval: Some(interval),
            size: size.map(|(w, h)| (w as usize, h as usize)),
        };
        Ok(Self { info, paths, next: 0, interval })
    }
}

fn in_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e: std::io::Error| Error::config(format!("{}: {e}", folder.display()));
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        if ending.is_some_and(|e| ENDINGS.contains(&e.as_str())) {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// Sorts like people do: runs of digits by their value, everything else by its letters.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut key: Vec<(String, u64)> = vec![(String::new(), 0)];
    let mut in_number = false;
    for c in name.chars() {
        let last = key.len() - 1;
        match c.to_digit(10) {
            Some(digit) => {
                key[last].1 = key[last].1.saturating_mul(10).saturating_add(u64::from(digit));
                in_number = true;
            }
            None if in_number => {
                key.push((c.to_string(), 0));
                in_number = false;
            }
            None => key[last].0.push(c),
        }
    }
    key
}

impl Source for Images {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn next(&mut self, frame: &mut Frame) -> Result<Next> {
        let Some(path) = self.paths.get(self.next) else { return Ok(Next::End) };
        frame.seq = self.next as u64;
        frame.pts = self.interval * self.next as u32;
        frame.captured = None;
        self.next += 1;
        match read(path, &mut frame.image) {
            Ok(()) => Ok(Next::Frame),
            Err(e) => Ok(Next::Unreadable(e)),
        }
    }
}

/// Reads the picture at `path` into `out`, as 8-bit grey or RGB by the rule of [`Images`].
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::BadFile`] if it is no whole picture, or too large.
pub fn read(path: &Path, out: &mut Image) -> Result<()> {
    let bad = |e: &dyn std::fmt::Display| Error::bad_file(format!("{}: {e}", path.display()));
    let reader = ImageReader::open(path).map_err(|e| bad(&e))?;
    let mut reader = reader.with_guessed_format().map_err(|e| bad(&e))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MOST_SIDE);
    limits.max_image_height = Some(MOST_SIDE);
    limits.max_alloc = Some(MOST_BYTES);
    reader.limits(limits);
    let picture = reader.decode().map_err(|e| bad(&e))?;
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let grey = !picture.color().has_color();
    let format = if grey { PixelFormat::Grey8 } else { PixelFormat::Rgb8 };
    let bytes = match picture {
        DynamicImage::ImageLuma8(pixels) => pixels.into_raw(),
        DynamicImage::ImageRgb8(pixels) => pixels.into_raw(),
        other if grey => other.into_luma8().into_raw(),
        other => other.into_rgb8().into_raw(),
    };
    out.reset(width, height, format).copy_from_slice(&bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_are_sorted_by_their_value() {
        let mut names = ["a10.png", "a9.png", "a1b2.png", "a1.png", "b1.png"];
        names.sort_by_cached_key(|n| natural(n));
        assert_eq!(names, ["a1.png", "a1b2.png", "a9.png", "a10.png", "b1.png"]);
    }
}
