//! The truth about the node, kept from what clients wrote and from what shards emitted, and what must hold of it.
//!
//! Server to client traffic is judged when a shard emits it, so that the order and the time are the shard's; what a
//! client owns in the end is judged by what has arrived.

use std::collections::HashMap;
use std::sync::Arc;

use protocol::{QoS, ReasonCode, Version};
use shard::filter_index::TopicHasher;
use shard::{OverlapDelivery, Time};

use crate::network::{Incoming, Link, LinkId, Phase, Request, SubscriptionRequest, WillOffer};
use crate::plan::{FILTERS, Plan, SHARED_FROM, TIMER_SLACK_MS, TOPICS, does_match};

pub type Verdict = Result<(), String>;

macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}
pub(crate) use ensure;

/// Stands for the message without a payload, which carries no number.
pub const UNNAMED: u32 = u32::MAX;
const NEVER: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Not acknowledged (QoS 0: never is).
    Open,
    Accepted,
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WillFate {
    /// The connection lives, or the delay runs.
    Waiting,
    /// To be published from this time on.
    Due(Time),
    Cancelled,
    /// A reconnect met the moment at which it was due.
    Unsure,
}

#[derive(Clone, Debug)]
pub struct Message {
    pub publisher: usize,
    /// Of the publisher's session; order is promised within one.
    pub incarnation: u32,
    pub topic: usize,
    pub qos: QoS,
    pub retain: bool,
    pub is_empty: bool,
    /// Bytes of payload.
    pub size: usize,
    pub expiry_s: Option<u32>,
    pub written_at: Time,
    pub written: u64,
    /// Times that lanes were seen empty, before it was written and when it was acknowledged.
    pub written_epoch: u64,
    pub accepted_epoch: u64,
    pub accepted_at: Time,
    pub sends: u32,
    pub fate: Fate,
    pub will: Option<WillFate>,
    /// Appends without `on_stored`.
    pub unstored: u32,
    /// It may be processed late, by a connection that its client has given up.
    pub is_loose: bool,
    /// With RETAIN: it may go to subscribers directly rather than by the owner of its topic, because its publisher's
    /// messages to the topic, or to one that it is taken for, have.
    may_go_directly: bool,
    shared_emitted: u32,
    pub shared_app: u32,
    /// Deliveries taken back from members whose session ended.
    shared_returned: u32,
}

#[derive(Clone, Copy, Debug)]
struct Subscription {
    request: SubscriptionRequest,
    written: u64,
    confirmed: u64,
    ended: u64,
    /// UNSUBSCRIBE or another SUBSCRIBE of the filter was written.
    is_leaving: bool,
    /// And an answer to that may have got lost with a connection.
    is_doubtful: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FlightState {
    Sent,
    /// PUBREC was written.
    Received,
    /// PUBREL was emitted.
    Released,
    /// The last acknowledgement was written.
    Acked,
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    packet_id: u16,
    uid: u32,
    qos: QoS,
    state: FlightState,
    order: u32,
    /// Takes a place in the window of the current link.
    is_counted: bool,
}

#[derive(Default)]
pub struct Session {
    pub exists: bool,
    pub incarnation: u32,
    pub link: Option<LinkId>,
    pub expiry_ms: u64,
    pub expires_at: Time,
    will: Option<WillOffer>,
    will_at: Option<Time>,
    subscriptions: Vec<Subscription>,
    flights: Vec<Flight>,
    order: u32,
    /// Emissions without DUP and without RETAIN, by message.
    emitted: Vec<u8>,
    app: Vec<u8>,
    /// Last message by publisher, topic, QoS published and QoS delivered.
    last: Vec<u32>,
    /// Last message with RETAIN that came live by publisher and topic, and when.
    live_retained: HashMap<(usize, usize), (u32, u64)>,
    expected: Vec<u32>,
}

struct GroupExpectation {
    uid: u32,
    filter: usize,
    client: usize,
    incarnation: u32,
}

/// What the end of a connection was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The shard served the client's DISCONNECT.
    Goodbye,
    Lost,
}

pub struct Oracle {
    plan: Arc<Plan>,
    pub messages: Vec<Message>,
    pub sessions: Vec<Session>,
    pub clock: u64,
    /// Times that the lanes were seen empty.
    pub epoch: u64,
    /// Wills that must have been and may have been published.
    pub wills_min: u64,
    pub wills_max: u64,
    /// Wills whose time has come and whose timer may be a tick late.
    ripe: Vec<(Time, u32, usize)>,
    /// Wills that were seen before what ended their session.
    early_wills: Vec<u32>,
    /// Messages that went to groups in the turn that is being judged.
    shared_judged: Vec<u32>,
    next_will_at: Time,
    next_expiry_at: Time,
    /// Copies have been dropped at full lanes, sockets or queues.
    pub are_copies_dropped: bool,
    /// By topic: those of one number are one to what a session knows of its topics.
    direct_bits: Vec<u64>,
    /// When somebody last left each filter (shared ones).
    left: Vec<u64>,
    group_expected: Vec<GroupExpectation>,
}

fn class(publisher: usize, topic: usize, published: QoS, delivered: QoS) -> usize {
    ((publisher * TOPICS.len() + topic) * 3 + published as usize) * 3 + delivered as usize
}

fn bump(counts: &mut Vec<u8>, uid: u32) -> u8 {
    let at = uid as usize;
    if counts.len() <= at {
        counts.resize(at + 64, 0);
    }
    counts[at] = counts[at].saturating_add(1);
    counts[at]
}

fn count(counts: &[u8], uid: u32) -> u8 {
    counts.get(uid as usize).copied().unwrap_or(0)
}

impl Oracle {
    pub fn new(plan: Arc<Plan>) -> Oracle {
        let clients = plan.clients.len();
        let hasher = TopicHasher::with_seed(plan.config.hash_seed);
        Oracle {
            messages: Vec::new(),
            sessions: (0..clients).map(|_| Session::default()).collect(),
            clock: 1,
            epoch: 0,
            wills_min: 0,
            wills_max: 0,
            ripe: Vec::new(),
            early_wills: Vec::new(),
            shared_judged: Vec::new(),
            next_will_at: Time::MAX,
            next_expiry_at: Time::MAX,
            are_copies_dropped: false,
            direct_bits: TOPICS.iter().map(|topic| hasher.hash(topic) & 31).collect(),
            left: vec![0; FILTERS.len()],
            group_expected: Vec::new(),
            plan,
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    // ---- what clients write ----

    /// A message that its publisher is about to write for the first time (a will: with CONNECT).
    #[allow(clippy::too_many_arguments)]
    pub fn new_message(
        &mut self,
        publisher: usize,
        topic: usize,
        qos: QoS,
        retain: bool,
        size: usize,
        expiry_s: Option<u32>,
        is_will: bool,
        now: Time,
    ) -> u32 {
        let uid = self.messages.len() as u32;
        let written = self.tick();
        self.messages.push(Message {
            publisher,
            incarnation: self.sessions[publisher].incarnation,
            topic,
            qos,
            retain,
            is_empty: size == 0,
            size,
            expiry_s,
            written_at: now,
            written,
            written_epoch: self.epoch,
            accepted_epoch: NEVER,
            accepted_at: NEVER,
            sends: 0,
            fate: Fate::Open,
            will: is_will.then_some(WillFate::Waiting),
            unstored: 0,
            is_loose: false,
            may_go_directly: self.may_go_directly(publisher, topic),
            shared_emitted: 0,
            shared_app: 0,
            shared_returned: 0,
        });
        if !is_will {
            self.expect(uid);
        }
        uid
    }

    fn may_go_directly(&self, publisher: usize, topic: usize) -> bool {
        self.messages.iter().any(|former| {
            former.publisher == publisher
                && self.direct_bits[former.topic] == self.direct_bits[topic]
                && (!former.retain || former.may_go_directly)
        })
    }

    /// Notes who has to get the message: sessions and groups whose subscription was confirmed before.
    fn expect(&mut self, uid: u32) {
        let now = self.tick();
        let message = &mut self.messages[uid as usize];
        if message.qos == QoS::AtMostOnce || message.is_empty {
            return;
        }
        for (client, session) in self.sessions.iter_mut().enumerate().filter(|(_, session)| session.exists) {
            for subscription in &session.subscriptions {
                let request = &subscription.request;
                let is_stable =
                    subscription.confirmed < now && subscription.ended == NEVER && !subscription.is_leaving;
                if !is_stable
                    || request.qos == QoS::AtMostOnce
                    || !does_match(request.filter, message.topic)
                    || (request.no_local && client == message.publisher)
                {
                    continue;
                }
                if request.filter >= SHARED_FROM {
                    self.group_expected.push(GroupExpectation {
                        uid,
                        filter: request.filter,
                        client,
                        incarnation: session.incarnation,
                    });
                } else {
                    session.expected.push(uid);
                    break;
                }
            }
        }
    }

    pub fn on_request_written(
        &mut self,
        id: LinkId,
        link: &mut Link,
        packet_id: u16,
        is_subscribe: bool,
        filters: Vec<SubscriptionRequest>,
    ) {
        let request = Request { packet_id, written: self.tick(), is_subscribe, filters };
        if link.phase == Phase::Live && self.sessions[link.client].link == Some(id) {
            self.apply(link.client, &request);
        }
        link.requests.push(request);
    }

    fn apply(&mut self, client: usize, request: &Request) {
        let Oracle { sessions, messages, group_expected, .. } = self;
        let session = &mut sessions[client];
        for wanted in &request.filters {
            if !request.is_subscribe {
                group_expected
                    .retain(|expected| (expected.client, expected.filter) != (client, wanted.filter));
            }
            for subscription in &mut session.subscriptions {
                if subscription.request.filter == wanted.filter {
                    subscription.is_doubtful |= subscription.is_leaving;
                    subscription.is_leaving = true;
                }
            }
            if !request.is_subscribe || wanted.qos == QoS::AtMostOnce || wanted.no_local {
                let app = &session.app;
                session.expected.retain(|uid| {
                    count(app, *uid) > 0 || !does_match(wanted.filter, messages[*uid as usize].topic)
                });
            }
            if request.is_subscribe {
                session.subscriptions.push(Subscription {
                    request: *wanted,
                    written: request.written,
                    confirmed: NEVER,
                    ended: NEVER,
                    is_leaving: false,
                    is_doubtful: false,
                });
            }
        }
    }

    /// The client wrote PUBACK, PUBCOMP or a refusing PUBREC (`is_last`), or PUBREC.
    pub fn on_ack_written(&mut self, link: &mut Link, packet_id: u16, is_last: bool) {
        if is_last {
            link.completions.push_back((link.written, packet_id));
        }
        let flights = &mut self.sessions[link.client].flights;
        let Some(flight) = flights.iter_mut().find(|flight| flight.packet_id == packet_id) else { return };
        match is_last {
            true => {
                flight.state = FlightState::Acked;
                if std::mem::take(&mut flight.is_counted) {
                    link.window -= 1;
                }
            }
            false if flight.state == FlightState::Sent => flight.state = FlightState::Received,
            false => {}
        }
    }

    /// A shard has read and served more of the link.
    pub fn on_served(&mut self, link: &mut Link) {
        while let Some(&(end, packet_id)) = link.completions.front() {
            if end > link.fed {
                return;
            }
            link.completions.pop_front();
            let flights = &mut self.sessions[link.client].flights;
            if let Some(at) = flights
                .iter()
                .position(|flight| flight.packet_id == packet_id && flight.state == FlightState::Acked)
            {
                flights.swap_remove(at);
            }
        }
    }

    // ---- what shards emit ----

    /// CONNACK; returns whether the session was there.
    pub fn on_connack(
        &mut self,
        id: LinkId,
        link: &mut Link,
        present: bool,
        now: Time,
    ) -> Result<bool, String> {
        self.tick();
        let client = link.client;
        ensure!(self.sessions[client].link.is_none(), "a second live connection of client {client}");
        if self.sessions[client].exists && (link.offer.clean || now >= self.sessions[client].expires_at) {
            self.end_session(client, now);
        }
        let is_resumed = self.sessions[client].exists;
        if link.version != Version::V31 {
            ensure!(present == is_resumed, "Session Present is {present}, client {client}");
        } else {
            ensure!(!present, "Session Present in 3.1");
        }
        let session = &mut self.sessions[client];
        if is_resumed {
            if let Some(at) = session.will_at.take()
                && let Some(will) = session.will
            {
                let uid = will.uid;
                if now < at {
                    self.messages[uid as usize].will = Some(WillFate::Cancelled);
                } else if let Some(at) = self.ripe.iter().position(|(_, ripe, _)| *ripe == uid) {
                    // Its timer may have been a tick late, then the reconnect withdrew it.
                    self.ripe.swap_remove(at);
                    self.messages[uid as usize].will = Some(WillFate::Unsure);
                }
            }
            for flight in &mut session.flights {
                flight.is_counted = false;
            }
        } else {
            let incarnation = session.incarnation + 1;
            *session = Session { exists: true, incarnation, ..Session::default() };
            session.last = vec![0; class(self.plan.clients.len(), 0, QoS::AtMostOnce, QoS::AtMostOnce)];
        }
        let session = &mut self.sessions[client];
        session.link = Some(id);
        link.packet_at = now;
        session.expiry_ms = link.offer.expiry_ms;
        session.expires_at = Time::MAX;
        session.will = link.offer.will;
        session.will_at = None;
        (link.phase, link.is_resumed, link.incarnation) = (Phase::Live, is_resumed, session.incarnation);
        let early = std::mem::take(&mut link.requests);
        for request in &early {
            self.apply(client, request);
        }
        link.requests = early;
        Ok(is_resumed)
    }

    /// PUBACK or PUBREC.
    pub fn on_publish_ack(
        &mut self,
        link: &mut Link,
        packet_id: u16,
        qos: QoS,
        reason: ReasonCode,
        now: Time,
    ) -> Verdict {
        self.tick();
        let next = link.publishes.pop_front();
        let Some((expected_id, expected_qos, uid)) = next else {
            return Err(format!("an acknowledgement for nothing: {packet_id}"));
        };
        ensure!(
            (packet_id, qos) == (expected_id, expected_qos),
            "acknowledgement of {packet_id} ({qos:?}) where {expected_id} ({expected_qos:?}) is next"
        );
        let message = &mut self.messages[uid as usize];
        if reason.is_error() {
            let is_allowed = reason == ReasonCode::QuotaExceeded
                && (self.plan.is_bounded
                    || self.plan.is_memory_tight
                    || (self.plan.is_retained_bounded && message.retain));
            ensure!(is_allowed, "message {uid} was refused: {reason:?}");
            if message.fate == Fate::Open {
                message.fate = Fate::Refused;
            }
            return Ok(());
        }
        let is_first = message.fate != Fate::Accepted;
        if is_first {
            (message.fate, message.accepted_epoch) = (Fate::Accepted, self.epoch);
        }
        message.accepted_at = now;
        ensure!(
            message.unstored == 0 || (message.qos == QoS::AtLeastOnce && message.sends > 1),
            "message {uid} is acknowledged before it is stored"
        );
        if reason == ReasonCode::NoMatchingSubscribers && message.expiry_s.is_none() && message.sends == 1 {
            let has_subscriber = self.sessions.iter().any(|session| session.expected.contains(&uid))
                || self.group_expected.iter().any(|expected| expected.uid == uid && self.is_member(expected));
            ensure!(!has_subscriber, "message {uid} is said to have no subscriber, but it has");
        }
        Ok(())
    }

    pub fn on_append(&mut self, uid: u32) -> Verdict {
        if uid == UNNAMED {
            return Ok(());
        }
        let message = &mut self.messages[uid as usize];
        let is_resent = message.qos == QoS::AtLeastOnce && message.sends > 1;
        ensure!(
            message.fate != Fate::Accepted || is_resent || message.will.is_some(),
            "message {uid} goes to the journal after its acknowledgement"
        );
        message.unstored += 1;
        Ok(())
    }

    pub fn on_stored(&mut self, uid: u32) {
        if uid != UNNAMED {
            self.messages[uid as usize].unstored -= 1;
        }
    }

    pub fn on_pubrel(&mut self, link: &Link, packet_id: u16) -> Verdict {
        self.tick();
        let flights = &mut self.sessions[link.client].flights;
        let flight =
            flights.iter_mut().find(|flight| flight.packet_id == packet_id && flight.qos == QoS::ExactlyOnce);
        match flight {
            Some(flight) if matches!(flight.state, FlightState::Received | FlightState::Released) => {
                flight.state = FlightState::Released;
                Ok(())
            }
            // PUBCOMP got lost with its connection: PUBREL again is right.
            Some(flight) if flight.state == FlightState::Acked && link.is_resumed => Ok(()),
            other => Err(format!("PUBREL {packet_id} for {other:?}")),
        }
    }

    pub fn on_request_ack(
        &mut self,
        link: &mut Link,
        packet_id: u16,
        is_subscribe: bool,
        codes: &[u8],
    ) -> Verdict {
        let now = self.tick();
        let at =
            link.requests.iter().position(|r| r.packet_id == packet_id && r.is_subscribe == is_subscribe);
        let Some(at) = at else { return Err(format!("an answer to no request: {packet_id}")) };
        let request = link.requests.remove(at);
        if is_subscribe || link.version == Version::V5 {
            ensure!(
                codes.len() == request.filters.len(),
                "{} codes for {}",
                codes.len(),
                request.filters.len()
            );
        }
        let session = &mut self.sessions[link.client];
        for (index, wanted) in request.filters.iter().enumerate() {
            let (mut was_there, mut may_have_been_there) = (false, false);
            for subscription in session.subscriptions.iter_mut().filter(|s| s.request.filter == wanted.filter)
            {
                if subscription.written == request.written {
                    subscription.confirmed = now;
                } else if subscription.written < request.written && subscription.ended == NEVER {
                    was_there |= subscription.confirmed != NEVER && !subscription.is_doubtful;
                    may_have_been_there = true;
                    subscription.ended = now;
                }
            }
            if is_subscribe {
                ensure!(codes[index] == wanted.qos as u8, "granted {} for {:?}", codes[index], wanted);
            } else {
                self.left[wanted.filter] = now;
                let is_right = |code: u8| match code {
                    0 => may_have_been_there,
                    code => code == ReasonCode::NoSubscriptionExisted as u8 && !was_there,
                };
                ensure!(
                    link.version != Version::V5 || is_right(codes[index]),
                    "UNSUBACK says {} for {:?}",
                    codes[index],
                    wanted
                );
            }
        }
        if session.subscriptions.len() > 40 {
            let oldest = self.clock.saturating_sub(4000);
            session.subscriptions.retain(|s| s.ended == NEVER || s.ended > oldest);
        }
        Ok(())
    }

    /// A PUBLISH; returns the number of its message. `is_prompt`: it was made in the turn that emits it.
    pub fn on_publish(
        &mut self,
        id: LinkId,
        link: &mut Link,
        incoming: &Incoming<'_>,
        now: Time,
        is_prompt: bool,
    ) -> Result<u32, String> {
        self.tick();
        let publish = &incoming.publish;
        ensure!(self.sessions[link.client].link == Some(id), "a PUBLISH to a connection without a session");
        ensure!(incoming.len <= link.offer.packet_size_max, "a packet of {} bytes", incoming.len);
        let uid = match publish.payload {
            [] => UNNAMED,
            payload => read_uid(payload).ok_or("a payload that nobody sent")?,
        };
        if uid != UNNAMED {
            ensure!((uid as usize) < self.messages.len(), "message {uid} was never sent");
            let message = &self.messages[uid as usize];
            ensure!(message.topic == incoming.topic, "message {uid} on another topic");
            ensure!(message.size == publish.payload.len(), "message {uid} has another payload");
        }
        let flights = self.sessions[link.client].order;
        if publish.qos != QoS::AtMostOnce {
            self.on_flight(link, publish, uid)?;
        } else {
            ensure!(!publish.dup, "DUP at QoS 0");
        }
        let is_first = !publish.dup || self.sessions[link.client].order > flights;
        if uid != UNNAMED && is_first {
            self.judge_delivery(link, incoming, uid, now, is_prompt)?;
        }
        Ok(uid)
    }

    /// Packet ids, DUP, window and the order of repetitions.
    fn on_flight(&mut self, link: &mut Link, publish: &protocol::Publish<'_>, uid: u32) -> Verdict {
        let packet_id = publish.packet_id;
        let session = &mut self.sessions[link.client];
        let known = session.flights.iter().position(|flight| flight.packet_id == packet_id);
        ensure!(!publish.dup || link.is_resumed, "DUP on a new session");
        if let (true, Some(at)) = (publish.dup, known) {
            let flight = &mut session.flights[at];
            ensure!(
                (flight.uid, flight.qos) == (uid, publish.qos),
                "{packet_id} is repeated with another message: {uid} for {flight:?}"
            );
            ensure!(flight.state != FlightState::Released, "{packet_id} is repeated after PUBREL");
            ensure!(!flight.is_counted, "{packet_id} is repeated twice on one connection");
            ensure!(flight.order > link.resent, "{packet_id} is repeated out of order");
            link.resent = flight.order;
            // The acknowledgement of an earlier connection got lost.
            flight.state = FlightState::Sent;
            flight.is_counted = true;
        } else {
            // With DUP: the first attempt was lost with its connection before it was on the wire.
            if let Some(at) = known {
                let flight = session.flights.swap_remove(at);
                ensure!(flight.state == FlightState::Acked, "packet id {packet_id} is in use: {flight:?}");
            }
            session.order += 1;
            session.flights.push(Flight {
                packet_id,
                uid,
                qos: publish.qos,
                state: FlightState::Sent,
                order: session.order,
                is_counted: true,
            });
            link.resent = if publish.dup { session.order } else { link.resent };
        }
        link.window += 1;
        ensure!(
            link.window <= link.offer.window_max,
            "{} deliveries under way, {} allowed",
            link.window,
            link.offer.window_max
        );
        Ok(())
    }

    /// Whether this session may get this message in this form now.
    fn judge_delivery(
        &mut self,
        link: &Link,
        incoming: &Incoming<'_>,
        uid: u32,
        now: Time,
        is_prompt: bool,
    ) -> Verdict {
        let publish = &incoming.publish;
        let per_subscription = self.plan.config.overlap == OverlapDelivery::PerSubscription;
        let message = &mut self.messages[uid as usize];
        let session = &mut self.sessions[link.client];
        let delivered = publish.qos;
        match message.will {
            Some(WillFate::Due(at)) => ensure!(now >= at, "will {uid} before its time"),
            // The CONNECT that has ended its session may be judged later in this turn.
            Some(WillFate::Waiting) => self.early_wills.push(uid),
            Some(WillFate::Unsure) | None => {}
            Some(fate) => return Err(format!("will {uid} is {fate:?}")),
        }
        if let Some(expiry_s) = message.expiry_s {
            let is_over = message.accepted_at != NEVER
                && message.sends == 1
                && now >= message.accepted_at + expiry_s as Time * 1000;
            ensure!(!is_over || !is_prompt || publish.dup, "message {uid} has expired");
            if link.version == Version::V5 {
                let left = publish.message_expiry.unwrap_or(0);
                ensure!((1..=expiry_s).contains(&left), "message {uid} has {left} s left of {expiry_s}");
            }
        } else {
            ensure!(publish.message_expiry.is_none(), "message {uid} does not expire");
        }

        let (mut candidates, mut best, mut is_qos_possible, mut is_stable) =
            (0, QoS::AtMostOnce, false, true);
        let (mut is_retain_kept, mut is_shared, mut is_asked_for) = (false, false, false);
        let mut identifiers: Vec<u32> = Vec::new();
        for subscription in &session.subscriptions {
            let request = &subscription.request;
            if subscription.ended < message.written
                || !does_match(request.filter, message.topic)
                || (request.no_local && link.client == message.publisher)
            {
                continue;
            }
            let qos = message.qos.min(request.qos);
            candidates += 1;
            best = best.max(qos);
            is_qos_possible |= qos == delivered;
            is_retain_kept |= request.retain_as_published;
            is_shared |= request.filter >= SHARED_FROM;
            // Its state is asked for when SUBACK leaves, but never for what comes live behind that.
            is_asked_for |= subscription.confirmed >= message.written;
            is_stable &= subscription.confirmed < message.written
                && subscription.ended == NEVER
                && !subscription.is_leaving;
            if request.identifier != 0 {
                identifiers.push(request.identifier);
            }
        }
        ensure!(candidates > 0, "message {uid} without a subscription of client {}", link.client);
        ensure!(is_qos_possible, "message {uid} at {delivered:?}");
        ensure!(!publish.retain || message.retain, "message {uid} was not published with RETAIN");
        if is_shared {
            message.shared_emitted += 1;
            // What a session gave back may be known only when the CONNECT that ended it is judged, later in this turn.
            self.shared_judged.push(uid);
            return Ok(());
        }
        if is_stable && !per_subscription && !publish.retain {
            ensure!(delivered == best, "message {uid} at {delivered:?}, granted {best:?}");
            ensure!(!(message.retain && is_retain_kept), "message {uid} lost its RETAIN");
            if link.version == Version::V5 {
                let mut found: Vec<u32> = publish.properties.subscription_ids().collect();
                found.sort_unstable();
                identifiers.sort_unstable();
                ensure!(
                    found == identifiers,
                    "message {uid} with identifiers {found:?}, not {identifiers:?}"
                );
            }
        }
        if publish.retain {
            // A replay may come any number of times.
            let may_repeat =
                self.are_copies_dropped || is_retain_kept || message.sends > 1 || message.is_loose;
            ensure!(
                is_asked_for || may_repeat || message.may_go_directly,
                "message {uid} was published behind SUBACK and comes as state"
            );
            if let Some(&(live, at)) = session.live_retained.get(&(message.publisher, message.topic)) {
                let is_answer = session.subscriptions.iter().any(|subscription| subscription.confirmed > at);
                ensure!(
                    live <= uid || is_answer || may_repeat || message.will.is_some(),
                    "message {uid} comes as state behind message {live}, which came live"
                );
            }
            return Ok(());
        }
        if message.retain && message.will.is_none() && message.sends == 1 && !message.is_loose {
            session.live_retained.insert((message.publisher, message.topic), (uid, self.clock));
        }
        let times = bump(&mut session.emitted, uid) as u32;
        let copies = if per_subscription { candidates } else { 1 };
        let sends = if message.qos == QoS::AtLeastOnce || self.plan.may_be_half_refused() {
            message.sends.max(1)
        } else {
            1
        };
        ensure!(times <= copies * sends || message.is_loose, "message {uid} delivered {times} times");
        // A publisher's repetition may come to a subscription that is younger than the first attempt.
        if message.will.is_none() && !message.is_loose && message.sends == 1 {
            let at = class(message.publisher, message.topic, message.qos, delivered);
            let (incarnation, publisher, topic) = (message.incarnation, message.publisher, message.topic);
            let last = &mut session.last[at];
            let is_behind = uid + 1 < *last && self.messages[*last as usize - 1].incarnation == incarnation;
            ensure!(
                !is_behind || times > 1,
                "order: message {uid} of publisher {publisher} on {} behind {}",
                TOPICS[topic],
                *last - 1
            );
            *last = (*last).max(uid + 1);
        }
        Ok(())
    }

    /// All that one turn has emitted was judged.
    pub fn on_turn_judged(&mut self) -> Verdict {
        for uid in self.early_wills.drain(..) {
            let fate = self.messages[uid as usize].will;
            ensure!(matches!(fate, Some(WillFate::Due(_))), "will {uid} is {fate:?}");
        }
        for uid in self.shared_judged.drain(..) {
            let message = &self.messages[uid as usize];
            let groups =
                (SHARED_FROM..FILTERS.len()).filter(|f| does_match(*f, message.topic)).count() as u32;
            let is_once = message.qos == QoS::ExactlyOnce && !self.plan.may_be_half_refused();
            let sends = if message.will.is_some() || is_once { 1 } else { message.sends };
            let allowed = groups * sends + message.shared_returned;
            ensure!(
                message.shared_emitted <= allowed || message.is_loose,
                "message {uid} went {} times to groups, {allowed} are right",
                message.shared_emitted
            );
        }
        Ok(())
    }

    // ---- what arrives at clients ----

    /// The client's application has got the message.
    pub fn on_arrived(
        &mut self,
        client: usize,
        incarnation: u32,
        uid: u32,
        qos: QoS,
        retain: bool,
    ) -> Verdict {
        if uid == UNNAMED {
            return Ok(());
        }
        self.messages[uid as usize].shared_app += 1;
        let session = &mut self.sessions[client];
        if session.incarnation != incarnation {
            return Ok(());
        }
        let times = bump(&mut session.app, uid);
        let is_once = qos == QoS::ExactlyOnce
            && !retain
            && !self.messages[uid as usize].retain
            && !self.plan.clients.get(client).is_some_and(|client| client.is_shared)
            && self.plan.config.overlap == OverlapDelivery::Once
            && !self.plan.may_be_half_refused();
        ensure!(!is_once || times == 1, "message {uid} arrived {times} times at QoS 2");
        Ok(())
    }

    // ---- ends ----

    /// A connection has ended at its shard.
    pub fn on_closed(&mut self, id: LinkId, link: &mut Link, ending: Ending, now: Time) {
        self.tick();
        let was_live = link.phase == Phase::Live;
        link.phase = Phase::Ended;
        let session = &mut self.sessions[link.client];
        if !was_live || session.link != Some(id) {
            return;
        }
        session.link = None;
        if let (Ending::Goodbye, Some(goodbye)) = (ending, &link.goodbye) {
            if let Some(expiry_ms) = goodbye.expiry_ms {
                session.expiry_ms = expiry_ms;
            }
            if !goodbye.keeps_will
                && let Some(will) = session.will.take()
            {
                self.messages[will.uid as usize].will = Some(WillFate::Cancelled);
            }
        }
        session.expires_at = now + session.expiry_ms;
        self.next_expiry_at = self.next_expiry_at.min(session.expires_at);
        if let Some(will) = session.will {
            let delay_ms = will.delay_ms.min(session.expiry_ms);
            if delay_ms == 0 {
                self.publish_will(link.client, now);
            } else {
                session.will_at = Some(now + delay_ms);
                self.next_will_at = self.next_will_at.min(now + delay_ms);
            }
        }
        if self.sessions[link.client].expiry_ms == 0 {
            self.end_session(link.client, now);
        }
    }

    fn publish_will(&mut self, client: usize, now: Time) {
        let session = &mut self.sessions[client];
        session.will_at = None;
        let Some(will) = session.will.take() else { return };
        self.wills_min += 1;
        if let Some(at) = self.ripe.iter().position(|(_, uid, _)| *uid == will.uid) {
            self.ripe.swap_remove(at);
        } else {
            self.wills_max += 1;
            self.will_is_due(will.uid, now);
        }
    }

    fn will_is_due(&mut self, uid: u32, now: Time) {
        let message = &mut self.messages[uid as usize];
        message.will = Some(WillFate::Due(now));
        message.fate = Fate::Accepted;
        message.sends = 1;
        self.expect(uid);
    }

    pub fn end_session(&mut self, client: usize, now: Time) {
        self.publish_will(client, now);
        let ended = self.tick();
        self.return_flights(client);
        let Oracle { sessions, left, .. } = self;
        let session = &mut sessions[client];
        for subscription in &mut session.subscriptions {
            left[subscription.request.filter] = ended;
        }
        let incarnation = session.incarnation;
        *session = Session { incarnation, ..Session::default() };
    }

    /// An administrator is about to end the client's session.
    pub fn on_kick(&mut self, client: usize, now: Time) {
        let session = &mut self.sessions[client];
        session.expiry_ms = 0;
        if session.exists && session.link.is_none() {
            self.end_session(client, now);
        }
    }

    // ---- time ----

    /// Wills whose time has come may be published from now on.
    pub fn on_due(&mut self, now: Time) {
        if now >= self.next_expiry_at {
            self.on_expiry_due(now);
        }
        if now < self.next_will_at {
            return;
        }
        self.next_will_at = Time::MAX;
        for client in 0..self.sessions.len() {
            let session = &self.sessions[client];
            let (Some(at), Some(will)) = (session.will_at, session.will) else { continue };
            if self.messages[will.uid as usize].will != Some(WillFate::Waiting) {
                continue;
            }
            if at <= now {
                self.wills_max += 1;
                self.ripe.push((at, will.uid, client));
                self.will_is_due(will.uid, at);
            } else {
                self.next_will_at = self.next_will_at.min(at);
            }
        }
    }

    /// What sessions held in flight for their groups may go to other members from now on.
    fn on_expiry_due(&mut self, now: Time) {
        self.next_expiry_at = Time::MAX;
        for client in 0..self.sessions.len() {
            let session = &self.sessions[client];
            if !session.exists || session.link.is_some() {
                continue;
            }
            match session.expires_at <= now {
                true => self.return_flights(client),
                false => self.next_expiry_at = self.next_expiry_at.min(session.expires_at),
            }
        }
    }

    fn return_flights(&mut self, client: usize) {
        let is_shared = self.plan.clients[client].is_shared;
        for flight in self.sessions[client].flights.drain(..) {
            if is_shared && flight.qos == QoS::AtLeastOnce && flight.uid != UNNAMED {
                self.messages[flight.uid as usize].shared_returned += 1;
            }
        }
    }

    /// The clock stands at `now` and every timer of it has been served.
    pub fn on_time(&mut self, now: Time) {
        self.on_due(now);
        for at in (0..self.ripe.len()).rev() {
            let (due, uid, client) = self.ripe[at];
            if due + TIMER_SLACK_MS <= now {
                self.ripe.swap_remove(at);
                self.wills_min += 1;
                let session = &mut self.sessions[client];
                if session.will.is_some_and(|will| will.uid == uid) {
                    (session.will, session.will_at) = (None, None);
                }
            }
        }
        for client in 0..self.sessions.len() {
            let session = &self.sessions[client];
            if session.exists && session.link.is_none() && session.expires_at + TIMER_SLACK_MS <= now {
                self.end_session(client, now);
            }
        }
    }

    /// Sessions that exist for certain, and those that may.
    pub fn session_bounds(&self, now: Time) -> (u64, u64) {
        let (mut low, mut high) = (0, 0);
        for session in self.sessions.iter().filter(|session| session.exists) {
            high += 1;
            low += (session.link.is_some() || session.expires_at > now) as u64;
        }
        (low, high)
    }

    // ---- the end ----

    fn may_be_missing(&self, uid: u32, packet_size_max: usize, now: Time) -> bool {
        let message = &self.messages[uid as usize];
        let is_expired = message.expiry_s.is_some_and(|s| now >= message.written_at + s as Time * 1000);
        message.fate != Fate::Accepted
            || message.will == Some(WillFate::Unsure)
            || is_expired
            || message.size + 64 > packet_size_max
    }

    /// Whether the member that makes the group one that must get a message has stayed.
    fn is_member(&self, expected: &GroupExpectation) -> bool {
        let session = &self.sessions[expected.client];
        session.exists && session.incarnation == expected.incarnation
    }

    /// Messages that somebody should have and has not, as text.
    pub fn missing(&self, packet_size_max: impl Fn(usize) -> usize, now: Time) -> Vec<String> {
        let mut missing = Vec::new();
        for (client, session) in self.sessions.iter().enumerate() {
            for uid in session.expected.iter().copied().filter(|uid| count(&session.app, *uid) == 0) {
                if !self.may_be_missing(uid, packet_size_max(client), now) {
                    missing.push(format!(
                        "message {uid} for client {client}: {:?}",
                        self.messages[uid as usize]
                    ));
                }
            }
        }
        let mut groups: Vec<(u32, usize)> = Vec::new();
        for expected in &self.group_expected {
            let is_member = self.is_member(expected);
            let message = &self.messages[expected.uid as usize];
            let is_exempt = message.qos == QoS::ExactlyOnce && self.left[expected.filter] >= message.written;
            if is_member && !is_exempt && !self.may_be_missing(expected.uid, usize::MAX, now) {
                groups.push((expected.uid, expected.filter));
            }
        }
        groups.sort_unstable();
        groups.dedup();
        for same in groups.chunk_by(|a, b| a.0 == b.0) {
            let uid = same[0].0;
            let arrived = self.messages[uid as usize].shared_app;
            if (arrived as usize) < same.len() {
                let filters: Vec<&str> = same.iter().map(|(_, filter)| FILTERS[*filter]).collect();
                missing.push(format!("message {uid} for {filters:?}, arrived {arrived} times"));
            }
        }
        missing
    }

    /// Whether `uid` (None: nothing) may be what is retained on the topic now.
    pub fn may_be_retained(&self, topic: usize, found: Option<u32>, now: Time) -> Verdict {
        let writes: Vec<(u32, &Message)> = self
            .messages
            .iter()
            .enumerate()
            .filter(|(_, m)| {
                m.topic == topic
                    && m.retain
                    && m.sends > 0
                    && !matches!(m.will, Some(WillFate::Waiting | WillFate::Cancelled))
            })
            .map(|(uid, m)| (uid as u32, m))
            .collect();
        let is_certain = |m: &Message| m.fate == Fate::Accepted && m.will.is_none();
        // A later certain write of the same publisher, or one that began when the lanes were empty behind this one.
        let is_over = |uid: u32, write: &Message| {
            writes.iter().any(|(other, later)| {
                let follows = later.publisher == write.publisher
                    && *other > uid
                    && later.will.is_none()
                    && write.will.is_none()
                    && !write.is_loose
                    && write.sends == 1
                    || write.accepted_epoch < later.written_epoch && write.sends == 1;
                is_certain(later) && follows && later.fate == Fate::Accepted
            })
        };
        let name = TOPICS[topic];
        match found {
            Some(uid) => {
                let Some((_, write)) = writes.iter().find(|(other, _)| *other == uid) else {
                    return Err(format!("message {uid} is retained on {name}, but was not published so"));
                };
                ensure!(
                    write.fate != Fate::Refused || write.sends > 1 || self.plan.is_bounded,
                    "message {uid} is retained, but was refused"
                );
                ensure!(
                    !is_over(uid, write),
                    "message {uid} is retained on {name}, but a later one should be"
                );
            }
            None => {
                let explains = |uid: u32, m: &Message| {
                    let is_expired = m.expiry_s.is_some_and(|s| now >= m.written_at + s as Time * 1000);
                    (m.is_empty || is_expired) && !is_over(uid, m)
                };
                let is_any = writes.iter().any(|(_, m)| is_certain(m));
                ensure!(
                    !is_any
                        || self.plan.is_retained_bounded
                        || writes.iter().any(|(uid, m)| explains(*uid, m)),
                    "nothing is retained on {name}: {:?}",
                    writes.last()
                );
            }
        }
        Ok(())
    }
}

/// The number at the end of a payload.
pub fn read_uid(payload: &[u8]) -> Option<u32> {
    let tail: [u8; 8] = payload.get(payload.len().checked_sub(8)?..)?.try_into().ok()?;
    let uid = u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]);
    let check = u32::from_le_bytes([tail[4], tail[5], tail[6], tail[7]]);
    (check == checksum(uid)).then_some(uid)
}

/// A payload of `size` bytes (0, or 8 and more) with the number.
pub fn write_payload(uid: u32, size: usize, out: &mut Vec<u8>) {
    out.clear();
    if size == 0 {
        return;
    }
    out.resize(size - 8, b'.');
    out.extend_from_slice(&uid.to_le_bytes());
    out.extend_from_slice(&checksum(uid).to_le_bytes());
}

fn checksum(uid: u32) -> u32 {
    uid.wrapping_mul(2_654_435_761).rotate_left(7) ^ 0x5A5A_1234
}
