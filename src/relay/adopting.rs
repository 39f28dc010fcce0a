//! Messages that cannot be published now get rows of the outbox, parked: from then on they are
//! retried, given up, listed and repeated as any other event.
//!
//! In: messages that leave the line. Out: their rows, committed. It must stay true that each gets a
//! row whatever it says (one that is no event gets a row that is none either, and says why), that
//! nothing is written by a relay that lost the slot, and that many take one statement.

use std::collections::HashSet;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Error as SqlError, Row};

use super::parker::Parker;
use super::parking::{Leaving, Original, Reason};
use crate::error::Result;
use crate::outbox::{Fault, Kept};
use crate::postgres::{from_sql, is_lock_conflict, quote};
use crate::sink;

const PARK_MESSAGES: &str = include_str!("../../sql/queries/park_messages.sql");

/// The type of an event that is none.
const NO_EVENT: &str = "walrelay.no-event";
/// Parameters of the statement before the values of the columns.
const PARAMETERS: usize = 7;
/// SQLSTATE classes that speak of what a row says: data, constraints, limits, and what triggers of
/// the application raise.
const OF_THE_ROW: [&str; 4] = ["22", "23", "54", "P0"];

/// One message as a row.
struct Adopted {
    position: String,
    attempts: i32,
    pause: f64,
    reason: String,
    /// Name and value of each column.
    values: Vec<(&'static str, Option<String>)>,
}

/// A message and its copy.
type Message<'a> = (&'a Leaving, &'a Kept);

impl Parker {
    /// Gives each of these messages a row.
    pub(super) async fn adopt(&self, messages: &[Message<'_>]) -> Result<()> {
        let (mut rows, mut faulty) = (Vec::new(), Vec::new());
        for (event, kept) in messages {
            match kept.told() {
                Ok(told) => {
                    let values = told.columns().map(|(name, value)| (name, value.map(Into::into)));
                    rows.push(self.row_of(event, kept, values.collect()));
                }
                Err(fault) => faulty.push((event.position, fault)),
            }
        }
        let (there, refused) = self.insert_all(&rows).await?;
        for (event, kept) in messages {
            let position = event.position.to_string();
            if there.contains(&position) {
                continue;
            }
            let fault = faulty.iter().find(|(at, _)| *at == event.position).map(|(_, why)| *why);
            let fault = fault.unwrap_or(if refused.contains(&position) {
                Fault::NoRow
            } else {
                Fault::Repeated
            });
            self.keep_evidence((event, kept), fault).await?;
        }
        Ok(())
    }

    fn row_of(
        &self,
        event: &Leaving,
        kept: &Kept,
        mut values: Vec<(&'static str, Option<String>)>,
    ) -> Adopted {
        values.push(("created_at", Some(kept.created_at())));
        values.push(("published", Some("false".to_owned())));
        Adopted {
            position: event.position.to_string(),
            attempts: super::parker::attempts(event),
            pause: self.pause(event),
            reason: event.reason.text().to_owned(),
            values,
        }
    }

    /// A row that is no event: for the dead letters, with the reason and what the message says.
    async fn keep_evidence(&self, (event, kept): Message<'_>, fault: Fault) -> Result<()> {
        let why = fault.text();
        let (position, aggregate) = (event.position, event.aggregate);
        tracing::warn!(%position, reason = why, "a message cannot become an event");
        let reason = Reason::Unfit(why.into());
        let event = Leaving { id: event.id, position, aggregate, reason, original: None };
        // Of an aggregate of its own: it holds nobody up.
        let id = || Some(sink::uuid_text(fastrand::u128(..)));
        let row = |payload| {
            let values = vec![
                ("event_id", id()),
                ("event_type", Some(NO_EVENT.to_owned())),
                ("aggregate_type", Some(NO_EVENT.to_owned())),
                ("aggregate_id", id()),
                ("topic", Some(fault.topic())),
                ("payload", Some(payload)),
            ];
            self.row_of(&event, kept, values)
        };
        let whole = row(kept.evidence(fault));
        if self.insert(&[&whole]).await?.is_ok() {
            return Ok(());
        }
        // An encoding that lacks its letters, for one.
        let bare = row(Kept::new(None, 0).evidence(fault));
        self.insert(&[&bare]).await?.map(drop).map_err(|error| {
            from_sql(&self.doing(), error).hint(
                "a message that cannot be published needs a row: look which constraint or trigger \
                 of the table refuses one of type walrelay.no-event",
            )
        })
    }

    /// Inserts rows together, or one by one where PostgreSQL takes one of them not. The positions
    /// of those that are there, and of those that it refused.
    async fn insert_all(&self, rows: &[Adopted]) -> Result<(HashSet<String>, HashSet<String>)> {
        let (mut there, mut refused) = (HashSet::new(), HashSet::new());
        if rows.is_empty() {
            return Ok((there, refused));
        }
        let all: Vec<&Adopted> = rows.iter().collect();
        if let Ok(inserted) = self.insert(&all).await? {
            return Ok((inserted, refused));
        }
        for row in rows {
            match self.insert(&[row]).await? {
                Ok(inserted) => there.extend(inserted),
                Err(_) => drop(refused.insert(row.position.clone())),
            }
        }
        Ok((there, refused))
    }

    /// Inserts rows that have the same columns. The positions of those that did not have to yield
    /// to another row; or the error, where it is of what a row says.
    async fn insert(
        &self,
        rows: &[&Adopted],
    ) -> Result<std::result::Result<HashSet<String>, SqlError>> {
        let failed = |error| from_sql(&self.doing(), error);
        let described = self.described().await.map_err(failed)?;
        let type_of = |name: &str| {
            let is_it = |column: &&Row| column.get::<_, &str>("column_name") == name;
            described.iter().find(is_it).map(|column| column.get::<_, &str>("type_name"))
        };
        let mut filled: Vec<Vec<Option<&str>>> = Vec::new();
        let (mut columns, mut names, mut texts, mut values) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let first = rows.first().map(|row| row.values.as_slice()).unwrap_or_default();
        for (place, (column, _)) in first.iter().enumerate() {
            let Some(type_name) = type_of(column) else { continue };
            let values_of = rows.iter().map(|row| row.values.get(place));
            filled.push(values_of.map(|value| value?.1.as_deref()).collect());
            columns.push(quote::ident(column));
            names.push(format!("v{place}"));
            texts.push(format!("${}::text[]", PARAMETERS + filled.len()));
            values.push(format!("CAST(t.v{place} AS {type_name})"));
        }
        let sql = self
            .place
            .table
            .sql(PARK_MESSAGES)
            .replace("{columns}", &columns.join(", "))
            .replace("{names}", &names.join(", "))
            .replace("{texts}", &texts.join(", "))
            .replace("{values}", &values.join(", "));
        let attempts: Vec<i32> = rows.iter().map(|row| row.attempts).collect();
        let pauses: Vec<f64> = rows.iter().map(|row| row.pause).collect();
        let reasons: Vec<&str> = rows.iter().map(|row| row.reason.as_str()).collect();
        let positions: Vec<&str> = rows.iter().map(|row| row.position.as_str()).collect();
        let place = &self.place;
        let mut parameters: Vec<&(dyn ToSql + Sync)> =
            vec![&place.slot, &place.pid, &place.key, &attempts, &pauses, &reasons, &positions];
        parameters.extend(filled.iter().map(|column| -> &(dyn ToSql + Sync) { column }));
        loop {
            let error = match self.client.query(&sql, &parameters).await {
                Ok(said) => return self.inserted(&said).map(Ok),
                Err(error) => error,
            };
            if is_of_the_row(&error) {
                return Ok(Err(error));
            }
            if !is_lock_conflict(&error) {
                return Err(failed(error));
            }
        }
    }

    fn inserted(&self, said: &[Row]) -> Result<HashSet<String>> {
        if said.iter().any(|row| !row.get::<_, bool>("is_mine")) {
            return Err(self.place.taken_over());
        }
        Ok(said.iter().filter_map(|row| row.get::<_, Option<String>>("wal_position")).collect())
    }

    fn doing(&self) -> String {
        format!("cannot park messages as rows of {}", self.place.table)
    }
}

fn is_of_the_row(error: &SqlError) -> bool {
    let class = |code: &str| OF_THE_ROW.iter().any(|class| code.starts_with(class));
    !is_lock_conflict(error) && error.code().is_some_and(|code| class(code.code()))
}

/// The messages among these events, and those whose copies are gone.
pub(super) fn messages<'a>(events: &[&'a Leaving]) -> (Vec<Message<'a>>, Vec<&'a Leaving>) {
    let (mut messages, mut gone) = (Vec::new(), Vec::new());
    for event in events {
        match &event.original {
            Some(Original::Message(kept)) => messages.push((*event, kept)),
            Some(Original::Row(_)) | None => gone.push(*event),
        }
    }
    (messages, gone)
}
