//! Rows of all versions.

use rumqttc::v5::mqttbytes::v5::{LastWill, UnsubAckReason};

use super::peer::{Options, Peer, qos_5};
use super::{Row, Scene};
use crate::judges::Version;

pub const ROWS: &[Row] = &[
    ("qos_0_0", |scene| qos(scene, 0, 0)),
    ("qos_0_1", |scene| qos(scene, 0, 1)),
    ("qos_0_2", |scene| qos(scene, 0, 2)),
    ("qos_1_0", |scene| qos(scene, 1, 0)),
    ("qos_1_1", |scene| qos(scene, 1, 1)),
    ("qos_1_2", |scene| qos(scene, 1, 2)),
    ("qos_2_0", |scene| qos(scene, 2, 0)),
    ("qos_2_1", |scene| qos(scene, 2, 1)),
    ("qos_2_2", |scene| qos(scene, 2, 2)),
    ("wildcards", wildcards),
    ("dollar_topics", dollar_topics),
    ("overlapping", overlapping),
    ("retained", retained),
    ("retained_clear", retained_clear),
    ("retained_wildcard", retained_wildcard),
    ("will", will),
    ("no_will_after_disconnect", no_will_after_disconnect),
    ("shared", shared),
    ("resume_queued", resume_queued),
    ("clean_start_forgets", clean_start_forgets),
    ("resume_inflight", resume_inflight),
    ("takeover", takeover),
    ("large_payload", large_payload),
    ("unsubscribe", unsubscribe),
    ("keep_alive", keep_alive),
    ("empty_client_id", empty_client_id),
    ("mixed_versions", mixed_versions),
];

impl Scene {
    #[track_caller]
    pub fn peer(&self, id: &str) -> Peer {
        Peer::new(self.port, self.version, id)
    }

    #[track_caller]
    pub fn peer_with(&self, id: &str, options: Options) -> Peer {
        Peer::with(self.port, self.version, id, options)
    }

    /// A subscriber and a publisher.
    #[track_caller]
    pub fn pair(&self, name: &str) -> (Peer, Peer) {
        (self.peer(&format!("{name}-sub")), self.peer(&format!("{name}-pub")))
    }
}

fn numbers(count: u16) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

fn qos(scene: Scene, published: u8, subscribed: u8) {
    let topic = format!("qos{published}{subscribed}/t");
    let (subscriber, publisher) = scene.pair(&format!("qos{published}{subscribed}"));
    subscriber.subscribe(&topic, subscribed);
    for number in numbers(20) {
        publisher.publish(&topic, number, published, false);
    }
    for number in numbers(20) {
        let message = subscriber.message();
        let found = (message.text(), message.qos, message.retain, message.dup);
        assert_eq!(found, (number.as_str(), published.min(subscribed), false, false));
    }
    subscriber.expect_nothing();
}

fn wildcards(scene: Scene) {
    let (subscriber, publisher) = scene.pair("wild");
    subscriber.subscribe("wild/+/x", 1);
    subscriber.subscribe("wild/deep/#", 1);
    for topic in ["wild/a/x", "wild/a/b/x", "wild/x", "wild/deep", "wild/deep/a/b", "wild//x"] {
        publisher.publish(topic, topic, 1, false);
    }
    subscriber.expect(&["wild/a/x", "wild/deep", "wild/deep/a/b", "wild//x"]);
}

fn dollar_topics(scene: Scene) {
    let (subscriber, publisher) = scene.pair("dollar");
    subscriber.subscribe("#", 1);
    subscriber.subscribe("+/dollar/t", 1);
    let named = scene.peer("dollar-named");
    named.subscribe("$dollar/#", 1);
    publisher.publish("$dollar/dollar/t", "special", 1, false);
    publisher.publish("dollar/dollar/t", "plain", 1, false);
    named.expect(&["special"]);
    // Other rows publish too.
    let all = std::iter::from_fn(|| Some(subscriber.message()));
    let mut until = all.take_while(|message| message.payload != b"plain");
    assert!(until.all(|message| !message.topic.starts_with('$')));
}

fn overlapping(scene: Scene) {
    let (subscriber, publisher) = scene.pair("over");
    for (filter, qos) in [("over/#", 0), ("over/+", 2), ("over/t", 1)] {
        subscriber.subscribe(filter, qos);
    }
    publisher.publish("over/t", "x", 2, false);
    let message = subscriber.message();
    assert_eq!((message.text(), message.qos), ("x", 2));
    subscriber.expect_nothing();
}

fn retained(scene: Scene) {
    let (live, publisher) = scene.pair("ret");
    live.subscribe("ret/#", 1);
    publisher.publish("ret/a", "first", 1, true);
    publisher.publish("ret/a", "last", 1, true);
    for payload in ["first", "last"] {
        let message = live.message();
        assert_eq!((message.text(), message.retain), (payload, false));
    }
    let late = scene.peer("ret-late");
    late.subscribe("ret/a", 1);
    let message = late.message();
    assert_eq!((message.text(), message.retain, message.qos), ("last", true, 1));
}

fn retained_clear(scene: Scene) {
    let (subscriber, publisher) = scene.pair("clear");
    publisher.publish("clear/a", "x", 1, true);
    publisher.publish("clear/a", "", 1, true);
    subscriber.subscribe("clear/a", 1);
    subscriber.expect_nothing();
}

fn retained_wildcard(scene: Scene) {
    let (subscriber, publisher) = scene.pair("many");
    for (index, number) in numbers(200).into_iter().enumerate() {
        publisher.publish(&format!("many/{}/{number}", index % 7), number, 1, true);
    }
    subscriber.subscribe("many/#", 1);
    let mut received: Vec<u16> =
        subscriber.messages(200).iter().map(|message| message.text().parse().expect("a number")).collect();
    received.sort();
    assert_eq!(received, (0..200).collect::<Vec<_>>());
    subscriber.expect_nothing();
}

fn with_will(topic: &str, qos: u8, retain: bool) -> Options {
    Options { will: Some(LastWill::new(topic, "gone", qos_5(qos), retain, None)), ..Options::default() }
}

fn will(scene: Scene) {
    for qos in 0..3 {
        let topic = format!("will/{qos}");
        let watcher = scene.peer(&format!("will-watch{qos}"));
        watcher.subscribe(&topic, 2);
        scene.peer_with(&format!("will-gone{qos}"), with_will(&topic, qos, true)).cut();
        let message = watcher.message();
        assert_eq!((message.text(), message.qos, message.retain), ("gone", qos, false));
        let late = scene.peer(&format!("will-late{qos}"));
        late.subscribe(&topic, 2);
        assert!(late.message().retain, "RETAIN of a retained will");
    }
}

fn no_will_after_disconnect(scene: Scene) {
    let watcher = scene.peer("calm-watch");
    watcher.subscribe("calm/t", 1);
    scene.peer_with("calm-gone", with_will("calm/t", 1, false)).disconnect();
    watcher.expect_nothing();
}

fn shared(scene: Scene) {
    let members: Vec<_> = (0..3).map(|number| scene.peer(&format!("share-{number}"))).collect();
    for member in &members {
        member.subscribe("$share/group/share/t", 1);
    }
    let publisher = scene.peer("share-pub");
    for number in numbers(90) {
        publisher.publish("share/t", number, 1, false);
    }
    let received: Vec<Vec<_>> = members.iter().map(Peer::burst).collect();
    let counts: Vec<_> = received.iter().map(Vec::len).collect();
    let mut received: Vec<u16> =
        received.iter().flatten().map(|message| message.text().parse().expect("a number")).collect();
    received.sort();
    assert_eq!(received, (0..90).collect::<Vec<_>>());
    assert!(counts.iter().all(|&count| count >= 25), "uneven: {counts:?}");
}

fn resume_queued(scene: Scene) {
    let publisher = scene.peer("queue-pub");
    let subscriber = scene.peer_with("queue-sub", Options::kept());
    assert!(!subscriber.session_present);
    subscriber.subscribe("queue/t", 2);
    subscriber.disconnect();
    let numbers = numbers(50);
    for (index, number) in numbers.iter().enumerate() {
        publisher.publish("queue/t", number.as_str(), if index % 2 == 0 { 1 } else { 2 }, false);
    }
    publisher.publish("queue/t", "lost", 0, false);
    // QoS 0 has no answer; the one behind it on the same connection has.
    publisher.publish("queue/other", "", 1, false);
    let subscriber = scene.peer_with("queue-sub", Options::kept());
    assert!(subscriber.session_present);
    subscriber.expect(&numbers.iter().map(String::as_str).collect::<Vec<_>>());
}

fn clean_start_forgets(scene: Scene) {
    let first = scene.peer_with("fresh", Options::kept());
    first.subscribe("fresh/t", 1);
    first.disconnect();
    let again = scene.peer("fresh");
    assert!(!again.session_present);
    scene.peer("fresh-pub").publish("fresh/t", "x", 1, false);
    again.expect_nothing();
}

fn resume_inflight(scene: Scene) {
    let publisher = scene.peer("flight-pub");
    let subscriber = scene.peer_with("flight-sub", Options { manual_acks: true, ..Options::kept() });
    subscriber.subscribe("flight/t", 1);
    for number in numbers(5) {
        publisher.publish("flight/t", number, 1, false);
    }
    let first = subscriber.messages(5);
    subscriber.ack(&first[0]);
    subscriber.ack(&first[1]);
    subscriber.cut();
    let subscriber = scene.peer_with("flight-sub", Options::kept());
    for expected in &first[2..] {
        let message = subscriber.message();
        let found = (message.packet_id, &message.payload, message.dup);
        assert_eq!(found, (expected.packet_id, &expected.payload, true));
    }
    subscriber.expect_nothing();
}

fn takeover(scene: Scene) {
    let first = scene.peer_with("taken", Options::kept());
    first.subscribe("taken/t", 1);
    let second = scene.peer_with("taken", Options::kept());
    let why = first.end();
    if scene.version == Version::V5 {
        assert!(why.contains("SessionTakenOver"), "{why}");
    }
    scene.peer("taken-pub").publish("taken/t", "x", 1, false);
    second.expect(&["x"]);
}

fn large_payload(scene: Scene) {
    let (subscriber, publisher) = scene.pair("large");
    subscriber.subscribe("large/t", 2);
    let payload: Vec<u8> = (0..900 * 1024).map(|index: u32| index as u8).collect();
    for qos in 0..3 {
        publisher.publish("large/t", payload.clone(), qos, false);
        assert!(subscriber.message().payload == payload, "the payload is another one");
    }
}

fn unsubscribe(scene: Scene) {
    let (subscriber, publisher) = scene.pair("un");
    subscriber.subscribe("un/a", 1);
    subscriber.subscribe("un/b", 1);
    let codes = ["un/a", "un/unknown"].map(|filter| subscriber.unsubscribe(filter));
    if scene.version == Version::V5 {
        assert_eq!(codes, [vec![UnsubAckReason::Success], vec![UnsubAckReason::NoSubscriptionExisted]]);
    }
    publisher.publish("un/a", "gone", 1, false);
    publisher.publish("un/b", "there", 1, false);
    subscriber.expect(&["there"]);
}

fn keep_alive(scene: Scene) {
    use std::time::Duration;
    let idle = scene.peer_with("alive", Options { keep_alive: Duration::from_secs(2), ..Options::default() });
    idle.subscribe("alive/t", 1);
    std::thread::sleep(Duration::from_millis(4500));
    scene.peer("alive-pub").publish("alive/t", "x", 1, false);
    idle.expect(&["x"]);
}

fn empty_client_id(scene: Scene) {
    let (nameless, other) = (scene.peer(""), scene.peer(""));
    nameless.subscribe("nameless/t", 1);
    other.publish("nameless/t", "x", 1, false);
    nameless.expect(&["x"]);
}

fn mixed_versions(scene: Scene) {
    let others = [Version::V311, Version::V5]
        .map(|version| Peer::new(scene.port, version, &format!("mixed-{version}")));
    for other in &others {
        other.subscribe("mixed/t", 2);
    }
    scene.peer("mixed-pub").publish("mixed/t", "x", 2, false);
    for other in &others {
        other.expect(&["x"]);
    }
}
