//! Health and the API. What each answers is written down in `schema/openapi.json`.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Json, Router,
    extract::{Path, RawQuery, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tapetum_runtime::settings::hint;
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    Site, guard, live,
    media::Media,
    metrics, page,
    problem::Problem,
    server::{PATIENCE, Shared},
};
use crate::{
    recording::format::CLIP,
    site::{event::EventQuery, message::Event},
};

/// How long a snapshot waits for a frame.
const FRAME: Duration = Duration::from_secs(5);

type Ours = State<Arc<Shared>>;
type Answer = Result<Response, Problem>;
type InPath = Result<Path<String>, PathRejection>;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics::metrics))
        .route("/api/v1/status", get(status))
        .route("/api/v1/cameras/{name}", get(camera))
        .route("/api/v1/cameras/{name}/snapshot.jpg", get(snapshot))
        .route("/api/v1/events", get(events))
        .route("/api/v1/events/{id}", get(event))
        .route("/api/v1/events/{id}/clip.mp4", get(event_clip))
        .route("/api/v1/events/{id}/snapshot.jpg", get(event_snapshot))
        .route("/api/v1/media/{*path}", get(media))
        .route("/api/v1/live", get(live::live))
        .route("/api/v1/reload", post(reload))
        .route("/api/v1/session", get(session))
        .route("/api/v1/openapi.json", get(openapi))
        .merge(page::routes())
        .fallback(async || {
            Problem::not_found("there is nothing here; /api/v1/openapi.json lists what there is")
        })
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "that cannot be done here; see /api/v1/openapi.json")
        })
        .layer(middleware::from_fn_with_state(shared.clone(), guard::guard))
        .with_state(shared)
}

/// Calls the site on another thread: it may take its time, and what hangs must not take the server with it.
pub(super) async fn ask<T: Send + 'static>(
    shared: &Shared,
    call: impl FnOnce(&dyn Site) -> T + Send + 'static,
) -> Result<T, Problem> {
    let site = shared.site.clone();
    match timeout(PATIENCE, spawn_blocking(move || call(&*site))).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "a fault in the daemon")),
        Err(_) => {
            let why = format!("the daemon did not answer within {} s", PATIENCE.as_secs());
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why))
        }
    }
}

fn unless(reasons: Vec<String>, good: &'static str, bad: &'static str) -> Answer {
    if reasons.is_empty() {
        return Ok(Json(json!({ "status": good })).into_response());
    }
    let told = Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("{bad}: {}", reasons.join("; ")));
    Err(told.with("reasons", json!(reasons)))
}

/// Open to everybody, so the reasons stay here.
async fn healthz(State(shared): Ours) -> Answer {
    let stuck = ask(&shared, |site| site.stuck()).await?;
    if !stuck.is_empty() && !shared.door.open() {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not alive"));
    }
    unless(stuck, "alive", "not alive")
}

async fn readyz(State(shared): Ours) -> Answer {
    let not_ready = ask(&shared, |site| site.status().not_ready).await?;
    unless(not_ready, "ready", "not ready")
}

async fn status(State(shared): Ours) -> Answer {
    Ok(Json(ask(&shared, |site| site.status()).await?).into_response())
}

async fn camera(State(shared): Ours, name: InPath) -> Answer {
    let name = in_path(name)?;
    let cameras = ask(&shared, |site| site.status().cameras).await?;
    let found = cameras.into_iter().find(|camera| camera.name == name).ok_or_else(no_camera)?;
    Ok(Json(found).into_response())
}

/// The newest frame, as it was looked at, without overlays.
async fn snapshot(State(shared): Ours, name: InPath) -> Answer {
    let mut frames = shared.site.live(&in_path(name)?).ok_or_else(no_camera)?.watch();
    let came = timeout(FRAME, frames.changed()).await;
    let frame = frames.borrow_and_update().clone();
    let (Ok(Ok(())), Some(frame)) = (came, frame) else {
        let why = format!("the camera gave no frame within {} s", FRAME.as_secs());
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why));
    };
    let seq = (HeaderName::from_static("tapetum-seq"), HeaderValue::from(frame.seq));
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg"));
    Ok(([kind, seq], frame.jpeg.clone()).into_response())
}

async fn events(State(shared): Ours, RawQuery(query): RawQuery) -> Answer {
    let query = event_query(query.as_deref().unwrap_or_default()).map_err(Problem::bad_request)?;
    let answer = move |site: &dyn Site| {
        let page = site.events(&query)?;
        let events: Vec<Value> = page.events.iter().map(|event| event_json(event, site.media())).collect();
        Ok::<_, tapetum_runtime::Error>(json!({ "events": events, "next": page.next }))
    };
    Ok(Json(ask(&shared, answer).await??).into_response())
}

async fn event(State(shared): Ours, id: InPath) -> Answer {
    let event = find_event(&shared, in_path(id)?).await?;
    Ok(Json(ask(&shared, move |site| event_json(&event, site.media())).await?).into_response())
}

async fn event_snapshot(State(shared): Ours, id: InPath, headers: HeaderMap) -> Answer {
    let event = find_event(&shared, in_path(id)?).await?;
    let path = event.snapshot.ok_or_else(|| Problem::not_found("this event has no snapshot"))?;
    file(&shared, path, headers).await
}

async fn event_clip(State(shared): Ours, id: InPath, headers: HeaderMap) -> Answer {
    let event = find_event(&shared, in_path(id)?).await?;
    let folder = event.recording.ok_or_else(|| Problem::not_found("nothing was recorded of this event"))?;
    file(&shared, folder.join(CLIP), headers).await
}

async fn media(State(shared): Ours, path: InPath, headers: HeaderMap) -> Answer {
    let path = in_path(path)?;
    file(&shared, path.into(), headers).await
}

async fn file(shared: &Shared, path: std::path::PathBuf, headers: HeaderMap) -> Answer {
    let open = move |site: &dyn Site| match site.media() {
        Some(root) => Media::open(root, &path)?.part(&headers),
        None => Err(Problem::not_found("this site keeps no media")),
    };
    Ok(ask(shared, open).await??.into_response())
}

async fn reload(State(shared): Ours) -> Answer {
    ask(&shared, |site| site.reload()).await??;
    let answer = json!({ "status": "accepted", "see": "config in /api/v1/status" });
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

/// Whether the browser has shown the token and may sign out.
async fn session(State(shared): Ours, headers: HeaderMap) -> Response {
    let known = guard::session(&headers).is_some_and(|session| shared.door.knows(session));
    Json(json!({ "signed_in": known })).into_response()
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("../../../schema/openapi.json"))
        .into_response()
}

async fn find_event(shared: &Shared, id: String) -> Result<Event, Problem> {
    let found = ask(shared, move |site| site.event(&id)).await??;
    found.ok_or_else(|| Problem::not_found("there is no event of this id (any more)"))
}

/// With the addresses of those of its files that are there.
fn event_json(event: &Event, media: Option<&std::path::Path>) -> Value {
    let mut value = json!(event);
    let there = |path: &std::path::Path| media.is_some_and(|media| media.join(path).is_file());
    let address = |name: &str| format!("/api/v1/events/{}/{name}", event.id);
    let snapshot = event.snapshot.as_ref().filter(|path| there(path));
    value["snapshot_url"] = json!(snapshot.map(|_| address("snapshot.jpg")));
    let clip = event.recording.as_ref().filter(|folder| there(&folder.join(CLIP)));
    value["clip_url"] = json!(clip.map(|_| address(CLIP)));
    value
}

fn in_path(part: InPath) -> Result<String, Problem> {
    part.map(|Path(part)| part).map_err(|_| Problem::bad_request("the path is not UTF-8"))
}

fn no_camera() -> Problem {
    Problem::not_found("there is no camera of this name; /api/v1/status lists them")
}

fn event_query(query: &str) -> Result<EventQuery, String> {
    const KNOWN: [&str; 6] = ["camera", "label", "after", "before", "cursor", "limit"];
    let mut wanted = EventQuery::default();
    let mut seen = Vec::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let (name, value) = (name.as_ref(), value.into_owned());
        if seen.iter().any(|s| s == name) {
            return Err(format!("{name:?} is given twice"));
        }
        seen.push(name.to_owned());
        match name {
            "camera" => wanted.camera = Some(value),
            "label" => wanted.label = Some(value),
            "after" => wanted.after = Some(time(name, &value)?),
            "before" => wanted.before = Some(time(name, &value)?),
            "cursor" => wanted.cursor = Some(value),
            "limit" => {
                let limit = value.parse().ok().filter(|n| (1..=EventQuery::MOST).contains(n));
                wanted.limit = limit
                    .ok_or_else(|| format!("limit must be a whole number from 1 to {}", EventQuery::MOST))?;
            }
            _ => return Err(format!("unknown parameter {name:?}{}", hint(name, &KNOWN))),
        }
    }
    Ok(wanted)
}

fn time(name: &str, value: &str) -> Result<SystemTime, String> {
    let parsed = value.parse::<jiff::Timestamp>().ok().and_then(|time| SystemTime::try_from(time).ok());
    parsed.ok_or_else(|| format!("{name} must be a time as RFC 3339 writes it, as in 2026-05-04T03:02:01Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_or_refused_with_the_reason() {
        let query =
            event_query("camera=front%20gate&label=person&after=2026-05-04T03:02:01Z&limit=5").unwrap();
        assert_eq!((query.camera.as_deref(), query.label.as_deref()), (Some("front gate"), Some("person")));
        assert_eq!((query.limit, query.before), (5, None));
        assert_eq!(query.after, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_777_863_721)));
        assert_eq!(event_query("").unwrap(), EventQuery::default());
        for (query, why) in [
            ("limit=0", "limit must be"),
            ("limit=1001", "limit must be"),
            ("limit=x", "limit must be"),
            ("after=yesterday", "after must be a time"),
            ("before=", "before must be a time"),
            ("camera=a&camera=b", "\"camera\" is given twice"),
            ("lable=person", "unknown parameter \"lable\"; did you mean \"label\"?"),
        ] {
            let told = event_query(query).unwrap_err();
            assert!(told.starts_with(why), "{query}: {told}");
        }
    }
}
