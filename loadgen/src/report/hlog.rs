//! The latencies of each second in the log format of HdrHistogram, which its tools read and plot.

use crate::latency::Latencies;
use anyhow::{Context, Result};
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriter, IntervalLogWriterBuilder};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub struct Hlog {
    path: PathBuf,
    out: BufWriter<File>,
    has_header: bool,
    failed: Option<anyhow::Error>,
}

impl Hlog {
    pub fn create(path: &Path) -> Result<Hlog> {
        let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Hlog { path: path.to_owned(), out: BufWriter::new(file), has_header: false, failed: None })
    }

    /// Appends one second, which began so long after the run; values in nanoseconds. An error ends the log, not
    /// the run, and `finish` tells it.
    pub fn write(&mut self, from: Duration, length: Duration, latencies: &Latencies) {
        if self.failed.is_none() {
            self.failed = self.try_write(from, length, latencies).err();
        }
    }

    fn try_write(&mut self, from: Duration, length: Duration, latencies: &Latencies) -> Result<()> {
        let mut serializer = V2DeflateSerializer::new();
        let mut builder = IntervalLogWriterBuilder::new();
        if !std::mem::replace(&mut self.has_header, true) {
            builder.with_start_time(SystemTime::now() - from);
            builder.add_comment("delivery latencies in nanoseconds");
        }
        let mut writer: IntervalLogWriter<'_, '_, _, _> =
            builder.begin_log_with(&mut self.out, &mut serializer).context("cannot write")?;
        writer.write_histogram(latencies, from, length, None).context("cannot write")
    }

    pub fn finish(mut self) -> Result<()> {
        let written = match self.failed.take() {
            Some(error) => Err(error),
            None => self.out.flush().context("cannot write"),
        };
        written.with_context(|| self.path.display().to_string())
    }
}
