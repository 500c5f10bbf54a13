//! The HTTP endpoint with figures and health. It is served by the control thread and never waits on it: what has to ask
//! the shards does so on a thread of the blocking pool.

mod figures;
mod health;

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::health::Health;
use crate::monitoring::Monitor;

/// Serves until the process ends. The monitor is there when the shards run.
pub async fn serve(listener: TcpListener, health: Health, monitor: Arc<OnceLock<Monitor>>) {
    let probes = Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/status", get(health::ready))
        .route("/startupz", get(health::started))
        .with_state(health);
    let figures = Router::new()
        .route("/metrics", get(figures::metrics))
        .route("/api/v1/stats", get(figures::stats))
        .with_state(monitor);
    if let Err(error) = axum::serve(listener, probes.merge(figures)).await {
        tracing::error!(%error, "the admin endpoint ended");
    }
}
