//! A real broker, mosquitto. Said where it is not there; `TAPETUM_REQUIRE=mosquitto` makes that an error.

use std::{
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};

pub struct Broker {
    child: Child,
    port: u16,
}

/// What came, by topic, in its order.
pub type Heard = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

impl Broker {
    pub fn start(dir: &Path, port: u16) -> Option<Self> {
        let config = dir.join("mosquitto.conf");
        std::fs::write(&config, format!("user root\nlistener {port} 127.0.0.1\nallow_anonymous true\n"))
            .unwrap();
        let mut found = ["mosquitto", "/usr/sbin/mosquitto"].iter().map(|program| {
            let mut command = Command::new(program);
            command.arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
        });
        let Some(child) = found.find_map(Result::ok) else {
            let required = std::env::var("TAPETUM_REQUIRE").unwrap_or_default();
            assert!(
                !required.split(',').any(|name| name == "mosquitto"),
                "required, but there is no mosquitto"
            );
            // Past the test harness, which would swallow the line of a test that passes.
            let line = b"not run here: mosquitto, it is not installed\n";
            std::io::Write::write_all(&mut std::io::stderr(), line).unwrap();
            return None;
        };
        let broker = Self { child, port };
        let from = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(from.elapsed() < Duration::from_secs(30), "the broker does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(broker)
    }

    /// Hears everything on `topics` from here on.
    pub fn listen(&self, topics: &str) -> Heard {
        let heard = Heard::default();
        let mut options = MqttOptions::new("listener", "127.0.0.1", self.port);
        options.set_max_packet_size(8 << 20, 1 << 20);
        let (client, mut connection) = Client::new(options, 64);
        client.subscribe(topics, QoS::AtLeastOnce).unwrap();
        let (ours, ready) = (heard.clone(), Arc::new(Mutex::new(false)));
        let said = ready.clone();
        std::thread::spawn(move || {
            // It lives as long as the connection.
            let _client = client;
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::SubAck(_))) => *said.lock().unwrap() = true,
                    Ok(Event::Incoming(Packet::Publish(message))) => {
                        ours.lock().unwrap().push((message.topic.clone(), message.payload.to_vec()));
                    }
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
        });
        let from = Instant::now();
        while !*ready.lock().unwrap() {
            assert!(from.elapsed() < Duration::from_secs(30), "the broker does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        heard
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
