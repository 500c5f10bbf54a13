//! Retained messages (3.3.1.3, 3.8.3.1).

use super::prelude::*;

pub fn cases() -> Vec<Case> {
    vec![
        case!(a_retained_message_replaces_the_former).v5("3.3.1-5").v311("3.3.1-5 3.3.1-6 3.3.1-8"),
        case!(a_retained_message_keeps_its_qos).v5("3.3.1-5 3.8.4-8").v311("3.3.1-5 3.8.4-6"),
        case!(a_new_subscription_gets_every_matching_one).v5("3.3.1-9").v311("3.3.1-6 3.3.1-8"),
        case!(a_retained_qos_0_message_discards_the_former).v5("3.3.1-5").v311("3.3.1-7"),
        case!(an_empty_payload_removes).v5("3.3.1-6 3.3.1-7").v311("3.3.1-10 3.3.1-11"),
        case!(an_empty_message_is_not_stored).v5("3.3.1-7").v311("3.3.1-11"),
        case!(a_message_without_retain_leaves_the_store).v5("3.3.1-8").v311("3.3.1-12"),
        case!(a_live_delivery_is_not_retained).v5("3.3.1-12").v311("3.3.1-9"),
        case!(retain_as_published_keeps_the_flag).v5("3.3.1-13"),
        case!(retain_handling_0_sends_always).v5("3.3.1-9 3.8.4-3").v311("3.8.4-3"),
        case!(retain_handling_1_sends_if_new).v5("3.3.1-10"),
        case!(retain_handling_2_does_not_send).v5("3.3.1-11"),
        case!(a_retained_message_has_its_properties)
            .v5("3.3.2-17 3.3.2-18 3.3.2-4 3.3.2-15 3.3.2-16 3.3.2-20"),
        case!(a_retained_message_expires).v5("3.3.2-5 3.3.2-6"),
        case!(retain_unavailable_is_told_and_held).v5("3.2.2-14").with(&[Set::RetainUnavailable]),
        case!(a_retained_will_is_refused_where_retain_is_unavailable)
            .v5("3.2.2-13")
            .with(&[Set::RetainUnavailable]),
    ]
}

#[track_caller]
fn expect_retained(client: &mut Peer, texts: &[&str]) {
    let found = client.take_messages();
    let mut found_texts: Vec<&str> = found.iter().map(Message::text).collect();
    found_texts.sort_unstable();
    assert_eq!(found_texts, texts);
    assert!(found.iter().all(|message| message.retain), "{found:?}");
}

fn a_retained_message_replaces_the_former(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    publisher.publish_retained("t", "a", 1);
    publisher.publish_retained("t", "b", 1);
    expect_retained(&mut scene.subscriber("s", "t", 1), &["b"]);
    // Another publisher elsewhere, an exact filter and a wildcard.
    scene.connect("q").publish_retained("t", "c", 2);
    expect_retained(&mut scene.subscriber("s2", "t", 1), &["c"]);
    expect_retained(&mut scene.subscriber("s3", "+", 1), &["c"]);
}

fn a_retained_message_keeps_its_qos(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    for published in 0..3 {
        publisher.publish_retained("t", "x", published);
        for granted in 0..3 {
            let mut client = scene.subscriber("s", "t", granted);
            let found = client.expect_message();
            assert_eq!((found.qos, found.retain), (published.min(granted), true));
            client.acknowledge(&found);
            client.disconnect();
        }
    }
}

fn a_new_subscription_gets_every_matching_one(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    for topic in ["a/1", "a/2", "a/2/x", "a", "b/1"] {
        publisher.publish_retained(topic, topic, 1);
    }
    for (filter, expected) in [
        ("a/2/x", &["a/2/x"][..]),
        ("a/1", &["a/1"][..]),
        ("a/+", &["a/1", "a/2"]),
        ("a/#", &["a", "a/1", "a/2", "a/2/x"]),
        ("+/1", &["a/1", "b/1"]),
        ("#", &["a", "a/1", "a/2", "a/2/x", "b/1"]),
        ("c/#", &[]),
    ] {
        let mut client = scene.subscriber("s", filter, 1);
        expect_retained(&mut client, expected);
        client.disconnect();
    }
    // Filters of one SUBSCRIBE each get theirs.
    let mut client = scene.connect("s");
    client.subscribe_all(&[("a/1", at(0)), ("b/+", at(0))], &[]);
    expect_retained(&mut client, &["a/1", "b/1"]);
}

fn a_retained_qos_0_message_discards_the_former(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    publisher.publish_retained("t", "a", 1);
    publisher.publish_retained("t", "b", 0);
    // Ours is kept; the standard would let it go at any time.
    expect_retained(&mut scene.subscriber("s", "t", 1), &["b"]);
}

fn an_empty_payload_removes(scene: &mut Scene) {
    let mut live = scene.subscriber("live", "t", 1);
    let mut publisher = scene.connect("p");
    for qos in 0..3 {
        publisher.publish_retained("t", "a", 1);
        publisher.publish_retained("t", "", qos);
        live.expect_texts(&["a", ""]);
        scene.subscriber("s", "t", 1).expect_silence();
        scene.subscriber("s", "#", 1).expect_silence();
    }
}

fn an_empty_message_is_not_stored(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    publisher.publish_retained("t", "", 1);
    scene.subscriber("s", "t", 1).expect_silence();
    if scene.is_v5() {
        // With properties it is empty all the same.
        let empty = message("t", "").qos(1).retain().properties(|w| w.user_property("a", "b"));
        publisher.publish_message(&empty);
        publisher.settle();
        scene.subscriber("s", "t", 1).expect_silence();
    }
}

fn a_message_without_retain_leaves_the_store(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    publisher.publish("t", "early", 1);
    scene.subscriber("s", "t", 1).expect_silence();
    publisher.publish_retained("t", "a", 1);
    publisher.publish("t", "b", 1);
    publisher.publish("t", "", 1);
    publisher.settle();
    expect_retained(&mut scene.subscriber("s", "t", 1), &["a"]);
}

fn a_live_delivery_is_not_retained(scene: &mut Scene) {
    let mut client = scene.subscriber("s", "t", 2);
    let mut stored = scene.connect_with(&id("stored").kept());
    stored.subscribe("t", 2);
    stored.cut();
    let mut publisher = scene.connect("p");
    for qos in 0..3 {
        publisher.publish_retained("t", "x", qos);
        let found = client.expect_message();
        assert_eq!((found.text(), found.retain), ("x", false));
        client.acknowledge(&found);
    }
    // The subscription was there, the client was not: the same.
    let found = scene.reconnect(&id("stored").kept(), true).take_messages();
    assert_eq!(found.iter().map(|message| message.retain).collect::<Vec<_>>(), [false, false]);
}

fn retain_as_published_keeps_the_flag(scene: &mut Scene) {
    let mut client = scene.connect("s");
    client.subscribe_with("t", SubscriptionOptions { retain_as_published: true, ..at(1) });
    let mut publisher = scene.connect("p");
    for is_retained in [true, false] {
        let outgoing = message("t", "x").qos(1);
        publisher.publish_message(&if is_retained { outgoing.retain() } else { outgoing });
        let found = client.expect_message();
        assert_eq!(found.retain, is_retained);
        client.acknowledge(&found);
    }
}

fn retain_handling_0_sends_always(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    publisher.publish_retained("a/1", "1", 1);
    publisher.publish_retained("a/2", "2", 1);
    let mut client = scene.connect("s");
    for filter in ["a/1", "a/+"] {
        let expected: &[&str] = if filter == "a/1" { &["1"] } else { &["1", "2"] };
        for qos in [1, 1, 0] {
            client.subscribe(filter, qos);
            expect_retained(&mut client, expected);
        }
        client.unsubscribe(&[filter]);
    }
}

fn with_handling(retain_handling: RetainHandling) -> SubscriptionOptions {
    SubscriptionOptions { retain_handling, ..at(1) }
}

fn retain_handling_1_sends_if_new(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    publisher.publish_retained("t", "x", 1);
    let mut client = scene.connect_with(&id("s").kept());
    let options = with_handling(RetainHandling::SendIfNew);
    client.subscribe_with("t", options);
    expect_retained(&mut client, &["x"]);
    client.subscribe_with("t", options);
    client.subscribe_with("t", SubscriptionOptions { no_local: true, ..options });
    client.expect_silence();
    client.unsubscribe(&["t"]);
    client.subscribe_with("t", options);
    expect_retained(&mut client, &["x"]);
    // A resumed session has its subscriptions.
    client.cut();
    let mut client = scene.reconnect(&id("s").kept(), true);
    client.subscribe_with("t", options);
    client.expect_silence();
}

fn retain_handling_2_does_not_send(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    publisher.publish_retained("t", "x", 1);
    let mut client = scene.connect("s");
    for filter in ["t", "#"] {
        client.subscribe_with(filter, with_handling(RetainHandling::DoNotSend));
        client.subscribe_with(filter, with_handling(RetainHandling::DoNotSend));
        client.expect_silence();
        client.unsubscribe(&[filter]);
    }
    client.subscribe_with("t", with_handling(RetainHandling::DoNotSend));
    publisher.publish("t", "live", 1);
    client.expect_texts(&["live"]);
}

fn a_retained_message_has_its_properties(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let full = message("t", "x").qos(1).retain().properties(|w| {
        w.user_property("b", "1")
            .u8(PropertyId::PayloadFormatIndicator, 1)
            .str(PropertyId::ContentType, "text")
            .str(PropertyId::ResponseTopic, "r")
            .bytes(PropertyId::CorrelationData, &[0, 255])
            .user_property("a", "2")
            .user_property("b", "3")
    });
    publisher.publish_message(&full);
    publisher.settle();
    let found = scene.subscriber("s", "t", 1).expect_message();
    assert_eq!(found.properties.pairs(), [("b", "1"), ("a", "2"), ("b", "3")]);
    assert_eq!(found.properties.number(PropertyId::PayloadFormatIndicator), Some(1));
    assert_eq!(found.properties.text(PropertyId::ContentType), Some("text"));
    assert_eq!(found.properties.text(PropertyId::ResponseTopic), Some("r"));
    assert_eq!(found.properties.binary(PropertyId::CorrelationData), Some(&[0, 255][..]));
    // With the identifier of the subscription that asks.
    let mut client = scene.connect("s2");
    let identifier = properties(|w| w.varint(PropertyId::SubscriptionIdentifier, 7));
    client.subscribe_all(&[("t", at(1))], &identifier);
    assert_eq!(client.expect_message().properties.numbers(PropertyId::SubscriptionIdentifier), [7]);
    // A 3.1.1 client gets the message without them.
    let mut older = scene.connect_with(&id("s3").version(Version::V311));
    older.subscribe("t", 1);
    assert_eq!(older.expect_message().text(), "x");
}

fn a_retained_message_expires(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    publisher.publish_message(&message("short", "x").qos(1).retain().expiry(1));
    publisher.publish_message(&message("long", "y").qos(1).retain().expiry(100));
    publisher.settle();
    scene.pass(1_200);
    let mut client = scene.subscriber("s", "+", 1);
    let found = client.expect_message();
    assert_eq!(found.text(), "y");
    let left = found.properties.number(PropertyId::MessageExpiryInterval).expect("an expiry");
    assert!((96..=99).contains(&left), "{left} s of 100 are left after 1.2");
    client.acknowledge(&found);
    client.expect_silence();
}

fn retain_unavailable_is_told_and_held(scene: &mut Scene) {
    let mut client = scene.try_connect(&id("c"));
    assert_eq!(client.expect_connack_number(PropertyId::RetainAvailable), Some(0));
    client.send_publish(&message("t", "x").qos(1).retain());
    client.expect_disconnect(ReasonCode::RetainNotSupported);
    let mut client = scene.subscriber("c", "t", 1);
    client.expect_silence();
    client.publish("t", "live", 1);
    client.expect_texts(&["live"]);
}

fn a_retained_will_is_refused_where_retain_is_unavailable(scene: &mut Scene) {
    let mut client = scene.try_connect(&id("c").will(will("will", "x").retain()));
    client.expect_refusal(ReasonCode::RetainNotSupported);
    scene.connect_with(&id("c").will(will("will", "x"))).ping();
}
