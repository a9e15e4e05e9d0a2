//! From a model in a pipeline file to an ONNX file on disk: checkpoints are fused before their first use and kept.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use tapetum_models::fuse::{Fused, Step, fuse};
use tapetum_runtime::{Error, ErrorKind, Result};

use crate::{config::ModelFile, engine_cache::digest};

/// The ONNX file of a model.
pub struct Prepared {
    /// Where it is.
    pub path: PathBuf,
    /// What fusing told, if it was fused just now.
    pub fused: Option<Box<Fused>>,
    /// Why the file that was there was not taken, for people.
    pub damaged: Option<String>,
}

/// The ONNX file of `model`. A checkpoint is fused and proven into the cache, under a name made of the digests of all
/// that goes into it, so that a changed checkpoint or contract is fused anew.
///
/// # Errors
/// What [`fuse`] says; [`ErrorKind::Environment`] if the cache cannot be written.
pub fn prepare(model: &ModelFile, cache: &Path, tell: &mut dyn FnMut(Step<'_>)) -> Result<Prepared> {
    if !model.is_checkpoint {
        return Ok(Prepared { path: model.path.clone(), fused: None, damaged: None });
    }
    let bytes = fs::read(&model.path).map_err(|e| environment(&model.path, e))?;
    let mut digest = Sha256::new();
    digest.update(env!("CARGO_PKG_VERSION"));
    for part in [bytes.as_slice(), model.changes.as_ref().map_or(&[], |(_, text)| text)] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    drop(bytes);
    let folder = cache.join("models");
    fs::create_dir_all(&folder).map_err(|e| environment(&folder, e))?;
    let stem = model.path.file_stem().map_or_else(Default::default, |s| s.to_string_lossy().into_owned());
    let path = folder.join(format!("{stem}-{}.onnx", &hex(&digest.finalize())[..16]));
    let mut damaged = None;
    let make = || fuse(&model.path, &path, &model.fuse_options(), tell);
    let fused = unless_whole(&path, &mut |why| damaged = Some(why), make)?;
    Ok(Prepared { path, fused: fused.map(Box::new), damaged })
}

/// Has `make` write the file at `path`, and keeps its SHA-256 beside it; `None` if it is there as it was written. `said` is told
/// of one that is not. Of several processes one makes it and the others wait.
///
/// # Errors
/// Those of `make`; [`ErrorKind::Environment`] if the digest cannot be written.
pub(crate) fn unless_whole<T>(
    path: &Path,
    said: &mut dyn FnMut(String),
    make: impl FnOnce() -> Result<T>,
) -> Result<Option<T>> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".sha256");
    let beside = PathBuf::from(beside);
    let failed = |e: io::Error| environment(&beside, e);
    // Without the lock first: a cache that is only read must do.
    if state(path, &fs::read_to_string(&beside).unwrap_or_default()) == State::Whole {
        return Ok(None);
    }
    let mut options = File::options();
    let mut file =
        options.create(true).truncate(false).read(true).write(true).open(&beside).map_err(failed)?;
    // Where the file system has no locks, two may make it: one takes the other's place, and both are whole.
    let _ = file.lock();
    let mut recorded = String::new();
    // What is no text is no digest.
    let _ = file.read_to_string(&mut recorded);
    match state(path, &recorded) {
        State::Whole => return Ok(None),
        State::Damaged(why) => {
            said(format!("{} is not what was written ({why}); made anew", path.display()));
            let _ = fs::remove_file(path);
        }
        State::Unfinished => {}
    }
    // Whoever is killed from here on leaves a file without a digest, which nobody takes.
    file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
    let made = make()?;
    let sha256 = digest(path).map_err(|e| environment(path, e))?;
    file.write_all(sha256.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(Some(made))
}

/// What a file in the cache is worth.
#[derive(PartialEq)]
enum State {
    Whole,
    /// None, or one that nobody came to note the digest of.
    Unfinished,
    Damaged(String),
}

/// `recorded`: its digest when it was written.
fn state(path: &Path, recorded: &str) -> State {
    if recorded.len() != 64 || !path.is_file() {
        return State::Unfinished;
    }
    match digest(path) {
        Ok(sha256) if sha256 == recorded => State::Whole,
        Ok(sha256) => State::Damaged(format!("SHA-256 {sha256:.12}…, was {recorded:.12}…")),
        Err(e) => State::Damaged(e.to_string()),
    }
}

/// Where fused models are kept: `TAPETUM_CACHE`, else `tapetum` in the user's cache folder.
///
/// # Errors
/// [`ErrorKind::Environment`] if there is neither.
pub fn cache_dir() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("TAPETUM_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("tapetum")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache").join("tapetum")))
        .ok_or_else(|| {
            let message = "no folder to keep fused models in: neither TAPETUM_CACHE nor HOME is set";
            Error::new(ErrorKind::Environment, message)
        })
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn environment(path: &Path, e: std::io::Error) -> Error {
    Error::new(ErrorKind::Environment, format!("{}: {e}", path.display())).caused_by(e)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    /// Has it made as `text` where it is not whole: whether it was, and what was said.
    fn made(path: &Path, text: &str) -> (bool, Vec<String>) {
        let mut said = Vec::new();
        let made = unless_whole(path, &mut |why| said.push(why), || {
            fs::write(path, text).unwrap();
            Ok(())
        });
        (made.unwrap().is_some(), said)
    }

    #[test]
    fn a_file_is_made_once_and_again_where_a_byte_flipped_or_it_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net-int8-0.onnx");
        assert_eq!(made(&path, "weights"), (true, vec![]));
        assert_eq!(made(&path, "weights"), (false, vec![]));
        for spoiled in ["weiglts", "weight", "weightss", ""] {
            fs::write(&path, spoiled).unwrap();
            let (again, said) = made(&path, "weights");
            assert!(again && said.len() == 1, "{spoiled:?}: {said:?}");
            assert!(said[0].contains("net-int8-0.onnx is not what was written (SHA-256 "), "{said:?}");
            assert_eq!((fs::read_to_string(&path).unwrap().as_str(), made(&path, "").0), ("weights", false));
        }
        // It was removed, or whoever made it was killed before it noted the digest: no damage.
        fs::remove_file(&path).unwrap();
        assert_eq!(made(&path, "weights"), (true, vec![]));
        let beside = folder.path().join("net-int8-0.onnx.sha256");
        for digest in ["", "0123", "é".repeat(64).as_str()] {
            fs::write(&beside, digest).unwrap();
            assert_eq!(made(&path, "weights"), (true, vec![]));
        }
        fs::remove_file(&beside).unwrap();
        assert_eq!(made(&path, "weights"), (true, vec![]));
    }

    #[test]
    fn what_could_not_be_made_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.onnx");
        let refused = unless_whole(&path, &mut |_| {}, || Err::<(), _>(Error::bad_file("refused")));
        assert!(refused.is_err());
        assert_eq!(made(&path, "weights"), (true, vec![]));
    }

    #[test]
    fn of_several_at_the_same_time_one_makes_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.onnx");
        let count = AtomicUsize::new(0);
        let one = || {
            let make = || {
                count.fetch_add(1, SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(50));
                fs::write(&path, "weights").unwrap();
                Ok(())
            };
            unless_whole(&path, &mut |why| panic!("{why}"), make).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "weights");
        };
        std::thread::scope(|scope| (0..4).for_each(|_| _ = scope.spawn(one)));
        assert_eq!(count.load(SeqCst), 1);
    }
}
