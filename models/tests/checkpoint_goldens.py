"""Prints the table of checkpoint_goldens.rs: an independent reading with Python's pickle and NumPy.

Usage: python3 models/tests/checkpoint_goldens.py   (from the repository root)
"""

import collections
import glob
import io
import json
import os
import pickle
import struct
import zipfile

import numpy as np

STORAGES = {"FloatStorage": "f32", "LongStorage": "i64", "HalfStorage": "f16", "BFloat16Storage": "bf16"}
SAFETENSORS = {"F32": "f32", "F16": "f16", "BF16": "bf16", "I64": "i64"}
NUMPY = {"f32": "<f4", "f16": "<f2", "i64": "<i8", "bf16": "<u2"}
WRAPPERS = ("model_state_dict", "state_dict", "model", "net")

Storage = collections.namedtuple("Storage", "key dtype")
View = collections.namedtuple("View", "storage offset size stride")


def array(raw, dtype):
    values = np.frombuffer(raw, NUMPY[dtype])
    return (values.astype("<u4") << 16).view("<f4") if dtype == "bf16" else values


class Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if name == "_rebuild_tensor_v2":
            return lambda storage, offset, size, stride, *_: View(storage, offset, size, stride)
        return collections.OrderedDict if name == "OrderedDict" else name

    def persistent_load(self, pid):
        return Storage(pid[2], STORAGES[pid[1]])


def cut(raw, view):
    values = array(raw, view.storage.dtype)[view.offset :]
    strides = [stride * values.itemsize for stride in view.stride]
    return view.storage.dtype, np.lib.stride_tricks.as_strided(values, view.size, strides).copy()


def unwrap(saved):
    wrapper = next((key for key in WRAPPERS if key in saved), None)
    state = saved[wrapper] if wrapper else saved
    return wrapper, {name: view for name, view in state.items() if isinstance(view, View)}


def load(path):
    with open(path, "rb") as file:
        if path.endswith(".safetensors"):
            (length,) = struct.unpack("<Q", file.read(8))
            header, data = json.loads(file.read(length)), file.read()
            header.pop("__metadata__", None)
            tensors = {}
            for name, info in header.items():
                start, end = info["data_offsets"]
                dtype = SAFETENSORS[info["dtype"]]
                tensors[name] = dtype, array(data[start:end], dtype).reshape(info["shape"])
            return None, tensors
        if zipfile.is_zipfile(path):
            archive = zipfile.ZipFile(path)
            root = archive.namelist()[0].split("/")[0]
            wrapper, views = unwrap(Unpickler(io.BytesIO(archive.read(root + "/data.pkl"))).load())
            raw = {view.storage.key: archive.read(f"{root}/data/{view.storage.key}") for view in views.values()}
        else:
            for _ in range(3):
                pickle.load(file)
            wrapper, views = unwrap(Unpickler(file).load())
            dtypes = {view.storage.key: view.storage.dtype for view in views.values()}
            raw = {}
            for key in pickle.load(file):
                (count,) = struct.unpack("<q", file.read(8))
                raw[key] = file.read(count * np.dtype(NUMPY[dtypes[key]]).itemsize)
    return wrapper, {name: cut(raw[view.storage.key], view) for name, view in views.items()}


def option(text):
    return f'Some("{text}")' if text else "None"


for path in sorted(glob.glob("tests/goldens/*/checkpoint.*")):
    wrapper, tensors = load(path)
    prefix = "module." if all(name.startswith("module.") for name in tensors) else ""
    counts = collections.Counter(dtype for dtype, _ in tensors.values())
    counts = ", ".join(f'("{d}", {n})' for d, n in sorted(counts.items(), key=lambda c: (-c[1], c[0])))
    elements, weighted = 0, 0.0
    for name in sorted(tensors):
        values = tensors[name][1].astype("f8").ravel()
        elements += values.size
        weighted += float((values * (np.arange(values.size) % 97 + 1)).sum())
    name = sorted(tensors)[len(tensors) // 2]
    values = tensors[name][1]
    print(
        f'    Golden {{ case: "{os.path.basename(os.path.dirname(path))}", wrapper: {option(wrapper)}, '
        f"prefix: {option(prefix)}, dtypes: &[{counts}], elements: {elements}, weighted: {weighted!r}, "
        f'sample: ("{name[len(prefix):]}", &{list(values.shape)}, {float(values.ravel()[-1])!r}) }},'
    )
