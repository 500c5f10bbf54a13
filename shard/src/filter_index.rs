//! Values by topic filter: exact filters in a flat hash table that is probed with the topic's hash, wildcard filters in
//! a trie. Matching is iterative and allocates nothing for topics of ordinary depth.

use hashbrown::HashTable;
use smallvec::SmallVec;

/// Seeded hash of topics and exact filters, the same on every shard of the process. Clients choose topics, so the seed
/// is random for each process.
#[derive(Clone, Debug)]
pub struct TopicHasher(ahash::RandomState);

impl TopicHasher {
    pub fn with_seed(seed: u64) -> TopicHasher {
        TopicHasher(ahash::RandomState::with_seeds(seed, 0x9E37_79B9_7F4A_7C15, seed.rotate_left(32), 17))
    }

    #[inline]
    pub fn hash(&self, topic: &str) -> u64 {
        self.0.hash_one(topic)
    }
}

#[derive(Debug)]
struct Exact<T> {
    hash: u64,
    filter: Box<str>,
    value: T,
}

const NONE: u32 = u32::MAX;
const ROOT: u32 = 0;
/// Children are searched one by one up to this many, by hash above.
const LINEAR_CHILDREN_MAX: usize = 8;

/// One level of wildcard filters. Children are other nodes by the name of their level; `+` has its own slot.
#[derive(Debug)]
struct Node<T> {
    parent: u32,
    /// Name of the level; empty for the root and `+` nodes.
    level: Box<str>,
    level_hash: u64,
    children: Children,
    plus: u32,
    /// Value of the filter that ends here.
    value: Option<T>,
    /// Value of the filter that ends in `#` below here.
    multi: Option<T>,
}

#[derive(Debug)]
enum Children {
    Few(SmallVec<[u32; 2]>),
    Many(HashTable<u32>),
}

impl Children {
    fn is_empty(&self) -> bool {
        match self {
            Children::Few(list) => list.is_empty(),
            Children::Many(table) => table.is_empty(),
        }
    }
}

/// Values by topic filter. A filter has at most one value.
#[derive(Debug)]
pub struct FilterIndex<T> {
    hasher: TopicHasher,
    exact: HashTable<Exact<T>>,
    nodes: Vec<Option<Node<T>>>,
    free: Vec<u32>,
    wildcards: usize,
}

fn is_wildcard(filter: &str) -> bool {
    memchr(filter, |byte| byte == b'+' || byte == b'#')
}

fn memchr(text: &str, is_wanted: impl Fn(u8) -> bool) -> bool {
    text.bytes().any(is_wanted)
}

impl<T> FilterIndex<T> {
    pub fn new(hasher: TopicHasher) -> FilterIndex<T> {
        FilterIndex { hasher, exact: HashTable::new(), nodes: Vec::new(), free: Vec::new(), wildcards: 0 }
    }

    /// Filters with a value.
    pub fn len(&self) -> usize {
        self.exact.len() + self.wildcards
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn wildcard_count(&self) -> usize {
        self.wildcards
    }

    /// Entries of the table and nodes of the trie (its root aside).
    pub fn node_count(&self) -> usize {
        self.exact.len() + (self.nodes.len() - self.free.len()).saturating_sub(1)
    }

    pub fn get(&self, filter: &str) -> Option<&T> {
        if !is_wildcard(filter) {
            let hash = self.hasher.hash(filter);
            return self.exact.find(hash, |entry| *entry.filter == *filter).map(|entry| &entry.value);
        }
        let (at, is_multi) = self.find(filter)?;
        let node = self.node(at);
        if is_multi { node.multi.as_ref() } else { node.value.as_ref() }
    }

    pub fn get_mut(&mut self, filter: &str) -> Option<&mut T> {
        if !is_wildcard(filter) {
            let hash = self.hasher.hash(filter);
            return self.exact.find_mut(hash, |entry| *entry.filter == *filter).map(|entry| &mut entry.value);
        }
        let (at, is_multi) = self.find(filter)?;
        let node = self.node_mut(at);
        if is_multi { node.multi.as_mut() } else { node.value.as_mut() }
    }

    /// The value of the filter, made if there is none.
    pub fn get_or_insert_with(&mut self, filter: &str, make: impl FnOnce() -> T) -> &mut T {
        if !is_wildcard(filter) {
            let hash = self.hasher.hash(filter);
            let entry = self.exact.entry(hash, |entry| *entry.filter == *filter, |entry| entry.hash);
            return &mut entry
                .or_insert_with(|| Exact { hash, filter: filter.into(), value: make() })
                .into_mut()
                .value;
        }
        let (at, is_multi) = self.find_or_insert(filter);
        let wildcards = &mut self.wildcards;
        let node = self.nodes[at as usize].as_mut().expect("nodes in use are present");
        let slot = if is_multi { &mut node.multi } else { &mut node.value };
        slot.get_or_insert_with(|| {
            *wildcards += 1;
            make()
        })
    }

    /// Removes the filter and the nodes that only it needed.
    pub fn remove(&mut self, filter: &str) -> Option<T> {
        if !is_wildcard(filter) {
            let hash = self.hasher.hash(filter);
            let entry = self.exact.find_entry(hash, |entry| *entry.filter == *filter).ok()?;
            let (removed, _) = entry.remove();
            if self.exact.is_empty() {
                self.exact = HashTable::new();
            }
            return Some(removed.value);
        }
        let (at, is_multi) = self.find(filter)?;
        let node = self.node_mut(at);
        let removed = if is_multi { node.multi.take() } else { node.value.take() }?;
        self.wildcards -= 1;
        self.prune(at);
        Some(removed)
    }

    /// Calls `visit` for each filter that matches the topic name; `topic_hash` is the hasher's. Wildcards in the first
    /// level do not match names that begin with `$` [MQTT-4.7.2-1].
    #[inline]
    pub fn for_each_match(&self, topic: &str, topic_hash: u64, mut visit: impl FnMut(&T)) {
        if let Some(entry) = self.exact.find(topic_hash, |entry| *entry.filter == *topic) {
            visit(&entry.value);
        }
        if self.wildcards > 0 {
            self.for_each_wildcard_match(topic, visit);
        }
    }

    fn for_each_wildcard_match(&self, topic: &str, mut visit: impl FnMut(&T)) {
        let is_reserved = topic.starts_with('$');
        // (node, where its children's level begins in the topic; beyond the end: no level is left)
        let mut stack: SmallVec<[(u32, usize); 32]> = SmallVec::new();
        stack.push((ROOT, 0));
        while let Some((at, begin)) = stack.pop() {
            let node = self.node(at);
            let skips_wildcards = is_reserved && at == ROOT;
            if let Some(multi) = node.multi.as_ref().filter(|_| !skips_wildcards) {
                visit(multi);
            }
            if begin > topic.len() {
                if let Some(value) = &node.value {
                    visit(value);
                }
                continue;
            }
            let level = match topic[begin..].find('/') {
                Some(len) => &topic[begin..begin + len],
                None => &topic[begin..],
            };
            let next = begin + level.len() + 1;
            if node.plus != NONE && !skips_wildcards {
                stack.push((node.plus, next));
            }
            if let Some(child) = self.child(node, level) {
                stack.push((child, next));
            }
        }
    }

    /// All filters with their values, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (String, &T)> {
        let exact = self.exact.iter().map(|entry| (entry.filter.to_string(), &entry.value));
        let wildcards =
            self.nodes.iter().enumerate().filter_map(|(at, node)| Some((at as u32, node.as_ref()?)));
        let wildcards = wildcards.flat_map(|(at, node)| {
            let ends = node.value.as_ref().map(|value| (self.filter_of(at, None), value));
            let multi = node.multi.as_ref().map(|value| (self.filter_of(at, Some("#")), value));
            ends.into_iter().chain(multi)
        });
        exact.chain(wildcards)
    }

    fn filter_of(&self, mut at: u32, last: Option<&str>) -> String {
        let mut levels: Vec<&str> = last.into_iter().collect();
        while at != ROOT {
            let node = self.node(at);
            let is_plus = self.node(node.parent).plus == at;
            levels.push(if is_plus { "+" } else { &node.level });
            at = node.parent;
        }
        levels.reverse();
        levels.join("/")
    }

    #[inline]
    fn node(&self, at: u32) -> &Node<T> {
        self.nodes[at as usize].as_ref().expect("nodes in use are present")
    }

    fn node_mut(&mut self, at: u32) -> &mut Node<T> {
        self.nodes[at as usize].as_mut().expect("nodes in use are present")
    }

    #[inline]
    fn child(&self, node: &Node<T>, level: &str) -> Option<u32> {
        match &node.children {
            Children::Few(list) => list.iter().copied().find(|child| *self.node(*child).level == *level),
            Children::Many(table) => {
                let hash = self.hasher.hash(level);
                table.find(hash, |child| *self.node(*child).level == *level).copied()
            }
        }
    }

    /// The node of the filter, and whether its `#` is meant.
    fn find(&self, filter: &str) -> Option<(u32, bool)> {
        if self.nodes.is_empty() {
            return None;
        }
        let mut at = ROOT;
        for level in filter.split('/') {
            match level {
                "#" => return Some((at, true)),
                "+" => at = Some(self.node(at).plus).filter(|plus| *plus != NONE)?,
                _ => at = self.child(self.node(at), level)?,
            }
        }
        Some((at, false))
    }

    fn find_or_insert(&mut self, filter: &str) -> (u32, bool) {
        if self.nodes.is_empty() {
            self.insert_node(NONE, "");
        }
        let mut at = ROOT;
        for level in filter.split('/') {
            at = match level {
                "#" => return (at, true),
                "+" => match self.node(at).plus {
                    NONE => {
                        let plus = self.insert_node(at, "");
                        self.node_mut(at).plus = plus;
                        plus
                    }
                    plus => plus,
                },
                _ => match self.child(self.node(at), level) {
                    Some(child) => child,
                    None => self.insert_child(at, level),
                },
            };
        }
        (at, false)
    }

    fn insert_node(&mut self, parent: u32, level: &str) -> u32 {
        let node = Node {
            parent,
            level: level.into(),
            level_hash: self.hasher.hash(level),
            children: Children::Few(SmallVec::new()),
            plus: NONE,
            value: None,
            multi: None,
        };
        match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = Some(node);
                at
            }
            None => {
                self.nodes.push(Some(node));
                (self.nodes.len() - 1) as u32
            }
        }
    }

    fn insert_child(&mut self, at: u32, level: &str) -> u32 {
        let child = self.insert_node(at, level);
        let FilterIndex { nodes, .. } = self;
        let level_hash = |nodes: &[Option<Node<T>>], child: u32| {
            nodes[child as usize].as_ref().expect("nodes in use are present").level_hash
        };
        let hash = level_hash(nodes, child);
        let mut children = std::mem::replace(
            &mut nodes[at as usize].as_mut().expect("nodes in use are present").children,
            Children::Few(SmallVec::new()),
        );
        match &mut children {
            Children::Few(list) if list.len() < LINEAR_CHILDREN_MAX => list.push(child),
            Children::Few(list) => {
                let mut table = HashTable::with_capacity(2 * LINEAR_CHILDREN_MAX);
                for other in list.iter().copied().chain([child]) {
                    table.insert_unique(level_hash(nodes, other), other, |other| level_hash(nodes, *other));
                }
                children = Children::Many(table);
            }
            Children::Many(table) => {
                table.insert_unique(hash, child, |other| level_hash(nodes, *other));
            }
        }
        self.node_mut(at).children = children;
        child
    }

    /// Removes nodes without value and children, upwards.
    fn prune(&mut self, mut at: u32) {
        while at != ROOT {
            let node = self.node(at);
            if node.value.is_some() || node.multi.is_some() || node.plus != NONE || !node.children.is_empty()
            {
                return;
            }
            let (parent, hash) = (node.parent, node.level_hash);
            self.nodes[at as usize] = None;
            self.free.push(at);
            let parent_node = self.node_mut(parent);
            if parent_node.plus == at {
                parent_node.plus = NONE;
            } else {
                match &mut parent_node.children {
                    Children::Few(list) => list.retain(|child| *child != at),
                    Children::Many(table) => {
                        if let Ok(entry) = table.find_entry(hash, |child| *child == at) {
                            entry.remove();
                        }
                    }
                }
            }
            at = parent;
        }
        let root = self.node(ROOT);
        if root.multi.is_none() && root.plus == NONE && root.children.is_empty() {
            (self.nodes, self.free) = (Vec::new(), Vec::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn index() -> FilterIndex<String> {
        FilterIndex::new(TopicHasher::with_seed(1))
    }

    fn matched(index: &FilterIndex<String>, topic: &str) -> Vec<String> {
        let mut found = vec![];
        index.for_each_match(topic, index.hasher.hash(topic), |value| found.push(value.clone()));
        found.sort();
        found
    }

    fn filters() -> impl Strategy<Value = String> {
        let level = prop_oneof![Just("a"), Just("b"), Just("+"), Just(""), Just("$s")];
        (prop::collection::vec(level, 1..5), any::<bool>()).prop_map(|(levels, is_multi)| {
            let mut filter = levels.join("/");
            if is_multi {
                filter.push_str("/#");
            }
            if filter.is_empty() { "#".into() } else { filter }
        })
    }

    fn topics() -> impl Strategy<Value = String> {
        let level = prop_oneof![Just("a"), Just("b"), Just("c"), Just(""), Just("$s")];
        prop::collection::vec(level, 1..6)
            .prop_map(|levels| levels.join("/"))
            .prop_filter("empty", |t| !t.is_empty())
    }

    proptest! {
        #[test]
        fn matches_like_the_naive_matcher(filters in prop::collection::vec(filters(), 0..40), topics in prop::collection::vec(topics(), 1..20)) {
            let mut index = index();
            let mut unique = filters.clone();
            unique.sort();
            unique.dedup();
            for filter in &filters {
                index.get_or_insert_with(filter, || filter.clone());
            }
            prop_assert_eq!(index.len(), unique.len());
            let mut listed: Vec<String> = index.iter().map(|(filter, value)| { assert_eq!(&filter, value); filter }).collect();
            listed.sort();
            prop_assert_eq!(&listed, &unique);
            for topic in &topics {
                let expected: Vec<String> =
                    unique.iter().filter(|filter| protocol::topic::matches(filter, topic)).cloned().collect();
                prop_assert_eq!(matched(&index, topic), expected, "{}", topic);
            }
            for filter in &unique {
                prop_assert_eq!(index.get(filter), Some(filter));
                prop_assert_eq!(index.remove(filter), Some(filter.clone()));
                prop_assert_eq!(index.remove(filter), None);
            }
            prop_assert_eq!(index.node_count(), 0);
        }
    }

    #[test]
    fn many_children_of_one_node() {
        let mut index = index();
        for i in 0..1000 {
            let filter = format!("a/{i}/+");
            index.get_or_insert_with(&filter, || filter.clone());
        }
        assert_eq!(matched(&index, "a/777/x"), ["a/777/+"]);
        for i in 0..1000 {
            assert!(index.remove(&format!("a/{i}/+")).is_some());
        }
        assert_eq!((index.node_count(), index.wildcard_count()), (0, 0));
    }
}
