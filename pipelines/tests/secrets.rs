//! `tapetumd` with a password or token everywhere that one can be: none of them is in anything that it says or writes.

#[path = "outputs/receiver.rs"]
#[allow(dead_code, reason = "other suites use the rest")]
mod receiver;
#[path = "rtsp/responder.rs"]
#[allow(dead_code, reason = "other suites use the rest")]
mod responder;
#[path = "daemon/site.rs"]
#[allow(dead_code, reason = "other suites use the rest")]
mod site;

use std::{net::TcpStream, os::unix::fs::PermissionsExt, path::Path, process::Command};

use base64::Engine;
use receiver::{Answer, Receiver};
use responder::Responder;
use site::{Daemon, Site};

/// Each has a word of its own in it, so that a part of it is found, too.
const IN_ADDRESS: &str = "plover-adr%40ess";
const IN_QUERY: &str = "plover-query";
const OF_CAMERA: &str = "plover-camera!";
const OF_BROKER: &str = "plover-broker";
const IN_PATH: &str = "plover-path";
const OF_URL: &str = "plover-url";
const OF_WEBHOOK: &str = "plover-webhook";
const OF_HTTP: &str = "plover-http-0123456789abcdef0123456789abcdef";
const INLINE: &str = "plover-inline";

/// What must be nowhere. All secrets hold the first; and some in the ways that protocols write them.
fn hidden() -> Vec<String> {
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let mut hidden = vec!["plover".to_owned()];
    for pair in [
        format!("alice:{}", IN_ADDRESS.replace("%40", "@")),
        format!("carol:{OF_CAMERA}"),
        OF_HTTP.to_owned(),
    ] {
        hidden.push(base64(&pair));
    }
    hidden
}

#[track_caller]
fn clean(what: &str, said: &[u8]) {
    let text = String::from_utf8_lossy(said);
    for secret in hidden() {
        if let Some(at) = text.find(&secret) {
            let near: String = text[at.saturating_sub(80)..].chars().take(200).collect();
            panic!("{what} shows a secret: … {near} …");
        }
    }
}

fn secret(site: &Site, name: &str, text: &str) -> String {
    let path = site.path(name);
    std::fs::write(&path, format!("{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// A camera that refuses everybody, and says their passwords back in every way that it has.
fn echo() -> Responder {
    Responder::start(|_, mut stream: TcpStream| {
        while let Some(request) = responder::request(&mut stream) {
            let given =
                request.text.lines().find_map(|l| l.strip_prefix("Authorization: ")).unwrap_or_default();
            let secrets = format!("{given} {IN_ADDRESS} {OF_CAMERA} {IN_QUERY}");
            let ask = if given.is_empty() {
                "WWW-Authenticate: Basic realm=\"x\"\r\n".to_owned()
            } else {
                format!("X: {secrets}\r\nWWW-Authenticate: Basic realm=\"{secrets}\"\r\n")
            };
            responder::answer(&mut stream, &request, &format!("401 no {secrets}"), &ask, &secrets);
        }
    })
}

/// Everything that the HTTP side has to say, with and without the token.
fn look_at_everything(daemon: &Daemon) {
    let token = format!("Authorization: Bearer {OF_HTTP}\r\n");
    let wrong = "Authorization: Bearer nonsense-plo-ver\r\n";
    for headers in [token.as_str(), "", wrong] {
        for path in [
            "/",
            "/login",
            "/healthz",
            "/readyz",
            "/metrics",
            "/nowhere",
            "/api/v1/status",
            "/api/v1/openapi.json",
            "/api/v1/cameras/echo",
            "/api/v1/cameras/file",
            "/api/v1/cameras/left",
            "/api/v1/cameras/none",
            "/api/v1/cameras/echo/snapshot.jpg",
            "/api/v1/events",
            "/api/v1/events/none",
            "/api/v1/media/x",
        ] {
            // Ten wrong tokens within a minute, and the right one would have to wait, too.
            if headers == wrong && path != "/api/v1/status" {
                continue;
            }
            let (code, answer) = daemon.request("GET", path, headers);
            clean(&format!("{path} ({code})"), answer.as_bytes());
            if headers == token && path == "/api/v1/status" {
                assert!(code == 200 && answer.contains("\"echo\"") && answer.contains("webhook"), "{answer}");
            }
        }
    }
}

fn everything_in(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => everything_in(&path),
            false => clean(&path.display().to_string(), &std::fs::read(&path).unwrap()),
        }
    }
}

#[test]
fn no_secret_is_shown_anywhere() {
    let site = Site::new();
    let camera = echo();
    let receiver =
        Receiver::start(Box::new(|n| if n < 3 { Answer::Status(500) } else { Answer::Status(200) }));
    let token = secret(&site, "http.token", OF_HTTP);
    let outputs = format!(
        "[[output]]\nkind = 'jsonl'\nresults = true\n\
         [[output]]\nkind = 'mqtt'\nhost = '127.0.0.1'\nport = 1\nuser = 'box'\npassword_file = '{}'\n\
         [[output]]\nkind = 'webhook'\nurl = 'http://127.0.0.1:{}/{IN_PATH}?key={IN_QUERY}'\ntoken_file = '{}'\n\
         [[output]]\nkind = 'webhook'\nname = 'other'\nurl_file = '{}'\n",
        secret(&site, "broker.password", OF_BROKER),
        receiver.port,
        secret(&site, "webhook.token", OF_WEBHOOK),
        secret(&site, "url", &format!("http://127.0.0.1:1/{OF_URL}")),
    );
    site.write(&["left"], "");
    let text = std::fs::read_to_string(site.path("site.toml")).unwrap();
    let text =
        text.replace("listen = '127.0.0.1:0'", &format!("listen = '127.0.0.1:0'\ntoken_file = '{token}'"));
    let cameras = format!(
        "[camera.echo]\nsource = 'rtsp://alice:{IN_ADDRESS}@127.0.0.1:{0}/cam?token={IN_QUERY}'\npipeline = 'eyes.toml'\n\
         [camera.file]\nsource = 'rtsp://127.0.0.1:{0}/cam'\nuser = 'carol'\npassword_file = '{1}'\npipeline = 'eyes.toml'\n",
        camera.port,
        secret(&site, "camera.password", OF_CAMERA),
    );
    let sound = format!("{text}{outputs}{cameras}");
    std::fs::write(site.path("site.toml"), &sound).unwrap();

    let authorized = format!("Authorization: Bearer {OF_HTTP}\r\n");
    let daemon = site.start();
    daemon.settled("both cameras were refused and an event was taken", || {
        let (_, status) = daemon.request("GET", "/api/v1/status", &authorized);
        status.matches("refuses the user name").count() >= 2 && !receiver.keys().is_empty()
    });
    // They did go where they belong.
    assert!(receiver.head().contains(OF_WEBHOOK) && receiver.head().contains(IN_PATH));
    look_at_everything(&daemon);
    // A configuration that is wrong in ways that show what stands there: unknown keys, no TOML, a wrong kind of value.
    for wrong in [
        format!(
            "\n[camera.more]\nsource = 'rtsp://alice:{INLINE}@:x/'\npassword = '{INLINE}'\npipeline = 'none.toml'\n"
        ),
        format!("\n[camera.more]\nsource = 'rtsp://alice:{INLINE}@cam/ \npipeline = 'eyes.toml'\n"),
        format!("\n[camera.more]\nsource = 'RTSP://alice:{INLINE}@cam/'\npipeline = 'eyes.toml'\n"),
        format!("\n[camera.more]\nsource = 'rstp://alice:{INLINE}@cam/1?x=1'\npipeline = 'eyes.toml'\n"),
        format!("\n[camera.more]\nsource = 'loop:rtmp:alice:{INLINE}@cam/1?fps=5'\npipeline = 'eyes.toml'\n"),
        format!("\n[camera.more]\nsource = ['rtsp://alice:{INLINE}@cam/']\nuser = 7\n"),
        format!("\n[[output]]\nkind = 'mqtt'\nname = 'third'\nhost = 'h'\npassword = '{INLINE}'\n"),
        format!("\n[[output]]\nkind = 'webhook'\nname = 'third'\nurl = 'nonsense {INLINE}'\n"),
        format!(
            "\n[[output]]\nkind = 'webhook'\nname = 'third'\nurl = 'http://u:{INLINE}@h:99999/'\ntoken = '{INLINE}'\n"
        ),
        format!("\n[http]\ntoken = '{INLINE}'\n"),
    ] {
        std::fs::write(site.path("site.toml"), format!("{sound}{wrong}")).unwrap();
        let (code, answer) =
            daemon.request("POST", "/api/v1/reload", &format!("{authorized}Content-Length: 0\r\n"));
        clean("the answer to a reload", answer.as_bytes());
        // An output is nothing that is taken in while it runs, and may be sound as such.
        assert!(code == 422 || wrong.contains("[[output]]"), "{code}: {wrong}\n{answer}");
        for program in [env!("CARGO_BIN_EXE_tapetumd"), env!("CARGO_BIN_EXE_tapetum")] {
            let check = site.check(program);
            clean(&format!("{program} check of {wrong}"), &[check.stdout, check.stderr].concat());
        }
    }
    look_at_everything(&daemon);
    let log = daemon.stop();
    assert!(log.contains("camera echo: waiting") && log.contains("is not taken in"), "{log}");
    clean("the log", log.as_bytes());
    everything_in(&site.path("state"));

    // And what a soak says and writes, of a site whose cameras all give frames.
    std::fs::write(site.path("site.toml"), format!("{text}{outputs}")).unwrap();
    let report = site.path("report");
    let mut soak = Command::new(env!("CARGO_BIN_EXE_tapetum"));
    soak.arg("soak")
        .arg(site.path("site.toml"))
        .args(["--minutes", "0.1", "--warm-up", "1", "--out"])
        .arg(&report);
    let soak = soak.env("TAPETUM_CACHE", env!("CARGO_TARGET_TMPDIR")).output().unwrap();
    let said = String::from_utf8_lossy(&soak.stdout).into_owned();
    assert!(said.contains("mqtt is down"), "{said}{}", String::from_utf8_lossy(&soak.stderr));
    clean("the soak", &[soak.stdout, soak.stderr].concat());
    everything_in(&report);
}
