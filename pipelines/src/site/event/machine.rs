//! One camera's frames → events.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{EventSpec, Ids, Seen};
use crate::site::{
    message::{Event, Phase},
    record::tape::Span,
};

/// Labels that a camera keeps track of at once; a model has fewer.
const MOST_LABELS: usize = 4096;

/// What there is to know of a frame besides what was seen on it.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Its number in the camera's stream.
    pub seq: u64,
    /// Its time in the stream. A step back counts as no time at all.
    pub pts: Duration,
    /// When it was captured.
    pub captured: SystemTime,
    /// Width and height, in pixels.
    pub size: (usize, usize),
}

/// Makes events of what is seen on one camera. One event per label goes on at a time.
#[derive(Debug)]
pub struct EventMachine {
    camera: String,
    spec: EventSpec,
    digest: String,
    ids: Arc<Ids>,
    /// Time that passed in the stream, forwards only.
    now: Duration,
    last_pts: Option<Duration>,
    tracks: Vec<Track>,
}

/// What is known of one label.
#[derive(Debug)]
struct Track {
    label: String,
    /// The last frames that it was seen on, at most `min_frames` of them, while no event goes on.
    hits: VecDeque<(Duration, SystemTime)>,
    open: Option<Open>,
    /// On this frame: boxes, and the best of them.
    count: usize,
    score: f32,
    xyxy: [f32; 4],
}

/// Whose event begins.
struct Of<'a> {
    camera: &'a str,
    digest: &'a str,
    ids: &'a Ids,
}

#[derive(Debug)]
struct Open {
    event: Event,
    /// In the machine's time.
    began: Duration,
    last_seen: Duration,
    told: Duration,
    told_score: f32,
}

impl EventMachine {
    /// A machine for `camera`, whose pipeline has `digest`; `ids` are the site's.
    pub fn new(camera: &str, spec: EventSpec, digest: &str, ids: Arc<Ids>) -> Self {
        Self {
            camera: camera.to_owned(),
            spec,
            digest: digest.to_owned(),
            ids,
            now: Duration::ZERO,
            last_pts: None,
            tracks: Vec::new(),
        }
    }

    /// Looks at one frame; what there is to tell is added to `tell`. Allocates nothing on a frame without news.
    pub fn frame<'a>(
        &mut self,
        look: &Look,
        seen: impl IntoIterator<Item = Seen<'a>>,
        tell: &mut Vec<Event>,
    ) {
        self.now += self.last_pts.map_or(Duration::ZERO, |last| look.pts.saturating_sub(last));
        self.last_pts = Some(look.pts);
        self.note(seen);
        let Self { camera, spec, digest, ids, now, tracks, .. } = self;
        for track in tracks {
            if let Some((event, split)) = track.overdue(spec, *now) {
                tell.push(event);
                // Too long, and still seen: goes on as the next, already believed. After a gap it must be believed anew.
                if split && track.count > 0 {
                    let first = (*now, look.captured);
                    tell.push(track.begin(look, *now, first, 1, Of { camera, digest, ids }));
                    continue;
                }
            }
            if track.count == 0 {
                tell.extend(track.update(spec, *now));
                continue;
            }
            if track.open.is_some() {
                track.go_on(look, *now);
                tell.extend(track.update(spec, *now));
                continue;
            }
            track.hits.push_back((*now, look.captured));
            while track.hits.front().is_some_and(|(time, _)| now.saturating_sub(*time) > spec.window) {
                track.hits.pop_front();
            }
            if track.hits.len() >= spec.min_frames {
                let first = track.hits.front().copied().unwrap_or((*now, look.captured));
                let frames = track.hits.len() as u64;
                track.hits.clear();
                tell.push(track.begin(look, *now, first, frames, Of { camera, digest, ids }));
            }
        }
    }

    /// Ends what goes on: the camera is gone, or the daemon ends.
    pub fn end_all(&mut self, tell: &mut Vec<Event>) {
        for track in &mut self.tracks {
            track.hits.clear();
            tell.extend(track.open.take().map(Open::end));
        }
    }

    /// Events that go on.
    pub fn open(&self) -> impl Iterator<Item = &Event> {
        self.tracks.iter().filter_map(|track| Some(&track.open.as_ref()?.event))
    }

    /// Events that go on, with their times in the stream as of the latest frame.
    pub fn spans(&self) -> impl Iterator<Item = Span<'_>> {
        let since = |time: Duration| self.now.saturating_sub(time);
        self.tracks.iter().filter_map(|track| track.open.as_ref()).map(move |open| Span {
            id: &open.event.id,
            label: &open.event.label,
            age: since(open.began),
            unseen: since(open.last_seen),
        })
    }

    /// Events that go on whose best picture is frame `seq`: whoever keeps snapshots keeps this one for them.
    pub fn best_on(&self, seq: u64) -> impl Iterator<Item = &Event> {
        self.open().filter(move |event| event.seq == seq)
    }

    /// Says where the files of the event `id` are; every message about it from now on has them. False if it does not go on.
    pub fn keep(&mut self, id: &str, snapshot: Option<PathBuf>, recording: Option<PathBuf>) -> bool {
        let mut open = self.tracks.iter_mut().filter_map(|track| Some(&mut track.open.as_mut()?.event));
        let Some(event) = open.find(|event| event.id == id) else { return false };
        event.snapshot = snapshot.or(event.snapshot.take());
        event.recording = recording.or(event.recording.take());
        true
    }

    /// The digest of the pipeline that is in force from the next frame on.
    pub fn set_digest(&mut self, digest: &str) {
        digest.clone_into(&mut self.digest);
    }

    /// Sorts what was seen by label.
    fn note<'a>(&mut self, seen: impl IntoIterator<Item = Seen<'a>>) {
        self.tracks.iter_mut().for_each(|track| track.count = 0);
        for seen in seen {
            let wanted = self.spec.labels.is_empty() || self.spec.labels.iter().any(|l| l == seen.label);
            if !wanted || seen.score.is_nan() || seen.score < self.spec.min_score {
                continue;
            }
            let at = match self.tracks.iter().position(|track| track.label == seen.label) {
                Some(at) => at,
                None if self.tracks.len() < MOST_LABELS => {
                    self.tracks.push(Track::new(seen.label, self.spec.min_frames));
                    self.tracks.len() - 1
                }
                None => continue,
            };
            let track = &mut self.tracks[at];
            if track.count == 0 || seen.score > track.score {
                (track.score, track.xyxy) = (seen.score, seen.xyxy);
            }
            track.count += 1;
        }
    }
}

impl Track {
    fn new(label: &str, min_frames: usize) -> Self {
        Self {
            label: label.to_owned(),
            hits: VecDeque::with_capacity(min_frames + 1),
            open: None,
            count: 0,
            score: 0.0,
            xyxy: [0.0; 4],
        }
    }

    /// Ends what was not seen for too long, or lasts too long; with whether it is ended for its length alone.
    fn overdue(&mut self, spec: &EventSpec, now: Duration) -> Option<(Event, bool)> {
        let open = self.open.as_ref()?;
        let gone = now.saturating_sub(open.last_seen) >= spec.end_after;
        let long = now.saturating_sub(open.began) >= spec.max_length;
        if !(gone || long) {
            return None;
        }
        Some((self.open.take()?.end(), !gone))
    }

    fn begin(
        &mut self,
        look: &Look,
        now: Duration,
        first: (Duration, SystemTime),
        frames: u64,
        of: Of<'_>,
    ) -> Event {
        let event = Event {
            id: of.ids.next(first.1),
            revision: 0,
            camera: of.camera.to_owned(),
            label: self.label.clone(),
            phase: Phase::Start,
            start: first.1,
            end: None,
            frames,
            score: self.score,
            xyxy: self.xyxy,
            most: self.count,
            size: look.size,
            seq: look.seq,
            digest: of.digest.to_owned(),
            snapshot: None,
            recording: None,
        };
        self.open = Some(Open {
            event: event.clone(),
            began: first.0,
            last_seen: now,
            told: now,
            told_score: self.score,
        });
        event
    }

    /// It is seen on this frame, too.
    fn go_on(&mut self, look: &Look, now: Duration) {
        let Some(open) = &mut self.open else { return };
        open.last_seen = now;
        let event = &mut open.event;
        event.frames += 1;
        event.most = event.most.max(self.count);
        if self.score > event.score {
            (event.score, event.xyxy, event.size, event.seq) = (self.score, self.xyxy, look.size, look.seq);
        }
    }

    /// Tells of a notably better picture, not too often.
    fn update(&mut self, spec: &EventSpec, now: Duration) -> Option<Event> {
        let open = self.open.as_mut()?;
        let better = open.event.score > open.told_score && open.event.score >= open.told_score + spec.better;
        if !better || now.saturating_sub(open.told) < spec.update_every {
            return None;
        }
        (open.told, open.told_score) = (now, open.event.score);
        open.event.revision += 1;
        open.event.phase = Phase::Update;
        Some(open.event.clone())
    }
}

impl Open {
    fn end(self) -> Event {
        let mut event = self.event;
        event.revision += 1;
        event.phase = Phase::End;
        // By the stream's time: the wall clock may have jumped meanwhile.
        event.end = event.start.checked_add(self.last_seen.saturating_sub(self.began));
        event
    }
}
