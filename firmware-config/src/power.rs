//! Power modes: which one the machine is in, and what number a Jetson gives to one.

use std::path::Path;

use tapetum_runtime::{Error, Result};

use crate::files;

/// The power mode of the machine whose files lie below `root`, by its own name: on a Jetson what `nvpmodel` last set, on a PC the
/// firmware's profile, elsewhere the governor of the first core. `None` where there is nothing of the kind, as in a virtual machine.
pub fn power_mode(root: &Path) -> Option<String> {
    nvpmodel(root).or_else(|| files::line(&root.join("sys/firmware/acpi/platform_profile"))).or_else(|| {
        let governor = files::line(&root.join("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"))?;
        Some(format!("governor {governor}"))
    })
}

/// `pmode:0002` in the file that nvpmodel keeps, named by its configuration.
fn nvpmodel(root: &Path) -> Option<String> {
    let status = files::line(&root.join("var/lib/nvpmodel/status"))?;
    let word = status.split_whitespace().find_map(|word| word.strip_prefix("pmode:"))?;
    let number: u32 = word.parse().ok()?;
    let conf = files::read(&root.join("etc/nvpmodel.conf")).unwrap_or_default();
    let conf = String::from_utf8_lossy(&conf);
    let name = conf.lines().filter_map(mode).find(|(_, n)| *n == number).map(|(name, _)| name.to_owned());
    Some(name.unwrap_or_else(|| format!("mode {number}")))
}

/// The number that `conf` (the text of `/etc/nvpmodel.conf`) gives to the first of `names` that it has. Modes are known by their
/// names, as their numbers differ from module to module and from release to release.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::Environment`] with the names that there are, if it has none of them.
pub fn mode_number(conf: &str, names: &[String]) -> Result<u32> {
    let modes: Vec<(&str, u32)> = conf.lines().filter_map(mode).collect();
    let number = |name: &String| modes.iter().find(|(n, _)| n == name).map(|(_, number)| *number);
    names.iter().find_map(number).ok_or_else(|| {
        let there: Vec<&str> = modes.iter().map(|(name, _)| *name).collect();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        let what = format!("no power mode {}; the machine has {there}", names.join(" or "));
        Error::new(tapetum_runtime::ErrorKind::Environment, what)
    })
}

/// The name and number of `< POWER_MODEL ID=0 NAME=MAXN >`.
fn mode(line: &str) -> Option<(&str, u32)> {
    let inside = line.trim().strip_prefix('<')?.split('>').next()?;
    let mut words = inside.split_whitespace();
    if words.next()? != "POWER_MODEL" {
        return None;
    }
    let (mut name, mut number) = (None, None);
    for word in words {
        match word.split_once('=')? {
            ("ID", value) => number = value.parse().ok(),
            ("NAME", value) => name = Some(value),
            _ => {}
        }
    }
    name.zip(number)
}
