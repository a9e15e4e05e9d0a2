//! How memory is taken from the system, for a process that runs for months.

/// Blocks from this size on are the system's own, and go back to it at once.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: i32 = 32 << 10;
/// Heaps that threads share.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS: i32 = 2;

/// Keeps frames and encoded pictures out of the heaps. glibc would move its bound up to what was freed last (a frame, a decoder's
/// pictures), keep such blocks in up to eight heaps per core, and take more whenever one is in pieces: with eight cameras 1 MiB a
/// minute for a long time; with a bound of 256 KiB and four heaps still 0.1 MiB. To be called before there are threads.
pub fn settle() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets two numbers of the allocator; what it does not know it ignores.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_ARENA_MAX, HEAPS);
    }
}
