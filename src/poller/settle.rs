//! What becomes of claimed rows, as SQL inside the transaction of their claim.
//!
//! In: a [`Settlement`], one line for each row. Out: the rows, changed by one statement for each
//! kind. It must stay true that this runs only when what was written to Redis is safe there
//! ([`super::Assurance`]), and in the transaction that holds the rows.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Statement};

use crate::config::{AfterPublish, Outbox};
use crate::error::Result;
use crate::postgres::from_sql;

const SETTLE_DELIVERED: &str = include_str!("../../sql/queries/settle_delivered.sql");
const SETTLE_DELETED: &str = include_str!("../../sql/queries/settle_deleted.sql");
const SETTLE_PARKED: &str = include_str!("../../sql/queries/settle_parked.sql");
const SETTLE_DEAD: &str = include_str!("../../sql/queries/settle_dead.sql");

/// Whether a slot may send an event again after its row was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// There is one: what a relay has parked stays known until the slot has passed it.
    Replays,
    /// There is none.
    None,
}

/// A row that stays parked, or becomes so.
#[derive(Debug)]
pub struct Parked {
    /// Of the row.
    pub id: i64,
    /// Attempts that ended with a refusal.
    pub attempts: u32,
    /// Attempts that were begun.
    pub started: u32,
    /// Seconds until the next; none leaves next_attempt_at as it is, or makes it now.
    pub pause: Option<f64>,
    /// Why; none leaves what is there.
    pub message: Option<String>,
    /// Its place in the claim, in order.
    pub place: usize,
}

/// What a round's rows become.
#[derive(Debug, Default)]
pub struct Settlement {
    delivered: Vec<i64>,
    parked: Vec<Parked>,
    dead: (Vec<i64>, Vec<i32>, Vec<String>),
}

impl Settlement {
    /// It is in its stream.
    pub fn deliver(&mut self, id: i64) {
        self.delivered.push(id);
    }

    /// It is parked.
    pub fn park(&mut self, row: Parked) {
        self.parked.push(row);
    }

    /// Its dead letter is written.
    pub fn bury(&mut self, id: i64, attempts: u32, message: String) {
        self.dead.0.push(id);
        self.dead.1.push(whole(attempts));
        self.dead.2.push(message);
    }

    /// Whether Redis was written to: that must be safe before this is settled.
    #[must_use]
    pub fn has_written(&self) -> bool {
        !self.delivered.is_empty() || !self.dead.0.is_empty()
    }

    /// Every row in it.
    pub fn ids(&self) -> impl Iterator<Item = i64> {
        let parked = self.parked.iter().map(|row| row.id);
        self.delivered.iter().chain(&self.dead.0).copied().chain(parked)
    }

    /// Rows that are in their streams.
    #[must_use]
    pub fn delivered(&self) -> usize {
        self.delivered.len()
    }

    /// The first row that is dead, and why.
    #[must_use]
    pub fn first_death(&self) -> Option<(i64, &str)> {
        Some((*self.dead.0.first()?, self.dead.2.first()?))
    }

    /// Rows that are dead.
    #[must_use]
    pub fn dead(&self) -> usize {
        self.dead.0.len()
    }

    /// Rows that stay parked, or become so.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.parked.len()
    }
}

/// The statements, prepared in one session.
pub struct Settler {
    slot: Slot,
    delivered: Statement,
    deleted: Option<Statement>,
    parked: Statement,
    dead: Statement,
}

impl Settler {
    /// Prepares the statements in the session of `client`.
    pub async fn prepare(
        client: &Client,
        table: &Outbox,
        after_publish: AfterPublish,
        slot: Slot,
    ) -> Result<Self> {
        let doing = format!("cannot prepare settling rows of {table}");
        let prepare = async |sql: &str, types: &[Type]| {
            let prepared = client.prepare_typed(&table.sql(sql), types).await;
            prepared.map_err(|error| from_sql(&doing, error))
        };
        let ids = [Type::INT8_ARRAY, Type::BOOL];
        let deleted = match after_publish {
            AfterPublish::Delete => Some(prepare(SETTLE_DELETED, &ids).await?),
            // A parked row is marked even where others are kept as they are: it would be due for
            // ever.
            AfterPublish::Mark | AfterPublish::Keep => None,
        };
        Ok(Self {
            slot,
            delivered: prepare(SETTLE_DELIVERED, &ids).await?,
            deleted,
            parked: prepare(SETTLE_PARKED, &[]).await?,
            dead: prepare(SETTLE_DEAD, &[]).await?,
        })
    }

    /// Settles the rows. To be called in the transaction that claimed them.
    pub async fn settle(&self, client: &Client, settlement: &Settlement) -> Result<()> {
        let Settlement { delivered, parked, dead } = settlement;
        let is_free = self.slot == Slot::None;
        let failed = |error| from_sql("cannot settle claimed rows", error);
        if !delivered.is_empty() {
            if let Some(deleted) = &self.deleted {
                client.execute(deleted, &[delivered, &is_free]).await.map_err(failed)?;
            }
            if self.deleted.is_none() || !is_free {
                client.execute(&self.delivered, &[delivered, &is_free]).await.map_err(failed)?;
            }
        }
        if !parked.is_empty() {
            let ids: Vec<i64> = parked.iter().map(|row| row.id).collect();
            let attempts: Vec<i32> = parked.iter().map(|row| whole(row.attempts)).collect();
            let started: Vec<i32> = parked.iter().map(|row| whole(row.started)).collect();
            let pauses: Vec<Option<f64>> = parked.iter().map(|row| row.pause).collect();
            let messages: Vec<Option<&str>> =
                parked.iter().map(|row| row.message.as_deref()).collect();
            let places: Vec<i32> =
                parked.iter().map(|row| i32::try_from(row.place).unwrap_or(i32::MAX)).collect();
            client
                .execute(&self.parked, &[&ids, &attempts, &started, &pauses, &messages, &places])
                .await
                .map_err(failed)?;
        }
        if !dead.0.is_empty() {
            let (ids, attempts, messages) = dead;
            client
                .execute(&self.dead, &[ids, attempts, messages, &is_free])
                .await
                .map_err(failed)?;
        }
        Ok(())
    }
}

fn whole(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
