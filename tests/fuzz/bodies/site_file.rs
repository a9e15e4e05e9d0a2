//! Any text as a site's file, and behind a sound one: mistakes are told with their place, and nothing that stands in the place of
//! a password is repeated.

use std::path::Path;

use tapetum::site::config::SiteFile;

const SOUND: &str = "[site]\nname = 'x'\n";
/// Stands for a password wherever a configuration has one.
const SECRET: &str = "qZ9secret9Zq";

/// Looks at one input; panics where something is not as it should be.
pub fn look(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    // The fuzzer finds the word in this program and writes it where no password stands.
    if text.replace(['\t', '\r', '\n'], "").contains(SECRET) {
        return;
    }
    // The folder is not there: no file of this machine is read.
    let path = Path::new("/nonexistent/site.toml");
    for text in [
        text.to_owned(),
        format!("{SOUND}{text}"),
        format!("{SOUND}[camera.a]\npipeline = 'x'\nsource = 'rtsp://u:{SECRET}@h/'\n{text}"),
        format!("{SOUND}[[output]]\nkind = 'webhook'\nurl = 'http://h/{SECRET}'\n{text}"),
    ] {
        if let Err(e) = SiteFile::parse(&text, path) {
            let said = format!("{e} {e:?}");
            assert!(!said.is_empty() && !said.contains(SECRET), "{said}");
        }
    }
}
