//! A source that comes back by itself: opened again after every failure, with one line of time and of numbers throughout.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tapetum_runtime::{
    Error, ErrorKind, Frame, Result,
    clock::{Clock, Monotonic, Tick},
};

use super::{
    Losses, Next, Opened, SequenceFaults, Source, SourceInfo, StampFaults,
    health::Figures,
    live::{GLANCE, Live, Stop},
    looped,
    packets::Packet,
    recover::{Do, Loss, Patience, Recovery},
    rtsp::{self, RtspOptions},
    v4l,
};

pub use super::health::{SourceHealth, SourceState};

/// How a camera is opened and looked after.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LiveOptions {
    /// For `rtsp://`; what the address says behind its `#` goes before it.
    pub rtsp: RtspOptions,
    /// When it is given up and opened again.
    pub patience: Patience,
    /// Whether the encoded pictures are kept for [`Source::packets`], where the source has them.
    pub packets: bool,
}

/// How much later a network camera gives up by itself than it is given up.
const LATER: Duration = Duration::from_secs(1);

/// Opens a source. It returns soon after the [`Stop`] is set.
pub type Opener = Box<dyn FnMut(&Stop) -> Opened + Send>;

/// A camera, or what stands for one, that never ends by itself: what goes wrong is counted and it is opened again.
///
/// Its frames have one line of time: after an outage it goes on as much later as the time that passed. Sequence numbers
/// go on, too. [`Source::next`] gives frames, [`Next::Unreadable`] and [`Next::Idle`], and [`Next::End`] once it is told
/// to stop, within a tenth of a second; never an error.
pub struct Supervised {
    live: Live,
    state: Arc<SourceState>,
}

/// Looks after the source that `spec` names ([`super::open`]). It is opened by a thread of its own, so this returns at
/// once, whether or not the source is there. A file ends where it ends; `loop:` does not.
///
/// # Errors
/// [`ErrorKind::Environment`] if the system gives no thread. What is wrong with `spec` shows in the state: one camera
/// that is configured wrongly does not keep the others from starting.
pub fn open_live(spec: &str, options: &LiveOptions, stop: Stop) -> Result<Supervised> {
    let (name, mut options) = (rtsp::shown(spec), options.clone());
    let own = [rtsp::silence(spec), v4l::silence(spec), looped::silence(spec)];
    let stall = own.into_iter().flatten().fold(options.patience.stall, Duration::max);
    options.patience.stall = stall;
    // Whoever notices first tells it, and what is noticed here is counted as a stall.
    let (spec, mut rtsp) = (v4l::with_silence(spec, stall + LATER), options.rtsp.clone());
    rtsp.stall = rtsp.stall.max(stall + LATER);
    let open: Opener = Box::new(move |stop| match spec.starts_with(rtsp::SCHEME) {
        true => rtsp::Rtsp::open(&spec, &rtsp, stop).map(|source| Box::new(source) as Box<dyn Source>),
        false => super::open(&spec),
    });
    Supervised::start(name, open, &options, stop, Arc::new(Monotonic::start()))
}

impl Supervised {
    /// As [`open_live`], with any way to open the source. `name` is shown until the source tells its own.
    ///
    /// # Errors
    /// As [`open_live`].
    pub fn start(
        name: String,
        open: Opener,
        options: &LiveOptions,
        stop: Stop,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let now = clock.now();
        // The same camera waits the same times in every run, and no two cameras do.
        let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let info = SourceInfo { name, live: true, ..SourceInfo::default() };
        let recovery = Recovery::new(options.patience, seed, now);
        let state = Arc::new(SourceState::new(Arc::clone(&clock), now, &recovery, info.clone()));
        let watched = Watched {
            open,
            source: None,
            recovery,
            clock,
            stop: stop.clone(),
            state: Arc::clone(&state),
            line: Line::default(),
            info,
            remarks: Vec::new(),
            past: Figures::default(),
            packets: options.packets,
        };
        let mut live = Live::start(Box::new(watched), stop)?;
        if options.packets {
            live.keep_packets();
        }
        state.count_overtaken(live.overtaken());
        Ok(Self { live, state })
    }

    /// How it fares; a handle that outlives the source.
    pub fn state(&self) -> Arc<SourceState> {
        Arc::clone(&self.state)
    }
}

impl Source for Supervised {
    fn info(&self) -> &SourceInfo {
        self.live.info()
    }

    fn next(&mut self, frame: &mut Frame) -> Result<Next> {
        self.live.next(frame)
    }

    fn stamps(&self) -> StampFaults {
        self.live.stamps()
    }

    fn losses(&self) -> Losses {
        self.live.losses()
    }

    fn sequence(&self) -> SequenceFaults {
        self.live.sequence()
    }

    fn remarks(&self) -> &[String] {
        self.live.remarks()
    }

    fn keep_packets(&mut self) -> bool {
        self.live.keep_packets()
    }

    fn packets(&mut self, take: &mut dyn FnMut(Packet)) {
        self.live.packets(take);
    }
}

/// What the thread of [`Supervised`] reads: the source that is open, or the wait for the next attempt.
struct Watched {
    open: Opener,
    source: Option<Box<dyn Source>>,
    recovery: Recovery,
    clock: Arc<dyn Clock>,
    stop: Stop,
    state: Arc<SourceState>,
    line: Line,
    info: SourceInfo,
    remarks: Vec<String>,
    /// Of the connections that are over.
    past: Figures,
    packets: bool,
}

impl Watched {
    fn try_open(&mut self) {
        self.publish();
        let opened = catch_unwind(AssertUnwindSafe(|| (self.open)(&self.stop)));
        let now = self.clock.now();
        match opened.unwrap_or_else(|_| Err(Error::internal("it panicked while it was opened"))) {
            Ok(mut source) => {
                if self.packets {
                    source.keep_packets();
                }
                self.info = source.info().clone();
                self.remarks = source.remarks().to_vec();
                self.line.reopened();
                self.source = Some(source);
                self.recovery.opened(now);
            }
            Err(e) => self.recovery.refused(now, e.to_string(), hopeless(&e)),
        }
        self.publish();
    }

    fn read(&mut self, frame: &mut Frame) -> Result<Next> {
        let Some(source) = &mut self.source else {
            return Err(Error::internal("a source that is not open cannot be read"));
        };
        let next = catch_unwind(AssertUnwindSafe(|| source.next(frame)))
            .unwrap_or_else(|_| Err(Error::internal("it panicked")));
        let now = self.clock.now();
        let loss = match next {
            Ok(Next::Frame) => {
                self.line.place(frame, now);
                let first = self.recovery.picture(now);
                let figures = Figures::of(&**source);
                if self.info != *source.info() {
                    self.info.clone_from(source.info());
                    self.state.lock().info.clone_from(&self.info);
                }
                self.count(frame, now, figures);
                if first {
                    self.publish();
                }
                return Ok(Next::Frame);
            }
            Ok(Next::Unreadable(why)) => {
                self.recovery.unreadable(now);
                frame.seq = self.line.number(frame.seq);
                if !self.recovery.stalled(now) {
                    self.state.lock().unreadable += 1;
                    return Ok(Next::Unreadable(why));
                }
                Loss::Stall
            }
            Ok(Next::Idle) if !self.recovery.stalled(now) => return Ok(Next::Idle),
            Ok(Next::Idle) => Loss::Stall,
            Ok(Next::End) if !self.info.live => {
                self.end();
                return Ok(Next::End);
            }
            Ok(Next::End) => Loss::Ended,
            Err(e) => Loss::Failed { why: e.to_string(), hopeless: hopeless(&e) },
        };
        self.close();
        self.recovery.lost(now, loss);
        self.publish();
        Ok(Next::Idle)
    }

    /// Gives the source up and keeps its figures.
    fn close(&mut self) {
        if let Some(source) = self.source.take() {
            self.past += Figures::of(&*source);
        }
    }

    fn end(&mut self) {
        self.close();
        self.recovery.stop();
        self.publish();
    }

    fn figures(&self) -> Figures {
        let mut figures = self.past;
        if let Some(source) = &self.source {
            figures += Figures::of(&**source);
        }
        figures
    }

    /// For every picture: only what changes with it.
    fn count(&self, frame: &Frame, now: Tick, current: Figures) {
        let mut health = self.state.lock();
        health.pictures += 1;
        health.latest = Some((now, frame.captured.unwrap_or_else(SystemTime::now)));
        let mut all = self.past;
        all += current;
        health.count(all);
    }

    fn publish(&self) {
        let figures = self.figures();
        let mut health = self.state.lock();
        health.phase.clone_from(self.recovery.phase());
        health.faults.clone_from(self.recovery.faults());
        health.info.clone_from(&self.info);
        health.down = self.recovery.down();
        health.remarks.clone_from(&self.remarks);
        health.count(figures);
    }
}

impl Source for Watched {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn next(&mut self, frame: &mut Frame) -> Result<Next> {
        if self.stop.is_set() {
            self.end();
            return Ok(Next::End);
        }
        match self.recovery.ask(self.clock.now()) {
            Do::Open => self.try_open(),
            Do::Read => return self.read(frame),
            Do::Wait(left) => std::thread::sleep(left.min(GLANCE)),
            Do::Stop => return Ok(Next::End),
        }
        Ok(Next::Idle)
    }

    fn stamps(&self) -> StampFaults {
        self.figures().stamps
    }

    fn losses(&self) -> Losses {
        self.figures().losses
    }

    fn sequence(&self) -> SequenceFaults {
        self.figures().sequence
    }

    fn remarks(&self) -> &[String] {
        &self.remarks
    }

    fn keep_packets(&mut self) -> bool {
        self.packets = true;
        self.source.as_mut().is_none_or(|source| source.keep_packets())
    }

    fn packets(&mut self, take: &mut dyn FnMut(Packet)) {
        let (Some(source), now) = (&mut self.source, self.clock.now()) else { return };
        let line = &mut self.line;
        source.packets(&mut |mut packet| {
            packet.pts = line.time(packet.pts, now);
            take(packet);
        });
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether a new attempt cannot mend it by itself.
fn hopeless(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::InvalidConfig | ErrorKind::Unsupported)
}

/// Joins the times and numbers of one connection to those of the one before.
#[derive(Debug, Default)]
struct Line {
    /// Time of the latest frame, and when it came.
    last: Option<(Duration, Tick)>,
    /// The number after the latest one.
    next: u64,
    /// Added to this connection's times (in nanoseconds) and numbers, once that is known.
    shift: Option<i128>,
    ahead: Option<u64>,
}

impl Line {
    fn reopened(&mut self) {
        (self.shift, self.ahead) = (None, None);
    }

    /// Whatever comes first of a connection, a packet or a frame, is as much later than the last frame before as the
    /// time that passed.
    fn time(&mut self, pts: Duration, now: Tick) -> Duration {
        let pts = pts.as_nanos().cast_signed();
        let shift = *self.shift.get_or_insert_with(|| match self.last {
            None => 0,
            Some((last, at)) => {
                let passed = now.saturating_sub(at).max(Duration::from_nanos(1));
                (last + passed).as_nanos().cast_signed() - pts
            }
        });
        Duration::from_nanos(u64::try_from(pts + shift).unwrap_or(0))
    }

    fn number(&mut self, seq: u64) -> u64 {
        let next = self.next;
        let seq = seq + *self.ahead.get_or_insert_with(|| next.saturating_sub(seq));
        self.next = self.next.max(seq + 1);
        seq
    }

    fn place(&mut self, frame: &mut Frame, now: Tick) {
        frame.seq = self.number(frame.seq);
        let pts = self.time(frame.pts, now);
        frame.pts = match self.last {
            Some((last, _)) if pts <= last => last + Duration::from_nanos(1),
            _ => pts,
        };
        self.last = Some((frame.pts, now));
    }
}
