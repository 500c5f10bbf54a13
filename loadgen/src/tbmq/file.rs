//! The JSON run file.

use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::Path;

#[derive(Debug, thiserror::Error)]
pub enum InvalidFile {
    #[error("cannot read {0}: {1}")]
    Unreadable(String, std::io::Error),
    #[error("{0}: {1}")]
    Malformed(String, serde_json::Error),
    #[error("{0}")]
    Inconsistent(String),
}

/// What a run consists of. Fields that are unknown here are of newer versions of the tool and do not change the load.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RunFile {
    pub publisher_groups: Vec<PublisherGroup>,
    pub subscriber_groups: Vec<SubscriberGroup>,
    #[serde(default)]
    pub dummy_clients: u32,
    pub seconds_to_run: u64,
    #[serde(default)]
    pub additional_seconds_to_wait: u64,
    pub max_msgs_per_publisher_per_second: u32,
    pub publisher_qos_value: u8,
    pub subscriber_qos_value: u8,
    #[serde(default)]
    pub min_payload_size: u32,
    #[serde(default)]
    pub telemetry_keys: Vec<String>,
    #[serde(default = "concurrent_operations")]
    pub max_concurrent_operations: u32,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PublisherGroup {
    pub id: u32,
    pub publishers: u32,
    pub topic_prefix: String,
    #[serde(default)]
    pub client_id_prefix: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SubscriberGroup {
    pub id: u32,
    pub subscribers: u32,
    pub topic_filter: String,
    #[serde(default)]
    pub expected_publisher_groups: Vec<u32>,
    #[serde(default)]
    pub persistent_session_info: Option<PersistentSession>,
    #[serde(default)]
    pub client_id_prefix: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PersistentSession {
    pub client_type: ClientType,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub enum ClientType {
    Device,
    Application,
}

fn concurrent_operations() -> u32 {
    1000
}

impl RunFile {
    pub fn read(path: &Path) -> Result<RunFile, InvalidFile> {
        let name = path.display().to_string();
        let text =
            std::fs::read_to_string(path).map_err(|error| InvalidFile::Unreadable(name.clone(), error))?;
        let file: RunFile =
            serde_json::from_str(&text).map_err(|error| InvalidFile::Malformed(name, error))?;
        file.check()?;
        Ok(file)
    }

    /// Ids are unique, expected groups exist, and there is somebody to publish.
    pub fn check(&self) -> Result<(), InvalidFile> {
        let mut ids = HashSet::new();
        if let Some(twice) = self.publisher_groups.iter().find(|group| !ids.insert(group.id)) {
            return Err(InvalidFile::Inconsistent(format!("two publisher groups have the id {}", twice.id)));
        }
        for group in &self.subscriber_groups {
            if let Some(missing) = group.expected_publisher_groups.iter().find(|id| !ids.contains(id)) {
                let text = format!(
                    "subscriber group {} expects publisher group {missing}, which is not there",
                    group.id
                );
                return Err(InvalidFile::Inconsistent(text));
            }
        }
        if self.publisher_qos_value > 2 || self.subscriber_qos_value > 2 {
            return Err(InvalidFile::Inconsistent("a QoS is 0, 1 or 2".into()));
        }
        if self.publishers() == 0 || self.max_msgs_per_publisher_per_second == 0 {
            return Err(InvalidFile::Inconsistent("nobody publishes".into()));
        }
        Ok(())
    }

    pub fn publishers(&self) -> u64 {
        self.publisher_groups.iter().map(|group| group.publishers as u64).sum()
    }

    /// Messages per second of all publishers together.
    pub fn rate(&self) -> f64 {
        self.publishers() as f64 * self.max_msgs_per_publisher_per_second as f64
    }

    /// Bytes of their payload on the wire: JSON around the Base64 of `key:NN,key:NN`, filled up to the least size.
    pub fn payload_bytes(&self) -> u32 {
        let values = self.telemetry_keys.iter().map(|key| key.len() as u32 + 3).sum::<u32>();
        let commas = (self.telemetry_keys.len() as u32).saturating_sub(1);
        let raw = (values + commas).max(self.min_payload_size);
        const AROUND: u32 = r#"{"createTime":1700000000000,"payload":"","warmUpMsg":false}"#.len() as u32;
        AROUND + raw.div_ceil(3) * 4
    }

    /// Messages that its subscribers are to get for each message of each of the groups that they expect.
    pub fn expected_deliveries(&self, messages_per_publisher: u64) -> u64 {
        let publishers = |id: &u32| {
            let group = self.publisher_groups.iter().find(|group| group.id == *id);
            group.map_or(0, |group| group.publishers as u64)
        };
        let of = |group: &SubscriberGroup| {
            group.subscribers as u64 * group.expected_publisher_groups.iter().map(publishers).sum::<u64>()
        };
        self.subscriber_groups.iter().map(of).sum::<u64>() * messages_per_publisher
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAN_OUT: &str = r#"{"publisherGroups":[{"id":1,"publishers":100,"topicPrefix":"ua/kyiv/","clientIdPrefix":null,"isDebugEnabled":false}],
        "subscriberGroups":[{"id":1,"subscribers":3000,"topicFilter":"ua/kyiv/#","expectedPublisherGroups":[1],
        "persistentSessionInfo":null,"clientIdPrefix":null},
        {"id":2,"subscribers":2,"topicFilter":"ua/+/1","expectedPublisherGroups":[1],
        "persistentSessionInfo":{"clientType":"APPLICATION"}}],
        "dummyClients":0,"secondsToRun":1800,"additionalSecondsToWait":10,"maxMsgsPerPublisherPerSecond":10,
        "publisherQosValue":0,"subscriberQosValue":0,"minPayloadSize":1,"telemetryKeys":["g"],
        "maxConcurrentOperations":1000}"#;

    #[test]
    fn a_file_of_theirs_reads_as_it_is() {
        let file: RunFile = serde_json::from_str(FAN_OUT).unwrap();
        file.check().unwrap();
        assert_eq!((file.publishers(), file.rate()), (100, 1000.0));
        assert_eq!(file.expected_deliveries(10), 3002 * 100 * 10);
        assert!(file.payload_bytes().abs_diff(66) <= 1, "{}", file.payload_bytes());
        let session = file.subscriber_groups[1].persistent_session_info.unwrap();
        assert_eq!(session.client_type, ClientType::Application);
    }

    #[test]
    fn inconsistent_files_are_refused_with_the_reason() {
        let changed = |from: &str, to: &str| {
            let text = FAN_OUT.replace(from, to);
            serde_json::from_str::<RunFile>(&text).unwrap().check().unwrap_err().to_string()
        };
        assert!(
            changed(r#""expectedPublisherGroups":[1]"#, r#""expectedPublisherGroups":[7]"#)
                .contains("group 7")
        );
        assert!(changed(r#""publisherQosValue":0"#, r#""publisherQosValue":3"#).contains("QoS"));
        assert!(changed(r#""publishers":100"#, r#""publishers":0"#).contains("nobody"));
    }
}
