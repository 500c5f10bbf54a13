//! PUBLISH (3.3): the hot path.

use crate::packet::{PacketType, Publish, QoS, Version};
use crate::properties::{PublishFacts, Section, read_section};
use crate::wire::{Reader, Result};
use crate::{DecodeErrorKind, Properties};

#[inline]
pub(crate) fn decode(first: u8, body: &[u8], version: Version, is_from_client: bool) -> Result<Publish<'_>> {
    let mut reader = Reader::new(body);
    let dup = first & 0x08 != 0;
    let qos = QoS::from_u8((first >> 1) & 3).ok_or(DecodeErrorKind::Malformed("QoS 3"))?;
    if dup && qos == QoS::AtMostOnce {
        return Err(DecodeErrorKind::Malformed("DUP at QoS 0"));
    }
    let topic = reader.string()?;
    if memchr::memchr2(b'+', b'#', topic.as_bytes()).is_some() {
        return Err(DecodeErrorKind::TopicName);
    }
    let packet_id = if qos == QoS::AtMostOnce { 0 } else { reader.packet_id()? };
    let mut facts = PublishFacts::default();
    let properties = match version.has_properties() {
        true => read_section(&mut reader, Section::Packet(PacketType::Publish), is_from_client, &mut facts)?,
        false => Properties::EMPTY,
    };
    if topic.is_empty() && facts.topic_alias.is_none() {
        return Err(DecodeErrorKind::Protocol("neither topic nor alias"));
    }
    Ok(Publish {
        dup,
        qos,
        retain: first & 1 != 0,
        topic,
        packet_id,
        topic_alias: facts.topic_alias,
        message_expiry: facts.message_expiry,
        subscription_ids: &[],
        properties,
        payload: reader.rest(),
    })
}
