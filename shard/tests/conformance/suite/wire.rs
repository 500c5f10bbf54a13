//! Bytes on the wire, built by hand: what a case sends when no correct packet will do.

/// A string or binary field with its length.
pub fn field(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let mut out = (bytes.len() as u16).to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

/// A variable byte integer in its shortest form.
pub fn varint(mut value: usize) -> Vec<u8> {
    let mut out = vec![];
    loop {
        let byte = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return out;
        }
        out.push(byte | 0x80);
    }
}

/// A packet: first byte, length, body.
pub fn packet(first: u8, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    [&[first][..], &varint(body.len()), body].concat()
}

/// A property section: length, bytes.
pub fn section(properties: impl AsRef<[u8]>) -> Vec<u8> {
    let properties = properties.as_ref();
    [&varint(properties.len())[..], properties].concat()
}

/// Pieces one after the other.
pub fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}
