//! Closed loop over several processes: what receivers in one process got opens windows of publishers in another. Each
//! process sends each other one its credits, as records of a flow and a number of deliveries, over a connection for
//! that direction alone.
//!
//! Who connects is not known, so a record is checked before it counts; nothing else can be asked of the port.

use super::Shared;
use anyhow::{Context, Result};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Flow (4 bytes) and deliveries (8 bytes), little-endian.
const RECORD_LEN: usize = 12;
/// All are told to start at the same time, so a runner that has not connected by then is gone.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(5);
/// Read at once.
const BUFFER_BYTES: usize = 5000 * RECORD_LEN;

/// The ways to the other processes.
pub struct Mesh {
    /// By process; None for this one.
    lanes: Vec<Option<Arc<Lane>>>,
    workers_of_a_process: usize,
}

#[derive(Default)]
struct Lane {
    credits: Mutex<Vec<(u32, u64)>>,
    has_credits: Condvar,
}

impl Mesh {
    /// Connects to all `peers`, the addresses of all processes in their order; this is number `own`.
    pub fn connect(peers: &[SocketAddr], own: usize, workers_of_a_process: usize) -> Result<Mesh> {
        let lane = |(process, address): (usize, &SocketAddr)| {
            if process == own {
                return Ok(None);
            }
            let stream = TcpStream::connect(address)
                .with_context(|| format!("cannot reach runner {process} at {address}"))?;
            stream.set_nodelay(true)?;
            let lane = Arc::new(Lane::default());
            let sender = lane.clone();
            std::thread::Builder::new()
                .name(format!("credit-{process}"))
                .spawn(move || sender.send(stream))?;
            Ok(Some(lane))
        };
        let lanes = peers.iter().enumerate().map(lane).collect::<Result<_>>()?;
        Ok(Mesh { lanes, workers_of_a_process })
    }

    /// Hands credits to the process of this worker.
    pub fn credit(&self, worker: usize, credits: impl Iterator<Item = (u32, u64)>) {
        let lane = self.lanes.get(worker / self.workers_of_a_process);
        let Some(Some(lane)) = lane else { return };
        lane.credits.lock().unwrap_or_else(PoisonError::into_inner).extend(credits);
        lane.has_credits.notify_one();
    }
}

impl Lane {
    /// Sends until the other process is gone, which its orchestrator tells.
    fn send(&self, mut stream: TcpStream) {
        let (mut credits, mut bytes) = (vec![], vec![]);
        loop {
            let waiting = self.credits.lock().unwrap_or_else(PoisonError::into_inner);
            let mut waiting = self
                .has_credits
                .wait_while(waiting, |credits| credits.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut *waiting, &mut credits);
            drop(waiting);
            bytes.clear();
            for (flow, deliveries) in credits.drain(..) {
                bytes.extend_from_slice(&u32::to_le_bytes(flow));
                bytes.extend_from_slice(&u64::to_le_bytes(deliveries));
            }
            if stream.write_all(&bytes).is_err() {
                return;
            }
        }
    }
}

/// Takes the credits of `peer_count` other processes, each in a thread of its own.
pub(super) fn receive(shared: &Arc<Shared>, listener: &TcpListener, peer_count: usize) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    listener.set_nonblocking(true)?;
    for peer in 0..peer_count {
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                    std::thread::sleep(LOOK);
                }
                Err(error) => return Err(error).context("another runner does not connect"),
            }
        };
        stream.set_nonblocking(false)?;
        let shared = shared.clone();
        let take = move || take(&shared, stream);
        std::thread::Builder::new().name(format!("credits-{peer}")).spawn(take)?;
    }
    Ok(())
}

/// Until the other process is gone, or sends what cannot be.
fn take(shared: &Shared, mut stream: TcpStream) {
    let (mut buffer, mut filled) = (vec![0; BUFFER_BYTES], 0);
    while let Ok(count @ 1..) = stream.read(&mut buffer[filled..]) {
        filled += count;
        let whole = filled / RECORD_LEN * RECORD_LEN;
        let mut credits = vec![];
        for record in buffer[..whole].chunks_exact(RECORD_LEN) {
            let Some((flow, deliveries)) = read_record(record) else { return };
            let worker = match shared.plan.flows.get(flow as usize) {
                Some(flow) if shared.plan.local.contains(&flow.worker) => flow.worker,
                _ => return,
            };
            credits.push((worker, flow, deliveries));
        }
        credits.sort_unstable();
        for group in credits.chunk_by(|a, b| a.0 == b.0) {
            let own = group.iter().map(|(_, flow, deliveries)| (*flow, *deliveries));
            shared.port(group[0].0).credit(own);
        }
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
}

fn read_record(record: &[u8]) -> Option<(u32, u64)> {
    let (flow, deliveries) = record.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*flow), u64::from_le_bytes(*deliveries.first_chunk()?)))
}
