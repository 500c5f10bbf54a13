//! Queues, ports and buffers of the network, and the cards.

use std::path::Path;

use super::finding::{Finding, State, at_least};
use super::system::System;
use crate::machine;

/// The listener's accept queue by default.
const BACKLOG: u64 = 4096;
/// Ports that a load generator wants on one address.
const PORTS: u64 = 50_000;
/// Pages of buffers that a busy connection may hold on each side: a few KiB each.
const PAGES_PER_CONNECTION: u64 = 2;

pub fn findings(system: &System, connections: u64) -> Vec<Finding> {
    let mut findings = vec![
        at_least(
            system,
            "accept-queue",
            "net.core.somaxconn",
            BACKLOG,
            State::Warn,
            "connections beyond it are dropped in a storm of connects",
        ),
        at_least(
            system,
            "syn-queue",
            "net.ipv4.tcp_max_syn_backlog",
            BACKLOG,
            State::Warn,
            "connections beyond it are dropped in a storm of connects",
        ),
        at_least(
            system,
            "receive-backlog",
            "net.core.netdev_max_backlog",
            5000,
            State::Warn,
            "packets beyond it are dropped, also on loopback",
        ),
        port_range(system),
        buffers(system, connections),
    ];
    findings.extend(connection_tracking(system, connections));
    findings.extend(cards(system));
    findings
}

fn port_range(system: &System) -> Finding {
    let why = "a load generator needs a port for each connection, on each of its addresses";
    let Some(range) = system.setting("net.ipv4.ip_local_port_range") else {
        return Finding::unknown("port-range", why);
    };
    let mut ends = range.split_whitespace().filter_map(|end| end.parse::<u64>().ok());
    let count = ends.next().zip(ends.next()).map_or(0, |(first, last)| (last + 1).saturating_sub(first));
    let fix = "sysctl -w net.ipv4.ip_local_port_range='1024 65535' on the machine of the load";
    let mut finding =
        Finding::new("port-range", format!("{count} ports"), format!("at least {PORTS}"), why, fix);
    finding.revert = Some(format!("sysctl -w net.ipv4.ip_local_port_range='{}'", range.replace('\t', " ")));
    finding.judged(State::pass_if(count >= PORTS, State::Warn))
}

fn buffers(system: &System, connections: u64) -> Finding {
    let why = "beyond it the kernel drops data of all connections";
    let highest = system
        .setting("net.ipv4.tcp_mem")
        .and_then(|text| text.split_whitespace().last()?.parse::<u64>().ok());
    let Some(pages) = highest else { return Finding::unknown("tcp-memory", why) };
    let wanted = connections * PAGES_PER_CONNECTION;
    let fix = format!("sysctl -w net.ipv4.tcp_mem='{} {} {wanted}'", wanted / 2, wanted * 3 / 4);
    Finding::new("tcp-memory", format!("{pages} pages"), format!("at least {wanted} pages"), why, fix)
        .judged(State::pass_if(pages >= wanted, State::Warn))
}

/// Only where the kernel tracks connections at all.
fn connection_tracking(system: &System, connections: u64) -> Option<Finding> {
    let max = system.setting_number("net.netfilter.nf_conntrack_max")?;
    let wanted = connections * 5 / 4;
    let fix = format!(
        "sysctl -w net.netfilter.nf_conntrack_max={wanted}, or no tracking for the broker's ports (a notrack rule)"
    );
    let why =
        "connections that do not fit into the table are dropped; tracking also costs time for each packet";
    let mut finding = Finding::new(
        "connection-tracking",
        format!("{max}"),
        format!("none, or at least {wanted}"),
        why,
        fix,
    );
    finding.revert = Some(format!("sysctl -w net.netfilter.nf_conntrack_max={max}"));
    Some(finding.judged(State::pass_if(max >= wanted, State::Fail)))
}

/// Queues of each card against the cores, and interrupts.
fn cards(system: &System) -> Vec<Finding> {
    let net = Path::new("sys/class/net");
    // Virtual devices have no hardware below them.
    let cards: Vec<String> =
        system.names(net).into_iter().filter(|card| system.exists(net.join(card).join("device"))).collect();
    if cards.is_empty() {
        return Vec::new();
    }
    let cores = machine::cores().len();
    let mut findings = Vec::new();
    for card in &cards {
        let queues = system.names(net.join(card).join("queues"));
        let receive: Vec<&String> = queues.iter().filter(|queue| queue.starts_with("rx-")).collect();
        let is_steered = receive.iter().any(|queue| {
            let mask =
                system.read(net.join(card).join("queues").join(queue).join("rps_cpus")).unwrap_or_default();
            mask.chars().any(|digit| !matches!(digit, '0' | ','))
        });
        let current =
            format!("{card}: {} receive queues{}", receive.len(), if is_steered { ", RPS on" } else { "" });
        let wanted = format!("a queue for each of {cores} cores, or RPS");
        let fix = format!(
            "ethtool -L {card} combined {cores}, or a mask of the cores in /sys/class/net/{card}/queues/rx-0/rps_cpus"
        );
        let why = "one core takes all interrupts of the card otherwise";
        findings.push(
            Finding::new("card-queues", current, wanted, why, fix)
                .judged(State::pass_if(receive.len() >= cores || is_steered, State::Warn)),
        );
        findings.extend(card_node(system, card));
    }
    let is_balanced = system.runs("irqbalance");
    let current = if is_balanced { "irqbalance runs" } else { "irqbalance does not run" };
    let why = "it moves interrupts onto the shards' cores while they work";
    findings.push(
        Finding::new(
            "interrupt-balance",
            current,
            "off, or kept from the shards' cores",
            why,
            "systemctl stop irqbalance, or IRQBALANCE_BANNED_CPULIST in its environment",
        )
        .judged(State::pass_if(!is_balanced, State::Warn)),
    );
    findings
}

/// Only on machines with more than one memory node.
fn card_node(system: &System, card: &str) -> Option<Finding> {
    let nodes = system
        .names("sys/devices/system/node")
        .into_iter()
        .filter(|name| name.strip_prefix("node").is_some_and(|n| n.parse::<u32>().is_ok()));
    if nodes.count() < 2 {
        return None;
    }
    let node = system.read(Path::new("sys/class/net").join(card).join("device/numa_node"))?;
    let cores = system.read(format!("sys/devices/system/node/node{node}/cpulist"))?;
    let why = "each packet crosses between the processors otherwise";
    let fix = format!("--cores {cores}");
    Some(
        Finding::new(
            "card-node",
            format!("{card} is at node {node}, cores {cores}"),
            "shards on the cores of the card's node",
            why,
            fix,
        )
        .judged(State::Warn),
    )
}

#[cfg(test)]
mod tests {
    use super::super::system::made_of;
    use super::*;

    fn states(files: &[(&str, &str)]) -> Vec<(&'static str, State)> {
        let (_dir, system) = made_of(files);
        findings(&system, 100_000).into_iter().map(|finding| (finding.id, finding.state)).collect()
    }

    #[test]
    fn settings_are_compared_with_the_connections() {
        let small = states(&[
            ("proc/sys/net/core/somaxconn", "128"),
            ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999"),
            ("proc/sys/net/ipv4/tcp_mem", "1000 2000 3000"),
            ("proc/sys/net/netfilter/nf_conntrack_max", "65536"),
        ]);
        let expected = [
            ("accept-queue", State::Warn),
            ("syn-queue", State::Unknown),
            ("port-range", State::Warn),
            ("tcp-memory", State::Warn),
            ("connection-tracking", State::Fail),
        ];
        for pair in expected {
            assert!(small.contains(&pair), "{pair:?} in {small:?}");
        }
        let large = states(&[
            ("proc/sys/net/core/somaxconn", "4096"),
            ("proc/sys/net/ipv4/ip_local_port_range", "1024\t65535"),
            ("proc/sys/net/ipv4/tcp_mem", "1 2 300000"),
        ]);
        for id in ["accept-queue", "port-range", "tcp-memory"] {
            assert!(large.contains(&(id, State::Pass)), "{id} in {large:?}");
        }
        assert!(!large.iter().any(|(id, _)| *id == "connection-tracking"));
    }

    #[test]
    fn a_card_with_one_queue_is_told_unless_it_is_steered() {
        let card = "sys/class/net/eth9/queues/rx-0/rps_cpus";
        let state = |mask: &str| {
            let found = states(&[
                (card, mask),
                ("sys/class/net/eth9/device/vendor", "x"),
                ("sys/class/net/lo/queues/rx-0/rps_cpus", "0"),
            ]);
            found.into_iter().find(|(id, _)| *id == "card-queues").unwrap().1
        };
        let is_single = machine::cores().len() == 1;
        assert_eq!(state("00"), if is_single { State::Pass } else { State::Warn });
        assert_eq!(state("00,03"), State::Pass);
    }
}
