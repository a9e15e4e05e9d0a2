//! Files of the site's media folder: snapshots and recordings.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    ops::RangeInclusive,
    path::{Component, Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{HeaderMap, StatusCode, header},
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
    asked: Asked,
}

/// What is asked for of it.
enum Asked {
    Whole,
    Part(RangeInclusive<u64>),
    /// Bytes that it does not have.
    Beyond,
}

impl Media {
    /// Opens `relative` below `root`. Blocks.
    pub fn open(root: &Path, relative: &Path) -> Result<Self, Problem> {
        let open = || -> Option<Self> {
            let path = inside(root, relative)?;
            let file = File::open(&path).ok()?;
            let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some(Self { file, size: metadata.len(), kind: kind(&path), asked: Asked::Whole })
        };
        open().ok_or_else(|| Problem::not_found("there is no such file (any more)"))
    }

    /// The part that `headers` ask for, if they ask for one: players look at a clip's end before its pictures. Blocks.
    pub fn part(mut self, headers: &HeaderMap) -> Result<Self, Problem> {
        // Of a file that has changed since, or of several parts, the whole is the right answer (RFC 9110, 14.2).
        let Some(asked) = headers.get(header::RANGE).filter(|_| !headers.contains_key(header::IF_RANGE))
        else {
            return Ok(self);
        };
        match asked.to_str().ok().and_then(|asked| range(asked, self.size)) {
            None => {}
            Some(Some(part)) => {
                let seek = self.file.seek(SeekFrom::Start(*part.start()));
                seek.map_err(|_| Problem::not_found("there is no such file (any more)"))?;
                self.asked = Asked::Part(part);
            }
            Some(None) => self.asked = Asked::Beyond,
        }
        Ok(self)
    }
}

impl IntoResponse for Media {
    fn into_response(self) -> Response {
        let size = self.size;
        let body = |left| Body::new(Reading { left, state: State::Idle(self.file) });
        let head = [(header::CONTENT_TYPE, self.kind), (header::ACCEPT_RANGES, "bytes")];
        match self.asked {
            Asked::Whole => (head, body(size)).into_response(),
            Asked::Part(part) => {
                let which =
                    [(header::CONTENT_RANGE, format!("bytes {}-{}/{size}", part.start(), part.end()))];
                let body = body(part.end() - part.start() + 1);
                (StatusCode::PARTIAL_CONTENT, head, which, body).into_response()
            }
            Asked::Beyond => {
                let why = format!("the file has {size} bytes");
                let which = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
                (which, Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, why)).into_response()
            }
        }
    }
}

/// `bytes=0-99`, `bytes=100-` or `bytes=-100` of a file of `size` bytes. `None`: not understood, so not heeded;
/// `Some(None)`: there are no such bytes.
fn range(asked: &str, size: u64) -> Option<Option<RangeInclusive<u64>>> {
    let (first, last) = asked.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    let (first, last): (u64, u64) = match (first, last) {
        ("", n) => (size.saturating_sub(number(n)?), size.checked_sub(1).filter(|_| n != "0")?),
        (n, "") => (number(n)?, u64::MAX),
        (a, b) => (number(a)?, number(b)?),
    };
    if last < first {
        return None;
    }
    Some((first < size).then(|| first..=last.min(size.saturating_sub(1))))
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
    fn parts_are_as_they_are_asked_for_or_the_whole() {
        for (asked, part) in [
            ("bytes=0-99", Some(Some(0..=99))),
            ("bytes=900-", Some(Some(900..=999))),
            ("bytes=-100", Some(Some(900..=999))),
            ("bytes=-5000", Some(Some(0..=999))),
            ("bytes=990-5000", Some(Some(990..=999))),
            ("bytes=1000-", Some(None)),
            ("bytes=5-4", None),
            ("bytes=0-1,5-6", None),
            ("bytes=-", None),
            ("bytes=+1-2", None),
            ("lines=0-1", None),
            ("bytes=99999999999999999999-", None),
        ] {
            assert_eq!(range(asked, 1000), part, "{asked}");
        }
        assert_eq!(range("bytes=0-", 0), Some(None));
        assert_eq!(range("bytes=-1", 0), None);
    }

    #[test]
    fn who_asks_for_bytes_that_there_are_not_is_told_how_many_there_are() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("clip.mp4"), [7; 1000]).unwrap();
        let answer = |asked: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, header::HeaderValue::from_static(asked));
            let media = Media::open(folder.path(), Path::new("clip.mp4")).unwrap();
            let answer = media.part(&headers).unwrap().into_response();
            let which = answer.headers()[header::CONTENT_RANGE].to_str().unwrap().to_owned();
            (answer.status().as_u16(), which)
        };
        assert_eq!(answer("bytes=1000-"), (416, "bytes */1000".to_owned()));
        assert_eq!(answer("bytes=990-"), (206, "bytes 990-999/1000".to_owned()));
    }

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
