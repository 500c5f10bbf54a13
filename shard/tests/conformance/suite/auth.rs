//! Enhanced authentication (3.15, 4.12). The methods come with the control plane; here the core's exchange is shown with
//! the authenticator of `Set::Login`.

use super::prelude::*;
use super::wire::packet;

const NEEDS_METHOD: &str = "needs an enhanced method";

pub fn cases() -> Vec<Case> {
    vec![
        case!(an_unknown_method_is_refused).v5("4.12.0-1"),
        case!(an_unknown_method_is_refused_beside_known_ones)
            .v5("4.12.0-1")
            .with(&[Set::Login])
            .core_only(NEEDS_METHOD),
        case!(an_exchange_leads_to_connack)
            .v5("4.12.0-2 4.12.0-5 3.15.2-1 3.15.2-2 3.15.2-3")
            .with(&[Set::Login])
            .core_only(NEEDS_METHOD),
        case!(the_client_continues_with_0x18)
            .v5("4.12.0-3 3.15.2-1 4.12.0-5")
            .with(&[Set::Login])
            .core_only(NEEDS_METHOD),
        case!(an_exchange_may_be_refused).v5("4.12.0-4 3.2.2-7").with(&[Set::Login]).core_only(NEEDS_METHOD),
        case!(no_auth_exceeds_the_clients_maximum).v5("3.1.2-24").with(&[Set::Login]).core_only(NEEDS_METHOD),
        case!(a_client_may_leave_during_the_exchange)
            .v5("3.1.2-30")
            .with(&[Set::Login])
            .core_only(NEEDS_METHOD),
        case!(nothing_but_auth_comes_before_connack)
            .v5("3.1.2-30")
            .with(&[Set::Login])
            .core_only(NEEDS_METHOD),
        case!(without_a_method_there_is_no_auth).v5("4.12.0-6 4.12.0-7"),
        case!(a_login_without_a_method_has_none_in_connack)
            .v5("4.12.0-6")
            .with(&[Set::Login])
            .core_only("needs an authenticator"),
        case!(re_authentication_uses_the_method)
            .v5("4.12.1-1 3.2.0-2 4.12.0-5")
            .with(&[Set::Login])
            .core_only(NEEDS_METHOD),
        case!(a_failed_re_authentication_closes).v5("4.12.1-2").with(&[Set::Login]).core_only(NEEDS_METHOD),
        case!(malformed_auth_is_refused).v5("3.15.2-1 4.13.1-1"),
    ]
}

fn challenging(method: &str, data: &[u8]) -> super::options::Options {
    id("c").properties(|w| {
        w.str(PropertyId::AuthenticationMethod, method).bytes(PropertyId::AuthenticationData, data)
    })
}

fn auth(code: u8, method: &str, data: &[u8]) -> Vec<u8> {
    let section = properties(|w| {
        w.str(PropertyId::AuthenticationMethod, method).bytes(PropertyId::AuthenticationData, data)
    });
    packet(0xF0, [&[code][..], &wire::section(section)].concat())
}

#[track_caller]
fn expect_auth(client: &mut Peer, code: u8, data: &[u8]) {
    match client.expect_packet() {
        Received::Auth(auth) => {
            assert_eq!(auth.code, code);
            assert_eq!(auth.properties.text(PropertyId::AuthenticationMethod), Some("CHALLENGE"));
            assert_eq!(auth.properties.binary(PropertyId::AuthenticationData), Some(data));
        }
        other => panic!("AUTH was expected, {other:?} came"),
    }
}

/// A client that went through the exchange.
fn authenticated(scene: &mut Scene) -> Peer {
    let mut client = scene.try_connect(&challenging("CHALLENGE", b"hello"));
    expect_auth(&mut client, 0x18, b"question");
    client.write(&auth(0x18, "CHALLENGE", b"answer"));
    let connack = client.expect_connack();
    assert_eq!(connack.code, 0);
    assert_eq!(connack.properties.text(PropertyId::AuthenticationMethod), Some("CHALLENGE"));
    assert_eq!(connack.properties.binary(PropertyId::AuthenticationData), Some(&b"welcome"[..]));
    client
}

fn an_unknown_method_is_refused(scene: &mut Scene) {
    for method in ["X", "", "SCRAM-SHA-999"] {
        let mut client = scene.try_connect(&challenging(method, b"data"));
        client.expect_refusal(ReasonCode::BadAuthenticationMethod);
    }
}

fn an_unknown_method_is_refused_beside_known_ones(scene: &mut Scene) {
    for method in ["X", "challenge", "CHALLENGE2"] {
        let mut client = scene.try_connect(&challenging(method, b"hello").login("user", "secret"));
        client.expect_refusal(ReasonCode::BadAuthenticationMethod);
    }
}

fn an_exchange_leads_to_connack(scene: &mut Scene) {
    // On every shard: the CONNECT may arrive elsewhere than at home.
    for _ in 0..3 {
        let mut client = authenticated(scene);
        client.subscribe("t", 1);
        client.publish("t", "x", 1);
        client.expect_texts(&["x"]);
        client.disconnect();
    }
}

fn the_client_continues_with_0x18(scene: &mut Scene) {
    for bytes in [
        auth(0x00, "CHALLENGE", b"answer"),
        auth(0x19, "CHALLENGE", b"answer"),
        auth(0x18, "OTHER", b"answer"),
        packet(0xF0, [0x18, 0]),
    ] {
        let mut client = scene.try_connect(&challenging("CHALLENGE", b"hello"));
        expect_auth(&mut client, 0x18, b"question");
        client.write(&bytes);
        client.expect_refusal(ReasonCode::ProtocolError);
    }
}

fn an_exchange_may_be_refused(scene: &mut Scene) {
    let mut client = scene.try_connect(&challenging("CHALLENGE", b"nonsense"));
    client.expect_refusal(ReasonCode::NotAuthorized);
    let mut client = scene.try_connect(&challenging("CHALLENGE", b"hello"));
    expect_auth(&mut client, 0x18, b"question");
    client.write(&auth(0x18, "CHALLENGE", b"wrong answer"));
    client.expect_refusal(ReasonCode::NotAuthorized);
}

/// The reader looks at every size. An exchange that cannot go on ends.
fn no_auth_exceeds_the_clients_maximum(scene: &mut Scene) {
    // AUTH of the exchange has 27 bytes, that of its end 26; CONNACK is larger.
    let auth_len = 27;
    let mut client = scene.try_connect(&challenging("CHALLENGE", b"hello").packet_size_max(auth_len - 1));
    client.expect_refusal(ReasonCode::PacketTooLarge);
    let mut client = scene.try_connect(&challenging("CHALLENGE", b"hello").packet_size_max(auth_len));
    expect_auth(&mut client, 0x18, b"question");
    client.write(&auth(0x18, "CHALLENGE", b"answer"));
    client.expect_end();
}

fn a_client_may_leave_during_the_exchange(scene: &mut Scene) {
    let mut client = scene.try_connect(&challenging("CHALLENGE", b"hello"));
    expect_auth(&mut client, 0x18, b"question");
    client.write(&[0xE0, 0]);
    client.expect_end();
}

fn nothing_but_auth_comes_before_connack(scene: &mut Scene) {
    let topic = scene.topic("t");
    let mut watcher = authenticated(scene);
    watcher.subscribe("t", 1);
    for bytes in [
        wire::publish(Version::V5, 0x31, &topic, None, &[], "never"),
        wire::request(Version::V5, 0x82, 1, [&wire::field(&topic)[..], &[0]].concat()),
        vec![0xC0, 0],
    ] {
        let options = challenging("CHALLENGE", b"hello");
        let mut client = scene.open();
        let connect = scene.encode(&options);
        // Another client id than the watcher's.
        let connect: Vec<u8> = {
            let mut changed = connect;
            *changed.last_mut().expect("a client id stands at the end") = b'd';
            changed
        };
        client.write(&connect);
        expect_auth(&mut client, 0x18, b"question");
        client.write(&bytes);
        client.expect_refusal(ReasonCode::ProtocolError);
    }
    watcher.expect_silence();
}

fn without_a_method_there_is_no_auth(scene: &mut Scene) {
    // The reader refuses an AUTH, and a method in CONNACK.
    for bytes in [auth(0x18, "X", b""), auth(0x19, "X", b""), packet(0xF0, []), packet(0xF0, [0x19, 0])] {
        scene.expect_faulty(&bytes, ReasonCode::ProtocolError);
    }
    let mut client = scene.try_connect(&id("c"));
    let properties = client.expect_connack().properties;
    assert!(!properties.has(PropertyId::AuthenticationMethod));
    assert!(!properties.has(PropertyId::AuthenticationData));
}

fn a_login_without_a_method_has_none_in_connack(scene: &mut Scene) {
    let mut client = scene.try_connect(&id("c").login("user", "secret"));
    let connack = client.expect_connack();
    assert_eq!(connack.code, 0);
    assert!(!connack.properties.has(PropertyId::AuthenticationMethod));
}

fn re_authentication_uses_the_method(scene: &mut Scene) {
    let mut client = authenticated(scene);
    client.subscribe("t", 0);
    for _ in 0..2 {
        client.write(&auth(0x19, "CHALLENGE", b"hello"));
        expect_auth(&mut client, 0x18, b"question");
        // Everything else goes on meanwhile.
        client.publish("t", "x", 0);
        client.expect_texts(&["x"]);
        client.ping();
        client.write(&auth(0x18, "CHALLENGE", b"answer"));
        expect_auth(&mut client, 0x00, b"welcome");
    }
    for bytes in [auth(0x19, "OTHER", b"hello"), auth(0x18, "CHALLENGE", b"answer"), packet(0xF0, [0x19, 0])]
    {
        let mut client = authenticated(scene);
        client.write(&bytes);
        client.expect_disconnect(ReasonCode::ProtocolError);
    }
}

fn a_failed_re_authentication_closes(scene: &mut Scene) {
    let mut client = authenticated(scene);
    client.write(&auth(0x19, "CHALLENGE", b"hello"));
    expect_auth(&mut client, 0x18, b"question");
    client.write(&auth(0x18, "CHALLENGE", b"wrong"));
    client.expect_disconnect(ReasonCode::NotAuthorized);
}

fn malformed_auth_is_refused(scene: &mut Scene) {
    scene.expect_faulty(&packet(0xF0, [0x01]), ReasonCode::ProtocolError);
    scene.expect_faulty(&packet(0xF0, [0x80, 0]), ReasonCode::ProtocolError);
    scene.expect_faulty(&packet(0xF0, [0x19, 5, 0x15, 0, 9]), ReasonCode::MalformedPacket);
    // Data without a method.
    scene.expect_faulty(&packet(0xF0, [0x19, 4, 0x16, 0, 1, 0]), ReasonCode::ProtocolError);
    scene.expect_faulty(&packet(0xF0, [0x19, 2, 0x21, 0]), ReasonCode::MalformedPacket);
}
