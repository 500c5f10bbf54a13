//! A few packets as bytes, for tests that look at the connection rather than at MQTT.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

pub const PINGREQ: &[u8] = &[0xC0, 0];
pub const PINGRESP: &[u8] = &[0xD0, 0];

/// Connects with protocol level 4 (3.1.1) or 5, keep alive 60 s, and reads the CONNACK.
pub fn connect(address: SocketAddr, level: u8, client_id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the broker listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', level, 0b10, 0, 60];
    if level == 5 {
        body.push(0);
    }
    body.extend([0, client_id.len() as u8]);
    body.extend(client_id.bytes());
    let mut packet = vec![0x10, body.len() as u8];
    packet.extend(body);
    stream.write_all(&packet).expect("the broker reads");
    let connack = read_packet(&mut stream);
    assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:?}");
    stream
}

/// One packet.
pub fn read_packet(stream: &mut impl Read) -> Vec<u8> {
    let mut packet = vec![0; 2];
    stream.read_exact(&mut packet).expect("a packet");
    while packet[packet.len() - 1] >= 128 {
        let mut more = [0];
        stream.read_exact(&mut more).expect("the rest of a length");
        packet.extend(more);
    }
    let header_len = packet.len();
    let length = |rest: usize, byte: &u8| rest << 7 | (*byte & 127) as usize;
    let rest = packet[1..].iter().rev().fold(0, length);
    packet.resize(header_len + rest, 0);
    stream.read_exact(&mut packet[header_len..]).expect("the rest of a packet");
    packet
}

/// First byte, length and body.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut rest = body.len();
    loop {
        let low = (rest & 127) as u8;
        rest >>= 7;
        bytes.push(if rest > 0 { low | 128 } else { low });
        if rest == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// Text with its length before it.
pub fn field(text: &str) -> Vec<u8> {
    let [high, low] = (text.len() as u16).to_be_bytes();
    [&[high, low], text.as_bytes()].concat()
}

/// All that comes until the broker ends the connection.
pub fn read_to_end(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an orderly end");
    bytes
}
