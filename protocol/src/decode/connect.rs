//! CONNECT (3.1). Its errors know the version that was asked for, so that the answer has the right form.

use crate::packet::{Connect, PacketType, QoS, Version, Will};
use crate::properties::{PublishFacts, Section, read_section};
use crate::wire::{Reader, Result};
use crate::{DecodeError, DecodeErrorKind, Properties};

const RESERVED: u8 = 0x01;
const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_QOS: u8 = 0x18;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USER_NAME: u8 = 0x80;
const BRIDGE: u8 = 0x80;

pub(crate) fn decode(body: &[u8]) -> std::result::Result<Connect<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let (version, is_bridge) = protocol(&mut reader)?;
    fields(&mut reader, version, is_bridge).map_err(|kind| DecodeError::new(kind, Some(version)))
}

/// Protocol name and level. An unknown name is no MQTT: no answer. An unknown level is answered in the form of the
/// nearest version.
fn protocol(reader: &mut Reader<'_>) -> std::result::Result<(Version, bool), DecodeError> {
    let not_connect = |_| DecodeError::new(DecodeErrorKind::NotConnect, None);
    let name = reader.binary().map_err(not_connect)?;
    if name != b"MQTT" && name != b"MQIsdp" {
        return Err(DecodeError::new(DecodeErrorKind::NotConnect, None));
    }
    let level = reader.u8().map_err(not_connect)?;
    match (name, level) {
        (b"MQIsdp", 3) => Ok((Version::V31, false)),
        (b"MQTT", 4) => Ok((Version::V311, false)),
        (b"MQTT", 5) => Ok((Version::V5, false)),
        (b"MQIsdp", l) if l == BRIDGE | 3 => Ok((Version::V31, true)),
        (b"MQTT", l) if l == BRIDGE | 4 => Ok((Version::V311, true)),
        (b"MQIsdp", _) => {
            Err(DecodeError::new(DecodeErrorKind::UnsupportedVersion(level), Some(Version::V31)))
        }
        _ => {
            let nearest = if level > 5 { Version::V5 } else { Version::V311 };
            Err(DecodeError::new(DecodeErrorKind::UnsupportedVersion(level), Some(nearest)))
        }
    }
}

fn fields<'a>(reader: &mut Reader<'a>, version: Version, is_bridge: bool) -> Result<Connect<'a>> {
    let flags = reader.u8()?;
    check_flags(flags, version)?;
    let keep_alive = reader.u16()?;
    let properties = super::properties(reader, PacketType::Connect, version)?;
    let client_id = reader.string()?;
    let will = if flags & WILL != 0 { Some(will(reader, flags, version)?) } else { None };
    let user_name = if flags & USER_NAME != 0 { Some(reader.string()?) } else { None };
    let password = if flags & PASSWORD != 0 { Some(reader.binary()?) } else { None };
    reader.end()?;
    Ok(Connect {
        version,
        is_bridge,
        clean_start: flags & CLEAN_START != 0,
        keep_alive,
        client_id,
        will,
        user_name,
        password,
        properties,
    })
}

fn check_flags(flags: u8, version: Version) -> Result<()> {
    if flags & RESERVED != 0 && version != Version::V31 {
        return Err(DecodeErrorKind::Malformed("the reserved connect flag is set"));
    }
    if flags & WILL == 0 && flags & (WILL_QOS | WILL_RETAIN) != 0 {
        return Err(DecodeErrorKind::Malformed("will flags without a will"));
    }
    if flags & WILL_QOS == WILL_QOS {
        return Err(DecodeErrorKind::Malformed("will QoS 3"));
    }
    if flags & PASSWORD != 0 && flags & USER_NAME == 0 && !version.has_properties() {
        return Err(DecodeErrorKind::Malformed("a password without a user name"));
    }
    Ok(())
}

fn will<'a>(reader: &mut Reader<'a>, flags: u8, version: Version) -> Result<Will<'a>> {
    let properties = match version.has_properties() {
        true => read_section(reader, Section::Will, true, &mut PublishFacts::default())?,
        false => Properties::EMPTY,
    };
    let topic = reader.string()?;
    if !crate::topic::is_valid_topic_name(topic) {
        return Err(DecodeErrorKind::TopicName);
    }
    let payload = reader.binary()?;
    let qos = QoS::from_u8((flags & WILL_QOS) >> 3).ok_or(DecodeErrorKind::Malformed("will QoS 3"))?;
    Ok(Will { qos, retain: flags & WILL_RETAIN != 0, topic, payload, properties })
}
