//! The executor's rules in simulated time: every queue policy, overload, stalls, ends, order and exact accounting.

use std::{collections::VecDeque, time::Duration};

use tapetum::{
    Fate, Item,
    flow::{Counts, Flow, Lane, Limits, Policy, Work},
};
use tapetum_runtime::seed::Seeded;

/// Milliseconds.
type Ms = u64;

/// How a stage may be run, and how long it takes on a frame.
type StagePlan = (Lane, fn(seq: u64) -> Ms);

/// A plan of what happens.
struct Plan {
    policy: Policy,
    limits: Limits,
    workers: usize,
    stages: Vec<StagePlan>,
    /// When the camera takes each frame. A file's frames all are at 0.
    arrivals: Vec<Ms>,
    /// How long the sinks take.
    sink: Ms,
    /// `(frame, stage)` that fail.
    failures: Vec<(u64, usize)>,
    /// When the run is told to stop.
    stop_at: Option<Ms>,
}

/// What came of it.
#[derive(Default)]
struct Record {
    counts: Counts,
    failed_in: Vec<u64>,
    /// Delivered frames: number and age.
    delivered: Vec<(u64, Ms)>,
    /// Per stage, the frames in the order in which they entered.
    entered: Vec<Vec<u64>>,
    /// Most frames in one stage at once.
    most_at_once: Vec<usize>,
    most_in_flight: u64,
    ended: Ms,
}

const LANE: Lane = Lane { instances: 2, ordered: false };

impl Default for Plan {
    fn default() -> Self {
        Self {
            policy: Policy::Block,
            limits: Limits { waiting: 4, unfinished: 4, active: 6 },
            workers: 2,
            stages: vec![(LANE, |_| 5), (LANE, |_| 10)],
            arrivals: vec![0; 100],
            sink: 0,
            failures: Vec::new(),
            stop_at: None,
        }
    }
}

/// Plays a plan in steps of a millisecond; what can happen at a time happens in the order source, workers, sinks.
fn play(plan: &Plan) -> Record {
    let lanes: Vec<Lane> = plan.stages.iter().map(|(lane, _)| *lane).collect();
    let mut flow = Flow::new(plan.policy, plan.limits, &lanes, || Box::new(Item::new([])));
    let mut record = Record {
        entered: vec![Vec::new(); lanes.len()],
        most_at_once: vec![0; lanes.len()],
        ..Record::default()
    };
    let mut arrivals: VecDeque<(u64, Ms)> = (0..).zip(plan.arrivals.iter().copied()).collect();
    let mut busy: Vec<(Ms, Work)> = Vec::new();
    let mut delivering: Option<(Ms, Box<Item>)> = None;
    let mut closed = false;
    for now in 0.. {
        assert!(now < 1_000_000, "the flow never ends: {:?}", flow.counts());
        if !closed && plan.stop_at.is_some_and(|at| at <= now) {
            flow.close(true);
            closed = true;
        }
        while !closed && arrivals.front().is_some_and(|(_, at)| *at <= now) && flow.has_room() {
            let Some(mut item) = flow.take_free() else { break };
            let (seq, at) = arrivals.pop_front().unwrap();
            item.reset();
            item.frame.seq = seq;
            item.offered = Duration::from_millis(if plan.policy == Policy::Block { now } else { at });
            assert!(flow.offer(item).is_ok());
            check(&flow, &mut record);
        }
        if !closed && arrivals.is_empty() {
            flow.close(false);
            closed = true;
        }
        // A step may make room for others, so until nothing moves.
        loop {
            let mut moved = false;
            while let Some(at) = busy.iter().position(|(until, _)| *until <= now) {
                let (_, mut work) = busy.swap_remove(at);
                if plan.failures.contains(&(work.item.frame.seq, work.stage)) {
                    work.item.fate = Fate::Failed { stage: work.stage, why: "as planned".into() };
                }
                flow.done(work);
                moved = true;
            }
            if delivering.as_ref().is_some_and(|(until, _)| *until <= now) {
                let (_, item) = delivering.take().unwrap();
                let age = now - item.offered.as_millis() as Ms;
                record.delivered.push((item.frame.seq, age));
                flow.delivered(item);
                moved = true;
            }
            while busy.len() < plan.workers
                && let Some(work) = flow.next_work()
            {
                record.entered[work.stage].push(work.item.frame.seq);
                busy.push((now + plan.stages[work.stage].1(work.item.frame.seq), work));
                moved = true;
            }
            if delivering.is_none()
                && let Some(item) = flow.next_delivery()
            {
                delivering = Some((now + plan.sink, item));
                moved = true;
            }
            for (stage, most) in record.most_at_once.iter_mut().enumerate() {
                *most = busy.iter().filter(|(_, w)| w.stage == stage).count().max(*most);
            }
            check(&flow, &mut record);
            if !moved {
                break;
            }
        }
        if flow.finished() {
            record.counts = flow.counts();
            record.failed_in = flow.failed_in().to_vec();
            record.ended = now;
            break;
        }
    }
    record
}

/// The account holds at every moment.
fn check(flow: &Flow, record: &mut Record) {
    let c = flow.counts();
    let gone = c.delivered + c.stale + c.stopped + c.unreadable + c.failed;
    assert_eq!(c.captured, gone + c.in_flight, "{c:?}");
    record.most_in_flight = record.most_in_flight.max(c.in_flight);
}

fn in_order(frames: &[u64]) -> bool {
    frames.windows(2).all(|w| w[0] < w[1])
}

fn p99(delivered: &[(u64, Ms)]) -> Ms {
    let mut ages: Vec<Ms> = delivered.iter().map(|(_, age)| *age).collect();
    ages.sort_unstable();
    ages[(ages.len() * 99).div_ceil(100) - 1]
}

#[test]
fn block_loses_nothing_keeps_order_and_holds_its_bound() {
    let record = play(&Plan::default());
    assert_eq!(record.counts, Counts { captured: 100, delivered: 100, ..Counts::default() });
    assert!(record.delivered.iter().map(|d| d.0).eq(0..100));
    assert!(record.most_in_flight <= 4 + 6 + 1, "{} in flight", record.most_in_flight);
    // Two workers, 15 ms of work a frame: no core may idle.
    assert_eq!(record.ended, 100 * 15 / 2);
}

#[test]
fn a_slow_stage_gets_both_workers() {
    // Every frame of the second half is 60 ms in the last stage: with a thread per stage that would be 60 ms a frame.
    let heavy = |seq| if seq >= 50 { 60 } else { 0 };
    let record = play(&Plan { stages: vec![(LANE, |_| 6), (LANE, heavy)], ..Plan::default() });
    let work: Ms = (0..100).map(|seq| 6 + heavy(seq)).sum();
    assert!(record.ended <= work / 2 + 60, "{} ms for {work} ms of work", record.ended);
    assert_eq!(record.most_at_once, [2, 2]);
}

#[test]
fn latest_at_twice_the_load_drops_half_and_results_stay_young() {
    // 10 ms between frames, 2 workers, 40 ms of work a frame: twice what can be done.
    let arrivals: Vec<Ms> = (0..1000).map(|n| n * 10).collect();
    let limits = Limits { waiting: 1, unfinished: 2, active: 6 };
    let plan = Plan {
        policy: Policy::Latest,
        limits,
        stages: vec![(LANE, |_| 15), (LANE, |_| 25)],
        arrivals,
        ..Plan::default()
    };
    let record = play(&plan);
    assert_eq!(record.counts.captured, 1000);
    assert_eq!(record.counts.delivered + record.counts.stale, 1000);
    assert!((495..=505).contains(&record.counts.delivered), "{:?}", record.counts);
    assert!(in_order(&record.delivered.iter().map(|d| d.0).collect::<Vec<_>>()));
    // Its own 40 ms, and at most one frame's time in the queue.
    assert!(p99(&record.delivered) <= 40 + 20, "p99 {} ms", p99(&record.delivered));
}

#[test]
fn latest_within_the_load_drops_nothing() {
    let arrivals = (0..300).map(|n| n * 10).collect();
    let limits = Limits { waiting: 1, unfinished: 2, active: 6 };
    let record = play(&Plan { policy: Policy::Latest, limits, arrivals, ..Plan::default() });
    assert_eq!(record.counts.delivered, 300);
    assert_eq!(p99(&record.delivered), 15);
}

#[test]
fn a_slow_sink_does_not_hold_up_a_camera() {
    let arrivals: Vec<Ms> = (0..500).map(|n| n * 10).collect();
    let limits = Limits { waiting: 1, unfinished: 2, active: 6 };
    let plan = Plan { policy: Policy::Latest, limits, arrivals, sink: 50, ..Plan::default() };
    let record = play(&plan);
    // Every frame was taken from the camera at its time, or the clock would have run on long after the last.
    assert_eq!(record.counts.captured, 500);
    assert_eq!(record.counts.delivered + record.counts.stale, 500);
    assert!(record.ended <= 4990 + 15 + 50 * 8, "{} ms", record.ended);
    // What waits for the sink is bounded, so its age is: 6 active frames and one waiting, 50 ms each.
    assert!(p99(&record.delivered) <= 50 * 8, "p99 {} ms", p99(&record.delivered));
}

#[test]
fn a_slow_sink_holds_up_a_file_and_nothing_is_lost() {
    let record = play(&Plan { sink: 50, ..Plan::default() });
    assert_eq!(record.counts.delivered, 100);
    assert!(record.ended >= 100 * 50);
}

#[test]
fn a_source_that_stalls_and_comes_back() {
    let arrivals = (0..50).map(|n| n * 10).chain((0..50).map(|n| 5000 + n * 10)).collect();
    let limits = Limits { waiting: 1, unfinished: 2, active: 6 };
    let record = play(&Plan { policy: Policy::Latest, limits, arrivals, ..Plan::default() });
    assert_eq!(record.counts.delivered, 100);
    // The frame before the stall did not wait for the one after it.
    assert_eq!(record.delivered[49].1, 15);
}

#[test]
fn a_run_that_is_stopped_delivers_what_was_begun_and_counts_the_rest() {
    let record = play(&Plan { stop_at: Some(100), ..Plan::default() });
    let c = record.counts;
    assert!(c.stopped > 0 && c.stopped <= 4, "{c:?}");
    assert_eq!(c.captured, c.delivered + c.stopped);
    assert_eq!(c.in_flight, 0);
    assert!(record.ended <= 100 + 4 * 15);
}

#[test]
fn a_source_that_ends_with_frames_in_flight_gets_all_of_them_delivered() {
    for frames in 0..12 {
        let record = play(&Plan { arrivals: vec![0; frames], ..Plan::default() });
        assert_eq!(record.counts.delivered, frames as u64);
    }
}

#[test]
fn an_ordered_stage_sees_frames_one_at_a_time_in_order() {
    let uneven = |seq| [30, 1, 12, 3, 7][(seq % 5) as usize];
    let ordered = Lane { instances: 1, ordered: true };
    let stages: Vec<StagePlan> = vec![(LANE, uneven), (ordered, |_| 2), (LANE, uneven)];
    let record = play(&Plan { workers: 3, stages, ..Plan::default() });
    assert!(in_order(&record.entered[1]));
    assert_eq!(record.most_at_once[1], 1);
    assert!(record.most_at_once[2] > 1, "the stage after it ought to be free to run frames side by side");
    assert_eq!(record.counts.delivered, 100);
    assert!(record.delivered.iter().map(|d| d.0).eq(0..100));
}

#[test]
fn a_failed_frame_is_delivered_in_its_place_and_counted_under_its_stage() {
    let ordered = Lane { instances: 1, ordered: true };
    let stages: Vec<StagePlan> = vec![(LANE, |_| 5), (ordered, |_| 2)];
    let failures = vec![(0, 0), (7, 0), (8, 1), (99, 1)];
    let record = play(&Plan { stages, failures, ..Plan::default() });
    assert_eq!(record.failed_in, [2, 2]);
    assert_eq!((record.counts.delivered, record.counts.failed), (96, 4));
    assert!(record.delivered.iter().map(|d| d.0).eq(0..100));
    assert!(!record.entered[1].contains(&7), "a later stage saw a frame that had failed");
}

#[test]
fn a_pipeline_without_stages_passes_frames_on() {
    let record = play(&Plan { stages: Vec::new(), ..Plan::default() });
    assert_eq!(record.counts.delivered, 100);
}

#[test]
fn whatever_the_plan_the_account_holds_and_order_is_kept() {
    for seed in 0..300 {
        let mut random = Seeded::new(seed);
        let mut draw = |below: u64| random.below(below);
        let policy = if draw(2) == 0 { Policy::Block } else { Policy::Latest };
        let workers = 1 + draw(4) as usize;
        let times: [fn(u64) -> Ms; 3] = [|_| 0, |seq| seq * 7 % 23, |seq| if seq % 9 == 0 { 80 } else { 4 }];
        let stages = (0..draw(5)).map(|_| {
            let ordered = draw(3) == 0;
            let instances = if ordered { 1 } else { 1 + draw(4) as usize };
            (Lane { instances, ordered }, times[draw(3) as usize])
        });
        let stages: Vec<_> = stages.collect();
        let mut at = 0;
        let arrivals = (0..150).map(|_| {
            at += draw(30);
            if policy == Policy::Block { 0 } else { at }
        });
        let arrivals = arrivals.collect();
        let failures =
            (0..draw(20)).map(|_| (draw(150), draw(stages.len().max(1) as u64) as usize)).collect();
        let limits = Limits {
            waiting: 1 + draw(5) as usize,
            unfinished: 1 + draw(8) as usize,
            active: 1 + draw(10) as usize,
        };
        let stop_at = (draw(3) == 0).then(|| draw(2000));
        let plan = Plan { policy, limits, workers, stages, arrivals, sink: draw(12), failures, stop_at };
        let record = play(&plan);
        let order: Vec<u64> = record.delivered.iter().map(|d| d.0).collect();
        assert!(in_order(&order), "seed {seed}: {order:?}");
        assert_eq!(record.counts.in_flight, 0, "seed {seed}");
        for (stage, (lane, _)) in plan.stages.iter().enumerate() {
            assert!(record.most_at_once[stage] <= lane.instances, "seed {seed}, stage {stage}");
            assert!(!lane.ordered || in_order(&record.entered[stage]), "seed {seed}, stage {stage}");
        }
    }
}

/// Frames that each of two instances got, when instance `broken` says after each that it is of no more use.
fn shares(broken: &[usize]) -> [usize; 2] {
    let limits = Limits { waiting: 4, unfinished: 2, active: 4 };
    let mut flow = Flow::new(Policy::Block, limits, &[LANE], || Box::new(Item::new([])));
    let mut shares = [0, 0];
    for _ in 0..50 {
        while let Some(item) = flow.has_room().then(|| flow.take_free()).flatten() {
            assert!(flow.offer(item).is_ok());
        }
        // Two workers, and whoever fails is the first to be done.
        let mut works: Vec<Work> = std::iter::from_fn(|| flow.next_work()).collect();
        assert!(!works.is_empty(), "frames wait for ever");
        works.sort_by_key(|work| !broken.contains(&work.instance));
        for mut work in works {
            shares[work.instance] += 1;
            work.retire = broken.contains(&work.instance);
            flow.done(work);
        }
        while let Some(item) = flow.next_delivery() {
            flow.delivered(item);
        }
    }
    shares
}

#[test]
fn an_instance_of_no_more_use_gets_no_more_frames_unless_it_is_the_last() {
    assert_eq!(shares(&[]), [50, 50]);
    assert_eq!(shares(&[0]), [1, 50]);
    let [a, b] = shares(&[0, 1]);
    assert!(a.min(b) == 1 && a.max(b) == 50, "{a} {b}");
}
