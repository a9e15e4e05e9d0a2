//! Which device this is, with its driver, as the system tells.

use std::{collections::BTreeMap, fs, path::Path};

use tapetum_runtime::{Error, ErrorKind, Result, backend::Device};

/// Flags of an x86 processor that code is generated for.
const INSTRUCTIONS: &[&str] = &["sse", "ssse", "avx", "amx", "fma", "f16c", "bmi"];

/// What tells `device` from others of its kind; files are below `root`.
///
/// # Errors
/// [`ErrorKind::Environment`] if the system does not tell.
pub fn identity(device: &Device, root: &Path) -> Result<BTreeMap<String, String>> {
    let (fields, missing) = match device {
        Device::Cpu => (processor(root), "/proc/cpuinfo names no processor"),
        Device::Nvidia(number) => {
            (nvidia(root, *number), "neither /proc/driver/nvidia nor /etc/nv_tegra_release is there")
        }
        Device::Intel(name) => (intel(root, name), "/proc/sys/kernel/osrelease cannot be read"),
    };
    fields
        .map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
        .ok_or_else(|| Error::new(ErrorKind::Environment, format!("the device cannot be told: {missing}")))
}

type Fields = Vec<(&'static str, String)>;

/// The model of the processor and the instructions that it has.
fn processor(root: &Path) -> Option<Fields> {
    let text = read(root, "proc/cpuinfo")?;
    let field = |names: &[&str]| {
        text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            names.contains(&name.trim()).then(|| value.trim().to_owned())
        })
    };
    let flags = field(&["flags", "Features"])?;
    // On Arm there is no such prefix, and few flags: all are taken.
    let x86 = field(&["flags"]).is_some();
    let mut flags: Vec<&str> = flags
        .split_whitespace()
        .filter(|flag| !x86 || INSTRUCTIONS.iter().any(|begin| flag.starts_with(begin)))
        .collect();
    flags.sort_unstable();
    let name = field(&["model name", "CPU part"])?;
    Some(vec![("cpu", name), ("instructions", flags.join(" "))])
}

/// Driver and GPUs; on a Jetson the release of its system. All GPUs are named, since the number of one depends on the
/// others.
fn nvidia(root: &Path, number: usize) -> Option<Fields> {
    let first = |path| read(root, path)?.lines().next().map(str::to_owned);
    let driver = first("proc/driver/nvidia/version");
    let jetson = first("etc/nv_tegra_release");
    if driver.is_none() && jetson.is_none() {
        return None;
    }
    let mut gpus: Vec<String> = fs::read_dir(root.join("proc/driver/nvidia/gpus"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path().join("information")).ok()?;
            let line = text.lines().find(|line| line.starts_with("Model:"))?;
            let bus = entry.file_name().to_string_lossy().into_owned();
            Some(format!("{bus} {}", line.trim_start_matches("Model:").trim()))
        })
        .collect();
    gpus.sort();
    if let Some(board) = read(root, "proc/device-tree/model") {
        gpus.push(board.trim_end_matches('\0').to_owned());
    }
    let mut fields = vec![("gpu", number.to_string()), ("gpus", gpus.join("; "))];
    fields.extend(driver.map(|line| ("driver", line)));
    fields.extend(jetson.map(|line| ("jetson", line)));
    Some(fields)
}

/// The PCI numbers of Intel's devices and the kernel, whose drivers they run on.
fn intel(root: &Path, name: &str) -> Option<Fields> {
    let kernel = read(root, "proc/sys/kernel/osrelease")?.trim().to_owned();
    let mut found = Vec::new();
    for class in ["sys/class/drm", "sys/class/accel"] {
        for entry in fs::read_dir(root.join(class)).into_iter().flatten().flatten() {
            let id = |file: &str| fs::read_to_string(entry.path().join("device").join(file)).ok();
            if let (Some(vendor), Some(device)) = (id("vendor"), id("device")) {
                found.push(format!("{}:{}", vendor.trim(), device.trim()));
            }
        }
    }
    found.sort();
    found.dedup();
    Some(vec![("device", name.to_owned()), ("pci", found.join(" ")), ("kernel", kernel)])
}

fn read(root: &Path, path: &str) -> Option<String> {
    fs::read_to_string(root.join(path)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn an_nvidia_driver_and_its_gpus_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        let told = || identity(&Device::Nvidia(0), root.path());
        assert!(told().unwrap_err().to_string().contains("nv_tegra_release"));
        write(root.path(), "proc/driver/nvidia/version", "NVRM version: NVIDIA 550.54.14\nGCC version: 12\n");
        let information = "Model: \t\t NVIDIA H100\nIRQ: 5\n";
        write(root.path(), "proc/driver/nvidia/gpus/0000:01:00.0/information", information);
        let before = told().unwrap();
        assert_eq!(before["driver"], "NVRM version: NVIDIA 550.54.14");
        assert_eq!(before["gpus"], "0000:01:00.0 NVIDIA H100");
        write(root.path(), "proc/driver/nvidia/version", "NVRM version: NVIDIA 570.1\n");
        assert_ne!(told().unwrap(), before);
        assert_ne!(identity(&Device::Nvidia(1), root.path()).unwrap(), told().unwrap());
    }

    #[test]
    fn a_jetson_is_told_by_its_release() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "etc/nv_tegra_release", "# R36 (release), REVISION: 4.3\n");
        write(root.path(), "proc/device-tree/model", "NVIDIA Jetson Orin Nano\0");
        let told = identity(&Device::Nvidia(0), root.path()).unwrap();
        assert_eq!(told["jetson"], "# R36 (release), REVISION: 4.3");
        assert_eq!(told["gpus"], "NVIDIA Jetson Orin Nano");
    }

    #[test]
    fn a_processor_is_its_model_and_its_instructions() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            "proc/cpuinfo",
            "model name\t: AMD EPYC\nflags\t\t: fpu avx2 sse4_2 avx avx512f\n",
        );
        let told = identity(&Device::Cpu, root.path()).unwrap();
        assert_eq!((&*told["cpu"], &*told["instructions"]), ("AMD EPYC", "avx avx2 avx512f sse4_2"));
        write(root.path(), "proc/cpuinfo", "CPU part\t: 0xd42\nFeatures\t: fp asimd\n");
        let told = identity(&Device::Cpu, root.path()).unwrap();
        assert_eq!((&*told["cpu"], &*told["instructions"]), ("0xd42", "asimd fp"));
    }
}
