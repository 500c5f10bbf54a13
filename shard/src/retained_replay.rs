//! Retained messages for a new subscription: pages are fetched from the shards that own them (this one included) and
//! sent as the subscriber's window allows, so a wildcard over any number of them costs one page of memory.

use std::ops::Range;

use protocol::QoS;

use crate::ShardId;
use crate::connection::ConnectionId;
use crate::envelope::{Batch, Envelope, RetainedPage, RetainedQuery};
use crate::message::{Instructions, Message, NO_MESSAGE};
use crate::metrics::DropReason;
use crate::publish::{Copy, Refusal};
use crate::retained::ScanEnd;
use crate::session::HashSeed;
use crate::shard::Shard;

/// Messages and bytes of one page, and topics looked at for it.
const PAGE_MESSAGES: u32 = 128;
const PAGE_BYTES: u32 = 64 * 1024;
const PAGE_VISITS: usize = 4096;

/// The bound of an owner that has not confirmed its route, and of one whose live messages cannot be relied on: nothing
/// is left out.
pub(crate) const UNKNOWN: u64 = u64::MAX;

/// Topics of one replay whose state is known to be superseded; of others a live message may be followed by a former state.
const SUPERSEDED_MAX: usize = 4096;

/// Who is asked for what.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Shards still to be asked, the current one first.
    pub owners: Range<ShardId>,
    /// The last message of each owner that is asked for (`retained_order.rs`); those of owners that are done stay.
    pub bounds: Box<[u64]>,
    /// `Session::drops` when the subscription began.
    pub drops: u32,
}

impl Asked {
    /// Position of the bound of an owner that is not done.
    fn bound_at(&self, owner: ShardId) -> usize {
        self.bounds.len() - (self.owners.end - owner) as usize
    }

    /// Which messages the current owner is asked for, while the session has lost so many deliveries: what it lost may
    /// be what would be left out.
    fn bound(&self, drops: u32) -> u64 {
        match drops == self.drops {
            true => self.bounds[self.bound_at(self.owners.start)],
            false => UNKNOWN,
        }
    }
}

/// What is still to be sent for one subscription.
#[derive(Debug)]
pub(crate) struct Replay {
    number: u64,
    filter: Box<str>,
    qos: QoS,
    identifier: u32,
    no_local: bool,
    asked: Asked,
    after: Option<String>,
    /// Frames of the current page and how far they are sent.
    page: Vec<u8>,
    sent: usize,
    /// Nothing was left out of the page, because live messages cannot be relied on.
    is_complete: bool,
    /// The current owner has been asked and has not answered.
    is_asked: bool,
    /// Hashes of topics that a message with RETAIN has come live of without passing through their owner, and which thus may be
    /// ahead of its answer: their state is older, or that message.
    superseded: hashbrown::HashSet<u64, HashSeed>,
}

impl Replay {
    pub fn new(
        number: u64,
        filter: Box<str>,
        qos: QoS,
        identifier: u32,
        no_local: bool,
        asked: Asked,
    ) -> Replay {
        Replay {
            number,
            filter,
            qos,
            identifier,
            no_local,
            asked,
            after: None,
            page: Vec::new(),
            sent: 0,
            is_complete: false,
            is_asked: false,
            superseded: hashbrown::HashSet::default(),
        }
    }

    /// The subscription was replaced while its retained messages are being sent.
    pub fn adopt(&mut self, qos: QoS, identifier: u32, no_local: bool) {
        (self.qos, self.identifier, self.no_local) = (qos, identifier, no_local);
    }

    /// The owner has confirmed the route.
    pub fn set_bound(&mut self, owner: ShardId, bound: u64) {
        if self.asked.owners.contains(&owner) {
            let at = self.asked.bound_at(owner);
            if self.asked.bounds[at] == UNKNOWN {
                self.asked.bounds[at] = bound;
            }
        }
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn filter(&self) -> &str {
        &self.filter
    }

    /// Messages have been fetched that are not sent.
    #[inline]
    pub fn has_page(&self) -> bool {
        self.sent < self.page.len()
    }

    fn take_page(&mut self, RetainedPage { batch, next, bound, .. }: RetainedPage) {
        self.is_asked = false;
        self.is_complete = bound == UNKNOWN;
        self.page = batch.bytes;
        self.sent = 0;
        if next.is_none() {
            self.asked.owners.start += 1;
        }
        self.after = next;
    }
}

impl Shard {
    /// Sends what the window allows; fetches the next page when one is empty.
    pub(crate) fn pull_replays(&mut self, session: u32, id: ConnectionId) {
        // One page a call: a shard serves others in between.
        for _ in 0..2 {
            let Some(mut replay) = self.sessions[session as usize].replays.pop_front() else { return };
            let is_sent = self.send_page(session, id, &mut replay);
            if !is_sent || replay.is_asked {
                self.sessions[session as usize].replays.push_front(replay);
                return;
            }
            if replay.asked.owners.is_empty() {
                self.sessions[session as usize].replays.shrink();
                continue;
            }
            let owner = replay.asked.owners.start;
            let query = RetainedQuery {
                replay: replay.number,
                filter: replay.filter.clone(),
                after: replay.after.clone(),
                bound: replay.asked.bound(self.sessions[session as usize].drops),
                count_max: PAGE_MESSAGES,
                bytes_max: PAGE_BYTES,
            };
            if owner == self.id {
                let page = self.retained_page(query);
                replay.take_page(page);
            } else {
                replay.is_asked = true;
                self.replays.insert(replay.number, session);
                self.send(owner, Envelope::RetainedQuery(Box::new(query)));
            }
            self.sessions[session as usize].replays.push_front(replay);
        }
        let state = &self.sessions[session as usize];
        if state.replays.front().is_some_and(|replay| !replay.is_asked) {
            self.replays_due.push_back((session, self.session_epochs[session as usize]));
        }
    }

    /// A message with RETAIN has come live, not by the owner of its topic.
    #[inline]
    pub(crate) fn note_live(&mut self, session: u32, topic_hash: u64) {
        for replay in self.sessions[session as usize].replays.iter_mut() {
            if replay.superseded.len() < SUPERSEDED_MAX {
                replay.superseded.insert(topic_hash);
            }
        }
    }

    /// True if the page is sent completely.
    fn send_page(&mut self, session: u32, id: ConnectionId, replay: &mut Replay) -> bool {
        let mut frames = std::mem::take(&mut self.frames);
        frames.begin(1);
        let identifier = [replay.identifier];
        let identifiers: &[u32] = if replay.identifier == 0 { &[] } else { &identifier };
        while replay.has_page() {
            let (message, _, len) = Message::read(&replay.page[replay.sent..]);
            let copy = Copy { qos: message.qos.min(replay.qos), retain: true, identifiers, group: 0 };
            let state = &self.sessions[session as usize];
            let is_own = replay.no_local && message.publisher == state.client_key;
            let is_superseded = !replay.superseded.is_empty()
                && !replay.is_complete
                && state.drops == replay.asked.drops
                && replay.superseded.contains(&self.hasher.hash(message.topic));
            if !is_own && !is_superseded && !message.is_expired(self.now) {
                let mut stored = NO_MESSAGE;
                let soft = self.config.limits.output_soft_bytes as usize;
                let is_full =
                    self.connection(id).is_none_or(|connection| connection.output_pending() >= soft);
                let result = match is_full {
                    true => Err(Refusal::NoRoom),
                    false => self.send_now(session, id, &message, copy, &mut stored, &mut frames),
                };
                self.messages.release(stored);
                match result {
                    Ok(()) => {}
                    Err(Refusal::TooLarge) => self.metrics.dropped(copy.qos, DropReason::TooLarge),
                    Err(Refusal::NoRoom) => break,
                }
            }
            replay.sent += len;
        }
        self.frames = frames;
        if replay.has_page() {
            return false;
        }
        let page = std::mem::take(&mut replay.page);
        replay.sent = 0;
        self.recycle_buffer(page);
        true
    }

    /// A page of our own retained messages.
    fn retained_page(&mut self, query: RetainedQuery) -> RetainedPage {
        let RetainedQuery { replay, filter, after, bound, count_max, bytes_max } = query;
        let mut batch = Batch { bytes: self.spare_buffers.take(), ..Batch::default() };
        let end = self.retained.scan(&filter, after.as_deref(), self.now, PAGE_VISITS, |topic, entry| {
            if entry.number > bound {
                return true;
            }
            let message = Message {
                topic,
                payload: &entry.payload,
                properties: &entry.properties,
                qos: entry.qos,
                retain: true,
                publisher: entry.publisher,
                expires_at: entry.expires_at,
                is_fleeting: false,
            };
            message.write(Instructions::default(), &mut batch.bytes);
            batch.count += 1;
            batch.count < count_max && batch.bytes.len() < bytes_max as usize
        });
        let next = match end {
            ScanEnd::Done => None,
            ScanEnd::More { after } => Some(after),
        };
        RetainedPage { replay, bound, batch, next }
    }

    pub(crate) fn on_retained_query(&mut self, from: ShardId, mut query: RetainedQuery) {
        query.bound = self.retained_progress.bound_for(from, query.bound);
        let page = self.retained_page(query);
        self.send(from, Envelope::RetainedPage(Box::new(page)));
    }

    pub(crate) fn on_retained_page(&mut self, _from: ShardId, page: RetainedPage) {
        // Unsubscribed or disconnected in the meantime: nobody waits for it.
        let Some(session) = self.replays.remove(&page.replay) else { return };
        let state = &mut self.sessions[session as usize];
        let Some(replay) = state.replays.iter_mut().find(|r| r.number == page.replay) else { return };
        if page.bound == UNKNOWN || page.bound == replay.asked.bound(state.drops) {
            replay.take_page(page);
        } else {
            // It has lost a delivery since, perhaps one that this page leaves out: asked again.
            replay.is_asked = false;
        }
        self.pull(session);
    }
}
