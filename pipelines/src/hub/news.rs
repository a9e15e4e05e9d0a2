//! What becomes of shared models and why they run as they do, told to the log of whoever has them: they are loaded by threads
//! that nobody watches, and loaded again long after the start.

use std::sync::{Mutex, PoisonError};

use crate::{
    Decision, RunInfo,
    assemble::Progress,
    engine_cache::Event,
    site::daemon::{Level, Tell},
};

pub(crate) struct News {
    tell: Tell,
    /// What was told last: every worker of a model, and every camera, comes to the same trouble.
    last: Mutex<String>,
}

impl News {
    pub fn new(tell: Tell) -> Self {
        Self { tell, last: Mutex::default() }
    }

    /// A model is made ready.
    pub fn step(&self, step: Progress<'_>) {
        match step {
            // Every load is told in no time, and nobody waits for it.
            Progress::Fusing(..) | Progress::Loading(..) => {}
            Progress::Fused(model, fused) => {
                let network = &fused.description.network;
                self.say(Level::Info, format!("model {model}: {network} fused"));
            }
            Progress::Engine(model, engine, Event::Waiting) => {
                self.say(
                    Level::Info,
                    format!("model {model}: another process builds it for {engine}; waiting"),
                );
            }
            Progress::Engine(model, engine, Event::Building(estimate)) => {
                let long = match estimate {
                    Some(long) => format!("an earlier build took {:.0} s", long.as_secs_f64().ceil()),
                    None => "no earlier build tells how long it takes".to_owned(),
                };
                self.say(Level::Info, format!("model {model}: building for {engine}; {long}"));
            }
            Progress::Engine("", engine, Event::Said(what)) => {
                self.say(Level::Warning, format!("{engine}: {what}"));
            }
            Progress::Engine(model, engine, Event::Said(what)) => {
                self.say(Level::Warning, format!("model {model} on {engine}: {what}"));
            }
        }
    }

    /// Why the models of a camera run as they do, where that was left to a tuning.
    pub fn decided(&self, camera: &str, info: &RunInfo) {
        for stage in &info.stages {
            let Some((model, decision)) = stage.model.as_ref().and_then(|m| Some((m, m.decision.as_ref()?)))
            else {
                continue;
            };
            match decision {
                Decision { tuned: Some(date), why, .. } => {
                    let what = format!("{} (tuning of {date}): {why}", model.engine);
                    self.say(Level::Info, format!("camera {camera}: {}: {what}", stage.name));
                }
                // The reason is one for all models.
                Decision { tuned: None, why, .. } => {
                    return self.say(Level::Warning, format!("camera {camera}: untuned: {why}"));
                }
            }
        }
    }

    fn say(&self, level: Level, what: String) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != what {
            (self.tell)(level, &what);
            *last = what;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{ModelInfo, StageInfo};

    /// What was told, in order.
    type Told = Arc<Mutex<Vec<(Level, String)>>>;

    fn news() -> (News, Told) {
        let told: Arc<Mutex<Vec<_>>> = Arc::default();
        let log = told.clone();
        let tell = move |level, what: &str| log.lock().unwrap().push((level, what.to_owned()));
        (News::new(Arc::new(tell)), told)
    }

    #[test]
    fn what_becomes_of_kept_engines_is_told_once_for_all_workers() {
        let (news, told) = news();
        let of = |event| Progress::Engine("net", "ort:tensorrt", event);
        for _ in 0..3 {
            news.step(Progress::Loading("net", "ort:tensorrt"));
            news.step(of(Event::Said("engine cache: entry damaged (a.bin); built anew")));
        }
        news.step(of(Event::Building(Some(Duration::from_millis(61_200)))));
        news.step(of(Event::Building(None)));
        news.step(of(Event::Waiting));
        news.step(Progress::Engine(
            "",
            "ort:cpu",
            Event::Said("engine cache: cannot be used: no; nothing is kept"),
        ));
        let told = told.lock().unwrap();
        let lines: Vec<(Level, &str)> = told.iter().map(|(level, what)| (*level, what.as_str())).collect();
        assert_eq!(
            lines,
            [
                (
                    Level::Warning,
                    "model net on ort:tensorrt: engine cache: entry damaged (a.bin); built anew"
                ),
                (Level::Info, "model net: building for ort:tensorrt; an earlier build took 62 s"),
                (
                    Level::Info,
                    "model net: building for ort:tensorrt; no earlier build tells how long it takes"
                ),
                (Level::Info, "model net: another process builds it for ort:tensorrt; waiting"),
                (Level::Warning, "ort:cpu: engine cache: cannot be used: no; nothing is kept"),
            ]
        );
    }

    #[test]
    fn the_reason_of_a_choice_is_told_by_stage_and_why_none_was_made_once() {
        let decided = |tuned: Option<&str>| {
            let stage = |name: &str| StageInfo {
                name: name.into(),
                kind: "classify",
                labels: Vec::new(),
                model: Some(ModelInfo {
                    sha256: String::new(),
                    network: String::new(),
                    engine: "tract/fp32".into(),
                    engine_version: String::new(),
                    nodes: Vec::new(),
                    origin: Default::default(),
                    passed_over: Vec::new(),
                    decision: Some(Decision {
                        tuned: tuned.map(str::to_owned),
                        why: "so".into(),
                        fp32_sha256: String::new(),
                    }),
                }),
            };
            let (news, told) = news();
            let stages = vec![stage("a"), stage("b")];
            news.decided("gate", &RunInfo { stages, ..RunInfo::default() });
            std::mem::take(&mut *told.lock().unwrap())
        };
        let untuned = vec![(Level::Warning, "camera gate: untuned: so".to_owned())];
        assert_eq!(decided(None), untuned);
        let of = |stage| (Level::Info, format!("camera gate: {stage}: tract/fp32 (tuning of 2030): so"));
        assert_eq!(decided(Some("2030")), [of("a"), of("b")]);
    }
}
