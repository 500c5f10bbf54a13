//! The table of conformance cases, and what they are written with. A case is a function over a [`scene::Scene`]; a
//! driver runs it against the pure core (`shard/tests/conformance`) or against the real binary (`broker/tests`).
#![allow(dead_code)]

pub mod case;
pub mod core;
pub mod options;
pub mod peer;
pub mod received;
pub mod scene;
mod watch;
pub mod wire;

mod auth;
mod connack;
mod connect;
mod disconnect;
mod flow;
mod format;
mod forward;
mod handshake;
mod hard;
mod ping;
mod publish;
mod retain;
mod session;
mod shared;
mod subscribe;
mod topics;
mod will;

use case::Case;

/// All cases.
pub fn cases() -> Vec<Case> {
    [
        auth::cases(),
        connack::cases(),
        connect::cases(),
        disconnect::cases(),
        flow::cases(),
        format::cases(),
        forward::cases(),
        handshake::cases(),
        hard::cases(),
        ping::cases(),
        publish::cases(),
        retain::cases(),
        session::cases(),
        shared::cases(),
        subscribe::cases(),
        topics::cases(),
        will::cases(),
    ]
    .concat()
}

/// What most cases use.
#[allow(unused_imports)]
pub mod prelude {
    pub use protocol::{PropertyId, ReasonCode, RetainHandling, SubscriptionOptions, Version};

    pub(crate) use super::case::case;
    pub use super::case::{ALL, Case, FROM_V311, ONLY_V5, ONLY_V31, ONLY_V311, Set, V3};
    pub use super::options::{at, id, message, properties, qos, will};
    pub use super::peer::Peer;
    pub use super::received::{Message, Received};
    pub use super::scene::Scene;
    pub use super::wire;
}
