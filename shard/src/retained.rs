//! The retained messages of the topics that this shard owns, ordered by topic: a wildcard is a range scan in pages,
//! and a page can be continued from its last topic whatever changed in between.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use protocol::QoS;

use crate::Time;
use crate::message::NEVER;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RetainedMessage {
    pub qos: QoS,
    /// `Placement::client_key` of the publisher.
    pub publisher: u64,
    /// Number of the routing that stored it (`retained_order.rs`); 0: its live copies took another way.
    pub number: u64,
    /// `NEVER` without Message Expiry Interval.
    pub expires_at: Time,
    /// Forwarded properties in wire form.
    pub properties: Box<[u8]>,
    pub payload: Box<[u8]>,
}

impl RetainedMessage {
    fn len(&self) -> usize {
        self.properties.len() + self.payload.len()
    }

    fn is_expired(&self, now: Time) -> bool {
        self.expires_at <= now
    }
}

/// How a page ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ScanEnd {
    Done,
    /// The next page begins after this topic.
    More {
        after: String,
    },
}

#[derive(Debug, Default)]
pub(crate) struct RetainedStore {
    by_topic: BTreeMap<Box<str>, RetainedMessage>,
    /// Those that expire, by time.
    expiring: BTreeSet<(Time, Box<str>)>,
    bytes: u64,
    /// Topics of the broker itself: they take no places of the clients.
    system_count: u64,
}

/// What an entry costs beside its topic, properties and payload.
const ENTRY_BYTES: u64 = 96;

impl RetainedStore {
    pub fn new() -> RetainedStore {
        RetainedStore::default()
    }

    pub fn count(&self) -> u64 {
        self.by_topic.len() as u64
    }

    /// Bytes of all messages with their topics.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn cost(topic: &str, len: usize) -> u64 {
        (topic.len() + len) as u64 + ENTRY_BYTES
    }

    /// Whether a message of `len` bytes (payload and properties) would lift the store above its bounds.
    pub fn would_exceed(&self, count_max: u64, bytes_max: u64, topic: &str, len: usize) -> bool {
        let replaced = self.by_topic.get(topic);
        let freed = replaced.map_or(0, |entry| RetainedStore::cost(topic, entry.len()));
        (replaced.is_none() && self.count() - self.system_count >= count_max)
            || self.bytes - freed + RetainedStore::cost(topic, len) > bytes_max
    }

    /// Stores the message of a topic; returns the one that it replaces.
    pub fn store(&mut self, topic: &str, entry: RetainedMessage) -> Option<RetainedMessage> {
        let cost = RetainedStore::cost(topic, entry.len());
        let expires_at = entry.expires_at;
        // Most are updates: the topic is not allocated again.
        let replaced = match self.by_topic.get_mut(topic) {
            Some(slot) => Some(std::mem::replace(slot, entry)),
            None => {
                self.system_count += is_system(topic) as u64;
                self.by_topic.insert(topic.into(), entry);
                None
            }
        };
        self.bytes += cost;
        if let Some(old) = &replaced {
            self.forget(topic, old);
        }
        if expires_at != NEVER {
            self.expiring.insert((expires_at, topic.into()));
        }
        replaced
    }

    pub fn remove(&mut self, topic: &str) -> Option<RetainedMessage> {
        let removed = self.by_topic.remove(topic)?;
        self.system_count -= is_system(topic) as u64;
        self.forget(topic, &removed);
        Some(removed)
    }

    fn forget(&mut self, topic: &str, old: &RetainedMessage) {
        self.bytes -= RetainedStore::cost(topic, old.len());
        if old.expires_at != NEVER {
            self.expiring.remove(&(old.expires_at, topic.into()));
        }
    }

    /// Removes up to `max` expired messages; returns how many.
    pub fn expire(&mut self, now: Time, max: usize) -> usize {
        let mut count = 0;
        while count < max && self.expiring.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, topic)) = self.expiring.pop_first()
                && let Some(old) = self.by_topic.remove(&topic)
            {
                self.bytes -= RetainedStore::cost(&topic, old.len());
                self.system_count -= is_system(&topic) as u64;
                count += 1;
            }
        }
        count
    }

    /// Visits the messages whose topic matches, in topic order, from behind `after`. Ends when `visit` says false,
    /// after `visit_max` topics, or with the last one.
    pub fn scan(
        &self,
        filter: &str,
        after: Option<&str>,
        now: Time,
        visit_max: usize,
        mut visit: impl FnMut(&str, &RetainedMessage) -> bool,
    ) -> ScanEnd {
        let literal = literal_prefix(filter);
        if literal.len() == filter.len() {
            if after.is_none()
                && let Some((topic, entry)) = self.by_topic.get_key_value(filter)
                && !entry.is_expired(now)
            {
                visit(topic, entry);
            }
            return ScanEnd::Done;
        }
        // `a/b/#` matches `a/b` too, which stands before `a/b/`.
        let prefix = match filter[literal.len()..].strip_prefix('#') {
            Some(_) => literal.strip_suffix('/').unwrap_or(literal),
            None => literal,
        };
        let start = match after {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(prefix),
        };
        let mut visited = 0;
        for (topic, entry) in self.by_topic.range::<str, _>((start, Bound::Unbounded)) {
            if !topic.starts_with(prefix) {
                return ScanEnd::Done;
            }
            visited += 1;
            let goes_on =
                !protocol::topic::matches(filter, topic) || entry.is_expired(now) || visit(topic, entry);
            if !goes_on || visited >= visit_max {
                return ScanEnd::More { after: topic.to_string() };
            }
        }
        ScanEnd::Done
    }
}

fn is_system(topic: &str) -> bool {
    topic.starts_with("$SYS/")
}

/// The part of a filter before its first wildcard level.
fn literal_prefix(filter: &str) -> &str {
    match filter.find(['+', '#']) {
        Some(at) => &filter[..at],
        None => filter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(payload: &str, expires_at: Option<Time>) -> RetainedMessage {
        RetainedMessage {
            qos: QoS::AtMostOnce,
            publisher: 0,
            number: 0,
            expires_at: expires_at.unwrap_or(NEVER),
            properties: Box::default(),
            payload: payload.as_bytes().into(),
        }
    }

    #[test]
    fn store_replace_remove_expire() {
        let mut store = RetainedStore::new();
        assert!(store.store("a", message("1", Some(10))).is_none());
        assert_eq!(store.store("a", message("22", None)).map(|old| old.payload), Some((*b"1").into()));
        assert_eq!(store.expire(100, 10), 0, "the replacement does not expire");
        store.store("b", message("3", Some(50)));
        store.store("c", message("4", Some(51)));
        assert_eq!(store.expire(51, 1), 1);
        assert_eq!((store.count(), store.expire(51, 9)), (2, 1));
        assert!(store.remove("a").is_some() && store.remove("a").is_none());
        assert_eq!((store.count(), store.bytes()), (0, 0));
    }

    #[test]
    fn bounds() {
        let mut store = RetainedStore::new();
        store.store("a", message("1", None));
        assert!(store.would_exceed(1, u64::MAX, "b", 1));
        assert!(!store.would_exceed(1, u64::MAX, "a", 1), "a replacement needs no further place");
        store.store("$SYS/x", message("1", None));
        assert!(!store.would_exceed(2, u64::MAX, "b", 1), "the broker's own take no place");
        store.remove("$SYS/x");
        assert!(store.would_exceed(9, 150, "b", 1));
        assert!(!store.would_exceed(9, 150, "a", 50));
    }

    proptest! {
        #[test]
        fn pages_find_what_the_naive_matcher_finds(
            topics in prop::collection::btree_set(prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just("ab"), Just(""), Just("$x")], 1..4).prop_map(|l| l.join("/")), 0..40),
            filter in prop_oneof![Just("#"), Just("+"), Just("a/#"), Just("a/+"), Just("+/b"), Just("a"), Just("a/b"), Just("+/#"), Just("/#"), Just("$x/#"), Just("ab/+/#")],
            page in 1usize..5,
            visits in 1usize..6,
        ) {
            let mut store = RetainedStore::new();
            for topic in topics.iter().filter(|topic| !topic.is_empty()) {
                store.store(topic, message(topic, None));
            }
            let expected: Vec<String> =
                topics.iter().filter(|t| !t.is_empty() && protocol::topic::matches(filter, t)).cloned().collect();
            let mut found = vec![];
            let mut after: Option<String> = None;
            for _ in 0..200 {
                let mut in_page = 0;
                let end = store.scan(filter, after.as_deref(), 0, visits, |topic, _| {
                    found.push(topic.to_owned());
                    in_page += 1;
                    in_page < page
                });
                match end {
                    ScanEnd::Done => break,
                    ScanEnd::More { after: next } => after = Some(next),
                }
            }
            prop_assert_eq!(found, expected);
        }
    }
}
