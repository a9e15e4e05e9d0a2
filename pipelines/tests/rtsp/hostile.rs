//! Servers that break the rules: an error of the right kind, in time, without secrets.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use tapetum::source::{
    self, Source,
    live::Stop,
    rtsp::{Credentials, Rtsp, RtspOptions},
    supervised::LiveOptions,
};
use tapetum_runtime::{Error, ErrorKind, seed::Seeded};

use crate::{
    responder::{Responder, answer, play, request, sdp},
    take,
};

/// What a server is asked to be.
type Serve = fn(usize, TcpStream);

/// The error of connecting to a server that does `serve`, and how long it took.
fn error(serve: Serve) -> (Error, Duration) {
    let server = Responder::start(serve);
    let spec = format!("rtsp://operator:s3cr3t%21@127.0.0.1:{}/cam#connect=1", server.port);
    let from = Instant::now();
    let Err(e) = Rtsp::open(&spec, &RtspOptions::default(), &Stop::default()) else {
        panic!("a hostile server was taken for a camera")
    };
    (e, from.elapsed())
}

/// Reads what comes, so that the client can write.
fn swallow(stream: &TcpStream) {
    let mut stream = stream.try_clone().unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while stream.read(&mut bytes).is_ok_and(|n| n > 0) {}
    });
}

/// Repeats `bytes` until the client has had enough, `pause` after each.
fn repeat(mut stream: TcpStream, first: &[u8], bytes: &[u8], pause: Duration) {
    swallow(&stream);
    let from = Instant::now();
    let mut sent = stream.write_all(first);
    while sent.is_ok() && from.elapsed() < Duration::from_secs(5) {
        sent = stream.write_all(bytes);
        std::thread::sleep(pause);
    }
}

fn described(mut stream: TcpStream, status: &str, headers: &str, body: &str) {
    while let Some(request) = request(&mut stream) {
        answer(&mut stream, &request, status, headers, body);
    }
}

const TYPE: &str = "Content-Type: application/sdp\r\n";

#[test]
fn every_kind_of_bad_server_is_an_error_in_time() {
    use ErrorKind::{Environment, InvalidConfig, Unsupported};
    let no_pause = Duration::ZERO;
    let _ = no_pause;
    let cases: &[(&str, Serve, ErrorKind, &str)] = &[
        ("closes at once", |_, _| {}, Environment, ""),
        ("is silent", |_, s| repeat(s, b"", b"", Duration::from_millis(100)), Environment, "did not answer"),
        (
            "a byte at a time",
            |_, s| repeat(s, b"RTSP/1.0 200 OK\r\nX: ", b"x", Duration::from_millis(30)),
            Environment,
            "did not answer",
        ),
        (
            "headers without an end",
            |_, s| repeat(s, b"RTSP/1.0 200 OK\r\n", b"X-Name: value\r\n", Duration::from_micros(100)),
            Environment,
            "did not answer",
        ),
        (
            "a header without an end",
            |_, s| repeat(s, b"RTSP/1.0 200 OK\r\nX: ", &[b'x'; 4096], Duration::from_millis(1)),
            Environment,
            "",
        ),
        (
            "a body that never comes",
            |_, s| {
                repeat(
                    s,
                    b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 4000000000\r\n\r\n",
                    b"",
                    Duration::from_millis(50),
                );
            },
            Environment,
            "",
        ),
        (
            "bytes at random",
            |_, s| {
                let mut random = Seeded::new(7);
                let bytes: Vec<u8> = (0..65_536).map(|_| random.below(256) as u8).collect();
                repeat(s, &bytes, b"", Duration::from_millis(100));
            },
            Environment,
            "",
        ),
        ("no description", |_, s| described(s, "200 OK", TYPE, ""), Environment, ""),
        (
            "a description of garbage",
            |_, s| described(s, "200 OK", TYPE, "v=\0\nm=%%\r\n\r\na=:"),
            Environment,
            "",
        ),
        (
            "no video",
            |_, s| described(s, "200 OK", TYPE, "v=0\r\no=- 0 0 IN IP4 0\r\ns=x\r\nt=0 0\r\n"),
            Environment,
            "No parseable streams",
        ),
        (
            "sound only",
            |_, s| {
                described(
                    s,
                    "200 OK",
                    TYPE,
                    &sdp("PCMU", "").replace("m=video", "m=audio").replace("90000", "8000"),
                )
            },
            Unsupported,
            "no video",
        ),
        ("H.265", |_, s| described(s, "200 OK", TYPE, &sdp("H265", "")), Unsupported, "sends H265"),
        (
            "an unknown codec",
            |_, s| described(s, "200 OK", TYPE, &sdp("MAGIC", "")),
            Unsupported,
            "sends MAGIC; this build decodes",
        ),
        ("not found", |_, s| described(s, "404 Not Found", "", ""), Environment, "no stream of this path"),
        ("forbidden", |_, s| described(s, "403 Forbidden", "", ""), InvalidConfig, "refuses the user name"),
        (
            "never content with a password",
            |_, s| {
                described(s, "401 Unauthorized", "WWW-Authenticate: Digest realm=\"x\", nonce=\"1\"\r\n", "")
            },
            InvalidConfig,
            "refuses the user name",
        ),
        (
            "an unknown way to authenticate",
            |_, s| described(s, "401 Unauthorized", "WWW-Authenticate: Magic\r\n", ""),
            InvalidConfig,
            "",
        ),
        (
            "wrong numbers",
            |_, mut s| {
                while request(&mut s).is_some() {
                    let _ = s.write_all(b"RTSP/1.0 200 OK\r\nCSeq: 77\r\n\r\n");
                }
            },
            Environment,
            "",
        ),
    ];
    for (what, serve, kind, says) in cases {
        let (e, took) = error(*serve);
        assert_eq!(e.kind(), *kind, "{what}: {e}");
        assert!(e.to_string().contains(says), "{what}: {e}");
        assert!(e.to_string().starts_with("rtsp://127.0.0.1:"), "{what}: {e}");
        assert!(took < Duration::from_secs(3), "{what}: {took:?}");
        let all = format!("{e} {e:?}");
        assert!(!all.contains("s3cr3t") && !all.contains("operator"), "{what}: {all}");
        assert!(all.len() < 2000, "{what}: {} bytes", all.len());
    }
}

#[test]
fn what_a_server_repeats_of_the_password_is_shown_nowhere() {
    // It asks for a password in plain text and says it back in every way that it has.
    let echo: Serve = |_, mut stream| {
        while let Some(request) = request(&mut stream) {
            match request.text.lines().find_map(|l| l.strip_prefix("Authorization: ")) {
                None => {
                    answer(&mut stream, &request, "401 no", "WWW-Authenticate: Basic realm=\"x\"\r\n", "")
                }
                Some(given) => {
                    let back = format!("401 no {given} s3cr3t! s3cr3t%21 operator");
                    let headers =
                        format!("X: {given}\r\nWWW-Authenticate: Basic realm=\"s3cr3t! {given}\"\r\n");
                    answer(&mut stream, &request, &back, &headers, "s3cr3t!");
                }
            }
        }
    };
    let server = Responder::start(echo);
    let address = format!("rtsp://operator:s3cr3t%21@127.0.0.1:{}/cam?token=t0ken#connect=1", server.port);
    let secrets = ["s3cr3t", "operator", "t0ken", "b3BlcmF0b3I6czNjcjN0IQ"];
    let hidden = |text: &str| secrets.iter().all(|s| !text.contains(s));
    let Err(e) = source::open(&address) else { panic!("it never plays") };
    assert!(hidden(&format!("{e} {e:?}")), "{e:?}");
    let credentials = Credentials { user: "operator".to_owned(), password: "s3cr3t!".to_owned() };
    let rtsp = RtspOptions { credentials: Some(credentials), ..RtspOptions::default() };
    assert!(hidden(&format!("{rtsp:?}")));
    let options = LiveOptions { rtsp, ..LiveOptions::default() };
    let mut camera = source::open_live(&address, &options, Stop::default()).unwrap();
    let got = take(&mut camera, 1, Duration::from_secs(1));
    let health = camera.state().health();
    assert!(health.faults.refused >= 1, "{health:?}");
    assert!(hidden(&format!("{health:?} {got:?} {:?} {options:?}", camera.info())), "{health:?}");
    assert!(health.info.name.contains("token=***"), "{}", health.info.name);
    // Nor of an address that is none.
    for wrong in
        ["rtsp://operator:s3cr3t!#t0ken@cam/", "rtsp://operator:s3cr3t!@:x/", "rtsps://operator:s3cr3t!@cam/"]
    {
        let Err(e) = source::open(wrong) else { panic!("{wrong}") };
        assert!(hidden(&format!("{e} {e:?}")), "{e:?}");
        let camera = source::open_live(wrong, &options, Stop::default()).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert!(hidden(&format!("{:?}", camera.state().health())), "{wrong}: {:?}", camera.state().health());
    }
}

#[test]
fn garbage_after_a_good_start_ends_the_stream_with_an_error() {
    let garbage: Serve = |_, mut stream| {
        if play(&mut stream, &sdp("H264", "")) {
            let mut random = Seeded::new(3);
            let bytes: Vec<u8> = (0..1 << 20).map(|_| random.below(256) as u8).collect();
            let _ = stream.write_all(&bytes);
            std::thread::sleep(Duration::from_secs(5));
        }
    };
    let server = Responder::start(garbage);
    let spec = format!("rtsp://127.0.0.1:{}/cam#stall=1", server.port);
    let mut source = Rtsp::open(&spec, &RtspOptions::default(), &Stop::default()).unwrap();
    let got = take(&mut source, 1000, Duration::from_secs(5));
    assert!(got.error.is_some() && got.frames.is_empty(), "{got:?}");
}
