//! Deliberate faults, for tests of what becomes of clients when the code of a shard is wrong. Debug builds only.

/// Where a shard panics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Serving a PUBLISH to this topic: in the middle of the core.
    PanicOnTopic(Box<str>),
    /// Decoding bytes that contain this text: before any state is touched.
    PanicInDecoder(Box<str>),
}

impl Fault {
    /// `panic-on-topic=TOPIC` or `panic-in-decoder=TEXT`.
    pub fn parse(text: &str) -> Option<Fault> {
        match text.split_once('=')? {
            ("panic-on-topic", topic) => Some(Fault::PanicOnTopic(topic.into())),
            ("panic-in-decoder", text) => Some(Fault::PanicInDecoder(text.into())),
            _ => None,
        }
    }

    pub(crate) fn on_publish(&self, topic: &str) {
        if let Fault::PanicOnTopic(faulty) = self {
            assert!(topic != &**faulty, "a fault was asked for: {topic}");
        }
    }

    pub(crate) fn on_decode(&self, bytes: &[u8]) {
        if let Fault::PanicInDecoder(text) = self {
            let is_met = bytes.windows(text.len().max(1)).any(|window| window == text.as_bytes());
            assert!(!is_met, "a fault was asked for: {text}");
        }
    }
}
