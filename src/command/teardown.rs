//! `walrelay teardown`: drops what `setup` and `run` have made in PostgreSQL. The only command that
//! destroys something.
//!
//! In: settings, and a yes. Out: no slots, no publications, no trigger. It must stay true that what
//! is dropped was shown, that no relay is at work meanwhile, that each name is quoted, and that
//! whoever is told of a failure is told what is gone and what is there.

use std::io::{BufRead, IsTerminal, Write, stdin};
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::teardown_plan::Plan;
use super::terminal::{ask, heading, put};
use crate::cli::TeardownOptions;
use crate::config::{DatabaseUrl, Loaded, Outbox, Shard};
use crate::error::{Error, Result};
use crate::postgres::{self, Facts, Target, Tenure, from_sql, quote};

const LOCK_SETUP: &str = include_str!("../../sql/queries/lock_setup.sql");
const DROP_SLOT: &str = include_str!("../../sql/queries/drop_slot.sql");
const DROP_PUBLICATION: &str = include_str!("../../sql/queries/drop_publication.sql");
const DROP_NOTIFY: &str = include_str!("../../sql/queries/drop_notify.sql");
const DROP_NOTIFY_FUNCTION: &str = include_str!("../../sql/queries/drop_notify_function.sql");

/// For a session that is about to end, and between two looks whether it has.
const PATIENCE: Duration = Duration::from_millis(1_500);
const PAUSE: Duration = Duration::from_millis(100);

/// Whose, by the settings.
pub struct Subject {
    /// The table's section, where there are sections.
    section: Option<String>,
    url: DatabaseUrl,
    timeout: Duration,
    pub(super) table: Outbox,
    pub(super) publication: String,
    pub(super) slot: String,
}

impl Subject {
    /// Redis has no part in this.
    pub fn new(loaded: &Loaded) -> Result<Self> {
        let (table, publication, slot) = loaded.names()?;
        let (url, timeout) = (loaded.database_url()?, loaded.duration("connect_timeout")?);
        let section = loaded.table().map(str::to_owned);
        Ok(Self { section, url, timeout, table, publication, slot })
    }
}

/// Shows, asks, drops, one table after the other: the first that cannot be torn down ends it.
pub async fn run(all: &[Subject], asked: TeardownOptions, out: &mut impl Write) -> Result<()> {
    for (at, subject) in all.iter().enumerate() {
        let section = subject.section.as_deref();
        put(out, &heading(section, at == 0))?;
        tear_down(subject, asked, out).await.map_err(|error| error.of_table(section))?;
    }
    Ok(())
}

async fn tear_down(subject: &Subject, asked: TeardownOptions, out: &mut impl Write) -> Result<()> {
    let target = Target::new(&subject.url, subject.timeout)?;
    let mut client = target.sql().await?;
    postgres::set_up_session(&client).await?;
    let facts = postgres::facts_without_wal(&client).await?;
    let plan = look(&client, subject, &facts).await?;
    let server = format!("PostgreSQL {} at {}", facts.version, target.label());
    put(out, &plan.text(&server))?;
    if let Some(complaint) = plan.complaint().filter(|_| !plan.is_empty()) {
        return Err(complaint);
    }
    if plan.is_empty() {
        return put(out, "Nothing was there to be dropped.\n").map(drop);
    }
    if asked.dry_run {
        return put(out, "Nothing was dropped: --dry-run.\n").map(drop);
    }
    if !asked.yes {
        confirm(&subject.slot)?;
    }
    lock(&client, subject, plan.has_table).await?;
    // It may have taken an hour to answer.
    let now = look(&client, subject, &facts).await?;
    if let Some(complaint) = now.complaint() {
        return Err(complaint);
    }
    if now.names() != plan.names() {
        return Err(Error::definite("what is to be dropped has changed meanwhile")
            .hint("nothing was dropped; repeat it and look again"));
    }
    let mut gone = Vec::new();
    let dropped = drop_all(&mut client, subject, &now, &mut gone).await;
    for name in &gone {
        put(out, &format!("dropped      {name}\n"))?;
    }
    if dropped.is_err() {
        for name in now.names().iter().filter(|name| !gone.contains(name)) {
            put(out, &format!("not dropped  {name}\n"))?;
        }
    }
    dropped
}

/// What there is. A relay or a command that has just ended may still be connected as PostgreSQL
/// sees it: it is given a moment.
async fn look(client: &Client, subject: &Subject, facts: &Facts) -> Result<Plan> {
    let began = Instant::now();
    loop {
        let plan = Plan::read(client, subject, facts).await?;
        if !plan.is_in_use() || began.elapsed() > PATIENCE {
            return Ok(plan);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Has whoever sits there type the slot's name.
fn confirm(slot: &str) -> Result<()> {
    let nothing = |what: &str| Error::usage(format!("nothing was dropped: {what}"));
    if !stdin().is_terminal() {
        return Err(nothing("nobody is there to be asked").hint("add --yes to drop all of this"));
    }
    ask(&format!("Type the slot's name, {slot}, to drop all of this: "));
    let mut typed = String::new();
    let read = stdin().lock().read_line(&mut typed);
    read.map_err(|error| nothing("the answer cannot be read").because(error))?;
    if typed.trim() == slot { Ok(()) } else { Err(nothing("that was not the slot's name")) }
}

/// From here on no setup runs, and no relay begins to work on the table, until this session ends.
async fn lock(client: &Client, subject: &Subject, has_table: bool) -> Result<()> {
    let doing = "cannot wait for a `walrelay setup` that is running";
    client.batch_execute(LOCK_SETUP).await.map_err(|error| from_sql(doing, error))?;
    if !has_table {
        return Ok(());
    }
    let alone = Tenure::Line(Shard::WHOLE);
    if postgres::try_lock_table(client, &subject.table, alone).await? {
        return Ok(());
    }
    let what = format!("a relay has just begun to work on table {}", subject.table);
    Err(Error::definite(what).hint("nothing was dropped; stop it (SIGTERM), and repeat"))
}

/// All or nothing, but that slots know no transaction: they go when all else can. What is gone is
/// in `gone`.
async fn drop_all(
    client: &mut Client,
    subject: &Subject,
    plan: &Plan,
    gone: &mut Vec<String>,
) -> Result<()> {
    let Subject { table, .. } = subject;
    let function = quote::qualified(&table.schema, "walrelay_notify");
    let mut statements = Vec::new();
    if plan.has_trigger {
        let doing = format!("cannot drop the trigger of table {table}");
        statements.push((doing, table.sql(DROP_NOTIFY)));
    }
    if plan.has_function {
        let doing = format!("cannot drop function {function}()");
        statements.push((doing, DROP_NOTIFY_FUNCTION.replace("{function}", &function)));
    }
    for name in &plan.publications {
        let doing = format!("cannot drop publication {name:?}");
        let sql = DROP_PUBLICATION.replace("{publication}", &quote::ident(name));
        statements.push((doing, sql));
    }
    let doing = "cannot begin to drop";
    let transaction = client.transaction().await.map_err(|error| from_sql(doing, error))?;
    for (doing, sql) in &statements {
        transaction.batch_execute(sql).await.map_err(|error| from_sql(doing, error))?;
    }
    for slot in &plan.slots {
        let doing = format!("cannot drop replication slot {:?}", slot.name);
        let dropped = transaction.query(DROP_SLOT, &[&slot.name]).await;
        dropped.map_err(|error| from_sql(&doing, error))?;
        gone.push(format!("slot {}", slot.name));
    }
    let doing = "cannot commit what was dropped besides the slots";
    transaction.commit().await.map_err(|error| from_sql(doing, error))?;
    *gone = plan.names();
    Ok(())
}
