//! Found and taken, or built and kept.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tapetum_runtime::Result;

use super::{
    entry::{self, Unsound},
    folder::Cache,
    key::Key,
};

/// A session that is wanted. `S` is the session.
pub struct Wanted<'a, S> {
    /// What it depends on.
    pub key: &'a Key,
    /// Size of the model file, in bytes.
    pub model_bytes: u64,
    /// Whether to keep what is built where there is no entry yet. In any case a damaged one is built anew, and one that was
    /// built for something else here: whoever had it kept had not asked for one version or one processor.
    pub keep: bool,
    /// Makes the session: the engine takes what is in the folder, or fills it; without a folder it keeps nothing.
    pub load: &'a mut dyn FnMut(Option<&Path>) -> Result<S>,
    /// The golden self-check of the session: how far it is off. `None` where the model carries no golden record.
    pub check: &'a mut dyn FnMut(&mut S) -> Result<Option<f32>>,
}

/// A session that was loaded and checked.
pub struct Opened<S> {
    /// The session.
    pub session: S,
    /// What the self-check came to, if there was one.
    pub golden: Option<f32>,
    /// What the self-check took.
    pub checking: Duration,
    /// Where it comes from.
    pub origin: Origin,
    /// Why nothing is kept of it although it was to be.
    pub lost: Option<String>,
}

/// Where a session comes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Origin {
    /// The model file; nothing is kept of it.
    #[default]
    Unkept,
    /// Built just now and kept.
    Built {
        /// Building, loading and checking.
        seconds: f64,
        /// On disk.
        bytes: u64,
    },
    /// Taken from its entry.
    Found {
        /// On disk.
        bytes: u64,
    },
}

/// Told while a session is opened.
pub enum Event<'a> {
    /// Another process builds or uses the entry.
    Waiting,
    /// The engine is being built; how long that takes, by an earlier one, if there was one.
    Building(Option<Duration>),
    /// Something that stays to be read: an entry that was not taken, and why.
    Said(&'a str),
}

/// Why an entry was not taken.
enum Not {
    Missing,
    /// It is removed.
    Bad(String),
    /// The engine could not load it, which may not be its fault; it stays until another takes its place.
    Refused(String),
}

impl Cache {
    /// Opens a session from its entry. Where there is none, or it is not exactly what was written, or the engine or the
    /// self-check refuses it, the engine is built anew, once. A cache that cannot be used is told and done without.
    ///
    /// # Errors
    /// What loading or checking says of an engine that is newly built.
    pub fn open<S>(&self, wanted: Wanted<'_, S>, tell: &mut dyn FnMut(Event<'_>)) -> Result<Opened<S>> {
        let id = &wanted.key.digest()[..32];
        let keep = wanted.keep || self.entry(id).exists() || self.kin(wanted.key).is_some();
        if !keep {
            return unkept(wanted);
        }
        let _lock = match self.lock(id, tell) {
            Ok(lock) => lock,
            Err(e) => {
                let why = format!("cannot be used: {e}");
                return lost(wanted, why, tell);
            }
        };
        let Wanted { key, model_bytes, load, check, .. } = wanted;
        match self.found(id, key, load, check) {
            Ok(opened) => return Ok(opened),
            Err(Not::Missing) => {
                if let Some(difference) = self.kin(key) {
                    let why =
                        format!("engine cache: the entry there is was built for {difference}; built anew");
                    tell(Event::Said(&why));
                }
                tell(Event::Building(self.estimate(key, model_bytes)));
            }
            Err(Not::Refused(why)) => {
                tell(Event::Said(&format!("engine cache: {why}; built anew")));
                tell(Event::Building(self.estimate(key, model_bytes)));
            }
            Err(Not::Bad(why)) => {
                let estimate = self.estimate(key, model_bytes);
                if let Err(e) = self.remove(id) {
                    let why = format!("{why}, and cannot be removed: {e}");
                    return lost(Wanted { key, model_bytes, keep, load, check }, why, tell);
                }
                tell(Event::Said(&format!("engine cache: {why}; built anew")));
                tell(Event::Building(estimate));
            }
        }
        self.build(id, Wanted { key, model_bytes, keep, load, check }, tell)
    }

    fn found<S>(
        &self,
        id: &str,
        key: &Key,
        load: &mut dyn FnMut(Option<&Path>) -> Result<S>,
        check: &mut dyn FnMut(&mut S) -> Result<Option<f32>>,
    ) -> Result<Opened<S>, Not> {
        let folder = self.entry(id);
        let trusted = self.trusted.borrow().contains(id);
        let record = if trusted { entry::read(&folder) } else { entry::verify(&folder, key) };
        let record = record.map_err(|unsound| match unsound {
            Unsound::Missing => Not::Missing,
            Unsound::Damaged(why) => Not::Bad(format!("entry damaged ({why})")),
            Unsound::Foreign(why) => Not::Bad(format!("entry foreign (built for {why})")),
        })?;
        let unreadable = |e: io::Error| Not::Bad(format!("entry damaged ({e})"));
        let before = entry::states(&folder).map_err(unreadable)?;
        let mut session = load(Some(&folder))
            .map_err(|e| Not::Refused(format!("the engine does not take the entry ({e})")))?;
        // A provider that rejects a file of its own builds anew without a word, and writes it again.
        let after = entry::states(&folder).map_err(unreadable)?;
        let name = |name: &&String| before.get(*name) != after.get(*name);
        if let Some(name) = before.keys().chain(after.keys()).find(name) {
            return Err(Not::Bad(format!("the engine rejected the entry and wrote {name} anew")));
        }
        let begun = Instant::now();
        let golden =
            check(&mut session).map_err(|e| Not::Bad(format!("entry failed its self-check ({e})")))?;
        let checking = begun.elapsed();
        self.trusted.borrow_mut().insert(id.to_owned());
        self.used(id);
        let origin = Origin::Found { bytes: record.bytes() };
        Ok(Opened { session, golden, checking, origin, lost: None })
    }

    fn build<S>(
        &self,
        id: &str,
        wanted: Wanted<'_, S>,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<Opened<S>> {
        let building = match Building::new(self.passing(id, 0)) {
            Ok(building) => building,
            Err(e) => {
                return lost(wanted, format!("cannot be written: {e}"), tell);
            }
        };
        let begun = Instant::now();
        let mut session = (wanted.load)(Some(&building.0))?;
        let loaded = begun.elapsed();
        let golden = (wanted.check)(&mut session)?;
        let checking = begun.elapsed() - loaded;
        let seconds = begun.elapsed().as_secs_f64();
        let kept = entry::seal(&building.0, wanted.key, wanted.model_bytes, seconds).and_then(|record| {
            self.remove(id)?;
            let Some(record) = record else { return Ok(None) };
            fs::rename(&building.0, self.entry(id))?;
            entry::sync_folder(&building.0.parent().map(Path::to_path_buf).unwrap_or_default())?;
            Ok(Some(record))
        });
        let (origin, lost) = match kept {
            Ok(Some(record)) => {
                for old in self.give_up(id) {
                    tell(Event::Said(&format!(
                        "engine cache: full; entry {old} was not used for longest, removed"
                    )));
                }
                (Origin::Built { seconds, bytes: record.bytes() }, None)
            }
            Ok(None) => (Origin::Unkept, Some("the engine wrote nothing".to_owned())),
            Err(e) => {
                let why = format!("cannot be written: {e}");
                say_lost(&why, tell);
                (Origin::Unkept, Some(why))
            }
        };
        Ok(Opened { session, golden, checking, origin, lost })
    }
}

fn unkept<S>(wanted: Wanted<'_, S>) -> Result<Opened<S>> {
    without(wanted.load, wanted.check)
}

/// As [`unkept`], although it was to be kept.
fn lost<S>(wanted: Wanted<'_, S>, why: String, tell: &mut dyn FnMut(Event<'_>)) -> Result<Opened<S>> {
    say_lost(&why, tell);
    Ok(Opened { lost: Some(why), ..unkept(wanted)? })
}

fn say_lost(why: &str, tell: &mut dyn FnMut(Event<'_>)) {
    tell(Event::Said(&format!("engine cache: {why}; nothing is kept")));
}

/// Loads and checks a session of which nothing is kept.
///
/// # Errors
/// What loading or checking says.
pub fn without<S>(
    load: &mut dyn FnMut(Option<&Path>) -> Result<S>,
    check: &mut dyn FnMut(&mut S) -> Result<Option<f32>>,
) -> Result<Opened<S>> {
    let mut session = load(None)?;
    let begun = Instant::now();
    let golden = check(&mut session)?;
    Ok(Opened { session, golden, checking: begun.elapsed(), origin: Origin::Unkept, lost: None })
}

/// A folder that is removed unless it was renamed into its place.
struct Building(PathBuf);

impl Building {
    /// An empty one. What is there already was left by a killed process: the caller has the lock.
    fn new(path: PathBuf) -> io::Result<Self> {
        match fs::remove_dir_all(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
