//! What must be so before a line may start, and what is worth a warning.
//!
//! In: what the servers say. Out: a definite error that names the object and the next step, or a
//! line in the log. It must stay true that nothing is changed from here.

use tokio_postgres::{Client, Row};

use super::parker::PARKING_COLUMNS;
use crate::config::{AfterPublish, Outbox, Settings};
use crate::error::{Error, Result};
use crate::outbox::{Plan, Selection};
use crate::postgres::{self, from_sql};
use crate::sink::{Durable, Facts};

const MESSAGE_RIGHTS: &str = include_str!("../../sql/queries/message_rights.sql");
const COUNT_UNPUBLISHED: &str = include_str!("../../sql/queries/count_unpublished.sql");

/// What keeps a relay from parking events.
pub(super) struct Lacks {
    pub what: String,
    pub hint: String,
}

/// The outbox: there, with the columns an event needs, and with the privileges to settle rows. What
/// is returned keeps us from parking, and from nothing else.
pub(super) async fn check_table(client: &Client, settings: &Settings) -> Result<Option<Lacks>> {
    let table = &settings.outbox_table;
    let rows = postgres::describe_table(client, table).await?;
    let Some(first) = rows.first() else {
        return Err(Error::definite(format!("table {table} does not exist"))
            .hint("create it with `walrelay setup`, or correct outbox_table"));
    };
    let (may_update, may_delete) = (first.get("may_update"), first.get("may_delete"));
    let columns = postgres::names_and_types(&rows);
    Plan::from_columns(table, &columns)?;
    let quoted = table.quoted();
    let (is_allowed, grant) = match settings.after_publish {
        AfterPublish::Mark => (may_update, format!("UPDATE ({})", table.marks().join(", "))),
        AfterPublish::Delete => (may_delete, "DELETE".to_owned()),
        AfterPublish::Keep => (true, String::new()),
    };
    if !is_allowed {
        return Err(Error::definite(format!(
            "after_publish = {}, but this role may not do that on table {table}",
            settings.after_publish.name()
        ))
        .hint(format!("GRANT SELECT, {grant} ON {quoted} TO the role in database_url")));
    }
    if settings.after_publish == AfterPublish::Mark {
        let has = |wanted: &str| columns.iter().any(|(name, _)| name == wanted);
        let marks = table.marks();
        if marks.is_empty() || !marks.iter().all(|mark| has(mark)) {
            let marks = if marks.is_empty() { vec!["published_at"] } else { marks };
            return Err(Error::definite(format!(
                "after_publish = mark, but table {table} lacks the column {}",
                marks.join(" or ")
            ))
            .hint("add them with `walrelay setup`, or set after_publish to delete or keep"));
        }
    }
    Ok(lacks(table, &rows))
}

/// What keeps this server from passing messages on, or this role from parking them as rows.
pub async fn message_obstacle(
    client: &Client,
    outbox: &Outbox,
    has_messages: bool,
) -> Result<Option<(String, String)>> {
    if !has_messages {
        let what = "PostgreSQL before 14 passes no messages on".to_owned();
        return Ok(Some((what, "set messages = false, and use identity.emit_event".to_owned())));
    }
    let doing = format!("cannot ask who may insert into table {outbox}");
    let asked = client.query_opt(MESSAGE_RIGHTS, &[&outbox.schema, &outbox.name]).await;
    let row = asked.map_err(|error| from_sql(&doing, error))?;
    let obstacle = row.and_then(|row| {
        if !row.get::<_, bool>("may_insert") {
            let table = outbox.quoted();
            return Some((
                "this role may not insert rows".to_owned(),
                format!("INSERT ON {table}"),
            ));
        }
        let sequence: String = row.get::<_, Option<String>>("sequence")?;
        let what = format!("this role may not use sequence {sequence}");
        Some((what, format!("USAGE ON SEQUENCE {sequence}")))
    });
    Ok(obstacle.map(|(what, grant)| {
        let what = format!("{what}, and a message that is refused becomes a row");
        (what, format!("GRANT {grant} TO the role in database_url"))
    }))
}

/// Messages are taken in only where each can leave again, whatever it says.
pub(super) async fn check_messages(
    client: &Client,
    settings: &Settings,
    facts: &postgres::Facts,
    lacks: Option<&Lacks>,
) -> Result<()> {
    if !settings.messages {
        return Ok(());
    }
    let obstacle = match lacks {
        Some(lacks) => Some((lacks.what.clone(), lacks.hint.clone())),
        None => message_obstacle(client, &settings.outbox_table, facts.has_messages).await?,
    };
    match obstacle {
        Some((what, hint)) => {
            Err(Error::definite(format!("messages = true, but {what}")).hint(hint))
        }
        None => Ok(()),
    }
}

fn lacks(table: &Outbox, rows: &[Row]) -> Option<Lacks> {
    let column = |wanted: &str| rows.iter().find(|row| row.get::<_, &str>("column_name") == wanted);
    let parking = || PARKING_COLUMNS.into_iter().filter_map(|part| table.columns.column(part));
    let wanted = || parking().chain(table.marks());
    let missing: Vec<&str> = wanted().filter(|name| column(name).is_none()).collect();
    if !missing.is_empty() {
        return Some(Lacks {
            what: format!("table {table} lacks what parking takes: {}", missing.join(", ")),
            hint: "add it with `walrelay setup`".to_owned(),
        });
    }
    let may_update = |name: &&str| column(name).is_some_and(|row| row.get("may_update_column"));
    let denied: Vec<&str> = parking().filter(|name| !may_update(name)).collect();
    (!denied.is_empty()).then(|| Lacks {
        what: format!("this role may not park events in table {table}"),
        hint: format!(
            "GRANT UPDATE ({}) ON {} TO the role in database_url",
            denied.join(", "),
            table.quoted()
        ),
    })
}

/// How rows of the outbox are read by SQL.
pub(super) async fn selection(client: &Client, table: &Outbox) -> Result<Selection> {
    let columns = postgres::columns(client, table).await?;
    Selection::from_columns(table, &columns)
}

/// A commit that waits for us would wait for ever: we confirm what is marked, and mark what others
/// can see, which is only after the wait.
pub(super) fn refuse_synchronous(sync_state: Option<&str>) -> Result<()> {
    match sync_state {
        None | Some("async") => Ok(()),
        Some(state) => Err(Error::definite(format!(
            "PostgreSQL treats this relay as a synchronous standby ({state}): its commits would \
             wait for the relay, and the relay for them"
        ))
        .hint(
            "name the standbys in synchronous_standby_names instead of '*' or walrelay, and \
             reload PostgreSQL",
        )),
    }
}

pub(super) fn tell_hazards(facts: &Facts, durable: Durable) {
    if let Some(policy) = facts.maxmemory_policy.as_deref()
        && policy.starts_with("allkeys-")
    {
        tracing::warn!(
            policy,
            "Redis throws any key away when its memory is full, streams too: set \
             maxmemory-policy noeviction"
        );
    }
    if facts.is_rewrite_unsynced && !durable.hold.is_zero() {
        tracing::warn!(
            "Redis does not sync its append-only file while it rewrites it: a power loss then \
             loses confirmed entries; set no-appendfsync-on-rewrite no"
        );
    }
    if let (Some(barrier), Some(replicas)) = (durable.barrier, facts.replicas)
        && replicas < u32::from(barrier.replicas)
    {
        tracing::warn!(
            replicas,
            wanted = barrier.replicas,
            "Redis has fewer replicas than durability asks for: nothing is confirmed until they \
             are there"
        );
    }
}

/// Says how many rows the new slot will not send.
pub(super) async fn tell_unpublished(client: &Client, table: &Outbox) -> Result<()> {
    let sql = table.sql(COUNT_UNPUBLISHED);
    let doing = format!("cannot count the unpublished rows of table {table}");
    let row = match client.query_one(&sql, &[]).await {
        Ok(row) => row,
        // A table without the flag has nothing to count.
        Err(error) if postgres::is_undefined_column(&error) => return Ok(()),
        Err(error) => return Err(from_sql(&doing, error)),
    };
    let unpublished: i64 = row.get("unpublished");
    if unpublished > 0 {
        tracing::warn!(
            table = %table,
            rows = unpublished,
            "the table holds unpublished rows from before the slot: the slot does not send them"
        );
    }
    Ok(())
}
