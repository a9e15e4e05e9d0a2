//! The live page and the login page: files that are compiled in.

use std::{
    fmt::Write,
    sync::{Arc, OnceLock},
};

use axum::{
    Router,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use sha2::{Digest, Sha256};

use super::{
    door::{Answer, SESSION},
    guard::{self, COOKIE},
    problem::Problem,
    server::Shared,
};

struct Asset {
    kind: &'static str,
    text: &'static str,
    etag: OnceLock<String>,
}

const HTML: &str = "text/html; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

const fn asset(kind: &'static str, text: &'static str) -> Asset {
    Asset { kind, text, etag: OnceLock::new() }
}

static WALL: Asset = asset(HTML, include_str!("page/index.html"));
static LOGIN: Asset = asset(HTML, include_str!("page/login.html"));
static STYLE: Asset = asset("text/css; charset=utf-8", include_str!("page/page.css"));
static SCRIPTS: [(&str, Asset); 5] = [
    ("/events.js", asset(JS, include_str!("page/events.js"))),
    ("/page.js", asset(JS, include_str!("page/page.js"))),
    ("/picture.js", asset(JS, include_str!("page/picture.js"))),
    ("/tables.js", asset(JS, include_str!("page/tables.js"))),
    ("/words.js", asset(JS, include_str!("page/words.js"))),
];

pub(super) fn routes() -> Router<Arc<Shared>> {
    let mut router = Router::new()
        .route("/", get(|headers: HeaderMap| async move { file(&WALL, &headers) }))
        .route("/page.css", get(|headers: HeaderMap| async move { file(&STYLE, &headers) }))
        .route("/login", get(|headers: HeaderMap| async move { file(&LOGIN, &headers) }).post(login))
        .route("/logout", post(logout));
    for (path, script) in &SCRIPTS {
        router = router.route(path, get(move |headers: HeaderMap| async move { file(script, &headers) }));
    }
    router
}

fn file(asset: &'static Asset, headers: &HeaderMap) -> Response {
    let etag = asset.etag.get_or_init(|| {
        let mut tag = String::from("\"");
        for byte in &Sha256::digest(asset.text)[..8] {
            write!(tag, "{byte:02x}").ok();
        }
        tag + "\""
    });
    // Kept by the browser, but asked for each time: after an update of the daemon everything is new.
    let caching = [(header::ETAG, etag.as_str()), (header::CACHE_CONTROL, "no-cache")];
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    if known.is_some_and(|known| known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag)) {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    (caching, [(header::CONTENT_TYPE, asset.kind)], asset.text).into_response()
}

/// A browser shows the token once and is known by a session from then on.
async fn login(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let peer = guard::peer(&request);
    let Ok(body) = axum::body::to_bytes(request.into_body(), guard::BODY).await else {
        return Problem::bad_request("the form cannot be read").into_response();
    };
    let token = form_token(&body);
    match shared.door.shown(token.trim(), peer) {
        Answer::TooMany(wait) => guard::too_many(wait),
        Answer::Wrong => {
            let text = LOGIN.text.replace("<!-- told -->", "<p role=\"alert\">That is not the token.</p>");
            (StatusCode::UNAUTHORIZED, [(header::CONTENT_TYPE, HTML)], text).into_response()
        }
        Answer::Right if shared.door.open() => Redirect::to("/").into_response(),
        Answer::Right => match shared.door.begin_session() {
            Ok(id) => with_cookie(&id, SESSION.as_secs(), "/"),
            Err(e) => Problem::from(e).into_response(),
        },
    }
}

fn form_token(body: &Bytes) -> String {
    url::form_urlencoded::parse(body)
        .find(|(name, _)| name == "token")
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

async fn logout(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if let Some(session) = guard::session(&headers) {
        shared.door.end_session(session);
    }
    with_cookie("", 0, "/login")
}

fn with_cookie(value: &str, seconds: u64, to: &str) -> Response {
    let cookie = format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; Secure; SameSite=Strict");
    let mut answer = Redirect::to(to).into_response();
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        answer.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    answer
}
