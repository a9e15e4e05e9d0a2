//! `tapetumd` killed (`kill -9`) at seeded random moments, while cameras make events: every database opens, nothing that was
//! committed or taken is lost, what was told twice is told by id and revision, and in the end no event is open anywhere.

#[path = "outputs/broker.rs"]
#[allow(dead_code, reason = "other suites use the rest")]
mod broker;
#[path = "outputs/receiver.rs"]
#[allow(dead_code, reason = "other suites use the rest")]
mod receiver;
#[path = "daemon/site.rs"]
#[allow(dead_code, reason = "other suites use the rest")]
mod site;
#[path = "support/until.rs"]
mod until;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use broker::{Broker, Heard, free_port};
use receiver::{Answer, Receiver};
use serde_json::Value;
use site::Site;
use tapetum_runtime::seed::Seeded;
use until::until;

const KILLS: usize = 50;

/// Events by id, as they were told last: revision and phase.
type Events = BTreeMap<String, (u64, String)>;

/// Two cameras whose events begin, change and end all the time; or none, so that outputs come to rest.
fn write(site: &Site, cameras: &[&str], port: Option<u16>, receiver: &Receiver) {
    site.write(&[], "");
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
    let mut more = format!("[[output]]\nkind = 'webhook'\nurl = 'http://127.0.0.1:{}/'\n", receiver.port);
    if let Some(port) = port {
        more += &format!("[[output]]\nkind = 'mqtt'\nhost = '127.0.0.1'\nport = {port}\n");
    }
    for camera in cameras {
        more += &format!(
            "[camera.{camera}]\nsource = 'loop:{}/dev_a.mp4?fps=10'\npipeline = 'eyes.toml'\nevents = {{ min_score = 0.4, \
             min_frames = 1, window_s = 0.1, end_after_s = 0.2, max_length_s = 1.0, better = 0.0, update_every_s = 0.1 }}\n",
            demo.display()
        );
    }
    site.append(&more);
}

/// What is in the store. Of a copy: whoever opens a database after a kill repairs it, and that is the daemon's part.
fn stored(site: &Site) -> Events {
    let copies = tempfile::tempdir().unwrap();
    let mut events = Events::new();
    for name in ["site.sqlite", "webhook.spool.sqlite", "mqtt.spool.sqlite"] {
        for part in ["", "-wal"] {
            let from = site.path("state").join(format!("{name}{part}"));
            if from.exists() {
                fs::copy(from, copies.path().join(format!("{name}{part}"))).unwrap();
            }
        }
        if !copies.path().join(name).exists() {
            continue;
        }
        let db = rusqlite::Connection::open(copies.path().join(name)).unwrap();
        let whole: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(whole, "ok", "{name}");
        if name == "site.sqlite" {
            events = committed(&db).unwrap_or_default();
        }
    }
    let corrupt = fs::read_dir(site.path("state")).into_iter().flatten().flatten();
    let corrupt: Vec<_> = corrupt.filter(|f| f.path().extension().is_some_and(|e| e == "corrupt")).collect();
    assert!(corrupt.is_empty(), "{corrupt:?}");
    events
}

fn committed(db: &rusqlite::Connection) -> rusqlite::Result<Events> {
    let mut query = db.prepare("SELECT id, revision, phase FROM events")?;
    let rows =
        query.query_map([], |row| Ok((row.get(0)?, (row.get::<_, i64>(1)?.unsigned_abs(), row.get(2)?))))?;
    rows.collect()
}

/// Looks at the store again and again, as anybody may: what was seen once must not go.
fn watch(
    store: std::path::PathBuf,
    seen: Arc<Mutex<Events>>,
    over: Arc<AtomicBool>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        while !over.load(Ordering::SeqCst) {
            let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
            // Not there yet, or being repaired.
            if let Ok(events) =
                rusqlite::Connection::open_with_flags(&store, flags).and_then(|db| committed(&db))
            {
                seen.lock().unwrap().extend(events);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    })
}

/// Nothing of `before` is missing or older in `now`.
#[track_caller]
fn kept(before: &Events, now: &Events) {
    for (id, (revision, _)) in before {
        let there = now.get(id);
        assert!(there.is_some_and(|(now, _)| now >= revision), "{id} was at {revision}, and is {there:?}");
    }
}

/// Events as who is told knows them, with how many deliveries were repetitions; a repetition is the same to the letter.
fn told(deliveries: Vec<(String, Value)>) -> (Events, usize) {
    let (mut bodies, mut events, mut twice) = (BTreeMap::<String, Value>::new(), Events::new(), 0);
    for (key, body) in deliveries {
        if let Some(before) = bodies.get(&key) {
            assert_eq!(*before, body, "two messages are called {key}");
            twice += 1;
            continue;
        }
        let (id, revision) = (body["id"].as_str().unwrap(), body["revision"].as_u64().unwrap());
        let phase = body["phase"].as_str().unwrap().to_owned();
        let before = events.insert(id.to_owned(), (revision, phase));
        assert!(before.is_none_or(|(before, _)| before < revision), "{key} came after a later one");
        bodies.insert(key, body);
    }
    (events, twice)
}

#[test]
fn fifty_kills_lose_nothing_and_leave_nothing_open() {
    let site = Site::new();
    let receiver = Receiver::start(Box::new(|_| Answer::Status(200)));
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let broker = Broker::start(dir.path(), port, "allow_anonymous true\nmax_queued_messages 0");
    let heard = broker.as_ref().map(|_| Heard::listen(port, None));
    let port = broker.as_ref().map(|_| port);
    write(&site, &["left", "right"], port, &receiver);
    // The model's first load makes a file in the cache.
    let daemon = site.start();
    daemon.until("an event was told", || !receiver.keys().is_empty());
    daemon.stop();

    let (seen, over) = (Arc::default(), Arc::<AtomicBool>::default());
    let watcher = watch(site.path("state/site.sqlite"), Arc::clone(&seen), over.clone());
    let mut random = Seeded::new(9);
    let (mut before, from) = (Events::new(), Instant::now());
    for kill in 0..KILLS {
        let mut daemon = Command::new(env!("CARGO_BIN_EXE_tapetumd"))
            .arg("--config")
            .arg(site.path("site.toml"))
            .env("TAPETUM_CACHE", env!("CARGO_TARGET_TMPDIR"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // From before the files are open to many commits later.
        std::thread::sleep(Duration::from_micros(random.below(2_400_000)));
        daemon.kill().unwrap();
        let status = daemon.wait().unwrap();
        assert_eq!(status.code(), None, "kill {kill}: it ended by itself: {status}");
        let now = stored(&site);
        kept(&before, &now);
        kept(&seen.lock().unwrap(), &now);
        before = now;
    }
    let took = from.elapsed();
    // Nothing is made any more; what is left is told.
    write(&site, &[], port, &receiver);
    let daemon = site.start();
    daemon.until("the spools are empty", || {
        let status = daemon.status();
        let waits = |o: &Value| o["spooled"].as_u64().unwrap() + o["queued"].as_u64().unwrap();
        status["outputs"].as_array().unwrap().iter().all(|output| waits(output) == 0)
    });
    daemon.stop();
    over.store(true, Ordering::SeqCst);
    watcher.join().unwrap();

    let store = stored(&site);
    kept(&before, &store);
    let open: Vec<_> = store.iter().filter(|(_, (_, phase))| phase != "end").collect();
    assert!(open.is_empty(), "left open: {open:?}");
    assert!(store.len() > KILLS, "only {} events", store.len());
    let (posted, posted_twice) = told(receiver.taken());
    assert_eq!(posted, store, "the webhook was told something else");
    let mut said = format!("{posted_twice} of the webhook");
    if let Some(heard) = heard {
        until(broker::SOON, "the broker hands on what it has", || {
            told(heard.deliveries()).0.len() == store.len()
        });
        let (heard, twice) = told(heard.deliveries());
        assert_eq!(heard, store, "the broker was told something else");
        said += &format!(", {twice} of the broker");
    }
    let revisions: u64 = store.values().map(|(revision, _)| revision + 1).sum();
    eprintln!(
        "{KILLS} kills in {took:.0?}: {} events, {revisions} messages, none lost, none open; repetitions: {said}",
        store.len()
    );
}
