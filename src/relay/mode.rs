//! Which way events are found: by the line, or by polling.
//!
//! In: `mode`, `shards`. Out: the relay at work, in one of them. It must stay true that `auto` is
//! decided at each start of the process before anything is created, and falls back to polling only
//! for what no waiting ends: an outage is waited for.

use std::sync::Arc;

use tokio_postgres::Client;

use super::alone::Alone;
use super::start::Context;
use super::{poll, restart, shards};
use crate::backoff::Backoff;
use crate::config::{Mode, Settings};
use crate::error::{Class, Error, Result};
use crate::postgres::{self, from_sql};
use crate::shutdown::Shutdown;
use crate::telemetry::{LastSaid, Status};

const MODE_FACTS: &str = include_str!("../../sql/queries/mode_facts.sql");

/// Relays until the wish to stop is fulfilled. An error is definite: time does not end it.
pub async fn run(settings: Arc<Settings>, shutdown: Shutdown, status: Arc<Status>) -> Result<()> {
    Box::pin(run_beside(settings, shutdown, status, Alone::default())).await
}

/// The same beside other tables, whose lines share `alone`.
pub(super) async fn run_beside(
    settings: Arc<Settings>,
    mut shutdown: Shutdown,
    status: Arc<Status>,
    alone: Alone,
) -> Result<()> {
    let (mode, reason) = match settings.mode {
        Mode::Auto => {
            let context = Context::new(Arc::clone(&settings), Arc::clone(&status))?;
            let chosen = tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(()),
                chosen = choose(&context) => chosen?,
            };
            let (mode, reason) = &chosen;
            if *mode == Mode::Poll && settings.messages {
                return Err(undeliverable(reason.as_deref().unwrap_or_default()));
            }
            tracing::info!(mode = mode.name(), reason, "mode = auto");
            chosen
        }
        mode @ (Mode::Wal | Mode::Poll) => (mode, None),
    };
    status.work_in(mode.name(), reason);
    if mode == Mode::Poll {
        return Box::pin(poll::run(settings, shutdown, status)).await;
    }
    if settings.shards.is_whole() {
        return Box::pin(restart::run(settings, shutdown, status, alone)).await;
    }
    Box::pin(shards::run(settings, shutdown, status, alone)).await
}

/// To poll would be to publish rows and lose every message without a word.
fn undeliverable(obstacle: &str) -> Error {
    Error::definite(format!(
        "messages = true, and mode = auto would poll, which finds no message: {obstacle}"
    ))
    .hint("make logical replication possible, or set messages = false and emit no messages")
}

/// Asks the server for as long as it takes.
async fn choose(context: &Context) -> Result<(Mode, Option<String>)> {
    let mut backoff = Backoff::new(context.settings.reconnect_delay_max);
    let mut said = LastSaid::default();
    loop {
        let error = match context.in_time(ask(context)).await {
            Ok(Some(obstacle)) => return Ok((Mode::Poll, Some(obstacle))),
            Ok(None) => {
                let reason = "the server and the role allow logical replication";
                return Ok((Mode::Wal, Some(reason.to_owned())));
            }
            Err(error) => error,
        };
        context.status.failed(&error);
        if matches!(error.class(), Class::Definite | Class::Usage) {
            return Err(error);
        }
        let text = error.to_string();
        if said.is_news(&text) {
            tracing::warn!(error = text, hint = error.next_step(), "cannot choose a mode yet");
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

async fn ask(context: &Context) -> Result<Option<String>> {
    let client = context.target.sql().await?;
    // A standby, or a server that is too old for either mode.
    postgres::facts_without_wal(&client).await?;
    obstacle(&client, &context.settings).await
}

/// What stands against logical replication for good.
pub async fn obstacle(client: &Client, settings: &Settings) -> Result<Option<String>> {
    let doing = "cannot ask whether the server allows logical replication";
    let Settings { shards, slot_base, .. } = settings;
    let slots: Vec<String> = shards.here().map(|shard| shard.name(slot_base)).collect();
    let row =
        client.query_one(MODE_FACTS, &[&slots]).await.map_err(|error| from_sql(doing, error))?;
    let product: String = row.get("product");
    if !product.starts_with("PostgreSQL ") || product.contains("-YB-") {
        let name = product.split([' ', ',']).next().unwrap_or_default();
        return Ok(Some(format!("the server is no PostgreSQL with pgoutput: {name}")));
    }
    let wal_level: String = row.get("wal_level");
    if wal_level != "logical" {
        return Ok(Some(format!("wal_level = {wal_level}")));
    }
    if !row.get::<_, bool>("may_replicate") {
        let role: String = row.get("role");
        return Ok(Some(format!("role {role:?} has no REPLICATION attribute")));
    }
    let (slots, slots_max): (i32, i32) = (row.get("slots"), row.get("slots_max"));
    let missing: i32 = row.get("missing");
    if missing > slots_max.saturating_sub(slots) {
        return Ok(Some(format!("no free replication slot (max_replication_slots = {slots_max})")));
    }
    let (senders, senders_max): (i32, i32) = (row.get("senders"), row.get("senders_max"));
    if !row.get::<_, bool>("is_active") && senders >= senders_max {
        return Ok(Some(format!("no free walsender (max_wal_senders = {senders_max})")));
    }
    Ok(None)
}
