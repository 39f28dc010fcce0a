//! `walrelay run`: the relay, its pages, and the signals that end it.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::Settings;
use crate::deadletters;
use crate::error::Result;
use crate::relay;
use crate::shutdown::Shutdown;
use crate::telemetry::{self, Status};

/// Relays until SIGTERM or SIGINT.
pub async fn run(settings: Settings) -> Result<()> {
    let shutdown = Shutdown::on_signals()?;
    let status = Arc::new(Status::default());
    if settings.http_port != 0 {
        let address = SocketAddr::new(settings.http_address, settings.http_port);
        let dead = deadletters::routes(&settings, settings.http_address);
        telemetry::serve(address, Arc::clone(&status), dead).await?;
        tracing::debug!(address = %address, "pages are served");
    }
    Box::pin(relay::run(Arc::new(settings), shutdown, status)).await?;
    tracing::info!("stopped");
    Ok(())
}
