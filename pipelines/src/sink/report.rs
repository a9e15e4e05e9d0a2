//! `report.html`: a run on one page that needs nothing else, for reading and printing.

mod chart;
mod frames;
mod page;
mod series;

use std::path::{Path, PathBuf};

use tapetum_runtime::{Result, finding::Finding};

use self::{
    frames::{Frames, Moment},
    series::{Point, Series},
};
use super::{Sink, SinkKind, files, look};
use crate::{Item, RunInfo, Summary};

/// `--sink report`.
pub(super) const REPORT: SinkKind = SinkKind {
    name: "report",
    writes: "report.html: the run on one page, with charts and key frames",
    open: |out, run| Ok(Box::new(Report::new(out, run))),
};

struct Report {
    path: PathBuf,
    /// The stage whose classes are shown: the first that classifies.
    classes: Option<usize>,
    /// The stage whose areas are shown: the first that segments.
    mask: Option<usize>,
    series: Series,
    frames: Frames,
}

impl Report {
    fn new(out: &Path, run: &RunInfo) -> Self {
        let first = |kind| run.stages.iter().position(|stage| stage.kind == kind);
        Self {
            path: out.join("report.html"),
            classes: first("classify"),
            mask: first("segment"),
            series: Series::default(),
            frames: Frames::default(),
        }
    }
}

impl Sink for Report {
    fn name(&self) -> &'static str {
        REPORT.name
    }

    fn deliver(&mut self, item: &Item, run: &RunInfo) -> Result<()> {
        let class = match self.classes.and_then(|stage| item.found(stage)) {
            Some(Finding::Class(class)) => Some(class.label),
            _ => None,
        };
        let (mut area, mut share) = (0, 0.0);
        if let Some(Finding::Mask(mask)) = self.mask.and_then(|stage| item.found(stage)) {
            area = look::foreground(mask);
            let crop = look::union(mask).map_or(0, |rect| rect.width * rect.height);
            share = area as f64 / crop.max(1) as f64;
        }
        let seconds = item.frame.pts.as_secs_f64();
        self.series.add(Point { seconds, class, area, share });
        let label = class.zip(self.classes).and_then(|(c, stage)| run.stages.get(stage)?.labels.get(c));
        let moment = Moment { seconds, label: label.map(String::as_str), area };
        self.frames.see(&moment, item, run).map_err(|e| e.at(self.path.display()))
    }

    fn finish(&mut self, run: &RunInfo, summary: &Summary) -> Result<()> {
        self.frames.end().map_err(|e| e.at(self.path.display()))?;
        let stages =
            (self.classes.and_then(|s| run.stages.get(s)), self.mask.and_then(|s| run.stages.get(s)));
        let page = page::page(run, summary, stages, &self.series, &self.frames);
        files::replace(&self.path, page.as_bytes())
    }
}
