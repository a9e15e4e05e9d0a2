//! What a driver says of its frames reaches who asks the supervisor, over every connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tapetum::source::{
    Next, SequenceFaults, Source, SourceInfo,
    live::Stop,
    recover::Patience,
    supervised::{LiveOptions, Supervised},
};
use tapetum_runtime::{Error, ErrorKind, Frame, PixelFormat, Result, clock::Monotonic};

/// Gives three frames with the numbers of a driver that leaves two out and repeats one, and is lost.
struct Driver {
    info: SourceInfo,
    frames: u64,
    remarks: [String; 1],
}

impl Source for Driver {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn next(&mut self, frame: &mut Frame) -> Result<Next> {
        if self.frames == 3 {
            return Err(Error::new(ErrorKind::Environment, "the camera was unplugged"));
        }
        // As fast as a camera: nothing is overtaken where somebody reads.
        std::thread::sleep(Duration::from_millis(20));
        frame.seq = [0, 3, 4][self.frames as usize];
        frame.pts = Duration::from_millis(20 * frame.seq);
        frame.image.reset(2, 2, PixelFormat::Grey8);
        self.frames += 1;
        Ok(Next::Frame)
    }

    fn sequence(&self) -> SequenceFaults {
        let faults = [(0, 0), (0, 0), (2, 0), (2, 1)][self.frames as usize];
        SequenceFaults { skipped: faults.0, repeated: faults.1, restarted: 0 }
    }

    fn remarks(&self) -> &[String] {
        &self.remarks
    }
}

#[test]
fn gaps_of_the_driver_and_what_opening_came_to_are_passed_on() {
    let opened = Arc::new(AtomicUsize::new(0));
    let count = opened.clone();
    let open = Box::new(move |_: &Stop| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        let info = SourceInfo { name: "driver".into(), live: true, ..SourceInfo::default() };
        let remarks = [format!("YUYV 640×360, connection {n}")];
        Ok(Box::new(Driver { info, frames: 0, remarks }) as Box<dyn Source>)
    });
    let patience =
        Patience { first: Duration::from_millis(50), most: Duration::from_millis(50), ..Patience::default() };
    let options = LiveOptions { patience, ..LiveOptions::default() };
    let clock = Arc::new(Monotonic::start());
    let mut source = Supervised::start("driver".into(), open, &options, Stop::default(), clock).unwrap();
    let (state, mut frame, mut frames) = (source.state(), Frame::default(), 0);
    let from = Instant::now();
    // Ten frames: the fourth connection has given one.
    while frames < 10 {
        assert!(from.elapsed() < Duration::from_secs(20), "{:?}", state.health());
        frames += u64::from(matches!(source.next(&mut frame).unwrap(), Next::Frame));
    }
    let health = state.health();
    let connections = opened.load(Ordering::SeqCst) as u64;
    assert!(connections >= 4, "{connections}");
    assert!(health.sequence.skipped >= 6 && health.sequence.repeated >= 3, "{health:?}");
    assert!(health.sequence.skipped <= 2 * connections, "each gap counts once: {health:?}");
    assert_eq!(health.remarks, [format!("YUYV 640×360, connection {}", connections - 1)]);
    assert_eq!(source.remarks(), health.remarks);
    assert!(source.sequence().skipped >= 6, "{:?}", source.sequence());
}
