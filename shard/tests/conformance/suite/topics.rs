//! Topic names and filters (4.7).

use super::prelude::*;
use super::wire::{field, join};

pub fn cases() -> Vec<Case> {
    vec![
        case!(a_multi_level_wildcard_stands_last).v5("4.7.1-1").v311("4.7.1-2"),
        case!(a_single_level_wildcard_takes_a_level).v5("4.7.1-2").v311("4.7.1-3"),
        case!(an_invalid_filter_closes_3_1).versions(ONLY_V31).v311("4.7.1-2 4.7.1-3"),
        case!(leading_wildcards_leave_dollar_topics).v5("4.7.2-1").v311("4.7.2-1").alone(),
        case!(names_and_filters_are_not_empty).v5("4.7.3-1").v311("4.7.3-1"),
        case!(a_slash_is_a_name).v5("4.7.3-1").v311("4.7.3-1").alone(),
        case!(the_longest_names_are_served_or_refused).v5("4.7.3-3").v311("4.7.3-3"),
        case!(nothing_is_normalised).v5("4.7.3-4 3.3.2-3").v311("4.7.3-4 3.3.2-3"),
    ]
}

/// The codes of a SUBSCRIBE for filters as they are.
fn expect_invalid(scene: &mut Scene, filters: &[&str]) {
    for filter in filters {
        let mut client = scene.connect("c");
        let filter = scene.topic(filter);
        client.write(&wire::request(scene.version, 0x82, 1, join(&[&field(&filter), &[0]])));
        let code = if scene.is_v5() { ReasonCode::TopicFilterInvalid as u8 } else { 0x80 };
        assert_eq!(client.expect_suback(1), [code], "{filter}");
        client.ping();
    }
}

fn a_multi_level_wildcard_stands_last(scene: &mut Scene) {
    if scene.version != Version::V31 {
        expect_invalid(scene, &["a#", "a/#/b", "#a", "a/#b", "#/", "#/#", "a/b#"]);
    }
    let mut client = scene.connect("c");
    for (filter, topics) in [("a/#", ["a", "a/b", "a/b/c", "a/"]), ("#", ["a", "b", "a/b", "/"])] {
        client.subscribe(filter, 0);
        for topic in topics {
            client.publish(topic, topic, 0);
        }
        client.expect_texts(&topics);
        client.unsubscribe(&[filter]);
    }
}

fn a_single_level_wildcard_takes_a_level(scene: &mut Scene) {
    if scene.version != Version::V31 {
        expect_invalid(scene, &["a+", "+a/b", "a/+b", "a/b+/c", "++", "a/+#"]);
    }
    let mut client = scene.connect("c");
    for (filter, matching, other) in [
        ("+", "a", "a/b"),
        ("+/b", "a/b", "b"),
        ("a/+/c", "a//c", "a/c"),
        ("/+", "/a", "a"),
        ("+/+", "/", "a"),
        ("a/+", "a/", "a"),
    ] {
        client.subscribe(filter, 0);
        client.publish(other, "other", 0);
        client.publish(matching, filter, 0);
        client.expect_texts(&[filter]);
        client.unsubscribe(&[filter]);
    }
}

fn an_invalid_filter_closes_3_1(scene: &mut Scene) {
    // SUBACK of 3.1 has no code for a failure.
    for filter in ["a#", "a/#/b", "a+", "+a"] {
        let entry = join(&[&field(scene.topic(filter)), &[0]]);
        scene.expect_faulty(&wire::request(scene.version, 0x82, 1, entry), ReasonCode::ProtocolError);
    }
}

fn leading_wildcards_leave_dollar_topics(scene: &mut Scene) {
    let mut open = scene.connect("open");
    open.subscribe("#", 0);
    open.subscribe("+/x", 0);
    open.subscribe("+/#", 0);
    let mut named = scene.connect("named");
    named.subscribe("$test/#", 0);
    // What is retained for it has been fetched: what is retained from now on comes as a message only.
    named.settle();
    let mut publisher = scene.connect("p");
    publisher.publish("$test/x", "x", 0);
    publisher.publish_retained("$test/x", "retained", 0);
    named.expect_texts(&["x", "retained"]);
    // Nothing of it, and none of the broker's own topics either.
    open.expect_silence();
    scene.subscriber("late", "#", 0).expect_silence();
    scene.subscriber("late2", "$test/+", 0).expect_texts(&["retained"]);
    // A dollar sign elsewhere is an ordinary character.
    publisher.publish("a/$x", "inside", 0);
    open.expect_texts(&["inside"]);
}

fn names_and_filters_are_not_empty(scene: &mut Scene) {
    let version = scene.version;
    scene.expect_faulty(&wire::publish(version, 0x30, "", None, &[], "x"), ReasonCode::ProtocolError);
    let mut client = scene.connect("c");
    client.write(&wire::request(version, 0x82, 1, [0, 0, 0]));
    match version {
        Version::V31 => client.expect_end(),
        Version::V311 => assert_eq!(client.expect_suback(1), [0x80]),
        Version::V5 => assert_eq!(client.expect_suback(1), [ReasonCode::TopicFilterInvalid as u8]),
    }
}

fn a_slash_is_a_name(scene: &mut Scene) {
    let mut client = scene.connect("c");
    for filter in ["/", "+/+", "#", " "] {
        client.subscribe(filter, 0);
        let topic = if filter == " " { " " } else { "/" };
        client.publish(topic, filter, 0);
        client.expect_texts(&[filter]);
        client.unsubscribe(&[filter]);
    }
}

fn the_longest_names_are_served_or_refused(scene: &mut Scene) {
    let version = scene.version;
    let root = scene.topic("");
    let of_len = |len: usize| format!("{root}{}", "x".repeat(len - root.len()));
    // Ours is 4096 bytes.
    let longest = of_len(4096);
    let mut client = scene.connect("c");
    client.write(&wire::request(version, 0x82, 1, join(&[&field(&longest), &[0]])));
    assert_eq!(client.expect_suback(1), [0]);
    client.write(&wire::publish(version, 0x30, &longest, None, &[], "x"));
    assert_eq!(client.expect_message().topic.len() + root.len(), 4096);
    for len in [4097, 65_535] {
        let long = of_len(len);
        client.write(&wire::request(version, 0x82, 2, join(&[&field(&long), &[0]])));
        let code = if scene.is_v5() { ReasonCode::TopicFilterInvalid as u8 } else { 0x80 };
        assert_eq!(client.expect_suback(2), [code]);
        let publish = wire::publish(version, 0x30, &long, None, &[], "x");
        scene.expect_faulty(&publish, ReasonCode::TopicNameInvalid);
    }
    client.ping();
}

fn nothing_is_normalised(scene: &mut Scene) {
    let different = [
        "a",
        "A",
        "a/",
        "/a",
        "a//b",
        "a/b",
        "é",
        "e\u{301}",
        "ﬁ",
        "fi",
        "a b",
        "a  b",
        " a",
        "a ",
        "ａ",
        "..",
        "a/../b",
        "./a",
        "%61",
        "\u{200B}a",
    ];
    let mut publisher = scene.connect("p");
    let mut clients: Vec<Peer> = vec![];
    for (i, filter) in different.iter().enumerate() {
        clients.push(scene.subscriber(&i.to_string(), filter, 0));
    }
    for topic in different {
        publisher.publish_retained(topic, topic, 0);
    }
    for (client, filter) in clients.iter_mut().zip(different) {
        client.expect_texts(&[filter]);
    }
    for filter in different {
        scene.subscriber("late", filter, 0).expect_texts(&[filter]);
    }
}
