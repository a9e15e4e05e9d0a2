//! Events posted to a URL, as JSON. From the spool: a receiver that is slow, fails or is gone makes nobody wait.

use std::{
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tapetum_runtime::{
    Error, ErrorKind, Result,
    settings::{Reader, Table},
};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use url::Url;

use super::{
    Kind, Output, OutputKind, Place, Secret,
    backoff::Backoff,
    reading::{self, SecretFrom},
    spec::{Spec, secret_file},
    spool::{Spool, SpoolSpec, Waiting},
    tally::Tally,
    tls,
};
use crate::site::{event::spec::seconds, message::Message, status::OutputStatus};

/// `kind = "webhook"`.
pub(super) const WEBHOOK: OutputKind = OutputKind {
    name: "webhook",
    does: "events posted to a URL as JSON",
    keys: &["url", "url_file", "url_env", "token_file", "token_env", "ca", "timeout_s", "spool"],
    read: |reader, table| WebhookSpec::read(reader, table).map(Kind::Webhook),
};

/// Answers that say that this event will never be taken, whatever is mended on the other side.
const NEVER: [u16; 3] = [400, 413, 422];

/// Where events are posted to.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookSpec {
    /// The URL, or where it is read from. Its path and query may be secret; messages show scheme, host and port.
    pub url: UrlFrom,
    /// Sent as `Authorization: Bearer …`.
    pub token: Option<SecretFrom>,
    /// Authorities that are trusted instead of the system's, a PEM file.
    pub ca: Option<PathBuf>,
    /// For a request with its answer.
    pub timeout: Duration,
    /// How much is kept while the receiver is away.
    pub spool: SpoolSpec,
}

/// Where the URL comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum UrlFrom {
    /// The configuration.
    Text(Secret),
    /// A file or an environment variable.
    Secret(SecretFrom),
}

impl WebhookSpec {
    fn read<'t>(reader: &mut Reader<'t>, table: &Table<'t>) -> Option<Self> {
        let text = reader.string(table, "url");
        if let Some(Err(e)) = text.as_deref().map(parse) {
            reader.note(table.place("url"), e.to_string());
        }
        let url = match (text, SecretFrom::of(reader, table, "url")) {
            (Some(text), None) => Some(UrlFrom::Text(Secret::new(text))),
            (None, Some(from)) => Some(UrlFrom::Secret(from)),
            (None, None) => {
                reader.note(table.place("url"), "url is missing here (or url_file, or url_env)");
                None
            }
            (Some(_), Some(_)) => {
                reader.note(table.place("url"), "url, url_file and url_env exclude each other");
                None
            }
        };
        let token = SecretFrom::of(reader, table, "token");
        let ca = reading::path(reader, table, "ca");
        let timeout = seconds(reader, table, "timeout_s", Duration::from_secs(10), 0.1, 300.0);
        let spool = SpoolSpec::read(reader, table);
        Some(Self { url: url?, token, ca, timeout: timeout?, spool: spool? })
    }
}

/// Never shows the URL.
fn parse(text: &str) -> Result<Url> {
    let url = Url::parse(text).map_err(|e| Error::config(format!("url: {e}")))?;
    match (url.scheme(), url.host()) {
        ("http" | "https", Some(_)) => Ok(url),
        _ => Err(Error::config("url must be http://… or https://…")),
    }
}

/// Scheme, host and port.
fn shown(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// The output.
pub struct Webhook {
    name: String,
    spool: Arc<Spool>,
    tally: Arc<Tally>,
    bell: Arc<Bell>,
}

/// Wakes the thread that posts.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    wake: Condvar,
    stop: AtomicBool,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_all();
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.ring();
    }

    /// Until it is rung, or `most` has passed. Whether to go on.
    fn wait(&self, most: Duration) -> bool {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut rung, _) =
            self.wake.wait_timeout_while(rung, most, |rung| !*rung).unwrap_or_else(PoisonError::into_inner);
        *rung = false;
        !self.stop.load(Ordering::Relaxed)
    }

    /// All of `most`, whoever rings, but for the end. Whether to go on.
    fn pause(&self, most: Duration) -> bool {
        let until = Instant::now() + most;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.wait(left) {
                return !self.stop.load(Ordering::Relaxed);
            }
        }
    }
}

/// What is posted with, where to, and the authorization.
type Prepared = (ureq::Agent, Url, Option<Secret>);

impl WebhookSpec {
    /// Reads secrets and certificates.
    fn prepare(&self) -> Result<Prepared> {
        let url = match &self.url {
            UrlFrom::Text(text) => parse(text.reveal())?,
            UrlFrom::Secret(from) => parse(from.read()?.reveal())?,
        };
        let token = self.token.as_ref().map(SecretFrom::read).transpose()?;
        let mut config = ureq::Agent::config_builder()
            .timeout_global(Some(self.timeout))
            .http_status_as_error(false)
            // A redirect could carry the token to somebody else.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("tapetum/", env!("CARGO_PKG_VERSION")));
        if url.scheme() == "https" {
            let roots: Vec<_> = tls::authorities(self.ca.as_deref())?
                .iter()
                .map(|certificate| Certificate::from_der(certificate).to_owned())
                .collect();
            config = config.tls_config(
                TlsConfig::builder()
                    .provider(TlsProvider::Rustls)
                    .root_certs(RootCerts::new_with_certs(&roots))
                    .unversioned_rustls_crypto_provider(tls::provider())
                    .build(),
            );
        }
        let authorization = token.map(|token| Secret::new(format!("Bearer {}", token.reveal())));
        Ok((config.build().into(), url, authorization))
    }
}

impl Spec for WebhookSpec {
    fn reads(&mut self) -> Vec<&mut PathBuf> {
        let url = match &mut self.url {
            UrlFrom::Secret(from) => secret_file(Some(from)),
            UrlFrom::Text(_) => None,
        };
        [url, secret_file(self.token.as_mut()), self.ca.as_mut()].into_iter().flatten().collect()
    }

    fn claims(&self, name: &str, place: &Place) -> Vec<String> {
        vec![format!("the file {}", Spool::file(&place.state, name).display())]
    }

    fn check(&self, _: &Place) -> Result<()> {
        self.prepare().map(drop)
    }

    fn open(&self, name: &str, place: &Place) -> Result<Arc<dyn Output>> {
        let (agent, url, authorization) = self.prepare()?;
        let tally = Arc::new(Tally::default());
        let spool = Spool::open(Spool::file(&place.state, name), self.spool.clone(), Arc::clone(&tally))?;
        let (spool, bell) = (Arc::new(spool), Arc::new(Bell::default()));
        let poster = Poster {
            agent,
            authorization,
            url,
            spool: Arc::clone(&spool),
            tally: Arc::clone(&tally),
            bell: Arc::clone(&bell),
        };
        tally.up();
        thread::Builder::new().name("output-webhook".to_owned()).spawn(move || poster.run()).map_err(
            |e| Error::new(ErrorKind::Environment, format!("cannot start a thread: {e}")).caused_by(e),
        )?;
        Ok(Arc::new(Webhook { name: name.to_owned(), spool, tally, bell }))
    }
}

struct Poster {
    agent: ureq::Agent,
    authorization: Option<Secret>,
    url: Url,
    spool: Arc<Spool>,
    tally: Arc<Tally>,
    bell: Arc<Bell>,
}

impl Poster {
    fn run(self) {
        let seed = u64::from(std::process::id());
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(60), seed);
        let mut last = 0;
        loop {
            let event = match self.spool.next(last, 1) {
                Ok(events) => events.into_iter().next(),
                // The spool tells of it itself.
                Err(_) if self.bell.pause(Duration::from_secs(1)) => continue,
                Err(_) => return,
            };
            let Some(event) = event else {
                if !self.bell.wait(Duration::from_secs(10)) {
                    return;
                }
                continue;
            };
            match self.post(&event) {
                Ok(()) => {
                    self.spool.taken(event.number);
                    self.tally.up();
                }
                Err(Refusal::Never(status)) => {
                    self.spool.give_up(event.number, "refused");
                    self.tally.note(format!(
                        "{} refused event {} revision {} for good with status {status}",
                        shown(&self.url),
                        event.id,
                        event.revision
                    ));
                }
                Err(Refusal::Later(why)) => {
                    self.tally.down(format!("{}: {why}", shown(&self.url)));
                    if !self.bell.pause(backoff.wait()) {
                        return;
                    }
                    continue;
                }
            }
            backoff.reset();
            last = event.number;
            if self.bell.stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    fn post(&self, event: &Waiting) -> std::result::Result<(), Refusal> {
        let mut request = self
            .agent
            .post(self.url.as_str())
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", format!("{}/{}", event.id, event.revision));
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization.reveal());
        }
        match request.send(&event.body[..]) {
            Ok(answer) => match answer.status().as_u16() {
                200..=299 => Ok(()),
                status if NEVER.contains(&status) => Err(Refusal::Never(status)),
                status => Err(Refusal::Later(format!("answered with status {status}"))),
            },
            Err(e) => Err(Refusal::Later(match e {
                ureq::Error::Io(e) => e.to_string(),
                ureq::Error::Timeout(_) => "no answer in time".to_owned(),
                ureq::Error::HostNotFound => "no such host".to_owned(),
                ureq::Error::ConnectionFailed => "cannot connect".to_owned(),
                ureq::Error::Rustls(e) => format!("TLS: {e}"),
                // Others may show what is secret in the URL.
                _ => "the request failed".to_owned(),
            })),
        }
    }
}

enum Refusal {
    Never(u16),
    Later(String),
}

impl Output for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    fn offer(&self, message: &Message) {
        if let Message::Event(event) = message {
            self.spool.put(event);
            self.bell.ring();
        }
    }

    fn flush(&self, within: Duration) -> bool {
        self.spool.flush(within)
    }

    fn status(&self) -> OutputStatus {
        let mut status = self.tally.status(&self.name, self.spool.in_memory(), self.spool.on_disk());
        super::add_trouble(&mut status, self.spool.trouble());
        status
    }

    /// A request that is under way is left alone: its event stays in the spool unless the answer still comes.
    fn stop(&self, within: Duration) -> bool {
        self.bell.stop();
        self.spool.stop(within)
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.bell.stop();
    }
}
