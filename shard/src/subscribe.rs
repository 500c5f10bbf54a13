//! SUBSCRIBE and UNSUBSCRIBE, and the routes that other shards keep of our subscriptions: SUBACK leaves when every
//! shard has the route, so what is published anywhere after it is delivered.

use protocol::{
    Properties, PropertyId, QoS, ReasonCode, RetainHandling, SubAck, Subscribe, SubscriptionOptions,
    UnsubAck, Unsubscribe, Version,
};

use crate::ShardId;
use crate::connection::ConnectionId;
use crate::envelope::Envelope;
use crate::metrics::EndReason;
use crate::retained_replay::{Asked, Replay, UNKNOWN};
use crate::session::Subscription;
use crate::shard::{Flow, Shard};
use crate::subscribers::{Subscriber, Subscribers};

/// A SUBACK that waits until all shards have the routes.
#[derive(Debug)]
pub(crate) struct PendingSubAck {
    connection: ConnectionId,
    session: u32,
    packet_id: u16,
    /// `Shard::announced` at the time of the SUBSCRIBE.
    revision: u64,
    codes: Vec<u8>,
    replays: Vec<Replay>,
}

impl Shard {
    pub(crate) fn on_subscribe(&mut self, id: ConnectionId, subscribe: &Subscribe<'_>) -> Flow {
        let Some(session) = self.session_of(id) else { return Flow::End };
        let version = self.sessions[session as usize].version;
        let identifier = subscribe.properties.varint(PropertyId::SubscriptionIdentifier).unwrap_or(0);
        let is_fault = |filter: &str, options: SubscriptionOptions| {
            options.no_local && filter.starts_with("$share/")
                || version == Version::V31 && !protocol::topic::is_valid_filter(filter)
        };
        if subscribe.filters.iter().any(|(filter, options)| is_fault(filter, options)) {
            return self.fail(id, EndReason::ProtocolError, ReasonCode::ProtocolError);
        }
        let mut codes = Vec::with_capacity(subscribe.filters.count());
        let mut replays = Vec::new();
        for (filter, options) in subscribe.filters.iter() {
            let code = match self.subscribe(session, filter, options, identifier) {
                Ok(is_new) => {
                    let wants_retained = match options.retain_handling {
                        RetainHandling::SendAlways => true,
                        RetainHandling::SendIfNew => is_new,
                        RetainHandling::DoNotSend => false,
                    };
                    if wants_retained && !filter.starts_with("$share/") {
                        replays.push(self.new_replay(session, filter, options, identifier));
                    }
                    options.qos.min(self.config.maximum_qos) as u8
                }
                Err(_) if version != Version::V5 => 0x80,
                Err(reason) => reason as u8,
            };
            codes.push(code);
        }
        let pending = PendingSubAck {
            connection: id,
            session,
            packet_id: subscribe.packet_id,
            revision: self.announced,
            codes,
            replays,
        };
        if self.is_confirmed(pending.revision) {
            self.finish_subscribe(pending);
        } else {
            self.pending_subacks.push_back(pending);
        }
        Flow::Continue
    }

    /// Adds or replaces one subscription; Ok(true) if it is new.
    fn subscribe(
        &mut self,
        session: u32,
        filter: &str,
        options: SubscriptionOptions,
        identifier: u32,
    ) -> Result<bool, ReasonCode> {
        let shared = protocol::topic::parse_shared(filter).map_err(|_| ReasonCode::TopicFilterInvalid)?;
        let plain = shared.map_or(filter, |shared| shared.filter);
        self.check_filter(plain, shared.is_some(), identifier)?;
        if !self.sessions[session as usize].access.may_subscribe(filter) {
            return Err(ReasonCode::NotAuthorized);
        }
        let state = &mut self.sessions[session as usize];
        let subscriptions_max = self.config.limits.subscriptions_per_session_max as usize;
        let is_new = state.subscriptions.get(filter).is_none();
        if is_new && state.subscriptions.len() >= subscriptions_max {
            return Err(ReasonCode::QuotaExceeded);
        }
        let options = SubscriptionOptions {
            qos: options.qos.min(self.config.maximum_qos),
            // A bridge by its protocol level does not get its own messages back.
            no_local: options.no_local || (state.is_bridge && shared.is_none()),
            ..options
        };
        state.subscriptions.set(filter, Subscription { options, identifier }, self.config.hash_seed);
        if !is_new {
            for replay in state.replays.iter_mut().filter(|replay| replay.filter() == filter) {
                replay.adopt(options.qos, identifier, options.no_local);
            }
        }
        let subscriber = Subscriber::new(session, identifier, options);
        if shared.is_some() {
            self.join_group(filter, plain, subscriber);
        } else {
            let subscribers = self.subscriptions.get_or_insert_with(filter, Subscribers::default);
            let is_first = subscribers.is_empty();
            subscribers.set(subscriber);
            if is_first && self.interest.added(filter) {
                self.announced += 1;
                for peer in self.peers() {
                    let added = Envelope::RouteAdded { filter: filter.into(), revision: self.announced };
                    self.send(peer, added);
                }
            }
        }
        if is_new {
            self.count_subscription(shared.is_some(), 1);
        }
        Ok(is_new)
    }

    fn count_subscription(&mut self, is_shared: bool, change: i64) {
        let gauge =
            if is_shared { &mut self.metrics.shared_subscriptions } else { &mut self.metrics.subscriptions };
        *gauge = gauge.wrapping_add_signed(change);
    }

    fn check_filter(&self, plain: &str, is_shared: bool, identifier: u32) -> Result<(), ReasonCode> {
        let (config, limits) = (&self.config, &self.config.limits);
        if !protocol::topic::is_valid_filter(plain)
            || plain.len() > limits.topic_bytes_max as usize
            || (plain.len() >= limits.topic_levels_max as usize
                && protocol::topic::level_count(plain) > limits.topic_levels_max as usize)
        {
            return Err(ReasonCode::TopicFilterInvalid);
        }
        if is_shared && !config.are_shared_subscriptions_available {
            return Err(ReasonCode::SharedSubscriptionsNotSupported);
        }
        if identifier != 0 && !config.are_subscription_ids_available {
            return Err(ReasonCode::SubscriptionIdentifiersNotSupported);
        }
        let has_wildcard = plain.contains(['+', '#']);
        if (has_wildcard && !config.are_wildcards_available)
            || (plain == "#" && !config.is_root_wildcard_allowed)
        {
            return Err(ReasonCode::WildcardSubscriptionsNotSupported);
        }
        Ok(())
    }

    /// Every other shard has all routes up to `revision`.
    fn is_confirmed(&self, revision: u64) -> bool {
        self.peers().all(|peer| self.confirmed[peer as usize] >= revision)
    }

    pub(crate) fn on_route_acked(&mut self, from: ShardId, revision: u64, retained: u64) {
        self.retained_progress.on_told(from, retained);
        let confirmed = &mut self.confirmed[from as usize];
        let former = std::mem::replace(confirmed, revision.max(*confirmed));
        let begin = self.pending_subacks.partition_point(|pending| pending.revision <= former);
        let newly =
            self.pending_subacks.range_mut(begin..).take_while(|pending| pending.revision <= revision);
        newly.flat_map(|pending| &mut pending.replays).for_each(|replay| replay.set_bound(from, retained));
        while let Some(pending) = self.pending_subacks.front() {
            if !self.is_confirmed(pending.revision) {
                return;
            }
            if let Some(pending) = self.pending_subacks.pop_front() {
                self.finish_subscribe(pending);
            }
        }
    }

    fn finish_subscribe(&mut self, pending: PendingSubAck) {
        let PendingSubAck { connection, session, packet_id, codes, replays, .. } = pending;
        if self.session_of(connection) != Some(session) {
            return;
        }
        self.metrics.packets_sent[9] += 1;
        let suback = SubAck { packet_id, properties: Properties::EMPTY, codes: &codes };
        self.write_within_limit(connection, suback.encoded_len(Version::V5), |version, out| {
            suback.encode(version, out)
        });
        let state = &mut self.sessions[session as usize];
        for mut replay in replays {
            // The subscription may have gone while the routes were confirmed, or another one have come.
            if let Some(Subscription { options, identifier }) = state.subscriptions.get(replay.filter()) {
                replay.adopt(options.qos, *identifier, options.no_local);
                state.replays.push_back(replay);
            }
        }
        self.pull(session);
    }

    /// Writes a packet unless the client's Maximum Packet Size forbids it [MQTT-3.1.2-24].
    fn write_within_limit(
        &mut self,
        id: ConnectionId,
        len: usize,
        encode: impl FnOnce(Version, &mut Vec<u8>),
    ) {
        if self.connection(id).is_some_and(|connection| len <= connection.packet_size_max as usize) {
            self.write(id, encode);
        }
    }

    pub(crate) fn on_unsubscribe(&mut self, id: ConnectionId, unsubscribe: &Unsubscribe<'_>) -> Flow {
        let Some(session) = self.session_of(id) else { return Flow::End };
        let codes: Vec<u8> = unsubscribe
            .filters
            .iter()
            .map(|filter| match self.remove_subscription(session, filter) {
                true => ReasonCode::Success as u8,
                false => ReasonCode::NoSubscriptionExisted as u8,
            })
            .collect();
        self.metrics.packets_sent[11] += 1;
        let unsuback =
            UnsubAck { packet_id: unsubscribe.packet_id, properties: Properties::EMPTY, codes: &codes };
        self.write_within_limit(id, unsuback.encoded_len(Version::V5), |version, out| {
            unsuback.encode(version, out)
        });
        Flow::Continue
    }

    /// Removes a subscription as its filter was written; false if there was none.
    pub(crate) fn remove_subscription(&mut self, session: u32, filter: &str) -> bool {
        let state = &mut self.sessions[session as usize];
        if !state.subscriptions.remove(filter) {
            return false;
        }
        let replays = &mut self.replays;
        state.replays.retain(|replay| {
            let stays = replay.filter() != filter;
            if !stays {
                replays.remove(&replay.number());
            }
            stays
        });
        state.replays.shrink();
        // Those whose SUBACK still waits belonged to what is removed, also if the filter is subscribed to again.
        for pending in self.pending_subacks.iter_mut().filter(|pending| pending.session == session) {
            pending.replays.retain(|replay| replay.filter() != filter);
        }
        let is_shared = filter.starts_with("$share/");
        self.count_subscription(is_shared, -1);
        if is_shared {
            self.leave_group(filter, session);
            return true;
        }
        let Some(subscribers) = self.subscriptions.get_mut(filter) else { return true };
        subscribers.remove(session);
        if subscribers.is_empty() {
            self.subscriptions.remove(filter);
            if self.interest.removed(filter) {
                for peer in self.peers() {
                    self.send(peer, Envelope::RouteRemoved { filter: filter.into() });
                }
            }
        }
        true
    }

    /// A new shared group share was announced; SUBACK waits for it as for a route.
    pub(crate) fn next_revision(&mut self) -> u64 {
        self.announced += 1;
        self.announced
    }

    fn new_replay(
        &mut self,
        session: u32,
        filter: &str,
        options: SubscriptionOptions,
        identifier: u32,
    ) -> Replay {
        self.replay_number += 1;
        let is_exact = !filter.contains(['+', '#']);
        let owners = match is_exact {
            true => {
                let owner = self.placement.retained_owner(self.hasher.hash(filter));
                owner..owner + 1
            }
            false => 0..self.config.shard_count,
        };
        let bounds = owners.clone().map(|owner| self.retained_bound(owner)).collect();
        let state = &self.sessions[session as usize];
        let qos: QoS = options.qos.min(self.config.maximum_qos);
        let no_local = options.no_local || state.is_bridge;
        let asked = Asked { owners, bounds, drops: state.drops };
        Replay::new(self.replay_number, filter.into(), qos, identifier, no_local, asked)
    }

    /// Retained messages of that owner beyond this number will come live for a subscription that begins now; `UNKNOWN`
    /// while the owner has not confirmed its route.
    fn retained_bound(&self, owner: ShardId) -> u64 {
        match owner {
            _ if owner == self.id => self.retained_progress.routed,
            _ if self.confirmed[owner as usize] >= self.announced => {
                self.retained_progress.seen[owner as usize]
            }
            _ => UNKNOWN,
        }
    }
}
