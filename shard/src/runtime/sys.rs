//! System calls that have no safe wrapper elsewhere: file descriptors that arrive as numbers, the eventfd, resource
//! limits. With `ring` the only place of unsafe code.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Takes a file descriptor that came as a number, from the kernel or in an envelope.
///
/// The number must name an open descriptor that nobody else owns; a stale one is caught by the null check only.
pub(super) fn adopt(descriptor: RawFd) -> Option<OwnedFd> {
    // SAFETY: callers pass numbers that were just handed out by accept or released by `into_raw_fd` and that travel
    // in exactly one value, so ownership is unique. Negative numbers, which OwnedFd forbids, are refused.
    (descriptor >= 0).then(|| unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// The bell of a shard: each write to it completes a poll of the shard's ring.
#[derive(Debug)]
pub(super) struct EventFd(OwnedFd);

impl EventFd {
    pub fn new() -> io::Result<EventFd> {
        // SAFETY: no pointers; the result is checked.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        adopt(descriptor).map(EventFd).ok_or_else(io::Error::last_os_error)
    }

    /// Wakes the shard. Cannot fail: the counter would have to overflow 64 bits.
    pub fn ring(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the buffer is eight readable bytes that live through the call.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Raises the soft limit to the hard one and returns what is in force then.
pub(super) fn raise_limit(resource: libc::__rlimit_resource_t) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid, writable rlimit.
    if unsafe { libc::getrlimit(resource, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        // SAFETY: `raised` is a valid rlimit.
        if unsafe { libc::setrlimit(resource, &raised) } == 0 {
            return Ok(raised.rlim_cur);
        }
    }
    Ok(limit.rlim_cur)
}

pub(super) fn is_root() -> bool {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Ends the process without running destructors of other threads, which may hold half-updated state.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: never returns; nothing of this process is used afterwards.
    unsafe { libc::_exit(code) }
}
