//! What waits for the disk.

use std::{collections::VecDeque, path::PathBuf};

use bytes::Bytes;

use crate::{
    recording::format::{Ended, EventLine, Head},
    source::packets::Packet,
};

/// Bytes that may wait besides what the cameras have room for themselves.
const MOST_WAITING: usize = 64 << 20;

/// Pictures that are handed over at once, in bytes.
const PIECE: usize = 4 << 20;

/// What the thread is asked for.
pub(in crate::site::record) enum Order {
    /// Somebody will want to write: sees whether that can be done.
    Look,
    /// Begins the recording in the folder of this name.
    Begin(PathBuf, Box<Head>),
    /// Adds pictures and lines of frames.
    More(PathBuf, Vec<Packet>, Vec<u8>),
    /// Completes it.
    End(PathBuf, Vec<EventLine>, Ended),
    /// Writes a picture, and tells whether that was done.
    Snapshot(PathBuf, Bytes, Box<dyn FnOnce(bool) + Send>),
}

impl Order {
    /// Orders for [`Order::More`] of which none is large: the lines come with the last pictures, for they speak of all of them.
    pub fn pieces(place: PathBuf, packets: Vec<Packet>, frames: Vec<u8>) -> impl Iterator<Item = Self> {
        let mut rest = packets.into_iter().peekable();
        let mut lines = Some(frames);
        std::iter::from_fn(move || {
            lines.as_ref()?;
            let (mut piece, mut bytes) = (Vec::new(), 0);
            while let Some(packet) =
                rest.next_if(|next| piece.is_empty() || bytes + next.bytes.len() <= PIECE)
            {
                bytes += packet.bytes.len();
                piece.push(packet);
            }
            let lines = if rest.peek().is_none() { lines.take() } else { None };
            Some(Self::More(place.clone(), piece, lines.unwrap_or_default()))
        })
    }

    fn bytes(&self) -> usize {
        let path = |path: &PathBuf| path.as_os_str().len();
        match self {
            Self::Look => 0,
            Self::Begin(place, head) => {
                let models = head.run.models.iter().map(|m| m.stage.len() + m.network.len() + m.sha256.len());
                path(place) + head.run.text.len() + head.source.len() + models.sum::<usize>()
            }
            Self::More(place, packets, frames) => {
                let pictures = packets.iter().map(|packet| packet.bytes.len()).sum::<usize>();
                path(place) + pictures + frames.len()
            }
            Self::End(place, events, _) => {
                path(place) + events.iter().map(|event| event.id.len() + event.label.len()).sum::<usize>()
            }
            Self::Snapshot(place, jpeg, _) => path(place) + jpeg.len(),
        }
    }

    /// Whether it is never refused: without it something would stay half done.
    fn must_come(&self) -> bool {
        matches!(self, Self::Look | Self::End(..))
    }
}

/// Orders in their order.
pub(super) struct Waiting {
    orders: VecDeque<Order>,
    bytes: usize,
    most: usize,
    /// Nothing comes any more.
    pub stop: bool,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { orders: VecDeque::new(), bytes: 0, most: MOST_WAITING, stop: false }
    }
}

impl Waiting {
    /// Takes an order, or gives it back where more waits than may.
    pub fn put(&mut self, order: Order) -> Result<(), Order> {
        let bytes = order.bytes();
        if self.bytes + bytes > self.most && !self.orders.is_empty() && !order.must_come() {
            return Err(order);
        }
        self.bytes += bytes;
        self.orders.push_back(order);
        Ok(())
    }

    /// The next.
    pub fn take(&mut self) -> Option<Order> {
        let order = self.orders.pop_front()?;
        self.bytes -= order.bytes();
        Some(order)
    }

    /// Of all, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A camera is there that may hand over so many bytes at once, when a recording begins.
    pub fn widen(&mut self, bytes: usize) {
        self.most = self.most.saturating_add(bytes);
    }

    /// It is gone.
    pub fn narrow(&mut self, bytes: usize) {
        self.most = self.most.saturating_sub(bytes).max(MOST_WAITING);
    }
}
