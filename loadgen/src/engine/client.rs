//! The MQTT client on a connection: CONNECT, SUBSCRIBE, acknowledgements, deliveries.

use super::connection::{Connection, Phase};
use super::context::{Context, REFUSED_MAX};
use super::inflight;
use super::stats::Stats;
use crate::plan::Plan;
use protocol::{
    Ack, ConnAck, Connect, Packet, Properties, PropertyId, PropertyWriter, Publish, QoS, ReasonCode, SubAck,
    Subscribe, SubscribeFilters, SubscriptionOptions, Version,
};

const SUBSCRIBE_PACKET_ID: u16 = 1;

/// Why a connection has to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(pub String);

/// Appends CONNECT.
pub fn write_connect(connection: &mut Connection, plan: &Plan, is_wiping: bool) {
    let (client, options) = (&plan.clients[connection.client as usize], &plan.options);
    let clean_start = client.clean_start || is_wiping;
    let mut properties = vec![];
    if options.version.has_properties() && !clean_start {
        PropertyWriter::new(&mut properties)
            .u32(PropertyId::SessionExpiryInterval, options.session_expiry_secs);
    }
    let connect = Connect {
        version: options.version,
        is_bridge: false,
        clean_start,
        keep_alive: options.keep_alive_secs,
        client_id: &client.id.to_string(),
        will: None,
        user_name: options.user_name.as_deref(),
        password: options.password.as_ref().map(|password| password.as_bytes()),
        properties: Properties::from_wire(&properties),
    };
    connect.encode(options.version, &mut connection.out);
    connection.keep_alive_secs = options.keep_alive_secs;
}

/// Reacts to one packet of the broker.
#[inline]
pub fn on_packet(
    connection: &mut Connection,
    slot: u32,
    packet: &Packet<'_>,
    now_ns: u64,
    context: &mut Context,
) -> Result<(), Fault> {
    match packet {
        Packet::Publish(publish) => on_publish(connection, slot, publish, now_ns, context),
        Packet::PubAck(ack) => on_done(connection, slot, ack, inflight::Ack::PubAck, now_ns, context),
        Packet::PubComp(ack) => on_done(connection, slot, ack, inflight::Ack::PubComp, now_ns, context),
        Packet::PubRec(ack) if ack.reason.is_error() => {
            on_done(connection, slot, ack, inflight::Ack::PubRec, now_ns, context)
        }
        Packet::PubRec(ack) => on_pubrec(connection, slot, ack, context),
        Packet::PubRel(ack) => on_pubrel(connection, slot, ack, context),
        Packet::ConnAck(connack) => on_connack(connection, slot, connack, now_ns, context),
        Packet::SubAck(suback) => on_suback(connection, slot, suback, now_ns, context),
        Packet::PingResp => {
            context.stats.fenced += std::mem::take(&mut connection.is_fenced) as u64;
            Ok(())
        }
        Packet::UnsubAck(_) => Ok(()),
        Packet::Disconnect(disconnect) => Err(Fault(format!("DISCONNECT {:?}", disconnect.reason))),
        other => Err(Fault(format!("unexpected {:?}", other.packet_type()))),
    }
}

#[inline]
fn on_publish(
    connection: &mut Connection,
    slot: u32,
    publish: &Publish<'_>,
    now_ns: u64,
    context: &mut Context,
) -> Result<(), Fault> {
    let Some(subscriber) = &mut connection.subscriber else {
        context.stats.foreign += 1;
        return Ok(());
    };
    let version = context.shared.plan.options.version;
    let ack = Ack::new(publish.packet_id, ReasonCode::Success);
    match publish.qos {
        QoS::AtMostOnce => {}
        QoS::AtLeastOnce => {
            ack.encode_puback(version, &mut connection.out);
            context.mark_dirty(slot);
        }
        QoS::ExactlyOnce => {
            ack.encode_pubrec(version, &mut connection.out);
            context.mark_dirty(slot);
            if !subscriber.begin_exactly_once(publish.packet_id) {
                context.stats.redelivered += 1;
                return Ok(());
            }
        }
    }
    context.check(subscriber, publish, now_ns);
    Ok(())
}

/// A message that was published is done: accepted or refused.
#[inline]
fn on_done(
    connection: &mut Connection,
    slot: u32,
    ack: &Ack<'_>,
    by: inflight::Ack,
    now_ns: u64,
    context: &mut Context,
) -> Result<(), Fault> {
    let sent = connection.publisher.as_mut().and_then(|publisher| {
        let sent = publisher.inflight.on_done(ack.packet_id, by)?;
        Some((publisher.flow_at(sent.place), sent))
    });
    let Some((flow, sent)) = sent else {
        context.stats.protocol_errors += 1;
        return Ok(());
    };
    if ack.reason.is_error() {
        context.stats.refused += 1;
        if context.refused.len() < REFUSED_MAX {
            context.refused.push((flow, sent.sequence));
        }
        context.port().put_error(|| format!("a message was refused: {:?}", ack.reason));
    } else {
        context.stats.acked += 1;
        context.record_ack(sent.due_ns, now_ns);
    }
    context.mark_dirty(slot);
    Ok(())
}

fn on_pubrec(
    connection: &mut Connection,
    slot: u32,
    ack: &Ack<'_>,
    context: &mut Context,
) -> Result<(), Fault> {
    let is_known = connection.publisher.as_mut().is_some_and(|it| it.inflight.on_pubrec(ack.packet_id));
    let reason = match is_known {
        true => ReasonCode::Success,
        false => {
            context.stats.protocol_errors += 1;
            ReasonCode::PacketIdentifierNotFound
        }
    };
    let version = context.shared.plan.options.version;
    Ack::new(ack.packet_id, reason).encode_pubrel(version, &mut connection.out);
    context.mark_dirty(slot);
    Ok(())
}

fn on_pubrel(
    connection: &mut Connection,
    slot: u32,
    ack: &Ack<'_>,
    context: &mut Context,
) -> Result<(), Fault> {
    if let Some(subscriber) = &mut connection.subscriber {
        subscriber.release(ack.packet_id);
    }
    let version = context.shared.plan.options.version;
    Ack::new(ack.packet_id, ReasonCode::Success).encode_pubcomp(version, &mut connection.out);
    context.mark_dirty(slot);
    Ok(())
}

fn on_connack(
    connection: &mut Connection,
    slot: u32,
    connack: &ConnAck<'_>,
    now_ns: u64,
    context: &mut Context,
) -> Result<(), Fault> {
    if connection.phase != Phase::AwaitsConnAck {
        return Err(Fault("a second CONNACK".into()));
    }
    if connack.reason != ReasonCode::Success {
        return Err(Fault(format!("refused: {:?}", connack.reason)));
    }
    if let Some(publisher) = &mut connection.publisher {
        publisher.receive_max = connack.properties.u16(PropertyId::ReceiveMaximum).unwrap_or(u16::MAX);
        publisher.receive_max = publisher.receive_max.min(context.shared.plan.options.inflight_max);
    }
    if let Some(secs) = connack.properties.u16(PropertyId::ServerKeepAlive) {
        connection.keep_alive_secs = secs;
    }
    let client = &context.shared.plan.clients[connection.client as usize];
    if connection.has_session && !connack.session_present && !context.is_wiping {
        on_session_lost(connection, client.subscription.is_some(), &mut context.stats);
    }
    connection.has_session = !client.clean_start && !context.is_wiping;
    // A session that the broker kept has its subscription.
    let subscribes = !connack.session_present && !context.is_wiping;
    if let Some(subscription) = client.subscription.as_ref().filter(|_| subscribes) {
        let version = context.shared.plan.options.version;
        write_subscribe(&subscription.filter, subscription.qos, version, &mut connection.out);
        connection.phase = Phase::AwaitsSubAck;
        context.mark_dirty(slot);
        return Ok(());
    }
    on_ready(connection, slot, now_ns, context);
    Ok(())
}

/// A publisher's session holds nothing that a broker must keep once all is acknowledged.
fn on_session_lost(connection: &mut Connection, has_subscription: bool, stats: &mut Stats) {
    stats.sessions_lost += has_subscription as u64;
    if let Some(publisher) = &mut connection.publisher {
        publisher.on_session_lost();
    }
    if let Some(subscriber) = &mut connection.subscriber {
        subscriber.on_session_lost();
    }
}

fn write_subscribe(filter: &str, qos: QoS, version: Version, out: &mut Vec<u8>) {
    let mut filters = vec![];
    SubscribeFilters::push(&mut filters, filter, SubscriptionOptions::new(qos));
    Subscribe {
        packet_id: SUBSCRIBE_PACKET_ID,
        properties: Properties::EMPTY,
        filters: SubscribeFilters::from_wire(&filters),
    }
    .encode(version, out);
}

fn on_suback(
    connection: &mut Connection,
    slot: u32,
    suback: &SubAck<'_>,
    now_ns: u64,
    context: &mut Context,
) -> Result<(), Fault> {
    if connection.phase != Phase::AwaitsSubAck || suback.packet_id != SUBSCRIBE_PACKET_ID {
        return Err(Fault("an unexpected SUBACK".into()));
    }
    let wanted = context.shared.plan.clients[connection.client as usize].subscription.as_ref();
    match suback.codes {
        [code] if wanted.is_some_and(|wanted| wanted.qos as u8 == *code) => {
            on_ready(connection, slot, now_ns, context);
            Ok(())
        }
        codes => Err(Fault(format!("subscription granted as {codes:02x?}"))),
    }
}

fn on_ready(connection: &mut Connection, slot: u32, now_ns: u64, context: &mut Context) {
    connection.phase = Phase::Ready;
    context.stats.ready += 1;
    context.connecting -= 1;
    crate::latency::record(&mut context.connect_latency, now_ns.saturating_sub(connection.begun_ns));
    if let Some(publisher) = &mut connection.publisher {
        let material = context.material_for(super::publisher::Allowance::Window(0), now_ns);
        publisher.resend(&mut connection.out, &material);
        context.mark_dirty(slot);
    }
}
