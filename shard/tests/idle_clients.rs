//! What the core keeps for clients that only stay connected, counted at the allocator, and that it keeps nothing for
//! those that have gone. The bounds are a little above what it is; what makes every client larger needs a reason.

#[path = "support/cores.rs"]
mod cores;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use protocol::QoS;
use shard::ConnectionId;

use crate::cores::Cores;

struct Counting;

thread_local! {
    static LIVE_BYTES: Cell<i64> = const { Cell::new(0) };
}

fn count(change: i64) {
    LIVE_BYTES.with(|bytes| bytes.set(bytes.get() + change));
}

// SAFETY: the calls go to the system's allocator unchanged; the counter is a plain thread-local cell.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn live_bytes() -> i64 {
    LIVE_BYTES.with(Cell::get)
}

fn connect_all(cores: &mut Cores, count: usize, is_persistent: bool) -> Vec<ConnectionId> {
    (0..count).map(|number| cores.connect(0, &format!("client-{number:06}"), is_persistent)).collect()
}

/// Half of them say goodbye, the others are lost.
fn end_all(cores: &mut Cores, clients: Vec<ConnectionId>) {
    for (number, id) in clients.into_iter().enumerate() {
        cores.turn(0, |core| match number % 2 {
            0 => core.on_bytes(id, &[0xE0, 0]),
            _ => core.on_closed(id),
        });
        cores.shards[0].outputs.closing.clear();
    }
}

#[test]
fn an_idle_client_is_small() {
    const CLIENTS: usize = 8_192;
    let mut cores = Cores::new(1);
    let empty = live_bytes();
    let clients = connect_all(&mut cores, CLIENTS, false);
    let connected = live_bytes();
    for (number, id) in clients.iter().enumerate() {
        cores.subscribe(0, *id, &format!("device/{number:06}/commands"), QoS::AtLeastOnce);
    }
    let subscribed = live_bytes();
    let each = |bytes: i64| bytes as usize / CLIENTS;
    let (connected, subscription) = (each(connected - empty), each(subscribed - connected));
    println!("{connected} bytes for a connected client, {subscription} more for a subscription of its own");
    assert!(connected <= 520, "{connected}");
    assert!(subscription <= 210, "{subscription}");
}

#[test]
fn nothing_is_kept_of_clients_that_have_gone() {
    let mut cores = Cores::new(1);
    let mut sizes = Vec::with_capacity(30);
    for _ in 0..30 {
        let clients = connect_all(&mut cores, 500, false);
        end_all(&mut cores, clients);
        assert!(cores.shards[0].held().is_nothing(), "{:?}", cores.shards[0].held());
        sizes.push(live_bytes());
        cores.now += 100;
    }
    assert_eq!(sizes[2], sizes[29], "{sizes:?}");
}

#[test]
fn a_client_that_comes_again_and_again_costs_its_session() {
    let mut cores = Cores::new(1);
    let mut sizes = Vec::with_capacity(30);
    for _ in 0..30 {
        let clients = connect_all(&mut cores, 500, true);
        end_all(&mut cores, clients);
        assert_eq!(cores.shards[0].held().sessions, 500);
        sizes.push(live_bytes());
        cores.now += 100;
    }
    assert_eq!(sizes[2], sizes[29], "{sizes:?}");
}
