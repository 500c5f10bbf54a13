//! Values by topic filter: which entries match a topic name.
//!
//! Owned by the subscription tree and the route table of one shard. Exact filters stand in a flat hash table, so a topic without
//! wildcard subscribers costs one probe. Filters with wildcards stand in a trie that is walked with an explicit stack.
//! Invariants: a trie node other than the root has a value or a child; each node is visited at most once per match, so the
//! work is bounded by the wildcard filters stored, whatever the topic.

use hashbrown::HashTable;
use memchr::{memchr, memchr2};
use slab::Slab;
use smallvec::SmallVec;

/// Seeded hash of topics and exact filters, the same on every shard of the process. Keyed, because clients choose topics.
#[derive(Clone)]
pub struct TopicHasher(ahash::RandomState);

impl TopicHasher {
    pub fn with_seed(seed: u64) -> Self {
        let key = |n: u64| seed.wrapping_add(n).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29) ^ n;
        Self(ahash::RandomState::with_seeds(key(1), key(2), key(3), key(4)))
    }

    pub fn hash(&self, topic: &str) -> u64 {
        self.0.hash_one(topic)
    }
}

struct ExactEntry<T> {
    hash: u64,
    filter: Box<str>,
    value: T,
}

type NodeId = u32;
const ROOT: NodeId = 0;

struct Node<T> {
    parent: NodeId,
    level: Box<str>,
    /// Hash of (parent, level): the key of this node in `children`.
    key: u64,
    plus: Option<NodeId>,
    literal_count: u32,
    /// Value of the filter that ends at this node.
    value: Option<T>,
    /// Value of this node's path followed by `/#`.
    multi: Option<T>,
}

impl<T> Node<T> {
    fn new(parent: NodeId, level: &str, key: u64) -> Self {
        Self { parent, level: level.into(), key, plus: None, literal_count: 0, value: None, multi: None }
    }

    fn is_unused(&self) -> bool {
        self.value.is_none() && self.multi.is_none() && self.plus.is_none() && self.literal_count == 0
    }
}

pub struct FilterIndex<T> {
    hasher: TopicHasher,
    exact: HashTable<ExactEntry<T>>,
    nodes: Slab<Node<T>>,
    /// Literal children of all nodes in one table, so that a node of a wide level costs no table of its own.
    children: HashTable<NodeId>,
    wildcard_count: usize,
}

/// The filter's path in the trie and whether it ends with `#`. None: the filter has no wildcard.
fn wildcard_path(filter: &str) -> Option<(Option<&str>, bool)> {
    memchr2(b'+', b'#', filter.as_bytes())?;
    if filter == "#" {
        return Some((None, true));
    }
    match filter.strip_suffix("/#") {
        Some(path) => Some((Some(path), true)),
        None => Some((Some(filter), false)),
    }
}

impl<T> FilterIndex<T> {
    pub fn new(hasher: TopicHasher) -> Self {
        let mut nodes = Slab::new();
        nodes.insert(Node::new(ROOT, "", 0));
        Self { hasher, exact: HashTable::new(), nodes, children: HashTable::new(), wildcard_count: 0 }
    }

    fn child_key(&self, parent: NodeId, level: &str) -> u64 {
        self.hasher.hash(level) ^ (u64::from(parent) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn literal_child(&self, parent: NodeId, level: &str) -> Option<NodeId> {
        let is_child = |&id: &NodeId| {
            let node = &self.nodes[id as usize];
            node.parent == parent && *node.level == *level
        };
        self.children.find(self.child_key(parent, level), is_child).copied()
    }

    fn find_node(&self, path: Option<&str>) -> Option<NodeId> {
        let Some(path) = path else { return Some(ROOT) };
        path.split('/').try_fold(ROOT, |id, level| match level {
            "+" => self.nodes[id as usize].plus,
            _ => self.literal_child(id, level),
        })
    }

    fn add_child(&mut self, parent: NodeId, level: &str) -> NodeId {
        let key = self.child_key(parent, level);
        let id = NodeId::try_from(self.nodes.insert(Node::new(parent, level, key)))
            .expect("the subscription limit is far below 2^32");
        if level == "+" {
            self.nodes[parent as usize].plus = Some(id);
        } else {
            let nodes = &self.nodes;
            self.children.insert_unique(key, id, |&id| nodes[id as usize].key);
            self.nodes[parent as usize].literal_count += 1;
        }
        id
    }

    fn prune(&mut self, mut id: NodeId) {
        while id != ROOT && self.nodes[id as usize].is_unused() {
            let node = self.nodes.remove(id as usize);
            let parent = &mut self.nodes[node.parent as usize];
            if *node.level == *"+" {
                parent.plus = None;
            } else {
                parent.literal_count -= 1;
                if let Ok(entry) = self.children.find_entry(node.key, |&child| child == id) {
                    entry.remove();
                }
            }
            id = node.parent;
        }
    }

    pub fn get(&self, filter: &str) -> Option<&T> {
        let Some((path, is_multi)) = wildcard_path(filter) else {
            return self.exact.find(self.hasher.hash(filter), |e| *e.filter == *filter).map(|e| &e.value);
        };
        let node = &self.nodes[self.find_node(path)? as usize];
        if is_multi { node.multi.as_ref() } else { node.value.as_ref() }
    }

    pub fn get_mut(&mut self, filter: &str) -> Option<&mut T> {
        let Some((path, is_multi)) = wildcard_path(filter) else {
            return self
                .exact
                .find_mut(self.hasher.hash(filter), |e| *e.filter == *filter)
                .map(|e| &mut e.value);
        };
        let id = self.find_node(path)?;
        let node = &mut self.nodes[id as usize];
        if is_multi { node.multi.as_mut() } else { node.value.as_mut() }
    }

    pub fn get_or_insert_with(&mut self, filter: &str, make: impl FnOnce() -> T) -> &mut T {
        let Some((path, is_multi)) = wildcard_path(filter) else {
            let hash = self.hasher.hash(filter);
            let entry = self.exact.entry(hash, |e| *e.filter == *filter, |e| e.hash);
            return &mut entry
                .or_insert_with(|| ExactEntry { hash, filter: filter.into(), value: make() })
                .into_mut()
                .value;
        };
        let mut id = ROOT;
        for level in path.into_iter().flat_map(|path| path.split('/')) {
            let child =
                if level == "+" { self.nodes[id as usize].plus } else { self.literal_child(id, level) };
            id = child.unwrap_or_else(|| self.add_child(id, level));
        }
        let node = &mut self.nodes[id as usize];
        let slot = if is_multi { &mut node.multi } else { &mut node.value };
        self.wildcard_count += usize::from(slot.is_none());
        slot.get_or_insert_with(make)
    }

    /// Takes the filter out, with the nodes that only it needed.
    pub fn remove(&mut self, filter: &str) -> Option<T> {
        let Some((path, is_multi)) = wildcard_path(filter) else {
            let entry = self.exact.find_entry(self.hasher.hash(filter), |e| *e.filter == *filter).ok()?;
            return Some(entry.remove().0.value);
        };
        let id = self.find_node(path)?;
        let node = &mut self.nodes[id as usize];
        let value = if is_multi { node.multi.take() } else { node.value.take() }?;
        self.wildcard_count -= 1;
        self.prune(id);
        Some(value)
    }

    /// Visits the value of each filter that matches `topic`; `topic_hash` is the `TopicHasher`'s of the whole topic.
    pub fn for_each_match(&self, topic: &str, topic_hash: u64, mut visit: impl FnMut(&T)) {
        if let Some(entry) = self.exact.find(topic_hash, |e| *e.filter == *topic) {
            visit(&entry.value);
        }
        if self.wildcard_count == 0 {
            return;
        }
        // (node, start of the next level); a start past the end says that every level is consumed.
        let mut stack: SmallVec<[(NodeId, usize); 32]> = SmallVec::new();
        stack.push((ROOT, 0));
        let is_system = topic.starts_with('$');
        while let Some((id, start)) = stack.pop() {
            let node = &self.nodes[id as usize];
            let may_use_wildcard = !(is_system && id == ROOT);
            if let (Some(value), true) = (&node.multi, may_use_wildcard) {
                visit(value);
            }
            if start > topic.len() {
                node.value.iter().for_each(&mut visit);
                continue;
            }
            let rest = &topic[start..];
            let level = &rest[..memchr(b'/', rest.as_bytes()).unwrap_or(rest.len())];
            let next = start + level.len() + 1;
            if let (Some(plus), true) = (node.plus, may_use_wildcard) {
                stack.push((plus, next));
            }
            if node.literal_count > 0 {
                stack.extend(self.literal_child(id, level).map(|child| (child, next)));
            }
        }
    }

    pub fn len(&self) -> usize {
        self.exact.len() + self.wildcard_count
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Trie nodes including the root; 1 when no wildcard filter is stored.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    pub fn wildcard_count(&self) -> usize {
        self.wildcard_count
    }

    fn path_of(&self, mut id: NodeId, last: Option<&str>) -> String {
        let mut levels: Vec<&str> = last.into_iter().collect();
        while id != ROOT {
            let node = &self.nodes[id as usize];
            levels.push(&node.level);
            id = node.parent;
        }
        levels.reverse();
        levels.join("/")
    }

    /// All filters with their values, in no order. For administration and tests: builds each filter's text.
    pub fn iter(&self) -> impl Iterator<Item = (String, &T)> {
        let exact = self.exact.iter().map(|e| (e.filter.to_string(), &e.value));
        let wildcard = self.nodes.iter().flat_map(move |(id, node)| {
            let id = id as NodeId;
            let single = node.value.as_ref().map(|value| (self.path_of(id, None), value));
            let multi = node.multi.as_ref().map(|value| (self.path_of(id, Some("#")), value));
            single.into_iter().chain(multi)
        });
        exact.chain(wildcard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn matching(index: &FilterIndex<String>, topic: &str) -> Vec<String> {
        let mut found = Vec::new();
        index.for_each_match(topic, index.hasher.hash(topic), |value| found.push(value.clone()));
        found.sort();
        found
    }

    fn level(is_filter: bool) -> impl Strategy<Value = &'static str> {
        prop::sample::select(if is_filter { vec!["", "a", "b", "$s", "+"] } else { vec!["", "a", "b", "$s"] })
    }

    fn topic() -> impl Strategy<Value = String> {
        prop::collection::vec(level(false), 1..5)
            .prop_map(|l| l.join("/"))
            .prop_filter("a topic has a character", |t| !t.is_empty())
    }

    fn filter() -> impl Strategy<Value = String> {
        (prop::collection::vec(level(true), 0..5), any::<bool>())
            .prop_map(|(mut levels, is_multi)| {
                if is_multi {
                    levels.push("#");
                }
                levels.join("/")
            })
            .prop_filter("a filter has a character", |f| !f.is_empty())
    }

    #[test]
    fn multi_level_wildcard_matches_the_parent_but_no_system_topic() {
        let mut index = FilterIndex::new(TopicHasher::with_seed(7));
        for filter in ["a/#", "#", "+/x", "$s/#", "a"] {
            index.get_or_insert_with(filter, || filter.to_owned());
        }
        assert_eq!(matching(&index, "a"), ["#", "a", "a/#"]);
        assert_eq!(matching(&index, "$s/x"), ["$s/#"]);
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_matcher(filters in prop::collection::btree_set(filter(), 0..40), topics in prop::collection::vec(topic(), 1..20)) {
            let mut index = FilterIndex::new(TopicHasher::with_seed(1));
            for filter in &filters {
                index.get_or_insert_with(filter, || filter.clone());
            }
            prop_assert_eq!(index.iter().map(|(f, _)| f).collect::<BTreeSet<_>>(), filters.clone());
            for topic in &topics {
                let expected: Vec<_> = filters.iter().filter(|f| protocol::topic::matches(f, topic)).cloned().collect();
                prop_assert_eq!(matching(&index, topic), expected, "topic {:?}", topic);
            }
        }

        #[test]
        fn insert_and_remove_follow_a_map_and_leave_nothing(steps in prop::collection::vec((filter(), any::<bool>(), any::<u32>()), 0..120)) {
            let mut index = FilterIndex::new(TopicHasher::with_seed(2));
            let mut model = BTreeMap::new();
            for (filter, is_insert, value) in steps {
                if is_insert {
                    *index.get_or_insert_with(&filter, || value) = value;
                    model.insert(filter.clone(), value);
                } else {
                    prop_assert_eq!(index.remove(&filter), model.remove(&filter));
                }
                prop_assert_eq!(index.get(&filter), model.get(&filter));
                prop_assert_eq!(index.get_mut(&filter).copied(), model.get(&filter).copied());
                prop_assert_eq!(index.len(), model.len());
            }
            for filter in model.keys() {
                prop_assert!(index.remove(filter).is_some());
            }
            prop_assert!(index.is_empty() && index.children.is_empty());
            prop_assert_eq!((index.node_count(), index.wildcard_count()), (1, 0));
        }
    }
}
