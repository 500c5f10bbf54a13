//! CONNACK and what it announces (3.2).

use super::prelude::*;

pub fn cases() -> Vec<Case> {
    vec![
        case!(connack_flags_are_0_or_1).v5("3.2.2-1 3.2.2-3").v311("3.2.2-1 3.2.2-2 3.2.2-3"),
        case!(a_refusal_says_no_session)
            .v5("3.2.2-6 3.2.2-7 3.2.2-8")
            .v311("3.2.2-4 3.2.2-5")
            .with(&[Set::MaximumQos(1)]),
        case!(refusals_have_their_codes).v5("3.2.2-7 3.2.2-8 4.13.2-1").v311("3.2.2-5 3.2.2-6"),
        case!(a_maximum_qos_is_told).v5("3.2.2-9").with(&[Set::MaximumQos(1)]),
        case!(a_maximum_qos_of_0_is_told).v5("3.2.2-9 3.2.2-11").with(&[Set::MaximumQos(0)]),
        case!(without_a_maximum_qos_none_is_told).v5("3.2.2-9"),
        case!(subscriptions_above_the_maximum_qos_are_granted_at_it)
            .v5("3.2.2-10")
            .with(&[Set::MaximumQos(0)]),
        case!(a_publish_above_the_maximum_qos_is_refused).v5("3.2.2-11").with(&[Set::MaximumQos(1)]),
        case!(a_will_above_the_maximum_qos_is_refused).v5("3.2.2-12").with(&[Set::MaximumQos(1)]),
        case!(response_information_only_where_it_is_wanted)
            .v5("3.1.2-28")
            .with(&[Set::ResponseInformation("answers/")]),
        case!(connack_carries_no_problem_information).v5("3.2.2-19 3.2.2-20"),
    ]
}

fn connack_flags_are_0_or_1(scene: &mut Scene) {
    for (options, flags) in [(id("c").kept(), 0), (id("c").kept(), 1), (id("c"), 0), (id("c").kept(), 0)] {
        let mut client = scene.try_connect(&options);
        if scene.is_v5() {
            // The reader refuses other bits.
            assert_eq!(client.expect_connack().session_present, flags == 1);
        } else {
            // 3.1 has a reserved byte there.
            let flags = if scene.version == Version::V31 { 0 } else { flags };
            client.expect_bytes(&[0x20, 2, flags, 0]);
        }
        client.cut();
    }
}

fn a_refusal_says_no_session(scene: &mut Scene) {
    scene.connect_with(&id("c").kept()).disconnect();
    let refused = id("c").kept().will(will("will", "x").qos(2));
    // `expect_refusal` looks at the flag. 3.x has no return code for it.
    scene.try_connect(&refused).expect_refusal(ReasonCode::QoSNotSupported);
    scene.reconnect(&id("c").kept(), true).ping();
    // Where it has one.
    let long = "x".repeat(2_000);
    let mut client = scene.try_connect(&id(&long).kept());
    if scene.is_v5() {
        client.expect_refusal(ReasonCode::ClientIdentifierNotValid);
    } else {
        client.expect_bytes(&[0x20, 2, 0, 2]);
        client.expect_end();
    }
}

fn refusals_have_their_codes(scene: &mut Scene) {
    let long = "x".repeat(2_000);
    scene.try_connect(&id(&long)).expect_refusal(ReasonCode::ClientIdentifierNotValid);
    let payload = wire::field(scene.client_id("c"));
    let mut wrong_level = wire::connect(scene.version, wire::CLEAN, &payload);
    let level_at = if scene.version == Version::V31 { 10 } else { 8 };
    wrong_level[level_at] = if scene.is_v5() { 9 } else { 1 };
    scene.expect_refused(&wrong_level, ReasonCode::UnsupportedProtocolVersion);
    let malformed = wire::connect(scene.version, wire::CLEAN, []);
    scene.expect_refused(&malformed, ReasonCode::MalformedPacket);
    if scene.is_v5() {
        let method = id("c").properties(|w| w.str(PropertyId::AuthenticationMethod, "X"));
        scene.try_connect(&method).expect_refusal(ReasonCode::BadAuthenticationMethod);
    }
}

fn a_maximum_qos_is_told(scene: &mut Scene) {
    let mut client = scene.try_connect(&id("c"));
    assert_eq!(client.expect_connack_number(PropertyId::MaximumQoS), Some(1));
    client.subscribe("t", 1);
    client.publish("t", "x", 1);
    client.expect_texts(&["x"]);
}

fn a_maximum_qos_of_0_is_told(scene: &mut Scene) {
    let mut client = scene.try_connect(&id("c"));
    assert_eq!(client.expect_connack_number(PropertyId::MaximumQoS), Some(0));
    client.send_publish(&message("t", "x").qos(1));
    client.expect_disconnect(ReasonCode::QoSNotSupported);
}

fn without_a_maximum_qos_none_is_told(scene: &mut Scene) {
    // 2 is not a value of the property.
    let mut client = scene.try_connect(&id("c"));
    assert_eq!(client.expect_connack_number(PropertyId::MaximumQoS), None);
}

fn subscriptions_above_the_maximum_qos_are_granted_at_it(scene: &mut Scene) {
    let mut client = scene.connect("c");
    assert_eq!(client.subscribe_all(&[("a", at(2)), ("b", at(1)), ("c", at(0))], &[]), [0, 0, 0]);
    client.publish("a", "x", 0);
    client.expect_texts(&["x"]);
}

fn a_publish_above_the_maximum_qos_is_refused(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "t", 1);
    let mut client = scene.connect("c");
    client.send_publish(&message("t", "x").qos(2));
    client.expect_disconnect(ReasonCode::QoSNotSupported);
    watcher.expect_silence();
}

fn a_will_above_the_maximum_qos_is_refused(scene: &mut Scene) {
    let options = |qos| id("c").will(will("will", "x").qos(qos));
    scene.try_connect(&options(2)).expect_refusal(ReasonCode::QoSNotSupported);
    scene.connect_with(&options(1)).ping();
}

fn response_information_only_where_it_is_wanted(scene: &mut Scene) {
    let asking = |value| id("c").properties(|w| w.u8(PropertyId::RequestResponseInformation, value));
    for (options, expected) in [(id("c"), None), (asking(0), None), (asking(1), Some("answers/"))] {
        let connack = scene.try_connect(&options).expect_connack();
        assert_eq!(connack.properties.text(PropertyId::ResponseInformation), expected);
    }
}

fn connack_carries_no_problem_information(scene: &mut Scene) {
    // There is none that a small Maximum Packet Size would have to take away, in success and refusal.
    for options in [id("c"), id(&"x".repeat(2_000))] {
        let connack = scene.try_connect(&options).expect_connack();
        assert!(!connack.properties.has(PropertyId::ReasonString));
        assert!(!connack.properties.has(PropertyId::UserProperty));
    }
    let mut client = scene.try_connect(&id(&"x".repeat(2_000)).packet_size_max(5));
    client.expect_bytes(&[0x20, 3, 0, ReasonCode::ClientIdentifierNotValid as u8, 0]);
    client.expect_end();
    let mut client = scene.try_connect(&id(&"x".repeat(2_000)).packet_size_max(4));
    client.expect_end();
}
