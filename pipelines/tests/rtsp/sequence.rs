//! Access units as RTP packets.

use std::{io::Write, net::TcpStream};

use tapetum::source::packets::Packet;

/// Longest payload of one packet.
const MOST: usize = 1200;

/// One RTP packet, before it has its number.
pub struct Rtp {
    /// Which access unit it belongs to.
    pub unit: usize,
    pub stamp: u32,
    pub mark: bool,
    pub payload: Vec<u8>,
}

/// Packets of RFC 6184: single NAL units and FU-A.
pub fn packetized(units: &[Packet]) -> Vec<Rtp> {
    let mut packets = Vec::new();
    for (n, unit) in units.iter().enumerate() {
        let stamp = (unit.pts.as_secs_f64() * 90_000.0).round() as u32;
        let nals = nal_units(&unit.bytes);
        let last = nals.len() - 1;
        for (at, nal) in nals.iter().enumerate() {
            if nal.len() <= MOST {
                packets.push(Rtp { unit: n, stamp, mark: at == last, payload: nal.to_vec() });
                continue;
            }
            let pieces: Vec<_> = nal[1..].chunks(MOST).collect();
            for (piece, data) in pieces.iter().enumerate() {
                let (start, end) = (piece == 0, piece == pieces.len() - 1);
                let header = u8::from(start) << 7 | u8::from(end) << 6 | nal[0] & 0x1f;
                let mut payload = vec![nal[0] & 0xe0 | 28, header];
                payload.extend_from_slice(data);
                packets.push(Rtp { unit: n, stamp, mark: end && at == last, payload });
            }
        }
    }
    packets
}

fn nal_units(annex_b: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> =
        annex_b.windows(4).enumerate().filter(|(_, w)| *w == [0, 0, 0, 1]).map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([annex_b.len()]);
    starts.iter().zip(ends).map(|(start, end)| &annex_b[start + 4..end]).collect()
}

/// Sends one packet inside the RTSP connection. False if the client went away.
pub fn send(stream: &mut TcpStream, number: u16, stamp: u32, mark: bool, payload: &[u8]) -> bool {
    let mut bytes = vec![b'$', 0];
    bytes.extend_from_slice(&(payload.len() as u16 + 12).to_be_bytes());
    bytes.extend_from_slice(&[0x80, u8::from(mark) << 7 | 96]);
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&stamp.to_be_bytes());
    bytes.extend_from_slice(&0x5eed_u32.to_be_bytes());
    bytes.extend_from_slice(payload);
    stream.write_all(&bytes).is_ok()
}
