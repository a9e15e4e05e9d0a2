//! Damaged, misleading and malicious checkpoints end in an error that says what is wrong, and in nothing else.

mod forge;

use std::{io::Cursor, path::Path};

use forge::{Pickle, floats, legacy, safetensors, small_files, small_object, stored};
use tapetum_models::checkpoint::{self, Limits, Origin, StateDict};
use tapetum_runtime::{ErrorKind, Result, seed::Seeded};
use zip::CompressionMethod;

fn read(bytes: &[u8]) -> Result<(StateDict, Origin)> {
    checkpoint::read(Cursor::new(bytes), &Limits::default())
}

/// The message of the error that reading `bytes` must give.
#[track_caller]
fn refusal(bytes: &[u8]) -> String {
    match read(bytes) {
        Ok((state, _)) => panic!("was read as {:?}", state.names().collect::<Vec<_>>()),
        Err(e) => {
            assert_ne!(e.kind(), ErrorKind::Internal, "{e}");
            e.to_string()
        }
    }
}

#[track_caller]
fn refused(bytes: &[u8], words: &[&str]) {
    let message = refusal(bytes);
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
}

/// A zip whose pickle is `object` and which has the storages of [`small_object`].
fn zipped(object: Pickle) -> Vec<u8> {
    stored(&object.stop(), &[("0", &floats(12)), ("1", &floats(4))])
}

fn golden(case: &str, file: &str) -> Vec<u8> {
    let goldens = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens"));
    std::fs::read(goldens.join(case).join(file)).unwrap()
}

fn golden_containers() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("zip", golden("container_pth_bf16", "checkpoint.pth")),
        ("legacy", golden("container_pth_legacy", "checkpoint.pth")),
        ("safetensors", golden("container_safetensors_bf16", "checkpoint.safetensors")),
    ]
}

#[test]
fn the_forged_files_are_sound() {
    for (kind, bytes) in small_files() {
        let (mut state, _) = read(&bytes).unwrap_or_else(|e| panic!("{kind}: {e}"));
        let w = state.take("w", &[4, 3]).unwrap();
        assert_eq!(w.f32s().unwrap()[..4], [-1.0, -0.5, 0.0, 0.5], "{kind}");
        state.take("b", &[4]).unwrap();
        assert_eq!(state.finish().unwrap().used, 2);
    }
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    for (kind, bytes) in golden_containers() {
        for length in (0..bytes.len()).step_by(4096).chain([1, 7, 8, 9, 100, bytes.len() - 1]) {
            assert!(read(&bytes[..length]).is_err(), "{kind} cut to {length} bytes");
        }
    }
    for (kind, bytes) in small_files() {
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "{kind} cut to {length} bytes");
        }
    }
}

#[test]
fn flipped_bits_never_do_more_than_fail() {
    let mut seeded = Seeded::new(20);
    let small = small_files().into_iter().map(|(kind, bytes)| (kind, bytes, 2000));
    let real = golden_containers().into_iter().map(|(kind, bytes)| (kind, bytes, 60));
    for (kind, mut bytes, rounds) in small.chain(real) {
        for _ in 0..rounds {
            let flips: Vec<_> =
                (0..=seeded.below(2)).map(|_| (seeded.below(bytes.len() as u64), seeded.below(8))).collect();
            let flip = |bytes: &mut [u8]| flips.iter().for_each(|&(at, bit)| bytes[at as usize] ^= 1 << bit);
            flip(&mut bytes);
            if let Err(e) = read(&bytes) {
                assert_ne!(e.kind(), ErrorKind::Internal, "{kind} {flips:?}: {e}");
            }
            flip(&mut bytes);
        }
    }
}

#[test]
fn damaged_pickles_behind_a_right_checksum_never_do_more_than_fail() {
    let mut seeded = Seeded::new(21);
    let sound = small_object().stop();
    for _ in 0..2000 {
        let mut pickle = sound.clone();
        for _ in 0..=seeded.below(3) {
            let at = seeded.below(pickle.len() as u64) as usize;
            match seeded.below(3) {
                0 => pickle[at] = seeded.bits() as u8,
                1 => drop(pickle.remove(at)),
                _ => pickle.insert(at, seeded.bits() as u8),
            }
        }
        if let Err(e) = read(&stored(&pickle, &[("0", &floats(12)), ("1", &floats(4))])) {
            assert_ne!(e.kind(), ErrorKind::Internal, "{e}");
        }
    }
}

#[test]
fn a_name_outside_of_the_allow_list_is_refused_by_name() {
    let system = Pickle::new().global("os", "system").op(b"(").text("touch /tmp/owned").op(b"tR");
    refused(
        &zipped(system.clone()),
        &["os.system", "state_dict()", "pickle byte 2 (GLOBAL)", "net/data.pkl"],
    );
    refused(&legacy(&system.stop(), &[]), &["os.system", "object pickle"]);
    let stack = Pickle::new().text("posix").text("system").op(b"\x93");
    refused(&zipped(stack), &["posix.system", "STACK_GLOBAL"]);
    let model = Pickle::new().global("torch.nn.modules.container", "Sequential").op(b")\x81");
    refused(&zipped(model), &["torch.nn.modules.container.Sequential", "torch.save(model)"]);
    let sparse = Pickle::new().global("torch._utils", "_rebuild_sparse_tensor");
    refused(&zipped(sparse), &["_rebuild_sparse_tensor", "sparse"]);
    refused(&zipped(Pickle::new().op(b"i").op(b"os\nsystem\n")), &["opcode 0x69"]);
    refused(&zipped(Pickle::new().op(b"\x82\x01")), &["opcode 0x82"]);
    refused(&zipped(Pickle::new().op(b"(").text("module").op(b"tQ")), &["torch.save(model)"]);
    // Allowed names stay inert: a str that is called, a tensor that is called.
    refused(&zipped(Pickle::new().text("x").op(b")R")), &["a str is called"]);
    refused(&zipped(Pickle::new().global("torch", "FloatStorage").op(b")R")), &["storage class"]);
}

#[test]
fn shapes_and_strides_must_fit_their_storage() {
    let with = |shape: &[i64], strides: &[i64], offset: i64| {
        let view = Pickle::new().op(b"}").text("w").view("FloatStorage", "0", 12, offset, shape, strides);
        zipped(view.op(b"s"))
    };
    assert!(read(&with(&[3, 4], &[1, 3], 0)).is_ok());
    refused(&with(&[4, 4], &[4, 1], 0), &["\"w\"", "[4, 4]", "12 elements"]);
    refused(&with(&[3, 4], &[4, 1], 1), &["offset 1"]);
    refused(&with(&[2], &[i64::MAX], 0), &["outside of its storage"]);
    refused(&with(&[i64::MAX, i64::MAX], &[0, 0], 0), &["more elements than can be addressed"]);
    refused(&with(&[i64::MAX], &[0], 0), &["limit"]);
    refused(&with(&[1 << 33], &[0], 0), &["limit"]);
    refused(&with(&[-1], &[1], 0), &["negative"]);
    refused(&with(&[3, 4], &[1], 0), &["strides [1]"]);
    refused(&with(&[1; 65], &[1; 65], 0), &["65 axes"]);
    let absurd = Pickle::new().op(b"}").text("w").view("FloatStorage", "0", i64::MAX, 0, &[1], &[1]).op(b"s");
    refused(&zipped(absurd), &["outside of its storage"]);
    let longer = Pickle::new().op(b"}").text("w").tensor("0", &[13]).op(b"s");
    refused(&zipped(longer.clone()), &["net/data/0", "48 bytes", "52"]);
    refused(&legacy(&longer.stop(), &[("0", 12, &floats(12))]), &["12 elements", "13"]);
    let nowhere = Pickle::new().op(b"}").text("w").tensor("9", &[13]).op(b"s");
    refused(&zipped(nowhere), &["net/data/9"]);
}

#[test]
fn two_views_of_one_storage_must_agree_on_its_type() {
    let both = |class: &str, elements| {
        let first = Pickle::new().op(b"}(").text("w").tensor("0", &[12]).text("v");
        zipped(first.view(class, "0", elements, 0, &[2], &[6]).op(b"u"))
    };
    assert_eq!(read(&both("FloatStorage", 12)).unwrap().0.len(), 2);
    refused(&both("HalfStorage", 24), &["storage \"0\"", "f16", "f32"]);
    refused(&both("FloatStorage", 11), &["11 x f32"]);
}

#[test]
fn nesting_is_bounded_and_never_overflows_the_stack() {
    for open in [b"(".as_slice(), b"](", b"}\x8c\x01a", b")\x85"] {
        let deep = Pickle::new().op(&open.repeat(1_000_000)).op(b"N");
        refusal(&zipped(deep));
    }
    let tuples = Pickle::new().op(b"N").op(&[0x85].repeat(1_000_000));
    refused(&zipped(tuples), &["256 levels"]);
    // Appending below instead of above hides the depth from the count, so it must be harmless instead.
    let mut chain = Pickle::new().op(b"}").text("w").tensor("0", &[12]).op(b"s").op(b"]r\0\0\0\0");
    for i in 1..200_000u32 {
        chain = chain.op(b"]r").op(&i.to_le_bytes()).op(b"0j").op(&(i - 1).to_le_bytes());
        chain = chain.op(b"j").op(&i.to_le_bytes()).op(b"a0");
    }
    let _ = read(&zipped(chain.op(b"0")));
}

#[test]
fn a_memo_bomb_costs_no_more_than_its_length() {
    // Each tuple holds the one before twice: 2^200 leaves if they were copied.
    let mut bomb = Pickle::new().text("lol").op(b"q\x00");
    for i in 0..200u8 {
        bomb = bomb.op(&[b'h', i, b'h', i, 0x86, b'q', i + 1]);
    }
    refused(&zipped(bomb.clone()), &["a tuple, not a state dict"]);
    let beside = bomb.op(b"0}(").text("x").op(b"h\xc8").text("w").tensor("0", &[4, 3]).op(b"u");
    assert_eq!(read(&zipped(beside)).unwrap().0.len(), 1);
    // Dicts that all mention each other, and themselves.
    let mut web = Pickle::new();
    for i in 0..250u8 {
        web = web.op(&[b'}', b'q', i, b'0']);
    }
    for i in 0..250u8 {
        web = web.op(&[b'h', i, b'(']);
        for j in 0..250u8 {
            web = web.text(&format!("k{j}")).op(&[b'h', j]);
        }
        web = web.op(b"u0");
    }
    refused(&zipped(web.op(b"h\x00")), &["no dict in the file holds"]);
    // An OrderedDict made over and over from one long list.
    let pair = Pickle::new().op(b"](").op(&b"NN\x86".repeat(100_000)).op(b"eq\x000");
    let again = Pickle::new().global("collections", "OrderedDict").op(b"h\x00\x85R0").0;
    refused(&zipped(pair.op(&again[2..].repeat(1000))), &["copies more than"]);
}

#[test]
fn malformed_pickles_say_where() {
    let cases: [(&[u8], &str); 14] = [
        (b"R", "stack is empty"),
        (b"a", "stack is empty"),
        (b"t", "no MARK"),
        (b"(a", "stack is empty"),
        (b"h\x07", "memo entry 7"),
        (b"}(Nu", "do not pair"),
        (b"NNa", "None cannot be appended"),
        (b"NN)s", "has no items"),
        (b"NNb", "given attributes"),
        (b"\x80\x09", "protocol 9"),
        (b"Ix\n", "integer"),
        (b"X\xff\xff\xff\x7f", "limit"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "limit"),
        (b"X\x01\0\0\0\xff", "UTF-8"),
    ];
    for (ops, says) in cases {
        refused(&zipped(Pickle::new().op(ops)), &[says, "pickle byte"]);
    }
    refused(&stored(b"\x80\x02}", &[]), &["cut short"]);
    refused(&stored(b"\x80\x02\x8a\xffab", &[]), &["ends after 2 of 255"]);
}

#[test]
fn zip_entries_may_not_lie_about_their_size() {
    // 64 MiB of zeros in 64 KiB: sound, but beyond a small limit.
    let object = Pickle::new().op(b"}").text("w").tensor("0", &[16 << 20]).op(b"s").stop();
    let bomb = forge::zip(&object, &[("0", &vec![0; 64 << 20])], CompressionMethod::Deflated);
    assert!(bomb.len() < 1 << 20);
    let limits = Limits { total_bytes: 32 << 20, ..Limits::default() };
    let message = checkpoint::read(Cursor::new(&bomb), &limits).unwrap_err().to_string();
    assert!(message.contains("67108864") && message.contains("33554432"), "{message}");
    // A pickle that unpacks beyond its limit.
    let long = Pickle::new().op(&b"N0".repeat(8 << 20));
    let limits = Limits { header_bytes: 1 << 20, ..Limits::default() };
    let packed = forge::zip(&long.stop(), &[], CompressionMethod::Deflated);
    let message = checkpoint::read(Cursor::new(&packed), &limits).unwrap_err().to_string();
    assert!(message.contains("limit of 1048576"), "{message}");
    // Both headers of the entry declare another size than the data has.
    let object = Pickle::new().op(b"}").text("w").tensor("0", &[4096]).op(b"s").stop();
    for declared in [8192u32, 16380, 1 << 30] {
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let mut lying = forge::zip(&object, &[("0", &floats(4096))], method);
            replace_all(&mut lying, &16384u32.to_le_bytes(), &declared.to_le_bytes());
            refusal(&lying);
        }
    }
    refused(&forge::stored(b"", &[]), &["data.pkl"]);
    refused(b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", &["no data.pkl"]);
    refused(&[b"PK\x03\x04".as_slice(), &[0; 4096]].concat(), &["damaged"]);
}

fn replace_all(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
    }
}

#[test]
fn big_endian_files_are_refused_by_name() {
    let mut legacy = legacy(&small_object().stop(), &[("0", 12, &floats(12)), ("1", 4, &floats(4))]);
    let at = legacy.windows(14).position(|w| w == b"little_endian\x88").unwrap();
    legacy[at + 13] = 0x89;
    refused(&legacy, &["big-endian"]);
    let mut zipped = forge::stored(&small_object().stop(), &[]);
    // The entry is padded by its neighbours; "bigbig" is the same length as "little", so refused all the same.
    replace_all(&mut zipped, b"little", b"bigbig");
    assert!(refusal(&zipped).contains("byteorder"));
}

#[test]
fn safetensors_headers_must_describe_the_data_exactly() {
    let entry = |shape: &str, from: u64, to: u64| {
        safetensors(
            &format!(r#"{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}}}"#),
            &floats(4),
        )
    };
    assert!(read(&entry("[4]", 0, 16)).is_ok());
    refused(&entry("[5]", 0, 16), &["\"w\"", "[5]"]);
    refused(&entry("[4]", 4, 20), &["4..20"]);
    refused(&entry("[3]", 0, 12), &["12 bytes", "16"]);
    refused(&entry("[18446744073709551615,2]", 0, 16), &["more elements than can be addressed"]);
    refused(&entry("[4611686018427387904]", 0, 0), &["\"w\""]);
    let twice = r#"{"w":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#;
    refused(&safetensors(twice, &floats(4)), &["\"w\" is described twice"]);
    refused(&safetensors("{", &[]), &["malformed"]);
    refused(&safetensors("{}", &[]), &["no tensors"]);
    refused(&[&u64::MAX.to_le_bytes()[..], b"{}"].concat(), &["no checkpoint"]);
    refused(&[&0x00ff_ffff_ffffu64.to_le_bytes()[..], b"{}"].concat(), &["header"]);
    let complex = r#"{"w":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}"#;
    refused(&safetensors(complex, &[0]), &["F8_E4M3"]);
    let deep = format!("{{\"w\":{}", "[".repeat(100_000));
    refused(&safetensors(&deep, &[]), &["malformed"]);
}

#[test]
fn nan_and_infinity_are_named_with_place_and_count() {
    let mut w = floats(12);
    w[20..24].copy_from_slice(&f32::NAN.to_le_bytes());
    w[40..44].copy_from_slice(&f32::NEG_INFINITY.to_le_bytes());
    let bytes = stored(&small_object().stop(), &[("0", &w), ("1", &floats(4))]);
    refused(&bytes, &["\"w\"", "2 NaN or infinite", "index 5"]);
    let limits = Limits { allow_non_finite: true, ..Limits::default() };
    assert!(checkpoint::read(Cursor::new(&bytes), &limits).is_ok());
}

#[test]
fn limits_are_errors_and_not_truncations() {
    let with = |limits: Limits| {
        let bytes = zipped(small_object());
        checkpoint::read(Cursor::new(bytes), &limits).unwrap_err().to_string()
    };
    assert!(with(Limits { tensors: 1, ..Limits::default() }).contains("limit is 1"));
    assert!(with(Limits { total_bytes: 63, ..Limits::default() }).contains("limit is 63"));
    assert!(with(Limits { header_bytes: 20, ..Limits::default() }).contains("limit of 20"));
    assert!(with(Limits { objects: 20, ..Limits::default() }).contains("20 objects"));
    let long = Pickle::new().op(b"}").text(&"x".repeat(2000)).tensor("0", &[4, 3]).op(b"s");
    refused(&zipped(long), &["2000 bytes", "1024"]);
    let twice = Pickle::new().op(b"}(").text("w").tensor("0", &[12]).text("w").tensor("1", &[4]).op(b"u");
    refused(&zipped(twice), &["\"w\" twice"]);
}

#[test]
fn files_that_are_no_checkpoint_say_what_they_look_like() {
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path| checkpoint::open(path, &Limits::default()).unwrap_err();
    let with = |bytes: &[u8]| {
        let path = folder.path().join("net.pth");
        std::fs::write(&path, bytes).unwrap();
        let message = open(&path).to_string();
        assert!(message.starts_with(&path.display().to_string()), "{message}");
        message
    };
    assert!(with(b"").contains("empty"));
    assert!(with(b"epoch,loss\n1,0.5\n").contains("no checkpoint"));
    assert!(with(&[0; 8192]).contains("no checkpoint"));
    assert!(with(&golden("onnx_tfnet_dynamo", "model.onnx")).contains("ONNX"));
    assert!(with(b"\x80\x04N.").contains("torch.save"));
    assert_eq!(open(folder.path()).kind(), ErrorKind::InvalidConfig);
    assert!(open(folder.path()).to_string().contains("directory"));
    let missing = open(&folder.path().join("absent.pth"));
    assert_eq!(missing.kind(), ErrorKind::InvalidConfig);
    assert!(missing.to_string().contains("absent.pth"), "{missing}");
}

#[test]
fn what_lies_beside_the_weights_is_told_apart() {
    // {"epoch": 3, "args": Namespace, "best": numpy scalar, "optimizer": {..}, "ema": {..}, "model": OrderedDict}
    let model = |p: Pickle| {
        p.global("collections", "OrderedDict")
            .op(b")R(")
            .text("module.w")
            .global("torch._utils", "_rebuild_parameter")
            .tensor("0", &[4, 3])
            .op(b"\x88")
            .global("collections", "OrderedDict")
            .op(b")R\x87R")
            .op(b"u}")
            .text("_metadata")
            .op(b"}sb")
    };
    let p = Pickle::new().op(b"}(").text("epoch").op(b"K\x03").text("args");
    let p = p.global("argparse", "Namespace").op(b")\x81}").text("lr").op(b"K\x01sb").text("best");
    let p = p.global("numpy.core.multiarray", "scalar").global("numpy", "dtype").text("f8");
    let p = p.op(b"\x89\x88\x87R(K\x03").text("<").op(b"NNNtb");
    let p = p.global("_codecs", "encode").text("x").text("latin1").op(b"\x86R\x86R");
    let p = p.text("optimizer").op(b"}").text("exp_avg").tensor("1", &[4]).op(b"s");
    let p = p.text("ema").op(b"}").text("w").tensor("1", &[4]).op(b"s");
    let (state, origin) = read(&zipped(model(p.text("model")).op(b"u"))).unwrap();
    assert_eq!(state.names().collect::<Vec<_>>(), ["w"]);
    assert_eq!(origin.wrapper.as_deref(), Some("model"));
    assert_eq!(origin.prefix.as_deref(), Some("module."));
    assert_eq!(origin.passed_over, [("ema".to_owned(), 1), ("optimizer".to_owned(), 1)]);
    assert_eq!(origin.metadata.get("epoch").map(String::as_str), Some("3"));

    let two = Pickle::new().op(b"}(").text("teacher").op(b"}").text("w").tensor("0", &[12]).op(b"s");
    let two = two.text("student").op(b"}").text("w").tensor("1", &[4]).op(b"su");
    refused(&zipped(two), &["several", "teacher", "student"]);
    let only = Pickle::new().op(b"}").text("my_net").op(b"}").text("w").tensor("0", &[12]).op(b"ss");
    assert_eq!(read(&zipped(only)).unwrap().1.wrapper.as_deref(), Some("my_net"));
}

#[test]
fn a_legacy_storage_that_nobody_wants_is_skipped() {
    let object = Pickle::new().op(b"}(").text("optimizer").op(b"}").text("m").tensor("7", &[4]).op(b"s");
    let object = object.text("state_dict").op(b"}").text("w").tensor("8", &[4, 3]).op(b"su").stop();
    let bytes = legacy(&object, &[("7", 4, &floats(4)), ("8", 12, &floats(12))]);
    let (mut state, _) = read(&bytes).unwrap();
    assert_eq!(state.take("w", &[4, 3]).unwrap().f32s().unwrap()[11], 4.5);
}

#[test]
fn an_untyped_storage_gets_its_type_from_the_tensor() {
    let untyped = |dtype: &str| {
        let p = Pickle::new().op(b"}").text("w").global("torch._utils", "_rebuild_tensor_v3").op(b"((");
        let p = p.text("storage").global("torch.storage", "UntypedStorage").text("0").text("cpu").int(48);
        let p = p.op(b"tQ").int(0).ints(&[24]).ints(&[1]).op(b"\x89N").global("torch", dtype).op(b"tRs");
        zipped(p)
    };
    let (state, _) = read(&untyped("uint16")).unwrap();
    assert_eq!(state.get("w").unwrap().view::<u16>().unwrap()[1], 0xbf80);
    refused(&untyped("uint64"), &["[24]"]);
    refused(&untyped("float8_e4m3fn"), &["float8_e4m3fn"]);
}
