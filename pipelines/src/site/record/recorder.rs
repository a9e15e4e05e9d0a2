//! One camera's tape between its threads and the media folder.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use super::{
    Media, RecordSpec, Snapshots,
    media::Order,
    tape::{self, Begin, Delivered, Span, Step, Tape},
};
use crate::{
    recording::format::{Ended, Head, RunHead, VERSION, nanos},
    source::packets::{Codec, Packet},
};

/// What a camera's frames are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::site) struct Wants {
    /// Their results and digests.
    pub frames: bool,
    /// Their pictures, for the source gives no encoded ones.
    pub pictures: bool,
    /// The best of an event.
    pub snapshots: Snapshots,
}

/// Lives as long as the camera's configuration of it.
pub(in crate::site) struct Recorder {
    site: String,
    camera: String,
    source: String,
    spec: RecordSpec,
    tape: Tape,
    media: Arc<Media>,
    run: RunHead,
    /// Whether the source gives encoded pictures.
    own: bool,
    steps: Vec<Step>,
}

impl Recorder {
    /// For `camera` of `site`, whose frames come from `source` (no secrets); `window`: that of its events.
    pub fn new(
        [site, camera, source]: [&str; 3],
        spec: &RecordSpec,
        window: Duration,
        media: Arc<Media>,
    ) -> Self {
        media.offer(Order::Look);
        media.widen(at_once(spec));
        Self {
            site: site.to_owned(),
            camera: camera.to_owned(),
            source: source.to_owned(),
            spec: spec.clone(),
            tape: Tape::new(camera, spec.clone(), window),
            media,
            run: RunHead::default(),
            own: false,
            steps: Vec::new(),
        }
    }

    /// What it needs of each frame.
    pub fn wants(&self) -> Wants {
        let clips = self.spec.clips;
        Wants { frames: clips, pictures: clips && !self.own, snapshots: self.spec.snapshots }
    }

    /// Whether encoded pictures are wanted.
    pub fn wants_packets(&self) -> bool {
        self.spec.clips
    }

    /// What the source decoded.
    pub fn packets(&mut self, packets: impl Iterator<Item = Packet>) {
        if !self.spec.clips {
            return;
        }
        for packet in packets {
            if !self.own {
                // What was encoded here does not go with what the camera encoded.
                self.own = true;
                self.tape.other_source(&mut self.steps);
            }
            self.tape.packet(packet, &mut self.steps);
        }
        self.order();
    }

    /// A frame that the source gave; `taken`: it goes to the pipeline.
    pub fn given(&mut self, seq: u64, pts: Duration, captured: Option<SystemTime>, taken: bool) {
        if self.spec.clips {
            self.tape.given(seq, pts, captured, taken);
        }
    }

    /// A frame that the pipeline is done with, as JPEG if that was wanted; see [`Tape::delivered`].
    pub fn delivered(
        &mut self,
        frame: Delivered,
        jpeg: Option<Bytes>,
        open: &[Span<'_>],
    ) -> Vec<(String, PathBuf)> {
        if let Some(bytes) = jpeg.filter(|_| !self.own) {
            let pts = frame.pts;
            let packet = Packet { codec: Codec::Jpeg, key: true, gap: false, pts, parameters: None, bytes };
            self.tape.packet(packet, &mut self.steps);
        }
        let shown = self.tape.delivered(frame, open, &mut self.steps);
        self.order();
        shown
    }

    /// The best picture of an event; `done` is told whether it is at `place` of the media folder.
    pub fn snapshot(&self, place: PathBuf, jpeg: Bytes, done: Box<dyn FnOnce(bool) + Send>) {
        self.media.offer(Order::Snapshot(place, jpeg, done));
    }

    /// `run` looks at the frames from here on.
    pub fn runs(&mut self, run: RunHead) {
        self.tape.other_pipeline(&mut self.steps);
        self.order();
        self.run = run;
    }

    /// The frames come from another source from here on.
    pub fn comes_from(&mut self, source: &str) {
        self.tape.other_source(&mut self.steps);
        self.order();
        source.clone_into(&mut self.source);
        self.own = false;
    }

    /// What is recorded ends here.
    pub fn end(&mut self, why: Ended) {
        self.tape.end(why, &mut self.steps);
        self.order();
    }

    /// Hands over what the tape wants done.
    fn order(&mut self) {
        let mut steps = std::mem::take(&mut self.steps);
        let mut slow = false;
        for step in steps.drain(..) {
            match step {
                Step::Begin(begin) => {
                    let head = self.head(&begin);
                    slow |= !self.media.offer(Order::Begin(begin.place, Box::new(head)));
                }
                // What comes behind a gap cannot be decoded.
                Step::More { .. } if slow => {}
                Step::More { place, packets, frames } => {
                    slow = !Order::pieces(place, packets, frames).all(|piece| self.media.offer(piece));
                }
                Step::End { place, events, why } => {
                    self.media.offer(Order::End(place, events, if slow { Ended::Slow } else { why }));
                }
            }
        }
        if slow {
            self.tape.end(Ended::Slow, &mut steps);
            for step in steps.drain(..) {
                if let Step::End { place, events, why } = step {
                    self.media.offer(Order::End(place, events, why));
                }
            }
        }
        self.steps = steps;
    }

    /// What is known of a recording when it begins.
    fn head(&self, begin: &Begin) -> Head {
        Head {
            format: VERSION,
            id: begin.event.id.clone(),
            camera: self.camera.clone(),
            site: self.site.clone(),
            tapetum: env!("CARGO_PKG_VERSION").to_owned(),
            source: self.source.clone(),
            size: begin.size,
            codec: begin.codec.into(),
            exact: self.own,
            begin_ns: nanos(begin.begin),
            label: begin.event.label.clone(),
            run: self.run.clone(),
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.media.narrow(at_once(&self.spec));
    }
}

/// Bytes that a recording may begin with: pictures, and results of frames.
fn at_once(spec: &RecordSpec) -> usize {
    if spec.clips { spec.memory.saturating_add(tape::most_results(spec)) } else { 0 }
}
