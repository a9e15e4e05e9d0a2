//! Events posted to a receiver that is slow, fails, hangs and hangs up.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tapetum::site::event::Ids;

use super::{offer, open, until};

type Shared<T> = Arc<Mutex<T>>;

/// What the receiver does with the nth request.
type Plan = fn(usize) -> Answer;

#[derive(Clone, Copy)]
enum Answer {
    Status(u16),
    HangUp,
    Silence,
}

/// A receiver; the keys of events that it has taken, in order, and the head of the last request.
fn receiver(plan: Plan) -> (u16, Shared<Vec<String>>, Shared<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (taken, head) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(String::new())));
    let (t, h) = (Arc::clone(&taken), Arc::clone(&head));
    std::thread::spawn(move || {
        let mut requests = 0;
        let mut silent = Vec::new();
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = BufReader::new(stream);
            while let Some((key, text)) = request(&mut stream) {
                *h.lock().unwrap() = text;
                let answer = plan(requests);
                requests += 1;
                match answer {
                    Answer::Status(status) => {
                        if status == 200 {
                            t.lock().unwrap().push(key);
                        }
                        let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
                        stream.get_mut().write_all(answer.as_bytes()).ok();
                    }
                    Answer::HangUp => break,
                    Answer::Silence => {
                        silent.push(stream.get_ref().try_clone());
                        break;
                    }
                }
            }
        }
    });
    (port, taken, head)
}

/// The id of the event, as key and in the body; none at the end.
fn request(stream: &mut BufReader<TcpStream>) -> Option<(String, String)> {
    let mut head = String::new();
    while stream.read_line(&mut head).ok()? > 0 && !head.ends_with("\r\n\r\n") {}
    let field = |name: &str| {
        let line = head.lines().find(|line| line.to_lowercase().starts_with(name))?;
        Some(line.split_once(": ")?.1.to_owned())
    };
    let mut body = vec![0; field("content-length")?.parse().ok()?];
    stream.read_exact(&mut body).ok()?;
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let key = field("idempotency-key")?;
    assert_eq!(key, format!("{}/{}", body["id"].as_str().unwrap(), body["revision"]));
    Some((key, head))
}

fn keys(ids: &[String]) -> Vec<String> {
    ids.iter().map(|id| format!("{id}/0")).collect()
}

#[test]
fn failing_answers_are_tried_again_in_order_and_nobody_waits() {
    let (port, taken, head) = receiver(|n| match n {
        0 => Answer::Status(500),
        1 => Answer::HangUp,
        2 => Answer::Silence,
        3 => Answer::Status(503),
        _ => Answer::Status(200),
    });
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
        taken.lock().unwrap().len() >= 20
    });
    assert_eq!(*taken.lock().unwrap(), keys(&made));
    assert!(head.lock().unwrap().to_lowercase().contains("authorization: bearer s3cret"));
    until(Duration::from_secs(5), "the spool is empty", || outputs[0].status().spooled == 0);
    assert_eq!(outputs[0].status().delivered, 20);
    assert!(told.iter().any(|why| why.contains("500")), "{told:?}");
    assert!(!format!("{told:?}").contains("hidden") && !format!("{told:?}").contains("s3cret"), "{told:?}");
}

#[test]
fn an_event_that_is_refused_for_good_is_counted_and_the_next_goes_on() {
    let (port, taken, _) = receiver(|n| Answer::Status(if n == 0 { 422 } else { 200 }));
    let dir = tempfile::tempdir().unwrap();
    let outputs =
        open(&format!("[[output]]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{port}/\"\n"), dir.path());
    let made = offer(&*outputs[0], &Ids::new().unwrap(), 3);
    until(Duration::from_secs(10), "two are taken", || taken.lock().unwrap().len() == 2);
    assert_eq!(*taken.lock().unwrap(), keys(&made[1..]));
    assert_eq!(outputs[0].status().dropped["refused"], 1);
}

#[test]
fn a_stop_with_a_hanging_receiver_is_short_and_the_rest_comes_after_the_next_start() {
    let (silent, _, _) = receiver(|_| Answer::Silence);
    let dir = tempfile::tempdir().unwrap();
    let toml = |port| format!("[[output]]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{port}/\"\n");
    let outputs = open(&toml(silent), dir.path());
    let made = offer(&*outputs[0], &Ids::new().unwrap(), 5);
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    outputs[0].stop(Duration::from_millis(1500));
    assert!(start.elapsed() < Duration::from_secs(2));
    drop(outputs);
    let (port, taken, _) = receiver(|_| Answer::Status(200));
    let _outputs = open(&toml(port), dir.path());
    until(Duration::from_secs(10), "all are taken", || taken.lock().unwrap().len() >= 5);
    assert_eq!(*taken.lock().unwrap(), keys(&made));
}
