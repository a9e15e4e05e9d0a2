//! What happens to those who are told, to the disk, and to the daemon itself.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tapetum_parts::SmallDisk;

use crate::{
    Lengths,
    broker::{Broker, Heard, SOON, free_port},
    receiver::{Answer, Receiver},
    scene::{Bystander, Row, Scene, output, sum, wait, waits},
    site::Daemon,
    until,
};

/// Few enough messages wait that a camera that makes them all the time is no reason.
const FEW: u64 = 5;

/// `ID/REVISION` of everything in the JSON Lines, in order.
fn lines(state: &Path) -> Vec<String> {
    let mut files: Vec<_> =
        std::fs::read_dir(state.join("jsonl")).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    let text: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let key = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        format!("{}/{}", event["id"].as_str().unwrap(), event["revision"])
    };
    text.lines().map(key).collect()
}

/// Events by id and their last revision, in the store; none is open.
fn stored(state: &Path) -> BTreeMap<String, u64> {
    let db = rusqlite::Connection::open(state.join("site.sqlite")).unwrap();
    let mut query = db.prepare("SELECT id, revision, phase FROM events").unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get(2)?))).unwrap();
    let mut events = BTreeMap::new();
    for row in rows {
        let (id, revision, phase): (String, i64, String) = row.unwrap();
        assert_eq!(phase, "end", "{id} is open");
        events.insert(id, revision.unsigned_abs());
    }
    events
}

fn last_revisions(keys: &[String]) -> BTreeMap<String, u64> {
    let mut last = BTreeMap::new();
    for key in keys {
        let (id, revision) = key.split_once('/').unwrap();
        last.insert(id.to_owned(), revision.parse().unwrap());
    }
    last
}

fn nothing_dropped(daemon: &Daemon) {
    for output in daemon.status()["outputs"].as_array().unwrap() {
        let dropped = output["dropped"].as_object().unwrap();
        assert!(dropped.keys().all(|reason| reason.starts_with("result")), "{output}");
    }
}

pub fn broker_gone(lengths: Lengths) -> Option<Row> {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let config = format!(
        "allow_anonymous true\nmax_queued_messages 0\npersistence true\npersistence_location {}/",
        dir.path().display()
    );
    let broker = Broker::start(dir.path(), port, &config)?;
    let heard = Heard::listen(port, None);
    let outputs =
        format!("[[output]]\nkind = 'jsonl'\n[[output]]\nkind = 'mqtt'\nhost = '127.0.0.1'\nport = {port}\n");
    let scene = Scene::new(None, &outputs);
    let daemon = scene.start();
    let other = Bystander::watch(&daemon);
    let from = std::time::Instant::now();
    broker.end();
    wait("that it is gone is told", || output(&daemon, "mqtt")["up"] == false);
    let noticed = from.elapsed();
    let lasts = lengths.of(60);
    std::thread::sleep(lasts.saturating_sub(noticed));
    let kept = output(&daemon, "mqtt")["spooled"].as_u64().unwrap();
    let _broker = Broker::start(dir.path(), port, &config)?;
    let back = wait("it has everything", || {
        let mqtt = output(&daemon, "mqtt");
        mqtt["up"] == true && waits(&mqtt) <= FEW
    });
    let others = other.unharmed(&daemon);
    nothing_dropped(&daemon);
    scene.drain(daemon, &outputs);
    let told = lines(&scene.site.path("state"));
    until(SOON, "the broker hands on what it has", || heard.events().len() >= told.len());
    assert_eq!(heard.events(), told, "lost, or out of order");
    let twice = heard.deliveries().len() - told.len();
    let lost =
        format!("nothing of {} messages, in order ({kept} were on disk, {twice} came twice)", told.len());
    Some(Row { lasts, noticed: Some(noticed), back, lost, others })
}

pub fn disk_full(lengths: Lengths) -> Option<Row> {
    let receiver = Receiver::start(Box::new(|_| Answer::Status(200)));
    let outputs = format!("[[output]]\nkind = 'webhook'\nurl = 'http://127.0.0.1:{}/'\n", receiver.port);
    let scene = Scene::new(None, &outputs);
    let state = scene.site.path("state");
    std::fs::create_dir(&state).unwrap();
    let disk = SmallDisk::mount(&state, 8 << 20)?;
    let daemon = scene.start();
    let other = Bystander::watch(&daemon);
    let full = disk.fill();
    let noticed = wait("that it is full is told", || {
        let store = output(&daemon, "sqlite");
        store["up"] == false && store["why"].as_str().is_some_and(|why| why.contains("disk full"))
    });
    assert_eq!(daemon.get("/readyz").0, 503, "it says that it is not ready");
    let lasts = lengths.of(20);
    std::thread::sleep(lasts.saturating_sub(noticed));
    std::fs::remove_file(full).unwrap();
    let back = wait("everything is on disk", || {
        ["sqlite", "webhook"].iter().all(|name| {
            let output = output(&daemon, name);
            output["up"] == true && waits(&output) <= FEW
        })
    });
    let others = other.unharmed(&daemon);
    nothing_dropped(&daemon);
    scene.drain(daemon, &outputs);
    let store = stored(&state);
    assert_eq!(last_revisions(&receiver.keys()), store, "lost");
    let lost = format!("nothing of {} events", store.len());
    Some(Row { lasts, noticed: Some(noticed), back, lost, others })
}

pub fn locked(lengths: Lengths) -> Option<Row> {
    let receiver = Receiver::start(Box::new(|_| Answer::Status(200)));
    let outputs = format!("[[output]]\nkind = 'webhook'\nurl = 'http://127.0.0.1:{}/'\n", receiver.port);
    let scene = Scene::new(None, &outputs);
    let daemon = scene.start();
    let other = Bystander::watch(&daemon);
    // This process is another one than the daemon's.
    let db = rusqlite::Connection::open(scene.site.path("state/site.sqlite")).unwrap();
    db.busy_timeout(Duration::from_secs(5)).unwrap();
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    let noticed = wait("that it is locked is told", || output(&daemon, "sqlite")["up"] == false);
    let lasts = lengths.of(20).max(noticed);
    std::thread::sleep(lasts - noticed);
    let kept = output(&daemon, "sqlite")["queued"].as_u64().unwrap();
    db.execute_batch("ROLLBACK").unwrap();
    drop(db);
    let back = wait("everything is in the store", || {
        let store = output(&daemon, "sqlite");
        store["up"] == true && waits(&store) <= FEW
    });
    let others = other.unharmed(&daemon);
    nothing_dropped(&daemon);
    scene.drain(daemon, &outputs);
    let store = stored(&scene.site.path("state"));
    assert_eq!(last_revisions(&receiver.keys()), store, "lost");
    let lost = format!("nothing of {} events ({kept} messages waited in memory)", store.len());
    Some(Row { lasts, noticed: Some(noticed), back, lost, others })
}

pub fn slow_webhook(lengths: Lengths) -> Option<Row> {
    let slow = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&slow);
    let receiver = Receiver::start(Box::new(move |_| match asked.load(Ordering::SeqCst) {
        true => Answer::Slow(Duration::from_secs(2)),
        false => Answer::Status(200),
    }));
    let outputs = format!("[[output]]\nkind = 'webhook'\nurl = 'http://127.0.0.1:{}/'\n", receiver.port);
    let scene = Scene::new(None, &outputs);
    let daemon = scene.start();
    let other = Bystander::watch(&daemon);
    slow.store(true, Ordering::SeqCst);
    let noticed = wait("messages wait", || waits(&output(&daemon, "webhook")) > FEW);
    let lasts = lengths.of(20).max(noticed);
    std::thread::sleep(lasts - noticed);
    let kept = waits(&output(&daemon, "webhook"));
    slow.store(false, Ordering::SeqCst);
    let back = wait("all are taken", || waits(&output(&daemon, "webhook")) <= FEW);
    let others = other.unharmed(&daemon);
    nothing_dropped(&daemon);
    scene.drain(daemon, &outputs);
    let store = stored(&scene.site.path("state"));
    assert_eq!(last_revisions(&receiver.keys()), store, "lost");
    let lost = format!("nothing of {} events ({kept} messages waited)", store.len());
    Some(Row { lasts, noticed: Some(noticed), back, lost, others })
}

pub fn killed(_: Lengths) -> Option<Row> {
    let receiver = Receiver::start(Box::new(|_| Answer::Status(200)));
    let outputs = format!("[[output]]\nkind = 'webhook'\nurl = 'http://127.0.0.1:{}/'\n", receiver.port);
    let scene = Scene::new(None, &outputs);
    let daemon = scene.start();
    // Dropped without a word: killed.
    drop(daemon);
    let from = std::time::Instant::now();
    let daemon = scene.site.start();
    let listens = from.elapsed();
    wait("results come", || daemon.camera("other")["frames"]["delivered"].as_u64() > Some(0));
    let back = from.elapsed();
    assert_eq!(sum(&daemon.camera("other")["frames"]["failed"]), 0);
    scene.drain(daemon, &outputs);
    let store = stored(&scene.site.path("state"));
    assert_eq!(last_revisions(&receiver.keys()), store, "lost");
    let lost = format!("nothing of {} events; it listens after {:.2} s", store.len(), listens.as_secs_f64());
    Some(Row { lasts: Duration::ZERO, noticed: None, back, lost, others: None })
}
