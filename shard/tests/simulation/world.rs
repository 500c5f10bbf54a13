//! The world of one seed: it decides what happens next, takes the node's steps, and shows the oracle all that shards
//! emit.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Write;
use std::rc::Rc;
use std::sync::Arc;

use protocol::{Packet, QoS, ReasonCode, Version};
use shard::{AuthVerdict, DropReason, EndReason, Metrics, ShardId, Time};

use crate::network::{Decoded, Event, Link, LinkId, Phase};
use crate::oracle::{Ending, Oracle, Verdict, ensure, read_uid};
use crate::plan::{Plan, TIMER_SLACK_MS, TOPICS};
use crate::rng::{Rng, mix};
use crate::support::{News, Node};
use crate::workload::Actor;

/// The last lines of what happened; outlives a panic of the world.
pub type Trace = Rc<RefCell<VecDeque<String>>>;

const TRACE_LINES: usize = 20_000;

pub struct World {
    pub plan: Arc<Plan>,
    pub node: Node,
    pub rng: Rng,
    pub links: Vec<Link>,
    /// By socket.
    link_of: Vec<LinkId>,
    /// Links whose sockets are not done with.
    pub open: Vec<LinkId>,
    pub actors: Vec<Actor>,
    pub oracle: Oracle,
    hash: u64,
    trace: Option<Trace>,
    /// Appends of each shard that the oracle has seen, and DISCONNECTs that each shard has served.
    appends_seen: Vec<usize>,
    goodbyes_seen: Vec<u64>,
    /// What the checker got with RETAIN.
    pub retained_found: Vec<u32>,
    pub is_settling: bool,
    news: Vec<News>,
    outputs: Vec<(usize, usize)>,
    /// When the lanes were seen empty last.
    drained_at: Time,
}

/// What a world came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub hash: u64,
    /// Calls of the core.
    pub steps: u64,
    pub messages: u64,
}

/// Lives one seed to its end.
pub fn run(seed: u64, trace: Option<Trace>) -> Result<Outcome, String> {
    let mut rng = Rng::new(seed);
    let plan = Arc::new(Plan::new(&mut rng));
    let mut world = World::new(plan, rng, trace);
    world.note(|world| format!("{:#?}", world.plan));
    for _ in 0..world.plan.steps {
        world.step()?;
    }
    world.finish()?;
    Ok(Outcome { hash: world.hash, steps: world.node.steps, messages: world.oracle.messages.len() as u64 })
}

impl World {
    fn new(plan: Arc<Plan>, rng: Rng, trace: Option<Trace>) -> World {
        let mut node = Node::new(plan.config.clone());
        node.is_immediate = false;
        node.is_observed = true;
        node.lane_capacity = plan.lane_capacity;
        let shards = node.shards.len();
        World {
            node,
            rng,
            links: Vec::new(),
            link_of: Vec::new(),
            open: Vec::new(),
            actors: plan.clients.iter().map(|_| Actor::default()).collect(),
            oracle: Oracle::new(plan.clone()),
            hash: 0,
            trace,
            appends_seen: vec![0; shards],
            goodbyes_seen: vec![0; shards],
            retained_found: Vec::new(),
            is_settling: false,
            news: Vec::new(),
            outputs: Vec::new(),
            drained_at: 0,
            plan,
        }
    }

    /// Adds a line to the trace, if somebody reads it.
    #[inline]
    pub fn note(&mut self, line: impl FnOnce(&World) -> String) {
        if let Some(trace) = self.trace.clone() {
            let mut text = String::new();
            let _ = write!(text, "{:>7} {:>9}  {}", self.node.steps, self.node.now, line(self));
            let mut lines = trace.borrow_mut();
            if lines.len() == TRACE_LINES {
                lines.pop_front();
            }
            lines.push_back(text);
        }
    }

    #[inline]
    fn remember(&mut self, what: u64) {
        self.hash = mix(self.hash ^ what.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    }

    // ---- what happens next ----

    fn step(&mut self) -> Verdict {
        match self.rng.below(100) {
            0..24 => self.feed_any(),
            24..40 => self.send_any(),
            40..54 => self.deliver_any(),
            54..60 => self.crowded_turn(),
            60..93 => {
                let client = self.rng.below(self.plan.clients.len() - 1);
                self.act(client)
            }
            93..96 => self.store_any(),
            96..98 => self.judge_any(),
            _ => {
                let long = self.plan.jump_ms_max;
                let ms = match self.rng.below(20) {
                    0 => self.rng.between(0, long),
                    1..4 => self.rng.between(0, long.min(2_000)),
                    _ => self.rng.between(0, 30),
                };
                self.advance(ms)
            }
        }
    }

    fn any_open(&mut self, is_wanted: impl Fn(&World, LinkId) -> bool) -> Option<LinkId> {
        if self.open.is_empty() {
            return None;
        }
        let start = self.rng.below(self.open.len());
        let count = self.open.len();
        (0..count).map(|step| self.open[(start + step) % count]).find(|id| is_wanted(self, *id))
    }

    fn can_feed(&self, id: LinkId) -> bool {
        let socket = &self.node.sockets[self.links[id].socket];
        socket.connection.is_some()
            && socket.is_reading
            && (!socket.to_server.is_empty() || socket.is_finished)
    }

    fn can_send(&self, id: LinkId) -> bool {
        let link = &self.links[id];
        !link.is_stalled && self.node.sockets[link.socket].sending.is_some()
    }

    fn feed_any(&mut self) -> Verdict {
        let Some(id) = self.any_open(World::can_feed) else { return Ok(()) };
        let len = self.chunk();
        self.feed(id, len)?;
        self.digest(&[])?;
        self.after_feed(id)
    }

    fn chunk(&mut self) -> usize {
        match self.rng.below(10) {
            0 => 1,
            1..4 => self.rng.between(1, 30) as usize,
            4 => self.rng.between(1, 300) as usize,
            _ => usize::MAX,
        }
    }

    /// Gives bytes of the client to the shard; `digest` and `after_feed` follow when the turn is over.
    fn feed(&mut self, id: LinkId, len: usize) -> Verdict {
        let socket = self.links[id].socket;
        let len = len.min(self.node.sockets[socket].to_server.len());
        self.note(|_| format!("link {id}: the shard reads {len} bytes"));
        self.node.read_some(socket, len);
        let (now, is_reading) = (self.node.now, self.node.sockets[socket].is_reading);
        self.links[id].on_fed(len, now, is_reading);
        Ok(())
    }

    fn after_feed(&mut self, id: LinkId) -> Verdict {
        let socket = &self.node.sockets[self.links[id].socket];
        let link = &mut self.links[id];
        link.was_paused |= !socket.is_reading;
        if socket.is_reading && socket.connection.is_some() {
            self.oracle.on_served(link);
        }
        self.sweep(id);
        Ok(())
    }

    fn send_any(&mut self) -> Verdict {
        let Some(id) = self.any_open(World::can_send) else { return Ok(()) };
        let len = self.chunk();
        self.send(id, len)?;
        self.digest(&[id])?;
        self.arrive(id)
    }

    /// Lets bytes of the server arrive; `digest` and `arrive` follow when the turn is over.
    fn send(&mut self, id: LinkId, len: usize) -> Verdict {
        let socket = self.links[id].socket;
        let state = &self.node.sockets[socket];
        let waiting = state.sending.as_ref().map_or(0, |buffer| buffer.len() - state.sent);
        let len = len.min(waiting);
        self.links[id].received += len as u64;
        self.note(|_| format!("link {id}: {len} bytes arrive"));
        self.node.send_some(socket, len);
        Ok(())
    }

    fn arrive(&mut self, id: LinkId) -> Verdict {
        while let Some(event) = self.links[id].next_event() {
            self.on_event(id, event)?;
        }
        self.sweep(id);
        Ok(())
    }

    fn deliver_any(&mut self) -> Verdict {
        let shards = self.node.shards.len();
        if shards == 1 {
            return Ok(());
        }
        let start = self.rng.below(shards * shards);
        for step in 0..shards * shards {
            let lane = (start + step) % (shards * shards);
            let (from, to) = (lane / shards, lane % shards);
            if !self.node.lanes[from][to].is_empty() {
                self.note(|world| format!("lane {from} -> {to}: {:?}", world.node.lanes[from][to].front()));
                self.node.deliver_one(from as ShardId, to as ShardId);
                return self.digest(&[]);
            }
            if self.node.is_lane_awaited(from as ShardId) {
                self.node.tick(from as ShardId);
                return self.digest(&[]);
            }
        }
        Ok(())
    }

    /// Several inputs of one shard in one turn.
    fn crowded_turn(&mut self) -> Verdict {
        let shard = self.rng.below(self.node.shards.len()) as ShardId;
        self.note(|_| format!("shard {shard}: a turn of many inputs"));
        self.node.open_turn(shard);
        let (mut fed, mut sent): (Vec<LinkId>, Vec<LinkId>) = Default::default();
        let links: Vec<LinkId> = self
            .open
            .iter()
            .copied()
            .filter(|id| self.node.sockets[self.links[*id].socket].shard == shard)
            .collect();
        for id in links {
            if self.rng.chance(50) && self.can_send(id) {
                let len = self.chunk();
                self.send(id, len)?;
                sent.push(id);
            }
            // The end of a stream takes a turn of its own: what a turn emits before it would be lost unseen.
            let has_bytes = !self.node.sockets[self.links[id].socket].to_server.is_empty();
            if self.rng.chance(50) && has_bytes && self.can_feed(id) {
                let len = self.chunk();
                self.feed(id, len)?;
                fed.push(id);
            }
        }
        for from in 0..self.node.shards.len() as ShardId {
            while self.rng.chance(60) && self.node.deliver_one(from, shard) {}
        }
        self.node.close_turn();
        self.digest(&sent)?;
        for id in fed {
            self.after_feed(id)?;
        }
        for id in sent {
            self.arrive(id)?;
        }
        Ok(())
    }

    fn store_any(&mut self) -> Verdict {
        let shards = self.node.shards.len();
        let start = self.rng.below(shards);
        let found =
            (0..shards).map(|step| (start + step) % shards).find(|at| !self.node.appends[*at].is_empty());
        let Some(shard) = found else { return Ok(()) };
        let count = self.rng.between(1, self.node.appends[shard].len() as u64) as usize;
        self.store(shard, count)
    }

    fn store(&mut self, shard: usize, count: usize) -> Verdict {
        let sequence = self.node.appends[shard][count - 1].sequence;
        for append in self.node.appends[shard].drain(..count) {
            self.oracle.on_stored(read_uid(&append.message).unwrap_or(crate::oracle::UNNAMED));
        }
        self.appends_seen[shard] -= count;
        self.note(|_| format!("shard {shard}: stored up to {sequence}"));
        self.node.turn(shard as ShardId, |core| core.on_stored(sequence));
        self.digest(&[])
    }

    /// The authenticator answers somebody.
    fn judge_any(&mut self) -> Verdict {
        if self.node.auth_requests.is_empty() {
            return Ok(());
        }
        let at = self.rng.below(self.node.auth_requests.len());
        let (shard, request) = self.node.auth_requests.swap_remove(at);
        let is_refused = !self.is_settling && self.rng.chance(10);
        self.note(|_| format!("shard {shard}: {} is refused: {is_refused}", request.client_id));
        let verdict = match is_refused {
            true => AuthVerdict::Refuse(ReasonCode::NotAuthorized),
            false => AuthVerdict::Accept { data: None },
        };
        self.node.turn(shard, |core| core.on_auth_verdict(request.connection, verdict));
        self.digest(&[])
    }

    // ---- time ----

    pub fn advance(&mut self, ms: Time) -> Verdict {
        let end = self.node.now + ms;
        for id in &self.open {
            let link = &mut self.links[*id];
            // It may be read again for a moment by the time it is looked at.
            link.was_paused |= !self.node.sockets[link.socket].is_reading;
        }
        if end >= self.drained_at + 1000 {
            // A core is never away for seconds.
            self.drain_lanes()?;
        }
        if ms <= 10_000 {
            while let Some(next) = self.node.shards.iter().filter_map(shard::Shard::next_deadline).min()
                && next <= end
            {
                self.node.now = next.max(self.node.now + 1).min(end);
                self.tick_due()?;
                if self.node.now == end {
                    break;
                }
                if ms >= 1000 {
                    self.drain_lanes()?;
                }
            }
        }
        self.node.now = end;
        self.note(|_| format!("the clock goes on by {ms} ms"));
        self.tick_due()?;
        for shard in 0..self.node.shards.len() {
            self.node.tick(shard as ShardId);
            self.digest(&[])?;
        }
        self.check_time()
    }

    fn tick_due(&mut self) -> Verdict {
        for shard in 0..self.node.shards.len() {
            let mut turns = 0;
            while self.node.shards[shard].next_deadline().is_some_and(|at| at <= self.node.now) {
                self.node.tick(shard as ShardId);
                self.digest(&[])?;
                turns += 1;
                ensure!(turns < 10_000, "shard {shard} has always something due");
            }
        }
        Ok(())
    }

    fn check_time(&mut self) -> Verdict {
        let now = self.node.now;
        self.oracle.on_time(now);
        let (wills_min, wills_max) = (self.oracle.wills_min, self.oracle.wills_max);
        let wills = self.node.sum(|metrics| metrics.wills_published);
        ensure!(
            (wills_min..=wills_max).contains(&wills),
            "{wills} wills, expected {wills_min} to {wills_max}"
        );
        let (low, high) = self.oracle.session_bounds(now);
        let sessions = self.node.sum(|metrics| metrics.sessions);
        ensure!((low..=high).contains(&sessions), "{sessions} sessions, expected {low} to {high}");
        for id in &self.open {
            let link = &self.links[*id];
            let socket = &self.node.sockets[link.socket];
            let limit = link.packet_at + link.offer.keep_alive_ms + TIMER_SLACK_MS;
            let is_live = link.phase == Phase::Live && socket.connection.is_some();
            ensure!(
                !is_live
                    || link.offer.keep_alive_ms == 0
                    || link.was_paused
                    || !socket.is_reading
                    || now <= limit,
                "link {id} is silent since {}",
                link.packet_at
            );
        }
        Ok(())
    }

    pub fn drain_lanes(&mut self) -> Verdict {
        let shards = self.node.shards.len() as ShardId;
        let mut is_busy = true;
        let mut count = 0;
        while is_busy {
            is_busy = false;
            for from in 0..shards {
                for to in 0..shards {
                    while self.node.deliver_one(from, to) {
                        self.digest(&[])?;
                        is_busy = true;
                    }
                }
                if self.node.is_lane_awaited(from) {
                    self.node.tick(from);
                    self.digest(&[])?;
                    is_busy = true;
                }
            }
            count += 1;
            ensure!(count < 100_000, "the lanes are never empty");
        }
        self.oracle.epoch += 1;
        self.drained_at = self.node.now;
        Ok(())
    }

    /// Everything that is under way arrives. True if there was something.
    pub fn pump(&mut self) -> Result<bool, String> {
        let steps = self.node.steps;
        for id in self.open.clone() {
            while self.can_feed(id) {
                self.feed(id, usize::MAX)?;
                self.digest(&[])?;
                self.after_feed(id)?;
            }
            self.links[id].is_stalled = false;
            while self.can_send(id) {
                self.send(id, usize::MAX)?;
                self.digest(&[id])?;
                self.arrive(id)?;
            }
        }
        while !self.node.auth_requests.is_empty() {
            self.judge_any()?;
        }
        self.drain_lanes()?;
        for shard in 0..self.node.shards.len() {
            let count = self.node.appends[shard].len();
            if count > 0 {
                self.store(shard, count)?;
            }
        }
        self.tick_due()?;
        Ok(self.node.steps > steps)
    }

    // ---- links ----

    pub fn add_link(&mut self, link: Link) -> LinkId {
        let id = self.links.len();
        let socket = link.socket;
        if self.link_of.len() <= socket {
            self.link_of.resize(socket + 1, LinkId::MAX);
        }
        self.link_of[socket] = id;
        self.links.push(link);
        self.open.push(id);
        id
    }

    pub fn write(&mut self, id: LinkId, bytes: &[u8]) {
        self.node.write(self.links[id].socket, bytes);
        self.links[id].on_written(bytes.len());
    }

    /// Forgets a link that is done, and tells its client.
    pub fn sweep(&mut self, id: LinkId) {
        let socket = &self.node.sockets[self.links[id].socket];
        let is_over = socket.is_closed
            || (socket.is_client_gone && socket.connection.is_none() && socket.sending.is_none());
        if is_over && let Some(at) = self.open.iter().position(|open| *open == id) {
            self.open.swap_remove(at);
            self.on_link_lost(id);
        }
    }

    pub fn reset(&mut self, id: LinkId) -> Verdict {
        self.note(|_| format!("link {id}: reset"));
        self.node.reset(self.links[id].socket);
        self.digest(&[])?;
        if let Some(at) = self.open.iter().position(|open| *open == id) {
            self.open.swap_remove(at);
        }
        self.on_link_lost(id);
        Ok(())
    }

    // ---- what shards emit ----

    /// Shows the oracle what the last turn has emitted. Output of the links in `late` may have been made earlier.
    pub fn digest(&mut self, late: &[LinkId]) -> Verdict {
        for shard in 0..self.appends_seen.len() {
            while self.appends_seen[shard] < self.node.appends[shard].len() {
                let append = &self.node.appends[shard][self.appends_seen[shard]];
                self.appends_seen[shard] += 1;
                self.oracle.on_append(read_uid(&append.message).unwrap_or(crate::oracle::UNNAMED))?;
            }
        }
        let mut news = std::mem::replace(&mut self.node.news, std::mem::take(&mut self.news));
        let is_any_closed = news.iter().any(|news| matches!(news, News::Closed(_)));
        let goodbyes = if is_any_closed { self.count_goodbyes(&news) } else { (0, 0) };
        self.oracle.on_due(self.node.now);
        // What a CONNECT has ended (a session, with its will) has to be known before anybody's output is judged: first
        // each CONNACK, then the rest.
        let mut verdict = Ok(());
        let mut others = std::mem::take(&mut self.outputs);
        for news in news.drain(..) {
            let judged = match news {
                News::Output(socket) => {
                    let is_connecting = self.links[self.link_of[socket]].phase == Phase::Connecting;
                    let seen = if is_connecting { self.first_packet_len(socket) } else { 0 };
                    others.push((socket, seen));
                    self.on_output(socket, late, 0, seen)
                }
                News::Closed(socket) => {
                    // A link that connected and ended in one turn has no later.
                    let early = others.iter().position(|(other, seen)| *other == socket && *seen > 0);
                    let rest = early
                        .map(|at| others.remove(at))
                        .map_or(Ok(()), |(socket, seen)| self.on_output(socket, late, seen, usize::MAX));
                    rest.and_then(|()| self.on_closed(socket, goodbyes))
                }
            };
            verdict = verdict.and(judged);
        }
        for (socket, seen) in others.drain(..) {
            verdict = verdict.and_then(|()| self.on_output(socket, late, seen, usize::MAX));
        }
        self.outputs = others;
        verdict = verdict.and_then(|()| self.oracle.on_turn_judged());
        self.news = news;
        verdict
    }

    /// Closed links whose DISCONNECT was read, and DISCONNECTs that were served.
    fn count_goodbyes(&mut self, news: &[News]) -> (u64, u64) {
        let may_be_goodbye = |news: &&News| match news {
            News::Closed(socket) => self.has_read_goodbye(self.link_of[*socket]),
            News::Output(_) => false,
        };
        let candidates = news.iter().filter(may_be_goodbye).count() as u64;
        let mut served = 0;
        for (shard, seen) in self.goodbyes_seen.iter_mut().enumerate() {
            let count = self.node.shards[shard].metrics().disconnects[EndReason::ClientDisconnect as usize];
            served += count - *seen;
            *seen = count;
        }
        (candidates, served)
    }

    fn has_read_goodbye(&self, id: LinkId) -> bool {
        let link = &self.links[id];
        link.goodbye.is_some_and(|goodbye| goodbye.end <= link.fed)
    }

    /// Bytes of the first packet in what the socket is sending.
    fn first_packet_len(&self, socket: usize) -> usize {
        let Some(buffer) = &self.node.sockets[socket].sending else { return 0 };
        // CONNACK is short: one byte of length, or two.
        match buffer[..] {
            [_, low, high, ..] if low & 0x80 != 0 => 3 + (low & 0x7f) as usize + ((high as usize) << 7),
            [_, len, ..] => 2 + len as usize,
            _ => 0,
        }
    }

    /// Shows the oracle a part of what the socket begins to send.
    fn on_output(&mut self, socket: usize, late: &[LinkId], from: usize, to: usize) -> Verdict {
        let id = self.link_of[socket];
        let Some(buffer) = self.node.sockets[socket].sending.take() else { return Ok(()) };
        let is_rest = to == usize::MAX;
        let to = to.min(buffer.len());
        let verdict = self.observe(id, &buffer[from.min(to)..to], !late.contains(&id));
        if !is_rest || !self.node.sockets[socket].is_client_gone {
            self.node.sockets[socket].sending = Some(buffer);
        }
        verdict
    }

    fn on_closed(&mut self, socket: usize, (candidates, served): (u64, u64)) -> Verdict {
        let id = self.link_of[socket];
        let state = &mut self.node.sockets[socket];
        let is_in_last = state.last.is_some();
        let bytes = match is_in_last {
            true => state.last.take(),
            false if state.is_closing => state.sending.take(),
            false => None,
        };
        if let Some(bytes) = bytes {
            self.observe(id, &bytes, false)?;
            let state = &mut self.node.sockets[socket];
            match is_in_last {
                true if state.is_client_gone => {}
                true => state.last = Some(bytes),
                false => state.sending = Some(bytes),
            }
        }
        ensure!(served <= candidates, "{served} DISCONNECTs served, {candidates} sent, link {id}");
        let is_goodbye = self.has_read_goodbye(id) && served > 0;
        ensure!(
            !is_goodbye || served == candidates,
            "the simulation cannot tell which DISCONNECT was served"
        );
        let ending = if is_goodbye { Ending::Goodbye } else { Ending::Lost };
        self.note(|_| format!("link {id}: closed, {ending:?}"));
        let now = self.node.now;
        self.remember(now ^ (id as u64) << 32 ^ 0xC105);
        self.oracle.on_closed(id, &mut self.links[id], ending, now);
        self.sweep(id);
        Ok(())
    }

    fn observe(&mut self, id: LinkId, bytes: &[u8], is_prompt: bool) -> Verdict {
        let mut at = 0;
        while let Some((decoded, len)) = self.links[id].decode(&bytes[at..])? {
            at += len;
            self.links[id].emitted += len as u64;
            let link = &self.links[id];
            ensure!(len <= link.offer.packet_size_max, "a packet of {len} bytes");
            let event = self.judge(id, &decoded, is_prompt).map_err(|error| {
                let packet = match &decoded {
                    Decoded::Publish(incoming) => {
                        format!("{:?} on {}", incoming.publish, TOPICS[incoming.topic])
                    }
                    Decoded::Other(packet) => format!("{packet:?}"),
                };
                format!("{error}\n  link {id}, client {}, {packet}", self.links[id].client)
            })?;
            let client = self.links[id].client;
            self.note(|_| format!("link {id} (client {client}) <- {event:?}"));
            self.remember(match event {
                Event::Publish { uid, packet_id, .. } => (uid as u64) << 20 ^ packet_id as u64,
                other => len as u64 ^ mix(format_code(&other)),
            });
            self.remember(self.node.now ^ (id as u64) << 40);
            self.links[id].push_event(event);
        }
        ensure!(at == bytes.len(), "the server sent half a packet on link {id}");
        Ok(())
    }

    fn judge(&mut self, id: LinkId, decoded: &Decoded<'_>, is_prompt: bool) -> Result<Event, String> {
        let now = self.node.now;
        if matches!(decoded, Decoded::Publish(incoming) if incoming.publish.retain) {
            let reasons = [DropReason::LaneFull, DropReason::SlowConsumer, DropReason::QueueFull];
            let dropped = |metrics: &Metrics| {
                let of_qos = metrics.publish_dropped.iter();
                of_qos.map(|counts| reasons.map(|reason| counts[reason as usize]).iter().sum::<u64>()).sum()
            };
            self.oracle.are_copies_dropped = self.node.sum(dropped) > 0;
        }
        let World { links, oracle, plan, .. } = self;
        let link = &mut links[id];
        let packet = match decoded {
            Decoded::Publish(incoming) => {
                let uid = oracle.on_publish(id, link, incoming, now, is_prompt)?;
                let publish = &incoming.publish;
                return Ok(Event::Publish {
                    uid,
                    qos: publish.qos,
                    packet_id: publish.packet_id,
                    dup: publish.dup,
                    retain: publish.retain,
                });
            }
            Decoded::Other(packet) => packet,
        };
        Ok(match packet {
            Packet::ConnAck(connack) if connack.reason == ReasonCode::Success => {
                let is_resumed = oracle.on_connack(id, link, connack.session_present, now)?;
                Event::ConnAck { reason: connack.reason, is_resumed, incarnation: link.incarnation }
            }
            Packet::ConnAck(connack) => {
                let is_allowed = match connack.reason {
                    ReasonCode::QuotaExceeded | ReasonCode::ServerUnavailable => plan.is_memory_tight,
                    ReasonCode::NotAuthorized => {
                        plan.config.authentication != shard::Authentication::Anonymous
                    }
                    _ => false,
                };
                ensure!(is_allowed, "CONNECT is refused");
                Event::ConnAck { reason: connack.reason, is_resumed: false, incarnation: 0 }
            }
            Packet::PubAck(ack) => {
                oracle.on_publish_ack(link, ack.packet_id, QoS::AtLeastOnce, ack.reason, now)?;
                Event::PubAck { packet_id: ack.packet_id }
            }
            Packet::PubRec(ack) => {
                oracle.on_publish_ack(link, ack.packet_id, QoS::ExactlyOnce, ack.reason, now)?;
                Event::PubRec { packet_id: ack.packet_id, is_error: ack.reason.is_error() }
            }
            Packet::PubRel(ack) => {
                oracle.on_pubrel(link, ack.packet_id)?;
                Event::PubRel { packet_id: ack.packet_id }
            }
            Packet::PubComp(ack) => {
                let next = link.releases.pop_front();
                ensure!(next == Some(ack.packet_id), "PUBCOMP where {next:?} is next");
                Event::PubComp { packet_id: ack.packet_id }
            }
            Packet::SubAck(suback) => {
                oracle.on_request_ack(link, suback.packet_id, true, suback.codes)?;
                Event::SubAck { packet_id: suback.packet_id }
            }
            Packet::UnsubAck(unsuback) => {
                oracle.on_request_ack(link, unsuback.packet_id, false, unsuback.codes)?;
                Event::UnsubAck { packet_id: unsuback.packet_id }
            }
            Packet::PingResp => {
                ensure!(link.pings > 0, "PINGRESP without PINGREQ");
                link.pings -= 1;
                Event::PingResp
            }
            Packet::Disconnect(disconnect) => {
                let is_allowed = match disconnect.reason {
                    ReasonCode::KeepAliveTimeout => now >= link.packet_at + link.offer.keep_alive_ms,
                    ReasonCode::SessionTakenOver
                    | ReasonCode::QuotaExceeded
                    | ReasonCode::AdministrativeAction => true,
                    _ => false,
                };
                ensure!(is_allowed && link.version == Version::V5, "DISCONNECT of a faultless client");
                Event::Disconnect { reason: disconnect.reason }
            }
            other => return Err(format!("a server does not send {other:?}")),
        })
    }

    // ---- the end ----

    fn finish(&mut self) -> Verdict {
        self.settle()?;
        self.check_delivered()?;
        self.check_retained()?;
        self.leave()?;
        self.check_baseline()
    }

    fn check_delivered(&mut self) -> Verdict {
        let unanswered = self.open.iter().find(|id| self.links[**id].pings > 0);
        ensure!(unanswered.is_none(), "PINGREQ without PINGRESP on link {unanswered:?}");
        let plan = self.plan.clone();
        let missing = self.oracle.missing(
            |client| plan.clients[client].packet_size_max.unwrap_or(u32::MAX) as usize,
            self.node.now,
        );
        let full = DropReason::QueueFull as usize;
        let dropped = self.node.sum(|m| m.publish_dropped[1][full] + m.publish_dropped[2][full]);
        ensure!(
            self.plan.is_bounded || dropped == 0,
            "{dropped} messages dropped from queues that are not full"
        );
        ensure!(
            missing.len() as u64 <= dropped,
            "{} acknowledged messages are lost, {dropped} dropped:\n{}",
            missing.len(),
            missing.join("\n")
        );
        self.expect_zero("deliveries under way", |m| m.inflight_out)?;
        self.expect_zero("waiting messages", |m| m.queue_messages)?;
        self.expect_zero("stored messages", |m| m.stored_messages)?;
        self.expect_zero("paused connections", |m| m.paused_connections)
    }

    fn check_retained(&mut self) -> Verdict {
        self.inspect_retained()?;
        let now = self.node.now;
        let found = std::mem::take(&mut self.retained_found);
        for (topic, name) in TOPICS.iter().enumerate() {
            let of_topic: Vec<u32> = found
                .iter()
                .copied()
                .filter(|uid| self.oracle.messages[*uid as usize].topic == topic)
                .collect();
            ensure!(of_topic.len() <= 1, "{of_topic:?} are all retained on {name}");
            self.oracle.may_be_retained(topic, of_topic.first().copied(), now)?;
        }
        self.clear_retained()?;
        self.expect_zero("retained messages", |m| m.retained_messages)?;
        self.expect_zero("retained bytes", |m| m.retained_bytes)
    }

    fn check_baseline(&mut self) -> Verdict {
        self.check_time()?;
        self.expect_zero("connections", |m| m.connection_count() + m.connections_pending)?;
        self.expect_zero("sessions", |m| m.sessions)?;
        self.expect_zero("persistent sessions", |m| m.sessions_persistent)?;
        self.expect_zero("subscriptions", |m| m.subscriptions + m.shared_subscriptions)?;
        self.expect_zero("filters", |m| m.subscription_trie_nodes)?;
        self.expect_zero("routes", |m| m.routes)?;
        self.expect_zero("deliveries under way", |m| m.inflight_out)?;
        self.expect_zero("messages received and not released", |m| m.inflight_in)?;
        self.expect_zero("waiting messages", |m| m.queue_messages + m.queue_bytes)?;
        self.expect_zero("stored messages", |m| m.stored_messages + m.stored_bytes)?;
        self.expect_zero("bytes held", |m| m.memory_bytes)?;
        for reason in [
            EndReason::MalformedPacket,
            EndReason::ProtocolError,
            EndReason::PacketTooLarge,
            EndReason::ReceiveMaximum,
            EndReason::TopicAlias,
            EndReason::NotAuthorized,
            EndReason::ClientIdInvalid,
            EndReason::Other,
        ] {
            let count = self.node.sum(|m| m.disconnects[reason as usize]);
            ensure!(count == 0, "{count} faultless clients were ended: {reason:?}");
        }
        for (at, shard) in self.node.shards.iter().enumerate() {
            let held = shard.held();
            ensure!(held.is_nothing(), "shard {at} still holds {held:?}");
        }
        Ok(())
    }

    fn expect_zero(&mut self, what: &str, figure: impl Fn(&Metrics) -> u64) -> Verdict {
        let sum = self.node.sum(figure);
        ensure!(sum == 0, "{sum} {what} at the end");
        Ok(())
    }
}

fn format_code(event: &Event) -> u64 {
    match event {
        Event::ConnAck { is_resumed, .. } => 1 | (*is_resumed as u64) << 8,
        Event::Publish { .. } => 3,
        Event::PubAck { packet_id } => 4 | (*packet_id as u64) << 8,
        Event::PubRec { packet_id, .. } => 5 | (*packet_id as u64) << 8,
        Event::PubRel { packet_id } => 6 | (*packet_id as u64) << 8,
        Event::PubComp { packet_id } => 7 | (*packet_id as u64) << 8,
        Event::SubAck { packet_id } => 9 | (*packet_id as u64) << 8,
        Event::UnsubAck { packet_id } => 11 | (*packet_id as u64) << 8,
        Event::PingResp => 13,
        Event::Disconnect { reason } => 14 | (*reason as u64) << 8,
    }
}
