//! Prints what restoring one large picture takes, whole and in tiles, each in a process of its own; and how far the tiles'
//! picture is from the whole one.
//!
//! `cargo run --release -p tapetum-tests --bin restore-memory -- MODEL PICTURE [TILE…]`

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use tapetum::source::images;
use tapetum_runtime::backend::BACKENDS;
use tapetum_runtime::quality::psnr;
use tapetum_runtime::{Error, Image, Result};
use tapetum_tests::restoration::{pipeline, restore};

/// Tells a child what to do; followed by model, picture, engine, stage keys and output.
const CHILD: &str = "--one";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [child, model, picture, engine, keys, out] if child == CHILD => {
            one(Path::new(model), picture, engine, keys, Path::new(out))
        }
        [model, picture, tiles @ ..] => table(model, picture, tiles),
        _ => Err(Error::config("usage: restore-memory MODEL PICTURE [TILE…]")),
    }
}

fn table(model: &str, picture: &str, tiles: &[String]) -> Result<()> {
    let mut shown = Image::default();
    images::read(Path::new(picture), &mut shown)?;
    let folder = tempfile::tempdir().map_err(failed)?;
    println!(
        "{}×{}, peak beyond what the process takes before it loads the model\n",
        shown.width(),
        shown.height()
    );
    println!("| engine | | peak, MiB | seconds | PSNR to the whole, dB |\n|---|---|---|---|---|");
    for engine in BACKENDS.iter().filter(|b| b.probe().is_ok()) {
        let ways = std::iter::once(("whole".to_owned(), "memory_mib = 1000000".to_owned()))
            .chain(tiles.iter().map(|side| (format!("tiles of {side}"), format!("tile = {side}"))));
        let mut whole: Option<Image> = None;
        for (n, (name, keys)) in ways.enumerate() {
            let out = folder.path().join(format!("{n}.png"));
            let told = child(model, picture, engine.name(), &keys, &out)?;
            let mut made = Image::default();
            images::read(&out, &mut made)?;
            let near = match &whole {
                None => "–".to_owned(),
                Some(whole) => format!("{:.1}", psnr(whole, &made)?),
            };
            whole.get_or_insert(made);
            println!("| {} | {name} | {told} | {near} |", engine.full_name());
        }
    }
    Ok(())
}

/// What the child says: peak and seconds as cells of the table.
fn child(model: &str, picture: &str, engine: &str, keys: &str, out: &Path) -> Result<String> {
    let program: PathBuf = std::env::current_exe().map_err(failed)?;
    let run = Command::new(program)
        .args([CHILD, model, picture, engine, keys])
        .arg(out)
        .output()
        .map_err(failed)?;
    match run.status.success() {
        true => Ok(String::from_utf8_lossy(&run.stdout).trim().to_owned()),
        false => Err(Error::internal(format!("{engine}, {keys}: {}", String::from_utf8_lossy(&run.stderr)))),
    }
}

fn one(model: &Path, picture: &str, engine: &str, keys: &str, out: &Path) -> Result<()> {
    let before = memory("VmRSS")?;
    let start = Instant::now();
    let made =
        restore(&pipeline(model, keys)?, engine, picture)?.frames.remove(0).map_err(Error::internal)?;
    let seconds = start.elapsed().as_secs_f64();
    let peak = memory("VmHWM")? - before;
    let (width, height) = (made.image.width() as u32, made.image.height() as u32);
    image::save_buffer(out, made.image.data(), width, height, image::ExtendedColorType::Rgb8)
        .map_err(|e| Error::internal(e.to_string()))?;
    println!("{peak:.0} | {seconds:.1}");
    Ok(())
}

/// A line of `/proc/self/status`, in MiB.
fn memory(key: &str) -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/status").map_err(failed)?;
    let line = text.lines().find(|line| line.starts_with(key));
    let value = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    value.map(|kib| kib / 1024.0).ok_or_else(|| Error::internal(format!("/proc/self/status has no {key}")))
}

fn failed(e: std::io::Error) -> Error {
    Error::internal(e.to_string()).caused_by(e)
}
