//! The orderly end: no new clients, the present ones are told, all requests end before their memory does.

use std::time::{Duration, Instant};

use super::{EventLoop, QUIESCE, State};
use crate::runtime::mesh::{Stop, close_moved};
use crate::runtime::ring::{Kind, Token};

impl EventLoop {
    pub(super) fn obey_stop(&mut self) {
        let stop = self.port.mesh().stopping();
        if stop == self.stop {
            return;
        }
        if self.stop == Stop::No {
            self.drain_until = Some(self.now + self.drain_timeout_ms);
            self.accept_again_at = None;
            self.shard.begin_drain();
            for (index, listener) in self.listeners.iter_mut().enumerate() {
                if !listener.is_accepting {
                    listener.descriptor = None;
                } else if !listener.is_cancelling {
                    listener.is_cancelling = true;
                    self.ring.cancel(Token::new(Kind::Accept, 0, index as u32));
                }
            }
        }
        self.stop = stop;
    }

    pub(super) fn is_over(&mut self) -> bool {
        match self.stop {
            Stop::No => false,
            Stop::Hurry => true,
            Stop::Drain => {
                if self.shard.outputs.is_drained && self.open_count() == 0 && !self.port.has_backlog() {
                    self.port.declare_drained();
                }
                self.port.is_all_drained() || self.drain_until.is_some_and(|until| until <= self.now)
            }
        }
    }

    /// Ends all requests, so that no buffer is in the kernel's hands when it is freed.
    pub(super) fn wind_up(&mut self) {
        for (index, listener) in self.listeners.iter().enumerate() {
            if listener.is_accepting {
                self.ring.cancel(Token::new(Kind::Accept, 0, index as u32));
            }
        }
        self.shard.outputs.closing.clear();
        self.arriving.drain(..).for_each(|(_, envelope)| close_moved(&envelope));
        for index in 0..self.sockets.len() {
            if !matches!(self.sockets[index].state, State::Free) {
                self.abort(index);
            }
        }
        let until = Instant::now() + QUIESCE;
        while self.ring.under_way() > 0 && Instant::now() < until {
            if let Err(error) = self.ring.reap(&mut self.completions) {
                tracing::warn!(shard = self.id, %error, "the socket ring failed while it was closed");
                return;
            }
            if self.completions.is_empty() {
                std::thread::sleep(Duration::from_micros(100));
            }
            self.serve_completions();
            self.accepted.clear();
            self.to_receive.clear();
        }
    }
}
