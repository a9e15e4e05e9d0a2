//! The engine cache without an engine: a provider of a few lines that builds, keeps, takes and rejects files.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Barrier,
    time::Duration,
};

use tapetum::engine_cache::{Cache, Event, Key, Opened, Origin, Wanted};
use tapetum_runtime::{Error, ErrorKind, Result};

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The key of `model` on a machine of this driver.
fn key(model: &str, driver: &str) -> Key {
    Key {
        model: model.repeat(64 / model.len()),
        engine: "ort:tensorrt".into(),
        versions: map(&[("onnxruntime", "1.31.1"), ("tensorrt", "101300")]),
        device: map(&[("gpu", "0"), ("gpus", "NVIDIA H100"), ("driver", driver)]),
        precision: "fp16".into(),
        options: map(&[("trt_fp16_enable", "1")]),
        shapes: "image [1, 3, 512, 512]".into(),
    }
}

/// Builds `model` into two files, or takes them; counts both.
#[derive(Default)]
struct Provider {
    built: Cell<u32>,
    taken: Cell<u32>,
    /// Ignores what is there and writes it again.
    rejects: Cell<bool>,
}

impl Provider {
    fn load(&self, model: &str, folder: Option<&Path>) -> Result<String> {
        let Some(folder) = folder else { return Ok(model.to_owned()) };
        let file = folder.join("graph.engine");
        if file.exists() && !self.rejects.get() {
            self.taken.set(self.taken.get() + 1);
            let text = fs::read_to_string(&file).map_err(|e| Error::bad_file(e.to_string()))?;
            return Ok(text.split('|').next().unwrap_or("").to_owned());
        }
        self.built.set(self.built.get() + 1);
        let _ = fs::remove_file(&file);
        fs::write(&file, format!("{model}|{}", "weights".repeat(100))).unwrap();
        fs::write(folder.join("kernels.timing"), "7 8 9").unwrap();
        Ok(model.to_owned())
    }

    fn counts(&self) -> (u32, u32) {
        (self.built.get(), self.taken.get())
    }
}

/// Opens `model` for `key`; what was said beside it. The check passes if the session is of that model.
fn open(cache: &Cache, provider: &Provider, key: &Key, model: &str) -> (Result<Opened<String>>, Vec<String>) {
    let mut said = Vec::new();
    let opened = cache.open(
        Wanted {
            key,
            model_bytes: 1000,
            keep: true,
            load: &mut |folder| provider.load(model, folder),
            check: &mut |session| match session == model {
                true => Ok(Some(1e-7)),
                false => Err(Error::new(ErrorKind::ProofFailed, format!("{session:?} is not {model:?}"))),
            },
        },
        &mut |event| {
            said.push(match event {
                Event::Said(text) => text.to_owned(),
                Event::Waiting => "waiting".into(),
                Event::Building(estimate) => format!("building {}", estimate.is_some()),
            });
        },
    );
    (opened, said)
}

fn origin(opened: (Result<Opened<String>>, Vec<String>)) -> &'static str {
    match opened.0.unwrap().origin {
        Origin::Built { .. } => "built",
        Origin::Found { .. } => "found",
        Origin::Unkept => "unkept",
    }
}

/// The entries, without what is beside them; panics at what a killed process would have left.
fn entries(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(name == ".locks" || !name.starts_with('.'), "{name} was left");
        if name != ".locks" {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

fn fresh(root: &Path) -> Cache {
    Cache::new(root).unwrap()
}

#[test]
fn models_of_equal_structure_never_share_an_entry() {
    let root = tempfile::tempdir().unwrap();
    let provider = Provider::default();
    for _ in 0..2 {
        for model in ["a", "b"] {
            let (opened, _) = open(&fresh(root.path()), &provider, &key(model, "550"), model);
            assert_eq!(opened.unwrap().session, model);
        }
    }
    assert_eq!(provider.counts(), (2, 2));
    assert_eq!(entries(root.path()).len(), 2);
    // Every part of the key makes another engine.
    let base = key("a", "550");
    let mut others = vec![key("a", "551"); 6];
    others[1] = Key { engine: "ort:openvino".into(), ..base.clone() };
    others[2] = Key { precision: "fp32".into(), ..base.clone() };
    others[3] = Key { shapes: "image [1, 3, 256, 256]".into(), ..base.clone() };
    others[4] = Key { versions: map(&[("onnxruntime", "1.31.1"), ("tensorrt", "101400")]), ..base.clone() };
    others[5] = Key { options: map(&[("trt_fp16_enable", "0")]), ..base.clone() };
    for other in others {
        assert_ne!(other.digest(), base.digest());
        assert!(base.difference(&other).is_some(), "{other:?}");
        assert_eq!(origin(open(&fresh(root.path()), &provider, &other, "a")), "built");
    }
    assert_eq!(origin(open(&fresh(root.path()), &provider, &base, "a")), "found");
}

/// Builds an entry, spoils it, and sees it built anew with `words` said, and found from then on.
fn spoiled(spoil: impl Fn(&Path), words: &[&str]) {
    let root = tempfile::tempdir().unwrap();
    let (provider, key) = (Provider::default(), key("a", "550"));
    assert_eq!(origin(open(&fresh(root.path()), &provider, &key, "a")), "built");
    spoil(&entries(root.path())[0]);
    let (opened, said) = open(&fresh(root.path()), &provider, &key, "a");
    assert_eq!(opened.unwrap().session, "a");
    let text = said.join("\n");
    assert!(text.starts_with("engine cache: ") && text.contains("built anew"), "{text}");
    words.iter().for_each(|word| assert!(text.contains(word), "{word:?} is not in {text}"));
    assert_eq!(origin(open(&fresh(root.path()), &provider, &key, "a")), "found");
    assert_eq!(entries(root.path()).len(), 1);
    assert_eq!(provider.counts(), (2, 1), "{text}");
}

#[test]
fn a_byte_that_flipped_anywhere_is_found_before_the_engine_sees_it() {
    let length = "a|".len() + 700;
    for at in [0, 1, length / 2, length - 1] {
        for bit in [0, 7] {
            let spoil = |entry: &Path| {
                let file = entry.join("graph.engine");
                let mut bytes = fs::read(&file).unwrap();
                bytes[at] ^= 1 << bit;
                fs::write(file, bytes).unwrap();
            };
            spoiled(spoil, &["entry damaged", "file graph.engine: SHA-256"]);
        }
    }
}

#[test]
fn files_that_are_short_missing_or_of_someone_else_are_told() {
    let write = |name: &'static str, text: &'static str| {
        move |entry: &Path| fs::write(entry.join(name), text).unwrap()
    };
    spoiled(write("graph.engine", "a|wei"), &["file graph.engine: 5 bytes, were 702"]);
    spoiled(write("other.engine", "?"), &["file other.engine: not of this entry"]);
    spoiled(
        |entry| fs::remove_file(entry.join("kernels.timing")).unwrap(),
        &["file kernels.timing: missing"],
    );
    spoiled(|entry| fs::create_dir(entry.join("folder")).unwrap(), &["folder: not a file"]);
    spoiled(|entry| fs::remove_file(entry.join("entry.json")).unwrap(), &["entry.json: "]);
    spoiled(write("entry.json", "{\"format\": 1, \"more\": 2}"), &["entry.json: unknown field `more`"]);
}

#[test]
fn a_record_that_was_cut_anywhere_is_damaged() {
    for part in 0..16 {
        let spoil = |entry: &Path| {
            let file = entry.join("entry.json");
            let text = fs::read(&file).unwrap();
            fs::write(&file, &text[..text.len() * part / 16]).unwrap();
        };
        spoiled(spoil, &["entry damaged (entry.json: "]);
    }
}

#[test]
fn a_foreign_driver_or_version_is_told_with_both_values() {
    for (from, to, words) in [
        ("\"driver\": \"550\"", "\"driver\": \"470\"", "entry foreign (built for driver 470, here 550)"),
        ("\"tensorrt\": \"101300\"", "\"tensorrt\": \"8\"", "tensorrt 8, here 101300"),
        ("NVIDIA H100", "NVIDIA Orin", "gpus NVIDIA Orin, here NVIDIA H100"),
        ("\"precision\": \"fp16\"", "\"precision\": \"int8\"", "precision int8, here fp16"),
        ("\"format\": 1", "\"format\": 9", "format 9, this build reads 1"),
    ] {
        let spoil = |entry: &Path| {
            let file = entry.join("entry.json");
            let text = fs::read_to_string(&file).unwrap();
            assert!(text.contains(from), "{text}");
            fs::write(&file, text.replace(from, to)).unwrap();
        };
        spoiled(spoil, &[words]);
    }
    // A new driver finds no entry of its own, and the old one is named.
    let root = tempfile::tempdir().unwrap();
    let provider = Provider::default();
    open(&fresh(root.path()), &provider, &key("a", "550"), "a").0.unwrap();
    let (_, said) = open(&fresh(root.path()), &provider, &key("a", "570"), "a");
    assert_eq!(said[0], "engine cache: the entry there is was built for driver 550, here 570; built anew");
}

#[test]
fn what_was_kept_once_is_built_anew_for_another_version_also_where_nobody_asks_to_keep() {
    let root = tempfile::tempdir().unwrap();
    let provider = Provider::default();
    let unasked = |key: &Key, model: &str| {
        let mut said = Vec::new();
        let wanted = Wanted {
            key,
            model_bytes: 1000,
            keep: false,
            load: &mut |folder| provider.load(model, folder),
            check: &mut |_| Ok(None),
        };
        let mut tell = |event: Event<'_>| {
            if let Event::Said(text) = event {
                said.push(text.to_owned());
            }
        };
        let opened = fresh(root.path()).open(wanted, &mut tell);
        (origin((opened, Vec::new())), said)
    };
    assert_eq!(unasked(&key("a", "550"), "a"), ("unkept", vec![]));
    open(&fresh(root.path()), &provider, &key("a", "550"), "a").0.unwrap();
    let words = "engine cache: the entry there is was built for driver 550, here 570; built anew";
    assert_eq!(unasked(&key("a", "570"), "a"), ("built", vec![words.to_owned()]));
    assert_eq!(unasked(&key("a", "570"), "a"), ("found", vec![]));
    // Of another model nobody had anything kept.
    assert_eq!(unasked(&key("b", "570"), "b"), ("unkept", vec![]));
    assert_eq!(entries(root.path()).len(), 2);
}

#[test]
fn a_provider_that_writes_anew_without_a_word_is_caught() {
    let root = tempfile::tempdir().unwrap();
    let (provider, key) = (Provider::default(), key("a", "550"));
    open(&fresh(root.path()), &provider, &key, "a").0.unwrap();
    provider.rejects.set(true);
    // Coarse clocks: the file is of the same size, so its time is what tells.
    std::thread::sleep(Duration::from_millis(20));
    let (opened, said) = open(&fresh(root.path()), &provider, &key, "a");
    assert!(matches!(opened.unwrap().origin, Origin::Built { .. }));
    assert!(said[0].contains("the engine rejected the entry and wrote graph.engine anew"), "{said:?}");
}

#[test]
fn an_entry_that_fails_its_self_check_is_built_once_and_then_an_error() {
    let root = tempfile::tempdir().unwrap();
    let (provider, key) = (Provider::default(), key("a", "550"));
    // Sound by its digests, but of another model: as if two models had shared it.
    let (opened, _) = open(&fresh(root.path()), &provider, &key, "b");
    opened.unwrap();
    let (opened, said) = open(&fresh(root.path()), &provider, &key, "a");
    assert_eq!(opened.unwrap().session, "a");
    assert!(said[0].contains("entry failed its self-check (\"b\" is not \"a\"); built anew"), "{said:?}");
    assert_eq!(provider.counts(), (2, 1));

    // What fails newly built is an error, and nothing of it stays.
    let root = tempfile::tempdir().unwrap();
    let mut tries = 0;
    let outcome = fresh(root.path()).open(
        Wanted {
            key: &key,
            model_bytes: 1,
            keep: true,
            load: &mut |folder| {
                tries += 1;
                provider.load("b", folder)
            },
            check: &mut |_| Err(Error::new(ErrorKind::ProofFailed, "output \"probs\" is 2 at element 5")),
        },
        &mut |_| {},
    );
    assert!(outcome.err().unwrap().to_string().contains("element 5"));
    assert_eq!((tries, entries(root.path()).len()), (1, 0));
}

#[test]
fn what_a_killed_process_left_is_removed_and_what_is_being_built_is_not() {
    let root = tempfile::tempdir().unwrap();
    let (provider, key) = (Provider::default(), key("a", "550"));
    let building = root.path().join(format!(".{}.building", &key.digest()[..32]));
    let leave = |path: &Path| {
        fs::create_dir_all(path).unwrap();
        fs::write(path.join("graph.engine"), "half").unwrap();
    };
    leave(&building);
    leave(&root.path().join(".0123.old"));
    assert_eq!(origin(open(&fresh(root.path()), &provider, &key, "a")), "built");
    assert_eq!(entries(root.path()).len(), 1);

    // While it is built, another start sees the folder and leaves it.
    let other = self::key("b", "550");
    let seen = fresh(root.path()).open(
        Wanted {
            key: &other,
            model_bytes: 1,
            keep: true,
            load: &mut |folder| {
                let session = provider.load("b", folder);
                fresh(root.path());
                assert!(folder.unwrap().join("graph.engine").exists());
                session
            },
            check: &mut |_| Ok(None),
        },
        &mut |_| {},
    );
    assert!(matches!(seen.unwrap().origin, Origin::Built { .. }));
    assert_eq!(entries(root.path()).len(), 2);
}

#[test]
fn two_at_the_same_time_build_once() {
    let root = tempfile::tempdir().unwrap();
    let (start, key) = (Barrier::new(2), key("a", "550"));
    let one = || {
        let (cache, provider) = (fresh(root.path()), Provider::default());
        start.wait();
        let mut waited = false;
        let opened = cache.open(
            Wanted {
                key: &key,
                model_bytes: 1,
                keep: true,
                load: &mut |folder| {
                    std::thread::sleep(Duration::from_millis(200));
                    provider.load("a", folder)
                },
                check: &mut |_| Ok(None),
            },
            &mut |event| waited |= matches!(event, Event::Waiting),
        );
        (provider.counts(), waited, opened.unwrap().session)
    };
    let (first, second) = std::thread::scope(|scope| {
        let other = scope.spawn(one);
        (one(), other.join().unwrap())
    });
    let mut counts = [first.0, second.0];
    counts.sort_unstable();
    assert_eq!(counts, [(0, 1), (1, 0)]);
    assert!(first.1 ^ second.1, "one of them waits, and says so");
    assert_eq!((first.2.as_str(), second.2.as_str()), ("a", "a"));
}

#[test]
fn the_cache_keeps_what_fits_and_gives_up_what_was_not_used_for_longest() {
    let root = tempfile::tempdir().unwrap();
    let provider = Provider::default();
    // Each entry takes 707 bytes.
    let cache = || fresh(root.path()).bounded(1500);
    let later = || std::thread::sleep(Duration::from_millis(20));
    for model in ["a", "b"] {
        assert_eq!(origin(open(&cache(), &provider, &key(model, "550"), model)), "built");
        later();
    }
    assert_eq!(origin(open(&cache(), &provider, &key("a", "550"), "a")), "found");
    later();
    let (_, said) = open(&cache(), &provider, &key("c", "550"), "c");
    assert!(
        said.iter().any(|s| s.contains(&key("b", "550").digest()[..32]) && s.contains("full")),
        "{said:?}"
    );
    assert_eq!(origin(open(&cache(), &provider, &key("a", "550"), "a")), "found");
    assert_eq!(origin(open(&cache(), &provider, &key("b", "550"), "b")), "built");
}

#[test]
fn an_entry_without_a_readable_record_takes_room_and_is_given_up_first() {
    let root = tempfile::tempdir().unwrap();
    let provider = Provider::default();
    // Each entry takes 707 bytes; the first loses its record.
    let cache = || fresh(root.path()).bounded(1500);
    open(&cache(), &provider, &key("a", "550"), "a").0.unwrap();
    let unreadable = entries(root.path()).remove(0);
    fs::write(unreadable.join("entry.json"), "{").unwrap();
    let foreign = root.path().join("pictures");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("holiday.jpeg"), [0; 4096]).unwrap();
    open(&cache(), &provider, &key("b", "550"), "b").0.unwrap();
    assert!(unreadable.exists(), "there was room for both");
    let (_, said) = open(&cache(), &provider, &key("c", "550"), "c");
    let id = unreadable.file_name().unwrap().to_string_lossy();
    assert!(said.iter().any(|s| s.contains(&*id) && s.contains("removed")), "{said:?}");
    assert!(!unreadable.exists());
    assert_eq!(origin(open(&cache(), &provider, &key("b", "550"), "b")), "found");
    assert!(foreign.join("holiday.jpeg").exists(), "no entry, and not ours");
}

#[test]
fn how_long_building_takes_is_only_said_of_what_was_built_before() {
    let root = tempfile::tempdir().unwrap();
    let provider = Provider::default();
    let said = |key: &Key, model| open(&fresh(root.path()), &provider, key, model).1;
    assert_eq!(said(&key("a", "550"), "a"), ["building false"]);
    assert_eq!(said(&key("b", "550"), "b"), ["building true"]);
    let other = Key { precision: "fp32".into(), shapes: "x".into(), ..key("a", "550") };
    assert_eq!(said(&other, "a"), ["building false"]);
}

#[test]
fn an_engine_that_writes_nothing_was_to_be_kept_and_is_not() {
    let root = tempfile::tempdir().unwrap();
    let wanted = Wanted {
        key: &key("a", "550"),
        model_bytes: 1,
        keep: true,
        load: &mut |_| Ok("a"),
        check: &mut |_| Ok(None),
    };
    let opened = fresh(root.path()).open(wanted, &mut |_| {}).unwrap();
    assert_eq!((opened.origin, opened.lost.as_deref()), (Origin::Unkept, Some("the engine wrote nothing")));
}

#[test]
fn a_cache_that_cannot_be_used_costs_nothing_but_itself() {
    let root = tempfile::tempdir().unwrap();
    let (provider, key) = (Provider::default(), key("a", "550"));
    let cache = fresh(root.path());
    fs::remove_dir(root.path().join(".locks")).unwrap();
    fs::write(root.path().join(".locks"), "").unwrap();
    let (opened, said) = open(&cache, &provider, &key, "a");
    let opened = opened.unwrap();
    assert_eq!((opened.session.as_str(), opened.origin), ("a", Origin::Unkept));
    assert!(said[0].contains("cannot be used") && said[0].contains("nothing is kept"), "{said:?}");
    assert!(opened.lost.unwrap().contains("cannot be used"));
    assert!(Cache::new(&root.path().join(".locks/below")).is_err());
}
