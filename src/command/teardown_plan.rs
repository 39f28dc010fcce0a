//! What `walrelay teardown` would drop, what is in its way, and what stays.
//!
//! In: an SQL session. Out: a [`Plan`]; nothing is changed in here. It must stay true that only
//! what bears this configuration's names is in it, and that what may serve others is not: a slot of
//! another plugin, a publication of other tables, a function that other triggers call.

use std::fmt::Write as _;

use tokio_postgres::Client;

use super::table::printable;
use super::teardown::Subject;
use super::terminal::amount;
use crate::config::{Shard, TableName};
use crate::error::{Error, Result};
use crate::postgres::{self, Facts, Surveyed, Tenure, from_sql, quote};

const PUBLICATIONS: &str = include_str!("../../sql/queries/teardown_publications.sql");
const NOTIFY: &str = include_str!("../../sql/queries/teardown_notify.sql");
const RELAYS: &str = include_str!("../../sql/queries/teardown_relays.sql");

/// Whoever holds the table and has done nothing for so long holds it all the same.
const IDLE_SECONDS: f64 = 60.0;
const PGOUTPUT: &str = "pgoutput";

/// What there is.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub slots: Vec<Surveyed>,
    pub publications: Vec<String>,
    pub has_trigger: bool,
    pub has_function: bool,
    pub has_table: bool,
    table: String,
    function: String,
    slot_base: String,
    /// What looks like ours and is left, and why.
    left: Vec<String>,
    /// Who is at work.
    users: Vec<String>,
    /// Rights that are missing, and the statements that give them.
    lacking: Vec<(String, String)>,
}

impl Plan {
    /// Looks at everything that bears the configuration's names.
    pub async fn read(client: &Client, subject: &Subject, facts: &Facts) -> Result<Self> {
        let table = &subject.table;
        let mut plan = Self {
            table: table.to_string(),
            function: quote::qualified(&table.schema, "walrelay_notify"),
            slot_base: subject.slot.clone(),
            ..Self::default()
        };
        plan.read_slots(client, subject, facts).await?;
        plan.read_publications(client, subject, facts).await?;
        plan.read_notify(client, table, facts).await?;
        plan.read_users(client, table).await?;
        Ok(plan)
    }

    async fn read_slots(
        &mut self,
        client: &Client,
        subject: &Subject,
        facts: &Facts,
    ) -> Result<()> {
        for slot in postgres::survey(client, &subject.slot).await? {
            if slot.plugin == PGOUTPUT {
                self.slots.push(slot);
            } else {
                let (name, plugin) = (&slot.name, &slot.plugin);
                self.left.push(format!("slot {name}: not ours, its plugin is {plugin}"));
            }
        }
        if !self.slots.is_empty() && !facts.may_replicate {
            let role = quote::ident(&facts.role);
            self.lacking.push((
                format!("role {:?} has no REPLICATION attribute: it may drop no slot", facts.role),
                format!("ALTER ROLE {role} REPLICATION"),
            ));
        }
        Ok(())
    }

    async fn read_publications(
        &mut self,
        client: &Client,
        subject: &Subject,
        facts: &Facts,
    ) -> Result<()> {
        let (base, table) = (&subject.publication, &subject.table);
        let doing = format!("cannot read the publications of {base:?}");
        let found = client.query(PUBLICATIONS, &[base, &table.schema, &table.name]).await;
        for row in found.map_err(|error| from_sql(&doing, error))? {
            let name: String = row.get("name");
            if Shard::of_name(base, &name).is_none() {
                continue;
            }
            let others: Option<String> = row.get("others");
            let others = if row.get("is_of_all") { Some("all tables".to_owned()) } else { others };
            let quoted = quote::ident(&name);
            if let Some(others) = others {
                self.left.push(format!(
                    "publication {name}: covers {others} as well and may serve others; if not: \
                     DROP PUBLICATION {quoted}"
                ));
                continue;
            }
            if !row.get::<_, bool>("may_drop") {
                let owner: String = row.get("owner");
                self.lacking.push((
                    format!("publication {name:?} belongs to role {owner:?}"),
                    format!("GRANT {} TO {}", quote::ident(&owner), quote::ident(&facts.role)),
                ));
            }
            self.publications.push(name);
        }
        Ok(())
    }

    async fn read_notify(
        &mut self,
        client: &Client,
        table: &TableName,
        facts: &Facts,
    ) -> Result<()> {
        let doing = format!("cannot read the triggers of table {table}");
        let row = client.query_one(NOTIFY, &[&table.schema, &table.name]).await;
        let row = row.map_err(|error| from_sql(&doing, error))?;
        self.has_table = row.get("has_table");
        self.has_trigger = row.get("has_trigger");
        let (has_function, others): (bool, i64) =
            (row.get("has_function"), row.get("other_triggers"));
        self.has_function = has_function && others == 0;
        if self.has_trigger && others > 0 {
            let function = &self.function;
            self.left.push(format!("function {function}(): triggers of other tables call it"));
        }
        let role = &facts.role;
        if self.has_trigger && !row.get::<_, bool>("owns_table") {
            let quoted = table.quoted();
            self.lacking.push((
                format!("role {role:?} does not own table {table}: it may not drop its trigger"),
                format!("ALTER TABLE {quoted} OWNER TO {}", quote::ident(role)),
            ));
        }
        if self.has_function && !row.get::<_, bool>("owns_function") {
            let function = &self.function;
            self.lacking.push((
                format!("role {role:?} does not own function {function}()"),
                format!("ALTER FUNCTION {function}() OWNER TO {}", quote::ident(role)),
            ));
        }
        Ok(())
    }

    async fn read_users(&mut self, client: &Client, table: &TableName) -> Result<()> {
        let unknown = || "unknown".to_owned();
        let mut named = Vec::new();
        for slot in &self.slots {
            if let Some((pid, application)) = slot.holder.clone() {
                let application = application.unwrap_or_else(unknown);
                self.users.push(format!("{application} (pid {pid}) reads slot {}", slot.name));
                named.push(application);
            }
        }
        let whole = Tenure::Line(Shard::WHOLE);
        if let Some(holder) = postgres::table_holder(client, table, whole, IDLE_SECONDS).await?
            && !named.contains(&holder.application)
        {
            let (pid, application) = (holder.pid, holder.application);
            let what = if holder.polls { "polls" } else { "works on" };
            self.users.push(format!("{application} (pid {pid}) {what} table {table}"));
            named.push(application);
        }
        let names: Vec<&str> = self.slots.iter().map(|slot| slot.name.as_str()).collect();
        let doing = "cannot read who is connected";
        let found = client.query(RELAYS, &[&table.schema, &table.name, &names]).await;
        for row in found.map_err(|error| from_sql(doing, error))? {
            let (pid, application): (i32, String) = (row.get("pid"), row.get("application_name"));
            if !named.contains(&application) {
                self.users.push(format!(
                    "{application} (pid {pid}) is connected: a standby would make the slot anew"
                ));
                named.push(application);
            }
        }
        Ok(())
    }

    /// Whether nothing is left to be dropped.
    pub fn is_empty(&self) -> bool {
        let has_any = !self.slots.is_empty() || !self.publications.is_empty();
        !(has_any || self.has_trigger || self.has_function)
    }

    /// Whether somebody is at work.
    pub fn is_in_use(&self) -> bool {
        !self.users.is_empty()
    }

    /// What would be dropped, by name: what was asked about is what is done.
    pub fn names(&self) -> Vec<String> {
        let slots = self.slots.iter().map(|slot| format!("slot {}", slot.name));
        let publications = self.publications.iter().map(|name| format!("publication {name}"));
        let mut names: Vec<String> = slots.chain(publications).collect();
        if self.has_trigger {
            names.push(format!("trigger walrelay_notify on {}", self.table));
        }
        if self.has_function {
            names.push(format!("function {}()", self.function));
        }
        names
    }

    /// Why nothing may be dropped, if that is so.
    pub fn complaint(&self) -> Option<Error> {
        if !self.users.is_empty() {
            let what = format!("a relay is connected: {}", self.users.join("; "));
            return Some(
                Error::definite(printable(&what).into_owned())
                    .hint("nothing was dropped; stop it (SIGTERM), standbys too, and repeat"),
            );
        }
        if self.lacking.is_empty() {
            return None;
        }
        let (what, how): (Vec<&str>, Vec<&str>) =
            self.lacking.iter().map(|(what, how)| (what.as_str(), how.as_str())).unzip();
        let hint = format!("nothing was dropped; as a superuser: {}", how.join("; "));
        Some(Error::definite(what.join("; ")).hint(hint))
    }

    /// The whole picture, for people.
    pub fn text(&self, server: &str) -> String {
        let mut text = format!("At {server}, to be dropped:\n");
        let mut add = |kind: &str, name: &str, what: &str| {
            let line = format!("  {kind:<12} {:<24} {}", printable(name), printable(what));
            // A String takes everything.
            let _always = writeln!(text, "{}", line.trim_end());
        };
        for slot in &self.slots {
            let kept = match (&slot.lost, slot.kept_bytes) {
                (Some(why), _) => format!("lost ({why}), keeps nothing"),
                (None, Some(bytes)) => format!("keeps {} of WAL", amount(bytes)),
                (None, None) => "keeps no WAL".to_owned(),
            };
            let used = match &slot.holder {
                Some((pid, Some(application))) => format!("read by {application} (pid {pid})"),
                Some((pid, None)) => format!("read by pid {pid}"),
                None => "nobody reads it".to_owned(),
            };
            add("slot", &slot.name, &format!("{kept}, {used}"));
        }
        for name in &self.publications {
            add("publication", name, "");
        }
        if self.has_trigger {
            add("trigger", "walrelay_notify", &format!("on {}", self.table));
        }
        if self.has_function {
            add("function", &format!("{}()", self.function), "");
        }
        if self.is_empty() {
            add("nothing", "", "");
        }
        text += "What stays:\n";
        for left in &self.left {
            let _always = writeln!(text, "  {}", printable(left));
        }
        if self.has_table {
            let _always = writeln!(text, "  table {} with its rows", self.table);
        }
        let _always = writeln!(
            text,
            "  in Redis: streams, dead letters and checkpoints (walrelay:{{<stream>}}:{}@<system>)\
             \n  the role",
            self.slot_base
        );
        text
    }
}
