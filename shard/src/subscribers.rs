//! Who subscribed a filter on this shard: the value of the subscription tree's nodes.

use protocol::{QoS, SubscriptionOptions};
use smallvec::SmallVec;

/// One session's subscription as the data path needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subscriber {
    pub session: u32,
    /// Subscription Identifier, 0 without.
    pub identifier: u32,
    pub qos: QoS,
    pub no_local: bool,
    pub retain_as_published: bool,
}

impl Subscriber {
    pub fn new(session: u32, identifier: u32, options: SubscriptionOptions) -> Subscriber {
        Subscriber {
            session,
            identifier,
            qos: options.qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
        }
    }
}

/// Positions are indexed from this many subscribers on.
const INDEXED_FROM: usize = 32;

/// The subscribers of one filter, each session once.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    /// Most filters have one, which needs no place of its own.
    list: SmallVec<[Subscriber; 1]>,
    /// session -> position in `list`, for long lists only.
    positions: Option<Box<hashbrown::HashMap<u32, u32, ahash::RandomState>>>,
}

impl Subscribers {
    #[inline]
    pub fn as_slice(&self) -> &[Subscriber] {
        &self.list
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn position(&self, session: u32) -> Option<usize> {
        match &self.positions {
            Some(positions) => positions.get(&session).map(|at| *at as usize),
            None => self.list.iter().position(|s| s.session == session),
        }
    }

    /// Adds the subscriber or replaces the one of the same session.
    pub fn set(&mut self, subscriber: Subscriber) {
        if let Some(at) = self.position(subscriber.session) {
            self.list[at] = subscriber;
            return;
        }
        self.list.push(subscriber);
        if let Some(positions) = &mut self.positions {
            positions.insert(subscriber.session, (self.list.len() - 1) as u32);
        } else if self.list.len() >= INDEXED_FROM {
            // The keys are slots that we number ourselves, so a fixed seed is safe.
            let mut positions = hashbrown::HashMap::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4));
            positions.extend(self.list.iter().enumerate().map(|(at, s)| (s.session, at as u32)));
            self.positions = Some(Box::new(positions));
        }
    }

    /// Removes the session's subscriber; false if it had none.
    pub fn remove(&mut self, session: u32) -> bool {
        let Some(at) = self.position(session) else { return false };
        self.list.swap_remove(at);
        if let Some(positions) = &mut self.positions {
            positions.remove(&session);
            if let Some(moved) = self.list.get(at) {
                positions.insert(moved.session, at as u32);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriber(session: u32, identifier: u32) -> Subscriber {
        Subscriber { session, identifier, qos: QoS::AtMostOnce, no_local: false, retain_as_published: false }
    }

    #[test]
    fn set_replace_remove_across_the_index_threshold() {
        let mut subscribers = Subscribers::default();
        for session in 0..100 {
            subscribers.set(subscriber(session, 0));
        }
        subscribers.set(subscriber(50, 9));
        assert_eq!(subscribers.as_slice().len(), 100);
        assert_eq!(subscribers.as_slice()[50].identifier, 9);
        for session in (0..100).step_by(2) {
            assert!(subscribers.remove(session));
            assert!(!subscribers.remove(session));
        }
        let mut left: Vec<u32> = subscribers.as_slice().iter().map(|s| s.session).collect();
        left.sort();
        assert_eq!(left, (1..100).step_by(2).collect::<Vec<_>>());
        for session in left {
            assert!(subscribers.remove(session));
        }
        assert!(subscribers.is_empty());
    }
}
