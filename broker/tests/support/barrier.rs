//! Waits until a broker has served all that clients sent before, on every shard: what has not come by then does not
//! come. Better than to wait for a time, which is too long on a quiet machine and too short on a busy one.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use super::crowd::{VERSIONS, connect_as};
use super::packets::{field, packet, read_packet};

/// A message may take the way by another shard, fetch something there, and go on in a later turn. Each round outlasts
/// one crossing.
const ROUNDS: u32 = 4;

/// A client of its own that does not touch those of the test. SUBACK of a new filter waits for all shards, and lanes
/// keep the order: behind it are all messages that were on the way between this client's shard and the others, which
/// with two shards are all there are.
pub struct Barrier {
    stream: TcpStream,
    subscribe_and_unsubscribe: Vec<u8>,
}

impl Barrier {
    pub fn new(address: SocketAddr) -> Barrier {
        // The broker chooses the client id, so that it meets none of the test.
        let stream = connect_as(address, VERSIONS[1], "");
        stream.set_nodelay(true).expect("a TCP option");
        let filter = field(&format!("~{}", stream.local_addr().expect("it is connected").port()));
        let subscribe = packet(0x82, &[&[0, 1], &filter[..], &[0]].concat());
        let unsubscribe = packet(0xA2, &[&[0, 2], &filter[..]].concat());
        Barrier { stream, subscribe_and_unsubscribe: [subscribe, unsubscribe].concat() }
    }

    pub fn pass(&mut self) {
        for _ in 0..ROUNDS {
            self.stream.write_all(&self.subscribe_and_unsubscribe).expect("the broker reads");
            // UNSUBACK waits for nobody, so it may come first.
            let answers = [read_packet(&mut self.stream)[0], read_packet(&mut self.stream)[0]];
            assert!(matches!(answers, [0x90, 0xB0] | [0xB0, 0x90]), "{answers:02x?}");
        }
    }
}
