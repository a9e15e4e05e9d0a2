//! Where a library of ONNX Runtime may be. The order stands in `library.rs`.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::provider::Provider;

/// Names that the library has on the system's library path, on Linux.
const SYSTEM_NAMES: &[&str] = &["libonnxruntime.so", "libonnxruntime.so.1"];

/// What the search depends on.
#[derive(Default)]
pub(super) struct Places {
    /// `TAPETUM_ORT`, unless empty.
    pub(super) told: Option<PathBuf>,
    /// The folder of the running program.
    pub(super) beside: Option<PathBuf>,
    /// The user's cache folder.
    pub(super) cache: Option<PathBuf>,
    /// Whether to look on the system's library path.
    pub(super) system: bool,
}

impl Places {
    pub(super) fn of_this_process() -> Self {
        let var = |name: &str| std::env::var_os(name).filter(|v: &OsString| !v.is_empty()).map(PathBuf::from);
        Self {
            told: var("TAPETUM_ORT"),
            beside: std::env::current_exe().ok().and_then(|p| p.parent().map(Path::to_path_buf)),
            cache: var("XDG_CACHE_HOME").or_else(|| var("HOME").map(|home| home.join(".cache"))),
            system: true,
        }
    }

    /// Every file to try for `provider`, the preferred first, and notes on places that hold none.
    pub(super) fn candidates(&self, provider: Provider) -> (Vec<PathBuf>, Vec<String>) {
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
            let mut kept = entries(&folder, "onnxruntime-");
            // For the CPU the plain build comes first: it is the newest, and brings nothing else along.
            kept.sort_by_key(|p| {
                (provider == Provider::Cpu && !is_plain(p), std::cmp::Reverse(version_of(p)))
            });
            look("the user's cache", &folder, kept.iter().flat_map(|v| in_folder(v)).collect());
        }
        if self.system {
            files.extend(SYSTEM_NAMES.iter().map(PathBuf::from));
        }
        (files, notes)
    }
}

/// Whether the folder is called `onnxruntime-<version>`, not `onnxruntime-<flavour>-<version>`.
fn is_plain(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix("onnxruntime-").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("tapetum-places-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
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
        let (files, notes) = places.candidates(Provider::Cpu);
        assert_eq!(files, Vec::<PathBuf>::new());
        assert!(notes[0].contains("TAPETUM_ORT="));
    }

    #[test]
    fn the_newest_of_the_cache_comes_first_and_the_system_last() {
        let root = folder("order");
        for version in ["1.24.0", "1.32.0", "1.4.0", "openvino-1.40.0"] {
            let folder = root.join("tapetum").join(format!("onnxruntime-{version}"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(format!("libonnxruntime.so.{version}")), "").unwrap();
        }
        let places = Places { cache: Some(root), system: true, ..Places::default() };
        let names = |provider| -> Vec<String> {
            let (files, _) = places.candidates(provider);
            files
                .iter()
                .map(|f| f.file_name().unwrap().to_str().unwrap().replace("libonnxruntime.so", ""))
                .collect()
        };
        assert_eq!(names(Provider::Cpu), [".1.32.0", ".1.24.0", ".1.4.0", ".openvino-1.40.0", "", ".1"]);
        assert_eq!(names(Provider::OpenVino), [".openvino-1.40.0", ".1.32.0", ".1.24.0", ".1.4.0", "", ".1"]);
    }
}
