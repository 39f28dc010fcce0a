//! Which slot a replay out of the WAL copies.
//!
//! In: a bookmark, or an LSN. Out: a slot that stands there or before. It must stay true that an
//! LSN which no slot of ours has kept is refused, with what there is instead: a copy begins where
//! its slot stands, and what is before that would be missing in silence.

use tokio_postgres::Client;

use crate::config::{Outbox, Settings};
use crate::error::{Error, Result};
use crate::lsn::Lsn;
use crate::postgres::{self, Standpoint, from_sql};

const OUTBOX_EXTENT: &str = include_str!("../../sql/queries/outbox_extent.sql");

/// The slot of a bookmark that can still be read.
pub(super) async fn of_bookmark(
    client: &Client,
    name: &str,
    (database, table): (&str, &Outbox),
) -> Result<Standpoint> {
    postgres::need_bookmark(client, name, database).await?;
    let slot = postgres::bookmark_slot(name);
    let found = postgres::standpoints(client).await?;
    let Some(standpoint) = found.into_iter().find(|found| found.slot == slot) else {
        return Err(Error::transient(format!("bookmark {name:?} was dropped just now")));
    };
    if standpoint.is_lost {
        let instead = instead(client, table).await;
        return Err(Error::definite(format!(
            "bookmark {name:?} is lost: PostgreSQL has removed WAL that it needed \
             (max_slot_wal_keep_size)"
        ))
        .hint(format!("drop it (`walrelay bookmark drop {name}`); {instead}")));
    }
    Ok(standpoint)
}

/// The slot of the line, or the bookmark, that stands nearest before `lsn`.
pub(super) async fn before(client: &Client, lsn: Lsn, settings: &Settings) -> Result<Standpoint> {
    let line: Vec<String> =
        settings.shards.all().map(|shard| shard.name(&settings.slot_base)).collect();
    let mut ours: Vec<Standpoint> = postgres::standpoints(client).await?;
    ours.retain(|slot| !slot.is_lost && (slot.bookmark().is_some() || line.contains(&slot.slot)));
    let oldest = ours.iter().min_by_key(|slot| slot.confirmed).cloned();
    let nearest = ours.into_iter().filter(|slot| slot.confirmed <= lsn);
    if let Some(slot) = nearest.max_by_key(|slot| slot.confirmed) {
        return Ok(slot);
    }
    let kept = match oldest {
        Some(slot) => format!(
            "the oldest LSN that a slot of ours can send is {} ({})",
            slot.confirmed,
            told(&slot)
        ),
        None => format!("there is neither a bookmark nor a slot {:?}", settings.slot_base),
    };
    let instead = instead(client, &settings.outbox_table).await;
    Err(Error::definite(format!("the server can no longer send what is behind {lsn}: {kept}"))
        .hint(instead))
}

fn told(slot: &Standpoint) -> String {
    match slot.bookmark() {
        Some(name) => format!("bookmark {name}"),
        None => format!("slot {}", slot.slot),
    }
}

/// What the table can give in place of the WAL, as a hint.
async fn instead(client: &Client, table: &Outbox) -> String {
    let sql = table.sql(OUTBOX_EXTENT);
    match client.query_one(&sql, &[]).await {
        Ok(row) => {
            let (rows, oldest): (i64, Option<String>) = (row.get("rows"), row.get("oldest"));
            match oldest {
                Some(oldest) => format!(
                    "table {table} still holds {rows} rows, the oldest of {oldest}: `walrelay \
                     replay --since {oldest}` sends them in the order of id"
                ),
                None => format!("table {table} holds no rows that could be sent instead"),
            }
        }
        Err(error) => {
            tracing::debug!(error = %from_sql("cannot count the rows", error), "no extent");
            format!("`walrelay replay --since TIME` sends what table {table} still holds")
        }
    }
}
