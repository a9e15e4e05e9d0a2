//! Planned streams: which frames and packets a recording gets.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::source::packets::{Codec, Packet};

const STEP: u64 = 100;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn packet(at: u64, key: bool) -> Packet {
    let bytes = Bytes::from(vec![1; 100]);
    Packet { codec: Codec::H264, key, gap: false, pts: ms(at), parameters: None, bytes }
}

fn spec(pre: u64, post: u64, longest: u64) -> RecordSpec {
    RecordSpec { pre: ms(pre), post: ms(post), longest: ms(longest), ..RecordSpec::default() }
}

/// What one recording got.
#[derive(Debug, Default)]
struct Got {
    begin: u64,
    packets: Vec<u64>,
    keys: Vec<bool>,
    frames: Vec<(u64, String)>,
    events: Vec<String>,
    ended: Option<Ended>,
}

/// A tape that is fed a stream of 10 frames per second with a key every `group` frames.
struct Play {
    tape: Tape,
    group: u64,
    result: Vec<u8>,
    steps: Vec<Step>,
    shown: Vec<(String, PathBuf)>,
}

impl Play {
    fn new(spec: RecordSpec, group: u64) -> Self {
        let tape = Tape::new("gate", spec, ms(2000));
        Self { tape, group, result: b"{}".to_vec(), steps: Vec::new(), shown: Vec::new() }
    }

    /// Frame `n`; `open`: events with the frames on which each was first and last seen. Every third frame is over the rate, and
    /// every seventh is stale.
    fn frame(&mut self, n: u64, open: &[(&'static str, u64, u64)]) {
        let pts = ms(n * STEP);
        self.tape.packet(packet(n * STEP, n.is_multiple_of(self.group)), &mut self.steps);
        // The wall clock jumps back and ahead all the time, and means nothing.
        let captured = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400 * (n % 5));
        self.tape.given(n, pts, Some(captured), !over_rate(n));
        if over_rate(n) || stale(n) {
            return;
        }
        let span = |(id, first, last): &(&'static str, u64, u64)| Span {
            id,
            label: "x",
            age: ms((n - first) * STEP),
            unseen: ms((n - last) * STEP),
        };
        let open: Vec<Span<'_>> = open.iter().map(span).collect();
        let result = self.result.clone();
        let frame = Delivered { seq: n, pts, size: (64, 48), result, ..Delivered::default() };
        self.shown.extend(self.tape.delivered(frame, &open, &mut self.steps));
    }

    /// Event `id` is seen from frame `first` to frame `last`, believed on the second frame, and ends `after` frames later.
    fn event(
        &mut self,
        frames: std::ops::Range<u64>,
        id: &'static str,
        (first, last): (u64, u64),
        after: u64,
    ) {
        for n in frames {
            let open = n > first && n < last + after;
            let seen = n.min(last);
            let spans = [(id, first, seen)];
            self.frame(n, if open { &spans } else { &[] });
        }
    }

    fn got(&self) -> Vec<Got> {
        let mut all: Vec<(PathBuf, Got)> = Vec::new();
        for step in &self.steps {
            match step {
                Step::Begin(begin) => {
                    let got = Got { begin: begin.begin.as_millis() as u64, ..Got::default() };
                    all.push((begin.place.clone(), got));
                }
                Step::More { place, packets, frames } => {
                    let (_, got) = all.iter_mut().find(|(p, _)| p == place).unwrap();
                    assert!(got.ended.is_none());
                    got.packets.extend(packets.iter().map(|p| p.pts.as_millis() as u64 / STEP));
                    got.keys.extend(packets.iter().map(|p| p.key));
                    for line in std::str::from_utf8(frames).unwrap().lines() {
                        let line: Value = serde_json::from_str(line).unwrap();
                        let fate = line["fate"].as_str().unwrap().to_owned();
                        got.frames.push((line["seq"].as_u64().unwrap(), fate));
                    }
                }
                Step::End { place, events, why } => {
                    let (_, got) = all.iter_mut().find(|(p, _)| p == place).unwrap();
                    got.events = events.iter().map(|event| event.id.clone()).collect();
                    got.ended = Some(*why);
                }
            }
        }
        all.into_iter().map(|(_, got)| got).collect()
    }
}

fn over_rate(n: u64) -> bool {
    n % 3 == 2
}

fn stale(n: u64) -> bool {
    n % 7 == 6
}

fn fates(range: std::ops::RangeInclusive<u64>) -> Vec<(u64, String)> {
    let fate = |n| match (over_rate(n), stale(n)) {
        (true, _) => "over_rate",
        (_, true) => "stale",
        _ => "delivered",
    };
    range.map(|n| (n, fate(n).to_owned())).collect()
}

#[test]
fn a_recording_is_from_pre_before_the_first_frame_to_post_after_the_last_exact_to_a_frame() {
    let mut play = Play::new(spec(2000, 1000, 60_000), 25);
    play.event(0..300, "a", (100, 140), 50);
    let got = play.got();
    assert_eq!(got.len(), 1);
    // Two seconds are twenty frames, one is ten.
    assert_eq!(got[0].frames, fates(80..=150));
    assert_eq!(got[0].begin, 80 * STEP);
    // From the key before the first frame.
    assert_eq!(got[0].packets, (75..=150).collect::<Vec<u64>>());
    assert_eq!((got[0].ended, got[0].events.as_slice()), (Some(Ended::Over), ["a".to_owned()].as_slice()));
    assert_eq!(play.shown, [("a".to_owned(), PathBuf::from("gate/a"))]);
    assert!(!play.tape.is_recording());
}

#[test]
fn what_is_seen_again_goes_on_without_a_gap() {
    let mut play = Play::new(spec(1000, 500, 60_000), 10);
    for n in 0..300 {
        // Seen to frame 60, then from frame 99 on: the event goes on in between.
        let last = if n < 99 { n.min(60) } else { n.min(120) };
        let open = [("a", 50, last)];
        play.frame(n, if (50..170).contains(&n) { &open } else { &[] });
    }
    let got = play.got();
    assert_eq!(got[0].frames, fates(40..=125));
    assert_eq!(got[0].packets, (40..=125).collect::<Vec<u64>>());
}

#[test]
fn events_at_one_time_share_a_recording_and_a_later_one_has_its_own_with_the_same_footage_before_it() {
    let mut play = Play::new(spec(2000, 1000, 60_000), 10);
    for n in 0..400 {
        let mut open = Vec::new();
        for (id, first, last) in [("a", 100, 130), ("b", 120, 160), ("c", 175, 180)] {
            if n > first && n < last + 10 {
                open.push((id, first, n.min(last)));
            }
        }
        play.frame(n, &open);
    }
    let got = play.got();
    assert_eq!(got.len(), 2);
    assert_eq!(
        (got[0].events.as_slice(), got[1].events.as_slice()),
        (&["a".into(), "b".into()][..], &["c".into()][..])
    );
    assert_eq!(got[0].frames, fates(80..=170));
    assert_eq!(got[1].frames, fates(155..=190));
    let place = |id: &str| play.shown.iter().find(|(shown, _)| shown == id).unwrap().1.clone();
    assert_eq!((place("a"), place("b"), place("c")), ("gate/a".into(), "gate/a".into(), "gate/c".into()));
}

#[test]
fn a_long_event_is_recorded_to_the_limit_and_another_begins_anew() {
    let mut play = Play::new(spec(1000, 1000, 5000), 10);
    for n in 0..300 {
        let mut open = Vec::new();
        if n >= 50 {
            open.push(("a", 50, n));
        }
        if (200..260).contains(&n) {
            open.push(("b", 200, n.min(210)));
        }
        play.frame(n, &open);
    }
    let got = play.got();
    assert_eq!(got[0].frames, fates(40..=90));
    assert_eq!(got[0].ended, Some(Ended::Limit));
    // The first goes on, but its recording is over: the second's shows the second.
    assert_eq!((got[1].events.as_slice(), got[1].frames.clone()), (&["b".to_owned()][..], fates(190..=220)));
}

#[test]
fn at_the_stop_what_is_there_is_handed_over() {
    let mut play = Play::new(spec(1000, 2000, 60_000), 10);
    play.event(0..61, "a", (50, 60), 50);
    play.tape.end(Ended::Stopped, &mut play.steps);
    let got = play.got();
    assert_eq!((got[0].ended, got[0].frames.clone()), (Some(Ended::Stopped), fates(40..=60)));
    // Nothing is recorded that nobody saw begin.
    play.tape.end(Ended::Stopped, &mut play.steps);
    assert_eq!(play.got().len(), 1);
}

#[test]
fn what_another_pipeline_found_is_not_mixed_in() {
    let mut play = Play::new(spec(3000, 1000, 60_000), 10);
    (0..50).for_each(|n| play.frame(n, &[]));
    play.tape.other_pipeline(&mut play.steps);
    play.event(50..120, "a", (60, 70), 20);
    let got = play.got();
    // Footage goes back further than results do.
    assert_eq!(got[0].frames, fates(50..=80));
    assert_eq!(got[0].packets.first(), Some(&30));
}

#[test]
fn results_are_bounded_in_bytes_and_none_of_a_recording_is_lost_for_that() {
    // Room for twenty results, and for more pictures than there are.
    let spec = RecordSpec { memory: 40_000, ..spec(60_000, 1000, 600_000) };
    let mut play = Play::new(spec, 10);
    play.result = format!("\"{}\"", "x".repeat(498)).into_bytes();
    for n in 0..400 {
        // Out of sight for seventeen seconds.
        let last = if n < 300 { n.min(130) } else { n.min(310) };
        let open = [("a", 100, last)];
        play.frame(n, if (101..330).contains(&n) { &open } else { &[] });
        assert!(play.tape.results <= 10_500, "{} bytes at {n}", play.tape.results);
    }
    let got = play.got();
    let first = got[0].frames[0].0;
    assert!((55..80).contains(&first), "{first}");
    assert_eq!(got[0].frames, fates(first..=320));
    assert_eq!(got[0].packets, (0..=320).collect::<Vec<u64>>());
}

#[test]
fn without_a_picture_there_is_no_recording() {
    let mut tape = Tape::new("gate", spec(1000, 1000, 9000), ms(2000));
    let mut steps = Vec::new();
    tape.packet(packet(0, false), &mut steps);
    tape.given(0, ms(0), None, true);
    let open = [Span { id: "a", label: "x", age: ms(0), unseen: ms(0) }];
    assert_eq!(tape.delivered(Delivered::default(), &open, &mut steps), []);
    assert_eq!(steps, []);
}

/// A camera that is come upon between two keys, as all are that are opened.
#[test]
fn an_event_from_before_the_first_key_is_recorded_from_that_key_on() {
    let mut play = Play::new(spec(1000, 1000, 5000), 10);
    // The first key is that of frame 40.
    for n in 33..120 {
        let open = [("a", 35, n.min(50))];
        play.frame(n, if n >= 35 { &open } else { &[] });
    }
    let got = play.got();
    assert_eq!((got.len(), got[0].events.as_slice()), (1, &["a".to_owned()][..]));
    assert_eq!((got[0].packets[0], got[0].keys[0]), (40, true));
    assert_eq!(play.shown.len(), 1);
}

#[test]
fn pictures_between_others_come_with_those_that_they_lean_on() {
    let mut tape = Tape::new("gate", spec(200, 200, 9000), ms(0));
    let mut steps = Vec::new();
    // Decoded: I0 P3 B1 B2 P6 B4 B5 …, 100 ms apart as shown.
    for n in 0..20u64 {
        let shown = match n % 3 {
            _ if n == 0 => 0,
            1 => n + 2,
            _ => n - 1,
        };
        tape.packet(packet(shown * STEP, n == 0), &mut steps);
    }
    for n in 0..17u64 {
        tape.given(n, ms(n * STEP), None, true);
        let open =
            [Span { id: "a", label: "x", age: ms((n.max(5) - 5) * STEP), unseen: ms((n.max(6) - 6) * STEP) }];
        let frame = Delivered { seq: n, pts: ms(n * STEP), result: b"{}".to_vec(), ..Delivered::default() };
        tape.delivered(frame, if (5..10).contains(&n) { &open } else { &[] }, &mut steps);
    }
    let packets: Vec<u64> = steps
        .iter()
        .filter_map(|step| if let Step::More { packets, .. } = step { Some(packets) } else { None })
        .flatten()
        .map(|p| p.pts.as_millis() as u64 / STEP)
        .collect();
    // To frame 8: B8 needs P9, which comes before it.
    assert_eq!(packets, [0, 3, 1, 2, 6, 4, 5, 9, 7, 8]);
}

#[test]
fn the_ring_keeps_to_its_bytes_and_always_begins_with_a_key() {
    let mut ring = Ring::new(1000);
    for n in 0..500 {
        ring.push(packet(n, n.is_multiple_of(4)));
        assert!(ring.bytes() <= 1000);
        assert!(ring.packets().next().is_none_or(|first| first.key));
    }
    assert!(ring.packets().count() >= 6);
    // A group that is larger than the ring is of no use, and what follows is taken again.
    (0..30).for_each(|n| ring.push(packet(1000 + n, n == 0)));
    assert!(ring.bytes() <= 1000);
    ring.push(packet(2000, true));
    assert_eq!(ring.packets().next_back().map(|p| p.pts), Some(ms(2000)));
}

#[test]
fn what_nobody_takes_from_a_held_ring_is_cut_and_the_cut_is_marked() {
    let mut ring = Ring::new(1000);
    ring.push(packet(0, true));
    assert_eq!(ring.hold(ms(0)), Some(ms(0)));
    (1..30).for_each(|n| ring.push(packet(n, n % 10 == 0)));
    assert!(ring.bytes() <= 1000);
    let first = ring.packets().next().unwrap();
    assert!(first.key && first.gap, "{first:?}");
}

proptest! {
    #[test]
    fn every_recording_begins_with_a_key_and_has_each_frame_of_its_time_once(
        events in proptest::collection::vec((0u64..250, 1u64..40, 1u64..30), 1..4),
        (pre, post, longest) in (0u64..4000, 0u64..4000, 9000u64..12_000),
        group in 1u64..40,
    ) {
        let mut play = Play::new(spec(pre, post, longest), group);
        for n in 0..400 {
            let mut open = Vec::new();
            for (id, (first, length, after)) in ["a", "b", "c"].iter().zip(&events) {
                if n > *first && n < first + length + after {
                    open.push((*id, *first, n.min(first + length)));
                }
            }
            play.frame(n, &open);
        }
        let got = play.got();
        prop_assert!(!got.is_empty());
        for got in &got {
            prop_assert!(got.ended.is_some());
            prop_assert_eq!(got.keys.first(), Some(&true));
            prop_assert!(got.packets.windows(2).all(|w| w[1] == w[0] + 1));
            let (first, last) = (got.frames[0].0, got.frames[got.frames.len() - 1].0);
            prop_assert_eq!(got.frames.clone(), fates(first..=last));
            prop_assert!(got.packets[0] <= first && *got.packets.last().unwrap() >= last);
            prop_assert!((last - first) * STEP <= longest);
        }
        // Every event has a recording that shows it, or began while one went on that was over before it.
        for (id, _) in &play.shown {
            prop_assert!(got.iter().any(|got| got.events.contains(id)));
        }
    }
}
