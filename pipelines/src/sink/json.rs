//! JSON written straight into bytes that are used again: no tree, no allocation once they have grown.

use std::{fmt::Display, io::Write};

/// A JSON text under construction.
#[derive(Default)]
pub(super) struct Json(Vec<u8>);

impl Json {
    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// What was written.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The comma between two members, where one is due: an opening bracket or a colon says that none is. No string
    /// can end in one, for strings end in a quotation mark.
    fn separate(&mut self) {
        if !matches!(self.0.last(), None | Some(b'{' | b'[' | b':' | b'\n')) {
            self.0.push(b',');
        }
    }

    /// An object with the members that `members` writes.
    pub fn object(&mut self, members: impl FnOnce(&mut Self)) {
        self.separate();
        self.0.push(b'{');
        members(self);
        self.0.push(b'}');
    }

    /// An array with the elements that `elements` writes.
    pub fn array(&mut self, elements: impl FnOnce(&mut Self)) {
        self.separate();
        self.0.push(b'[');
        elements(self);
        self.0.push(b']');
    }

    /// The name of the member that is written next.
    pub fn key(&mut self, name: &str) -> &mut Self {
        self.string(name);
        self.0.push(b':');
        self
    }

    /// As [`Json::key`], of what needs no escaping.
    pub fn plain_key(&mut self, name: impl Display) -> &mut Self {
        self.plain(name);
        self.0.push(b':');
        self
    }

    /// A string.
    pub fn string(&mut self, text: &str) {
        self.separate();
        self.0.push(b'"');
        for &byte in text.as_bytes() {
            match byte {
                b'"' | b'\\' => self.0.extend([b'\\', byte]),
                b'\n' => self.0.extend(b"\\n"),
                0..0x20 | 0x7f => self.put(format_args!("\\u{byte:04x}")),
                _ => self.0.push(byte),
            }
        }
        self.0.push(b'"');
    }

    /// A string made of what needs no escaping.
    pub fn plain(&mut self, text: impl Display) {
        self.separate();
        self.put(format_args!("\"{text}\""));
    }

    /// A number; one that is not finite has no place in JSON and becomes `null`.
    pub fn number(&mut self, value: f64) {
        self.separate();
        if value.is_finite() { self.put(value) } else { self.put("null") }
    }

    /// A single-precision number in as many digits as tell it from its neighbours.
    pub fn single(&mut self, value: f32) {
        self.separate();
        if value.is_finite() { self.put(value) } else { self.put("null") }
    }

    /// A number, or `null`.
    pub fn maybe(&mut self, value: Option<f64>) {
        self.number(value.unwrap_or(f64::NAN));
    }

    /// An integer.
    pub fn integer(&mut self, value: u64) {
        self.separate();
        self.put(value);
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, value: bool) {
        self.separate();
        self.put(value);
    }

    /// `null`.
    pub fn null(&mut self) {
        self.separate();
        self.put("null");
    }

    /// The end of a line.
    pub fn end_line(&mut self) {
        self.0.push(b'\n');
    }

    fn put(&mut self, what: impl Display) {
        // Writing into a vector does not fail.
        write!(self.0, "{what}").ok();
    }
}

/// `value` with three digits after the point: microseconds of a time in milliseconds.
pub(super) fn thousandths(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
