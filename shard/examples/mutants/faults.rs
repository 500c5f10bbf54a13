//! The faults: a text that stands once in a file, and what replaces it.

pub struct Fault {
    pub name: &'static str,
    /// What it does, for the table in `docs/testing.md`.
    pub what: &'static str,
    pub file: &'static str,
    pub search: &'static str,
    pub replace: &'static str,
}

macro_rules! faults {
    ($($name:literal, $what:literal, $file:literal, $search:literal => $replace:literal;)+) => {
        pub const FAULTS: &[Fault] = &[$(Fault {
            name: $name,
            what: $what,
            file: concat!("shard/src/", $file),
            search: $search,
            replace: $replace,
        }),+];
    };
}

faults! {
    "pass-queue", "a new message passes what waits", "publish.rs",
        "Some(id) if !session.is_backlogged()" => "Some(id) if session.connection.is_some()";
    "qos0-pass", "QoS 0 passes QoS 0 that waits", "session.rs",
        "!self.has_pending_page() && !self.queue.has_qos0()" => "!self.has_pending_page()";
    "no-dedup", "a repeated QoS 2 PUBLISH is delivered again", "publish.rs",
        "&& self.sessions[session as usize].unreleased.contains(publish.packet_id);" => "&& false;";
    "dedup-3x", "a silent refusal of 3.x is forgotten at QoS 2", "acknowledge.rs",
        "!(is_v5 && reason.is_error())" => "!reason.is_error()";
    "keep-unreleased", "PUBREL does not release the packet id", "acknowledge.rs",
        "let known = self.sessions[session as usize].unreleased.remove(ack.packet_id);" =>
        "let known = self.sessions[session as usize].unreleased.get_mut(ack.packet_id).copied();";
    "owner-direct", "RETAIN overtakes what went directly", "retained_order.rs",
        "if !message.retain || self.sessions[session as usize].direct.is_recent(hash, self.now) {" =>
        "if !message.retain {";
    "owner-shared", "one client's RETAIN redirects another's messages", "retained_order.rs",
        "let key = hash ^ message.publisher.rotate_left(17);" => "let key = hash;";
    "no-clear", "an empty payload does not clear the retained message", "retained_order.rs",
        "            self.retained.remove(message.topic);\n            return true;" => "            return true;";
    "state-twice", "a retained message that comes live comes as state too", "retained_replay.rs",
        "if entry.number > bound {" => "if entry.number > bound && bound == 0 {";
    "state-former", "a former state follows what came live", "retained_replay.rs",
        "let is_superseded = !replay.superseded.is_empty()" => "let is_superseded = false";
    "state-missed", "what came before a further subscription is taken for live", "retained_order.rs",
        "*seen = retained.max(*seen);" => "let _ = (retained, seen);";
    "late-expiry", "an expired message is sent from the queue", "waiting.rs",
        "let result = match message.is_expired(self.now) {" => "let result = match false {";
    "no-window", "Receive Maximum of the client is ignored", "publish.rs",
        "|| (is_reliable && !session.inflight.has_room()) {" => "{";
    "ack-order", "an acknowledgement passes one that waits", "acknowledge.rs",
        "        if wait.is_none() && connection.pending_acks.is_empty() {\n            self.write_publish_ack(id, publish.qos" =>
        "        if wait.is_none() {\n            self.write_publish_ack(id, publish.qos";
    "ack-early", "the acknowledgement does not wait for this shard's storage", "storage.rs",
        "        self.waits[key as usize].outstanding += 1;\n        self.stored_waits" => "        self.stored_waits";
    "ack-again-early", "a repeated PUBLISH is acknowledged before it is stored", "acknowledge.rs",
        "        let wait = unreleased.wait;\n" => "        let wait: Option<u32> = None;\n";
    "qos-up", "a delivery at the QoS of the publication", "publish.rs",
        "qos: message.qos.min(subscriber.qos)," => "qos: message.qos,";
    "overlap-low", "overlapping subscriptions at the lower QoS", "publish.rs",
        "found.subscriber.qos = found.subscriber.qos.max(subscriber.qos);" =>
        "found.subscriber.qos = found.subscriber.qos.min(subscriber.qos);";
    "local", "No Local is ignored", "publish.rs", "if subscriber.no_local\n" => "if false && subscriber.no_local\n";
    "no-dup", "a repetition without DUP", "waiting.rs", "dup: true, identifiers" => "dup: false, identifiers";
    "no-resend", "what was in flight is not repeated", "inflight.rs",
        "entry.is_due = entry.phase != Phase::Done;" => "entry.is_due = false;";
    "quota", "an acknowledgement of what this connection did not send gives a place back", "inflight.rs",
        "            entry.is_counted = false;\n" => "";
    "no-release", "PUBREC is forgotten", "inflight.rs", "            entry.phase = Phase::Release;\n" => "";
    "two-live", "no takeover", "connect.rs",
        "            self.end_connection(first, EndReason::Takeover, Some(ReasonCode::SessionTakenOver));\n" => "            let _ = first;\n";
    "resume-expired", "an expired session is resumed", "connect.rs",
        "let is_over = session.expires_at <= self.now;" => "let is_over = false;";
    "will-late", "the will waits twice its delay", "ends.rs",
        "will.due_at = Some(now + delay_ms)" => "will.due_at = Some(now + 2 * delay_ms)";
    "will-after-goodbye", "the will is published after DISCONNECT", "ends.rs",
        "            self.sessions[session as usize].will = None;\n" => "";
    "keep-alive", "keep alive without its half more", "connect.rs",
        "keep_alive_s as u32 * 1500;" => "keep_alive_s as u32 * 1000;";
    "everywhere", "a client is served where it was accepted", "connect.rs",
        "        if home != self.id {" => "        if false && home != self.id {";
    "suback-early", "SUBACK before the routes are everywhere", "subscribe.rs",
        "        if self.is_confirmed(pending.revision) {" => "        if self.is_confirmed(pending.revision) || true {";
    "route-leak", "routes are not withdrawn", "subscribe.rs",
        "                    self.send(peer, Envelope::RouteRemoved { filter: filter.into() });" => "                    let _ = peer;";
    "unsubscribed", "an unsubscribed session goes on receiving", "subscribe.rs",
        "        subscribers.remove(session);\n" => "";
    "group-lost", "a leaving member's messages go to nobody", "acknowledge.rs",
        "phase == Phase::Publish1 && self.groups" => "phase == Phase::Done && self.groups";
    "group-deaf", "a shard does not say that a member is ready again", "waiting.rs",
        "            self.groups.mark(group);\n" => "            let _ = group;\n";
    "too-large", "Maximum Packet Size of the client is ignored", "connection.rs",
        "> self.packet_size_max as usize {" => "> usize::MAX - 1 {";
    "no-pass", "a publisher held back for memory never gets through", "shortage.rs",
        "if is_held { Shortage::Pass } else { Shortage::None };" => "Shortage::None;";
    "no-leave", "a 3.x publisher keeps its acknowledgements unread while memory is used up", "shortage.rs",
        "if is_final || (has_pass && holds_memory) {" => "if is_final && holds_memory | has_pass {";
    "resume-refused", "a CONNECT that resumes a session is refused for memory", "connect.rs",
        "(is_memory_short && !is_resumed)" => "is_memory_short";
    "alias", "the topic of a known alias changes", "connection.rs", "known.or(free)" => "free.or(known)";
    "alias-unsent", "an alias is used though the PUBLISH that set it was too large to be sent", "connection.rs",
        "if let (Some(_), None, Some(alias), Some(aliases)) = (fits," => "if let (_, None, Some(alias), Some(aliases)) = (fits,";
    "alias-kept", "an alias of the client keeps its first topic", "connection.rs",
        "        topics[at] = Some(topic.into());" => "        topics[at].get_or_insert_with(|| topic.into());";
    "shape", "subscribers of one message get each other's identifiers", "connection.rs",
        "            (Version::V5, [id]) => *id," => "            (Version::V5, [_]) => 0,";
    "resend-too-large", "what is too large for the new connection keeps its place in the window", "waiting.rs",
        "            self.complete_unsent(session, packet_id, outgoing.qos);\n" => "            let _ = session;\n";
    "queue-identifiers", "what has waited comes without its subscription identifiers", "waiting.rs",
        "            identifiers: self.messages.keep_identifiers(copy.identifiers),\n" => "            identifiers: self.messages.keep_identifiers(&[]),\n";
    "resend-identifiers", "what is repeated comes without its subscription identifiers", "publish.rs",
        "identifiers: self.messages.keep_identifiers(copy.identifiers)," => "identifiers: self.messages.keep_identifiers(&[]),";
    "as-published", "RETAIN is forwarded to who did not ask for it", "publish.rs",
        "retain: message.retain && subscriber.retain_as_published," => "retain: message.retain,";
    "will-rights", "the rights of a will are not looked at again", "own_messages.rs",
        "if !state.access.may_publish(message.topic) {" => "if false {";
    "resume-window", "a resumed session does not get the window of its new connection", "inflight.rs",
        "        self.receive_maximum = receive_maximum;\n        self.quota = receive_maximum;" => "        let _ = receive_maximum;";
    "resume-unreleased", "a QoS 2 message repeated after a reconnect does not count against Receive Maximum", "connect.rs",
        "        session.unreleased.begin_connection();\n" => "";
    "handling-1", "Retain Handling 1 is served like 0", "subscribe.rs",
        "RetainHandling::SendIfNew => is_new," => "RetainHandling::SendIfNew => true,";
    "handling-2", "Retain Handling 2 is served like 1", "subscribe.rs",
        "RetainHandling::DoNotSend => false," => "RetainHandling::DoNotSend => is_new,";
    "replaced-early", "retained messages keep the options of a subscription that was replaced before its SUBACK", "subscribe.rs",
        "replay.adopt(options.qos, *identifier, options.no_local);\n                state" => "let _ = (options, identifier);\n                state";
    "unsubscribed-early", "retained messages come for a filter that was unsubscribed before its SUBACK", "subscribe.rs",
        "            pending.replays.retain(|replay| replay.filter() != filter);" => "            let _ = &mut pending.replays;";
    "route-collision", "filters of one hash withdraw each other's route", "routes.rs",
        "let is_last = *count == 0;" => "let is_last = true;";
    "page-lost", "retained messages beyond the first page of a shard are not sent", "retained_replay.rs",
        "        if next.is_none() {" => "        if true {";
    "page-own", "No Local is ignored for retained messages", "retained_replay.rs",
        "let is_own = replay.no_local &&" => "let is_own = false && replay.no_local &&";
    "page-passed", "a live message passes retained ones that were fetched before it", "session.rs",
        "self.inflight.is_resending() || self.has_pending_page()" => "self.inflight.is_resending()";
    "will-lost", "a will that waits is lost when its session ends", "ends.rs",
        "        if self.sessions[index as usize].will.is_some() {" => "        if false {";
    "will-at-once", "a will does not wait for its delay", "ends.rs",
        "                delay_ms => will.due_at = Some(now + delay_ms)," => "                _ => self.publish_will(index),";
    "will-kept", "DISCONNECT with a code other than 0 takes the will away", "ends.rs",
        "        if disconnect.reason == ReasonCode::Success {" => "        if true {";
    "disconnect-expiry", "Session Expiry Interval of DISCONNECT is ignored", "ends.rs",
        "self.sessions[session as usize].expiry_ms = expiry_s.min(limits_max) as u64 * 1000;" => "let _ = limits_max;";
    "disconnect-bound", "Session Expiry Interval of DISCONNECT has no bound", "ends.rs",
        "expiry_ms = expiry_s.min(limits_max) as u64 * 1000;" => "expiry_ms = expiry_s.max(limits_max) as u64 * 1000;";
    "disconnect-raise", "a session without expiry gets one by DISCONNECT", "ends.rs",
        "if !was_persistent && expiry_s > 0 {" => "if false && !was_persistent && expiry_s > 0 {";
    "group-turn", "the members of a group do not take turns", "shared_group.rs",
        ".cursor = at + 1;" => ".cursor = at;";
    "group-shards", "a group's messages stay on one shard", "shared_group.rs",
        "        self.groups.groups[group as usize].turn += 1;\n" => "";
    "group-order", "what a leaving member did not acknowledge comes in the wrong order", "shared_group.rs",
        "for outgoing in returned.into_iter().rev() {" => "for outgoing in returned {";
    "group-qos-0", "what has waited for a group goes to a member of QoS 0", "shared_group.rs",
        "self.give_to_member(group, &message, &mut stored, QoS::AtLeastOnce)" => "self.give_to_member(group, &message, &mut stored, QoS::AtMostOnce)";
    "group-expired", "an expired message is sent from a group's queue", "shared_group.rs",
        "            if message.is_expired(self.now) {\n                self.metrics" => "            if false {\n                self.metrics";
    "group-passed", "a message for a group passes what waits for it", "shared_group.rs",
        "        if state.queue.is_empty() || !is_reliable {" => "        if true {";
}
