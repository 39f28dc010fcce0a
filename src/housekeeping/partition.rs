//! Partitions: one that nobody needs any more is dropped whole.
//!
//! In: an outbox partitioned by ranges of a moment or of the id. Out: fewer partitions. It must
//! stay true that what is dropped was looked through with writers kept out, in the same
//! transaction, and that neither the newest partition goes nor the one for all the rest.

use tokio_postgres::{Client, Transaction};

use super::keeper::Broom;
use super::rules::Rules;
use super::walk::Ages;
use crate::config::TableName;
use crate::error::Result;
use crate::postgres::{from_sql, is_lock_conflict, quote};

const PARTITIONS: &str = include_str!("../../sql/queries/retention_partitions.sql");
const IS_PAST_TIME: &str = include_str!("../../sql/queries/retention_is_past_time.sql");
const IS_PAST_ID: &str = include_str!("../../sql/queries/retention_is_past_id.sql");
const IS_DONE: &str = include_str!("../../sql/queries/retention_is_done.sql");
const LOCK: &str = include_str!("../../sql/queries/retention_lock_partition.sql");
const DROP: &str = include_str!("../../sql/queries/retention_drop_partition.sql");

/// date, timestamp, timestamptz.
const MOMENT_OIDS: [u32; 3] = [1082, 1114, 1184];

/// What a partition's key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Moment,
    Id,
    Other,
}

/// Where a partition stands among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// For all that fits nowhere else.
    Default,
    Newest,
    Older,
}

/// One partition of the outbox.
#[derive(Clone, Debug)]
pub(super) struct Partition {
    schema: String,
    name: String,
    key: Key,
    place: Place,
    /// It has no partitions of its own and is no foreign table.
    is_plain: bool,
    /// Where it ends.
    upper: Option<String>,
    is_ours: bool,
}

/// The partitions; none for a table that has none.
pub(super) async fn find(client: &Client, table: &TableName) -> Result<Vec<Partition>> {
    let doing = format!("cannot read the partitions of table {table}");
    let rows = client
        .query(PARTITIONS, &[&table.schema, &table.name])
        .await
        .map_err(|error| from_sql(&doing, error))?;
    let partitions = rows.iter().map(|row| {
        let (name, oid): (String, u32) = (row.get("key"), row.get("key_oid"));
        let key = match name.as_str() {
            _ if MOMENT_OIDS.contains(&oid) => Key::Moment,
            "id" => Key::Id,
            _ => Key::Other,
        };
        Partition {
            schema: row.get("schema"),
            name: row.get("name"),
            key,
            place: if row.get("is_default") { Place::Default } else { Place::Older },
            is_plain: row.get("is_plain"),
            upper: row.get("upper_bound"),
            is_ours: row.get("is_ours"),
        }
    });
    let mut partitions: Vec<Partition> = partitions.collect();
    partitions.sort_by_key(Partition::end);
    if let Some(newest) = partitions.iter_mut().rfind(|one| one.place == Place::Older) {
        newest.place = Place::Newest;
    }
    Ok(partitions)
}

/// Whether partitions of this kind can be dropped; if not, why not.
pub(super) fn droppable(partitions: &[Partition]) -> std::result::Result<(), &'static str> {
    if partitions.iter().any(|one| one.key == Key::Other) {
        return Err("the partition key is neither a moment nor the id");
    }
    if partitions.iter().any(|one| !one.is_plain) {
        return Err("a partition has partitions of its own or is a foreign table");
    }
    if partitions.iter().any(|one| !one.is_ours) {
        return Err("only the owner of the outbox and of its partitions can drop them");
    }
    Ok(())
}

impl Partition {
    pub fn quoted(&self) -> String {
        quote::qualified(&self.schema, &self.name)
    }

    /// In order of their ends; an end at no value is behind all. Moments are printed in one zone
    /// and from the year down.
    fn end(&self) -> (bool, i64, String) {
        match &self.upper {
            None => (true, 0, String::new()),
            // What is no number is not known to be passed: it goes last, and never.
            Some(upper) if self.key == Key::Id => {
                let end = upper.parse().ok();
                (end.is_none(), end.unwrap_or(0), String::new())
            }
            Some(upper) => (false, 0, upper.clone()),
        }
    }

    /// Drops it if it may be dropped whole. Otherwise says whether old rows in it must go one by
    /// one: because it never will be dropped, or something in it must stay.
    pub async fn must_go_by_rows(
        &self,
        broom: &mut Broom,
        outbox: &str,
        rules: &Rules,
        ages: &Ages,
    ) -> Result<bool> {
        if self.place != Place::Older {
            return Ok(true);
        }
        let Some(upper) = &self.upper else { return Ok(true) };
        let doing = format!("cannot look through partition {}.{}", self.schema, self.name);
        let failed = |error| from_sql(&doing, error);
        let client = &mut broom.client;
        let (xmin, retention, aged) = (ages.xmin, ages.retention, ages.aged);
        let is_past = match self.key {
            Key::Moment => client.query_one(IS_PAST_TIME, &[upper, &retention]).await,
            Key::Id | Key::Other => {
                let sql = rules.sql(IS_PAST_ID, outbox);
                client.query_one(&sql, &[&xmin, &retention, &aged, upper]).await
            }
        };
        if !is_past.map_err(failed)?.get::<_, bool>("is_past") {
            return Ok(false);
        }
        let is_done = rules.sql(IS_DONE, &self.quoted());
        let row = client.query_one(&is_done, &[&xmin, &retention, &aged]).await.map_err(failed)?;
        if !row.get::<_, bool>("is_done") {
            return Ok(true);
        }
        let transaction = client.transaction().await.map_err(failed)?;
        match self.drop_in(transaction, outbox, &is_done, ages).await {
            Ok(true) => {
                broom.status.metrics.partitions_dropped.inc();
                tracing::info!(schema = self.schema, name = self.name, "old partition dropped");
                Ok(false)
            }
            Ok(false) => Ok(true),
            // Somebody uses it: the next round is soon.
            Err(error) if is_lock_conflict(&error) => Ok(false),
            // Too large to be looked through while others wait: it is emptied first.
            Err(error) if error.code().is_some_and(|code| code.code() == "57014") => Ok(true),
            Err(error) => {
                let doing = format!("cannot drop partition {}.{}", self.schema, self.name);
                Err(from_sql(&doing, error))
            }
        }
    }

    async fn drop_in(
        &self,
        transaction: Transaction<'_>,
        outbox: &str,
        is_done: &str,
        ages: &Ages,
    ) -> std::result::Result<bool, tokio_postgres::Error> {
        let quoted = self.quoted();
        transaction.batch_execute(&LOCK.replace("{table}", &quoted)).await?;
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&ages.xmin, &ages.retention, &ages.aged];
        if !transaction.query_one(is_done, &parameters).await?.get::<_, bool>("is_done") {
            return Ok(false);
        }
        let drop = DROP.replace("{outbox}", outbox).replace("{table}", &quoted);
        transaction.batch_execute(&drop).await?;
        transaction.commit().await?;
        Ok(true)
    }
}
