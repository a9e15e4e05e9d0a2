//! Who may look: the token, sessions of browsers that have shown it, and how often one may try.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tapetum_runtime::{
    Error, Result,
    clock::{Clock, Tick},
};

use super::token::{Token, digest};

/// How long a browser is known after it has shown the token.
pub(super) const SESSION: Duration = Duration::from_secs(12 * 3600);
/// The oldest is forgotten for the next.
const SESSIONS: usize = 256;
/// Wrong tokens from one address within [`WINDOW`].
const TRIES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered; beyond, the one whose window began first is forgotten.
const ADDRESSES: usize = 4096;

/// What a shown token led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Right,
    Wrong,
    /// Not looked at: too many wrong ones came from there. Until when.
    TooMany(Duration),
}

/// Guards a site; one without a token lets everybody in.
pub(super) struct Door {
    token: Option<Token>,
    clock: Arc<dyn Clock>,
    sessions: Mutex<Sessions>,
    tries: Mutex<Tries>,
}

impl Door {
    pub fn new(token: Option<Token>, clock: Arc<dyn Clock>) -> Self {
        Self { token, clock, sessions: Mutex::default(), tries: Mutex::default() }
    }

    /// Whether it is guarded by this token.
    pub fn has(&self, token: Option<&Token>) -> bool {
        self.token.as_ref() == token
    }

    /// Whether anybody may come in.
    pub fn open(&self) -> bool {
        self.token.is_none()
    }

    /// Looks at a token that came from `peer`.
    pub fn shown(&self, token: &str, peer: IpAddr) -> Answer {
        let Some(right) = &self.token else { return Answer::Right };
        let now = self.clock.now();
        let mut tries = locked(&self.tries);
        if let Some(left) = tries.barred(peer, now) {
            return Answer::TooMany(left);
        }
        if right.is(token) {
            return Answer::Right;
        }
        tries.wrong(peer, now);
        Answer::Wrong
    }

    /// A new session's identifier.
    ///
    /// # Errors
    /// `Internal` if the system has no random numbers.
    pub fn begin_session(&self) -> Result<String> {
        use base64::Engine;
        let mut id = [0; 32];
        rustls::crypto::ring::default_provider()
            .secure_random
            .fill(&mut id)
            .map_err(|_| Error::internal("the system gives no random numbers"))?;
        let id = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(id);
        locked(&self.sessions).begin(&id, self.clock.now());
        Ok(id)
    }

    pub fn knows(&self, session: &str) -> bool {
        locked(&self.sessions).knows(session, self.clock.now())
    }

    pub fn end_session(&self, session: &str) {
        locked(&self.sessions).0.remove(&digest(session.as_bytes()));
    }
}

/// What they hold is sound after every statement, so a panic elsewhere does no harm.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// By the digest of their identifier, so that a lookup's time tells nothing of it: when they began.
#[derive(Default)]
struct Sessions(HashMap<[u8; 32], Tick>);

impl Sessions {
    fn begin(&mut self, id: &str, now: Tick) {
        self.0.retain(|_, began| now.saturating_sub(*began) < SESSION);
        if self.0.len() >= SESSIONS
            && let Some(oldest) = self.0.iter().min_by_key(|(_, began)| **began).map(|(id, _)| *id)
        {
            self.0.remove(&oldest);
        }
        self.0.insert(digest(id.as_bytes()), now);
    }

    fn knows(&self, id: &str, now: Tick) -> bool {
        self.0.get(&digest(id.as_bytes())).is_some_and(|began| now.saturating_sub(*began) < SESSION)
    }
}

/// By address: when its window began, and wrong tokens since.
#[derive(Default)]
struct Tries(HashMap<IpAddr, (Tick, u32)>);

impl Tries {
    fn barred(&self, peer: IpAddr, now: Tick) -> Option<Duration> {
        let (began, wrong) = self.0.get(&network(peer))?;
        let left = (*began + WINDOW).checked_sub(now).filter(|left| !left.is_zero())?;
        (*wrong >= TRIES).then_some(left)
    }

    fn wrong(&mut self, peer: IpAddr, now: Tick) {
        let peer = network(peer);
        if self.0.len() >= ADDRESSES && !self.0.contains_key(&peer) {
            self.0.retain(|_, (began, _)| now.saturating_sub(*began) < WINDOW);
            if self.0.len() >= ADDRESSES
                && let Some(oldest) = self.0.iter().min_by_key(|(_, (began, _))| *began).map(|(ip, _)| *ip)
            {
                self.0.remove(&oldest);
            }
        }
        let (began, wrong) = self.0.entry(peer).or_insert((now, 0));
        if now.saturating_sub(*began) >= WINDOW {
            (*began, *wrong) = (now, 0);
        }
        *wrong += 1;
    }
}

/// Who has one IPv6 address has the 2⁶⁴ of its network.
fn network(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tapetum_runtime::clock::Simulated;

    use super::*;
    use crate::site::http::TokenFrom;

    const TOKEN: &str = "9f86d081884c7d659a2feaa0c55ad015";

    fn door() -> (Door, Arc<Simulated>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), TOKEN).unwrap();
        let token = Token::read(&TokenFrom::File(file.path().to_owned())).unwrap();
        let clock = Arc::new(Simulated::default());
        (Door::new(Some(token), clock.clone()), clock)
    }

    fn v4(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
    }

    #[test]
    fn ten_wrong_tokens_a_minute_and_others_are_not_hindered() {
        let (door, clock) = door();
        for _ in 0..TRIES {
            assert_eq!(door.shown("wrong", v4(1)), Answer::Wrong);
        }
        assert_eq!(door.shown(TOKEN, v4(1)), Answer::TooMany(WINDOW), "not even the right one is looked at");
        assert_eq!(door.shown(TOKEN, v4(2)), Answer::Right);
        clock.advance(WINDOW - Duration::from_secs(1));
        assert_eq!(door.shown(TOKEN, v4(1)), Answer::TooMany(Duration::from_secs(1)));
        clock.advance(Duration::from_secs(1));
        assert_eq!(door.shown(TOKEN, v4(1)), Answer::Right);
        assert_eq!(door.shown("wrong", v4(1)), Answer::Wrong);
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let (door, _) = door();
        for n in 0..TRIES {
            let ip = IpAddr::V6(format!("2001:db8::{n}").parse().unwrap());
            assert_eq!(door.shown("wrong", ip), Answer::Wrong);
        }
        assert_ne!(door.shown("wrong", "2001:db8::ffff".parse().unwrap()), Answer::Wrong);
        assert_eq!(door.shown("wrong", "2001:db8:0:1::1".parse().unwrap()), Answer::Wrong);
    }

    #[test]
    fn memory_is_bounded() {
        let (door, clock) = door();
        for n in 0..20_000u32 {
            door.shown("wrong", IpAddr::V4(Ipv4Addr::from_bits(n)));
            door.begin_session().unwrap();
            clock.advance(Duration::from_millis(1));
        }
        assert_eq!(locked(&door.tries).0.len(), ADDRESSES);
        assert_eq!(locked(&door.sessions).0.len(), SESSIONS);
    }

    #[test]
    fn sessions_end_by_time_and_by_wish() {
        let (door, clock) = door();
        let (a, b) = (door.begin_session().unwrap(), door.begin_session().unwrap());
        assert_ne!(a, b);
        assert!(a.len() >= 43 && door.knows(&a) && door.knows(&b) && !door.knows("") && !door.knows(TOKEN));
        door.end_session(&a);
        assert!(!door.knows(&a) && door.knows(&b));
        clock.advance(SESSION);
        assert!(!door.knows(&b));
    }
}
