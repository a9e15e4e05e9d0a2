//! `tapetum doctor`

use std::num::NonZero;

use clap::Args as ClapArgs;
use serde_json::json;
use tapetum::{prepare, sink, source};
use tapetum_runtime::{
    Error, Result,
    backend::{BACKENDS, Backend, Found},
};

use crate::{print_json, table};

/// Arguments of `tapetum doctor`.
#[derive(ClapArgs)]
pub struct Args {
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// What to do about an engine that cannot run where nothing more exact is known.
fn remedy(engine: &str) -> &'static str {
    match engine {
        "ort" => {
            "scripts/fetch-onnxruntime fetches a pinned, checked ONNX Runtime into the user's cache \
             (needs python3 with pip); or set TAPETUM_ORT to a libonnxruntime.so"
        }
        name if name.starts_with("ort:") => {
            "fetch it again with scripts/fetch-onnxruntime, or set TAPETUM_ORT to another"
        }
        _ => "it is part of this build; please report this",
    }
}

/// `onnxruntime 1.24.1 (openvino, cpu) in FOLDER`.
fn shown(engine: &dyn Backend, found: &Found) -> String {
    let name = engine.name().split(':').next().unwrap_or_default();
    let name = if name == "ort" { "onnxruntime" } else { name };
    let providers = match found.providers.as_slice() {
        [] => String::new(),
        some => format!(", providers {}", some.join(", ")),
    };
    let library = found.library.as_ref().map(|l| format!(", {}", l.display())).unwrap_or_default();
    format!("{name} {}{providers}{library}", found.version)
}

pub fn run(args: &Args) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let cache = prepare::cache_dir();
    // Looked for, not loaded: a process can load one ONNX Runtime, and each provider may be in another.
    let engines: Vec<_> = BACKENDS.iter().map(|engine| (engine, engine.find(), engine.diagnose())).collect();
    if args.json {
        let engines: Vec<_> = engines
            .iter()
            .map(|(engine, probe, troubles)| {
                let troubles: Vec<_> =
                    troubles.iter().map(|t| json!({"what": t.what, "next": t.next})).collect();
                match probe {
                    Ok(found) => json!({
                        "engine": engine.full_name(), "version": found.version, "providers": found.providers,
                        "library": found.library, "troubles": troubles,
                    }),
                    Err(e) => json!({
                        "engine": engine.full_name(), "missing": e.to_string(), "troubles": troubles,
                        "remedy": troubles.is_empty().then(|| remedy(engine.name())),
                    }),
                }
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
        Ok(dir) => {
            println!("fused models are kept in {}", dir.join("models").display());
            println!("built engines are kept in {}", dir.join("engines").display());
        }
        Err(e) => println!("fused models cannot be kept: {e}"),
    }
    println!("\nengines");
    for (engine, found, troubles) in &engines {
        match found {
            Ok(found) => {
                // Its libraries load, but what it runs on may not be there.
                let mark = if troubles.is_empty() { "✓" } else { "!" };
                println!("  {mark} {:12} {}", engine.full_name(), shown(**engine, found));
            }
            Err(e) if troubles.is_empty() => {
                println!("  ✗ {:12} {e}", engine.full_name());
                println!("    → {}", remedy(engine.name()));
            }
            // What does not fit says it better than where was looked.
            Err(e) => println!("  ✗ {:12} {}", engine.full_name(), first_line(e)),
        }
        for trouble in troubles {
            println!("    • {}\n      → {}", trouble.what, trouble.next);
        }
    }
    println!("\nsources");
    source::SOURCES.iter().for_each(|s| println!("  {}", s.usage));
    println!("\nsinks");
    let rows: Vec<_> = sink::SINKS.iter().map(|s| vec![s.name.to_owned(), s.writes.to_owned()]).collect();
    print!("{}", table::render(&rows, &[]));
    Ok(())
}

fn first_line(e: &Error) -> String {
    e.to_string().lines().next().unwrap_or_default().trim_end_matches(':').to_owned()
}

/// Bytes of main memory, where the system tells.
fn memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}
