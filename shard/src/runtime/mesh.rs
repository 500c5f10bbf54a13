//! All that crosses cores: one lane for each pair of shards, a control queue into each shard, and the bells. Built by
//! `start`, shared by all shards and the control plane; each shard works through its [`Port`].
//!
//! A lane is a bounded FIFO of envelopes with a ring in the other direction for emptied batch buffers. What a full
//! lane refuses waits in the sender's backlog in order. The park protocol is in `parking`: a shard that sleeps is rung
//! once, by the first that pushes something for it or makes the room that it waits for.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};
use std::sync::mpsc::SyncSender;

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use super::parking::Parking;
use super::sys::{self, EventFd};
use crate::{Envelope, MetricsSnapshot, ShardId};

/// Requests of the control plane that wait for one shard.
const CONTROL_QUEUE: usize = 1024;

/// What the control plane asks of a shard.
pub(super) enum ControlRequest {
    Envelope(Envelope),
    Snapshot(SyncSender<(ShardId, MetricsSnapshot)>),
}

/// How far the process is with stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Stop {
    No = 0,
    /// Tell the clients, let them take their last bytes.
    Drain = 1,
    /// At once.
    Hurry = 2,
}

struct Lane {
    envelopes: ArrayQueue<Envelope>,
    /// Emptied batch buffers on their way back to the sender.
    empties: ArrayQueue<Vec<u8>>,
    /// The sender has a backlog and wants to hear of room.
    is_awaited: CachePadded<AtomicBool>,
}

struct Home {
    control: ArrayQueue<ControlRequest>,
    parking: CachePadded<Parking>,
    bell: EventFd,
    /// Times that the bell was rung.
    rung: CachePadded<AtomicU64>,
}

pub(super) struct Mesh {
    count: usize,
    /// From `a` to `b` at `a * count + b`.
    lanes: Vec<Lane>,
    homes: Vec<Home>,
    stop: CachePadded<AtomicU8>,
    /// Shards that have nothing left to do in a drain.
    drained: AtomicU64,
}

impl Mesh {
    pub fn new(count: usize, lane_envelopes: usize) -> io::Result<Mesh> {
        let lane = || Lane {
            envelopes: ArrayQueue::new(lane_envelopes.max(1)),
            empties: ArrayQueue::new(lane_envelopes.max(1)),
            is_awaited: CachePadded::new(AtomicBool::new(false)),
        };
        let home = || {
            Ok(Home {
                control: ArrayQueue::new(CONTROL_QUEUE),
                parking: CachePadded::new(Parking::new()),
                bell: EventFd::new()?,
                rung: CachePadded::new(AtomicU64::new(0)),
            })
        };
        Ok(Mesh {
            count,
            lanes: (0..count * count).map(|_| lane()).collect(),
            homes: (0..count).map(|_| home()).collect::<io::Result<_>>()?,
            stop: CachePadded::new(AtomicU8::new(Stop::No as u8)),
            drained: AtomicU64::new(0),
        })
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn bell(&self, shard: usize) -> &EventFd {
        &self.homes[shard].bell
    }

    /// A request of the control plane; given back when the shard's queue is full.
    pub fn try_request(&self, shard: usize, request: ControlRequest) -> Result<(), ControlRequest> {
        self.homes[shard].control.push(request)?;
        self.wake(shard);
        Ok(())
    }

    /// Never goes back to a milder way of stopping.
    pub fn stop(&self, stop: Stop) {
        self.stop.fetch_max(stop as u8, Ordering::SeqCst);
        (0..self.count).for_each(|shard| self.wake(shard));
    }

    pub fn stopping(&self) -> Stop {
        match self.stop.load(Ordering::Relaxed) {
            0 => Stop::No,
            1 => Stop::Drain,
            _ => Stop::Hurry,
        }
    }

    fn wake(&self, shard: usize) {
        let home = &self.homes[shard];
        if home.parking.wake() {
            home.rung.fetch_add(1, Ordering::Relaxed);
            home.bell.ring();
        }
    }

    fn lane(&self, from: usize, to: usize) -> &Lane {
        &self.lanes[from * self.count + to]
    }

    /// Closes the sockets that were on their way between shards when these stopped.
    pub fn close_stranded(&self) {
        for lane in &self.lanes {
            while let Some(envelope) = lane.envelopes.pop() {
                close_moved(&envelope);
            }
        }
    }
}

/// Closes the socket of an envelope that nobody will serve.
pub(super) fn close_moved(envelope: &Envelope) {
    if let Envelope::Moved(moved) = envelope {
        drop(sys::adopt(moved.socket));
    }
}

/// A shard's place in the mesh.
pub(super) struct Port {
    mesh: Arc<Mesh>,
    id: usize,
    /// What the lanes refused, by target.
    backlogs: Vec<VecDeque<Envelope>>,
    /// Targets with a backlog when `take_room_changes` was asked last.
    was_full: Vec<bool>,
    /// Shards to be woken at the end of the turn.
    to_wake: Vec<bool>,
    /// Lanes that lost something in the current `receive`.
    popped: Vec<bool>,
    is_drained: bool,
}

impl Port {
    pub fn new(mesh: Arc<Mesh>, id: usize) -> Port {
        let count = mesh.count;
        Port {
            mesh,
            id,
            backlogs: (0..count).map(|_| VecDeque::new()).collect(),
            was_full: vec![false; count],
            to_wake: vec![false; count],
            popped: vec![false; count],
            is_drained: false,
        }
    }

    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Pushes in order; what does not fit waits.
    pub fn send(&mut self, to: ShardId, envelope: Envelope) {
        let to = to as usize;
        if self.backlogs[to].is_empty() {
            match self.mesh.lane(self.id, to).envelopes.push(envelope) {
                Ok(()) => self.to_wake[to] = true,
                Err(refused) => self.backlogs[to].push_back(refused),
            }
        } else {
            self.backlogs[to].push_back(envelope);
        }
    }

    /// Pushes what waits, as far as there is room.
    pub fn send_backlogs(&mut self) {
        for (to, backlog) in self.backlogs.iter_mut().enumerate() {
            let lane = self.mesh.lane(self.id, to);
            while let Some(envelope) = backlog.pop_front() {
                if let Err(refused) = lane.envelopes.push(envelope) {
                    backlog.push_front(refused);
                    break;
                }
                self.to_wake[to] = true;
            }
        }
    }

    /// Tells of each lane that became full or has room again since the last call.
    pub fn take_room_changes(&mut self, mut tell: impl FnMut(ShardId, bool)) {
        for to in 0..self.backlogs.len() {
            let is_full = !self.backlogs[to].is_empty();
            if is_full != self.was_full[to] {
                self.was_full[to] = is_full;
                tell(to as ShardId, is_full);
            }
        }
    }

    /// Takes up to `max` envelopes from each other shard.
    pub fn receive(&mut self, max: usize, mut serve: impl FnMut(ShardId, Envelope)) -> usize {
        let mut total = 0;
        for from in (0..self.mesh.count).filter(|from| *from != self.id) {
            let lane = self.mesh.lane(from, self.id);
            let mut count = 0;
            while count < max
                && let Some(envelope) = lane.envelopes.pop()
            {
                serve(from as ShardId, envelope);
                count += 1;
            }
            self.popped[from] = count > 0;
            total += count;
        }
        if total > 0 {
            // Between our pops and the look at the flags, as the sender has a fence between its flags and its look at
            // the lane: one of the two sees the other.
            fence(Ordering::SeqCst);
            for from in (0..self.mesh.count).filter(|from| self.popped[*from]) {
                self.to_wake[from] |= self.mesh.lane(from, self.id).is_awaited.load(Ordering::Relaxed);
            }
        }
        total
    }

    pub fn take_control(&mut self) -> Option<ControlRequest> {
        self.mesh.homes[self.id].control.pop()
    }

    /// A batch buffer goes home to the shard that filled it; when there is no room it is freed.
    pub fn return_buffer(&mut self, to: ShardId, mut buffer: Vec<u8>) {
        buffer.clear();
        let _ = self.mesh.lane(to as usize, self.id).empties.push(buffer);
    }

    /// Our own batch buffers that came home.
    pub fn take_returned(&mut self, mut take: impl FnMut(Vec<u8>)) {
        for to in (0..self.mesh.count).filter(|to| *to != self.id) {
            while let Some(buffer) = self.mesh.lane(self.id, to).empties.pop() {
                take(buffer);
            }
        }
    }

    /// One bell for each shard that got something this turn and sleeps.
    pub fn ring_bells(&mut self) {
        for (shard, to_wake) in self.to_wake.iter_mut().enumerate() {
            if std::mem::take(to_wake) {
                self.mesh.wake(shard);
            }
        }
    }

    fn has_work(&self) -> bool {
        let mesh = &*self.mesh;
        !mesh.homes[self.id].control.is_empty()
            || (0..mesh.count).any(|from| !mesh.lane(from, self.id).envelopes.is_empty())
            || self
                .backlogs
                .iter()
                .enumerate()
                .any(|(to, backlog)| !backlog.is_empty() && !mesh.lane(self.id, to).envelopes.is_full())
    }

    /// True when the shard may sleep until its bell rings. `stop` is what it knows of stopping.
    pub fn try_park(&self, stop: Stop) -> bool {
        for (to, backlog) in self.backlogs.iter().enumerate() {
            self.mesh.lane(self.id, to).is_awaited.store(!backlog.is_empty(), Ordering::Relaxed);
        }
        let is_all_drained = self.is_all_drained();
        self.mesh.homes[self.id].parking.try_park(|| {
            self.has_work() || self.mesh.stopping() != stop || self.is_all_drained() != is_all_drained
        })
    }

    pub fn unpark(&self) {
        self.mesh.homes[self.id].parking.unpark();
    }

    /// Something waits here; for a loop that spins.
    pub fn is_busy(&self, stop: Stop) -> bool {
        self.has_work() || self.mesh.stopping() != stop
    }

    pub fn depths(&self) -> Vec<u32> {
        let lane = |to: usize| (self.mesh.lane(self.id, to).envelopes.len() + self.backlogs[to].len()) as u32;
        (0..self.mesh.count).map(lane).collect()
    }

    pub fn rung_count(&self) -> u64 {
        self.mesh.homes[self.id].rung.load(Ordering::Relaxed)
    }

    pub fn has_backlog(&self) -> bool {
        self.backlogs.iter().any(|backlog| !backlog.is_empty())
    }

    /// This shard has finished its drain. It goes on serving its lanes until all have.
    pub fn declare_drained(&mut self) {
        if !std::mem::replace(&mut self.is_drained, true) {
            let before = self.mesh.drained.fetch_add(1, Ordering::SeqCst);
            if before + 1 == self.mesh.count as u64 {
                (0..self.mesh.count).for_each(|shard| self.mesh.wake(shard));
            }
        }
    }

    pub fn is_all_drained(&self) -> bool {
        self.mesh.drained.load(Ordering::SeqCst) >= self.mesh.count as u64
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        for backlog in &mut self.backlogs {
            backlog.drain(..).for_each(|envelope| close_moved(&envelope));
        }
    }
}
