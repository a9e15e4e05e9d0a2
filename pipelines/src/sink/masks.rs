//! `masks/000114.png`: what was segmented, one palette picture of the frame's size per frame.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tapetum_runtime::{
    Error, Result,
    finding::{Finding, Mask},
};

use super::{
    Sink, SinkKind, files,
    look::{self, MaskFile},
    palette,
};
use crate::{Item, RunInfo, Summary};

/// `--sink masks`.
pub(super) const MASKS: SinkKind = SinkKind {
    name: "masks",
    writes: "masks/NNNNNN.png: the segmented pixels of every frame that has any, by class",
    open: |out, _| Ok(Box::new(Masks::create(out)?)),
};

struct Masks {
    out: PathBuf,
    /// Class per pixel of the frame.
    pixels: Vec<u8>,
    png: Vec<u8>,
}

impl Masks {
    fn create(out: &Path) -> Result<Self> {
        files::folder(&out.join("masks"))?;
        Ok(Self { out: out.to_owned(), pixels: Vec::new(), png: Vec::new() })
    }
}

impl Sink for Masks {
    fn name(&self) -> &'static str {
        MASKS.name
    }

    fn deliver(&mut self, item: &Item, run: &RunInfo) -> Result<()> {
        let size = (item.frame.image.width(), item.frame.image.height());
        for stage in 0..item.slots.len() {
            let Some(Finding::Mask(mask)) = item.found(stage) else { continue };
            if look::foreground(mask) == 0 {
                continue;
            }
            let path = self.out.join(MaskFile::of(run, stage, item.frame.seq).to_string());
            paint(&mut self.pixels, mask, size);
            self.png.clear();
            encode(&mut self.png, &self.pixels, size)
                .map_err(|e| Error::internal(format!("{}: {e}", path.display())).caused_by(e))?;
            fs::write(&path, &self.png).map_err(|e| files::failed(&path, "write", e))?;
        }
        Ok(())
    }

    fn finish(&mut self, _: &RunInfo, _: &Summary) -> Result<()> {
        Ok(())
    }
}

/// What `stage` segmented on the frame of `item`: a grey PNG of the frame's size whose samples are classes. Nothing if every
/// pixel is background.
pub(crate) fn mask_png(item: &Item, stage: usize) -> Option<Vec<u8>> {
    let Finding::Mask(mask) = item.found(stage)? else { return None };
    if look::foreground(mask) == 0 {
        return None;
    }
    let size = (item.frame.image.width(), item.frame.image.height());
    let (mut pixels, mut png) = (Vec::new(), Vec::new());
    paint(&mut pixels, mask, size);
    let side = |n| u32::try_from(n).unwrap_or(u32::MAX);
    let mut encoder = png::Encoder::new(&mut png, side(size.0), side(size.1));
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(&pixels).ok()?;
    writer.finish().ok()?;
    Some(png)
}

/// Puts the parts where they lie in the frame; where two overlap, a class wins over the background.
fn paint(pixels: &mut Vec<u8>, mask: &Mask, (width, height): (usize, usize)) {
    pixels.clear();
    pixels.resize(width * height, 0);
    for part in look::parts(mask).iter().filter(|part| part.rect.fits(width, height) && !part.rect.is_empty())
    {
        for (row, classes) in part.classes.chunks_exact(part.rect.width).take(part.rect.height).enumerate() {
            let start = (part.rect.y + row) * width + part.rect.x;
            for (to, class) in pixels[start..].iter_mut().zip(classes).filter(|(_, class)| **class > 0) {
                *to = *class;
            }
        }
    }
}

fn encode(
    png: &mut Vec<u8>,
    pixels: &[u8],
    (width, height): (usize, usize),
) -> Result<(), png::EncodingError> {
    let most = pixels.iter().max().copied().unwrap_or(0).max(1);
    // The background is transparent black, so that viewers show the classes in colour and programs read their indices.
    let colours =
        (0..=most).flat_map(|class| if class == 0 { [0; 3] } else { palette::of_class(class.into()) });
    let side = |n| u32::try_from(n).unwrap_or(u32::MAX);
    let mut encoder = png::Encoder::new(png, side(width), side(height));
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(colours.collect::<Vec<u8>>());
    encoder.set_trns([0].as_slice());
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()
}
