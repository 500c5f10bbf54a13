//! One connection between orchestrator and runner: lines of JSON.

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// A longer line is refused. A run of ten million flows has lines of about 200 MB.
const LINE_MAX_BYTES: u64 = 1 << 30;

pub struct Link {
    input: BufReader<TcpStream>,
    output: TcpStream,
}

impl Link {
    pub fn new(stream: TcpStream) -> Result<Link> {
        stream.set_nodelay(true)?;
        Ok(Link { input: BufReader::new(stream.try_clone()?), output: stream })
    }

    pub fn send(&mut self, message: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.output.write_all(&line).context("cannot send")
    }

    /// The next message; None at the end of the connection.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let mut line = vec![];
        (&mut self.input).take(LINE_MAX_BYTES).read_until(b'\n', &mut line).context("cannot receive")?;
        match line.last() {
            None => Ok(None),
            Some(b'\n') => {
                Ok(Some(serde_json::from_slice(&line).context("a message that is not understood")?))
            }
            Some(_) => bail!("a message was cut off"),
        }
    }
}
