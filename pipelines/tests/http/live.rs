//! The WebSocket: what is asked for comes, the newest, and nothing else.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    made::{self, Made},
    wire::Ws,
};

const SOON: Duration = Duration::from_secs(10);
const NOT: Duration = Duration::from_millis(300);

fn watched(made: &Arc<Made>, camera: &str, want: bool) {
    let until = Instant::now() + SOON;
    while made.lives[camera].watched() != want {
        assert!(Instant::now() < until, "{camera}: watched is not {want}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Header and parts of a frame's message.
fn parse(bytes: &[u8]) -> (Value, Vec<Vec<u8>>) {
    let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[4..4 + length]).unwrap();
    let mut rest = &bytes[4 + length..];
    let mut part = |part: &Value| {
        let (one, more) = rest.split_at(part["bytes"].as_u64().unwrap() as usize);
        rest = more;
        one.to_vec()
    };
    let parts = header["parts"].as_array().unwrap().iter().map(&mut part).collect();
    assert!(rest.is_empty(), "nothing beyond the parts");
    (header, parts)
}

#[test]
fn one_message_has_the_picture_and_the_findings_of_one_frame() {
    let made = Made::new();
    let (_serving, address) = made.serve();
    let mut page = Ws::open(address, &[&format!("Origin: http://{address}")]).unwrap();
    page.say(r#"{"watch":["front gate","nowhere"]}"#);
    page.say(r#"{"next":"front gate"}"#);
    watched(&made, "front gate", true);
    assert!(!made.lives["yard"].watched());
    made.lives["front gate"].show(made::frame(41));
    let (opcode, message) = page.hear(SOON).unwrap();
    let (header, parts) = parse(&message);
    let want = made::frame(41);
    assert_eq!((opcode, &header["camera"], &header["seq"]), (2, &"front gate".into(), &41.into()));
    assert_eq!(header["result"], serde_json::from_slice::<Value>(&want.result).unwrap());
    assert_eq!(parts, [want.jpeg, want.masks[0].png.clone()]);
    assert!((0.04..5.0).contains(&header["age_s"].as_f64().unwrap()));
}

#[test]
fn a_slow_page_gets_the_newest_frame_and_builds_no_queue() {
    let made = Made::new();
    let (_serving, address) = made.serve();
    let mut page = Ws::open(address, &[]).unwrap();
    page.say(r#"{"watch":["front gate"]}"#);
    watched(&made, "front gate", true);
    let live = &made.lives["front gate"];
    live.show(made::frame(1));
    assert!(page.hear(NOT).is_none(), "nothing comes that was not asked for");
    page.say(r#"{"next":"front gate"}"#);
    assert_eq!(parse(&page.hear(SOON).unwrap().1).0["seq"], 1);
    (2..=50).for_each(|seq| live.show(made::frame(seq)));
    assert!(page.hear(NOT).is_none(), "nothing comes that was not asked for");
    page.say(r#"{"next":"front gate"}"#);
    assert_eq!(parse(&page.hear(SOON).unwrap().1).0["seq"], 50);
    page.say(r#"{"next":"front gate"}"#);
    page.say(r#"{"next":"front gate"}"#);
    assert!(page.hear(NOT).is_none(), "nothing newer is there");
    live.show(made::frame(51));
    assert_eq!(parse(&page.hear(SOON).unwrap().1).0["seq"], 51);
    assert!(page.hear(NOT).is_none(), "asked twice is asked once");
}

#[test]
fn who_looks_away_costs_nothing() {
    let made = Made::new();
    let (serving, address) = made.serve();
    let mut page = Ws::open(address, &[]).unwrap();
    page.say(r#"{"watch":["front gate","yard"]}"#);
    page.say(r#"{"next":"yard"}"#);
    watched(&made, "yard", true);
    page.say(r#"{"watch":["front gate"]}"#);
    watched(&made, "yard", false);
    assert!(made.lives["front gate"].watched());
    drop(page);
    watched(&made, "front gate", false);
    let mut page = Ws::open(address, &[]).unwrap();
    page.say(r#"{"watch":["yard"]}"#);
    watched(&made, "yard", true);
    let began = Instant::now();
    serving.stop();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let (opcode, reason) = page.hear(SOON).unwrap();
    assert_eq!((opcode, &reason[..2]), (8, &1001u16.to_be_bytes()[..]));
}

#[test]
fn the_status_comes_when_asked_for() {
    let made = Made::new();
    let (_serving, address) = made.serve();
    let mut page = Ws::open(address, &[]).unwrap();
    page.say("\"status\"");
    let (opcode, text) = page.hear(SOON).unwrap();
    let status: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!((opcode, &status["cameras"][1]["why"]), (1, &"connection refused by 10.0.0.8:554".into()));
    assert!(page.hear(NOT).is_none());
}

#[test]
fn what_is_not_understood_ends_the_conversation_and_nothing_else() {
    let made = Made::new();
    let (_serving, address) = made.serve();
    for (opcode, said, code) in [
        (1, b"".to_vec(), 1008u16),
        (1, b"{\"watch\":1}".to_vec(), 1008),
        (1, b"\"next\"".to_vec(), 1008),
        (1, format!("{{\"watch\":[{}\"\"]}}", "\"x\",".repeat(300)).into_bytes(), 1008),
        (2, b"x".to_vec(), 1003),
    ] {
        let mut page = Ws::open(address, &[]).unwrap();
        page.frame(opcode, &said);
        let (opcode, reason) = page.hear(SOON).unwrap();
        assert_eq!(
            (opcode, &reason[..2]),
            (8, &code.to_be_bytes()[..]),
            "{}",
            String::from_utf8_lossy(&said)
        );
    }
    for said in [vec![b' '; 20_000], vec![0xff; 4]] {
        let mut page = Ws::open(address, &[]).unwrap();
        page.frame(1, &said);
        // Too large, or no UTF-8: the protocol's own end, with or without a word.
        assert!(page.hear(SOON).is_none_or(|(opcode, _)| opcode == 8));
    }
    let mut page = Ws::open(address, &[]).unwrap();
    page.say("\"status\"");
    assert_eq!(page.hear(SOON).unwrap().0, 1, "others go on");
}
