//! What a pipeline file says about a restoration.

use tapetum_runtime::{
    Result,
    contract::{Contract, OutputKind},
    settings::{Reader, Table},
};

use super::{
    cut::{Cut, Wish},
    restorer::Restorer,
};
use crate::{
    config::Earlier,
    shapes::Sizes,
    stage::{Net, Plan, Stage, StageKind, needed},
};

/// `kind = "restore"`: later stages look at what it made.
///
/// | key | meaning |
/// |---|---|
/// | `memory_mib` | most memory for a run of the network, per worker (1024): larger pictures are restored in tiles |
/// | `tile`, `overlap` | tiles of this side always, pixels that neighbours have in common (64, at most a quarter) |
/// | `skip_sharp` | tiles whose Laplacian has at least this variance stay as they are |
/// | `skip_still` | tiles of which no 8×8 block changed by more than this since the frame before stay as they are |
/// | `reuse_within` | a static camera: the result is used again where no sample differs by more than this from what it was made of |
/// | `reuse_frames` | but for at most so many frames (250) |
pub static RESTORE: StageKind = StageKind {
    name: "restore",
    takes_model: true,
    reads: |output| matches!(output, OutputKind::Image { .. }),
    labels: &[],
    keys: &["memory_mib", "tile", "overlap", "skip_sharp", "skip_still", "reuse_within", "reuse_frames"],
    read,
};

/// In MiB.
const MEMORY: usize = 1024;
/// At 25 frames per second every ten seconds.
const REUSE_FRAMES: u32 = 250;

/// When the network may be spared.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sparing {
    /// Least variance of the Laplacian of a tile that stays as it is.
    pub sharp: Option<f64>,
    /// Greatest change of a block of a tile that stays as it is.
    pub still: Option<f64>,
    /// Results are used again.
    pub reuse: Option<Reuse>,
}

/// When a tile's result is used again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reuse {
    /// Greatest difference of a sample to what the result was made of.
    pub within: u8,
    /// Most frames on which it is used after its own.
    pub frames: u32,
}

struct Restore {
    wish: Wish,
    sparing: Sparing,
}

impl Plan for Restore {
    fn ordered(&self) -> bool {
        self.sparing.still.is_some() || self.sparing.reuse.is_some()
    }

    /// Those of its tiles: on an engine that is built for given shapes every picture is restored in tiles.
    fn sizes(&self, contract: &Contract) -> Result<Option<Sizes>> {
        Ok(Some(Cut::new(self.wish, contract)?.sizes(contract)))
    }

    fn build(&self, net: Option<Net>) -> Result<Box<dyn Stage>> {
        Ok(Box::new(Restorer::new(needed(net)?, self.wish, self.sparing)?))
    }
}

fn read<'t>(reader: &mut Reader<'t>, table: &Table<'t>, _: &Earlier<'_>) -> Option<Box<dyn Plan>> {
    if table.has("crop") {
        reader.note(table.place("crop"), "restore takes no crop: it restores the whole picture");
    }
    let memory = ranged(reader, table, "memory_mib", 1..=1 << 20).unwrap_or(MEMORY);
    let tile = ranged(reader, table, "tile", 16..=1 << 14);
    let overlap = ranged(reader, table, "overlap", 0..=1 << 13);
    if let (Some(tile), Some(overlap)) = (tile, overlap)
        && overlap > tile / 2
    {
        reader.note(table.place("overlap"), format!("overlap is at most half a tile, {}", tile / 2));
    }
    let mut positive = |key: &str| {
        let value = reader.number(table, key)?;
        if value < 0.0 {
            reader.note(table.place(key), format!("{key} must not be negative, this is {value}"));
        }
        Some(f64::from(value))
    };
    let (sharp, still) = (positive("skip_sharp"), positive("skip_still"));
    let within = reader.byte(table, "reuse_within");
    let frames = ranged(reader, table, "reuse_frames", 1..=1 << 30);
    if frames.is_some() && within.is_none() && !table.has("reuse_within") {
        reader.note(table.place("reuse_frames"), "reuse_frames is of no use without reuse_within");
    }
    let reuse = within.map(|within| Reuse { within, frames: frames.map_or(REUSE_FRAMES, |n| n as u32) });
    let sparing = Sparing { sharp, still, reuse };
    let piecemeal = sharp.is_some() || still.is_some() || reuse.is_some();
    let wish = Wish { memory: (memory as u64) << 20, tile, overlap, piecemeal };
    Some(Box::new(Restore { wish, sparing }))
}

fn ranged<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    key: &str,
    range: std::ops::RangeInclusive<usize>,
) -> Option<usize> {
    let number = reader.count(table, key)?;
    if !range.contains(&number) {
        let (least, most) = (range.start(), range.end());
        reader.note(table.place(key), format!("{key} must be from {least} to {most}, this is {number}"));
        return None;
    }
    Some(number)
}
