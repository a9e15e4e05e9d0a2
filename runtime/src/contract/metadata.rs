//! A model's contract, read out of its ONNX file without reading the weights.
//!
//! An ONNX file is a protobuf message `ModelProto` (onnx.proto3). Only its field 14, `metadata_props`, is looked at (each
//! entry has a key, field 1, and a value, field 2); everything else, above all the graph, is passed over.

use std::io::{Read, Seek, SeekFrom};

use super::{Contract, METADATA_KEY};
use crate::{Error, ErrorKind, Result};

/// `ModelProto.metadata_props`.
const METADATA_PROPS: u64 = 14;

/// Longest entry that is read, in bytes: a contract has a few thousand.
const MOST_BYTES: u64 = 16 << 20;

impl Contract {
    /// Reads the contract of the ONNX file `file`, from its start; `None` if it carries none.
    ///
    /// # Errors
    /// [`ErrorKind::BadFile`] with the place if it is not an ONNX file or cut short, if there are two contracts, or what
    /// [`Contract::from_json`] says; [`ErrorKind::Environment`] if it cannot be read.
    pub fn from_onnx(file: &mut (impl Read + Seek)) -> Result<Option<Self>> {
        let mut found = None;
        let mut fields = Fields::new(file)?;
        let mut any = false;
        while let Some(field) = fields.next()? {
            any = true;
            if field.number != METADATA_PROPS || field.length.is_none() {
                fields.pass_over(&field)?;
                continue;
            }
            let (key, value) = entry(&fields.bytes(&field)?)?;
            if key != METADATA_KEY.as_bytes() {
                continue;
            }
            if found.replace(value).is_some() {
                return Err(Error::bad_file(format!("the model carries {METADATA_KEY:?} twice")));
            }
        }
        if !any {
            return Err(Error::bad_file("the file is empty"));
        }
        let Some(json) = found else { return Ok(None) };
        let json = String::from_utf8(json)
            .map_err(|e| Error::bad_file(format!("{METADATA_KEY:?} is not text")).caused_by(e))?;
        Self::from_json(&json).map(Some)
    }
}

/// A field of a message: its number, where its content begins and, if it is a run of bytes, how long it is.
struct Field {
    number: u64,
    at: u64,
    /// `None` for numbers, which take `fixed` bytes, or were read already.
    length: Option<u64>,
    fixed: u64,
}

/// The top-level fields of a protobuf message in a file.
struct Fields<'f, R> {
    file: &'f mut R,
    at: u64,
    end: u64,
}

impl<'f, R: Read + Seek> Fields<'f, R> {
    fn new(file: &'f mut R) -> Result<Self> {
        let end = file.seek(SeekFrom::End(0)).map_err(unreadable)?;
        file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
        Ok(Self { file, at: 0, end })
    }

    fn next(&mut self) -> Result<Option<Field>> {
        if self.at == self.end {
            return Ok(None);
        }
        let start = self.at;
        let tag = self.varint()?;
        let wrong = |what: &str| Err(Error::bad_file(format!("not an ONNX model: {what} at byte {start}")));
        let (length, fixed) = match tag & 7 {
            0 => {
                self.varint()?;
                (None, 0)
            }
            1 => (None, 8),
            2 => (Some(self.varint()?), 0),
            5 => (None, 4),
            _ => return wrong("an unknown wire type"),
        };
        if tag >> 3 == 0 {
            return wrong("a field with the number 0");
        }
        let left = self.end - self.at;
        if length.unwrap_or(fixed) > left {
            let wants = length.unwrap_or(fixed);
            return Err(Error::bad_file(format!(
                "the ONNX model is cut short: the field at byte {start} has {wants} bytes, {left} are left"
            )));
        }
        Ok(Some(Field { number: tag >> 3, at: self.at, length, fixed }))
    }

    fn pass_over(&mut self, field: &Field) -> Result<()> {
        self.at = field.at + field.length.unwrap_or(field.fixed);
        self.file.seek(SeekFrom::Start(self.at)).map_err(unreadable)?;
        Ok(())
    }

    fn bytes(&mut self, field: &Field) -> Result<Vec<u8>> {
        let length = field.length.unwrap_or(0);
        if length > MOST_BYTES {
            return Err(Error::bad_file(format!(
                "the metadata at byte {} has {length} bytes; at most {MOST_BYTES} are read",
                field.at
            )));
        }
        let mut bytes = vec![0; length as usize];
        self.file.read_exact(&mut bytes).map_err(unreadable)?;
        self.at += length;
        Ok(bytes)
    }

    fn varint(&mut self) -> Result<u64> {
        let start = self.at;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            if self.at == self.end {
                return Err(Error::bad_file(format!("the ONNX model is cut short at byte {}", self.at)));
            }
            let mut byte = [0];
            self.file.read_exact(&mut byte).map_err(unreadable)?;
            self.at += 1;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::bad_file(format!("not an ONNX model: a number without an end at byte {start}")))
    }
}

/// Key and value of a `StringStringEntryProto`.
fn entry(bytes: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    let mut file = std::io::Cursor::new(bytes);
    let mut fields = Fields::new(&mut file)?;
    while let Some(field) = fields.next()? {
        match (field.number, field.length) {
            (1, Some(_)) => key = fields.bytes(&field)?,
            (2, Some(_)) => value = fields.bytes(&field)?,
            _ => fields.pass_over(&field)?,
        }
    }
    Ok((key, value))
}

fn unreadable(e: std::io::Error) -> Error {
    Error::new(ErrorKind::Environment, format!("the model cannot be read: {e}")).caused_by(e)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        let mut length = bytes.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(bytes);
        out
    }

    fn metadata(key: &str, value: &str) -> Vec<u8> {
        field(14, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat())
    }

    /// IR version, a graph of 300 bytes, and the given entries.
    fn model(entries: &[Vec<u8>]) -> Vec<u8> {
        [vec![0x08, 8], field(7, &[0xff; 300]), entries.concat()].concat()
    }

    fn read(bytes: &[u8]) -> Result<Option<Contract>> {
        Contract::from_onnx(&mut Cursor::new(bytes))
    }

    #[test]
    fn a_model_without_a_contract_and_one_that_is_empty() {
        assert!(read(&model(&[metadata("author", "x")])).unwrap().is_none());
        assert_eq!(read(&[]).unwrap_err().kind(), ErrorKind::BadFile);
    }

    #[test]
    fn what_is_in_it_is_read_as_json() {
        let newer = read(&model(&[metadata("a", "b"), metadata(METADATA_KEY, r#"{"version": 99}"#)]));
        assert_eq!(newer.unwrap_err().kind(), ErrorKind::Unsupported);
        let twice = vec![metadata(METADATA_KEY, "{}"), metadata(METADATA_KEY, "{}")];
        assert!(read(&model(&twice)).unwrap_err().to_string().contains("twice"));
    }

    #[test]
    fn every_cut_is_an_error_or_a_model_without_a_contract() {
        let whole = model(&[metadata(METADATA_KEY, r#"{"version": 99}"#)]);
        for length in 0..whole.len() {
            match read(&whole[..length]) {
                // At the edge between two fields the rest is simply not there.
                Ok(none) => assert!(none.is_none() && [2, 2 + 303].contains(&length), "{length}"),
                Err(e) => assert_eq!(e.kind(), ErrorKind::BadFile, "{length}: {e}"),
            }
        }
    }

    #[test]
    fn numbers_and_lengths_without_bounds_are_refused() {
        assert!(read(&[0xff; 20]).is_err());
        let huge = [&[14 << 3 | 2][..], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]].concat();
        assert!(read(&huge).unwrap_err().to_string().contains("cut short"));
    }
}
