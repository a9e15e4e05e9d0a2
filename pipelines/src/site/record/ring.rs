//! The last seconds of a camera's encoded pictures, bounded in time and bytes.

use std::{collections::VecDeque, time::Duration};

use crate::source::packets::Packet;

/// Packets in the order of decoding. What it begins with can be decoded.
#[derive(Debug)]
pub struct Ring {
    packets: VecDeque<Packet>,
    bytes: usize,
    most: usize,
    /// So many of the first were handed over; what was not may not go.
    sent: usize,
    /// Bytes of these.
    sent_bytes: usize,
    /// Whether what is not handed over has to stay.
    held: bool,
    /// What was held had to go, for nobody took it: what comes next begins anew.
    cut: bool,
}

impl Ring {
    /// Holds at most `most` bytes.
    pub fn new(most: usize) -> Self {
        Self { packets: VecDeque::new(), bytes: 0, most, sent: 0, sent_bytes: 0, held: false, cut: false }
    }

    /// Adds a packet. Those before the first key are of no use.
    pub fn push(&mut self, mut packet: Packet) {
        if self.packets.is_empty() && !packet.key {
            return;
        }
        packet.gap |= std::mem::take(&mut self.cut);
        self.bytes += packet.bytes.len();
        self.packets.push_back(packet);
        while self.bytes > self.most && self.drop_group(Duration::MAX) {}
        if self.bytes > self.most {
            let held = self.held;
            self.clear();
            (self.held, self.cut) = (held, held);
        }
    }

    /// Lets go what no picture from `horizon` on needs.
    pub fn trim(&mut self, horizon: Duration) {
        while self.drop_group(horizon) {}
    }

    /// Lets go the first group of pictures, if those from `horizon` on can be decoded without it and it may go.
    fn drop_group(&mut self, horizon: Duration) -> bool {
        let next = (1..self.packets.len()).find(|at| self.packets[*at].key);
        let until = match next {
            Some(at) if self.packets[at].pts <= horizon => at,
            // One group that is too large by itself.
            None if self.bytes > self.most => self.packets.len(),
            _ => return false,
        };
        if self.held && until > self.sent {
            return false;
        }
        for packet in self.packets.drain(..until) {
            self.bytes -= packet.bytes.len();
            if self.sent > 0 {
                self.sent -= 1;
                self.sent_bytes -= packet.bytes.len();
            }
        }
        true
    }

    /// From here on what is needed for pictures from `from` on is kept until it is handed over. The time of the first picture
    /// that can be shown; `None` if there is none.
    pub fn hold(&mut self, from: Duration) -> Option<Duration> {
        let keys = || self.packets.iter().enumerate().filter(|(_, packet)| packet.key);
        let (at, first) = keys().filter(|(_, key)| key.pts <= from).last().or_else(|| keys().next())?;
        let pts = first.pts;
        self.held = true;
        self.sent = at;
        self.sent_bytes = self.packets.range(..at).map(|packet| packet.bytes.len()).sum();
        Some(pts)
    }

    /// Nothing has to stay any more.
    pub fn release(&mut self) {
        self.held = false;
        (self.sent, self.sent_bytes) = (0, 0);
    }

    /// Hands over what pictures up to `until` need and was not handed over yet.
    pub fn take(&mut self, until: Duration) -> Vec<Packet> {
        // Pictures between others come after the one that they lean on, which is shown later.
        let needed = self.packets.iter().rposition(|packet| packet.pts <= until).map_or(0, |at| at + 1);
        if needed <= self.sent {
            return Vec::new();
        }
        let taken: Vec<Packet> = self.packets.range(self.sent..needed).cloned().collect();
        self.sent = needed;
        self.sent_bytes += taken.iter().map(|packet| packet.bytes.len()).sum::<usize>();
        taken
    }

    /// Whether what waits takes more than half of the room, so that it has to be handed over.
    pub fn is_crowded(&self) -> bool {
        self.held && self.bytes - self.sent_bytes > self.most / 2
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::new(self.most);
    }

    /// In bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The packets.
    pub fn packets(&self) -> impl DoubleEndedIterator<Item = &Packet> {
        self.packets.iter()
    }
}
