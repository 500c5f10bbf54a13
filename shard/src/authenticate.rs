//! Authentication at CONNECT and by AUTH: the questions to the authenticator, and what becomes of its answers.

use protocol::{
    Auth, Connect, Decoder, Packet, Properties, PropertyId, PropertyWriter, ReasonCode, Role, Version,
};

use crate::connection::{AuthExchange, ConnectionId, Phase, pause};
use crate::metrics::EndReason;
use crate::outputs::AuthRequest;
use crate::shard::{Flow, Shard};

/// The authenticator's answer to an `AuthRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthVerdict {
    /// `data` is the Authentication Data of CONNACK (or of AUTH 0x00).
    Accept {
        data: Option<Vec<u8>>,
    },
    /// The exchange goes on: AUTH 0x18 with this data.
    Continue {
        data: Vec<u8>,
    },
    Refuse(ReasonCode),
}

impl Shard {
    pub(crate) fn ask(&mut self, id: ConnectionId, connect: &Connect<'_>, bytes: &[u8]) -> Flow {
        let request = AuthRequest {
            connection: id,
            client_id: connect.client_id.to_owned(),
            user_name: connect.user_name.map(str::to_owned),
            password: connect.password.map(<[u8]>::to_vec),
            method: connect.properties.str(PropertyId::AuthenticationMethod).map(str::to_owned),
            data: connect.properties.bytes(PropertyId::AuthenticationData).map(<[u8]>::to_vec),
            is_reauthentication: false,
        };
        let Some(connection) = self.connection(id) else { return Flow::End };
        connection.phase = Phase::Authenticating;
        connection.decoder = Decoder { version: Some(connect.version), ..connection.decoder };
        connection.auth = Some(Box::new(AuthExchange {
            method: request.method.clone(),
            connect: bytes.to_vec(),
            is_asked: true,
            is_reauthentication: false,
        }));
        // An enhanced exchange has to read AUTH; anything else waits for the verdict.
        if request.method.is_none() {
            self.pause(id, pause::AUTHENTICATION);
        }
        self.outputs.auth_requests.push(request);
        Flow::Continue
    }

    /// AUTH from the client: the next step of an exchange, or a re-authentication.
    pub(crate) fn on_auth(&mut self, id: ConnectionId, auth: &Auth<'_>) -> Flow {
        let Some(connection) = self.connection(id) else { return Flow::End };
        let is_live = connection.phase == Phase::Live;
        let expected =
            if is_live && !connection.auth.as_ref().is_some_and(|exchange| exchange.is_reauthentication) {
                ReasonCode::ReAuthenticate
            } else {
                ReasonCode::ContinueAuthentication
            };
        let method = auth.properties.str(PropertyId::AuthenticationMethod);
        let session = connection.session;
        let known = connection.auth.as_mut().filter(|exchange| {
            exchange.method.is_some() && exchange.method.as_deref() == method && !exchange.is_asked
        });
        let Some(exchange) = known.filter(|_| auth.reason == expected) else {
            return match is_live {
                true => self.fail(id, EndReason::ProtocolError, ReasonCode::ProtocolError),
                false => self.refuse_connect(id, ReasonCode::ProtocolError),
            };
        };
        exchange.is_asked = true;
        exchange.is_reauthentication = is_live;
        let method = exchange.method.clone();
        let (client_id, user_name) = match is_live {
            true => {
                let session = &self.sessions[session as usize];
                (session.client_id.to_string(), session.user_name.as_deref().map(str::to_owned))
            }
            false => self.connect_identity(id),
        };
        self.outputs.auth_requests.push(AuthRequest {
            connection: id,
            client_id,
            user_name,
            password: None,
            method,
            data: auth.properties.bytes(PropertyId::AuthenticationData).map(<[u8]>::to_vec),
            is_reauthentication: is_live,
        });
        Flow::Continue
    }

    fn connect_identity(&mut self, id: ConnectionId) -> (String, Option<String>) {
        let Some(exchange) = self.connection(id).and_then(|connection| connection.auth.as_ref()) else {
            return Default::default();
        };
        match connect_decoder(&exchange.connect).next_packet(&exchange.connect) {
            Ok(Some((Packet::Connect(connect), _))) => {
                (connect.client_id.to_owned(), connect.user_name.map(str::to_owned))
            }
            _ => Default::default(),
        }
    }

    /// The authenticator's answer. Late answers for a connection that is gone are ignored.
    pub fn on_auth_verdict(&mut self, id: ConnectionId, verdict: AuthVerdict) {
        let Some(connection) = self.connection(id) else { return };
        let Some(exchange) = connection.auth.as_mut().filter(|exchange| exchange.is_asked) else { return };
        exchange.is_asked = false;
        let is_reauthentication = std::mem::take(&mut exchange.is_reauthentication);
        let method = exchange.method.clone();
        match verdict {
            AuthVerdict::Continue { data } => {
                connection.auth.as_mut().expect("just seen").is_reauthentication = is_reauthentication;
                self.write_auth(id, ReasonCode::ContinueAuthentication, method.as_deref(), Some(&data));
            }
            AuthVerdict::Accept { data } if is_reauthentication => {
                self.write_auth(id, ReasonCode::Success, method.as_deref(), data.as_deref());
            }
            AuthVerdict::Accept { data } => {
                let bytes = std::mem::take(&mut exchange.connect);
                if let Ok(Some((Packet::Connect(connect), _))) = connect_decoder(&bytes).next_packet(&bytes) {
                    // Another client may have taken the last room in the meantime.
                    match self.check_connect(&connect) {
                        Ok(()) => drop(self.accept(id, &connect, data.as_deref())),
                        Err(reason) => drop(self.refuse_connect(id, reason)),
                    }
                }
                self.unpause(id, pause::AUTHENTICATION);
            }
            AuthVerdict::Refuse(reason) if is_reauthentication => {
                self.fail(id, EndReason::NotAuthorized, reason);
            }
            AuthVerdict::Refuse(reason) => {
                self.refuse_connect(id, reason);
            }
        }
    }

    fn write_auth(
        &mut self,
        id: ConnectionId,
        reason: ReasonCode,
        method: Option<&str>,
        data: Option<&[u8]>,
    ) {
        let mut properties = Vec::new();
        let mut writer = PropertyWriter::new(&mut properties);
        if let Some(method) = method {
            writer.str(PropertyId::AuthenticationMethod, method);
        }
        if let Some(data) = data {
            writer.bytes(PropertyId::AuthenticationData, data);
        }
        let auth = Auth { reason, properties: Properties::from_wire(&properties) };
        let Some(connection) = self.connection(id) else { return };
        if auth.encoded_len(Version::V5) > connection.packet_size_max as usize {
            // It may not be sent [MQTT-3.1.2-24], and without it the exchange cannot go on.
            match connection.phase {
                Phase::Live => self.fail(id, EndReason::PacketTooLarge, ReasonCode::PacketTooLarge),
                _ => self.refuse_connect(id, ReasonCode::PacketTooLarge),
            };
            return;
        }
        self.metrics.packets_sent[15] += 1;
        self.write(id, |version, out| auth.encode(version, out));
    }
}

/// Reads a CONNECT that was accepted once already.
fn connect_decoder(bytes: &[u8]) -> Decoder {
    Decoder { role: Role::Server, version: None, packet_size_max: bytes.len() as u32 }
}
