//! The `tapetumd` program: runs a site until it is told to stop.
//!
//! Exit codes: 0 it was told to stop, 1 it cannot go on, 2 wrong usage or configuration.

mod memory;
mod service;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tapetum::site::{
    config::SiteFile,
    daemon::{Daemon, Level, Tell},
};
use tapetum_runtime::{Error, ErrorKind, Result};

/// Runs a site: many cameras, what looks at them, and who is told. SIGHUP takes in a new configuration, SIGTERM stops it.
#[derive(Parser)]
#[command(name = "tapetumd", version)]
struct Cli {
    /// The site: cameras, pipelines, outputs.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/tapetum/site.toml")]
    config: PathBuf,
    /// Only check the configuration: every mistake at once, with its place. Needs no camera, broker, GPU or engine.
    #[arg(long)]
    check: bool,
}

/// How often signals and health are looked at.
const GLANCE: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            log(Level::Warning, &e.to_string());
            ExitCode::from(if e.kind() == ErrorKind::InvalidConfig { 2 } else { 1 })
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    memory::settle();
    let file = SiteFile::read(&cli.config)?;
    if cli.check {
        println!("{}: {} cameras; nothing is wrong with it", file.path.display(), file.cameras.len());
        return Ok(());
    }
    let (stop, reload) = (flag(&[SIGTERM, SIGINT])?, flag(&[SIGHUP])?);
    let (name, cameras) = (file.name.clone(), file.cameras.len());
    let tell: Tell = Arc::new(log);
    let daemon = Daemon::start(file, None, tell)?;
    let shown: Vec<String> = daemon.addresses().iter().map(ToString::to_string).collect();
    log(Level::Info, &format!("site {name}: {cameras} cameras; to be seen at {}", shown.join(", ")));
    let mut service = service::Service::new();
    while !stop.load(Ordering::SeqCst) {
        if reload.swap(false, Ordering::SeqCst) {
            service.reloading();
            // What is wrong with it is told, and the one in force stays.
            daemon.reload();
        }
        service.tick(&daemon.health());
        std::thread::sleep(GLANCE);
    }
    log(Level::Info, "told to stop");
    service.stopping();
    daemon.stop();
    Ok(())
}

/// Set by the signals.
fn flag(signals: &[i32]) -> Result<Arc<AtomicBool>> {
    let flag: Arc<AtomicBool> = Arc::default();
    for signal in signals {
        signal_hook::flag::register(*signal, flag.clone()).map_err(|e| {
            Error::internal(format!("signal {signal} cannot be listened to: {e}")).caused_by(e)
        })?;
    }
    Ok(flag)
}

/// To standard error; systemd's journal reads the level from the number in front.
fn log(level: Level, what: &str) {
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    for line in what.lines() {
        match (journal, level) {
            (true, Level::Info) => eprintln!("<6>{line}"),
            (true, Level::Warning) => eprintln!("<4>{line}"),
            (false, Level::Info) => eprintln!("{line}"),
            (false, Level::Warning) => eprintln!("warning: {line}"),
        }
    }
}
