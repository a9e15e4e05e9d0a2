//! What no browser sends.

use std::{
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    made::Made,
    wire::{answer, connect, get, request, send},
};

fn alive(address: SocketAddr) {
    assert_eq!(get(address, "/healthz", &[]).status, 200);
}

/// Until the other side closes; panics where it does not.
fn closed_after(stream: &mut impl Read) -> Duration {
    let began = Instant::now();
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => began.elapsed(),
        Err(e) if e.kind() == ErrorKind::ConnectionReset => began.elapsed(),
        Err(e) => panic!("not closed after {:?}: {e}", began.elapsed()),
    }
}

#[test]
fn what_is_too_large_is_refused() {
    let made = Made::new();
    let (_serving, address) = made.serve();
    let long = "x".repeat(20_000);
    assert_eq!(get(address, "/", &[&format!("X-Long: {long}")]).status, 431);
    let many: Vec<String> = (0..200).map(|n| format!("X-{n}: y")).collect();
    assert_eq!(get(address, "/", &many.iter().map(String::as_str).collect::<Vec<_>>()).status, 431);
    assert!([414, 431].contains(&get(address, &format!("/{long}"), &[]).status));
    let body = vec![b'x'; 64 * 1024 + 1];
    for path in ["/api/v1/reload", "/login", "/nowhere"] {
        assert_eq!(request(address, "POST", path, &[], &body).status, 413, "{path}");
    }
    assert_eq!(request(address, "GET", "/", &[], &body).status, 413);
    assert_eq!(
        request(address, "POST", "/api/v1/reload", &[], &body[1..]).status,
        202,
        "as large as allowed"
    );
    let mut stream = connect(address);
    send(&mut stream, address, "POST", "/api/v1/reload", &["Transfer-Encoding: chunked"], b"");
    for _ in 0..5 {
        stream.write_all(b"4000\r\n").ok();
        stream.write_all(&[b'x'; 0x4000]).ok();
        stream.write_all(b"\r\n").ok();
    }
    assert_eq!(answer(&mut stream).status, 413, "told by no header");
    // Not even read: the header says it all.
    let mut stream = connect(address);
    send(&mut stream, address, "POST", "/api/v1/reload", &["Content-Length: 99999999999"], b"");
    assert_eq!(answer(&mut stream).status, 413);
    alive(address);
}

#[test]
fn who_is_slow_is_left() {
    let made = Made::new();
    let (_serving, address) = made.serve();
    let mut waits = Vec::new();
    for (what, start) in [
        ("says nothing", ""),
        ("half a header", "GET / HTTP/1.1\r\nHost: localhost\r\nX: "),
        ("half a body", "POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc"),
    ] {
        waits.push(std::thread::spawn(move || {
            let mut stream = connect(address);
            stream.write_all(start.as_bytes()).unwrap();
            let mut drip = stream.try_clone().unwrap();
            std::thread::spawn(move || {
                // One byte now and then must not count as progress.
                while drip.write_all(if start.is_empty() { b"" } else { b"y" }).is_ok() {
                    std::thread::sleep(Duration::from_secs(2));
                    if start.is_empty() {
                        return;
                    }
                }
            });
            (what, closed_after(&mut stream))
        }));
    }
    for wait in waits {
        let (what, took) = wait.join().unwrap();
        assert!((9..15).contains(&took.as_secs()), "{what}: closed after {took:?}");
    }
    alive(address);
}

#[test]
fn who_reads_nothing_is_left() {
    let made = Made::new();
    std::fs::write(made.media.join("large.bin"), vec![1; 64 << 20]).unwrap();
    let (_serving, address) = made.serve();
    let mut stream = connect(address);
    send(&mut stream, address, "GET", "/api/v1/media/large.bin", &[], b"");
    std::thread::sleep(Duration::from_secs(13));
    let mut rest = Vec::new();
    let read = stream.read_to_end(&mut rest);
    assert!(rest.len() < 64 << 20, "{} bytes came, {read:?}", rest.len());
    alive(address);
}

#[test]
fn connections_have_a_number() {
    let made = Made::new();
    let (_serving, address) = made.serve();
    let held: Vec<_> = (0..128)
        .map(|_| {
            // Taken by the server for sure once it has answered.
            let mut stream = connect(address);
            send(&mut stream, address, "GET", "/healthz", &[], b"");
            assert_eq!(answer(&mut stream).status, 200);
            stream
        })
        .collect();
    let mut next = connect(address);
    assert_eq!(answer(&mut next).status, 503);
    drop(held);
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let mut stream = connect(address);
        // What was turned away may be closed before this is written.
        stream.write_all(format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).ok();
        if answer(&mut stream).status == 200 {
            break;
        }
        assert!(Instant::now() < until, "room is made again");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn who_holds_every_place_with_half_a_request_loses_it_in_time() {
    let made = Made::new();
    let (_serving, address) = made.serve();
    let half = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nX: ");
    let mut held: Vec<_> = (0..128)
        .map(|_| {
            let mut stream = connect(address);
            stream.write_all(half.as_bytes()).unwrap();
            stream
        })
        .collect();
    let began = Instant::now();
    let served = || {
        let mut stream = connect(address);
        stream.write_all(format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).ok();
        answer(&mut stream).status == 200
    };
    let mut refused = false;
    loop {
        // A byte on every one of them now and then must not keep the places.
        held.iter_mut().for_each(|stream| drop(stream.write_all(b"y")));
        match served() {
            true if refused => break,
            true => assert!(began.elapsed() < Duration::from_secs(5), "the places are not taken"),
            false => refused = true,
        }
        assert!(began.elapsed() < Duration::from_secs(20), "still without an answer");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(began.elapsed() > Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn no_path_leads_out_of_the_media_folder() {
    let made = Made::new();
    let (_serving, address) = made.serve();
    for path in [
        "../secret.txt",
        "%2e%2e/secret.txt",
        "..%2fsecret.txt",
        "front%20gate/../../secret.txt",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "..\\secret.txt",
        "....//secret.txt",
        ".",
        "",
        "front%20gate",
        "front%20gate/1.jpg%00.txt",
        "./front%20gate/../../secret.txt",
        "%252e%252e/secret.txt",
    ] {
        let answer = get(address, &format!("/api/v1/media/{path}"), &[]);
        assert_eq!(answer.status, 404, "{path}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("s3cret"), "{path}");
    }
    assert_eq!(get(address, "/api/v1/media/front%20gate/1.jpg", &[]).status, 200);
}

#[test]
fn nonsense_is_answered_or_closed_and_nothing_panics() {
    let made = Made::new();
    let (_serving, address) = made.serve();
    let mut seed = 7u64;
    let mut noise = vec![0u8; 4000];
    for byte in &mut noise {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        *byte = (seed >> 56) as u8;
    }
    for said in [
        &b"\r\n\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        &noise,
    ] {
        let mut stream = connect(address);
        stream.write_all(said).ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        closed_after(&mut stream);
    }
    alive(address);
}
