//! R-OVL-2: a subscriber that reads almost nothing costs its backlog, and nobody else notices. `docs/testing.md` has the
//! figures.

mod support;

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use support::crowd::{VERSIONS, connect_as, ping, resident};
use support::openmetrics::Exposition;
use support::packets::{field, packet, read_packet};
use support::{Broker, eventually};

const PAYLOAD_LEN: usize = 256;
const FAST_SUBSCRIBERS: usize = 3;
/// Messages that the publisher sends before it reads their acknowledgements; below Receive Maximum.
const WINDOW: usize = 500;

/// PUBLISH (3.1.1) at QoS 1: the payload begins with the number.
fn publish_bytes(topic: &str, number: u32, packet_id: u16) -> Vec<u8> {
    let mut body = field(topic);
    body.extend(packet_id.to_be_bytes());
    body.extend(number.to_be_bytes());
    body.resize(body.len() + PAYLOAD_LEN - 4, b'x');
    packet(0x32, &body)
}

/// Packet id and number of a delivery.
fn read_delivery(stream: &mut impl Read, topic: &str) -> (u16, u32) {
    let bytes = read_packet(stream);
    assert_eq!(bytes[0] & 0xF6, 0x32, "a PUBLISH at QoS 1, at most marked as repeated");
    let at = bytes.len() - PAYLOAD_LEN;
    assert_eq!(&bytes[at - 2 - topic.len()..at - 2], topic.as_bytes());
    let number = u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    (u16::from_be_bytes([bytes[at - 2], bytes[at - 1]]), number)
}

fn subscriber(address: SocketAddr, client_id: &str, topic: &str) -> TcpStream {
    let mut stream = connect_as(address, VERSIONS[1], client_id);
    stream.set_nodelay(true).expect("a TCP option");
    let body = [&[0, 1], &field(topic)[..], &[1]].concat();
    stream.write_all(&packet(0x82, &body)).expect("the broker reads");
    assert_eq!(read_packet(&mut stream), [0x90, 3, 0, 1, 1]);
    stream
}

fn publish_all(address: SocketAddr, topic: &str, count: usize) {
    let mut stream = connect_as(address, VERSIONS[1], "publisher");
    let mut acks = BufReader::new(stream.try_clone().expect("a descriptor"));
    for first in (0..count).step_by(WINDOW) {
        let last = count.min(first + WINDOW);
        let id = |number: usize| (number - first + 1) as u16;
        let bytes: Vec<u8> = (first..last).flat_map(|n| publish_bytes(topic, n as u32, id(n))).collect();
        stream.write_all(&bytes).expect("the broker reads");
        for number in first..last {
            let [high, low] = id(number).to_be_bytes();
            assert_eq!(read_packet(&mut acks), [0x40, 2, high, low]);
        }
    }
}

/// Reads and acknowledges `count` messages: all of them, in order, once.
fn receive_all(input: &mut impl Read, output: &mut TcpStream, topic: &str, count: usize) {
    for expected in 0..count as u32 {
        let (packet_id, number) = read_delivery(input, topic);
        assert_eq!(number, expected);
        let [high, low] = packet_id.to_be_bytes();
        output.write_all(&[0x40, 2, high, low]).expect("the broker reads");
    }
}

fn start_fast_subscriber(
    address: SocketAddr,
    number: usize,
    topic: &'static str,
    count: usize,
) -> JoinHandle<()> {
    let mut stream = subscriber(address, &format!("fast-{number}"), topic);
    std::thread::spawn(move || {
        let mut input = BufReader::new(stream.try_clone().expect("a descriptor"));
        receive_all(&mut input, &mut stream, topic, count);
    })
}

/// p50 and p99 of the way from a publisher to a subscriber and back.
fn delivery_times(writer: &mut TcpStream, reader: &mut TcpStream, rounds: usize) -> (Duration, Duration) {
    let mut times: Vec<Duration> = (0..rounds)
        .map(|number| {
            let start = Instant::now();
            writer.write_all(&publish_bytes("probe", number as u32, 1)).expect("the broker reads");
            let (packet_id, seen) = read_delivery(reader, "probe");
            let taken = start.elapsed();
            assert_eq!(seen, number as u32);
            let [high, low] = packet_id.to_be_bytes();
            reader.write_all(&[0x40, 2, high, low]).expect("the broker reads");
            assert_eq!(read_packet(writer), [0x40, 2, 0, 1]);
            taken
        })
        .collect();
    times.sort();
    (times[rounds / 2], times[rounds * 99 / 100])
}

#[test]
fn r_ovl_2_a_subscriber_that_hardly_reads_costs_its_backlog_only() {
    const TOPIC: &str = "load";
    let (count, rounds) = (100_000, 2_000);
    let broker = Broker::with_shards(2)
        .set("session.queue_messages_max", "1000000")
        .set("session.queue_bytes_max", "512 MiB")
        // So many that the window is more than the socket's buffers take at once.
        .set("mqtt.inflight_max", "20000")
        .start();
    let address = broker.address();
    let mut writer = connect_as(address, VERSIONS[1], "probe-writer");
    let mut reader = subscriber(address, "probe-reader", "probe");
    writer.set_nodelay(true).expect("a TCP option");
    let quiet = delivery_times(&mut writer, &mut reader, rounds);

    let mut slow = subscriber(address, "slow", TOPIC);
    let before = resident(broker.pid());
    let fast: Vec<_> =
        (0..FAST_SUBSCRIBERS).map(|number| start_fast_subscriber(address, number, TOPIC, count)).collect();
    let start = Instant::now();
    let publisher = std::thread::spawn(move || publish_all(address, TOPIC, count));
    // 1 KB a second, while the others get everything.
    let mut taken = vec![];
    while !publisher.is_finished() || fast.iter().any(|subscriber| !subscriber.is_finished()) {
        let mut kilobyte = [0; 1024];
        slow.read_exact(&mut kilobyte).expect("deliveries");
        taken.extend(kilobyte);
        let next = Instant::now() + Duration::from_secs(1);
        while Instant::now() < next && fast.iter().any(|subscriber| !subscriber.is_finished()) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    publisher.join().expect("every message was acknowledged");
    fast.into_iter().for_each(|subscriber| subscriber.join().expect("all messages, in order"));
    let delivered_in = start.elapsed();
    let grown = resident(broker.pid()).saturating_sub(before);
    let (_, figures) = broker.get("/metrics");
    let waiting = Exposition::parse(&figures).sum("mqtt_queue_messages", &[]);
    assert!(waiting > count as f64 * 0.75, "{waiting} of {count} wait");
    assert_eq!(Exposition::parse(&figures).sum("mqtt_publish_dropped_total", &[]), 0.0);
    let backlog = (count * PAYLOAD_LEN) as u64;
    assert!(grown < backlog + (64 << 20), "{grown} bytes more for a backlog of {backlog}");
    let beside = delivery_times(&mut writer, &mut reader, rounds);
    // A fifth on a quiet machine; here the median may double, and no delivery waits for the slow one.
    assert!(beside.0 < quiet.0 * 2 + Duration::from_millis(1), "{quiet:?} became {beside:?}");
    assert!(beside.1 < quiet.1 * 2 + Duration::from_millis(20), "{quiet:?} became {beside:?}");

    let again = Instant::now();
    let mut input =
        BufReader::new(std::io::Cursor::new(taken).chain(slow.try_clone().expect("a descriptor")));
    receive_all(&mut input, &mut slow, TOPIC, count);
    println!(
        "{count} waited: {grown} bytes more ({backlog} of payload); others had them in {delivered_in:?}, \
         p50 and p99 of a probe {quiet:?}, beside it {beside:?}; read again in {:?}",
        again.elapsed()
    );
    drop(input);
    eventually("nothing waits", || {
        (Exposition::parse(&broker.get("/metrics").1).sum("mqtt_queue_messages", &[]) == 0.0).then_some(())
    });
    ping(&mut slow);
    eventually("most of its memory is given back", || {
        (resident(broker.pid()) < before + grown / 2).then_some(())
    });
}
