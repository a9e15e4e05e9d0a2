//! Any text as `Host`, `Origin` and `Cookie`: never a panic, and what passes as a host is one.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The file itself: it needs nothing but std, and the crate around it would bring every engine.
#[path = "../../../pipelines/src/site/http/host.rs"]
mod host;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (a, b) = text.split_once('\n').unwrap_or((text, "localhost:8740"));
    if let Some((name, _)) = host::authority(a) {
        assert!(host::is_name(name), "{a:?}: {name:?}");
        assert!(!name.contains(['/', '@', ' ', '\r', '\n']), "{a:?}: {name:?}");
    }
    if host::same_origin(a, b) {
        assert!(a.starts_with("http") && host::authority(b).is_some(), "{a:?} {b:?}");
    }
    let _ = host::is_loopback(a);
    if let Some(value) = host::cookie(a, "__Host-tapetum") {
        assert!(!value.contains(';'), "{a:?}");
    }
});
