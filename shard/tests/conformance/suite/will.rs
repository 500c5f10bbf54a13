//! The will (3.1.2.5, 3.1.3.2 to 3.1.3.4, 3.14).

use super::prelude::*;

pub fn cases() -> Vec<Case> {
    vec![
        case!(a_lost_connection_publishes_the_will).v5("3.1.2-7 3.1.2-8").v311("3.1.2-8"),
        case!(a_protocol_error_publishes_the_will).v5("3.1.2-8 4.13.1-1").v311("3.1.2-8 4.8.0-1"),
        case!(a_takeover_publishes_the_will).v5("3.1.2-8 3.1.4-3").v311("3.1.2-8 3.1.4-2"),
        case!(silence_publishes_the_will).v5("3.1.2-8 3.1.2-22").v311("3.1.2-8 3.1.2-24"),
        case!(disconnect_discards_the_will).v5("3.1.2-8 3.1.2-10 3.14.4-3").v311("3.1.2-8 3.14.4-3"),
        case!(disconnect_with_will_publishes_it).v5("3.1.2-8 3.14.4-3"),
        case!(a_published_will_is_gone).v5("3.1.2-10").v311("3.1.2-10 3.1.2-12"),
        case!(a_will_without_retain_is_not_retained).v5("3.1.2-14").v311("3.1.2-16"),
        case!(a_will_with_retain_is_retained).v5("3.1.2-15").v311("3.1.2-17"),
        case!(a_will_has_its_qos).v5("3.1.2-7").v311("3.1.2-8"),
        case!(a_will_waits_for_its_delay).v5("3.1.2-8"),
        case!(the_end_of_the_session_ends_the_delay).v5("3.1.2-8"),
        case!(a_session_that_ends_with_its_connection_has_no_delay).v5("3.1.2-8"),
        case!(a_new_connection_within_the_delay_withdraws_the_will).v5("3.1.2-8 3.1.3-9"),
        case!(clean_start_within_the_delay_publishes_the_will).v5("3.1.2-8 3.1.2-4"),
        case!(will_properties_are_published).v5("3.1.3-10 3.1.3-1 3.3.2-18"),
        case!(a_will_topic_without_meaning_is_refused).v5("3.1.3-11 3.3.2-2").v311("3.3.2-2 4.7.1-1"),
    ]
}

fn willing() -> super::options::Options {
    id("c").will(will("will", "gone"))
}

fn a_lost_connection_publishes_the_will(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "will", 0);
    let client = scene.connect_with(&willing());
    watcher.expect_silence();
    client.cut();
    watcher.expect_texts(&["gone"]);
    // Whatever the session is.
    scene.connect_with(&willing().kept()).cut();
    watcher.expect_texts(&["gone"]);
}

fn a_protocol_error_publishes_the_will(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "will", 0);
    let mut client = scene.connect_with(&willing());
    client.write(&[0x36, 3, 0, 1, b't']);
    client.expect_fault(ReasonCode::MalformedPacket);
    watcher.expect_texts(&["gone"]);
    let mut client = scene.connect_with(&willing());
    client.write(&[0xD0, 0]);
    client.expect_fault(ReasonCode::ProtocolError);
    watcher.expect_texts(&["gone"]);
}

fn a_takeover_publishes_the_will(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "will", 0);
    for options in [id("c"), id("c").kept()] {
        let mut first = scene.connect_with(&willing().kept());
        let mut second = scene.connect_with(&options);
        first.expect_fault(ReasonCode::SessionTakenOver);
        watcher.expect_texts(&["gone"]);
        second.disconnect();
        watcher.expect_silence();
    }
}

fn silence_publishes_the_will(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "will", 0);
    let slack = scene.slack_ms();
    let mut client = scene.connect_with(&willing().keep_alive(2));
    scene.pass(2_990 - slack);
    watcher.expect_silence();
    scene.pass(30 + slack);
    watcher.expect_texts(&["gone"]);
    client.expect_fault(ReasonCode::KeepAliveTimeout);
}

fn disconnect_discards_the_will(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "will", 0);
    scene.connect_with(&willing()).disconnect();
    scene.connect_with(&willing().kept()).disconnect();
    if scene.is_v5() {
        scene.connect_with(&willing()).disconnect_with(ReasonCode::Success, &[]);
        // With properties it is the same, also if a delay was to come.
        let delayed = id("c").expiry(60).will(will("will", "gone").delay(1));
        let expiry = properties(|w| w.u32(PropertyId::SessionExpiryInterval, 1));
        scene.connect_with(&delayed).disconnect_with(ReasonCode::Success, &expiry);
    }
    scene.pass(1_200);
    watcher.expect_silence();
}

fn disconnect_with_will_publishes_it(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "will", 0);
    scene.connect_with(&willing()).disconnect_with(ReasonCode::DisconnectWithWill, &[]);
    watcher.expect_texts(&["gone"]);
    // So does every other code than 0x00.
    for reason in [ReasonCode::UnspecifiedError, ReasonCode::AdministrativeAction] {
        scene.connect_with(&willing()).disconnect_with(reason, &[]);
        watcher.expect_texts(&["gone"]);
    }
}

fn a_published_will_is_gone(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "will", 0);
    scene.connect_with(&willing().kept()).cut();
    watcher.expect_texts(&["gone"]);
    // The same session without a will.
    scene.reconnect(&id("c").kept(), true).cut();
    watcher.expect_silence();
    scene.connect_with(&willing().kept()).disconnect();
    scene.reconnect(&id("c").kept(), true).cut();
    watcher.expect_silence();
}

fn a_will_without_retain_is_not_retained(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "will", 1);
    scene.connect_with(&id("c").will(will("will", "gone").qos(1))).cut();
    watcher.expect_texts(&["gone"]);
    scene.subscriber("late", "will", 1).expect_silence();
}

fn a_will_with_retain_is_retained(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "will", 1);
    scene.connect_with(&id("c").will(will("will", "gone").qos(1).retain())).cut();
    let live = watcher.expect_message();
    assert_eq!((live.text(), live.retain), ("gone", false));
    watcher.acknowledge(&live);
    let mut late = scene.subscriber("late", "will", 1);
    let found = late.expect_message();
    assert_eq!((found.text(), found.retain, found.qos), ("gone", true, 1));
    late.acknowledge(&found);
    // An empty will with retain clears it.
    scene.connect_with(&id("c").will(will("will", "").retain())).cut();
    watcher.expect_texts(&[""]);
    scene.subscriber("later", "will", 1).expect_silence();
}

fn a_will_has_its_qos(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "will", 2);
    for qos in 0..3 {
        scene.connect_with(&id("c").will(will("will", "gone").qos(qos))).cut();
        let found = watcher.expect_message();
        assert_eq!((found.text(), found.qos), ("gone", qos));
        watcher.acknowledge(&found);
    }
}

fn a_will_waits_for_its_delay(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "will", 0);
    scene.connect_with(&id("c").expiry(60).will(will("will", "gone").delay(2))).cut();
    let slack = scene.slack_ms();
    scene.pass(1_990 - slack);
    watcher.expect_silence();
    scene.pass(20 + slack);
    watcher.expect_texts(&["gone"]);
}

fn the_end_of_the_session_ends_the_delay(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "will", 0);
    scene.connect_with(&id("c").expiry(2).will(will("will", "gone").delay(30))).cut();
    let slack = scene.slack_ms();
    scene.pass(1_990 - slack);
    watcher.expect_silence();
    scene.pass(20 + slack);
    watcher.expect_texts(&["gone"]);
}

fn a_session_that_ends_with_its_connection_has_no_delay(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "will", 0);
    scene.connect_with(&id("c").will(will("will", "gone").delay(30))).cut();
    watcher.expect_texts(&["gone"]);
    // DISCONNECT may end it too.
    let now = properties(|w| w.u32(PropertyId::SessionExpiryInterval, 0));
    let delayed = id("c").expiry(60).will(will("will", "gone").delay(30));
    scene.connect_with(&delayed).disconnect_with(ReasonCode::DisconnectWithWill, &now);
    watcher.expect_texts(&["gone"]);
}

fn a_new_connection_within_the_delay_withdraws_the_will(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "will", 0);
    let delayed = id("c").kept().will(will("will", "gone").delay(1));
    scene.connect_with(&delayed).cut();
    scene.pass(400);
    let mut again = scene.reconnect(&id("c").kept(), true);
    scene.pass(1_200);
    watcher.expect_silence();
    again.disconnect();
    // A takeover is a new connection too.
    let mut first = scene.connect_with(&delayed);
    let mut second = scene.reconnect(&id("c").kept(), true);
    first.expect_disconnect(ReasonCode::SessionTakenOver);
    scene.pass(1_200);
    watcher.expect_silence();
    second.ping();
}

fn clean_start_within_the_delay_publishes_the_will(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "will", 0);
    // The session ends with it, and so does the delay.
    let delayed = id("c").kept().will(will("will", "gone").delay(30));
    scene.connect_with(&delayed).cut();
    watcher.expect_silence();
    scene.reconnect(&id("c"), false).disconnect();
    watcher.expect_texts(&["gone"]);
}

fn will_properties_are_published(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "will", 0);
    let full = will("will", "gone").delay(0).properties(|w| {
        w.user_property("a", "1")
            .u8(PropertyId::PayloadFormatIndicator, 1)
            .user_property("b", "2")
            .u32(PropertyId::MessageExpiryInterval, 60)
            .str(PropertyId::ContentType, "text/plain")
            .str(PropertyId::ResponseTopic, "answer")
            .bytes(PropertyId::CorrelationData, &[0, 1, 0xFF])
            .user_property("a", "3")
    });
    let own = id("c").properties(|w| w.user_property("connect", "only")).will(full);
    scene.connect_with(&own).cut();
    let found = watcher.expect_message();
    assert_eq!(found.properties.pairs(), [("a", "1"), ("b", "2"), ("a", "3")]);
    assert_eq!(found.properties.number(PropertyId::PayloadFormatIndicator), Some(1));
    scene.assert_expiry(&found.properties, 60);
    assert_eq!(found.properties.text(PropertyId::ContentType), Some("text/plain"));
    assert_eq!(found.properties.text(PropertyId::ResponseTopic), Some("answer"));
    assert_eq!(found.properties.binary(PropertyId::CorrelationData), Some(&[0, 1, 0xFF][..]));
}

fn a_will_topic_without_meaning_is_refused(scene: &mut Scene) {
    use wire::{CLEAN, WILL, field, join};
    for topic in ["a/#", "+/a", "#", "a+", ""] {
        let payload = join(&[
            &field(scene.client_id("c")),
            &wire::section_of(scene.version, &[]),
            &field(topic),
            &field("x"),
        ]);
        let bytes = wire::connect(scene.version, CLEAN | WILL, payload);
        scene.expect_refused(&bytes, ReasonCode::TopicNameInvalid);
    }
}
