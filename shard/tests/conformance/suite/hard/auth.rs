//! HC-AUT: the exchange of enhanced authentication. Orderly stops are in `broker/tests/hard_shutdown.rs`.

use crate::suite::options::Options;
use crate::suite::prelude::*;

pub fn cases() -> Vec<Case> {
    const WHY: &str = "needs an authenticator";
    let login = &[Set::Login];
    vec![
        case!(auth_that_fits_nothing).hard("HC-AUT-1").versions(ONLY_V5).with(login).core_only(WHY),
        case!(packets_within_the_exchange).hard("HC-AUT-2").versions(ONLY_V5).with(login).core_only(WHY),
        case!(the_exchange_never_ends).hard("HC-AUT-2").versions(ONLY_V5).with(login).core_only(WHY),
        case!(reauthentication_while_messages_flow)
            .hard("HC-AUT-3")
            .versions(ONLY_V5)
            .with(login)
            .core_only(WHY),
    ]
}

fn challenge(name: &str) -> Options {
    id(name).properties(|w| {
        w.str(PropertyId::AuthenticationMethod, "CHALLENGE").bytes(PropertyId::AuthenticationData, b"hello")
    })
}

fn auth(code: u8, method: &str, data: &[u8]) -> Vec<u8> {
    let section = properties(|w| {
        w.str(PropertyId::AuthenticationMethod, method).bytes(PropertyId::AuthenticationData, data)
    });
    wire::packet(0xF0, [&[code][..], &wire::section(section)].concat())
}

fn expect_question(peer: &mut Peer) {
    match peer.expect_packet() {
        Received::Auth(auth) => {
            assert_eq!(auth.code, 0x18);
            assert_eq!(auth.properties.binary(PropertyId::AuthenticationData), Some(&b"question"[..]));
        }
        other => panic!("AUTH was expected, {other:?} came"),
    }
}

fn connect(scene: &mut Scene, options: &Options) -> Peer {
    let mut peer = scene.try_connect(options);
    expect_question(&mut peer);
    peer.write(&auth(0x18, "CHALLENGE", b"answer"));
    peer.expect_connected();
    peer
}

fn auth_that_fits_nothing(scene: &mut Scene) {
    // Without a method in CONNECT.
    let mut plain = scene.connect_with(&id("plain").login("user", "secret"));
    plain.write(&auth(0x19, "CHALLENGE", b"hello"));
    plain.expect_disconnect(ReasonCode::ProtocolError);
    // Before CONNECT.
    let mut early = scene.open();
    early.write(&auth(0x18, "CHALLENGE", b"hello"));
    early.expect_end();
    // Another method, another reason.
    for wrong in
        [auth(0x18, "OTHER", b"answer"), auth(0x19, "CHALLENGE", b"hello"), auth(0x00, "CHALLENGE", b"")]
    {
        let mut peer = scene.try_connect(&challenge("c"));
        expect_question(&mut peer);
        peer.write(&wrong);
        peer.expect_refusal(ReasonCode::ProtocolError);
        let mut live = connect(scene, &challenge("c"));
        let wrong_later = if wrong[2] == 0x19 { auth(0x18, "CHALLENGE", b"hello") } else { wrong };
        live.write(&wrong_later);
        live.expect_disconnect(ReasonCode::ProtocolError);
    }
    let mut peer = scene.try_connect(&challenge("c"));
    expect_question(&mut peer);
    peer.write(&auth(0x20, "CHALLENGE", b"answer"));
    peer.expect_refusal(ReasonCode::ProtocolError);
    let unknown = id("c").properties(|w| w.str(PropertyId::AuthenticationMethod, "UNKNOWN"));
    scene.try_connect(&unknown).expect_refusal(ReasonCode::BadAuthenticationMethod);
}

fn packets_within_the_exchange(scene: &mut Scene) {
    let mut watcher = scene.connect_with(&id("watcher").login("user", "secret"));
    watcher.subscribe("#", 0);
    let packets = [
        wire::publish(Version::V5, 0x30, "t", None, &[], "m"),
        vec![0xC0, 0],
        wire::request(Version::V5, 0x82, 1, [&wire::field("t")[..], &[0]].concat()),
        scene.encode(&challenge("c")),
    ];
    for packet in packets {
        let mut peer = scene.try_connect(&challenge("c").will(will("will", "w")));
        expect_question(&mut peer);
        peer.write(&packet);
        peer.expect_refusal(ReasonCode::ProtocolError);
    }
    watcher.expect_silence();
    assert_eq!(scene.figure(|m| m.sessions), 1);
}

fn the_exchange_never_ends(scene: &mut Scene) {
    let mut peer = scene.try_connect(&challenge("c"));
    for _ in 0..4 {
        expect_question(&mut peer);
        scene.pass(1_200);
        peer.write(&auth(0x18, "CHALLENGE", b"hello"));
    }
    expect_question(&mut peer);
    scene.pass(300);
    peer.expect_end();
    assert_eq!(scene.figure(|m| m.connect_rejected[shard::EndReason::ConnectTimeout as usize]), 1);
    assert_eq!(scene.figure(|m| m.sessions + m.connections_pending), 0);
}

fn reauthentication_while_messages_flow(scene: &mut Scene) {
    let mut publisher = scene.connect_with(&id("publisher").login("user", "secret"));
    let mut peer = connect(scene, &challenge("c").will(will("will", "w")));
    peer.subscribe("t", 1);
    let mut watcher = scene.connect_with(&id("watcher").login("user", "secret"));
    watcher.subscribe("will", 0);
    peer.write(&auth(0x19, "CHALLENGE", b"hello"));
    expect_question(&mut peer);
    publisher.publish("t", "meanwhile", 1);
    peer.expect_texts(&["meanwhile"]);
    peer.publish("other", "own", 1);
    peer.write(&auth(0x18, "CHALLENGE", b"answer"));
    match peer.expect_packet() {
        Received::Auth(auth) => assert_eq!(auth.code, 0),
        other => panic!("{other:?}"),
    }
    publisher.publish("t", "after", 1);
    peer.expect_texts(&["after"]);
    watcher.expect_silence();
    // It fails: the end, and the will.
    peer.write(&auth(0x19, "CHALLENGE", b"hello"));
    expect_question(&mut peer);
    peer.write(&auth(0x18, "CHALLENGE", b"wrong"));
    peer.expect_disconnect(ReasonCode::NotAuthorized);
    watcher.expect_texts(&["w"]);
}
