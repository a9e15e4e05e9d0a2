//! Who is told of what a site sees.
//!
//! To add an output: write `output/<name>.rs` with its spec (a `spec::Spec`), how that is read and its [`Output`], then add its `mod`
//! line, a member of [`Kind`] with its two lines in `spec.rs`, and one entry in [`OUTPUTS`].
//!
//! | part | what it does |
//! |---|---|
//! | [`mqtt`] | a broker: events, states, counts, discovery |
//! | [`sqlite`] | a database of events, with queries |
//! | [`jsonl`] | files of lines |
//! | [`webhook`] | events posted to a URL |
//! | [`spool`] | events on disk until the other side has taken them |
//! | `journal` | events that go on, for a daemon that is killed |
//! | [`db`] | a database that is written by a thread of its own and outlives faults |

pub mod db;
pub mod jsonl;
pub mod mqtt;
pub mod spool;
pub mod sqlite;
pub mod webhook;

mod backoff;
mod journal;
pub(in crate::site) mod reading;
mod secret;
mod spec;
mod tally;
mod tls;

use std::{
    collections::HashSet,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tapetum_runtime::{
    Error, ErrorKind, Result,
    settings::{Reader, Table},
};

use super::{
    message::{Event, Message},
    status::OutputStatus,
};

pub(in crate::site) use journal::{Journal, Told};
pub use secret::Secret;

/// Takes messages: events in their order, the states and results of a camera in theirs.
pub trait Output: Send + Sync {
    /// As in the configuration.
    fn name(&self) -> &str;

    /// Takes a message. Never waits for a disk or a network: what cannot be kept is dropped and counted.
    fn offer(&self, message: &Message);

    /// Waits until the events that were offered before are on disk (or with the other side), at most for `within`. Whether they are.
    fn flush(&self, within: Duration) -> bool;

    /// How it goes.
    fn status(&self) -> OutputStatus;

    /// Ends it: what was offered is brought to disk. Returns after `within` at the latest, whatever the other side does. What is
    /// offered later is dropped. Whether it has let go of its files; may be called again until it has.
    fn stop(&self, within: Duration) -> bool;

    /// Whether it is told of single frames. Events and states are told to all.
    fn wants_results(&self) -> bool {
        false
    }

    /// These are the site's cameras from now on, each with the labels that make events.
    fn cameras(&self, _cameras: &[(String, Vec<String>)]) {}
}

/// One output of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputSpec {
    /// Its own, or the kind's; unique.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

/// What an output is, with what the configuration says of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// See [`mqtt`].
    Mqtt(mqtt::MqttSpec),
    /// See [`sqlite`].
    Sqlite(sqlite::SqliteSpec),
    /// See [`jsonl`].
    Jsonl(jsonl::JsonlSpec),
    /// See [`webhook`].
    Webhook(webhook::WebhookSpec),
}

/// A kind of output.
pub struct OutputKind {
    /// `kind = "…"`.
    pub name: &'static str,
    /// What it does, for people.
    pub does: &'static str,
    /// The keys of its table, besides `kind` and `name`.
    keys: &'static [&'static str],
    read: for<'t> fn(&mut Reader<'t>, &Table<'t>) -> Option<Kind>,
}

impl fmt::Debug for OutputKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl OutputKind {
    /// The keys of its table, besides `kind` and `name`.
    pub fn keys(&self) -> &'static [&'static str] {
        self.keys
    }
}

/// Every kind of output in this build.
pub static OUTPUTS: &[OutputKind] = &[mqtt::MQTT, sqlite::SQLITE, jsonl::JSONL, webhook::WEBHOOK];

/// The site, as outputs see it.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Its name.
    pub site: String,
    /// Folder for what outlives the daemon.
    pub state: PathBuf,
    /// Folder that snapshots of events are in.
    pub media: PathBuf,
    /// Cameras, each with the labels that make events.
    pub cameras: Vec<(String, Vec<String>)>,
}

/// Reads the tables `[[output]]` of the file's root.
pub fn read<'t>(reader: &mut Reader<'t>, root: &Table<'t>) -> Vec<OutputSpec> {
    let kinds: Vec<_> = OUTPUTS.iter().map(|kind| (kind.name, kind)).collect();
    let mut names = HashSet::new();
    let (mut specs, mut taken) = (Vec::<OutputSpec>::new(), Vec::<(String, String)>::new());
    for table in reader.tables_in_order(root, "output") {
        let Some(kind) = reader.required(&table, "kind", |r, t, key| r.choice(t, key, &kinds)) else {
            continue;
        };
        let keys: Vec<_> = ["kind", "name"].into_iter().chain(kind.keys.iter().copied()).collect();
        reader.known(&table, &keys, &format!("an output of kind {}", kind.name));
        let name = reader.string(&table, "name").unwrap_or_else(|| kind.name.to_owned());
        // The name becomes part of file names.
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) {
            let what = format!("name {name:?} must be of letters, digits, - and _");
            reader.note(table.place("name"), what);
        } else if !names.insert(name.clone()) {
            let what = format!("two outputs are called {name:?}; give each a name of its own");
            reader.note(table.place("name"), what);
        }
        let Some(kind) = (kind.read)(reader, &table) else { continue };
        let spec = OutputSpec { name, kind };
        // What site and state folder are called makes no difference between two outputs.
        let claims = spec.claims(&Place::default());
        if let Some((claim, other)) = taken.iter().find(|(claim, _)| claims.contains(claim)) {
            let what = format!("outputs {other:?} and {:?} would both have {claim}", spec.name);
            reader.note(table.place("name"), what);
        }
        taken.extend(claims.into_iter().map(|claim| (claim, spec.name.clone())));
        specs.push(spec);
    }
    specs
}

/// Starts the outputs. Nothing is waited for: a dead broker or a full disk is told in the status. Events that go on, as the
/// daemon was killed, are ended.
///
/// # Errors
/// What only the configuration or whoever set up the machine can help: a certificate or password that cannot be read, a folder that
/// cannot be made, a database of a newer version.
pub fn open(specs: &[OutputSpec], place: &Place) -> Result<Vec<Arc<dyn Output>>> {
    Ok(open_and_end(specs, place)?.0)
}

type Opened = Vec<Arc<dyn Output>>;

/// As [`open`], with the events that were ended.
pub(in crate::site) fn open_and_end(specs: &[OutputSpec], place: &Place) -> Result<(Opened, Vec<Event>)> {
    folder(&place.state)?;
    let unfinished = unfinished(specs, place);
    let outputs = specs.iter().map(|spec| spec.open(place)).collect::<Result<Vec<_>>>()?;
    for event in &unfinished {
        let message = Message::Event(Arc::new(event.clone()));
        outputs.iter().for_each(|output| output.offer(&message));
    }
    Ok((outputs, unfinished))
}

/// The database of the first output of kind `sqlite`, for queries.
pub fn store(specs: &[OutputSpec], place: &Place) -> Option<PathBuf> {
    specs.iter().find_map(|spec| match &spec.kind {
        Kind::Sqlite(sqlite) => Some(sqlite.file(&place.state)),
        _ => None,
    })
}

/// Events that nobody ended, as they are told now: those of the journal, and those that only a store knows (the disk was full).
fn unfinished(specs: &[OutputSpec], place: &Place) -> Vec<Event> {
    let mut events = journal::left_over(&place.state);
    let known: HashSet<String> = events.iter().map(|event| event.id.clone()).collect();
    events.extend(unfinished_in_store(specs, place).into_iter().filter(|event| !known.contains(&event.id)));
    events
}

/// Events that a store knows as going on, as they are told now.
pub(super) fn unfinished_in_store(specs: &[OutputSpec], place: &Place) -> Vec<Event> {
    let Some(store) = store(specs, place).filter(|path| path.exists()) else { return Vec::new() };
    // What cannot be read is the store's own to tell.
    let open = sqlite::StoreReader::open(&store).and_then(|reader| reader.going_on()).unwrap_or_default();
    open.into_iter().map(journal::ended).collect()
}

/// Makes a folder. That there is no room for it now is no mistake of whoever set it up: it is made when there is.
fn folder(path: &Path) -> Result<()> {
    use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match std::fs::create_dir_all(path) {
        Err(e) if !matches!(e.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem) => {
            let what = format!("{}: cannot create the folder: {e}", path.display());
            Err(Error::new(ErrorKind::Environment, what).caused_by(e))
        }
        _ => Ok(()),
    }
}

/// `path` of the configuration, below the state folder unless it is absolute.
fn below(state: &Path, path: &Path) -> PathBuf {
    state.join(path)
}

/// Milliseconds since 1970.
pub(in crate::site) fn unix_ms(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}

/// A spool that cannot be written is the output's trouble, too.
fn add_trouble(status: &mut OutputStatus, trouble: Option<String>) {
    if let Some(trouble) = trouble {
        status.up = false;
        status.why = Some(match status.why.take() {
            Some(why) => format!("{why}; {trouble}"),
            None => trouble,
        });
    }
}
