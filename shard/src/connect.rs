//! CONNECT: what is refused, where the client lives, takeover and the session that it gets, CONNACK.

use protocol::{
    ConnAck, Connect, Decoder, Properties, PropertyId, PropertyWriter, QoS, ReasonCode, Role, Version,
};

use crate::connection::{AliasesOut, ConnectionId, Phase};
use crate::inflight::Inflight;
use crate::metrics::{DropReason, EndReason};
use crate::outputs::Move;
use crate::queue::Queue;
use crate::session::{Session, Subscriptions, UnreleasedIds, Will};
use crate::shard::{Flow, MEMORY_REFUSE_PERCENT, Shard};
use crate::{Authentication, Time};

impl Shard {
    // ---- CONNECT ----

    pub(crate) fn on_connect(&mut self, id: ConnectionId, connect: &Connect<'_>, bytes: &[u8]) -> Flow {
        let version = connect.version;
        if let Some(connection) = self.connection(id) {
            connection.version = version;
            connection.wants_problem_information =
                connect.properties.u8(PropertyId::RequestProblemInformation) != Some(0);
            connection.packet_size_max =
                connect.properties.u32(PropertyId::MaximumPacketSize).unwrap_or(u32::MAX);
        }
        if connect.client_id.len() > self.config.limits.client_id_bytes_max as usize {
            return self.refuse_connect(id, ReasonCode::ClientIdentifierNotValid);
        }
        if connect.client_id.is_empty()
            && (version == Version::V31 || (version == Version::V311 && !connect.clean_start))
        {
            return self.refuse_connect(id, ReasonCode::ClientIdentifierNotValid);
        }
        let home =
            if connect.client_id.is_empty() { self.id } else { self.placement.home(connect.client_id) };
        if home != self.id {
            return self.move_connection(id, home);
        }
        if let Err(reason) = self.check_connect(connect) {
            return self.refuse_connect(id, reason);
        }
        match &self.config.authentication {
            Authentication::Anonymous => {
                if connect.properties.str(PropertyId::AuthenticationMethod).is_some() {
                    return self.refuse_connect(id, ReasonCode::BadAuthenticationMethod);
                }
                self.accept(id, connect, None)
            }
            Authentication::Ask { methods } => {
                let method = connect.properties.str(PropertyId::AuthenticationMethod);
                if method.is_some_and(|method| !methods.iter().any(|known| known == method)) {
                    return self.refuse_connect(id, ReasonCode::BadAuthenticationMethod);
                }
                self.ask(id, connect, bytes)
            }
        }
    }

    /// What can be refused before anybody is asked.
    pub(crate) fn check_connect(&self, connect: &Connect<'_>) -> Result<(), ReasonCode> {
        if self.is_draining {
            return Err(ReasonCode::ServerUnavailable);
        }
        let limits = &self.config.limits;
        let known = self.find_session(connect.client_id);
        // A client that comes back for what waits for it is what frees the memory.
        let is_resumed = !connect.clean_start
            && known.is_some_and(|index| self.sessions[index as usize].expires_at > self.now);
        let is_memory_short = self.memory_percent() >= MEMORY_REFUSE_PERCENT;
        if (is_memory_short && !is_resumed)
            || (known.is_none() && self.sessions.len() >= limits.sessions_max as usize)
        {
            return Err(ReasonCode::QuotaExceeded);
        }
        let Some(will) = &connect.will else { return Ok(()) };
        if will.qos > self.config.maximum_qos {
            return Err(ReasonCode::QoSNotSupported);
        }
        if will.retain && !self.config.is_retain_available {
            return Err(ReasonCode::RetainNotSupported);
        }
        if self.is_topic_refused(will.topic) {
            return Err(ReasonCode::TopicNameInvalid);
        }
        let access = self.access.resolve(connect.client_id, connect.user_name);
        if !access.may_publish(will.topic) {
            return Err(ReasonCode::NotAuthorized);
        }
        Ok(())
    }

    /// The connection goes on at the client's home shard, with every byte that was read of it.
    fn move_connection(&mut self, id: ConnectionId, to: crate::ShardId) -> Flow {
        let Some(connection) = self.connection(id) else { return Flow::End };
        // `on_bytes` keeps the CONNECT and what follows it unread, then calls `finish_move`.
        if let Some(opening) = &mut connection.opening {
            opening.moving_to = Some(to);
        }
        Flow::Pause
    }

    /// Takes the connections out that turned out to live elsewhere; called once their input is complete.
    pub(crate) fn finish_move(&mut self, id: ConnectionId) {
        let Some(to) = self.connection(id).and_then(|connection| connection.opening.as_ref()?.moving_to)
        else {
            return;
        };
        let Some(connection) = self.remove_connection(id) else { return };
        let Some(opening) = connection.opening else { return };
        self.metrics.connections_moved += 1;
        // They count where they are served.
        self.metrics.bytes_received -= connection.input.len() as u64;
        let moved = Move {
            to,
            unread: connection.input,
            listener: connection.listener,
            peer: opening.peer,
            accepted_at: opening.accepted_at,
        };
        self.outputs.moves.push((id, moved));
    }

    /// CONNACK with the code (5, 3.1.1: return code), then close. Nothing after the CONNECT has any effect.
    pub(crate) fn refuse_connect(&mut self, id: ConnectionId, reason: ReasonCode) -> Flow {
        let Some(connection) = self.connection(id) else { return Flow::End };
        let connack = ConnAck { session_present: false, reason, properties: Properties::EMPTY };
        // 3.x has return codes for few reasons; a close says the others.
        let has_answer = connection.phase != Phase::Live
            && (connection.version == Version::V5 || reason.connack_code_v3().is_some());
        let fits = connack.encoded_len(connection.version) <= connection.packet_size_max as usize;
        if has_answer && fits {
            self.metrics.packets_sent[2] += 1;
            self.write(id, |version, out| connack.encode(version, out));
        }
        self.end_connection(id, EndReason::from_code(reason), None);
        Flow::End
    }

    // ---- accepted ----

    pub(crate) fn accept(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'_>,
        auth_data: Option<&[u8]>,
    ) -> Flow {
        let is_assigned = connect.client_id.is_empty();
        let assigned;
        let client_id = if is_assigned {
            assigned = self.unused_client_id();
            assigned.as_str()
        } else {
            connect.client_id
        };
        let (session_index, session_present) = self.open_session(id, client_id, connect);
        self.make_live(id, session_index, connect);
        self.write_connack(id, session_index, session_present, is_assigned, connect, auth_data);
        let Some(connection) = self.connection(id) else { return Flow::End };
        let (packet_at, keep_alive_ms) = (connection.packet_at, Time::from(connection.keep_alive_ms));
        if keep_alive_ms > 0 {
            self.set_connection_timer(id, packet_at + keep_alive_ms);
        }
        self.outputs.established.push(id);
        if session_present {
            self.metrics.session_resumes += 1;
            self.resume_session(session_index);
        }
        Flow::Continue
    }

    fn unused_client_id(&mut self) -> String {
        loop {
            let id = self.placement.assign_client_id(self.id, &mut self.assigned_ids);
            if self.find_session(&id).is_none() {
                return id;
            }
        }
    }

    /// Ends what Clean Start or takeover end, and returns the session of the client with "it existed".
    fn open_session(&mut self, id: ConnectionId, client_id: &str, connect: &Connect<'_>) -> (u32, bool) {
        if let Some(existing) = self.find_session(client_id)
            && let Some(first) = self.sessions[existing as usize].connection
        {
            self.metrics.session_takeovers += 1;
            if connect.clean_start {
                // The session ends with the takeover: its will does not wait.
                let was_persistent = self.sessions[existing as usize].is_persistent();
                self.sessions[existing as usize].expiry_ms = 0;
                self.count_persistent(was_persistent, false);
            }
            self.end_connection(first, EndReason::Takeover, Some(ReasonCode::SessionTakenOver));
        }
        if let Some(existing) = self.find_session(client_id) {
            let session = &mut self.sessions[existing as usize];
            let is_over = session.expires_at <= self.now;
            if connect.clean_start || is_over {
                if is_over {
                    self.metrics.sessions_expired += 1;
                }
                self.end_session(existing, DropReason::SessionEnded);
            } else {
                // A new connection within the delay withdraws the will [MQTT-3.1.3-9].
                session.will = None;
                self.update_session(existing, id, connect);
                return (existing, true);
            }
        }
        let index = self.insert_session(client_id, connect);
        self.update_session(index, id, connect);
        (index, false)
    }

    /// The session of a client, connected or not.
    pub(crate) fn find_session(&self, client_id: &str) -> Option<u32> {
        self.clients.find(self.placement.client_key(client_id), client_id, &self.sessions)
    }

    fn insert_session(&mut self, client_id: &str, connect: &Connect<'_>) -> u32 {
        let session = Session {
            client_id: client_id.into(),
            client_key: self.placement.client_key(client_id),
            user_name: None,
            connection: None,
            version: connect.version,
            is_bridge: connect.is_bridge,
            expiry_ms: 0,
            expires_at: 0,
            subscriptions: Subscriptions::default(),
            unreleased: UnreleasedIds::default(),
            inflight: Inflight::new(1),
            queue: Queue::default(),
            replays: Default::default(),
            drops: 0,
            will: None,
            timer: None,
            access: self.access.resolve(client_id, connect.user_name),
            publish_rate: None,
            direct: Default::default(),
            match_epoch: 0,
            match_index: 0,
            groups: Default::default(),
        };
        let index = self.sessions.insert(session) as u32;
        if self.session_epochs.len() <= index as usize {
            self.session_epochs.resize(index as usize + 1, 0);
        }
        self.session_epochs[index as usize] = self.session_epochs[index as usize].wrapping_add(1);
        self.clients.insert(index, &self.sessions);
        self.metrics.sessions += 1;
        index
    }

    /// What each CONNECT sets anew.
    fn update_session(&mut self, index: u32, id: ConnectionId, connect: &Connect<'_>) {
        let limits = &self.config.limits;
        let expiry_s = match connect.version {
            Version::V5 => connect.properties.u32(PropertyId::SessionExpiryInterval).unwrap_or(0),
            _ if connect.clean_start => 0,
            _ => limits.session_expiry_3x_s,
        };
        let receive_maximum = connect.properties.u16(PropertyId::ReceiveMaximum).unwrap_or(u16::MAX);
        let inflight_max = receive_maximum.min(limits.inflight_max);
        let expiry_ms = expiry_s.min(limits.session_expiry_max_s) as u64 * 1000;
        let was_persistent = self.sessions[index as usize].is_persistent();
        self.cancel_session_timer(index);
        let session = &mut self.sessions[index as usize];
        session.connection = Some(id);
        session.version = connect.version;
        session.is_bridge = connect.is_bridge;
        session.expiry_ms = expiry_ms;
        session.expires_at = Time::MAX;
        session.user_name = connect.user_name.map(Into::into);
        session.access = self.access.resolve(&session.client_id, connect.user_name);
        session.publish_rate = self
            .publish_rate
            .as_ref()
            .map(|rate| Box::new(crate::rate_limit::RateBucket::new(rate, self.now)));
        session.inflight.resume(inflight_max);
        session.unreleased.begin_connection();
        session.will = connect.will.as_ref().map(|will| {
            let properties = Will::forwarded(will);
            Box::new(Will {
                topic: will.topic.into(),
                payload: will.payload.into(),
                properties: properties.into(),
                qos: will.qos,
                retain: will.retain,
                delay_ms: will.properties.u32(PropertyId::WillDelayInterval).unwrap_or(0) as u64 * 1000,
                expiry_s: will.properties.u32(PropertyId::MessageExpiryInterval),
                due_at: None,
            })
        });
        self.count_persistent(was_persistent, expiry_ms > 0);
    }

    fn make_live(&mut self, id: ConnectionId, session: u32, connect: &Connect<'_>) {
        let limits = &self.config.limits;
        let keep_alive_s = match (connect.keep_alive, limits.keep_alive_max_s) {
            (asked, 0) => asked,
            (0, max) => max,
            (asked, max) => asked.min(max),
        };
        let alias_max = connect
            .properties
            .u16(PropertyId::TopicAliasMaximum)
            .unwrap_or(0)
            .min(limits.topic_alias_out_max);
        let (hash_seed, now) = (self.config.hash_seed, self.now);
        let listeners = &self.config.listeners;
        let packet_size_max = match self.connections[id.slot as usize].as_ref() {
            Some(connection) => listeners
                .get(connection.listener as usize)
                .map_or(limits.packet_size_max, |listener| listener.packet_size_max),
            None => return,
        };
        let Some(connection) = self.connection(id) else { return };
        connection.phase = Phase::Live;
        connection.opening = None;
        connection.session = session;
        connection.decoder = Decoder { role: Role::Server, version: Some(connect.version), packet_size_max };
        connection.keep_alive_ms = keep_alive_s as u32 * 1500;
        connection.packet_at = now;
        connection.aliases_out = (alias_max > 0).then(|| Box::new(AliasesOut::new(alias_max, hash_seed)));
        let listener = connection.listener;
        self.metrics.connections_pending -= 1;
        *self.metrics.connections_of(listener, version_index(connect.version)) += 1;
        self.metrics.connects += 1;
        self.metrics.connections_max = self.metrics.connections_max.max(self.metrics.connection_count());
    }

    fn write_connack(
        &mut self,
        id: ConnectionId,
        session: u32,
        session_present: bool,
        is_assigned: bool,
        connect: &Connect<'_>,
        auth_data: Option<&[u8]>,
    ) {
        let mut properties = Vec::new();
        if connect.version == Version::V5 {
            let config = self.config.clone();
            let limits = &config.limits;
            let mut writer = PropertyWriter::new(&mut properties);
            let asked = connect.properties.u32(PropertyId::SessionExpiryInterval).unwrap_or(0);
            if asked > limits.session_expiry_max_s {
                writer.u32(PropertyId::SessionExpiryInterval, limits.session_expiry_max_s);
            }
            if limits.receive_maximum < u16::MAX {
                writer.u16(PropertyId::ReceiveMaximum, limits.receive_maximum);
            }
            if config.maximum_qos < QoS::ExactlyOnce {
                writer.u8(PropertyId::MaximumQoS, config.maximum_qos as u8);
            }
            if !config.is_retain_available {
                writer.u8(PropertyId::RetainAvailable, 0);
            }
            let packet_size_max = self
                .connection(id)
                .map_or(limits.packet_size_max, |connection| connection.decoder.packet_size_max);
            writer.u32(PropertyId::MaximumPacketSize, packet_size_max);
            if is_assigned {
                writer.str(PropertyId::AssignedClientIdentifier, &self.sessions[session as usize].client_id);
            }
            if limits.topic_alias_max > 0 {
                writer.u16(PropertyId::TopicAliasMaximum, limits.topic_alias_max);
            }
            if !config.are_wildcards_available {
                writer.u8(PropertyId::WildcardSubscriptionAvailable, 0);
            }
            if !config.are_subscription_ids_available {
                writer.u8(PropertyId::SubscriptionIdentifierAvailable, 0);
            }
            if !config.are_shared_subscriptions_available {
                writer.u8(PropertyId::SharedSubscriptionAvailable, 0);
            }
            if limits.keep_alive_max_s > 0
                && (connect.keep_alive == 0 || connect.keep_alive > limits.keep_alive_max_s)
            {
                writer.u16(PropertyId::ServerKeepAlive, limits.keep_alive_max_s);
            }
            let wants_response = connect.properties.u8(PropertyId::RequestResponseInformation) == Some(1);
            if let Some(information) = config.response_information.as_deref().filter(|_| wants_response) {
                writer.str(PropertyId::ResponseInformation, information);
            }
            if let Some(method) = connect.properties.str(PropertyId::AuthenticationMethod) {
                writer.str(PropertyId::AuthenticationMethod, method);
                if let Some(data) = auth_data {
                    writer.bytes(PropertyId::AuthenticationData, data);
                }
            }
        }
        let connack = ConnAck {
            session_present,
            reason: ReasonCode::Success,
            properties: Properties::from_wire(&properties),
        };
        let size_max = self.connection(id).map_or(0, |connection| connection.packet_size_max as usize);
        if connack.encoded_len(connect.version) > size_max {
            // Not even the CONNACK may be sent [MQTT-3.1.2-24].
            self.end_connection(id, EndReason::PacketTooLarge, None);
            return;
        }
        self.metrics.packets_sent[2] += 1;
        self.write(id, |version, out| connack.encode(version, out));
    }

    /// Repeats what was in flight, in its order, then goes on with what waits.
    fn resume_session(&mut self, session: u32) {
        self.sessions[session as usize].groups.iter().for_each(|group| self.groups.mark(*group));
        self.pull(session);
    }

    /// New access rules: they hold for what clients do from now on.
    pub(crate) fn set_access(&mut self, policy: std::sync::Arc<crate::AccessPolicy>) {
        self.access = policy;
        for session in self.sessions.values_mut() {
            session.access = self.access.resolve(&session.client_id, session.user_name.as_deref());
        }
    }
}

impl Will {
    /// The will properties that the published message carries, in order.
    fn forwarded(will: &protocol::Will<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        protocol::copy_forwarded(will.properties.raw(), &mut out);
        out
    }
}

pub(crate) fn version_index(version: Version) -> usize {
    match version {
        Version::V31 => 0,
        Version::V311 => 1,
        Version::V5 => 2,
    }
}
