//! Bytes of a pickle, read strictly forwards with the offset kept for messages.

use std::io::{ErrorKind as IoKind, Read};

use tapetum_runtime::{Error, Result};

/// A reader that knows how far it is and how far it may go.
pub(in crate::checkpoint) struct Source<R> {
    inner: R,
    at: u64,
    limit: u64,
}

impl<R: Read> Source<R> {
    /// `inner` is read one byte at a time, so it should be buffered.
    pub(in crate::checkpoint) fn new(inner: R, limit: u64) -> Self {
        Self { inner, at: 0, limit }
    }

    /// Reads what lies behind the pickle's end, so that a container can compare its checksum.
    pub(in crate::checkpoint) fn drain(&mut self) -> Result<()> {
        let left = self.limit.saturating_sub(self.at).saturating_add(1);
        let extra =
            std::io::copy(&mut self.inner.by_ref().take(left), &mut std::io::sink()).map_err(cut_short)?;
        self.advance(extra)
    }

    /// Bytes read so far.
    pub(super) fn offset(&self) -> u64 {
        self.at
    }

    fn advance(&mut self, bytes: u64) -> Result<()> {
        self.at = self.at.saturating_add(bytes);
        if self.at > self.limit {
            return Err(Error::bad_file(format!(
                "the pickle is longer than the limit of {} bytes",
                self.limit
            )));
        }
        Ok(())
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.advance(N as u64)?;
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes).map_err(cut_short)?;
        Ok(bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// `length` bytes. Memory grows with what really arrives, not with what `length` promises.
    pub(super) fn bytes(&mut self, length: u64) -> Result<Vec<u8>> {
        self.advance(length)?;
        let mut bytes = Vec::new();
        let got = self.inner.by_ref().take(length).read_to_end(&mut bytes).map_err(cut_short)?;
        if got as u64 != length {
            return Err(Error::bad_file(format!("the pickle ends after {got} of {length} bytes of a value")));
        }
        Ok(bytes)
    }

    pub(super) fn skip(&mut self, length: u64) -> Result<()> {
        self.advance(length)?;
        let got =
            std::io::copy(&mut self.inner.by_ref().take(length), &mut std::io::sink()).map_err(cut_short)?;
        if got != length {
            return Err(Error::bad_file(format!("the pickle ends after {got} of {length} bytes of a value")));
        }
        Ok(())
    }

    /// Text up to the next line feed, which is consumed.
    pub(super) fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => return text(line),
                byte => line.push(byte),
            }
        }
    }

    pub(super) fn string(&mut self, length: u64) -> Result<String> {
        text(self.bytes(length)?)
    }
}

fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes)
        .map_err(|e| Error::bad_file(format!("a text is not UTF-8 (byte {})", e.utf8_error().valid_up_to())))
}

#[cold]
fn cut_short(error: std::io::Error) -> Error {
    if error.kind() == IoKind::UnexpectedEof {
        return Error::bad_file("the pickle ends in the middle of an instruction; the file is cut short");
    }
    Error::bad_file(format!("the pickle cannot be read: {error}")).caused_by(error)
}
