//! Figures for machines.

use std::sync::{Arc, OnceLock};

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::monitoring::{Monitor, blocking, prometheus, stats};

pub async fn metrics(State(monitor): State<Arc<OnceLock<Monitor>>>) -> Response {
    let text = ask(&monitor, |monitor| prometheus::scrape(&monitor)).await;
    let answer = text.map(|text| text.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR));
    let answer =
        answer.map(|text| text.map(|text| ([(header::CONTENT_TYPE, prometheus::CONTENT_TYPE)], text)));
    answer.into_response()
}

pub async fn stats(State(monitor): State<Arc<OnceLock<Monitor>>>) -> Response {
    ask(&monitor, |monitor| stats::collect(&monitor)).await.map(Json).into_response()
}

/// Away from the control thread, because shards are waited for. 503 before they run.
async fn ask<T: Send + 'static>(
    monitor: &OnceLock<Monitor>,
    question: impl FnOnce(Monitor) -> T + Send + 'static,
) -> Result<T, StatusCode> {
    let monitor = monitor.get().cloned().ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
    blocking(move || question(monitor)).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}
