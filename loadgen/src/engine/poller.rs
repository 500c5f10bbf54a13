//! What the kernel tells a worker: which sockets are ready (epoll, edge-triggered) and that another thread rang.
//!
//! Sockets are registered once for both directions, so a busy connection costs no further call to epoll.

use std::io::{self, Error};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Events taken in one turn.
const EVENTS_MAX: usize = 1024;

/// One socket's news.
#[derive(Clone, Copy, Debug)]
pub struct Readiness {
    /// As given to [`Poller::add`].
    pub token: u64,
    /// Bytes, the end of the stream or an error can be read.
    pub is_readable: bool,
    pub is_writable: bool,
}

pub struct Poller {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Poller {
    pub fn new() -> io::Result<Poller> {
        // SAFETY: the call takes no pointers; the result is checked and owned by nobody else.
        let epoll = unsafe { owned(libc::epoll_create1(libc::EPOLL_CLOEXEC))? };
        Ok(Poller { epoll, events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX] })
    }

    /// From now on reports each time when `fd` becomes readable or writable.
    pub fn add(&self, fd: RawFd, token: u64) -> io::Result<()> {
        let events = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET) as u32;
        let mut event = libc::epoll_event { events, u64: token };
        // SAFETY: `event` is valid for the call.
        match unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) } {
            0 => Ok(()),
            _ => Err(Error::last_os_error()),
        }
    }

    /// Waits for news, at most `timeout_ns` (None: for ever).
    pub fn wait(
        &mut self,
        timeout_ns: Option<u64>,
    ) -> io::Result<impl ExactSizeIterator<Item = Readiness> + use<'_>> {
        let timeout = timeout_ns.map(|ns| libc::timespec {
            tv_sec: (ns / 1_000_000_000) as libc::time_t,
            tv_nsec: (ns % 1_000_000_000) as libc::c_long,
        });
        let timeout = timeout.as_ref().map_or(std::ptr::null(), |timeout| timeout as *const libc::timespec);
        // SAFETY: `events` has room for EVENTS_MAX entries and `timeout` is null or valid for the call.
        let count = unsafe {
            libc::epoll_pwait2(
                self.epoll.as_raw_fd(),
                self.events.as_mut_ptr(),
                EVENTS_MAX as i32,
                timeout,
                std::ptr::null(),
            )
        };
        let count = match usize::try_from(count) {
            Ok(count) => count,
            Err(_) if Error::last_os_error().kind() == io::ErrorKind::Interrupted => 0,
            Err(_) => return Err(Error::last_os_error()),
        };
        const READ: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;
        Ok(self.events[..count].iter().map(|event| Readiness {
            token: event.u64,
            is_readable: event.events & READ != 0,
            is_writable: event.events & libc::EPOLLOUT as u32 != 0,
        }))
    }
}

/// Wakes a worker that waits in [`Poller::wait`].
pub struct Doorbell(OwnedFd);

impl Doorbell {
    pub fn new() -> io::Result<Doorbell> {
        // SAFETY: the call takes no pointers; the result is checked and owned by nobody else.
        unsafe { Ok(Doorbell(owned(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?)) }
    }

    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Each ring is an edge of its own, so nobody needs to read the counter.
    pub fn ring(&self) {
        let one = 1u64;
        // SAFETY: the eight bytes are valid for the call. A full counter is as good as a ring.
        unsafe { libc::write(self.fd(), (&raw const one).cast(), 8) };
    }
}

/// # Safety
/// `fd` is the result of a call that opens a file, and nobody else owns it.
unsafe fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    match fd {
        // SAFETY: promised by the caller.
        0.. => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_wakes_and_silence_times_out() {
        let mut poller = Poller::new().unwrap();
        let doorbell = Doorbell::new().unwrap();
        poller.add(doorbell.fd(), 9).unwrap();
        // The counter is writable from the start, which is news once.
        assert!(poller.wait(Some(0)).unwrap().len() <= 1);
        for _ in 0..2 {
            doorbell.ring();
            let news: Vec<_> = poller.wait(None).unwrap().collect();
            assert_eq!((news.len(), news[0].token, news[0].is_readable), (1, 9, true));
            assert_eq!(poller.wait(Some(1000)).unwrap().len(), 0);
        }
    }
}
