//! From a frame with its findings to the site's outputs and to whoever looks at the camera.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use tapetum_runtime::{Image, Result};

use super::{CameraCore, Watcher};
use crate::{
    Fate, Item, RunInfo, Summary,
    recording::digest,
    sink::{Canvas, ResultLine, Sink, mask_png},
    site::{
        live::{LiveFrame, LiveMask},
        message::{FrameResult, Message},
        record::{
            Snapshots, Wants,
            tape::{Delivered, Span},
        },
    },
};

/// Of the pictures that are looked at.
const QUALITY: u8 = 80;

/// They are shrunk to this many pixels on their longer side.
const MOST: usize = 1280;

/// Of pictures that are kept.
const KEPT: u8 = 92;

/// The one sink of a camera's executor. It never waits for a disk or a network, and never fails.
pub(crate) struct Publisher {
    camera: Arc<CameraCore>,
    line: ResultLine,
    canvas: Canvas,
}

impl Publisher {
    pub fn new(camera: Arc<CameraCore>) -> Self {
        Self { camera, line: ResultLine::default(), canvas: Canvas::default() }
    }
}

impl Sink for Publisher {
    fn name(&self) -> &'static str {
        "site"
    }

    fn deliver(&mut self, item: &Item, run: &RunInfo) -> Result<()> {
        let camera = self.camera.clone();
        let watched = camera.live.watched();
        let results = camera.outlets.wants_results();
        let wants = super::lock(&camera.recorder).as_ref().map(|recorder| recorder.wants());
        let recorded = wants.is_some_and(|wants| wants.frames);
        if watched || results || recorded {
            self.line.of(item, run);
        }
        if results {
            let result = FrameResult { camera: camera.name.clone(), line: self.line.bytes().to_vec() };
            camera.outlets.offer(&Message::Result(Arc::new(result)));
        }
        self.events(item, run, wants);
        if watched {
            let image = item.image_for(item.slots.len());
            self.canvas.picture(image, MOST);
            let mut jpeg = Vec::new();
            // A picture that no JPEG can hold is a frame without one.
            self.canvas.jpeg(&mut jpeg, QUALITY).ok();
            camera.live.show(LiveFrame {
                seq: item.frame.seq,
                captured: item.frame.captured,
                size: (image.width(), image.height()),
                jpeg,
                masks: masks(item, run),
                result: self.line.bytes().trim_ascii_end().to_vec(),
            });
        }
        Ok(())
    }

    fn finish(&mut self, _: &RunInfo, _: &Summary) -> Result<()> {
        Ok(())
    }
}

impl Publisher {
    /// What happens on the frame, and what is kept of it.
    fn events(&mut self, item: &Item, run: &RunInfo, wants: Option<Wants>) {
        let camera = self.camera.clone();
        let recorded = wants.filter(|wants| wants.frames);
        // Before any lock is taken: others wait for those.
        let jpeg = recorded.filter(|wants| wants.pictures).and_then(|_| self.jpeg(&item.frame.image));
        let frame = recorded.map(|_| self.delivered(item, run));
        let mut watcher = super::lock(&camera.watcher);
        let Some(watcher) = &mut *watcher else { return };
        if item.fate == Fate::Ok {
            watcher.see(item, run);
        }
        if let (Some(frame), Some(recorder)) = (frame, &mut *super::lock(&camera.recorder)) {
            let open: Vec<Span<'_>> = watcher.spans().collect();
            let shown = recorder.delivered(frame, jpeg, &open);
            shown.iter().for_each(|(id, place)| watcher.recorded(id, place));
        }
        let best = match wants.map(|wants| wants.snapshots).filter(|kind| *kind != Snapshots::Off) {
            Some(kind) => self.snapshots(item, run, kind, watcher),
            None => Vec::new(),
        };
        // Asked for before anything is told: what is told waits for it.
        for (id, jpeg) in best {
            let place = PathBuf::from(&camera.name).join(format!("{id}.jpg"));
            let number = camera.held.picture(&id);
            let (held, there) = (camera.held.clone(), place.clone());
            let done = Box::new(move |written| held.written(&id, number, &there, written));
            match &mut *super::lock(&camera.recorder) {
                Some(recorder) => recorder.snapshot(place, jpeg, done),
                None => done(false),
            }
        }
        watcher.hand_over(&mut |event| camera.held.take(event));
    }

    fn delivered(&self, item: &Item, run: &RunInfo) -> Delivered {
        let image = &item.frame.image;
        Delivered {
            seq: item.frame.seq,
            pts: item.frame.pts,
            captured: item.frame.captured,
            size: (image.width(), image.height()),
            picture: digest::picture(image),
            found: digest::found(&self.line, item, run),
            result: self.line.bytes().trim_ascii_end().to_vec(),
        }
    }

    /// The frame as a picture, for every event that it is the best of.
    fn snapshots(
        &mut self,
        item: &Item,
        run: &RunInfo,
        kind: Snapshots,
        watcher: &Watcher,
    ) -> Vec<(String, Bytes)> {
        let ids: Vec<String> = watcher.best_on(item.frame.seq).map(str::to_owned).collect();
        if ids.is_empty() {
            return Vec::new();
        }
        match kind {
            Snapshots::Boxes => self.canvas.paint(item, run, usize::MAX),
            _ => self.canvas.picture(item.image_for(item.slots.len()), usize::MAX),
        }
        let mut jpeg = Vec::new();
        if self.canvas.jpeg(&mut jpeg, KEPT).is_err() {
            // No JPEG can hold it.
            return Vec::new();
        }
        let jpeg = Bytes::from(jpeg);
        ids.into_iter().map(|id| (id, jpeg.clone())).collect()
    }

    fn jpeg(&mut self, image: &Image) -> Option<Bytes> {
        self.canvas.picture(image, usize::MAX);
        let mut jpeg = Vec::new();
        self.canvas.jpeg(&mut jpeg, KEPT).ok()?;
        Some(jpeg.into())
    }
}

fn masks(item: &Item, run: &RunInfo) -> Vec<LiveMask> {
    let one = |(at, stage): (usize, &crate::StageInfo)| {
        let png = mask_png(item, at)?;
        // A mask with a single label has it for class 1, as class 0 is the background.
        let background = if stage.labels.len() == 1 { vec![String::new()] } else { Vec::new() };
        let labels = background.into_iter().chain(stage.labels.iter().cloned()).collect();
        Some(LiveMask { stage: stage.name.clone(), labels, png })
    };
    run.stages.iter().enumerate().filter_map(one).collect()
}
