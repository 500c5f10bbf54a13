//! Packets of all types and versions by a seed, and ways to spoil them. Used by the tests of the codec and by those
//! that throw garbage at a shard.
#![allow(dead_code)]

use protocol::{
    Ack, Auth, ConnAck, Connect, Disconnect, Packet, Properties, PropertyId, PropertyWriter, Publish, QoS,
    ReasonCode, RetainHandling, Role, SubAck, Subscribe, SubscribeFilters, SubscriptionOptions, UnsubAck,
    Unsubscribe, UnsubscribeFilters, Version, Will,
};

pub const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (((self.next() >> 32) * n as u64) >> 32) as usize
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn number(&mut self) -> u32 {
        let number = self.next() as u32;
        self.pick(&[1, 2, 127, 128, 16_383, 16_384, 65_535, number | 1, u32::MAX])
    }

    fn text(&mut self) -> String {
        let long = "x".repeat(self.pick(&[0, 1, 60, 200]));
        match self.below(8) {
            0 => long,
            1 => "\u{10FFFF}\u{7F}\u{FEFF}é".into(),
            2 => String::new(),
            _ => self.pick(&["a", "client", "text/plain", "k", "value", "öäü"]).into(),
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = self.pick(&[0, 1, 5, 40, 300]);
        (0..len).map(|_| self.next() as u8).collect()
    }

    pub fn topic(&mut self) -> &'static str {
        self.pick(&["a", "a/b", "a/b/c", "b/c", "/", "//", "$d/t", "sensors/öl/1", "x/y/z/u/v/w"])
    }

    pub fn filter(&mut self) -> &'static str {
        self.pick(&["a", "a/b", "#", "+", "a/#", "+/b", "$share/g/a", "$share/g/#", "$SYS/#", "/+/", "a/+/c"])
    }

    fn qos(&mut self) -> QoS {
        self.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
    }
}

/// Who may carry which properties; the value's type decides how it is written.
#[derive(Clone, Copy)]
enum Kind {
    Flag,
    U16,
    U32,
    Varint,
    Text,
    Data,
    Topic,
}

use Kind::{Data, Flag, Text, Topic, U16, U32, Varint};
use PropertyId as P;

const CONNECT: &[(P, Kind)] = &[
    (P::SessionExpiryInterval, U32),
    (P::ReceiveMaximum, U16),
    (P::MaximumPacketSize, U32),
    (P::TopicAliasMaximum, U16),
    (P::RequestResponseInformation, Flag),
    (P::RequestProblemInformation, Flag),
];
const WILL: &[(P, Kind)] = &[
    (P::WillDelayInterval, U32),
    (P::PayloadFormatIndicator, Flag),
    (P::MessageExpiryInterval, U32),
    (P::ContentType, Text),
    (P::ResponseTopic, Topic),
    (P::CorrelationData, Data),
];
const CONNACK: &[(P, Kind)] = &[
    (P::SessionExpiryInterval, U32),
    (P::ReceiveMaximum, U16),
    (P::MaximumQoS, Flag),
    (P::RetainAvailable, Flag),
    (P::MaximumPacketSize, U32),
    (P::AssignedClientIdentifier, Text),
    (P::TopicAliasMaximum, U16),
    (P::ReasonString, Text),
    (P::WildcardSubscriptionAvailable, Flag),
    (P::SubscriptionIdentifierAvailable, Flag),
    (P::SharedSubscriptionAvailable, Flag),
    (P::ServerKeepAlive, U16),
    (P::ResponseInformation, Text),
    (P::ServerReference, Text),
    (P::AuthenticationMethod, Text),
];
const PUBLISH: &[(P, Kind)] = &[
    (P::PayloadFormatIndicator, Flag),
    (P::ContentType, Text),
    (P::ResponseTopic, Topic),
    (P::CorrelationData, Data),
];
const REASON: &[(P, Kind)] = &[(P::ReasonString, Text)];
const SUBSCRIBE: &[(P, Kind)] = &[(P::SubscriptionIdentifier, Varint)];
const DISCONNECT_CLIENT: &[(P, Kind)] = &[(P::SessionExpiryInterval, U32), (P::ReasonString, Text)];
const DISCONNECT_SERVER: &[(P, Kind)] = &[(P::ReasonString, Text), (P::ServerReference, Text)];
const AUTH: &[(P, Kind)] =
    &[(P::AuthenticationMethod, Text), (P::AuthenticationData, Data), (P::ReasonString, Text)];

/// A valid section: some of the properties in some order, and user properties between them.
fn section(rng: &mut Rng, version: Version, of: &[(P, Kind)]) -> Vec<u8> {
    let mut out = Vec::new();
    if !version.has_properties() {
        return out;
    }
    let mut writer = PropertyWriter::new(&mut out);
    let start = if of.is_empty() { 0 } else { rng.below(of.len()) };
    let mut has_method = false;
    for step in 0..of.len() {
        let (id, kind) = of[(start + step) % of.len()];
        if rng.chance(60) || (id == P::AuthenticationData && !has_method) {
            continue;
        }
        has_method |= id == P::AuthenticationMethod;
        match kind {
            Flag => writer.u8(id, rng.below(2) as u8),
            U16 => writer.u16(id, (rng.number() as u16).max(1)),
            U32 => writer.u32(id, rng.number().max(1)),
            Varint => writer.varint(id, rng.number().clamp(1, 268_435_455)),
            Text => writer.str(id, &rng.text()),
            Data => writer.bytes(id, &rng.bytes()),
            Topic => writer.str(id, rng.topic()),
        };
        if rng.chance(20) {
            writer.user_property(&rng.text(), &rng.text());
        }
    }
    out
}

/// Calls `with` with a valid packet of the side that `role` listens to.
pub fn packet<R>(rng: &mut Rng, version: Version, role: Role, with: impl FnOnce(&Packet<'_>) -> R) -> R {
    let v5 = version.has_properties();
    let choices: &[u8] = match (role, v5) {
        (Role::Server, true) => &[1, 3, 3, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15],
        (Role::Server, false) => &[1, 3, 3, 3, 4, 5, 6, 7, 8, 10, 12, 14],
        (Role::Client, true) => &[2, 3, 3, 3, 4, 5, 6, 7, 9, 11, 13, 14, 15],
        (Role::Client, false) => &[2, 3, 3, 3, 4, 5, 6, 7, 9, 11, 13],
    };
    packet_of(rng, rng.clone().pick(choices), version, role, with)
}

/// The same for one packet type.
pub fn packet_of<R>(
    rng: &mut Rng,
    packet_type: u8,
    version: Version,
    role: Role,
    with: impl FnOnce(&Packet<'_>) -> R,
) -> R {
    let v5 = version.has_properties();
    let id = (rng.next() as u16).max(1);
    let mut wire = Vec::new();
    match packet_type {
        1 => {
            let (properties, will_properties) = (section(rng, version, CONNECT), section(rng, version, WILL));
            let (client_id, user, password, payload) = (rng.text(), rng.text(), rng.bytes(), rng.bytes());
            let will = Will {
                qos: rng.qos(),
                retain: rng.chance(50),
                topic: rng.topic(),
                payload: &payload,
                properties: Properties::from_wire(&will_properties),
            };
            let has_user = rng.chance(50);
            with(&Packet::Connect(Box::new(Connect {
                version,
                is_bridge: !v5 && rng.chance(10),
                clean_start: rng.chance(50),
                keep_alive: rng.number() as u16,
                client_id: &client_id,
                will: rng.chance(40).then_some(will),
                user_name: has_user.then_some(&user),
                password: ((has_user || v5) && rng.chance(50)).then_some(&password),
                properties: Properties::from_wire(&properties),
            })))
        }
        2 => {
            let properties = section(rng, version, CONNACK);
            let reason = match v5 {
                true => rng.pick(&[ReasonCode::Success, ReasonCode::QuotaExceeded, ReasonCode::Banned]),
                false => {
                    rng.pick(&[ReasonCode::Success, ReasonCode::NotAuthorized, ReasonCode::ServerUnavailable])
                }
            };
            let session_present = rng.chance(50) && version != Version::V31;
            with(&Packet::ConnAck(ConnAck {
                session_present,
                reason,
                properties: Properties::from_wire(&properties),
            }))
        }
        3 => {
            let properties = section(rng, version, PUBLISH);
            let payload = rng.bytes();
            let qos = rng.qos();
            let topic_alias = (v5 && rng.chance(30)).then(|| (rng.number() as u16).max(1));
            let ids = [1, 300, 268_435_455];
            let id_count = if v5 && role == Role::Client { rng.below(4) } else { 0 };
            with(&Packet::Publish(Publish {
                dup: qos != QoS::AtMostOnce && rng.chance(30),
                qos,
                retain: rng.chance(30),
                topic: if topic_alias.is_some() && rng.chance(50) { "" } else { rng.topic() },
                packet_id: if qos == QoS::AtMostOnce { 0 } else { id },
                topic_alias,
                message_expiry: (v5 && rng.chance(30)).then(|| rng.number()),
                subscription_ids: &ids[..id_count],
                properties: Properties::from_wire(&properties),
                payload: &payload,
            }))
        }
        4..=7 => {
            let properties = section(rng, version, REASON);
            let codes: &[ReasonCode] = match (v5, packet_type) {
                (false, _) => &[ReasonCode::Success],
                (true, 4 | 5) => {
                    &[ReasonCode::Success, ReasonCode::NoMatchingSubscribers, ReasonCode::QuotaExceeded]
                }
                _ => &[ReasonCode::Success, ReasonCode::PacketIdentifierNotFound],
            };
            let ack = Ack {
                packet_id: id,
                reason: rng.pick(codes),
                properties: Properties::from_wire(&properties),
            };
            with(&match packet_type {
                4 => Packet::PubAck(ack),
                5 => Packet::PubRec(ack),
                6 => Packet::PubRel(ack),
                _ => Packet::PubComp(ack),
            })
        }
        8 => {
            let properties = section(rng, version, SUBSCRIBE);
            for _ in 0..1 + rng.below(4) {
                let mut options = SubscriptionOptions::new(rng.qos());
                if v5 {
                    (options.no_local, options.retain_as_published) = (rng.chance(30), rng.chance(30));
                    options.retain_handling = rng.pick(&[
                        RetainHandling::SendAlways,
                        RetainHandling::SendIfNew,
                        RetainHandling::DoNotSend,
                    ]);
                }
                SubscribeFilters::push(&mut wire, rng.filter(), options);
            }
            let filters = SubscribeFilters::from_wire(&wire);
            with(&Packet::Subscribe(Subscribe {
                packet_id: id,
                properties: Properties::from_wire(&properties),
                filters,
            }))
        }
        9 => {
            let properties = section(rng, version, REASON);
            let codes: Vec<u8> = (0..1 + rng.below(4)).map(|_| rng.pick(&[0, 1, 2, 0x80])).collect();
            with(&Packet::SubAck(SubAck {
                packet_id: id,
                properties: Properties::from_wire(&properties),
                codes: &codes,
            }))
        }
        10 => {
            let properties = section(rng, version, &[]);
            for _ in 0..1 + rng.below(4) {
                UnsubscribeFilters::push(&mut wire, rng.filter());
            }
            let filters = UnsubscribeFilters::from_wire(&wire);
            with(&Packet::Unsubscribe(Unsubscribe {
                packet_id: id,
                properties: Properties::from_wire(&properties),
                filters,
            }))
        }
        11 => {
            let properties = section(rng, version, REASON);
            let count = if v5 { 1 + rng.below(4) } else { 0 };
            let codes: Vec<u8> = (0..count).map(|_| rng.pick(&[0, 0x11, 0x80])).collect();
            with(&Packet::UnsubAck(UnsubAck {
                packet_id: id,
                properties: Properties::from_wire(&properties),
                codes: &codes,
            }))
        }
        12 => with(&Packet::PingReq),
        13 => with(&Packet::PingResp),
        14 => {
            let is_client = role == Role::Server;
            let properties =
                section(rng, version, if is_client { DISCONNECT_CLIENT } else { DISCONNECT_SERVER });
            let codes: &[ReasonCode] = match (v5, is_client) {
                (false, _) => &[ReasonCode::Success],
                (true, true) => {
                    &[ReasonCode::Success, ReasonCode::DisconnectWithWill, ReasonCode::QuotaExceeded]
                }
                (true, false) => {
                    &[ReasonCode::SessionTakenOver, ReasonCode::KeepAliveTimeout, ReasonCode::ProtocolError]
                }
            };
            with(&Packet::Disconnect(Disconnect {
                reason: rng.pick(codes),
                properties: Properties::from_wire(&properties),
            }))
        }
        _ => {
            let properties = section(rng, version, AUTH);
            let reason = rng.pick(&[
                ReasonCode::Success,
                ReasonCode::ContinueAuthentication,
                ReasonCode::ReAuthenticate,
            ]);
            with(&Packet::Auth(Auth { reason, properties: Properties::from_wire(&properties) }))
        }
    }
}

/// The bytes of a valid packet.
pub fn encoded(rng: &mut Rng, version: Version, role: Role) -> Vec<u8> {
    packet(rng, version, role, |packet| {
        let mut out = Vec::new();
        packet.encode(version, &mut out);
        out
    })
}

/// Spoils bytes in one to three ways.
pub fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..1 + rng.below(3) {
        let at = if bytes.is_empty() { 0 } else { rng.below(bytes.len()) };
        match rng.below(9) {
            _ if bytes.is_empty() => bytes.push(rng.next() as u8),
            0 => bytes[at] ^= 1 << rng.below(8),
            1 => bytes[at] = rng.pick(&[0, 1, 0x7F, 0x80, 0xFF]),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, rng.next() as u8),
            // The fixed header: type, flags, and what the length claims.
            4 => bytes[0] = rng.next() as u8,
            5 => {
                let at = 1.min(bytes.len());
                let lie: &[u8] = rng.pick(&[
                    &[0xFF, 0xFF, 0xFF, 0x7F][..],
                    &[0x80, 0x80, 0x80, 0x80],
                    &[0x80, 0x00],
                    &[0x00],
                    &[0x05],
                ]);
                bytes.splice(at..(at + 1).min(bytes.len()), lie.iter().copied());
            }
            6 => {
                // A part stands twice: doubled properties, filters, strings.
                let end = (at + 1 + rng.below(20)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            7 => {
                let end = (at + 1 + rng.below(8)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let version = rng.pick(&VERSIONS);
                let role = rng.pick(&[Role::Server, Role::Client]);
                let other = encoded(rng, version, role);
                bytes.splice(at.., other);
            }
        }
    }
}

/// A valid packet, a spoiled one, or noise.
pub fn hostile(rng: &mut Rng, version: Version, role: Role) -> Vec<u8> {
    match rng.below(10) {
        0 => encoded(rng, version, role),
        1 => (0..rng.below(40)).map(|_| rng.next() as u8).collect(),
        _ => {
            let mut bytes = encoded(rng, version, role);
            mutate(rng, &mut bytes);
            bytes
        }
    }
}
