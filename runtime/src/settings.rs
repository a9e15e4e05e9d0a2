//! Reading TOML so that every mistake is told at once, with its place and the word that was probably meant.
//!
//! serde stops at the first mistake. Here each value is asked for by key and kind; what is wrong is noted with its
//! line and column and reading goes on.

use toml::{
    Spanned,
    de::{DeInteger, DeTable, DeValue},
};

use crate::{Error, Result};

/// Collects mistakes while a file is read.
pub struct Reader<'t> {
    text: &'t str,
    file: &'t str,
    /// Where, and what.
    mistakes: Vec<(usize, String)>,
}

/// A table, or nothing where a variant was given by its name alone.
pub struct Table<'t> {
    entries: DeTable<'t>,
    at: usize,
}

impl<'t> Reader<'t> {
    /// A reader of `text`; mistakes name `file`.
    pub fn new(text: &'t str, file: &'t str) -> Self {
        Self { text, file, mistakes: Vec::new() }
    }

    /// The whole file, whose keys must be among `known`. After a syntax error, what could be read.
    pub fn parse(&mut self, known: &[&str]) -> Table<'t> {
        let (root, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let what = error.message().lines().next().unwrap_or("not TOML").to_owned();
            self.note(error.span().map_or(0, |s| s.start), what);
        }
        let root = Table { at: root.span().start, entries: root.into_inner() };
        self.known(&root, known, "the file");
        root
    }

    /// # Errors
    /// Everything noted, in the order of the file.
    pub fn finish(mut self) -> Result<()> {
        if self.mistakes.is_empty() {
            return Ok(());
        }
        self.mistakes.sort();
        self.mistakes.dedup();
        let line = |(at, what): &(usize, String)| format!("{}: {what}", self.told(*at));
        Err(Error::config(self.mistakes.iter().map(line).collect::<Vec<_>>().join("\n")))
    }

    /// Byte `at` of the text as people are told it: `FILE:LINE:COLUMN`.
    pub fn told(&self, at: usize) -> String {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        format!("{}:{line}:{column}", self.file)
    }

    /// Notes a mistake at byte `at` of the text (see [`Table::place`]).
    pub fn note(&mut self, at: usize, what: impl Into<String>) {
        self.mistakes.push((at, what.into()));
    }

    /// Notes every key of `table` that is not among `known`.
    pub fn known(&mut self, table: &Table<'_>, known: &[&str], place: &str) {
        for key in table.entries.keys() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let what = match known {
                    [] => format!("unknown key {name:?}: {place} takes none"),
                    _ => format!("unknown key {name:?} in {place}{}", hint(name, known)),
                };
                self.note(key.span().start, what);
            }
        }
    }

    fn wrong(&mut self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let found = value.get_ref().type_str();
        self.note(value.span().start, format!("{key} must be {wanted}, this is a value of type {found}"));
    }

    /// The table under `key`, whose keys must be among `known`.
    pub fn table(&mut self, t: &Table<'t>, key: &str, known: &[&str]) -> Option<Table<'t>> {
        let value = t.get(key)?;
        let Some(entries) = value.get_ref().as_table() else {
            self.wrong(key, value, "a table");
            return None;
        };
        let table = Table { entries: entries.clone(), at: value.span().start };
        self.known(&table, known, key);
        Some(table)
    }

    /// The tables under `key`, by their names; the keys of each must be among `known`.
    pub fn tables(&mut self, t: &Table<'t>, key: &str, known: &[&str]) -> Vec<(String, Table<'t>)> {
        let Some(value) = t.get(key) else { return Vec::new() };
        let Some(entries) = value.get_ref().as_table() else {
            self.wrong(key, value, "a table of tables");
            return Vec::new();
        };
        let all = Table { entries: entries.clone(), at: value.span().start };
        let names: Vec<String> = all.entries.keys().map(|k| k.get_ref().to_string()).collect();
        names.into_iter().filter_map(|name| Some((name.clone(), self.table(&all, &name, known)?))).collect()
    }

    /// The tables of the list under `key` (`[[key]]`), in their order. Their keys are not checked; see [`Reader::known`].
    pub fn tables_in_order(&mut self, t: &Table<'t>, key: &str) -> Vec<Table<'t>> {
        let Some(value) = t.get(key) else { return Vec::new() };
        let Some(values) = value.get_ref().as_array() else {
            self.wrong(key, value, &format!("a list of tables, each headed [[{key}]]"));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for value in values.iter() {
            match value.get_ref().as_table() {
                Some(entries) => tables.push(Table { entries: entries.clone(), at: value.span().start }),
                None => self.wrong(key, value, &format!("a list of tables, each headed [[{key}]]")),
            }
        }
        tables
    }

    /// A string.
    pub fn string(&mut self, t: &Table<'t>, key: &str) -> Option<String> {
        let value = t.get(key)?;
        let found = value.get_ref().as_str().map(str::to_owned);
        if found.is_none() {
            self.wrong(key, value, "a string");
        }
        found
    }

    /// One string or a list of strings, each with its place.
    pub fn words(&mut self, t: &Table<'t>, key: &str) -> Option<Vec<(usize, String)>> {
        let value = t.get(key)?;
        if let Some(word) = value.get_ref().as_str() {
            return Some(vec![(value.span().start, word.to_owned())]);
        }
        let words = self.strings(t, key)?;
        let places = value.get_ref().as_array()?.iter().map(|v| v.span().start);
        Some(places.zip(words).collect())
    }

    /// One of several kinds: `key = "kind"`, or `key = { kind = { .. } }` with the keys that the kind has.
    pub fn variant<'k>(
        &mut self,
        t: &Table<'t>,
        key: &str,
        kinds: &[(&'k str, &[&str])],
    ) -> Option<(&'k str, Table<'t>)> {
        let value = t.get(key)?;
        let names: Vec<&str> = kinds.iter().map(|(name, _)| *name).collect();
        let (name, at) = match value.get_ref() {
            DeValue::String(name) => (name.to_string(), value.span()),
            DeValue::Table(table) if table.len() == 1 => {
                let name = table.keys().next()?;
                (name.get_ref().to_string(), name.span())
            }
            _ => {
                self.wrong(key, value, &format!("exactly one of {}", names.join(", ")));
                return None;
            }
        };
        let Some(&(kind, keys)) = kinds.iter().find(|(k, _)| *k == name) else {
            self.note(at.start, format!("unknown {key} {name:?}{}", hint(&name, &names)));
            return None;
        };
        match value.get_ref() {
            DeValue::Table(table) => {
                let inner = Table { entries: table.clone(), at: at.start };
                Some((kind, self.table(&inner, kind, keys)?))
            }
            _ => Some((kind, Table { entries: DeTable::new(), at: at.start })),
        }
    }

    /// What `read` finds under `key`, which must be there.
    pub fn required<T>(
        &mut self,
        t: &Table<'t>,
        key: &str,
        read: impl FnOnce(&mut Self, &Table<'t>, &str) -> Option<T>,
    ) -> Option<T> {
        if t.get(key).is_none() {
            self.note(t.at, format!("{key} is missing here"));
        }
        read(self, t, key)
    }

    /// One of several words.
    pub fn choice<T: Copy>(&mut self, t: &Table<'t>, key: &str, words: &[(&str, T)]) -> Option<T> {
        let value = t.get(key)?;
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        let Some(word) = value.get_ref().as_str() else {
            self.wrong(key, value, &format!("one of {}", names.join(", ")));
            return None;
        };
        let found = words.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
        if found.is_none() {
            self.note(value.span().start, format!("unknown {key} {word:?}{}", hint(word, &names)));
        }
        found
    }

    /// `true` or `false`.
    pub fn flag(&mut self, t: &Table<'t>, key: &str) -> Option<bool> {
        let value = t.get(key)?;
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.wrong(key, value, "true or false");
        }
        found
    }

    /// A whole number from 0 on.
    pub fn count(&mut self, t: &Table<'t>, key: &str) -> Option<usize> {
        let value = t.get(key)?;
        let found = value.get_ref().as_integer().and_then(whole);
        if found.is_none() {
            self.wrong(key, value, "a whole number from 0 on");
        }
        found
    }

    /// A whole number within 0 to 255.
    pub fn byte(&mut self, t: &Table<'t>, key: &str) -> Option<u8> {
        let value = t.get(key)?;
        let found = value.get_ref().as_integer().and_then(whole).and_then(|n| u8::try_from(n).ok());
        if found.is_none() {
            self.wrong(key, value, "a whole number from 0 to 255");
        }
        found
    }

    /// A finite number.
    pub fn number(&mut self, t: &Table<'t>, key: &str) -> Option<f32> {
        let value = t.get(key)?;
        let found = number(value.get_ref());
        if found.is_none() {
            self.wrong(key, value, "a finite number");
        }
        found
    }

    /// A list of finite numbers.
    pub fn numbers(&mut self, t: &Table<'t>, key: &str) -> Option<Vec<f32>> {
        self.list(t, key, "a list of finite numbers", number)
    }

    /// A list of strings.
    pub fn strings(&mut self, t: &Table<'t>, key: &str) -> Option<Vec<String>> {
        self.list(t, key, "a list of strings", |v| v.as_str().map(str::to_owned))
    }

    /// Two numbers.
    pub fn pair(&mut self, t: &Table<'t>, key: &str) -> Option<[f32; 2]> {
        let values = self.numbers(t, key)?;
        let found = values.try_into().ok();
        if let (None, Some(value)) = (found, t.get(key)) {
            self.note(value.span().start, format!("{key} must be two numbers"));
        }
        found
    }

    fn list<T>(
        &mut self,
        t: &Table<'t>,
        key: &str,
        wanted: &str,
        one: impl Fn(&DeValue<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let value = t.get(key)?;
        let Some(values) = value.get_ref().as_array() else {
            self.wrong(key, value, wanted);
            return None;
        };
        let mut found = Vec::new();
        for value in values.iter() {
            match one(value.get_ref()) {
                Some(one) => found.push(one),
                None => self.wrong(key, value, wanted),
            }
        }
        (found.len() == values.len()).then_some(found)
    }
}

impl<'t> Table<'t> {
    /// Where the value under `key` begins, or the table itself if there is none; for [`Reader::note`].
    pub fn place(&self, key: &str) -> usize {
        self.get(key).map_or(self.at, |value| value.span().start)
    }

    /// Whether there is a value under `key`.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    fn get(&self, key: &str) -> Option<&Spanned<DeValue<'t>>> {
        self.entries.get(key)
    }
}

/// Every string that stands under one of `keys`, in whatever table of `text`; of a text with mistakes, as far as it can be read.
pub fn strings_under(text: &str, keys: &[&str]) -> Vec<String> {
    fn walk(table: &DeTable<'_>, keys: &[&str], found: &mut Vec<String>) {
        for (key, value) in table.iter() {
            match value.get_ref() {
                DeValue::String(text) if keys.contains(&key.get_ref().as_ref()) => {
                    found.push(text.to_string())
                }
                DeValue::Table(inner) => walk(inner, keys, found),
                DeValue::Array(values) => values
                    .iter()
                    .filter_map(|value| value.get_ref().as_table())
                    .for_each(|t| walk(t, keys, found)),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    walk(DeTable::parse_recoverable(text).0.get_ref(), keys, &mut found);
    found
}

fn whole(integer: &DeInteger<'_>) -> Option<usize> {
    usize::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn number(value: &DeValue<'_>) -> Option<f32> {
    let number: f32 = match value {
        DeValue::Float(f) => f.as_str().parse().ok()?,
        DeValue::Integer(i) => i64::from_str_radix(i.as_str(), i.radix()).ok()? as f32,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

/// `; did you mean "x"?`, or the words that there are.
pub fn hint(word: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|k| (strsim::damerau_levenshtein(word, k), *k)).min();
    match nearest {
        Some((distance, near)) if distance <= near.len().max(3) / 3 => format!("; did you mean {near:?}?"),
        _ => format!("; known: {}", known.join(", ")),
    }
}
