//! `name?key=value&key=value`: what a source is told on the command line.

use tapetum_runtime::{Error, Result, settings::hint};

/// The parts of a specification.
pub(super) struct Spec<'s> {
    pub(super) name: &'s str,
    pairs: Vec<(&'s str, &'s str)>,
}

impl<'s> Spec<'s> {
    /// Takes `text` apart; its keys must be among `known`.
    ///
    /// # Errors
    /// A key that is unknown or has no value.
    pub(super) fn parse(text: &'s str, known: &[&str]) -> Result<Self> {
        let (name, query) = text.split_once('?').unwrap_or((text, ""));
        let mut pairs = Vec::new();
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| Error::config(format!("{text}: {pair:?} is no key=value")))?;
            if !known.contains(&key) {
                return Err(Error::config(format!("{text}: unknown key {key:?}{}", hint(key, known))));
            }
            pairs.push((key, value));
        }
        Ok(Self { name, pairs })
    }

    /// The value of `key` made by `read`, or `default` without the key.
    ///
    /// # Errors
    /// `read` makes nothing of it; the message says that it must be `wanted`.
    pub(super) fn get<T>(
        &self,
        key: &str,
        default: T,
        wanted: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        match self.pairs.iter().rev().find(|(k, _)| *k == key) {
            None => Ok(default),
            Some((_, value)) => read(value).ok_or_else(|| {
                Error::config(format!("{}: {key} must be {wanted}, not {value:?}", self.name))
            }),
        }
    }

    /// Frames per second.
    pub(super) fn fps(&self) -> Result<f64> {
        let read = |v: &str| v.parse().ok().filter(|fps| (0.001..=1000.0).contains(fps));
        self.get("fps", 30.0, "from 0.001 to 1000 frames per second", read)
    }
}
