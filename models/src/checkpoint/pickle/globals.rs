//! The only Python names a checkpoint may mention, and what we take each to mean. Nothing is imported or called.

use tapetum_runtime::{DType, Error, Result};

/// A Python name on the allow-list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::checkpoint) enum Global {
    /// `collections.OrderedDict`.
    OrderedDict,
    /// `collections.defaultdict`; its factory is ignored.
    DefaultDict,
    /// `collections.Counter`.
    Counter,
    /// `torch.Size`: a tuple.
    Size,
    /// `torch._utils._rebuild_tensor_v2`.
    RebuildTensorV2,
    /// `torch._utils._rebuild_tensor_v3`: an untyped storage plus a dtype.
    RebuildTensorV3,
    /// `torch._utils._rebuild_parameter`, with or without state: its first argument.
    RebuildParameter,
    /// `torch._tensor._rebuild_from_type_v2`: one of the rebuild functions, deferred.
    RebuildFromType,
    /// `torch.FloatStorage` and its like.
    Storage(DType),
    /// `torch.storage.UntypedStorage`.
    UntypedStorage,
    /// `torch.float32` and its like.
    DType(DType),
    /// Something whose instances are kept as a name without content.
    Inert(&'static str),
}

/// Names whose instances may lie beside the tensors. Each is inert data that we carry as an opaque object.
const INERT: &[(&[&str], &[&str])] = &[
    (&["torch"], &["device", "strided", "contiguous_format", "Tensor", "complex64", "complex128"]),
    (&["torch.nn.parameter"], &["Parameter"]),
    (&["torch.serialization"], &["_get_layout"]),
    (
        &["builtins", "__builtin__"],
        &["set", "frozenset", "list", "dict", "tuple", "int", "float", "bool", "str"],
    ),
    (
        &["builtins", "__builtin__"],
        &["bytes", "bytearray", "complex", "object", "slice", "range", "long", "unicode"],
    ),
    (&["_codecs"], &["encode"]),
    (&["argparse"], &["Namespace"]),
    (&["pathlib", "pathlib._local"], &["Path", "PurePath", "PosixPath", "PurePosixPath", "WindowsPath"]),
    (&["pathlib", "pathlib._local"], &["PureWindowsPath"]),
    (&["datetime"], &["datetime", "date", "timedelta"]),
    (&["numpy"], &["dtype", "ndarray"]),
    (&["numpy.core.multiarray", "numpy._core.multiarray"], &["scalar", "_reconstruct"]),
];

/// Storage classes by their Python name without `Storage`, and dtypes by theirs.
const TYPES: &[(&str, &[&str], DType)] = &[
    ("FloatStorage", &["float32", "float"], DType::F32),
    ("DoubleStorage", &["float64", "double"], DType::F64),
    ("HalfStorage", &["float16", "half"], DType::F16),
    ("BFloat16Storage", &["bfloat16"], DType::BF16),
    ("LongStorage", &["int64", "long"], DType::I64),
    ("IntStorage", &["int32", "int"], DType::I32),
    ("ShortStorage", &["int16", "short"], DType::I16),
    ("CharStorage", &["int8"], DType::I8),
    ("ByteStorage", &["uint8"], DType::U8),
    ("BoolStorage", &["bool"], DType::Bool),
    ("UInt16Storage", &["uint16"], DType::U16),
    ("UInt32Storage", &["uint32"], DType::U32),
    ("UInt64Storage", &["uint64"], DType::U64),
];

impl Global {
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::Unsupported`] for kinds of tensor that we cannot read, otherwise
    /// [`tapetum_runtime::ErrorKind::BadFile`] naming the global and what it usually means.
    pub(super) fn parse(module: &str, name: &str) -> Result<Self> {
        let known = match (module, name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("collections", "defaultdict") => Some(Self::DefaultDict),
            ("collections", "Counter") => Some(Self::Counter),
            ("torch", "Size") => Some(Self::Size),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Self::RebuildTensorV2),
            ("torch._utils", "_rebuild_tensor_v3") => Some(Self::RebuildTensorV3),
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                Some(Self::RebuildParameter)
            }
            ("torch._tensor", "_rebuild_from_type_v2") => Some(Self::RebuildFromType),
            ("torch.storage", "UntypedStorage") | ("torch", "UntypedStorage") => Some(Self::UntypedStorage),
            ("torch", _) => TYPES.iter().find_map(|&(storage, dtypes, dtype)| {
                if storage == name {
                    Some(Self::Storage(dtype))
                } else {
                    dtypes.contains(&name).then_some(Self::DType(dtype))
                }
            }),
            _ => None,
        };
        known.or_else(|| inert(module, name)).ok_or_else(|| refusal(module, name))
    }
}

fn inert(module: &str, name: &str) -> Option<Global> {
    let (_, names) =
        INERT.iter().find(|(modules, names)| modules.contains(&module) && names.contains(&name))?;
    names.iter().find(|n| **n == name).map(|n| Global::Inert(n))
}

#[cold]
fn refusal(module: &str, name: &str) -> Error {
    let shown: String = format!("{module}.{name}").chars().take(200).collect();
    if module == "torch._utils" || (module == "torch" && name.ends_with("Storage")) {
        return Error::unsupported(format!(
            "the pickle rebuilds something with {shown:?}, a kind of tensor that is not supported (sparse, \
             quantized, complex or meta); save dense float tensors"
        ));
    }
    Error::bad_file(format!(
        "the pickle names {shown:?}, which a state dict never does; nothing was run. Usually the file was saved \
         with torch.save(model) instead of torch.save(model.state_dict()). If you did not make this file \
         yourself, treat it as hostile"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allow_list_holds_what_state_dicts_need_and_no_callable_of_python() {
        assert_eq!(Global::parse("torch", "HalfStorage").unwrap(), Global::Storage(DType::F16));
        assert_eq!(Global::parse("torch", "bfloat16").unwrap(), Global::DType(DType::BF16));
        assert_eq!(Global::parse("__builtin__", "set").unwrap(), Global::Inert("set"));
        let refused = [
            ("os", "system"),
            ("posix", "system"),
            ("builtins", "eval"),
            ("builtins", "getattr"),
            ("torch", "load"),
            ("torch.nn.modules.conv", "Conv2d"),
            ("numpy", "load"),
            ("collections", "namedtuple"),
        ];
        for (module, name) in refused {
            let message = Global::parse(module, name).unwrap_err().to_string();
            assert!(message.contains(&format!("{module}.{name}")), "{message}");
            assert!(message.contains("state_dict"), "{message}");
        }
        let message = Global::parse("torch._utils", "_rebuild_sparse_tensor").unwrap_err().to_string();
        assert!(message.contains("sparse"), "{message}");
    }
}
