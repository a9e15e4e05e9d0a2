//! What a shared library says that it needs, read from the file: nothing is loaded.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use super::elf::word;

/// Limits for what a file may claim: real ones stay far below.
const MOST_SEGMENTS: u64 = 1024;
const MOST_TABLE: u64 = 1 << 20;
const MOST_NAMES: usize = 512;
const LONGEST_NAME: u64 = 4096;

/// Program headers and entries of the dynamic table, by their numbers in the ELF specification.
const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;

/// The parts of a library's dynamic table that decide what else is loaded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dynamic {
    /// The processor in Rust's word, for example `x86_64`; `None`: one that is not known here.
    pub arch: Option<&'static str>,
    /// Sonames, in order.
    pub needed: Vec<String>,
    /// Folders to look in first; `$ORIGIN` is the library's own.
    pub folders: Vec<String>,
}

/// Reads the library at `path`.
///
/// # Errors
/// For people: it cannot be read, is no 64-bit little-endian ELF file, or contradicts itself.
pub(super) fn read(path: &Path) -> Result<Dynamic, String> {
    let mut file = File::open(path).map_err(|e| e.to_string())?;
    let header = part(&mut file, 0, 64)?;
    if header.get(..6) != Some(&[0x7f, b'E', b'L', b'F', 2, 1]) {
        return Err("no 64-bit ELF library".to_owned());
    }
    let number = |at, bytes| word(&header, at, bytes).ok_or("its header is cut short");
    let arch = match number(18, 2)? {
        62 => Some("x86_64"),
        183 => Some("aarch64"),
        _ => None,
    };
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    if size < 56 || count > MOST_SEGMENTS {
        return Err(format!("{count} segments of {size} bytes are no ELF library"));
    }
    let segments = part(&mut file, table, size * count)?;
    let segments: Vec<Segment> = segments.chunks_exact(size as usize).filter_map(Segment::read).collect();
    let Some(dynamic) = segments.iter().find(|s| s.kind == PT_DYNAMIC) else {
        return Ok(Dynamic { arch, needed: Vec::new(), folders: Vec::new() });
    };
    if dynamic.bytes > MOST_TABLE {
        return Err(format!("a dynamic table of {} bytes is too long", dynamic.bytes));
    }
    let table = part(&mut file, dynamic.offset, dynamic.bytes)?;
    let entries: Vec<(u64, u64)> = table
        .chunks_exact(16)
        .filter_map(|entry| Some((word(entry, 0, 8)?, word(entry, 8, 8)?)))
        .take_while(|(tag, _)| *tag != 0)
        .collect();
    let address = entries.iter().find(|(tag, _)| *tag == DT_STRTAB).map(|(_, value)| *value);
    let names = address.and_then(|address| segments.iter().find_map(|s| s.place(address)));
    let mut texts = |wanted: &[u64]| -> Result<Vec<String>, String> {
        let places = entries.iter().filter(|(tag, _)| wanted.contains(tag)).map(|(_, at)| *at);
        let places: Vec<u64> = places.take(MOST_NAMES).collect();
        let one = |at: u64| {
            let start = names.and_then(|names| names.checked_add(at)).ok_or("its names are nowhere")?;
            text(&mut file, start)
        };
        places.into_iter().map(one).collect()
    };
    let needed = texts(&[DT_NEEDED])?;
    let folders = texts(&[DT_RPATH, DT_RUNPATH])?;
    let folders = folders.iter().flat_map(|list| list.split(':')).map(str::to_owned).collect();
    Ok(Dynamic { arch, needed, folders })
}

/// A part of the file and where it comes to lie in memory.
struct Segment {
    kind: u64,
    offset: u64,
    address: u64,
    bytes: u64,
}

impl Segment {
    fn read(entry: &[u8]) -> Option<Self> {
        Some(Self {
            kind: word(entry, 0, 4)?,
            offset: word(entry, 8, 8)?,
            address: word(entry, 16, 8)?,
            bytes: word(entry, 32, 8)?,
        })
    }

    /// Where in the file lies what is at `address` in memory.
    fn place(&self, address: u64) -> Option<u64> {
        let into = address.checked_sub(self.address)?;
        (self.kind == PT_LOAD && into < self.bytes).then(|| self.offset.checked_add(into))?
    }
}

/// All of the `bytes` at `at`.
fn part(file: &mut File, at: u64, bytes: u64) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    file.seek(SeekFrom::Start(at)).map_err(|_| "it points outside of itself".to_owned())?;
    file.take(bytes).read_to_end(&mut out).map_err(|e| e.to_string())?;
    if (out.len() as u64) < bytes {
        return Err(format!("cut short: {bytes} bytes at {at} are not there"));
    }
    Ok(out)
}

/// The zero-terminated text at `at`.
fn text(file: &mut File, at: u64) -> Result<String, String> {
    let mut out = Vec::new();
    file.seek(SeekFrom::Start(at)).map_err(|_| "it points outside of itself".to_owned())?;
    file.take(LONGEST_NAME).read_to_end(&mut out).map_err(|e| e.to_string())?;
    let end = out.iter().position(|byte| *byte == 0).ok_or("a name in it has no end")?;
    String::from_utf8(out[..end].to_vec()).map_err(|_| "a name in it is no text".to_owned())
}

/// A small library for tests, with nothing in it but a dynamic table.
#[cfg(test)]
pub(super) fn made(machine: u16, needed: &[&str], folders: Option<&str>) -> Vec<u8> {
    const BASE: u64 = 0x1000;
    let mut names = vec![0u8];
    let mut entries: Vec<(u64, u64)> = Vec::new();
    let tagged = needed.iter().map(|n| (DT_NEEDED, *n)).chain(folders.map(|f| (DT_RUNPATH, f)));
    for (tag, name) in tagged {
        entries.push((tag, names.len() as u64));
        names.extend(name.as_bytes());
        names.push(0);
    }
    let table_at = 64 + 2 * 56;
    let table_bytes = (entries.len() as u64 + 2) * 16;
    let names_at = table_at + table_bytes;
    entries.extend([(DT_STRTAB, BASE + names_at), (0, 0)]);
    let whole = names_at + names.len() as u64;
    let mut out = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    out.extend(3u16.to_le_bytes());
    out.extend(machine.to_le_bytes());
    out.extend(1u32.to_le_bytes());
    [0u64, 64, 0].iter().for_each(|v| out.extend(v.to_le_bytes()));
    out.extend(0u32.to_le_bytes());
    [64u16, 56, 2, 0, 0, 0].iter().for_each(|v| out.extend(v.to_le_bytes()));
    for (kind, offset, bytes) in [(PT_LOAD, 0, whole), (PT_DYNAMIC, table_at, table_bytes)] {
        out.extend((kind as u32).to_le_bytes());
        out.extend(4u32.to_le_bytes());
        [offset, BASE + offset, BASE + offset, bytes, bytes, 8]
            .iter()
            .for_each(|v: &u64| out.extend(v.to_le_bytes()));
    }
    entries.iter().for_each(|(tag, value)| {
        out.extend(tag.to_le_bytes());
        out.extend(value.to_le_bytes());
    });
    out.extend(names);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_bytes(name: &str, bytes: &[u8]) -> Result<Dynamic, String> {
        let path = std::env::temp_dir().join(format!("tapetum-dynamic-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        let got = read(&path);
        std::fs::remove_file(path).unwrap();
        got
    }

    #[test]
    fn what_a_library_needs_is_read_in_order() {
        let bytes = made(62, &["libcudart.so.13", "libc.so.6"], Some("$ORIGIN:/opt/lib"));
        let got = of_bytes("order", &bytes).unwrap();
        assert_eq!(got.needed, ["libcudart.so.13", "libc.so.6"]);
        assert_eq!(got.folders, ["$ORIGIN", "/opt/lib"]);
        assert_eq!(got.arch, Some("x86_64"));
        // A real one: the program that runs this test.
        let own = read(&std::env::current_exe().unwrap()).unwrap();
        assert!(own.needed.iter().any(|n| n.starts_with("libc.so")), "{own:?}");
        assert_eq!(own.arch, Some(std::env::consts::ARCH));
    }

    #[test]
    fn hostile_files_are_told_and_never_believed() {
        let good = made(62, &["libcudart.so.13"], None);
        for cut in 0..good.len() {
            assert!(of_bytes("cut", &good[..cut]).is_err(), "{cut}");
        }
        // Every byte of the headers and the table to every extreme: an error or an answer, no panic and no great memory.
        for at in 6..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = of_bytes("flip", &bad);
            }
        }
        let mut bad = good.clone();
        bad[6..].fill(0xff);
        assert!(of_bytes("ones", &bad).unwrap_err().contains("segments"));
        assert!(
            of_bytes("text", b"no library at all, but long enough to hold a header of 64 bytes....").is_err()
        );
    }
}
