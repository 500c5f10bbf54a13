//! Accepting: new sockets find their place at the end of the turn, and none is accepted while descriptors are short.

use std::io;
use std::os::fd::AsRawFd;

use socket2::SockRef;

use super::{ACCEPT_PAUSE_MS, ACCEPT_WARNING_EVERY_MS, EventLoop};
use crate::runtime::mesh::Stop;
use crate::runtime::ring::{Completion, Kind, Token};
use crate::runtime::sys;

impl EventLoop {
    pub(super) fn accept_on_all(&mut self) {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if let Some(descriptor) = &listener.descriptor
                && !listener.is_accepting
            {
                listener.is_accepting = true;
                self.ring.accept(descriptor.as_raw_fd(), Token::new(Kind::Accept, 0, index as u32));
            }
        }
    }

    pub(super) fn on_accept(&mut self, completion: Completion) {
        let index = completion.token.index;
        if !completion.has_more
            && let Some(listener) = self.listeners.get_mut(index as usize)
        {
            listener.is_accepting = false;
            listener.is_cancelling = false;
            if self.stop != Stop::No {
                listener.descriptor = None;
            }
        }
        match sys::adopt(completion.result) {
            Some(descriptor) if descriptor.as_raw_fd() >= self.descriptor_limit => {
                drop(descriptor);
                self.pause_accepting("descriptors are nearly used up");
            }
            Some(descriptor) => {
                self.accepted.push((index as u16, descriptor));
                if !completion.has_more {
                    self.accept_again_at.get_or_insert(self.now);
                }
            }
            None => match -completion.result {
                libc::ECANCELED if self.stop != Stop::No => {}
                libc::ECONNABORTED | libc::EINTR | libc::EPROTO => {
                    self.accept_again_at.get_or_insert(self.now);
                }
                // Cancelled to pause: the moment to go on is set.
                libc::ECANCELED => {
                    self.accept_again_at.get_or_insert(self.now + ACCEPT_PAUSE_MS);
                }
                error => self.pause_accepting(&io::Error::from_raw_os_error(error).to_string()),
            },
        }
    }

    /// Clients wait in the backlog of the kernel meanwhile.
    pub(super) fn pause_accepting(&mut self, reason: &str) {
        self.accept_again_at = Some(self.now + ACCEPT_PAUSE_MS);
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if listener.is_accepting && !listener.is_cancelling {
                listener.is_cancelling = true;
                self.ring.cancel(Token::new(Kind::Accept, 0, index as u32));
            }
        }
        let is_due = self.accept_warned_at.is_none_or(|at| self.now >= at + ACCEPT_WARNING_EVERY_MS);
        if is_due {
            self.accept_warned_at = Some(self.now);
            tracing::warn!(
                shard = self.id,
                connections = self.open_count(),
                reason,
                "accepting is paused; raise the limit on open files (`ulimit -n`, systemd: LimitNOFILE=)"
            );
        }
    }

    /// Last in a turn: only now have the core's freed slots lost their sockets, so that a new one finds its place.
    pub(super) fn take_accepted(&mut self) -> usize {
        let mut accepted = std::mem::take(&mut self.accepted);
        let count = accepted.len();
        for (listener, descriptor) in accepted.drain(..) {
            // A peer that is gone again has no address.
            let peer = SockRef::from(&descriptor).peer_addr().ok().and_then(|peer| peer.as_socket());
            if let Some(peer) = peer
                && self.stop == Stop::No
                && let Some(id) = self.shard.on_accepted(listener, peer)
            {
                self.open(id, descriptor);
            }
        }
        self.accepted = accepted;
        count
    }
}
