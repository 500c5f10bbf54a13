//! The HTTP endpoint with figures and health.

mod health;

use std::future::Future;
use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

pub use self::health::Health;

/// Serves until the process ends.
pub fn serve(listener: TcpListener, health: Health) -> impl Future<Output = ()> {
    let router = Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/status", get(health::ready))
        .route("/startupz", get(health::started))
        .with_state(health);
    async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the admin endpoint ended");
        }
    }
}

pub async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}
