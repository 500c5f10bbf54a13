//! Probes: does the process have to be restarted, may clients be sent here, has it started.

use std::time::Instant;

use axum::extract::State;
use axum::http::StatusCode;

use crate::health::Health;

fn answer(is_good: bool, good: &'static str, bad: &'static str) -> (StatusCode, &'static str) {
    if is_good { (StatusCode::OK, good) } else { (StatusCode::SERVICE_UNAVAILABLE, bad) }
}

pub async fn live(State(health): State<Health>) -> (StatusCode, &'static str) {
    answer(health.is_live(Instant::now()), "live\n", "a shard does not answer\n")
}

pub async fn ready(State(health): State<Health>) -> (StatusCode, &'static str) {
    let why_not = if health.is_starting() { "starting\n" } else { "stopping\n" };
    answer(health.is_serving(), "ready\n", why_not)
}

pub async fn started(State(health): State<Health>) -> (StatusCode, &'static str) {
    answer(!health.is_starting(), "started\n", "starting\n")
}
