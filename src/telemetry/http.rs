//! The pages: /livez, /readyz, /status and /metrics; and asking another walrelay for one.
//!
//! In: [`Status`]. Out: HTTP/1.1. Everything is read-only and answered from memory, so a page never
//! waits for a server. Loopback unless told otherwise; there is nothing secret on them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::status::Status;
use crate::error::{Error, Result};

/// What OpenMetrics calls itself (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// An answer longer than this is not one of ours.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

const INDEX: &str = "walrelay\n\n/livez    is the process alive\n\
                     /readyz   does it stream, or stand by\n\
                     /status   everything it knows, JSON\n/metrics  the numbers, OpenMetrics\n";

/// Binds `address` and serves the pages until the process ends.
pub async fn serve(address: SocketAddr, status: Arc<Status>) -> Result<()> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Error::definite(format!("cannot serve /status and /metrics on {address}"))
            .because(error)
            .hint("choose another http_port, or 0 for no pages")
    })?;
    let router = Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/status", get(document))
        .route("/metrics", get(metrics))
        .with_state(status);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(error = %error, "the pages are gone");
        }
    });
    Ok(())
}

async fn readyz(Shared(status): Shared<Arc<Status>>) -> Response {
    let state = status.state();
    let code = if state.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, format!("{}\n", state.name())).into_response()
}

async fn document(Shared(status): Shared<Arc<Status>>) -> Response {
    let mut text = format!("{:#}", status.document());
    text.push('\n');
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn metrics(Shared(status): Shared<Arc<Status>>) -> Response {
    ([(header::CONTENT_TYPE, OPENMETRICS)], status.metrics.page(&status)).into_response()
}

/// Asks the walrelay at `address` for a page: status code and body. For `walrelay health`, which
/// runs in containers that have no curl.
pub async fn ask(address: SocketAddr, path: &str, timeout: Duration) -> Result<(u16, String)> {
    let failed = || Error::definite(format!("no answer from walrelay at http://{address}{path}"));
    let asking = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = tokio::time::timeout(timeout, asking)
        .await
        .map_err(|_| failed().because(format!("it took longer than {timeout:?}")))?
        .map_err(|error| failed().because(error).hint("is it running, with this http_port?"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let code = code.ok_or_else(|| failed().because("what answers there speaks no HTTP"))?;
    Ok((code, body.to_owned()))
}
