//! Other outputs while the daemon runs.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

use super::{
    broker::{Broker, Heard, SOON, free_port},
    delivered,
    site::{Daemon, Site},
    until,
};

/// Every line of the JSON Lines files of events in `dir`, in their order.
fn lines(dir: &Path) -> Vec<Value> {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let text: String = files
        .iter()
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("events-"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn key(event: &Value) -> String {
    format!("{}/{}", event["id"].as_str().unwrap(), event["revision"])
}

/// Ids of the events that have ended.
fn ended(events: &[Value]) -> BTreeSet<String> {
    events.iter().filter(|e| e["phase"] == "end").map(|e| e["id"].as_str().unwrap().to_owned()).collect()
}

fn stored(site: &Site) -> BTreeSet<String> {
    let store = rusqlite::Connection::open(site.path("state/site.sqlite")).unwrap();
    let mut query = store.prepare("SELECT id FROM events WHERE phase = 'end'").unwrap();
    query.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

fn told(daemon: &Daemon, output: &str) -> u64 {
    daemon.output(output)["delivered"].as_u64().unwrap()
}

const LINES: &str = "[[output]]\nkind = 'jsonl'\ndir = 'all'\nname = 'all'\n";

#[test]
fn outputs_change_come_and_go_and_the_others_do_not_notice() {
    let site = Site::new();
    site.write(&["left", "right"], LINES);
    let daemon = site.start();
    daemon.until("both tell events", || told(&daemon, "all") > 2 && told(&daemon, "sqlite") > 2);
    let frames = delivered(&daemon, "left");
    let before = told(&daemon, "all");

    // The store is another one on the same file, and files of lines come.
    site.replace("kind = 'sqlite'\n", "kind = 'sqlite'\nkeep_days = 3\n");
    site.append("[[output]]\nkind = 'jsonl'\nname = 'more'\ndir = 'more'\nresults = true\n");
    let config = daemon.reload();
    assert!(config["reload_error"].is_null(), "{config}");
    let did = config["reload_did"].as_array().unwrap();
    assert_eq!(did.len(), 2, "{did:?}");
    assert!(
        did.contains(&"output sqlite changed".into()) && did.contains(&"output more opened".into()),
        "{did:?}"
    );
    assert!(told(&daemon, "all") >= before, "an output that stays as it is is not opened anew");
    daemon.until("the new one is told", || told(&daemon, "more") > 10 && told(&daemon, "sqlite") > 1);
    assert_eq!(daemon.camera("left")["reconnects"], 0);
    assert!(delivered(&daemon, "left") > frames);

    // One goes; nobody wants results any more.
    let text = site.text();
    std::fs::write(
        site.path("site.toml"),
        &text[..text.find("[[output]]\nkind = 'jsonl'\nname = 'more'").unwrap()],
    )
    .unwrap();
    let config = daemon.reload();
    assert_eq!(config["reload_did"], serde_json::json!(["output more removed"]), "{config}");
    assert!(daemon.output("more").is_null());
    let more = lines(&site.path("state/more"));
    assert!(!more.is_empty(), "events that were going on are told to who comes later");
    let events = told(&daemon, "all");
    daemon.until("events go on", || told(&daemon, "all") > events + 2);
    daemon.stop();
    let all = lines(&site.path("state/all"));
    assert_eq!(
        ended(&all),
        stored(&site),
        "every event is in the store, although that was another one in between"
    );
}

#[test]
fn an_output_that_cannot_start_is_refused_with_the_reason_and_taken_in_when_its_file_is_there() {
    let site = Site::new();
    site.write(&["left"], LINES);
    let daemon = site.start();
    daemon.until("it tells events", || told(&daemon, "all") > 0);
    site.replace("dir = 'all'", "dir = 'other'");
    site.append("[[output]]\nkind = 'webhook'\nurl_file = 'hook.url'\n");
    let config = daemon.reload();
    let why = config["reload_error"].as_str().unwrap();
    assert!(why.contains("output webhook") && why.contains("hook.url: cannot read"), "{why}");
    let before = told(&daemon, "all");
    daemon.until("the old ones go on", || told(&daemon, "all") > before);
    // It was opened beside, and closed again.
    assert!(lines(&site.path("state/other")).is_empty() && daemon.output("webhook").is_null());

    // Beside the configuration, as other paths in it; without a signal.
    std::fs::write(site.path("hook.url"), "http://127.0.0.1:9/hidden-word\n").unwrap();
    daemon.until("it is in force", || !daemon.output("webhook").is_null());
    daemon.until("the receiver is not there, which is told", || {
        let output = daemon.output("webhook");
        output["up"] == false && output["spooled"].as_u64().unwrap() > 0
    });
    daemon.until("events go to the other folder", || {
        site.path("state/other").exists() && !lines(&site.path("state/other")).is_empty()
    });
    let log = daemon.stop();
    assert!(!log.contains("hidden-word"), "{log}");
    let spool = rusqlite::Connection::open(site.path("state/webhook.spool.sqlite")).unwrap();
    let kept: i64 = spool.query_row("SELECT count(*) FROM queue", [], |row| row.get(0)).unwrap();
    let since: Vec<Value> = lines(&site.path("state/other"));
    assert!(kept >= since.len() as i64, "{kept} of {} events are kept for the receiver", since.len());
}

#[test]
fn two_outputs_never_have_the_same_file() {
    let site = Site::new();
    site.write(&["left"], "[[output]]\nkind = 'sqlite'\nname = 'again'\n");
    let check = site.check(env!("CARGO_BIN_EXE_tapetumd"));
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(said.contains("outputs \"sqlite\" and \"again\" would both have the file site.sqlite"), "{said}");
}

#[test]
fn a_connection_to_a_broker_lives_on_while_others_change_and_a_spool_is_handed_over() {
    let site = Site::new();
    let (first, second) = (free_port(), free_port());
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let anonymous = "allow_anonymous true";
    let Some(broker) = Broker::start(dirs[0].path(), first, anonymous) else { return };
    let heard = Heard::listen(first, None);
    let mqtt = format!(
        "[[output]]\nkind = 'mqtt'\nhost = '127.0.0.1'\nport = {first}\nprefix = 'site'\ndiscovery = 'ha'\n"
    );
    site.write(&["left", "right"], &format!("{LINES}{mqtt}"));
    let daemon = site.start();
    daemon.until("events come", || heard.events().len() > 2);
    assert_eq!(heard.available(), ["online"]);

    // Something else changes: the broker sees nothing of it.
    site.replace("kind = 'sqlite'\n", "kind = 'sqlite'\nkeep_days = 3\n");
    assert_eq!(daemon.reload()["reload_did"], serde_json::json!(["output sqlite changed"]));
    // A camera goes: what the broker keeps of it is taken back.
    until(SOON, "it is announced", || {
        heard.get("ha/binary_sensor/tapetum_test_right/clear/config").is_some()
    });
    let text = site.text();
    let (from, to) = (text.find("\n[camera.right]").unwrap(), text.find(LINES).unwrap());
    std::fs::write(site.path("site.toml"), text[..from].to_owned() + "\n" + &text[to..]).unwrap();
    assert_eq!(daemon.reload()["reload_did"], serde_json::json!(["camera right removed"]));
    for topic in ["site/right/state", "site/right/clear", "ha/binary_sensor/tapetum_test_right/clear/config"]
    {
        until(SOON, topic, || heard.get(topic).as_deref() == Some(""));
    }
    assert_eq!(heard.available(), ["online"], "the connection has lived on");

    // The broker dies, events wait in the spool, and the output is told another broker: they go there, in their order.
    broker.kill();
    daemon.until("events wait", || daemon.output("mqtt")["spooled"].as_u64().unwrap() > 1);
    let Some(_broker) = Broker::start(dirs[1].path(), second, anonymous) else { return };
    let other = Heard::listen(second, None);
    site.replace(&format!("port = {first}"), &format!("port = {second}"));
    assert_eq!(daemon.reload()["reload_did"], serde_json::json!(["output mqtt changed"]));
    daemon.until("the spool is empty", || {
        let mqtt = daemon.output("mqtt");
        mqtt["up"] == true && mqtt["spooled"] == 0 && mqtt["queued"] == 0
    });
    until(SOON, "the camera's state is told to the new broker, too", || {
        other.get("site/left/state").is_some_and(|state| state.contains("\"online\":true"))
    });
    daemon.stop();
    until(SOON, "it says that it goes", || other.get("site/available").as_deref() == Some("offline"));
    // In order per camera.
    let all = lines(&site.path("state/all"));
    let all: Vec<String> = all.iter().filter(|event| event["camera"] == "left").map(key).collect();
    let mut came = heard.events();
    came.extend(other.events().into_iter().filter(|key| !came.contains(key)).collect::<Vec<_>>());
    let missing: Vec<_> = all.iter().filter(|key| !came.contains(key)).collect();
    // Those that ended the run may still be in the spool, for the next start.
    let spool = rusqlite::Connection::open(site.path("state/mqtt.spool.sqlite")).unwrap();
    let mut query = spool.prepare("SELECT id || '/' || revision FROM queue").unwrap();
    let kept: Vec<String> = query.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    assert!(missing.iter().all(|key| kept.contains(key)), "lost: {missing:?}");
    let order: Vec<_> = came.iter().filter_map(|key| all.iter().position(|k| k == key)).collect();
    assert!(order.is_sorted(), "the order is not kept: {order:?}");
}
