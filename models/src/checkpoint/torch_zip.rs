//! PyTorch's zip format (since 1.6): `<root>/data.pkl`, `<root>/byteorder`, one entry `<root>/data/<key>` per storage.

use std::{
    collections::BTreeMap,
    io::{BufReader, Read, Seek},
};

use tapetum_runtime::{Error, Result};
use zip::{CompressionMethod, ZipArchive, read::ZipFile, result::ZipError};

use super::{
    Contents, Format,
    limits::Limits,
    pickle::{self, Pickle, Source},
    storage::{Plan, Trust},
    wrapper,
};

/// Deflate cannot shrink further than this.
const MAX_DEFLATE_RATIO: u64 = 1032;
/// Up to this ratio, memory is reserved at once for an entry's declared size.
const PLAUSIBLE_RATIO: u64 = 16;

pub(super) fn read<R: Read + Seek>(input: R, length: u64, limits: &Limits) -> Result<Contents> {
    let mut archive = ZipArchive::new(BufReader::new(input)).map_err(|e| bad_zip("the zip directory", e))?;
    if archive.has_duplicate_names() {
        return Err(Error::bad_file("the zip archive has two entries of one name"));
    }
    let root = find_root(&archive)?;
    check_byte_order(&mut archive, &root)?;

    let pickle = read_pickle(&mut archive, &root, limits)?;
    let mut found = wrapper::find(&pickle, limits)?;
    drop(pickle);
    let prefix = wrapper::strip_prefix(&mut found.tensors);
    let mut plan = Plan::new(found.tensors, limits)?;
    let mut order = Vec::new();
    for key in plan.keys() {
        let name = format!("{root}data/{key}");
        let index = archive
            .index_for_name(&name)
            .ok_or_else(|| Error::bad_file(format!("the zip archive has no storage {name:?}")))?;
        let start = archive.by_index_data(index).map_err(|e| bad_zip(&name, e))?.header_start();
        order.push((start, index, key.to_owned()));
    }
    order.sort_unstable();

    let mut tensors = BTreeMap::new();
    for (_, index, key) in order {
        let Some(cuts) = plan.remove(&key) else { continue };
        let name = format!("{root}data/{key}");
        let mut entry = archive.by_index(index).map_err(|e| bad_zip(&name, e))?;
        let trust = check_entry(&entry, &name, length)?;
        let wanted = cuts.storage.bytes().unwrap_or(u64::MAX);
        if entry.size() != wanted {
            return Err(Error::bad_file(format!(
                "{name} has {} bytes, {} elements of {} need {wanted}",
                entry.size(),
                cuts.storage.elements,
                cuts.storage.dtype.unwrap_or(cuts.dtype).name()
            )));
        }
        cuts.read(&mut entry, trust, &mut tensors)?;
        expect_end(&mut entry, &name)?;
    }
    Ok(Contents {
        format: Format::TorchZip,
        tensors,
        wrapper: found.wrapper,
        prefix,
        passed_over: found.passed_over,
        metadata: found.metadata,
    })
}

fn read_pickle<R: Read + Seek>(archive: &mut ZipArchive<R>, root: &str, limits: &Limits) -> Result<Pickle> {
    let torchscript = archive.index_for_name(&format!("{root}constants.pkl")).is_some();
    let entry = open_entry(archive, &format!("{root}data.pkl"))?;
    let mut source = Source::new(BufReader::new(entry), limits.header_bytes);
    let parsed = pickle::parse(&mut source, limits);
    parsed.and_then(|pickle| source.drain().map(|()| pickle)).map_err(|e| {
        let hint = if torchscript { " (this is a TorchScript archive, not a checkpoint)" } else { "" };
        e.at(format_args!("{root}data.pkl{hint}"))
    })
}

/// What stands before `data.pkl`, with its slash.
fn find_root<R: Read + Seek>(archive: &ZipArchive<R>) -> Result<String> {
    let mut roots = archive
        .file_names()
        .filter_map(|name| name.ok()?.strip_suffix("data.pkl").map(str::to_owned))
        .filter(|root| root.is_empty() || root.find('/') == Some(root.len() - 1));
    match (roots.next(), roots.next()) {
        (Some(root), None) => Ok(root),
        (Some(one), Some(two)) => {
            Err(Error::bad_file(format!("the zip archive has several pickles: {one}data.pkl, {two}data.pkl")))
        }
        (None, _) => Err(Error::bad_file(format!(
            "this zip archive of {} entries is no PyTorch checkpoint: it has no data.pkl",
            archive.len()
        ))),
    }
}

/// Archives older than this entry are little-endian in practice.
fn check_byte_order<R: Read + Seek>(archive: &mut ZipArchive<R>, root: &str) -> Result<()> {
    let name = format!("{root}byteorder");
    if archive.index_for_name(&name).is_none() {
        return Ok(());
    }
    let mut order = Vec::new();
    let entry = open_entry(archive, &name)?;
    entry.take(16).read_to_end(&mut order).map_err(|e| bad_zip(&name, e.into()))?;
    match order.as_slice() {
        b"little" => Ok(()),
        b"big" => Err(Error::unsupported(format!(
            "{name} says that the storages are big-endian; only little-endian checkpoints can be read"
        ))),
        other => Err(Error::bad_file(format!("{name} is {:?}", String::from_utf8_lossy(other)))),
    }
}

fn open_entry<'a, R: Read + Seek>(archive: &'a mut ZipArchive<R>, name: &str) -> Result<ZipFile<'a, R>> {
    let entry = archive.by_name(name).map_err(|e| bad_zip(name, e))?;
    check_entry(&entry, name, u64::MAX)?;
    Ok(entry)
}

/// Refuses what the sizes already give away, and says whether the declared size may be reserved.
fn check_entry<R: Read>(entry: &ZipFile<'_, R>, name: &str, file_length: u64) -> Result<Trust> {
    let (packed, size) = (entry.compressed_size(), entry.size());
    match entry.compression() {
        CompressionMethod::Stored if packed == size && size <= file_length => Ok(Trust::Sized),
        CompressionMethod::Deflated if size <= packed.saturating_mul(MAX_DEFLATE_RATIO) => {
            let plausible = size <= packed.min(file_length).saturating_mul(PLAUSIBLE_RATIO);
            Ok(if plausible { Trust::Sized } else { Trust::Claimed })
        }
        CompressionMethod::Stored | CompressionMethod::Deflated => Err(Error::bad_file(format!(
            "{name} cannot hold the {size} bytes it declares in {packed} packed ones"
        ))),
        other => Err(Error::unsupported(format!("{name} is packed with {other:?}"))),
    }
}

/// Reads the end of the entry, where its checksum is compared.
fn expect_end(entry: &mut dyn Read, name: &str) -> Result<()> {
    let mut rest = [0u8; 1];
    match entry.read(&mut rest) {
        Ok(0) => Ok(()),
        Ok(_) => Err(Error::bad_file(format!("{name} holds more bytes than it declares"))),
        Err(e) => Err(bad_zip(name, e.into())),
    }
}

#[cold]
fn bad_zip(place: &str, error: ZipError) -> Error {
    Error::bad_file(format!("{place}: the zip archive is damaged or cut short: {error}")).caused_by(error)
}
