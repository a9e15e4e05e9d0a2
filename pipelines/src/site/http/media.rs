//! Files of the site's media folder: snapshots and recordings.

use std::{
    fs::File,
    io::Read,
    path::{Component, Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::header,
    response::{IntoResponse, Response},
};
use hyper::body::{Frame, SizeHint};
use tokio::task::{JoinHandle, spawn_blocking};

use super::problem::Problem;

/// Bytes that are read at once.
const CHUNK: u64 = 64 * 1024;

/// A file that may be shown, with its size.
pub(super) struct Media {
    file: File,
    size: u64,
    kind: &'static str,
}

impl Media {
    /// Opens `relative` below `root`. Blocks.
    pub fn open(root: &Path, relative: &Path) -> Result<Self, Problem> {
        let open = || -> Option<Self> {
            let path = inside(root, relative)?;
            let file = File::open(&path).ok()?;
            let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some(Self { file, size: metadata.len(), kind: kind(&path) })
        };
        open().ok_or_else(|| Problem::not_found("there is no such file (any more)"))
    }
}

impl IntoResponse for Media {
    fn into_response(self) -> Response {
        let body = Body::new(Reading { left: self.size, state: State::Idle(self.file) });
        ([(header::CONTENT_TYPE, self.kind)], body).into_response()
    }
}

/// Where `relative` lies, if that is in `root` after all links were followed, and no part of it is hidden.
fn inside(root: &Path, relative: &Path) -> Option<PathBuf> {
    let visible = |part: Component<'_>| match part {
        Component::Normal(name) => !name.to_string_lossy().starts_with('.'),
        _ => false,
    };
    if relative.as_os_str().is_empty() || !relative.components().all(visible) {
        return None;
    }
    let root = root.canonicalize().ok()?;
    root.join(relative).canonicalize().ok().filter(|path| path.starts_with(&root))
}

fn kind(path: &Path) -> &'static str {
    match path.extension().and_then(|e| e.to_str()) {
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("png") => "image/png",
        Some("mp4") => "video/mp4",
        Some("avi") => "video/x-msvideo",
        Some("json") => "application/json",
        Some("jsonl") => "application/x-ndjson",
        Some("toml" | "txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Reads when the connection takes more, so that a slow reader holds no thread.
struct Reading {
    left: u64,
    state: State,
}

enum State {
    Idle(File),
    Busy(JoinHandle<(File, std::io::Result<Bytes>)>),
    Over,
}

impl HttpBody for Reading {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let mut job = match std::mem::replace(&mut self.state, State::Over) {
            State::Over => return Poll::Ready(None),
            State::Busy(job) => job,
            State::Idle(mut file) => {
                let most = self.left.min(CHUNK);
                spawn_blocking(move || {
                    let mut bytes = Vec::with_capacity(most as usize);
                    let read = (&mut file).take(most).read_to_end(&mut bytes);
                    (file, read.map(|_| bytes.into()))
                })
            }
        };
        let Poll::Ready(done) = Pin::new(&mut job).poll(cx) else {
            self.state = State::Busy(job);
            return Poll::Pending;
        };
        let read = done.map_err(std::io::Error::other).and_then(|(file, read)| Ok((file, read?)));
        Poll::Ready(Some(read.and_then(|(file, bytes)| {
            if bytes.is_empty() {
                return Err(std::io::Error::other("the file became shorter while it was read"));
            }
            self.left -= bytes.len() as u64;
            self.state = State::Idle(file);
            Ok(Frame::data(bytes))
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_of_the_folder_and_nothing_hidden() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("media");
        std::fs::create_dir_all(root.join("a/.tmp")).unwrap();
        for file in ["a/x.jpg", "a/.tmp/x.jpg", ".x.jpg", "../secret.jpg"] {
            std::fs::write(root.join(file), "x").unwrap();
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(folder.path().join("secret.jpg"), root.join("link.jpg")).unwrap();
        let opens = |path: &str| Media::open(&root, Path::new(path)).is_ok();
        assert!(opens("a/x.jpg"));
        let absolute = folder.path().join("secret.jpg");
        for path in [
            "",
            ".",
            "/",
            "a",
            "a/../../secret.jpg",
            "../secret.jpg",
            "../media/a/x.jpg",
            ".x.jpg",
            "a/.tmp/x.jpg",
            "link.jpg",
            "a/x.jpg\0",
            absolute.to_str().unwrap(),
        ] {
            assert!(!opens(path), "{path:?}");
        }
    }
}
