//! Start, health, stop, exit codes of the process, and what it tells the service manager.

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::openmetrics::Exposition;
use support::packets::{PINGREQ, PINGRESP, connect, read_packet, read_to_end};
use support::{Broker, Log, PATIENCE, eventually, shardmq, wait_for_end};

#[test]
fn it_serves_on_free_ports_and_stops_in_order() {
    let mut broker = Broker::with_shards(2).listeners(&["tcp://127.0.0.1:0", "tcp://[::1]:0"]).start();
    let addresses = broker.addresses();
    let names: Vec<&str> = addresses.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["tcp", "tcp-2"]);
    assert_eq!(broker.ready()["shards"], 2);
    for (_, address) in &addresses {
        connect(*address, 5, "");
    }
    for path in ["/livez", "/readyz", "/status", "/startupz"] {
        assert_eq!(broker.get(path).0, 200, "{path}");
    }
    assert_eq!(broker.get("/nonsense").0, 404);
    broker.signal(libc::SIGINT);
    assert_eq!(broker.wait().code(), Some(0));
}

#[test]
fn clients_are_told_of_the_end() {
    let mut broker = Broker::with_shards(2).start();
    let clients: Vec<_> = (0..20)
        .map(|n| {
            (n % 2 == 0, connect(broker.address(), if n % 2 == 0 { 5 } else { 4 }, &format!("client-{n}")))
        })
        .collect();
    broker.terminate();
    for (is_version_5, client) in clients {
        let last = read_to_end(client);
        match is_version_5 {
            true => assert_eq!((last[0], last[2]), (0xE0, 0x8B), "DISCONNECT, server shutting down"),
            false => assert!(last.is_empty(), "3.1.1 has no DISCONNECT from servers: {last:?}"),
        }
    }
    assert_eq!(broker.wait().code(), Some(0));
}

#[test]
fn a_hangup_changes_nothing() {
    let broker = Broker::with_shards(1).start();
    let mut client = connect(broker.address(), 5, "client");
    broker.signal(libc::SIGHUP);
    broker.wait_for_log(|line| line["signal"] == "SIGHUP");
    client.write_all(PINGREQ).unwrap();
    assert_eq!(read_packet(&mut client), PINGRESP);
}

#[test]
fn load_balancers_have_time_to_turn_away_and_a_second_signal_skips_it() {
    let mut broker = Broker::with_shards(1).set("drain.delay", "10m").start();
    let mut client = connect(broker.address(), 5, "client");
    broker.terminate();
    eventually("not ready", || (broker.get("/readyz").0 == 503).then_some(()));
    assert_eq!(broker.get("/livez").0, 200);
    assert_eq!(broker.get("/startupz").0, 200);
    client.write_all(PINGREQ).unwrap();
    assert_eq!(read_packet(&mut client), PINGRESP, "clients are still served");
    broker.terminate();
    assert_eq!(broker.wait().code(), Some(0));
}

/// A client that has more bytes to take than fit into sockets, and takes none.
fn stuffed_client(broker: &Broker) -> TcpStream {
    let mut client = connect(broker.address(), 4, "stuffed");
    client.write_all(&[0x82, 6, 0, 1, 0, 1, b't', 0]).unwrap();
    assert_eq!(read_packet(&mut client)[0], 0x90, "SUBACK");
    let payload = vec![0; 64 * 1024];
    let mut publish = vec![0x30, 0x83, 0x80, 0x04, 0, 1, b't'];
    publish.extend(payload);
    // What the broker cannot send on, it drops and counts in the end.
    eventually("more than it takes", || {
        client.write_all(&publish).unwrap();
        let dropped = Exposition::parse(&broker.get("/metrics").1)
            .sum("mqtt_publish_dropped_total", &["reason=\"slow_consumer\""]);
        (dropped > 0.0).then_some(())
    });
    client
}

#[test]
fn a_client_that_takes_nothing_does_not_hold_the_end() {
    let mut broker = Broker::with_shards(1).set("drain.timeout", "200ms").start();
    let _client = stuffed_client(&broker);
    let began = Instant::now();
    broker.terminate();
    assert_eq!(broker.wait().code(), Some(0));
    // The event loop gives last bytes five seconds of its own.
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[test]
fn a_second_signal_does_not_wait_for_such_a_client() {
    for delay in ["0s", "10m"] {
        let mut broker = Broker::with_shards(1).set("drain.timeout", "10m").set("drain.delay", delay).start();
        let _client = stuffed_client(&broker);
        broker.terminate();
        broker.wait_for_log(|line| line["message"] == "stopping");
        let began = Instant::now();
        broker.terminate();
        assert_eq!(broker.wait().code(), Some(0));
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    }
}

#[test]
fn the_service_manager_hears_of_start_life_and_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let next = || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).expect("a notification");
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    };
    let mut broker = Broker::with_shards(1)
        .variable("NOTIFY_SOCKET", path.to_str().unwrap())
        .variable("WATCHDOG_USEC", "100000")
        .start();
    let first = [next(), next()];
    assert!(first.contains(&"READY=1".to_owned()) && first.contains(&"WATCHDOG=1".to_owned()), "{first:?}");
    broker.terminate();
    while next() != "STOPPING=1" {}
    assert_eq!(broker.wait().code(), Some(0));
}

// ---- it does not start ----

/// Exit code and log of a broker that ends by itself.
fn refused(command: &mut Command) -> (Option<i32>, String) {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let log = Log::follow(child.stderr.take().expect("it is piped"));
    let status = wait_for_end(&mut child);
    if status.is_none() {
        child.kill().unwrap();
    }
    let status = status.unwrap_or_else(|| panic!("it runs:\n{}", log.text()));
    log.wait_for(|_| false);
    (status.code(), log.text())
}

#[test]
fn an_address_in_use_is_exit_code_1() {
    let broker = Broker::start();
    let listener = format!("tcp://{}", broker.address());
    for (option, wanted) in [("--listener", listener), ("--admin", broker.admin().to_string())] {
        let (code, log) = refused(&mut shardmq(["serve", "--cores", "1", option, &wanted]));
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains("cannot listen on"), "{log}");
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for arguments in [&["serve", "--nonsense"][..], &["nonsense"], &["serve", "--set", "novalue"], &[]] {
        let (code, log) = refused(&mut shardmq(arguments));
        assert_eq!(code, Some(2), "{arguments:?} {log}");
    }
}

#[test]
fn a_machine_that_is_too_small_is_exit_code_3_with_the_fix() {
    for (argument, value, fix) in [
        ("--set", "limits.connections_max=4000000000", "ulimit -n"),
        ("--memory", "1 MiB", "runtime.memory"),
        ("--cores", "100", "runtime.overprovisioned"),
        ("--cores", "60000-60001", "affinity"),
        ("--data-dir", "/proc/nonsense", "storage.data_dir"),
    ] {
        let (code, log) = refused(&mut shardmq(["serve", "--admin", "off", argument, value]));
        assert_eq!(code, Some(3), "{log}");
        assert!(log.contains(fix) && !log.contains("panicked"), "{log}");
    }
}

#[test]
fn too_little_locked_memory_is_exit_code_3_with_the_fix() {
    let mut command = shardmq(["serve", "--admin", "off", "--cores", "1"]);
    let limit = libc::rlimit { rlim_cur: 4096, rlim_max: 4096 };
    // SAFETY: the child calls setrlimit only, with a value that was made before the fork.
    unsafe { command.pre_exec(move || check(libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit))) };
    let (code, log) = refused(&mut command);
    assert_eq!(code, Some(3), "{log}");
    assert!(log.contains("ulimit -l") && !log.contains("panicked"), "{log}");
}

#[test]
fn forbidden_io_uring_is_exit_code_3_with_the_fix() {
    let mut command = shardmq(["serve", "--admin", "off", "--cores", "1"]);
    // SAFETY: the child calls prctl only, with values on its stack.
    unsafe { command.pre_exec(forbid_io_uring) };
    let (code, log) = refused(&mut command);
    assert_eq!(code, Some(3), "{log}");
    assert!(log.contains("seccomp") && !log.contains("panicked"), "{log}");
}

fn check(result: i32) -> std::io::Result<()> {
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// As the seccomp profile of a container does.
fn forbid_io_uring() -> std::io::Result<()> {
    let statement =
        |code: u32, jump_false: u8, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: jump_false, k };
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, libc::SYS_io_uring_setup as u32),
        statement(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        statement(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its filter live through the calls.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        check(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program))
    }
}

#[test]
fn a_data_directory_has_one_broker() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let start = || Broker::with_shards(1).argument("--data-dir").argument(&path).start();
    let mut first = start();
    let (code, log) = refused(
        shardmq(["serve", "--admin", "off", "--listener", "tcp://127.0.0.1:0", "--data-dir"]).arg(&path),
    );
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("another broker"), "{log}");
    first.terminate();
    assert_eq!(first.wait().code(), Some(0));
    drop(start());
}
