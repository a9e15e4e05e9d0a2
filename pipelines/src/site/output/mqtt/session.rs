//! The thread that speaks with the broker.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{
    Shared,
    link::{self, Client, LARGEST, News, Options},
    topics::Topics,
};
use crate::site::output::{backoff::Backoff, spool::Waiting};

/// Publications that wait for the broker's word at once. Brokers take 20 and more (MQTT 5's receive maximum).
const UNDER_WAY: usize = 10;
/// Events that are read from the spool at once.
const READ: usize = 32;
/// A connection that lasted this long was a good one. One that ends at once, as another box has our name or a right is missing, is
/// none, or broker and box would be kept busy with nothing else.
const GOOD: Duration = Duration::from_secs(10);
/// How often the spool is looked at without being rung for.
const LOOK: Duration = Duration::from_secs(1);

pub(super) struct Inside {
    pub shared: Arc<Shared>,
    pub options: Options,
    pub topics: Topics,
}

/// A publication that was asked for.
#[derive(Debug)]
enum Asked {
    /// An event, by its number in the spool.
    Event(i64),
    /// Something that is told again on the next connection, by its topic.
    Acknowledged(String),
    Plain,
}

/// What is known of one connection.
struct Session<'a> {
    inside: &'a Inside,
    client: Client,
    connected: bool,
    /// In the order in which they were asked for; not yet on their way.
    asked: VecDeque<Asked>,
    /// By packet id.
    under_way: HashMap<u16, Asked>,
    /// Read from the spool, not yet asked for.
    ready: VecDeque<Waiting>,
    /// Number of the last one read.
    last: i64,
    /// Whether the spool may hold more.
    more: bool,
    /// That we go was asked for.
    goodbye: bool,
    /// Why an event is not taken now.
    denied: Option<String>,
}

impl Inside {
    pub fn run(self) {
        let _ended = Ended(&self.shared);
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(e) => return self.shared.tally.down(format!("cannot start: {e}")),
        };
        runtime.block_on(self.connections());
        // A name that is being looked up is not waited for.
        runtime.shutdown_background();
    }

    async fn connections(&self) {
        let seed = u64::from(std::process::id());
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(30), seed);
        while self.shared.ending().stop.is_none() {
            let begun = Instant::now();
            let (why, connected) = self.connection().await;
            if self.shared.ending().stop.is_some() {
                return;
            }
            self.shared.tally.down(format!("{}:{}: {why}", self.options.host, self.options.port));
            if connected && begun.elapsed() >= GOOD {
                backoff.reset();
            }
            let again = tokio::time::Instant::now() + backoff.wait();
            loop {
                tokio::select! {
                    () = tokio::time::sleep_until(again) => break,
                    () = self.shared.bell.notified() => {}
                }
                if self.shared.ending().stop.is_some() {
                    return;
                }
            }
        }
    }

    /// One connection, until it ends: why, and whether the broker was there.
    async fn connection(&self) -> (String, bool) {
        let (client, mut connection) = link::open(&self.options);
        let inbox = RefCell::new(VecDeque::new());
        let arrived = Notify::new();
        // Driven as one future that is never dropped half-way: a connection does not survive that.
        let driver = async {
            loop {
                match connection.news().await {
                    Ok(news) => {
                        inbox.borrow_mut().push_back(news);
                        arrived.notify_one();
                    }
                    Err(e) => return e,
                }
            }
        };
        let mut driver = std::pin::pin!(driver);
        let mut session = Session {
            inside: self,
            client,
            connected: false,
            asked: VecDeque::new(),
            under_way: HashMap::new(),
            ready: VecDeque::new(),
            last: 0,
            more: true,
            goodbye: false,
            denied: None,
        };
        loop {
            let stop = self.shared.ending().stop;
            // While it ends, the wait is short: the time to go is near.
            let look = if stop.is_some() { Duration::from_millis(10) } else { LOOK };
            let ended = tokio::select! {
                why = &mut driver => Some(why),
                () = arrived.notified() => None,
                () = self.shared.bell.notified() => {
                    session.more = true;
                    None
                }
                () = tokio::time::sleep(look) => {
                    session.more = true;
                    None
                }
            };
            // Also what came just before the end: an acknowledgement counts.
            loop {
                let news = inbox.borrow_mut().pop_front();
                let Some(news) = news else { break };
                session.note(&news);
            }
            if let Some(why) = ended.or(session.denied.take()) {
                return (why, session.connected);
            }
            match self.shared.ending().stop {
                None => session.feed(),
                Some(until) => {
                    if session.leave() || Instant::now() >= until {
                        return (String::new(), session.connected);
                    }
                }
            }
        }
    }
}

impl Session<'_> {
    fn note(&mut self, news: &News) {
        let shared = &self.inside.shared;
        match news {
            News::Connected => {
                self.connected = true;
                shared.tally.up();
                shared.live().tell_all();
                self.tell(&self.inside.topics.available(), b"online");
            }
            News::Sent(id) => {
                if let (Some(asked), true) = (self.asked.pop_front(), *id != 0) {
                    self.under_way.insert(*id, asked);
                }
            }
            News::Taken(id) => {
                if let Some(Asked::Event(number)) = self.under_way.remove(id) {
                    shared.spool.taken(number);
                }
            }
            News::Refused(id) => {
                if let Some(Asked::Event(number)) = self.under_way.remove(id) {
                    shared.spool.give_up(number, "refused");
                    shared.tally.note("the broker refused an event for good");
                }
            }
            News::Denied(id, reason) => match self.under_way.remove(id) {
                // It stays in the spool and goes out again on the next connection.
                Some(Asked::Event(_)) => {
                    let topic = self.inside.topics.events();
                    self.denied = Some(format!("the broker refuses what is published to {topic}: {reason}"));
                }
                // Events are worth more than a state that somebody may not be told.
                Some(Asked::Acknowledged(topic)) => {
                    shared.tally.note(format!("the broker refuses what is published to {topic}: {reason}"));
                }
                Some(Asked::Plain) | None => {}
            },
            News::Other => {}
        }
    }

    /// Asks for what there is to say, as far as there is room.
    fn feed(&mut self) {
        if !self.connected {
            return;
        }
        let topics = &self.inside.topics;
        let shared = &self.inside.shared;
        while self.room() {
            let Some((topic, payload)) = shared.live().next_retained() else { break };
            if !self.tell(&topic, payload.as_bytes()) {
                // Asked for again with everything else; the wait is over when the broker has taken something.
                shared.live().tell_all();
                return;
            }
        }
        let events = topics.events();
        while self.room() {
            if self.ready.is_empty() && self.more {
                match shared.spool.next(self.last, READ) {
                    Ok(ready) => {
                        self.more = ready.len() == READ;
                        self.last = ready.last().map_or(self.last, |waiting| waiting.number);
                        self.ready = ready.into();
                    }
                    // The spool tells of it itself; it is looked at again later.
                    Err(_) => self.more = false,
                }
            }
            let Some(waiting) = self.ready.pop_front() else { break };
            if !self.publish(&events, Asked::Event(waiting.number), false, &waiting.body) {
                self.ready.push_front(waiting);
                break;
            }
        }
        while self.room() {
            let Some((topic, path)) = shared.live().next_picture() else { break };
            match std::fs::read(&path) {
                // The topic and its frame need some bytes, too.
                Ok(picture) if picture.len() < LARGEST - 4096 => {
                    self.tell(&topic, &picture);
                }
                Ok(_) => shared.tally.dropped("snapshot too large", 1),
                Err(_) => shared.tally.dropped("snapshot unreadable", 1),
            }
        }
        while self.room() {
            let Some((topic, result)) = shared.live().next_result() else { break };
            if !self.publish(&topic, Asked::Plain, false, result.line.trim_ascii_end()) {
                shared.tally.dropped("result stale", 1);
                break;
            }
        }
    }

    /// Says that we go. Whether everything is said and taken.
    fn leave(&mut self) -> bool {
        if !self.connected {
            return true;
        }
        if !self.goodbye {
            self.goodbye = self.tell(&self.inside.topics.available(), b"offline");
        } else if self.asked.is_empty() && self.under_way.is_empty() {
            self.client.disconnect();
            return true;
        }
        false
    }

    fn room(&self) -> bool {
        self.asked.len() + self.under_way.len() < UNDER_WAY
    }

    /// Publishes what the broker is to keep.
    fn tell(&mut self, topic: &str, payload: &[u8]) -> bool {
        self.publish(topic, Asked::Acknowledged(topic.to_owned()), true, payload)
    }

    fn publish(&mut self, topic: &str, asked: Asked, retain: bool, payload: &[u8]) -> bool {
        let acknowledged = !matches!(asked, Asked::Plain);
        let room = self.client.publish(topic, acknowledged, retain, payload);
        if room {
            self.asked.push_back(asked);
        }
        room
    }
}

/// Says that the thread has ended, however it does.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.ending().ended = true;
        self.0.ended.notify_all();
    }
}
