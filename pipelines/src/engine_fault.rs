//! What is done about an engine that fails while it runs: the rules as a state machine without threads or time.
//!
//! ```text
//!  runs ──fault──► restart, and the same frame once more ──► runs
//!                     │ at most 3 within a minute, at once, after 1 s, after 4 s
//!                     ▼
//!                  the next engine of the list, else given up: every further frame fails at once
//! ```
//!
//! A fault need not be the engine's: some frames make any engine fail. So an engine is only left for the next one when
//! frames fail one after the other, and only given up when nothing has run since its last restart (which runs something by
//! itself: the model's golden record, or a black picture). Until then it is tried on every frame.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use tapetum_runtime::{Error, ErrorKind, clock::Tick};

use crate::run_info::nodes_shown;

/// Within which [`WAITS`] holds.
const WINDOW: Duration = Duration::from_secs(60);

/// Least time between a restart and the one before it, by how many there were within [`WINDOW`]; no more than these.
const WAITS: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(4)];

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing: this frame fails.
    Leave,
    /// Load the model again on the same engine.
    Restart,
    /// Load it on the next engine.
    NextEngine,
    /// Nothing any more: this frame and all further ones fail.
    GiveUp,
}

/// What one engine went through.
#[derive(Debug)]
pub struct Faults {
    /// When it was restarted, the oldest first; those within [`WINDOW`].
    restarts: VecDeque<Tick>,
    /// Frames that failed since one came through.
    in_a_row: u32,
    /// Whether there is a session to run.
    usable: bool,
    /// Whether anything ran since the last restart.
    proven: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self { restarts: VecDeque::with_capacity(WAITS.len()), in_a_row: 0, usable: true, proven: true }
    }
}

impl Faults {
    /// A run came through.
    pub fn ran(&mut self) {
        self.in_a_row = 0;
        self.proven = true;
    }

    /// A run failed by the engine's fault. `usable`: whether its session may be run again. `again`: whether the same frame
    /// failed before.
    pub fn failed(&mut self, usable: bool, again: bool) {
        self.in_a_row = self.in_a_row.saturating_add(u32::from(!again));
        self.usable = usable;
    }

    /// It was restarted at `now`; `usable` says whether that worked, `proven` whether something was run to see.
    pub fn restarted(&mut self, now: Tick, usable: bool, proven: bool) {
        self.restarts.push_back(now);
        self.usable = usable;
        self.proven = usable && proven;
    }

    /// What is to be done at `now`, after a run failed or while there is no session. `next`: whether there is another
    /// engine.
    pub fn decide(&mut self, now: Tick, next: bool) -> Action {
        while self.restarts.front().is_some_and(|at| now.saturating_sub(*at) >= WINDOW) {
            self.restarts.pop_front();
        }
        let last = self.restarts.back();
        if let Some(wait) = WAITS.get(self.restarts.len()) {
            let due = last.is_none_or(|last| now.saturating_sub(*last) >= *wait);
            return if due { Action::Restart } else { Action::Leave };
        }
        match self.in_a_row > 1 || !self.usable {
            true if next => Action::NextEngine,
            true if !self.proven => Action::GiveUp,
            _ => Action::Leave,
        }
    }
}

/// Whether `error` of a run is the engine's fault rather than the input's or the model's.
pub fn is_fault(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Internal | ErrorKind::Environment)
}

/// Something that was done about an engine.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineEvent {
    /// Index of the stage.
    pub stage: usize,
    /// [`tapetum_runtime::Frame::seq`] of the frame on which it was done.
    pub frame: u64,
    /// What.
    pub change: EngineChange,
    /// The engine it was done about; in [`EngineChange::TookOver`] the new one. As results state it.
    pub engine: Arc<str>,
    /// Why, in the words of the fault.
    pub why: String,
    /// What runs the model from now on; only in [`EngineChange::TookOver`].
    pub successor: Option<Successor>,
}

/// The engine that took over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Successor {
    /// What runs, with its version.
    pub version: String,
    /// How many nodes of the model each provider got there.
    pub nodes: Vec<(String, usize)>,
}

impl fmt::Display for EngineEvent {
    /// For people, in one line: `frame 12: tract/fp32 (tract 0.23.9, 71 nodes on tract) took over: …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame {}: {} ", self.frame, self.engine)?;
        if let Some(Successor { version, nodes }) = &self.successor {
            write!(f, "({version}, {}) ", nodes_shown(nodes))?;
        }
        write!(f, "{}: {}", self.change.name(), self.why.lines().next().unwrap_or_default())
    }
}

/// What was done about an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineChange {
    /// The model was loaded again.
    Restarted,
    /// It was to be loaded again, which failed.
    NotRestarted,
    /// The next engine of the list has it now.
    TookOver,
    /// An engine of the list was to take it, which failed.
    PassedOver,
    /// Nothing runs it any more.
    GivenUp,
}

impl EngineChange {
    /// As written into results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Restarted => "restarted",
            Self::NotRestarted => "not restarted",
            Self::TookOver => "took over",
            Self::PassedOver => "passed over",
            Self::GivenUp => "given up",
        }
    }
}

/// What was done about one stage's engines in a whole run.
#[derive(Clone, Debug, Default)]
pub struct EngineFaults {
    /// Times that the model was loaded again on the same engine, whether that worked or not.
    pub restarts: u64,
    /// The first [`EngineFaults::MOST`] events, in the order of the frames.
    pub events: Vec<EngineEvent>,
}

impl EngineFaults {
    /// Events kept; all restarts are counted.
    pub const MOST: usize = 100;

    pub(crate) fn add(&mut self, event: &EngineEvent) {
        self.restarts +=
            u64::from(matches!(event.change, EngineChange::Restarted | EngineChange::NotRestarted));
        if self.events.len() < Self::MOST {
            self.events.push(event.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use tapetum_runtime::seed::Seeded;

    use super::*;

    const fn ms(ms: u64) -> Tick {
        Duration::from_millis(ms)
    }

    #[test]
    fn restarts_come_at_once_then_later_and_later_then_never() {
        let mut faults = Faults::default();
        let mut restarts = Vec::new();
        // A device that is lost: no restart works.
        for now in (0..8000).step_by(100) {
            faults.failed(false, false);
            match faults.decide(ms(now), false) {
                Action::Restart => {
                    restarts.push(now);
                    faults.restarted(ms(now), false, false);
                }
                Action::Leave => {}
                other => {
                    assert_eq!((other, now), (Action::GiveUp, 5100));
                    break;
                }
            }
        }
        assert_eq!(restarts, [0, 1000, 5000]);
        assert_eq!(faults.decide(ms(5100), true), Action::NextEngine);
    }

    #[test]
    fn an_engine_that_runs_other_frames_is_never_given_up() {
        let mut faults = Faults::default();
        let mut restarts = 0;
        for frame in 0..10_000u64 {
            let now = ms(frame * 33);
            if frame % 2 == 0 {
                faults.ran();
                continue;
            }
            faults.failed(true, false);
            match faults.decide(now, true) {
                Action::Restart => {
                    restarts += 1;
                    faults.restarted(now, true, false);
                    // The frame is to blame, so it fails again.
                    faults.failed(true, true);
                    assert_eq!(faults.decide(now, true), Action::Leave);
                }
                other => assert_eq!(other, Action::Leave),
            }
        }
        // 330 s: three in each minute begun.
        assert!((15..=18).contains(&restarts), "{restarts}");
    }

    #[test]
    fn frames_that_fail_in_a_row_move_on_to_the_next_engine_but_give_no_engine_up_that_holds_its_golden() {
        let mut faults = Faults::default();
        for now in [0, 1000, 5000] {
            faults.failed(true, false);
            assert_eq!(faults.decide(ms(now), true), Action::Restart);
            faults.restarted(ms(now), true, true);
        }
        faults.failed(true, false);
        assert_eq!(faults.decide(ms(6000), false), Action::Leave);
        assert_eq!(faults.decide(ms(6000), true), Action::NextEngine);
        // A minute later it may be restarted again.
        assert_eq!(faults.decide(ms(60_000), false), Action::Restart);
    }

    #[test]
    fn whatever_happens_restarts_are_bounded_and_a_good_engine_is_kept() {
        for seed in 0..200 {
            let mut random = Seeded::new(seed);
            let mut faults = Faults::default();
            let mut restarts: Vec<Tick> = Vec::new();
            let mut now = Tick::ZERO;
            for _ in 0..500 {
                let [luck, kind] = [random.uniform(0.0, 1.0), random.uniform(0.0, 1.0)];
                now += ms(random.below(2000));
                if luck < 0.3 && faults.usable {
                    faults.ran();
                    continue;
                }
                let in_a_row = faults.in_a_row;
                faults.failed(faults.usable && kind < 0.7, false);
                match faults.decide(now, kind < 0.5) {
                    Action::Restart => {
                        faults.restarted(now, luck < 0.8, luck < 0.6);
                        restarts.push(now);
                    }
                    Action::Leave => {}
                    Action::NextEngine | Action::GiveUp => {
                        assert!(
                            in_a_row > 0 || !faults.usable,
                            "seed {seed}: the first failure of a good engine"
                        );
                        break;
                    }
                }
            }
            for (n, at) in restarts.iter().enumerate() {
                let within = restarts[n..].iter().filter(|t| **t - *at < WINDOW).count();
                assert!(within <= WAITS.len(), "seed {seed}: {within} restarts within {WINDOW:?}");
            }
        }
    }
}
