//! The table as a source: rows in the order of id, whatever has become of them.
//!
//! In: a filter. Out: events, a page at a time. It must stay true that no view of the database is
//! held open between pages (a slow replay would hold up vacuum), and that what is on its way is
//! one row, not one page.

use std::pin::Pin;

use futures_util::StreamExt;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, RowStream};

use super::intake::{Intake, Place};
use super::order::Filter;
use super::wal::Meaning;
use crate::config::Outbox as Mapped;
use crate::error::{Error, Result};
use crate::lsn::{Lsn, Position};
use crate::outbox::{Envelope, Row, Selection};
use crate::postgres::{self, from_sql};
use crate::sink;

const REPLAY_FILTER: &str = include_str!("../../sql/queries/replay_filter.sql");
const REPLAY_EXTENT: &str = include_str!("../../sql/queries/replay_extent.sql");
const REPLAY_ROWS: &str = include_str!("../../sql/queries/replay_rows.sql");
const ROWS_OF_LETTERS: &str = include_str!("../../sql/queries/rows_of_letters.sql");

/// Rows of a page, as `replay_rows.sql` has them.
const PAGE_ROWS: u64 = 1_000;
/// The outbox, as far as a replay reads it.
pub(super) struct Outbox {
    pub client: Client,
    pub selection: Selection,
    table: Mapped,
    has_created_at: bool,
    event_id_is_uuid: bool,
    aggregate_is_uuid: bool,
}

impl Outbox {
    /// Takes over the session.
    pub async fn new(client: Client, table: &Mapped) -> Result<Self> {
        let columns = postgres::columns(&client, table).await?;
        let selection = Selection::from_columns(table, &columns)?;
        let parts = selection.parts();
        Ok(Self {
            has_created_at: parts.has("created_at"),
            event_id_is_uuid: parts.is_uuid("event_id"),
            aggregate_is_uuid: parts.is_uuid("aggregate_id"),
            table: table.without(|part| parts.has(part)),
            selection,
            client,
        })
    }

    /// A statement that takes event ids by the parameter `events`.
    fn sql(&self, template: &str, events: u8) -> String {
        let aggregate = if self.aggregate_is_uuid { BY_UUID } else { BY_TEXT };
        let sql = template
            .replace("{filter}", &format!("(\n{REPLAY_FILTER})"))
            .replace("{aggregate}", aggregate);
        self.table
            .sql(&sql)
            .replace("{list}", &self.selection.list())
            .replace("{event_ids}", &self.table.events_in(self.selection.parts(), events))
    }

    fn failed(&self, error: tokio_postgres::Error) -> Error {
        from_sql(&format!("cannot read the rows of table {}", self.table), error)
    }

    /// The rows of these events, in whatever order.
    pub async fn of_events(&self, ids: &[String]) -> Result<Vec<tokio_postgres::Row>> {
        let may_be = |id: &&String| !self.event_id_is_uuid || sink::uuid(id.as_bytes()).is_some();
        let ids: Vec<&String> = ids.iter().filter(may_be).collect();
        let sql = self.sql(ROWS_OF_LETTERS, 1);
        self.client.query(&sql, &[&ids]).await.map_err(|error| self.failed(error))
    }

    /// What somebody typed, as the table has it: row ids and event ids.
    pub fn names(&self, typed: &[String]) -> Result<(Vec<i64>, Vec<String>)> {
        let (mut ids, mut event_ids) = (Vec::new(), Vec::new());
        for text in typed.iter().map(|text| text.trim()) {
            let lower = text.to_ascii_lowercase();
            if let Ok(id) = text.parse() {
                ids.push(id);
            } else if !self.event_id_is_uuid {
                event_ids.push(text.to_owned());
            } else if sink::uuid(lower.as_bytes()).is_some() {
                event_ids.push(lower);
            } else {
                let what = format!("--id {text:?} is neither a row id nor an event id");
                return Err(Error::usage(what));
            }
        }
        Ok((ids, event_ids))
    }

    /// What a replay means.
    pub fn wanted(
        &self,
        names: Option<(Vec<i64>, Vec<String>)>,
        (since, until): (Option<String>, Option<String>),
        filter: &Filter,
    ) -> Result<Wanted> {
        if since.is_some() && !self.has_created_at {
            return Err(Error::definite(format!(
                "table {} has no column created_at: nothing tells how old its rows are",
                self.table
            ))
            .hint("name rows with --id or --aggregate, or replay out of the WAL"));
        }
        let Filter { types, aggregate } = filter.as_printed(self.aggregate_is_uuid);
        if let Some(text) = &aggregate
            && self.aggregate_is_uuid
            && sink::uuid(text.as_bytes()).is_none()
        {
            return Err(Error::usage(format!("--aggregate {text:?} is no uuid")));
        }
        let (ids, event_ids) = names.unzip();
        let types = Some(types).filter(|types| !types.is_empty());
        let until = until.filter(|_| self.has_created_at);
        Ok(Wanted { ids, event_ids, since, until, types, aggregate })
    }
}

const BY_TEXT: &str = "o.aggregate_id::text = $6";
const BY_UUID: &str = "o.aggregate_id = $6::text::uuid";

/// $1 to $6 of `replay_filter.sql`.
#[derive(Debug)]
pub(super) struct Wanted {
    ids: Option<Vec<i64>>,
    event_ids: Option<Vec<String>>,
    since: Option<String>,
    until: Option<String>,
    types: Option<Vec<String>>,
    aggregate: Option<String>,
}

impl Wanted {
    fn parameters(&self) -> [&(dyn ToSql + Sync); 6] {
        let Self { ids, event_ids, since, until, types, aggregate } = self;
        [ids, event_ids, since, until, types, aggregate]
    }
}

/// The rows of the table that are meant.
pub(super) struct Table {
    outbox: Outbox,
    wanted: Wanted,
    meaning: Meaning,
    /// How many there were at first.
    pub found: u64,
    pub read: u64,
    after: i64,
    last: i64,
    page: Option<(Pin<Box<RowStream>>, u64)>,
}

impl Table {
    /// Counts what is meant. Rows up to the position `done` are left out.
    pub async fn open(
        outbox: Outbox,
        wanted: Wanted,
        meaning: Meaning,
        done: Position,
    ) -> Result<Self> {
        let sql = outbox.sql(REPLAY_EXTENT, 2);
        let counted = outbox.client.query_one(&sql, &wanted.parameters()).await;
        let row = counted.map_err(|error| outbox.failed(error))?;
        if wanted.ids.is_none() {
            postgres::prefer_pages(&outbox.client).await?;
        }
        let (found, first, last): (i64, i64, i64) =
            (row.get("found"), row.get("first"), row.get("last"));
        let before = first.saturating_sub(1);
        let after = if done == Position::START { before } else { before.max(id_at(done)) };
        let found = u64::try_from(found).unwrap_or(0);
        Ok(Self { outbox, wanted, meaning, found, read: 0, after, last, page: None })
    }

    /// Takes in rows; false once there are no more. Cancel-safe: a row is taken in as it is read.
    pub async fn fill(&mut self, intake: &mut Intake) -> Result<bool> {
        while !intake.is_full() {
            if self.page.is_none() && !self.turn().await? {
                return Ok(false);
            }
            let Some((page, rows)) = &mut self.page else { return Ok(false) };
            let Some(row) = page.next().await else {
                // A short page was the last.
                if *rows < PAGE_ROWS {
                    self.after = self.last;
                }
                self.page = None;
                return Ok(true);
            };
            *rows += 1;
            let row = row.map_err(|error| self.outbox.failed(error))?;
            let row = self.outbox.selection.read(|place| text(&row, place));
            self.read += 1;
            if let Some(id) = row.id() {
                self.after = id;
                take(&row, (position_of(id), Place::Row(id)), &self.meaning, intake);
            }
        }
        Ok(true)
    }

    /// Asks for the next page; false where there can be none.
    async fn turn(&mut self) -> Result<bool> {
        if self.found == 0 || self.after >= self.last {
            return Ok(false);
        }
        let sql = self.outbox.sql(REPLAY_ROWS, 2);
        let mut parameters = self.wanted.parameters().to_vec();
        parameters.push(&self.after);
        parameters.push(&self.last);
        let page = self.outbox.client.query_raw(&sql, parameters).await;
        self.page = Some((Box::pin(page.map_err(|error| self.outbox.failed(error))?), 0));
        Ok(true)
    }
}

/// A value as the decoder would see it.
pub(super) fn text(row: &tokio_postgres::Row, place: usize) -> Option<&str> {
    row.try_get::<_, Option<&str>>(place).ok().flatten()
}

/// Hands the event of a row over.
pub(super) fn take(row: &Row<'_>, at: (Position, Place), meaning: &Meaning, intake: &mut Intake) {
    // Without created_at nothing tells when the row was written.
    intake.take(at, Envelope::new(row, &meaning.defaults(0)));
}

/// Ids in their order as positions; the sign is turned round, for positions have none.
fn position_of(id: i64) -> Position {
    let bits = u64::from_ne_bytes(id.to_ne_bytes()) ^ (1 << 63);
    Position { commit_lsn: Lsn::new(bits), ordinal: 1 }
}

fn id_at(position: Position) -> i64 {
    i64::from_ne_bytes((position.commit_lsn.as_u64() ^ (1 << 63)).to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_positions_in_the_same_order() {
        let ids = [i64::MIN, -7, -1, 0, 1, 4711, i64::MAX];
        let positions: Vec<Position> = ids.iter().map(|id| position_of(*id)).collect();
        assert!(positions.is_sorted() && positions[0] > Position::START);
        assert!(ids.iter().zip(&positions).all(|(id, at)| id_at(*at) == *id));
    }
}
