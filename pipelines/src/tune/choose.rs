//! From figures to a choice: per model the fastest that passes, per pipeline the engine that needs the least time.

use super::tuned::{Candidate, Chosen, ChosenModel, ModelMeasured, Tuned};

/// A less precise candidate must need at most this share of the time of a more precise one: timings vary by as much.
const WORTH: f64 = 0.97;

/// What may be chosen.
pub struct Allowed<'a> {
    /// Engines, the more wanted first.
    pub engines: &'a [String],
    /// Whether anything but fp32 may be.
    pub lower: bool,
    /// Gate of the model of this name, if its pipeline file says one.
    pub gate: &'a dyn Fn(&str) -> Option<f64>,
}

/// The engine that needs the least time for all models, each in the fastest precision that passes its gate; of equals the
/// more wanted.
///
/// fp32 is what the others are held against, so it needs no figure. A model that never ran was not measured: it stays in
/// fp32 and counts no time.
///
/// # Errors
/// For people: why none of the engines can be chosen.
pub fn choose(tuned: &Tuned, allowed: &Allowed<'_>) -> Result<Chosen, String> {
    let mut best: Option<Chosen> = None;
    let mut reasons = Vec::new();
    for engine in allowed.engines {
        match on(engine, tuned, allowed) {
            Ok(found) if best.as_ref().is_none_or(|b| found.total_ms < b.total_ms) => best = Some(found),
            Ok(_) => {}
            Err(why) => reasons.push(format!("{engine}: {why}")),
        }
    }
    best.ok_or_else(|| reasons.join("; "))
}

/// The best that `engine` can do.
fn on(engine: &str, tuned: &Tuned, allowed: &Allowed<'_>) -> Result<Chosen, String> {
    match tuned.engines.iter().find(|e| e.engine == engine) {
        None => return Err("was not measured".to_owned()),
        Some(measured) => measured.why_not.clone().map_or(Ok(()), Err)?,
    }
    let mut chosen = Chosen { engine: engine.to_owned(), total_ms: 0.0, models: Vec::new() };
    for model in &tuned.models {
        let name = model.name.clone();
        if model.candidates.is_empty() {
            let why = "it never ran on the frames it was measured on".to_owned();
            chosen.models.push(ChosenModel { name, precision: "fp32".to_owned(), why });
            continue;
        }
        let of_engine: Vec<&Candidate> = model.candidates.iter().filter(|c| c.engine == engine).collect();
        let gate = (allowed.gate)(&model.name);
        let (picked, ms) = fastest(&of_engine, allowed.lower, gate).ok_or_else(|| {
            let fp32 = of_engine.iter().find(|c| c.precision == "fp32");
            let why = fp32.and_then(|c| c.why_not.as_deref()).unwrap_or("nothing was measured");
            format!("model {name:?}: {why}")
        })?;
        chosen.total_ms += ms * model.runs as f64;
        let why = reason(picked, &of_engine, allowed.lower, gate);
        chosen.models.push(ChosenModel { name, precision: picked.precision.clone(), why });
    }
    Ok(chosen)
}

/// The fastest of `candidates`, which come the more precise first, with its time.
fn fastest<'c>(candidates: &[&'c Candidate], lower: bool, gate: Option<f64>) -> Option<(&'c Candidate, f64)> {
    let mut best: Option<(&Candidate, f64)> = None;
    for &candidate in candidates {
        let Some(ms) = candidate.ms_median.filter(|_| may(candidate, lower, gate).is_ok()) else { continue };
        if best.is_none_or(|(_, least)| ms < least * WORTH) {
            best = Some((candidate, ms));
        }
    }
    best
}

/// Whether the candidate passes, or why not.
fn may(candidate: &Candidate, lower: bool, gate: Option<f64>) -> Result<(), String> {
    if candidate.ms_median.is_none() {
        return Err(candidate.why_not.clone().unwrap_or_else(|| "was not timed".to_owned()));
    }
    if candidate.precision == "fp32" {
        return Ok(());
    }
    if !lower {
        return Err("not asked for".to_owned());
    }
    let failed = candidate.figures.iter().find(|figure| !figure.passes(gate));
    match (failed, candidate.figures.is_empty()) {
        (Some(figure), _) => Err(figure.told(gate)),
        (None, true) => Err("no output has a meaning that it could be judged by".to_owned()),
        (None, false) => Ok(()),
    }
}

/// Why `picked` was picked among `candidates`, with the figures.
fn reason(picked: &Candidate, candidates: &[&Candidate], lower: bool, gate: Option<f64>) -> String {
    let time = |c: &Candidate| c.ms_median.map(|ms| format!("{ms:.2} ms")).unwrap_or_default();
    let mut why = time(picked);
    if picked.precision != "fp32" {
        if let Some(fp32) = candidates.iter().find(|c| c.precision == "fp32" && c.ms_median.is_some()) {
            why.push_str(&format!(", fp32 {}", time(fp32)));
        }
        let figures: Vec<String> = picked.figures.iter().map(|f| f.told(gate)).collect();
        why.push_str(&format!("; {}", figures.join(", ")));
    }
    for other in
        candidates.iter().filter(|c| lower && c.precision != "fp32" && c.precision != picked.precision)
    {
        let told = match may(other, lower, gate) {
            Ok(()) => format!("passes, {}", time(other)),
            Err(why) => why,
        };
        why.push_str(&format!("; {}: {told}", other.precision));
    }
    why
}

/// What of `model` was measured on `engine` in `precision`.
pub fn candidate<'t>(model: &'t ModelMeasured, engine: &str, precision: &str) -> Option<&'t Candidate> {
    model.candidates.iter().find(|c| c.engine == engine && c.precision == precision)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Machine,
            tuned::{EngineMeasured, Measured, VERSION},
        },
        *,
    };

    /// Engine, precision, time, mask IoU.
    type Row = (&'static str, &'static str, Option<f64>, f64);

    fn model(name: &str, runs: u64, rows: &[Row]) -> ModelMeasured {
        let candidates = rows.iter().map(|(engine, precision, ms, iou)| Candidate {
            engine: (*engine).to_owned(),
            precision: (*precision).to_owned(),
            file: None,
            ms_median: *ms,
            ms_p90: *ms,
            ms_p99: *ms,
            ms_max: *ms,
            rounds: 5,
            memory_bytes: None,
            memory_peak_bytes: None,
            figures: vec![Measured {
                output: "mask".into(),
                metric: "mask IoU".into(),
                value: Some(*iou),
                worst: None,
                gate: 0.99,
                trouble: None,
            }],
            passed: *iou >= 0.99,
            why_not: ms.is_none().then(|| "no such operator".to_owned()),
        });
        let candidates = candidates.collect();
        let (name, sha256) = (name.into(), "0".repeat(64));
        ModelMeasured { name, sha256, runs, judged: 8, threads: 1, macs: None, candidates }
    }

    fn tuned(models: Vec<ModelMeasured>) -> Tuned {
        let engine = |name: &str| EngineMeasured {
            engine: name.into(),
            engine_version: Some(format!("{name} 1")),
            runs_with: Default::default(),
            why_not: None,
        };
        Tuned {
            version: VERSION,
            tapetum: "0".into(),
            date: "2030-01-01T00:00:00Z".into(),
            pipeline: "p".into(),
            source: "s".into(),
            machine: Machine { cpu: "c".into(), arch: "a".into(), cores: 2, gpus: Vec::new() },
            engine_options: String::new(),
            reference: "a 1".into(),
            engines: vec![engine("a"), engine("b")],
            models,
            chosen: None,
        }
    }

    fn chosen(tuned: &Tuned, engines: &[&str], lower: bool, gate: Option<f64>) -> Result<Chosen, String> {
        let engines: Vec<String> = engines.iter().map(|e| (*e).to_owned()).collect();
        choose(tuned, &Allowed { engines: &engines, lower, gate: &|_| gate })
    }

    fn precisions(chosen: &Chosen) -> Vec<&str> {
        chosen.models.iter().map(|m| m.precision.as_str()).collect()
    }

    #[test]
    fn the_fastest_that_passes_is_taken_and_the_reason_holds_the_figures() {
        let rows: &[Row] = &[
            ("a", "fp32", Some(10.0), 1.0),
            ("a", "bf16", Some(6.0), 0.995),
            ("a", "int8", Some(4.0), 0.97),
        ];
        let got = chosen(&tuned(vec![model("net", 3, rows)]), &["a"], true, None).unwrap();
        assert_eq!((precisions(&got), got.total_ms), (vec!["bf16"], 18.0));
        assert_eq!(
            got.models[0].why,
            "6.00 ms, fp32 10.00 ms; mask IoU 0.9950 (gate 0.99); int8: mask IoU 0.9700 (gate 0.99)"
        );
    }

    #[test]
    fn a_gate_of_the_file_counts_instead_of_the_metrics_own() {
        let rows: &[Row] = &[("a", "fp32", Some(10.0), 1.0), ("a", "int8", Some(4.0), 0.97)];
        let tuned = tuned(vec![model("net", 1, rows)]);
        assert_eq!(precisions(&chosen(&tuned, &["a"], true, Some(0.95)).unwrap()), ["int8"]);
        let strict = chosen(&tuned, &["a"], true, Some(0.98)).unwrap();
        assert_eq!(precisions(&strict), ["fp32"]);
        assert!(strict.models[0].why.ends_with("int8: mask IoU 0.9700 (gate 0.98)"), "{strict:?}");
    }

    #[test]
    fn of_equals_the_more_precise_and_the_more_wanted_win() {
        // 3 % are less than timings vary by.
        let rows: &[Row] =
            &[("a", "fp32", Some(10.0), 1.0), ("a", "int8", Some(9.8), 1.0), ("b", "fp32", Some(10.0), 1.0)];
        let tuned = tuned(vec![model("net", 1, rows)]);
        let got = chosen(&tuned, &["b", "a"], true, None).unwrap();
        assert_eq!((got.engine.as_str(), precisions(&got)), ("b", vec!["fp32"]));
        let got = chosen(&tuned, &["a", "b"], true, None).unwrap();
        assert_eq!((got.engine.as_str(), precisions(&got)), ("a", vec!["fp32"]));
        assert!(got.models[0].why.contains("int8: passes, 9.80 ms"), "{got:?}");
    }

    #[test]
    fn nothing_that_passes_leaves_fp32_whatever_its_figure_is() {
        let rows: &[Row] = &[("a", "fp32", Some(10.0), 0.5), ("a", "int8", Some(1.0), 0.98)];
        let tuned = tuned(vec![model("net", 1, rows)]);
        assert_eq!(precisions(&chosen(&tuned, &["a"], true, None).unwrap()), ["fp32"]);
    }

    #[test]
    fn engines_are_weighed_by_how_often_each_model_ran() {
        let models = |first, second| {
            let rows: &[Row] = &[("a", "fp32", Some(1.0), 1.0), ("b", "fp32", Some(3.0), 1.0)];
            let other: &[Row] = &[("a", "fp32", Some(30.0), 1.0), ("b", "int8", Some(10.0), 1.0)];
            tuned(vec![model("often", first, rows), model("rare", second, other)])
        };
        let got = chosen(&models(100, 1), &["a", "b"], true, None).unwrap();
        assert_eq!((got.engine.as_str(), got.total_ms), ("a", 130.0));
        let got = chosen(&models(10, 10), &["a", "b"], true, None).unwrap();
        assert_eq!((got.engine.as_str(), precisions(&got)), ("b", vec!["fp32", "int8"]));
        // Without lower precisions engine b cannot run the second model at all.
        let got = chosen(&models(10, 10), &["a", "b"], false, None).unwrap();
        assert_eq!((got.engine.as_str(), got.total_ms), ("a", 310.0));
    }

    #[test]
    fn engines_that_cannot_run_a_model_or_were_not_measured_are_told() {
        let rows: &[Row] = &[("a", "fp32", None, 1.0), ("b", "fp32", Some(3.0), 1.0)];
        let tuned = tuned(vec![model("net", 1, rows)]);
        assert_eq!(chosen(&tuned, &["a", "b"], true, None).unwrap().engine, "b");
        let why = chosen(&tuned, &["a", "c"], true, None).unwrap_err();
        assert_eq!(why, "a: model \"net\": no such operator; c: was not measured");
    }

    #[test]
    fn a_model_that_never_ran_stays_in_fp32() {
        let rows: &[Row] = &[("a", "fp32", Some(2.0), 1.0), ("a", "int8", Some(1.0), 1.0)];
        let got =
            chosen(&tuned(vec![model("net", 4, rows), model("idle", 0, &[])]), &["a"], true, None).unwrap();
        assert_eq!((precisions(&got), got.total_ms), (vec!["int8", "fp32"], 4.0));
    }
}
