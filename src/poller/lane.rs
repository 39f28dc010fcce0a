//! A lane: one SQL connection, in which one round after the other claims rows and settles them.
//!
//! In: a [`Table`]. Out: what its statements say. It must stay true that whoever drops a lane ends
//! its session, and with it the turn, the claim and the transaction: a lane is never used again
//! after a failure.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row as SqlRow, RowStream, Statement};

use super::floor::Look;
use super::settle::{Settlement, Settler, Slot};
use super::table::Table;
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::postgres::{self, Target, from_sql, is_lock_conflict};
use crate::sink::LEASE;

const WRITERS: &str = include_str!("../../sql/queries/poll_writers.sql");

/// Somebody who has the turn for longer than this may not write what he claimed.
const TURN_MAX: Duration = Duration::from_secs(LEASE.as_secs() + 5);

/// What a look saw besides ids and writers.
#[derive(Debug, Default)]
pub struct Seen {
    /// For the floor.
    pub look: Look,
    /// Whether a relay has parked anything.
    pub has_parked: bool,
    /// Whether there are rounds that were delivered to another run of Redis.
    pub has_foreign_rounds: bool,
}

/// A session with its statements.
pub struct Lane {
    client: Client,
    begin: String,
    give_turn: Option<String>,
    end_turn: Statement,
    look: Statement,
    claim: Statement,
    claim_ids: Statement,
    claimed: Statement,
    claimed_without_payload: Statement,
    parked: Option<Statement>,
    mark: Statement,
    settler: Option<Settler>,
    /// Whether the session has the turn.
    has_turn: bool,
}

impl Lane {
    /// Connects and prepares.
    pub async fn open(target: &Target, settings: &Settings, table: &Table) -> Result<Self> {
        let client = target.sql().await?;
        set_up(&client).await?;
        let doing = format!("cannot prepare polling table {}", settings.outbox_table);
        let prepare = async |sql: &str, types: &[Type]| {
            let prepared = client.prepare_typed(sql, types).await;
            prepared.map_err(|error| from_sql(&doing, error))
        };
        let range = [Type::INT8, Type::INT8, Type::INT8];
        let parked = match &table.parked {
            Some(sql) => Some(prepare(sql, &[]).await?),
            None => None,
        };
        let settler = match &parked {
            Some(_) => {
                let (name, after) = (&settings.outbox_table, settings.after_publish);
                Some(Settler::prepare(&client, name, after, Slot::None).await?)
            }
            None => None,
        };
        Ok(Self {
            begin: table.begin.clone(),
            give_turn: table.give_turn.clone(),
            end_turn: prepare(&table.end_turn, &[Type::FLOAT8]).await?,
            look: prepare(&table.look, &[Type::INT8]).await?,
            claim: prepare(&table.claim, &range).await?,
            claim_ids: prepare(&table.claim_ids, &range).await?,
            claimed: prepare(&table.claimed, &[Type::INT8]).await?,
            claimed_without_payload: prepare(&table.claimed_without_payload, &[Type::INT8]).await?,
            parked,
            mark: prepare(&table.mark, &[Type::INT8_ARRAY]).await?,
            settler,
            client,
            has_turn: false,
        })
    }

    /// A look above that id.
    pub async fn look(&self, above: i64) -> Result<Seen> {
        let row = self.client.query_one(&self.look, &[&above]).await;
        let row = row.map_err(|error| from_sql("cannot look for new rows", error))?;
        Ok(Seen {
            look: Look {
                highest: row.get("highest"),
                first_new: row.get("first_new"),
                writers: row.get("writers"),
            },
            has_parked: row.get("has_parked"),
            has_foreign_rounds: row.get("has_foreign_rounds"),
        })
    }

    /// Begins a round; where order is kept, waits for the turn.
    pub async fn begin(&mut self) -> Result<()> {
        let mut since = Instant::now();
        loop {
            match self.client.batch_execute(&self.begin).await {
                Ok(()) => {
                    self.has_turn = self.give_turn.is_some();
                    return Ok(());
                }
                Err(error) if is_lock_conflict(&error) => {
                    // lock_timeout: a transaction that waits for ever would keep VACUUM from its
                    // work.
                    self.roll_back().await?;
                    if since.elapsed() > TURN_MAX {
                        since = Instant::now();
                        self.end_stale_turns().await?;
                    }
                }
                Err(error) => return Err(from_sql("cannot wait for the turn to poll", error)),
            }
        }
    }

    /// A poller that is frozen with the turn holds all others up.
    async fn end_stale_turns(&self) -> Result<()> {
        let seconds = TURN_MAX.as_secs_f64();
        let ended = self.client.query(&self.end_turn, &[&seconds]).await;
        for row in ended.map_err(|error| from_sql("cannot end a turn that is too old", error))? {
            let pid: i32 = row.get("pid");
            tracing::warn!(
                pid,
                "ended the session of another poller: it had the turn for longer than its claim \
                 holds, as if it were frozen"
            );
        }
        Ok(())
    }

    /// Gives the turn to the next poller; the transaction and its claim go on.
    pub async fn give_turn(&mut self) -> Result<()> {
        let Some(sql) = self.give_turn.as_ref().filter(|_| self.has_turn) else { return Ok(()) };
        let given = self.client.batch_execute(sql).await;
        given.map_err(|error| from_sql("cannot give the turn to poll away", error))?;
        self.has_turn = false;
        Ok(())
    }

    /// Claims rows above one id and up to another.
    pub async fn claim(&self, (above, to): (i64, i64), limit: i64) -> Result<RowStream> {
        let claimed = self.client.query_raw(&self.claim, [&above, &to, &limit]).await;
        claimed.map_err(|error| from_sql(CLAIMING, error))
    }

    /// The same, but only their ids come.
    pub async fn claim_ids(&self, (above, to): (i64, i64), limit: i64) -> Result<Vec<i64>> {
        let rows = self.client.query(&self.claim_ids, &[&above, &to, &limit]).await;
        let rows = rows.map_err(|error| from_sql(CLAIMING, error))?;
        Ok(rows.iter().map(|row| row.get("id")).collect())
    }

    /// One row that was claimed.
    pub async fn claimed(&self, id: i64) -> Result<Option<SqlRow>> {
        let row = self.client.query_opt(&self.claimed, &[&id]).await;
        row.map_err(|error| from_sql(CLAIMING, error))
    }

    /// The same without its payload, which may be what cannot be read.
    pub async fn claimed_without_payload(&self, id: i64) -> Result<Option<SqlRow>> {
        let row = self.client.query_opt(&self.claimed_without_payload, &[&id]).await;
        row.map_err(|error| from_sql(CLAIMING, error))
    }

    /// Process and age, in seconds, of transactions as pg_locks names them.
    pub async fn writers(&self, names: &Vec<String>) -> Result<Vec<(Option<i32>, Option<f64>)>> {
        let rows = self.client.query(WRITERS, &[names]).await;
        let rows = rows.map_err(|error| from_sql("cannot read who holds rows back", error))?;
        Ok(rows.iter().map(|row| (row.get("pid"), row.get("seconds"))).collect())
    }

    /// The aggregates with events that a relay has parked.
    pub async fn parked(&self) -> Result<HashSet<Vec<u8>>> {
        let Some(parked) = &self.parked else { return Ok(HashSet::new()) };
        let rows = self.client.query(parked, &[]).await;
        let rows = rows.map_err(|error| from_sql("cannot read what is parked", error))?;
        Ok(rows
            .iter()
            .filter_map(|row| row.get::<_, Option<&str>>("aggregate_id"))
            .map(|aggregate| aggregate.as_bytes().to_vec())
            .collect())
    }

    /// Marks what was delivered, settles the rest, and ends the round.
    pub async fn settle(&mut self, delivered: &Vec<i64>, others: &Settlement) -> Result<u64> {
        let failed = |error| from_sql("cannot mark published rows", error);
        let mut marked = 0;
        if !delivered.is_empty() {
            marked = self.client.execute(&self.mark, &[delivered]).await.map_err(failed)?;
        }
        if others.parked() > 0 || others.dead() > 0 {
            let Some(settler) = &self.settler else { return Err(cannot_park()) };
            settler.settle(&self.client, others).await?;
        }
        let committed = self.client.batch_execute("COMMIT").await;
        committed.map_err(|error| from_sql("cannot commit published rows", error))?;
        self.give_turn().await?;
        Ok(marked)
    }

    /// Ends a round in which nothing was claimed.
    pub async fn roll_back(&mut self) -> Result<()> {
        let ended = self.client.batch_execute("ROLLBACK").await;
        ended.map_err(|error| from_sql("cannot end a round", error))?;
        self.give_turn().await
    }
}

const CLAIMING: &str = "cannot claim rows";

fn cannot_park() -> Error {
    Error::definite("an event is refused, and the outbox lacks the columns that parking it needs")
        .hint("add them with `walrelay setup`")
}

/// Settings that a poller's session must have.
pub async fn set_up(client: &Client) -> Result<()> {
    postgres::set_up_session(client).await?;
    postgres::prefer_indexes(client).await?;
    postgres::prefer_pages(client).await
}
