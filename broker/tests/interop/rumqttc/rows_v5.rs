//! Rows of version 5.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::v5::{
    ConnectProperties, LastWill, LastWillProperties, PublishProperties, RetainForwardRule,
};

use super::peer::{Options, qos_5};
use super::{Row, Scene};

pub const ROWS: &[Row] = &[
    ("will_delay", will_delay),
    ("user_properties", user_properties),
    ("request_response", request_response),
    ("message_expiry", message_expiry),
    ("topic_alias", topic_alias),
    ("receive_maximum", receive_maximum),
    ("receive_maximum_of_server", receive_maximum_of_server),
    ("maximum_packet_size", maximum_packet_size),
    ("no_local", no_local),
    ("retain_as_published", retain_as_published),
    ("retain_handling", retain_handling),
    ("subscription_ids", subscription_ids),
    ("keep_alive_of_server", keep_alive_of_server),
    ("assigned_client_id", assigned_client_id),
    ("session_expiry", session_expiry),
];

fn with(change: impl FnOnce(&mut ConnectProperties)) -> Options {
    let mut options = Options::default();
    change(&mut options.properties);
    options
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn delayed_will(topic: &str, payload: &str, seconds: u32) -> Option<LastWill> {
    let properties = LastWillProperties {
        delay_interval: Some(seconds),
        payload_format_indicator: None,
        message_expiry_interval: None,
        content_type: Some("text".to_owned()),
        response_topic: None,
        correlation_data: None,
        user_properties: pairs(&[("k", "v")]),
    };
    Some(LastWill::new(topic, payload.to_owned(), qos_5(1), false, Some(properties)))
}

fn will_delay(scene: Scene) {
    let watcher = scene.peer("delay-watch");
    watcher.subscribe("delay/#", 1);
    let leave = |name: &str, delay_s| {
        let will = delayed_will(&format!("delay/{name}"), "late", delay_s);
        let options = with(|properties| properties.session_expiry_interval = Some(100));
        let leaving = scene.peer_with(&format!("delay-{name}"), Options { will, ..options });
        let cut_at = Instant::now();
        leaving.cut();
        cut_at
    };
    leave("back", 2);
    let _back = scene.peer_with("delay-back", Options::kept());
    let cut_at = leave("gone", 1);
    let message = watcher.message();
    let waited = cut_at.elapsed().as_secs_f64();
    assert!(0.9 < waited && waited < 2.5, "the will came after {waited:.2} s");
    assert_eq!(message.topic, "delay/gone");
    assert_eq!(message.properties.user_properties, pairs(&[("k", "v")]));
    assert_eq!(message.properties.content_type.as_deref(), Some("text"));
    // By the time of this one, that of the client that is back would have come.
    leave("last", 2);
    assert_eq!(watcher.message().topic, "delay/last");
}

fn user_properties(scene: Scene) {
    let (subscriber, publisher) = scene.pair("props");
    subscriber.subscribe("props/t", 1);
    let user_properties = pairs(&[("b", "1"), ("a", "2"), ("b", "1"), ("", "ü")]);
    let properties = PublishProperties { user_properties: user_properties.clone(), ..Default::default() };
    publisher.publish_with("props/t", "x", properties);
    assert_eq!(subscriber.message().properties.user_properties, user_properties);
}

fn request_response(scene: Scene) {
    const CORRELATION: &[u8] = b"\x00\xff7";
    let (responder, requester) = scene.pair("rr");
    responder.subscribe("rr/ask", 1);
    requester.subscribe("rr/answer", 1);
    let question = PublishProperties {
        response_topic: Some("rr/answer".to_owned()),
        correlation_data: Some(CORRELATION.into()),
        content_type: Some("text/plain".to_owned()),
        payload_format_indicator: Some(1),
        message_expiry_interval: Some(60),
        ..Default::default()
    };
    requester.publish_with("rr/ask", "?", question);
    let asked = responder.message().properties;
    assert_eq!(
        (asked.content_type.as_deref(), asked.payload_format_indicator),
        (Some("text/plain"), Some(1))
    );
    assert!(matches!(asked.message_expiry_interval, Some(58..=60)), "{asked:?}");
    let answer = PublishProperties { correlation_data: asked.correlation_data, ..Default::default() };
    responder.publish_with(&asked.response_topic.expect("a response topic"), "!", answer);
    assert_eq!(requester.message().properties.correlation_data.as_deref(), Some(CORRELATION));
}

fn message_expiry(scene: Scene) {
    let subscriber = scene.peer_with("old-sub", Options::kept());
    subscriber.subscribe("old/t", 1);
    subscriber.disconnect();
    let publisher = scene.peer("old-pub");
    for (payload, seconds) in [("short", 1), ("long", 100)] {
        let properties = PublishProperties { message_expiry_interval: Some(seconds), ..Default::default() };
        publisher.publish_with("old/t", payload, properties);
    }
    std::thread::sleep(Duration::from_millis(1100));
    let subscriber = scene.peer_with("old-sub", Options::kept());
    let message = subscriber.message();
    assert_eq!(message.text(), "long");
    assert!(matches!(message.properties.message_expiry_interval, Some(96..=98)), "{message:?}");
    subscriber.expect_nothing();
}

fn topic_alias(scene: Scene) {
    let (subscriber, publisher) = scene.pair("alias");
    subscriber.subscribe("alias/#", 1);
    assert!(publisher.connack.topic_alias_max >= Some(2));
    for topic in ["alias/long/topic", "", "alias/other", ""] {
        publisher.publish_with(topic, "x", PublishProperties { topic_alias: Some(2), ..Default::default() });
    }
    let topics: Vec<_> = subscriber.messages(4).into_iter().map(|message| message.topic).collect();
    assert_eq!(topics, ["alias/long/topic", "alias/long/topic", "alias/other", "alias/other"]);
}

fn receive_maximum(scene: Scene) {
    let options = with(|properties| properties.receive_maximum = Some(3));
    let subscriber = scene.peer_with("window-sub", Options { manual_acks: true, ..options });
    subscriber.subscribe("window/t", 1);
    let publisher = scene.peer("window-pub");
    for number in 0..8 {
        publisher.publish("window/t", number.to_string(), 1, false);
    }
    let mut window = subscriber.messages(3);
    subscriber.expect_nothing();
    for number in 3..8 {
        subscriber.ack(&window.remove(0));
        window.push(subscriber.message());
        assert_eq!(window[2].text(), number.to_string());
    }
    subscriber.expect_nothing();
}

fn receive_maximum_of_server(scene: Scene) {
    let publisher = scene.peer("flow");
    let window = publisher.connack.receive_max.expect("a window");
    publisher.publish_at_once("flow/t", 2 * usize::from(window));
}

fn maximum_packet_size(scene: Scene) {
    let subscriber = scene.peer_with("small-sub", with(|properties| properties.max_packet_size = Some(100)));
    subscriber.subscribe("small/t", 1);
    let publisher = scene.peer("small-pub");
    publisher.publish("small/t", "x".repeat(500), 1, false);
    publisher.publish("small/t", "fits", 1, false);
    subscriber.expect(&["fits"]);
}

fn no_local(scene: Scene) {
    let (own, other) = scene.pair("local");
    own.subscribe_with("local/off", 1, |filter| filter.nolocal = true, None);
    own.subscribe("local/on", 1);
    own.publish("local/off", "own", 1, false);
    own.publish("local/on", "own", 1, false);
    other.publish("local/off", "other", 1, false);
    let mut received: Vec<_> = own.messages(2).iter().map(|message| message.text().to_owned()).collect();
    received.sort();
    assert_eq!(received, ["other", "own"]);
    own.expect_nothing();
}

fn retain_as_published(scene: Scene) {
    let (subscriber, publisher) = scene.pair("rap");
    subscriber.subscribe_with("rap/kept", 1, |filter| filter.preserve_retain = true, None);
    subscriber.subscribe("rap/cleared", 1);
    publisher.publish("rap/kept", "x", 1, true);
    publisher.publish("rap/cleared", "x", 1, true);
    let mut received: Vec<_> =
        subscriber.messages(2).into_iter().map(|message| (message.topic, message.retain)).collect();
    received.sort();
    assert_eq!(received, [("rap/cleared".to_owned(), false), ("rap/kept".to_owned(), true)]);
}

fn retain_handling(scene: Scene) {
    let (subscriber, publisher) = scene.pair("rh");
    let subscribe = |rule: RetainForwardRule| {
        subscriber.subscribe_with("rh/t", 1, |filter| filter.retain_forward_rule = rule, None);
    };
    publisher.publish("rh/t", "x", 1, true);
    subscribe(RetainForwardRule::Never);
    subscriber.expect_nothing();
    subscribe(RetainForwardRule::OnNewSubscribe);
    subscriber.expect_nothing();
    subscribe(RetainForwardRule::OnEverySubscribe);
    subscriber.expect(&["x"]);
    subscriber.unsubscribe("rh/t");
    subscribe(RetainForwardRule::OnNewSubscribe);
    subscriber.expect(&["x"]);
}

fn subscription_ids(scene: Scene) {
    let (subscriber, publisher) = scene.pair("ids");
    subscriber.subscribe_with("ids/+", 0, |_| (), Some(1));
    subscriber.subscribe_with("ids/t", 1, |_| (), Some(268_435_455));
    subscriber.subscribe("ids/#", 0);
    publisher.publish("ids/t", "x", 2, false);
    let mut message = subscriber.message();
    message.properties.subscription_identifiers.sort();
    assert_eq!((message.qos, message.properties.subscription_identifiers), (1, vec![1, 268_435_455]));
    subscriber.expect_nothing();
}

fn keep_alive_of_server(scene: Scene) {
    let patient =
        scene.peer_with("patient", Options { keep_alive: Duration::from_secs(1200), ..Options::default() });
    assert_eq!(patient.connack.server_keep_alive, Some(600));
}

fn assigned_client_id(scene: Scene) {
    let ids: HashSet<_> =
        (0..3).filter_map(|_| scene.peer("").connack.assigned_client_identifier.clone()).collect();
    assert_eq!((ids.len(), ids.contains("")), (3, false));
}

fn session_expiry(scene: Scene) {
    let watcher = scene.peer("brief-watch");
    watcher.subscribe("brief/t", 1);
    scene.peer_with("brief", Options::kept()).disconnect();
    let will = delayed_will("brief/t", "over", 100);
    let options = with(|properties| properties.session_expiry_interval = Some(1));
    let brief = scene.peer_with("brief", Options { clean: false, will, ..options });
    assert!(brief.session_present);
    let cut_at = Instant::now();
    brief.cut();
    assert_eq!(watcher.message().text(), "over");
    let waited = cut_at.elapsed().as_secs_f64();
    assert!(waited > 0.9, "over after {waited:.2} s");
    assert!(!scene.peer_with("brief", Options::kept()).session_present);
}
