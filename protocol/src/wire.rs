//! Reading and writing the data types of chapter 1.5.

use crate::DecodeErrorKind;

pub(crate) type Result<T> = std::result::Result<T, DecodeErrorKind>;

/// A cursor over the bytes of one packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        if self.rest.len() < len {
            return Err(DecodeErrorKind::Malformed("a field ends behind its packet"));
        }
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    #[inline]
    pub fn u16(&mut self) -> Result<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub fn u32(&mut self) -> Result<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// A variable byte integer in its shortest form [MQTT-1.5.5-1].
    #[inline]
    pub fn varint(&mut self) -> Result<u32> {
        match read_varint(self.rest)? {
            Some((value, len)) => {
                self.rest = &self.rest[len..];
                Ok(value)
            }
            None => Err(DecodeErrorKind::Malformed("a length ends behind its packet")),
        }
    }

    #[inline]
    pub fn binary(&mut self) -> Result<&'a [u8]> {
        let len = self.u16()? as usize;
        self.take(len)
    }

    /// UTF-8 without U+0000 [MQTT-1.5.4-1, MQTT-1.5.4-2].
    #[inline]
    pub fn string(&mut self) -> Result<&'a str> {
        let bytes = self.binary()?;
        let text = simdutf8::basic::from_utf8(bytes)
            .map_err(|_| DecodeErrorKind::Malformed("a string is not UTF-8"))?;
        if memchr::memchr(0, bytes).is_some() {
            return Err(DecodeErrorKind::Malformed("a string contains U+0000"));
        }
        Ok(text)
    }

    /// A packet identifier, which is never 0 [MQTT-2.2.1-3].
    #[inline]
    pub fn packet_id(&mut self) -> Result<u16> {
        match self.u16()? {
            0 => Err(DecodeErrorKind::Protocol("packet identifier 0")),
            id => Ok(id),
        }
    }

    /// Fails if bytes are left over.
    #[inline]
    pub fn end(&self) -> Result<()> {
        match self.is_empty() {
            true => Ok(()),
            false => Err(DecodeErrorKind::Malformed("bytes are left behind the last field")),
        }
    }
}

/// The integer at the start of `bytes` and its length; None if it is not complete.
#[inline]
pub(crate) fn read_varint(bytes: &[u8]) -> Result<Option<(u32, usize)>> {
    let mut value = 0u32;
    for at in 0..4 {
        let Some(&byte) = bytes.get(at) else { return Ok(None) };
        value |= ((byte & 0x7F) as u32) << (7 * at);
        if byte & 0x80 == 0 {
            if byte == 0 && at > 0 {
                return Err(DecodeErrorKind::Malformed("a length is not in its shortest form"));
            }
            return Ok(Some((value, at + 1)));
        }
    }
    Err(DecodeErrorKind::Malformed("a length has more than four bytes"))
}

/// Largest value of a variable byte integer.
pub(crate) const VARINT_MAX: u32 = 268_435_455;

#[inline]
pub(crate) fn varint_len(value: u32) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

#[inline]
pub(crate) fn write_varint(mut value: u32, out: &mut Vec<u8>) {
    debug_assert!(value <= VARINT_MAX, "a variable byte integer has at most 28 bits");
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline]
pub(crate) fn write_binary(bytes: &[u8], out: &mut Vec<u8>) {
    debug_assert!(bytes.len() <= u16::MAX as usize, "binary data has at most 65,535 bytes");
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}
