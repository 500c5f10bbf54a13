//! The shards on real sockets: what only the event loop can get wrong. Clients are blocking TCP streams that speak
//! MQTT with the codec; each read has a deadline, so a lost wake-up fails a test rather than hanging it.
#![cfg(feature = "runtime")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::{
    Connect, Decoder, Packet, Properties, Publish, QoS, ReasonCode, RetainHandling, Role, Subscribe,
    SubscribeFilters, SubscriptionOptions, Version,
};
use shard::runtime::{ListenerSpec, Runtime, RuntimeOptions, StartError, start};
use shard::{Config, Limits, MetricsSnapshot};

const PATIENCE: Duration = Duration::from_secs(20);

fn config(shards: usize) -> Config {
    let limits = Limits { connections_max: 100_000, ..Limits::default() };
    Config { shard_count: shards as u16, limits, ..Config::default() }
}

fn try_run(config: Config, address: &str) -> Result<Runtime, StartError> {
    let options = RuntimeOptions {
        cores: (0..config.shard_count as usize).collect(),
        is_pinned: false,
        busy_poll_us: 0,
        clock_origin: Instant::now(),
    };
    let listener =
        ListenerSpec { name: "tcp".into(), address: address.parse().expect("an address"), backlog: 4096 };
    start(options, vec![listener], Arc::new(config))
}

fn run(config: Config) -> Runtime {
    try_run(config, "127.0.0.1:0").expect("the shards start")
}

fn snapshots(runtime: &Runtime) -> Vec<MetricsSnapshot> {
    let all = runtime.control().snapshot(PATIENCE);
    all.into_iter().map(|snapshot| snapshot.expect("every shard answers")).collect()
}

fn stop(runtime: Runtime) {
    runtime.hurry();
    runtime.join().expect("the shards stop in order");
}

/// A blocking client.
struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    next_id: u16,
}

/// What a test looks at in a packet.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Message { topic: String, payload: Vec<u8>, qos: QoS, packet_id: u16 },
    Ack(u16),
    Other(&'static str, ReasonCode),
    End,
}

impl Client {
    fn open(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("a listener");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Client { stream, input: Vec::new(), next_id: 0 }
    }

    fn connect(address: SocketAddr, client_id: &str) -> Client {
        let mut client = Client::open(address);
        client.start_connect(client_id);
        assert_eq!(client.receive(), Seen::Other("connack", ReasonCode::Success), "{client_id}");
        client
    }

    fn start_connect(&mut self, client_id: &str) {
        self.send(&Packet::Connect(Box::new(Connect {
            version: Version::V5,
            is_bridge: false,
            clean_start: true,
            keep_alive: 0,
            client_id,
            will: None,
            user_name: None,
            password: None,
            properties: Properties::EMPTY,
        })));
    }

    fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(Version::V5, &mut bytes);
        self.stream.write_all(&bytes).expect("the broker reads");
    }

    fn subscribe(&mut self, filter: &str, qos: QoS) {
        self.next_id += 1;
        let mut wire = Vec::new();
        let options = SubscriptionOptions {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAlways,
        };
        SubscribeFilters::push(&mut wire, filter, options);
        self.send(&Packet::Subscribe(Subscribe {
            packet_id: self.next_id,
            properties: Properties::EMPTY,
            filters: SubscribeFilters::from_wire(&wire),
        }));
        assert_eq!(self.receive(), Seen::Ack(self.next_id), "SUBACK");
    }

    fn publish(&mut self, topic: &str, payload: &[u8], qos: QoS) -> u16 {
        let packet_id = if qos == QoS::AtMostOnce {
            0
        } else {
            self.next_id += 1;
            self.next_id
        };
        self.send(&Packet::Publish(Publish {
            dup: false,
            qos,
            retain: false,
            topic,
            packet_id,
            topic_alias: None,
            message_expiry: None,
            subscription_ids: &[],
            properties: Properties::EMPTY,
            payload,
        }));
        packet_id
    }

    fn receive(&mut self) -> Seen {
        let decoder = Decoder { role: Role::Client, version: Some(Version::V5), packet_size_max: u32::MAX };
        loop {
            let found = decoder.next_packet(&self.input).expect("the broker's packets are well formed");
            if let Some((packet, used)) = found {
                let seen = look_at(&packet);
                self.input.drain(..used);
                return seen;
            }
            let mut bytes = [0; 65_536];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Seen::End,
                Ok(count) => self.input.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Seen::End,
                // A read with a timeout is not restarted after a signal of the executors.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    fn receive_message(&mut self, topic: &str, payload: &[u8]) {
        match self.receive() {
            Seen::Message { topic: seen, payload: bytes, .. } if seen == topic && bytes == payload => {}
            other => panic!("not {topic}: {other:?}"),
        }
    }
}

fn look_at(packet: &Packet<'_>) -> Seen {
    match packet {
        Packet::ConnAck(ack) => Seen::Other("connack", ack.reason),
        Packet::Publish(publish) => Seen::Message {
            topic: publish.topic.to_owned(),
            payload: publish.payload.to_vec(),
            qos: publish.qos,
            packet_id: publish.packet_id,
        },
        Packet::PubAck(ack) => Seen::Ack(ack.packet_id),
        Packet::SubAck(ack) => Seen::Ack(ack.packet_id),
        Packet::Disconnect(disconnect) => Seen::Other("disconnect", disconnect.reason),
        Packet::PingResp => Seen::Other("pingresp", ReasonCode::Success),
        _ => Seen::Other("another packet", ReasonCode::Success),
    }
}

#[test]
fn clients_reach_each_other_wherever_they_live() {
    let runtime = run(config(2));
    let address = runtime.addresses()[0];
    let mut clients: Vec<Client> =
        (0..32).map(|n| Client::connect(address, &format!("client-{n}"))).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.subscribe(&format!("to/{n}"), QoS::AtLeastOnce);
    }
    for n in 0..32 {
        let to = (n + 7) % 32;
        let id = clients[n].publish(&format!("to/{to}"), b"hello", QoS::AtLeastOnce);
        assert_eq!(clients[n].receive(), Seen::Ack(id));
        clients[to].receive_message(&format!("to/{to}"), b"hello");
        // Takes the delivery off the way, so that the next publisher sees its PUBACK first.
    }
    let all = snapshots(&runtime);
    for (shard, snapshot) in all.iter().enumerate() {
        assert!(snapshot.metrics.connection_count() > 4, "shard {shard} has clients");
        assert!(
            snapshot.turns > 0 && snapshot.busy_ns > 0 && snapshot.ring_enters > 0 && snapshot.ring_sqes > 0
        );
    }
    assert_eq!(all.iter().map(|snapshot| snapshot.metrics.connection_count()).sum::<u64>(), 32);
    assert!(
        all.iter().any(|snapshot| snapshot.metrics.connections_moved > 0),
        "some were accepted elsewhere"
    );
    assert!(all.iter().any(|snapshot| snapshot.metrics.lane_messages > 0), "some messages crossed");
    stop(runtime);
}

#[test]
fn the_first_packets_may_come_in_any_pieces() {
    let runtime = run(config(2));
    let address = runtime.addresses()[0];
    for n in 0..8 {
        let client_id = format!("pieces-{n}");
        let mut bytes = Vec::new();
        let connect = Connect {
            version: Version::V5,
            is_bridge: false,
            clean_start: true,
            keep_alive: 0,
            client_id: &client_id,
            will: None,
            user_name: None,
            password: None,
            properties: Properties::EMPTY,
        };
        Packet::Connect(Box::new(connect)).encode(Version::V5, &mut bytes);
        Packet::PingReq.encode(Version::V5, &mut bytes);
        let mut client = Client::open(address);
        for piece in bytes.chunks(1 + n * 3) {
            client.stream.write_all(piece).expect("the broker reads");
        }
        assert_eq!(client.receive(), Seen::Other("connack", ReasonCode::Success));
        assert_eq!(client.receive(), Seen::Other("pingresp", ReasonCode::Success));
    }
    stop(runtime);
}

#[test]
fn large_messages_arrive_whole_and_in_order() {
    let runtime = run(config(2));
    let address = runtime.addresses()[0];
    let mut subscriber = Client::connect(address, "reader");
    subscriber.subscribe("large/#", QoS::AtLeastOnce);
    let mut publisher = Client::connect(address, "writer");
    for round in 0..20u8 {
        let payload: Vec<u8> =
            (0..300_000u32).map(|at| (at as u8).wrapping_mul(31).wrapping_add(round)).collect();
        let id = publisher.publish("large/one", &payload, QoS::AtLeastOnce);
        assert_eq!(publisher.receive(), Seen::Ack(id));
        subscriber.receive_message("large/one", &payload);
    }
    stop(runtime);
}

/// Both sides sleep before every message, many times: a lost wake-up would show as a read that times out.
#[test]
fn no_wake_up_is_lost_between_sleeping_shards() {
    let runtime = run(config(2));
    let address = runtime.addresses()[0];
    let mut clients: Vec<Client> = (0..4).map(|n| Client::connect(address, &format!("ping-{n}"))).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.subscribe(&format!("ping/{n}"), QoS::AtMostOnce);
    }
    for round in 0..5_000u32 {
        let to = (round as usize * 7 + 1) % 4;
        let from = (to + 1 + round as usize % 3) % 4;
        let topic = format!("ping/{to}");
        clients[from].publish(&topic, &round.to_be_bytes(), QoS::AtMostOnce);
        clients[to].receive_message(&topic, &round.to_be_bytes());
    }
    assert!(snapshots(&runtime).iter().any(|snapshot| snapshot.doorbells > 100), "they slept and were rung");
    stop(runtime);
}

#[test]
fn messages_of_one_publisher_stay_in_order_under_load() {
    const COUNT: u32 = 50_000;
    // The publisher does not wait for the readers, so all of it may have to wait for the slowest.
    let mut config = config(2);
    config.limits.queue_messages_max = COUNT;
    config.limits.queue_bytes_max = u64::MAX;
    let runtime = run(config);
    let address = runtime.addresses()[0];
    let readers: Vec<_> = (0..4)
        .map(|n| {
            let mut reader = Client::connect(address, &format!("ordered-{n}"));
            reader.subscribe("ordered", QoS::AtLeastOnce);
            reader
        })
        .collect();
    let threads: Vec<_> = readers
        .into_iter()
        .map(|mut reader| {
            std::thread::spawn(move || {
                for expected in 0..COUNT {
                    match reader.receive() {
                        Seen::Message { payload, packet_id, .. } => {
                            assert_eq!(payload, expected.to_be_bytes());
                            let ack = protocol::Ack::new(packet_id, ReasonCode::Success);
                            reader.send(&Packet::PubAck(ack));
                        }
                        other => panic!("{expected}: {other:?}"),
                    }
                }
            })
        })
        .collect();
    let mut publisher = Client::connect(address, "source");
    let mut acked = 0;
    for n in 0..COUNT {
        publisher.next_id = (n % 60_000) as u16;
        publisher.publish("ordered", &n.to_be_bytes(), QoS::AtLeastOnce);
        if n - acked >= 100 {
            assert!(matches!(publisher.receive(), Seen::Ack(_)));
            acked += 1;
        }
    }
    for thread in threads {
        thread.join().expect("nothing lost, nothing out of order");
    }
    stop(runtime);
}

#[test]
fn two_thousand_clients_connect_and_leave() {
    let runtime = run(config(2));
    let address = runtime.addresses()[0];
    let mut clients: Vec<Client> = (0..2000)
        .map(|n| {
            let mut client = Client::open(address);
            client.start_connect(&format!("many-{n}"));
            client
        })
        .collect();
    for client in &mut clients {
        assert_eq!(client.receive(), Seen::Other("connack", ReasonCode::Success));
    }
    let count = |runtime: &Runtime| {
        snapshots(runtime).iter().map(|snapshot| snapshot.metrics.connection_count()).sum::<u64>()
    };
    assert_eq!(count(&runtime), 2000);
    drop(clients);
    let until = Instant::now() + PATIENCE;
    while count(&runtime) > 0 {
        assert!(Instant::now() < until, "the broker sees that they left");
    }
    stop(runtime);
}

#[test]
fn a_drain_tells_the_clients_and_ends() {
    let runtime = run(config(2));
    let address = runtime.addresses()[0];
    let mut clients: Vec<Client> = (0..20).map(|n| Client::connect(address, &format!("drain-{n}"))).collect();
    runtime.drain();
    for client in &mut clients {
        assert_eq!(client.receive(), Seen::Other("disconnect", ReasonCode::ServerShuttingDown));
        assert_eq!(client.receive(), Seen::End);
    }
    drop(clients);
    runtime.join().expect("an orderly end");
    // The port is free again.
    let again = try_run(config(2), &address.to_string()).expect("the port can be used at once");
    drop(Client::connect(again.addresses()[0], "again"));
    stop(again);
}

#[test]
fn a_drain_does_not_wait_for_ever_for_a_client_that_stays() {
    let mut config = config(2);
    config.limits.drain_timeout_ms = 300;
    let runtime = run(config);
    let client = Client::connect(runtime.addresses()[0], "stays");
    runtime.drain();
    let began = Instant::now();
    runtime.join().expect("an orderly end");
    assert!(began.elapsed() < Duration::from_secs(3));
    drop(client);
}

#[test]
fn a_second_process_does_not_share_the_port_silently() {
    let runtime = run(config(1));
    let address = runtime.addresses()[0].to_string();
    match try_run(config(1), &address) {
        Err(error @ StartError::Bind { .. }) => assert!(error.to_string().contains(&address), "{error}"),
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("two brokers on one port"),
    }
    stop(runtime);
}

#[test]
fn a_core_that_is_not_there_is_named() {
    let options = RuntimeOptions {
        cores: vec![0, 4000],
        is_pinned: true,
        busy_poll_us: 0,
        clock_origin: Instant::now(),
    };
    match start(options, Vec::new(), Arc::new(config(2))) {
        Err(StartError::Executor { shard: 1, core: 4000, .. }) => {}
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("there are not that many cores"),
    }
}

#[test]
fn last_bytes_reach_a_client_that_is_still_sending() {
    let runtime = run(config(1));
    let mut client = Client::connect(runtime.addresses()[0], "talker");
    // An unknown packet type, then more than the socket's buffers hold at once: the answer must not be lost to a reset.
    let mut bytes = vec![0xf0 | 0x0f, 0x00];
    bytes.resize(200_000, 0);
    let _ = client.stream.write_all(&bytes);
    match client.receive() {
        Seen::Other("disconnect", _) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(client.receive(), Seen::End);
    stop(runtime);
}

#[test]
fn an_answer_reaches_a_client_that_closed_its_writing_side() {
    let runtime = run(config(1));
    let mut client = Client::open(runtime.addresses()[0]);
    // CONNECT with a protocol level that is not served.
    client
        .stream
        .write_all(&[0x10, 0x0d, 0, 4, b'M', b'Q', b'T', b'T', 9, 2, 0, 60, 0, 1, b'x'])
        .expect("the broker reads");
    client.stream.shutdown(Shutdown::Write).expect("half closed");
    let mut answer = Vec::new();
    client.stream.read_to_end(&mut answer).expect("an answer and the end");
    assert!(!answer.is_empty(), "a CONNACK with a reason");
    stop(runtime);
}

/// Runs in a process of its own, because the limit is the process's.
#[test]
fn descriptors_run_out() {
    let me = std::env::current_exe().expect("the test's own path");
    let output = Command::new(me)
        .args(["--exact", "descriptors_run_out_inside", "--ignored", "--nocapture"])
        .output()
        .expect("a child process");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

#[test]
#[ignore = "run by descriptors_run_out in a process with few descriptors"]
fn descriptors_run_out_inside() {
    let runtime = run(config(2));
    let address = runtime.addresses()[0];
    let mut early = Client::connect(address, "early");
    early.subscribe("early", QoS::AtMostOnce);
    // The clients' descriptors count too, so the process is full soon. `start` has raised the limit to the hard one;
    // a shard looks at the limit when it starts, the kernel always.
    let limit = libc::rlimit { rlim_cur: 128, rlim_max: 128 };
    // SAFETY: a valid rlimit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    let mut held = Vec::new();
    while let Ok(stream) = TcpStream::connect(address) {
        held.push(stream);
    }
    assert!(held.len() > 20, "{}", held.len());
    let before = snapshots(&runtime);
    let pause = Instant::now();
    // The early client is served while accepting is stuck.
    while pause.elapsed() < Duration::from_millis(700) {
        early.publish("early", b"still here", QoS::AtMostOnce);
        early.receive_message("early", b"still here");
        std::thread::sleep(Duration::from_millis(10));
    }
    let after = snapshots(&runtime);
    for (before, after) in before.iter().zip(&after) {
        let busy_ns = after.busy_ns - before.busy_ns;
        assert!(busy_ns < 200_000_000, "no busy loop: {busy_ns} ns of 700 ms");
        assert!(after.ring_enters - before.ring_enters < 5_000, "no busy loop");
    }
    drop(held);
    let late = Client::connect(address, "late");
    drop(late);
    stop(runtime);
}
