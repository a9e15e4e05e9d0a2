//! `tapetum doctor`

use std::num::NonZero;

use clap::Args as ClapArgs;
use serde_json::json;
use tapetum::{prepare, sink, source};
use tapetum_runtime::{Result, backend::BACKENDS};

use crate::{print_json, table};

/// Arguments of `tapetum doctor`.
#[derive(ClapArgs)]
pub struct Args {
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// What to do about an engine that cannot run.
fn remedy(engine: &str) -> &'static str {
    match engine {
        "ort" => {
            "scripts/fetch-onnxruntime fetches a pinned, checked ONNX Runtime into the user's cache \
                  (needs python3 with pip); or set TAPETUM_ORT to a libonnxruntime.so"
        }
        _ => "it is part of this build; please report this",
    }
}

pub fn run(args: &Args) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let cache = prepare::cache_dir();
    let engines: Vec<_> = BACKENDS.iter().map(|engine| (engine, engine.probe())).collect();
    if args.json {
        let engines: Vec<_> = engines
            .iter()
            .map(|(engine, probe)| match probe {
                Ok(version) => json!({"engine": engine.full_name(), "version": version}),
                Err(e) => json!({"engine": engine.full_name(), "missing": e.to_string(), "remedy": remedy(engine.name())}),
            })
            .collect();
        return print_json(&json!({
            "tapetum": env!("CARGO_PKG_VERSION"),
            "os": std::env::consts::OS,
            "arch": std::env::consts::ARCH,
            "cores": cores,
            "memory_bytes": memory(),
            "cache": cache.as_ref().ok(),
            "engines": engines,
            "sources": source::SOURCES.iter().map(|s| s.usage).collect::<Vec<_>>(),
            "sinks": sink::SINKS.iter().map(|s| s.name).collect::<Vec<_>>(),
        }));
    }
    let memory = memory().map_or("unknown".to_owned(), table::bytes);
    println!("tapetum {} on {} {}", env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH);
    println!("cores {cores}, memory {memory}");
    match &cache {
        Ok(dir) => println!("fused models are kept in {}", dir.join("models").display()),
        Err(e) => println!("fused models cannot be kept: {e}"),
    }
    println!("\nengines");
    for (engine, probe) in &engines {
        match probe {
            Ok(version) => println!("  ✓ {:8} {version}", engine.full_name()),
            Err(e) => {
                println!("  ✗ {:8} {e}", engine.full_name());
                println!("    → {}", remedy(engine.name()));
            }
        }
    }
    println!("  – CUDA, TensorRT and OpenVINO are not in this build");
    println!("\nsources");
    source::SOURCES.iter().for_each(|s| println!("  {}", s.usage));
    println!("\nsinks");
    let rows: Vec<_> = sink::SINKS.iter().map(|s| vec![s.name.to_owned(), s.writes.to_owned()]).collect();
    print!("{}", table::render(&rows, &[]));
    Ok(())
}

/// Bytes of main memory, where the system tells.
fn memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}
