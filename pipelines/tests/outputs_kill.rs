//! A writer that is killed at random moments (`kill -9`): the store and the spool open, and no event that was said to be on disk is
//! lost or there twice. Run with `write FOLDER` this program is the writer.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tapetum::site::{
    event::Ids,
    message::{Event, Message, Phase},
    output::{self, Place},
};
use tapetum_runtime::{seed::Seeded, settings::Reader};

const KILLS: usize = 25;
const OUTPUTS: &str =
    "[[output]]\nkind = \"sqlite\"\n[[output]]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:1/\"\n";

fn main() {
    let args: Vec<_> = std::env::args().collect();
    match args.iter().position(|arg| arg == "write") {
        Some(at) => write(Path::new(&args[at + 1])),
        // The test harness of others asks what there is.
        None if args.iter().any(|arg| arg == "--list") => {}
        None => kill(),
    }
}

/// Puts events in for ever, and prints the id of each when it is on disk.
fn write(dir: &Path) {
    let mut reader = Reader::new(OUTPUTS, "site.toml");
    let root = reader.parse(&["output"]);
    let specs = output::read(&mut reader, &root);
    let place = Place { site: "yard".to_owned(), state: dir.into(), media: dir.into(), cameras: Vec::new() };
    let outputs = output::open(&specs, &place).unwrap();
    let ids = Ids::new().unwrap();
    loop {
        let made: Vec<_> = (0..5).map(|_| event(&ids)).collect();
        for event in &made {
            outputs.iter().for_each(|output| output.offer(&Message::Event(Arc::new(event.clone()))));
        }
        assert!(outputs.iter().all(|output| output.flush(Duration::from_secs(30))));
        let mut text: String = made.iter().map(|event| event.id.clone() + "\n").collect();
        text.push_str(".\n");
        std::io::stdout().write_all(text.as_bytes()).unwrap();
    }
}

fn event(ids: &Ids) -> Event {
    let start = SystemTime::now();
    Event {
        id: ids.next(start),
        revision: 0,
        camera: "gate".to_owned(),
        label: "person".to_owned(),
        phase: Phase::End,
        start,
        end: Some(start),
        frames: 3,
        score: 0.75,
        xyxy: [1.0, 2.0, 3.0, 4.0],
        most: 1,
        size: (640, 360),
        seq: 7,
        digest: "d".to_owned(),
        snapshot: None,
        recording: None,
    }
}

fn kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Seeded::new(6);
    let mut on_disk = Vec::new();
    for _ in 0..KILLS {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("write").arg(dir.path()).stdout(Stdio::piped());
        let mut writer = command.spawn().unwrap();
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let heard = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
        // From before the files are open to many commits later.
        std::thread::sleep(Duration::from_micros(random.below(400_000)));
        writer.kill().unwrap();
        writer.wait().unwrap();
        // A line that the kill has cut is no word about anything.
        on_disk.extend(heard.join().unwrap().into_iter().filter(|line| line.len() == 26));
        check(dir.path(), &on_disk);
    }
    assert!(on_disk.len() > KILLS, "the writer wrote only {} events", on_disk.len());
    println!("{KILLS} kills, {} events on disk, none lost, none twice", on_disk.len());
}

fn check(dir: &Path, on_disk: &[String]) {
    for (file, table) in [("site.sqlite", "events"), ("webhook.spool.sqlite", "queue")] {
        if on_disk.is_empty() && !dir.join(file).exists() {
            continue;
        }
        let db = rusqlite::Connection::open(dir.join(file)).unwrap();
        let whole: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(whole, "ok", "{file}");
        if on_disk.is_empty() {
            continue;
        }
        let mut query = db.prepare(&format!("SELECT id, count(*) FROM {table} GROUP BY id")).unwrap();
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let found: BTreeMap<String, u32> = rows.collect::<Result<_, _>>().unwrap();
        for id in on_disk {
            assert_eq!(found.get(id), Some(&1), "{file}: {id}");
        }
    }
    assert!(!dir.join("site.sqlite.corrupt").exists() && !dir.join("webhook.spool.sqlite.corrupt").exists());
}
