//! Any text as the address of a camera, and in the place of each of its parts: never a panic, and what stands before the @ or is
//! named a password is shown nowhere.

#[allow(dead_code, reason = "the file itself, of which this needs a part")]
#[path = "../../../pipelines/src/source/rtsp/address.rs"]
mod address;
#[allow(dead_code, reason = "the file itself, of which this needs a part")]
#[path = "../../../pipelines/src/source/rtsp/secret.rs"]
mod secret;

use address::{Address, RtspOptions};

const SECRET: &str = "qZ9secret9Zq";

/// Looks at one input; panics where something is not as it should be.
pub fn look(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    // The fuzzer finds the word in this program and writes it where no password stands. Addresses leave these three out.
    if text.replace(['\t', '\r', '\n'], "").contains(SECRET) {
        return;
    }
    let options = RtspOptions::default();
    let _ = Address::parse(text, &options);
    let (a, b) = text.split_once('\n').unwrap_or((text, ""));
    for spec in [
        format!("rtsp://{a}:{SECRET}@cam/{b}"),
        format!("rtsp://u:{a}{SECRET}{b}@cam/"),
        format!("rtsp://u:{SECRET}@{a}/{b}"),
        format!("rtsp://cam/x?password={SECRET}&{a}#{b}"),
    ] {
        let said = match Address::parse(&spec, &options) {
            Ok(address) => {
                let shown = format!("{} {:?}", address.name, address.options);
                assert!(!shown.contains(SECRET), "{shown}");
                // What a server may say of it, in its own words.
                address.secrets.scrub(&format!("{a} {}", address.url))
            }
            Err(e) => format!("{e} {e:?}"),
        };
        assert!(!said.contains(SECRET), "{said}");
    }
}
