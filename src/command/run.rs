//! `walrelay run`: the relay, its pages, and the signals that end it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Settings;
use crate::deadletters;
use crate::error::Result;
use crate::relay;
use crate::shutdown::Shutdown;
use crate::telemetry::{self, Board, Spans, Status};

/// What the last spans may take, within `shutdown_grace`: a collector that is away must not keep a
/// relay that is restarted from its work.
const SPANS_TIMEOUT: Duration = Duration::from_secs(2);

/// Relays each table until SIGTERM or SIGINT. What is the process's is the same in all of them.
pub async fn run(all: Vec<Settings>) -> Result<()> {
    let all = all.into_iter().map(Settings::with_contract).collect::<Result<Vec<_>>>()?;
    let Some(process) = all.first().cloned() else { return Ok(()) };
    let shutdown = Shutdown::on_signals()?;
    let (spans, grace, wish) = (Spans::start(), process.shutdown_grace, shutdown.clone());
    let status = |settings: &Settings| {
        let status = Status::new(settings.table.clone(), spans.clone());
        Arc::new(status.counting(settings.contract.clone()))
    };
    let statuses: Vec<Arc<Status>> = all.iter().map(status).collect();
    if process.http_port != 0 {
        let address = SocketAddr::new(process.http_address, process.http_port);
        let dead = deadletters::routes(&all, &process);
        telemetry::serve(address, Arc::new(Board::new(statuses.clone())), dead).await?;
        tracing::debug!(address = %address, "pages are served");
    }
    let tables: Vec<(Arc<Settings>, Arc<Status>)> =
        all.into_iter().map(Arc::new).zip(statuses).collect();
    let ended = match tables.as_slice() {
        [(settings, status)] if settings.table.is_none() => {
            Box::pin(relay::run(Arc::clone(settings), shutdown, Arc::clone(status))).await
        }
        _ => Box::pin(relay::run_tables(tables, shutdown)).await,
    };
    spans.finish(grace.saturating_sub(wish.requested_for()).min(SPANS_TIMEOUT)).await;
    ended?;
    tracing::info!("stopped");
    Ok(())
}
