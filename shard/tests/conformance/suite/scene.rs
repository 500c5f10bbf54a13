//! What a case sees: a broker, the version under test, and a root that keeps it apart from other cases.

use std::cell::RefCell;
use std::rc::Rc;

use protocol::{PropertyId, ReasonCode, Version};

use super::case::{Real, version_name};
use super::core::Core;
use super::options::{Options, id};
use super::peer::Peer;
use super::received::Properties;

/// Names a connection of a driver.
pub type Socket = usize;

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    Bytes,
    /// Nothing, and nothing will come unless something is done or time passes.
    Nothing,
    /// The broker has closed, and all its bytes were read.
    End,
}

/// How long to wait for bytes on a real socket. The pure core knows at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Something has to come: up to some seconds.
    Expecting,
    /// Nothing should come: until the broker has served all that was sent before.
    Doubting,
}

/// Connects cases with a broker: the pure core or the real binary.
pub trait Driver {
    fn shards(&self) -> u16;
    /// How late things may be.
    fn slack_ms(&self) -> u64;
    /// A new connection; None if the broker refuses it at once.
    fn open(&mut self) -> Option<Socket>;
    /// Writes bytes, in one segment where that can be said.
    fn write(&mut self, socket: Socket, bytes: &[u8]);
    /// Appends what came to `into`.
    fn read(&mut self, socket: Socket, into: &mut Vec<u8>, patience: Patience) -> Input;
    /// The client ends the connection without a DISCONNECT.
    fn close(&mut self, socket: Socket);
    /// Lets time pass.
    fn pass(&mut self, ms: u64);
    /// What only the pure core can do.
    fn core(&mut self) -> Option<&mut dyn Core> {
        None
    }
}

pub type SharedDriver = Rc<RefCell<Box<dyn Driver>>>;

/// One run of a case.
pub struct Scene {
    /// The version under test; clients of other versions are opened by `Options::version`.
    pub version: Version,
    driver: SharedDriver,
    /// Level above all topics of the case, with its slash, and prefix of its client ids; empty on a broker of its own.
    root: Rc<str>,
}

impl Scene {
    /// `number` is unique for the broker.
    pub fn new(driver: Box<dyn Driver>, version: Version, real: Real, number: usize) -> Scene {
        let root = match real {
            Real::Alone => String::new(),
            _ => format!("k{number}{}/", version_name(version)),
        };
        Scene { version, driver: Rc::new(RefCell::new(driver)), root: root.into() }
    }

    pub fn shards(&self) -> u16 {
        self.driver.borrow().shards()
    }

    /// Milliseconds by which a case keeps away from a moment at which something happens: 0 where time is a number.
    pub fn slack_ms(&self) -> u64 {
        self.driver.borrow().slack_ms()
    }

    /// The Message Expiry Interval of a message that has just been published with this one: what passed on its way is
    /// taken off and the rest rounded down, so where time passes it may be a second less.
    #[track_caller]
    pub fn assert_expiry(&self, properties: &Properties, seconds: u32) {
        let least = seconds - u32::from(self.slack_ms() > 0);
        let found = properties.number(PropertyId::MessageExpiryInterval);
        assert!(found.is_some_and(|found| (least..=seconds).contains(&found)), "{found:?}, sent {seconds}");
    }

    /// The first where cases with large numbers take them in full: in one of the runs, so that all of them together stay
    /// short. The second elsewhere.
    pub fn full_or<T>(&self, full: T, other: T) -> T {
        if self.is_v5() && self.shards() > 1 { full } else { other }
    }

    pub fn is_v5(&self) -> bool {
        self.version == Version::V5
    }

    /// A topic or filter as it is on the wire: below the root of the case. `Peer`'s verbs do it by themselves.
    pub fn topic(&self, topic: &str) -> String {
        rooted(&self.root, topic)
    }

    /// A client id as it is on the wire.
    pub fn client_id(&self, client_id: &str) -> String {
        self.root.replace('/', "-") + client_id
    }

    /// A client id that is this long on the wire.
    pub fn id_of_len(&self, bytes: usize) -> Options {
        id(&"x".repeat(bytes - self.client_id("").len()))
    }

    /// A connection that has sent nothing yet.
    pub fn open(&mut self) -> Peer {
        self.open_version(self.version)
    }

    pub fn open_version(&mut self, version: Version) -> Peer {
        let socket = self.driver.borrow_mut().open().expect("the broker accepts the connection");
        Peer::new(self.driver.clone(), socket, version, self.root.clone())
    }

    /// A connected client with a clean session and no keep alive, of the version under test.
    pub fn connect(&mut self, client_id: &str) -> Peer {
        self.connect_with(&id(client_id))
    }

    /// Connects; the CONNACK has to say success.
    pub fn connect_with(&mut self, options: &Options) -> Peer {
        let mut peer = self.try_connect(options);
        let connack = peer.expect_connack();
        assert_eq!(connack.code, 0, "refused: {connack:?}");
        peer
    }

    /// Connects; session present has to be as said (3.1 does not tell).
    #[track_caller]
    pub fn reconnect(&mut self, options: &Options, is_present: bool) -> Peer {
        let mut peer = self.try_connect(options);
        let expected = is_present && peer.version != Version::V31;
        assert_eq!(peer.expect_connected(), expected, "session present");
        peer
    }

    /// A connected client that is subscribed.
    pub fn subscriber(&mut self, client_id: &str, filter: &str, qos: u8) -> Peer {
        let mut peer = self.connect(client_id);
        peer.subscribe(filter, qos);
        peer
    }

    /// Sends a CONNECT and leaves the answer to the case.
    pub fn try_connect(&mut self, options: &Options) -> Peer {
        let mut peer = self.open_version(options.version.unwrap_or(self.version));
        let bytes = self.encode(options);
        peer.write(&bytes);
        peer
    }

    /// The CONNECT of the options, with the root in client id and will topic.
    pub fn encode(&self, options: &Options) -> Vec<u8> {
        options.encode(self.version, |client_id| self.client_id(client_id), |topic| self.topic(topic))
    }

    /// These bytes on a new connection are refused as a CONNECT.
    #[track_caller]
    pub fn expect_refused(&mut self, bytes: &[u8], code: ReasonCode) {
        let mut peer = self.open();
        peer.write(bytes);
        peer.expect_refusal(code);
    }

    /// These bytes of a connected client end its connection.
    #[track_caller]
    pub fn expect_faulty(&mut self, bytes: &[u8], code: ReasonCode) {
        let mut peer = self.connect("faulty");
        peer.write(bytes);
        peer.expect_fault(code);
    }

    /// For cases that run in the pure core only.
    pub fn core<T>(&mut self, act: impl FnOnce(&mut dyn Core) -> T) -> T {
        act(self.driver.borrow_mut().core().expect("the case is marked as core_only"))
    }

    /// A figure over all shards, of a case that runs in the pure core only.
    pub fn figure(&mut self, figure: impl Fn(&shard::Metrics) -> u64) -> u64 {
        self.core(|core| core.figure(&figure))
    }

    /// Lets time pass. The real binary is really waited for.
    pub fn pass(&mut self, ms: u64) {
        self.driver.borrow_mut().pass(ms);
    }
}

/// Puts the root above a topic or filter; `$share/group/` stays in front.
pub fn rooted(root: &str, topic: &str) -> String {
    if let Some(rest) = topic.strip_prefix("$share/")
        && let Some((group, filter)) = rest.split_once('/')
    {
        return format!("$share/{group}/{root}{filter}");
    }
    format!("{root}{topic}")
}
