//! The store: queries, a lock held by somebody else, events that nobody ended.

use std::{path::Path, time::Duration};

use tapetum::site::{
    event::{EventQuery, Ids},
    message::Phase,
    output::sqlite::StoreReader,
};

use super::{event, message, offer, open, until};

const STORE: &str = "[[output]]\nkind = \"sqlite\"\n";

fn all(dir: &Path, limit: usize) -> Vec<String> {
    let reader = StoreReader::open(&dir.join("state/site.sqlite")).unwrap();
    let mut query = EventQuery { limit, ..EventQuery::default() };
    let mut found = Vec::new();
    loop {
        let page = reader.events(&query).unwrap();
        found.extend(page.events.into_iter().map(|event| event.id));
        match page.next {
            Some(next) => query.cursor = Some(next),
            None => break,
        }
    }
    found.reverse();
    found
}

#[test]
fn events_are_kept_once_with_what_was_told_last_and_come_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let outputs = open(STORE, dir.path());
    let ids = Ids::new().unwrap();
    let made = offer(&*outputs[0], &ids, 25);
    let mut one = event(&ids, 0, Phase::Start);
    one.camera = "yard".to_owned();
    outputs[0].offer(&message(&one));
    (one.revision, one.phase, one.end, one.score) = (1, Phase::End, Some(one.start), 0.9);
    outputs[0].offer(&message(&one));
    let (new, old) = (one.clone(), {
        (one.revision, one.score) = (0, 0.1);
        one
    });
    outputs[0].offer(&message(&old));
    assert!(outputs[0].flush(Duration::from_secs(10)));
    assert_eq!(all(dir.path(), 7), made.iter().chain([&new.id]).cloned().collect::<Vec<_>>());
    let reader = StoreReader::open(&dir.path().join("state/site.sqlite")).unwrap();
    let found = reader.event(&new.id).unwrap().unwrap();
    assert_eq!((found.revision, found.score, found.phase), (1, 0.9, Phase::End));
    let of_yard = EventQuery { camera: Some("yard".to_owned()), limit: 10, ..EventQuery::default() };
    assert_eq!(reader.events(&of_yard).unwrap().events.len(), 1);
    let later =
        EventQuery { after: Some(new.start + Duration::from_secs(1)), limit: 10, ..EventQuery::default() };
    assert!(reader.events(&later).unwrap().events.is_empty());
}

#[test]
fn a_lock_held_by_somebody_else_is_told_and_waited_for_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let outputs = open(STORE, dir.path());
    let ids = Ids::new().unwrap();
    let mut made = offer(&*outputs[0], &ids, 3);
    assert!(outputs[0].flush(Duration::from_secs(10)));
    let other = rusqlite::Connection::open(dir.path().join("state/site.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let start = std::time::Instant::now();
    made.extend(offer(&*outputs[0], &ids, 50));
    assert!(start.elapsed() < Duration::from_secs(1), "an offer waited for the lock");
    until(Duration::from_secs(10), "the lock is told", || {
        let status = outputs[0].status();
        !status.up && status.why.is_some_and(|why| why.contains("locked")) && status.queued == 50
    });
    other.execute_batch("COMMIT").unwrap();
    assert!(outputs[0].flush(Duration::from_secs(10)));
    assert_eq!(all(dir.path(), 100), made);
    let status = outputs[0].status();
    assert!(status.up && status.dropped.is_empty(), "{status:?}");
}

#[test]
fn what_nobody_ended_is_ended_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let ids = Ids::new().unwrap();
    let going = event(&ids, 4, Phase::Update);
    {
        let outputs = open(STORE, dir.path());
        outputs[0].offer(&message(&going));
        outputs[0].stop(Duration::from_secs(2));
    }
    let outputs = open(STORE, dir.path());
    assert!(outputs[0].flush(Duration::from_secs(10)));
    let reader = StoreReader::open(&dir.path().join("state/site.sqlite")).unwrap();
    assert!(reader.going_on().unwrap().is_empty());
    let ended = reader.event(&going.id).unwrap().unwrap();
    assert_eq!((ended.phase, ended.revision), (Phase::End, 5));
}

#[test]
fn the_file_stays_below_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let outputs = open("[[output]]\nkind = \"sqlite\"\nmax_mb = 1\n", dir.path());
    let ids = Ids::new().unwrap();
    let mut made = Vec::new();
    for _ in 0..8 {
        made.extend(offer(&*outputs[0], &ids, 500));
        assert!(outputs[0].flush(Duration::from_secs(20)));
    }
    let kept = all(dir.path(), 1000);
    assert!(kept.len() < made.len(), "{}", kept.len());
    // The newest are there.
    assert_eq!(made[made.len() - kept.len()..], kept);
    let size = std::fs::metadata(dir.path().join("state/site.sqlite")).unwrap().len();
    assert!(size < 3 << 20, "{size}");
}

#[test]
fn a_store_of_a_newer_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("state")).unwrap();
    let file = dir.path().join("state/site.sqlite");
    rusqlite::Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let mut reader = tapetum_runtime::settings::Reader::new(STORE, "site.toml");
    let root = reader.parse(&["output"]);
    let specs = tapetum::site::output::read(&mut reader, &root);
    let told = tapetum::site::output::open(&specs, &super::place(dir.path())).err().unwrap().to_string();
    assert!(told.contains("newer") && told.contains("99"), "{told}");
}
