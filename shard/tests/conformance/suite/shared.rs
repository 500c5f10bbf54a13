//! Shared subscriptions (4.8.2).

use super::prelude::*;
use super::wire::{field, join};

pub fn cases() -> Vec<Case> {
    vec![
        case!(a_shared_filter_has_a_name_and_a_filter).v5("4.8.2-1 4.8.2-2").versions(FROM_V311),
        case!(a_group_gets_each_message_once).v5("4.8.2-1 4.5.0-1").versions(ALL),
        case!(each_member_has_its_own_qos).v5("4.8.2-3").versions(ALL),
        case!(a_begun_qos_2_message_is_completed_to_its_member).v5("4.8.2-4"),
        case!(a_begun_qos_2_message_goes_to_no_other).v5("4.8.2-5"),
        case!(a_refused_message_is_discarded).v5("4.8.2-6"),
        case!(a_shared_subscription_gets_no_retained_messages).v5("4.8.2-1").versions(ALL),
    ]
}

fn a_shared_filter_has_a_name_and_a_filter(scene: &mut Scene) {
    let code = if scene.is_v5() { ReasonCode::TopicFilterInvalid as u8 } else { 0x80 };
    let mut client = scene.connect("c");
    for filter in [
        "$share//a",
        "$share/g",
        "$share/g/",
        "$share/+/a",
        "$share/#/a",
        "$share/g#/a",
        "$share/g+/a",
        "$share",
        "$share/",
    ] {
        client.write(&wire::request(scene.version, 0x82, 1, join(&[&field(filter), &[0]])));
        assert_eq!(client.expect_suback(1), [code], "{filter}");
    }
    for filter in ["$share/g/a", "$share/a name/a/#", "$share/$g/+/a", "$share/ü/a//b"] {
        client.subscribe(filter, 1);
    }
}

fn a_group_gets_each_message_once(scene: &mut Scene) {
    let mut members: Vec<Peer> = ["a", "b", "c"].map(|name| scene.subscriber(name, "$share/g/t/+", 1)).into();
    let mut others: Vec<Peer> = ["d", "e"].map(|name| scene.subscriber(name, "$share/h/t/+", 1)).into();
    let mut plain = scene.subscriber("plain", "t/+", 1);
    let mut publisher = scene.connect("p");
    let sent: Vec<String> = (0..30).map(|i| i.to_string()).collect();
    for text in &sent {
        publisher.publish("t/x", text, 1);
    }
    for group in [&mut members, &mut others] {
        let mut found: Vec<u32> = vec![];
        for member in group.iter_mut() {
            let texts = member.take_messages();
            assert!(!texts.is_empty(), "every member gets a part");
            found.extend(texts.iter().map(|message| message.text().parse::<u32>().unwrap()));
        }
        found.sort_unstable();
        assert_eq!(found, (0..30).collect::<Vec<_>>());
    }
    assert_eq!(plain.take_messages().len(), 30);
}

fn each_member_has_its_own_qos(scene: &mut Scene) {
    let mut members: Vec<(Peer, u8)> = vec![];
    for (name, qos) in [("a", 0), ("b", 1), ("c", 2)] {
        members.push((scene.subscriber(name, "$share/g/t", qos), qos));
    }
    let mut publisher = scene.connect("p");
    for published in 0..3 {
        for _ in 0..12 {
            publisher.publish("t", "x", published);
        }
        let mut count = 0;
        for (member, granted) in &mut members {
            for found in member.take_messages() {
                assert_eq!(found.qos, published.min(*granted));
                count += 1;
            }
        }
        assert_eq!(count, 12);
    }
}

/// Two members with kept sessions; the one that got the message, its delivery, the other.
fn begun(scene: &mut Scene, expiry: u32) -> (&'static str, Peer, Message, Peer) {
    let mut members: Vec<(&str, Peer)> = vec![];
    for name in ["a", "b"] {
        let mut member = scene.connect_with(&id(name).resume().expiry(expiry));
        member.subscribe("$share/g/t", 2);
        members.push((name, member));
    }
    scene.connect("p").publish("t", "x", 2);
    let (other_name, mut other) = members.pop().expect("two members");
    let (name, mut member) = members.pop().expect("two members");
    match other.poll() {
        Some(Received::Publish(message)) => {
            member.expect_silence();
            (other_name, other, message, member)
        }
        None => {
            let message = member.expect_message();
            (name, member, message, other)
        }
        Some(received) => panic!("{received:?}"),
    }
}

fn a_begun_qos_2_message_is_completed_to_its_member(scene: &mut Scene) {
    let (name, member, first, mut other) = begun(scene, 3600);
    member.cut();
    other.expect_silence();
    let mut member = scene.reconnect(&id(name).kept(), true);
    let again = member.expect_message();
    assert_eq!(again, Message { dup: true, ..first });
    member.acknowledge(&again);
    member.expect_silence();
    other.expect_silence();
}

fn a_begun_qos_2_message_goes_to_no_other(scene: &mut Scene) {
    let (_, member, _, mut other) = begun(scene, 1);
    member.cut();
    scene.pass(1_300);
    other.expect_silence();
    // The session is gone, the group works on.
    scene.connect("p").publish("t", "y", 2);
    other.expect_texts(&["y"]);
}

fn a_refused_message_is_discarded(scene: &mut Scene) {
    for qos in [1, 2] {
        let mut members: Vec<Peer> = ["a", "b"].map(|name| scene.subscriber(name, "$share/g/t", 2)).into();
        let mut publisher = scene.connect("p");
        for _ in 0..4 {
            publisher.publish("t", "x", qos);
        }
        for member in &mut members {
            for _ in 0..2 {
                let found = member.expect_message();
                member.write(&wire::ack_with(if qos == 1 { 0x40 } else { 0x50 }, found.packet_id, 0x80));
            }
        }
        members.iter_mut().for_each(Peer::expect_silence);
        // Nor when the member leaves.
        let last = members.pop().expect("two members");
        last.cut();
        members[0].expect_silence();
    }
}

fn a_shared_subscription_gets_no_retained_messages(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    publisher.publish_retained("t", "retained", 1);
    let mut member = scene.subscriber("a", "$share/g/t", 1);
    member.expect_silence();
    publisher.publish("t", "live", 1);
    member.expect_texts(&["live"]);
}
