//! Which machine timings belong to.

use std::num::NonZero;

use serde::{Deserialize, Serialize};

/// What times depend on besides model, engine and threads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Processor, as the system calls it.
    pub cpu: String,
    /// Instruction set, for example `x86_64`.
    pub arch: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// GPUs that the system lists, in its order.
    pub gpus: Vec<String>,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            cpu: cpu(&read("/proc/cpuinfo"), &read("/proc/device-tree/model")),
            arch: std::env::consts::ARCH.to_owned(),
            cores: std::thread::available_parallelism().map_or(1, NonZero::get),
            gpus: gpus(),
        }
    }
}

/// The processor's name; on ARM, which has none there, the board's and the core's numbers.
fn cpu(cpuinfo: &str, board: &str) -> String {
    let value = |key: &str| {
        let mut lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
    };
    if let Some(name) = value("model name") {
        return name;
    }
    let board = board.trim_end_matches('\0').trim();
    let numbers = ["CPU implementer", "CPU part", "CPU variant"].into_iter().filter_map(value);
    let parts: Vec<String> =
        [board.to_owned()].into_iter().chain(numbers).filter(|p| !p.is_empty()).collect();
    if parts.is_empty() { "unknown".to_owned() } else { parts.join(" ") }
}

/// NVIDIA's driver lists its GPUs as files; of others nothing is known that identifies them.
fn gpus() -> Vec<String> {
    let folder = std::fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let mut files: Vec<_> = folder.map(|entry| entry.path().join("information")).collect();
    files.sort();
    files.iter().filter_map(|file| gpu(&std::fs::read_to_string(file).ok()?)).collect()
}

fn gpu(information: &str) -> Option<String> {
    let line = information.lines().find_map(|line| line.strip_prefix("Model:"))?;
    Some(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_named_by_what_the_system_tells() {
        let intel = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon Example @ 2.0GHz\n";
        assert_eq!(cpu(intel, ""), "Xeon Example @ 2.0GHz");
        let arm = "processor\t: 0\nCPU implementer\t: 0x41\nCPU variant\t: 0x1\nCPU part\t: 0xd42\n";
        assert_eq!(cpu(arm, "Some Board\0"), "Some Board 0x41 0xd42 0x1");
        assert_eq!(cpu("", ""), "unknown");
        assert_eq!(gpu("Model: \t\t Example GPU\nIRQ: 1\n").as_deref(), Some("Example GPU"));
        assert_eq!(gpu("IRQ: 1\n"), None);
    }
}
