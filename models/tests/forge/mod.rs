//! Makes checkpoints, sound and hostile, one pickle instruction at a time.
#![allow(dead_code)] // each test binary uses its part

use std::io::{Cursor, Write};

use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// A pickle under construction.
#[derive(Clone)]
pub struct Pickle(pub Vec<u8>);

impl Pickle {
    pub fn new() -> Self {
        Self(vec![0x80, 2])
    }

    pub fn op(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn text(self, text: &str) -> Self {
        self.op(b"X").op(&u32::try_from(text.len()).unwrap().to_le_bytes()).op(text.as_bytes())
    }

    pub fn int(self, value: i64) -> Self {
        self.op(&[0x8a, 8]).op(&value.to_le_bytes())
    }

    pub fn global(self, module: &str, name: &str) -> Self {
        self.op(format!("c{module}\n{name}\n").as_bytes())
    }

    pub fn ints(self, values: &[i64]) -> Self {
        values.iter().fold(self.op(b"("), |p, &v| p.int(v)).op(b"t")
    }

    /// A tensor over storage `key` of `elements`.
    pub fn view(
        self,
        class: &str,
        key: &str,
        elements: i64,
        offset: i64,
        shape: &[i64],
        strides: &[i64],
    ) -> Self {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .op(b"((")
            .text("storage")
            .global("torch", class)
            .text(key)
            .text("cpu")
            .int(elements)
            .op(b"tQ")
            .int(offset)
            .ints(shape)
            .ints(strides)
            .op(b"\x89")
            .global("collections", "OrderedDict")
            .op(b")RtR")
    }

    /// A contiguous `f32` tensor that is the whole of storage `key`.
    pub fn tensor(self, key: &str, shape: &[i64]) -> Self {
        let elements = shape.iter().product();
        let strides: Vec<i64> = (0..shape.len()).map(|i| shape[i + 1..].iter().product()).collect();
        self.view("FloatStorage", key, elements, 0, shape, &strides)
    }

    pub fn stop(self) -> Vec<u8> {
        self.op(b".").0
    }
}

/// `{"w": [4, 3] over storage 0, "b": [4] over storage 1}`
pub fn small_object() -> Pickle {
    Pickle::new().op(b"}(").text("w").tensor("0", &[4, 3]).text("b").tensor("1", &[4]).op(b"u")
}

pub fn floats(count: usize) -> Vec<u8> {
    (0..count).flat_map(|i| (i as f32 * 0.5 - 1.0).to_le_bytes()).collect()
}

/// A PyTorch zip archive around `pickle` and the storages `(key, bytes)`.
pub fn zip(pickle: &[u8], storages: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let options = SimpleFileOptions::default().compression_method(method);
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let mut add = |name: &str, bytes: &[u8]| {
        writer.start_file(name, options).unwrap();
        writer.write_all(bytes).unwrap();
    };
    add("net/data.pkl", pickle);
    add("net/byteorder", b"little");
    for (key, bytes) in storages {
        add(&format!("net/data/{key}"), bytes);
    }
    writer.finish().unwrap().into_inner()
}

pub fn stored(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    zip(pickle, storages, CompressionMethod::Stored)
}

/// A legacy file around the object `pickle` and the storages `(key, elements, bytes)`.
pub fn legacy(pickle: &[u8], storages: &[(&str, i64, &[u8])]) -> Vec<u8> {
    let mut file = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
    file.extend(Pickle::new().op(b"M\xe9\x03").stop());
    file.extend(Pickle::new().op(b"}").text("little_endian").op(b"\x88s").stop());
    file.extend_from_slice(pickle);
    let keys = storages.iter().fold(Pickle::new().op(b"]("), |p, (key, _, _)| p.text(key));
    file.extend(keys.op(b"e").stop());
    for (_, elements, bytes) in storages {
        file.extend(elements.to_le_bytes());
        file.extend_from_slice(bytes);
    }
    file
}

pub fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend_from_slice(data);
    file
}

/// One small sound checkpoint per container.
pub fn small_files() -> Vec<(&'static str, Vec<u8>)> {
    let (w, b, object) = (floats(12), floats(4), small_object().stop());
    let header = r#"{"w":{"dtype":"F32","shape":[4,3],"data_offsets":[0,48]},"b":{"dtype":"F32","shape":[4],"data_offsets":[48,64]}}"#;
    vec![
        ("zip, stored", stored(&object, &[("0", &w), ("1", &b)])),
        ("zip, deflated", zip(&object, &[("0", &w), ("1", &b)], CompressionMethod::Deflated)),
        ("legacy", legacy(&object, &[("0", 12, &w), ("1", 4, &b)])),
        ("safetensors", safetensors(header, &[w, b].concat())),
    ]
}
