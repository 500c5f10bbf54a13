//! Listening sockets: one for each address and shard, sharing the port (SO_REUSEPORT), so that the kernel spreads
//! clients over the shards. Opened by `start`, then owned by the event loops.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::ListenerSpec;

/// A process that has just ended may still hold its listeners for a moment, because the kernel takes its rings down in
/// the background. Its supervisor starts us at once, so an address in use is tried again, for a second and a half in all.
const TRIES: u32 = 75;
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// Opens a listener on all shards: the real address, and one socket for each shard. Port 0 is chosen once.
pub(super) fn open(spec: &ListenerSpec, shards: usize) -> io::Result<(SocketAddr, Vec<OwnedFd>)> {
    // Another process of the same user could share the port too and take half of the clients. A socket without
    // SO_REUSEPORT tells whether somebody is there.
    if spec.address.port() != 0 {
        wait_until_free(spec.address)?;
    }
    let mut address = spec.address;
    let mut sockets = Vec::with_capacity(shards);
    for _ in 0..shards {
        let socket = new_socket(address)?;
        socket.set_reuse_port(true)?;
        // Accepted sockets inherit it: one system call less for each client.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&SockAddr::from(address))?;
        socket.listen(spec.backlog.min(i32::MAX as u32) as i32)?;
        address = socket.local_addr()?.as_socket().unwrap_or(address);
        sockets.push(OwnedFd::from(socket));
    }
    Ok((address, sockets))
}

fn wait_until_free(address: SocketAddr) -> io::Result<()> {
    let mut tries = 1;
    loop {
        match new_socket(address)?.bind(&SockAddr::from(address)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < TRIES => {
                tries += 1;
                std::thread::sleep(BETWEEN_TRIES);
            }
            result => return result,
        }
    }
}

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // An IPv4 listener may stand beside it on the same port.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}
