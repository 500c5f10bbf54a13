//! What the codec costs: PUBLISH in and out, and the small acknowledgements.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use protocol::{
    Ack, Decoder, Packet, Properties, PropertyId, PropertyWriter, Publish, QoS, ReasonCode, Role, Version,
};

fn publish<'a>(qos: QoS, properties: &'a [u8], payload: &'a [u8]) -> Publish<'a> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: "plant/7/line/3/temperature",
        packet_id: if qos == QoS::AtMostOnce { 0 } else { 77 },
        topic_alias: None,
        message_expiry: None,
        subscription_ids: &[],
        properties: Properties::from_wire(properties),
        payload,
    }
}

/// Decodes all packets of a read buffer; returns how many.
fn decode_all(decoder: Decoder, mut bytes: &[u8]) -> u32 {
    let mut count = 0;
    while let Ok(Some((packet, len))) = decoder.next_packet(bytes) {
        black_box(&packet);
        bytes = &bytes[len..];
        count += 1;
    }
    count
}

fn codec(criterion: &mut Criterion) {
    let mut properties = Vec::new();
    let mut writer = PropertyWriter::new(&mut properties);
    writer.str(PropertyId::ContentType, "application/json").user_property("unit", "K");
    let payload = [42u8; 64];
    let cases = [
        ("publish q0 3.1.1", Version::V311, Packet::Publish(publish(QoS::AtMostOnce, &[], &payload))),
        ("publish q1 5.0", Version::V5, Packet::Publish(publish(QoS::AtLeastOnce, &[], &payload))),
        (
            "publish q1 5.0 properties",
            Version::V5,
            Packet::Publish(publish(QoS::AtLeastOnce, &properties, &payload)),
        ),
        ("puback 5.0", Version::V5, Packet::PubAck(Ack::new(77, ReasonCode::Success))),
    ];
    const BATCH: usize = 20;
    for (name, version, packet) in &cases {
        let mut bytes = Vec::new();
        for _ in 0..BATCH {
            packet.encode(*version, &mut bytes);
        }
        let decoder = Decoder { role: Role::Server, version: Some(*version), packet_size_max: 1 << 20 };
        let mut group = criterion.benchmark_group(*name);
        group.throughput(Throughput::Elements(BATCH as u64));
        group.bench_function("decode", |bencher| {
            bencher.iter(|| assert_eq!(decode_all(decoder, black_box(&bytes)), BATCH as u32));
        });
        group.bench_function("encode", |bencher| {
            bencher.iter(|| {
                bytes.clear();
                for _ in 0..BATCH {
                    packet.encode(*version, &mut bytes);
                }
                black_box(bytes.len())
            });
        });
        group.finish();
    }
}

criterion_group!(benches, codec);
criterion_main!(benches);
