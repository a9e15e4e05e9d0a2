//! The site's status as Prometheus reads it. Names and meanings: `docs/http.md`.

use std::{
    fmt::Error,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, prometheus_text, text},
    metrics::{MetricType, exemplar::Exemplar},
    registry::{Registry, Unit},
};
use tapetum_runtime::latency::Histogram;

use super::{api::ask, problem::Problem, server::Shared};
use crate::site::status::{CameraState, CameraStatus, SiteStatus};

const STATES: [(CameraState, &str); 6] = [
    (CameraState::Loading, "loading"),
    (CameraState::Connecting, "connecting"),
    (CameraState::Streaming, "streaming"),
    (CameraState::Waiting, "waiting"),
    (CameraState::Failed, "failed"),
    (CameraState::Stopped, "stopped"),
];
/// From a fast classifier to a stream that hangs.
const BUCKETS_MS: [u64; 15] = [1, 2, 5, 10, 20, 35, 50, 75, 100, 200, 500, 1000, 2000, 5000, 10_000];

/// `GET /metrics`: OpenMetrics for who asks for it, as Prometheus does; else its older text format.
pub(super) async fn metrics(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let status = ask(&shared, |site| site.status()).await?;
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let open = accept.contains("application/openmetrics-text");
    let kind = if open {
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    } else {
        "text/plain; version=0.0.4; charset=utf-8"
    };
    let written =
        write(status, open).map_err(|_| tapetum_runtime::Error::internal("metrics cannot be written"))?;
    Ok(([(header::CONTENT_TYPE, kind)], written).into_response())
}

fn write(status: SiteStatus, open: bool) -> Result<String, Error> {
    let mut registry = Registry::with_prefix("tapetum");
    registry.register_collector(Box::new(Snapshot(status)));
    let mut written = String::new();
    match open {
        true => text::encode(&mut written, &registry)?,
        false => prometheus_text::encode(&mut written, &registry)?,
    }
    Ok(written)
}

#[derive(Debug)]
struct Snapshot(SiteStatus);

type Labels<'a> = Vec<(&'static str, &'a str)>;

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let status = &self.0;
        let mut to = Families(encoder);
        to.site(status)?;
        to.cameras(&status.cameras)?;
        to.stages(&status.cameras)?;
        to.models(status)?;
        to.outputs(status)?;
        to.media(status)
    }
}

struct Families<'e>(DescriptorEncoder<'e>);

impl Families<'_> {
    fn site(&mut self, status: &SiteStatus) -> Result<(), Error> {
        self.info("build", "Version of the daemon", [vec![("version", status.version)]])?;
        self.gauges(
            "ready",
            "Whether the site is ready",
            None,
            [(vec![], u64::from(status.not_ready.is_empty()))],
        )?;
        let seconds = Some(&Unit::Seconds);
        self.gauges(
            "start_time",
            "When the daemon started, since 1970",
            seconds,
            [(vec![], since_1970(status.started))],
        )?;
        self.counters("process_cpu", "CPU time of the process", seconds, [(vec![], status.cpu_s)])?;
        let rss = status.rss_bytes.map(|rss| (vec![], rss));
        self.gauges("process_resident_memory", "Resident memory of the process", Some(&Unit::Bytes), rss)?;
        let config = &status.config;
        self.gauges(
            "config_load_time",
            "When the configuration came into force, since 1970",
            seconds,
            [(vec![], since_1970(config.loaded))],
        )?;
        self.gauges(
            "config_refused",
            "Whether the last reload was refused",
            None,
            [(vec![], u64::from(config.reload_error.is_some()))],
        )?;
        let board = status.board.iter();
        let zones = board
            .clone()
            .flat_map(|board| &board.temperatures)
            .map(|(zone, t)| (vec![("zone", zone.as_str())], *t));
        self.gauges("board_temperature", "Temperature of a thermal zone", Some(&Unit::Celsius), zones)?;
        let hot = board.flat_map(|board| {
            let zones = board.temperatures.iter();
            zones.map(|(zone, _)| (vec![("zone", zone.as_str())], u64::from(board.too_hot.contains(zone))))
        });
        self.gauges("board_too_hot", "Whether a thermal zone is above the profile's limit", None, hot)?;
        let board = || status.board.iter();
        let words = board().map(|board| {
            vec![("board", board.name.as_str()), ("power_mode", board.power_mode.as_deref().unwrap_or(""))]
        });
        self.info("board", "The board's profile and the machine's power mode", words)?;
        let throttled = board().map(|board| (vec![], u64::from(board.throttled)));
        self.gauges("board_throttled", "Whether the machine slows itself down", None, throttled)?;
        let cap = board().filter_map(|board| Some((vec![], f64::from(board.max_fps?))));
        self.gauges(
            "board_max_fps",
            "Frames per second of a camera that are looked at while it is too hot",
            None,
            cap,
        )
    }

    fn cameras(&mut self, cameras: &[CameraStatus]) -> Result<(), Error> {
        fn each<'a, T>(
            cameras: &'a [CameraStatus],
            value: impl Fn(&'a CameraStatus) -> T + 'a,
        ) -> impl Iterator<Item = (Labels<'a>, T)> + Clone
        where
            T: Clone + 'a,
        {
            let values: Vec<_> =
                cameras.iter().map(|c| (vec![("camera", c.name.as_str())], value(c))).collect();
            values.into_iter()
        }
        let seconds = Some(&Unit::Seconds);
        let states = cameras.iter().flat_map(|camera| {
            let labels = |word| vec![("camera", camera.name.as_str()), ("state", word)];
            STATES.iter().map(move |(state, word)| (labels(*word), u64::from(*state == camera.state)))
        });
        self.gauges("camera_state", "1 for the state that the camera is in, 0 for the others", None, states)?;
        self.counters(
            "frames_captured",
            "Frames that the source gave",
            None,
            each(cameras, |c| c.frames.captured),
        )?;
        let fates = cameras.iter().flat_map(|camera| {
            let fate = |fate, reason, n| {
                (vec![("camera", camera.name.as_str()), ("fate", fate), ("reason", reason)], n)
            };
            let frames = &camera.frames;
            let dropped = frames.dropped.iter().map(move |(reason, n)| fate("dropped", reason.as_str(), *n));
            let failed = frames.failed.iter().map(move |(reason, n)| fate("failed", reason.as_str(), *n));
            std::iter::once(fate("delivered", "", frames.delivered)).chain(dropped).chain(failed)
        });
        self.counters("frames", "Frames that are done with, by fate and its reason", None, fates)?;
        self.gauges(
            "frames_in_flight",
            "Frames that are being worked on or wait",
            None,
            each(cameras, |c| c.frames.in_flight),
        )?;
        let gaps = cameras.iter().flat_map(|camera| {
            let labels = |kind| vec![("camera", camera.name.as_str()), ("kind", kind)];
            camera.gaps.named().map(|(kind, n)| (labels(kind), n))
        });
        self.counters(
            "camera_gaps",
            "What is missing of a camera's frames, or had to be mended",
            None,
            gaps,
        )?;
        self.counters(
            "camera_reconnects",
            "Times that the source was opened again",
            None,
            each(cameras, |c| c.reconnects),
        )?;
        self.counters(
            "camera_stalls",
            "Times that the source gave nothing for too long",
            None,
            each(cameras, |c| c.stalls),
        )?;
        self.counters(
            "camera_downtime",
            "Time without frames since the first",
            seconds,
            each(cameras, |c| c.downtime_s),
        )?;
        let ages =
            cameras.iter().filter_map(|c| Some((vec![("camera", c.name.as_str())], c.last_frame_age_s?)));
        self.gauges("last_frame_age", "Time since the last delivered frame", seconds, ages)?;
        self.histograms(
            "result_age",
            "Time from the source handing the frame over to delivery",
            each(cameras, |c| &c.age.0),
        )?;
        self.counters(
            "results_late",
            "Results that were older than max_age_ms when they were delivered",
            None,
            each(cameras, |c| c.late),
        )?;
        self.counters("events", "Events since the start", None, each(cameras, |c| c.events[1]))?;
        self.gauges("events_open", "Events that go on", None, each(cameras, |c| c.events[0]))
    }

    fn stages(&mut self, cameras: &[CameraStatus]) -> Result<(), Error> {
        let stages = || {
            cameras.iter().flat_map(|camera| {
                let labels = |stage| vec![("camera", camera.name.as_str()), ("stage", stage)];
                camera.stages.iter().map(move |stage| (labels(stage.name.as_str()), stage))
            })
        };
        let took = stages().map(|(labels, stage)| (labels, &stage.took.0));
        self.histograms("stage", "Time that a stage worked on a frame", took)?;
        let engines = stages().filter_map(|(mut labels, stage)| {
            labels.push(("engine", stage.engine.as_deref()?));
            Some(labels)
        });
        self.info("stage_engine", "The engine that runs a stage's model", engines)?;
        let faults = stages().map(|(labels, stage)| (labels, stage.engine_faults));
        self.counters("stage_engine_faults", "Engines that failed while they ran", None, faults)
    }

    fn models(&mut self, status: &SiteStatus) -> Result<(), Error> {
        let models = || {
            status.models.iter().map(|model| {
                let sha256 = model.sha256.get(..12).unwrap_or(&model.sha256);
                let engine = ("engine", model.engine.as_str());
                (vec![("network", model.network.as_str()), ("sha256", sha256), engine], model)
            })
        };
        self.gauges(
            "model_queue",
            "Requests that wait for a model",
            None,
            models().map(|(l, m)| (l, m.queue as u64)),
        )?;
        self.gauges(
            "model_cameras",
            "Cameras that share a model",
            None,
            models().map(|(l, m)| (l, m.cameras as u64)),
        )?;
        self.counters("model_runs", "Runs of a model", None, models().map(|(l, m)| (l, m.runs)))?;
        self.counters(
            "model_regions",
            "Regions in a model's runs",
            None,
            models().map(|(l, m)| (l, m.regions)),
        )?;
        self.histograms("model", "Time from request to result", models().map(|(l, m)| (l, &m.took.0)))
    }

    fn outputs(&mut self, status: &SiteStatus) -> Result<(), Error> {
        let outputs = || status.outputs.iter().map(|output| (vec![("output", output.name.as_str())], output));
        self.gauges(
            "output_up",
            "Whether an output takes messages",
            None,
            outputs().map(|(l, o)| (l, u64::from(o.up))),
        )?;
        self.gauges(
            "output_queued",
            "Messages that wait in memory",
            None,
            outputs().map(|(l, o)| (l, o.queued)),
        )?;
        self.gauges(
            "output_spooled",
            "Messages that wait on disk",
            None,
            outputs().map(|(l, o)| (l, o.spooled)),
        )?;
        self.counters(
            "output_delivered",
            "Messages that the other side has taken",
            None,
            outputs().map(|(l, o)| (l, o.delivered)),
        )?;
        let dropped = outputs().flat_map(|(labels, output)| {
            output.dropped.iter().map(move |(reason, n)| {
                let mut labels = labels.clone();
                labels.push(("reason", reason.as_str()));
                (labels, *n)
            })
        });
        self.counters("output_dropped", "Messages that were given up", None, dropped)
    }

    fn media(&mut self, status: &SiteStatus) -> Result<(), Error> {
        let media = || status.media.iter();
        let bytes = Some(&Unit::Bytes);
        self.gauges(
            "media_up",
            "Whether the media folder can be written",
            None,
            media().map(|m| (vec![], u64::from(m.up))),
        )?;
        self.gauges("media", "What is in the media folder", bytes, media().map(|m| (vec![], m.bytes)))?;
        self.gauges("media_most", "What may be in it", bytes, media().map(|m| (vec![], m.most_bytes)))?;
        self.gauges("media_waiting", "What waits for it", bytes, media().map(|m| (vec![], m.waiting_bytes)))?;
        let kept = media().flat_map(|m| {
            let kinds = [("recording", m.recordings), ("snapshot", m.snapshots)];
            kinds.map(|(kind, n)| (vec![("kind", kind)], n as u64))
        });
        self.gauges("media_kept", "Files in the media folder", None, kept)?;
        self.gauges(
            "media_recording",
            "Recordings that are being made",
            None,
            media().map(|m| (vec![], m.recording as u64)),
        )?;
        let written = media().flat_map(|m| &m.written).map(|(kind, n)| (vec![("kind", kind.as_str())], *n));
        self.counters("media_written", "Files that were written", None, written)?;
        fn told<'a>(
            counts: &'a std::collections::BTreeMap<String, u64>,
        ) -> impl Iterator<Item = (Labels<'a>, u64)> {
            counts.iter().map(|(what, n)| {
                let (kind, reason) = what.split_once(": ").unwrap_or((what, ""));
                (vec![("kind", kind), ("reason", reason)], *n)
            })
        }
        self.counters(
            "media_dropped",
            "Files that could not be written",
            None,
            media().flat_map(|m| told(&m.dropped)),
        )?;
        self.counters("media_removed", "Files that had to go", None, media().flat_map(|m| told(&m.removed)))
    }

    fn info<'a>(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = Labels<'a>>,
    ) -> Result<(), Error> {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Info)?;
        all.into_iter().try_for_each(|labels| family.encode_info(&labels))
    }

    fn gauges<'a, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        all: impl IntoIterator<Item = (Labels<'a>, V)>,
    ) -> Result<(), Error> {
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        all.into_iter().try_for_each(|(labels, value)| family.encode_family(&labels)?.encode_gauge(&value))
    }

    fn counters<'a, V: prometheus_client::encoding::EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        all: impl IntoIterator<Item = (Labels<'a>, V)>,
    ) -> Result<(), Error> {
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        let none: Option<&Exemplar<Labels<'_>, f64>> = None;
        all.into_iter()
            .try_for_each(|(labels, value)| family.encode_family(&labels)?.encode_counter(&value, none))
    }

    fn histograms<'a>(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (Labels<'a>, &'a Histogram)>,
    ) -> Result<(), Error> {
        let mut family = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        let limits = BUCKETS_MS.map(Duration::from_millis);
        for (labels, histogram) in all {
            // What lies in each bucket; the encoder adds them up.
            let mut before = 0;
            let up_to = histogram.counts_up_to(&limits);
            let ends = limits.iter().map(Duration::as_secs_f64).zip(up_to);
            let ends = ends.chain([(f64::INFINITY, histogram.count())]);
            let buckets: Vec<(f64, u64)> =
                ends.map(|(end, n)| (end, n - std::mem::replace(&mut before, n))).collect();
            let mut metric = family.encode_family(&labels)?;
            metric.encode_histogram::<Labels<'_>>(
                histogram.sum().as_secs_f64(),
                histogram.count(),
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}

fn since_1970(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
