//! Real brokers, where the machine has them.

use crate::run::scenario;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A mosquitto process that ends with the test.
struct Mosquitto {
    child: Child,
    port: u16,
}

impl Mosquitto {
    /// None if it is not installed.
    fn start() -> Option<Mosquitto> {
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let path = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"]
            .into_iter()
            .find(|path| std::path::Path::new(path).exists())?;
        let child = Command::new(path)
            .args(["-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it is installed");
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not listen");
            std::thread::yield_now();
        }
        Some(Mosquitto { child, port })
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn mosquitto_passes() {
    let Some(mosquitto) = Mosquitto::start() else {
        eprintln!("mosquitto is not installed: nothing to test");
        return;
    };
    let pid = mosquitto.child.id();
    for args in [
        "p2p --pairs 10 --count 2000 -q 2 -V 5",
        "fan-in --publishers 10 --count 2000 -q 1 -V 3.1",
        "fan-out --subscribers 50 --count 100 -q 1",
        "share --publishers 10 --count 2000",
        "wildcard --publishers 50 --subscribers 50 --count 500",
        "retained --topics 500 -q 1 -V 5",
        "offline --sessions 10 --messages 50 -q 2 -V 5",
        "conn -c 200 --hold 0",
    ] {
        let ran = scenario(mosquitto.port, &format!("{args} --broker-pid {pid}"));
        ran.assert_passed();
        assert!(ran.number("broker.cpu_ns") > 0, "{args}");
    }
}
