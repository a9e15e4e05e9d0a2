//! Main memory that something takes in this process. What lies in a GPU's memory is not seen.

use std::fs;

/// The process before it, as the system tells.
pub struct Watch {
    before: u64,
    /// Whether the system's peak counts from here.
    from_here: bool,
}

/// Resident bytes more than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// That are kept.
    pub kept: u64,
    /// At most meanwhile, where the system tells.
    pub peak: Option<u64>,
}

impl Watch {
    /// Begins; `None` where the system does not tell (it is Linux that does).
    pub fn start() -> Option<Self> {
        give_back();
        // `5` sets the peak to what is resident now; not every container allows it.
        let from_here = fs::write("/proc/self/clear_refs", "5").is_ok();
        Some(Self { before: status("VmRSS:")?, from_here })
    }

    /// What was taken since.
    pub fn taken(&self) -> Option<Taken> {
        let peak = status("VmHWM:").filter(|_| self.from_here);
        give_back();
        let kept = status("VmRSS:")?.saturating_sub(self.before);
        Some(Taken { kept, peak: peak.map(|peak| peak.saturating_sub(self.before).max(kept)) })
    }
}

/// A line of the process's status, in bytes.
fn status(key: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Has the allocator return what it holds free, which is nobody's.
fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the function may be called at any time from any thread; it touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_and_what_was_let_go_are_told_apart() {
        const MIB: usize = 1 << 20;
        let watch = Watch::start().unwrap();
        let kept = vec![1u8; 32 * MIB];
        drop(std::hint::black_box(vec![1u8; 64 * MIB]));
        let taken = watch.taken().unwrap();
        // Other tests run beside this one.
        assert!(taken.kept >= 24 * MIB as u64, "{taken:?}");
        assert!(taken.peak.is_none_or(|peak| peak >= 80 * MIB as u64), "{taken:?}");
        assert_eq!(std::hint::black_box(kept).len(), 32 * MIB);
    }
}
