//! The environment variables. What only configures their process (ports of its HTTP server, JVM threads) is ignored.

use super::file::{ClientType, PersistentSession, PublisherGroup, RunFile, SubscriberGroup};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidVariable {
    #[error("{name}={value} is not valid")]
    Value { name: &'static str, value: String },
    #[error("{name} is needed, because TEST_RUN_PARALLEL_TESTS_COUNT is {count}")]
    Missing { name: &'static str, count: u16 },
    #[error("{name}={value} is not supported: {why}")]
    Unsupported { name: &'static str, value: String, why: &'static str },
}

/// What the variables say; None where one is not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    pub hosts: Option<Vec<String>>,
    /// Taken in turn.
    pub ports: Vec<u16>,
    pub keep_alive_secs: Option<u16>,
    pub sources: Option<String>,
    pub file: Option<PathBuf>,
    /// Topics of a group are numbered from 0 to this, and then from 0 again.
    pub topic_index_max: Option<u32>,
    /// One of several processes that carry out a run together.
    pub part: Option<Part>,
    /// What runs without a file.
    pub default_file: DefaultFile,
}

/// Which of several processes this is, and where the first one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub count: u16,
    pub number: u16,
    pub orchestrator_host: String,
    pub orchestrator_port: u16,
    /// How long to wait for the others.
    pub patience: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultFile(pub RunFile);

impl Default for DefaultFile {
    fn default() -> DefaultFile {
        DefaultFile(RunFile {
            publisher_groups: vec![],
            subscriber_groups: vec![],
            dummy_clients: 0,
            seconds_to_run: 30,
            additional_seconds_to_wait: 10,
            max_msgs_per_publisher_per_second: 1,
            publisher_qos_value: 0,
            subscriber_qos_value: 0,
            min_payload_size: 256,
            telemetry_keys: vec![],
            max_concurrent_operations: 1000,
        })
    }
}

/// The variables of this name, parsed; None if it is not set or empty.
struct Variables<F>(F);

impl<F: Fn(&str) -> Option<String>> Variables<F> {
    fn text(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    fn parsed<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, InvalidVariable> {
        let parse = |value: String| value.parse().map_err(|_| InvalidVariable::Value { name, value });
        self.text(name).map(parse).transpose()
    }

    /// Only this value is supported.
    fn require(&self, name: &'static str, only: &str, why: &'static str) -> Result<(), InvalidVariable> {
        match self.text(name) {
            Some(value) if value != only => Err(InvalidVariable::Unsupported { name, value, why }),
            _ => Ok(()),
        }
    }
}

impl Environment {
    /// `lookup` gives the value of a variable.
    pub fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Environment, InvalidVariable> {
        let variables = Variables(lookup);
        variables.require("MQTT_SSL_ENABLED", "false", "there is no TLS yet")?;
        let together = "each process has its share of publishers and subscribers (TEST_RUN_PARALLEL_TESTS_COUNT), \
                        because both ends are needed to judge a delivery";
        variables.require("TEST_RUN_DEFAULT_WORKER_TYPE", "DEFAULT", together)?;
        let list = |text: String| text.split(',').map(|part| part.trim().to_string()).collect();
        let ports: Vec<String> = variables.text("MQTT_PORT").map_or(vec![], list);
        let port = |value: &String| {
            value.parse().map_err(|_| InvalidVariable::Value { name: "MQTT_PORT", value: value.clone() })
        };
        let topic_index_max = variables.parsed("TEST_RUN_MAX_PUBLISH_TOPIC_GROUP_IDX")?;
        if topic_index_max == Some(0) {
            let (name, value) = ("TEST_RUN_MAX_PUBLISH_TOPIC_GROUP_IDX", "0".into());
            return Err(InvalidVariable::Value { name, value });
        }
        Ok(Environment {
            hosts: variables.text("MQTT_HOST").map(list),
            ports: ports.iter().map(port).collect::<Result<_, _>>()?,
            keep_alive_secs: variables.parsed("CLIENT_KEEP_ALIVE_SECONDS")?,
            sources: variables.text("CLIENT_IP_ADDRESSES"),
            file: variables.text("TEST_RUN_CONFIGURATION_FILE").map(PathBuf::from),
            topic_index_max,
            part: part(&variables)?,
            default_file: default_file(&variables)?,
        })
    }
}

/// None: this process does all.
fn part<F>(variables: &Variables<F>) -> Result<Option<Part>, InvalidVariable>
where
    F: Fn(&str) -> Option<String>,
{
    const COUNT: &str = "TEST_RUN_PARALLEL_TESTS_COUNT";
    const NUMBER: &str = "TEST_RUN_SEQUENTIAL_NUMBER";
    const URL: &str = "TEST_RUN_TEST_ORCHESTRATOR_URL";
    let count: u16 = variables.parsed(COUNT)?.unwrap_or(1);
    if count <= 1 {
        return Ok(None);
    }
    let missing = |name: &'static str| InvalidVariable::Missing { name, count };
    let number: u16 = variables.parsed(NUMBER)?.ok_or_else(|| missing(NUMBER))?;
    let url = variables.text(URL).ok_or_else(|| missing(URL))?;
    let invalid = |name: &'static str, value: String| InvalidVariable::Value { name, value };
    if number >= count {
        return Err(invalid(NUMBER, number.to_string()));
    }
    let place = url.trim_start_matches("http://").split('/').next().unwrap_or("");
    let place = place.rsplit_once(':').and_then(|(host, port)| Some((host.to_string(), port.parse().ok()?)));
    let Some((orchestrator_host, orchestrator_port)) = place.filter(|(host, _)| !host.is_empty()) else {
        return Err(invalid(URL, url));
    };
    let patience = variables.parsed("TEST_RUN_MAX_CLUSTER_WAIT_TIME_SECONDS")?.unwrap_or(60);
    let patience = Duration::from_secs(patience);
    Ok(Some(Part { count, number, orchestrator_host, orchestrator_port, patience }))
}

/// Pairs of one publisher and one persistent subscriber.
fn default_file<F>(variables: &Variables<F>) -> Result<DefaultFile, InvalidVariable>
where
    F: Fn(&str) -> Option<String>,
{
    let DefaultFile(mut file) = DefaultFile::default();
    let set = |field: &mut u64, value: Option<u64>| *field = value.unwrap_or(*field);
    set(&mut file.seconds_to_run, variables.parsed("TEST_RUN_DEFAULT_SECONDS_TO_RUN")?);
    set(
        &mut file.additional_seconds_to_wait,
        variables.parsed("TEST_RUN_DEFAULT_ADDITIONAL_SECONDS_TO_WAIT")?,
    );
    let set = |field: &mut u32, value: Option<u32>| *field = value.unwrap_or(*field);
    set(&mut file.dummy_clients, variables.parsed("TEST_RUN_DEFAULT_DUMMY_CLIENTS")?);
    set(
        &mut file.max_msgs_per_publisher_per_second,
        variables.parsed("TEST_RUN_DEFAULT_MAX_MSGS_PER_PUBLISHER_PER_SECOND")?,
    );
    set(&mut file.min_payload_size, variables.parsed("TEST_RUN_DEFAULT_MIN_PAYLOAD_SIZE")?);
    set(&mut file.max_concurrent_operations, variables.parsed("TEST_RUN_DEFAULT_MAX_CONCURRENT_OPERATIONS")?);
    file.publisher_qos_value = variables.parsed("TEST_RUN_DEFAULT_PUBLISHER_QOS")?.unwrap_or(0);
    file.subscriber_qos_value = variables.parsed("TEST_RUN_DEFAULT_SUBSCRIBER_QOS")?.unwrap_or(0);
    for id in 1..=variables.parsed("TEST_RUN_DEFAULT_PUB_SUB_GROUPS_COUNT")?.unwrap_or(100) {
        file.publisher_groups.push(PublisherGroup {
            id,
            publishers: 1,
            topic_prefix: format!("europe/ua/kyiv/{id}/"),
            client_id_prefix: None,
        });
        file.subscriber_groups.push(SubscriberGroup {
            id,
            subscribers: 1,
            topic_filter: format!("europe/ua/kyiv/{id}/+"),
            expected_publisher_groups: vec![id],
            persistent_session_info: Some(PersistentSession { client_type: ClientType::Device }),
            client_id_prefix: None,
        });
    }
    Ok(DefaultFile(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Environment, InvalidVariable> {
        let variables: Vec<(String, String)> =
            variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Environment::read(|name| variables.iter().find(|(it, _)| it == name).map(|(_, value)| value.clone()))
    }

    #[test]
    fn without_variables_a_hundred_pairs_run_for_thirty_seconds() {
        let environment = read(&[]).unwrap();
        let DefaultFile(file) = environment.default_file;
        file.check().unwrap();
        assert_eq!((file.publishers(), file.seconds_to_run, file.min_payload_size), (100, 30, 256));
        assert_eq!((environment.hosts, environment.file), (None, None));
    }

    #[test]
    fn variables_are_taken() {
        let environment = read(&[
            ("MQTT_HOST", "a, b"),
            ("MQTT_PORT", "1884, 1885"),
            ("TEST_RUN_MAX_PUBLISH_TOPIC_GROUP_IDX", "7"),
            ("CLIENT_IP_ADDRESSES", "127.0.0.2,127.0.0.3"),
            ("TEST_RUN_CONFIGURATION_FILE", "x.json"),
            ("TEST_RUN_DEFAULT_PUB_SUB_GROUPS_COUNT", "3"),
            ("TEST_RUN_DEFAULT_PUBLISHER_QOS", "1"),
            ("TEST_RUN_PARALLEL_TESTS_COUNT", "1"),
        ])
        .unwrap();
        assert_eq!(environment.hosts.unwrap(), ["a", "b"]);
        assert_eq!((&environment.ports[..], environment.part.as_ref()), (&[1884, 1885][..], None));
        assert_eq!((environment.topic_index_max, environment.file), (Some(7), Some("x.json".into())));
        let DefaultFile(file) = environment.default_file;
        assert_eq!((file.publishers(), file.publisher_qos_value), (3, 1));
    }

    #[test]
    fn one_of_several_processes_knows_its_number_and_where_the_first_is() {
        let set = |number: &str, url: &str| {
            read(&[
                ("TEST_RUN_PARALLEL_TESTS_COUNT", "4"),
                ("TEST_RUN_SEQUENTIAL_NUMBER", number),
                ("TEST_RUN_TEST_ORCHESTRATOR_URL", url),
            ])
        };
        let part = set("3", "http://orch:8088/api").unwrap().part.unwrap();
        assert_eq!((part.count, part.number, part.patience), (4, 3, Duration::from_secs(60)));
        assert_eq!((part.orchestrator_host.as_str(), part.orchestrator_port), ("orch", 8088));
        let text = |number, url| set(number, url).unwrap_err().to_string();
        assert!(text("4", "http://orch:8088").contains("TEST_RUN_SEQUENTIAL_NUMBER=4"));
        assert!(text("1", "orch").contains("TEST_RUN_TEST_ORCHESTRATOR_URL=orch"));
        assert!(text("", "http://orch:8088").contains("TEST_RUN_SEQUENTIAL_NUMBER is needed"));
        assert!(text("1", "").contains("TEST_RUN_TEST_ORCHESTRATOR_URL is needed"));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        let text = |variables: &[(&str, &str)]| read(variables).unwrap_err().to_string();
        assert!(text(&[("MQTT_SSL_ENABLED", "true")]).contains("TLS"));
        assert!(
            text(&[("TEST_RUN_DEFAULT_WORKER_TYPE", "PUBLISHER")]).contains("TEST_RUN_PARALLEL_TESTS_COUNT")
        );
        assert!(text(&[("TEST_RUN_MAX_PUBLISH_TOPIC_GROUP_IDX", "0")]).contains("GROUP_IDX=0"));
        assert!(text(&[("MQTT_PORT", "many")]).contains("MQTT_PORT=many"));
    }
}
