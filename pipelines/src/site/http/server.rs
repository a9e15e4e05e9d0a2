//! Binds, accepts, and hands each connection to hyper.

use std::{
    fmt,
    net::{IpAddr, SocketAddr, TcpListener},
    pin::pin,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tapetum_runtime::{Error, ErrorKind, Result, clock::Monotonic};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    HttpSpec, Site, api,
    door::Door,
    guard::{Hosts, Peer},
    patient::Patient,
    tls,
    token::Token,
};

/// Connections at once; who comes when they are taken is told so and sent away.
pub(super) const CONNECTIONS: usize = 128;
/// For a TLS handshake, for the header of a request (the wait for the next one on the connection included), and for its body.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a request's line and headers.
const HEADER_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;
/// For what is being answered when the server stops.
const GRACE: Duration = Duration::from_millis(500);
/// Calls into the site at once; the others wait.
const CALLS: usize = 8;

/// What handlers share.
pub(super) struct Shared {
    pub site: Arc<dyn Site>,
    pub door: Arc<Door>,
    pub hosts: Hosts,
    /// Becomes true when the server stops.
    pub stop: watch::Receiver<bool>,
}

/// A server at work. It stops when this is dropped.
pub struct Serving {
    addresses: Vec<SocketAddr>,
    /// By the address that the configuration says.
    listeners: Vec<(SocketAddr, TcpListener)>,
    door: Arc<Door>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Serving {
    /// The addresses that it listens on, in the order of the configuration, with the ports that were really taken.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Takes no more connections, gives those at work half a second, and returns.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // Its panic was its own; there is nothing to pass on.
            thread.join().ok();
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.end();
    }
}

/// Binds every address of `spec` and serves `site` there, on a thread of its own.
///
/// # Errors
/// `InvalidConfig` if the configuration does not allow it or a file in it is not what it should be, `Environment` if an address
/// or a file cannot be had. Nothing is served then.
pub fn serve(spec: &HttpSpec, site: Arc<dyn Site>) -> Result<Serving> {
    serve_beside(spec, site, None)
}

/// As [`serve`], beside `old`, which is to be stopped then: an address that both have is not let go for a moment, and while the token
/// is the same, browsers that have shown it are still known.
///
/// # Errors
/// As [`serve`]; `old` serves on.
pub fn serve_beside(spec: &HttpSpec, site: Arc<dyn Site>, old: Option<&Serving>) -> Result<Serving> {
    spec.check()?;
    let token = spec.token.as_ref().map(Token::read).transpose()?;
    let tls = spec.tls.as_ref().map(tls::acceptor).transpose()?;
    let listeners = spec.listen.iter().map(|address| bind(*address, old)).collect::<Result<Vec<_>>>()?;
    let kept = spec.listen.iter().copied().zip(&listeners);
    let kept = kept
        .map(|(address, listener)| Ok((address, twin(address, listener)?)))
        .collect::<Result<Vec<_>>>()?;
    let known = old.filter(|old| old.door.has(token.as_ref())).map(|old| old.door.clone());
    let door = known.unwrap_or_else(|| Arc::new(Door::new(token, Arc::new(Monotonic::start()))));
    let addresses = listeners
        .iter()
        .map(|listener| listener.local_addr().map_err(|e| environment("listen", e)))
        .collect::<Result<Vec<_>>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(CALLS)
        .thread_name("http-call")
        .build()
        .map_err(|e| environment("a thread for HTTP", e))?;
    let (stop, stopped) = watch::channel(false);
    let shared = Shared { site, door: door.clone(), hosts: Hosts::of(spec), stop: stopped.clone() };
    let router = api::router(Arc::new(shared));
    let thread = std::thread::Builder::new()
        .name("http".into())
        .spawn(move || {
            runtime.block_on(accept_all(listeners, tls, router, stopped));
            // A call into the site that hangs must not keep the daemon from ending.
            runtime.shutdown_background();
        })
        .map_err(|e| environment("a thread for HTTP", e))?;
    Ok(Serving { addresses, listeners: kept, door, stop, thread: Some(thread) })
}

fn bind(address: SocketAddr, old: Option<&Serving>) -> Result<TcpListener> {
    let held = old.into_iter().flat_map(|old| &old.listeners);
    if let Some((_, listener)) = held.clone().find(|(known, _)| *known == address) {
        return twin(address, listener);
    }
    let listener = TcpListener::bind(address).map_err(|e| {
        let ours = held.clone().any(|(known, _)| known.port() == address.port() && address.port() != 0);
        let hint = if ours && e.kind() == std::io::ErrorKind::AddrInUse {
            " by this very daemon, at another address of the same port; a change between the two takes another port, or a restart"
        } else {
            ""
        };
        Error::new(ErrorKind::Environment, format!("listen {address}: {e}{hint}")).caused_by(e)
    })?;
    listener.set_nonblocking(true).map_err(|e| environment(format!("listen {address}"), e))?;
    Ok(listener)
}

/// The same socket once more.
fn twin(address: SocketAddr, listener: &TcpListener) -> Result<TcpListener> {
    listener.try_clone().map_err(|e| environment(format!("listen {address}"), e))
}

fn environment(place: impl fmt::Display, e: std::io::Error) -> Error {
    Error::new(ErrorKind::Environment, format!("{place}: {e}")).caused_by(e)
}

async fn accept_all(
    listeners: Vec<TcpListener>,
    tls: Option<TlsAcceptor>,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    for listener in listeners {
        tokio::spawn(accept(listener, tls.clone(), router.clone(), room.clone(), stop.clone()));
    }
    stopped(&mut stop).await;
    timeout(GRACE, room.acquire_many(CONNECTIONS as u32)).await.ok();
}

/// Waits for the stop.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error: whoever could stop us is gone, which is a stop too.
    stop.wait_for(|stop| *stop).await.ok();
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    room: Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => return,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of file descriptors, mostly: it gets better when a connection ends.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        stream.set_nodelay(true).ok();
        let Ok(counted) = room.clone().try_acquire_owned() else {
            turn_away(stream, tls.is_some());
            continue;
        };
        let (tls, router, stop) = (tls.clone(), router.clone(), stop.clone());
        let stream = Patient::new(stream, PATIENCE, counted);
        tokio::spawn(async move {
            let peer = peer.ip().to_canonical();
            match tls {
                None => converse(stream, peer, router, stop).await,
                Some(tls) => {
                    if let Ok(Ok(stream)) = timeout(PATIENCE, tls.accept(stream)).await {
                        converse(stream, peer, router, stop).await;
                    }
                }
            }
        });
    }
}

/// Says in one write that there is no room, if that can be understood.
fn turn_away(mut stream: TcpStream, tls: bool) {
    if !tls {
        tokio::spawn(async move {
            let answer =
                b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            timeout(Duration::from_secs(1), stream.write_all(answer)).await.ok();
        });
    }
}

async fn converse<S>(stream: S, peer: IpAddr, router: Router, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router.layer(Extension(Peer(peer))));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_headers(HEADERS)
        .max_header_size(HEADER_BYTES)
        .max_buf_size(4 * HEADER_BYTES);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    // Errors are the peer's: it sent something else than HTTP, was too slow, or went away.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stopped(&mut stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await.ok();
}
