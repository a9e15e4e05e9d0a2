//! Any bytes as a request to a real daemon without cameras, with a token, over a socket: as they are, and in the place of path,
//! query, header and body. It never panics, goes on answering, and opens to nobody who has not shown the token.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::{Arc, LazyLock},
    time::Duration,
};

use tapetum::site::{config::SiteFile, daemon::Daemon};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

const SOON: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(15);

static SITE: LazyLock<(Daemon, SocketAddr)> = LazyLock::new(|| {
    let state = std::env::temp_dir().join(format!("tapetum-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&state).expect("a folder for temporary files");
    let token = state.join("token");
    std::fs::write(&token, TOKEN).expect("the token is written");
    #[cfg(unix)]
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("only ours");
    let (folder, token) = (state.display(), token.display());
    let text = format!(
        "[site]\nname = 'x'\nstate = '{folder}'\n[http]\nlisten = '127.0.0.1:0'\ntoken_file = '{token}'\n[[output]]\nkind = 'sqlite'\n"
    );
    let file = SiteFile::parse(&text, Path::new("/nonexistent/site.toml")).expect("a sound site");
    let daemon = Daemon::start(file, None, Arc::new(|_, _| {})).expect("it starts");
    let address = daemon.addresses()[0];
    (daemon, address)
});

/// Signed in before any wrong token is shown: after ten of those a token is not looked at for a while, but a session is.
static SESSION: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let body = format!("token={TOKEN}");
    let head = "POST /login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let login = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    let answer = String::from_utf8_lossy(&ask(login.as_bytes(), LONG)).into_owned();
    let at = answer.find("__Host-tapetum=").unwrap_or_else(|| panic!("no session: {answer}"));
    format!("Cookie: {}\r\n", answer[at..].split([';', '\r']).next().unwrap_or_default()).into_bytes()
});

/// What is answered within `time`; a request that is not whole is waited for by the other side, and given up by this one.
fn ask(request: &[u8], time: Duration) -> Vec<u8> {
    let mut stream = TcpStream::connect(SITE.1).expect("it listens");
    stream.set_read_timeout(Some(time)).expect("a time");
    // It may answer, and close, before it has read all.
    stream.write_all(request).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    answer
}

/// Looks at one input; panics where something is not as it should be.
pub fn look(bytes: &[u8]) {
    let (a, b) = bytes.split_at(bytes.len() / 2);
    let host = b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let token = SESSION.clone();
    let get = |path: &[u8], query: &[u8], more: &[u8]| [b"GET /", path, query, host, more, b"\r\n"].concat();
    for open in [
        get(b"api/v1/events?", bytes, &token),
        get(b"api/v1/media/", bytes, &token),
        get(b"api/v1/cameras/", bytes, &token),
        get(a, b, &token),
    ] {
        let answer = ask(&open, SOON);
        assert!(!answer.starts_with(b"HTTP/1.1 429"), "{}", String::from_utf8_lossy(&answer));
    }
    ask(
        &[
            &b"POST /login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: "[..],
            a.len().to_string().as_bytes(),
            b"\r\n\r\n",
            a,
        ]
        .concat(),
        SOON,
    );
    for closed in [
        bytes.to_vec(),
        get(b"api/v1/status", b"", bytes),
        get(b"api/v1/status", b"", &[b"Authorization: ", bytes, b"\r\n"].concat()),
        get(b"api/v1/status", b"", &[b"Cookie: __Host-tapetum=", bytes, b"\r\n"].concat()),
        get(
            b"api/v1/live",
            b"",
            &[b"Upgrade: websocket\r\nSec-WebSocket-Key: ", a, b"\r\nOrigin: ", b, b"\r\n"].concat(),
        ),
    ] {
        let answer = String::from_utf8_lossy(&ask(&closed, SOON)).into_owned();
        let told = answer.contains("\"uptime_s\"") || answer.contains("101 Switching");
        assert!(!told || closed.windows(TOKEN.len()).any(|w| w == TOKEN.as_bytes()), "opened: {answer}");
    }
    let alive = ask(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", LONG);
    assert!(alive.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&alive));
}
