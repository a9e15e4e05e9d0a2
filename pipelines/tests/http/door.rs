//! Who may come in: hosts, origins, the token, sessions; with TLS as it is outside of loopback.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, pki_types::CertificateDer};
use tapetum::site::http::{HttpSpec, Serving, TlsFiles, TokenFrom, serve};
use tapetum_runtime::ErrorKind;

use super::{
    certificate::{self, Certificate},
    made::Made,
    wire::{Answer, Ws, answer, connect, get, request, send},
};

pub const TOKEN: &str = "9f86d081884c7d659a2feaa0c55ad015";

/// Files of a server with token and TLS.
struct Files {
    folder: tempfile::TempDir,
    certificate: Certificate,
}

impl Files {
    fn new() -> Self {
        let (folder, certificate) = (tempfile::tempdir().unwrap(), certificate::make());
        for (name, text) in
            [("cert.pem", certificate.cert_pem.as_str()), ("key.pem", &certificate.key_pem), ("token", TOKEN)]
        {
            fs::write(folder.path().join(name), text).unwrap();
            fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        Self { folder, certificate }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn spec(&self, listen: &str) -> HttpSpec {
        HttpSpec {
            listen: vec![listen.parse().unwrap()],
            token: Some(TokenFrom::File(self.path("token"))),
            tls: Some(TlsFiles { cert: self.path("cert.pem"), key: self.path("key.pem") }),
            hosts: vec![],
        }
    }

    fn connect(&self, address: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.certificate.der.clone())).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        StreamOwned::new(client, connect(address))
    }

    fn ask(&self, address: SocketAddr, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
        let mut stream = self.connect(address);
        send(&mut stream, address, method, path, headers, body);
        answer(&mut stream)
    }
}

#[test]
fn only_names_of_this_machine_are_answered_to() {
    let made = Made::new();
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let (_serving, address) =
        made.serve_as(HttpSpec { listen, hosts: vec!["box.lan".into()], ..HttpSpec::default() });
    let port = address.port();
    for (host, status) in [
        (format!("localhost:{port}"), 200),
        (format!("127.0.0.1:{port}"), 200),
        ("[::1]".into(), 200),
        ("BOX.lan".into(), 200),
        ("evil.example".into(), 421),
        (format!("evil.example:{port}"), 421),
        (format!("localhost.evil.example:{port}"), 421),
        ("192.168.1.1".into(), 421),
        ("a b".into(), 400),
        ("".into(), 400),
    ] {
        assert_eq!(get(address, "/api/v1/status", &[&format!("Host: {host}")]).status, status, "{host:?}");
    }
    assert_eq!(get(address, "/", &["Host: localhost", "Host: localhost"]).status, 400);
    assert_eq!(get(address, "/healthz", &["Host: evil.example"]).status, 421);
}

#[test]
fn another_sites_page_can_neither_act_nor_look() {
    let made = Made::new();
    let (_serving, address) = made.serve();
    let own = format!("Origin: http://{address}");
    let others = [
        "Origin: http://evil.example",
        "Origin: null",
        "Origin: http://127.0.0.1:1",
        "Sec-Fetch-Site: cross-site",
    ];
    for other in others {
        assert_eq!(request(address, "POST", "/api/v1/reload", &[other], b"").status, 403, "{other}");
        assert_eq!(Ws::open(address, &[other]).err().map(|answer| answer.status), Some(403), "{other}");
    }
    assert_eq!(made.reloads.load(std::sync::atomic::Ordering::SeqCst), 0);
    assert_eq!(
        request(address, "POST", "/api/v1/reload", &[&own, "Sec-Fetch-Site: same-origin"], b"").status,
        202
    );
    assert!(Ws::open(address, &[&own]).is_ok());
    let status = get(address, "/api/v1/status", &["Origin: http://evil.example"]);
    assert!(status.header("access-control-allow-origin").is_none());
    assert_eq!(status.header("cross-origin-resource-policy"), Some("same-origin"));
}

#[test]
fn wider_than_loopback_needs_token_and_tls_and_then_works() {
    let made = Made::new();
    let files = Files::new();
    let all = files.spec("0.0.0.0:0");
    for spec in [
        HttpSpec { token: None, ..all.clone() },
        HttpSpec { tls: None, ..all.clone() },
        HttpSpec { token: None, tls: None, ..all.clone() },
    ] {
        let refused = serve(&spec, made.clone()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidConfig);
        assert!(refused.to_string().contains("can be reached from outside; this needs"), "{refused}");
    }
    let (_serving, address) = made.serve_as(all);
    let address = SocketAddr::from(([127, 0, 0, 1], address.port()));
    assert_eq!(files.ask(address, "GET", "/healthz", &[], b"").status, 200, "open to everybody");
    for path in [
        "/api/v1/status",
        "/metrics",
        "/readyz",
        "/page.js",
        "/api/v1/media/clip.mp4",
        "/nowhere",
        "/api/v1/live",
    ] {
        let answer = files.ask(address, "GET", path, &[], b"");
        assert_eq!(answer.status, 401, "{path}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("Harbour"));
    }
    assert_eq!(files.ask(address, "POST", "/api/v1/reload", &[], b"").status, 401);
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let status = files.ask(address, "GET", "/api/v1/status", &[&bearer], b"");
    assert_eq!((status.status, status.json()["site"].as_str()), (200, Some("Harbour")));
    let front = files.ask(address, "GET", "/", &[], b"");
    assert_eq!((front.status, front.header("location")), (303, Some("/login")));
}

#[test]
fn who_does_not_finish_the_handshake_is_left() {
    let (made, files) = (Made::new(), Files::new());
    let (_serving, address) = made.serve_as(files.spec("127.0.0.1:0"));
    // Nothing, and the beginning of a hello whose rest comes a byte at a time.
    let waits = [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"].map(|said| {
        std::thread::spawn(move || {
            let mut stream = connect(address);
            stream.write_all(said).unwrap();
            let (mut drip, from) = (stream.try_clone().unwrap(), Instant::now());
            if !said.is_empty() {
                std::thread::spawn(move || {
                    while drip.write_all(&[7]).is_ok() {
                        std::thread::sleep(Duration::from_secs(1));
                    }
                });
            }
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).ok();
            from.elapsed()
        })
    });
    for wait in waits {
        let took = wait.join().unwrap();
        assert!((9..15).contains(&took.as_secs()), "closed after {took:?}");
    }
    assert_eq!(files.ask(address, "GET", "/healthz", &[], b"").status, 200);
}

#[test]
fn a_browser_shows_the_token_once() {
    let made = Made::new();
    let files = Files::new();
    let (_serving, address) = made.serve_as(files.spec("127.0.0.1:0"));
    let form = "Content-Type: application/x-www-form-urlencoded";
    let login = |token: &str| {
        let own = format!("Origin: https://{address}");
        files.ask(address, "POST", "/login", &[form, &own], format!("token={token}").as_bytes())
    };
    assert_eq!(files.ask(address, "GET", "/login", &[], b"").status, 200);
    let wrong = login("wrong");
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, None));
    assert!(wrong.text().contains("That is not the token.") && !wrong.text().contains("wrong"));
    let other = [form, "Origin: https://evil.example"];
    assert_eq!(files.ask(address, "POST", "/login", &other, format!("token={TOKEN}").as_bytes()).status, 403);
    let right = login(TOKEN);
    assert_eq!((right.status, right.header("location")), (303, Some("/")));
    let cookie = right.header("set-cookie").unwrap().to_owned();
    for attribute in
        ["__Host-tapetum=", "; Path=/", "; HttpOnly", "; Secure", "; SameSite=Strict", "; Max-Age=43200"]
    {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(!cookie.contains(TOKEN));
    let session = format!("Cookie: other=1; {}", cookie.split(';').next().unwrap());
    assert_eq!(files.ask(address, "GET", "/", &[&session], b"").status, 200);
    assert_eq!(files.ask(address, "GET", "/api/v1/session", &[&session], b"").json()["signed_in"], true);
    assert_eq!(files.ask(address, "GET", "/", &["Cookie: __Host-tapetum=x"], b"").status, 303);
    assert_eq!(files.ask(address, "POST", "/logout", &[&session], b"").status, 303);
    assert_eq!(files.ask(address, "GET", "/api/v1/status", &[&session], b"").status, 401);
}

#[test]
fn a_live_page_ends_with_its_session() {
    let made = Made::new();
    let files = Files::new();
    let (_serving, address) = made.serve_as(HttpSpec { tls: None, ..files.spec("127.0.0.1:0") });
    let right = request(address, "POST", "/login", &[], format!("token={TOKEN}").as_bytes());
    let session = format!("Cookie: {}", right.header("set-cookie").unwrap().split(';').next().unwrap());
    let (mut page, mut tool) = (
        Ws::open(address, &[&session]).unwrap(),
        Ws::open(address, &[&format!("Authorization: Bearer {TOKEN}")]).unwrap(),
    );
    let asks = |page: &mut Ws| {
        page.say("\"status\"");
        page.hear(Duration::from_secs(10)).unwrap()
    };
    assert_eq!((asks(&mut page).0, asks(&mut tool).0), (1, 1));
    assert_eq!(request(address, "POST", "/logout", &[&session], b"").status, 303);
    let (opcode, why) = asks(&mut page);
    assert_eq!((opcode, &why[..2]), (8, &1008_u16.to_be_bytes()[..]));
    assert_eq!(asks(&mut tool).0, 1, "who shows the token has no session");
}

#[test]
fn guessing_is_slow_and_known_browsers_are_not_hindered() {
    let made = Made::new();
    let files = Files::new();
    let (_serving, address) = made.serve_as(HttpSpec { tls: None, ..files.spec("127.0.0.1:0") });
    let bearer = |token: &str| get(address, "/api/v1/status", &[&format!("Authorization: Bearer {token}")]);
    let right = request(address, "POST", "/login", &[], format!("token={TOKEN}").as_bytes());
    let session = format!("Cookie: {}", right.header("set-cookie").unwrap().split(';').next().unwrap());
    for _ in 0..10 {
        assert_eq!(bearer("wrong").status, 401);
    }
    for answer in [bearer("wrong"), bearer(TOKEN), request(address, "POST", "/login", &[], b"token=x")] {
        assert_eq!(answer.status, 429);
        assert!((1..=60).contains(&answer.header("retry-after").unwrap().parse::<u32>().unwrap()));
    }
    assert_eq!(get(address, "/api/v1/status", &[&session]).status, 200);
}

#[test]
fn what_cannot_be_had_is_told_at_once_and_tells_no_secret() {
    let made = Made::new();
    let files = Files::new();
    let spec = files.spec("127.0.0.1:0");
    let refused = |spec: &HttpSpec| serve(spec, made.clone()).map(|_: Serving| ()).unwrap_err();
    let (_serving, taken) = made.serve();
    let told = refused(&HttpSpec { listen: vec![taken], ..HttpSpec::default() });
    assert_eq!(told.kind(), ErrorKind::Environment);
    assert!(told.to_string().starts_with(&format!("listen {taken}: ")), "{told}");
    let gone = HttpSpec { token: Some(TokenFrom::File(files.path("none"))), ..spec.clone() };
    assert_eq!(refused(&gone).kind(), ErrorKind::Environment);
    fs::write(files.path("token"), "hunter2hunter2").unwrap();
    let told = refused(&spec).to_string();
    assert!(told.contains("16 random bytes") && !told.contains("hunter"), "{told}");
    fs::write(files.path("token"), TOKEN).unwrap();
    fs::write(files.path("key.pem"), certificate::make().key_pem).unwrap();
    let told = refused(&spec);
    assert_eq!(told.kind(), ErrorKind::InvalidConfig);
    assert!(told.to_string().contains("cert.pem"), "{told}");
    fs::write(files.path("key.pem"), "no key").unwrap();
    assert!(refused(&spec).to_string().contains("key.pem"));
}
