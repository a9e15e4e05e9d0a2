//! From what is seen to events.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use proptest::prelude::*;
use tapetum::site::{
    event::{EventMachine, EventSpec, Ids, Look, Seen},
    message::{Event, Phase},
};
use tapetum_runtime::settings::Reader;

struct Camera {
    machine: EventMachine,
    seq: u64,
    told: Vec<Event>,
}

impl Camera {
    fn new(spec: EventSpec) -> Self {
        let machine = EventMachine::new("gate", spec, "digest", Arc::new(Ids::new().unwrap()));
        Self { machine, seq: 0, told: Vec::new() }
    }

    /// A frame at `ms`, with persons of these scores.
    fn frame(&mut self, ms: u64, scores: &[f32]) {
        let pts = Duration::from_millis(ms);
        let look = Look {
            seq: self.seq,
            pts,
            captured: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000) + pts,
            size: (640, 360),
        };
        let seen = scores.iter().map(|score| Seen { label: "person", score: *score, xyxy: [0.0; 4] });
        self.machine.frame(&look, seen, &mut self.told);
        self.seq += 1;
    }

    fn phases(&self) -> Vec<Phase> {
        self.told.iter().map(|event| event.phase).collect()
    }
}

#[test]
fn it_is_believed_after_some_frames_and_ends_after_some_time() {
    let mut camera = Camera::new(EventSpec::default());
    camera.frame(0, &[0.6]);
    camera.frame(100, &[0.49]); // below the threshold
    camera.frame(200, &[0.6]);
    assert!(camera.told.is_empty());
    camera.frame(300, &[0.7, 0.6]);
    camera.frame(400, &[0.6]);
    for ms in (500..5500).step_by(100) {
        camera.frame(ms, &[]);
    }
    assert_eq!(camera.phases(), [Phase::Start, Phase::End]);
    let end = &camera.told[1];
    assert_eq!((end.id.as_str(), end.revision, end.frames, end.most), (camera.told[0].id.as_str(), 1, 4, 2));
    assert_eq!((end.score, end.seq), (0.7, 3));
    assert_eq!(end.end.unwrap().duration_since(end.start).unwrap(), Duration::from_millis(400));
}

#[test]
fn frames_too_far_apart_are_not_believed() {
    let mut camera = Camera::new(EventSpec::default());
    (0..20).for_each(|n| camera.frame(n * 1500, &[0.9]));
    assert!(camera.told.is_empty());
}

#[test]
fn a_better_picture_is_told_but_not_too_often() {
    let mut camera = Camera::new(EventSpec { min_frames: 1, ..EventSpec::default() });
    for n in 0..30 {
        camera.frame(n * 100, &[0.5 + n as f32 * 0.01]);
    }
    // Better all the time, told after two seconds.
    assert_eq!(camera.phases(), [Phase::Start, Phase::Update]);
    assert_eq!(camera.told[1].seq, 20);
    assert_eq!(camera.machine.best_on(29).count(), 1);
}

#[test]
fn what_lasts_too_long_is_split_and_goes_on() {
    let spec = EventSpec { min_frames: 1, max_length: Duration::from_secs(10), ..EventSpec::default() };
    let mut camera = Camera::new(spec);
    (0..=25).for_each(|n| camera.frame(n * 1000, &[0.9]));
    assert_eq!(camera.phases(), [Phase::Start, Phase::End, Phase::Start, Phase::End, Phase::Start]);
    let mut last = Vec::new();
    camera.machine.end_all(&mut last);
    assert_eq!((last.len(), last[0].phase), (1, Phase::End));
    assert_eq!(camera.machine.open().count(), 0);
}

#[test]
fn a_stream_that_starts_anew_does_not_end_an_event() {
    let mut camera = Camera::new(EventSpec { min_frames: 1, ..EventSpec::default() });
    camera.frame(3_600_000, &[0.9]);
    camera.frame(0, &[0.9]);
    camera.frame(100, &[0.9]);
    assert_eq!(camera.phases(), [Phase::Start]);
    // A gap forwards is time without it.
    camera.frame(60_000, &[0.9]);
    assert_eq!(camera.phases(), [Phase::Start, Phase::End, Phase::Start]);
}

#[test]
fn ids_sort_by_time_and_a_clock_that_jumps_back_breaks_neither_order_nor_uniqueness() {
    let ids = Ids::new().unwrap();
    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);
    let made: Vec<_> = [now, now + hour, now, now - hour, now + hour, now + hour * 2]
        .iter()
        .map(|time| ids.next(*time))
        .collect();
    assert!(made.is_sorted_by(|a, b| a < b), "{made:?}");
    assert!(made.iter().all(|id| id.len() == 26));
    assert_ne!(Ids::new().unwrap().next(now), Ids::new().unwrap().next(now));
}

#[test]
fn the_message_is_as_its_schema_says_and_reads_back_the_same() {
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../../schema/event.schema.json")).unwrap();
    let ids = Ids::new().unwrap();
    for phase in [Phase::Start, Phase::Update, Phase::End] {
        let mut event = super::event(&ids, 3, phase);
        event.snapshot = (phase != Phase::Start).then(|| "gate/a.jpg".into());
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(super::schema::faults(&schema, &schema, &json, ""), Vec::<String>::new());
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
    }
}

#[test]
fn every_mistake_of_the_table_is_told() {
    let text = "[events]\nmin_score = 2.0\nmin_frames = 0\nend_after = 3\n";
    let mut reader = Reader::new(text, "site.toml");
    let root = reader.parse(&["events"]);
    let table = reader.table(&root, "events", EventSpec::KEYS).unwrap();
    assert!(EventSpec::read(&mut reader, &table).is_none());
    let told = reader.finish().unwrap_err().to_string();
    for part in
        [":2:13: min_score must be 0 to 1", ":3:14: min_frames must be 1 to 100", "mean \"end_after_s\""]
    {
        assert!(told.contains(part), "{told}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is seen whenever: each event is told in order Start, Update…, End, with revisions 0, 1, 2, …
    #[test]
    fn every_event_begins_once_and_ends_once(frames in prop::collection::vec((0_u64..20_000, 0.0_f32..1.0), 1..200)) {
        let spec = EventSpec { min_frames: 2, max_length: Duration::from_secs(30), ..EventSpec::default() };
        let mut camera = Camera::new(spec);
        let mut now = 0;
        for (step, score) in frames {
            // Steps back are as likely as small steps.
            now = if step < 1000 { now / 2 } else { now + step / 10 };
            camera.frame(now, &[score]);
        }
        let mut told = std::mem::take(&mut camera.told);
        camera.machine.end_all(&mut told);
        let mut last: HashMap<String, (u32, Phase)> = HashMap::new();
        for event in &told {
            match (last.get(&event.id), event.phase) {
                (None, Phase::Start) => prop_assert_eq!(event.revision, 0),
                (Some((revision, phase)), Phase::Update | Phase::End) => {
                    prop_assert_ne!(*phase, Phase::End);
                    prop_assert_eq!(event.revision, revision + 1);
                }
                wrong => prop_assert!(false, "{:?}", wrong),
            }
            prop_assert_eq!(event.end.is_some(), event.phase == Phase::End);
            prop_assert!(event.end.is_none_or(|end| end >= event.start));
            last.insert(event.id.clone(), (event.revision, event.phase));
        }
        prop_assert!(last.values().all(|(_, phase)| *phase == Phase::End));
    }
}
