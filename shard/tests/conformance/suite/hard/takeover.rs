//! HC-TAK: a second connection with the client id of the first.

use crate::suite::options::Options;
use crate::suite::prelude::*;

pub fn cases() -> Vec<Case> {
    vec![
        case!(the_second_gets_the_session).hard("HC-TAK-1"),
        case!(clean_start_ends_the_first_session).hard("HC-TAK-2"),
        case!(will_of_the_first).hard("HC-TAK-3").versions(ONLY_V5),
        case!(two_hundred_at_once).hard("HC-TAK-4"),
        case!(two_hundred_on_their_way).hard("HC-TAK-4").core_only("holds the lanes"),
        case!(deliveries_in_each_state).hard("HC-TAK-5"),
        case!(received_qos_2_is_delivered_once).hard("HC-TAK-6"),
        case!(by_another_version).hard("HC-TAK-7"),
        case!(from_a_full_socket).hard("HC-TAK-8").core_only("stops a reader"),
        case!(the_connection_dies_on_its_way_home).hard("HC-TAK-9").core_only("holds the lanes"),
    ]
}

fn the_second_gets_the_session(scene: &mut Scene) {
    let mut sender = scene.connect("sender");
    let mut first = scene.reconnect(&id("same").kept(), false);
    first.subscribe("t", 1);
    // From every shard.
    for round in 0..4 {
        let mut second = scene.reconnect(&id("same").kept(), true);
        // The first is gone before the second hears anything.
        first.expect_fault(ReasonCode::SessionTakenOver);
        sender.publish("t", &format!("{round}"), 1);
        second.expect_texts(&[&format!("{round}")]);
        first = second;
    }
    first.cut();
    sender.publish("t", "queued", 1);
    scene.reconnect(&id("same").kept(), true).expect_texts(&["queued"]);
}

fn clean_start_ends_the_first_session(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "will", 0);
    // A window of one: the second message waits in the queue.
    let options = id("same").kept().receive_maximum(1).will(will("will", "over").delay(3600));
    let mut first = scene.reconnect(&options, false);
    first.subscribe("t", 1);
    let mut sender = scene.connect("sender");
    sender.publish("t", "in flight", 1);
    sender.publish("t", "queued", 1);
    let mut second = scene.reconnect(&id("same"), false);
    first.take_messages_before_fault(ReasonCode::SessionTakenOver);
    watcher.expect_texts(&["over"]);
    sender.publish("t", "for nobody", 1);
    second.expect_silence();
    second.disconnect();
    scene.reconnect(&id("same").resume(), false).expect_silence();
    watcher.expect_silence();
}

fn will_of_the_first(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "will/#", 0);
    let with_delay = id("same").kept().will(will("will/delayed", "not").delay(1));
    let first = scene.reconnect(&with_delay, false);
    let without = id("same").kept().will(will("will/now", "at once"));
    let second = scene.reconnect(&without, true);
    drop(first);
    scene.pass(1500);
    watcher.expect_silence();
    let third = scene.reconnect(&id("same").kept(), true);
    watcher.expect_texts(&["at once"]);
    drop((second, third));
    scene.pass(1500);
    watcher.expect_silence();
}

fn two_hundred_at_once(scene: &mut Scene) {
    let connect = scene.encode(&id("crowd"));
    let mut peers: Vec<Peer> = (0..200).map(|_| scene.open()).collect();
    peers.iter_mut().for_each(|peer| peer.write(&connect));
    one_survives(scene, peers);
}

/// All have written their CONNECT: all but one were served and then closed; the survivor works.
fn one_survives(scene: &mut Scene, mut peers: Vec<Peer>) {
    let mut sender = scene.connect("sender");
    let mut survivors = vec![];
    for (number, peer) in peers.iter_mut().enumerate() {
        peer.expect_connected();
        match peer.poll() {
            None if peer.is_ended() => assert!(!peer.is_v5(), "closed without a word"),
            None => survivors.push(number),
            Some(Received::Disconnect(reason)) => {
                assert_eq!(reason.code, ReasonCode::SessionTakenOver as u8);
                peer.expect_end();
            }
            Some(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(survivors.len(), 1, "{survivors:?} live");
    let survivor = &mut peers[survivors[0]];
    survivor.subscribe("crowd/t", 1);
    sender.publish("crowd/t", "works", 1);
    survivor.expect_texts(&["works"]);
}

fn two_hundred_on_their_way(scene: &mut Scene) {
    for seed in 0..10 {
        let connect = scene.encode(&id("crowd"));
        let peers: Vec<Peer> = (0..200).map(|_| scene.open()).collect();
        scene.core(|core| {
            peers.iter().for_each(|peer| core.write_later(peer.socket(), &connect));
            core.run_shuffled(seed);
        });
        let mut peers = peers;
        peers.iter_mut().for_each(|peer| peer.wrote(&connect));
        one_survives(scene, peers);
        assert_eq!(scene.figure(|m| m.sessions), 2, "the crowd's and the sender's");
    }
}

fn deliveries_in_each_state(scene: &mut Scene) {
    let options = || id("same").kept().receive_maximum(4);
    let mut first = scene.reconnect(&options(), false);
    first.subscribe("t", 2);
    let mut sender = scene.connect("sender");
    let levels = [1, 2, 2, 1, 2];
    for (number, qos) in levels.into_iter().enumerate() {
        sender.publish("t", &number.to_string(), qos);
    }
    // 0: sent. 1: sent. 2: PUBREC. 3: acknowledged. 4: sent into the place of 3.
    let sent: Vec<Message> = (0..4).map(|_| first.expect_message()).collect();
    first.pubrec(sent[2].packet_id);
    first.expect_pubrel(sent[2].packet_id);
    first.puback(sent[3].packet_id);
    let last = first.expect_message();
    // 3.x has no window of four: give the newer ones to the queue by leaving.
    let mut second = scene.reconnect(&options(), true);
    first.expect_fault(ReasonCode::SessionTakenOver);
    sender.publish("t", "newer", 1);

    let mut expect_again = |message: &Message| {
        let again = second.expect_message();
        assert_eq!(again, Message { dup: true, ..message.clone() });
    };
    expect_again(&sent[0]);
    expect_again(&sent[1]);
    second.expect_pubrel(sent[2].packet_id);
    let again = second.expect_message();
    assert_eq!(again, Message { dup: true, ..last.clone() });
    // The newer one follows; in 5 as soon as the window allows.
    if !scene.is_v5() {
        let newer = second.expect_message();
        assert_eq!((newer.text(), newer.dup), ("newer", false));
        second.acknowledge(&newer);
    }
    second.pubcomp(sent[2].packet_id);
    second.acknowledge(&sent[0]);
    if scene.is_v5() {
        let newer = second.expect_message();
        assert_eq!((newer.text(), newer.dup), ("newer", false));
        second.acknowledge(&newer);
    }
    second.acknowledge(&sent[1]);
    second.acknowledge(&last);
    second.cut();
    scene.reconnect(&options(), true).expect_silence();
}

fn received_qos_2_is_delivered_once(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "t", 2);
    let mut first = scene.reconnect(&id("same").kept(), false);
    let outgoing = message("t", "once").qos(2).packet_id(77);
    first.send_publish(&outgoing);
    first.expect_pubrec(77);
    watcher.expect_texts(&["once"]);
    let mut second = scene.reconnect(&id("same").kept(), true);
    first.expect_fault(ReasonCode::SessionTakenOver);
    second.send_publish(&outgoing.clone().dup());
    assert_eq!(second.expect_pubrec(77), 0);
    second.pubrel(77);
    assert_eq!(second.expect_pubcomp(77), 0);
    watcher.expect_silence();
    // The id is free again.
    second.publish_message(&message("t", "another").qos(2).packet_id(77));
    watcher.expect_texts(&["another"]);
}

fn by_another_version(scene: &mut Scene) {
    for other in [Version::V31, Version::V311, Version::V5] {
        if other == scene.version {
            continue;
        }
        let name = format!("same-{}", other.level());
        let options = |version: Version| -> Options { id(&name).kept().version(version) };
        let mut first = scene.reconnect(&options(scene.version), false);
        first.subscribe("v/+", 1);
        let mut sender = scene.connect_with(&id("sender").version(Version::V5));
        let rich = |text: &str| {
            message("v/t", text).qos(1).expiry(600).properties(|w| w.user_property("name", "value"))
        };
        sender.publish_message(&rich("unacknowledged"));
        assert_eq!(first.expect_message().text(), "unacknowledged");
        let mut second = scene.reconnect(&options(other), true);
        first.expect_fault(ReasonCode::SessionTakenOver);
        let again = second.expect_message();
        assert_eq!((again.text(), again.dup), ("unacknowledged", true));
        assert_eq!(again.properties.pairs().len(), (other == Version::V5) as usize);
        second.acknowledge(&again);
        second.cut();
        sender.publish_message(&rich("queued"));
        // And back.
        let mut third = scene.reconnect(&options(scene.version), true);
        let queued = third.expect_message();
        assert_eq!(queued.text(), "queued");
        assert_eq!(queued.properties.pairs().len(), scene.is_v5() as usize);
        third.acknowledge(&queued);
        // The rules of its version hold: an alias, a code in the ack.
        let code = third.publish("nobody/here", "x", 1);
        assert_eq!(code, if scene.is_v5() { 0x10 } else { 0 });
        third.disconnect();
        let mut last = scene.try_connect(&id(&name).version(scene.version));
        last.expect_connected();
        last.disconnect();
        sender.disconnect();
    }
}

fn from_a_full_socket(scene: &mut Scene) {
    let mut first = scene.reconnect(&id("same").kept(), false);
    first.subscribe("t", 1);
    let mut sender = scene.connect("sender");
    scene.core(|core| core.stall(first.socket(), true));
    for number in 0..300 {
        let code = sender.publish("t", &format!("{number:0>2000}"), 1);
        assert_eq!(code, 0);
    }
    // The network has taken one packet and a half.
    scene.core(|core| core.take(first.socket(), 3000));
    let mut second = scene.reconnect(&id("same").kept(), true);
    let mut texts = vec![];
    let mut was_dup = true;
    for message in second.take_messages() {
        assert!(was_dup || !message.dup, "what was in flight comes first");
        was_dup = message.dup;
        texts.push(message.text().trim_start_matches('0').parse::<u32>().unwrap_or(0));
    }
    assert_eq!(texts, (0..300).collect::<Vec<u32>>(), "all, in order, though the first has not let go");
    // The socket goes on: the rest of what was being written, and the end.
    scene.core(|core| core.stall(first.socket(), false));
    first.take_messages_before_fault(ReasonCode::SessionTakenOver);
}

fn the_connection_dies_on_its_way_home(scene: &mut Scene) {
    let mut watcher = scene.reconnect(&id("watcher"), false);
    watcher.subscribe("will", 0);
    let mut moved = 0;
    for number in 0..12 {
        let peer = scene.open();
        let connect = scene.encode(&id(&format!("traveller-{number}")).will(will("will", "w")));
        let before = scene.core(|core| {
            let before = core.shard_of(peer.socket());
            core.hold_lanes(true);
            core.write_later(peer.socket(), &connect);
            core.stall(peer.socket(), false);
            before
        });
        let socket = peer.socket();
        peer.cut();
        scene.core(|core| core.hold_lanes(false));
        let is_moved = scene.core(|core| core.shard_of(socket)) != before;
        moved += is_moved as u32;
        // The CONNECT was valid: what it asked for holds, once, as for a client that is at home.
        watcher.expect_texts(&["w"]);
        scene.reconnect(&id(&format!("traveller-{number}")).resume(), false).disconnect();
        scene.reconnect(&id(&format!("traveller-{number}")), false).disconnect();
    }
    assert_eq!(moved > 0, scene.shards() > 1);
    assert_eq!(scene.figure(|m| m.sessions), 1);
    assert_eq!(scene.figure(|m| m.connection_count()), 1);
    assert_eq!(scene.figure(|m| m.connections_pending), 0);
    assert_eq!(scene.figure(|m| m.wills_published), 12);
}
