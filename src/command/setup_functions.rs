//! The functions of schema identity that write events and users by one call.
//!
//! In: a session, `max_event_bytes`. Out: the functions as this version has them, or why they were
//! left as they are. It must stay true that functions of somebody else's are never replaced (0003
//! looks first), that it is all of them or none, and that a setup without them is a setup: events
//! can be written by INSERT as well.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::setup_table;
use super::table::printable;
use crate::config::Outbox;
use crate::error::Result;
use crate::postgres::from_sql;

const FIND_FUNCTIONS: &str = include_str!("../../sql/queries/find_functions.sql");
const EMIT_EVENT: &str = include_str!("../../sql/migrations/0003_emit_event.sql");
const REFUSALS: &str = include_str!("../../sql/refusals.sql");
const USERS: &str = include_str!("../../sql/migrations/0004_users.sql");
const USER_EVENTS: &str = include_str!("../../sql/migrations/0005_user_events.sql");
const MIGRATE_USERS: &str = include_str!("../../sql/migrations/0006_migrate_users.sql");
const EMIT_MESSAGE: &str = include_str!("../../sql/migrations/0007_emit_message.sql");

/// The columns that emit_event writes.
const WRITTEN: [&str; 10] = [
    "event_id",
    "event_type",
    "aggregate_type",
    "aggregate_id",
    "payload",
    "topic",
    "tenant_id",
    "correlation_id",
    "traceparent",
    "schema_version",
];

/// Whether they write this outbox: our own, by the names that we gave its columns.
pub(super) fn are_for(outbox: &Outbox) -> bool {
    let is_named = |part: &&str| outbox.columns.column(part) == Some(*part);
    setup_table::is_own(outbox) && WRITTEN.iter().all(is_named)
}

/// All of them as a script: it stops at the first that is not ours, and then nothing was done.
pub(super) fn sql(event_bytes_max: usize) -> String {
    let parts =
        ["BEGIN;\n", EMIT_EVENT, USERS, USER_EVENTS, MIGRATE_USERS, EMIT_MESSAGE, "COMMIT;\n"];
    let script = parts.join("\n").replace("{refusals}", REFUSALS.trim_end());
    script.replace("{max_event_bytes}", &event_bytes_max.to_string())
}

/// Creates or replaces them; what became of that.
pub(super) async fn install(client: &Client, event_bytes_max: usize) -> Result<String> {
    let Err(error) = client.batch_execute(&sql(event_bytes_max)).await else {
        return Ok("there".to_owned());
    };
    let doing = "cannot create the functions of schema identity";
    // It failed between BEGIN and COMMIT.
    client.batch_execute("ROLLBACK").await.map_err(|error| from_sql(doing, error))?;
    let found = client.query_one(FIND_FUNCTIONS, &[]).await;
    let are_there: bool = found.map_err(|error| from_sql(doing, error))?.get("are_there");
    let message = |error: &tokio_postgres::Error| {
        let message = error.as_db_error().map(tokio_postgres::error::DbError::message);
        printable(message.unwrap_or_default()).into_owned()
    };
    match error.code() {
        Some(code) if *code == SqlState::DUPLICATE_FUNCTION => {
            Ok(format!("left out: {}", message(&error)))
        }
        // Whoever repeats a setup need not own what the first one made.
        Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE && are_there => {
            Ok(format!("found, left as they are: {}", message(&error)))
        }
        _ => Err(from_sql(doing, error)),
    }
}
