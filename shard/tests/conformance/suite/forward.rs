//! What a PUBLISH carries to its subscribers in MQTT 5: expiry, aliases, forwarded properties (3.3.2.3).

use super::prelude::*;

pub fn cases() -> Vec<Case> {
    vec![
        case!(an_expired_message_is_deleted).v5("3.3.2-5"),
        case!(the_expiry_that_is_left_is_delivered).v5("3.3.2-6"),
        case!(payload_format_is_forwarded).v5("3.3.2-4"),
        case!(response_topic_and_correlation_data_are_forwarded).v5("3.3.2-15 3.3.2-16"),
        case!(a_response_topic_has_no_wildcard).v5("3.3.2-14"),
        case!(user_properties_are_forwarded_in_order).v5("3.3.2-17 3.3.2-18"),
        case!(content_type_is_forwarded).v5("3.3.2-20"),
        case!(older_clients_get_messages_without_properties).v5("3.3.2-17 3.1.2-27"),
        case!(properties_of_publish_are_checked).v5("4.13.1-1 3.3.2-8"),
        case!(aliases_end_with_the_connection).v5("3.3.2-7"),
        case!(alias_0_is_refused).v5("3.3.2-8"),
        case!(every_alias_up_to_the_maximum_is_taken)
            .v5("3.3.2-12 3.3.2-9 3.2.2-17")
            .with(&[Set::TopicAliasMax(5)]),
        case!(an_alias_above_the_maximum_is_refused).v5("3.3.2-9 3.2.2-17").with(&[Set::TopicAliasMax(5)]),
        case!(no_alias_without_a_maximum).v5("3.2.2-18").with(&[Set::TopicAliasMax(0)]),
        case!(an_unknown_alias_is_a_protocol_error).v5("3.3.2-7 4.13.1-1"),
        case!(aliases_to_a_client_keep_its_maximum).v5("3.1.2-26 3.3.2-11"),
        case!(no_alias_to_a_client_that_wants_none).v5("3.1.2-27"),
        case!(aliases_to_a_client_end_with_the_connection).v5("3.3.2-7"),
    ]
}

fn an_expired_message_is_deleted(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut client = scene.connect_with(&id("c").kept());
    client.subscribe("t", 2);
    client.cut();
    for qos in [1, 2] {
        publisher.publish_message(&message("t", "short").qos(qos).expiry(1));
        publisher.publish_message(&message("t", "long").qos(qos).expiry(100));
        publisher.publish_message(&message("t", "for ever").qos(qos));
    }
    scene.pass(1_200);
    let mut client = scene.reconnect(&id("c").kept(), true);
    client.expect_texts(&["long", "for ever", "long", "for ever"]);
    // Waiting for the window counts as well.
    client.cut();
    let mut client = scene.reconnect(&id("c").kept().receive_maximum(1), true);
    publisher.publish("t", "first", 1);
    let first = client.expect_message();
    publisher.publish_message(&message("t", "short").qos(1).expiry(1));
    publisher.publish("t", "last", 1);
    scene.pass(1_200);
    client.puback(first.packet_id);
    client.expect_texts(&["last"]);
}

fn the_expiry_that_is_left_is_delivered(scene: &mut Scene) {
    let left = |found: &Message| found.properties.number(PropertyId::MessageExpiryInterval);
    let mut publisher = scene.connect("p");
    let mut live = scene.subscriber("live", "t", 1);
    let mut stored = scene.connect_with(&id("c").kept());
    stored.subscribe("t", 1);
    stored.cut();
    publisher.publish_message(&message("t", "x").qos(1).expiry(10));
    let found = live.expect_message();
    assert!(matches!(left(&found), Some(9 | 10)), "{found:?}");
    live.acknowledge(&found);
    scene.pass(2_300);
    let found = scene.reconnect(&id("c").kept(), true).expect_message();
    assert!(matches!(left(&found), Some(7 | 8)), "{found:?}");
    // None stays none.
    publisher.publish("t", "y", 1);
    assert_eq!(left(&live.expect_message()), None);
}

fn payload_format_is_forwarded(scene: &mut Scene) {
    let mut client = scene.subscriber("s", "t", 1);
    let mut publisher = scene.connect("p");
    for format in [Some(0), Some(1), None] {
        let outgoing = message("t", "x").qos(1);
        publisher.publish_message(&match format {
            Some(format) => outgoing.properties(|w| w.u8(PropertyId::PayloadFormatIndicator, format)),
            None => outgoing,
        });
        let found = client.expect_message();
        assert_eq!(found.properties.number(PropertyId::PayloadFormatIndicator), format.map(u32::from));
        client.acknowledge(&found);
    }
}

fn response_topic_and_correlation_data_are_forwarded(scene: &mut Scene) {
    let mut client = scene.subscriber("s", "t", 0);
    let mut publisher = scene.connect("p");
    let every_byte: Vec<u8> = (0..=255).collect();
    for data in [&b""[..], &[0], &every_byte] {
        publisher.publish_message(&message("t", "x").properties(|w| {
            w.bytes(PropertyId::CorrelationData, data).str(PropertyId::ResponseTopic, "réponse/$x")
        }));
        let found = client.expect_message();
        assert_eq!(found.properties.binary(PropertyId::CorrelationData), Some(data));
        assert_eq!(found.properties.text(PropertyId::ResponseTopic), Some("réponse/$x"));
    }
    publisher.publish("t", "x", 0);
    assert!(client.expect_message().properties.is_empty());
}

fn a_response_topic_has_no_wildcard(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "t", 0);
    for topic in ["a/#", "+", "a/+/b", "#"] {
        let section = properties(|w| w.str(PropertyId::ResponseTopic, topic));
        let bytes = wire::publish(Version::V5, 0x30, scene.topic("t"), None, &section, "x");
        scene.expect_faulty(&bytes, ReasonCode::ProtocolError);
    }
    watcher.expect_silence();
}

fn user_properties_are_forwarded_in_order(scene: &mut Scene) {
    let pairs = [("b", "1"), ("a", "2"), ("b", "1"), ("", ""), ("a", ""), ("", "x"), ("ü", "😀"), ("b", "0")];
    let mut live = scene.subscriber("live", "t", 2);
    let mut stored = scene.connect_with(&id("stored").kept());
    stored.subscribe("t", 2);
    stored.cut();
    let mut publisher = scene.connect("p");
    for qos in 0..3 {
        let outgoing = pairs.iter().fold(message("t", "x").qos(qos), |outgoing, (name, value)| {
            outgoing.properties(|w| w.user_property(name, value))
        });
        publisher.publish_message(&outgoing);
        let found = live.expect_message();
        assert_eq!(found.properties.pairs(), pairs);
        live.acknowledge(&found);
    }
    let found = scene.reconnect(&id("stored").kept(), true).take_messages();
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|message| message.properties.pairs() == pairs));
}

fn content_type_is_forwarded(scene: &mut Scene) {
    let mut client = scene.subscriber("s", "t", 0);
    for content_type in ["", "text/plain; charset=utf-8", "ü"] {
        let outgoing = message("t", "x").properties(|w| w.str(PropertyId::ContentType, content_type));
        client.publish_message(&outgoing);
        assert_eq!(client.expect_message().properties.text(PropertyId::ContentType), Some(content_type));
    }
}

fn older_clients_get_messages_without_properties(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut older: Vec<Peer> = [Version::V31, Version::V311]
        .into_iter()
        .map(|version| {
            let mut client = scene.connect_with(&id(super::case::version_name(version)).version(version));
            client.subscribe("a/topic", 1);
            client
        })
        .collect();
    let full = |topic: &str, text: &str| {
        message(topic, text).qos(1).alias(1).properties(|w| w.user_property("a", "b"))
    };
    publisher.publish_message(&full("a/topic", "x"));
    publisher.publish_message(&full("", "y"));
    for client in &mut older {
        // The reader finds no properties in 3.x: they would be payload.
        for text in ["x", "y"] {
            let found = client.expect_message();
            assert_eq!((found.topic.as_str(), found.text()), ("a/topic", text));
            client.acknowledge(&found);
        }
    }
    // The other way round.
    let mut client = scene.subscriber("s", "back", 1);
    older[1].publish("back", "z", 1);
    let found = client.expect_message();
    assert!(found.text() == "z" && found.properties.is_empty());
}

fn properties_of_publish_are_checked(scene: &mut Scene) {
    use ReasonCode::{MalformedPacket, ProtocolError};
    use wire::{field, join};
    let mut watcher = scene.subscriber("w", "t", 0);
    let topic = scene.topic("t");
    let faulty = |section: &[u8], code: ReasonCode, scene: &mut Scene| {
        scene.expect_faulty(&wire::publish(Version::V5, 0x30, &topic, None, section, "x"), code);
    };
    let text = field("x");
    // Each twice.
    for once in [
        vec![0x01, 1],
        vec![0x02, 0, 0, 0, 9],
        vec![0x23, 0, 1],
        join(&[&[0x03], &text]),
        join(&[&[0x08], &text]),
        join(&[&[0x09], &text]),
    ] {
        faulty(&join(&[&once, &once]), ProtocolError, scene);
        faulty(&once[..once.len() - 1], MalformedPacket, scene);
    }
    // Of other packets, of none, out of range.
    faulty(&[0x11, 0, 0, 0, 1], MalformedPacket, scene);
    faulty(&join(&[&[0x1F], &text]), MalformedPacket, scene);
    faulty(&[0x24, 1], MalformedPacket, scene);
    faulty(&[0x7E, 0], MalformedPacket, scene);
    faulty(&[0x01, 2], ProtocolError, scene);
    watcher.expect_silence();
}

fn aliases_end_with_the_connection(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "t", 0);
    let mut client = scene.connect_with(&id("c").kept());
    client.publish_message(&message("t", "x").alias(1));
    client.publish_message(&message("", "y").alias(1));
    client.cut();
    let mut client = scene.reconnect(&id("c").kept(), true);
    client.send_publish(&message("", "z").alias(1));
    client.expect_disconnect(ReasonCode::ProtocolError);
    watcher.expect_texts(&["x", "y"]);
}

fn alias_0_is_refused(scene: &mut Scene) {
    for topic in [scene.topic("t"), String::new()] {
        let bytes = wire::publish(Version::V5, 0x30, &topic, None, &[0x23, 0, 0], "x");
        scene.expect_faulty(&bytes, ReasonCode::TopicAliasInvalid);
    }
}

fn every_alias_up_to_the_maximum_is_taken(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "#", 2);
    let mut client = scene.try_connect(&id("c"));
    assert_eq!(client.expect_connack_number(PropertyId::TopicAliasMaximum), Some(5));
    let topics = ["a", "b", "c", "d", "e"];
    for (alias, topic) in (1..).zip(topics) {
        client.publish_message(&message(topic, "set").alias(alias));
        watcher.expect_texts(&["set"]);
    }
    for (alias, topic) in (1..).zip(topics) {
        for qos in 0..3 {
            client.publish_message(&message("", "used").qos(qos).alias(alias));
            let found = watcher.expect_message();
            assert_eq!((found.topic.as_str(), found.qos), (topic, qos));
            watcher.acknowledge(&found);
        }
    }
    // To another topic, and back.
    for topic in ["x/y", "e"] {
        client.publish_message(&message(topic, "set").alias(5));
        client.publish_message(&message("", "used").alias(5));
        for text in ["set", "used"] {
            let found = watcher.expect_message();
            assert_eq!((found.topic.as_str(), found.text()), (topic, text));
        }
    }
}

fn an_alias_above_the_maximum_is_refused(scene: &mut Scene) {
    for alias in [6, 7, 65_535] {
        let mut client = scene.connect("c");
        client.send_publish(&message("t", "x").alias(alias));
        client.expect_disconnect(ReasonCode::TopicAliasInvalid);
    }
}

fn no_alias_without_a_maximum(scene: &mut Scene) {
    let mut client = scene.try_connect(&id("c"));
    assert!(matches!(client.expect_connack_number(PropertyId::TopicAliasMaximum), None | Some(0)));
    client.send_publish(&message("t", "x").alias(1));
    client.expect_disconnect(ReasonCode::TopicAliasInvalid);
}

fn an_unknown_alias_is_a_protocol_error(scene: &mut Scene) {
    let mut client = scene.connect("c");
    client.publish_message(&message("t", "x").alias(2));
    client.send_publish(&message("", "x").alias(1));
    client.expect_disconnect(ReasonCode::ProtocolError);
    // Neither topic nor alias.
    scene.expect_faulty(&wire::publish(Version::V5, 0x30, "", None, &[], "x"), ReasonCode::ProtocolError);
}

fn aliases_to_a_client_keep_its_maximum(scene: &mut Scene) {
    // The reader refuses an alias above the maximum, and one that was not set; it resolves the others.
    let mut client = scene.connect_with(&id("c").properties(|w| w.u16(PropertyId::TopicAliasMaximum, 2)));
    client.subscribe("#", 2);
    let mut publisher = scene.connect("p");
    let mut aliased = 0;
    for round in 0..3 {
        for topic in ["a", "b", "c", "d", "e"] {
            for qos in 0..3 {
                publisher.publish(topic, &round.to_string(), qos);
                let found = client.expect_message();
                assert_eq!((found.topic.as_str(), found.qos), (topic, qos));
                aliased += found.properties.has(PropertyId::TopicAlias) as u32;
                client.acknowledge(&found);
            }
        }
    }
    assert!(aliased > 0, "the broker sets aliases where it may");
}

fn no_alias_to_a_client_that_wants_none(scene: &mut Scene) {
    let none = id("c");
    let zero = id("d").properties(|w| w.u16(PropertyId::TopicAliasMaximum, 0));
    let mut publisher = scene.connect("p");
    for options in [none, zero] {
        let mut client = scene.connect_with(&options);
        client.subscribe("t", 0);
        publisher.publish_message(&message("t", "x").alias(1));
        publisher.publish_message(&message("", "y").alias(1));
        for text in ["x", "y"] {
            let found = client.expect_message();
            assert_eq!((found.topic.as_str(), found.text()), ("t", text));
            assert!(!found.properties.has(PropertyId::TopicAlias));
        }
    }
}

fn aliases_to_a_client_end_with_the_connection(scene: &mut Scene) {
    let options = || id("c").kept().properties(|w| w.u16(PropertyId::TopicAliasMaximum, 5));
    let mut publisher = scene.connect("p");
    let mut client = scene.connect_with(&options());
    client.subscribe("t", 1);
    publisher.publish("t", "1", 1);
    publisher.publish("t", "2", 1);
    let found = client.take_messages();
    assert_eq!(found.len(), 2);
    client.cut();
    publisher.publish("t", "3", 1);
    // The reader knows no alias of the former connection.
    let mut client = scene.reconnect(&options(), true);
    assert_eq!(client.expect_message().topic, "t");
    client.cut();
    // Nor does one without aliases get any for what was in flight.
    let mut client = scene.reconnect(&id("c").kept(), true);
    let again = client.expect_message();
    assert!(again.dup && again.topic == "t" && !again.properties.has(PropertyId::TopicAlias));
}
