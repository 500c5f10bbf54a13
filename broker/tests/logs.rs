//! What clients send cannot look like a line of the log, or reach the terminal of who reads it (HC-CON-22).

mod support;

use std::io::Write;
use std::net::TcpStream;

use support::crowd::{VERSIONS, expect_end, open, ping};
use support::logs::{FORGERY, assert_no_forgery};
use support::packets::{PINGREQ, field, packet, read_packet};
use support::{Broker, BrokerBuilder};

/// CONNECT in which each text is the forgery.
fn forged_connect((name, level): (&str, u8)) -> Vec<u8> {
    let properties: &[u8] = if level == 5 { &[0] } else { &[] };
    let forgery = field(FORGERY);
    // Will, user name and password, clean session.
    let head = [&field(name)[..], &[level, 0b1100_0110, 0, 0], properties].concat();
    packet(0x10, &[&head[..], &forgery, properties, &forgery, &forgery, &forgery, &forgery].concat())
}

fn connect(broker: &Broker, version: (&str, u8)) -> TcpStream {
    let mut stream = open(broker.address());
    stream.write_all(&forged_connect(version)).expect("the broker reads");
    let connack = read_packet(&mut stream);
    assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:?}");
    stream
}

/// Everything that a client can do with the text, faults included.
fn forge(broker: &Broker) {
    for version in VERSIONS {
        let properties: &[u8] = if version.1 == 5 { &[0] } else { &[] };
        let forgery = field(FORGERY);
        let mut first = connect(broker, version);
        let subscribe = [&[0, 1], properties, &forgery, &[0]].concat();
        first.write_all(&packet(0x82, &subscribe)).expect("the broker reads");
        assert_eq!(read_packet(&mut first)[0], 0x90);
        let publish = packet(0x30, &[&forgery[..], properties, FORGERY.as_bytes()].concat());
        first.write_all(&publish).expect("the broker reads");
        assert_eq!(read_packet(&mut first), publish, "byte for byte");
        ping(&mut first);
        // A takeover, a second CONNECT, and packets that are none.
        let mut second = connect(broker, version);
        expect_end(&mut first);
        second.write_all(&forged_connect(version)).expect("the broker reads");
        expect_end(&mut second);
        for garbage in [FORGERY.as_bytes(), PINGREQ, &packet(0x10, &field(FORGERY)), &packet(0xF7, &forgery)]
        {
            let mut stranger = open(broker.address());
            stranger.write_all(garbage).expect("the broker reads");
            // Garbage may also be the start of a packet.
            stranger.shutdown(std::net::Shutdown::Write).expect("the connection stands");
            expect_end(&mut stranger);
        }
    }
}

#[test]
fn hc_con_22_what_clients_send_cannot_forge_log_lines() {
    let as_json: fn(BrokerBuilder) -> BrokerBuilder = |builder| builder;
    for format in [as_json, BrokerBuilder::text_log] {
        let mut broker = format(Broker::with_shards(2).set("log.level", "trace")).start();
        forge(&broker);
        broker.terminate();
        assert_eq!(broker.wait().code(), Some(0));
        assert_no_forgery(&broker.log_text());
    }
}
