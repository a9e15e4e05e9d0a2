//! The files that a configuration goes by, as they are at a moment: by time and size, which costs nothing and works on every file
//! system. Also those that a refused configuration names: what is wrong may be one of them.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use tapetum_runtime::settings::strings_under;

/// Keys of `site.toml` whose values are files; relative ones are below its folder.
pub(crate) const OF_SITE: &[&str] =
    &["pipeline", "password_file", "token_file", "url_file", "ca", "cert", "key", "tls_cert", "tls_key"];

/// Keys of a pipeline file whose values are files; relative ones are below its folder.
const OF_PIPELINE: &[&str] = &["file", "checkpoint", "contract"];

/// A file as it was; `None`: it was not there.
pub type Look = Option<(SystemTime, u64)>;

/// Files as they were.
pub type Looks = Vec<(PathBuf, Look)>;

/// How the file at `path` is now.
pub fn look(path: &Path) -> Look {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

/// How each of them is now.
pub fn looks(paths: impl IntoIterator<Item = PathBuf>) -> Looks {
    let one = |path: PathBuf| {
        let look = look(&path);
        (path, look)
    };
    paths.into_iter().map(one).collect()
}

/// The site file itself and everything that it names, whether or not it is sound.
pub fn files(site: &Path) -> Vec<PathBuf> {
    let mut files = vec![site.to_owned()];
    files.extend(strings_in(site, OF_SITE));
    files.extend(strings_in(site, &["pipeline"]).flat_map(|pipeline| of_pipeline(&pipeline)));
    files.sort();
    files.dedup();
    files
}

/// What a pipeline file names: models and contracts.
pub fn of_pipeline(file: &Path) -> Vec<PathBuf> {
    strings_in(file, OF_PIPELINE).collect()
}

/// What stands under `keys` in `file`, as paths. Nothing of a file that is not there.
fn strings_in(file: &Path, keys: &[&str]) -> impl Iterator<Item = PathBuf> + use<> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let folder = file.parent().unwrap_or(Path::new("")).to_owned();
    strings_under(&text, keys).into_iter().map(move |value| folder.join(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_mistakes_names_its_files_too() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(
            at("site.toml"),
            "[http]\ntls_cert = 'c.pem'\ntls_key = 'k.pem'\ntoken_file = 't'\n[camera.a]\npipeline = 'p.toml'\npipelin = 3\n\
             password_file = '/abs/word'\n[[output]]\nkind = 'mqtt'\nca = 'ca.pem'\nwrong = = 1\n",
        )
        .unwrap();
        std::fs::write(
            at("p.toml"),
            "[model.m]\nfile = 'm.onnx'\ncontract = 'm.toml'\n[model.n]\ncheckpoint = 'n.pt'\n",
        )
        .unwrap();
        let found = files(&at("site.toml"));
        for name in ["site.toml", "p.toml", "c.pem", "k.pem", "t", "ca.pem", "m.onnx", "m.toml", "n.pt"] {
            assert!(found.contains(&at(name)), "{name} is not in {found:?}");
        }
        assert!(found.contains(&PathBuf::from("/abs/word")));
    }

    #[test]
    fn every_key_of_an_output_or_of_http_that_names_a_file_is_known() {
        let keys = crate::site::output::OUTPUTS
            .iter()
            .flat_map(|kind| kind.keys())
            .chain(crate::site::http::HttpSpec::KEYS);
        // Files that are written, not read.
        let written = ["file"];
        for key in keys {
            let names_a_file =
                key.ends_with("file") || ["ca", "cert", "key"].contains(key) || key.starts_with("tls_");
            if names_a_file && !written.contains(key) {
                assert!(OF_SITE.contains(key), "{key} is not watched");
            }
        }
    }
}
