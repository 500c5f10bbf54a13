//! The interoperability table with rumqttc. It runs in a process of its own, as the other libraries do: this test
//! binary, told so by the environment, with port, version and rows as its arguments.

mod peer;
mod rows;
mod rows_v5;

use std::process::Command;

use crate::judges::Version;

const TOLD: &str = "SHARDMQ_TEST_JUDGE";

pub fn command() -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.env(TOLD, "rumqttc");
    command
}

pub fn is_wanted() -> bool {
    std::env::var(TOLD).is_ok_and(|judge| judge == "rumqttc")
}

/// What a row is given.
#[derive(Clone, Copy)]
struct Scene {
    port: u16,
    version: Version,
}

type Row = (&'static str, fn(Scene));

/// All rows at once: most of them only wait. A row is a thread of its name, and fails by a panic.
pub fn main() {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().and_then(|port| port.parse().ok()).expect("a port");
    let version = match arguments.next().as_deref() {
        Some("311") => Version::V311,
        Some("5") => Version::V5,
        other => panic!("rumqttc does not speak {other:?}"),
    };
    let wanted: Vec<_> = arguments.collect();
    std::panic::set_hook(Box::new(|info| {
        let why = info.to_string().replace(['\n', '\t'], " ");
        println!("{}\tfailed\t{why}", std::thread::current().name().unwrap_or("?"));
    }));
    let newer: &[Row] = if version == Version::V5 { rows_v5::ROWS } else { &[] };
    let rows = rows::ROWS.iter().chain(newer);
    let chosen = rows.filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name));
    let threads: Vec<_> = chosen
        .map(|&(name, row)| {
            let run = move || {
                row(Scene { port, version });
                println!("{name}\tok");
            };
            std::thread::Builder::new().name(name.to_owned()).spawn(run).expect("a thread")
        })
        .collect();
    for thread in threads {
        // Its panic is reported.
        let _ = thread.join();
    }
}
