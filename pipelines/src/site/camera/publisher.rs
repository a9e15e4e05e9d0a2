//! From a frame with its findings to the site's outputs and to whoever looks at the camera.

use std::sync::Arc;

use tapetum_runtime::Result;

use super::CameraCore;
use crate::{
    Fate, Item, RunInfo, Summary,
    sink::{Canvas, ResultLine, Sink, mask_png},
    site::{
        live::{LiveFrame, LiveMask},
        message::{FrameResult, Message},
    },
};

/// Of the pictures that are looked at.
const QUALITY: u8 = 80;

/// They are shrunk to this many pixels on their longer side.
const MOST: usize = 1280;

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
        let camera = &self.camera;
        let watched = camera.live.watched();
        let results = camera.outlets.wants_results();
        let line = if watched || results { self.line.of(item, run) } else { &[] };
        if results {
            let result = FrameResult { camera: camera.name.clone(), line: line.to_vec() };
            camera.outlets.offer(&Message::Result(Arc::new(result)));
        }
        if item.fate == Fate::Ok
            && let Some(watcher) = &mut *super::lock(&camera.watcher)
        {
            watcher.see(item, run, &mut |event| camera.outlets.offer(&Message::Event(Arc::new(event))));
        }
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
                result: line.strip_suffix(b"\n").unwrap_or(line).to_vec(),
            });
        }
        Ok(())
    }

    fn finish(&mut self, _: &RunInfo, _: &Summary) -> Result<()> {
        Ok(())
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
