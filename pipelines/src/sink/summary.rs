//! `summary.json`: what a run came to.

use tapetum_runtime::{finding::Tiles, latency::Histogram};

use super::{
    json::{Json, thousandths},
    jsonl::milliseconds,
};
use crate::{RunInfo, Summary, engine_cache::Origin, engine_fault::EngineFaults, stage::BreakUpTime};

/// Writes `summary` as one object and a line end.
pub(super) fn write(json: &mut Json, run: &RunInfo, summary: &Summary) {
    json.object(|json| {
        json.key("pipeline").string(&run.pipeline);
        json.key("source").string(&run.source);
        json.key("digest").string(&run.digest);
        json.key("interrupted").boolean(summary.interrupted);
        json.key("frames").object(|json| {
            let frames = &summary.frames;
            json.key("captured").integer(frames.captured);
            json.key("delivered").integer(frames.delivered);
            json.key("dropped")
                .object(|json| frames.dropped.iter().for_each(|(why, n)| json.key(why).integer(*n)));
            json.key("failed")
                .object(|json| frames.failed.iter().for_each(|(why, n)| json.key(why).integer(*n)));
        });
        json.key("seconds").number(summary.elapsed.as_secs_f64());
        json.key("fps").maybe(fps(summary).map(thousandths));
        json.key("end_to_end").object(|json| percentiles(json, &summary.end_to_end));
        json.key("stages").object(|json| {
            for (stage, times) in run.stages.iter().zip(&summary.stages) {
                json.key(&stage.name).object(|json| {
                    percentiles(json, times);
                    json.key("runs").integer(times.count());
                });
            }
        });
        json.key("restored").object(|json| {
            for (stage, done) in run.stages.iter().zip(&summary.restored).filter(|(_, r)| r.frames > 0) {
                json.key(&stage.name).object(|json| {
                    json.key("frames").integer(done.frames);
                    json.key("tiles").object(|json| tiles(json, done.tiles));
                    json.key("mean_kept").maybe(done.mean_kept());
                });
            }
        });
        json.key("engine_faults").object(|json| {
            let faults = run.stages.iter().zip(&summary.engine_faults);
            for (stage, faults) in faults.filter(|(_, f)| !f.events.is_empty()) {
                json.key(&stage.name).object(|json| engine_faults(json, faults));
            }
        });
        json.key("models").object(|json| {
            for (stage, model) in run.stages.iter().filter_map(|s| Some((s, s.model.as_ref()?))) {
                json.key(&stage.name).object(|json| {
                    json.key("sha256").string(&model.sha256);
                    json.key("network").string(&model.network);
                    json.key("engine").string(&model.engine);
                    json.key("engine_version").string(&model.engine_version);
                    json.key("nodes").object(|json| nodes(json, &model.nodes));
                    json.key("engine_cache");
                    match model.origin {
                        Origin::Unkept => json.null(),
                        Origin::Built { .. } => json.string("built"),
                        Origin::Found { .. } => json.string("found"),
                    }
                    json.key("passed_over").array(|json| {
                        for passed in &model.passed_over {
                            json.object(|json| {
                                json.key("engine").string(&passed.engine);
                                json.key("why").string(&passed.why);
                            });
                        }
                    });
                    json.key("decision");
                    match &model.decision {
                        None => json.null(),
                        Some(decision) => json.object(|json| {
                            json.key("tuned");
                            match &decision.tuned {
                                Some(date) => json.string(date),
                                None => json.null(),
                            }
                            json.key("why").string(&decision.why);
                            json.key("fp32_sha256").string(&decision.fp32_sha256);
                        }),
                    }
                });
            }
        });
        json.key("stamps").object(|json| {
            json.key("missing").integer(summary.stamps.missing);
            json.key("backwards").integer(summary.stamps.backwards);
            json.key("jumps").integer(summary.stamps.jumps);
        });
        json.key("lost_by_source").object(|json| {
            json.key("packets").integer(summary.losses.packets);
            json.key("frames").integer(summary.losses.frames);
            json.key("damaged").integer(summary.losses.damaged);
            json.key("overtaken").integer(summary.losses.overtaken);
        });
        json.key("break_up_time");
        match &summary.break_up_time {
            Some(times) => break_up_time(json, times),
            None => json.null(),
        }
    });
    json.end_line();
}

fn engine_faults(json: &mut Json, faults: &EngineFaults) {
    json.key("restarts").integer(faults.restarts);
    json.key("events").array(|json| {
        for event in &faults.events {
            json.object(|json| {
                json.key("frame").integer(event.frame);
                json.key("change").string(event.change.name());
                json.key("engine").string(&event.engine);
                json.key("why").string(&event.why);
                if let Some(successor) = &event.successor {
                    json.key("engine_version").string(&successor.version);
                    json.key("nodes").object(|json| nodes(json, &successor.nodes));
                }
            });
        }
    });
}

/// How many nodes of a model each provider got.
fn nodes(json: &mut Json, of: &[(String, usize)]) {
    of.iter().for_each(|(provider, nodes)| json.key(provider).integer(*nodes as u64));
}

/// What became of the tiles of restored pictures.
pub(super) fn tiles(json: &mut Json, tiles: Tiles) {
    json.key("run").integer(tiles.run);
    json.key("sharp").integer(tiles.sharp);
    json.key("still").integer(tiles.still);
    json.key("reused").integer(tiles.reused);
}

/// Frames delivered per second of the run.
pub(super) fn fps(summary: &Summary) -> Option<f64> {
    let seconds = summary.elapsed.as_secs_f64();
    (seconds > 0.0).then(|| summary.frames.delivered as f64 / seconds)
}

fn percentiles(json: &mut Json, times: &Histogram) {
    for (name, q) in [("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99)] {
        json.key(name).maybe(times.quantile(q).map(milliseconds));
    }
    json.key("max_ms").maybe((times.count() > 0).then(|| milliseconds(times.max())));
}

fn break_up_time(json: &mut Json, times: &BreakUpTime) {
    json.object(|json| {
        json.key("intervals").array(|json| {
            for interval in &times.intervals {
                json.object(|json| {
                    json.key("after_blink").boolean(interval.after_blink);
                    json.key("opened_s").number(interval.opened_s);
                    json.key("closed_s").maybe(interval.closed_s);
                    json.key("first_clear_s").number(interval.first_clear_s);
                    json.key("first_broken_s").maybe(interval.first_broken_s);
                    json.key("but_s").maybe(interval.but_s);
                    json.key("lower_bound_s").number(interval.lower_bound_s);
                    json.key("uncertainty_s").number(interval.uncertainty_s);
                });
            }
        });
        json.key("mean_but_s").maybe(times.mean_s());
    });
}
