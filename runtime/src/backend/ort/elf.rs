//! Whether a shared library is all there. The system's loader maps what the header promises and dies of a signal where a
//! file was cut short, so this is asked first.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

/// Checks that the file at `path`, if it is a 64-bit little-endian ELF file, holds every part that will be mapped. What
/// is something else is left to the loader, which refuses it properly.
pub(super) fn whole(path: &Path) -> Result<(), String> {
    let promised = promised(path).map_err(|e| e.to_string())?;
    let size = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if size < promised {
        return Err(format!("cut short: {size} of {promised} bytes"));
    }
    Ok(())
}

/// What comes in one folder with ONNX Runtime: other libraries there are not its.
const OWN: &[&str] = &["libonnxruntime", "libopenvino", "libtbb"];

/// As [`whole`], for the libraries that came with the one at `path`: they load each other.
pub(super) fn whole_folder(path: &Path) -> Result<(), String> {
    let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) else { return Ok(()) };
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if OWN.iter().any(|own| name.starts_with(own)) && path.is_file() {
            whole(&path).map_err(|why| format!("{}: {why}", path.display()))?;
        }
    }
    Ok(())
}

/// The end of the last segment, by the program headers; 0 if there are none.
fn promised(path: &Path) -> std::io::Result<u64> {
    let mut file = File::open(path)?;
    let mut header = Vec::new();
    file.by_ref().take(64).read_to_end(&mut header)?;
    if header.get(..6) != Some(&[0x7f, b'E', b'L', b'F', 2, 1]) {
        return Ok(0);
    }
    let (Some(at), Some(entry), Some(count)) =
        (word(&header, 32, 8), word(&header, 54, 2), word(&header, 56, 2))
    else {
        return Ok(64);
    };
    let end_of_table = at.saturating_add(entry * count);
    let mut table = Vec::new();
    file.seek(SeekFrom::Start(at))?;
    file.take(entry * count).read_to_end(&mut table)?;
    // At 8 lies where the segment begins in the file, at 32 how long it is there.
    let ends = table
        .chunks(entry.max(1) as usize)
        .filter_map(|segment| Some(word(segment, 8, 8)?.saturating_add(word(segment, 32, 8)?)));
    Ok(ends.fold(end_of_table, u64::max))
}

/// The little-endian number of `bytes` bytes at `at`.
pub(super) fn word(data: &[u8], at: usize, bytes: usize) -> Option<u64> {
    Some(data.get(at..at + bytes)?.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_was_cut_short_is_told_wherever_it_was_cut() {
        // The program that runs this test is an ELF file, and a large one.
        let own = std::env::current_exe().unwrap();
        whole(&own).unwrap();
        let bytes = std::fs::read(&own).unwrap();
        let end = promised(&own).unwrap() as usize;
        assert!(end > 4096, "{end}");
        let folder = std::env::temp_dir().join(format!("tapetum-elf-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let cut = folder.join("libtbb.so.12");
        for length in [6, 40, 64, 100, 1000, end / 2, end - 1] {
            std::fs::write(&cut, &bytes[..length]).unwrap();
            assert!(whole(&cut).unwrap_err().contains("cut short"), "{length}");
            let text = whole_folder(&folder.join("libonnxruntime.so")).unwrap_err();
            assert!(text.contains("libtbb.so.12: cut short"), "{text}");
        }
        std::fs::write(&cut, "no library").unwrap();
        whole(&cut).unwrap();
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn hostile_headers_do_not_overflow() {
        let mut header = vec![0xff; 64];
        header[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
        let path = std::env::temp_dir().join(format!("tapetum-elf-hostile-{}", std::process::id()));
        std::fs::write(&path, &header).unwrap();
        assert!(whole(&path).is_err());
        std::fs::remove_file(path).unwrap();
    }
}
