//! From an address to a stream that plays.

use std::{future::Future, time::Duration};

use retina::{
    client::{
        Demuxed, InitialTimestampPolicy, PlayOptions, Session, SessionOptions, SetupOptions, Stream,
        TcpTransportOptions, UdpTransportOptions,
    },
    codec::{FrameFormat, ParametersRef},
};
use tapetum_runtime::{Error, Result};
use tokio::{runtime::Runtime, time::timeout};

use super::{
    address::{Address, Transport},
    lost,
};
use crate::source::{
    live::{GLANCE, Stop},
    packets::Codec,
};

/// A stream that plays.
pub(super) struct Connected {
    pub(super) items: Demuxed,
    pub(super) codec: Codec,
    /// As the camera announces it.
    pub(super) size: Option<(usize, usize)>,
    pub(super) interval: Option<Duration>,
}

/// Connects, and chooses the first video stream that can be decoded.
///
/// # Errors
/// What went wrong, without secrets: [`tapetum_runtime::ErrorKind::InvalidConfig`] if the camera refuses the password,
/// [`tapetum_runtime::ErrorKind::Unsupported`] if it sends nothing that is decoded here,
/// [`tapetum_runtime::ErrorKind::Environment`] for what may go away by itself.
pub(super) fn connect(runtime: &Runtime, address: &Address, stop: &Stop) -> Result<Connected> {
    let limit = address.options.connect;
    let all = async {
        tokio::select! {
            biased;
            () = stopped(stop) => Err(lost("stopped while connecting")),
            done = timeout(limit, dialogue(address)) => done.unwrap_or_else(|_| {
                Err(lost(format!("the camera did not answer within {:.1} s", limit.as_secs_f64())))
            }),
        }
    };
    runtime.block_on(all).map_err(|e| e.at(&address.name))
}

async fn stopped(stop: &Stop) {
    while !stop.is_set() {
        tokio::time::sleep(GLANCE).await;
    }
}

async fn dialogue(address: &Address) -> Result<Connected> {
    let credentials = address
        .options
        .credentials
        .as_ref()
        .map(|c| retina::client::Credentials { username: c.user.clone(), password: c.password.clone() });
    let given = credentials.is_some();
    let session = SessionOptions::default().creds(credentials).user_agent("tapetum".to_owned());
    let explain = |e: retina::Error| explained(&e, address, given);
    let mut session = Session::describe(address.url.clone(), session).await.map_err(explain)?;
    let (stream, codec) = choose(session.streams())?;
    let transport = match address.options.transport {
        Transport::Tcp => retina::client::Transport::Tcp(TcpTransportOptions::default()),
        Transport::Udp => retina::client::Transport::Udp(UdpTransportOptions::default()),
    };
    let setup = SetupOptions::default().transport(transport).frame_format(FrameFormat::SIMPLE);
    short(session.setup(stream, setup)).await.map_err(explain)?;
    let play = PlayOptions::default().initial_timestamp(InitialTimestampPolicy::Permissive);
    let items = short(session.play(play)).await.map_err(explain)?.demuxed().map_err(explain)?;
    let described = &items.streams()[stream];
    let (mut size, mut rate) = (None, described.framerate().map(f64::from));
    if let Some(ParametersRef::Video(video)) = described.parameters() {
        let (width, height) = video.pixel_dimensions();
        size = Some((width as usize, height as usize));
        // A fraction: units in a tick over ticks in a second.
        rate = video.frame_rate().map(|(units, ticks)| f64::from(ticks) / f64::from(units)).or(rate);
    }
    let rate = rate.filter(|fps| (0.01..=1000.0).contains(fps));
    let interval = rate.map(|fps| Duration::from_secs_f64(1.0 / fps));
    Ok(Connected { codec, size, interval, items })
}

/// Keeps the parts of the dialogue off the stack of the whole.
fn short<F: Future>(part: F) -> std::pin::Pin<Box<F>> {
    Box::pin(part)
}

/// The first video stream that can be decoded here.
fn choose(streams: &[Stream]) -> Result<(usize, Codec)> {
    let codec = |s: &Stream| match (s.media(), s.encoding_name()) {
        ("video", "h264") => Some(Codec::H264),
        ("video" | "image", "jpeg") => Some(Codec::Jpeg),
        _ => None,
    };
    if let Some(found) = streams.iter().enumerate().find_map(|(at, s)| Some((at, codec(s)?))) {
        return Ok(found);
    }
    // What a camera sends is quoted only as far as it looks like the name of a codec.
    let name = |s: &Stream| -> String {
        s.encoding_name()
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(20)
            .collect::<String>()
            .to_uppercase()
    };
    let video: Vec<String> = streams.iter().filter(|s| s.media() == "video").map(name).collect();
    Err(Error::unsupported(match video.as_slice() {
        [] => format!("no video among the camera's {} streams", streams.len()),
        _ => format!(
            "the camera sends {}; this build decodes H.264 and MJPEG only: choose one of them in the camera's settings, or \
             its sub-stream",
            video.join(", ")
        ),
    }))
}

/// An error of retina in our words.
fn explained(e: &retina::Error, address: &Address, given: bool) -> Error {
    let said = address.secrets.scrub(&e.to_string());
    match e.status_code() {
        Some(401 | 403) if given => {
            Error::config(format!("the camera refuses the user name and password that it was given ({said})"))
        }
        Some(401 | 403) => Error::config(format!("the camera wants a user name and a password ({said})")),
        Some(404) => lost(format!("the camera has no stream of this path ({said})")),
        _ => lost(said),
    }
}
