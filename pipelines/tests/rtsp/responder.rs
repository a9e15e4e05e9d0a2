//! The server's side of an RTSP dialogue, as a test wants it.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Listens, and gives each connection to a thread that runs `serve` with the connection's number.
pub struct Responder {
    pub port: u16,
    over: Arc<AtomicBool>,
}

impl Responder {
    pub fn start(serve: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (count, over) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
        let (ended, serve) = (Arc::clone(&over), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (n, serve) = (count.fetch_add(1, Ordering::SeqCst), Arc::clone(&serve));
                let Ok(stream) = stream else { continue };
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                std::thread::spawn(move || serve(n, stream));
            }
        });
        Self { port, over }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// A request: its method, its number, and the whole of it.
pub struct Request {
    pub method: String,
    pub cseq: String,
    pub text: String,
}

/// Reads one request; `None` at the end.
pub fn request(stream: &mut TcpStream) -> Option<Request> {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        text.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let method = text.split(' ').next()?.to_owned();
    let cseq = text.lines().find_map(|l| l.strip_prefix("CSeq: "))?.to_owned();
    Some(Request { method, cseq, text })
}

/// Answers a request.
pub fn answer(stream: &mut TcpStream, request: &Request, status: &str, headers: &str, body: &str) {
    let length = body.len();
    let text = format!(
        "RTSP/1.0 {status}\r\nCSeq: {}\r\n{headers}Content-Length: {length}\r\n\r\n{body}",
        request.cseq
    );
    let _ = stream.write_all(text.as_bytes());
}

/// A description of one video stream.
pub fn sdp(encoding: &str, more: &str) -> String {
    format!(
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 {encoding}/90000\r\n{more}a=control:track1\r\n"
    )
}

/// Answers everything up to PLAY, with `description` to DESCRIBE. False if the client went away.
pub fn play(stream: &mut TcpStream, description: &str) -> bool {
    while let Some(request) = request(stream) {
        match request.method.as_str() {
            "DESCRIBE" => {
                answer(stream, &request, "200 OK", "Content-Type: application/sdp\r\n", description)
            }
            "SETUP" => {
                let headers = "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
                answer(stream, &request, "200 OK", headers, "");
            }
            "PLAY" => {
                answer(stream, &request, "200 OK", "Session: 1\r\n", "");
                return true;
            }
            _ => answer(stream, &request, "200 OK", "Session: 1\r\n", ""),
        }
    }
    false
}
