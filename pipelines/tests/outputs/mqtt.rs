//! MQTT with a real broker.

use std::{
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tapetum::site::{
    event::Ids,
    message::{CameraNews, FrameResult, Message, Phase},
};

use super::{
    broker::{Broker, Heard, SOON, free_port},
    event, message, offer, open, until,
};

fn toml(port: u16, more: &str) -> String {
    format!("[[output]]\nkind = \"mqtt\"\nhost = \"127.0.0.1\"\nport = {port}\nprefix = \"site\"\n{more}\n")
}

fn keys(ids: &[String]) -> Vec<String> {
    ids.iter().map(|id| format!("{id}/0")).collect()
}

fn topics_and_last_will(version: &str) {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let Some(_broker) = Broker::start(dir.path(), port, "allow_anonymous true") else { return };
    let heard = Heard::listen(port, None);
    let more = format!("version = {version:?}\ndiscovery = \"homeassistant\"\nsnapshots = true\n");
    let outputs = open(&toml(port, &more), dir.path());
    std::fs::create_dir_all(dir.path().join("media")).unwrap();
    std::fs::write(dir.path().join("media/a.jpg"), "picture").unwrap();
    let ids = Ids::new().unwrap();
    let mut going = event(&ids, 0, Phase::Start);
    going.snapshot = Some("a.jpg".into());
    outputs[0].offer(&message(&going));
    let news = CameraNews { camera: "gate".to_owned(), online: true, why: None, since: SystemTime::now() };
    outputs[0].offer(&Message::Camera(Arc::new(news)));
    let result = FrameResult { camera: "gate".to_owned(), line: b"{\"seq\":1}\n".to_vec() };
    (0..5).for_each(|_| outputs[0].offer(&Message::Result(Arc::new(result.clone()))));
    let is = |topic: &str, payload: &str| heard.get(topic).as_deref() == Some(payload);
    until(SOON, "all topics have come", || {
        is("site/available", "online")
            && is("site/gate/person", "2")
            && is("site/gate/person/snapshot", "picture")
            && is("site/gate/result", "{\"seq\":1}")
            && heard.get("site/gate/state").is_some_and(|state| state.contains("\"online\":true"))
            && heard.get("homeassistant/binary_sensor/tapetum_yard_gate/person/config").is_some()
            && heard.events() == [format!("{}/0", going.id)]
    });
    assert_eq!(outputs[0].status().dropped["result rate"], 4);
    (going.revision, going.phase) = (1, Phase::End);
    outputs[0].offer(&message(&going));
    until(SOON, "nobody is there any more", || is("site/gate/person", "0"));
    until(SOON, "the spool is empty", || outputs[0].status().spooled == 0);
    // Who comes later gets what is retained.
    let later = Heard::listen(port, None);
    until(SOON, "retained", || {
        later.get("site/gate/person").is_some() && later.get("site/available").as_deref() == Some("online")
    });
    assert!(later.get("site/events").is_none() && later.get("site/gate/result").is_none());
    let start = Instant::now();
    outputs[0].stop(Duration::from_millis(1500));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    until(SOON, "we said that we go", || is("site/available", "offline"));
}

#[test]
fn topics_of_mqtt_3() {
    topics_and_last_will("3.1.1");
}

#[test]
fn topics_of_mqtt_5() {
    topics_and_last_will("5");
}

/// The broker is killed, events go on, it comes back: nothing is lost, and the order is kept.
fn broker_gone(version: &str) {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let anonymous = "allow_anonymous true";
    let Some(broker) = Broker::start(dir.path(), port, anonymous) else { return };
    let ids = Ids::new().unwrap();
    let heard = Heard::listen(port, None);
    let outputs = open(&toml(port, &format!("version = {version:?}")), dir.path());
    let mut made = offer(&*outputs[0], &ids, 50);
    until(SOON, "the first events have come", || heard.events().len() >= 50);
    // Killed in the middle of more.
    made.extend(offer(&*outputs[0], &ids, 300));
    broker.kill();
    until(SOON, "that it is gone is told", || !outputs[0].status().up);
    made.extend(offer(&*outputs[0], &ids, 200));
    assert!(outputs[0].flush(SOON));
    // The daemon dies, too.
    outputs[0].stop(Duration::from_millis(500));
    drop(outputs);
    let before = heard.events();
    let _broker = Broker::start(dir.path(), port, anonymous).unwrap();
    let again = Heard::listen(port, None);
    let outputs = open(&toml(port, &format!("version = {version:?}")), dir.path());
    let last = keys(&made).pop().unwrap();
    until(SOON, "the rest has come", || again.events().last() == Some(&last));
    let mut all = before.clone();
    all.extend(again.events().into_iter().filter(|key| !before.contains(key)));
    // What the broker had taken but not handed on when it was killed was its own to lose: nothing of what it had not.
    let taken = keys(&made);
    let missing: Vec<_> = taken.iter().filter(|key| !all.contains(key)).collect();
    assert!(missing.len() <= 300 && !taken[350..].iter().any(|key| !all.contains(key)), "{missing:?}");
    assert!(all.iter().map(|key| taken.iter().position(|k| k == key)).is_sorted(), "the order is not kept");
    until(SOON, "the spool is empty", || outputs[0].status().spooled == 0);
    assert!(outputs[0].status().dropped.is_empty());
}

#[test]
fn a_broker_that_is_killed_and_comes_back_mqtt_3() {
    broker_gone("3.1.1");
}

#[test]
fn a_broker_that_is_killed_and_comes_back_mqtt_5() {
    broker_gone("5");
}

#[test]
fn a_killed_daemon_is_told_by_its_last_will_and_a_wrong_password_without_the_password() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let users = dir.path().join("users");
    let password = dir.path().join("password");
    std::fs::write(&password, "s3cret\n").unwrap();
    std::fs::write(&users, "box:s3cret\n").unwrap();
    // Says in the file what the password's hash is; the tool comes with the broker.
    if !Command::new("mosquitto_passwd").arg("-U").arg(&users).status().is_ok_and(|status| status.success()) {
        assert!(
            Broker::start(dir.path(), port, "allow_anonymous true").is_none(),
            "there is no mosquitto_passwd"
        );
        return;
    }
    let more = format!("allow_anonymous false\npassword_file {}", users.display());
    let Some(_broker) = Broker::start(dir.path(), port, &more) else { return };
    let login = Some(("box", "s3cret"));
    let heard = Heard::listen(port, login);
    let entry = format!("user = \"box\"\npassword_file = {:?}", password.display().to_string());
    for version in ["3.1.1", "5"] {
        let place = tempfile::tempdir().unwrap();
        let outputs = open(&toml(port, &format!("{entry}\nversion = {version:?}")), place.path());
        until(SOON, "online", || heard.available().last().is_some_and(|last| last == "online"));
        // Not stopped: as if it were killed, the connection ends without a word.
        drop(outputs);
        until(SOON, "offline", || heard.get("site/available").as_deref() == Some("offline"));
        std::fs::write(dir.path().join("wrong"), "guess\n").unwrap();
        let entry =
            format!("user = \"box\"\npassword_file = {:?}", dir.path().join("wrong").display().to_string());
        let outputs = open(&toml(port, &format!("{entry}\nversion = {version:?}")), place.path());
        until(SOON, "the refusal is told", || {
            outputs[0].status().why.is_some_and(|why| why.contains("refused") && !why.contains("guess"))
        });
    }
}

#[test]
fn tls_with_an_authority_of_our_own_and_a_certificate_that_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let openssl = |args: &str| {
        let mut command = Command::new("openssl");
        command.args(args.split(' ')).current_dir(dir.path()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let made = openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ours -keyout ca.key -out ca.crt")
        && openssl(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=others -keyout other.key -out other.crt",
        )
        && openssl("req -newkey rsa:2048 -nodes -subj /CN=broker -keyout broker.key -out broker.csr")
        && std::fs::write(dir.path().join("names"), "subjectAltName=IP:127.0.0.1\n").is_ok()
        && openssl(
            "x509 -req -in broker.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out broker.crt",
        );
    if !made {
        return tapetum_parts::missing("openssl", "it makes no certificates");
    }
    let port = free_port();
    let file = |name: &str| dir.path().join(name).display().to_string();
    let more =
        format!("allow_anonymous true\ncertfile {}\nkeyfile {}", file("broker.crt"), file("broker.key"));
    let Some(_broker) = Broker::start(dir.path(), port, &more) else { return };
    for version in ["3.1.1", "5"] {
        let with = |ca: &str| format!("version = {version:?}\ntls = true\nca = {:?}", file(ca));
        let place = tempfile::tempdir().unwrap();
        let outputs = open(&toml(port, &with("ca.crt")), place.path());
        offer(&*outputs[0], &Ids::new().unwrap(), 3);
        until(SOON, "taken", || outputs[0].status().delivered == 3);
        drop(outputs);
        let outputs = open(&toml(port, &with("other.crt")), place.path());
        until(SOON, "not trusted", || outputs[0].status().why.is_some_and(|why| why.contains("ertificate")));
        assert!(!outputs[0].status().up);
    }
}

/// A broker that denies one topic, and the file that says so.
fn denying(dir: &std::path::Path, port: u16, topic: &str) -> Option<(Broker, std::path::PathBuf)> {
    let rights = dir.join("rights");
    std::fs::write(&rights, format!("topic readwrite #\ntopic deny {topic}\n")).unwrap();
    let broker = Broker::start(dir, port, &format!("allow_anonymous true\nacl_file {}", rights.display()))?;
    Some((broker, rights))
}

#[test]
fn a_state_that_the_broker_denies_holds_up_no_event() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let Some(_broker) = denying(dir.path(), port, "site/available") else { return };
    let heard = Heard::listen(port, None);
    let outputs = open(&toml(port, "version = \"5\""), dir.path());
    let made = offer(&*outputs[0], &Ids::new().unwrap(), 60);
    until(SOON, "all events are taken", || outputs[0].status().delivered == 60);
    until(SOON, "all events have come", || heard.events() == keys(&made));
    assert_eq!(heard.deliveries().len(), 60, "each once: the connection was not ended");
    let status = outputs[0].status();
    assert!(status.up && status.why.as_ref().is_some_and(|why| why.contains("site/available")), "{status:?}");
}

#[test]
fn events_that_the_broker_denies_wait_until_it_takes_them() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let Some((broker, rights)) = denying(dir.path(), port, "site/events") else { return };
    let heard = Heard::listen(port, None);
    let outputs = open(&toml(port, "version = \"5\""), dir.path());
    let made = offer(&*outputs[0], &Ids::new().unwrap(), 5);
    until(SOON, "it is told which topic", || {
        let status = outputs[0].status();
        !status.up && status.why.is_some_and(|why| why.contains("site/events"))
    });
    // It is tried again more and more seldom: after 3 s the waits are longer than a second.
    std::thread::sleep(Duration::from_secs(3));
    let connections = heard.available().iter().filter(|said| *said == "online").count();
    assert!((2..8).contains(&connections), "{connections} connections in three seconds");
    assert_eq!((outputs[0].status().spooled, heard.events().len()), (5, 0));
    std::fs::write(rights, "topic readwrite #\n").unwrap();
    broker.look_again();
    until(SOON, "all events have come", || heard.events() == keys(&made));
}
