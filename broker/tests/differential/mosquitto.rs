//! mosquitto as Debian packages it, on a free port, with bounds out of the way.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::support::eventually;

pub struct Mosquitto {
    child: Child,
    address: SocketAddr,
    _configuration: tempfile::NamedTempFile,
}

impl Mosquitto {
    pub fn start() -> Mosquitto {
        // It cannot choose a port itself.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = free.local_addr().expect("it is bound");
        drop(free);
        let mut configuration = tempfile::NamedTempFile::new().expect("a temporary file");
        write!(
            configuration,
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n\
             max_inflight_messages 1000\nmax_queued_messages 100000\nlog_dest none\n",
            address.port()
        )
        .expect("it is written");
        // Debian puts it where only root looks.
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let child = Command::new("mosquitto")
            .env("PATH", path)
            .arg("-c")
            .arg(configuration.path())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto is installed: ./.ci/test does it");
        eventually("mosquitto listens", || TcpStream::connect(address).ok());
        Mosquitto { child, address, _configuration: configuration }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
