use std::{
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use tapetum_runtime::{
    DType, Tensor,
    backend::{Port, Session},
    clock::Monotonic,
};

use super::*;

/// Doubles its input `[n, 2]`, takes a while, and refuses a batch with a negative value in it.
struct Doubling {
    ports: [Vec<Port>; 2],
    takes: Duration,
    at_once: Arc<AtomicUsize>,
    most_at_once: Arc<AtomicUsize>,
}

impl Session for Doubling {
    fn inputs(&self) -> &[Port] {
        &self.ports[0]
    }

    fn outputs(&self) -> &[Port] {
        &self.ports[1]
    }

    fn placement(&self) -> &[(String, usize)] {
        &[]
    }

    fn run_into(&mut self, inputs: &[Tensor], outputs: &mut Vec<Tensor>) -> Result<()> {
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        std::thread::sleep(self.takes);
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        let values = inputs[0].f32s()?;
        if values.iter().any(|v| *v < 0.0) {
            return Err(Error::bad_input("a negative value"));
        }
        outputs.resize_with(1, || Tensor::full(&[0], 0f32));
        let doubled: Vec<f32> = values.iter().map(|v| 2.0 * v).collect();
        outputs[0].fill_from(inputs[0].shape(), &doubled)
    }
}

#[derive(Clone)]
struct Site {
    hub: Arc<Hub>,
    most_at_once: Arc<AtomicUsize>,
    at_once: Arc<AtomicUsize>,
    made: Arc<AtomicUsize>,
    open: bool,
}

impl Site {
    fn new(limits: Limits, open: bool) -> Self {
        let (most_at_once, at_once, made) = (Arc::default(), Arc::default(), Arc::default());
        Self { hub: Hub::new(limits, Arc::new(Monotonic::start())), most_at_once, at_once, made, open }
    }

    fn seat(&self, model: &str) -> Engine {
        let key = Key { sha256: model.into(), engine: "test", told: String::new() };
        let (open, at_once, most_at_once) = (self.open, self.at_once.clone(), self.most_at_once.clone());
        let count = self.made.clone();
        let make: Make = Box::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
            let rows = if open { None } else { Some(1) };
            let port =
                |name: &str| vec![Port { name: name.into(), dtype: DType::F32, shape: vec![rows, Some(2)] }];
            let session = Doubling {
                ports: [port("x"), port("y")],
                takes: Duration::from_millis(20),
                at_once: at_once.clone(),
                most_at_once: most_at_once.clone(),
            };
            let engine = Engine::alone(Box::new(session), 8);
            Ok(Made { engine, post: Post::new(0), ran: Ran::default(), network: "doubling".into() })
        });
        self.hub.join(key, make, Post::new(3)).unwrap().0
    }
}

const LIMITS: Limits = Limits { runs: 1, threads: 1, batch: 8, wait: Duration::ZERO };

/// Every camera runs `runs` times, all at once; returns how many failed.
fn play(site: &Site, cameras: usize, runs: usize, value: impl Fn(usize, usize) -> f32 + Sync) -> usize {
    let (start, failed) = (Barrier::new(cameras), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for camera in 0..cameras {
            let mut engine = site.seat("m");
            let (start, failed, value) = (&start, &failed, &value);
            scope.spawn(move || {
                let mut outputs = Vec::new();
                start.wait();
                for run in 0..runs {
                    let v = value(camera, run);
                    let input = Tensor::new(&[1, 2], vec![v, v + 0.5]).unwrap();
                    match engine.run_into(&[input], &mut outputs) {
                        Ok(()) => {
                            assert_eq!(outputs[0].shape(), [1, 2]);
                            assert_eq!(outputs[0].f32s().unwrap(), [2.0 * v, 2.0 * v + 1.0]);
                        }
                        Err(_) => _ = failed.fetch_add(1, Ordering::SeqCst),
                    }
                }
            });
        }
    });
    failed.into_inner()
}

#[test]
fn what_waits_is_run_together_and_everyone_gets_their_own() {
    let site = Site::new(LIMITS, true);
    let keep = site.seat("m");
    assert_eq!(play(&site, 6, 10, |camera, run| (camera * 100 + run) as f32), 0);
    let status = &site.hub.status()[0];
    assert_eq!((status.regions, status.cameras, status.queue), (60, 1, 0));
    // Six cameras that ask as soon as they were answered: one runs alone at first, then the others wait together.
    assert!(status.runs <= 30, "{} runs for 60 regions", status.runs);
    assert_eq!(site.made.load(Ordering::SeqCst), 1, "one session for all");
    drop(keep);
    assert!(site.hub.status().is_empty(), "the last one out takes the model down");
}

#[test]
fn a_model_of_fixed_batch_is_run_once_per_request() {
    let site = Site::new(LIMITS, false);
    let keep = site.seat("m");
    assert_eq!(play(&site, 3, 5, |camera, run| (camera * 100 + run) as f32), 0);
    let status = &site.hub.status()[0];
    assert_eq!((status.runs, status.regions), (15, 15));
    drop(keep);
}

#[test]
fn a_frame_that_fails_fails_alone() {
    let site = Site::new(LIMITS, true);
    let keep = site.seat("m");
    let failed = play(&site, 5, 8, |camera, run| if camera == 2 { -1.0 } else { run as f32 });
    assert_eq!(failed, 8);
    drop(keep);
}

#[test]
fn a_request_waits_for_company_no_longer_than_it_may() {
    let wait = Duration::from_millis(200);
    let site = Site::new(Limits { wait, ..LIMITS }, true);
    let mut engine = site.seat("m");
    let input = [Tensor::new(&[1, 2], vec![1f32, 2.0]).unwrap()];
    let from = Instant::now();
    engine.run_into(&input, &mut Vec::new()).unwrap();
    let took = from.elapsed();
    assert!(took >= wait && took < 10 * wait, "{took:?}");
    drop(engine);
    let site = Site::new(Limits { wait, batch: 4, ..LIMITS }, true);
    let keep = site.seat("m");
    assert_eq!(play(&site, 4, 4, |camera, run| (camera + run) as f32), 0);
    assert_eq!(site.hub.status()[0].runs, 4, "four at a time, for all four wait");
    drop(keep);
}

#[test]
fn no_more_run_at_once_than_may_and_a_second_session_is_made_for_a_second_run() {
    for (runs, sessions) in [(1, 1), (2, 2)] {
        let site = Site::new(Limits { runs, batch: 1, ..LIMITS }, true);
        let keep = site.seat("m");
        let other = site.seat("another model");
        assert_eq!(play(&site, 6, 5, |camera, run| (camera + run) as f32), 0);
        assert_eq!(site.most_at_once.load(Ordering::SeqCst), runs);
        assert_eq!(site.made.load(Ordering::SeqCst), sessions + 1);
        drop((keep, other));
    }
}

#[test]
fn the_status_is_told_while_a_model_loads() {
    let site = Site::new(LIMITS, true);
    let (begun, go) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (hub, theirs) = (site.hub.clone(), (begun.clone(), go.clone()));
    let loads = std::thread::spawn(move || {
        let key = Key { sha256: "slow".into(), engine: "test", told: String::new() };
        let make: Make = Box::new(move || {
            theirs.0.wait();
            theirs.1.wait();
            Err(Error::config("not today"))
        });
        hub.join(key, make, Post::new(0)).is_err()
    });
    begun.wait();
    assert!(site.hub.status().is_empty());
    go.wait();
    assert!(loads.join().unwrap());
}
