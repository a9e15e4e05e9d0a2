//! `tapetum soak`: runs a site for some time, watches the daemon from outside, and judges what it saw.
//!
//! | part | what it does |
//! |---|---|
//! | `config` | the site as it is run, with faster loops for an overload |
//! | `child` | the daemon as a process |
//! | `system` | what the kernel says of it |
//! | `watch` | what it says of itself |
//! | `capacity` | what the machine can do |
//! | [`trend`](mod@trend), `fair` | slope of memory, fair shares |
//! | `judge` | the checks |
//! | [`Report`], `markdown`, `chart`, `write` | what came of it |

mod capacity;
mod chart;
mod child;
mod config;
mod fair;
mod judge;
mod markdown;
mod report;
mod scratch;
mod system;
pub mod trend;
mod watch;
mod write;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tapetum_runtime::{Error, ErrorKind, Result};

use crate::site::config::SiteFile;
use child::{Child, Stopped};
use scratch::Scratch;
use system::Process;
use watch::Seen;

pub use chart::chart;
pub use markdown::markdown;
pub use report::{CameraReport, Check, Overload, Report, Series, Step};
pub use system::Process as ProcessSample;
pub use write::write;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The site's file.
    pub site: PathBuf,
    /// The program `tapetumd`.
    pub daemon: PathBuf,
    /// How long is measured, after the warm-up.
    pub time: Duration,
    /// How long is waited before that; a quarter of the time, within 5 to 180 s, if `None`.
    /// Memory that is taken when it is first needed (a frame of a pool while the machine is busy) is no growth, and takes minutes.
    pub warm_up: Option<Duration>,
    /// Ask for so many times what the machine can do. Every camera must be a loop.
    pub overload: Option<f64>,
    /// Memory may grow by this many KiB a minute.
    pub slope: f64,
}

/// How often is looked.
const EVERY: Duration = Duration::from_secs(1);
/// Most looks that are kept; a long soak looks less often.
const MOST_LOOKS: u32 = 20_000;
/// For models to load and every camera to give its first result.
const SETTLE: Duration = Duration::from_secs(180);

/// One look.
struct Sample {
    /// Since the first, in seconds.
    at: f64,
    process: Process,
    /// CPU time of all processes of the machine.
    busy: Duration,
    seen: Seen,
}

/// Everything that was seen of one run of the daemon.
struct Watched {
    samples: Vec<Sample>,
    /// Looks that were not answered.
    unanswered: u64,
    /// It ended by itself.
    died: bool,
    stopped: Option<Stopped>,
}

/// Runs the site and judges it. `tell` hears what goes on.
///
/// # Errors
/// The site is wrong, the daemon cannot be started, a loop cannot be opened. A site that fails is no error: see
/// [`Report::passed`].
pub fn run(options: &Options, tell: &mut dyn FnMut(&str)) -> Result<Report> {
    let site = SiteFile::read(&options.site)?;
    if site.cameras.is_empty() {
        return Err(Error::config(format!("{}: it names no camera", options.site.display())));
    }
    let scratch = Scratch::new()?;
    let own = config::own_rates(&site)?;
    let overload = match options.overload {
        None => None,
        Some(times) => Some(capacity::overload(options, &site, &own, times, &scratch, tell)?),
    };
    let rates = overload.as_ref().map(|overload| overload.rates.clone());
    let warm_up = options.warm_up.unwrap_or_else(|| (options.time / 4).clamp(secs(5), secs(180)));
    tell(&format!("{} s of warm-up, then {} s are measured", warm_up.as_secs(), options.time.as_secs()));
    let watched = watch_site(options, rates.as_ref(), &scratch, [warm_up, options.time], tell)?;
    // What a camera is asked for: the rate of its loop, within its own bound where that is kept.
    let asked = site.cameras.iter().map(|camera| match &rates {
        Some(rates) => rates.get(&camera.name).copied(),
        None => {
            own.get(&camera.name).map(|rate| camera.max_fps.map_or(*rate, |most| rate.min(f64::from(most))))
        }
    });
    let asked: Vec<Option<f64>> = asked.collect();
    Ok(judge::report(options, &site, &asked, overload, warm_up, &watched))
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Runs the daemon: waits until every camera has given a result, and for the first of `times`; then looks every second for the
/// second.
fn watch_site(
    options: &Options,
    rates: Option<&BTreeMap<String, f64>>,
    scratch: &Scratch,
    times: [Duration; 2],
    tell: &mut dyn FnMut(&str),
) -> Result<Watched> {
    let state = scratch.state()?;
    let text = config::derived(&options.site, &state, rates)?;
    let mut child = Child::start(&options.daemon, &scratch.write("site.toml", &text)?, &scratch.path("log"))?;
    let from = Instant::now();
    let works = |seen: &Seen| seen.cameras.iter().all(|camera| camera.frames.delivered > 0);
    loop {
        let seen = watch::ask(&child);
        if seen.as_ref().is_ok_and(works) {
            break;
        }
        if let Some(status) = child.ended() {
            return Err(Error::new(
                ErrorKind::Environment,
                format!("the daemon ended while it started: {status}"),
            ));
        }
        if from.elapsed() > SETTLE {
            let silent = |seen: Seen| {
                let silent = seen.cameras.into_iter().filter(|camera| camera.frames.delivered == 0);
                silent
                    .map(|camera| format!("{} ({})", camera.name, camera.state))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let what = seen.map(silent)?;
            let what = format!("no result within {} s of {what}", SETTLE.as_secs());
            return Err(Error::new(ErrorKind::Environment, what));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(times[0]);
    let mut watched = Watched { samples: Vec::new(), unanswered: 0, died: false, stopped: None };
    let every = EVERY.max(times[1] / MOST_LOOKS);
    let (from, mut n, mut told) = (Instant::now(), 0, 0);
    loop {
        match (watch::ask(&child), Process::of(child.pid())) {
            (Ok(seen), Some(process)) => {
                let at = from.elapsed().as_secs_f64();
                watched.samples.push(Sample { at, process, busy: system::busy(), seen });
            }
            _ => watched.unanswered += 1,
        }
        watched.died = child.ended().is_some();
        if watched.died || from.elapsed() >= times[1] {
            break;
        }
        if from.elapsed().as_secs() / 60 > told {
            told = from.elapsed().as_secs() / 60;
            tell(&format!("{told} min of {:.1}", times[1].as_secs_f64() / 60.0));
        }
        n += 1;
        std::thread::sleep((every * n).min(times[1]).saturating_sub(from.elapsed()));
    }
    watched.stopped = child.stop().ok();
    Ok(watched)
}

/// The program `tapetumd` beside the running one.
pub fn daemon_beside() -> PathBuf {
    let name = format!("tapetumd{}", std::env::consts::EXE_SUFFIX);
    let here = std::env::current_exe().ok();
    match here.as_deref().and_then(Path::parent).map(|folder| folder.join(&name)) {
        Some(beside) if beside.exists() => beside,
        // In the search path, then.
        _ => name.into(),
    }
}
