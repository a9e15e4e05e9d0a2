//! The whole file.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tapetum_device::Board;
use tapetum_runtime::{Error, Result, settings::Reader};

use super::{CameraSpec, SiteLimits, camera};
use crate::{
    prepare::hex,
    site::{
        http::HttpSpec,
        output::{self, OutputSpec},
        record::MediaSpec,
    },
};

/// A site as its file says.
#[derive(Clone)]
pub struct SiteFile {
    /// Names it in topics and on the page.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of its text, 64 hexadecimal digits.
    pub sha256: String,
    /// Where what must survive a restart is kept.
    pub state: PathBuf,
    /// The board's profile, if the file asks for one; else it is told from the machine.
    pub board: Option<Board>,
    /// Where in the file name, state folder, board and media are said, as `FILE:LINE:COLUMN`.
    pub(in crate::site) places: [String; 4],
    /// What the cameras share.
    pub limits: SiteLimits,
    /// In the order of the file.
    pub cameras: Vec<CameraSpec>,
    /// Who is told, in the order of the file.
    pub outputs: Vec<OutputSpec>,
    /// Health, metrics and the page.
    pub http: HttpSpec,
    /// Where snapshots and recordings are kept.
    pub media: MediaSpec,
}

impl SiteFile {
    /// Whether the file at `path` is meant to be a site's, not a pipeline's.
    pub fn is_one(path: &Path) -> bool {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let begins = |line: &str| line.starts_with("[site]") || line.starts_with("[camera.");
        text.lines().any(|line| begins(line.trim_start()))
    }

    /// Reads and checks a site file and the pipeline files that it names.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::InvalidConfig`] with every mistake in them, each with line and column.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::config(format!("{}: {e}", path.display())).caused_by(e))?;
        Self::parse(&text, path)
    }

    /// As [`SiteFile::read`], of a text; paths in it are relative to `path`'s folder.
    ///
    /// # Errors
    /// As [`SiteFile::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let mut reader = Reader::new(text, &shown);
        let root = reader.parse(&["site", "limits", "camera", "output", "http", "media"]);
        let folder = path.parent().unwrap_or(Path::new(""));
        let head = reader.required(&root, "site", |r, t, key| r.table(t, key, &["name", "state", "board"]));
        let (mut name, mut state, mut board) = (None, None, None);
        let media_place = reader.told(root.place("media"));
        let mut places = [shown.clone(), shown.clone(), shown.clone(), media_place.clone()];
        if let Some(head) = &head {
            let of_head = |key| reader.told(head.place(key));
            places = [of_head("name"), of_head("state"), of_head("board"), media_place];
            name = reader.required(head, "name", |r, t, key| r.string(t, key));
            state = reader.string(head, "state");
            board = reader.string(head, "board").and_then(|name| match Board::by_name(&name) {
                Ok(board) => Some(board),
                Err(e) => {
                    reader.note(head.place("board"), e.to_string());
                    None
                }
            });
        }
        let limits = SiteLimits::read(&mut reader, &root);
        let cameras = camera::read(&mut reader, &root, folder);
        let outputs = output::read(&mut reader, &root);
        let outputs = outputs.into_iter().map(|output| output.below(folder)).collect();
        let http = match reader.table(&root, "http", HttpSpec::KEYS) {
            Some(table) => HttpSpec::read(&mut reader, &table).map(|spec| spec.below(folder)),
            None => None,
        };
        let state = state.map_or_else(default_state, |state| folder.join(state));
        let media = match reader.table(&root, "media", MediaSpec::KEYS) {
            Some(table) => MediaSpec::read(&mut reader, &table, &state),
            None => None,
        };
        reader.finish()?;
        Ok(Self {
            name: name.unwrap_or_default(),
            path: path.to_owned(),
            sha256: hex(&Sha256::digest(text)),
            media: media.unwrap_or_else(|| MediaSpec::below(&state)),
            state,
            board,
            places,
            limits,
            cameras,
            outputs,
            http: http.unwrap_or_default(),
        })
    }
}

/// What systemd says, else the usual place of a service.
fn default_state() -> PathBuf {
    match std::env::var_os("STATE_DIRECTORY").filter(|dir| !dir.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from("/var/lib/tapetum"),
    }
}
