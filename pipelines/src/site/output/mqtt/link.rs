//! One connection to a broker; the same for both versions of MQTT.

use std::time::Duration;

use rumqttc::{
    AsyncClient, EventLoop, LastWill, MqttOptions, Outgoing, Packet, QoS, Transport,
    v5::{
        self,
        mqttbytes::{
            QoS as QoS5,
            v5::{LastWill as LastWill5, Packet as Packet5, PubAckReason},
        },
    },
};

use super::{super::Secret, Version};

/// Largest packet that is sent or taken, in bytes: a picture.
pub(super) const LARGEST: usize = 4 << 20;
/// Requests between us and the connection's task.
pub(super) const REQUESTS: usize = 64;
/// For connecting and for each write, in seconds.
const TIMEOUT_S: u64 = 10;

/// What to connect to, and as whom.
pub(super) struct Options {
    pub version: Version,
    pub host: String,
    pub port: u16,
    pub client_id: String,
    pub transport: Transport,
    pub login: Option<(String, Option<Secret>)>,
    pub keep_alive: Duration,
    /// Topic of the last will.
    pub available: String,
}

/// What a connection tells.
#[derive(Debug)]
pub(super) enum News {
    Connected,
    /// The oldest publication that was asked for is on its way, with this packet id (0: without acknowledgement).
    Sent(u16),
    /// The broker has taken the publication.
    Taken(u16),
    /// It never will.
    Refused(u16),
    /// It does not now, for this reason: a right or a quota may be given later.
    Denied(u16, String),
    Other,
}

pub(super) enum Client {
    V3(AsyncClient),
    V5(v5::AsyncClient),
}

pub(super) enum Connection {
    V3(Box<EventLoop>),
    V5(Box<v5::EventLoop>),
}

/// A connection that is made when it is polled first. Nothing of an earlier one lives on, here or at the broker: what was not
/// acknowledged is in the spool.
pub(super) fn open(options: &Options) -> (Client, Connection) {
    let login = options
        .login
        .as_ref()
        .map(|(user, password)| (user.clone(), password.as_ref().map_or("", Secret::reveal).to_owned()));
    match options.version {
        Version::V3 => {
            let mut o = MqttOptions::new(&options.client_id, &options.host, options.port);
            o.set_transport(options.transport.clone());
            o.set_keep_alive(options.keep_alive);
            o.set_clean_session(true);
            o.set_max_packet_size(LARGEST, LARGEST);
            o.set_last_will(LastWill::new(&options.available, "offline", QoS::AtLeastOnce, true));
            if let Some((user, password)) = login {
                o.set_credentials(user, password);
            }
            let (client, mut connection) = AsyncClient::new(o, REQUESTS);
            let mut network = connection.network_options();
            network.set_connection_timeout(TIMEOUT_S);
            network.set_tcp_nodelay(true);
            connection.set_network_options(network);
            (Client::V3(client), Connection::V3(Box::new(connection)))
        }
        Version::V5 => {
            let mut o = v5::MqttOptions::new(&options.client_id, &options.host, options.port);
            o.set_transport(options.transport.clone());
            o.set_keep_alive(options.keep_alive);
            o.set_clean_start(true);
            o.set_connection_timeout(TIMEOUT_S);
            o.set_last_will(LastWill5::new(&options.available, "offline", QoS5::AtLeastOnce, true, None));
            if let Some((user, password)) = login {
                o.set_credentials(user, password);
            }
            let mut network = o.network_options();
            network.set_tcp_nodelay(true);
            o.set_network_options(network);
            let (client, connection) = v5::AsyncClient::new(o, REQUESTS);
            (Client::V5(client), Connection::V5(Box::new(connection)))
        }
    }
}

impl Client {
    /// Asks for a publication, with acknowledgement or without. False if there is no room now.
    pub fn publish(&self, topic: &str, acknowledged: bool, retain: bool, payload: &[u8]) -> bool {
        match self {
            Self::V3(client) => {
                let qos = if acknowledged { QoS::AtLeastOnce } else { QoS::AtMostOnce };
                client.try_publish(topic, qos, retain, payload).is_ok()
            }
            Self::V5(client) => {
                let qos = if acknowledged { QoS5::AtLeastOnce } else { QoS5::AtMostOnce };
                client.try_publish(topic, qos, retain, payload.to_vec()).is_ok()
            }
        }
    }

    /// Says goodbye, after what was asked for before.
    pub fn disconnect(&self) {
        // No room: the connection is as good as gone.
        match self {
            Self::V3(client) => client.try_disconnect().ok(),
            Self::V5(client) => client.try_disconnect().ok(),
        };
    }
}

impl Connection {
    /// Goes on until there is news, or the connection ends, with why.
    pub async fn news(&mut self) -> Result<News, String> {
        match self {
            Self::V3(connection) => match connection.poll().await.map_err(|e| e.to_string())? {
                rumqttc::Event::Incoming(Packet::ConnAck(_)) => Ok(News::Connected),
                rumqttc::Event::Incoming(Packet::PubAck(ack)) => Ok(News::Taken(ack.pkid)),
                rumqttc::Event::Outgoing(Outgoing::Publish(id)) => Ok(News::Sent(id)),
                _ => Ok(News::Other),
            },
            Self::V5(connection) => match connection.poll().await.map_err(|e| e.to_string())? {
                v5::Event::Incoming(Packet5::ConnAck(_)) => Ok(News::Connected),
                v5::Event::Incoming(Packet5::PubAck(ack)) => match ack.reason {
                    PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Ok(News::Taken(ack.pkid)),
                    PubAckReason::PayloadFormatInvalid | PubAckReason::TopicNameInvalid => {
                        Ok(News::Refused(ack.pkid))
                    }
                    reason => Ok(News::Denied(ack.pkid, format!("{reason:?}"))),
                },
                v5::Event::Incoming(Packet5::Disconnect(bye)) => {
                    Err(format!("the broker ended the connection: {:?}", bye.reason_code))
                }
                v5::Event::Outgoing(Outgoing::Publish(id)) => Ok(News::Sent(id)),
                _ => Ok(News::Other),
            },
        }
    }
}
