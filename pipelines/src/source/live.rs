//! A source that is read by a thread of its own: whoever takes its frames gets the latest, however slow they are.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tapetum_runtime::{Error, ErrorKind, Frame, Result};

use super::{Losses, Next, SequenceFaults, Source, SourceInfo, StampFaults, packets::Packet};

/// Tells a source, from any thread, that nobody wants more of it. It looks at least ten times a second.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Says it.
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether it was said.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// How long threads sleep at most before they look at [`Stop`] again.
pub(super) const GLANCE: Duration = Duration::from_millis(50);

/// Most unreadable frames and bytes of packets that wait for who takes them.
const MOST_UNREADABLE: usize = 64;
const MOST_PACKET_BYTES: usize = 64 << 20;

/// Longest that a dropped source waits for its thread, which may hang in a driver.
const FAREWELL: Duration = Duration::from_millis(500);

/// A source with its thread.
///
/// The thread reads without a pause, so that nothing piles up before the decoder. One picture waits at most; a newer one
/// takes its place and the older is counted ([`Losses::overtaken`]).
pub struct Live {
    info: SourceInfo,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    stamps: StampFaults,
    losses: Losses,
    sequence: SequenceFaults,
    remarks: Vec<String>,
}

struct Shared {
    stop: Stop,
    hands: Mutex<Hands>,
    ready: Condvar,
    overtaken: Arc<AtomicU64>,
}

/// What goes from hand to hand.
#[derive(Default)]
struct Hands {
    /// The picture that waits; its memory goes around between both sides.
    frame: Frame,
    full: bool,
    unreadable: VecDeque<(u64, Error)>,
    /// How it ended, if it did.
    ended: Option<Result<()>>,
    stamps: StampFaults,
    losses: Losses,
    sequence: SequenceFaults,
    /// What is known of the source now, and its remarks, if that changed.
    info: Option<SourceInfo>,
    remarks: Option<Vec<String>>,
    keep_packets: bool,
    packets: VecDeque<Packet>,
    packet_bytes: usize,
    /// Packets were thrown away: those up to the next key are of no use.
    packets_cut: bool,
}

impl Shared {
    /// Nothing that can panic runs under the lock.
    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// Starts a thread that reads `source` until it ends or `stop` is set.
    ///
    /// # Errors
    /// [`ErrorKind::Environment`] if the system gives no thread.
    pub fn start(source: Box<dyn Source>, stop: Stop) -> Result<Self> {
        let (info, remarks) = (source.info().clone(), source.remarks().to_vec());
        let shared = Arc::new(Shared {
            stop,
            hands: Mutex::default(),
            ready: Condvar::new(),
            overtaken: Arc::default(),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("source".to_owned())
            .spawn(move || read(source, &theirs))
            .map_err(|e| {
                Error::new(ErrorKind::Environment, format!("no thread for the source: {e}")).caused_by(e)
            })?;
        Ok(Self {
            info,
            shared,
            thread: Some(thread),
            stamps: StampFaults::default(),
            losses: Losses::default(),
            sequence: SequenceFaults::default(),
            remarks,
        })
    }

    /// Ends it from any thread.
    pub fn stop(&self) -> Stop {
        self.shared.stop.clone()
    }

    /// Pictures that a newer one replaced so far.
    pub(super) fn overtaken(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shared.overtaken)
    }
}

impl Source for Live {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn next(&mut self, frame: &mut Frame) -> Result<Next> {
        let deadline = Instant::now() + GLANCE;
        let mut hands = self.shared.hands();
        loop {
            if self.shared.stop.is_set() {
                return Ok(Next::End);
            }
            (self.stamps, self.losses, self.sequence) = (hands.stamps, hands.losses, hands.sequence);
            self.losses.overtaken += self.shared.overtaken.load(Ordering::Relaxed);
            if let Some(info) = hands.info.take() {
                self.info = info;
            }
            if let Some(remarks) = hands.remarks.take() {
                self.remarks = remarks;
            }
            let frame_seq = hands.full.then_some(hands.frame.seq);
            let unreadable = hands.unreadable.front().map(|(seq, _)| *seq);
            if let Some(seq) = unreadable
                && frame_seq.is_none_or(|frame| seq < frame)
                && let Some((seq, why)) = hands.unreadable.pop_front()
            {
                frame.seq = seq;
                return Ok(Next::Unreadable(why));
            }
            if frame_seq.is_some() {
                std::mem::swap(frame, &mut hands.frame);
                hands.full = false;
                return Ok(Next::Frame);
            }
            match hands.ended.take() {
                Some(Ok(())) => {
                    hands.ended = Some(Ok(()));
                    return Ok(Next::End);
                }
                Some(Err(e)) => {
                    hands.ended = Some(Ok(()));
                    return Err(e);
                }
                None => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Next::Idle);
            }
            hands = self.shared.ready.wait_timeout(hands, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn stamps(&self) -> StampFaults {
        self.stamps
    }

    fn losses(&self) -> Losses {
        self.losses
    }

    fn sequence(&self) -> SequenceFaults {
        self.sequence
    }

    fn remarks(&self) -> &[String] {
        &self.remarks
    }

    fn keep_packets(&mut self) -> bool {
        self.shared.hands().keep_packets = true;
        true
    }

    fn packets(&mut self, take: &mut dyn FnMut(Packet)) {
        let packets = {
            let mut hands = self.shared.hands();
            hands.packet_bytes = 0;
            std::mem::take(&mut hands.packets)
        };
        packets.into_iter().for_each(take);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.shared.stop.set();
        let until = Instant::now() + FAREWELL;
        let Some(thread) = self.thread.take() else { return };
        while !thread.is_finished() {
            if Instant::now() >= until {
                // It hangs in a driver or in a name look-up; it ends when that does.
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        // What it had to say of its end is in the hands.
        let _ = thread.join();
    }
}

/// The thread.
fn read(mut source: Box<dyn Source>, shared: &Shared) {
    let mut frame = Frame::default();
    let mut keeping = false;
    let (mut known, mut remarks) = (source.info().clone(), source.remarks().to_vec());
    let ended = loop {
        if shared.stop.is_set() {
            break Ok(());
        }
        if !keeping && shared.hands().keep_packets {
            keeping = true;
            source.keep_packets();
        }
        let next = catch_unwind(AssertUnwindSafe(|| source.next(&mut frame)));
        let mut hands = shared.hands();
        if keeping {
            source.packets(&mut |packet| hands.pack(packet));
        }
        (hands.stamps, hands.losses) = (source.stamps(), source.losses());
        hands.sequence = source.sequence();
        if *source.info() != known {
            known = source.info().clone();
            hands.info = Some(known.clone());
        }
        if source.remarks() != remarks {
            remarks = source.remarks().to_vec();
            hands.remarks = Some(remarks.clone());
        }
        match next {
            Ok(Ok(Next::Frame)) => {
                shared.overtaken.fetch_add(u64::from(hands.full), Ordering::Relaxed);
                std::mem::swap(&mut frame, &mut hands.frame);
                hands.full = true;
            }
            Ok(Ok(Next::Unreadable(why))) => {
                if hands.unreadable.len() < MOST_UNREADABLE {
                    hands.unreadable.push_back((frame.seq, why));
                } else {
                    // As a picture that nobody took.
                    shared.overtaken.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(Ok(Next::Idle)) => continue,
            Ok(Ok(Next::End)) => break Ok(()),
            Ok(Err(e)) => break Err(e),
            Err(_) => break Err(Error::internal(format!("{}: the source panicked", known.name))),
        }
        drop(hands);
        shared.ready.notify_one();
    };
    // Before the end is told: what the source holds (a device, a connection) is free by then.
    drop(source);
    shared.hands().ended = Some(ended);
    shared.ready.notify_one();
}

impl Hands {
    /// Keeps a packet for who asks. If nobody does, the oldest go, up to a key.
    fn pack(&mut self, mut packet: Packet) {
        if self.packet_bytes + packet.bytes.len() > MOST_PACKET_BYTES {
            self.packets.clear();
            self.packet_bytes = 0;
            self.packets_cut = true;
        }
        if self.packets_cut {
            if !packet.key {
                return;
            }
            packet.gap = true;
            self.packets_cut = false;
        }
        self.packet_bytes += packet.bytes.len();
        self.packets.push_back(packet);
    }
}
