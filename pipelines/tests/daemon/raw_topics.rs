//! Everything that a broker gives, to the byte.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};

use crate::until;

/// What came, by topic, in its order.
pub type Heard = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Hears everything on `topics` from here on.
pub fn listen(port: u16, topics: &str) -> Heard {
    let heard = Heard::default();
    let mut options = MqttOptions::new("listener", "127.0.0.1", port);
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
    until(Duration::from_secs(30), "the broker answers", || *ready.lock().unwrap());
    heard
}
