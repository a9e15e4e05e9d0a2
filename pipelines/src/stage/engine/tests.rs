//! A device that fails as planned, and what becomes of the frames.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tapetum_runtime::{
    DType, ErrorKind,
    backend::{Found, LoadOptions, ModelSource},
    seed::Seeded,
};

use super::*;

/// Doubles its input; some inputs are special.
struct Device {
    name: &'static str,
    loads: AtomicUsize,
    runs: AtomicUsize,
    /// Sessions loaded before the last loss are dead.
    losses: AtomicUsize,
    /// Nothing can be loaded any more.
    gone: AtomicBool,
}

/// Fails on every session, whichever frame it is.
const BAD: f32 = 7.0;
const PANICS: f32 = 8.0;
/// Is not the engine's fault.
const FOREIGN: f32 = 9.0;

fn device(name: &'static str) -> &'static Device {
    Box::leak(Box::new(Device {
        name,
        loads: AtomicUsize::new(0),
        runs: AtomicUsize::new(0),
        losses: AtomicUsize::new(0),
        gone: AtomicBool::new(false),
    }))
}

impl Device {
    fn lose(&self) {
        self.losses.fetch_add(1, SeqCst);
    }

    fn loads(&self) -> usize {
        self.loads.load(SeqCst)
    }
}

impl Backend for &'static Device {
    fn name(&self) -> &'static str {
        self.name
    }

    fn find(&self) -> Result<Found> {
        Ok(Found { version: "1".into(), providers: Vec::new(), library: None })
    }

    fn probe(&self) -> Result<String> {
        Ok("1".into())
    }

    fn load(&self, _: ModelSource<'_>, _: &LoadOptions) -> Result<Box<dyn Session>> {
        self.loads.fetch_add(1, SeqCst);
        if self.gone.load(SeqCst) {
            return Err(Error::new(ErrorKind::Environment, "no such device"));
        }
        let port = |name: &str| vec![Port { name: name.into(), dtype: DType::F32, shape: vec![Some(1)] }];
        let born = self.losses.load(SeqCst);
        Ok(Box::new(Fake { device: self, born, inputs: port("x"), outputs: port("y") }))
    }
}

struct Fake {
    device: &'static Device,
    born: usize,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

impl Session for Fake {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn placement(&self) -> &[(String, usize)] {
        &[]
    }

    fn run_into(&mut self, inputs: &[Tensor], outputs: &mut Vec<Tensor>) -> Result<()> {
        self.device.runs.fetch_add(1, SeqCst);
        let x = inputs[0].f32s()?[0];
        if self.born != self.device.losses.load(SeqCst) {
            return Err(Error::internal("the device was lost"));
        }
        match x {
            BAD => return Err(Error::internal("cannot compute this")),
            PANICS => panic!("as planned"),
            FOREIGN => return Err(Error::bad_input("not mine")),
            _ => {}
        }
        *outputs = vec![Tensor::vector(vec![2.0 * x])];
        Ok(())
    }
}

/// An engine under test with its clock.
struct Bench {
    engine: Engine,
    post: Arc<Post>,
    frame: u64,
}

impl Bench {
    fn new(devices: &[&'static Device], proves: bool) -> Self {
        let leak = |d: &&'static Device| -> &'static dyn Backend { Box::leak(Box::new(*d)) };
        let engines: Vec<_> = devices.iter().map(leak).collect();
        let load =
            |engine: &'static dyn Backend| engine.load(ModelSource::Bytes(&[]), &LoadOptions::default());
        let post = Post::new(3);
        let supply = Supply {
            made_in: None,
            load: Box::new(load),
            proves,
            engine: engines[0],
            others: engines[1..].to_vec(),
            batch: |engine| if engine.name() == "small" { 1 } else { 8 },
        };
        let session = load(engines[0]).unwrap();
        Self { engine: Engine::supplied(session, supply, post.clone()), post, frame: 0 }
    }

    /// The next frame, at `ms`.
    fn run(&mut self, ms: u64, x: f32) -> Result<()> {
        {
            let mut slip = self.post.lock();
            (slip.now, slip.frame) = (Duration::from_millis(ms), self.frame);
        }
        self.frame += 1;
        let mut outputs = Vec::new();
        self.engine.run_into(&[Tensor::vector(vec![x])], &mut outputs)?;
        assert_eq!(outputs[0].f32s().unwrap(), [2.0 * x]);
        Ok(())
    }

    fn events(&self) -> Vec<(u64, EngineChange, String)> {
        let events = std::mem::take(&mut self.post.lock().events);
        assert!(events.iter().all(|e| e.stage == 3));
        events.into_iter().map(|e| (e.frame, e.change, format!("{}: {}", e.engine, e.why))).collect()
    }
}

#[test]
fn a_lost_session_costs_no_frame() {
    let a = device("a");
    let mut bench = Bench::new(&[a], false);
    bench.run(0, 1.0).unwrap();
    a.lose();
    bench.run(33, 2.0).unwrap();
    bench.run(66, 3.0).unwrap();
    assert_eq!(a.loads(), 2);
    assert_eq!(bench.events(), [(1, EngineChange::Restarted, "a/fp32: the device was lost".to_owned())]);
}

#[test]
fn a_frame_that_no_session_can_compute_fails_alone() {
    let a = device("a");
    let mut bench = Bench::new(&[a, device("b")], false);
    for n in 0..3000 {
        let outcome = bench.run(33 * n, if n % 3 == 1 { BAD } else { 1.0 });
        assert_eq!(outcome.is_err(), n % 3 == 1, "frame {n}");
    }
    // 100 s: three restarts a minute, and no other engine.
    assert!((4..=7).contains(&a.loads()), "{}", a.loads());
    assert!(bench.events().iter().all(|(_, change, _)| *change == EngineChange::Restarted));
}

#[test]
fn what_is_not_the_engines_fault_changes_nothing() {
    let a = device("a");
    let mut bench = Bench::new(&[a, device("b")], false);
    for n in 0..100 {
        assert_eq!(bench.run(1000 * n, FOREIGN).unwrap_err().kind(), ErrorKind::BadInput);
    }
    bench.run(200_000, 1.0).unwrap();
    assert_eq!(a.loads(), 1);
    assert!(bench.events().is_empty());
}

#[test]
fn a_panic_ends_the_session_and_not_the_frame_after_it() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let a = device("a");
    let mut bench = Bench::new(&[a], false);
    let why = bench.run(0, PANICS).unwrap_err().to_string();
    std::panic::set_hook(hook);
    assert!(why.contains("as planned"), "{why}");
    // It panicked on the restarted session, too, which is not run again before its time.
    let runs = a.runs.load(SeqCst);
    let why = bench.run(500, 1.0).unwrap_err().to_string();
    assert!(why.contains("a/fp32 does not run") && why.contains("as planned"), "{why}");
    assert_eq!(a.runs.load(SeqCst), runs);
    bench.run(1000, 1.0).unwrap();
    assert_eq!(a.loads(), 3);
}

#[test]
fn the_next_engine_takes_over_when_restarts_do_not_help() {
    let (a, gone, b) = (device("a"), device("gone"), device("small"));
    gone.gone.store(true, SeqCst);
    let mut bench = Bench::new(&[a, gone, b], true);
    assert_eq!(bench.engine.batch(), 8);
    a.lose();
    a.gone.store(true, SeqCst);
    let ok: Vec<u64> = (0..100).filter(|n| bench.run(100 * n, 1.0).is_ok()).collect();
    // Restarts at 0, 1 and 5 s; the frame that sees the last one fail is run by the other engine.
    assert_eq!((ok.first(), ok.len()), (Some(&50), 50));
    assert_eq!((a.loads(), b.loads(), bench.engine.batch()), (4, 1, 1));
    let (events, why) = (bench.events(), "no such device");
    let not = |frame| (frame, EngineChange::NotRestarted, format!("a/fp32: {why}"));
    assert_eq!(events[..3], [not(0), not(10), not(50)]);
    assert_eq!(events[3], (50, EngineChange::PassedOver, format!("gone: {why}")));
    assert_eq!((events[4].0, events[4].1), (50, EngineChange::TookOver));
    assert!(events[4].2.starts_with("small/fp32: "), "{:?}", events[4]);
    assert_eq!(bench.post.lock().engine.as_deref(), Some("small/fp32"));
    // It is an engine like the first, with restarts of its own.
    b.lose();
    bench.run(20_000, 1.0).unwrap();
    assert_eq!(b.loads(), 2);
}

#[test]
fn with_no_engine_left_every_frame_fails_at_once_with_the_reason() {
    let a = device("a");
    let mut bench = Bench::new(&[a], true);
    a.lose();
    a.gone.store(true, SeqCst);
    (0..60).for_each(|n| assert!(bench.run(100 * n, 1.0).is_err()));
    assert!(bench.post.lock().given_up);
    assert_eq!(bench.events().last().unwrap().1, EngineChange::GivenUp);
    // For good: an engine that comes and goes would be asked for ever.
    a.gone.store(false, SeqCst);
    let (loads, runs) = (a.loads(), a.runs.load(SeqCst));
    for n in 60..10_000 {
        let why = bench.run(100 * n, 1.0).unwrap_err().to_string();
        assert!(why.contains("no such device"), "{why}");
    }
    assert_eq!((a.loads(), a.runs.load(SeqCst)), (loads, runs));
    assert!(bench.events().is_empty());
}

#[test]
fn whatever_fails_results_are_right_loads_are_bounded_and_every_load_is_told() {
    for seed in 0..100 {
        let mut random = Seeded::new(seed);
        let devices = [device("a"), device("b"), device("c")];
        let mut bench = Bench::new(&devices, seed % 2 == 0);
        let mut now = 0;
        for _ in 0..400 {
            now += random.below(300);
            let at = devices[random.below(3) as usize];
            match random.below(20) {
                0 => at.lose(),
                1 => at.gone.store(random.below(2) == 0, SeqCst),
                _ => {}
            }
            // That what comes through is right is asserted inside.
            bench.run(now, if random.below(10) == 0 { BAD } else { 1.0 }).ok();
        }
        let loads: usize = devices.iter().map(|d| d.loads()).sum();
        // Up to 60 s: three restarts a minute begun for each of three engines, and each loaded once.
        assert!(loads <= 3 * (3 * 2 + 1), "seed {seed}: {loads} loads in {now} ms");
        let told = bench.events().iter().filter(|e| e.1 != EngineChange::GivenUp).count();
        assert_eq!(told, loads - 1, "seed {seed}");
    }
}
