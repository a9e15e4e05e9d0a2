//! The HTTP side while the daemon runs: other addresses, tokens and certificates, without a moment without a door.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName},
};

use super::{
    broker::{SOON, free_port},
    certificate::{self, Certificate},
    site::Site,
    until,
};

const TOKENS: [&str; 2] = ["9f86d081884c7d659a2feaa0c55ad015", "b1946ac92492d2347c6235b4d2611184"];

/// Status code of a request over TLS by whoever trusts `certificate` only; none if there is no such server.
fn ask(port: u16, certificate: &Certificate, token: &str) -> Option<u16> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certificate.der.clone())).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream);
    let request = format!(
        "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse().ok()
}

/// As certbot does: whole files, put in place by a rename.
fn put(site: &Site, certificate: &Certificate) {
    for (name, text) in [("key.pem", &certificate.key_pem), ("cert.pem", &certificate.cert_pem)] {
        std::fs::write(site.path("new"), text).unwrap();
        std::fs::rename(site.path("new"), site.path(name)).unwrap();
    }
}

fn put_token(site: &Site, token: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(site.path("new"), token).unwrap();
    std::fs::set_permissions(site.path("new"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(site.path("new"), site.path("token")).unwrap();
}

#[test]
fn a_door_is_changed_while_another_is_open_and_one_that_cannot_be_had_is_refused() {
    let site = Site::new();
    site.write(&["left"], "");
    let daemon = site.start();
    assert_eq!(daemon.get("/healthz").0, 200);
    // A port that is taken: the old door stays.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    site.replace("listen = '127.0.0.1:0'", &format!("listen = ['127.0.0.1:0', '{address}']"));
    let why = daemon.reload()["reload_error"].as_str().unwrap().to_owned();
    assert!(why.contains("[http]") && why.contains(&address.to_string()) && why.contains("in use"), "{why}");
    // It is free now, which nothing tells, so the daemon is told to look again.
    drop(taken);
    let config = daemon.reload();
    assert_eq!(config["reload_did"], serde_json::json!(["[http] changed"]), "{config}");
    assert!(TcpStream::connect(address).is_ok(), "the new address");
    assert_eq!(daemon.get("/healthz").0, 200, "and the old one, which it has still");
    daemon.stop();
}

#[test]
fn renewed_certificates_and_tokens_are_taken_in_without_a_signal() {
    let site = Site::new();
    let (first, second) = (certificate::make(), certificate::make());
    put(&site, &first);
    put_token(&site, TOKENS[0]);
    let port = free_port();
    let address: SocketAddr = ([127, 0, 0, 1], port).into();
    site.write(&["left"], "");
    site.replace(
        "listen = '127.0.0.1:0'",
        &format!("listen = '{address}'\ntoken_file = 'token'\ntls_cert = 'cert.pem'\ntls_key = 'key.pem'"),
    );
    let daemon = site.start();
    assert_eq!(ask(port, &first, TOKENS[0]), Some(200));
    assert_eq!(ask(port, &first, TOKENS[1]), Some(401));
    assert_eq!(ask(port, &second, TOKENS[0]), None, "not yet");
    put(&site, &second);
    until(SOON, "the new certificate", || ask(port, &second, TOKENS[0]) == Some(200));
    assert_eq!(ask(port, &first, TOKENS[0]), None);
    put_token(&site, TOKENS[1]);
    until(SOON, "the new token", || ask(port, &second, TOKENS[1]) == Some(200));
    assert_eq!(ask(port, &second, TOKENS[0]), Some(401), "the old one is worth nothing any more");

    // Half of a renewal fits nothing: refused, and the door in force stays.
    std::fs::write(site.path("cert.pem"), &first.cert_pem).unwrap();
    until(SOON, "it is told", || daemon.log().contains("not taken in"));
    assert_eq!(ask(port, &second, TOKENS[1]), Some(200));
    let log = daemon.stop();
    assert!(TOKENS.iter().all(|token| !log.contains(token)), "{log}");
}
