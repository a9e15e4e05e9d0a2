//! `restored/000114.png`: what the last stage that restores made of each frame.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use tapetum_runtime::{Error, PixelFormat, Result, finding::Finding};

use super::{Sink, SinkKind, files};
use crate::{Item, RunInfo, Summary};

/// `--sink pictures`.
pub(super) const PICTURES: SinkKind = SinkKind {
    name: "pictures",
    writes: "restored/NNNNNN.png: every frame that a stage of kind restore worked on, restored; with -kept.png, where \
             a network that prunes windows worked",
    open: |out, run| Ok(Box::new(Pictures::create(out, run)?)),
};

/// Name of a restored frame's file below the folder `out`.
#[derive(Clone, Copy)]
pub(super) struct PictureFile {
    seq: u64,
    addition: &'static str,
}

impl PictureFile {
    /// The file of what `stage` restored on frame `seq`; only the last stage that restores has files.
    pub fn of(run: &RunInfo, stage: usize, seq: u64) -> Option<Self> {
        let last = run.stages.iter().rposition(|s| s.kind == "restore");
        (run.sinks.contains(&PICTURES.name) && last == Some(stage)).then_some(Self { seq, addition: "" })
    }

    /// The map of the kept windows that lies beside it.
    pub fn kept(self) -> Self {
        Self { addition: "-kept", ..self }
    }
}

impl fmt::Display for PictureFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "restored/{:06}{}.png", self.seq, self.addition)
    }
}

struct Pictures {
    out: PathBuf,
    /// The stage whose pictures are written.
    stage: usize,
    png: Vec<u8>,
    /// The map of kept windows, in black and white.
    map: Vec<u8>,
}

impl Pictures {
    fn create(out: &Path, run: &RunInfo) -> Result<Self> {
        let stage = run.stages.iter().rposition(|s| s.kind == "restore").ok_or_else(|| {
            Error::config(format!("sink \"pictures\": {} has no stage of kind \"restore\"", run.pipeline))
        })?;
        files::folder(&out.join("restored"))?;
        Ok(Self { out: out.to_owned(), stage, png: Vec::new(), map: Vec::new() })
    }

    fn write(
        &mut self,
        name: PictureFile,
        size: (usize, usize),
        colour: png::ColorType,
        pixels: &[u8],
    ) -> Result<()> {
        let path = self.out.join(name.to_string());
        self.png.clear();
        encode(&mut self.png, size, colour, pixels)
            .map_err(|e| Error::internal(format!("{}: {e}", path.display())).caused_by(e))?;
        fs::write(&path, &self.png).map_err(|e| files::failed(&path, "write", e))
    }
}

impl Sink for Pictures {
    fn name(&self) -> &'static str {
        PICTURES.name
    }

    fn deliver(&mut self, item: &Item, run: &RunInfo) -> Result<()> {
        let Some(Finding::Image(restored)) = item.found(self.stage) else { return Ok(()) };
        let Some(name) = PictureFile::of(run, self.stage, item.frame.seq) else { return Ok(()) };
        let image = &restored.image;
        let colour = match image.format() {
            PixelFormat::Grey8 => png::ColorType::Grayscale,
            PixelFormat::Rgb8 => png::ColorType::Rgb,
        };
        self.write(name, (image.width(), image.height()), colour, image.data())?;
        if restored.kept.map.is_empty() {
            return Ok(());
        }
        self.map.clear();
        self.map.extend(restored.kept.map.iter().map(|kept| kept * 255));
        let map = std::mem::take(&mut self.map);
        let written = self.write(name.kept(), restored.kept.size, png::ColorType::Grayscale, &map);
        self.map = map;
        written
    }

    fn finish(&mut self, _: &RunInfo, _: &Summary) -> Result<()> {
        Ok(())
    }
}

fn encode(
    png: &mut Vec<u8>,
    (width, height): (usize, usize),
    colour: png::ColorType,
    pixels: &[u8],
) -> Result<(), png::EncodingError> {
    let side = |n| u32::try_from(n).unwrap_or(u32::MAX);
    let mut encoder = png::Encoder::new(png, side(width), side(height));
    encoder.set_color(colour);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()
}
