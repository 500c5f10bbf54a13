//! Start, health, stop, exit codes of the process.

mod support;

use support::{Broker, shardmq};

#[test]
fn it_serves_on_free_ports_and_stops_in_order() {
    let mut broker = Broker::with_shards(2).listeners(&["tcp://127.0.0.1:0", "tcp://[::1]:0"]).start();
    let addresses = broker.addresses();
    let names: Vec<&str> = addresses.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["tcp", "tcp-2"]);
    assert_eq!(broker.ready()["shards"], 2);
    for (_, address) in &addresses {
        std::net::TcpStream::connect(address).expect("a listener listens");
    }
    for path in ["/livez", "/readyz", "/status", "/startupz"] {
        assert_eq!(broker.get(path).0, 200, "{path}");
    }
    broker.terminate();
    assert_eq!(broker.wait().code(), Some(0));
}

#[test]
fn an_address_in_use_is_exit_code_1() {
    let broker = Broker::start();
    for (option, wanted) in
        [("--listener", format!("tcp://{}", broker.address())), ("--admin", broker.admin().to_string())]
    {
        let output = shardmq(["serve", "--cores", "1", option, &wanted]).output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(log.contains("cannot listen on"), "{log}");
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for arguments in [&["serve", "--nonsense"][..], &["nonsense"], &["serve", "--set", "novalue"], &[]] {
        assert_eq!(shardmq(arguments).output().unwrap().status.code(), Some(2), "{arguments:?}");
    }
}
