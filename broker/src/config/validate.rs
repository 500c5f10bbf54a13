//! What one option cannot tell by itself: how options fit together, and text with a grammar of its own.

use std::collections::HashSet;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::{Config, Fault, Listener};

impl Config {
    pub(super) fn validate(&self, faults: &mut Vec<Fault>) {
        let mut fault = |key: &str, message: String| {
            faults.push(Fault { origin: self.origin(key), message: format!("`{key}`: {message}") });
        };
        let mut addresses = HashSet::new();
        for listener in &self.listeners {
            let key = |option: &str| format!("listener.{}.{option}", listener.name);
            if !is_listener_name(&listener.name) {
                fault(&key("name"), "expected lower-case letters, digits and `-`".to_owned());
            }
            if listener.address.port() != 0 && !addresses.insert(listener.address) {
                fault(&key("address"), format!("another listener has {} already", listener.address));
            }
            if !listener.is_open_safely() {
                let message = format!(
                    "nothing authenticates clients, and {} can be reached from other machines: set \
                     `listener.{}.allow_anonymous = true` if that is wanted, or listen on a loopback address",
                    listener.address, listener.name
                );
                fault(&key("address"), message);
            }
        }
        if self.limits.output_soft > self.limits.output_hard {
            fault(
                "limits.output_soft",
                format!("is above `limits.output_hard` ({})", self.limits.output_hard),
            );
        }
        if let Err(error) = self.limits.publish_rate() {
            fault("limits.client_publish_rate", error);
        }
        if let Err(error) = EnvFilter::builder().parse(&self.log.level) {
            fault("log.level", format!("expected a level such as info, or info,shard=debug ({error})"));
        }
        let interval = self.sys_topics.interval;
        if !interval.is_zero() && interval < Duration::from_secs(1) {
            fault("sys_topics.interval", "expected 0s, or at least 1s".to_owned());
        }
    }
}

impl Listener {
    /// Clients that nobody knows come from this machine only, or are wanted.
    fn is_open_safely(&self) -> bool {
        self.allow_anonymous || self.address.ip().to_canonical().is_loopback()
    }
}

fn is_listener_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}
