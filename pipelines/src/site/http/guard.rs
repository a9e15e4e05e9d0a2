//! What every request passes before it is answered, and what every answer carries.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes, HttpBody, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};

use super::{
    HttpSpec,
    door::Answer,
    host,
    problem::Problem,
    server::{PATIENCE, Shared},
};

/// Bytes of a request's body.
pub(super) const BODY: usize = 64 * 1024;
/// Bound to this host and to TLS by its prefix.
pub(super) const COOKIE: &str = "__Host-tapetum";
/// What is answered to everybody: health for whoever watches the process, and what the login page needs.
const OPEN: [&str; 3] = ["/healthz", "/login", "/page.css"];
/// Nothing but our own files; no scripts or styles in the page itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The address that a request came from.
#[derive(Clone, Copy)]
pub(super) struct Peer(pub IpAddr);

/// Names that the server answers to. A page elsewhere can point a name of its own at our address (DNS rebinding); the browser then
/// calls us by that name.
pub(super) struct Hosts {
    loopback: bool,
    named: Vec<String>,
}

impl Hosts {
    pub fn of(spec: &HttpSpec) -> Self {
        Self { loopback: spec.local(), named: spec.hosts.clone() }
    }

    /// Beyond loopback a certificate says who we are, so that all names will do unless some are given.
    fn knows(&self, host: &str) -> bool {
        host::is_loopback(host)
            || self.named.iter().any(|name| name.eq_ignore_ascii_case(host))
            || (!self.loopback && self.named.is_empty())
    }
}

/// Lets a request through, or answers it.
pub(super) async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let mut answer = match admit(&shared, request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => refusal,
    };
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Not `no-referrer`: browsers then say `Origin: null` with our own forms.
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    answer
}

async fn admit(shared: &Shared, request: Request) -> Result<Request, Response> {
    let refuse = |status, why: &str| Problem::new(status, why).into_response();
    let headers = request.headers();
    let host = one(headers, header::HOST)
        .ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "a request needs one Host header"))?;
    match host::authority(host) {
        Some((name, _)) if shared.hosts.knows(name) => {}
        Some(_) => {
            let why =
                "this server does not answer to that host name; `hosts` in its configuration lists more";
            return Err(refuse(StatusCode::MISDIRECTED_REQUEST, why));
        }
        None => return Err(refuse(StatusCode::BAD_REQUEST, "the Host header is not a host")),
    }
    let acts = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if acts || headers.contains_key(header::UPGRADE) {
        from_here(headers, host).map_err(|why| refuse(StatusCode::FORBIDDEN, why))?;
    }
    if !OPEN.contains(&request.uri().path())
        && let Some(refusal) = refusal(shared, &request)
    {
        return Err(refusal);
    }
    whole_body(request).await
}

/// Browsers say where a request comes from; programs do not.
fn from_here(headers: &HeaderMap, host: &str) -> Result<(), &'static str> {
    if let Some(site) = headers.get("sec-fetch-site")
        && site != "same-origin"
        && site != "none"
    {
        return Err("this was asked for by another site's page");
    }
    match headers.get_all(header::ORIGIN).iter().collect::<Vec<_>>()[..] {
        [] => Ok(()),
        [origin] if origin.to_str().is_ok_and(|origin| host::same_origin(origin, host)) => Ok(()),
        _ => Err("this was asked for by another site's page"),
    }
}

/// The refusal, if there is one.
fn refusal(shared: &Shared, request: &Request) -> Option<Response> {
    if shared.door.open() {
        return None;
    }
    let headers = request.headers();
    if session(headers).is_some_and(|session| shared.door.knows(session)) {
        return None;
    }
    let token = one(headers, header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    if let Some(token) = token {
        match shared.door.shown(token, peer(request)) {
            Answer::Right => return None,
            Answer::TooMany(wait) => return Some(too_many(wait)),
            Answer::Wrong => {}
        }
    } else if request.uri().path() == "/" && *request.method() == Method::GET {
        return Some(Redirect::to("/login").into_response());
    }
    let mut answer = Problem::new(StatusCode::UNAUTHORIZED, "this needs the site's token").into_response();
    let scheme = HeaderValue::from_static("Bearer realm=\"tapetum\"");
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    Some(answer)
}

/// The session that a browser says it has.
pub(super) fn session(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies.filter_map(|value| host::cookie(value, COOKIE)).next()
}

/// Where the connection came from; every connection has told.
pub(super) fn peer(request: &Request) -> IpAddr {
    request.extensions().get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0)
}

pub(super) fn too_many(wait: Duration) -> Response {
    let mut answer =
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens came from this address")
            .into_response();
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    answer
}

/// Takes the body in before anything is done, so that no handler has to think of slow or endless ones.
async fn whole_body(request: Request) -> Result<Request, Response> {
    if request.body().is_end_stream() {
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    let close = |problem: Problem| {
        // What else was sent is not waited for.
        let mut answer = problem.into_response();
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        answer
    };
    let told = body.size_hint().lower();
    let large =
        || close(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a body is at most {BODY} bytes")));
    if told > BODY as u64 {
        return Err(large());
    }
    let bytes: Bytes = match tokio::time::timeout(PATIENCE, to_bytes(body, BODY)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => return Err(large()),
        Err(_) => return Err(close(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come"))),
    };
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

/// The value of a header that is there exactly once.
fn one(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}
