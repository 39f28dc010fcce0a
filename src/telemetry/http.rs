//! The pages: /livez, /readyz, /status and /metrics; and asking another walrelay for one.
//!
//! In: a [`Board`], and the routes of whoever serves more. Out: HTTP/1.1. Everything of our own is
//! read-only and answered from memory, so it never waits for a server. Loopback unless told
//! otherwise; there is nothing secret in it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{StatusCode, Uri, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::board::Board;
use super::connections::Door;
use super::page;
use super::rates;
use crate::error::{Error, Result};

/// What OpenMetrics calls itself (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Of an answer that is asked for, so much is read. The longest of ours is /status, with the curve
/// of five minutes, 64 streams and 16 shards: well below 60 kB unless names are very long.
pub(super) const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// What asks for one table, in an address.
const TABLE: &str = "table=";

/// Binds `address` and serves the pages, and `more`, until the process ends.
pub async fn serve(address: SocketAddr, board: Arc<Board>, more: Router) -> Result<()> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Error::definite(format!("cannot serve /status and /metrics on {address}"))
            .because(error)
            .hint("choose another http_port, or 0 for no pages")
    })?;
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/status", get(document))
        .route("/metrics", get(metrics))
        .with_state(Arc::clone(&board))
        .merge(page::routes())
        .merge(more)
        .layer(map_response(page::guarded));
    for status in board.each() {
        tokio::spawn(rates::watch(Arc::clone(status)));
    }
    tokio::spawn(async move {
        if let Err(error) = axum::serve(Door::new(listener), router).await {
            tracing::error!(error = %error, "the pages are gone");
        }
    });
    Ok(())
}

async fn readyz(Shared(board): Shared<Arc<Board>>, uri: Uri) -> Response {
    let readiness = match board.asked(uri.query()) {
        Ok(Some(status)) => status.readiness(),
        Ok(None) => board.readiness(),
        Err(unknown) => return no_table(unknown),
    };
    let (code, text) = match readiness {
        Ok(word) => (StatusCode::OK, word),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
    };
    (code, format!("{text}\n")).into_response()
}

async fn document(Shared(board): Shared<Arc<Board>>, uri: Uri) -> Response {
    let document = match board.asked(uri.query()) {
        Ok(Some(status)) => status.document(),
        Ok(None) => board.document(),
        Err(unknown) => return no_table(unknown),
    };
    let mut text = format!("{document:#}");
    text.push('\n');
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn metrics(Shared(board): Shared<Arc<Board>>) -> Response {
    ([(header::CONTENT_TYPE, OPENMETRICS)], board.numbers()).into_response()
}

fn no_table(unknown: String) -> Response {
    (StatusCode::NOT_FOUND, unknown + "\n").into_response()
}

/// The path of a page, for one of several tables or for all.
#[must_use]
pub fn path_of(page: &str, table: Option<&str>) -> String {
    table.map_or_else(|| page.to_owned(), |table| format!("{page}?{TABLE}{table}"))
}

/// The table that the query of such a path asks for.
#[must_use]
pub fn table_of(query: Option<&str>) -> Option<&str> {
    query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix(TABLE))
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
        let most = u64::try_from(ANSWER_BYTES_MAX).unwrap_or(u64::MAX);
        stream.take(most).read_to_end(&mut answer).await?;
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
