//! The socket ring of a shard: an io_uring of its own beside the executor's, with one provided-buffer ring for all
//! receives. Owned by the event loop of the shard, created and used on its thread only (SINGLE_ISSUER).
//!
//! Invariants: a buffer handed to [`Ring::send`] belongs to the ring until its completion was taken; a descriptor must
//! stay open until the terminal completion of every request on it; memory that the kernel may still write to is leaked
//! rather than freed when the ring is dropped with requests under way.
//!
//! The ring defers its work to our own `io_uring_enter` (DEFER_TASKRUN), so completions appear only in [`Ring::reap`] and
//! [`Ring::sleep`]. That costs half of what a ring without the flag does for each message. The ring also watches the
//! shard's bell: a sleeping shard waits for its sockets, its neighbours and its deadline in one system call.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types::{BufRingEntry, Fd, SubmitArgs};
use io_uring::{IoUring, cqueue, opcode, squeue};
use slab::Slab;

use super::sys::EventFd;

/// Receive buffers of a shard. They are used like a stack, so that what the kernel writes into is what the cache has, and
/// memory that is never needed is never touched.
pub(super) const BUFFER_COUNT: u16 = 512;
/// Not a power of two: the beginnings of the buffers, all that small packets use, would share few sets of the cache.
pub(super) const BUFFER_BYTES: usize = 8640;
/// Buffers in the kernel's hands, which takes them in turn. Enough for one portion of deferred work; what finds none
/// (ENOBUFS) is armed again.
const BUFFERS_OFFERED: u16 = 128;
const BUFFER_GROUP: u16 = 0;
const SUBMISSIONS: u32 = 2048;
const COMPLETIONS: u32 = 8192;
/// The kernel runs deferred work in portions of this size when nobody waits for more.
const DEFERRED_PORTION: usize = 20;
/// Completions that make a turn: enough for large batches, few enough for a short turn.
const COMPLETIONS_PER_REAP: usize = 1024;
/// Received bytes that make a turn: they and what is sent of them have to stay in the cache until they are sent.
const BYTES_PER_REAP: usize = 512 * 1024;
/// `IORING_ENTER_GETEVENTS`.
const ENTER_GET_EVENTS: u32 = 1;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Accept = 1,
    Receive = 2,
    Send = 3,
    Cancel = 4,
    Bell = 5,
}

/// Names a request: `user_data` of its completions. The generation tells uses of a slot apart; it has 24 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: Kind,
    pub generation: u32,
    pub index: u32,
}

pub(super) const GENERATION_MASK: u32 = 0x00ff_ffff;

impl Token {
    pub fn new(kind: Kind, generation: u32, index: u32) -> Token {
        Token { kind, generation: generation & GENERATION_MASK, index }
    }

    fn pack(self) -> u64 {
        (self.kind as u64) << 56 | u64::from(self.generation) << 32 | u64::from(self.index)
    }

    fn unpack(data: u64) -> Token {
        let kind = match (data >> 56) as u8 {
            1 => Kind::Accept,
            2 => Kind::Receive,
            3 => Kind::Send,
            5 => Kind::Bell,
            _ => Kind::Cancel,
        };
        Token { kind, generation: (data >> 32) as u32 & GENERATION_MASK, index: data as u32 }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub token: Token,
    /// Bytes, a descriptor, or a negated errno.
    pub result: i32,
    /// More completions of this request follow.
    pub has_more: bool,
    /// The receive buffer that was used; to be given back with [`Ring::release`].
    pub buffer: Option<u16>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RingCounters {
    pub enters: u64,
    pub sqes: u64,
}

pub(super) struct Ring {
    // Declared first, so dropped before the memory that it points to.
    ring: IoUring,
    buffers: Buffers,
    /// Requests that did not fit into the submission queue.
    backlog: VecDeque<squeue::Entry>,
    /// Buffers that are being sent.
    sending: Slab<Vec<u8>>,
    /// Requests without a terminal completion, that for the bell aside.
    under_way: usize,
    bell: RawFd,
    /// Received by the last `reap`.
    reaped_bytes: usize,
    pub counters: RingCounters,
}

impl Ring {
    /// Must be called on the thread that will use the ring. The bell has to stay open as long as the ring.
    pub fn new(bell: &EventFd) -> io::Result<Ring> {
        let ring = build(SUBMISSIONS, COMPLETIONS)?;
        let buffers = Buffers::new();
        // SAFETY: the entries are page aligned, hold BUFFER_COUNT entries and are freed only after the ring is gone.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                buffers.entries.as_ptr() as u64,
                BUFFER_COUNT,
                BUFFER_GROUP,
                0,
            )?;
        }
        let mut ring = Ring {
            ring,
            buffers,
            backlog: VecDeque::new(),
            sending: Slab::new(),
            under_way: 0,
            bell: bell.as_raw_fd(),
            reaped_bytes: 0,
            counters: RingCounters::default(),
        };
        ring.watch_bell();
        ring.buffers.offer();
        Ok(ring)
    }

    // ---- requests ----

    /// Accepts until cancelled or failed. Accepted sockets stay blocking: the ring would answer EAGAIN for others.
    pub fn accept(&mut self, listener: RawFd, token: Token) {
        self.push(opcode::AcceptMulti::new(Fd(listener)).flags(libc::SOCK_CLOEXEC).build(), token);
    }

    pub fn receive_once(&mut self, socket: RawFd, token: Token) {
        let request = opcode::Recv::new(Fd(socket), std::ptr::null_mut(), 0).buf_group(BUFFER_GROUP).build();
        self.push(request.flags(squeue::Flags::BUFFER_SELECT), token);
    }

    pub fn receive_multishot(&mut self, socket: RawFd, token: Token) {
        self.push(opcode::RecvMulti::new(Fd(socket), BUFFER_GROUP).build(), token);
    }

    /// Sends the whole buffer; what comes back is for `take_sent`.
    pub fn send(&mut self, socket: RawFd, buffer: Vec<u8>, token: Token) -> u32 {
        let request = opcode::Send::new(Fd(socket), buffer.as_ptr(), buffer.len() as u32)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        let key = self.sending.insert(buffer);
        self.push(request, token);
        key as u32
    }

    /// The buffer of a send whose completion was taken.
    pub fn take_sent(&mut self, key: u32) -> Vec<u8> {
        self.sending.remove(key as usize)
    }

    /// Ends the request with that token; its terminal completion still comes.
    pub fn cancel(&mut self, token: Token) {
        let request = opcode::AsyncCancel::new(token.pack()).build();
        self.push(request, Token::new(Kind::Cancel, 0, 0));
    }

    /// Completes whenever the bell is rung. The count behind it is never read: each ring is told.
    fn watch_bell(&mut self) {
        let request = opcode::PollAdd::new(Fd(self.bell), libc::POLLIN as u32).multi(true).build();
        self.enqueue(request.user_data(Token::new(Kind::Bell, 0, 0).pack()));
    }

    fn push(&mut self, request: squeue::Entry, token: Token) {
        self.under_way += 1;
        self.enqueue(request.user_data(token.pack()));
    }

    fn enqueue(&mut self, request: squeue::Entry) {
        self.counters.sqes += 1;
        if !self.backlog.is_empty() || !self.try_enqueue(&request) {
            self.backlog.push_back(request);
        }
    }

    fn try_enqueue(&mut self, request: &squeue::Entry) -> bool {
        // SAFETY: what a request points to lives until its completion: send buffers are in `sending`, receive buffers
        // in `buffers`.
        unsafe { self.ring.submission().push(request) }.is_ok()
    }

    fn refill_submissions(&mut self) {
        while let Some(request) = self.backlog.pop_front() {
            if !self.try_enqueue(&request) {
                self.backlog.push_front(request);
                return;
            }
        }
    }

    /// Requests wait to be submitted.
    pub fn has_requests(&mut self) -> bool {
        !self.backlog.is_empty() || !self.ring.submission().is_empty()
    }

    // ---- completions ----

    /// One system call: submits what was queued and runs the kernel's deferred work. Repeated while there is more of
    /// either, up to a bound.
    pub fn reap(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        self.reaped_bytes = 0;
        loop {
            self.buffers.offer();
            self.refill_submissions();
            let requests = self.ring.submission().len() as u32;
            self.counters.enters += 1;
            // SAFETY: no argument is passed; the flag only asks for completions.
            let entered =
                unsafe { self.ring.submitter().enter::<libc::sigset_t>(requests, 0, ENTER_GET_EVENTS, None) };
            let mut has_to_wait = false;
            if let Err(error) = entered {
                // Interrupted, or the kernel wants completions to be taken first: what is queued stays queued.
                match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    Some(libc::EBUSY | libc::EAGAIN) => has_to_wait = true,
                    _ => return Err(error),
                }
            }
            let taken = self.take_completions(completions);
            let is_more_likely = taken >= DEFERRED_PORTION || !self.backlog.is_empty();
            let is_full = completions.len() >= COMPLETIONS_PER_REAP
                || self.reaped_bytes >= BYTES_PER_REAP
                || self.buffers.spare.is_empty();
            if has_to_wait || !is_more_likely || is_full {
                return Ok(());
            }
        }
    }

    /// As `reap`, but waits until something has completed, the bell was rung or the time is over (None: for ever).
    pub fn sleep(&mut self, completions: &mut Vec<Completion>, time: Option<Duration>) -> io::Result<()> {
        self.reaped_bytes = 0;
        self.buffers.offer();
        self.refill_submissions();
        self.counters.enters += 1;
        let submitter = self.ring.submitter();
        let result = match time {
            Some(time) => submitter.submit_with_args(1, &SubmitArgs::new().timespec(&time.into())),
            None => submitter.submit_and_wait(1),
        };
        if let Err(error) = result {
            match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
                _ => return Err(error),
            }
        }
        self.take_completions(completions);
        Ok(())
    }

    fn take_completions(&mut self, completions: &mut Vec<Completion>) -> usize {
        let before = completions.len();
        let mut is_bell_silent = false;
        for entry in self.ring.completion() {
            let token = Token::unpack(entry.user_data());
            let has_more = cqueue::more(entry.flags());
            if token.kind == Kind::Bell {
                is_bell_silent |= !has_more;
                continue;
            }
            if !has_more {
                self.under_way -= 1;
            }
            let buffer = cqueue::buffer_select(entry.flags());
            if buffer.is_some() {
                self.buffers.offered -= 1;
                self.reaped_bytes += entry.result().max(0) as usize;
            }
            completions.push(Completion { token, result: entry.result(), has_more, buffer });
        }
        if is_bell_silent {
            self.watch_bell();
        }
        completions.len() - before
    }

    /// The bytes of a completed receive.
    pub fn bytes(&self, buffer: u16, len: usize) -> &[u8] {
        self.buffers.bytes(buffer, len)
    }

    /// Gives a receive buffer back, for a later `reap`.
    pub fn release(&mut self, buffer: u16) {
        self.buffers.spare.push(buffer);
    }

    /// Requests without a terminal completion.
    pub fn under_way(&self) -> usize {
        self.under_way
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.under_way > 0 {
            // The kernel takes requests back some time after the ring is closed.
            std::mem::forget(std::mem::take(&mut self.sending));
            self.buffers.leak();
        }
    }
}

fn build(submissions: u32, completions: u32) -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize(completions)
        .setup_clamp()
        .build(submissions)
}

/// Builds and drops a ring such as shards use, to learn early whether they can.
pub(super) fn try_build() -> io::Result<()> {
    build(SUBMISSIONS, COMPLETIONS).map(drop)
}

/// The provided-buffer ring: entries that the kernel reads, and the buffers that they name.
struct Buffers {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    tail: u16,
    /// In the kernel's hands, or with data that was not taken yet.
    offered: u16,
    /// In ours, the last used on top.
    spare: Vec<u16>,
}

impl Buffers {
    fn layouts() -> (Layout, Layout) {
        let layout = |bytes| Layout::from_size_align(bytes, 4096).expect("constant sizes are valid");
        (
            layout(BUFFER_COUNT as usize * size_of::<BufRingEntry>()),
            layout(BUFFER_COUNT as usize * BUFFER_BYTES),
        )
    }

    fn new() -> Buffers {
        let (entries, memory) = Buffers::layouts();
        let allocate = |layout| {
            // SAFETY: the layout has a size above zero.
            NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
        };
        Buffers {
            entries: allocate(entries).cast(),
            memory: allocate(memory),
            tail: 0,
            offered: 0,
            spare: (0..BUFFER_COUNT).rev().collect(),
        }
    }

    fn add(&mut self, buffer: u16) {
        debug_assert!(buffer < BUFFER_COUNT);
        let slot = (self.tail & (BUFFER_COUNT - 1)) as usize;
        // SAFETY: `slot` is below BUFFER_COUNT and the buffer's offset inside `memory`. The kernel does not read an
        // entry at or behind the published tail, so writing it is not a race. Address, length and id are set one by
        // one because the tail shares its place with the reserved field of entry 0.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(slot);
            entry.set_addr(self.memory.as_ptr().add(buffer as usize * BUFFER_BYTES) as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Hands buffers to the kernel.
    fn offer(&mut self) {
        let before = self.offered;
        while self.offered < BUFFERS_OFFERED
            && let Some(buffer) = self.spare.pop()
        {
            self.add(buffer);
            self.offered += 1;
        }
        if self.offered > before {
            self.publish();
        }
    }

    fn publish(&mut self) {
        // SAFETY: the tail lies in the first entry, is aligned for u16, and only this thread writes it; the kernel
        // reads it with acquire order.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast_mut().cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }

    fn bytes(&self, buffer: u16, len: usize) -> &[u8] {
        assert!(buffer < BUFFER_COUNT && len <= BUFFER_BYTES, "the kernel names buffers that it was given");
        // SAFETY: inside `memory` by the check above; a buffer that was handed out is not written by the kernel until
        // `release`, which needs the ring mutably and so ends this borrow.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(buffer as usize * BUFFER_BYTES), len) }
    }

    /// Keeps `drop` from freeing the memory.
    fn leak(&mut self) {
        self.tail = 0;
        self.entries = NonNull::dangling();
        self.memory = NonNull::dangling();
    }

    fn is_leaked(&self) -> bool {
        self.memory == NonNull::dangling()
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if self.is_leaked() {
            return;
        }
        let (entries, memory) = Buffers::layouts();
        // SAFETY: allocated in `new` with the same layouts; the ring that knew them is closed and idle.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), entries);
            dealloc(self.memory.as_ptr(), memory);
        }
    }
}
