//! A stream that plays, read frame by frame.

use std::{
    future::poll_fn,
    pin::Pin,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use futures_core::Stream as _;
use retina::{
    codec::{CodecItem, VideoFrame},
    rtcp::ReceivedCompoundPacket,
};
use tapetum_runtime::{Error, ErrorKind, Frame, Result};
use tokio::{runtime::Runtime, time::timeout};

use super::{
    address::{Address, RtspOptions},
    connect::{Connected, connect},
    lost,
    secret::Secrets,
};
use crate::source::{
    Losses, Next, Source, SourceInfo, StampFaults,
    live::{GLANCE, Stop},
    packets::{self, Codec, Decoder, Packet},
    stamps::{Mender, Unleap},
    video::h264,
};

/// Usual time between frames of a camera that does not say it.
const USUAL: Duration = Duration::from_millis(40);
/// Errors in a row, without a whole picture between them, after which a connection is given up.
const MOST_ERRORS: u32 = 50;
/// Most access units whose picture has not come out.
const MOST_PENDING: usize = 64;
/// A sender's clock is believed if it says that a picture was taken at most so long before it arrived, or so little after.
const BEFORE: Duration = Duration::from_secs(2);
const AFTER: Duration = Duration::from_millis(500);
/// How long a connection that is closed may take to say so to the camera.
const TEARDOWN: Duration = Duration::from_millis(100);

/// A network camera.
///
/// After a loss nothing is shown until the next picture that stands by itself: what is decoded on top of missing pictures
/// looks like a picture and is none. Each access unit that is passed over is a [`Next::Unreadable`].
///
/// `captured` is the sender's own time (RTCP sender reports) if it is within 2 s of the arrival, and else the arrival.
/// A stream whose profile allows pictures between others (Main, High) comes one picture late: OpenH264 waits for it.
pub struct Rtsp {
    info: SourceInfo,
    stall: Duration,
    secrets: Secrets,
    runtime: Runtime,
    /// Only gone while it is dropped, which has to be done inside the runtime.
    connected: Option<Connected>,
    started: Instant,
    /// When the latest whole access unit came.
    heard: Instant,
    errors: u32,
    last_error: Option<String>,
    decoder: Decoder,
    /// Why nothing is shown before the next key picture.
    waiting: Option<String>,
    parameters: Bytes,
    line: Unleap,
    mender: Mender,
    /// Time between the latest two frames, and the latest one's.
    interval: Duration,
    latest: Option<Duration>,
    /// Times and arrivals of what is inside the decoder.
    pending: Vec<(Duration, SystemTime)>,
    report: Option<Report>,
    seq: u64,
    losses: Losses,
    keep: bool,
    kept: Vec<Packet>,
}

/// A sender report: its own wall-clock time of a stamp, in nanoseconds of the stream's clock.
struct Report {
    time: SystemTime,
    stamp: i128,
}

impl Rtsp {
    /// Connects to the camera at `spec` (see [`super::USAGE`]) and has it play. Blocks until it does, but not after `stop`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for a wrong address or password, [`ErrorKind::Unsupported`] for a codec that is not
    /// in this build, [`ErrorKind::Environment`] for what may go away by itself. No message holds a secret.
    pub fn open(spec: &str, defaults: &RtspOptions, stop: &Stop) -> Result<Self> {
        let address = Address::parse(spec, defaults)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| {
            Error::new(ErrorKind::Environment, format!("no event loop for the network: {e}")).caused_by(e)
        })?;
        let connected = match connect(&runtime, &address, stop) {
            Ok(connected) => connected,
            Err(e) => {
                // A name look-up may hang for minutes; nobody waits for it.
                runtime.shutdown_background();
                return Err(e);
            }
        };
        let interval = connected.interval.unwrap_or(USUAL);
        let info = SourceInfo {
            name: address.name,
            live: true,
            frames: None,
            interval: connected.interval,
            size: connected.size,
        };
        let now = Instant::now();
        Ok(Self {
            info,
            stall: address.options.stall,
            secrets: address.secrets,
            runtime,
            connected: Some(connected),
            started: now,
            heard: now,
            errors: 0,
            last_error: None,
            decoder: Decoder::new(),
            waiting: Some("the stream has not come to a key frame yet".to_owned()),
            parameters: Bytes::new(),
            line: Unleap::default(),
            mender: Mender::new(interval),
            interval,
            latest: None,
            pending: Vec::with_capacity(MOST_PENDING),
            report: None,
            seq: 0,
            losses: Losses::default(),
            keep: false,
            kept: Vec::new(),
        })
    }

    /// What the camera sent next; `None` if nothing came for a moment.
    fn item(&mut self) -> Result<Option<CodecItem>> {
        let Some(connected) = &mut self.connected else { return Err(lost("the connection is closed")) };
        let next = poll_fn(|context| Pin::new(&mut connected.items).poll_next(context));
        let Ok(next) = self.runtime.block_on(async { timeout(GLANCE, next).await }) else {
            let silent = self.heard.elapsed();
            if silent < self.stall {
                return Ok(None);
            }
            return Err(self.gone(format!("nothing came for {:.1} s", silent.as_secs_f64())));
        };
        match next {
            Some(Ok(item)) => Ok(Some(item)),
            Some(Err(e)) => {
                // A broken packet: the library goes on after it, and so does this, unless nothing else comes.
                let said = self.secrets.scrub(&e.to_string());
                self.errors += 1;
                if self.errors >= MOST_ERRORS {
                    return Err(self.gone(format!("{MOST_ERRORS} errors in a row, the last: {said}")));
                }
                self.wait_for_key(|| format!("a packet could not be read: {said}"));
                self.last_error = Some(said);
                Ok(None)
            }
            None => Err(self.gone("the camera closed the connection".to_owned())),
        }
    }

    fn gone(&self, what: String) -> Error {
        let last = self.last_error.as_ref().filter(|_| self.errors > 0 && self.errors < MOST_ERRORS);
        let last = last.map(|e| format!(" (before that: {e})")).unwrap_or_default();
        lost(format!("{}: {what}{last}", self.info.name))
    }

    fn wait_for_key(&mut self, why: impl FnOnce() -> String) {
        self.waiting.get_or_insert_with(why);
    }

    /// An access unit: decodes it, or passes it over.
    fn unit(&mut self, unit: VideoFrame, frame: &mut Frame) -> Result<Option<Next>> {
        let codec = self.connected.as_ref().map_or(Codec::H264, |c| c.codec);
        (self.heard, self.errors) = (Instant::now(), 0);
        let stamp = nanoseconds(unit.timestamp());
        let arrived = unit.start_ctx().received().saturating_duration_since(self.started);
        let at = self.line.place(stamp, arrived);
        self.count_lost(u64::from(unit.loss()), at);
        let taken = self.taken(stamp, unit.start_ctx().received_wall().into());
        let possible_key = unit.is_random_access_point();
        let bytes = Bytes::from(unit.into_data());
        let key = codec == Codec::Jpeg || possible_key && packets::has_idr(&bytes);
        if let Some(why) = &self.waiting
            && !key
        {
            let what = format!("{}: no picture before the next key frame, for {why}", self.info.name);
            return Ok(Some(self.unreadable(frame, lost(what))));
        }
        let gap = self.waiting.take().is_some();
        if gap {
            self.decoder.restart();
            self.pending.clear();
        }
        let parameters = if key && codec == Codec::H264 { self.parameters(&bytes)? } else { None };
        if self.keep {
            let bytes = bytes.clone();
            self.kept.push(Packet { codec, key, gap, pts: at, parameters, bytes });
        }
        if self.pending.len() < MOST_PENDING {
            self.pending.push((at, taken));
        }
        match self.decoder.feed(codec, &bytes, at, &mut frame.image) {
            Ok(Some(shown)) => {
                let known = self.pending.iter().position(|(time, _)| *time == shown);
                frame.captured = Some(known.map_or(taken, |n| self.pending.swap_remove(n).1));
                frame.pts = self.mender.mend(Some(shown));
                self.number(frame);
                let size = (frame.image.width(), frame.image.height());
                if self.info.size != Some(size) {
                    self.info.size = Some(size);
                }
                Ok(Some(Next::Frame))
            }
            Ok(None) => Ok(None),
            Err(e) => {
                if codec == Codec::H264 {
                    self.wait_for_key(|| format!("{e}"));
                }
                let e = e.at(&self.info.name);
                Ok(Some(self.unreadable(frame, e)))
            }
        }
    }

    /// The parameter sets of a key picture, if they are not those before.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a profile that OpenH264 does not decode.
    fn parameters(&mut self, key: &[u8]) -> Result<Option<Bytes>> {
        let sets = packets::parameter_sets(key);
        if sets == self.parameters {
            return Ok(None);
        }
        // Start code, header of the unit, profile.
        if let Some(profile) = sets.get(5) {
            h264::refuse_profile(*profile).map_err(|e| e.at(&self.info.name))?;
        }
        self.parameters = Bytes::from(sets);
        Ok(Some(self.parameters.clone()))
    }

    /// Counts packets that did not arrive before the unit at `at`, and the frames that they were: as many as fit into the
    /// time that is missing, and not more than there were packets.
    fn count_lost(&mut self, packets: u64, at: Duration) {
        let step = self.latest.map(|latest| at.saturating_sub(latest)).filter(|step| !step.is_zero());
        self.latest = self.latest.max(Some(at));
        if packets == 0 {
            if let Some(step) = step {
                self.interval = step;
            }
            return;
        }
        let fit = step.map_or(0.0, |step| step.as_secs_f64() / self.interval.as_secs_f64().max(1e-4));
        let frames = ((fit.round() as u64).saturating_sub(1)).min(packets);
        self.losses.packets += packets;
        self.losses.frames += frames;
        self.seq += frames;
        if self.connected.as_ref().is_some_and(|c| c.codec == Codec::H264) {
            self.wait_for_key(|| format!("{packets} packets were lost"));
        }
    }

    fn unreadable(&mut self, frame: &mut Frame, why: Error) -> Next {
        self.losses.damaged += 1;
        self.number(frame);
        Next::Unreadable(why)
    }

    fn number(&mut self, frame: &mut Frame) {
        frame.seq = self.seq;
        self.seq += 1;
    }

    /// Keeps what the camera says of its clock.
    fn report(&mut self, packet: &ReceivedCompoundPacket) {
        let Some(stamp) = packet.rtp_timestamp() else { return };
        let Some(Ok(Some(report))) = packet.pkts().next().map(|p| p.as_sender_report()) else { return };
        // 32 bits of seconds since 1900 and 32 bits of their fraction.
        let since = report.ntp_timestamp().0.wrapping_sub(retina::UNIX_EPOCH.0);
        let nanos = ((since & 0xffff_ffff) * 1_000_000_000) >> 32;
        let time = SystemTime::UNIX_EPOCH + Duration::new(since >> 32, nanos as u32);
        self.report = Some(Report { time, stamp: nanoseconds(stamp) });
    }

    /// When a picture was taken.
    fn taken(&self, stamp: i128, arrived: SystemTime) -> SystemTime {
        let Some(report) = &self.report else { return arrived };
        let since = stamp - report.stamp;
        let Ok(distance) = u64::try_from(since.unsigned_abs()).map(Duration::from_nanos) else {
            return arrived;
        };
        let said = match since >= 0 {
            true => report.time.checked_add(distance),
            false => report.time.checked_sub(distance),
        };
        let sane = said.filter(|said| match arrived.duration_since(*said) {
            Ok(before) => before <= BEFORE,
            Err(after) => after.duration() <= AFTER,
        });
        sane.unwrap_or(arrived)
    }
}

/// Nanoseconds of the stream's clock.
fn nanoseconds(stamp: retina::Timestamp) -> i128 {
    i128::from(stamp.elapsed()) * 1_000_000_000 / i128::from(stamp.clock_rate().get())
}

impl Source for Rtsp {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn next(&mut self, frame: &mut Frame) -> Result<Next> {
        let from = Instant::now();
        // Units that give no picture yet must not keep the caller from looking up.
        while from.elapsed() < GLANCE {
            match self.item()? {
                None => return Ok(Next::Idle),
                Some(CodecItem::VideoFrame(unit)) => {
                    if let Some(next) = self.unit(unit, frame)? {
                        return Ok(next);
                    }
                }
                Some(CodecItem::Rtcp(packet)) => self.report(&packet),
                Some(_) => {}
            }
        }
        Ok(Next::Idle)
    }

    fn stamps(&self) -> StampFaults {
        StampFaults { jumps: self.line.leaps(), ..self.mender.faults() }
    }

    fn losses(&self) -> Losses {
        self.losses
    }

    fn keep_packets(&mut self) -> bool {
        self.keep = true;
        true
    }

    fn packets(&mut self, take: &mut dyn FnMut(Packet)) {
        self.kept.drain(..).for_each(take);
    }
}

impl Drop for Rtsp {
    fn drop(&mut self) {
        let Some(connected) = self.connected.take() else { return };
        // Its goodbye to the camera is a task of the runtime.
        let items = connected.items;
        self.runtime.block_on(async {
            drop(items);
            tokio::time::sleep(TEARDOWN).await;
        });
    }
}
