//! A site in the daemon's place.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tapetum::site::{
    event::{EventPage, EventQuery},
    http::{HttpSpec, Serving, Site, serve},
    live::{Live, LiveFrame, LiveMask},
    message::{Event, Phase},
    status::{
        BoardStatus, CameraState, CameraStatus, ConfigStatus, Frames, Gaps, HeatLevel, Latency, MediaStatus,
        ModelStatus, OutputStatus, SiteStatus, StageStatus,
    },
};
use tapetum::{
    Decision,
    recording::{
        format::{Encoding, Ended, Head, RunHead},
        part::Part,
    },
    source::{self, Next},
};
use tapetum_runtime::{Error, Frame, Result, latency::Histogram};

/// Two cameras, of which one waits; a model; two outputs; events and a media folder.
pub struct Made {
    pub status: Mutex<SiteStatus>,
    pub stuck: Mutex<Vec<String>>,
    pub lives: BTreeMap<String, Arc<Live>>,
    pub events: Vec<Event>,
    pub refuse_reload: Mutex<Option<String>>,
    pub reloads: AtomicU64,
    pub media: PathBuf,
    _folder: tempfile::TempDir,
}

impl Made {
    pub fn new() -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let media = folder.path().join("media");
        std::fs::create_dir_all(media.join("front gate")).unwrap();
        std::fs::write(media.join("front gate/1.jpg"), jpeg([9, 9, 9], (32, 16))).unwrap();
        std::fs::write(media.join("clip.mp4"), vec![7; 300_000]).unwrap();
        record(&media.join("front gate/r1"));
        std::fs::write(folder.path().join("secret.txt"), "s3cret").unwrap();
        let names = ["front gate", "yard"];
        Arc::new(Self {
            status: Mutex::new(status()),
            stuck: Mutex::default(),
            lives: names.map(|name| (name.to_owned(), Arc::default())).into(),
            events: (0..3).map(event).collect(),
            refuse_reload: Mutex::default(),
            reloads: AtomicU64::new(0),
            media,
            _folder: folder,
        })
    }

    /// Serves it on loopback as the configuration's defaults would, on a free port.
    pub fn serve(self: &Arc<Self>) -> (Serving, SocketAddr) {
        self.serve_as(HttpSpec { listen: vec!["127.0.0.1:0".parse().unwrap()], ..HttpSpec::default() })
    }

    pub fn serve_as(self: &Arc<Self>, spec: HttpSpec) -> (Serving, SocketAddr) {
        let serving = serve(&spec, self.clone()).unwrap();
        let address = serving.addresses()[0];
        (serving, address)
    }
}

impl Site for Made {
    fn stuck(&self) -> Vec<String> {
        self.stuck.lock().unwrap().clone()
    }

    fn status(&self) -> SiteStatus {
        self.status.lock().unwrap().clone()
    }

    fn live(&self, camera: &str) -> Option<Arc<Live>> {
        self.lives.get(camera).cloned()
    }

    fn events(&self, query: &EventQuery) -> Result<EventPage> {
        let from = match &query.cursor {
            None => 0,
            Some(cursor) => {
                let at = self.events.iter().position(|event| event.id == *cursor);
                at.ok_or_else(|| Error::bad_input("cursor: there is no such event"))? + 1
            }
        };
        let fits = |event: &&Event| {
            query.camera.as_ref().is_none_or(|camera| *camera == event.camera)
                && query.label.as_ref().is_none_or(|label| *label == event.label)
                && query.after.is_none_or(|after| event.start >= after)
                && query.before.is_none_or(|before| event.start < before)
        };
        let mut found = self.events[from..].iter().filter(fits);
        let events: Vec<Event> = found.by_ref().take(query.limit).cloned().collect();
        let more = found.next().is_some();
        Ok(EventPage { next: events.last().filter(|_| more).map(|event| event.id.clone()), events })
    }

    fn event(&self, id: &str) -> Result<Option<Event>> {
        Ok(self.events.iter().find(|event| event.id == id).cloned())
    }

    fn media(&self) -> Option<&Path> {
        Some(&self.media)
    }

    fn reload(&self) -> Result<()> {
        self.reloads.fetch_add(1, Ordering::SeqCst);
        self.refuse_reload.lock().unwrap().as_ref().map_or(Ok(()), |why| Err(Error::config(why.clone())))
    }
}

fn latency(ms: &[u64]) -> Latency {
    let mut histogram = Histogram::default();
    ms.iter().for_each(|ms| histogram.record(Duration::from_millis(*ms)));
    Latency(histogram)
}

fn status() -> SiteStatus {
    let now = SystemTime::now();
    let frames = Frames {
        captured: 1000,
        delivered: 990,
        dropped: [("stale".to_owned(), 6)].into(),
        failed: [("detect".to_owned(), 2)].into(),
        in_flight: 2,
    };
    let stage = |name: &str, kind, engine: Option<&str>, ms: &[u64]| StageStatus {
        name: name.into(),
        kind,
        engine: engine.map(str::to_owned),
        passed_over: vec![],
        decision: None,
        engine_faults: 0,
        last_engine_fault: None,
        took: latency(ms),
    };
    let mut detect = stage("detect", "detect", Some("ort:cpu/fp32"), &[8, 9, 12, 30]);
    detect.decision = Some(Decision {
        tuned: None,
        why: "nothing is recorded; to measure: tapetum tune".into(),
        fp32_sha256: "ab".repeat(32),
    });
    detect.passed_over.push(("ort:cuda".into(), "no device was found".into()));
    let camera = |name: &str, state, why: Option<&str>| CameraStatus {
        name: name.into(),
        source: "rtsp://10.0.0.7:554/main".into(),
        remarks: vec!["H264 640×360".into()],
        state,
        why: why.map(str::to_owned),
        since: now,
        retry_in_s: None,
        size: Some((640, 360)),
        fps: [25.0, 24.8],
        frames: frames.clone(),
        gaps: Gaps { frames_lost: 7, driver_skipped: 3, ..Gaps::default() },
        reconnects: 3,
        stalls: 1,
        downtime_s: 12.5,
        last_frame_age_s: Some(0.04),
        age: latency(&[40, 60, 61, 200]),
        late: 2,
        stages: vec![detect.clone(), stage("read \"plate\"", "class", None, &[])],
        events: [1, 17],
        digest: "d1".repeat(32),
    };
    let mut waiting = camera("yard", CameraState::Waiting, Some("connection refused by 10.0.0.8:554"));
    waiting.retry_in_s = Some(12.0);
    waiting.fps = [0.0; 2];
    SiteStatus {
        site: "Harbour".into(),
        version: env!("CARGO_PKG_VERSION"),
        started: now - Duration::from_secs(7200),
        uptime_s: 7200.0,
        not_ready: vec![],
        cameras: vec![camera("front gate", CameraState::Streaming, None), waiting],
        models: vec![ModelStatus {
            network: "FastestDet".into(),
            sha256: "ab".repeat(32),
            engine: "ort:cpu/fp32".into(),
            cameras: 2,
            queue: 1,
            runs: 500,
            regions: 900,
            took: latency(&[20, 25]),
        }],
        outputs: vec![
            OutputStatus {
                name: "jsonl".into(),
                up: true,
                why: None,
                queued: 0,
                spooled: 0,
                delivered: 990,
                dropped: BTreeMap::new(),
            },
            OutputStatus {
                name: "mqtt".into(),
                up: false,
                why: Some("broker 10.0.0.2:1883: connection refused".into()),
                queued: 2,
                spooled: 40,
                delivered: 900,
                dropped: [("queue full".to_owned(), 5)].into(),
            },
        ],
        media: Some(MediaStatus {
            dir: "/var/lib/tapetum/media".into(),
            up: true,
            why: None,
            bytes: 734_003_200,
            most_bytes: 1 << 30,
            recordings: 17,
            snapshots: 23,
            recording: 1,
            waiting_bytes: 65_536,
            written: [("recording".to_owned(), 19), ("snapshot".to_owned(), 61)].into(),
            dropped: [("recording: disk full".to_owned(), 1)].into(),
            removed: [("recording: max_mb".to_owned(), 2)].into(),
        }),
        config: ConfigStatus {
            path: "/etc/tapetum/site.toml".into(),
            sha256: "cd".repeat(32),
            loaded: now,
            last_reload: None,
            reload_error: None,
            reload_did: vec![],
            reloading: false,
        },
        board: Some(BoardStatus {
            name: "generic-x86".into(),
            description: "Any x86-64 machine".into(),
            asked: false,
            power_mode: Some("balanced".into()),
            temperatures: vec![("package".into(), 61.0), ("nvme".into(), 80.5)],
            too_hot: vec!["nvme".into()],
            level: Some(HeatLevel::Hot),
            throttled: true,
            cooling: vec![("Processor".into(), 1, 10)],
            max_fps: Some(2.5),
        }),
        rss_bytes: Some(123_456_789),
        cpu_s: 3600.25,
    }
}

/// The newest first.
fn event(n: u64) -> Event {
    Event {
        id: format!("2026050403000{}-gate-1", 9 - n),
        revision: 1,
        camera: if n == 1 { "yard" } else { "front gate" }.into(),
        label: "person".into(),
        phase: Phase::End,
        start: SystemTime::UNIX_EPOCH + Duration::from_secs(1_777_863_721 - n * 60),
        end: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_777_863_725 - n * 60)),
        frames: 40,
        score: 0.91,
        xyxy: [10.0, 20.0, 110.5, 220.0],
        most: 2,
        size: (640, 360),
        seq: 1234,
        digest: "d1".repeat(32),
        snapshot: (n == 0).then(|| "front gate/1.jpg".into()),
        recording: (n == 0).then(|| "front gate/r1".into()),
    }
}

/// A recording of the demo's clip, as a camera's is made.
fn record(folder: &Path) {
    let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/dev_a.mp4");
    let mut source = source::open(&clip.display().to_string()).unwrap();
    source.keep_packets();
    let head = Head {
        format: 1,
        id: "r1".into(),
        camera: "front gate".into(),
        site: "Harbour".into(),
        tapetum: "0".into(),
        source: "clip".into(),
        size: source.info().size.unwrap(),
        codec: Encoding::H264,
        exact: true,
        begin_ns: 0,
        label: "person".into(),
        run: RunHead::default(),
    };
    let (mut part, mut frame) = (Part::create(folder, &head).unwrap(), Frame::default());
    while let Ok(Next::Frame) = source.next(&mut frame) {
        let mut packets = Vec::new();
        source.packets(&mut |packet| packets.push(packet));
        let (seq, pts) = (frame.seq, frame.pts.as_nanos());
        let line = format!("{{\"seq\":{seq},\"pts_ns\":{pts},\"captured\":null,\"fate\":\"stale\"}}\n");
        part.add(&packets, line.as_bytes()).unwrap();
    }
    part.complete(Vec::new(), Ended::Over).unwrap();
}

/// A picture of one colour.
pub fn jpeg(rgb: [u8; 3], (width, height): (u16, u16)) -> Vec<u8> {
    let pixels: Vec<u8> = rgb.repeat(width as usize * height as usize);
    let mut bytes = Vec::new();
    let encoder = jpeg_encoder::Encoder::new(&mut bytes, 95);
    encoder.encode(&pixels, width, height, jpeg_encoder::ColorType::Rgb).unwrap();
    bytes
}

/// Where the box of frame `seq` begins; its picture tells the same by its colour, see [`grey`].
pub fn left(seq: u64) -> u64 {
    100 + seq % 16 * 20
}

/// The colour of frame `seq`: sixteen levels that JPEG keeps apart.
pub fn grey(seq: u64) -> u8 {
    (20 + seq % 16 * 12) as u8
}

/// A frame whose picture encodes its number and whose box lies where the number says; with a mask in the lower right quarter.
pub fn frame(seq: u64) -> LiveFrame {
    let size = (640usize, 360usize);
    let x = left(seq);
    let result = format!(
        r#"{{"seq":{seq},"status":"ok","findings":{{"detect":{{"boxes":[{{"label":"person","score":0.87,"xyxy":[{x},120,{},280]}}]}},"sky":{{"class":"clear","prob":0.98,"probs":{{"clear":0.98}}}}}}}}"#,
        x + 80
    );
    let mut classes = vec![0; size.0 * size.1];
    for y in 300..360 {
        classes[y * size.0 + 560..(y + 1) * size.0].fill(1);
    }
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, size.0 as u32, size.1 as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&classes).unwrap();
    LiveFrame {
        seq,
        captured: Some(SystemTime::now() - Duration::from_millis(40)),
        size,
        jpeg: jpeg([grey(seq); 3], (640, 360)),
        masks: vec![LiveMask { stage: "ground".into(), labels: vec!["other".into(), "road".into()], png }],
        result: result.into_bytes(),
    }
}
