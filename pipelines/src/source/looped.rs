//! A video file or pictures over and over, at their own rate: a camera for tests.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tapetum_runtime::{
    Error, Frame, Result,
    clock::{Clock, Monotonic, Tick},
};

use super::{
    Losses, Next, Opened, SequenceFaults, Source, SourceInfo, StampFaults, live::GLANCE, packets::Packet,
    spec::Spec,
};

/// For people.
pub const USAGE: &str =
    "loop:SOURCE (a file, pictures or synthetic:, over and over as a camera), with ?fps=N";

/// What a specification of this kind begins with.
const SCHEME: &str = "loop:";

/// Usual time between frames of a source that does not say it.
const USUAL: Duration = Duration::from_millis(40);

/// A source that is played again and again, each frame when its time has come.
///
/// Times and numbers go on over the seam. Like a camera it does not wait for who is slow: frames whose time is over are
/// left out of the numbers. The pictures themselves follow each other without a gap, for a decoder needs every one.
pub struct Looped {
    open: Box<dyn Fn() -> Opened + Send>,
    inner: Box<dyn Source>,
    info: SourceInfo,
    clock: Arc<dyn Clock>,
    /// The source's times are stretched by this.
    stretch: f64,
    usual: Duration,
    /// When the frame at time 0 was due.
    start: Option<Tick>,
    /// The frame that waits for its time.
    held: Option<Frame>,
    spare: Frame,
    /// Where the current round began, and the end of its latest frame.
    round: Duration,
    end: Duration,
    /// Whether this round gave anything.
    gave: bool,
    seq: u64,
    past: StampFaults,
    keep: bool,
    kept: Vec<Packet>,
}

pub(super) fn open(spec: &str) -> Option<Opened> {
    let rest = spec.strip_prefix(SCHEME)?;
    Some(Looped::open(rest).map(|source| Box::new(source) as Box<dyn Source>))
}

/// What is played, and at which rate, if that is said.
fn rate(text: &str) -> Result<(&str, Option<f64>)> {
    match text.rsplit_once('?') {
        Some((name, query)) if query.starts_with("fps=") && !query.contains('&') => {
            Ok((name, Some(Spec::parse(&format!("loop?{query}"), &["fps"])?.fps()?)))
        }
        _ => Ok((text, None)),
    }
}

/// How long a source of this kind that works gives nothing, by what its specification says.
pub(super) fn silence(spec: &str) -> Option<Duration> {
    let (_, fps) = rate(spec.strip_prefix(SCHEME)?).ok()?;
    Some(Duration::from_secs_f64(3.0 / fps?))
}

impl Looped {
    /// Opens `SOURCE?fps=N`. A query that says more than `fps` is the source's own.
    ///
    /// # Errors
    /// What the source says; a source that is live already.
    pub fn open(text: &str) -> Result<Self> {
        let (name, fps) = rate(text)?;
        let name = name.to_owned();
        Self::new(Box::new(move || super::open(&name)), fps, Arc::new(Monotonic::start()))
    }

    /// Plays what `open` gives, at `fps` frames per second or at its own rate, by `clock`.
    ///
    /// # Errors
    /// As [`Looped::open`].
    pub fn new(
        open: Box<dyn Fn() -> Opened + Send>,
        fps: Option<f64>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let inner = open()?;
        let theirs = inner.info();
        if theirs.live {
            return Err(Error::config(format!("{}: is live already and cannot be looped", theirs.name)));
        }
        let own = theirs.interval.filter(|own| !own.is_zero()).unwrap_or(USUAL);
        let usual = fps.map_or(own, |fps| Duration::from_secs_f64(1.0 / fps));
        let info = SourceInfo {
            name: format!("{SCHEME}{}", theirs.name),
            live: true,
            frames: None,
            interval: Some(usual),
            size: theirs.size,
        };
        Ok(Self {
            open,
            inner,
            info,
            clock,
            stretch: usual.as_secs_f64() / own.as_secs_f64(),
            usual,
            start: None,
            held: None,
            spare: Frame::default(),
            round: Duration::ZERO,
            end: Duration::ZERO,
            gave: false,
            seq: 0,
            past: StampFaults::default(),
            keep: false,
            kept: Vec::new(),
        })
    }

    /// Begins the next round.
    fn again(&mut self) -> Result<()> {
        if !self.gave {
            return Err(Error::bad_file(format!("{}: holds no frame that can be read", self.info.name)));
        }
        self.past += self.inner.stamps();
        self.collect();
        self.inner = (self.open)()?;
        if self.keep {
            self.inner.keep_packets();
        }
        (self.round, self.gave) = (self.end, false);
        Ok(())
    }

    /// Takes the source's packets, while it is known in which round they were read.
    fn collect(&mut self) {
        let (round, stretch, kept) = (self.round, self.stretch, &mut self.kept);
        self.inner.packets(&mut |mut packet| {
            packet.pts = round + packet.pts.mul_f64(stretch);
            kept.push(packet);
        });
    }

    /// Reads the next frame into `held`, with its time in the whole.
    fn read(&mut self) -> Result<Option<Next>> {
        let mut frame = std::mem::take(&mut self.spare);
        let next = self.inner.next(&mut frame);
        match next {
            Ok(Next::Frame) => {
                frame.pts = self.round + frame.pts.mul_f64(self.stretch);
                self.end = frame.pts + self.usual;
                self.gave = true;
                frame.seq = self.seq;
                self.seq += 1;
                self.held = Some(frame);
                Ok(None)
            }
            Ok(Next::Unreadable(why)) => {
                frame.seq = self.seq;
                self.seq += 1;
                self.end += self.usual;
                self.spare = frame;
                Ok(Some(Next::Unreadable(why)))
            }
            Ok(Next::End) => {
                self.spare = frame;
                self.again().map(|()| None)
            }
            Ok(Next::Idle) => {
                self.spare = frame;
                Ok(Some(Next::Idle))
            }
            Err(e) => Err(e),
        }
    }
}

impl Source for Looped {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn next(&mut self, frame: &mut Frame) -> Result<Next> {
        while self.held.is_none() {
            if let Some(next) = self.read()? {
                frame.seq = self.seq.saturating_sub(1);
                return Ok(next);
            }
        }
        let Some(held) = &mut self.held else { return Ok(Next::Idle) };
        let now = self.clock.now();
        let start = *self.start.get_or_insert(now.saturating_sub(held.pts));
        let due = start + held.pts;
        if due > now {
            let left = due - now;
            std::thread::sleep(left.min(GLANCE));
            if left > GLANCE || self.clock.now() < due {
                return Ok(Next::Idle);
            }
        }
        // Whole intervals late: a camera would have taken other pictures meanwhile.
        let late = (self.clock.now().saturating_sub(due).as_nanos() / self.usual.as_nanos().max(1)) as u64;
        if late > 0 {
            let skipped = self.usual.saturating_mul(u32::try_from(late).unwrap_or(u32::MAX));
            held.seq += late;
            held.pts += skipped;
            self.seq += late;
            self.end += skipped;
            self.round += skipped;
        }
        held.captured = Some(SystemTime::now());
        std::mem::swap(frame, held);
        self.spare = self.held.take().unwrap_or_default();
        Ok(Next::Frame)
    }

    fn stamps(&self) -> StampFaults {
        let mut stamps = self.past;
        stamps += self.inner.stamps();
        stamps
    }

    fn losses(&self) -> Losses {
        self.inner.losses()
    }

    fn sequence(&self) -> SequenceFaults {
        self.inner.sequence()
    }

    fn remarks(&self) -> &[String] {
        self.inner.remarks()
    }

    fn keep_packets(&mut self) -> bool {
        self.keep = true;
        self.inner.keep_packets()
    }

    fn packets(&mut self, take: &mut dyn FnMut(Packet)) {
        // A frame that waits may yet be found late, and its packets' times go with it.
        if self.held.is_none() {
            self.collect();
        }
        self.kept.drain(..).for_each(take);
    }
}
