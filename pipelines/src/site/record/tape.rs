//! Which pictures and frames belong to a recording.
//!
//! A recording begins with an event and shows all that begin while it goes on: from `pre` before the first frame that its thing
//! was seen on to `post` after the last frame that any of them was seen on, but not longer than `longest`. Everything goes by the
//! stream's time; a wall clock that jumps changes nothing.

use std::{
    collections::VecDeque,
    io::Write,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use crate::{
    recording::format::{Ended, EventLine, FrameFate, nanos},
    source::packets::{Codec, Packet},
};

use super::{RecordSpec, ring::Ring};

/// Most frames that are remembered.
const MOST_SHOTS: usize = 16_384;

/// Most bytes of results that are remembered with them: a quarter of what the pictures may take.
pub(super) fn most_results(spec: &RecordSpec) -> usize {
    spec.memory / 4
}

/// An event that goes on, as it stands after a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span<'a> {
    /// Of the event.
    pub id: &'a str,
    /// Of the event.
    pub label: &'a str,
    /// Since the first frame that it was seen on.
    pub age: Duration,
    /// Since the last.
    pub unseen: Duration,
}

/// A frame that the pipeline is done with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delivered {
    /// Its number in the camera's stream.
    pub seq: u64,
    /// Its time in the stream.
    pub pts: Duration,
    /// Wall-clock time.
    pub captured: Option<SystemTime>,
    /// Width and height.
    pub size: (usize, usize),
    /// See [`crate::recording::digest::picture`].
    pub picture: String,
    /// See [`crate::recording::digest::found`].
    pub found: String,
    /// Its line of `results.jsonl`, without the line feed.
    pub result: Vec<u8>,
}

/// What is to be done with the disk.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A recording begins.
    Begin(Begin),
    /// It goes on.
    More {
        /// Which.
        place: PathBuf,
        /// In the order of decoding.
        packets: Vec<Packet>,
        /// Lines of `frames.jsonl`.
        frames: Vec<u8>,
    },
    /// It is over.
    End {
        /// Which.
        place: PathBuf,
        /// Those that it shows.
        events: Vec<EventLine>,
        /// Why.
        why: Ended,
    },
}

/// The beginning of a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Begin {
    /// Its folder, relative to the media folder.
    pub place: PathBuf,
    /// The event that it is begun for.
    pub event: EventLine,
    /// Of its pictures.
    pub codec: Codec,
    /// Of its first frame.
    pub size: (usize, usize),
    /// Time of the first frame that can be shown.
    pub begin: Duration,
}

/// The tape of one camera.
#[derive(Debug)]
pub struct Tape {
    camera: String,
    spec: RecordSpec,
    /// How long before an event is believed its thing was first seen, at most.
    window: Duration,
    ring: Ring,
    codec: Option<Codec>,
    shots: VecDeque<Shot>,
    /// Bytes of their results.
    results: usize,
    /// So many of the first were handed over, while something is recorded.
    sent: usize,
    following: Vec<String>,
    active: Option<Active>,
}

/// A frame that the camera gave.
#[derive(Debug)]
struct Shot {
    seq: u64,
    pts: Duration,
    captured: Option<SystemTime>,
    over_rate: bool,
    delivered: Option<Box<Delivered>>,
}

#[derive(Debug)]
struct Active {
    place: PathBuf,
    begin: Duration,
    until: Duration,
    events: Vec<EventLine>,
}

impl Tape {
    /// For `camera`; `window` is that of its events.
    pub fn new(camera: &str, spec: RecordSpec, window: Duration) -> Self {
        Self {
            camera: camera.to_owned(),
            ring: Ring::new(spec.memory),
            spec,
            window,
            codec: None,
            shots: VecDeque::new(),
            results: 0,
            sent: 0,
            following: Vec::new(),
            active: None,
        }
    }

    /// An encoded picture that the source decoded.
    pub fn packet(&mut self, packet: Packet, steps: &mut Vec<Step>) {
        if self.codec.is_some_and(|codec| codec != packet.codec) {
            self.end(Ended::Changed, steps);
            self.ring.clear();
        }
        self.codec = Some(packet.codec);
        self.ring.push(packet);
    }

    /// A frame that the source gave; `taken`: it is handed to the pipeline.
    pub fn given(&mut self, seq: u64, pts: Duration, captured: Option<SystemTime>, taken: bool) {
        while self.shots.len() >= MOST_SHOTS || self.results > most_results(&self.spec) {
            self.drop_shot();
        }
        self.shots.push_back(Shot { seq, pts, captured, over_rate: !taken, delivered: None });
    }

    /// A frame that the pipeline is done with; `open` are the events that go on after it. Those that are new among them get
    /// the recording that shows them: pairs of event and folder.
    pub fn delivered(
        &mut self,
        frame: Delivered,
        open: &[Span<'_>],
        steps: &mut Vec<Step>,
    ) -> Vec<(String, PathBuf)> {
        let (pts, size) = (frame.pts, frame.size);
        if let Some(shot) = self.shots.iter_mut().rev().find(|shot| shot.seq == frame.seq) {
            self.results += frame.result.len();
            self.results -= shot.result();
            shot.delivered = Some(Box::new(frame));
        }
        let mut shown = Vec::new();
        for span in open {
            let known = self.following.iter().any(|id| id == span.id);
            if !known {
                let event = EventLine { id: span.id.to_owned(), label: span.label.to_owned() };
                if self.active.is_none() {
                    self.begin(pts.saturating_sub(span.age), size, &event, steps);
                }
                // Without a picture to begin with, yet: it is tried again with the next frame.
                let Some(active) = &mut self.active else { continue };
                self.following.push(event.id.clone());
                shown.push((event.id.clone(), active.place.clone()));
                active.events.push(event);
            }
            let after = pts.saturating_sub(span.unseen) + self.spec.post;
            if let Some(active) = self.active.as_mut().filter(|active| active.shows(span.id)) {
                active.until = active.until.max(after);
            }
        }
        self.following.retain(|id| open.iter().any(|span| span.id == id));
        self.go_on(pts, steps);
        let horizon = pts.saturating_sub(self.spec.pre + self.window);
        self.ring.trim(horizon);
        self.trim_shots(horizon);
        shown
    }

    fn begin(&mut self, start: Duration, size: (usize, usize), event: &EventLine, steps: &mut Vec<Step>) {
        let from = start.saturating_sub(self.spec.pre);
        // Without a picture there is nothing to show; the event is told all the same.
        let (Some(first), Some(codec)) = (self.ring.hold(from), self.codec) else { return };
        let begin = from.max(first);
        self.sent = self.shots.iter().position(|shot| shot.pts >= begin).unwrap_or(self.shots.len());
        let place = PathBuf::from(&self.camera).join(&event.id);
        let beginning = Begin { place: place.clone(), event: event.clone(), codec, size, begin };
        steps.push(Step::Begin(beginning));
        self.active = Some(Active { place, begin, until: start, events: Vec::new() });
    }

    /// Hands over what is known to belong to the recording, and ends it when it is over. All frames up to `pts` are done with.
    fn go_on(&mut self, pts: Duration, steps: &mut Vec<Step>) {
        let Some(active) = &mut self.active else { return };
        let limit = active.begin + self.spec.longest;
        let goes_on = self.following.iter().any(|id| active.shows(id));
        // What waits takes more than half of the room for results. Most of the time all of them do not.
        let many = |bytes: usize| bytes > most_results(&self.spec) / 2;
        let waiting = || self.shots.iter().skip(self.sent).map(Shot::result).sum::<usize>();
        if goes_on && (self.ring.is_crowded() || (many(self.results) && many(waiting()))) {
            // It may be seen again, and there is no room to wait for that.
            active.until = active.until.max(pts);
        }
        let until = active.until.min(limit);
        self.hand_over(until.min(pts), steps);
        if pts >= limit {
            self.finish(Ended::Limit, steps);
        } else if !goes_on && pts >= until {
            self.finish(Ended::Over, steps);
        }
    }

    fn hand_over(&mut self, until: Duration, steps: &mut Vec<Step>) {
        let Some(active) = &self.active else { return };
        let packets = self.ring.take(until);
        let mut frames = Vec::new();
        while let Some(shot) = self.shots.get(self.sent).filter(|shot| shot.pts <= until) {
            shot.write(&mut frames);
            self.sent += 1;
        }
        if !packets.is_empty() || !frames.is_empty() {
            steps.push(Step::More { place: active.place.clone(), packets, frames });
        }
    }

    fn finish(&mut self, why: Ended, steps: &mut Vec<Step>) {
        if let Some(Active { place, events, .. }) = self.active.take() {
            steps.push(Step::End { place, events, why });
        }
        self.ring.release();
        self.sent = 0;
    }

    /// Nothing more comes for now: what is recorded ends here.
    pub fn end(&mut self, why: Ended, steps: &mut Vec<Step>) {
        if let Some(active) = &self.active {
            let until = active.until.min(active.begin + self.spec.longest);
            self.hand_over(until, steps);
        }
        self.finish(why, steps);
    }

    /// Another pipeline looks at the frames from here on: what was found before is not its.
    pub fn other_pipeline(&mut self, steps: &mut Vec<Step>) {
        self.end(Ended::Changed, steps);
        self.shots.clear();
        self.results = 0;
    }

    /// The frames come from another source from here on.
    pub fn other_source(&mut self, steps: &mut Vec<Step>) {
        self.other_pipeline(steps);
        self.ring.clear();
        self.codec = None;
    }

    /// Whether something is recorded.
    pub fn is_recording(&self) -> bool {
        self.active.is_some()
    }

    /// Bytes of pictures in memory.
    pub fn bytes(&self) -> usize {
        self.ring.bytes()
    }

    fn trim_shots(&mut self, horizon: Duration) {
        while self.shots.front().is_some_and(|shot| shot.pts < horizon)
            && (self.active.is_none() || self.sent > 0)
        {
            self.drop_shot();
        }
    }

    fn drop_shot(&mut self) {
        if let Some(shot) = self.shots.pop_front() {
            self.results -= shot.result();
            self.sent = self.sent.saturating_sub(1);
        }
    }
}

impl Active {
    fn shows(&self, id: &str) -> bool {
        self.events.iter().any(|event| event.id == id)
    }
}

impl Shot {
    /// Bytes of its result.
    fn result(&self) -> usize {
        self.delivered.as_ref().map_or(0, |frame| frame.result.len())
    }

    fn write(&self, out: &mut Vec<u8>) {
        let fate = match (&self.delivered, self.over_rate) {
            (Some(_), _) => FrameFate::Delivered,
            (None, true) => FrameFate::OverRate,
            (None, false) => FrameFate::Stale,
        };
        let time = self.captured.and_then(|time| jiff::Timestamp::try_from(time).ok());
        let captured = time.map_or_else(|| "null".to_owned(), |time| format!("\"{time}\""));
        let (seq, pts, fate) = (self.seq, nanos(self.pts), fate.name());
        // Writing into a vector does not fail.
        write!(out, "{{\"seq\":{seq},\"pts_ns\":{pts},\"captured\":{captured},\"fate\":\"{fate}\"").ok();
        if let Some(frame) = &self.delivered {
            let (picture, found) = (&frame.picture, &frame.found);
            write!(out, ",\"picture\":\"{picture}\",\"found\":\"{found}\",\"result\":").ok();
            out.extend_from_slice(&frame.result);
        }
        out.extend_from_slice(b"}\n");
    }
}

#[cfg(test)]
mod tests;
