//! PyTorch's format before 1.6: five pickles in a row (magic number, protocol, system, object, storage keys), then
//! each storage as an `i64` element count and its bytes.

use std::{
    collections::{BTreeMap, HashMap},
    io::{BufReader, ErrorKind as IoKind, Read, Seek, SeekFrom},
    rc::Rc,
};

use tapetum_runtime::{Error, Result};

use super::{
    Contents, Format,
    limits::Limits,
    pickle::{self, Node, Pickle, Source},
    storage::{Plan, Trust},
    wrapper,
};

/// 0x1950a86a20f9469cfc6c, as little-endian bytes.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL: i64 = 1001;

pub(super) fn read<R: Read + Seek>(input: R, length: u64, limits: &Limits) -> Result<Contents> {
    let mut file = BufReader::with_capacity(64 << 10, input);
    let header = |file: &mut BufReader<R>, what: &str| {
        pickle::parse(&mut Source::new(file, limits.header_bytes), limits)
            .map_err(|e| e.at(format_args!("the {what} pickle")))
    };
    let magic = header(&mut file, "first")?;
    if !matches!(magic.arena.get(magic.root), Node::BigInt(bytes) if **bytes == MAGIC) {
        return Err(Error::bad_file(
            "this is a pickle, but not one that torch.save wrote (it does not begin with PyTorch's magic number)",
        ));
    }
    let protocol = header(&mut file, "protocol")?;
    if !matches!(protocol.arena.get(protocol.root), Node::Int(PROTOCOL)) {
        return Err(Error::unsupported(format!("the legacy format's protocol is not {PROTOCOL}")));
    }
    check_byte_order(&header(&mut file, "system")?)?;
    let pickle = header(&mut file, "object")?;
    let mut found = wrapper::find(&pickle, limits)?;
    let sizes = storage_sizes(&pickle)?;
    drop(pickle);
    let prefix = wrapper::strip_prefix(&mut found.tensors);
    let mut plan = Plan::new(found.tensors, limits)?;

    let keys = header(&mut file, "storage key")?;
    let Some(keys_in_order) = keys.arena.items(keys.root) else {
        return Err(Error::bad_file("the storage keys are not a list"));
    };
    let mut tensors = BTreeMap::new();
    for &key in keys_in_order {
        if plan.is_empty() {
            break;
        }
        let key = match keys.arena.get(key) {
            Node::Str(key) => key.to_string(),
            Node::Int(key) => key.to_string(),
            other => return Err(Error::bad_file(format!("a storage key is {}", other.kind()))),
        };
        let place = || format!("storage {:?}", key.chars().take(64).collect::<String>());
        let &(bytes, size) = sizes
            .get(key.as_str())
            .ok_or_else(|| Error::bad_file(format!("{} belongs to no tensor of the pickle", place())))?;
        let mut count = [0; 8];
        file.read_exact(&mut count).map_err(|e| cut_short(&place(), e))?;
        let count = i64::from_le_bytes(count);
        if u64::try_from(count).ok().and_then(|n| n.checked_mul(size)) != Some(bytes) {
            return Err(Error::bad_file(format!(
                "{} has {count} elements in the file, the pickle says {}",
                place(),
                bytes / size
            )));
        }
        let at = file.stream_position().map_err(|e| cut_short(&place(), e))?;
        if bytes > length.saturating_sub(at) {
            return Err(Error::bad_file(format!(
                "{} needs {bytes} bytes, the file ends after {}",
                place(),
                length.saturating_sub(at)
            )));
        }
        match plan.remove(&key) {
            Some(cuts) => cuts.read(&mut file, Trust::Sized, &mut tensors)?,
            None => {
                let end = at.saturating_add(bytes);
                file.seek(SeekFrom::Start(end)).map_err(|e| cut_short(&place(), e))?;
            }
        }
    }
    if let Some(key) = plan.keys().min() {
        return Err(Error::bad_file(format!("storage {key:?} is not in the file's list of storages")));
    }
    Ok(Contents {
        format: Format::TorchLegacy,
        tensors,
        wrapper: found.wrapper,
        prefix,
        passed_over: found.passed_over,
        metadata: found.metadata,
    })
}

/// Bytes of every storage that the pickle mentions, and of one of its elements; also those beside the state dict,
/// which have to be skipped.
fn storage_sizes(pickle: &Pickle) -> Result<HashMap<Rc<str>, (u64, u64)>> {
    let mut sizes = HashMap::new();
    for storage in pickle.arena.storages() {
        let size = storage.dtype.map_or(1, |dtype| dtype.size() as u64);
        let bytes = storage.bytes().ok_or_else(|| {
            Error::bad_file(format!(
                "storage {:?} of {} elements is too large",
                storage.key, storage.elements
            ))
        })?;
        if sizes.insert(Rc::clone(&storage.key), (bytes, size)).is_some_and(|known| known != (bytes, size)) {
            return Err(Error::bad_file(format!(
                "storage {:?} is described twice, differently",
                storage.key
            )));
        }
    }
    Ok(sizes)
}

fn check_byte_order(system: &Pickle) -> Result<()> {
    let entries = system.arena.dict(system.root).unwrap_or_default();
    let little = entries.iter().find(|(key, _)| system.arena.str(*key) == Some("little_endian"));
    match little.map(|&(_, value)| system.arena.get(value)) {
        Some(Node::Bool(true)) => Ok(()),
        Some(Node::Bool(false)) => Err(Error::unsupported(
            "the storages are big-endian (little_endian is False); only little-endian checkpoints can be read",
        )),
        _ => Err(Error::bad_file("the system pickle does not say whether the storages are little-endian")),
    }
}

#[cold]
fn cut_short(place: &str, error: std::io::Error) -> Error {
    if error.kind() == IoKind::UnexpectedEof {
        return Error::bad_file(format!("{place}: the file is cut short"));
    }
    Error::bad_file(format!("{place}: {error}")).caused_by(error)
}
