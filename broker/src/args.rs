//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{Assignment, Sources};

/// An MQTT broker for many cores.
#[derive(Debug, Parser)]
#[command(name = "shardmq", version, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the broker until SIGTERM or SIGINT.
    Serve(ConfigArguments),
    /// Tells about the configuration without running anything.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Tells what of this machine hinders the broker or spoils a test, and the fix; exit code 5 if something fails.
    Check(crate::check::CheckArguments),
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Tells all faults; exit code 3 if there are any.
    Check(ConfigArguments),
    /// Prints what would be in force.
    Print {
        #[command(flatten)]
        arguments: ConfigArguments,
        /// Says of each value where it comes from.
        #[arg(long)]
        origin: bool,
    },
    /// Prints every option with its default and what it means.
    Defaults {
        #[arg(long, value_enum, default_value_t)]
        format: DefaultsFormat,
    },
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum DefaultsFormat {
    /// A file to start from.
    #[default]
    Commented,
    /// The manual's chapter.
    Markdown,
}

/// Where the configuration comes from.
#[derive(Debug, Args)]
pub struct ConfigArguments {
    /// File with options (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets one option, such as mqtt.packet_size_max="64 KiB"; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_assignment)]
    set: Vec<(String, String)>,
    /// Listens here, and on no listener of the file; may be repeated.
    #[arg(long, value_name = "KIND://ADDR:PORT")]
    listener: Vec<String>,
    /// Cores of the shards.
    #[arg(long, value_name = "auto|N|LIST")]
    cores: Option<String>,
    /// Memory of the process.
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Directory of the broker's own files.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Address of figures and health.
    #[arg(long, value_name = "ADDR:PORT|off")]
    admin: Option<String>,
}

fn parse_assignment(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

impl ConfigArguments {
    /// With the environment of this process.
    pub fn sources(self) -> Sources {
        let set =
            self.set.into_iter().map(|(key, value)| Assignment { flag: format!("--set {key}"), key, value });
        let short = [
            ("--cores", "runtime.cores", self.cores),
            ("--memory", "runtime.memory", self.memory),
            ("--data-dir", "storage.data_dir", self.data_dir),
            ("--admin", "admin.address", self.admin),
        ];
        let short = short.into_iter().filter_map(|(flag, key, value)| {
            value.map(|value| Assignment { flag: flag.to_owned(), key: key.to_owned(), value })
        });
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        });
        Sources {
            file: self.config,
            variables: variables.collect(),
            assignments: set.chain(short).collect(),
            listeners: self.listener,
        }
    }
}
