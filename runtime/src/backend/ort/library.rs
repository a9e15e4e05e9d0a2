//! Where ONNX Runtime is, and loading it once.
//!
//! The runtime opens no files of its own; finding this library is the stated exception. It is sought, in order,
//!
//! 1. where the environment variable `TAPETUM_ORT` points (the library, or a folder that holds it), and then nowhere
//!    else: what was asked for is used or the reason is told;
//! 2. beside the running program;
//! 3. in the user's cache, `$XDG_CACHE_HOME` or `~/.cache`, under `tapetum/onnxruntime-<version>/`, which
//!    `scripts/fetch-onnxruntime` fills; the newest version first;
//! 4. on the system's library path.
//!
//! A candidate is opened and asked for its version here before the `ort` crate sees it, because that crate's own
//! loader panics on libraries that are not what they claim to be.

use std::{
    ffi::{CStr, OsString},
    fmt::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{Error, ErrorKind, Result};

/// Names that the library has on the system's library path, on Linux.
const SYSTEM_NAMES: &[&str] = &["libonnxruntime.so", "libonnxruntime.so.1"];

/// A loaded ONNX Runtime; it stays for the life of the process.
pub(super) struct Library {
    /// For example `1.32.0`.
    pub(super) version: String,
    pub(super) environment: ort::environment::Environment,
}

/// The library, loaded by the first call that finds it. A failure is not remembered: it may be fetched meanwhile.
///
/// # Errors
/// [`ErrorKind::Environment`] with every place that was tried, why it would not do, and what to do.
pub(super) fn loaded() -> Result<Arc<Library>> {
    static LIBRARY: Mutex<Option<Arc<Library>>> = Mutex::new(None);
    let mut slot = LIBRARY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(library) = &*slot {
        return Ok(library.clone());
    }
    let library = Arc::new(find(&Places::of_this_process())?);
    *slot = Some(library.clone());
    Ok(library)
}

/// What the search depends on.
#[derive(Default)]
struct Places {
    /// `TAPETUM_ORT`, unless empty.
    told: Option<PathBuf>,
    /// The folder of the running program.
    beside: Option<PathBuf>,
    /// The user's cache folder.
    cache: Option<PathBuf>,
    system: bool,
}

impl Places {
    fn of_this_process() -> Self {
        let var = |name: &str| std::env::var_os(name).filter(|v: &OsString| !v.is_empty()).map(PathBuf::from);
        Self {
            told: var("TAPETUM_ORT"),
            beside: std::env::current_exe().ok().and_then(|p| p.parent().map(Path::to_path_buf)),
            cache: var("XDG_CACHE_HOME").or_else(|| var("HOME").map(|home| home.join(".cache"))),
            system: true,
        }
    }

    /// Every file to try, the preferred first, and notes on places that hold none.
    fn candidates(&self) -> (Vec<PathBuf>, Vec<String>) {
        let mut notes = Vec::new();
        if let Some(told) = &self.told {
            if !told.is_dir() {
                return (vec![told.clone()], notes);
            }
            let found = in_folder(told);
            if found.is_empty() {
                notes.push(format!("TAPETUM_ORT={}: no libonnxruntime.so in it", told.display()));
            }
            return (found, notes);
        }
        let mut files = Vec::new();
        let mut look = |what: &str, folder: &Path, found: Vec<PathBuf>| {
            if found.is_empty() {
                notes.push(format!("{what} ({}): none", folder.display()));
            }
            files.extend(found);
        };
        if let Some(folder) = &self.beside {
            look("beside the program", folder, in_folder(folder));
        }
        if let Some(folder) = &self.cache {
            let folder = folder.join("tapetum");
            let mut versions = entries(&folder, "onnxruntime-");
            versions.sort_by_key(|p| std::cmp::Reverse(version_of(p)));
            look("the user's cache", &folder, versions.iter().flat_map(|v| in_folder(v)).collect());
        }
        if self.system {
            files.extend(SYSTEM_NAMES.iter().map(PathBuf::from));
        }
        (files, notes)
    }
}

/// The libraries in `folder`, the newest version first.
fn in_folder(folder: &Path) -> Vec<PathBuf> {
    let mut found = entries(folder, "libonnxruntime.so");
    found.sort_by_key(|p| std::cmp::Reverse(version_of(p)));
    found
}

fn entries(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(listing) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = listing.flatten().map(|entry| entry.path());
    paths.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix))).collect()
}

/// The numbers in a file's name, for ordering versions: `libonnxruntime.so.1.32.0` → `[1, 32, 0]`.
fn version_of(path: &Path) -> Vec<u64> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

fn find(places: &Places) -> Result<Library> {
    let (candidates, notes) = places.candidates();
    let mut tried = notes;
    for candidate in candidates {
        match open(&candidate) {
            Ok(library) => return Ok(library),
            Err(why) => tried.push(format!("{}: {why}", candidate.display())),
        }
    }
    let mut message = String::from("ONNX Runtime is not to be had:");
    for line in tried {
        let _ = write!(message, "\n  {line}");
    }
    message += "\nscripts/fetch-onnxruntime puts it into the user's cache; TAPETUM_ORT may point to another";
    Err(Error::new(ErrorKind::Environment, message))
}

/// Checks the library at `path` and hands it to the `ort` crate, for good. The error is one line.
fn open(path: &Path) -> Result<Library, String> {
    let version = version(path)?;
    // The `ort` crate seeks relative paths beside the program; a bare name is meant for the system's search.
    let path = if path.components().count() > 1 { std::path::absolute(path) } else { Ok(path.to_path_buf()) };
    let path = path.map_err(|e| e.to_string())?;
    let environment = ort::init_from(path)
        .map_err(|e| e.to_string())?
        .with_name("tapetum")
        .with_telemetry(false)
        // Whatever matters comes back as an error; a library writes nothing to the terminal.
        .with_logger(Arc::new(|_, _, _, _, _| {}))
        .build()
        .map_err(|e| e.message().to_owned())?;
    environment.set_log_level(ort::logging::LogLevel::Error);
    Ok(Library { version, environment })
}

/// The version of the library at `path`, if it speaks the interface that this build uses.
fn version(path: &Path) -> Result<String, String> {
    if path.components().count() > 1 && !path.exists() {
        return Err("no such file".to_owned());
    }
    // SAFETY: opening a library runs its initialisers. The places searched are the user's and the system's own, and
    // the library is to be run in any case.
    let library = unsafe { libloading::Library::new(path) }.map_err(|e| one_line(&e.to_string()))?;
    // SAFETY: `OrtGetApiBase` has had this signature in every release; a library that exports the name is ONNX Runtime.
    let get_base =
        unsafe { library.get::<unsafe extern "C" fn() -> *const ort::sys::OrtApiBase>(b"OrtGetApiBase\0") }
            .map_err(|_| "not ONNX Runtime (it exports no OrtGetApiBase)".to_owned())?;
    // SAFETY: the function takes nothing and returns a pointer to a static table, or null.
    let base = unsafe { get_base().as_ref() }.ok_or("OrtGetApiBase returned nothing")?;
    // SAFETY: the table's function returns a static, zero-terminated string.
    let version = unsafe { CStr::from_ptr((base.GetVersionString)()) };
    let version = version.to_str().map_err(|_| "its version is no text")?.to_owned();
    let too_old = || format!("it is version {version}; 1.{} or newer is needed", ort::MINOR_VERSION);
    // By the text first: asked for an interface that it does not know, ONNX Runtime writes to the terminal.
    let minor = version.split('.').nth(1).and_then(|m| m.parse::<u32>().ok()).unwrap_or(0);
    if minor < ort::MINOR_VERSION {
        return Err(too_old());
    }
    // SAFETY: the table's function returns a static table, or null if it does not know that version of the interface.
    if unsafe { (base.GetApi)(ort::sys::ORT_API_VERSION) }.is_null() {
        return Err(too_old());
    }
    Ok(version)
}

fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or("").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("tapetum-library-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn nothing_found_names_every_place_and_the_next_step() {
        let root = folder("none");
        let places =
            Places { beside: Some(root.clone()), cache: Some(root.join("cache")), ..Places::default() };
        let error = find(&places).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Environment);
        let text = error.to_string();
        assert!(text.contains("beside the program") && text.contains("cache/tapetum"), "{text}");
        assert!(text.contains("scripts/fetch-onnxruntime") && text.contains("TAPETUM_ORT"), "{text}");
    }

    #[test]
    fn a_library_that_is_none_is_an_error() {
        let root = folder("fake");
        let fake = root.join("libonnxruntime.so.1.99.0");
        std::fs::write(&fake, "not a library").unwrap();
        let text = find(&Places { told: Some(root), ..Places::default() }).err().unwrap().to_string();
        assert!(text.contains("libonnxruntime.so.1.99.0"), "{text}");
        let text =
            find(&Places { told: Some("/lib/no-such-file.so".into()), ..Places::default() }).err().unwrap();
        assert!(text.to_string().contains("/lib/no-such-file.so: no such file"), "{text}");
    }

    #[test]
    fn what_was_told_is_the_only_place() {
        let root = folder("told");
        let places = Places {
            told: Some(root.clone()),
            beside: Some(root.clone()),
            system: true,
            ..Places::default()
        };
        assert_eq!(places.candidates().0, Vec::<PathBuf>::new());
        assert!(places.candidates().1[0].contains("TAPETUM_ORT="));
    }

    #[test]
    fn the_newest_of_the_cache_comes_first_and_the_system_last() {
        let root = folder("order");
        for version in ["1.24.0", "1.32.0", "1.4.0"] {
            let folder = root.join("tapetum").join(format!("onnxruntime-{version}"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(format!("libonnxruntime.so.{version}")), "").unwrap();
        }
        let (files, _) = Places { cache: Some(root), system: true, ..Places::default() }.candidates();
        let names: Vec<_> = files.iter().map(|f| f.file_name().unwrap().to_str().unwrap()).collect();
        let so = "libonnxruntime.so";
        assert_eq!(names[..3], [format!("{so}.1.32.0"), format!("{so}.1.24.0"), format!("{so}.1.4.0")]);
        assert_eq!(names[3..], *SYSTEM_NAMES);
    }
}
