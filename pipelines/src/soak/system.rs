//! What the kernel says of the daemon's process and of the machine.

use std::{fs, time::Duration};

use serde::Serialize;

/// The process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Process {
    /// Resident memory, in KiB.
    pub rss_kib: u64,
    /// Its share of memory (what others map, too, is divided among them), in KiB.
    pub pss_kib: u64,
    /// Open files and sockets.
    pub files: u64,
    /// Threads.
    pub threads: u64,
    /// CPU time so far, in seconds.
    pub cpu_s: f64,
}

impl Process {
    /// Of the process `pid`; `None` where it is not there, or the system has no `/proc`.
    pub fn of(pid: u32) -> Option<Self> {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        let status = read("status")?;
        // Of a kernel without it, nothing is said of shares.
        let rollup = read("smaps_rollup").unwrap_or_default();
        Some(Self {
            rss_kib: field(&status, "VmRSS:")?,
            pss_kib: field(&rollup, "Pss:").unwrap_or(0),
            files: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64,
            threads: field(&status, "Threads:")?,
            cpu_s: ticks(&read("stat")?)? as f64 / per_second(),
        })
    }
}

/// The first number behind `name`.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// User and system time of `/proc/PID/stat`. The name in it, in parentheses, may hold spaces.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

/// CPU time of all processes so far, in seconds.
pub(super) fn busy() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).map_while(|n| n.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq; time of guests is in the first two already.
    let busy: u64 = [0, 1, 2, 5, 6].iter().filter_map(|at| ticks.get(*at)).sum();
    Duration::from_secs_f64(busy as f64 / per_second())
}

fn per_second() -> f64 {
    // SAFETY: a plain query.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    if ticks > 0 { ticks as f64 } else { 100.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let now = Process::of(std::process::id()).unwrap();
        assert!(now.rss_kib > 500 && now.files > 2 && now.threads >= 1, "{now:?}");
        assert!(busy() > Duration::ZERO);
        assert_eq!(Process::of(u32::MAX), None);
    }

    #[test]
    fn a_name_with_a_parenthesis_does_not_hide_the_time() {
        assert_eq!(ticks("7 (a) b) S 1 7 7 0 -1 4194304 99 0 0 0 250 50 0 0 20 0 9 0 1 2 3"), Some(300));
        assert_eq!(ticks("7 (a"), None);
    }
}
