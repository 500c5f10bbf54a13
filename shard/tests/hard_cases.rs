//! Hard cases that are about one shard and its turns rather than about a connection (`docs/hard-cases.md`).

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use protocol::{Connect, Properties, PropertyId, PropertyWriter, Version};
use shard::{Config, Shard, Time};

fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call, which fills it.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0, "the clock exists");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Connects a client with a session that lives for a minute, and loses the connection.
fn come_and_go(core: &mut Shard, now: Time, client_id: &str, version: Version) {
    let mut properties = vec![];
    PropertyWriter::new(&mut properties).u32(PropertyId::SessionExpiryInterval, 60);
    let mut bytes = vec![];
    let connect = Connect {
        version,
        is_bridge: false,
        clean_start: false,
        keep_alive: 0,
        client_id,
        will: None,
        user_name: None,
        password: None,
        properties: Properties::from_wire(if version == Version::V5 { &properties } else { &[] }),
    };
    connect.encode(version, &mut bytes);
    let id = turn(core, now, |core| {
        let peer: SocketAddr = ([127, 0, 0, 1], 9).into();
        let id = core.on_accepted(0, peer).expect("there is room");
        core.on_bytes(id, &bytes);
        id
    });
    turn(core, now, |core| {
        core.take_output(id);
        core.on_sent(id);
        core.on_closed(id);
    });
}

fn turn<T>(core: &mut Shard, now: Time, act: impl FnOnce(&mut Shard) -> T) -> T {
    core.begin_turn(now);
    let result = act(core);
    core.end_turn();
    core.outputs = Default::default();
    result
}

#[test]
fn hc_ses_10_a_hundred_thousand_sessions_expire_at_once() {
    const COUNT: u64 = 100_000;
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut config = Config::default();
        config.limits.session_expiry_3x_s = 60;
        let mut core = Shard::new(0, Arc::new(config), 0);
        for number in 0..COUNT {
            come_and_go(&mut core, number / 200, &format!("client-{number}"), version);
        }
        assert_eq!(core.metrics().sessions, COUNT);
        // All of them are due. Live clients are served between the turns.
        let now = 61_000;
        let (mut turns, mut longest) = (0, Duration::ZERO);
        loop {
            let before = core.metrics().sessions;
            let start = cpu_time();
            turn(&mut core, now, |_| ());
            longest = longest.max(cpu_time() - start);
            turns += 1;
            let ended = before - core.metrics().sessions;
            assert!(ended <= 256, "{ended} sessions in one turn");
            if core.metrics().sessions == 0 {
                break;
            }
            assert_eq!(core.next_deadline(), Some(now), "it goes on at once");
        }
        assert!(turns >= 390, "{turns} turns");
        // Five milliseconds, and some for a debug build on a busy machine.
        assert!(longest < Duration::from_millis(25), "a turn of {longest:?}");
        assert_eq!(core.metrics().sessions_expired, COUNT);
    }
}

#[test]
fn hc_ses_9_no_clock_but_the_monotonic_one() {
    // What the core does depends on the times that it is given, and the runtime gives it those of the monotonic clock:
    // a jump of the machine's clock cannot reach them.
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut pending = vec![source];
    let mut count = 0;
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a directory of the sources");
            pending.extend(entries.map(|entry| entry.expect("it is there").path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source file");
        count += 1;
        let wall_clocks = ["SystemTime", "UNIX_EPOCH", "CLOCK_REALTIME", "gettimeofday"];
        let is_named = wall_clocks.iter().any(|clock| text.contains(clock));
        assert!(!is_named, "{} names a clock that jumps", path.display());
        let is_core = !path.components().any(|part| part.as_os_str() == "runtime");
        assert!(!is_core || !text.contains("Instant"), "{}: the core is told the time", path.display());
    }
    assert!(count > 20, "{count} files");
}

#[test]
fn hc_ses_9_expiry_counts_the_time_that_the_shard_is_told() {
    let mut core = Shard::new(0, Arc::new(Config::default()), 0);
    come_and_go(&mut core, 1_000, "client", Version::V5);
    turn(&mut core, 60_900, |_| ());
    assert_eq!(core.metrics().sessions, 1);
    turn(&mut core, 61_100, |_| ());
    assert_eq!(core.metrics().sessions, 0);
}
