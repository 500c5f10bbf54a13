//! Runs cases against a node of pure shards: time is a number, so nothing is waited for.

use std::sync::Arc;

use protocol::{QoS, ReasonCode};
use shard::{
    AccessPolicy, AccessRule, AuthRequest, AuthVerdict, Authentication, Config, DeniedPublish3x, Envelope,
    Metrics, OverlapDelivery, ShardId,
};

use crate::suite::case::{Case, Set};
use crate::suite::core::Core;
use crate::suite::received::packet_len;
use crate::suite::scene::{Driver, Input, Patience, Socket};
use crate::support::Node;

pub struct CoreDriver {
    node: Node,
    /// Bytes of each socket that were read already.
    read: Vec<usize>,
    next_shard: ShardId,
}

impl CoreDriver {
    pub fn new(shards: u16, case: &Case) -> CoreDriver {
        let mut config = Config { shard_count: shards, ..Config::default() };
        case.with.iter().for_each(|setting| apply(*setting, &mut config));
        if let Some(tune) = case.tune {
            tune(&mut config);
        }
        CoreDriver { node: Node::new(config), read: vec![], next_shard: 0 }
    }

    /// Runs the node and answers what it asks the authenticator.
    fn run(&mut self) {
        self.node.run();
        while !self.node.auth_requests.is_empty() {
            for (shard, request) in std::mem::take(&mut self.node.auth_requests) {
                self.node.turn(shard, |core| core.on_auth_verdict(request.connection, verdict(&request)));
            }
            self.node.run();
        }
    }
}

impl Driver for CoreDriver {
    fn shards(&self) -> u16 {
        self.node.shards.len() as u16
    }

    fn slack_ms(&self) -> u64 {
        0
    }

    fn open(&mut self) -> Option<Socket> {
        // One after the other, so that clients arrive at home and elsewhere.
        let shard = self.next_shard;
        self.next_shard = (shard + 1) % self.shards();
        let socket = self.node.accept(shard)?;
        self.read.resize(socket + 1, 0);
        Some(socket)
    }

    fn write(&mut self, socket: Socket, bytes: &[u8]) {
        self.node.write(socket, bytes);
        self.run();
    }

    fn read(&mut self, socket: Socket, into: &mut Vec<u8>, _: Patience) -> Input {
        self.run();
        let state = &self.node.sockets[socket];
        let new = &state.to_client[self.read[socket]..];
        if !new.is_empty() {
            into.extend_from_slice(new);
            self.read[socket] = state.to_client.len();
            return Input::Bytes;
        }
        if state.is_closed { Input::End } else { Input::Nothing }
    }

    fn close(&mut self, socket: Socket) {
        self.node.reset(socket);
        self.run();
    }

    fn pass(&mut self, ms: u64) {
        self.node.advance(ms);
        self.run();
    }

    fn core(&mut self) -> Option<&mut dyn Core> {
        Some(self)
    }
}

impl Core for CoreDriver {
    fn write_later(&mut self, socket: Socket, bytes: &[u8]) {
        self.node.write(socket, bytes);
    }

    fn run_shuffled(&mut self, seed: u64) {
        self.node.run_shuffled(seed, |_| false);
        self.run();
    }

    fn run_shuffled_until(&mut self, seed: u64, socket: Socket, first_byte: u8) {
        let mut at = self.read[socket];
        self.node.run_shuffled(seed, |node| {
            while let Some(len) = packet_len(&node.sockets[socket].to_client[at..]) {
                at += len;
                if node.sockets[socket].to_client[at - len] == first_byte {
                    return true;
                }
            }
            false
        });
    }

    fn stall(&mut self, socket: Socket, is_stalled: bool) {
        self.node.sockets[socket].is_stalled = is_stalled;
        self.run();
    }

    fn take(&mut self, socket: Socket, bytes: usize) {
        self.node.send_some(socket, bytes);
        self.run();
    }

    fn hold_lanes(&mut self, are_held: bool) {
        self.node.are_lanes_held = are_held;
        self.run();
    }

    fn set_lane_capacity(&mut self, envelopes: usize) {
        self.node.lane_capacity = envelopes;
    }

    fn hold_storage(&mut self, is_held: bool) {
        self.node.is_storage_held = is_held;
        // The next turn of each shard confirms what was held.
        (0..self.shards()).for_each(|shard| self.node.tick(shard));
        self.run();
    }

    fn kick(&mut self, client_id: &str) {
        for shard in 0..self.shards() {
            self.node.control(shard, Envelope::Kick { client_id: client_id.into() });
        }
        self.run();
    }

    fn drain(&mut self) {
        for shard in 0..self.shards() {
            self.node.turn(shard, |core| core.begin_drain());
        }
        self.run();
    }

    fn publish_system(&mut self, topic: &str, payload: &str) {
        let envelope = Envelope::System { topic: topic.into(), payload: payload.as_bytes().into() };
        let owner = self.node.topic_owner(topic);
        self.node.control(owner, envelope);
        self.run();
    }

    fn shard_of(&self, socket: Socket) -> ShardId {
        self.node.sockets[socket].shard
    }

    fn figure(&mut self, figure: &dyn Fn(&Metrics) -> u64) -> u64 {
        self.node.sum(figure)
    }
}

fn apply(setting: Set, config: &mut Config) {
    let limits = &mut config.limits;
    match setting {
        Set::MaximumQos(level) => config.maximum_qos = QoS::from_u8(level).expect("a QoS"),
        Set::RetainUnavailable => config.is_retain_available = false,
        Set::WildcardsUnavailable => config.are_wildcards_available = false,
        Set::SharedUnavailable => config.are_shared_subscriptions_available = false,
        Set::SubscriptionIdsUnavailable => config.are_subscription_ids_available = false,
        Set::ReceiveMaximum(count) => limits.receive_maximum = count,
        Set::TopicAliasMax(count) => limits.topic_alias_max = count,
        Set::TopicAliasOutMax(count) => limits.topic_alias_out_max = count,
        Set::PacketSizeMax(bytes) => {
            limits.packet_size_max = bytes;
            config.listeners[0].packet_size_max = bytes;
        }
        Set::KeepAliveMax(seconds) => limits.keep_alive_max_s = seconds,
        Set::SessionExpiryMax(seconds) => limits.session_expiry_max_s = seconds,
        Set::SessionExpiry3x(seconds) => limits.session_expiry_3x_s = seconds,
        Set::ClientIdBytesMax(bytes) => limits.client_id_bytes_max = bytes,
        Set::QueueMessagesMax(count) => limits.queue_messages_max = count,
        Set::InflightMax(count) => limits.inflight_max = count,
        Set::RetainedCountMax(count) => limits.retained_count_max = count,
        Set::SubscriptionsMax(count) => limits.subscriptions_per_session_max = count,
        Set::OverlapPerSubscription => config.overlap = OverlapDelivery::PerSubscription,
        Set::ResponseInformation(text) => config.response_information = Some(text.into()),
        Set::Qos0Queued => config.is_qos0_queued = true,
        Set::PayloadFormatChecked => config.is_payload_format_checked = true,
        Set::DeniedLevel => {
            // With the scene's root above it or without.
            let filters = vec!["denied/#".to_owned(), "+/denied/#".to_owned()];
            let rule = AccessRule {
                publish: filters.clone(),
                subscribe: filters,
                is_deny: true,
                ..AccessRule::default()
            };
            config.access = Arc::new(AccessPolicy { rules: vec![rule], ..AccessPolicy::default() });
        }
        Set::DeniedPublishCloses => config.denied_publish_3x = DeniedPublish3x::Close,
        Set::Login => config.authentication = Authentication::Ask { methods: vec!["CHALLENGE".into()] },
    }
}

/// The authenticator of `Set::Login`.
fn verdict(request: &AuthRequest) -> AuthVerdict {
    if request.method.is_none() {
        let is_known = request.user_name.as_deref() == Some("user")
            && request.password.as_deref() == Some(b"secret".as_slice());
        return match is_known {
            true => AuthVerdict::Accept { data: None },
            false => AuthVerdict::Refuse(ReasonCode::BadUserNameOrPassword),
        };
    }
    match request.data.as_deref() {
        Some(b"hello") => AuthVerdict::Continue { data: b"question".to_vec() },
        Some(b"answer") => AuthVerdict::Accept { data: Some(b"welcome".to_vec()) },
        _ => AuthVerdict::Refuse(ReasonCode::NotAuthorized),
    }
}
