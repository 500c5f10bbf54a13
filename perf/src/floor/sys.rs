//! The system calls of the floor broker, and the only unsafe code in it: a non-blocking listener, sockets, and one
//! edge-triggered epoll to which each socket is added once, for input and output.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// The token of the listener; connections have the number of their slot.
pub const LISTENER: u64 = u64::MAX;

const IN_AND_OUT: u32 = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET) as u32;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

/// A listener whose connections inherit TCP_NODELAY and do not block.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let on: libc::c_int = 1;
    // SAFETY: the option value is a live integer of the given size.
    check(unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NODELAY,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })?;
    // The standard library asks for a queue of 128; listening again replaces that.
    // SAFETY: a call on a descriptor that we own.
    check(unsafe { libc::listen(listener.as_raw_fd(), 4096) })?;
    Ok(listener)
}

/// One connection from the accept queue; None if it is empty.
pub fn accept(listener: &TcpListener) -> io::Result<Option<OwnedFd>> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no address is asked for, so both pointers may be null.
    match check(unsafe {
        libc::accept4(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags)
    }) {
        // SAFETY: the kernel has just handed us this descriptor.
        Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock => Ok(None),
            // The peer gave up while it was queued.
            io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        },
    }
}

/// Bytes read; None if there is nothing to read now.
pub fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: the pointer and the length describe `buffer`.
    transferred(unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) })
}

/// Bytes taken; None if the socket is full.
pub fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<Option<usize>> {
    let flags = libc::MSG_NOSIGNAL;
    // SAFETY: the pointer and the length describe `bytes`.
    transferred(unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) })
}

fn transferred(result: isize) -> io::Result<Option<usize>> {
    if result >= 0 {
        return Ok(Some(result as usize));
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
        _ => Err(error),
    }
}

pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

/// What epoll said about a socket.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub token: u64,
    pub is_readable: bool,
    pub is_writable: bool,
}

impl Epoll {
    pub fn new(events_max: usize) -> io::Result<Epoll> {
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel has just handed us this descriptor.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Epoll { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; events_max] })
    }

    pub fn add_listener(&self, listener: &TcpListener) -> io::Result<()> {
        self.add(listener.as_raw_fd(), LISTENER, libc::EPOLLIN as u32)
    }

    pub fn add_socket(&self, socket: &OwnedFd, token: u64) -> io::Result<()> {
        self.add(socket.as_raw_fd(), token, IN_AND_OUT)
    }

    fn add(&self, fd: RawFd, token: u64, events: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events, u64: token };
        // SAFETY: the event lives through the call.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) })?;
        Ok(())
    }

    /// Waits until something happens, or only looks if `can_wait` is false. The events are then had from [`Epoll::event`].
    pub fn wait(&mut self, can_wait: bool) -> io::Result<usize> {
        let timeout_ms = if can_wait { -1 } else { 0 };
        let room = self.events.len() as libc::c_int;
        // SAFETY: the pointer and the count describe `events`.
        match check(unsafe {
            libc::epoll_wait(self.fd.as_raw_fd(), self.events.as_mut_ptr(), room, timeout_ms)
        }) {
            Ok(count) => Ok(count as usize),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    pub fn event(&self, index: usize) -> Event {
        let event = self.events[index];
        let readable = (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;
        Event {
            token: event.u64,
            is_readable: event.events & readable != 0,
            is_writable: event.events & libc::EPOLLOUT as u32 != 0,
        }
    }
}
