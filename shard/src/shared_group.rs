//! Shared subscriptions. Every shard knows every group: its own members and, for each other shard, how many members
//! are there and how many of them can take a message. The shard where a message is published picks the shard, in turn
//! by the number of ready members; that shard picks the member. Nobody ready: QoS 1 and 2 wait in the group's queue on
//! the shard that has them, and go to the first member anywhere that can take them.

use protocol::QoS;
use slab::Slab;
use smallvec::SmallVec;

use crate::envelope::Envelope;
use crate::filter_index::{FilterIndex, TopicHasher};
use crate::message::{Instructions, Message, MessageRef, NO_MESSAGE};
use crate::metrics::DropReason;
use crate::publish::Copy;
use crate::queue::{Identifiers, Outgoing, Queue};
use crate::shard::Shard;
use crate::subscribers::Subscriber;
use crate::{QueuePolicy, ShardId};

/// What another shard announced of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    shard: ShardId,
    members: u32,
    ready: u32,
}

#[derive(Debug)]
struct Group {
    /// `$share/group/filter` as it was subscribed, and its key in messages.
    name: Box<str>,
    key: u64,
    number: u32,
    /// The filter without the share.
    filter: Box<str>,
    members: Vec<Subscriber>,
    /// Next member, and next place among all ready members of all shards.
    cursor: usize,
    turn: u64,
    shares: SmallVec<[Share; 2]>,
    /// Members and ready members as the others know them.
    announced: (u32, u32),
    queue: Queue,
    is_marked: bool,
}

impl Group {
    fn is_gone(&self) -> bool {
        self.members.is_empty() && self.shares.is_empty()
    }
}

/// All groups of the node as this shard knows them.
#[derive(Debug)]
pub(crate) struct Groups {
    groups: Slab<Group>,
    by_filter: FilterIndex<SmallVec<[u32; 2]>>,
    by_key: hashbrown::HashMap<u64, u32, ahash::RandomState>,
    /// By the number that deliveries name them with: a group that is gone is not mistaken for its successor.
    by_number: hashbrown::HashMap<u32, u32, ahash::RandomState>,
    last_number: u32,
    /// Groups whose share may have to be announced.
    marked: Vec<u32>,
    /// Groups with a queue.
    waiting: usize,
}

impl Groups {
    pub fn new(hasher: TopicHasher, seed: u64) -> Groups {
        Groups {
            groups: Slab::new(),
            by_filter: FilterIndex::new(hasher),
            by_key: hashbrown::HashMap::with_hasher(ahash::RandomState::with_seeds(seed, 11, 12, 13)),
            by_number: hashbrown::HashMap::with_hasher(ahash::RandomState::with_seeds(seed, 11, 12, 13)),
            last_number: 0,
            marked: Vec::new(),
            waiting: 0,
        }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub fn len(&self) -> usize {
        self.groups.len()
    }

    pub fn by_key(&self, key: u64) -> Option<u32> {
        self.by_key.get(&key).copied()
    }

    /// The group that `Outgoing::group` names.
    pub fn by_number(&self, number: u32) -> Option<u32> {
        self.by_number.get(&number).copied()
    }

    fn unused_number(&mut self) -> u32 {
        loop {
            self.last_number = self.last_number.wrapping_add(1);
            if self.last_number != 0 && !self.by_number.contains_key(&self.last_number) {
                return self.last_number;
            }
        }
    }

    /// The group's members here may have become ready or not.
    pub fn mark(&mut self, group: u32) {
        if let Some(state) = self.groups.get_mut(group as usize)
            && !state.is_marked
        {
            state.is_marked = true;
            self.marked.push(group);
        }
    }

    fn get_or_insert(&mut self, name: &str, filter: &str, key: u64) -> u32 {
        if let Some(group) = self.by_key(key) {
            return group;
        }
        let number = self.unused_number();
        let group = self.groups.insert(Group {
            name: name.into(),
            key,
            number,
            filter: filter.into(),
            members: Vec::new(),
            cursor: 0,
            turn: 0,
            shares: SmallVec::new(),
            announced: (0, 0),
            queue: Queue::default(),
            is_marked: false,
        }) as u32;
        self.by_key.insert(key, group);
        self.by_number.insert(number, group);
        self.by_filter.get_or_insert_with(filter, SmallVec::new).push(group);
        group
    }

    fn remove(&mut self, group: u32) -> Group {
        let state = self.groups.remove(group as usize);
        self.by_key.remove(&state.key);
        self.by_number.remove(&state.number);
        self.marked.retain(|marked| *marked != group);
        if let Some(list) = self.by_filter.get_mut(&state.filter) {
            list.retain(|other| *other != group);
            if list.is_empty() {
                self.by_filter.remove(&state.filter);
            }
        }
        state
    }
}

/// What became of a message for a group.
enum Picked {
    Sent,
    /// Every member that could take one refuses this one for its size.
    TooLarge,
    NobodyReady,
}

impl Shard {
    // ---- membership ----

    pub(crate) fn join_group(&mut self, name: &str, filter: &str, subscriber: Subscriber) {
        let key = self.placement.group_key(name);
        let group = self.groups.get_or_insert(name, filter, key);
        let members = &mut self.groups.groups[group as usize].members;
        match members.iter_mut().find(|member| member.session == subscriber.session) {
            Some(member) => *member = subscriber,
            None => {
                members.push(subscriber);
                self.sessions[subscriber.session as usize].groups.push_back(group);
            }
        }
        self.announce_group_share(group);
    }

    pub(crate) fn leave_group(&mut self, name: &str, session: u32) {
        let Some(group) = self.groups.by_key(self.placement.group_key(name)) else { return };
        self.groups.groups[group as usize].members.retain(|member| member.session != session);
        let joined = &mut self.sessions[session as usize].groups;
        joined.retain(|joined| *joined != group);
        joined.shrink();
        self.announce_group_share(group);
        self.remove_group_if_gone(group);
        if self.groups.groups.contains(group as usize) {
            // The queue may have lost its last member here.
            self.drain_group(group);
        }
    }

    fn remove_group_if_gone(&mut self, group: u32) {
        if !self.groups.groups[group as usize].is_gone() {
            return;
        }
        let mut state = self.groups.remove(group);
        if !state.queue.is_empty() {
            self.groups.waiting -= 1;
        }
        while let Some((outgoing, len)) = state.queue.pop_front() {
            self.count_unqueued(len);
            self.metrics.dropped(outgoing.qos, DropReason::SessionEnded);
            self.messages.release_delivery(outgoing);
        }
    }

    /// Members here that are ready to receive; all connected ones count as long as one of them is.
    fn ready_members(&self, group: &Group) -> u32 {
        let mut connected = 0;
        let mut is_any_ready = false;
        for member in &group.members {
            if self.sessions[member.session as usize].connection.is_some() {
                connected += 1;
                is_any_ready |= self.is_member_ready(member, member.qos);
            }
        }
        if is_any_ready { connected } else { 0 }
    }

    fn is_member_ready(&self, member: &Subscriber, qos: QoS) -> bool {
        let session = &self.sessions[member.session as usize];
        let Some(id) = session.connection else { return false };
        let Some(Some(connection)) = self.connections.get(id.slot as usize) else { return false };
        connection.output_pending() < self.config.limits.output_soft_bytes as usize
            && (qos == QoS::AtMostOnce || (session.inflight.has_room() && !session.is_backlogged()))
    }

    /// Tells the other shards if our part of the group has changed for them.
    fn announce_group_share(&mut self, group: u32) {
        let state = &self.groups.groups[group as usize];
        let current = (state.members.len() as u32, self.ready_members(state));
        if self.config.shard_count == 1 || current == state.announced {
            return;
        }
        let revision = self.next_revision();
        let state = &mut self.groups.groups[group as usize];
        state.announced = current;
        let name = state.name.clone();
        for peer in self.peers() {
            let (members, ready) = current;
            self.send(peer, Envelope::GroupShare { filter: name.clone(), members, ready, revision });
        }
    }

    /// Announces what changed in this turn.
    pub(crate) fn announce_group_shares(&mut self) {
        while let Some(group) = self.groups.marked.pop() {
            self.groups.groups[group as usize].is_marked = false;
            self.announce_group_share(group);
        }
    }

    pub(crate) fn on_group_share(&mut self, from: ShardId, name: &str, members: u32, ready: u32) {
        let Ok(Some(shared)) = protocol::topic::parse_shared(name) else { return };
        let key = self.placement.group_key(name);
        if members == 0 && self.groups.by_key(key).is_none() {
            return;
        }
        let group = self.groups.get_or_insert(name, shared.filter, key);
        let shares = &mut self.groups.groups[group as usize].shares;
        shares.retain(|share| share.shard != from);
        if members > 0 {
            shares.push(Share { shard: from, members, ready });
            shares.sort_by_key(|share| share.shard);
        }
        self.remove_group_if_gone(group);
        if self.groups.groups.contains(group as usize) {
            self.drain_group(group);
        }
    }

    // ---- messages ----

    /// Gives the message to each group whose filter matches; true if there was one.
    pub(crate) fn share(
        &mut self,
        message: &Message<'_>,
        hash: u64,
        wait: Option<u32>,
        is_refused: &mut bool,
    ) -> bool {
        let mut matched = std::mem::take(&mut self.matched_groups);
        matched.clear();
        self.groups.by_filter.for_each_match(message.topic, hash, |groups| matched.extend_from_slice(groups));
        let mut is_matched = false;
        for group in &matched {
            let mut stored = NO_MESSAGE;
            is_matched |= self.share_to(*group, message, true, &mut stored, wait, is_refused);
            self.messages.release(stored);
        }
        self.matched_groups = matched;
        is_matched
    }

    /// A message that another shard has for one of our groups.
    pub(crate) fn share_by_key(
        &mut self,
        key: u64,
        message: &Message<'_>,
        wait: Option<u32>,
        is_refused: &mut bool,
    ) {
        // The group may have ended while the message was on the way.
        let Some(group) = self.groups.by_key(key) else {
            self.metrics.dropped(message.qos, DropReason::SessionEnded);
            return;
        };
        let mut stored = NO_MESSAGE;
        self.share_to(group, message, false, &mut stored, wait, is_refused);
        self.messages.release(stored);
    }

    /// `picks_shard`: the message was published here, so any shard may get it; otherwise this shard was picked.
    fn share_to(
        &mut self,
        group: u32,
        message: &Message<'_>,
        picks_shard: bool,
        stored: &mut MessageRef,
        wait: Option<u32>,
        is_refused: &mut bool,
    ) -> bool {
        let is_reliable = message.qos != QoS::AtMostOnce;
        let state = &mut self.groups.groups[group as usize];
        if state.queue.is_empty() || !is_reliable {
            if picks_shard && let Some(shard) = self.next_shard(group) {
                self.forward_to_group(shard, group, message, wait);
                return true;
            }
            match self.give_to_member(group, message, stored, QoS::AtMostOnce) {
                Picked::Sent => return true,
                Picked::TooLarge => {
                    self.metrics.dropped(message.qos, DropReason::TooLarge);
                    return true;
                }
                Picked::NobodyReady => {}
            }
        }
        self.groups.mark(group);
        if !is_reliable && let Some(shard) = self.ready_shard(group) {
            self.forward_to_group(shard, group, message, wait);
            return true;
        }
        let state = &self.groups.groups[group as usize];
        let can_wait =
            state.members.iter().any(|member| member.qos != QoS::AtMostOnce) || !state.shares.is_empty();
        if !is_reliable || !can_wait {
            let is_online =
                state.members.iter().any(|m| self.sessions[m.session as usize].connection.is_some());
            let reason = if is_online { DropReason::SlowConsumer } else { DropReason::Offline };
            self.metrics.dropped(message.qos, reason);
            return is_online;
        }
        if message.is_expired(self.now) || message.is_fleeting {
            self.metrics.dropped(message.qos, DropReason::Expired);
            return false;
        }
        *is_refused |= !self.enqueue_for_group(group, message, stored);
        self.drain_group(group);
        true
    }

    /// The shard whose turn it is, if that is another one: each in proportion to its ready members.
    fn next_shard(&mut self, group: u32) -> Option<ShardId> {
        if self.config.shard_count == 1 || self.groups.groups[group as usize].shares.is_empty() {
            return None;
        }
        let state = &self.groups.groups[group as usize];
        let own = self.ready_members(state) as u64;
        let usable = |share: &&Share| share.ready > 0 && !self.is_congested(share.shard);
        let total = own + state.shares.iter().filter(usable).map(|share| share.ready as u64).sum::<u64>();
        if total == own {
            return None;
        }
        let mut place = state.turn % total;
        let mut chosen = None;
        if place >= own {
            place -= own;
            for share in state.shares.iter().filter(usable) {
                if place < share.ready as u64 {
                    chosen = Some(share.shard);
                    break;
                }
                place -= share.ready as u64;
            }
        }
        self.groups.groups[group as usize].turn += 1;
        chosen
    }

    /// A shard with ready members, when there are none here. The others hear first that nobody is ready here, so that
    /// the message does not come back.
    fn ready_shard(&mut self, group: u32) -> Option<ShardId> {
        self.announce_group_share(group);
        if self.ready_members(&self.groups.groups[group as usize]) > 0 {
            return None;
        }
        self.next_shard(group)
    }

    fn forward_to_group(&mut self, shard: ShardId, group: u32, message: &Message<'_>, wait: Option<u32>) {
        let key = self.groups.groups[group as usize].key;
        self.forward(shard, message, Instructions { group: key, ..Instructions::default() }, wait);
    }

    /// Gives the message to the next member here that can take it. `qos_min`: members that granted less are passed
    /// over (what has waited is not for QoS 0 members).
    fn give_to_member(
        &mut self,
        group: u32,
        message: &Message<'_>,
        stored: &mut MessageRef,
        qos_min: QoS,
    ) -> Picked {
        let (count, start, number) = {
            let state = &self.groups.groups[group as usize];
            (state.members.len(), state.cursor, state.number)
        };
        let mut too_large = 0;
        let mut frames = std::mem::take(&mut self.frames);
        frames.begin(1);
        let mut picked = Picked::NobodyReady;
        for step in 0..count {
            let at = (start + step) % count;
            let member = self.groups.groups[group as usize].members[at];
            let qos = message.qos.min(member.qos);
            if member.qos < qos_min || !self.is_member_ready(&member, qos) {
                continue;
            }
            let Some(id) = self.sessions[member.session as usize].connection else { continue };
            let identifier = [member.identifier];
            let copy = Copy {
                qos,
                retain: message.retain && member.retain_as_published,
                identifiers: if member.identifier == 0 { &[] } else { &identifier },
                group: number,
            };
            match self.send_now(member.session, id, message, copy, stored, &mut frames) {
                Ok(()) => {
                    self.groups.groups[group as usize].cursor = at + 1;
                    picked = Picked::Sent;
                    break;
                }
                Err(crate::publish::Refusal::TooLarge) => too_large += 1,
                Err(crate::publish::Refusal::NoRoom) => {}
            }
        }
        self.frames = frames;
        if count > 0 && too_large == count { Picked::TooLarge } else { picked }
    }

    fn count_unqueued(&mut self, len: u32) {
        self.metrics.queue_messages -= 1;
        self.metrics.queue_bytes -= len as u64;
    }

    /// Lets the message wait for the group; false if the policy refused it.
    fn enqueue_for_group(&mut self, group: u32, message: &Message<'_>, stored: &mut MessageRef) -> bool {
        let limits = &self.config.limits;
        let (messages_max, bytes_max) = (limits.queue_messages_max, limits.queue_bytes_max);
        let len = message.frame_len() as u32;
        let was_waiting = !self.groups.groups[group as usize].queue.is_empty();
        while self.groups.groups[group as usize].queue.is_full(len, messages_max, bytes_max) {
            let oldest = match self.config.queue_policy {
                QueuePolicy::DropOldest => self.groups.groups[group as usize].queue.pop_front(),
                QueuePolicy::DropNew | QueuePolicy::Refuse => None,
            };
            let Some((oldest, oldest_len)) = oldest else {
                self.metrics.dropped(message.qos, DropReason::QueueFull);
                return self.config.queue_policy != QueuePolicy::Refuse;
            };
            self.count_unqueued(oldest_len);
            self.metrics.dropped(oldest.qos, DropReason::QueueFull);
            self.messages.release_delivery(oldest);
        }
        if *stored == NO_MESSAGE {
            *stored = self.messages.insert(message);
        }
        self.messages.retain(*stored);
        let waiting = Outgoing {
            message: *stored,
            qos: message.qos,
            retain: message.retain,
            identifiers: Identifiers::NONE,
            group: 0,
        };
        let queue = &mut self.groups.groups[group as usize].queue;
        self.groups.waiting += !was_waiting as usize;
        queue.push_back(waiting, len);
        self.metrics.queue_messages += 1;
        self.metrics.queue_bytes += len as u64;
        true
    }

    /// Sends what waits for the group to members that can take it, here or on another shard.
    pub(crate) fn drain_group(&mut self, group: u32) {
        while let Some((waiting, len)) = self.groups.groups[group as usize].queue.pop_front() {
            let mut stored = waiting.message;
            let frame = self.messages.take_frame(stored);
            let message = Message::read(&frame).0;
            let mut is_done = true;
            if message.is_expired(self.now) {
                self.metrics.dropped(message.qos, DropReason::Expired);
            } else {
                match self.give_to_member(group, &message, &mut stored, QoS::AtLeastOnce) {
                    Picked::Sent => {}
                    Picked::TooLarge => self.metrics.dropped(message.qos, DropReason::TooLarge),
                    Picked::NobodyReady => match self.ready_shard(group) {
                        Some(shard) => self.forward_to_group(shard, group, &message, None),
                        None => is_done = false,
                    },
                }
            }
            self.messages.put_frame(waiting.message, frame);
            if !is_done {
                self.groups.groups[group as usize].queue.push_front(waiting, len);
                return;
            }
            self.count_unqueued(len);
            self.messages.release_delivery(waiting);
            if self.groups.groups[group as usize].queue.is_empty() {
                self.groups.waiting -= 1;
            }
        }
    }

    /// A lane has room again: groups whose messages could not leave by it go on.
    pub(crate) fn drain_waiting_groups(&mut self) {
        if self.groups.waiting == 0 {
            return;
        }
        let waiting: Vec<u32> = self
            .groups
            .groups
            .iter()
            .filter(|(_, group)| !group.queue.is_empty())
            .map(|(index, _)| index as u32)
            .collect();
        for group in waiting {
            self.drain_group(group);
        }
    }

    /// Messages that a member left unacknowledged when its session ended go to the others, in their order, first.
    pub(crate) fn redistribute(&mut self, returned: Vec<Outgoing>) {
        let mut touched = Vec::new();
        for outgoing in returned.into_iter().rev() {
            let Some(group) = self.groups.by_number(outgoing.group) else {
                self.messages.release_delivery(outgoing);
                continue;
            };
            let message = self.messages.get(outgoing.message);
            let (qos, retain, len) = (message.qos, message.retain, message.frame_len() as u32);
            let waiting =
                Outgoing { message: outgoing.message, qos, retain, identifiers: Identifiers::NONE, group: 0 };
            let queue = &mut self.groups.groups[group as usize].queue;
            self.groups.waiting += queue.is_empty() as usize;
            queue.push_front(waiting, len);
            self.metrics.queue_messages += 1;
            self.metrics.queue_bytes += len as u64;
            if !touched.contains(&group) {
                touched.push(group);
            }
        }
        for group in touched {
            self.drain_group(group);
        }
    }
}
