//! Profiles of boards: read, found by name, told from the machine itself.

use std::{collections::BTreeMap, env::consts::ARCH, fmt::Write, path::Path};

use tapetum_runtime::{
    Error, Result,
    settings::{Reader, hint},
};

use crate::files;

/// A machine as its profile describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Board {
    /// As in configurations: `orin-nano`.
    pub name: String,
    /// For people.
    pub description: String,
    /// The processor, as [`std::env::consts::ARCH`] names it.
    pub arch: String,
    /// Names in the device tree's list, any one of which tells this board. None: any machine of its processor.
    pub compatible: Vec<String>,
    /// Engines to try, in order, as in `--engine`.
    pub engines: Vec<String>,
    /// Threads for the engines; `None`: as many as there are cores.
    pub threads: Option<usize>,
    /// Names of power modes, the first that the release has; see [`crate::mode_number`]. None: it has no such modes.
    pub power_modes: Vec<String>,
    /// Device nodes beside cameras; one that ends with `/*` is every node of a folder.
    pub nodes: Vec<String>,
    /// By the type of thermal zone.
    pub thermal: BTreeMap<String, Limits>,
}

/// Limits of a thermal zone, in degrees Celsius.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// From here on somebody should hear of it.
    pub warm: f32,
    /// From here on the machine slows down.
    pub hot: f32,
}

/// Every profile, with its file's name.
const PROFILES: [(&str, &str); 5] = [
    ("orin-nano", include_str!("../boards/orin-nano.toml")),
    ("orin-nx", include_str!("../boards/orin-nx.toml")),
    ("agx-orin", include_str!("../boards/agx-orin.toml")),
    ("generic-x86", include_str!("../boards/generic-x86.toml")),
    ("generic-arm64", include_str!("../boards/generic-arm64.toml")),
];

const KEYS: [&str; 9] =
    ["name", "description", "arch", "compatible", "engines", "threads", "power_modes", "nodes", "thermal"];

impl Board {
    /// Names of all profiles.
    pub fn names() -> Vec<&'static str> {
        PROFILES.iter().map(|(name, _)| *name).collect()
    }

    /// The profile `name`.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::InvalidConfig`] naming the nearest, if there is none.
    pub fn by_name(name: &str) -> Result<Self> {
        let names = Self::names();
        match PROFILES.iter().find(|(n, _)| *n == name) {
            Some((name, text)) => Self::read(text, &format!("{name}.toml")),
            None => Err(Error::config(format!("unknown board {name:?}{}", hint(name, &names)))),
        }
    }

    /// The profile of the machine whose files lie below `root` (`/` for this one): by `sys/firmware/devicetree/base/compatible`,
    /// and where none knows a name in it, the generic one of this program's processor.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::Unsupported`] on a processor without a profile.
    pub fn detect(root: &Path) -> Result<Self> {
        Self::detect_on(root, ARCH)
    }

    /// [`Board::detect`] on a machine with the processor `arch`.
    ///
    /// # Errors
    /// As there.
    pub fn detect_on(root: &Path, arch: &str) -> Result<Self> {
        let tree = files::read(&root.join("sys/firmware/devicetree/base/compatible")).unwrap_or_default();
        let mut generic = None;
        for (name, text) in PROFILES {
            let board = Self::read(text, &format!("{name}.toml"))?;
            let known = |name: &[u8]| board.compatible.iter().any(|c| c.as_bytes() == name);
            if tree.split(|byte| *byte == 0).any(known) {
                return Ok(board);
            }
            if board.compatible.is_empty() && board.arch == arch {
                generic = Some(board);
            }
        }
        generic.ok_or_else(|| {
            let names = Self::names().join(", ");
            Error::unsupported(format!("no board profile for the processor {arch}; there are {names}"))
        })
    }

    /// Reads a profile; mistakes name `file`.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::InvalidConfig`] with every mistake and its place.
    pub fn read(text: &str, file: &str) -> Result<Self> {
        let mut r = Reader::new(text, file);
        let root = r.parse(&KEYS);
        let mut word = |key: &str| r.required(&root, key, Reader::string).unwrap_or_default();
        let (name, description, arch) = (word("name"), word("description"), word("arch"));
        let engines = r.required(&root, "engines", Reader::strings).unwrap_or_default();
        if engines.is_empty() {
            r.note(root.place("engines"), "engines must name one at least");
        }
        let threads = r.count(&root, "threads");
        if threads == Some(0) {
            r.note(
                root.place("threads"),
                "threads must be 1 at least; leave it out for as many as there are cores",
            );
        }
        let mut words = |key: &str| r.words(&root, key).unwrap_or_default();
        let (compatible, power_modes, nodes) = (words("compatible"), words("power_modes"), words("nodes"));
        for (at, node) in &nodes {
            let path = node.strip_suffix("/*").unwrap_or(node);
            let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
            if !path.starts_with("/dev/") || path.contains("..") || !path.chars().all(plain) {
                r.note(*at, format!("{node:?} is no device node, such as /dev/nvmap or /dev/dri/*"));
            }
        }
        let mut thermal = BTreeMap::new();
        for (zone, table) in r.tables(&root, "thermal", &["warm", "hot"]) {
            let warm = r.required(&table, "warm", Reader::number);
            let hot = r.required(&table, "hot", Reader::number);
            let Some((warm, hot)) = warm.zip(hot) else { continue };
            if !(0.0 < warm && warm <= hot && hot <= 150.0) {
                r.note(table.place("warm"), format!("{zone}: 0 < warm <= hot <= 150 °C must hold"));
            }
            thermal.insert(zone, Limits { warm, hot });
        }
        r.finish()?;
        let plain = |words: Vec<(usize, String)>| words.into_iter().map(|(_, word)| word).collect();
        let [compatible, power_modes, nodes] = [compatible, power_modes, nodes].map(plain);
        Ok(Self { name, description, arch, compatible, engines, threads, power_modes, nodes, thermal })
    }

    /// Those of the profile's nodes that are there below `root`, as absolute paths; stars are resolved.
    pub fn nodes_below(&self, root: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for node in &self.nodes {
            match node.strip_suffix("/*") {
                Some(folder) => {
                    let names = files::entries(&root.join(folder.trim_start_matches('/')), "");
                    let files = names.iter().filter(|path| !path.is_dir());
                    found
                        .extend(files.filter_map(|p| Some(format!("{folder}/{}", p.file_name()?.to_str()?))));
                }
                None if root.join(node.trim_start_matches('/')).exists() => found.push(node.clone()),
                None => {}
            }
        }
        found
    }

    /// What the daemon's unit must be told so that it may use this board's devices: a systemd drop-in, or nothing if there are none.
    pub fn drop_in(&self, root: &Path) -> Option<String> {
        let nodes = self.nodes_below(root);
        if nodes.is_empty() {
            return None;
        }
        let mut text = format!("# Made from the board profile {}.\n[Service]\n", self.name);
        for node in nodes {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "DeviceAllow={node} rw");
        }
        Some(text)
    }
}
