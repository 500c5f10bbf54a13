//! The rows of the interoperability table: what every client library shows that can do it.

use super::judges::{ALL, Version};

/// One feature. Scripts name their rows alike.
pub struct Row {
    pub name: &'static str,
    versions: &'static [Version],
}

impl Row {
    pub fn has(&self, version: Version) -> bool {
        self.versions.contains(&version)
    }
}

const fn all(name: &'static str) -> Row {
    Row { name, versions: ALL }
}

const fn v5(name: &'static str) -> Row {
    Row { name, versions: &[Version::V5] }
}

const fn v311(name: &'static str) -> Row {
    Row { name, versions: &[Version::V311] }
}

pub const TABLE: &[Row] = &[
    // Published at the first QoS, subscribed at the second: 20 messages in order at the lower one.
    all("qos_0_0"),
    all("qos_0_1"),
    all("qos_0_2"),
    all("qos_1_0"),
    all("qos_1_1"),
    all("qos_1_2"),
    all("qos_2_0"),
    all("qos_2_1"),
    all("qos_2_2"),
    // `+` and `#`, also on empty levels and on the parent.
    all("wildcards"),
    // Not by a wildcard in the place of the `$`.
    all("dollar_topics"),
    // One copy for several filters that match, at the highest QoS.
    all("overlapping"),
    // The last one to a late subscriber with RETAIN, without RETAIN to a live one.
    all("retained"),
    all("retained_clear"),
    // 200 by `#`.
    all("retained_wildcard"),
    // After a cut, at each QoS, retained.
    all("will"),
    all("no_will_after_disconnect"),
    // After its delay, with its properties; never if the client is back before.
    v5("will_delay"),
    // Three members: each message once, evenly.
    all("shared"),
    // What came while the client was away, in order, without QoS 0.
    all("resume_queued"),
    all("clean_start_forgets"),
    // What was not acknowledged comes again with the same ids and DUP.
    all("resume_inflight"),
    all("takeover"),
    // 900 KiB at each QoS.
    all("large_payload"),
    // In order, with repetitions.
    v5("user_properties"),
    // Response topic, correlation data, content type, payload format, expiry.
    v5("request_response"),
    // Expired while waiting, and the remaining interval.
    v5("message_expiry"),
    // From the client: set, used, set anew.
    v5("topic_alias"),
    // To the client: no more of them than it allows.
    v5("topic_alias_received"),
    // No more than the client's window is under way.
    v5("receive_maximum"),
    // More at once than the server's window, by a client that keeps to it.
    v5("receive_maximum_of_server"),
    // A larger message is not sent, the next one is.
    v5("maximum_packet_size"),
    // A larger one ends the connection with 0x95.
    v5("maximum_packet_size_of_server"),
    v5("no_local"),
    v5("retain_as_published"),
    // 0, 1 and 2.
    v5("retain_handling"),
    // One copy at the highest QoS with the identifiers of all filters.
    v5("subscription_ids"),
    // And its codes in version 5.
    all("unsubscribe"),
    // Of two seconds, kept up by the library for four and a half.
    all("keep_alive"),
    // A silent client is gone after one and a half intervals, and its will is published.
    all("keep_alive_expires"),
    // Ten minutes where the client wanted more.
    v5("keep_alive_of_server"),
    // Two at once with a clean session.
    v311("empty_client_id"),
    v5("assigned_client_id"),
    // It ends when its time is over, which its delayed will tells.
    v5("session_expiry"),
    // To subscribers of all versions.
    all("mixed_versions"),
];
