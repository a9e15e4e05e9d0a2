//! Planned faults against the whole daemon (`tapetumd` as a process), one after the other: how long until each is noticed, until
//! all is as before, what it costs, and that another camera does not feel it. Prints a table; `-- --long` makes the faults last
//! as long as they do in life, `-- NAME` runs those whose name holds it. What cannot be done here is said by name.

#[path = "../outputs/broker.rs"]
#[allow(dead_code, reason = "other suites use the rest")]
mod broker;
mod cameras;
mod outputs;
#[path = "../rtsp/proxy.rs"]
mod proxy;
#[path = "../outputs/receiver.rs"]
#[allow(dead_code, reason = "other suites use the rest")]
mod receiver;
#[path = "../rtsp/responder.rs"]
#[allow(dead_code, reason = "other suites use the rest")]
mod responder;
mod scene;
#[path = "../rtsp/server.rs"]
#[allow(dead_code, reason = "other suites use the rest")]
mod server;
#[path = "../daemon/site.rs"]
#[allow(dead_code, reason = "other suites use the rest")]
mod site;
#[path = "../support/until.rs"]
mod until;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use scene::Row;
use until::until;

/// How long a fault lasts.
#[derive(Clone, Copy)]
pub struct Lengths {
    long: bool,
}

impl Lengths {
    /// So many seconds in life, and at most three in a test.
    fn of(self, seconds: u64) -> Duration {
        Duration::from_secs(if self.long { seconds } else { seconds.min(3) })
    }
}

/// `None`: cannot be done here, which was said.
type Fault = fn(Lengths) -> Option<Row>;

const FAULTS: &[(&str, Fault)] = &[
    ("RTSP server killed and started again", cameras::killed),
    ("connection half open: the server is silent, nothing is closed", cameras::half_open),
    ("RTP packets changed and lost", cameras::garbage),
    ("stream changes its size every 2 s", cameras::resized),
    ("camera gone and back", cameras::gone),
    ("broker gone", outputs::broker_gone),
    ("disk full", outputs::disk_full),
    ("store locked by another process", outputs::locked),
    ("webhook slow: 2 s for an answer", outputs::slow_webhook),
    ("daemon killed (kill -9) and started again", outputs::killed),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // The test harness of others asks what there is.
    if args.iter().any(|arg| arg == "--list") {
        return;
    }
    let lengths = Lengths { long: args.iter().any(|arg| arg == "--long") };
    // What follows a flag of the test harness that takes a value is no name.
    let value = |n: usize| n.checked_sub(1).is_some_and(|n| args[n] == "--test-threads");
    let wanted = args.iter().enumerate().filter(|(n, arg)| !arg.starts_with('-') && !value(*n));
    let wanted: Vec<&str> = wanted.map(|(_, arg)| arg.as_str()).collect();
    let chosen = |name: &&(&str, Fault)| wanted.is_empty() || wanted.iter().any(|word| name.0.contains(word));
    let mut rows = Vec::new();
    for (name, fault) in FAULTS.iter().filter(chosen) {
        let from = Instant::now();
        eprintln!("{name} …");
        match fault(lengths) {
            Some(row) => rows.push(row.line(name)),
            None => eprintln!("{name}: not run, a part is missing"),
        }
        eprintln!("{name}: {:.1?}", from.elapsed());
    }
    println!(
        "| fault | lasts | noticed after | as before after its end | lost | frames/s of another camera, before → meanwhile |"
    );
    println!("|---|---:|---:|---:|---|---|");
    rows.iter().for_each(|row| println!("{row}"));
}

fn clip(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/clips").join(name).with_extension("mp4")
}
