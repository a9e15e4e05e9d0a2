//! A relay between camera and source that does harm.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tapetum_runtime::seed::Seeded;

use crate::responder::Responder;

/// What the relay does to the camera's bytes; may be changed at any time.
#[derive(Default)]
pub struct Harm {
    /// Forwards nothing, and closes nothing.
    pub frozen: AtomicBool,
    /// Changes a byte in one RTP packet of twenty.
    pub flips: AtomicBool,
    /// Forgets one RTP packet of fifty.
    pub drops: AtomicBool,
}

/// Relays to `port`; connections made while it is frozen stay so.
pub fn start(port: u16, seed: u64) -> (Responder, Arc<Harm>) {
    let harm = Arc::new(Harm::default());
    let shared = Arc::clone(&harm);
    let relay = Responder::start(move |connection, client: TcpStream| {
        let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
        let (mut up_from, mut up_to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let harm = Arc::clone(&shared);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = up_from.read(&mut bytes) {
                hold(&harm);
                if up_to.write_all(&bytes[..n]).is_err() {
                    break;
                }
            }
            let _ = up_to.shutdown(Shutdown::Both);
        });
        down(server, &client, &shared, seed ^ connection as u64);
        let _ = client.shutdown(Shutdown::Both);
    });
    (relay, harm)
}

fn hold(harm: &Harm) {
    while harm.frozen.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Message by message: RTP and RTCP inside the connection begin with `$`, answers with a letter.
fn down(mut server: TcpStream, mut client: &TcpStream, harm: &Harm, seed: u64) {
    let mut random = Seeded::new(seed);
    let mut exact = |n: usize| -> Option<Vec<u8>> {
        let mut bytes = vec![0; n];
        server.read_exact(&mut bytes).ok().map(|()| bytes)
    };
    loop {
        let Some(mut message) = exact(1) else { return };
        if message[0] == b'$' {
            let Some(header) = exact(3) else { return };
            let Some(mut data) = exact(usize::from(header[1]) << 8 | usize::from(header[2])) else { return };
            let rtp = header[0] == 0;
            if rtp && harm.drops.load(Ordering::SeqCst) && random.below(50) == 0 {
                continue;
            }
            if rtp && harm.flips.load(Ordering::SeqCst) && random.below(20) == 0 && data.len() > 14 {
                let at = 12 + random.below(data.len() as u64 - 12) as usize;
                data[at] ^= 1 << random.below(8);
            }
            message.extend(header);
            message.append(&mut data);
        } else {
            while !message.ends_with(b"\r\n\r\n") {
                let Some(byte) = exact(1) else { return };
                message.extend(byte);
            }
            let text = String::from_utf8_lossy(&message).to_lowercase();
            let length = text.lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse().ok());
            let Some(body) = exact(length.unwrap_or(0)) else { return };
            message.extend(body);
        }
        hold(harm);
        if client.write_all(&message).is_err() {
            return;
        }
    }
}
