//! The candidates of one model on the engines themselves: each beside fp32, then all of them timed in turn.

use std::time::Instant;

use tapetum_runtime::{
    Error, Result, Tensor,
    backend::{Backend, Session},
    contract::{Contract, OutputContract, OutputKind},
    quality::Agreement,
};

use super::tuned::{Candidate, Measured, ModelOnDisk};

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

/// Judges every attempt and times those that run, `rounds` times each. `tell` is told what is being done.
pub fn measure(
    attempts: Vec<Attempt<'_>>,
    reference: &Reference<'_>,
    gate: Option<f64>,
    rounds: usize,
    working_set: u64,
    tell: &mut dyn FnMut(&str, &str),
) -> Vec<Candidate> {
    let apart = working_set.saturating_mul(attempts.len() as u64) > MOST_AT_ONCE;
    let mut out = Vec::new();
    let mut group: Vec<(Candidate, Option<Box<dyn Session>>)> = Vec::new();
    for attempt in attempts {
        if apart && group.last().is_some_and(|(last, _)| last.engine != attempt.name) {
            out.extend(time(std::mem::take(&mut group), reference.inputs, rounds));
        }
        tell(attempt.engine.full_name(), attempt.precision);
        group.push(judged(attempt, reference, gate));
    }
    out.extend(time(group, reference.inputs, rounds));
    out
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
        rounds: 0,
        figures: Vec::new(),
        passed: false,
        why_not: None,
    };
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

/// Runs all sessions of `group` in turn, so that what the machine does meanwhile meets all alike, and notes their medians.
/// The runs of judging have warmed them.
fn time(
    mut group: Vec<(Candidate, Option<Box<dyn Session>>)>,
    inputs: &[&[Tensor]],
    rounds: usize,
) -> Vec<Candidate> {
    let mut times = vec![Vec::with_capacity(rounds); group.len()];
    let mut given = Vec::new();
    for input in inputs.iter().cycle().take(rounds) {
        for ((candidate, slot), times) in group.iter_mut().zip(&mut times) {
            let Some(session) = slot else { continue };
            let begun = Instant::now();
            let ran = session.run_into(input, &mut given);
            times.push(begun.elapsed().as_secs_f64() * 1e3);
            if let Err(e) = ran {
                candidate.why_not = Some(e.to_string());
                candidate.passed = false;
                (*slot, *times) = (None, Vec::new());
            }
        }
    }
    let timed = group.into_iter().zip(times).map(|((mut candidate, _), mut times)| {
        candidate.rounds = times.len();
        candidate.ms_median = median(&mut times);
        candidate
    });
    timed.collect()
}

/// The middle value; of an even number the lower of both.
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
