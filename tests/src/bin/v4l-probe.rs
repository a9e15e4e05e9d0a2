//! Reads frames of a camera and says what came, on one line: for the device suite, where the kernel's virtual camera stands in.
//!
//! `v4l-probe SPEC FRAMES` with the spec of any source, as `v4l2:/dev/video0?size=640x360&fps=30`. Exit code 1 if the source fails.

use std::time::{Duration, Instant};

use tapetum::source::{self, Next};
use tapetum_runtime::{Error, Frame, Result};

fn main() -> std::process::ExitCode {
    match probe() {
        Ok(line) => {
            println!("{line}");
            std::process::ExitCode::SUCCESS
        }
        Err(e) => {
            println!("V4L-PROBE failed: {e}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn probe() -> Result<String> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let usage = || Error::config("usage: v4l-probe SPEC FRAMES");
    let [spec, frames] = &args[..] else { return Err(usage()) };
    let frames: u64 = frames.parse().ok().filter(|n| *n > 1).ok_or_else(usage)?;
    let mut source = source::open(spec)?;
    for remark in source.remarks() {
        println!("V4L-PROBE {}: {remark}", source.info().name);
    }
    let mut frame = Frame::default();
    let (mut read, mut unreadable, mut luma) = (0u64, 0u64, 0.0);
    let (mut begun, mut first, mut oldest) = (Instant::now(), Duration::ZERO, Duration::ZERO);
    while read < frames {
        match source.next(&mut frame)? {
            Next::Frame => {
                if read == 0 {
                    // The first frame waits for the camera to start.
                    (begun, first) = (Instant::now(), frame.pts);
                }
                read += 1;
                luma += mean_luma(&frame);
                oldest = oldest.max(frame.captured.and_then(|at| at.elapsed().ok()).unwrap_or_default());
            }
            Next::Unreadable(e) => {
                unreadable += 1;
                println!("V4L-PROBE unreadable: {e}");
                if unreadable > frames {
                    return Err(Error::bad_input("more frames that cannot be read than that can"));
                }
            }
            Next::Idle => {}
            Next::End => break,
        }
    }
    let intervals = read.saturating_sub(1) as f64;
    let (wall, stamped) = (begun.elapsed(), frame.pts.saturating_sub(first));
    let (faults, stamps) = (source.sequence(), source.stamps());
    Ok(format!(
        "V4L-PROBE ok size={}x{} frames={read} unreadable={unreadable} last_seq={} fps={:.2} fps_by_stamps={:.2} \
         skipped={} repeated={} restarted={} stamps_missing={} stamps_backwards={} oldest_ms={:.1} luma={:.2}",
        frame.image.width(),
        frame.image.height(),
        frame.seq,
        intervals / wall.as_secs_f64(),
        intervals / stamped.as_secs_f64(),
        faults.skipped,
        faults.repeated,
        faults.restarted,
        stamps.missing,
        stamps.backwards,
        oldest.as_secs_f64() * 1e3,
        luma / read.max(1) as f64,
    ))
}

/// Mean of all samples, which is what a test can hold against the camera's pattern.
fn mean_luma(frame: &Frame) -> f64 {
    let sum: u64 = frame.image.data().iter().map(|v| u64::from(*v)).sum();
    sum as f64 / frame.image.data().len().max(1) as f64
}
