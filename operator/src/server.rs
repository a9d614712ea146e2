//! `/healthz`, `/readyz` and `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::metrics::Metrics;

/// What the answers are made of.
#[derive(Clone)]
pub(crate) struct Health {
    pub(crate) metrics: Arc<Metrics>,
    /// The API server was reached.
    pub(crate) ready: Arc<AtomicBool>,
}

/// Serves until the process ends.
///
/// # Errors
/// If the address cannot be listened on.
pub(crate) async fn serve(address: SocketAddr, health: Health) -> std::io::Result<()> {
    axum::serve(TcpListener::bind(address).await?, router(health)).await
}

fn router(health: Health) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health)
}

async fn ready(State(health): State<Health>) -> impl IntoResponse {
    if health.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the API server was not reached yet")
    }
}

async fn metrics(State(health): State<Health>) -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    match health.metrics.text() {
        Ok(text) => (StatusCode::OK, kind, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, kind, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::metrics::Progress;

    async fn ask(health: &Health, path: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(axum::serve(listener, router(health.clone())).into_future());
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        server.abort();
        answer
    }

    fn health() -> Health {
        Health { metrics: Arc::new(Metrics::new()), ready: Arc::new(AtomicBool::new(false)) }
    }

    #[tokio::test]
    async fn the_process_is_ready_once_the_api_server_was_reached() {
        let health = health();
        assert!(ask(&health, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(ask(&health, "/readyz").await.starts_with("HTTP/1.1 503"));
        health.ready.store(true, Ordering::Relaxed);
        assert!(ask(&health, "/readyz").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn metrics_count_nodes_and_name_none() {
        let health = health();
        health.metrics.count([Progress::Settled, Progress::Settled, Progress::Failed].into_iter());
        let answer = ask(&health, "/metrics").await;
        assert!(answer.contains("kwasm_nodes{progress=\"Settled\"} 2"), "{answer}");
        assert!(answer.contains("kwasm_api_writes_total 0"), "{answer}");
    }
}
