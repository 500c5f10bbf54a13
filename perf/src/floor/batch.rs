//! Many sends with one system call, through an io_uring. A fan-out is hundreds of small sends in a round, where entering
//! the kernel for each would be a quarter of the cost. Without io_uring (old kernel, seccomp) each is a call of its own.

use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, types};

use super::Connection;
use super::sys;

/// Sends at once. The rings have room for as many.
pub const BATCH_MAX: usize = 256;
/// Fewer cost less as single calls.
const BATCH_MIN: usize = 4;
const IS_FULL: [i32; 2] = [-libc::EAGAIN, -libc::EINTR];

pub struct Sender {
    ring: Option<IoUring>,
}

/// Bytes taken; None if the socket is full; an error ends the connection.
pub type Sent = std::io::Result<Option<usize>>;

impl Sender {
    /// Must be called on the thread that sends.
    pub fn new() -> Sender {
        let ring = IoUring::builder().setup_single_issuer().setup_coop_taskrun().build(BATCH_MAX as u32);
        Sender { ring: ring.ok() }
    }

    /// Sends what waits in each of these connections, at most [`BATCH_MAX`]; the results are in their order.
    pub fn send(&mut self, connections: &[&Connection], results: &mut Vec<Sent>) -> std::io::Result<()> {
        results.clear();
        match &mut self.ring {
            Some(ring) if connections.len() >= BATCH_MIN => send_together(ring, connections, results),
            _ => {
                results.extend(
                    connections.iter().map(|connection| sys::send(&connection.socket, connection.unsent())),
                );
                Ok(())
            }
        }
    }
}

fn send_together(
    ring: &mut IoUring,
    connections: &[&Connection],
    results: &mut Vec<Sent>,
) -> std::io::Result<()> {
    results.resize_with(connections.len(), || Ok(None));
    for (index, connection) in connections.iter().enumerate() {
        let bytes = connection.unsent();
        let send =
            opcode::Send::new(types::Fd(connection.socket.as_raw_fd()), bytes.as_ptr(), bytes.len() as u32)
                .flags(libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
                .build()
                .user_data(index as u64);
        // SAFETY: socket and bytes are borrowed until all completions are there, and nothing is sent after that.
        unsafe { ring.submission().push(&send) }
            .map_err(|_| std::io::Error::other("more sends than the ring holds"))?;
    }
    let mut left = connections.len();
    while left > 0 {
        if let Err(error) = ring.submit_and_wait(left)
            && error.kind() != std::io::ErrorKind::Interrupted
        {
            // The kernel may still read the buffers, so they must not be given back.
            eprintln!("io_uring: {error}");
            std::process::abort();
        }
        for completion in ring.completion() {
            left -= 1;
            results[completion.user_data() as usize] = match completion.result() {
                taken @ 0.. => Ok(Some(taken as usize)),
                code if IS_FULL.contains(&code) => Ok(None),
                code => Err(std::io::Error::from_raw_os_error(-code)),
            };
        }
    }
    Ok(())
}
