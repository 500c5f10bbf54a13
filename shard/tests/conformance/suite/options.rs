//! CONNECT and PUBLISH as cases write them.

use protocol::{
    Connect, Properties, PropertyId, PropertyWriter, Publish, QoS, SubscriptionOptions, Version, Will,
};

/// Properties in wire form, without their length.
pub fn properties(
    write: impl for<'a, 'b> FnOnce(&'a mut PropertyWriter<'b>) -> &'a mut PropertyWriter<'b>,
) -> Vec<u8> {
    let mut out = vec![];
    let _ = write(&mut PropertyWriter::new(&mut out));
    out
}

pub fn qos(level: u8) -> QoS {
    QoS::from_u8(level).expect("a QoS from 0 to 2")
}

/// Subscription options with that QoS and the defaults of 3.x.
pub fn at(level: u8) -> SubscriptionOptions {
    SubscriptionOptions::new(qos(level))
}

/// CONNECT. Properties are left out before MQTT 5.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub version: Option<Version>,
    client_id: String,
    is_exact_id: bool,
    is_resuming: bool,
    keep_alive: u16,
    will: Option<WillMessage>,
    user_name: Option<String>,
    password: Option<Vec<u8>>,
    properties: Vec<u8>,
}

/// A clean session, no keep alive, no will, the version of the scene.
pub fn id(client_id: &str) -> Options {
    Options { client_id: client_id.into(), ..Options::default() }
}

impl Options {
    pub fn version(self, version: Version) -> Options {
        Options { version: Some(version), ..self }
    }

    /// The client id goes on the wire as it is, without the scene's root: for an empty or an assigned one. Any other
    /// may meet its double on a shared broker.
    pub fn exact_id(self) -> Options {
        Options { is_exact_id: true, ..self }
    }

    /// Clean Start / Clean Session 0, and nothing else.
    pub fn resume(self) -> Options {
        Options { is_resuming: true, ..self }
    }

    /// Session Expiry Interval in seconds.
    pub fn expiry(self, seconds: u32) -> Options {
        self.properties(|w| w.u32(PropertyId::SessionExpiryInterval, seconds))
    }

    /// A session that is resumed, and kept for an hour after the connection (3.x: as long as the broker keeps it).
    pub fn kept(self) -> Options {
        self.resume().expiry(3600)
    }

    /// Seconds.
    pub fn keep_alive(self, seconds: u16) -> Options {
        Options { keep_alive: seconds, ..self }
    }

    pub fn will(self, will: WillMessage) -> Options {
        Options { will: Some(will), ..self }
    }

    pub fn login(self, user_name: &str, password: &str) -> Options {
        Options { user_name: Some(user_name.into()), password: Some(password.into()), ..self }
    }

    pub fn user_name(self, user_name: &str) -> Options {
        Options { user_name: Some(user_name.into()), ..self }
    }

    /// Appends properties.
    pub fn properties(
        mut self,
        write: impl for<'a, 'b> FnOnce(&'a mut PropertyWriter<'b>) -> &'a mut PropertyWriter<'b>,
    ) -> Options {
        let _ = write(&mut PropertyWriter::new(&mut self.properties));
        self
    }

    pub fn receive_maximum(self, count: u16) -> Options {
        self.properties(|w| w.u16(PropertyId::ReceiveMaximum, count))
    }

    pub fn packet_size_max(self, bytes: u32) -> Options {
        self.properties(|w| w.u32(PropertyId::MaximumPacketSize, bytes))
    }

    pub(super) fn encode(
        &self,
        default: Version,
        root_id: impl Fn(&str) -> String,
        root_topic: impl Fn(&str) -> String,
    ) -> Vec<u8> {
        let version = self.version.unwrap_or(default);
        let client_id = if self.is_exact_id { self.client_id.clone() } else { root_id(&self.client_id) };
        let will_topic = self.will.as_ref().map(|will| root_topic(&will.topic)).unwrap_or_default();
        let mut out = vec![];
        Connect {
            version,
            is_bridge: false,
            clean_start: !self.is_resuming,
            keep_alive: self.keep_alive,
            client_id: &client_id,
            will: self.will.as_ref().map(|will| Will {
                qos: will.qos,
                retain: will.retain,
                topic: &will_topic,
                payload: &will.payload,
                properties: Properties::from_wire(&will.properties),
            }),
            user_name: self.user_name.as_deref(),
            password: self.password.as_deref(),
            properties: Properties::from_wire(&self.properties),
        }
        .encode(version, &mut out);
        out
    }
}

/// The will of a CONNECT.
#[derive(Clone, Debug)]
pub struct WillMessage {
    topic: String,
    payload: Vec<u8>,
    qos: QoS,
    retain: bool,
    properties: Vec<u8>,
}

pub fn will(topic: &str, payload: &str) -> WillMessage {
    WillMessage {
        topic: topic.into(),
        payload: payload.into(),
        qos: QoS::AtMostOnce,
        retain: false,
        properties: vec![],
    }
}

impl WillMessage {
    pub fn qos(self, level: u8) -> WillMessage {
        WillMessage { qos: qos(level), ..self }
    }

    pub fn retain(self) -> WillMessage {
        WillMessage { retain: true, ..self }
    }

    /// Will Delay Interval in seconds.
    pub fn delay(self, seconds: u32) -> WillMessage {
        self.properties(|w| w.u32(PropertyId::WillDelayInterval, seconds))
    }

    pub fn properties(
        mut self,
        write: impl for<'a, 'b> FnOnce(&'a mut PropertyWriter<'b>) -> &'a mut PropertyWriter<'b>,
    ) -> WillMessage {
        let _ = write(&mut PropertyWriter::new(&mut self.properties));
        self
    }
}

/// A PUBLISH; QoS 0, not retained.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub topic: String,
    payload: Vec<u8>,
    pub qos: u8,
    retain: bool,
    dup: bool,
    pub packet_id: Option<u16>,
    properties: Vec<u8>,
}

pub fn message(topic: &str, payload: impl AsRef<[u8]>) -> Outgoing {
    Outgoing {
        topic: topic.into(),
        payload: payload.as_ref().to_vec(),
        qos: 0,
        retain: false,
        dup: false,
        packet_id: None,
        properties: vec![],
    }
}

impl Outgoing {
    pub fn qos(self, level: u8) -> Outgoing {
        Outgoing { qos: level, ..self }
    }

    pub fn retain(self) -> Outgoing {
        Outgoing { retain: true, ..self }
    }

    pub fn dup(self) -> Outgoing {
        Outgoing { dup: true, ..self }
    }

    /// Instead of the next free one.
    pub fn packet_id(self, packet_id: u16) -> Outgoing {
        Outgoing { packet_id: Some(packet_id), ..self }
    }

    pub fn alias(self, alias: u16) -> Outgoing {
        self.properties(|w| w.u16(PropertyId::TopicAlias, alias))
    }

    /// Message Expiry Interval in seconds.
    pub fn expiry(self, seconds: u32) -> Outgoing {
        self.properties(|w| w.u32(PropertyId::MessageExpiryInterval, seconds))
    }

    pub fn properties(
        mut self,
        write: impl for<'a, 'b> FnOnce(&'a mut PropertyWriter<'b>) -> &'a mut PropertyWriter<'b>,
    ) -> Outgoing {
        let _ = write(&mut PropertyWriter::new(&mut self.properties));
        self
    }

    pub(super) fn encode(&self, version: Version, topic: &str, packet_id: u16) -> Vec<u8> {
        let mut out = vec![];
        Publish {
            dup: self.dup,
            qos: qos(self.qos),
            retain: self.retain,
            topic,
            packet_id,
            topic_alias: None,
            message_expiry: None,
            subscription_ids: &[],
            properties: Properties::from_wire(&self.properties),
            payload: &self.payload,
        }
        .encode(version, &mut out);
        out
    }
}
