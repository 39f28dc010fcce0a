//! The SQL side of retrying: what is due, who has it, and since when.
//!
//! In: a session of its own. Out: rows that are claimed, in order. It must stay true that a row is
//! claimed only together with all that is parked in front of it in its lane: whoever holds the
//! first row of a lane is the only one who may go on behind it. Another session that has locked a
//! row, or settled it since we looked, leaves a hole, and behind a hole nothing is ours.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row as SqlRow, Statement};

use super::courier::Terms;
use super::settle::{Settler, Slot};
use crate::config::{Ordering, Settings};
use crate::error::{Error, Result};
use crate::outbox::Selection;
use crate::postgres::{self, Target, from_sql, quote};

const SYSTEM_IDENTIFIER: &str = include_str!("../../sql/queries/system_identifier.sql");
const LOOK_FOR_DUE: &str = include_str!("../../sql/queries/look_for_due.sql");
const COUNT_DEAD: &str = include_str!("../../sql/queries/count_dead.sql");
const START_DUE: &str = include_str!("../../sql/queries/start_due.sql");
const CLAIM_DUE: &str = include_str!("../../sql/queries/claim_due.sql");
const READ_CLAIMED: &str = include_str!("../../sql/queries/read_claimed.sql");
const UNDO_START: &str = include_str!("../../sql/queries/undo_start.sql");
const FIND_UNSETTLED: &str = include_str!("../../sql/queries/find_unsettled.sql");

/// How the length of a UUID's text is known.
const UUID_CHARS: usize = 36;

/// A row that was picked: its attempt has begun.
#[derive(Clone, Debug)]
pub struct Picked {
    /// Of the row.
    pub id: i64,
    /// Its aggregate, or itself where order does not matter.
    pub lane: String,
    /// Its place in the lane, from 1.
    pub place: i64,
    /// How often an attempt at it began and did not end.
    pub deaths: u32,
    /// Of its payload, as it is stored.
    pub bytes: usize,
}

/// What there is to do.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    /// Rows that are parked.
    pub parked: u64,
    /// Of those, rows whose time has come.
    pub due: u64,
    /// Until the next row is due that waits behind no other.
    pub next: Option<Duration>,
}

/// A session in which rows are claimed.
pub struct Desk {
    /// The session.
    pub client: Client,
    /// Its statements for settling.
    pub settler: Settler,
    /// How rows are selected.
    pub selection: Selection,
    /// Names the cluster.
    pub system_id: String,
    table: String,
    slot_name: String,
    event_id_is_uuid: bool,
    look: Statement,
    dead: Statement,
    start: Statement,
    claim: Statement,
    read: Statement,
    read_without_payload: Statement,
    undo: Statement,
    unsettled: Statement,
}

impl Desk {
    /// Opens a session and prepares what is needed there.
    pub async fn open(target: &Target, settings: &Settings, slot: Slot) -> Result<Self> {
        let table = &settings.outbox_table;
        let client = target.sql().await?;
        postgres::set_up_session(&client).await?;
        postgres::prefer_indexes(&client).await?;
        let columns = postgres::names_and_types(&postgres::describe_table(&client, table).await?);
        let selection = Selection::from_columns(table, &columns)?;
        let lane = match settings.ordering {
            // An event of no aggregate waits for nobody.
            Ordering::PerAggregate => {
                "coalesce(nullif(o.aggregate_id::text, ''), '#' || o.id::text)"
            }
            Ordering::None => "o.id",
        };
        let mine = postgres::shard_condition(settings.shard, table);
        let events = table.events_in(selection.parts(), 1);
        // As the server prints it in the predicate of an index.
        let dead_at = table.columns.column("dead_lettered_at").unwrap_or_default();
        let dead_letters = quote::literal(&format!("%{dead_at}% IS NOT NULL%"));
        let doing = format!("cannot prepare retrying parked rows of {table}");
        let prepare = async |sql: &str, list: &str, types: &[Type]| {
            let sql = table.sql(&sql.replace("{lane}", lane)).replace("{mine}", &mine);
            let sql = sql.replace("{dead_letters}", &dead_letters);
            let sql = sql.replace("{event_ids}", &events).replace("{list}", list);
            let prepared = client.prepare_typed(&sql, types).await;
            prepared.map_err(|error| {
                from_sql(&doing, error).hint("`walrelay setup` adds the columns that are missing")
            })
        };
        let ids = [Type::INT8_ARRAY];
        let failed = |error| from_sql("cannot read the system identifier", error);
        let system_id = client.query_one(SYSTEM_IDENTIFIER, &[]).await.map_err(failed)?.get(0);
        Ok(Self {
            settler: Settler::prepare(&client, table, settings.after_publish, slot).await?,
            system_id,
            slot_name: settings.slot_name.clone(),
            event_id_is_uuid: selection.parts().is_uuid("event_id"),
            look: prepare(LOOK_FOR_DUE, "", &[]).await?,
            dead: prepare(COUNT_DEAD, "", &[]).await?,
            start: prepare(START_DUE, "", &[Type::INT4, Type::INT8]).await?,
            claim: prepare(CLAIM_DUE, "", &ids).await?,
            read: prepare(READ_CLAIMED, &selection.list(), &[]).await?,
            read_without_payload: prepare(READ_CLAIMED, &selection.list_without_payload(), &[])
                .await?,
            undo: prepare(UNDO_START, "", &ids).await?,
            unsettled: prepare(FIND_UNSETTLED, "", &[Type::TEXT_ARRAY]).await?,
            table: table.to_string(),
            selection,
            client,
        })
    }

    /// Where it is remembered what pollers have put into `stream`.
    #[must_use]
    pub fn delivered_key(&self, settings: &Settings, stream: &str) -> String {
        Terms::new(settings, None, &self.system_id).delivered_key(stream)
    }

    fn failed(&self, doing: &str) -> impl Fn(tokio_postgres::Error) -> Error {
        let doing = format!("cannot {doing} parked rows of {}", self.table);
        move |error| from_sql(&doing, error)
    }

    /// What there is to do.
    pub async fn look(&self) -> Result<Sight> {
        let row = self.client.query_one(&self.look, &[]).await.map_err(self.failed("count"))?;
        let count = |column: &str| u64::try_from(row.get::<_, i64>(column)).unwrap_or_default();
        let seconds: Option<f64> = row.get("seconds");
        // The application may park for ever ('infinity'): that is never.
        let next = seconds
            .map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX));
        Ok(Sight { parked: count("parked"), due: count("due"), next })
    }

    /// How many rows are dead, if that is cheap to know.
    pub async fn dead(&self) -> Result<Option<u64>> {
        let row = self.client.query_one(&self.dead, &[]).await.map_err(self.failed("count"))?;
        Ok(row.get::<_, Option<i64>>(0).and_then(|count| u64::try_from(count).ok()))
    }

    /// Picks rows that are due, so many at most, of the lowest class above `above`, and begins
    /// their attempts; and whether there are others of a higher class.
    pub async fn start(&self, above: i32, most: usize) -> Result<(Vec<Picked>, bool)> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = self.client.query(&self.start, &[&above, &most, &self.slot_name]).await;
        let rows = rows.map_err(self.failed("pick"))?;
        let has_higher = rows.first().is_some_and(|row| row.get("has_higher"));
        let count = |row: &SqlRow, column: &str| row.get::<_, i64>(column);
        let mut picked: Vec<Picked> = rows
            .iter()
            .map(|row| Picked {
                id: count(row, "id"),
                lane: row.get("lane"),
                place: count(row, "place"),
                deaths: u32::try_from(count(row, "deaths")).unwrap_or_default(),
                bytes: row
                    .get::<_, Option<i64>>("bytes")
                    .and_then(|bytes| usize::try_from(bytes).ok())
                    .unwrap_or_default(),
            })
            .collect();
        picked.sort_unstable_by_key(|row| (row.place, row.id));
        Ok((picked, has_higher))
    }

    /// Begins a transaction and claims in it what can be had of `picked`, in order.
    pub async fn claim(&self, picked: Vec<Picked>) -> Result<Vec<Picked>> {
        let begun = self.client.batch_execute("BEGIN").await;
        begun.map_err(self.failed("claim"))?;
        let ids: Vec<i64> = picked.iter().map(|row| row.id).collect();
        let rows = self.client.query(&self.claim, &[&ids]).await.map_err(self.failed("claim"))?;
        let held = rows.iter().map(|row| row.get("id")).collect();
        Ok(without_holes(picked, &held))
    }

    /// Claimed rows, in the order of `ids`.
    pub async fn read(&self, ids: &[i64], with: Payloads) -> Result<Vec<SqlRow>> {
        let statement = match with {
            Payloads::Read => &self.read,
            Payloads::Leave => &self.read_without_payload,
        };
        self.client.query(statement, &[&ids]).await.map_err(self.failed("read"))
    }

    /// Ends the claim: what was settled holds.
    pub async fn commit(&self) -> Result<()> {
        self.client.batch_execute("COMMIT").await.map_err(self.failed("settle"))
    }

    /// Gives the claim up.
    pub async fn roll_back(&self) -> Result<()> {
        self.client.batch_execute("ROLLBACK").await.map_err(self.failed("give up"))
    }

    /// Attempts that were begun and not made are not counted.
    pub async fn undo_start(&self, ids: &[i64]) -> Result<()> {
        let done = self.client.execute(&self.undo, &[&ids]).await;
        done.map(drop).map_err(self.failed("give back"))
    }

    /// Those of `names` that stand for nothing that could still be claimed.
    pub async fn settled(&self, names: Vec<String>) -> Result<Vec<String>> {
        let events: Vec<&str> = names.iter().flat_map(|name| events_of(name)).collect();
        let is_id = |event: &&str| !self.event_id_is_uuid || is_uuid(event);
        let events: Vec<&str> = events.into_iter().filter(is_id).collect();
        let rows = self.client.query(&self.unsettled, &[&events]).await;
        let rows = rows.map_err(self.failed("look for"))?;
        let unsettled: HashSet<&str> = rows.iter().map(|row| row.get("event_id")).collect();
        let is_settled = |name: &String| !events_of(name).any(|event| unsettled.contains(event));
        Ok(names.into_iter().filter(is_settled).collect())
    }
}

/// The events that a name may stand for: itself, or what is in front of a moment of death.
fn events_of(name: &str) -> impl Iterator<Item = &str> {
    let deaths = name.match_indices(':').filter_map(|(at, _)| name.get(..at));
    std::iter::once(name).chain(deaths)
}

/// Whether payloads are read with their rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payloads {
    /// They are.
    Read,
    /// To read them may be what ends the process.
    Leave,
}

fn is_uuid(name: &str) -> bool {
    name.len() == UUID_CHARS && name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// Of each lane what is held without a hole, from its first row on.
fn without_holes(picked: Vec<Picked>, held: &HashSet<i64>) -> Vec<Picked> {
    let mut reached: HashMap<String, i64> = HashMap::new();
    let mut ours = Vec::with_capacity(picked.len());
    for row in picked {
        let reached = reached.entry(row.lane.clone()).or_default();
        if row.place == *reached + 1 && held.contains(&row.id) {
            *reached = row.place;
            ours.push(row);
        }
    }
    ours
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(id: i64, lane: &str, place: i64) -> Picked {
        Picked { id, lane: lane.to_owned(), place, deaths: 0, bytes: 0 }
    }

    #[test]
    fn behind_a_hole_nothing_of_a_lane_is_ours() {
        let rows = || {
            vec![
                picked(1, "a", 1),
                picked(5, "b", 1),
                picked(2, "a", 2),
                picked(6, "b", 2),
                picked(3, "a", 3),
            ]
        };
        let ours = |held: &[i64]| {
            let ours = without_holes(rows(), &held.iter().copied().collect());
            ours.iter().map(|row| row.id).collect::<Vec<_>>()
        };
        assert_eq!(ours(&[1, 2, 3, 5, 6]), [1, 5, 2, 6, 3]);
        assert_eq!(ours(&[1, 3, 6]), [1], "another has the second of a and the first of b");
        assert_eq!(ours(&[2, 3, 5]), [5]);
    }
}
