//! The rows of the interoperability table: what every client library shows that can do it.

use super::judges::Version;

/// One feature. Scripts name their rows alike.
pub struct Row {
    pub name: &'static str,
    /// Since 5.0; other rows are for all versions.
    pub is_v5_only: bool,
}

impl Row {
    pub fn has(&self, version: Version) -> bool {
        !self.is_v5_only || version == Version::V5
    }
}

const fn all(name: &'static str) -> Row {
    Row { name, is_v5_only: false }
}

const fn v5(name: &'static str) -> Row {
    Row { name, is_v5_only: true }
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
    // No more than the client's window is under way.
    v5("receive_maximum"),
    // A larger message is not sent, the next one is.
    v5("maximum_packet_size"),
    v5("no_local"),
    v5("retain_as_published"),
    // 0, 1 and 2.
    v5("retain_handling"),
    // One copy at the highest QoS with the identifiers of all filters.
    v5("subscription_ids"),
    // And its codes in version 5.
    all("unsubscribe"),
    // Of one second, kept up by the library for two and a half.
    all("keep_alive"),
    v5("assigned_client_id"),
    v5("session_expiry"),
    // To subscribers of all versions.
    all("mixed_versions"),
];
