//! The candidates of one model on the engines themselves: each beside fp32, then all of them timed in turn.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use tapetum_runtime::{
    Error, ErrorKind, Result, Tensor,
    backend::{Backend, Session},
    contract::{Contract, OutputContract, OutputKind},
    latency::Histogram,
    quality::Agreement,
};

use super::{
    memory::Watch,
    tuned::{Candidate, Measured, ModelOnDisk},
};

/// Bytes between the layers of all sessions at once, from which on engines are timed one after the other instead of in
/// turn.
const MOST_AT_ONCE: u64 = 4 << 30;

/// A candidate that is to be measured.
pub struct Attempt<'a> {
    pub engine: &'static dyn Backend,
    /// As asked for, and as stated.
    pub name: &'a str,
    pub precision: &'static str,
    pub file: Option<ModelOnDisk>,
    /// A session, or why there is none: the file could not be made, the engine cannot run it.
    pub load: Box<dyn FnOnce() -> std::result::Result<Box<dyn Session>, String> + 'a>,
}

/// What fp32 gave for the held-back inputs.
pub struct Reference<'a> {
    inputs: &'a [&'a [Tensor]],
    /// Those that have a meaning.
    outputs: Vec<&'a OutputContract>,
    /// By input, then by output.
    values: Vec<Vec<Tensor>>,
}

impl<'a> Reference<'a> {
    /// Runs `session`, the model of `contract` in fp32, on `inputs`.
    ///
    /// # Errors
    /// What the session says.
    pub fn new(
        session: &mut dyn Session,
        contract: &'a Contract,
        inputs: &'a [&'a [Tensor]],
    ) -> Result<Self> {
        let outputs: Vec<&OutputContract> =
            contract.outputs.iter().filter(|o| !matches!(o.kind, OutputKind::Aux)).collect();
        let places = places(session, &outputs)?;
        let mut given = Vec::new();
        let values = inputs.iter().map(|input| {
            session.run_into(input, &mut given)?;
            Ok(places.iter().map(|at| given[*at].clone()).collect())
        });
        let values = values.collect::<Result<_>>()?;
        Ok(Self { inputs, outputs, values })
    }

    /// Every output of `session` beside fp32.
    fn judge(&self, session: &mut dyn Session) -> Result<Vec<Measured>> {
        let places = places(session, &self.outputs)?;
        let mut agreements: Vec<Agreement> = self.outputs.iter().map(|o| Agreement::new(o)).collect();
        let mut given = Vec::new();
        for (input, want) in self.inputs.iter().zip(&self.values) {
            session.run_into(input, &mut given)?;
            for ((agreement, want), at) in agreements.iter_mut().zip(want).zip(&places) {
                agreement.add(want, &given[*at])?;
            }
        }
        Ok(agreements.iter().filter_map(Agreement::figure).map(|figure| Measured::from(&figure)).collect())
    }
}

/// Where `outputs` are among those of `session`.
fn places(session: &dyn Session, outputs: &[&OutputContract]) -> Result<Vec<usize>> {
    let place = |o: &&OutputContract| session.outputs().iter().position(|p| p.name == o.name);
    let gone = |o: &OutputContract| Error::bad_file(format!("the model has no output {:?}", o.name));
    outputs.iter().map(|o| place(o).ok_or_else(|| gone(o))).collect()
}

/// How often, and until when.
pub struct Rounds<'a> {
    /// Runs of each candidate.
    pub of_each: usize,
    /// Set to end it.
    pub stop: &'a AtomicBool,
}

impl Rounds<'_> {
    /// # Errors
    /// [`ErrorKind::Environment`]: it was set.
    pub fn go_on(&self) -> Result<()> {
        match self.stop.load(Ordering::SeqCst) {
            true => {
                Err(Error::new(ErrorKind::Environment, "interrupted: nothing was kept of what was measured"))
            }
            false => Ok(()),
        }
    }
}

/// Judges every attempt and times those that run; their order stays. `tell` is told what is being done.
///
/// # Errors
/// It was interrupted.
pub fn measure(
    attempts: Vec<Attempt<'_>>,
    reference: &Reference<'_>,
    gate: Option<f64>,
    rounds: &Rounds<'_>,
    working_set: u64,
    tell: &mut dyn FnMut(&str, &str),
) -> Result<Vec<Candidate>> {
    let apart = working_set.saturating_mul(attempts.len() as u64) > MOST_AT_ONCE;
    let mut out = Vec::new();
    let mut group: Vec<(Candidate, Option<Box<dyn Session>>)> = Vec::new();
    for attempt in attempts {
        if apart && group.last().is_some_and(|(last, _)| last.engine != attempt.name) {
            out.extend(time(std::mem::take(&mut group), reference.inputs, rounds)?);
        }
        rounds.go_on()?;
        tell(attempt.engine.full_name(), attempt.precision);
        group.push(judged(attempt, reference, gate));
    }
    out.extend(time(group, reference.inputs, rounds)?);
    Ok(out)
}

/// One attempt with its figures; no session if it cannot be timed.
fn judged(
    attempt: Attempt<'_>,
    reference: &Reference<'_>,
    gate: Option<f64>,
) -> (Candidate, Option<Box<dyn Session>>) {
    let mut candidate = Candidate {
        engine: attempt.name.to_owned(),
        precision: attempt.precision.to_owned(),
        file: attempt.file,
        ms_median: None,
        ms_p90: None,
        ms_p99: None,
        ms_max: None,
        rounds: 0,
        memory_bytes: None,
        memory_peak_bytes: None,
        figures: Vec::new(),
        passed: false,
        why_not: None,
    };
    let watch = Watch::start();
    let ran = (attempt.load)().and_then(|mut session| {
        let figures = reference.judge(&mut *session).map_err(|e| e.to_string())?;
        Ok((session, figures))
    });
    match ran {
        Err(why) => {
            candidate.why_not = Some(why);
            (candidate, None)
        }
        Ok((session, figures)) => {
            let taken = watch.and_then(|watch| watch.taken());
            candidate.memory_bytes = taken.map(|taken| taken.kept);
            candidate.memory_peak_bytes = taken.and_then(|taken| taken.peak);
            let failed: Vec<String> =
                figures.iter().filter(|f| !f.passes(gate)).map(|f| f.told(gate)).collect();
            candidate.passed = failed.is_empty() && !figures.is_empty();
            candidate.why_not = match (candidate.passed, failed.is_empty()) {
                (true, _) => None,
                (false, true) => Some("no output has a meaning that it could be judged by".to_owned()),
                (false, false) => Some(failed.join("; ")),
            };
            candidate.figures = figures;
            (candidate, Some(session))
        }
    }
}

/// Runs all sessions of `group` in turn, so that what the machine does meanwhile meets all alike, and notes their times.
/// Each round begins with another one: none always has the same before it. The runs of judging have warmed them.
fn time(
    mut group: Vec<(Candidate, Option<Box<dyn Session>>)>,
    inputs: &[&[Tensor]],
    rounds: &Rounds<'_>,
) -> Result<Vec<Candidate>> {
    let mut times = vec![Times::default(); group.len()];
    let mut given = Vec::new();
    for (round, input) in inputs.iter().cycle().take(rounds.of_each).enumerate() {
        for n in 0..group.len() {
            rounds.go_on()?;
            let at = (n + round) % group.len();
            let (candidate, slot) = &mut group[at];
            let Some(session) = slot else { continue };
            let begun = Instant::now();
            let ran = session.run_into(input, &mut given);
            let took = begun.elapsed();
            times[at].all.push(took.as_secs_f64() * 1e3);
            times[at].histogram.record(took);
            if let Err(e) = ran {
                candidate.why_not = Some(e.to_string());
                candidate.passed = false;
                (*slot, times[at]) = (None, Times::default());
            }
        }
    }
    let timed = group.into_iter().zip(times).map(|((mut candidate, _), mut times)| {
        let ms = |q| times.histogram.quantile(q).map(|t| t.as_secs_f64() * 1e3);
        candidate.rounds = times.all.len();
        (candidate.ms_p90, candidate.ms_p99) = (ms(0.9), ms(0.99));
        candidate.ms_median = median(&mut times.all);
        candidate.ms_max = times.all.last().copied();
        candidate
    });
    Ok(timed.collect())
}

/// Of one candidate: each, since the choice is among medians that lie close together, and their distribution.
#[derive(Clone, Default)]
struct Times {
    all: Vec<f64>,
    histogram: Histogram,
}

/// Sorts `values` and returns the middle one; of an even number the lower of both.
fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_what_was_measured() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0]), Some(3.0));
        assert_eq!(median(&mut [9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [9.0, 1.0, 2.0, 3.0]), Some(2.0));
    }
}
