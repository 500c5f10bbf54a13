//! HC-WIL: when a will is published, and what it is.

use shard::EndReason;

use crate::suite::prelude::*;

pub fn cases() -> Vec<Case> {
    vec![
        case!(once_for_each_end).hard("HC-WIL-1"),
        case!(once_for_each_end_by_the_server).hard("HC-WIL-1").core_only("kicks, drains and waits"),
        case!(none_after_disconnect).hard("HC-WIL-2"),
        case!(disconnect_with_will).hard("HC-WIL-3").versions(ONLY_V5),
        case!(delay_and_session_expiry).hard("HC-WIL-4").versions(ONLY_V5).core_only("takes many seconds"),
        case!(reconnect_with_a_new_will).hard("HC-WIL-5").versions(ONLY_V5).core_only("takes many seconds"),
        case!(retained_will).hard("HC-WIL-6"),
        case!(retained_will_expires).hard("HC-WIL-6").versions(ONLY_V5).core_only("takes many seconds"),
        case!(will_topics_that_are_none).hard("HC-WIL-7").alone(),
        case!(will_above_the_maximum_qos).hard("HC-WIL-8").versions(ONLY_V5).with(&[Set::MaximumQos(1)]),
        case!(will_retained_where_nothing_is)
            .hard("HC-WIL-8")
            .versions(ONLY_V5)
            .with(&[Set::RetainUnavailable]),
        case!(the_owner_subscribes).hard("HC-WIL-9"),
        case!(pending_when_the_session_ends)
            .hard("HC-WIL-10")
            .versions(ONLY_V5)
            .core_only("takes many seconds"),
    ]
}

fn once_for_each_end(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "will", 1);
    let options = || id("dying").will(will("will", "gone").qos(1));
    scene.connect_with(&options()).cut();
    watcher.expect_texts(&["gone"]);

    let mut faulty = scene.connect_with(&options());
    faulty.write(&[0xF0, 0x01, 0xFF]);
    faulty.expect_end_or_disconnect();
    watcher.expect_texts(&["gone"]);

    let mut first = scene.connect_with(&options());
    let second = scene.connect_with(&id("dying"));
    first.expect_fault(ReasonCode::SessionTakenOver);
    watcher.expect_texts(&["gone"]);
    second.cut();
    watcher.expect_silence();
}

fn once_for_each_end_by_the_server(scene: &mut Scene) {
    let mut watcher = scene.reconnect(&id("watcher").kept(), false);
    watcher.subscribe("will", 1);
    let options = |name: &str| id(name).kept().will(will("will", "gone").qos(1));
    let mut kicked = scene.reconnect(&options("kicked"), false);
    scene.core(|core| core.kick("kicked"));
    kicked.expect_fault(ReasonCode::AdministrativeAction);
    watcher.expect_texts(&["gone"]);
    scene.core(|core| core.kick("kicked"));
    watcher.expect_silence();

    let mut silent = scene.reconnect(&options("silent").keep_alive(10), false);
    scene.pass(15_500);
    silent.expect_fault(ReasonCode::KeepAliveTimeout);
    watcher.expect_texts(&["gone"]);
    assert_eq!(scene.figure(|m| m.disconnects[EndReason::KeepAliveTimeout as usize]), 1);

    let mut served = scene.reconnect(&options("served"), false);
    scene.core(|core| core.drain());
    let code = ReasonCode::ServerShuttingDown;
    served.expect_fault(code);
    let texts: Vec<String> =
        watcher.take_messages_before_fault(code).iter().map(|message| message.text().to_owned()).collect();
    // It is on its way to the watcher, or waits in its session.
    assert!(texts.iter().all(|text| text == "gone") && texts.len() <= 1, "{texts:?}");
    assert_eq!(scene.figure(|m| m.wills_published), 3);
}

fn none_after_disconnect(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "will", 0);
    for options in [id("polite"), id("polite").kept()] {
        let mut polite = scene.connect_with(&options.will(will("will", "never")));
        polite.disconnect();
        watcher.expect_silence();
    }
    // Nor afterwards, when the session ends.
    scene.connect_with(&id("polite")).cut();
    watcher.expect_silence();
}

fn disconnect_with_will(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "will", 0);
    let mut peer = scene.connect_with(&id("a").will(will("will", "at once")));
    peer.disconnect_with(ReasonCode::DisconnectWithWill, &[]);
    watcher.expect_texts(&["at once"]);
    let mut peer = scene.connect_with(&id("b").kept().will(will("will", "later").delay(2)));
    peer.disconnect_with(ReasonCode::DisconnectWithWill, &[]);
    scene.pass(1000);
    watcher.expect_silence();
    scene.pass(1500);
    watcher.expect_texts(&["later"]);
}

fn delay_and_session_expiry(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "will", 0);
    let delayed = || will("will", "w").delay(10);
    scene.connect_with(&id("a").resume().expiry(5).will(delayed())).cut();
    scene.pass(4_900);
    watcher.expect_silence();
    scene.pass(200);
    watcher.expect_texts(&["w"]);
    scene.connect_with(&id("b").expiry(0).will(delayed())).cut();
    watcher.expect_texts(&["w"]);
    // DISCONNECT may shorten the expiry, and so the delay.
    let mut peer = scene.connect_with(&id("c").resume().expiry(60).will(delayed()));
    let ends = properties(|w| w.u32(PropertyId::SessionExpiryInterval, 0));
    peer.disconnect_with(ReasonCode::DisconnectWithWill, &ends);
    watcher.expect_texts(&["w"]);
    scene.pass(20_000);
    watcher.expect_silence();
    assert_eq!(scene.figure(|m| m.sessions), 1);
}

fn reconnect_with_a_new_will(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "will/#", 0);
    scene.connect_with(&id("a").kept().will(will("will/old", "old").delay(10))).cut();
    scene.pass(5_000);
    scene.reconnect(&id("a").kept().will(will("will/new", "new").delay(7)), true).cut();
    scene.pass(6_900);
    watcher.expect_silence();
    scene.pass(200);
    watcher.expect_texts(&["new"]);
    scene.pass(20_000);
    watcher.expect_silence();
}

fn retained_will(scene: &mut Scene) {
    let mut live = scene.subscriber("live", "will", 0);
    scene.connect_with(&id("a").will(will("will", "stays").retain())).cut();
    let message = live.expect_message();
    assert_eq!((message.text(), message.retain), ("stays", false));
    let mut late = scene.subscriber("late", "will", 0);
    let message = late.expect_message();
    assert_eq!((message.text(), message.retain), ("stays", true));
    scene.connect_with(&id("a").will(will("will", "").retain())).cut();
    live.expect_texts(&[""]);
    scene.subscriber("later", "will", 0).expect_silence();
}

fn retained_will_expires(scene: &mut Scene) {
    let expiring = will("will", "w").retain().delay(20);
    let expiring = expiring.properties(|w| w.u32(PropertyId::MessageExpiryInterval, 10));
    scene.connect_with(&id("a").kept().will(expiring)).cut();
    // The expiry counts from the publication, not from CONNECT.
    scene.pass(25_000);
    let mut early = scene.subscriber("early", "will", 0);
    assert_eq!(early.expect_message().properties.number(PropertyId::MessageExpiryInterval), Some(5));
    scene.pass(6_000);
    scene.subscriber("late", "will", 0).expect_silence();
}

fn will_topics_that_are_none(scene: &mut Scene) {
    for topic in ["", "#", "a/+/b", "a#", "$share/g/t", "$share", "$SYS", "$SYS/broker"] {
        let mut peer = scene.try_connect(&id("a").will(will(topic, "w")));
        peer.expect_refusal(ReasonCode::TopicNameInvalid);
    }
    scene.connect_with(&id("a").will(will("$other/t", "w"))).disconnect();
}

fn will_above_the_maximum_qos(scene: &mut Scene) {
    let mut peer = scene.try_connect(&id("a").will(will("will", "w").qos(2)));
    peer.expect_refusal(ReasonCode::QoSNotSupported);
    scene.connect_with(&id("a").will(will("will", "w").qos(1))).disconnect();
}

fn will_retained_where_nothing_is(scene: &mut Scene) {
    let mut peer = scene.try_connect(&id("a").will(will("will", "w").retain()));
    peer.expect_refusal(ReasonCode::RetainNotSupported);
    scene.connect_with(&id("a").will(will("will", "w"))).disconnect();
}

fn the_owner_subscribes(scene: &mut Scene) {
    let options = || id("owner").kept();
    let mut owner = scene.reconnect(&options().will(will("will", "mine").qos(1)), false);
    owner.subscribe("will", 1);
    owner.cut();
    let mut owner = scene.reconnect(&options().will(will("will", "mine").qos(1)), true);
    owner.expect_texts(&["mine"]);
    if scene.is_v5() {
        owner.subscribe_with("will", SubscriptionOptions { no_local: true, ..at(1) });
        owner.cut();
        scene.reconnect(&options(), true).expect_silence();
    }
}

fn pending_when_the_session_ends(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "will", 0);
    let options = |delay, expiry| id("a").resume().expiry(expiry).will(will("will", "once").delay(delay));
    scene.connect_with(&options(60, 600)).cut();
    scene.pass(1000);
    watcher.expect_silence();
    scene.reconnect(&id("a"), false).disconnect();
    watcher.expect_texts(&["once"]);
    // The delay and the expiry end together, and with them comes a new connection.
    for is_clean in [false, true] {
        scene.connect_with(&options(10, 10)).cut();
        scene.pass(10_000);
        let next = if is_clean { id("a") } else { id("a").resume() };
        scene.reconnect(&next, false).disconnect();
        watcher.expect_texts(&["once"]);
    }
    scene.pass(600_000);
    watcher.take_packets();
    assert_eq!(scene.figure(|m| m.wills_published), 3);
}
