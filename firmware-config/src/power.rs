//! Power modes of Jetson boards.

use tapetum_runtime::{Error, Result};

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
