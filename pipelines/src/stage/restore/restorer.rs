//! The stage at work on one frame.

use tapetum_runtime::{
    Error, Image, PixelFormat, Rect, Result,
    contract::{OutputKind, ResizeRule},
    finding::{Finding, Kept, Restored, Tiles, Windows, image::ImageDecoder},
    tiles::{Grid, Mosaic},
};

use super::{
    cut::{Cut, Wish},
    kind::{Reuse, Sparing},
    look::{self, Luma},
};
use crate::stage::{Input, Net, Stage, foreign};

/// One worker's restoration.
pub(super) struct Restorer {
    network: Network,
    cut: Cut,
    sparing: Sparing,
    grid: Grid,
    luma: Luma,
    mosaic: Mosaic,
    /// The tile at hand.
    tile: Image,
    /// What the network made of each tile when it was last run; only with [`Sparing::reuse`].
    results: Vec<Option<Made>>,
}

/// The network with everything that is read of its outputs.
struct Network {
    net: Net,
    decoder: ImageDecoder,
    /// The format of what it makes.
    format: PixelFormat,
    /// Its decisions, by index of the output.
    decisions: Vec<(usize, Windows)>,
    windows: Vec<Windows>,
}

/// A tile's result.
struct Made {
    of: Image,
    result: Image,
    /// Frames on which it was used since.
    used: u32,
}

/// What becomes of a tile.
enum Way {
    Run,
    Reuse,
    Sharp,
    Still,
}

impl Restorer {
    pub fn new(net: Net, wish: Wish, sparing: Sparing) -> Result<Self> {
        let contract = &net.contract;
        if contract.input.resize != ResizeRule::None {
            return Err(Error::config(format!(
                "a stage of kind \"restore\" needs a model whose contract says resize = \"none\", this one says \
                 {:?}: the picture must keep its size",
                contract.input.resize
            )));
        }
        let cut = Cut::new(wish, contract)?;
        let cut = if net.profile().is_some() { cut.always() } else { cut };
        let colour = contract.input.colour;
        let decoder = contract.outputs.iter().find_map(|o| match o.kind {
            OutputKind::Image { range, clamp, crop } => Some(ImageDecoder::new(range, clamp, crop, colour)),
            _ => None,
        });
        let decoder = decoder.ok_or_else(|| Error::bad_file("the model has no output of a picture"))?;
        let mut decisions = Vec::new();
        for output in &contract.outputs {
            if let OutputKind::Decision { stride, shift } = output.kind {
                let at = net.position(&output.name);
                let at = at.ok_or_else(|| Error::bad_file(format!("no output {:?}", output.name)))?;
                decisions.push((at, Windows { stride, shift }));
            }
        }
        let windows = decisions.iter().map(|(_, windows)| *windows).collect();
        let format = if colour.channels() == 1 { PixelFormat::Grey8 } else { PixelFormat::Rgb8 };
        Ok(Self {
            network: Network { net, decoder, format, decisions, windows },
            cut,
            sparing,
            grid: Grid::default(),
            luma: Luma::default(),
            mosaic: Mosaic::default(),
            tile: Image::default(),
            results: Vec::new(),
        })
    }

    /// Cuts up `image`; results of pictures that were cut otherwise are given up.
    fn lay_out(&mut self, image: &Image) -> Result<()> {
        let size = (image.width(), image.height());
        if self.grid.size() != size {
            let padded = self.network.net.input_size(size.0, size.1).unwrap_or((size.1, size.0));
            self.grid = self.cut.grid(size, (padded.1, padded.0))?;
            self.results.clear();
        }
        if self.sparing.reuse.is_some() {
            self.results.resize_with(self.grid.len(), || None);
        }
        Ok(())
    }

    fn way(&self, n: usize, tile: Rect, image: &Image) -> Way {
        if let (Some(Reuse { within, frames }), Some(Some(made))) = (self.sparing.reuse, self.results.get(n))
            && made.used < frames
            && look::is_as(image, tile, &made.of, within)
        {
            return Way::Reuse;
        }
        if self.sparing.sharp.is_some_and(|least| self.luma.sharpness(tile) >= least) {
            return Way::Sharp;
        }
        let still = |most| self.luma.motion(tile).is_some_and(|motion| motion <= most);
        if self.sparing.still.is_some_and(still) { Way::Still } else { Way::Run }
    }

    /// Fills `tile` with what tile `n` becomes.
    fn restore(
        &mut self,
        n: usize,
        image: &Image,
        tile: &mut Image,
        kept: &mut Kept,
        tiles: &mut Tiles,
    ) -> Result<()> {
        let rect = self.grid.tile(n);
        let way = self.way(n, rect, image);
        match way {
            Way::Run => {
                self.network.run(image, rect, tile, kept)?;
                tiles.run += 1;
                if self.sparing.reuse.is_some() {
                    let made = self.results[n].get_or_insert_with(|| Made {
                        of: Image::default(),
                        result: Image::default(),
                        used: 0,
                    });
                    made.of.crop_from(image, rect, image.format());
                    made.result.copy_from(tile);
                    made.used = 0;
                }
                return Ok(());
            }
            Way::Reuse => {
                tiles.reused += 1;
                if let Some(made) = &mut self.results[n] {
                    made.used += 1;
                    tile.copy_from(&made.result);
                }
            }
            Way::Sharp | Way::Still => {
                match way {
                    Way::Sharp => tiles.sharp += 1,
                    _ => tiles.still += 1,
                }
                tile.crop_from(image, rect, self.network.format);
            }
        }
        if !self.network.windows.is_empty() {
            let (height, width) = self.network.net.input_size(rect.width, rect.height)?;
            kept.spared(&self.network.windows, (width, height));
        }
        Ok(())
    }
}

impl Network {
    /// Restores the part `rect` of `image` into `out`.
    fn run(&mut self, image: &Image, rect: Rect, out: &mut Image, kept: &mut Kept) -> Result<()> {
        let (decoder, decisions) = (&self.decoder, &self.decisions);
        self.net.each(image, &[rect], |output| {
            for (n, (at, windows)) in decisions.iter().enumerate() {
                let decision =
                    output.all.get(*at).ok_or_else(|| Error::internal("fewer outputs than ports"))?;
                kept.note(n, decision, *windows, output.placement)?;
            }
            decoder.run(output.shape, output.values, output.placement.valid, out)
        })
    }
}

impl Stage for Restorer {
    fn blank(&self) -> Finding {
        Finding::Image(Restored::default())
    }

    fn run(&mut self, input: &Input<'_>, out: &mut Finding) -> Result<()> {
        let Finding::Image(Restored { image: out, kept, tiles }) = out else { return Err(foreign()) };
        let image = input.image;
        self.lay_out(image)?;
        if self.sparing.sharp.is_some() || self.sparing.still.is_some() {
            self.luma.take(image);
        }
        kept.begin((image.width(), image.height()), self.network.decisions.len());
        *tiles = Tiles::default();
        if self.grid.len() == 1 {
            return self.restore(0, image, out, kept, tiles);
        }
        self.mosaic.begin(&self.grid, self.network.format);
        let mut tile = std::mem::take(&mut self.tile);
        for n in 0..self.grid.len() {
            self.restore(n, image, &mut tile, kept, tiles)?;
            self.mosaic.add(n, &tile)?;
        }
        self.tile = tile;
        self.mosaic.finish(out);
        Ok(())
    }
}
