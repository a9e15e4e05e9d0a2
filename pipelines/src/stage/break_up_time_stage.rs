//! Break-up time as a stage: watches the classes that an earlier stage found.

use tapetum_runtime::{
    Error, Result,
    finding::Finding,
    settings::{Reader, Table, hint},
};

use super::{BreakUpTime, BreakUpTimer, EyeState, Input, Net, Plan, Rules, Stage, StageKind, foreign};
use crate::config::Earlier;

/// `kind = "break-up-time"`.
pub static BREAK_UP_TIME: StageKind = StageKind {
    name: "break-up-time",
    takes_model: false,
    reads: |_| false,
    labels: &[],
    keys: &["classes", "min_run", "max_gap_s"],
    read,
};

/// The labels that the classes must have, and what they mean.
const STATES: [(&str, EyeState); 4] = [
    ("clear", EyeState::Clear),
    ("closed", EyeState::Closed),
    ("broken", EyeState::Broken),
    ("blur", EyeState::Blur),
];

struct Watch {
    /// Index of the stage that classifies.
    stage: usize,
    /// What each of its labels means.
    states: Vec<Option<EyeState>>,
    rules: Rules,
}

fn read<'t>(reader: &mut Reader<'t>, table: &Table<'t>, earlier: &Earlier<'_>) -> Option<Box<dyn Plan>> {
    for key in ["crop", "every", "when"] {
        if table.has(key) {
            reader.note(table.place(key), format!("break-up-time takes no {key}: it watches every frame"));
        }
    }
    let mut rules = Rules::default();
    if let Some(frames) = reader.count(table, "min_run") {
        match u32::try_from(frames) {
            Ok(frames @ 1..=1000) => rules.min_run = frames,
            _ => reader
                .note(table.place("min_run"), format!("min_run must be from 1 to 1000, this is {frames}")),
        }
    }
    if let Some(seconds) = reader.number(table, "max_gap_s") {
        if !(0.001..=3600.0).contains(&seconds) {
            let what = format!("max_gap_s must be from 0.001 to 3600 seconds, this is {seconds}");
            reader.note(table.place("max_gap_s"), what);
        }
        rules.max_gap_s = f64::from(seconds);
    }
    let stage = reader.required(table, "classes", |r, t, key| earlier.stage(r, t, key, &["classify"]))?;
    let labels = earlier.labels(stage);
    let names: Vec<&str> = labels.iter().map(String::as_str).collect();
    for (wanted, _) in STATES.iter().filter(|(wanted, _)| !names.is_empty() && !names.contains(wanted)) {
        let what = format!("break-up-time needs the class {wanted:?}{}", hint(wanted, &names));
        reader.note(table.place("classes"), what);
    }
    let state = |label: &String| STATES.iter().find(|(name, _)| name == label).map(|(_, state)| *state);
    Some(Box::new(Watch { stage, states: labels.iter().map(state).collect(), rules }))
}

impl Plan for Watch {
    fn ordered(&self) -> bool {
        true
    }

    fn build(&self, _: Option<Net>) -> Result<Box<dyn Stage>> {
        let timer = BreakUpTimer::new(self.rules);
        Ok(Box::new(Watcher { timer, stage: self.stage, states: self.states.clone() }))
    }
}

struct Watcher {
    timer: BreakUpTimer,
    stage: usize,
    states: Vec<Option<EyeState>>,
}

impl Stage for Watcher {
    fn blank(&self) -> Finding {
        Finding::Measure(Vec::with_capacity(3))
    }

    fn run(&mut self, input: &Input<'_>, out: &mut Finding) -> Result<()> {
        let Finding::Measure(measure) = out else { return Err(foreign()) };
        let state = match input.found(self.stage) {
            Some(Finding::Class(class)) => match self.states.get(class.label) {
                Some(state) => *state,
                None => return Err(Error::internal(format!("there is no class {}", class.label))),
            },
            _ => None,
        };
        self.timer.observe(input.frame.pts.as_secs_f64(), state);
        let now = self.timer.now();
        measure.clear();
        measure.push(("interval", now.map(|(n, ..)| (n + 1) as f64)));
        measure.push(("since_clear_s", now.map(|(_, age_s, _)| age_s)));
        measure.push(("but_s", now.and_then(|(.., but_s)| but_s)));
        Ok(())
    }

    fn conclusion(&self) -> Option<BreakUpTime> {
        Some(self.timer.result())
    }
}
