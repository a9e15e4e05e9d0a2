//! The token that opens a site.

use std::{collections::BTreeSet, fs};

use sha2::{Digest, Sha256};
use tapetum_runtime::{Error, ErrorKind, Result};

use super::spec::TokenFrom;

/// Bits that must not be guessable: 16 bytes.
const ENTROPY_BITS: f64 = 128.0;
/// No header of a sensible size holds more.
const LONGEST: usize = 1024;

/// A secret, kept as its SHA-256: no message can show it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token([u8; 32]);

impl Token {
    /// # Errors
    /// `Environment` if it cannot be read, `InvalidConfig` if it is too easy to guess or others can read the file. Never tells
    /// the token.
    pub fn read(from: &TokenFrom) -> Result<Self> {
        let (text, place) = match from {
            TokenFrom::Env(name) => {
                let place = format!("environment variable {name}");
                let text = std::env::var(name).map_err(|_| {
                    Error::new(ErrorKind::Environment, format!("{place}: not set, or not text"))
                })?;
                (text, place)
            }
            TokenFrom::File(path) => {
                let place = format!("token_file {}", path.display());
                let failed = |e: std::io::Error| Error::new(ErrorKind::Environment, format!("{place}: {e}"));
                let size = fs::metadata(path).map_err(failed)?;
                if others_can_read(&size) {
                    return Err(Error::config(format!(
                        "{place}: every user of this machine can read it; `chmod o-rwx` it"
                    )));
                }
                if size.len() > 4 * LONGEST as u64 {
                    return Err(Error::config(format!("{place}: not a token: {} bytes long", size.len())));
                }
                let text = fs::read_to_string(path).map_err(failed)?;
                (text, place)
            }
        };
        Self::new(text.trim()).map_err(|e| e.at(place))
    }

    fn new(text: &str) -> Result<Self> {
        if text.len() > LONGEST || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::config(format!(
                "a token is at most {LONGEST} visible ASCII characters without spaces"
            )));
        }
        if entropy_bits(text) < ENTROPY_BITS {
            return Err(Error::config(
                "the token is too easy to guess: it needs 16 random bytes, as `openssl rand -hex 16` makes them",
            ));
        }
        Ok(Self(digest(text.as_bytes())))
    }

    /// In a time that does not depend on how much of it fits.
    pub fn is(&self, guess: &str) -> bool {
        same(&self.0, &digest(guess.as_bytes()))
    }
}

pub(super) fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Compares without a branch on the content.
pub(super) fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    std::hint::black_box(a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b))) == 0
}

/// At most this much: as if each character were drawn from the smallest usual alphabet that has them all. What repeats few
/// characters was not drawn.
fn entropy_bits(text: &str) -> f64 {
    let hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        || text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
    let different: BTreeSet<u8> = text.bytes().collect();
    let alphabet: f64 = match () {
        () if text.bytes().all(|b| b.is_ascii_digit()) => 10.0,
        () if hex => 16.0,
        () if text.bytes().all(|b| b.is_ascii_lowercase()) => 26.0,
        () => 64.0,
    };
    if different.len() < 8 { 0.0 } else { alphabet.log2() * text.len() as f64 }
}

#[cfg(unix)]
fn others_can_read(file: &fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o007 != 0
}

#[cfg(not(unix))]
fn others_can_read(_: &fs::Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_random_bytes_are_enough_in_every_writing() {
        for good in [
            "9f86d081884c7d659a2feaa0c55ad015",
            "n4bQgYhMfWWaL-qgxVrQFQ",
            "7301749265018374659201637485920163948527",
        ] {
            assert!(Token::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "secret",
            "9f86d081884c7d659a2feaa0c55ad01",
            "00000000000000000000000000000000000000",
            "with space 9f86d081884c7d659a2feaa0c55ad015",
        ] {
            let told = Token::new(bad).err().expect(bad).to_string();
            assert!(bad.is_empty() || !told.contains(bad), "{told}");
        }
    }

    #[test]
    fn a_guess_fits_whole_or_not_at_all() {
        let token = Token::new("9f86d081884c7d659a2feaa0c55ad015").unwrap();
        assert!(token.is("9f86d081884c7d659a2feaa0c55ad015"));
        for guess in [
            "",
            "9f86d081884c7d659a2feaa0c55ad01",
            "9f86d081884c7d659a2feaa0c55ad015 ",
            "9F86d081884c7d659a2feaa0c55ad015",
        ] {
            assert!(!token.is(guess), "{guess}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_file_that_everybody_reads_is_no_secret() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "9f86d081884c7d659a2feaa0c55ad015\n").unwrap();
        for (mode, fine) in [(0o600, true), (0o640, true), (0o644, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let read = Token::read(&TokenFrom::File(path.clone()));
            assert_eq!(read.is_ok(), fine, "{mode:o}");
            assert!(read.err().is_none_or(|e| !e.to_string().contains("9f86")));
        }
    }
}
