//! Values with a form of their own: versions, durations, lists of CPUs and addresses.

use clap::ValueEnum;
use protocol::Version;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Mqtt {
    #[value(name = "3.1", alias = "3")]
    #[serde(rename = "3.1")]
    V31,
    #[value(name = "3.1.1", alias = "4")]
    #[serde(rename = "3.1.1")]
    V311,
    #[value(name = "5", alias = "5.0")]
    #[serde(rename = "5")]
    V5,
}

impl From<Mqtt> for Version {
    fn from(mqtt: Mqtt) -> Version {
        match mqtt {
            Mqtt::V31 => Version::V31,
            Mqtt::V311 => Version::V311,
            Mqtt::V5 => Version::V5,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cpus(pub Vec<usize>);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Addresses(pub Vec<IpAddr>);

/// `10s`, `500ms`, `2m`, `1h`, or seconds with a fraction.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let factor = match unit {
        "" | "s" => 1.0,
        "ms" => 1e-3,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit `{unit}`: ms, s, m or h")),
    };
    let number: f64 = number.parse().map_err(|_| format!("`{number}` is not a number"))?;
    Duration::try_from_secs_f64(number * factor).map_err(|error| error.to_string())
}

/// A duration in JSON: seconds.
pub mod seconds {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
    }
}

/// The same, or null.
pub mod some_seconds {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::time::Duration;

    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        duration.map(|duration| duration.as_secs_f64()).serialize(serializer)
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let seconds = Option::<f64>::deserialize(deserializer)?;
        seconds.map(Duration::try_from_secs_f64).transpose().map_err(serde::de::Error::custom)
    }
}

pub fn parse_positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("a number above 0 is needed".into()),
    }
}

pub fn parse_cpus(text: &str) -> Result<Cpus, String> {
    let mut cpus = vec![];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.parse::<usize>().map_err(|_| format!("`{text}` is not a CPU number"));
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last >= libc::CPU_SETSIZE as usize {
            return Err(format!("`{part}` is not a range of CPUs"));
        }
        cpus.extend(first..=last);
    }
    Ok(Cpus(cpus))
}

pub fn parse_addresses(text: &str) -> Result<Addresses, String> {
    let mut addresses = vec![];
    for part in text.split(',') {
        let Some((first, last)) = part.split_once('-') else {
            addresses.push(part.parse().map_err(|_| format!("`{part}` is not an address"))?);
            continue;
        };
        let number = |text: &str| match text.parse::<Ipv4Addr>() {
            Ok(address) => Ok(u32::from(address)),
            Err(_) => Err(format!("`{text}` is not an IPv4 address")),
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last - first > 0xFFFF {
            return Err(format!("`{part}` is not a range of at most 65,536 addresses"));
        }
        addresses.extend((first..=last).map(|number| IpAddr::V4(number.into())));
    }
    Ok(Addresses(addresses))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert!(parse_duration("3 parsec").is_err() && parse_duration("-1").is_err());
    }

    #[test]
    fn lists_and_ranges() {
        assert_eq!(parse_cpus("1,4-6"), Ok(Cpus(vec![1, 4, 5, 6])));
        assert!(parse_cpus("6-4").is_err() && parse_cpus("x").is_err());
        let addresses = parse_addresses("127.0.0.9,127.0.0.254-127.0.1.1").unwrap().0;
        assert_eq!(addresses.len(), 5);
        assert_eq!(addresses[3].to_string(), "127.0.1.0");
        assert!(parse_addresses("127.0.0.9-127.0.0.1").is_err());
    }
}
