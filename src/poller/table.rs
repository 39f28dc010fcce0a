//! The outbox as pollers see it: the statements for the columns it has.
//!
//! In: the table's columns. Out: SQL text with everything put in. It must stay true that a column
//! that is not there is done without: a table without `next_attempt_at` has nothing parked, one
//! without `dead_lettered_at` nothing dead.

use tokio_postgres::Client;

use crate::config::{AfterPublish, Ordering, Settings};
use crate::error::{Error, Result};
use crate::outbox::Selection;
use crate::postgres::{describe_table, from_sql, names_and_types};

const FACTS: &str = include_str!("../../sql/queries/poll_facts.sql");
const BEGIN: &str = include_str!("../../sql/queries/poll_begin.sql");
const GIVE_TURN: &str = include_str!("../../sql/queries/poll_give_turn.sql");
const END_TURN: &str = include_str!("../../sql/queries/poll_end_turn.sql");
const LOOK: &str = include_str!("../../sql/queries/poll_look.sql");
const CLAIM: &str = include_str!("../../sql/queries/poll_claim.sql");
const CLAIMED: &str = include_str!("../../sql/queries/poll_claimed.sql");
const PARKED: &str = include_str!("../../sql/queries/poll_parked.sql");
const MARK: &str = include_str!("../../sql/queries/mark_published.sql");
const DELETE: &str = include_str!("../../sql/queries/delete_published.sql");

/// What parking needs besides `published`.
const PARKING: [&str; 6] = [
    "next_attempt_at",
    "dead_lettered_at",
    "wal_position",
    "attempts",
    "started_attempts",
    "error_message",
];

/// The statements of a poller, complete but for their parameters.
#[derive(Clone, Debug)]
pub struct Table {
    /// Begins a round.
    pub begin: String,
    /// Gives the turn to the next poller; none where there are no turns.
    pub give_turn: Option<String>,
    /// Ends turns that are too old.
    pub end_turn: String,
    /// A look.
    pub look: String,
    /// A claim.
    pub claim: String,
    /// The same of the row's numbers only.
    pub claim_ids: String,
    /// One claimed row.
    pub claimed: String,
    /// The same without its payload.
    pub claimed_without_payload: String,
    /// Aggregates with parked events; none where nothing can be parked.
    pub parked: Option<String>,
    /// What is done to rows that are delivered.
    pub mark: String,
    /// How rows are read.
    pub selection: Selection,
    /// Whether our trigger announces rows.
    pub has_trigger: bool,
    /// PostgreSQL's system identifier.
    pub system_id: String,
}

impl Table {
    /// Reads the table's columns; `run` names the run of Redis.
    pub async fn find(client: &Client, settings: &Settings, run: u32) -> Result<Self> {
        let name = &settings.outbox_table;
        let doing = format!("cannot read the columns of table {name}");
        let failed = |error| from_sql(&doing, error);
        let names: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&name.schema, &name.name];
        let columns = names_and_types(&describe_table(client, name).await?);
        let selection = Selection::from_columns(name, &columns)?;
        let has = |part: &str| selection.parts().has(part);
        if settings.after_publish == AfterPublish::Mark && !has("published") {
            let flag = name.marks().first().copied().unwrap_or("published_at").to_owned();
            return Err(Error::definite(format!(
                "mode = poll finds rows by the column {flag}, which table {name} lacks"
            ))
            .hint("add it with `walrelay setup`, or set after_publish = delete"));
        }
        let facts = client.query_opt(FACTS, &names).await.map_err(failed)?;
        let facts = facts.ok_or_else(|| Error::definite(format!("{doing}: it is gone")))?;
        let key: i32 = facts.get("table_key");
        let is_new = is_new(&has);
        let can_park = has("published") && PARKING.iter().all(|column| has(column));
        let is_parked = if can_park { IS_PARKED } else { "false" };
        let counts = if can_park { COUNTS } else { NO_COUNTS };
        let round_key = (i64::from(key) << 32) | i64::from(run);
        let fill = |sql: &str| {
            sql.replace("{is_new}", &is_new)
                .replace("{is_parked}", is_parked)
                .replace("{table_key}", &key.to_string())
                .replace("{round_key}", &format!("({round_key})::int8"))
                .replace("{run}", &run.to_string())
        };
        let fill = |sql: &str| name.sql(&fill(sql));
        let counts = name.sql(counts);
        let list = format!("{}{counts}", selection.list());
        let ids = name.sql(IDS);
        let is_ordered = settings.ordering == Ordering::PerAggregate;
        Ok(Self {
            begin: if is_ordered { fill(BEGIN) } else { "BEGIN".to_owned() },
            give_turn: is_ordered.then(|| fill(GIVE_TURN)),
            end_turn: fill(END_TURN),
            look: fill(LOOK),
            claim: fill(CLAIM).replace("{list}", &list),
            claim_ids: fill(CLAIM).replace("{list}", &ids),
            claimed: fill(CLAIMED).replace("{list}", &list),
            claimed_without_payload: fill(CLAIMED)
                .replace("{list}", &format!("{}{counts}", selection.list_without_payload())),
            parked: can_park.then(|| fill(PARKED)),
            mark: fill(if settings.after_publish == AfterPublish::Delete { DELETE } else { MARK }),
            selection,
            has_trigger: facts.get("has_trigger"),
            system_id: facts.get::<_, Option<String>>("system_id").unwrap_or_default(),
        })
    }
}

const IDS: &str = "o.id::int8 AS id";
const COUNTS: &str = ", o.attempts::int8 AS attempts, o.started_attempts::int8 AS started_attempts";
const NO_COUNTS: &str = ", 0::int8 AS attempts, 0::int8 AS started_attempts";
/// By a relay: only such rows hold others back.
const IS_PARKED: &str = "NOT o.published AND o.next_attempt_at IS NOT NULL \
     AND o.dead_lettered_at IS NULL AND o.wal_position IS NOT NULL";

fn is_new(has: &impl Fn(&str) -> bool) -> String {
    let parts: Vec<&str> = [
        ("published", "NOT o.published"),
        ("next_attempt_at", "o.next_attempt_at IS NULL"),
        ("dead_lettered_at", "o.dead_lettered_at IS NULL"),
    ]
    .into_iter()
    .filter(|(column, _)| has(column))
    .map(|(_, part)| part)
    .collect();
    if parts.is_empty() { "true".to_owned() } else { parts.join(" AND ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_told_by_the_columns_there_are() {
        assert_eq!(is_new(&|_| false), "true");
        let all = is_new(&|_| true);
        assert!(all.contains("NOT o.published AND o.next_attempt_at IS NULL"), "{all}");
        assert_eq!(is_new(&|name| name == "published"), "NOT o.published");
    }
}
