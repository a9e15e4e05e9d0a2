//! A real broker, mosquitto, and who listens to it.

use std::{
    collections::{BTreeMap, HashSet},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};

use tapetum_parts::there;

use super::until;

/// How long anything may take on a machine that does other things, too.
pub const SOON: Duration = Duration::from_secs(20);

pub struct Broker(Child);

impl Broker {
    /// A broker on `port`; none, and said, where mosquitto is not there.
    pub fn start(dir: &Path, port: u16, more: &str) -> Option<Self> {
        let config = dir.join("mosquitto.conf");
        std::fs::write(&config, format!("user root\nlistener {port} 127.0.0.1\n{more}\n")).unwrap();
        let start = |program| {
            let mut command = Command::new(program);
            command.arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
        };
        let broker = Self(there("mosquitto", start("mosquitto").or_else(|_| start("/usr/sbin/mosquitto")))?);
        until(SOON, "the broker listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(broker)
    }

    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Has it read its files again.
    pub fn look_again(&self) {
        // SAFETY: a plain system call on our own child, which has not been waited for.
        unsafe { libc::kill(i32::try_from(self.0.id()).unwrap(), libc::SIGHUP) };
    }

    /// Ends it as an administrator would: with `persistence` it has everything on disk.
    pub fn end(mut self) {
        // SAFETY: a plain system call on our own child, which has not been waited for.
        unsafe { libc::kill(i32::try_from(self.0.id()).unwrap(), libc::SIGTERM) };
        self.0.wait().unwrap();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Everything that comes on `#`: the last payload by topic, every event, and what was said on `…/available`.
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<All>>);

type All = (ByTopic, Vec<Delivery>, Vec<String>);

type ByTopic = BTreeMap<String, String>;

/// `ID/REVISION` and the event, as often as it came.
pub type Delivery = (String, serde_json::Value);

impl Heard {
    pub fn listen(port: u16, login: Option<(&str, &str)>) -> Self {
        let heard = Self::default();
        let mut options = MqttOptions::new(format!("listener-{}", heard.id()), "127.0.0.1", port);
        options.set_clean_session(false);
        if let Some((user, password)) = login {
            options.set_credentials(user, password);
        }
        let (client, mut connection) = Client::new(options, 10);
        let told = heard.clone();
        std::thread::spawn(move || {
            for news in connection.iter() {
                match news {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        client.try_subscribe("#", QoS::AtLeastOnce).unwrap()
                    }
                    Ok(Event::Incoming(Packet::Publish(p))) => told.note(&p.topic, &p.payload),
                    Ok(_) => {}
                    Err(_) => std::thread::sleep(Duration::from_millis(50)),
                }
                if Arc::strong_count(&told.0) == 1 {
                    return;
                }
            }
        });
        until(SOON, "the listener listens", || heard.probe(port, login));
        heard
    }

    fn id(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    /// Whether something that is published arrives.
    fn probe(&self, port: u16, login: Option<(&str, &str)>) -> bool {
        let mut options = MqttOptions::new("probe", "127.0.0.1", port);
        if let Some((user, password)) = login {
            options.set_credentials(user, password);
        }
        let (client, mut connection) = Client::new(options, 10);
        client.try_publish("probe", QoS::AtLeastOnce, false, "x").unwrap();
        for news in connection.iter().take(10) {
            if matches!(news, Ok(Event::Incoming(Packet::PubAck(_))) | Err(_)) {
                break;
            }
        }
        std::thread::sleep(Duration::from_millis(50));
        self.get("probe").is_some()
    }

    fn note(&self, topic: &str, payload: &[u8]) {
        let text = String::from_utf8_lossy(payload).into_owned();
        let mut heard = self.0.lock().unwrap();
        if topic.ends_with("/events") {
            let event: serde_json::Value = serde_json::from_slice(payload).unwrap();
            let key = format!("{}/{}", event["id"].as_str().unwrap(), event["revision"]);
            heard.1.push((key, event));
        }
        if topic.ends_with("/available") {
            heard.2.push(text.clone());
        }
        heard.0.insert(topic.to_owned(), text);
    }

    pub fn get(&self, topic: &str) -> Option<String> {
        self.0.lock().unwrap().0.get(topic).cloned()
    }

    /// Everything that was said of whether the site is there.
    pub fn available(&self) -> Vec<String> {
        self.0.lock().unwrap().2.clone()
    }

    /// Every event that came, as often as it came.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.0.lock().unwrap().1.clone()
    }

    /// Keys of events in order, each once: at least once is promised, and a repetition is told by id and revision.
    pub fn events(&self) -> Vec<String> {
        let mut seen = HashSet::new();
        self.deliveries().into_iter().map(|(key, _)| key).filter(|key| seen.insert(key.clone())).collect()
    }
}
