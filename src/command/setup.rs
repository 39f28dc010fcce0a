//! `walrelay setup`: applies `sql/`, and says what it did. `--print` shows the same SQL and does
//! nothing.
//!
//! In: settings and the name of a role, perhaps. Out: schema, columns, publication, slot, role, and
//! functions beside our own table. It must stay true that repeating it changes nothing but what an
//! interrupted one has left undone, that nothing is ever dropped (but an index that was never
//! finished), altered in meaning or rewritten, and that what is printed is what would be run.

use std::io::Write;
use std::time::Duration;

use tokio_postgres::Client;

use super::setup_functions as functions;
use super::setup_table;
use super::table::printable;
use super::terminal::{clock, heading, patiently};
use crate::config::{Backlog, DatabaseUrl, Mode, Outbox, Shard, Shards};
use crate::error::{Error, Result};
use crate::postgres::{self, Target, from_sql, quote};

const LOCK_SETUP: &str = include_str!("../../sql/queries/lock_setup.sql");
const FIND_ROLE: &str = include_str!("../../sql/queries/find_role.sql");
const OLDEST_TRANSACTION: &str = include_str!("../../sql/queries/oldest_transaction.sql");
const ROLE_REPLICATION: &str = include_str!("../../sql/role_replication.sql");
const ROLE: &str = include_str!("../../sql/role.sql");

/// What is to be set up.
pub struct Plan<'a> {
    /// The section of the table, where there are sections; and whether it is the first.
    pub section: (Option<&'a str>, bool),
    /// The outbox.
    pub table: &'a Outbox,
    /// The publication, or the beginning of the shards' names.
    pub publication: &'a str,
    /// The slot, or the beginning of the shards' names.
    pub slot: &'a str,
    /// The lines that share the outbox.
    pub shards: &'a Shards,
    /// What becomes of unpublished rows from before the slot.
    pub backlog: Backlog,
    /// How events are found: polling needs no publication and no slot.
    pub mode: Mode,
    /// Whether new rows are to be announced to pollers.
    pub notify: bool,
    /// The role that the relay is to run as, if one is wanted.
    pub role: Option<&'a str>,
    /// The largest event: beside our own table come functions that refuse a larger one.
    pub event_bytes_max: usize,
}

impl Plan<'_> {
    fn role_sql(&self, role: &str) -> String {
        let mut sql = ROLE.to_owned();
        if self.mode != Mode::Poll {
            sql.push_str(ROLE_REPLICATION);
        }
        sql.replace("{role_text}", &quote::literal(role))
            .replace("{role}", &quote::ident(role))
            .replace("{schema}", &quote::ident(&self.table.schema))
            .replace("{table_text}", &quote::literal(&self.table.quoted()))
            .replace("{written}", &setup_table::written(self.table))
            .replace("{table}", &self.table.quoted())
    }

    /// The whole of it as a script for psql.
    #[must_use]
    pub fn script(&self) -> String {
        let section = self.section.0;
        let section = section.map_or_else(String::new, |table| format!("-- [tables.{table}]\n"));
        let mut parts = vec![
            section
                + "-- What `walrelay setup` runs. Not in one transaction: a slot cannot be created \
             behind writes.\n",
            postgres::SESSION.to_owned(),
        ];
        parts.extend(setup_table::script(self.table));
        if self.notify {
            parts.push(postgres::notify_sql(self.table));
        }
        if self.mode != Mode::Poll {
            for shard in self.shards.all() {
                let publication = shard.name(self.publication);
                parts.push(postgres::create_publication_sql(&publication, self.table, shard));
            }
            for shard in self.shards.all() {
                parts.push(postgres::create_slot_sql((self.slot, shard), self.table, self.backlog));
            }
        }
        parts.extend(self.role.map(|role| self.role_sql(role)));
        if functions::are_for(self.table) {
            parts.push(functions::sql(self.event_bytes_max));
        }
        parts.join("\n")
    }
}

/// Writes the script to `out`.
pub fn print(plan: &Plan<'_>, out: &mut impl Write) -> Result<()> {
    out.write_all(plan.script().as_bytes()).map_err(unwritable)
}

fn unwritable(error: std::io::Error) -> Error {
    Error::definite("cannot write to stdout").because(error)
}

/// Sets up what is missing, and writes a line for each object to `out`.
pub async fn run(
    url: &DatabaseUrl,
    timeout: Duration,
    plan: &Plan<'_>,
    out: &mut impl Write,
) -> Result<()> {
    let target = Target::new(url, timeout)?;
    let client = target.sql().await?;
    postgres::set_up_session(&client).await?;
    let facts = match plan.mode {
        Mode::Wal => postgres::facts(&client).await?,
        Mode::Poll | Mode::Auto => postgres::facts_without_wal(&client).await?,
    };
    if plan.mode != Mode::Poll
        && let Some(shard) = plan.shards.all().next()
    {
        postgres::check_version(shard, &facts.version, facts.version_num)?;
    }
    let doing = "cannot wait for another setup";
    // lock_timeout would end this wait early; the other setup takes some milliseconds.
    client.batch_execute("RESET lock_timeout").await.map_err(|error| from_sql(doing, error))?;
    client.batch_execute(LOCK_SETUP).await.map_err(|error| from_sql(doing, error))?;
    let (section, is_first) = plan.section;
    out.write_all(heading(section, is_first).as_bytes()).map_err(unwritable)?;
    let mut report = Report { out };
    report.line("server", "", &format!("PostgreSQL {} at {}", facts.version, target.label()))?;
    let outcome = setup_table::set_up(&client, plan.table).await?;
    report.line("table", &plan.table.to_string(), &outcome)?;

    if plan.notify {
        postgres::install_notify(&client, plan.table).await?;
        report.line("trigger", "walrelay_notify", "there")?;
    }
    if plan.mode == Mode::Wal || (plan.mode == Mode::Auto && facts.wal_level == "logical") {
        set_up_stream(&client, &target, plan, &mut report).await?;
    }
    if let Some(role) = plan.role {
        set_up_role(&client, plan, role, &mut report).await?;
    }
    if functions::are_for(plan.table) {
        let outcome = functions::install(&client, plan.event_bytes_max).await?;
        report.line("functions", "identity.emit_event etc.", &outcome)?;
    }
    Ok(())
}

/// What streaming takes.
async fn set_up_stream(
    client: &Client,
    target: &Target,
    plan: &Plan<'_>,
    report: &mut Report<'_, impl Write>,
) -> Result<()> {
    for shard in plan.shards.all() {
        let name = shard.name(plan.publication);
        let is_there = postgres::find_publication(client, &name, plan.table, shard).await?;
        if !is_there {
            postgres::create_publication(client, &name, plan.table, shard).await?;
        }
        report.line("publication", &name, found_or_created(is_there))?;
    }
    for shard in plan.shards.all() {
        set_up_slot(client, plan, (shard, target), report).await?;
    }
    Ok(())
}

async fn set_up_slot(
    client: &Client,
    plan: &Plan<'_>,
    (shard, target): (Shard, &Target),
    report: &mut Report<'_, impl Write>,
) -> Result<()> {
    let (name, database) = (&shard.name(plan.slot), target.database());
    let outcome = match postgres::find_slot(client, name, database).await? {
        Some(slot) if slot.lost.is_some() => "lost; `walrelay run` replaces it",
        Some(_) => "found",
        None => {
            let creating =
                postgres::create_slot(client, (plan.slot, shard), plan.table, plan.backlog);
            patiently(creating, async || waits_for(target, name).await).await?;
            match postgres::find_slot(client, name, database).await? {
                Some(_) => "created",
                None => "left to `walrelay run`: there are rows or slots from before it",
            }
        }
    };
    report.line("slot", name, outcome)
}

/// Whom PostgreSQL waits for before it creates a slot.
async fn waits_for(target: &Target, slot: &str) -> String {
    let row = match target.sql().await {
        Ok(client) => client.query_opt(OLDEST_TRANSACTION, &[]).await.ok().flatten(),
        Err(_) => None,
    };
    let oldest = row.map_or_else(String::new, |row| {
        let (pid, application): (Option<i32>, &str) = (row.get("pid"), row.get("application"));
        let (open, seconds): (i64, i64) = (row.get("open"), row.get("seconds"));
        let pid = pid.map_or_else(String::new, |pid| format!("pid {pid} "));
        let age = clock(u64::try_from(seconds).unwrap_or(0));
        format!(": {open} of them, the oldest {pid}({application}), open for {age}")
    });
    let text = format!("slot {slot} is created once the transactions that are open end{oldest}");
    printable(&text).into_owned()
}

async fn set_up_role(
    client: &Client,
    plan: &Plan<'_>,
    role: &str,
    report: &mut Report<'_, impl Write>,
) -> Result<()> {
    let doing = format!("cannot set up role {role:?}");
    let failed = |error| from_sql(&doing, error);
    let is_there: bool =
        client.query_one(FIND_ROLE, &[&role]).await.map_err(failed)?.get("is_there");
    client.batch_execute(&plan.role_sql(role)).await.map_err(failed)?;
    let outcome = if is_there { "granted" } else { "created; give it a password with \\password" };
    report.line("role", role, outcome)
}

fn found_or_created(is_there: bool) -> &'static str {
    if is_there { "found" } else { "created" }
}

/// One aligned line an object.
struct Report<'a, W> {
    out: &'a mut W,
}

impl<W: Write> Report<'_, W> {
    fn line(&mut self, kind: &str, name: &str, outcome: &str) -> Result<()> {
        let line = if name.is_empty() {
            format!("{kind:<12} {outcome}")
        } else {
            format!("{kind:<12} {name:<24} {outcome}")
        };
        writeln!(self.out, "{line}").map_err(unwritable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Inputs, TableName, load};

    fn plan<'a>(table: &'a Outbox, role: Option<&'a str>, shards: &'a Shards) -> Plan<'a> {
        let (backlog, mode, notify) = (Backlog::Publish, Mode::Wal, true);
        let (publication, slot, event_bytes_max) = ("p'\"", "walrelay", 4_711);
        let section = (None, true);
        Plan {
            section,
            table,
            publication,
            slot,
            shards,
            backlog,
            mode,
            notify,
            role,
            event_bytes_max,
        }
    }

    fn whole() -> Shards {
        load(&Inputs::default()).unwrap().shards().unwrap()
    }

    #[test]
    fn the_script_has_no_placeholder_left() {
        let table = TableName { schema: "identity".into(), name: "outbox".into() }.into();
        let script = plan(&table, Some("re\"lay"), &whole()).script();
        let left = [
            "{table}",
            "{publication",
            "{slot}",
            "{role",
            "{schema}",
            "{publishes",
            "{others}",
            "{max",
        ];
        assert!(left.iter().all(|mark| !script.contains(mark)), "{script}");
        assert!(script.contains("CREATE TABLE identity.outbox"));
        assert!(script.contains("bytes_max CONSTANT bigint := 4711;"));
        assert!(script.contains(r#"CREATE PUBLICATION "p'""" FOR TABLE "identity"."outbox""#));
        assert!(script.contains(r"WHERE pubname = 'p''"));
        assert!(script.contains(r#"GRANT SELECT ON "identity"."outbox" TO "re""lay";"#));
    }

    #[test]
    fn polling_is_set_up_without_anything_of_replication() {
        let table = TableName { schema: "identity".into(), name: "outbox".into() }.into();
        let shards = whole();
        let plan = Plan { mode: Mode::Poll, notify: false, ..plan(&table, Some("relay"), &shards) };
        let script = plan.script();
        for word in ["PUBLICATION", "replication_slot", "REPLICATION", "walrelay_notify"] {
            assert!(!script.contains(word), "{word} in\n{script}");
        }
    }

    #[test]
    fn each_shard_gets_a_publication_for_its_rows_and_a_slot() {
        let table = TableName { schema: "identity".into(), name: "outbox".into() }.into();
        let flags = vec![("shards".to_owned(), "3".to_owned(), "--set".to_owned())];
        let loaded = load(&Inputs { flags, ..Inputs::default() }).unwrap();
        let shards = loaded.shards().unwrap();
        let script = plan(&table, None, &shards).script();
        for number in 1..=3 {
            assert!(script.contains(&format!(r#"CREATE PUBLICATION "p'""_{number}of3""#)));
            assert!(script.contains(&format!("% 3 = {})", number - 1)), "{script}");
            assert!(script.contains(&format!("slot_name = 'walrelay_{number}of3'")));
        }
        assert!(script.contains("slot_name ~ '^walrelay(_[0-9]+of(?!3$)[0-9]+)?$'"), "{script}");
    }

    #[test]
    fn a_foreign_table_is_completed_and_never_created() {
        let table = TableName { schema: "app".into(), name: "events".into() }.into();
        let script = plan(&table, None, &whole()).script();
        assert!(!script.contains("CREATE TABLE") && !script.contains("emit_event"));
        assert!(script.contains(r#"ALTER TABLE "app"."events""#));
        assert!(script.contains("ADD COLUMN IF NOT EXISTS dead_lettered_at timestamptz"));
    }
}
