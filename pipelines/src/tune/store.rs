//! Where tunings are kept, and which of them holds for a run.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tapetum_runtime::{Error, ErrorKind, Result};

use super::{
    Machine,
    tuned::{Tuned, VERSION},
};
use crate::prepare::hex;

/// Files that are looked at, and how large they may be: a folder that anything may have been put into.
const MOST_FILES: usize = 1000;
const MOST_BYTES: u64 = 16 << 20;

/// What a run is, as far as a tuning must have been the same.
pub struct Wanted {
    /// The pipeline's name.
    pub pipeline: String,
    /// Name, SHA-256 of the fp32 file and threads inside a run, of each model in the order of the file.
    pub models: Vec<(String, String, usize)>,
    /// Engines that may be chosen.
    pub engines: Vec<String>,
    /// This machine.
    pub machine: Machine,
    /// See [`super::engine_options`].
    pub engine_options: String,
}

impl Wanted {
    /// What is different in `tuned`, for people; empty: it holds.
    fn differences(&self, tuned: &Tuned) -> Vec<String> {
        let mut out = Vec::new();
        let names = |list: &mut dyn Iterator<Item = &str>| list.collect::<Vec<_>>().join(", ");
        let of_run = names(&mut self.models.iter().map(|(name, ..)| name.as_str()));
        let of_tuned = names(&mut tuned.models.iter().map(|m| m.name.as_str()));
        if of_run != of_tuned {
            out.push(format!("it measured the models {of_tuned}, these are {of_run}"));
        } else {
            for ((name, sha256, threads), model) in self.models.iter().zip(&tuned.models) {
                if *sha256 != model.sha256 {
                    let short = |digest: &str| digest.get(..12).unwrap_or(digest).to_owned();
                    let (was, is) = (short(&model.sha256), short(sha256));
                    out.push(format!("model {name:?} has changed (SHA-256 {was}… then, {is}… now)"));
                }
                if *threads != model.threads {
                    let was = model.threads;
                    out.push(format!("model {name:?} ran with {was} threads then, {threads} now"));
                }
            }
        }
        if self.machine != tuned.machine {
            let shown = |m: &Machine| {
                let gpus: String = m.gpus.iter().map(|gpu| format!(", {gpu}")).collect();
                format!("{} with {} cores{gpus}", m.cpu, m.cores)
            };
            out.push(format!(
                "it was measured on another machine ({}; this is {})",
                shown(&tuned.machine),
                shown(&self.machine)
            ));
        }
        let measured = |engine: &&String| !tuned.engines.iter().any(|e| e.engine == **engine);
        let missing: Vec<&str> = self.engines.iter().filter(measured).map(String::as_str).collect();
        if !missing.is_empty() {
            out.push(format!("it did not look at {}", missing.join(", ")));
        }
        if self.engine_options != tuned.engine_options {
            out.push("the options of the engines have changed".to_owned());
        }
        out
    }
}

/// Writes `tuned` below `cache`, whole or not at all, in place of an earlier one of the same models, machine, threads and
/// options; returns where.
///
/// # Errors
/// [`ErrorKind::Environment`] if it cannot be written.
pub fn save(tuned: &Tuned, cache: &Path) -> Result<PathBuf> {
    let folder = cache.join("tuned");
    let unwritable = |path: &Path, e: std::io::Error| {
        Error::new(ErrorKind::Environment, format!("{}: {e}", path.display())).caused_by(e)
    };
    fs::create_dir_all(&folder).map_err(|e| unwritable(&folder, e))?;
    let mut digest = Sha256::new();
    let engines =
        tuned.engines.iter().map(|e| format!("{} {:?} {:?}", e.engine, e.engine_version, e.runs_with));
    let models = tuned.models.iter().map(|m| format!("{} {} {}", m.name, m.sha256, m.threads));
    let machine = format!("{:?} {}", tuned.machine, tuned.engine_options);
    for part in [tuned.pipeline.clone(), machine].into_iter().chain(engines).chain(models) {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let name: String = tuned.pipeline.chars().take(40).map(plain).collect();
    let path = folder.join(format!("{name}-{}.json", &hex(&digest.finalize())[..16]));
    let mut text = serde_json::to_string_pretty(tuned)
        .map_err(|e| Error::internal(format!("the figures are not JSON: {e}")))?;
    text.push('\n');
    let temporary =
        folder.join(format!(".{}.{}", path.file_name().unwrap_or_default().display(), std::process::id()));
    fs::write(&temporary, text).map_err(|e| unwritable(&temporary, e))?;
    if let Err(e) = fs::rename(&temporary, &path) {
        fs::remove_file(&temporary).ok();
        return Err(unwritable(&path, e));
    }
    Ok(path)
}

/// The tunings below `cache` that hold for `wanted`, with their files, the newest first; at least one.
///
/// # Errors
/// For people: that there is none, or what is different in the one that comes closest.
pub fn find(wanted: &Wanted, cache: &Path) -> std::result::Result<Vec<(Tuned, PathBuf)>, String> {
    let mut holding: Vec<(Tuned, PathBuf)> = Vec::new();
    let mut closest: Option<(Vec<String>, Tuned, PathBuf)> = None;
    let mut unreadable = None;
    for path in files(&cache.join("tuned")) {
        match read(&path) {
            Ok(tuned) if tuned.pipeline == wanted.pipeline => {
                let differs = wanted.differences(&tuned);
                if differs.is_empty() {
                    holding.push((tuned, path));
                    continue;
                }
                let closer = closest.as_ref().is_none_or(|(least, best, _)| {
                    (differs.len(), std::cmp::Reverse(&tuned.date))
                        < (least.len(), std::cmp::Reverse(&best.date))
                });
                if closer {
                    closest = Some((differs, tuned, path));
                }
            }
            Ok(_) => {}
            Err(why) => unreadable = Some(format!("{}: {why}", path.display())),
        }
    }
    if !holding.is_empty() {
        holding.sort_by(|(a, _), (b, _)| b.date.cmp(&a.date));
        return Ok(holding);
    }
    match (closest, unreadable) {
        (Some((differs, tuned, _)), _) => {
            Err(format!("the tuning of {} does not hold: {}", tuned.date, differs.join("; ")))
        }
        (None, Some(why)) => {
            Err(format!("nothing readable is recorded for pipeline {:?}: {why}", wanted.pipeline))
        }
        (None, None) => Err(format!("nothing is recorded for pipeline {:?}", wanted.pipeline)),
    }
}

/// Those that may be tunings, in the order of their names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
    let mut files: Vec<PathBuf> =
        entries.filter(|p| p.extension().is_some_and(|e| e == "json")).take(MOST_FILES).collect();
    files.sort();
    files
}

/// What every version of the file has.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

fn read(path: &Path) -> std::result::Result<Tuned, String> {
    let size = fs::metadata(path).map_err(|e| e.to_string())?.len();
    if size > MOST_BYTES {
        return Err(format!("{size} bytes are too many"));
    }
    let text = fs::read_to_string(path).map_err(|e| e.to_string())?;
    // The version first: of another one nothing else is known.
    let Head { version } = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    if version != VERSION {
        return Err(format!("version {version} of the format, this build reads {VERSION}; measure again"));
    }
    serde_json::from_str(&text).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::{
        super::tuned::{EngineMeasured, ModelMeasured},
        *,
    };

    fn machine(cpu: &str) -> Machine {
        Machine { cpu: cpu.into(), arch: "a".into(), cores: 2, gpus: Vec::new() }
    }

    fn tuned(sha256: &str, cpu: &str, date: &str) -> Tuned {
        Tuned {
            version: VERSION,
            tapetum: "0".into(),
            date: date.into(),
            pipeline: "eyes/1".into(),
            source: "s".into(),
            machine: machine(cpu),
            engine_options: "o".into(),
            reference: "r".into(),
            engines: vec![EngineMeasured {
                engine: "e".into(),
                engine_version: None,
                runs_with: Default::default(),
                why_not: None,
            }],
            models: vec![ModelMeasured {
                name: "net".into(),
                sha256: sha256.into(),
                runs: 1,
                judged: 1,
                threads: 2,
                macs: None,
                candidates: Vec::new(),
            }],
            chosen: None,
        }
    }

    fn wanted(sha256: &str, cpu: &str) -> Wanted {
        Wanted {
            pipeline: "eyes/1".into(),
            models: vec![("net".into(), sha256.into(), 2)],
            engines: vec!["e".into()],
            machine: machine(cpu),
            engine_options: "o".into(),
        }
    }

    #[test]
    fn what_was_saved_is_found_again_and_the_newer_takes_its_place() {
        let cache = tempfile::tempdir().unwrap();
        let first = save(&tuned("aa", "x", "2030-01-01"), cache.path()).unwrap();
        let second = save(&tuned("aa", "x", "2030-01-02"), cache.path()).unwrap();
        assert_eq!(first, second);
        let found = find(&wanted("aa", "x"), cache.path()).unwrap();
        let [(tuned, path)] = &found[..] else { panic!("{}", found.len()) };
        assert_eq!((tuned.date.as_str(), path), ("2030-01-02", &second));
        // Nothing but the file itself is left.
        assert_eq!(fs::read_dir(cache.path().join("tuned")).unwrap().count(), 1);
    }

    #[test]
    fn what_differs_is_told_of_the_closest() {
        let cache = tempfile::tempdir().unwrap();
        assert!(find(&wanted("aa", "x"), cache.path()).unwrap_err().contains("nothing is recorded"));
        save(&tuned("bb", "y", "2030-01-01"), cache.path()).unwrap();
        let why = find(&wanted("aa", "x"), cache.path()).unwrap_err();
        assert!(why.contains("\"net\" has changed (SHA-256 bb… then, aa… now)"), "{why}");
        assert!(why.contains("another machine (y with 2 cores; this is x with 2 cores)"), "{why}");
        save(&tuned("aa", "y", "2030-01-01"), cache.path()).unwrap();
        let why = find(&wanted("aa", "x"), cache.path()).unwrap_err();
        assert!(!why.contains("has changed") && why.contains("another machine"), "{why}");
        let mut other = wanted("aa", "y");
        (other.engine_options, other.models[0].2) = ("p".into(), 3);
        other.engines.push("f".into());
        let why = find(&other, cache.path()).unwrap_err();
        assert!(why.contains("options of the engines") && why.contains("2 threads then, 3 now"), "{why}");
        assert!(why.contains("did not look at f"), "{why}");
    }

    #[test]
    fn files_that_are_no_tunings_are_told_but_do_not_hide_one() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("tuned");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a.json"), "{").unwrap();
        let newer = serde_json::to_string(&Tuned { version: 99, ..tuned("aa", "x", "2030") }).unwrap();
        fs::write(folder.join("b.json"), newer).unwrap();
        let why = find(&wanted("aa", "x"), cache.path()).unwrap_err();
        assert!(why.contains("b.json: version 99"), "{why}");
        // An older one has other fields: it is told as older, not as broken.
        fs::write(folder.join("c.json"), r#"{"version": 1, "pipeline": "eyes/1"}"#).unwrap();
        let why = find(&wanted("aa", "x"), cache.path()).unwrap_err();
        assert!(why.contains("c.json: version 1 of the format, this build reads 3; measure again"), "{why}");
        save(&tuned("aa", "x", "2030"), cache.path()).unwrap();
        assert!(find(&wanted("aa", "x"), cache.path()).is_ok());
    }
}
