//! What this machine has: driver, GPU, Jetson release, libraries. Read from files below a root.

use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use super::facts::OFF_THE_PATH;

/// A file of the system that is read whole is at most this long.
const MOST: u64 = 1 << 16;

/// A machine, as its files tell.
pub struct Host {
    /// `/` but in tests.
    pub root: PathBuf,
    /// In Rust's word, for example `aarch64`.
    pub arch: &'static str,
    /// `LD_LIBRARY_PATH`, if set.
    pub told: Vec<PathBuf>,
}

/// A release of Linux for Tegra; zeroes if the file does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L4t {
    pub major: u32,
    pub minor: u32,
}

impl Host {
    /// This one.
    pub fn this() -> Self {
        let told = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let told = std::env::split_paths(&told).filter(|p| !p.as_os_str().is_empty()).collect();
        Self { root: "/".into(), arch: std::env::consts::ARCH, told }
    }

    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path.as_ref().strip_prefix("/").unwrap_or(path.as_ref()))
    }

    fn read(&self, path: &str) -> Option<String> {
        let mut bytes = Vec::new();
        fs::File::open(self.at(path)).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The version of the NVIDIA driver that the kernel has loaded, for example `580.65.06`.
    pub fn driver(&self) -> Option<String> {
        let text = self.read("/proc/driver/nvidia/version")?;
        let line = text.lines().find(|l| l.starts_with("NVRM"))?;
        let is_version = |word: &&str| {
            word.contains('.') && word.split('.').all(|part| !part.is_empty() && part.parse::<u32>().is_ok())
        };
        line.split_whitespace().find(is_version).map(str::to_owned)
    }

    /// Whether a display or compute device of NVIDIA's is on the PCI bus.
    pub fn has_gpu(&self) -> bool {
        let devices = fs::read_dir(self.at("/sys/bus/pci/devices")).into_iter().flatten().flatten();
        devices.map(|device| device.path()).any(|device| {
            let is = |file: &str, start: &str| {
                fs::read_to_string(device.join(file)).is_ok_and(|text| text.trim().starts_with(start))
            };
            is("vendor", "0x10de") && (is("class", "0x03") || is("class", "0x12"))
        })
    }

    /// The release, if this is a Jetson.
    pub fn jetson(&self) -> Option<L4t> {
        // `# R36 (release), REVISION: 4.3, GCID: …`
        if let Some(text) = self.read("/etc/nv_tegra_release") {
            let after = |key: &str| {
                let rest = &text[text.find(key)? + key.len()..];
                rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
            };
            return Some(L4t { major: after("# R").unwrap_or(0), minor: after("REVISION: ").unwrap_or(0) });
        }
        let tree = self
            .read("/proc/device-tree/compatible")
            .or_else(|| self.read("/sys/firmware/devicetree/base/compatible"))?;
        let tegra = |name: &str| name.starts_with("nvidia,tegra") || name.starts_with("nvidia,p3");
        tree.split('\0').any(tegra).then_some(L4t { major: 0, minor: 0 })
    }

    /// The folders that the loader searches for a library with these `own` ones, as far as they exist.
    pub fn folders(&self, own: &[PathBuf]) -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = own.iter().chain(&self.told).cloned().collect();
        let mut files: Vec<PathBuf> = vec![self.at("/etc/ld.so.conf")];
        let more = fs::read_dir(self.at("/etc/ld.so.conf.d")).into_iter().flatten().flatten();
        files.extend(more.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "conf")));
        for file in files {
            let text = fs::read_to_string(file).unwrap_or_default();
            let lines = text.lines().map(str::trim).filter(|line| line.starts_with('/'));
            all.extend(lines.map(|line| self.at(line)));
        }
        let triple = format!("{}-linux-gnu", self.arch);
        for folder in ["/lib", "/usr/lib", "/lib64", "/usr/lib64"] {
            all.push(self.at(folder).join(&triple));
            all.push(self.at(folder));
        }
        all.retain(|folder| folder.is_dir());
        all
    }

    /// Folders that the loader need not search, but NVIDIA's installers fill.
    pub fn off_the_path(&self) -> Vec<PathBuf> {
        let all = OFF_THE_PATH.iter().flat_map(|pattern| self.matching(pattern));
        all.filter(|folder| folder.is_dir()).collect()
    }

    /// The paths that fit `pattern`, in which one part may hold one `*`; the higher name first.
    fn matching(&self, pattern: &str) -> Vec<PathBuf> {
        let Some((before, after)) = pattern.split_once('*') else { return vec![self.at(pattern)] };
        let (folder, start) = before.rsplit_once('/').unwrap_or(("", before));
        let entries = fs::read_dir(self.at(folder)).into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> = entries
            .filter(|e| e.file_name().to_string_lossy().starts_with(start))
            .map(|e| e.path().join(after.trim_start_matches('/')))
            .collect();
        found.sort();
        found.reverse();
        found
    }
}

/// The file called `soname` in the first of `folders` that has it.
pub fn find(folders: &[PathBuf], soname: &str) -> Option<PathBuf> {
    folders.iter().map(|folder| folder.join(soname)).find(|path| path.exists())
}

/// Other versions of the library called `soname` in `folders`, the shortest name of each: `libcudnn.so.8`.
pub fn others(folders: &[PathBuf], soname: &str) -> BTreeSet<PathBuf> {
    let Some((stem, _)) = soname.split_once(".so") else { return BTreeSet::new() };
    let start = format!("{stem}.so.");
    let mut found = BTreeSet::new();
    for folder in folders {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(version) = name.strip_prefix(&start) else { continue };
            let major = version.split('.').next().unwrap_or(version);
            let short = format!("{start}{major}");
            if short != soname && !soname.starts_with(&format!("{short}.")) {
                found.insert(folder.join(short));
            }
        }
    }
    found
}
