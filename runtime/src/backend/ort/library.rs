//! Which ONNX Runtime, and loading it once.
//!
//! A process can hold one ONNX Runtime, and no published build has every provider. So the first engine that is to run
//! decides, and its library is the first with that provider (and what the provider itself needs), sought
//!
//! 1. where the environment variable `TAPETUM_ORT` points (the library, or a folder that holds it), and then nowhere
//!    else: what was asked for is used or the reason is told;
//! 2. beside the running program;
//! 3. in the user's cache, `$XDG_CACHE_HOME` or `~/.cache`, under `tapetum/onnxruntime-[<flavour>-]<version>/`, which
//!    `scripts/fetch-onnxruntime` fills; the newest version first;
//! 4. on the system's library path.
//!
//! From then on an engine whose provider that library lacks is refused with this reason. The runtime opens no files of
//! its own; finding this library is the stated exception.
//!
//! A candidate is opened and asked for its version here before the `ort` crate sees it, because that crate's own
//! loader panics on libraries that are not what they claim to be.

use std::{
    ffi::{CStr, c_char},
    fmt::Write,
    path::{Path, PathBuf},
    ptr, slice,
    sync::{Arc, Mutex, PoisonError},
};

use super::{elf, placement::short, places::Places, provider::Provider};
use crate::{Error, ErrorKind, Result, backend::Found};

/// A loaded ONNX Runtime; it stays for the life of the process.
pub(super) struct Library {
    pub(super) found: Found,
    pub(super) environment: ort::environment::Environment,
}

static LIBRARY: Mutex<Option<Arc<Library>>> = Mutex::new(None);

/// The library, loaded by the first call that finds one with `provider`. A failure is not remembered: it may be
/// fetched meanwhile.
///
/// # Errors
/// [`ErrorKind::Environment`] with every place that was tried, why it would not do, and what to do; or that this
/// process has another library, without `provider`.
pub(super) fn loaded(provider: Provider) -> Result<Arc<Library>> {
    let mut slot = LIBRARY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(library) = &*slot {
        has(&library.found, provider)?;
        return Ok(library.clone());
    }
    let found = find(&Places::of_this_process(), provider)?;
    let environment = open(&found).map_err(|why| Error::new(ErrorKind::Environment, why))?;
    let library = Arc::new(Library { found, environment });
    *slot = Some(library.clone());
    Ok(library)
}

/// What [`loaded`] would load, without loading it for good.
///
/// # Errors
/// As [`loaded`].
pub(super) fn found(provider: Provider) -> Result<Found> {
    let slot = LIBRARY.lock().unwrap_or_else(PoisonError::into_inner);
    match &*slot {
        Some(library) => has(&library.found, provider).map(|()| library.found.clone()),
        None => find(&Places::of_this_process(), provider),
    }
}

/// Whether the library of this process has `provider`.
fn has(found: &Found, provider: Provider) -> Result<()> {
    if !found.providers.iter().any(|p| p == provider.name()) {
        let message = format!(
            "this process runs ONNX Runtime {} with {} ({}), and can load no second one; to get {name}, ask for it alone \
             or before the other engines of ONNX Runtime ({} fetches one that has it)",
            found.version,
            found.providers.join(", "),
            found.library.as_deref().unwrap_or(Path::new("?")).display(),
            provider.fetch(),
            name = provider.name(),
        );
        return Err(Error::new(ErrorKind::Environment, message));
    }
    let library = found.library.as_deref().unwrap_or(Path::new(""));
    provider_loads(library, provider)
        .map_err(|why| Error::new(ErrorKind::Environment, format!("{why}{}", provider.needs())))
}

/// The first candidate that has `provider` and what it needs.
fn find(places: &Places, provider: Provider) -> Result<Found> {
    let (candidates, notes) = places.candidates(provider);
    let mut tried = notes;
    let mut unfit = None;
    for candidate in candidates {
        let suits = match beside(&candidate, provider) {
            Some(file) if !file.exists() => Err(format!("without {} in its folder", file_name(&file))),
            _ => inspect(&candidate),
        };
        let why = match suits {
            Ok(found) if !found.providers.iter().any(|p| p == provider.name()) => {
                format!("version {} has only {}", found.version, found.providers.join(", "))
            }
            Ok(found) => match provider_loads(&candidate, provider) {
                Ok(()) => return Ok(found),
                Err(why) => unfit.get_or_insert(why).clone(),
            },
            Err(why) => why,
        };
        tried.push(format!("{}: {why}", candidate.display()));
    }
    // Where a library has the provider, what that lacks is the reason; the other places say nothing new.
    if let Some(why) = unfit {
        let message = format!("{why}{}", provider.needs());
        return Err(Error::new(ErrorKind::Environment, message));
    }
    let mut message = match provider {
        Provider::Cpu => String::from("ONNX Runtime is not to be had:"),
        _ => format!("no ONNX Runtime with the provider {} is to be had:", provider.name()),
    };
    for line in tried {
        let _ = write!(message, "\n  {line}");
    }
    let _ = write!(
        message,
        "\n{} puts it into the user's cache{}; TAPETUM_ORT may point to another",
        provider.fetch(),
        provider.needs()
    );
    Err(Error::new(ErrorKind::Environment, message))
}

/// The provider's own file, if `library` is a path and the provider has one.
fn beside(library: &Path, provider: Provider) -> Option<PathBuf> {
    let folder = library.parent().filter(|p| !p.as_os_str().is_empty())?;
    Some(folder.join(provider.library()?))
}

fn file_name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// Whether the libraries that `provider` links to are there; else the loader's reason, for example
/// `libcublasLt.so.13: cannot open shared object file: No such file or directory`.
///
/// Asked before ONNX Runtime is loaded, so that a GPU that is not there does not decide for a library in which the next
/// engine of the list is missing.
fn provider_loads(library: &Path, provider: Provider) -> Result<(), String> {
    let Some(file) = beside(library, provider) else { return Ok(()) };
    if !file.exists() {
        return Err(format!("{}: no such file", file.display()));
    }
    elf::whole_folder(library)?;
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
    // SAFETY: opening a library runs its initialisers. Before ONNX Runtime has set up its bridge, this one cannot be
    // opened at all: a symbol of the bridge is missing, which the loader finds out after it has found the libraries
    // and before it runs an initialiser. Afterwards it is opened as ONNX Runtime itself opens it.
    match unsafe { Library::open(Some(&file), RTLD_NOW | RTLD_LOCAL) } {
        Ok(provider) => {
            // It must not be unloaded under ONNX Runtime.
            std::mem::forget(provider);
            Ok(())
        }
        Err(e) => {
            let why = chain(&e);
            let bridge_only = why.contains("undefined symbol: Provider_GetHost");
            if bridge_only { Ok(()) } else { Err(format!("{}: {why}", file.display())) }
        }
    }
}

/// An error of the loader with its cause: the first line of each, without the name of the function that failed.
fn chain(error: &libloading::Error) -> String {
    let text = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    let line = one_line(&text);
    line.strip_prefix("dlopen failed: ").unwrap_or(&line).to_owned()
}

/// Hands the library to the `ort` crate, for good. The error is one line.
fn open(found: &Found) -> Result<ort::environment::Environment, String> {
    let path = found.library.as_deref().unwrap_or(Path::new(""));
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
    Ok(environment)
}

/// The version and the providers of the library at `path`, if it speaks the interface that this build uses.
fn inspect(path: &Path) -> Result<Found, String> {
    if path.components().count() > 1 && !path.exists() {
        return Err("no such file".to_owned());
    }
    if path.components().count() > 1 {
        elf::whole(path)?;
    }
    // SAFETY: opening a library runs its initialisers. The places searched are the user's and the system's own, and
    // the library is to be run in any case.
    let library = unsafe { libloading::Library::new(path) }.map_err(|e| chain(&e))?;
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
    let api = unsafe { (base.GetApi)(ort::sys::ORT_API_VERSION).as_ref() }.ok_or_else(too_old)?;
    Ok(Found { providers: providers(api)?, version, library: Some(path.to_path_buf()) })
}

/// The providers in the library's build, of those that are engines here.
fn providers(api: &ort::sys::OrtApi) -> Result<Vec<String>, String> {
    let (mut names, mut count): (*mut *mut c_char, i32) = (ptr::null_mut(), 0);
    // SAFETY: the table is that of an opened library; the function fills in a list that is released below.
    let status = unsafe { (api.GetAvailableProviders)(&mut names, &mut count) };
    if !status.0.is_null() {
        // SAFETY: a status that is not null is ours to release.
        unsafe { (api.ReleaseStatus)(status.0) };
        return Err("it does not tell its providers".to_owned());
    }
    if names.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: the list has `count` zero-terminated strings, and nobody else has it.
    let found = unsafe { slice::from_raw_parts(names, usize::try_from(count).unwrap_or(0)) };
    // SAFETY: as above.
    let found: Vec<String> =
        found.iter().map(|&n| short(&unsafe { CStr::from_ptr(n) }.to_string_lossy())).collect();
    // SAFETY: the list came from the function above and is not used again.
    let status = unsafe { (api.ReleaseAvailableProviders)(names, count) };
    if !status.0.is_null() {
        // SAFETY: a status that is not null is ours to release.
        unsafe { (api.ReleaseStatus)(status.0) };
    }
    let ours = Provider::ALL.iter().map(|p| p.name().to_owned());
    Ok(ours.filter(|name| found.contains(name)).collect())
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
        for provider in Provider::ALL {
            let error = find(&places, provider).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Environment);
            let text = error.to_string();
            assert!(text.contains("beside the program") && text.contains("cache/tapetum"), "{text}");
            assert!(text.contains(provider.fetch()) && text.contains("TAPETUM_ORT"), "{text}");
        }
    }

    #[test]
    fn a_library_that_is_none_is_an_error() {
        let root = folder("fake");
        let fake = root.join("libonnxruntime.so.1.99.0");
        std::fs::write(&fake, "not a library").unwrap();
        let tell = |places: Places, provider| find(&places, provider).err().unwrap().to_string();
        let told = || Places { told: Some(root.clone()), ..Places::default() };
        let text = tell(told(), Provider::Cpu);
        assert!(text.contains("libonnxruntime.so.1.99.0"), "{text}");
        // Nor is it opened for a provider that does not lie beside it.
        let text = tell(told(), Provider::OpenVino);
        assert!(text.contains("without libonnxruntime_providers_openvino.so"), "{text}");
        let none = Places { told: Some("/lib/no-such-file.so".into()), ..Places::default() };
        let text = tell(none, Provider::Cpu);
        assert!(text.contains("/lib/no-such-file.so: no such file"), "{text}");
    }

    #[test]
    fn another_library_in_this_process_is_a_reason() {
        let found = Found {
            version: "1.32.0".into(),
            providers: vec!["cpu".into()],
            library: Some("/a/b.so".into()),
        };
        has(&found, Provider::Cpu).unwrap();
        let text = has(&found, Provider::OpenVino).unwrap_err().to_string();
        assert!(text.contains("1.32.0 with cpu (/a/b.so)") && text.contains("no second one"), "{text}");
        assert!(text.contains("--flavour openvino"), "{text}");
    }
}
