//! As much of MQTT as forwarding needs: framing, and where topic and packet id are. Properties are not looked at: the
//! clients of a run speak one version and the frames are passed on as they are.

/// What is wrong with the bytes of a client. It is disconnected; the floor broker sends no reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed: {0}")]
pub struct Malformed(pub &'static str);

/// One packet: its first byte, and where its body starts within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub bytes: &'a [u8],
    pub body_at: usize,
}

impl<'a> Frame<'a> {
    /// The first packet of `bytes`; None if it is not complete.
    #[inline]
    pub fn first_of(bytes: &'a [u8]) -> Result<Option<Frame<'a>>, Malformed> {
        let Some((length, length_bytes)) = read_varint(bytes.get(1..).unwrap_or_default())? else {
            return Ok(None);
        };
        let body_at = 1 + length_bytes;
        Ok(bytes.get(..body_at + length).map(|bytes| Frame { bytes, body_at }))
    }

    #[inline]
    pub fn packet_type(&self) -> u8 {
        self.bytes[0] >> 4
    }

    #[inline]
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[self.body_at..]
    }

    /// The packet id at the start of the body of an acknowledgement, SUBSCRIBE or UNSUBSCRIBE.
    #[inline]
    pub fn packet_id(&self) -> Result<u16, Malformed> {
        read_u16(self.body()).ok_or(Malformed("packet id"))
    }
}

/// A PUBLISH as the floor broker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    pub frame: Frame<'a>,
    pub qos: u8,
    pub topic: &'a [u8],
    /// Where the packet id is within the frame. At QoS 0 there is none, and this is what follows the topic.
    pub packet_id_at: usize,
}

impl<'a> Publish<'a> {
    #[inline]
    pub fn parse(frame: Frame<'a>) -> Result<Publish<'a>, Malformed> {
        let qos = frame.bytes[0] >> 1 & 3;
        let topic = read_string(frame.body()).ok_or(Malformed("topic"))?;
        let packet_id_at = frame.body_at + 2 + topic.len();
        if qos == 3 || qos > 0 && frame.bytes.len() < packet_id_at + 2 {
            return Err(Malformed("packet id or QoS of a PUBLISH"));
        }
        Ok(Publish { frame, qos, topic, packet_id_at })
    }

    pub fn packet_id(&self) -> [u8; 2] {
        [self.frame.bytes[self.packet_id_at], self.frame.bytes[self.packet_id_at + 1]]
    }

    /// Appends it for a receiver. DUP and RETAIN are cleared; `packet_id` is used if `qos` is above 0.
    #[inline]
    pub fn append(&self, out: &mut Vec<u8>, qos: u8, packet_id: u16) {
        let at = out.len();
        let bytes = self.frame.bytes;
        if qos > 0 {
            out.extend_from_slice(bytes);
            out[at] = 0x30 | qos << 1;
            out[at + self.packet_id_at..][..2].copy_from_slice(&packet_id.to_be_bytes());
        } else if self.qos == 0 {
            out.extend_from_slice(bytes);
            out[at] = 0x30;
        } else {
            out.push(0x30);
            write_varint(out, self.frame.body().len() - 2);
            out.extend_from_slice(&bytes[self.frame.body_at..self.packet_id_at]);
            out.extend_from_slice(&bytes[self.packet_id_at + 2..]);
        }
    }
}

/// Protocol level of a CONNECT (3, 4 or 5).
pub fn protocol_level(frame: Frame) -> Result<u8, Malformed> {
    let name = read_string(frame.body()).ok_or(Malformed("protocol name"))?;
    frame.body().get(2 + name.len()).copied().ok_or(Malformed("protocol level"))
}

/// The filters of a SUBSCRIBE with their options, or of an UNSUBSCRIBE with zeros.
pub struct Filters<'a> {
    rest: &'a [u8],
    has_options: bool,
}

impl<'a> Filters<'a> {
    pub fn of(frame: Frame<'a>, is_v5: bool) -> Result<Filters<'a>, Malformed> {
        let mut rest = frame.body().get(2..).ok_or(Malformed("packet id"))?;
        if is_v5 {
            let (length, length_bytes) = read_varint(rest)?.ok_or(Malformed("properties"))?;
            rest = rest.get(length_bytes + length..).ok_or(Malformed("properties"))?;
        }
        Ok(Filters { rest, has_options: frame.packet_type() == 8 })
    }
}

impl<'a> Iterator for Filters<'a> {
    type Item = Result<(&'a [u8], u8), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Some(filter) = read_string(self.rest) else {
            self.rest = &[];
            return Some(Err(Malformed("topic filter")));
        };
        let options_at = 2 + filter.len();
        let options = match self.has_options {
            true => self.rest.get(options_at).copied(),
            false => Some(0),
        };
        self.rest = self.rest.get(options_at + usize::from(self.has_options)..).unwrap_or_default();
        Some(options.map(|options| (filter, options)).ok_or(Malformed("subscription options")))
    }
}

fn read_u16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().copied().map(u16::from_be_bytes)
}

#[inline]
fn read_string(bytes: &[u8]) -> Option<&[u8]> {
    let length = read_u16(bytes)?;
    bytes.get(2..2 + usize::from(length))
}

/// Value and length of a variable byte integer; None if it is cut.
#[inline]
fn read_varint(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut value = 0;
    for index in 0..4 {
        let Some(&byte) = bytes.get(index) else { return Ok(None) };
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Ok(Some((value, index + 1)));
        }
    }
    Err(Malformed("length"))
}

fn write_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use protocol::{Decoder, Packet, Properties, QoS, Role, Version};

    use super::*;

    fn publish(qos: QoS, payload: &[u8]) -> Vec<u8> {
        let packet = protocol::Publish {
            dup: qos != QoS::AtMostOnce,
            qos,
            retain: false,
            topic: "a/b",
            packet_id: 7 * u16::from(qos != QoS::AtMostOnce),
            topic_alias: None,
            message_expiry: None,
            subscription_ids: &[],
            properties: Properties::EMPTY,
            payload,
        };
        let mut bytes = Vec::new();
        packet.encode(Version::V311, &mut bytes);
        bytes
    }

    fn forwarded(bytes: &[u8], qos: u8) -> Vec<u8> {
        let frame = Frame::first_of(bytes).unwrap().unwrap();
        let mut out = Vec::new();
        Publish::parse(frame).unwrap().append(&mut out, qos, 9);
        out
    }

    #[test]
    fn a_forwarded_publish_decodes_with_the_receivers_qos_and_packet_id() {
        let decoder = Decoder { role: Role::Client, version: Some(Version::V311), packet_size_max: 1 << 20 };
        for sent in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for (qos, packet_id) in [(QoS::AtMostOnce, 0), (QoS::AtLeastOnce, 9), (QoS::ExactlyOnce, 9)] {
                if qos > sent {
                    continue;
                }
                // Long enough for a length of two bytes that shrinks to one.
                let payload = [5; 121];
                let out = forwarded(&publish(sent, &payload), qos as u8);
                let Some((Packet::Publish(packet), length)) = decoder.next_packet(&out).unwrap() else {
                    panic!("{sent:?} to {qos:?}: {out:?}");
                };
                assert_eq!(
                    (length, packet.qos, packet.packet_id, packet.topic, packet.dup),
                    (out.len(), qos, packet_id, "a/b", false)
                );
                assert_eq!(packet.payload, payload);
            }
        }
    }

    #[test]
    fn a_cut_frame_is_awaited_and_a_wrong_length_refused() {
        let bytes = publish(QoS::AtLeastOnce, b"x");
        for cut in 0..bytes.len() {
            assert_eq!(Frame::first_of(&bytes[..cut]), Ok(None));
        }
        assert_eq!(Frame::first_of(&[0x30, 0xff, 0xff, 0xff, 0xff]), Err(Malformed("length")));
        let frame = Frame::first_of(&[0x32, 3, 0, 1, b'a']).unwrap().unwrap();
        assert!(Publish::parse(frame).is_err());
    }

    #[test]
    fn filters_of_both_versions() {
        let v311 = [0x82, 7, 0, 1, 0, 2, b'a', b'b', 1];
        let v5 = [0x82, 10, 0, 1, 2, 0x0b, 1, 0, 2, b'a', b'b', 1];
        for (bytes, is_v5) in [(&v311[..], false), (&v5[..], true)] {
            let frame = Frame::first_of(bytes).unwrap().unwrap();
            let filters: Vec<_> = Filters::of(frame, is_v5).unwrap().collect();
            assert_eq!(filters, [Ok((&b"ab"[..], 1))]);
        }
        let cut = Frame::first_of(&[0x82, 6, 0, 1, 0, 2, b'a', b'b']).unwrap().unwrap();
        assert_eq!(Filters::of(cut, false).unwrap().last(), Some(Err(Malformed("subscription options"))));
    }
}
