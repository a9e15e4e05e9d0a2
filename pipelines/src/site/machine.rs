//! The machine that a site runs on: which engines its board's profile has tried first, how hot it is, and what is done when it is
//! too hot.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tapetum_device::{Board, Heat, Level as HeatIs, power_mode};
use tapetum_runtime::clock::Tick;

use super::{daemon::Level, status::BoardStatus};
use crate::config::Choice;

/// How often the machine's sensors are read.
const LOOK: Duration = Duration::from_secs(5);

/// A machine that slows itself down is told of once in this time: it may do so every other second.
const QUIET: Duration = Duration::from_secs(600);

/// The board of this machine, with its sensors.
pub(super) struct Machine {
    root: PathBuf,
    /// None on a processor without a profile.
    board: Option<Board>,
    asked: bool,
    hot_fps: Option<f32>,
    cap: Arc<Cap>,
    seen: Mutex<Seen>,
}

/// Most frames per second of each camera that the machine can bear at present.
#[derive(Debug, Default)]
pub(super) struct Cap(AtomicU32);

/// As last read, and what was told of it.
struct Seen {
    looked: Option<Tick>,
    heat: Heat,
    power_mode: Option<String>,
    told: HeatIs,
    slowed: Option<Tick>,
}

impl Cap {
    /// None: as many as come.
    pub fn fps(&self) -> Option<f32> {
        Some(f32::from_bits(self.0.load(Ordering::Relaxed))).filter(|fps| *fps > 0.0)
    }

    fn set(&self, fps: Option<f32>) {
        self.0.store(fps.unwrap_or(0.0).to_bits(), Ordering::Relaxed);
    }
}

impl Machine {
    /// The machine whose files lie below `root`; `asked` is the profile that the configuration asks for. `hot_fps`: most frames
    /// per second of each camera while it is too hot.
    pub fn new(root: &Path, asked: Option<Board>, hot_fps: Option<f32>) -> Self {
        let seen = Seen {
            looked: None,
            heat: Heat::default(),
            power_mode: None,
            told: HeatIs::Normal,
            slowed: None,
        };
        Self {
            root: root.to_owned(),
            asked: asked.is_some(),
            // A processor without a profile is no fault: engines are then the build's own.
            board: asked.or_else(|| Board::detect(root).ok()),
            hot_fps,
            cap: Arc::default(),
            seen: Mutex::new(seen),
        }
    }

    /// For the log.
    pub fn words(&self) -> String {
        let Some(board) = &self.board else { return "no board profile for this processor".to_owned() };
        let how = if self.asked { "as the configuration asks" } else { "as the machine says" };
        let threads = board.threads.map_or_else(|| "every core".to_owned(), |n| format!("{n} threads"));
        format!(
            "board {} ({}), {how}: engines {} on {threads}",
            board.name,
            board.description,
            board.engines.join(", ")
        )
    }

    /// Engines for pipelines that name none.
    pub fn engines(&self) -> Option<Choice> {
        self.board.as_ref().map(|board| Choice::FirstOf(board.engines.clone()))
    }

    /// Threads that the board leaves to the engines; all cores if `None`.
    pub fn threads(&self) -> Option<usize> {
        self.board.as_ref()?.threads
    }

    /// What the cameras may take.
    pub fn cap(&self) -> Arc<Cap> {
        self.cap.clone()
    }

    /// To be called several times a second: reads the sensors now and then. Returns what a log should say.
    pub fn tick(&self, now: Tick) -> Option<(Level, String)> {
        let board = self.board.as_ref()?;
        let mut seen = self.seen();
        if seen.looked.is_some_and(|at| now.saturating_sub(at) < LOOK) {
            return None;
        }
        seen.looked = Some(now);
        seen.heat = Heat::read(&self.root, board);
        seen.power_mode = power_mode(&self.root);
        let said = seen.judge(board, now, self.hot_fps);
        self.cap.set(self.hot_fps.filter(|_| seen.told == HeatIs::Hot));
        said
    }

    /// Board, heat and power mode as last read.
    pub fn status(&self) -> Option<BoardStatus> {
        let board = self.board.as_ref()?;
        let seen = self.seen();
        let mut temperatures = BTreeMap::new();
        for zone in &seen.heat.zones {
            let celsius = f64::from(zone.celsius);
            let hottest = temperatures.entry(zone.kind.clone()).or_insert(celsius);
            *hottest = hottest.max(celsius);
        }
        let mut too_hot: Vec<String> = seen.heat.too_hot().map(|zone| zone.kind.clone()).collect();
        too_hot.dedup();
        Some(BoardStatus {
            name: board.name.clone(),
            description: board.description.clone(),
            asked: self.asked,
            power_mode: seen.power_mode.clone(),
            temperatures: temperatures.into_iter().collect(),
            too_hot,
            level: seen.heat.level().map(Into::into),
            throttled: seen.heat.throttled(),
            cooling: seen.heat.cooling.iter().map(|c| (c.kind.clone(), c.state, c.most)).collect(),
            max_fps: self.cap.fps(),
        })
    }

    /// What it guards is sound between any two statements.
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// A level is told when it is reached, and that all is well when every zone is below its `warm` again: a machine that hovers at
    /// a limit is told of once, and what was done about it stays until then.
    fn judge(&mut self, board: &Board, now: Tick, hot_fps: Option<f32>) -> Option<(Level, String)> {
        let level = self.heat.level().unwrap_or(self.told);
        let name = &board.name;
        if level > self.told {
            self.told = level;
            let hottest = self.heat.hottest().map_or(String::new(), |zone| {
                let limit = board.thermal.get(&zone.kind).copied().unwrap_or_default();
                let (what, at) = match level {
                    HeatIs::Hot => ("hot", limit.hot),
                    _ => ("warm", limit.warm),
                };
                format!("{} at {:.0} °C ({what} from {at:.0} on)", zone.kind, zone.celsius)
            });
            let what = match (level, hot_fps) {
                (HeatIs::Hot, Some(fps)) => format!(
                    "board {name} is too hot, {hottest}; until it has cooled down {fps} frames/s of each camera are looked at"
                ),
                (HeatIs::Hot, None) => format!("board {name} is too hot and slows down, {hottest}"),
                _ => format!("board {name} is warm, {hottest}"),
            };
            return Some((Level::Warning, what));
        }
        if level == HeatIs::Normal && self.told != HeatIs::Normal {
            self.told = HeatIs::Normal;
            return Some((Level::Info, format!("board {name} has cooled down")));
        }
        let slows = self.heat.slows()?;
        let due = self.slowed.is_none_or(|at| now.saturating_sub(at) >= QUIET);
        if due {
            self.slowed = Some(now);
        }
        due.then(|| {
            (
                Level::Warning,
                format!(
                    "board {name} slows itself down: {} at {} of {}",
                    slows.kind, slows.state, slows.most
                ),
            )
        })
    }
}
