//! The SQL side of parking, in a session of its own: puts events into their rows, and asks what is
//! parked still.
//!
//! In: jobs. Out: what became of them, once it is committed. It must stay true that nothing is
//! parked by a relay that lost the slot (its successor may have published the event meanwhile),
//! that a row which is not visible yet is waited for, and that an event whose row is gone is put
//! back as a whole row or reported, never passed over.

use std::collections::HashMap;
use std::time::Duration;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error as SqlError, Row, Statement};

use super::adopting;
use super::flight::NO_ROW;
use super::held::{self, Found, HELD_MAX};
use super::parking::{Job, Leaving, Original, Reason};
use super::settle::{TRANSACTIONS_VISIBLE, wait_until_visible};
use crate::config::{AfterPublish, Outbox, Retry, TableName};
use crate::error::{Error, Result};
use crate::lsn::{Lsn, Position};
use crate::outbox::Copied;
use crate::postgres::{self, from_sql, is_lock_conflict, quote};

const PARK_EVENTS: &str = include_str!("../../sql/queries/park_events.sql");
const PUT_BACK: &str = include_str!("../../sql/queries/put_back.sql");
const AWAIT_PARKING: &str = include_str!("../../sql/queries/await_parking.sql");
const KNOWN_PARKED: &str = include_str!("../../sql/queries/known_parked.sql");
const HELD_AGGREGATES: &str = include_str!("../../sql/queries/held_aggregates.sql");
const RELEASE_SETTLED: &str = include_str!("../../sql/queries/release_settled.sql");
const DELETE_SETTLED: &str = include_str!("../../sql/queries/delete_settled.sql");
const FIND_TABLE: &str = include_str!("../../sql/queries/find_table.sql");
const SLOT_RESTART: &str = include_str!("../../sql/queries/slot_restart.sql");
const HAS_PARKED: &str = include_str!("../../sql/queries/has_parked.sql");

/// Before rows are parked once more that were neither parked nor settled.
const CHANGED_PAUSE: Duration = Duration::from_millis(100);

/// What parking takes, besides `published`.
pub const PARKING_COLUMNS: [&str; 6] = [
    "attempts",
    "started_attempts",
    "next_attempt_at",
    "error_message",
    "wal_position",
    "dead_lettered_at",
];

/// The table, and the slot by which a relay may park in it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub table: Outbox,
    /// The condition for the line's own rows.
    pub mine: String,
    pub slot: String,
    /// The walsender that holds it for us.
    pub pid: i32,
    /// By which relays wait for each other.
    pub key: i32,
    pub retry: Retry,
    /// How often it is asked what is parked still.
    pub refresh_interval: Duration,
    pub after_publish: AfterPublish,
}

impl Place {
    fn fill(&self, sql: &str) -> String {
        fill(sql, &self.table, &self.mine)
    }

    /// The slot is not ours any more.
    pub fn taken_over(&self) -> Error {
        let slot = &self.slot;
        Error::slot_in_use(format!(
            "another relay has taken replication slot {slot:?} over: nothing is parked"
        ))
    }
}

/// What became of a job.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Events that are parked by it.
    pub parked: u64,
    /// Events whose rows are gone, and of which no copy is at hand.
    pub gone: Vec<Position>,
}

/// What the database said of an event.
enum Said {
    /// It is parked, or needs no parking.
    Done { is_parked: bool },
    /// Its row changed under our hands.
    Changed,
    /// There is no such row that we can see.
    Absent,
}

fn fill(sql: &str, outbox: &Outbox, mine: &str) -> String {
    outbox.sql(sql).replace("{mine}", mine)
}

/// Once no other relay parks any more: what is parked of the rows that `mine` is true of, and the
/// table's key.
pub(super) async fn load(
    client: &Client,
    table: &Outbox,
    mine: &str,
    confirmed: Lsn,
) -> Result<(Found, i32)> {
    let doing = format!("cannot read what is parked in table {table}");
    let failed = |error| from_sql(&doing, error);
    let key = loop {
        match client.query_one(AWAIT_PARKING, &[&table.schema, &table.name]).await {
            Ok(row) => break row.get("key"),
            Err(error) if is_lock_conflict(&error) => {}
            Err(error) => return Err(failed(error)),
        }
    };
    let from = Position { commit_lsn: confirmed, ordinal: 0 }.to_string();
    let sql = fill(KNOWN_PARKED, table, mine);
    let rows = client.query(&sql, &[&from]).await.map_err(failed)?;
    let known = |row: &Row| Some((row.get("id"), row.get::<_, &str>("wal_position").parse().ok()?));
    let known: HashMap<i64, Position> = rows.iter().filter_map(known).collect();
    let held = held_aggregates(client, &fill(HELD_AGGREGATES, table, mine)).await?;
    let is_any = has_parked(client, &fill(HAS_PARKED, table, mine)).await?;
    Ok((Found { known, held, is_any }, key))
}

async fn has_parked(client: &Client, sql: &str) -> Result<bool> {
    let asked = client.query_one(sql, &[]).await;
    let row = asked.map_err(|error| from_sql("cannot ask whether rows are parked", error))?;
    Ok(row.get("has_parked"))
}

async fn held_aggregates(client: &Client, sql: &str) -> Result<Option<Vec<u64>>> {
    let limit = i64::try_from(HELD_MAX).unwrap_or(i64::MAX).saturating_add(1);
    let asked = client.query(sql, &[&limit]).await;
    let rows = asked.map_err(|error| from_sql("cannot read which aggregates are held", error))?;
    let hash = |row: &Row| held::aggregate(row.get::<_, &str>("aggregate_id").as_bytes());
    Ok((rows.len() <= HELD_MAX).then(|| rows.iter().map(hash).collect()))
}

pub(super) struct Parker {
    pub(super) client: Client,
    pub(super) place: Place,
    park: Statement,
    visible: Statement,
}

impl Parker {
    /// Sets the session up.
    pub async fn new(client: Client, place: Place) -> Result<Self> {
        let doing = format!("cannot prepare parking in table {}", place.table);
        let failed = |error| from_sql(&doing, error);
        postgres::set_up_session(&client).await?;
        postgres::prefer_indexes(&client).await?;
        let sql = place.table.sql(PARK_EVENTS);
        let park = client.prepare(&sql).await.map_err(failed)?;
        let visible = client.prepare(TRANSACTIONS_VISIBLE).await.map_err(failed)?;
        Ok(Self { client, place, park, visible })
    }

    /// Parks the events of a job. Returns when each is parked, or needs it no more, or its row is
    /// known to be gone.
    pub async fn park(&self, job: &Job) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let (adopted, mut left): (Vec<&Leaving>, Vec<&Leaving>) =
            job.events().partition(|event| event.id == NO_ROW);
        let (adopted, gone) = adopting::messages(&adopted);
        outcome.gone.extend(gone.iter().map(|event| event.position));
        self.adopt(&adopted).await?;
        outcome.parked += u64::try_from(adopted.len()).unwrap_or(u64::MAX);
        let (mut are_visible, mut was_put_back, mut is_told) = (false, false, false);
        while !left.is_empty() {
            let said = self.ask(&left).await?;
            let (mut again, mut absent) = (Vec::new(), Vec::new());
            for event in left {
                match said.get(&event.id) {
                    Some(Said::Done { is_parked }) => outcome.parked += u64::from(*is_parked),
                    Some(Said::Changed) => again.push(event),
                    Some(Said::Absent) | None => absent.push(event),
                }
            }
            if absent.is_empty() {
                // Somebody changes them as we do; or a trigger or a policy keeps us from it.
                if !again.is_empty() {
                    if !std::mem::replace(&mut is_told, true) {
                        let rows = again.len();
                        tracing::warn!(rows, "rows to be parked were changed meanwhile: once more");
                    }
                    tokio::time::sleep(CHANGED_PAUSE).await;
                }
                left = again;
            } else if !are_visible {
                wait_until_visible(&self.client, &self.visible, &job.transactions()).await?;
                are_visible = true;
                again.append(&mut absent);
                left = again;
            } else if !was_put_back {
                was_put_back = true;
                for event in absent {
                    match &event.original {
                        None | Some(Original::Message(_)) => outcome.gone.push(event.position),
                        Some(Original::Row(row)) if self.put_back(event, row).await? => {
                            outcome.parked += 1;
                        }
                        Some(Original::Row(_)) => again.push(event),
                    }
                }
                left = again;
            } else {
                // Neither there nor to be inserted: another row bears its event.
                for event in absent {
                    tracing::warn!(
                        row = event.id,
                        "a deleted row's event is in another row by now: it is not parked"
                    );
                }
                left = again;
            }
        }
        Ok(outcome)
    }

    async fn ask(&self, events: &[&Leaving]) -> Result<HashMap<i64, Said>> {
        let ids: Vec<i64> = events.iter().map(|event| event.id).collect();
        let positions: Vec<String> =
            events.iter().map(|event| event.position.to_string()).collect();
        let attempts: Vec<i32> = events.iter().map(|event| attempts(event)).collect();
        let pauses: Vec<f64> = events.iter().map(|event| self.pause(event)).collect();
        let reasons: Vec<&str> = events.iter().map(|event| event.reason.text()).collect();
        let Place { slot, pid, key, .. } = &self.place;
        let parameters: [&(dyn ToSql + Sync); 8] =
            [&ids, &positions, &attempts, &pauses, &reasons, slot, pid, key];
        let mut is_told = false;
        let rows = loop {
            match self.client.query(&self.park, &parameters).await {
                Ok(rows) => break rows,
                Err(error) if is_lock_conflict(&error) => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::warn!(
                            rows = ids.len(),
                            "rows to be parked are locked by another session: their streams wait \
                             until it lets go"
                        );
                    }
                }
                Err(error) => return Err(from_sql("cannot park events in their rows", error)),
            }
        };
        let said = |row: &Row| {
            let is = |name| row.get::<_, bool>(name);
            if !is("is_mine") {
                return Err(self.place.taken_over());
            }
            let said = if is("is_parked") || is("is_settled") {
                Said::Done { is_parked: is("is_parked") }
            } else if is("is_there") {
                Said::Changed
            } else {
                Said::Absent
            };
            Ok((row.get("id"), said))
        };
        rows.iter().map(said).collect()
    }

    pub(super) fn pause(&self, event: &Leaving) -> f64 {
        match event.reason {
            // After the last attempt there is no pause: the dead letters are due at once.
            Reason::Refused(_) => {
                let pause = self.place.retry.delay(event.reason.attempts(), fastrand::f64());
                pause.unwrap_or_default().as_secs_f64()
            }
            Reason::Unfit(_) | Reason::WaitsBehind => 0.0,
        }
    }

    /// The columns of the table as they are now.
    pub(super) async fn described(&self) -> std::result::Result<Vec<Row>, SqlError> {
        let TableName { schema, name } = &self.place.table.table;
        self.client.query(FIND_TABLE, &[schema, name]).await
    }

    /// Inserts a deleted row back; false when a row with its id or its event is there.
    async fn put_back(&self, event: &Leaving, row: &Copied) -> Result<bool> {
        let doing = format!("cannot put row id={} back into {}", event.id, self.place.table);
        let failed = |error| from_sql(&doing, error);
        let described = self.described().await.map_err(failed)?;
        let part = |part: &&str| self.place.table.columns.column(part);
        let written: Vec<&str> =
            PARKING_COLUMNS.iter().chain(&["published", "published_at"]).filter_map(part).collect();
        let (mut columns, mut values, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(flag) = part(&"published") {
            columns.push(quote::ident(flag));
            values.push("false".to_owned());
        }
        for (name, value) in row.columns() {
            let column = described.iter().find(|column| column.get::<_, &str>(0) == name);
            let Some(column) = column.filter(|column| !column.get::<_, bool>("is_generated"))
            else {
                continue;
            };
            if written.contains(&name) {
                continue;
            }
            let text = value.map(std::str::from_utf8).transpose().map_err(|error| {
                Error::definite(format!("{doing}: column {name} is not UTF-8")).because(error)
            })?;
            texts.push(text);
            columns.push(quote::ident(name));
            let type_name: &str = column.get("type_name");
            values.push(format!("CAST(${}::text AS {type_name})", 7 + texts.len()));
        }
        let sql = self
            .place
            .table
            .sql(PUT_BACK)
            .replace("{columns}", &columns.join(", "))
            .replace("{values}", &values.join(", "));
        let Place { slot, pid, key, .. } = &self.place;
        let (attempts, pause) = (attempts(event), self.pause(event));
        let (reason, position) = (event.reason.text(), event.position.to_string());
        let mut parameters: Vec<&(dyn ToSql + Sync)> =
            vec![slot, pid, key, &attempts, &pause, &reason, &position];
        parameters.extend(texts.iter().map(|text| -> &(dyn ToSql + Sync) { text }));
        let added = self.client.execute(&sql, &parameters).await.map_err(failed)?;
        Ok(added > 0)
    }

    /// Aggregates with an event that is parked still.
    pub async fn held(&self) -> Result<Option<Vec<u64>>> {
        held_aggregates(&self.client, &self.place.fill(HELD_AGGREGATES)).await
    }

    /// Where decoding begins after a restart of the server. What was confirmed is not on its disk
    /// yet, and a crash takes it back; but not behind this point, once it has been one for a while:
    /// both are saved together
    /// (<https://www.postgresql.org/docs/current/view-pg-replication-slots.html>).
    pub async fn restart_lsn(&self) -> Result<Option<Lsn>> {
        let asked = self.client.query_opt(SLOT_RESTART, &[&self.place.slot]).await;
        let row = asked.map_err(|error| from_sql("cannot read the slot's restart_lsn", error))?;
        let text: Option<String> = row.and_then(|row| row.get("restart_lsn"));
        Ok(text.and_then(|text| text.parse().ok()))
    }

    /// Forgets of settled rows before `lsn` that they were parked; whether any is left.
    pub async fn release(&self, lsn: Lsn) -> Result<bool> {
        let before = Position { commit_lsn: lsn, ordinal: 0 }.to_string();
        let statements: &[&str] = match self.place.after_publish {
            AfterPublish::Delete => &[DELETE_SETTLED, RELEASE_SETTLED],
            AfterPublish::Mark | AfterPublish::Keep => &[RELEASE_SETTLED],
        };
        for sql in statements {
            let sql = self.place.fill(sql);
            let touched = self.client.execute(&sql, &[&before]).await;
            touched.map_err(|error| from_sql("cannot release settled rows", error))?;
        }
        has_parked(&self.client, &self.place.fill(HAS_PARKED)).await
    }
}

pub(super) fn attempts(event: &Leaving) -> i32 {
    i32::try_from(event.reason.attempts()).unwrap_or(i32::MAX)
}
