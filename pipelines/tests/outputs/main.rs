//! Outputs with real parts: SQLite files and locks, a broker (mosquitto), HTTP sockets, a small disk.

#[allow(dead_code, reason = "other suites use the rest")]
mod broker;
mod disk;
mod events;
mod mqtt;
mod receiver;
#[path = "../sinks/schema.rs"]
mod schema;
mod spool;
mod sqlite;
#[path = "../support/until.rs"]
mod until;
mod webhook;

use std::{path::Path, sync::Arc, time::SystemTime};

use tapetum::site::{
    event::Ids,
    message::{Event, Message, Phase},
    output::{self, Output, Place},
};
use tapetum_runtime::settings::Reader;
use until::until;

/// The outputs of a configuration.
fn open(toml: &str, dir: &Path) -> Vec<Arc<dyn Output>> {
    let mut reader = Reader::new(toml, "site.toml");
    let root = reader.parse(&["output"]);
    let specs = output::read(&mut reader, &root);
    reader.finish().unwrap();
    output::open(&specs, &place(dir)).unwrap()
}

fn place(dir: &Path) -> Place {
    Place {
        site: "yard".to_owned(),
        state: dir.join("state"),
        media: dir.join("media"),
        cameras: vec![("gate".to_owned(), vec!["person".to_owned()])],
    }
}

fn event(ids: &Ids, revision: u32, phase: Phase) -> Event {
    let start = SystemTime::now();
    Event {
        id: ids.next(start),
        revision,
        camera: "gate".to_owned(),
        label: "person".to_owned(),
        phase,
        start,
        end: (phase == Phase::End).then_some(start),
        frames: 3,
        score: 0.75,
        xyxy: [1.0, 2.0, 3.0, 4.0],
        most: 2,
        size: (640, 360),
        seq: 7,
        digest: "d".to_owned(),
        snapshot: None,
        recording: None,
    }
}

fn message(event: &Event) -> Message {
    Message::Event(Arc::new(event.clone()))
}

/// Offers `n` events that have ended; their ids.
fn offer(output: &dyn Output, ids: &Ids, n: usize) -> Vec<String> {
    let event = |_| {
        let event = event(ids, 0, Phase::End);
        output.offer(&message(&event));
        event.id
    };
    (0..n).map(event).collect()
}
