//! The cases of `shard/tests/conformance` against the real binary over TCP, at 1 and at 2 shards. Cases of the same
//! configuration share a broker and run beside each other: most of their time is waiting.

#[path = "../../shard/tests/conformance/suite/mod.rs"]
mod suite;
mod support;

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use suite::case::{Case, Real, Set, version_name};
use suite::scene::{Driver, Input, Patience, Scene, Socket};
use support::Broker;
use support::barrier::Barrier;

const CONCURRENT_CASES: usize = 24;

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(CONCURRENT_CASES);
    let brokers = Arc::new(Brokers::default());
    let mut trials = vec![];
    for case in suite::cases().into_iter().filter(Case::runs_against_binary) {
        for &version in case.versions_run() {
            for shards in [1, 2] {
                let options: Options = case.with.iter().map(|setting| option(setting, shards)).collect();
                let name = format!("{}::{}::{shards}_shards", case.test_name(version), version_name(version));
                let (brokers, number) = (brokers.clone(), trials.len());
                trials.push(Trial::test(name, move || {
                    let broker = match case.real {
                        Real::Alone => Arc::new(start(shards, &options)),
                        _ => brokers.get(shards, &options),
                    };
                    let driver = Box::new(TcpDriver::new(broker.address(), shards as u16));
                    (case.run)(&mut Scene::new(driver, version, case.real, number));
                    Ok(())
                }));
            }
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // `exit` runs no destructors: the brokers have to be stopped before.
    brokers.stop();
    conclusion.exit();
}

type Options = Vec<(&'static str, String)>;

/// A setting as an option of the binary.
fn option(setting: &Set, shards: usize) -> (&'static str, String) {
    let off = || "false".to_owned();
    match *setting {
        Set::MaximumQos(level) => ("mqtt.maximum_qos", level.to_string()),
        Set::RetainUnavailable => ("mqtt.retain_available", off()),
        Set::WildcardsUnavailable => ("mqtt.wildcards_available", off()),
        Set::SharedUnavailable => ("mqtt.shared_subscriptions_available", off()),
        Set::SubscriptionIdsUnavailable => ("mqtt.subscription_ids_available", off()),
        Set::ReceiveMaximum(count) => ("mqtt.receive_maximum", count.to_string()),
        Set::TopicAliasMax(count) => ("mqtt.topic_alias_max", count.to_string()),
        Set::TopicAliasOutMax(count) => ("mqtt.topic_alias_out_max", count.to_string()),
        Set::PacketSizeMax(bytes) => ("mqtt.packet_size_max", format!("{bytes} B")),
        Set::KeepAliveMax(seconds) => ("mqtt.keep_alive_max", format!("{seconds}s")),
        Set::SessionExpiryMax(seconds) => ("session.expiry_max", format!("{seconds}s")),
        Set::SessionExpiry3x(seconds) => ("session.expiry_3x", format!("{seconds}s")),
        Set::ClientIdBytesMax(bytes) => ("mqtt.client_id_bytes_max", bytes.to_string()),
        Set::QueueMessagesMax(count) => ("session.queue_messages_max", count.to_string()),
        Set::InflightMax(count) => ("mqtt.inflight_max", count.to_string()),
        Set::RetainedCountMax(count) => ("retained.messages_max", (count * shards as u64).to_string()),
        Set::SubscriptionsMax(count) => ("session.subscriptions_max", count.to_string()),
        Set::OverlapPerSubscription => ("mqtt.overlap", "per-subscription".to_owned()),
        Set::ResponseInformation(text) => ("mqtt.response_information", text.to_owned()),
        Set::Qos0Queued => ("session.queue_qos0", "true".to_owned()),
        Set::PayloadFormatChecked => ("mqtt.payload_format_checked", "true".to_owned()),
        Set::DeniedPublishCloses => ("mqtt.denied_publish_3x", "close".to_owned()),
        Set::DeniedLevel | Set::Login => panic!("`Case::runs_against_binary` keeps {setting:?} away"),
    }
}

fn start(shards: usize, options: &Options) -> Broker {
    // The broker's own retained messages would take the places of the cases' ones.
    let builder = Broker::with_shards(shards).set("sys_topics.interval", "0s");
    options.iter().fold(builder, |builder, (option, value)| builder.set(option, value)).start()
}

/// One broker for each configuration, started by the first case that needs it.
#[derive(Default)]
struct Brokers(Mutex<HashMap<(usize, Options), Slot>>);

/// Filled by the first case that asks; the others wait for it.
type Slot = Arc<OnceLock<Arc<Broker>>>;

impl Brokers {
    fn get(&self, shards: usize, options: &Options) -> Arc<Broker> {
        let slot = self.slots().entry((shards, options.clone())).or_default().clone();
        slot.get_or_init(|| Arc::new(start(shards, options))).clone()
    }

    fn stop(&self) {
        self.slots().clear();
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<(usize, Options), Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Clients on real sockets.
struct TcpDriver {
    broker: SocketAddr,
    shards: u16,
    /// None once the client has ended the connection.
    sockets: Vec<Option<TcpStream>>,
    /// Made when it is first needed.
    barrier: Option<Barrier>,
}

/// What has to come comes within this time, also on a machine that does much else.
const EXPECTING: Duration = Duration::from_secs(15);

impl TcpDriver {
    fn new(broker: SocketAddr, shards: u16) -> TcpDriver {
        TcpDriver { broker, shards, sockets: vec![], barrier: None }
    }

    fn stream(&mut self, socket: Socket) -> &mut TcpStream {
        self.sockets[socket].as_mut().expect("the client has not ended the connection")
    }
}

impl Driver for TcpDriver {
    fn shards(&self) -> u16 {
        self.shards
    }

    fn slack_ms(&self) -> u64 {
        700
    }

    fn open(&mut self) -> Option<Socket> {
        let stream = TcpStream::connect(self.broker).ok()?;
        stream.set_nodelay(true).expect("a TCP option");
        self.sockets.push(Some(stream));
        Some(self.sockets.len() - 1)
    }

    fn write(&mut self, socket: Socket, bytes: &[u8]) {
        // The broker may have closed already; the case sees it when it reads.
        let _ = self.stream(socket).write_all(bytes);
    }

    fn read(&mut self, socket: Socket, into: &mut Vec<u8>, patience: Patience) -> Input {
        let stream = self.stream(socket);
        if patience == Patience::Expecting {
            stream.set_read_timeout(Some(EXPECTING)).expect("a valid timeout");
            return read(stream, into);
        }
        stream.set_nonblocking(true).expect("a socket");
        let mut input = read(stream, into);
        if input == Input::Nothing {
            self.barrier.get_or_insert_with(|| Barrier::new(self.broker)).pass();
            input = read(self.stream(socket), into);
        }
        self.stream(socket).set_nonblocking(false).expect("a socket");
        input
    }

    fn close(&mut self, socket: Socket) {
        let Some(mut stream) = self.sockets[socket].take() else { return };
        let _ = stream.shutdown(Shutdown::Write);
        // The broker closes when it has seen it: what the case does next comes after.
        let _ = stream.set_read_timeout(Some(EXPECTING));
        let mut rest = vec![];
        let _ = stream.read_to_end(&mut rest);
    }

    fn pass(&mut self, ms: u64) {
        std::thread::sleep(Duration::from_millis(ms));
    }
}

fn read(stream: &mut TcpStream, into: &mut Vec<u8>) -> Input {
    let mut buffer = [0; 16 * 1024];
    match stream.read(&mut buffer) {
        Ok(0) => Input::End,
        Ok(len) => {
            into.extend_from_slice(&buffer[..len]);
            Input::Bytes
        }
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Input::Nothing,
            ErrorKind::ConnectionReset => Input::End,
            _ => panic!("reading: {error}"),
        },
    }
}
