//! Pictures with what was found on them, as they come: one WebSocket per page.
//!
//! The page says what it looks at and asks for each message. Nothing is sent that was not asked for, and then the newest: a slow
//! page builds no queue. It sends, as JSON text:
//! - `{"watch": ["gate", "yard"]}`: the cameras that it will ask for; others are looked at no more,
//! - `{"next": "gate"}`: the next frame of that camera,
//! - `"status"`: the site's status, which comes as JSON text.
//!
//! A frame comes as one binary message, so that picture and findings cannot differ: four bytes with the length of the header, little
//! endian; the header, JSON; the parts that it lists, one after the other.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    extract::{
        State, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    sync::watch::Receiver,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, sleep_until},
};

use super::{
    api::ask,
    guard::session,
    problem::Problem,
    server::{Shared, stopped},
};
use crate::site::live::LiveFrame;

/// Bytes of a message from the page.
const MESSAGE: usize = 16 * 1024;
/// A page that says nothing for so long is gone. Browsers let hidden pages speak once a minute.
const SILENCE: Duration = Duration::from_secs(90);
/// Until a camera that was taken out is looked for again.
const GONE: Duration = Duration::from_millis(250);
/// Cameras that one page looks at.
const CAMERAS: usize = 256;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Wish {
    Watch(Vec<String>),
    Next(String),
    Status,
}

/// `GET /api/v1/live`
pub(super) async fn live(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    // Who shows a token has it for as long as the door does; a session ends by time and by wish.
    let session = session(&headers).filter(|session| shared.door.knows(session)).map(str::to_owned);
    match upgrade {
        Ok(upgrade) => upgrade
            .max_message_size(MESSAGE)
            .max_frame_size(MESSAGE)
            .on_upgrade(move |socket| converse(socket, shared, session)),
        Err(_) => Problem::new(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket").into_response(),
    }
}

/// One camera of a page.
enum Look {
    /// Nothing was asked for.
    Idle(Frames),
    /// The next frame was.
    Waiting(AbortHandle),
}

type Frames = Receiver<Option<Arc<LiveFrame>>>;

/// What waits for frames; without receiver when its camera was taken out.
type Waiting = JoinSet<(String, Option<Frames>)>;

async fn converse(mut socket: WebSocket, shared: Arc<Shared>, session: Option<String>) {
    let mut looks: BTreeMap<String, Look> = BTreeMap::new();
    let mut waiting: Waiting = JoinSet::new();
    let mut stop = shared.stop.clone();
    let mut heard = Instant::now();
    let bye = loop {
        let sent = tokio::select! {
            said = socket.recv() => {
                heard = Instant::now();
                let wish = match said {
                    Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                        Ok(wish) => wish,
                        Err(_) => break Some((1008, "not understood")),
                    },
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    Some(Ok(Message::Binary(_))) => break Some((1003, "text is expected")),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => break None,
                };
                // Nothing is sent that is not asked for, so it is enough to look here.
                if session.as_ref().is_some_and(|session| !shared.door.knows(session)) {
                    break Some((1008, "signed out"));
                }
                match wish {
                    Wish::Watch(names) if names.len() > CAMERAS => break Some((1008, "too many cameras")),
                    Wish::Watch(names) => {
                        watch(&mut looks, names, &shared);
                        Ok(())
                    }
                    Wish::Next(name) => {
                        next(&mut looks, &mut waiting, name);
                        Ok(())
                    }
                    Wish::Status => match status(&shared).await {
                        Some(status) => socket.send(Message::Text(status.into())).await,
                        None => Ok(()),
                    },
                }
            }
            Some(done) = waiting.join_next() => {
                // Not one that was given up, nor one whose camera was taken out.
                let Ok((name, frames)) = done else { continue };
                let Some(look) = looks.get_mut(&name) else { continue };
                match frames {
                    Some(mut frames) => {
                        let frame = frames.borrow_and_update().clone();
                        *look = Look::Idle(frames);
                        match frame {
                            Some(frame) => socket.send(Message::Binary(message(&name, &frame).into())).await,
                            None => Ok(()),
                        }
                    }
                    None => {
                        // Another may have come in its place.
                        looks.remove(&name);
                        watch_too(&mut looks, name.clone(), &shared);
                        next(&mut looks, &mut waiting, name);
                        Ok(())
                    }
                }
            }
            () = sleep_until(heard + SILENCE) => break Some((1001, "nothing was heard")),
            () = stopped(&mut stop) => break Some((1001, "the server stops")),
        };
        if sent.is_err() {
            break None;
        }
    };
    if let Some((code, reason)) = bye {
        // Who does not take it will notice anyway.
        socket.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await.ok();
    }
}

/// Looks at `names` and at nothing else. Unknown ones are passed over: the configuration may just have changed.
fn watch(looks: &mut BTreeMap<String, Look>, names: Vec<String>, shared: &Shared) {
    looks.retain(|name, look| {
        let stays = names.contains(name);
        if let (false, Look::Waiting(task)) = (stays, look) {
            task.abort();
        }
        stays
    });
    for name in names {
        watch_too(looks, name, shared);
    }
}

fn watch_too(looks: &mut BTreeMap<String, Look>, name: String, shared: &Shared) {
    if !looks.contains_key(&name)
        && let Some(live) = shared.site.live(&name)
    {
        looks.insert(name, Look::Idle(live.watch()));
    }
}

fn next(looks: &mut BTreeMap<String, Look>, waiting: &mut Waiting, name: String) {
    let Some(Look::Idle(frames)) = looks.get(&name) else { return };
    let mut frames = frames.clone();
    let task = {
        let name = name.clone();
        waiting.spawn(async move {
            let stays = frames.changed().await.is_ok();
            if !stays {
                // While a configuration is exchanged, not asked for over and over.
                sleep(GONE).await;
            }
            (name, stays.then_some(frames))
        })
    };
    looks.insert(name, Look::Waiting(task));
}

async fn status(shared: &Arc<Shared>) -> Option<String> {
    let status = ask(shared, |site| site.status()).await.ok()?;
    serde_json::to_string(&status).ok()
}

fn message(camera: &str, frame: &LiveFrame) -> Vec<u8> {
    let age = frame.captured.and_then(|captured| SystemTime::now().duration_since(captured).ok());
    let captured = frame.captured.and_then(|captured| jiff::Timestamp::try_from(captured).ok());
    let mut parts = vec![json!({ "kind": "jpeg", "bytes": frame.jpeg.len() })];
    parts.extend(frame.masks.iter().map(
        |mask| json!({ "kind": "mask", "bytes": mask.png.len(), "stage": mask.stage, "labels": mask.labels }),
    ));
    let header = json!({
        "camera": camera,
        "seq": frame.seq,
        "captured": captured.map(|captured| captured.to_string()),
        "age_s": age.map(|age| age.as_secs_f64()),
        "size": frame.size,
        "parts": parts,
    });
    let mut header = header.to_string().into_bytes();
    // The line is JSON already.
    header.pop();
    header.extend(br#","result":"#);
    header.extend(if frame.result.is_empty() { b"null" } else { frame.result.as_slice() });
    header.push(b'}');
    let mut bytes = (header.len() as u32).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(&frame.jpeg);
    frame.masks.iter().for_each(|mask| bytes.extend(&mask.png));
    bytes
}
