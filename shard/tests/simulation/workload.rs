//! What clients do: they follow the standard to the letter, at a whim, over connections that break at any point.

use std::collections::VecDeque;

use protocol::{
    Ack, Connect, Disconnect, Packet, Properties, PropertyId, PropertyWriter, Publish, QoS, ReasonCode,
    RetainHandling, Subscribe, SubscribeFilters, SubscriptionOptions, Unsubscribe, UnsubscribeFilters,
    Version, Will,
};
use shard::{Envelope, ShardId};

use crate::network::{Event, Goodbye, Link, LinkId, Offer, Phase, SubscriptionRequest, WillOffer};
use crate::oracle::{Verdict, ensure, write_payload};
use crate::plan::{FILTERS, SHARED_FROM, TOPICS};
use crate::world::World;

/// A QoS 1 or 2 message of the client that is not completed.
#[derive(Clone, Copy, Debug)]
struct Outgoing {
    packet_id: u16,
    uid: u32,
    qos: QoS,
    /// PUBREC has come.
    is_released: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    PubAck,
    PubRec,
    /// PUBREC with an error.
    Refusal,
    PubRel,
    PubComp,
}

/// A client with its half of the session.
#[derive(Default)]
pub struct Actor {
    link: Option<LinkId>,
    outgoing: Vec<Outgoing>,
    /// Packet ids of QoS 2 messages that were received and not released.
    held: Vec<u16>,
    answers: VecDeque<(Answer, u16)>,
    incarnation: u32,
}

impl World {
    fn live_link(&self, client: usize) -> Option<LinkId> {
        self.actors[client].link.filter(|id| self.links[*id].is_confirmed)
    }

    /// A client does something.
    pub fn act(&mut self, client: usize) -> Verdict {
        let Some(id) = self.actors[client].link else {
            if self.rng.chance(50) {
                self.connect(client, false)?;
            }
            return Ok(());
        };
        if (self.rng.below(1000) as u32) < self.plan.roughness {
            return self.disturb(client, id);
        }
        if !self.links[id].is_confirmed {
            // What follows CONNECT before its answer travels with the connection.
            return match self.rng.below(12) {
                0 => self.publish(client, id, QoS::AtMostOnce),
                // Behind what is repeated after CONNACK it would have overtaken it.
                1 if self.actors[client].outgoing.is_empty() => self.publish(client, id, QoS::AtLeastOnce),
                2 => self.subscribe(client, id),
                _ => Ok(()),
            };
        }
        let (acks, publishes) =
            (self.plan.clients[client].ack_percent, self.plan.clients[client].publish_percent);
        if !self.actors[client].answers.is_empty() && self.rng.chance(acks) {
            let count = if self.rng.chance(50) { usize::MAX } else { 1 };
            return self.answer(client, id, count);
        }
        match self.rng.below(100) {
            0..60 if self.rng.chance(publishes) => {
                let qos = self.rng.pick(&[
                    QoS::AtMostOnce,
                    QoS::AtLeastOnce,
                    QoS::AtLeastOnce,
                    QoS::ExactlyOnce,
                    QoS::ExactlyOnce,
                ]);
                self.publish(client, id, qos)
            }
            60..75 => self.subscribe(client, id),
            75..79 => self.unsubscribe(client, id),
            79..82 => {
                self.links[id].pings += 1;
                self.write_packet(id, &Packet::PingReq);
                Ok(())
            }
            82..84 => {
                self.links[id].is_stalled = self.rng.chance(50);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What networks and restless clients do.
    fn disturb(&mut self, client: usize, id: LinkId) -> Verdict {
        match self.rng.below(14) {
            0..4 => self.reset(id),
            4..6 => {
                self.note(|_| format!("link {id}: the client finishes"));
                self.node.finish(self.links[id].socket);
                self.abandon(id);
                Ok(())
            }
            6..8 if self.links[id].is_confirmed => self.disconnect(client, id),
            8..11 => {
                self.abandon(id);
                self.connect(client, false)
            }
            11 => self.kick(client),
            12 => {
                // A link that its client has forgotten breaks at last.
                let forgotten = self.open.iter().copied().find(|id| self.links[*id].is_abandoned);
                forgotten.map_or(Ok(()), |id| self.reset(id))
            }
            _ => {
                self.links[id].is_stalled = true;
                Ok(())
            }
        }
    }

    fn kick(&mut self, client: usize) -> Verdict {
        self.note(|_| format!("client {client} is kicked"));
        self.oracle.on_kick(client, self.node.now);
        for shard in 0..self.node.shards.len() as ShardId {
            let client_id = self.plan.clients[client].id.as_str().into();
            self.node.control(shard, Envelope::Kick { client_id });
            self.digest(&[])?;
        }
        Ok(())
    }

    // ---- links ----

    /// The client does not look at the link any more.
    fn abandon(&mut self, id: LinkId) {
        self.links[id].is_abandoned = true;
        self.on_link_lost(id);
    }

    /// The link is gone for its client.
    pub fn on_link_lost(&mut self, id: LinkId) {
        let link = &mut self.links[id];
        link.is_abandoned = true;
        if !link.is_confirmed {
            for uid in link.unconfirmed.drain(..) {
                self.oracle.messages[uid as usize].is_loose = true;
            }
        }
        let actor = &mut self.actors[link.client];
        if actor.link == Some(id) {
            actor.link = None;
            actor.answers.clear();
        }
    }

    fn connect(&mut self, client: usize, is_settling: bool) -> Verdict {
        let plan = self.plan.clone();
        let wishes = &plan.clients[client];
        let limits = &plan.config.limits;
        let shard = self.rng.below(self.node.shards.len()) as ShardId;
        let Some(socket) = self.node.accept(shard) else { return Ok(()) };
        self.digest(&[])?;
        let is_v5 = wishes.version == Version::V5;
        let clean = !is_settling && self.rng.chance(wishes.clean_percent);
        let will = match !is_settling && self.rng.chance(wishes.will_percent) {
            true => Some(self.new_will(client)),
            false => None,
        };
        let keep_alive = match (wishes.keep_alive, limits.keep_alive_max_s) {
            (0, max) => max,
            (asked, 0) => asked,
            (asked, max) => asked.min(max),
        };
        let offer = Offer {
            clean,
            expiry_ms: plan.expiry_ms(wishes.version, clean, wishes.expiry_s),
            window_max: wishes.receive_maximum.filter(|_| is_v5).unwrap_or(u16::MAX).min(limits.inflight_max)
                as u32,
            packet_size_max: wishes.packet_size_max.filter(|_| is_v5).map_or(usize::MAX, |max| max as usize),
            keep_alive_ms: keep_alive as u64 * 1500,
            will: will.as_ref().map(|will| will.offer),
        };
        let mut wire = Vec::new();
        let mut writer = PropertyWriter::new(&mut wire);
        if is_v5 {
            if wishes.expiry_s > 0 {
                writer.u32(PropertyId::SessionExpiryInterval, wishes.expiry_s);
            }
            if let Some(maximum) = wishes.receive_maximum {
                writer.u16(PropertyId::ReceiveMaximum, maximum);
            }
            if let Some(maximum) = wishes.packet_size_max {
                writer.u32(PropertyId::MaximumPacketSize, maximum);
            }
            if wishes.alias_max > 0 {
                writer.u16(PropertyId::TopicAliasMaximum, wishes.alias_max);
            }
        }
        let connect = Connect {
            version: wishes.version,
            is_bridge: false,
            clean_start: clean,
            keep_alive: wishes.keep_alive,
            client_id: &wishes.id,
            will: will.as_ref().map(|will| Will {
                qos: will.qos,
                retain: will.retain,
                topic: TOPICS[will.topic],
                payload: &will.payload,
                properties: Properties::from_wire(&will.properties),
            }),
            user_name: None,
            password: None,
            properties: Properties::from_wire(&wire),
        };
        let now = self.node.now;
        let id = self.add_link(Link::new(socket, client, wishes.version, offer, now));
        self.note(|world| {
            format!("link {id}: client {client} connects at shard {shard}, {:?}", world.links[id].offer)
        });
        self.write_packet(id, &Packet::Connect(Box::new(connect)));
        self.actors[client].link = Some(id);
        Ok(())
    }

    fn new_will(&mut self, client: usize) -> NewWill {
        let topic = self.rng.below(TOPICS.len());
        let qos = self.rng.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
        let retain = self.rng.chance(30);
        let is_v5 = self.plan.clients[client].version == Version::V5;
        let delay_s = if is_v5 { self.rng.pick(&[0, 0, 2, 30]) } else { 0 };
        let uid = self.oracle.new_message(client, topic, qos, retain, 12, None, true, self.node.now);
        let (mut payload, mut properties) = (Vec::new(), Vec::new());
        write_payload(uid, 12, &mut payload);
        if delay_s > 0 {
            PropertyWriter::new(&mut properties).u32(PropertyId::WillDelayInterval, delay_s);
        }
        let offer = WillOffer { uid, delay_ms: delay_s as u64 * 1000 };
        NewWill { offer, topic, qos, retain, payload, properties }
    }

    fn disconnect(&mut self, client: usize, id: LinkId) -> Verdict {
        let is_v5 = self.links[id].version == Version::V5;
        let keeps_will = is_v5 && self.rng.chance(30);
        let may_change = is_v5 && self.links[id].offer.expiry_ms > 0 && self.rng.chance(30);
        let expiry_s: Option<u32> = may_change.then(|| self.rng.pick(&[0, 3, 100]));
        let reason = if keeps_will { ReasonCode::DisconnectWithWill } else { ReasonCode::Success };
        let mut wire = Vec::new();
        if let Some(expiry_s) = expiry_s {
            PropertyWriter::new(&mut wire).u32(PropertyId::SessionExpiryInterval, expiry_s);
        }
        let plan = self.plan.clone();
        let disconnect = Disconnect { reason, properties: Properties::from_wire(&wire) };
        self.note(|_| format!("link {id}: client {client} disconnects, {reason:?}, expiry {expiry_s:?}"));
        self.write_packet(id, &Packet::Disconnect(disconnect));
        let expiry_ms = expiry_s.map(|s| plan.expiry_ms(Version::V5, false, s));
        self.links[id].goodbye = Some(Goodbye { end: self.links[id].written, keeps_will, expiry_ms });
        if self.rng.chance(50) {
            self.node.finish(self.links[id].socket);
        }
        self.abandon(id);
        Ok(())
    }

    fn write_packet(&mut self, id: LinkId, packet: &Packet<'_>) {
        let mut bytes = Vec::with_capacity(64);
        packet.encode(self.links[id].version, &mut bytes);
        self.write(id, &bytes);
    }

    // ---- publishing ----

    fn free_packet_id(&self, client: usize, id: LinkId) -> u16 {
        let is_taken = |packet_id: u16| {
            self.actors[client].outgoing.iter().any(|outgoing| outgoing.packet_id == packet_id)
                || self.links[id].requests.iter().any(|request| request.packet_id == packet_id)
        };
        (1..=u16::MAX).find(|packet_id| !is_taken(*packet_id)).expect("few are taken")
    }

    fn publish(&mut self, client: usize, id: LinkId, qos: QoS) -> Verdict {
        let is_window_full =
            self.actors[client].outgoing.len() >= self.plan.config.limits.receive_maximum as usize;
        if qos != QoS::AtMostOnce && is_window_full {
            return Ok(());
        }
        let topic = self.rng.below(TOPICS.len());
        let retain = self.rng.chance(12);
        let size = match self.rng.below(30) {
            0 if retain => 0,
            1 => self.rng.between(100, 1500) as usize,
            _ => self.rng.between(8, 30) as usize,
        };
        let is_v5 = self.links[id].version == Version::V5;
        let expiry_s = (is_v5 && self.rng.chance(8)).then(|| self.rng.between(1, 20) as u32);
        self.publish_new(client, id, topic, qos, retain, size, expiry_s);
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn publish_new(
        &mut self,
        client: usize,
        id: LinkId,
        topic: usize,
        qos: QoS,
        retain: bool,
        size: usize,
        expiry_s: Option<u32>,
    ) {
        let uid = self.oracle.new_message(client, topic, qos, retain, size, expiry_s, false, self.node.now);
        let packet_id = if qos == QoS::AtMostOnce { 0 } else { self.free_packet_id(client, id) };
        let outgoing = Outgoing { packet_id, uid, qos, is_released: false };
        if qos != QoS::AtMostOnce {
            self.actors[client].outgoing.push(outgoing);
        }
        if !self.links[id].is_confirmed {
            self.links[id].unconfirmed.push(uid);
            // Whose session it will belong to is not known yet.
            self.oracle.messages[uid as usize].incarnation = u32::MAX - uid;
        }
        self.write_publish(id, outgoing, false);
    }

    fn write_publish(&mut self, id: LinkId, outgoing: Outgoing, dup: bool) {
        let alias_max = self.plan.config.limits.topic_alias_max as usize;
        let message = &mut self.oracle.messages[outgoing.uid as usize];
        message.sends += 1;
        let (topic, retain, expiry_s) = (message.topic, message.retain, message.expiry_s);
        let mut payload = Vec::new();
        write_payload(outgoing.uid, message.size, &mut payload);
        let link = &mut self.links[id];
        let (mut name, mut alias) = (TOPICS[topic], None);
        // The server's Topic Alias Maximum is known from its CONNACK on.
        if link.version == Version::V5 && link.is_confirmed && outgoing.uid.is_multiple_of(2) {
            match link.aliases_set.iter().position(|known| *known == topic) {
                Some(at) => (name, alias) = ("", Some(at as u16 + 1)),
                None if link.aliases_set.len() < alias_max => {
                    link.aliases_set.push(topic);
                    alias = Some(link.aliases_set.len() as u16);
                }
                None => {}
            }
        }
        if outgoing.qos != QoS::AtMostOnce {
            link.publishes.push_back((outgoing.packet_id, outgoing.qos, outgoing.uid));
        }
        let publish = Publish {
            dup,
            qos: outgoing.qos,
            retain,
            topic: name,
            packet_id: outgoing.packet_id,
            topic_alias: alias,
            message_expiry: expiry_s,
            subscription_ids: &[],
            properties: Properties::EMPTY,
            payload: &payload,
        };
        self.note(|_| {
            format!(
                "link {id} -> message {} on {} {outgoing:?} retain {retain} dup {dup}",
                outgoing.uid, TOPICS[topic]
            )
        });
        self.write_packet(id, &Packet::Publish(publish));
    }

    // ---- subscribing ----

    fn subscribe(&mut self, client: usize, id: LinkId) -> Verdict {
        let count = self.rng.pick(&[1, 1, 2]);
        let mut filters = Vec::new();
        for _ in 0..count {
            let filter = self.any_filter(client);
            if filters.iter().any(|other: &(SubscriptionRequest, RetainHandling)| other.0.filter == filter) {
                continue;
            }
            let is_v5 = self.links[id].version == Version::V5;
            let qos = self.plan.clients[client].subscription_qos(&mut self.rng);
            let handling = match is_v5 {
                true => self.rng.pick(&[
                    RetainHandling::SendAlways,
                    RetainHandling::SendIfNew,
                    RetainHandling::DoNotSend,
                ]),
                false => RetainHandling::SendAlways,
            };
            let request = SubscriptionRequest {
                filter,
                qos,
                no_local: is_v5 && filter < SHARED_FROM && self.rng.chance(20),
                retain_as_published: is_v5 && self.rng.chance(30),
                identifier: 0,
            };
            filters.push((request, handling));
        }
        let is_identified = self.links[id].version == Version::V5 && self.rng.chance(40);
        let identifier = if is_identified { self.rng.between(1, 300) as u32 } else { 0 };
        self.write_subscribe(client, id, &filters, identifier);
        Ok(())
    }

    fn any_filter(&mut self, client: usize) -> usize {
        match self.plan.clients[client].is_shared {
            true => SHARED_FROM + self.rng.below(FILTERS.len() - SHARED_FROM),
            false => self.rng.below(SHARED_FROM),
        }
    }

    fn write_subscribe(
        &mut self,
        client: usize,
        id: LinkId,
        filters: &[(SubscriptionRequest, RetainHandling)],
        identifier: u32,
    ) {
        let packet_id = self.free_packet_id(client, id);
        let (mut wire, mut properties) = (Vec::new(), Vec::new());
        for (request, retain_handling) in filters {
            let options = SubscriptionOptions {
                qos: request.qos,
                no_local: request.no_local,
                retain_as_published: request.retain_as_published,
                retain_handling: *retain_handling,
            };
            SubscribeFilters::push(&mut wire, FILTERS[request.filter], options);
        }
        if identifier > 0 {
            PropertyWriter::new(&mut properties).varint(PropertyId::SubscriptionIdentifier, identifier);
        }
        let subscribe = Subscribe {
            packet_id,
            properties: Properties::from_wire(&properties),
            filters: SubscribeFilters::from_wire(&wire),
        };
        self.note(|_| format!("link {id} -> SUBSCRIBE {packet_id} identifier {identifier} {filters:?}"));
        self.write_packet(id, &Packet::Subscribe(subscribe));
        let requests =
            filters.iter().map(|(request, _)| SubscriptionRequest { identifier, ..*request }).collect();
        self.oracle.on_request_written(id, &mut self.links[id], packet_id, true, requests);
    }

    fn unsubscribe(&mut self, client: usize, id: LinkId) -> Verdict {
        let filter = self.any_filter(client);
        let packet_id = self.free_packet_id(client, id);
        let mut wire = Vec::new();
        UnsubscribeFilters::push(&mut wire, FILTERS[filter]);
        let unsubscribe = Unsubscribe {
            packet_id,
            properties: Properties::EMPTY,
            filters: UnsubscribeFilters::from_wire(&wire),
        };
        self.note(|_| format!("link {id} -> UNSUBSCRIBE {packet_id} {}", FILTERS[filter]));
        self.write_packet(id, &Packet::Unsubscribe(unsubscribe));
        let request = SubscriptionRequest {
            filter,
            qos: QoS::AtMostOnce,
            no_local: false,
            retain_as_published: false,
            identifier: 0,
        };
        self.oracle.on_request_written(id, &mut self.links[id], packet_id, false, vec![request]);
        Ok(())
    }

    // ---- answers ----

    fn answer(&mut self, client: usize, id: LinkId, count: usize) -> Verdict {
        for _ in 0..count {
            let Some((answer, packet_id)) = self.actors[client].answers.pop_front() else { break };
            let reason =
                if answer == Answer::Refusal { ReasonCode::QuotaExceeded } else { ReasonCode::Success };
            let ack = Ack::new(packet_id, reason);
            self.note(|_| format!("link {id} -> {answer:?} {packet_id}"));
            let packet = match answer {
                Answer::PubAck => Packet::PubAck(ack),
                Answer::PubRec | Answer::Refusal => Packet::PubRec(ack),
                Answer::PubRel => Packet::PubRel(ack),
                Answer::PubComp => Packet::PubComp(ack),
            };
            self.write_packet(id, &packet);
            let link = &mut self.links[id];
            match answer {
                Answer::PubRel => link.releases.push_back(packet_id),
                Answer::PubRec => self.oracle.on_ack_written(link, packet_id, false),
                _ => self.oracle.on_ack_written(link, packet_id, true),
            }
        }
        Ok(())
    }

    /// A packet has arrived.
    pub fn on_event(&mut self, id: LinkId, event: Event) -> Verdict {
        let client = self.links[id].client;
        if self.links[id].is_abandoned || self.actors[client].link != Some(id) {
            return Ok(());
        }
        match event {
            Event::ConnAck { reason: ReasonCode::Success, is_resumed, incarnation } => {
                self.on_connected(client, id, is_resumed, incarnation);
            }
            Event::Publish { uid, qos, packet_id, retain, .. } => {
                let incarnation = self.links[id].incarnation;
                let actor = &mut self.actors[client];
                let mut is_new = true;
                match qos {
                    QoS::AtMostOnce => {}
                    QoS::AtLeastOnce => actor.answers.push_back((Answer::PubAck, packet_id)),
                    QoS::ExactlyOnce => {
                        is_new = !actor.held.contains(&packet_id);
                        let is_refused =
                            is_new && self.links[id].version == Version::V5 && self.rng.chance(3);
                        // A refused one is remembered too: the refusal may get lost.
                        if is_new {
                            actor.held.push(packet_id);
                        }
                        actor.answers.push_back((
                            if is_refused { Answer::Refusal } else { Answer::PubRec },
                            packet_id,
                        ));
                    }
                }
                if client == self.plan.clients.len() - 1 && retain {
                    self.retained_found.push(uid);
                }
                if is_new {
                    self.oracle.on_arrived(client, incarnation, uid, qos, retain)?;
                }
            }
            Event::PubAck { packet_id } => {
                self.actors[client].outgoing.retain(|out| out.packet_id != packet_id);
            }
            Event::PubRec { packet_id, is_error } => {
                let actor = &mut self.actors[client];
                if is_error {
                    actor.outgoing.retain(|out| out.packet_id != packet_id);
                } else if let Some(out) = actor.outgoing.iter_mut().find(|out| out.packet_id == packet_id) {
                    out.is_released = true;
                    actor.answers.push_back((Answer::PubRel, packet_id));
                }
            }
            Event::PubComp { packet_id } => {
                self.actors[client].outgoing.retain(|out| out.packet_id != packet_id);
            }
            Event::PubRel { packet_id } => {
                let actor = &mut self.actors[client];
                actor.held.retain(|held| *held != packet_id);
                actor.answers.push_back((Answer::PubComp, packet_id));
            }
            Event::ConnAck { .. }
            | Event::SubAck { .. }
            | Event::UnsubAck { .. }
            | Event::PingResp
            | Event::Disconnect { .. } => {}
        }
        Ok(())
    }

    /// CONNACK: the client takes up its half of the session, or drops it.
    fn on_connected(&mut self, client: usize, id: LinkId, is_resumed: bool, incarnation: u32) {
        self.links[id].is_confirmed = true;
        let early = std::mem::take(&mut self.links[id].unconfirmed);
        let actor = &mut self.actors[client];
        let is_known = is_resumed && actor.incarnation == incarnation;
        actor.incarnation = incarnation;
        if !is_known {
            actor.held.clear();
            let messages = &mut self.oracle.messages;
            actor.outgoing.retain(|out| {
                let is_early = early.contains(&out.uid);
                messages[out.uid as usize].is_loose |= !is_early;
                is_early
            });
            return;
        }
        let again: Vec<Outgoing> =
            actor.outgoing.iter().copied().filter(|out| !early.contains(&out.uid)).collect();
        for outgoing in again {
            if outgoing.is_released {
                self.actors[client].answers.push_back((Answer::PubRel, outgoing.packet_id));
            } else {
                self.write_publish(id, outgoing, true);
            }
        }
    }

    // ---- the end ----

    /// Everybody comes back, reads and acknowledges until nothing is left to do.
    pub fn settle(&mut self) -> Verdict {
        self.is_settling = true;
        self.note(|_| "everything settles".into());
        for id in self.open.clone() {
            if self.links[id].is_abandoned {
                self.reset(id)?;
            }
        }
        let mut quiet = 0;
        // A client that is held back for memory gets on once a second.
        let rounds = if self.plan.is_memory_tight { 20_000 } else { 2_000 };
        for _ in 0..rounds {
            let mut is_busy = false;
            for client in 0..self.plan.clients.len() {
                if self.actors[client].link.is_none() && self.oracle.sessions[client].exists {
                    self.connect(client, true)?;
                    is_busy = true;
                }
            }
            is_busy |= self.pump()?;
            for client in 0..self.plan.clients.len() {
                if let Some(id) = self.live_link(client)
                    && !self.actors[client].answers.is_empty()
                {
                    self.answer(client, id, usize::MAX)?;
                    is_busy = true;
                }
            }
            self.advance(10)?;
            let is_complete = (0..self.plan.clients.len()).all(|client| {
                let actor = &self.actors[client];
                actor.link.is_none_or(|id| self.links[id].is_confirmed && actor.outgoing.is_empty())
                    && (actor.link.is_some() || !self.oracle.sessions[client].exists)
            });
            let is_held = self.node.sum(|metrics| metrics.paused_connections) > 0;
            quiet = if is_busy || !is_complete || is_held { 0 } else { quiet + 1 };
            if quiet == 3 {
                return Ok(());
            }
        }
        let state = |client: usize| {
            let actor = &self.actors[client];
            let link = actor
                .link
                .map(|id| (id, self.links[id].is_confirmed, &self.node.sockets[self.links[id].socket]));
            format!(
                "client {client}: exists {}, link {link:?}, outgoing {:?}",
                self.oracle.sessions[client].exists, actor.outgoing
            )
        };
        let states: Vec<String> = (0..self.plan.clients.len()).map(state).collect();
        Err(format!("it does not settle, quiet {quiet}\n{}", states.join("\n")))
    }

    fn checker(&mut self) -> Result<LinkId, String> {
        let checker = self.plan.clients.len() - 1;
        if self.live_link(checker).is_none() {
            self.connect(checker, false)?;
            self.settle()?;
        }
        self.live_link(checker).ok_or_else(|| "the checker is not let in".into())
    }

    /// The checker asks for all retained messages.
    pub fn inspect_retained(&mut self) -> Verdict {
        let id = self.checker()?;
        let request = |filter: &str| SubscriptionRequest {
            filter: FILTERS.iter().position(|other| *other == filter).expect("it is in the list"),
            qos: QoS::ExactlyOnce,
            no_local: false,
            retain_as_published: false,
            identifier: 0,
        };
        let filters =
            [(request("#"), RetainHandling::SendAlways), (request("$d/#"), RetainHandling::SendAlways)];
        self.write_subscribe(self.plan.clients.len() - 1, id, &filters, 0);
        self.settle()
    }

    pub fn clear_retained(&mut self) -> Verdict {
        let id = self.checker()?;
        for topic in 0..TOPICS.len() {
            self.publish_new(self.plan.clients.len() - 1, id, topic, QoS::AtLeastOnce, true, 0, None);
            self.settle()?;
        }
        Ok(())
    }

    /// Everybody leaves, and the clock passes everything that still waits for it.
    pub fn leave(&mut self) -> Verdict {
        self.note(|_| "everybody leaves".into());
        for client in 0..self.plan.clients.len() {
            let Some(id) = self.actors[client].link else { continue };
            match self.rng.chance(50) && self.links[id].is_confirmed {
                true => self.disconnect(client, id)?,
                false => self.reset(id)?,
            }
        }
        for _ in 0..3 {
            self.pump()?;
            self.advance(self.plan.config.limits.session_expiry_max_s as u64 * 1000 + 60_000)?;
        }
        self.pump()?;
        let is_live = self.links.iter().any(|link| link.phase == Phase::Live);
        ensure!(!is_live, "a link is live after all have left");
        // Wills that were retained are left over.
        let topics: Vec<usize> = (0..TOPICS.len()).collect();
        if self.node.sum(|metrics| metrics.retained_messages) > 0 {
            let id = self.checker()?;
            for topic in topics {
                self.publish_new(self.plan.clients.len() - 1, id, topic, QoS::AtLeastOnce, true, 0, None);
                self.settle()?;
            }
            self.reset(id)?;
            self.pump()?;
        }
        Ok(())
    }
}

struct NewWill {
    offer: WillOffer,
    topic: usize,
    qos: QoS,
    retain: bool,
    payload: Vec<u8>,
    properties: Vec<u8>,
}
