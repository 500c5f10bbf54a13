//! The way of a PUBLISH: `on_publish` checks it, `route` chooses shards, groups and local subscribers, `deliver` hands
//! it to each matching session, `send_now` puts it on a connection's output. A message for another shard is gathered
//! by `forward` and enters there through `on_messages`.

use protocol::{PropertyId, Publish, QoS, ReasonCode, Version};

use crate::connection::{ConnectionId, Delivery, Frames, Shortage, pause};
use crate::envelope::Batch;
use crate::message::{Instructions, Message, MessageRef, NEVER, NO_MESSAGE};
use crate::metrics::{DropReason, EndReason};
use crate::queue::Outgoing;
use crate::rate_limit::Verdict;
use crate::shard::{Flow, MEMORY_FULL_PERCENT, MEMORY_PAUSE_PERCENT, Shard};
use crate::storage::WaitOrigin;
use crate::subscribers::Subscriber;
use crate::{OverlapDelivery, ShardId, Time};

/// A session that gets the message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Match {
    pub subscriber: Subscriber,
    /// Further identifiers of it are in `Shard::more_identifiers`.
    has_more: bool,
}

/// Where a message came from, for `route`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A session whose connection can be made to wait.
    Publisher(u32),
    /// A session whose connection is gone (its will, its last bytes): nobody can be made to wait.
    Detached(u32),
    /// Another shard asked us, the owner of its topic, to route it.
    Owner,
}

/// What `route` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Routed {
    /// A lane is full and the publisher has to wait; nothing was done.
    Congested,
    /// The retained store is full and the version can be told; nothing was done.
    RetainedFull,
    Done {
        is_matched: bool,
        is_refused: bool,
    },
}

/// Why `send_now` did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Window or output full: later.
    NoRoom,
    /// Above the client's Maximum Packet Size: never.
    TooLarge,
}

/// Message bytes for one shard in one turn from which publishers are stopped until the next.
const TURN_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The same for messages of whose publisher nothing can be asked: dropped and counted above.
const DETACHED_TURN_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of the batch that is held back while a lane is full; QoS 0 is dropped and counted above.
const HELD_BATCH_BYTES_MAX: usize = 1024 * 1024;

impl Shard {
    /// A PUBLISH of a client.
    pub(crate) fn on_publish(&mut self, id: ConnectionId, publish: &Publish<'_>) -> Flow {
        #[cfg(debug_assertions)]
        if let Some(fault) = &self.config.fault {
            fault.on_publish(publish.topic);
        }
        let limits = &self.config.limits;
        let alias_max = limits.topic_alias_max;
        let (topic_bytes_max, levels_max) =
            (limits.topic_bytes_max as usize, limits.topic_levels_max as usize);
        let memory_percent = self.memory_percent();
        let Some(connection) = self.connection(id) else { return Flow::End };
        let session = connection.session;
        let is_final = connection.is_input_final;
        let is_memory_full = memory_percent >= MEMORY_FULL_PERCENT;
        let is_memory_tight = memory_percent >= MEMORY_PAUSE_PERCENT;
        if (is_memory_tight || matches!(connection.shortage, Shortage::Leaving(_)))
            && let Some(flow) = self.hold_publish(id, publish, is_memory_full)
        {
            return flow;
        }
        let resolved: Box<str>;
        let mut topic = publish.topic;
        if let Some(alias) = publish.topic_alias {
            let Some(connection) = self.connection(id) else { return Flow::End };
            if alias > alias_max {
                return self.fail(id, EndReason::TopicAlias, ReasonCode::TopicAliasInvalid);
            }
            if !topic.is_empty() {
                connection.aliases_in.set(alias, topic);
            } else if let Some(known) = connection.aliases_in.get(alias) {
                resolved = known.into();
                topic = &resolved;
            } else {
                return self.fail(id, EndReason::ProtocolError, ReasonCode::ProtocolError);
            }
        }
        if publish.qos > self.config.maximum_qos {
            return self.fail(id, EndReason::ProtocolError, ReasonCode::QoSNotSupported);
        }
        if publish.retain && !self.config.is_retain_available {
            return self.fail(id, EndReason::ProtocolError, ReasonCode::RetainNotSupported);
        }
        if topic.len() > topic_bytes_max
            || (topic.len() >= levels_max && protocol::topic::level_count(topic) > levels_max)
        {
            return self.fail(id, EndReason::ProtocolError, ReasonCode::TopicNameInvalid);
        }
        if publish.qos != QoS::AtMostOnce
            && let Some(flow) = self.check_window(id, session, publish)
        {
            return flow;
        }
        if is_memory_full {
            self.drop_for_memory(publish);
            return self.refuse_publish(id, publish, ReasonCode::QuotaExceeded);
        }
        if let Err((drop_reason, code)) = self.check_publish(session, topic, publish) {
            self.count_received(publish);
            self.metrics.dropped(publish.qos, drop_reason);
            return self.refuse_publish(id, publish, code);
        }

        let mut scratch = std::mem::take(&mut self.properties_scratch);
        scratch.clear();
        let message = Message {
            topic,
            payload: publish.payload,
            properties: publish.forwarded_properties(&mut scratch),
            qos: publish.qos,
            retain: publish.retain,
            publisher: self.sessions[session as usize].client_key,
            expires_at: publish.message_expiry.map_or(NEVER, |s| self.now + s as Time * 1000),
            is_fleeting: publish.message_expiry == Some(0),
        };
        let epoch = self.session_epochs[session as usize];
        let publisher =
            WaitOrigin::Publisher { connection: id, session, epoch, packet_id: publish.packet_id };
        let wait = self.open_publisher_wait(&message, publisher);
        let origin = if is_final { Origin::Detached(session) } else { Origin::Publisher(session) };
        let routed = self.route(&message, origin, wait);
        let is_waiting = self.close_wait(wait);
        self.properties_scratch = scratch;
        match routed {
            Routed::Congested => self.pause(id, pause::LANE),
            Routed::RetainedFull => {
                self.count_received(publish);
                self.refuse_publish(id, publish, ReasonCode::QuotaExceeded)
            }
            Routed::Done { is_matched, is_refused } => {
                self.count_received(publish);
                let code = match (is_matched, is_refused) {
                    (true, false) => ReasonCode::Success,
                    (true, true) => ReasonCode::QuotaExceeded,
                    (false, _) => ReasonCode::NoMatchingSubscribers,
                };
                self.acknowledge(id, session, publish, code, if is_waiting { wait } else { None })
            }
        }
    }

    /// A QoS 1 or 2 message that is known already, or one too many. None: to be served.
    fn check_window(&mut self, id: ConnectionId, session: u32, publish: &Publish<'_>) -> Option<Flow> {
        let is_repeated = publish.qos == QoS::ExactlyOnce
            && self.sessions[session as usize].unreleased.contains(publish.packet_id);
        if is_repeated {
            self.count_received(publish);
            return Some(self.acknowledge_again(id, session, publish.packet_id));
        }
        let receive_maximum = self.config.limits.receive_maximum as u32;
        let Some(connection) = self.connection(id) else { return Some(Flow::End) };
        if connection.inbound_inflight < receive_maximum {
            return None;
        }
        if publish.qos == QoS::ExactlyOnce || connection.version == Version::V5 {
            return Some(self.fail(id, EndReason::ReceiveMaximum, ReasonCode::ReceiveMaximumExceeded));
        }
        // 3.x clients know no Receive Maximum. They wait, but only for what ends by itself.
        let must_wait = !connection.pending_acks.is_empty() && !connection.is_input_final;
        must_wait.then(|| self.pause(id, pause::WINDOW))
    }

    pub(crate) fn count_received(&mut self, publish: &Publish<'_>) {
        self.metrics.publish_received[publish.qos as usize] += 1;
        self.metrics.publish_received_bytes += publish.payload.len() as u64;
        if publish.dup && publish.qos == QoS::AtLeastOnce {
            self.metrics.publish_duplicates += 1;
        }
    }

    /// Topics that only the server may use.
    pub(crate) fn is_topic_refused(&self, topic: &str) -> bool {
        let is_below = |root: &str| {
            topic.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        topic.starts_with('$')
            && (self.config.is_dollar_publish_refused
                || is_below("$SYS")
                || is_below("$share")
                || is_below("$CONTROL"))
    }

    /// What refuses a message without ending the connection.
    fn check_publish(
        &mut self,
        session: u32,
        topic: &str,
        publish: &Publish<'_>,
    ) -> Result<(), (DropReason, ReasonCode)> {
        if self.is_topic_refused(topic) {
            return Err((DropReason::InvalidTopic, ReasonCode::TopicNameInvalid));
        }
        let now = self.now;
        let session = &mut self.sessions[session as usize];
        if !session.access.may_publish(topic) {
            return Err((DropReason::AccessDenied, ReasonCode::NotAuthorized));
        }
        if let Some(rate) = &mut session.publish_rate
            && let Verdict::RefuseUntil(_) = rate.try_take(now, 1)
        {
            return Err((DropReason::RateLimited, ReasonCode::QuotaExceeded));
        }
        if self.config.is_payload_format_checked
            && publish.properties.u8(PropertyId::PayloadFormatIndicator) == Some(1)
            && std::str::from_utf8(publish.payload).is_err()
        {
            return Err((DropReason::InvalidTopic, ReasonCode::PayloadFormatInvalid));
        }
        Ok(())
    }

    // ---- routing ----

    /// Chooses where the message goes and takes it there.
    pub(crate) fn route(&mut self, message: &Message<'_>, origin: Origin, wait: Option<u32>) -> Routed {
        let hash = self.hasher.hash(message.topic);
        let can_wait = matches!(origin, Origin::Publisher(_)) && message.qos != QoS::AtMostOnce;
        let mut remote = crate::routes::ShardSet::default();
        let mut keeper = None;
        if self.config.shard_count > 1 {
            if let Some(owner) = self.ordering_owner(message, hash, origin) {
                return self.route_by_owner(owner, message, can_wait, wait);
            }
            remote = self.routes.interested(message.topic, hash);
            let owner = self.placement.retained_owner(hash);
            keeper = Some(owner).filter(|owner| message.retain && *owner != self.id);
            if can_wait && remote.iter().chain(keeper).any(|shard| self.is_congested(shard)) {
                return Routed::Congested;
            }
            if let Origin::Publisher(session) | Origin::Detached(session) = origin
                && !remote.is_empty()
                && owner != self.id
            {
                self.sessions[session as usize].direct.note(hash, self.now);
            }
        }
        if message.retain && keeper.is_none() && !self.store_and_number(message) {
            // Told only where the publisher is here and its version has a code for it.
            let can_be_told = match origin {
                Origin::Publisher(session) => {
                    can_wait && self.sessions[session as usize].version == Version::V5
                }
                Origin::Detached(_) | Origin::Owner => false,
            };
            if can_be_told {
                return Routed::RetainedFull;
            }
        }
        let mut is_refused = false;
        let mut is_matched = self.deliver(self.id, message, hash, wait, &mut is_refused);
        if !self.groups.is_empty() {
            is_matched |= self.share(message, hash, wait, &mut is_refused);
        }
        for shard in remote.iter() {
            is_matched = true;
            let instructions = Instructions { store: keeper == Some(shard), ..Default::default() };
            self.forward(shard, message, instructions, wait);
        }
        if let Some(keeper) = keeper.filter(|keeper| !remote.contains(*keeper)) {
            self.forward(keeper, message, Instructions { store: true, ..Default::default() }, wait);
        }
        if !is_matched {
            self.metrics.dropped(message.qos, DropReason::NoSubscriber);
        }
        Routed::Done { is_matched, is_refused }
    }

    #[inline]
    pub(crate) fn is_congested(&self, shard: ShardId) -> bool {
        self.is_lane_full[shard as usize] || self.turn_bytes[shard as usize] > TURN_BYTES_MAX
    }

    /// Gathers the message for another shard.
    pub(crate) fn forward(
        &mut self,
        to: ShardId,
        message: &Message<'_>,
        mut instructions: Instructions,
        wait: Option<u32>,
    ) {
        let is_lane_full = self.is_lane_full[to as usize];
        let turn_bytes = self.turn_bytes[to as usize];
        let is_dropped = match message.qos {
            QoS::AtMostOnce => {
                let is_batch_full = self.batches[to as usize].bytes.len() >= HELD_BATCH_BYTES_MAX;
                turn_bytes > TURN_BYTES_MAX || (is_lane_full && is_batch_full)
            }
            _ => turn_bytes > DETACHED_TURN_BYTES_MAX,
        };
        if is_dropped {
            self.metrics.dropped(message.qos, DropReason::LaneFull);
            if message.retain {
                self.retained_progress.on_lost(to);
            }
            return;
        }
        if let Some(key) = wait {
            instructions.ticket = key + 1;
            self.waits[key as usize].outstanding += 1;
        }
        let batch = &mut self.batches[to as usize];
        let before = batch.bytes.len();
        message.write(instructions, &mut batch.bytes);
        batch.count += 1;
        let is_complete = !is_lane_full && batch.bytes.len() >= self.config.limits.batch_bytes_max as usize;
        self.turn_bytes[to as usize] += (self.batches[to as usize].bytes.len() - before) as u64;
        if is_complete {
            self.close_batch(to);
        }
    }

    /// Messages of another shard.
    pub(crate) fn on_messages(&mut self, from: ShardId, batch: Batch) {
        let mut at = 0;
        while at < batch.bytes.len() {
            let (message, instructions, len) = Message::read(&batch.bytes[at..]);
            at += len;
            let wait = match instructions.ticket {
                0 => None,
                ticket => Some(self.open_wait(WaitOrigin::Shard(from, ticket))),
            };
            let mut is_refused = false;
            if instructions.route {
                self.route(&message, Origin::Owner, wait);
            } else if instructions.group != 0 {
                self.share_by_key(instructions.group, &message, wait, &mut is_refused);
            } else {
                if instructions.store {
                    self.store_retained(&message, 0);
                }
                let hash = self.hasher.hash(message.topic);
                self.deliver(from, &message, hash, wait, &mut is_refused);
            }
            self.close_wait(wait);
        }
        self.retained_progress.on_told(from, batch.retained);
        self.outputs.emptied.push((from, batch.bytes));
    }

    // ---- local delivery ----

    /// Hands the message, which the shard `router` has sent to us, to every session here that subscribed to its topic;
    /// true if there was one.
    pub(crate) fn deliver(
        &mut self,
        router: ShardId,
        message: &Message<'_>,
        hash: u64,
        wait: Option<u32>,
        is_refused: &mut bool,
    ) -> bool {
        let mut matches = std::mem::take(&mut self.matches);
        matches.clear();
        self.collect_matches(message, hash, &mut matches);
        let mut is_matched = false;
        if !matches.is_empty() {
            let mut frames = std::mem::take(&mut self.frames);
            frames.begin(matches.len());
            let mut stored = NO_MESSAGE;
            let has_bypassed_owner = message.retain && self.placement.retained_owner(hash) != router;
            for (index, found) in matches.iter().enumerate() {
                let subscriber = &found.subscriber;
                let identifiers = self.identifiers_of(found, index as u32);
                let copy = Copy {
                    qos: message.qos.min(subscriber.qos),
                    retain: message.retain && subscriber.retain_as_published,
                    identifiers: &identifiers,
                    group: 0,
                };
                let is_reliable = copy.qos != QoS::AtMostOnce;
                let session = &self.sessions[subscriber.session as usize];
                let sent = match session.connection {
                    // QoS 0 passes what waits for the window.
                    Some(id) if !session.is_backlogged() || (!is_reliable && session.may_qos0_pass()) => {
                        self.send_now(subscriber.session, id, message, copy, &mut stored, &mut frames)
                    }
                    _ => Err(Refusal::NoRoom),
                };
                is_matched |= match sent {
                    Ok(()) => {
                        if is_reliable && wait.is_some() {
                            self.append(subscriber.session, message, wait);
                        }
                        true
                    }
                    Err(Refusal::TooLarge) => {
                        self.metrics.dropped(copy.qos, DropReason::TooLarge);
                        true
                    }
                    Err(Refusal::NoRoom) => {
                        self.keep_for_later(subscriber.session, message, copy, &mut stored, wait, is_refused)
                    }
                };
                if has_bypassed_owner {
                    self.note_live(subscriber.session, hash);
                }
            }
            self.messages.release(stored);
            self.frames = frames;
        }
        self.matches = matches;
        is_matched
    }

    /// The sessions that match, each once (or once for each subscription, by configuration).
    fn collect_matches(&mut self, message: &Message<'_>, hash: u64, matches: &mut Vec<Match>) {
        let Shard { subscriptions, sessions, more_identifiers, metrics, match_epoch, config, .. } = self;
        more_identifiers.clear();
        let merges = config.overlap == OverlapDelivery::Once;
        let mut lists = 0;
        subscriptions.for_each_match(message.topic, hash, |subscribers| {
            lists += 1;
            if lists == 2 && merges {
                // The second filter that matches: from here on a session may come again.
                *match_epoch = match_epoch.wrapping_add(1);
                for (index, found) in matches.iter().enumerate() {
                    let session = &mut sessions[found.subscriber.session as usize];
                    (session.match_epoch, session.match_index) = (*match_epoch, index as u32);
                }
            }
            for subscriber in subscribers.as_slice() {
                if subscriber.no_local
                    && sessions[subscriber.session as usize].client_key == message.publisher
                {
                    metrics.dropped(message.qos, DropReason::NoLocal);
                    continue;
                }
                if lists > 1 && merges {
                    let session = &mut sessions[subscriber.session as usize];
                    if session.match_epoch == *match_epoch {
                        merge(
                            &mut matches[session.match_index as usize],
                            subscriber,
                            session.match_index,
                            more_identifiers,
                        );
                        continue;
                    }
                    (session.match_epoch, session.match_index) = (*match_epoch, matches.len() as u32);
                }
                matches.push(Match { subscriber: *subscriber, has_more: false });
            }
        });
    }

    /// Subscription identifiers of the `index`th match.
    #[inline]
    fn identifiers_of(&self, found: &Match, index: u32) -> smallvec::SmallVec<[u32; 4]> {
        let mut identifiers = smallvec::SmallVec::new();
        if found.subscriber.identifier != 0 {
            identifiers.push(found.subscriber.identifier);
        }
        if found.has_more {
            let others = self.more_identifiers.iter().filter(|(at, _)| *at == index);
            identifiers.extend(others.map(|(_, identifier)| *identifier));
        }
        identifiers
    }

    /// Puts a delivery on the connection's output if the window and the socket have room.
    pub(crate) fn send_now(
        &mut self,
        session_index: u32,
        id: ConnectionId,
        message: &Message<'_>,
        copy: Copy<'_>,
        stored: &mut MessageRef,
        frames: &mut Frames,
    ) -> Result<(), Refusal> {
        let now = self.now;
        let (soft, hard) = {
            let limits = &self.config.limits;
            (limits.output_soft_bytes as usize, limits.output_hard_bytes as usize)
        };
        let session = &mut self.sessions[session_index as usize];
        let Some(Some(connection)) = self.connections.get_mut(id.slot as usize) else {
            return Err(Refusal::NoRoom);
        };
        let is_reliable = copy.qos != QoS::AtMostOnce;
        let pending = connection.output_pending();
        if pending >= if is_reliable { soft } else { hard } || (is_reliable && !session.inflight.has_room()) {
            if pending >= soft && !connection.is_stall_timer_set {
                connection.is_stall_timer_set = true;
                self.set_connection_timer(id, now + self.config.limits.slow_consumer_timeout_ms);
            }
            return Err(Refusal::NoRoom);
        }
        if connection.output.capacity() == 0 {
            connection.output = self.spare_buffers.take();
        }
        let start = connection.output.len();
        let delivery =
            Delivery { qos: copy.qos, retain: copy.retain, dup: false, identifiers: copy.identifiers };
        let Some(id_at) = connection.append_publish(message, delivery, now, frames) else {
            return Err(Refusal::TooLarge);
        };
        if is_reliable {
            // Sent again only if the session may see another connection, or a group another member.
            let outgoing = if session.is_persistent() || copy.group != 0 {
                if *stored == NO_MESSAGE {
                    *stored = self.messages.insert(message);
                }
                self.messages.retain(*stored);
                Outgoing {
                    message: *stored,
                    qos: copy.qos,
                    retain: copy.retain,
                    identifiers: self.messages.keep_identifiers(copy.identifiers),
                    group: copy.group,
                }
            } else {
                Outgoing::forgotten(copy.qos)
            };
            let packet_id = session.inflight.push(copy.qos, outgoing);
            connection.patch_packet_id(id_at, packet_id);
            self.metrics.inflight_out += 1;
        }
        self.output_bytes += (connection.output.len() - start) as u64;
        self.metrics.packets_sent[3] += 1;
        self.metrics.publish_sent[copy.qos as usize] += 1;
        self.metrics.publish_sent_bytes += message.payload.len() as u64;
        if !connection.is_dirty {
            connection.is_dirty = true;
            self.outputs.dirty.push(id);
        }
        Ok(())
    }
}

/// How one session gets a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copy<'a> {
    pub qos: QoS,
    pub retain: bool,
    pub identifiers: &'a [u32],
    /// Number of the shared group, 0 without.
    pub group: u32,
}

/// Adds a further matching subscription of a session to its match.
fn merge(found: &mut Match, subscriber: &Subscriber, index: u32, more_identifiers: &mut Vec<(u32, u32)>) {
    found.subscriber.qos = found.subscriber.qos.max(subscriber.qos);
    found.subscriber.retain_as_published |= subscriber.retain_as_published;
    if subscriber.identifier != 0 {
        found.has_more = true;
        more_identifiers.push((index, subscriber.identifier));
    }
}
