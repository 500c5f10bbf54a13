//! The floor broker as a process, spoken to with the codec of the project.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use protocol::{Decoder, Packet, Role, Version};

struct Floor {
    process: Child,
    address: SocketAddr,
}

impl Floor {
    fn start() -> Floor {
        let mut process = Command::new(env!("CARGO_BIN_EXE_shardmq-perf"))
            .args(["floor", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary was built with this test");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line).expect("its first line");
        let address =
            line.trim().strip_prefix("listening on ").expect("an address").parse().expect("an address");
        Floor { process, address }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Client {
    socket: TcpStream,
    version: Version,
    received: Vec<u8>,
}

impl Client {
    fn connect(floor: &Floor, version: Version) -> Client {
        let socket = TcpStream::connect(floor.address).expect("connect");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let mut client = Client { socket, version, received: Vec::new() };
        match version {
            Version::V5 => client.send(b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01a"),
            _ => client.send(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a"),
        }
        client.expect("ConnAck");
        client
    }

    fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("send");
    }

    /// The next packet, as its debug text, which must contain `text`.
    fn expect(&mut self, text: &str) {
        let decoder = Decoder { role: Role::Client, version: Some(self.version), packet_size_max: 1 << 20 };
        loop {
            let next = decoder.next_packet(&self.received).expect("a valid packet");
            if let Some((packet, length)) = next {
                let found = match packet {
                    Packet::Publish(publish) => format!(
                        "{:?} {} {} {:?}",
                        publish.qos,
                        publish.packet_id,
                        publish.topic,
                        String::from_utf8_lossy(publish.payload)
                    ),
                    other => format!("{other:?}"),
                };
                assert!(found.contains(text), "expected {text}, got {found}");
                self.received.drain(..length);
                return;
            }
            let mut buffer = [0; 4096];
            let length = self.socket.read(&mut buffer).expect("more bytes");
            assert!(length > 0, "closed; expected {text}");
            self.received.extend_from_slice(&buffer[..length]);
        }
    }
}

#[test]
fn every_qos_is_forwarded_and_acknowledged() {
    let floor = Floor::start();
    let mut subscriber = Client::connect(&floor, Version::V311);
    subscriber.send(b"\x82\x08\x00\x01\x00\x03a/b\x02");
    subscriber.expect("SubAck");
    let mut publisher = Client::connect(&floor, Version::V311);

    publisher.send(b"\x30\x07\x00\x03a/bm0");
    subscriber.expect("AtMostOnce 0 a/b \"m0\"");

    publisher.send(b"\x32\x09\x00\x03a/b\x00\x07m1");
    publisher.expect("PubAck");
    subscriber.expect("AtLeastOnce 1 a/b \"m1\"");
    subscriber.send(b"\x40\x02\x00\x01");

    publisher.send(b"\x34\x09\x00\x03a/b\x00\x08m2");
    publisher.expect("PubRec");
    publisher.send(b"\x62\x02\x00\x08");
    publisher.expect("PubComp");
    subscriber.expect("ExactlyOnce 2 a/b \"m2\"");
    subscriber.send(b"\x50\x02\x00\x02");
    subscriber.expect("PubRel");
    subscriber.send(b"\x70\x02\x00\x02");
    subscriber.send(b"\xc0\x00");
    subscriber.expect("PingResp");
}

#[test]
fn version_5_and_a_receiver_of_lower_qos() {
    let floor = Floor::start();
    let mut subscriber = Client::connect(&floor, Version::V5);
    subscriber.send(b"\x82\x07\x00\x01\x00\x00\x01#\x00");
    subscriber.expect("SubAck");
    let mut publisher = Client::connect(&floor, Version::V5);
    // In two pieces, so that the packet has to be put together.
    publisher.send(b"\x32\x08\x00\x01t\x00");
    publisher.send(b"\x07\x00m1");
    publisher.expect("PubAck");
    subscriber.expect("AtMostOnce 0 t \"m1\"");
}

#[test]
fn who_breaks_the_protocol_is_disconnected_and_the_others_are_served() {
    let floor = Floor::start();
    let mut good = Client::connect(&floor, Version::V311);
    let mut bad = TcpStream::connect(floor.address).expect("connect");
    bad.write_all(b"\x30\xff\xff\xff\xff").expect("send");
    assert_eq!(bad.read(&mut [0; 16]).expect("end of stream"), 0);
    let mut other_version = TcpStream::connect(floor.address).expect("connect");
    other_version.write_all(b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01b").expect("send");
    assert_eq!(other_version.read(&mut [0; 16]).expect("end of stream"), 0);
    good.send(b"\xc0\x00");
    good.expect("PingResp");
}
