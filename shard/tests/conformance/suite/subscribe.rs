//! SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK (3.8 to 3.11).

use super::prelude::*;
use super::wire::{field, join};

pub fn cases() -> Vec<Case> {
    vec![
        case!(requests_without_a_filter_are_refused).v5("3.8.3-2 3.10.3-2").v311("3.8.3-3 3.10.3-2"),
        case!(reserved_bits_of_options_are_refused).v5("3.8.3-5").v311("3.8.3-4"),
        case!(truncated_requests_are_malformed).v5("4.13.1-1").v311("4.8.0-1 3.10.3-1"),
        case!(no_local_keeps_own_messages_away).v5("3.8.3-3"),
        case!(no_local_on_a_shared_subscription_is_a_protocol_error).v5("3.8.3-4"),
        case!(the_same_filter_again_replaces).v5("3.8.4-3").v311("3.8.4-3"),
        case!(a_replacement_loses_nothing).v5("3.8.4-4").v311("3.8.4-3"),
        case!(several_filters_have_one_suback)
            .v5("3.8.4-5 3.8.4-6 3.8.4-7 3.9.3-1")
            .v311("3.8.4-4 3.8.4-5 3.9.3-1"),
        case!(several_filters_act_in_their_order).v5("3.8.4-5 3.8.4-3").v311("3.8.4-4"),
        case!(a_refused_filter_stands_in_its_place)
            .v5("3.8.4-7 3.9.3-1 3.9.3-2")
            .v311("3.8.4-5 3.9.3-1 3.9.3-2")
            .with(&[Set::DeniedLevel]),
        case!(the_bound_of_subscriptions_is_told)
            .v5("3.9.3-2")
            .v311("3.9.3-2")
            .with(&[Set::SubscriptionsMax(2)]),
        case!(what_is_unavailable_is_told).v5("3.9.3-2 3.2.2-8").v311("3.8.3-2 3.9.3-2").with(&[
            Set::WildcardsUnavailable,
            Set::SharedUnavailable,
            Set::SubscriptionIdsUnavailable,
        ]),
        case!(the_delivery_qos_is_the_lower_one).v5("3.8.4-8").v311("3.8.4-6"),
        case!(properties_of_subscribe_are_checked).v5("4.13.1-1"),
        case!(only_the_same_filter_is_unsubscribed).v5("3.10.4-1 3.10.4-5").v311("3.10.4-1 3.10.4-5"),
        case!(nothing_new_after_unsubscribe).v5("3.10.4-2").v311("3.10.4-2"),
        case!(what_is_in_flight_is_completed).v5("3.10.4-3").v311("3.10.4-3"),
        case!(several_filters_have_one_unsuback).v5("3.10.4-6 3.11.3-1 3.11.3-2").v311("3.10.4-6"),
        case!(a_subscription_works_as_soon_as_suback_is_there).v5("3.8.4-1 4.5.0-1").v311("3.8.4-1 4.5.0-1"),
    ]
}

fn requests_without_a_filter_are_refused(scene: &mut Scene) {
    for first in [0x82, 0xA2] {
        scene.expect_faulty(&wire::request(scene.version, first, 1, []), ReasonCode::ProtocolError);
    }
}

fn reserved_bits_of_options_are_refused(scene: &mut Scene) {
    let mut watcher = scene.connect("w");
    // QoS 3, Retain Handling 3 (protocol error by the table of options), reserved bits.
    let wrong: Vec<u8> = match scene.is_v5() {
        true => vec![0x03, 0x40, 0x80, 0xC1, 0x30],
        // 3.1 leaves the upper bits to the reader.
        false if scene.version == Version::V31 => vec![0x03],
        false => vec![0x03, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xFF],
    };
    for options in wrong {
        let mut client = scene.connect("c");
        let entries = join(&[&field(scene.topic("t")), &[0], &field(scene.topic("u")), &[options]]);
        client.write(&wire::request(scene.version, 0x82, 1, entries));
        client.expect_fault(match options {
            0x30 => ReasonCode::ProtocolError,
            _ => ReasonCode::MalformedPacket,
        });
    }
    watcher.ping();
}

fn truncated_requests_are_malformed(scene: &mut Scene) {
    let version = scene.version;
    let subscribe = wire::request(version, 0x82, 1, join(&[&field("t"), &[0], &field("uu"), &[1]]));
    let unsubscribe = wire::request(version, 0xA2, 1, join(&[&field("t"), &field("uu")]));
    let first_entry = if version == Version::V5 { 3 } else { 2 };
    for (whole, ends) in
        [(subscribe, vec![first_entry, first_entry + 4]), (unsubscribe, vec![first_entry, first_entry + 3])]
    {
        let body = &whole[2..];
        for len in (0..body.len()).filter(|len| !ends.contains(len)) {
            scene.expect_faulty(&wire::packet(whole[0], &body[..len]), ReasonCode::MalformedPacket);
        }
    }
}

fn no_local_keeps_own_messages_away(scene: &mut Scene) {
    let no_local = SubscriptionOptions { no_local: true, ..at(1) };
    let mut other = scene.connect("o");
    let mut client = scene.connect_with(&id("c").kept());
    client.subscribe_with("t", no_local);
    for qos in 0..3 {
        client.publish("t", "own", qos);
        other.publish("t", "other", qos);
        client.expect_texts(&["other"]);
    }
    // Own is who has the same client id: what it left in the broker is its own still.
    client.publish_retained("t", "own", 1);
    client.cut();
    let mut client = scene.reconnect(&id("c").kept(), true);
    client.publish("t", "own", 1);
    client.subscribe_with("t", no_local);
    client.expect_silence();
    // Without the option they come back.
    client.subscribe_with("t", SubscriptionOptions { retain_handling: RetainHandling::DoNotSend, ..at(1) });
    client.publish("t", "own", 1);
    client.expect_texts(&["own"]);
}

fn no_local_on_a_shared_subscription_is_a_protocol_error(scene: &mut Scene) {
    let mut client = scene.connect("c");
    let no_local = SubscriptionOptions { no_local: true, ..at(1) };
    client.send_subscribe(&[("t", at(1)), ("$share/g/t", no_local)], &[]);
    client.expect_disconnect(ReasonCode::ProtocolError);
}

fn the_same_filter_again_replaces(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut client = scene.connect("c");
    for (filter, topic) in [("t", "t"), ("a/+", "a/b")] {
        for qos in [2, 0, 1] {
            let identifier = properties(|w| w.varint(PropertyId::SubscriptionIdentifier, 10 + qos as u32));
            let section: &[u8] = if scene.is_v5() { &identifier } else { &[] };
            assert_eq!(client.subscribe_all(&[(filter, at(qos))], section), [qos]);
            publisher.publish(topic, "x", 2);
            let found = client.expect_message();
            assert_eq!(found.qos, qos);
            if scene.is_v5() {
                let numbers = found.properties.numbers(PropertyId::SubscriptionIdentifier);
                assert_eq!(numbers, [10 + qos as u32]);
            }
            client.acknowledge(&found);
            client.expect_silence();
        }
        // Without an identifier it has none any more; one UNSUBSCRIBE ends it.
        client.subscribe(filter, 0);
        publisher.publish(topic, "x", 0);
        assert!(client.expect_message().properties.is_empty());
        client.unsubscribe(&[filter]);
        publisher.publish(topic, "x", 0);
        client.expect_silence();
    }
}

fn a_replacement_loses_nothing(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut client = scene.connect_with(&id("c").kept());
    client.subscribe("t/+", 1);
    let mut found: Vec<String> = vec![];
    for i in 0..200 {
        // The publisher's PUBLISH and the client's SUBSCRIBE are under way at the same time.
        let packet_id = publisher.send_publish(&message("t/1", i.to_string()).qos(1));
        if i % 5 == 0 {
            client.subscribe("t/+", 1 + (i / 5) % 2);
        }
        publisher.expect_puback(packet_id);
    }
    found.extend(client.take_messages().iter().map(|message| message.text().to_owned()));
    assert_eq!(found, (0..200).map(|i| i.to_string()).collect::<Vec<_>>());
}

fn several_filters_have_one_suback(scene: &mut Scene) {
    let mut client = scene.connect("c");
    let filters = [("a", at(0)), ("b/+", at(1)), ("c/#", at(2)), ("d", at(1)), ("e", at(0))];
    assert_eq!(client.subscribe_all(&filters, &[]), [0, 1, 2, 1, 0]);
    client.expect_silence();
    for topic in ["a", "b/x", "c/x/y", "d", "e"] {
        client.publish(topic, topic, 0);
        client.expect_texts(&[topic]);
    }
}

fn several_filters_act_in_their_order(scene: &mut Scene) {
    let mut client = scene.connect("c");
    // The same filter twice in one packet: the later one holds.
    assert_eq!(client.subscribe_all(&[("t", at(2)), ("u", at(0)), ("t", at(0))], &[]), [2, 0, 0]);
    client.publish("t", "x", 2);
    let found = client.expect_message();
    assert_eq!(found.qos, 0);
    client.expect_silence();
}

fn a_refused_filter_stands_in_its_place(scene: &mut Scene) {
    let mut client = scene.connect("c");
    let (denied, invalid) = match scene.is_v5() {
        true => (ReasonCode::NotAuthorized as u8, ReasonCode::TopicFilterInvalid as u8),
        false => (0x80, 0x80),
    };
    let filters = [("a", at(0)), ("denied/a", at(1)), ("b", at(2)), ("denied/#", at(0)), ("c", at(1))];
    assert_eq!(client.subscribe_all(&filters, &[]), [0, denied, 2, denied, 1]);
    // 3.1 has no code for a refusal of a filter that is none: it closes.
    if scene.version != Version::V31 {
        let filters = [("b", at(1)), ("a#", at(1)), ("a/#/b", at(2)), ("c", at(0))];
        assert_eq!(client.subscribe_all(&filters, &[]), [1, invalid, invalid, 0]);
    }
    client.publish("b", "x", 1);
    client.expect_texts(&["x"]);
}

fn the_bound_of_subscriptions_is_told(scene: &mut Scene) {
    let mut client = scene.connect("c");
    let full = if scene.is_v5() { ReasonCode::QuotaExceeded as u8 } else { 0x80 };
    let filters = [("a", at(0)), ("b", at(1)), ("c", at(1))];
    assert_eq!(client.subscribe_all(&filters, &[]), [0, 1, full]);
    // A replacement needs no further place; one that is gone leaves one.
    client.subscribe("a", 2);
    client.unsubscribe(&["b"]);
    client.subscribe("c", 1);
}

fn what_is_unavailable_is_told(scene: &mut Scene) {
    let mut client = scene.try_connect(&id("c"));
    let connack = client.expect_connack();
    let codes = client.subscribe_all(&[("a/+", at(0)), ("$share/g/a", at(0)), ("a", at(1))], &[]);
    if !scene.is_v5() {
        assert_eq!(codes, [0x80, 0x80, 1]);
        return;
    }
    assert_eq!(codes, [0xA2, 0x9E, 1]);
    for id in [
        PropertyId::WildcardSubscriptionAvailable,
        PropertyId::SharedSubscriptionAvailable,
        PropertyId::SubscriptionIdentifierAvailable,
    ] {
        assert_eq!(connack.properties.number(id), Some(0), "{id:?}");
    }
    let identifier = properties(|w| w.varint(PropertyId::SubscriptionIdentifier, 1));
    assert_eq!(client.subscribe_all(&[("b", at(0))], &identifier), [0xA1]);
}

fn the_delivery_qos_is_the_lower_one(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut client = scene.connect("c");
    for granted in 0..3 {
        client.subscribe("t", granted);
        for published in 0..3 {
            publisher.publish("t", "x", published);
            let found = client.expect_message();
            assert_eq!(found.qos, published.min(granted));
            client.acknowledge(&found);
        }
    }
}

fn properties_of_subscribe_are_checked(scene: &mut Scene) {
    use ReasonCode::{MalformedPacket, ProtocolError};
    let request = |first: u8, section: &[u8]| {
        let options: &[u8] = if first == 0x82 { &[0] } else { &[] };
        wire::packet(first, join(&[&[0, 1], &wire::section(section), &field("t"), options]))
    };
    // Subscription Identifier 0, doubled, too long, cut off.
    scene.expect_faulty(&request(0x82, &[0x0B, 0]), ProtocolError);
    scene.expect_faulty(&request(0x82, &[0x0B, 1, 0x0B, 2]), ProtocolError);
    scene.expect_faulty(&request(0x82, &[0x0B, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]), MalformedPacket);
    scene.expect_faulty(&request(0x82, &[0x0B, 0x80]), MalformedPacket);
    scene.expect_faulty(&request(0x82, &[0x01, 1]), MalformedPacket);
    scene.expect_faulty(&request(0xA2, &[0x0B, 1]), MalformedPacket);
    let mut client = scene.connect("c");
    let pair = properties(|w| w.user_property("a", "b"));
    client.write(&request(0x82, &pair));
    assert_eq!(client.expect_suback(1), [0]);
    client.write(&request(0xA2, &pair));
    assert_eq!(client.expect_unsuback(1), [0]);
}

fn only_the_same_filter_is_unsubscribed(scene: &mut Scene) {
    let mut client = scene.connect("c");
    client.subscribe("a/+", 0);
    let nothing: &[u8] = if scene.is_v5() { &[0x11] } else { &[] };
    let gone: &[u8] = if scene.is_v5() { &[0] } else { &[] };
    for other in ["a/b", "a/#", "A/+", "a/+/", "+/+", "a", "#"] {
        assert_eq!(client.unsubscribe(&[other]), nothing, "{other}");
        client.publish("a/b", "x", 0);
        client.expect_texts(&["x"]);
    }
    assert_eq!(client.unsubscribe(&["a/+"]), gone);
    client.publish("a/b", "x", 0);
    client.expect_silence();
    assert_eq!(client.unsubscribe(&["a/+"]), nothing);
    // The group is a part of the filter.
    client.subscribe("$share/g/t", 0);
    for other in ["t", "$share/h/t", "$share/g/u"] {
        assert_eq!(client.unsubscribe(&[other]), nothing, "{other}");
    }
    client.publish("t", "x", 0);
    client.expect_texts(&["x"]);
    assert_eq!(client.unsubscribe(&["$share/g/t"]), gone);
    client.publish("t", "x", 0);
    client.expect_silence();
}

fn nothing_new_after_unsubscribe(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut client = scene.connect_with(&id("c").kept());
    for filter in ["t", "+", "#"] {
        client.subscribe(filter, 1);
    }
    for filter in ["t", "+", "#"] {
        client.unsubscribe(&[filter]);
        let expected: &[&str] = if filter == "#" { &[] } else { &["x"] };
        publisher.publish("t", "x", 1);
        client.expect_texts(expected);
    }
    client.cut();
    publisher.publish("t", "x", 1);
    scene.reconnect(&id("c").kept(), true).expect_silence();
}

fn what_is_in_flight_is_completed(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut client = scene.connect_with(&id("c").kept());
    client.subscribe("t", 2);
    publisher.publish("t", "1", 1);
    publisher.publish("t", "2", 2);
    let found = [client.expect_message(), client.expect_message()];
    client.unsubscribe(&["t"]);
    publisher.publish("t", "3", 2);
    client.expect_silence();
    client.cut();
    let mut client = scene.reconnect(&id("c").kept(), true);
    for first in found {
        let again = client.expect_message();
        assert_eq!(again, Message { dup: true, ..first });
    }
    client.cut();
    let mut client = scene.reconnect(&id("c").kept(), true);
    client.expect_texts(&["1", "2"]);
}

fn several_filters_have_one_unsuback(scene: &mut Scene) {
    let mut client = scene.connect("c");
    client.subscribe("a", 0);
    client.subscribe("c", 0);
    client.subscribe("d", 0);
    let codes: &[u8] = if scene.is_v5() { &[0, 0x11, 0, 0x11] } else { &[] };
    assert_eq!(client.unsubscribe(&["a", "b", "c", "a"]), codes);
    client.expect_silence();
    for topic in ["a", "c", "d"] {
        client.publish(topic, topic, 0);
    }
    client.expect_texts(&["d"]);
}

fn a_subscription_works_as_soon_as_suback_is_there(scene: &mut Scene) {
    // A publisher on every shard, whichever the subscriber has.
    let mut publishers: Vec<Peer> = ["a", "b", "c", "d", "e"].map(|name| scene.connect(name)).into();
    for round in 0..20 {
        let topic = format!("t/{round}");
        let filter = if round % 2 == 0 { topic.clone() } else { format!("{topic}/#") };
        let mut client = scene.connect(&format!("s{round}"));
        client.subscribe(&filter, 1);
        for publisher in &mut publishers {
            publisher.publish(&topic, "x", 1);
        }
        assert_eq!(client.take_messages().len(), publishers.len());
    }
}
