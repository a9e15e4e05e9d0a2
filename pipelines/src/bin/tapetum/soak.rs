//! `tapetum soak`

use std::{path::PathBuf, time::Duration};

use clap::Args as ClapArgs;
use tapetum::soak::{self, Options, Report};
use tapetum_runtime::{Error, ErrorKind, Result};

use crate::{print_json, table};

/// Arguments of `tapetum soak`.
#[derive(ClapArgs)]
pub struct Args {
    /// The site's file. It is run with a state folder and an address of its own; its outputs are told what its cameras see.
    #[arg(value_name = "SITE.toml")]
    site: PathBuf,
    /// How long is measured, in minutes, after the warm-up.
    #[arg(long, default_value_t = 10.0, value_name = "N", value_parser = minutes)]
    minutes: f64,
    /// Seconds before the measurement begins; otherwise a quarter of it, 5 to 180.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(0..=3600))]
    warm_up: Option<u32>,
    /// Find out what the machine can do, and ask for so many times that. Every camera must be a loop.
    #[arg(long, value_name = "TIMES", value_parser = times)]
    overload: Option<f64>,
    /// Memory may grow by so many KiB a minute.
    #[arg(long, default_value_t = 32.0, value_name = "KIB")]
    slope: f64,
    /// Folder for soak.json, soak.md and soak.svg.
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The daemon; otherwise the tapetumd beside this program.
    #[arg(long, value_name = "FILE")]
    daemon: Option<PathBuf>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// Exit code 1 if a check does not hold.
pub fn run(args: &Args) -> Result<()> {
    let options = Options {
        site: args.site.clone(),
        daemon: args.daemon.clone().unwrap_or_else(soak::daemon_beside),
        time: Duration::from_secs_f64(args.minutes * 60.0),
        warm_up: args.warm_up.map(|s| Duration::from_secs(s.into())),
        overload: args.overload,
        slope: args.slope,
    };
    let report = soak::run(&options, &mut |what| eprintln!("{what}"))?;
    let written = match &args.out {
        Some(folder) => soak::write(&report, folder)?,
        None => Vec::new(),
    };
    if args.json {
        let value = serde_json::to_value(&report).map_err(|e| Error::internal(format!("no JSON: {e}")))?;
        print_json(&value)?;
    } else {
        show(&report);
        written.iter().for_each(|path| println!("{}", path.display()));
    }
    let failed: Vec<&str> =
        report.checks.iter().filter(|c| c.passed == Some(false)).map(|c| c.name).collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Error::new(ErrorKind::Environment, format!("failed: {}", failed.join(", "))))
    }
}

fn show(report: &Report) {
    println!(
        "site {}: {} cameras, {:.1} frames/s delivered",
        report.site,
        report.cameras.len(),
        report.delivered_fps
    );
    let rows = report.checks.iter().map(|check| {
        let word = match check.passed {
            Some(true) => "pass",
            Some(false) => "FAIL",
            None => "-",
        };
        vec![word.to_owned(), check.name.to_owned(), check.seen.clone()]
    });
    print!("{}", table::render(&rows.collect::<Vec<_>>(), &[]));
}

fn minutes(text: &str) -> std::result::Result<f64, String> {
    number(text, 0.1, 60.0 * 24.0 * 30.0)
}

fn times(text: &str) -> std::result::Result<f64, String> {
    number(text, 1.0, 100.0)
}

fn number(text: &str, least: f64, most: f64) -> std::result::Result<f64, String> {
    let number = text.parse().ok().filter(|n| (least..=most).contains(n));
    number.ok_or_else(|| format!("a number from {least} to {most}"))
}
