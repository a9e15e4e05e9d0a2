//! What the machine can do, found by asking for more until no more comes.

use std::{collections::BTreeMap, time::Duration};

use tapetum_runtime::{Error, Result};

use super::{Options, Overload, Scratch, Step, watch_site};
use crate::site::config::SiteFile;

/// Of each step.
const WARM_UP: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(10);
/// More than this share of what came before is more.
const GAIN: f64 = 1.05;
const MOST_STEPS: usize = 10;

/// Doubles what every camera asks for until no more is delivered; then the rates that are `times` the most that was. Each
/// camera asks for the same share, so that each is due the same.
///
/// # Errors
/// A camera that is no loop, a daemon that does not run, loops so slow that the most was not found.
pub(super) fn overload(
    options: &Options,
    site: &SiteFile,
    own: &BTreeMap<String, f64>,
    times: f64,
    scratch: &Scratch,
    tell: &mut dyn FnMut(&str),
) -> Result<Overload> {
    let equal = |total: f64| -> BTreeMap<String, f64> {
        let each = total / site.cameras.len() as f64;
        site.cameras.iter().map(|camera| (camera.name.clone(), each)).collect()
    };
    let first: f64 = site.cameras.iter().map(|camera| own.get(&camera.name).copied().unwrap_or(1.0)).sum();
    let (mut steps, mut best): (Vec<Step>, f64) = (Vec::new(), 0.0);
    let mut found = false;
    for n in 0..MOST_STEPS {
        let asked = first * f64::powi(2.0, n as i32 - 1);
        let watched = watch_site(options, Some(&equal(asked)), scratch, [WARM_UP, MEASURED], tell)?;
        let delivered = match (watched.samples.first(), watched.samples.last()) {
            (Some(from), Some(to)) if to.at > from.at => {
                let sum = |s: &super::Sample| s.seen.cameras.iter().map(|c| c.frames.delivered).sum::<u64>();
                sum(to).saturating_sub(sum(from)) as f64 / (to.at - from.at)
            }
            _ => 0.0,
        };
        tell(&format!("asked for {asked:.0} frames/s in all: {delivered:.1} are delivered"));
        steps.push(Step { asked_fps: asked, delivered_fps: delivered });
        if delivered <= best * GAIN {
            (best, found) = (best.max(delivered), true);
            break;
        }
        best = delivered;
    }
    if !found {
        let what = format!(
            "{best:.0} frames/s were not the most that this machine can do; give the loops a higher fps"
        );
        return Err(Error::config(what));
    }
    tell(&format!("the most is {best:.1} frames/s; {times} times that is asked for"));
    let total = best * times;
    Ok(Overload { times, steps, capacity_fps: best, asked_fps: total, rates: equal(total) })
}
