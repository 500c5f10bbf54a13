//! A random script: what a few clients do, one step after the other. The same seed gives the same script.

use protocol::topic::matches;
use protocol::{QoS, RetainHandling, SubscriptionOptions, Version};

/// Clients of a script.
pub const CLIENTS: usize = 4;
const STEPS: usize = 40;

#[derive(Clone, Debug)]
pub enum Step {
    /// Also while the client is connected: then it takes its session over.
    Connect {
        clean_start: bool,
        receive_maximum: u16,
        will: Option<WillOptions>,
    },
    Subscribe {
        filters: Vec<(String, SubscriptionOptions)>,
        identifier: u32,
    },
    Unsubscribe {
        filters: Vec<String>,
    },
    /// Several messages in one segment.
    Publish {
        messages: Vec<Message>,
    },
    /// From now on it acknowledges nothing.
    HoldAcks,
    Disconnect {
        with_will: bool,
    },
    Cut,
    /// PUBREL, PUBREC or another acknowledgement that belongs to nothing.
    StrayAck {
        kind: u8,
    },
}

#[derive(Clone, Debug)]
pub struct WillOptions {
    pub topic: String,
    pub qos: QoS,
    pub retain: bool,
}

#[derive(Clone, Debug)]
pub struct Message {
    pub topic: String,
    pub payload: String,
    pub qos: QoS,
    pub retain: bool,
    /// Content type, response topic and user properties (5).
    pub has_properties: bool,
    /// Message Expiry Interval, far away (5).
    pub has_expiry: bool,
}

pub struct Script {
    pub versions: [Version; CLIENTS],
    /// The client and what it does.
    pub steps: Vec<(usize, Step)>,
}

/// Xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    fn qos(&mut self) -> QoS {
        QoS::from_u8(self.below(3) as u8).expect("below 3")
    }
}

const TOPICS: &[&str] = &["a", "a/b", "a/c", "a/b/c", "b", "/b", "b/", "a//c"];
const FILTERS: &[&str] =
    &["a", "a/b", "a/+", "+/b", "#", "a/#", "+", "a/b/#", "+/+/c", "b", "/b", "b/", "a//c", "+/#"];

impl Script {
    /// Topics and filters are below the level `root`.
    pub fn new(seed: u64, root: &str) -> Script {
        let mut random = Random((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..4 {
            random.below(2);
        }
        let versions =
            std::array::from_fn(|_| *random.pick(&[Version::V31, Version::V311, Version::V5, Version::V5]));
        // With a small window it shows in which order messages come. QoS 0 stays behind retained messages that wait, and
        // mosquitto passes QoS 2 on at PUBREL: so then there are no retained messages, and one message in a step.
        let has_windows = random.one_in(2);
        let mut steps: Vec<(usize, Step)> = vec![];
        let mut number = 0;
        let mut has_will = [false; CLIENTS];
        let mut filters: [Vec<&str>; CLIENTS] = Default::default();
        for turn in 0..STEPS {
            let client = if turn < CLIENTS { turn } else { random.below(CLIENTS as u64) as usize };
            let step = match if turn < CLIENTS { 0 } else { random.below(40) } {
                0..=3 => connect(&mut random, root, has_windows),
                4..=13 => subscribe(&mut random, root, &mut filters[client]),
                14..=15 => Step::Unsubscribe {
                    filters: (0..=random.below(2))
                        .map(|_| format!("{root}/{}", random.pick(FILTERS)))
                        .collect(),
                },
                16..=34 => {
                    let count = if has_windows { 1 } else { 1 + random.below(3) };
                    // Not QoS 2 among others: mosquitto passes it on at PUBREL, behind those that follow it.
                    let qos = if random.one_in(3) { Some(QoS::ExactlyOnce) } else { None };
                    let message = |_| {
                        let qos = qos.unwrap_or_else(|| *random.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce]));
                        message(&mut random, root, &mut number, qos, !has_windows)
                    };
                    Step::Publish { messages: (0..count).map(message).collect() }
                }
                35 => Step::HoldAcks,
                36 => Step::Disconnect { with_will: random.one_in(2) },
                37..=38 => Step::Cut,
                _ => Step::StrayAck { kind: random.below(4) as u8 },
            };
            if let Step::Connect { will, clean_start, .. } = &step {
                if *clean_start {
                    filters[client].clear();
                }
                // mosquitto forgets the will of a connection that is taken over: so that is not tried.
                if std::mem::replace(&mut has_will[client], will.is_some()) {
                    steps.push((client, Step::Cut));
                }
            }
            steps.push((client, step));
        }
        Script { versions, steps }
    }
}

fn connect(random: &mut Random, root: &str, has_windows: bool) -> Step {
    let will = random.one_in(3).then(|| WillOptions {
        topic: format!("{root}/{}", random.pick(TOPICS)),
        qos: random.qos(),
        retain: !has_windows && random.one_in(3),
    });
    let receive_maximum = if has_windows && random.one_in(3) { 1 + random.below(3) as u16 } else { 0 };
    Step::Connect { clean_start: random.one_in(3), receive_maximum, will }
}

/// `known` are the filters that the client may have. Overlapping ones are not tried: mosquitto sends a copy for each to
/// version 5, and one with the options of any to 3.x.
fn subscribe(random: &mut Random, root: &str, known: &mut Vec<&'static str>) -> Step {
    let identifier = if random.one_in(3) { 1 + random.below(300) as u32 } else { 0 };
    let mut filters = vec![];
    for _ in 0..=random.below(2) {
        let filter = *random.pick(FILTERS);
        let overlaps =
            |other: &&str| *other != filter && TOPICS.iter().any(|t| matches(other, t) && matches(filter, t));
        let options = options(random, filter);
        if !known.iter().any(overlaps) {
            known.push(filter);
            filters.push((format!("{root}/{filter}"), options));
        }
    }
    if filters.is_empty() {
        // The same one again, with other options.
        let filter = *random.pick(known);
        filters.push((format!("{root}/{filter}"), options(random, filter)));
    }
    // The same filter twice in one packet is not tried either (docs/mosquitto-differences.md).
    let mut seen = std::collections::HashSet::new();
    filters.retain(|(filter, _)| seen.insert(filter.clone()));
    Step::Subscribe { filters, identifier }
}

/// mosquitto keeps No Local and Retain As Published of the first subscription to a filter, so they follow from it. And it
/// sends a client's own retained messages in spite of No Local, so none are asked for.
fn options(random: &mut Random, filter: &str) -> SubscriptionOptions {
    let no_local = filter.len() % 5 == 3;
    SubscriptionOptions {
        qos: random.qos(),
        no_local,
        retain_as_published: filter.len() % 3 == 1,
        retain_handling: match random.below(4) {
            _ if no_local => RetainHandling::DoNotSend,
            0 => RetainHandling::SendIfNew,
            1 => RetainHandling::DoNotSend,
            _ => RetainHandling::SendAlways,
        },
    }
}

fn message(random: &mut Random, root: &str, number: &mut u32, qos: QoS, may_retain: bool) -> Message {
    *number += 1;
    let retain = may_retain && random.one_in(4);
    Message {
        topic: format!("{root}/{}", random.pick(TOPICS)),
        payload: if retain && random.one_in(4) { String::new() } else { format!("m{number}") },
        qos,
        retain,
        has_properties: random.one_in(3),
        has_expiry: random.one_in(5),
    }
}
