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

/// One packet of less than 128 bytes.
pub fn read_packet(stream: &mut TcpStream) -> Vec<u8> {
    let mut packet = vec![0; 2];
    stream.read_exact(&mut packet).expect("a packet");
    assert!(packet[1] < 128, "a long packet");
    packet.resize(2 + packet[1] as usize, 0);
    stream.read_exact(&mut packet[2..]).expect("the rest of a packet");
    packet
}

/// All that comes until the broker ends the connection.
pub fn read_to_end(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an orderly end");
    bytes
}
