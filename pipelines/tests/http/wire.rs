//! HTTP and WebSockets as bytes on a socket, so that a test says exactly what is sent.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// `GET path` with these header lines, on a connection of its own.
pub fn get(address: SocketAddr, path: &str, headers: &[&str]) -> Answer {
    request(address, "GET", path, headers, b"")
}

pub fn request(address: SocketAddr, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
    let mut stream = connect(address);
    send(&mut stream, address, method, path, headers, body);
    answer(&mut stream)
}

/// Writes a request; `Host` is the address unless `headers` have one.
pub fn send(
    stream: &mut impl Write,
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &[u8],
) {
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|line| line.to_ascii_lowercase().starts_with("host:")) {
        head += &format!("Host: {address}\r\n");
    }
    headers.iter().for_each(|line| head += &format!("{line}\r\n"));
    if !body.is_empty() {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    // The server may have answered and closed before it took all.
    stream.write_all(body).ok();
}

/// Reads one answer. Panics where the server said nothing.
pub fn answer(stream: &mut impl Read) -> Answer {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "closed after {:?}", String::from_utf8_lossy(&bytes));
        bytes.push(byte[0]);
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut answer = Answer { status, head, body: vec![] };
    if let Some(length) = answer.header("content-length").map(|length| length.parse().unwrap()) {
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        answer.body = body;
    }
    answer
}

/// A WebSocket, in the client's place.
pub struct Ws(pub TcpStream);

impl Ws {
    pub fn open(address: SocketAddr, headers: &[&str]) -> Result<Self, Answer> {
        let mut stream = connect(address);
        let upgrade = [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ];
        send(&mut stream, address, "GET", "/api/v1/live", &[&upgrade, headers].concat(), b"");
        let answer = answer(&mut stream);
        if answer.status == 101 { Ok(Self(stream)) } else { Err(answer) }
    }

    pub fn say(&mut self, text: &str) {
        self.frame(1, text.as_bytes());
    }

    /// A masked frame of this opcode.
    pub fn frame(&mut self, opcode: u8, payload: &[u8]) {
        let mut bytes = vec![0x80 | opcode];
        match payload.len() {
            n @ 0..126 => bytes.push(0x80 | n as u8),
            n @ 126..65536 => {
                bytes.push(0x80 | 126);
                bytes.extend((n as u16).to_be_bytes());
            }
            n => {
                bytes.push(0x80 | 127);
                bytes.extend((n as u64).to_be_bytes());
            }
        }
        let key = [1, 2, 3, 4];
        bytes.extend(key);
        bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k));
        self.0.write_all(&bytes).ok();
    }

    /// Opcode and payload of the next message; `None` where nothing comes in time, or the connection is over.
    pub fn hear(&mut self, within: Duration) -> Option<(u8, Vec<u8>)> {
        self.0.set_read_timeout(Some(within)).unwrap();
        let mut head = [0; 2];
        self.0.read_exact(&mut head).ok()?;
        let length = match head[1] {
            126 => {
                let mut n = [0; 2];
                self.0.read_exact(&mut n).ok()?;
                u64::from(u16::from_be_bytes(n))
            }
            127 => {
                let mut n = [0; 8];
                self.0.read_exact(&mut n).ok()?;
                u64::from_be_bytes(n)
            }
            n => u64::from(n),
        };
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).ok()?;
        assert_eq!(head[0] & 0x80, 0x80, "in one piece");
        Some((head[0] & 15, payload))
    }
}
