//! Runs the load generator's binary against brokers whose faults are known, and reads what it reports.

mod brokers;
mod command_line;
mod double;
mod emqtt;
mod fleet;
mod run;
mod scenarios;
mod tbmq;
mod verdicts;
