//! What the allowed names make of their arguments: the places where Python would run code, and we only describe.

use tapetum_runtime::{DType, Error, Result};

use super::{Arena, Id, Node, globals::Global};
use crate::checkpoint::storage::{StorageRef, TensorRef};

/// PyTorch's own ceiling on the number of axes.
const MAX_RANK: usize = 64;
/// PyTorch's keys are decimal numbers.
const MAX_KEY_BYTES: usize = 64;

/// Counts elements copied from one container into another, which the length of the pickle does not bound.
pub(super) struct Copied {
    count: usize,
    limit: usize,
}

impl Copied {
    pub(super) fn new(limit: usize) -> Self {
        Self { count: 0, limit }
    }

    fn spend(&mut self, count: usize) -> Result<()> {
        self.count = self.count.saturating_add(count);
        if self.count > self.limit {
            return Err(Error::bad_file(format!("the pickle copies more than {} elements", self.limit)));
        }
        Ok(())
    }
}

/// The object that `callable(*args)` stands for.
pub(super) fn call(arena: &mut Arena, copied: &mut Copied, callable: Id, args: Id) -> Result<Id> {
    let &Node::Global(global) = arena.get(callable) else {
        return Err(Error::bad_file(format!("{} is called like a function", arena.get(callable).kind())));
    };
    let Some(fields) = arena.items(args) else {
        return Err(Error::bad_file(format!("the arguments are {}, not a tuple", arena.get(args).kind())));
    };
    match global {
        Global::OrderedDict => ordered_dict(arena, copied, args),
        Global::DefaultDict => arena.add(Node::Dict(Vec::new())),
        Global::Counter => match *fields {
            [] => arena.add(Node::Dict(Vec::new())),
            [counts] if arena.dict(counts).is_some() => Ok(counts),
            _ => Err(Error::bad_file("collections.Counter is made of something else than a dict")),
        },
        Global::Size => match *fields {
            [sizes] if arena.items(sizes).is_some() => Ok(sizes),
            _ => Err(Error::bad_file("torch.Size is made of something else than a tuple")),
        },
        Global::RebuildTensorV2 | Global::RebuildTensorV3 => rebuild_tensor(arena, copied, global, args),
        Global::RebuildParameter => match *fields {
            [tensor, ..] if matches!(arena.get(tensor), Node::Tensor(_)) => Ok(tensor),
            _ => Err(Error::bad_file("a parameter is made of something else than a tensor")),
        },
        Global::RebuildFromType => {
            let (function, inner) = match *fields {
                [function, _type, inner, ..] => (function, inner),
                _ => return Err(Error::bad_file("_rebuild_from_type_v2 needs a function and its arguments")),
            };
            match *arena.get(function) {
                Node::Global(kind @ (Global::RebuildTensorV2 | Global::RebuildTensorV3)) => {
                    rebuild_tensor(arena, copied, kind, inner)
                }
                _ => Err(Error::bad_file("_rebuild_from_type_v2 defers to something else than a tensor")),
            }
        }
        Global::Inert(name) => arena.add(Node::Opaque(name)),
        Global::Storage(_) | Global::UntypedStorage | Global::DType(_) => {
            Err(Error::bad_file("a storage class or dtype is called like a function"))
        }
    }
}

/// The object that `class.__new__(class, ..)` stands for.
pub(super) fn instance(arena: &mut Arena, class: Id) -> Result<Id> {
    match *arena.get(class) {
        Node::Global(Global::OrderedDict | Global::DefaultDict | Global::Counter) => {
            arena.add(Node::Dict(Vec::new()))
        }
        Node::Global(Global::Inert(name)) => arena.add(Node::Opaque(name)),
        ref other => Err(Error::bad_file(format!("{} is instantiated", other.kind()))),
    }
}

/// Attributes set on an object (`OrderedDict._metadata`, a `Namespace`'s fields) are of no interest, but only some
/// objects have any.
pub(super) fn accepts_state(arena: &Arena, object: Id) -> Result<()> {
    match arena.get(object) {
        Node::Dict(_) | Node::Opaque(_) | Node::Tensor(_) => Ok(()),
        other => Err(Error::bad_file(format!("{} is given attributes", other.kind()))),
    }
}

/// `OrderedDict()` or Python 2's `OrderedDict([[key, value], ..])`.
fn ordered_dict(arena: &mut Arena, copied: &mut Copied, args: Id) -> Result<Id> {
    let mut entries = Vec::new();
    let mut below = 0;
    match arena.items(args) {
        Some([]) => {}
        Some(&[pairs]) => {
            let Some(pairs) = arena.items(pairs) else {
                return Err(Error::bad_file("an OrderedDict is made of something else than a list of pairs"));
            };
            copied.spend(pairs.len())?;
            for &pair in pairs {
                let Some(&[key, value]) = arena.items(pair) else {
                    return Err(Error::bad_file("an OrderedDict's entry is not a pair"));
                };
                below = below.max(arena.depth_over(&[key, value]));
                entries.push((key, value));
            }
        }
        _ => return Err(Error::bad_file("an OrderedDict takes at most one argument")),
    }
    arena.add_over(Node::Dict(entries), below)
}

/// The tuple that stands for a storage: `('storage', class, key, device, elements)`, in the legacy format with a
/// sixth field that describes a view.
pub(super) fn persistent(arena: &Arena, id: Id) -> Result<StorageRef> {
    let Some(fields) = arena.items(id) else {
        return Err(Error::bad_file(format!("a persistent id is {}, not a tuple", arena.get(id).kind())));
    };
    if let Some(&tag) = fields.first()
        && arena.str(tag) == Some("module")
    {
        return Err(Error::bad_file(
            "the pickle holds a whole Python module, not a state dict; it was saved with torch.save(model) \
             instead of torch.save(model.state_dict())",
        ));
    }
    let &[tag, class, key, _device, elements, ref view @ ..] = fields else {
        return Err(Error::bad_file(format!("a storage is described by {} fields, not by 5", fields.len())));
    };
    if arena.str(tag) != Some("storage") {
        return Err(Error::bad_file("a persistent id does not describe a storage"));
    }
    if view.iter().any(|&v| !matches!(arena.get(v), Node::None)) {
        return Err(Error::unsupported(
            "a storage is a view of another storage, as PyTorch before 0.4 wrote; save it again with a newer one",
        ));
    }
    let dtype = match arena.get(class) {
        Node::Global(Global::Storage(dtype)) => Some(*dtype),
        Node::Global(Global::UntypedStorage) => None,
        other => return Err(Error::bad_file(format!("a storage's class is {}", other.kind()))),
    };
    let key = match arena.get(key) {
        Node::Str(key) if key.len() <= MAX_KEY_BYTES => key.as_ref().into(),
        Node::Int(key) => key.to_string().into(),
        other => return Err(Error::bad_file(format!("a storage's key is {} or too long", other.kind()))),
    };
    let elements = unsigned(arena, elements, "a storage's element count")?;
    Ok(StorageRef { key, dtype, elements })
}

/// `(storage, offset, size, stride, requires_grad, hooks, ..)`; v3 has a dtype after the hooks.
fn rebuild_tensor(arena: &mut Arena, copied: &mut Copied, kind: Global, args: Id) -> Result<Id> {
    let fields = arena.items(args).unwrap_or_default();
    let &[storage, offset, size, stride, ref rest @ ..] = fields else {
        return Err(Error::bad_file(format!("a tensor is described by {} fields, not by 6", fields.len())));
    };
    let Node::Storage(storage) = arena.get(storage) else {
        return Err(Error::bad_file(format!("a tensor's storage is {}", arena.get(storage).kind())));
    };
    let declared: Option<DType> = match kind {
        Global::RebuildTensorV3 => match rest.get(2).map(|&id| arena.get(id)) {
            Some(Node::Global(Global::DType(dtype))) => Some(*dtype),
            _ => return Err(Error::bad_file("a tensor over an untyped storage names no dtype that we know")),
        },
        _ => None,
    };
    let dtype = match (storage.dtype, declared) {
        (Some(stored), None) => stored,
        (Some(stored), Some(declared)) if stored == declared => stored,
        (None, Some(declared)) => declared,
        (None, None) => return Err(Error::bad_file("a tensor over an untyped storage names no dtype")),
        (Some(stored), Some(declared)) => {
            return Err(Error::bad_file(format!(
                "a tensor of {} lies over a storage of {}",
                declared.name(),
                stored.name()
            )));
        }
    };
    let tensor = TensorRef {
        storage: (**storage).clone(),
        dtype,
        offset: unsigned(arena, offset, "a tensor's storage offset")?,
        shape: extents(arena, size, "size")?,
        strides: extents(arena, stride, "stride")?,
    };
    if tensor.shape.len() != tensor.strides.len() {
        return Err(Error::bad_file(format!(
            "a tensor has shape {:?} but strides {:?}",
            tensor.shape, tensor.strides
        )));
    }
    copied.spend(8 + 2 * tensor.shape.len())?;
    arena.add(Node::Tensor(Box::new(tensor)))
}

fn extents(arena: &Arena, id: Id, what: &str) -> Result<Vec<usize>> {
    let Some(items) = arena.items(id) else {
        return Err(Error::bad_file(format!("a tensor's {what} is {}, not a tuple", arena.get(id).kind())));
    };
    if items.len() > MAX_RANK {
        return Err(Error::bad_file(format!("a tensor has {} axes, the limit is {MAX_RANK}", items.len())));
    }
    items
        .iter()
        .map(|&item| {
            let extent = unsigned(arena, item, "a tensor's extent or stride")?;
            usize::try_from(extent)
                .map_err(|_| Error::bad_file(format!("{extent} exceeds the address space")))
        })
        .collect()
}

fn unsigned(arena: &Arena, id: Id, what: &str) -> Result<u64> {
    match *arena.get(id) {
        Node::Int(value) => {
            u64::try_from(value).map_err(|_| Error::bad_file(format!("{what} is negative: {value}")))
        }
        ref other => Err(Error::bad_file(format!("{what} is {}, not an int", other.kind()))),
    }
}
