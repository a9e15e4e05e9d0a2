//! How hot a machine is, and whether it slows down for it.

use std::path::Path;

use crate::{Board, files};

/// Thermal zones and cooling devices at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heat {
    /// Every zone that says a temperature.
    pub zones: Vec<Zone>,
    /// Every cooling device that is at work.
    pub cooling: Vec<Cooling>,
}

/// A thermal zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    /// Its type, which stays the same, unlike its number.
    pub kind: String,
    /// In degrees Celsius.
    pub celsius: f32,
    /// Where that is among the profile's limits; `None` if the profile has none for it.
    pub level: Option<Level>,
}

/// A cooling device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cooling {
    /// Its type: `Processor`, `cpufreq-cpu0`, `pwm-fan`.
    pub kind: String,
    /// How far it is at work, from 1.
    pub state: u32,
    /// How far it can be.
    pub most: u32,
}

/// How warm a zone is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Below every limit.
    Normal,
    /// Somebody should hear of it.
    Warm,
    /// The machine slows down.
    Hot,
}

impl Heat {
    /// Reads `sys/class/thermal` below `root` (`/` for this machine) and holds it against the limits of `board`. What cannot be
    /// read is left out: zones of devices that are off give errors, and a virtual machine has none.
    pub fn read(root: &Path, board: &Board) -> Self {
        let class = root.join("sys/class/thermal");
        let zone = |path: std::path::PathBuf| {
            let kind = files::line(&path.join("type"))?;
            let celsius = files::number(&path.join("temp"))? as f32 / 1000.0;
            let level = board.thermal.get(&kind).map(|limits| match celsius {
                c if c >= limits.hot => Level::Hot,
                c if c >= limits.warm => Level::Warm,
                _ => Level::Normal,
            });
            // Sensors that are off say 0 K or their register's end.
            (-60.0..=250.0).contains(&celsius).then_some(Zone { kind, celsius, level })
        };
        let cooling = |path: std::path::PathBuf| {
            let state = files::number(&path.join("cur_state"))?;
            let most = files::number(&path.join("max_state"))?;
            let [state, most] = [state, most].map(|n| u32::try_from(n).ok());
            let (state, most) = (state.filter(|s| *s > 0)?, most?);
            Some(Cooling { kind: files::line(&path.join("type"))?, state, most })
        };
        Self {
            zones: files::entries(&class, "thermal_zone").into_iter().filter_map(zone).collect(),
            cooling: files::entries(&class, "cooling_device").into_iter().filter_map(cooling).collect(),
        }
    }

    /// The hottest zone: of those that the profile has limits for, or else of all.
    pub fn hottest(&self) -> Option<&Zone> {
        let known = |zone: &&Zone| zone.level.is_some();
        let hottest = |a: &&Zone, b: &&Zone| a.celsius.total_cmp(&b.celsius);
        self.zones.iter().filter(known).max_by(hottest).or_else(|| self.zones.iter().max_by(hottest))
    }

    /// The worst level of any zone; `None` if the profile has limits for none.
    pub fn level(&self) -> Option<Level> {
        self.zones.iter().filter_map(|zone| zone.level).max()
    }

    /// Zones that are hot.
    pub fn too_hot(&self) -> impl Iterator<Item = &Zone> {
        self.zones.iter().filter(|zone| zone.level == Some(Level::Hot))
    }

    /// The cooling device that slows the machine down, if one does. A fan does not, nor does the distance that some PCs keep from
    /// the processor's limit, which the kernel shows as one.
    pub fn slows(&self) -> Option<&Cooling> {
        let harmless = |kind: &str| kind.contains("fan") || kind == "tcc offset";
        self.cooling.iter().find(|cooling| !harmless(&cooling.kind.to_ascii_lowercase()))
    }

    /// Whether the machine slows itself down: a zone is hot, or a cooling device does it.
    pub fn throttled(&self) -> bool {
        self.level() == Some(Level::Hot) || self.slows().is_some()
    }
}
