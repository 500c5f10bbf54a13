//! Who gets a topic. Filters are compared with a topic once; from then on the answer is looked up, and a publisher that
//! stays with its topic does not even look it up. Any change of the subscriptions forgets all answers, so this is meant
//! for clients that subscribe first and publish then.

use ahash::{HashMap, HashMapExt};

/// Topics whose receivers are remembered; one more forgets them all.
const TOPICS_MAX: usize = 1 << 20;

/// A subscriber, by the slot of its connection, and the QoS that it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receiver {
    pub connection: u32,
    pub qos: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Receiver(Receiver),
    Group(u32),
}

#[derive(Default)]
struct Group {
    members: Vec<Receiver>,
    next: usize,
}

struct Route {
    topic: Box<[u8]>,
    targets: Vec<Target>,
}

/// A remembered answer; any value is allowed, a wrong one only costs a look-up.
#[derive(Clone, Copy, Debug, Default)]
pub struct RouteHint(u32);

#[derive(Default)]
pub struct Routes {
    exact: HashMap<Box<[u8]>, Vec<Target>>,
    wildcards: Vec<(Box<[u8]>, Target)>,
    groups: Vec<Group>,
    group_of: HashMap<Box<[u8]>, u32>,
    routes: Vec<Route>,
    route_of: HashMap<Box<[u8]>, u32>,
}

impl Routes {
    /// A second subscription of a connection to the same filter replaces the first.
    pub fn subscribe(&mut self, filter: &[u8], receiver: Receiver) {
        self.unsubscribe(filter, receiver.connection);
        match split_shared(filter) {
            None => self.add(filter, Target::Receiver(receiver)),
            Some(shared) => match self.group_of.get(filter) {
                Some(&group) => self.groups[group as usize].members.push(receiver),
                None => {
                    let group = self.groups.len() as u32;
                    self.groups.push(Group { members: vec![receiver], next: 0 });
                    self.group_of.insert(filter.into(), group);
                    self.add(shared, Target::Group(group));
                }
            },
        }
    }

    fn add(&mut self, filter: &[u8], target: Target) {
        self.forget();
        match filter.iter().any(|byte| b"+#".contains(byte)) {
            true => self.wildcards.push((filter.into(), target)),
            false => self.exact.entry(filter.into()).or_default().push(target),
        }
    }

    pub fn unsubscribe(&mut self, filter: &[u8], connection: u32) {
        let is_other = |target: &Target| !matches!(target, Target::Receiver(receiver) if receiver.connection == connection);
        if let Some(&group) = self.group_of.get(filter) {
            self.groups[group as usize].members.retain(|member| member.connection != connection);
        } else if let Some(targets) = self.exact.get_mut(filter) {
            let before = targets.len();
            targets.retain(is_other);
            let (is_empty, is_changed) = (targets.is_empty(), targets.len() != before);
            if is_empty {
                self.exact.remove(filter);
            }
            if is_changed {
                self.forget();
            }
        } else if let Some(at) =
            self.wildcards.iter().position(|(held, target)| &**held == filter && !is_other(target))
        {
            self.wildcards.swap_remove(at);
            self.forget();
        }
    }

    fn forget(&mut self) {
        if !self.routes.is_empty() {
            self.routes.clear();
            self.route_of = HashMap::new();
        }
    }

    /// The route of a topic. A hint that was returned for the topic before makes it a comparison.
    #[inline]
    pub fn find(&mut self, topic: &[u8], hint: RouteHint) -> RouteHint {
        match self.routes.get(hint.0 as usize) {
            Some(route) if *route.topic == *topic => hint,
            _ => self.look_up(topic),
        }
    }

    fn look_up(&mut self, topic: &[u8]) -> RouteHint {
        if let Some(&index) = self.route_of.get(topic) {
            return RouteHint(index);
        }
        if self.routes.len() >= TOPICS_MAX {
            self.forget();
        }
        let mut targets = self.exact.get(topic).cloned().unwrap_or_default();
        targets.extend(
            self.wildcards.iter().filter(|(filter, _)| matches(filter, topic)).map(|(_, target)| *target),
        );
        let index = self.routes.len() as u32;
        self.routes.push(Route { topic: topic.into(), targets });
        self.route_of.insert(topic.into(), index);
        RouteHint(index)
    }

    /// How many targets the route has; each is a receiver or a group.
    #[inline]
    pub fn target_count(&self, route: RouteHint) -> usize {
        self.routes[route.0 as usize].targets.len()
    }

    /// The receiver that is next at a target; None for a group without members.
    #[inline]
    pub fn receiver(&mut self, route: RouteHint, target: usize) -> Option<Receiver> {
        match self.routes[route.0 as usize].targets[target] {
            Target::Receiver(receiver) => Some(receiver),
            Target::Group(group) => {
                let group = &mut self.groups[group as usize];
                group.next = if group.next + 1 < group.members.len() { group.next + 1 } else { 0 };
                group.members.get(group.next).copied()
            }
        }
    }
}

/// The filter within `$share/group/filter`.
fn split_shared(filter: &[u8]) -> Option<&[u8]> {
    let rest = filter.strip_prefix(b"$share/")?;
    let group_length = rest.iter().position(|&byte| byte == b'/')?;
    Some(&rest[group_length + 1..])
}

fn matches(filter: &[u8], topic: &[u8]) -> bool {
    let is_slash = |byte: &u8| *byte == b'/';
    let mut levels = topic.split(is_slash);
    for wanted in filter.split(is_slash) {
        if wanted == b"#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == b"+" || wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receivers(routes: &mut Routes, topic: &str) -> Vec<u32> {
        let route = routes.find(topic.as_bytes(), RouteHint::default());
        let mut found: Vec<_> = (0..routes.target_count(route))
            .filter_map(|target| routes.receiver(route, target))
            .map(|receiver| receiver.connection)
            .collect();
        found.sort_unstable();
        found
    }

    fn subscribe(routes: &mut Routes, filter: &str, connection: u32) {
        routes.subscribe(filter.as_bytes(), Receiver { connection, qos: 0 });
    }

    #[test]
    fn exact_and_wildcard_filters() {
        let mut routes = Routes::default();
        for (connection, filter) in ["a/b", "a/+", "a/#", "#", "a/b/c", "+/b"].into_iter().enumerate() {
            subscribe(&mut routes, filter, connection as u32);
        }
        assert_eq!(receivers(&mut routes, "a/b"), [0, 1, 2, 3, 5]);
        assert_eq!(receivers(&mut routes, "a"), [2, 3]);
        assert_eq!(receivers(&mut routes, "a/b/c"), [2, 3, 4]);
        routes.unsubscribe(b"a/#", 2);
        routes.unsubscribe(b"a/b", 0);
        assert_eq!(receivers(&mut routes, "a/b"), [1, 3, 5]);
    }

    #[test]
    fn subscribing_again_does_not_double() {
        let mut routes = Routes::default();
        for _ in 0..2 {
            subscribe(&mut routes, "t", 1);
            subscribe(&mut routes, "$share/g/t", 2);
        }
        assert_eq!(receivers(&mut routes, "t"), [1, 2]);
    }

    #[test]
    fn a_group_takes_turns() {
        let mut routes = Routes::default();
        for connection in 0..3 {
            subscribe(&mut routes, "$share/g/t/#", connection);
        }
        let mut taken: Vec<_> = (0..6).flat_map(|_| receivers(&mut routes, "t/1")).collect();
        taken.sort_unstable();
        assert_eq!(taken, [0, 0, 1, 1, 2, 2]);
        for connection in 0..3 {
            routes.unsubscribe(b"$share/g/t/#", connection);
        }
        assert!(receivers(&mut routes, "t/1").is_empty());
    }

    #[test]
    fn a_hint_of_another_topic_is_not_believed() {
        let mut routes = Routes::default();
        subscribe(&mut routes, "a", 1);
        subscribe(&mut routes, "b", 2);
        let hint = routes.find(b"a", RouteHint::default());
        let route = routes.find(b"b", hint);
        assert_eq!(routes.receiver(route, 0).map(|receiver| receiver.connection), Some(2));
    }
}
