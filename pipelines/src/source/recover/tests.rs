//! The rules in simulated time: by hand, and held against a plain account of seeded faults.

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn exact() -> Patience {
    Patience { jitter: 0.0, ..Patience::default() }
}

fn waits(recovery: &mut Recovery, now: &mut Tick, times: usize, hopeless: bool) -> Vec<u128> {
    let mut waits = Vec::new();
    for _ in 0..times {
        assert_eq!(recovery.ask(*now), Do::Open);
        recovery.refused(*now, "no".to_owned(), hopeless);
        let Do::Wait(wait) = recovery.ask(*now) else { panic!("it does not wait") };
        waits.push(wait.as_millis());
        *now += wait;
    }
    waits
}

#[test]
fn waits_double_up_to_a_minute_and_hopeless_ones_are_a_minute() {
    let (mut recovery, mut now) = (Recovery::new(exact(), 1, Tick::ZERO), Tick::ZERO);
    let grown = waits(&mut recovery, &mut now, 8, false);
    assert_eq!(grown, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
    assert_eq!(waits(&mut recovery, &mut now, 2, true), [60_000, 60_000]);
    assert_eq!(recovery.faults().refused, 10);
}

#[test]
fn what_has_worked_is_not_given_up_for_a_minute_when_it_is_refused() {
    let (mut recovery, mut now) = (Recovery::new(exact(), 1, Tick::ZERO), Tick::ZERO);
    assert_eq!(recovery.ask(now), Do::Open);
    recovery.opened(now);
    recovery.picture(now);
    now += MS * 60_000;
    recovery.lost(now, Loss::Failed { why: "no such file".to_owned(), hopeless: true });
    assert_eq!(recovery.ask(now), Do::Wait(MS * 1000));
    now += MS * 1000;
    assert_eq!(waits(&mut recovery, &mut now, 3, true), [2000, 4000, 8000]);
}

#[test]
fn a_minute_of_pictures_makes_the_next_failure_the_first_one() {
    for (streamed, expected) in [(59_999, 8000), (60_000, 1000)] {
        let (mut recovery, mut now) = (Recovery::new(exact(), 1, Tick::ZERO), Tick::ZERO);
        waits(&mut recovery, &mut now, 3, false);
        assert_eq!(recovery.ask(now), Do::Open);
        recovery.opened(now);
        assert!(recovery.picture(now));
        now += MS * streamed;
        assert!(!recovery.picture(now));
        recovery.lost(now, Loss::Ended);
        assert_eq!(recovery.ask(now), Do::Wait(MS * expected), "after {streamed} ms of pictures");
    }
}

#[test]
fn a_source_that_may_be_silent_for_long_is_not_given_up_for_want_of_pictures() {
    let patience = Patience { stall: MS * 90_000, ..exact() };
    let mut recovery = Recovery::new(patience, 1, Tick::ZERO);
    assert_eq!(recovery.ask(Tick::ZERO), Do::Open);
    recovery.opened(Tick::ZERO);
    recovery.picture(Tick::ZERO);
    assert!(!recovery.stalled(MS * 89_999) && recovery.stalled(MS * 90_000));
}

#[test]
fn silence_and_blindness_are_stalls_and_unreadable_frames_are_signs_of_life() {
    let mut recovery = Recovery::new(exact(), 1, Tick::ZERO);
    assert!(!recovery.stalled(MS * 100_000), "what is not open does not stall");
    assert_eq!(recovery.ask(Tick::ZERO), Do::Open);
    recovery.opened(Tick::ZERO);
    assert!(!recovery.stalled(MS * 4999) && recovery.stalled(MS * 5000));
    for at in 1..30 {
        recovery.unreadable(MS * 1000 * at);
        assert!(!recovery.stalled(MS * 1000 * at));
    }
    recovery.unreadable(MS * 30_000);
    assert!(recovery.stalled(MS * 30_000));
    recovery.lost(MS * 30_000, Loss::Stall);
    let faults = recovery.faults();
    assert_eq!((faults.stalls, faults.lost), (1, 1));
    assert_eq!(faults.last.as_ref().unwrap().1, "no picture that can be read for 30.0 s");
}

#[test]
fn what_is_stopped_stays_so() {
    let mut recovery = Recovery::new(exact(), 1, Tick::ZERO);
    recovery.stop();
    assert_eq!((recovery.ask(MS), recovery.phase()), (Do::Stop, &Phase::Stopped));
}

/// What happens next to the source, if it can.
#[derive(Clone, Debug)]
enum Event {
    Pass(u64),
    Refuse(bool),
    Open,
    Picture,
    Unreadable,
    Lose(u8),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => (0u64..20_000).prop_map(Event::Pass),
        1 => any::<bool>().prop_map(Event::Refuse),
        3 => Just(Event::Open),
        4 => Just(Event::Picture),
        1 => Just(Event::Unreadable),
        1 => (0u8..4).prop_map(Event::Lose),
    ];
    proptest::collection::vec(event, 1..300)
}

proptest! {
    #[test]
    fn every_bound_holds_and_the_account_is_exact(events in events(), seed in any::<u64>(), jitter in 0.0f32..1.0) {
        let patience = Patience { jitter, ..Patience::default() };
        let (mut recovery, mut now) = (Recovery::new(patience, seed, Tick::ZERO), Tick::ZERO);
        let mut plain = SourceFaults::default();
        let (mut open, mut down, mut seen, mut latest) = (false, Some(Tick::ZERO), false, Tick::ZERO);
        let mut streaming = false;
        for event in events {
            let todo = recovery.ask(now);
            match (event, todo) {
                (Event::Pass(ms), _) => now += MS * ms as u32,
                (Event::Refuse(hopeless), Do::Open) => {
                    plain.refused += 1;
                    recovery.refused(now, "no".to_owned(), hopeless);
                    streaming = false;
                }
                (Event::Open, Do::Open) => {
                    recovery.opened(now);
                    open = true;
                }
                (Event::Picture, Do::Read) => {
                    let first = recovery.picture(now);
                    prop_assert_eq!(first, !streaming);
                    plain.reconnects += u64::from(first && seen);
                    (streaming, seen, latest) = (true, true, now);
                    if let Some(since) = down.take() {
                        plain.downtime += now - since;
                    }
                }
                (Event::Unreadable, Do::Read) => recovery.unreadable(now),
                (Event::Lose(how), Do::Read) => {
                    plain.lost += 1;
                    plain.stalls += u64::from(how == 0);
                    let failed = Loss::Failed { why: "x".to_owned(), hopeless: how == 2 };
                    recovery.lost(now, match how { 0 => Loss::Stall, 1 => Loss::Ended, _ => failed });
                    if streaming {
                        down = Some(latest);
                    }
                    (open, streaming) = (false, false);
                }
                _ => {}
            }
            // A wait is never longer than a minute, and never shorter than the jitter allows.
            match recovery.ask(now) {
                Do::Wait(wait) => prop_assert!(wait <= patience.most.max(patience.hopeless)),
                Do::Read => prop_assert!(open),
                Do::Open => prop_assert!(!open),
                Do::Stop => prop_assert!(false, "nobody stopped it"),
            }
            let mut faults = recovery.faults().clone();
            faults.last = None;
            prop_assert_eq!(&faults, &plain);
            prop_assert_eq!(recovery.down(), down);
            prop_assert_eq!(matches!(recovery.phase(), Phase::Streaming { .. }), streaming);
        }
    }

    #[test]
    fn jitter_shortens_waits_by_its_part_at_most(seed in any::<u64>(), jitter in 0.0f32..1.0) {
        let patience = Patience { jitter, ..Patience::default() };
        let (mut recovery, mut now) = (Recovery::new(patience, seed, Tick::ZERO), Tick::ZERO);
        for (wait, whole) in waits(&mut recovery, &mut now, 8, false).into_iter().zip([1, 2, 4, 8, 16, 32, 60, 60]) {
            let (wait, whole) = (wait as f32, whole as f32 * 1000.0);
            prop_assert!(wait <= whole && wait + 2.0 >= whole * (1.0 - jitter), "{} of {}", wait, whole);
        }
    }
}
