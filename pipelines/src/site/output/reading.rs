//! What several outputs read from their tables.

use std::{ops::RangeInclusive, path::PathBuf};

use tapetum_runtime::settings::{Reader, Table};

/// A whole number within `range`; `default` where there is none.
pub(in crate::site) fn count<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    key: &str,
    default: usize,
    range: RangeInclusive<usize>,
) -> Option<usize> {
    match reader.count(table, key) {
        None if table.has(key) => None,
        None => Some(default),
        Some(n) if range.contains(&n) => Some(n),
        Some(n) => {
            let what = format!("{key} must be {} to {}, this is {n}", range.start(), range.end());
            reader.note(table.place(key), what);
            None
        }
    }
}

/// A number of mebibytes, in bytes.
pub(in crate::site) fn mebibytes<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    key: &str,
    default: usize,
) -> Option<u64> {
    count(reader, table, key, default, 1..=1 << 20).map(|n| (n as u64) << 20)
}

/// `true` or `false`; `default` where there is none.
pub(in crate::site) fn flag<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    key: &str,
    default: bool,
) -> Option<bool> {
    match reader.flag(table, key) {
        None if table.has(key) => None,
        found => Some(found.unwrap_or(default)),
    }
}

/// A path, if there is one.
pub(super) fn path<'t>(reader: &mut Reader<'t>, table: &Table<'t>, key: &str) -> Option<PathBuf> {
    reader.string(table, key).map(PathBuf::from)
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretFrom {
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

impl SecretFrom {
    /// Reads it.
    pub fn read(&self) -> tapetum_runtime::Result<super::Secret> {
        match self {
            Self::File(path) => super::Secret::of_file(path),
            Self::Env(name) => super::Secret::of_env(name),
        }
    }

    /// `KEY_file` or `KEY_env`. The secret itself is refused: a configuration is shown to many.
    pub(super) fn of<'t>(reader: &mut Reader<'t>, table: &Table<'t>, key: &str) -> Option<Self> {
        let (file, env) = (format!("{key}_file"), format!("{key}_env"));
        if table.has(&file) && table.has(&env) {
            reader.note(table.place(&env), format!("{file} and {env} exclude each other"));
        }
        let found = reader.string(table, &file).map(|path| Self::File(path.into()));
        found.or_else(|| reader.string(table, &env).map(Self::Env))
    }
}
