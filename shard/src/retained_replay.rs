//! Retained messages for a new subscription: pages are fetched from the shards that own them (this one included) and
//! sent as the subscriber's window allows, so a wildcard over any number of them costs one page of memory.

use std::ops::Range;

use protocol::QoS;

use crate::ShardId;
use crate::connection::ConnectionId;
use crate::envelope::{Batch, Envelope, RetainedPage, RetainedQuery};
use crate::message::{Instructions, Message, NEVER, NO_MESSAGE};
use crate::metrics::DropReason;
use crate::publish::{Copy, Refusal};
use crate::retained::ScanEnd;
use crate::shard::Shard;

/// Messages and bytes of one page, and topics looked at for it.
const PAGE_MESSAGES: u32 = 128;
const PAGE_BYTES: u32 = 64 * 1024;
const PAGE_VISITS: usize = 4096;

/// What is still to be sent for one subscription.
#[derive(Debug)]
pub(crate) struct Replay {
    number: u64,
    filter: Box<str>,
    qos: QoS,
    identifier: u32,
    no_local: bool,
    /// Shards still to be asked, the current one first.
    owners: Range<ShardId>,
    after: Option<String>,
    /// Frames of the current page and how far they are sent.
    page: Vec<u8>,
    sent: usize,
    /// The current owner has been asked and has not answered.
    is_asked: bool,
}

impl Replay {
    pub fn new(
        number: u64,
        filter: Box<str>,
        qos: QoS,
        identifier: u32,
        no_local: bool,
        owners: Range<ShardId>,
    ) -> Replay {
        Replay {
            number,
            filter,
            qos,
            identifier,
            no_local,
            owners,
            after: None,
            page: Vec::new(),
            sent: 0,
            is_asked: false,
        }
    }

    /// The subscription was replaced while its retained messages are being sent.
    pub fn adopt(&mut self, qos: QoS, identifier: u32, no_local: bool) {
        (self.qos, self.identifier, self.no_local) = (qos, identifier, no_local);
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

    fn take_page(&mut self, batch: Batch, next: Option<String>) {
        self.is_asked = false;
        self.page = batch.bytes;
        self.sent = 0;
        if next.is_none() {
            self.owners.start += 1;
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
            if replay.owners.is_empty() {
                continue;
            }
            let owner = replay.owners.start;
            if owner == self.id {
                let (batch, next) =
                    self.retained_page(&replay.filter, replay.after.as_deref(), PAGE_MESSAGES, PAGE_BYTES);
                replay.take_page(batch, next);
            } else {
                replay.is_asked = true;
                self.replays.insert(replay.number, session);
                let query = RetainedQuery {
                    replay: replay.number,
                    filter: replay.filter.clone(),
                    after: replay.after.clone(),
                    count_max: PAGE_MESSAGES,
                    bytes_max: PAGE_BYTES,
                };
                self.send(owner, Envelope::RetainedQuery(Box::new(query)));
            }
            self.sessions[session as usize].replays.push_front(replay);
        }
        let state = &self.sessions[session as usize];
        if state.replays.front().is_some_and(|replay| !replay.is_asked) {
            self.replays_due.push_back((session, self.session_epochs[session as usize]));
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
            let is_own = replay.no_local && message.publisher == self.sessions[session as usize].client_key;
            if !is_own && !message.is_expired(self.now) {
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

    /// A page of our own retained messages, and the topic after which the next one begins.
    fn retained_page(
        &mut self,
        filter: &str,
        after: Option<&str>,
        count_max: u32,
        bytes_max: u32,
    ) -> (Batch, Option<String>) {
        let mut batch = Batch { bytes: self.spare_buffers.take(), count: 0 };
        let end = self.retained.scan(filter, after, self.now, PAGE_VISITS, |topic, entry| {
            let message = Message {
                topic,
                payload: &entry.payload,
                properties: &entry.properties,
                qos: entry.qos,
                retain: true,
                publisher: entry.publisher,
                expires_at: entry.expires_at.unwrap_or(NEVER),
                is_fleeting: false,
            };
            message.write(Instructions::default(), &mut batch.bytes);
            batch.count += 1;
            batch.count < count_max && batch.bytes.len() < bytes_max as usize
        });
        match end {
            ScanEnd::Done => (batch, None),
            ScanEnd::More { after } => (batch, Some(after)),
        }
    }

    pub(crate) fn on_retained_query(&mut self, from: ShardId, query: &RetainedQuery) {
        let (batch, next) =
            self.retained_page(&query.filter, query.after.as_deref(), query.count_max, query.bytes_max);
        self.send(from, Envelope::RetainedPage(Box::new(RetainedPage { replay: query.replay, batch, next })));
    }

    pub(crate) fn on_retained_page(&mut self, _from: ShardId, page: RetainedPage) {
        // Unsubscribed or disconnected in the meantime: nobody waits for it.
        let Some(session) = self.replays.remove(&page.replay) else { return };
        let Some(replay) =
            self.sessions[session as usize].replays.iter_mut().find(|r| r.number == page.replay)
        else {
            return;
        };
        replay.take_page(page.batch, page.next);
        self.pull(session);
    }
}
