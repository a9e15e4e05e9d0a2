//! Events posted to a receiver that is slow, fails, hangs and hangs up.

use std::time::{Duration, Instant};

use tapetum::site::event::Ids;

use super::{
    offer, open,
    receiver::{Answer, Receiver},
    until,
};

fn keys(ids: &[String]) -> Vec<String> {
    ids.iter().map(|id| format!("{id}/0")).collect()
}

#[test]
fn failing_answers_are_tried_again_in_order_and_nobody_waits() {
    let receiver = Receiver::start(Box::new(|n| match n {
        0 => Answer::Status(500),
        1 => Answer::HangUp,
        2 => Answer::Silence,
        3 => Answer::Status(503),
        4 => Answer::Slow(Duration::from_millis(100)),
        _ => Answer::Status(200),
    }));
    let port = receiver.port;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("token"), "s3cret\n").unwrap();
    let token = dir.path().join("token").display().to_string();
    let outputs = open(
        &format!(
            "[[output]]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{port}/in/hidden?k=hidden\"\ntimeout_s = 0.5\n\
             token_file = {token:?}\n"
        ),
        dir.path(),
    );
    let start = Instant::now();
    let made = offer(&*outputs[0], &Ids::new().unwrap(), 20);
    assert!(start.elapsed() < Duration::from_secs(1), "an offer waited for the receiver");
    let mut told = Vec::new();
    until(Duration::from_secs(30), "all are taken", || {
        told.extend(outputs[0].status().why);
        receiver.keys().len() >= 20
    });
    assert_eq!(receiver.keys(), keys(&made));
    assert!(receiver.head().to_lowercase().contains("authorization: bearer s3cret"));
    until(Duration::from_secs(5), "the spool is empty", || outputs[0].status().spooled == 0);
    assert_eq!(outputs[0].status().delivered, 20);
    assert!(told.iter().any(|why| why.contains("500")), "{told:?}");
    assert!(!format!("{told:?}").contains("hidden") && !format!("{told:?}").contains("s3cret"), "{told:?}");
}

#[test]
fn an_event_that_is_refused_for_good_is_counted_and_the_next_goes_on() {
    let receiver = Receiver::start(Box::new(|n| Answer::Status(if n == 0 { 422 } else { 200 })));
    let port = receiver.port;
    let dir = tempfile::tempdir().unwrap();
    let outputs =
        open(&format!("[[output]]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{port}/\"\n"), dir.path());
    let made = offer(&*outputs[0], &Ids::new().unwrap(), 3);
    until(Duration::from_secs(10), "two are taken", || receiver.keys().len() == 2);
    assert_eq!(receiver.keys(), keys(&made[1..]));
    assert_eq!(outputs[0].status().dropped["refused"], 1);
}

#[test]
fn a_stop_with_a_hanging_receiver_is_short_and_the_rest_comes_after_the_next_start() {
    let silent = Receiver::start(Box::new(|_| Answer::Silence)).port;
    let dir = tempfile::tempdir().unwrap();
    let toml = |port| format!("[[output]]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{port}/\"\n");
    let outputs = open(&toml(silent), dir.path());
    let made = offer(&*outputs[0], &Ids::new().unwrap(), 5);
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    outputs[0].stop(Duration::from_millis(1500));
    assert!(start.elapsed() < Duration::from_secs(2));
    drop(outputs);
    let receiver = Receiver::start(Box::new(|_| Answer::Status(200)));
    let _outputs = open(&toml(receiver.port), dir.path());
    until(Duration::from_secs(10), "all are taken", || receiver.keys().len() >= 5);
    assert_eq!(receiver.keys(), keys(&made));
}
