//! From a deployed model to its int8 form, file to file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tapetum_runtime::backend::Precision;
use tapetum_runtime::contract::Quantization;
use tapetum_runtime::quality::Figure;
use tapetum_runtime::{Error, ErrorKind, Result, Tensor};

use super::emit::{emit, rows};
use super::groups::Groups;
use super::judge::Judge;
use super::layers::{self, Target};
use super::observe::{Observed, observe, shapes};
use super::opset;
use super::range::{Range, Scale};
use super::round::{Rounded, round};
use super::rung::{Source, Split, measured, write};
use super::sensitivity::Found;
use super::{Layer, QuantizeOptions, Quantized, Step, equalise, sensitivity, two_classes};
use crate::fuse::Place;
use crate::graph::Graph;

/// Least share of the work that must be left in int8: with less, fp32 is simpler and hardly slower.
const LEAST_IN_INT8: f64 = 0.5;

/// A model with everything that its int8 form is made of.
struct Prepared {
    graph: Graph,
    layers: Vec<Target>,
    rounded: Vec<Rounded>,
    observed: Observed,
    range: Range,
    /// Graph inputs that come from bytes.
    bytes: BTreeMap<String, Scale>,
}

impl Prepared {
    fn new(
        source: &Source,
        graph: Graph,
        layers: &[Target],
        samples: &[&[Tensor]],
        range: Range,
        tell: &mut dyn FnMut(Step<'_>),
    ) -> Result<Self> {
        let all: Vec<&Target> = layers.iter().collect();
        let values: BTreeSet<String> = Groups::of(&graph, &all).values().map(str::to_owned).collect();
        let mut tick = |done, of| tell(Step::Calibrating { done, of });
        let observed = observe(source.engine, &graph, layers, &values, samples, range, &mut tick)?;
        let mut rounded = Vec::with_capacity(layers.len());
        for (done, layer) in layers.iter().enumerate() {
            tell(Step::Rounding { done, of: layers.len() });
            let gone = || Error::internal(format!("layer {:?} was not observed", layer.name));
            let weights = graph.dense(&layer.weight).ok_or_else(gone)?;
            let (rows, channels) = rows(weights, &layer.form)?;
            rounded.push(round(&rows, channels, observed.statistics.get(&layer.name).ok_or_else(gone)?));
        }
        let input = &source.contract.input;
        let same = |v: &[f32]| v.first().copied().filter(|first| v.iter().all(|x| x == first));
        let bytes = match (same(&input.mean), same(&input.std)) {
            (Some(mean), Some(std)) => Scale::of_bytes(input.scale, mean, std),
            _ => None,
        };
        let bytes = bytes.map(|scale| (input.name.clone(), scale)).into_iter().collect();
        Ok(Self { graph, layers: layers.to_vec(), rounded, observed, range, bytes })
    }

    /// The graph with the layers in int8 for which `chosen` holds.
    fn emit(&self, chosen: impl Fn(usize) -> bool) -> Result<Graph> {
        let layers: Vec<(&Target, &Rounded)> = self
            .layers
            .iter()
            .zip(&self.rounded)
            .enumerate()
            .filter(|(n, _)| chosen(*n))
            .map(|(_, l)| l)
            .collect();
        let targets: Vec<&Target> = layers.iter().map(|(l, _)| *l).collect();
        let groups = Groups::of(&self.graph, &targets);
        let mut seen = BTreeMap::new();
        let mut exact = BTreeMap::new();
        for value in groups.values() {
            let Some(group) = groups.group(value) else { continue };
            match (self.bytes.get(value), self.observed.seen.get(value)) {
                (Some(scale), _) => _ = exact.insert(group.to_owned(), *scale),
                (None, Some(have)) => match seen.get_mut(group) {
                    None => _ = seen.insert(group.to_owned(), have.clone()),
                    Some(all) => *all = have.with(all),
                },
                (None, None) => {
                    return Err(Error::internal(format!("value {value:?} was not observed")));
                }
            }
        }
        let mut scales: BTreeMap<String, Scale> =
            seen.into_iter().map(|(group, seen)| (group, seen.scale(self.range))).collect();
        scales.extend(exact);
        emit(&self.graph, &layers, &groups, &scales)
    }
}

/// Quantizes `model` by `samples` of its inputs and writes `output`: static int8, held against fp32 on every second sample,
/// with as many layers left in fp32 as it takes to pass. Nothing is written that does not pass.
///
/// # Errors
/// [`ErrorKind::ProofFailed`] with the figure if the gate is not reached with half of the work in int8;
/// [`ErrorKind::BadFile`] if the model is not sound or carries no contract; [`ErrorKind::InvalidConfig`] for fewer than two
/// samples or a layer to keep that is not there; the engine's own.
pub fn quantize(
    model: &Path,
    output: &Path,
    samples: &[Vec<Tensor>],
    options: &QuantizeOptions,
    tell: &mut dyn FnMut(Step<'_>),
) -> Result<Quantized> {
    let place = Place::beside(output)?;
    let split = Split::of(samples)?;
    let mut source = Source::read(model, options)?;
    opset::upgrade(&mut source.graph).map_err(|e| e.at(model.display()))?;
    let reference = source.graph.clone();
    two_classes::join(&mut source.graph)?;
    let first: Vec<Vec<usize>> = split.calibrate[0].iter().map(|t| t.shape().to_vec()).collect();
    let (found, small) = layers::find(&source.graph, &shapes(&source.graph, &first));
    check_names(&source.graph, &options.keep)?;
    let (kept, layers): (Vec<Target>, Vec<Target>) =
        found.into_iter().partition(|l| options.keep.contains(&l.name));
    if layers.is_empty() {
        let message =
            "has no layer that could be quantized: no convolution or matrix product with stored weights";
        return Err(Error::unsupported(format!("{} {message}", model.display())));
    }
    let mut judge =
        Judge::new(source.engine, &reference, &source.contract, options.gate, split.judge.clone())?;
    let graph = source.graph.clone();
    let mut best = Prepared::new(&source, graph, &layers, &split.calibrate, options.range, tell)?;
    let mut equalised = false;
    if options.equalise
        && let Some(graph) = equalise::equalise(&source.graph, &layers)?
    {
        let other = Prepared::new(&source, graph, &layers, &split.calibrate, options.range, tell)?;
        if judge.damage(&other.emit(|_| true)?)? < judge.damage(&best.emit(|_| true)?)? {
            (best, equalised) = (other, true);
        }
    }
    let (given_up, figures) = choose(&best, &mut judge, tell)
        .map_err(|e| e.at(format!("{}: {} was not written", model.display(), output.display())))?;
    let quantized = best.emit(|n| !given_up.contains_key(&n))?;
    let described = |l: &Target, why: Option<&str>| Layer {
        name: l.name.clone(),
        op: l.op.clone(),
        macs: l.macs,
        kept: why.map(str::to_owned),
    };
    let mut all: Vec<(usize, Layer)> = Vec::new();
    all.extend(
        layers.iter().enumerate().map(|(n, l)| (l.at, described(l, given_up.get(&n).map(String::as_str)))),
    );
    all.extend(kept.iter().map(|l| (l.at, described(l, Some("told to")))));
    all.extend(small.iter().map(|l| (l.at, described(l, Some("too little work to be worth it")))));
    all.sort_by_key(|(at, _)| *at);
    let layers: Vec<Layer> = all.into_iter().map(|(_, l)| l).collect();
    let record = Quantization {
        precision: Precision::Int8,
        from: source.sha256.clone(),
        engine: source.engine.probe()?,
        range: Some(range_name(options.range)),
        equalised,
        kept: layers.iter().filter(|l| l.kept.is_some()).map(|l| l.name.clone()).collect(),
        calibrated: split.calibrate.len(),
        judged: judge.samples(),
        figures: measured(&figures),
    };
    drop(judge);
    let bytes = write(&source, quantized, record, &place, output, split.judge[0])?;
    tell(Step::Written(output));
    Ok(Quantized {
        figures,
        layers,
        equalised,
        calibrated: split.calibrate.len(),
        judged: split.judge.len(),
        engine: source.engine.probe()?,
        bytes_before: source.bytes,
        bytes,
    })
}

/// The layers that have to stay in fp32 by their number, with the reason, and the figures that are reached so.
fn choose(
    prepared: &Prepared,
    judge: &mut Judge<'_>,
    tell: &mut dyn FnMut(Step<'_>),
) -> Result<(BTreeMap<usize, String>, Vec<Figure>)> {
    let count = prepared.layers.len();
    tell(Step::Judging { layer: None, done: 0, of: 1 });
    let all = judge.figures(&prepared.emit(|_| true)?)?;
    if all.iter().all(Figure::passes) {
        return Ok((BTreeMap::new(), all));
    }
    let mut damage = Vec::with_capacity(count);
    for (n, layer) in prepared.layers.iter().enumerate() {
        tell(Step::Judging { layer: Some(&layer.name), done: n, of: count });
        damage.push(judge.damage(&prepared.emit(|m| m == n)?)?);
    }
    let total: f64 = prepared.layers.iter().map(|l| l.macs as f64).sum();
    let share: Vec<f64> = prepared.layers.iter().map(|l| l.macs as f64 / total.max(1.0)).collect();
    let order = sensitivity::order(&damage, &share);
    let mut work = 0.0;
    let affordable = order.iter().take_while(|n| {
        work += share[**n];
        work <= 1.0 - LEAST_IN_INT8
    });
    let most = affordable.count().min(count.saturating_sub(1));
    let mut tried = 0;
    let found = sensitivity::fewest(most, &mut |number| {
        tried += 1;
        tell(Step::Judging { layer: None, done: tried, of: tried + 1 });
        judge.figures(&prepared.emit(|n| !order[..number].contains(&n))?)
    })?;
    match found {
        Found::Enough(number, figures) => {
            let why = |n: usize| format!("alone it makes an error of {:.2e} of the output", damage[n].sqrt());
            Ok((order[..number].iter().map(|&n| (n, why(n))).collect(), figures))
        }
        Found::None(best) => {
            let best = if best.is_empty() { all } else { best };
            let failed = best.iter().filter(|f| !f.passes());
            let figures: Vec<String> = failed.map(|f| format!("output {:?}: {f}", f.output)).collect();
            Err(Error::new(
                ErrorKind::ProofFailed,
                format!(
                    "int8 does not pass, even with the {most} most sensitive of {count} layers in fp32: {}; keep fp32, or \
                     calibrate with more and more typical frames",
                    figures.join("; ")
                ),
            ))
        }
    }
}

fn check_names(graph: &Graph, keep: &[String]) -> Result<()> {
    let unknown: Vec<String> = keep
        .iter()
        .filter(|name| !graph.nodes.iter().any(|n| n.name == **name))
        .map(|name| {
            let near = graph.nodes.iter().max_by(|a, b| {
                let like = |n: &str| strsim::jaro_winkler(n, name);
                like(&a.name).total_cmp(&like(&b.name))
            });
            let hint = near.map(|n| format!("; did you mean {:?}?", n.name)).unwrap_or_default();
            format!("there is no layer {name:?} to keep{hint}")
        })
        .collect();
    if unknown.is_empty() { Ok(()) } else { Err(Error::config(unknown.join("\n"))) }
}

fn range_name(range: Range) -> String {
    match range {
        Range::MinMax => "minmax".into(),
        Range::Percentile(share) => format!("percentile {share}"),
        Range::Entropy => "entropy".into(),
    }
}
