//! Many clients at once, as bytes, and what the process looks like under them.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::PATIENCE;
use super::packets::{PINGREQ, PINGRESP, read_packet};

/// The versions of a row: name, level.
pub const VERSIONS: [(&str, u8); 3] = [("MQIsdp", 3), ("MQTT", 4), ("MQTT", 5)];

/// CONNECT with a clean session, without a keep alive of its own.
pub fn connect_bytes(version: (&str, u8), client_id: &str) -> Vec<u8> {
    let (name, level) = version;
    let mut body = vec![0, name.len() as u8];
    body.extend(name.bytes());
    body.extend([level, 2, 0, 0]);
    if level == 5 {
        body.push(0);
    }
    body.extend([0, client_id.len() as u8]);
    body.extend(client_id.bytes());
    let mut packet = vec![0x10, body.len() as u8];
    packet.extend(body);
    packet
}

pub fn connect_as(address: SocketAddr, version: (&str, u8), client_id: &str) -> TcpStream {
    let mut stream = open(address);
    stream.write_all(&connect_bytes(version, client_id)).expect("the broker reads");
    let connack = read_packet(&mut stream);
    assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:?}");
    stream
}

pub fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the broker listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
    stream
}

pub fn ping(stream: &mut TcpStream) {
    stream.write_all(PINGREQ).expect("the broker reads");
    assert_eq!(read_packet(stream), PINGRESP);
}

/// The full size of a reliability bar, or that of CI.
pub fn full_or(full: usize, ci: usize) -> usize {
    if std::env::var_os("RELIABILITY_FULL").is_some() { full } else { ci }
}

/// Resident bytes of a process.
pub fn resident(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("the process runs");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

pub fn descriptors(pid: u32) -> u64 {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs").count() as u64
}

/// Processor time of a process.
pub fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name in brackets").1.split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}

/// As many descriptors for this process as it may have.
pub fn raise_own_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives both calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
}

/// Reads until the broker ends the connection.
pub fn expect_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![];
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    bytes
}
