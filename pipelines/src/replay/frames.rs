//! The frames that the pipeline looked at then, with the pictures that they were.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use tapetum_runtime::{Frame, Result};

use crate::{
    config::PipelineFile,
    recording::{
        digest,
        format::{FrameFate, FrameLine},
        read::{Pictures, Recording},
    },
    source::{Next, Source, SourceInfo},
};

/// Which decoded picture each delivered frame is.
pub(super) struct Matched {
    /// Index of the picture among all that are decoded, and the frame.
    pub frames: Vec<(usize, FrameLine)>,
    /// Frames that cannot be run again, with why.
    pub missing: Vec<(u64, String)>,
    pub remarks: Vec<String>,
}

impl Matched {
    /// Decodes the recording once and finds each frame's picture by its time and its digest.
    pub fn of(recording: &Recording, file: &PipelineFile) -> Result<Self> {
        let exact = recording.summary.head.exact;
        let (mut pictures, mut frame, mut decoded) = (recording.pictures()?, Frame::default(), Vec::new());
        while pictures.next(&mut frame)? {
            let digest = if exact { digest::picture(&frame.image) } else { String::new() };
            decoded.push((frame.pts.as_nanos(), digest));
        }
        let mut remarks = Vec::new();
        if pictures.broken() > 0 {
            remarks.push(format!("{} encoded pictures cannot be decoded", pictures.broken()));
        }
        let delivered: Vec<&FrameLine> =
            recording.frames.iter().filter(|frame| frame.fate == FrameFate::Delivered).collect();
        let begin = first_fresh(&delivered, file, &mut remarks);
        let (mut frames, mut missing, mut next) = (Vec::new(), Vec::new(), 0);
        for line in delivered.into_iter().skip(begin) {
            let rest = decoded.get(next..).unwrap_or_default();
            let on_time = rest.iter().position(|(pts, _)| *pts == u128::from(line.pts_ns));
            let is_it = |(_, digest): &(u128, String)| !exact || line.picture.as_ref() == Some(digest);
            // A source may have mended the frame's time after it was decoded: then the picture tells.
            let found = on_time
                .filter(|at| is_it(&rest[*at]))
                .or_else(|| if exact { rest.iter().position(is_it) } else { None });
            match found.or(on_time) {
                Some(at) => {
                    if found.is_none() {
                        let what =
                            "its picture is decoded otherwise than it was then; it is run all the same";
                        missing.push((line.seq, what.to_owned()));
                    }
                    frames.push((next + at, line.clone()));
                    next += at + 1;
                }
                None => missing.push((line.seq, "its picture is not in the recording".to_owned())),
            }
        }
        Ok(Self { frames, missing, remarks })
    }
}

/// The first frame from which on every stage with `every` begins with a run of its own, as it does when it is started.
fn first_fresh(delivered: &[&FrameLine], file: &PipelineFile, remarks: &mut Vec<String>) -> usize {
    let every: Vec<&str> =
        file.stages.iter().filter(|stage| stage.every > 1).map(|stage| stage.name.as_str()).collect();
    let fresh = |from: usize, stage: &&str| {
        let findings =
            delivered[from..].iter().filter_map(|frame| frame.result.as_ref()?["findings"].get(*stage));
        let mut ran = findings.filter(|finding| finding.get("skipped").is_none());
        ran.next().is_none_or(|finding| finding.get("age_s").is_none())
    };
    let found = (0..delivered.len()).find(|from| every.iter().all(|stage| fresh(*from, stage)));
    match found {
        Some(0) => 0,
        Some(at) => {
            remarks.push(format!(
                "begins with frame {}: {} used a result from before the recording until then",
                delivered[at].seq,
                every.join(", ")
            ));
            at
        }
        None => {
            if !delivered.is_empty() {
                remarks.push(format!(
                    "{} never began anew together: results may be of other frames",
                    every.join(", ")
                ));
            }
            0
        }
    }
}

/// Decodes the recording again and gives the frames.
pub(super) struct Frames {
    info: SourceInfo,
    pictures: Pictures,
    /// So many were decoded.
    decoded: usize,
    frames: VecDeque<(usize, FrameLine)>,
}

impl Frames {
    pub fn new(recording: &Recording, matched: &Matched) -> Result<Self> {
        let head = &recording.summary.head;
        let info = SourceInfo {
            name: head.source.clone(),
            live: false,
            frames: Some(matched.frames.len() as u64),
            interval: None,
            size: Some(head.size),
        };
        let frames = matched.frames.iter().cloned().collect();
        Ok(Self { info, pictures: recording.pictures()?, decoded: 0, frames })
    }
}

impl Source for Frames {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn next(&mut self, frame: &mut Frame) -> Result<Next> {
        let Some((at, line)) = self.frames.pop_front() else { return Ok(Next::End) };
        while self.decoded <= at {
            if !self.pictures.next(frame)? {
                return Ok(Next::End);
            }
            self.decoded += 1;
        }
        frame.seq = line.seq;
        frame.pts = Duration::from_nanos(line.pts_ns);
        let captured = line.captured.and_then(|time| time.parse::<jiff::Timestamp>().ok());
        frame.captured = captured.and_then(|time| SystemTime::try_from(time).ok());
        Ok(Next::Frame)
    }
}
