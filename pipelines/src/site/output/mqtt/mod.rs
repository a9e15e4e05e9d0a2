//! A broker, MQTT 3.1.1 or 5. Topics and payloads: `docs/outputs.md`.
//!
//! | part | what it does |
//! |---|---|
//! | `topics` | names of topics, Home Assistant's discovery |
//! | `live` | what is to be said besides events: states, counts, results, pictures |
//! | `link` | one connection, the same for both versions of MQTT |
//! | `session` | the thread: connects, sends, notes what the broker has taken |

mod link;
mod live;
mod session;
mod topics;

use std::{
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tapetum_runtime::{
    Error, ErrorKind, Result,
    settings::{Reader, Table},
};
use tokio::sync::Notify;

use self::{live::Live, topics::Topics};
use super::{
    Kind, Output, OutputKind, Place,
    reading::{self, SecretFrom},
    spec::{Spec, secret_file},
    spool::{Spool, SpoolSpec},
    tally::Tally,
    tls,
};
use crate::site::{event::spec::seconds, message::Message, status::OutputStatus};

/// `kind = "mqtt"`.
pub(super) const MQTT: OutputKind = OutputKind {
    name: "mqtt",
    does: "a broker, MQTT 3.1.1 or 5: events, states, counts, pictures, Home Assistant's discovery",
    keys: &[
        "host",
        "port",
        "version",
        "tls",
        "ca",
        "cert",
        "key",
        "user",
        "password_file",
        "password_env",
        "client_id",
        "prefix",
        "keep_alive_s",
        "snapshots",
        "results_per_s",
        "discovery",
        "spool",
    ],
    read: |reader, table| MqttSpec::read(reader, table).map(Kind::Mqtt),
};

/// Which broker, and what it gets.
#[derive(Clone, Debug, PartialEq)]
pub struct MqttSpec {
    /// Name or address of the broker.
    pub host: String,
    /// Its port; by default 1883, with TLS 8883.
    pub port: u16,
    /// Which MQTT is spoken.
    pub version: Version,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Authorities that are trusted instead of the system's, a PEM file.
    pub ca: Option<PathBuf>,
    /// Our certificate and its key, PEM files.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Who we are.
    pub user: Option<String>,
    /// With what.
    pub password: Option<SecretFrom>,
    /// By default `tapetum-SITE`. Unique on the broker.
    pub client_id: Option<String>,
    /// Before every topic; by default `tapetum/SITE`.
    pub prefix: Option<String>,
    /// A connection that is silent for longer is tested, and given up if there is no answer.
    pub keep_alive: Duration,
    /// Whether pictures of events are sent.
    pub snapshots: bool,
    /// Most results of a camera per second; 0: none.
    pub results_per_s: f32,
    /// Home Assistant's discovery prefix, if entities are announced.
    pub discovery: Option<String>,
    /// How much is kept while the broker is away.
    pub spool: SpoolSpec,
}

/// Versions of MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 3.1.1.
    V3,
    /// 5.
    V5,
}

impl MqttSpec {
    fn read<'t>(reader: &mut Reader<'t>, table: &Table<'t>) -> Option<Self> {
        let host = reader.required(table, "host", Reader::string);
        let tls = reading::flag(reader, table, "tls", false);
        let port = reading::count(
            reader,
            table,
            "port",
            if tls == Some(true) { 8883 } else { 1883 },
            1..=usize::from(u16::MAX),
        );
        let words = [("3.1.1", Version::V3), ("5", Version::V5)];
        let version = match reader.choice(table, "version", &words) {
            None if table.has("version") => None,
            version => Some(version.unwrap_or(Version::V5)),
        };
        let ca = reading::path(reader, table, "ca");
        let client = match (reading::path(reader, table, "cert"), reading::path(reader, table, "key")) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (cert, _) => {
                let place = table.place(if cert.is_some() { "cert" } else { "key" });
                reader.note(place, "cert and key go together");
                None
            }
        };
        if tls == Some(false) && (ca.is_some() || client.is_some()) {
            let place = table.place(if ca.is_some() { "ca" } else { "cert" });
            reader.note(place, "ca, cert and key need tls = true");
        }
        let user = reader.string(table, "user");
        let password = SecretFrom::of(reader, table, "password");
        if password.is_some() && user.is_none() {
            reader.note(table.place("password_file"), "a password needs a user");
        }
        let prefix = reader.string(table, "prefix");
        let discovery = reader.string(table, "discovery");
        for (key, topic) in [("prefix", &prefix), ("discovery", &discovery)] {
            if let Some(topic) = topic
                && !topics::valid(topic)
            {
                let what = format!(
                    "{key} {topic:?} must be a topic: no +, # or space, no / at its ends, no $ first"
                );
                reader.note(table.place(key), what);
            }
        }
        let keep_alive = seconds(reader, table, "keep_alive_s", Duration::from_secs(15), 2.0, 3600.0);
        let snapshots = reading::flag(reader, table, "snapshots", false);
        let results_per_s = match reader.number(table, "results_per_s") {
            None if table.has("results_per_s") => None,
            None => Some(1.0),
            Some(n) if (0.0..=100.0).contains(&n) => Some(n),
            Some(n) => {
                let what = format!("results_per_s must be 0 to 100, this is {n}");
                reader.note(table.place("results_per_s"), what);
                None
            }
        };
        let client_id = reader.string(table, "client_id");
        let spool = SpoolSpec::read(reader, table);
        Some(Self {
            host: host?,
            port: u16::try_from(port?).ok()?,
            version: version?,
            tls: tls?,
            ca,
            client,
            user,
            password,
            client_id,
            prefix,
            keep_alive: keep_alive?,
            snapshots: snapshots?,
            results_per_s: results_per_s?,
            discovery,
            spool: spool?,
        })
    }
}

/// The output.
pub struct Mqtt {
    name: String,
    results: bool,
    shared: Arc<Shared>,
}

/// What the thread and the output share.
struct Shared {
    spool: Spool,
    live: Mutex<Live>,
    tally: Arc<Tally>,
    /// There is something to do.
    bell: Notify,
    ending: Mutex<Ending>,
    ended: Condvar,
}

#[derive(Default)]
struct Ending {
    /// When the thread is to be gone at the latest.
    stop: Option<Instant>,
    ended: bool,
}

impl Shared {
    fn live(&self) -> std::sync::MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ending(&self) -> std::sync::MutexGuard<'_, Ending> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MqttSpec {
    fn client_id(&self, site: &str) -> String {
        self.client_id.clone().unwrap_or_else(|| format!("tapetum-{}", topics::level(site)))
    }

    /// Reads the password and certificates.
    fn options(&self, site: &str, available: String) -> Result<link::Options> {
        let password = self.password.as_ref().map(SecretFrom::read).transpose()?;
        let transport = match self.tls {
            false => rumqttc::Transport::Tcp,
            true => {
                let client = self.client.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path()));
                rumqttc::Transport::tls_with_config(tls::client(self.ca.as_deref(), client)?.into())
            }
        };
        Ok(link::Options {
            version: self.version,
            host: self.host.clone(),
            port: self.port,
            client_id: self.client_id(site),
            transport,
            login: self.user.clone().map(|user| (user, password)),
            keep_alive: self.keep_alive,
            available,
        })
    }
}

impl Spec for MqttSpec {
    fn reads(&mut self) -> Vec<&mut PathBuf> {
        let (cert, key) = self.client.as_mut().map(|(cert, key)| (cert, key)).unzip();
        [secret_file(self.password.as_mut()), self.ca.as_mut(), cert, key].into_iter().flatten().collect()
    }

    /// A broker ends the connection of a client when another of the same name comes.
    fn claims(&self, name: &str, place: &Place) -> Vec<String> {
        let client =
            format!("the client id {:?} at {}:{}", self.client_id(&place.site), self.host, self.port);
        vec![format!("the file {}", Spool::file(&place.state, name).display()), client]
    }

    fn check(&self, place: &Place) -> Result<()> {
        self.options(&place.site, String::new()).map(drop)
    }

    /// The broker need not be there.
    fn open(&self, name: &str, place: &Place) -> Result<Arc<dyn Output>> {
        let topics = Topics::new(self.prefix.as_deref(), &place.site);
        let options = self.options(&place.site, topics.available())?;
        let tally = Arc::new(Tally::default());
        let spool = Spool::open(Spool::file(&place.state, name), self.spool.clone(), Arc::clone(&tally))?;
        let shared = Arc::new(Shared {
            spool,
            live: Mutex::new(Live::new(self, place, topics.clone())),
            tally,
            bell: Notify::new(),
            ending: Mutex::default(),
            ended: Condvar::new(),
        });
        shared.tally.down("not yet connected");
        let inside = session::Inside { shared: Arc::clone(&shared), options, topics };
        thread::Builder::new().name("output-mqtt".to_owned()).spawn(move || inside.run()).map_err(|e| {
            Error::new(ErrorKind::Environment, format!("cannot start a thread: {e}")).caused_by(e)
        })?;
        Ok(Arc::new(Mqtt { name: name.to_owned(), results: self.results_per_s > 0.0, shared }))
    }
}

impl Output for Mqtt {
    fn name(&self) -> &str {
        &self.name
    }

    fn offer(&self, message: &Message) {
        match message {
            Message::Event(event) => {
                self.shared.spool.put(event);
                self.shared.live().event(event);
            }
            Message::Result(result) => self.shared.live().result(result, Instant::now(), &self.shared.tally),
            Message::Camera(news) => self.shared.live().camera(news),
        }
        self.shared.bell.notify_one();
    }

    fn flush(&self, within: Duration) -> bool {
        self.shared.spool.flush(within)
    }

    fn status(&self) -> OutputStatus {
        let spool = &self.shared.spool;
        let mut status = self.shared.tally.status(&self.name, spool.in_memory(), spool.on_disk());
        super::add_trouble(&mut status, spool.trouble());
        status
    }

    /// The broker gets half of the time to take what is under way and that we go; the disk gets the rest.
    fn stop(&self, within: Duration) -> bool {
        let start = Instant::now();
        let until = start + within / 2;
        let mut ending = self.shared.ending();
        ending.stop = Some(until);
        self.shared.bell.notify_one();
        while !ending.ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.shared.ended.wait_timeout(ending, left);
            ending = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(ending);
        self.shared.spool.stop(within.saturating_sub(start.elapsed()))
    }

    fn wants_results(&self) -> bool {
        self.results
    }

    fn cameras(&self, cameras: &[(String, Vec<String>)]) {
        self.shared.live().cameras(cameras);
        self.shared.bell.notify_one();
    }
}

impl Drop for Mqtt {
    fn drop(&mut self) {
        self.shared.ending().stop.get_or_insert_with(Instant::now);
        self.shared.bell.notify_one();
    }
}
