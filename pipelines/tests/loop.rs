//! `loop:` in simulated time, and eight at once.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tapetum::source::{
    self, Next, Source, live::Stop, looped::Looped, packets::Decoder, recover::Patience,
    supervised::LiveOptions,
};
use tapetum_runtime::{Frame, clock::Simulated};

const STEP: Duration = Duration::from_millis(10);

/// Five frames of bars at 20 per second, over and over, by a clock that moves only when nothing is due.
fn five(clock: &Arc<Simulated>) -> Looped {
    let open = Box::new(|| source::open("synthetic:moving?size=32x16&fps=20&frames=5"));
    Looped::new(open, None, Arc::clone(clock) as _).unwrap()
}

#[test]
fn frames_come_when_they_are_due_and_go_on_over_the_seam() {
    let clock = Arc::new(Simulated::default());
    let (mut source, mut frame, mut got) = (five(&clock), Frame::default(), Vec::new());
    assert!(source.info().live);
    let mut now = Duration::ZERO;
    while got.len() < 13 {
        match source.next(&mut frame).unwrap() {
            Next::Frame => got.push((frame.seq, frame.pts, now)),
            Next::Idle => {
                clock.advance(STEP);
                now += STEP;
            }
            other => panic!("{other:?}"),
        }
    }
    let expected: Vec<_> =
        (0..13).map(|n| (n, Duration::from_millis(50 * n), Duration::from_millis(50 * n))).collect();
    assert_eq!(got, expected);
    assert!(frame.captured.is_some());
}

#[test]
fn what_is_late_is_a_gap_in_the_numbers_and_the_time_is_right_after_it() {
    let clock = Arc::new(Simulated::default());
    let (mut source, mut frame) = (five(&clock), Frame::default());
    assert!(matches!(source.next(&mut frame), Ok(Next::Frame)));
    // Nobody reads for 380 ms: frame 1 was due at 50, and 330 ms are six whole intervals.
    clock.advance(Duration::from_millis(380));
    assert!(matches!(source.next(&mut frame), Ok(Next::Frame)));
    assert_eq!((frame.seq, frame.pts), (7, Duration::from_millis(350)));
    clock.advance(Duration::from_millis(20));
    assert!(matches!(source.next(&mut frame), Ok(Next::Frame)));
    assert_eq!((frame.seq, frame.pts), (8, Duration::from_millis(400)));
}

#[test]
fn another_rate_may_be_asked_for_and_what_cannot_be_looped_is_refused() {
    let mut source = source::open("loop:synthetic:bars?fps=200").unwrap();
    assert_eq!(source.info().interval, Some(Duration::from_millis(5)));
    let mut frame = Frame::default();
    let from = Instant::now();
    let mut n = 0;
    while n < 40 {
        n += usize::from(matches!(source.next(&mut frame).unwrap(), Next::Frame));
    }
    let took = from.elapsed();
    assert!(took >= Duration::from_millis(190) && took < Duration::from_millis(600), "{took:?}");
    for wrong in ["loop:no-such-file", "loop:loop:synthetic:bars", "loop:synthetic:bars?fps=0"] {
        assert!(source::open(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_recording_over_the_seam_decodes_to_the_same_frames() {
    let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clips/dev_c.mp4");
    let whole = source::open(&clip.to_string_lossy()).unwrap().info().frames.unwrap();
    let mut source = source::open(&format!("loop:{}?fps=1000", clip.display())).unwrap();
    source.keep_packets();
    let (mut frame, mut frames, mut packets) = (Frame::default(), Vec::new(), Vec::new());
    while (frames.len() as u64) < whole + 40 {
        if matches!(source.next(&mut frame).unwrap(), Next::Frame) {
            frames.push(frame.image.clone());
        }
        source.packets(&mut |p| packets.push(p));
    }
    let seam = packets.iter().rposition(|p| p.gap).unwrap();
    assert!(seam as u64 >= whole && packets[seam].key);
    let (mut decoder, mut n) = (Decoder::new(), whole as usize);
    for packet in &packets[seam..] {
        if decoder.decode(packet, &mut frame).unwrap() && n < frames.len() {
            assert!(frames[n] == frame.image, "frame {n}");
            n += 1;
        }
    }
    assert!(n > whole as usize + 30);
}

/// CPU time of this process so far.
fn cpu() -> Duration {
    // SAFETY: all zero is a valid `rusage`, which the call fills.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

#[test]
fn eight_at_once_keep_their_rate() {
    let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clips/dev_c.mp4");
    let counts = Arc::new(Mutex::new(Vec::new()));
    // What decoding alone costs.
    let (before, mut frame, mut n) = (cpu(), Frame::default(), 0);
    let mut source = source::open(&clip.to_string_lossy()).unwrap();
    while n < 100 && matches!(source.next(&mut frame).unwrap(), Next::Frame) {
        n += 1;
    }
    let (alone, before) = ((cpu() - before) / n, cpu());
    let from = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let stop = Stop::default();
                let spec = format!("loop:{}?fps=10", clip.display());
                let mut source = source::open_live(&spec, &LiveOptions::default(), stop).unwrap();
                let mut frame = Frame::default();
                let mut got = 0;
                while from.elapsed() < Duration::from_secs(3) {
                    got += u64::from(matches!(source.next(&mut frame).unwrap(), Next::Frame));
                }
                let skipped = frame.seq + 1 - got;
                counts.lock().unwrap().push((got, skipped));
            });
        }
    });
    let (spent, frames) = (cpu() - before, counts.lock().unwrap().iter().map(|c| c.0).sum::<u64>() as u32);
    // Only told: other tests of this process may run beside it.
    eprintln!(
        "{frames} frames of eight loops: {:?} of CPU each; decoding alone {alone:?}",
        spent / frames.max(1)
    );
    for (got, skipped) in counts.lock().unwrap().iter() {
        // What a busy machine skipped is in the numbers.
        assert!((20..=34).contains(&(got + skipped)) && *got > 5, "{got} frames, {skipped} skipped");
    }
}

#[test]
fn a_source_that_is_slower_than_the_patience_with_it_is_not_given_up() {
    let patience = Patience { stall: Duration::from_millis(300), ..Patience::default() };
    let options = LiveOptions { patience, ..LiveOptions::default() };
    let spec = "loop:synthetic:moving?size=32x16&fps=20&frames=5?fps=1";
    let mut source = source::open_live(spec, &options, Stop::default()).unwrap();
    let (mut frame, mut got, from) = (Frame::default(), 0, Instant::now());
    while got < 4 && from.elapsed() < Duration::from_secs(20) {
        got += u64::from(matches!(source.next(&mut frame).unwrap(), Next::Frame));
    }
    let health = source.state().health();
    assert_eq!((got, health.faults.lost, health.faults.last), (4, 0, None));
}
