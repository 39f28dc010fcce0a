//! What the leader asks of PostgreSQL beside the line, every few seconds: to write a heartbeat, how
//! the slot stands, and whether it still sends what is written to the table.
//!
//! In: the line's SQL session, time. Out: messages in the WAL that the line hears, the slot's facts
//! for people, and the word that ends a line whose table was taken away. It must stay true that a
//! line is never held up from here, that at most one statement waits in the session, and that a
//! standby writes nothing: this ends with the line.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Statement};

use super::landing::Landed;
use super::pulse;
use super::session::Session;
use super::settle::Marking;
use super::start::Context;
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::lsn::Lsn;
use crate::postgres::{self, Facts, from_sql};
use crate::telemetry::{LastSaid, SlotFacts, Status};

const HEARTBEAT: &str = include_str!("../../sql/queries/heartbeat.sql");
const SLOT_FACTS: &str = include_str!("../../sql/queries/slot_facts.sql");

/// Between two looks at the slot.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// From this version on the function has one argument more.
const VERSION_FLUSH: i32 = 170_000;
/// SQLSTATEs that no waiting ends: no EXECUTE on the function, or no such function.
const NOT_POSSIBLE: [&str; 2] = ["42501", "42883"];

/// What a line's heart works with.
pub(super) struct Heart {
    client: Arc<Client>,
    slot: String,
    /// What the heartbeats begin with.
    name: Arc<str>,
    /// None: only the slot is looked at.
    interval: Option<Duration>,
    /// What is to be granted where a heartbeat may not be written.
    function: &'static str,
    status: Arc<Status>,
    settings: Arc<Settings>,
    /// The oid of the table at the first look.
    table: Option<u32>,
    astray: mpsc::Sender<Error>,
}

/// A heart at work; dropping it ends that.
pub(super) struct Beating(JoinHandle<()>);

impl Drop for Beating {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Heart {
    /// For the line on this session of that server; it ends by what comes out of the channel.
    pub fn new(
        context: &Context,
        client: Arc<Client>,
        server: &Facts,
    ) -> (Self, mpsc::Receiver<Error>) {
        let (settings, status) = (&context.settings, Arc::clone(&context.status));
        let interval = settings.heartbeat_interval.filter(|_| server.has_messages);
        if let Some(interval) = interval {
            status.heartbeat.begin(interval);
        } else if settings.heartbeat_interval.is_some() {
            let why = "PostgreSQL before 14 passes no messages on";
            status.heartbeat.impossible(why);
            tracing::info!("no heartbeats: {why}; /readyz goes by the state alone");
        }
        let name = pulse::name(&settings.slot_name, status.heartbeat.process());
        let function = if server.version_num < VERSION_FLUSH {
            "pg_logical_emit_message(boolean, text, text)"
        } else {
            "pg_logical_emit_message(boolean, text, text, boolean)"
        };
        let (astray, told) = mpsc::channel(1);
        let heart = Self {
            client,
            slot: settings.slot_name.clone(),
            name,
            interval,
            function,
            status,
            settings: Arc::clone(settings),
            table: None,
            astray,
        };
        (heart, told)
    }

    /// What the line is to listen for.
    pub fn name(&self) -> Option<Arc<str>> {
        self.interval.map(|_| Arc::clone(&self.name))
    }

    /// Begins, beside whatever else runs.
    pub fn start(self) -> Beating {
        Beating(tokio::spawn(self.run()))
    }

    async fn run(mut self) {
        let (mut beat, mut look) = (Instant::now(), Instant::now());
        let mut said = LastSaid::default();
        let mut statement = None;
        // With its session gone the line ends by itself.
        while !self.client.is_closed() {
            let next = if self.interval.is_some() { beat.min(look) } else { look };
            tokio::time::sleep_until(next).await;
            let now = Instant::now();
            if let Some(interval) = self.interval
                && beat <= now
            {
                let written = self.write(&mut statement).await;
                self.wrote(written, &mut said);
                beat = now + interval;
            }
            if look <= now {
                look_at_slot(&self.client, &self.slot, &self.status).await;
                self.look_at_table().await;
                look = Instant::now() + LOOK_INTERVAL;
            }
        }
    }

    /// A table that takes the place of the outbox, or one that is taken out of the publication, is
    /// in nothing that the slot sends: no error tells, and the slot moves past it.
    async fn look_at_table(&mut self) {
        let Settings { publication_name: name, outbox_table: table, shard, .. } = &*self.settings;
        let looking =
            postgres::publication_changed(&self.client, name, (table, *shard), &mut self.table);
        match looking.await {
            Ok(None) => {}
            // One that is there already says the same.
            Ok(Some(error)) => drop(self.astray.try_send(error)),
            Err(error) => tracing::debug!(error = %error, "cannot look at the table"),
        }
    }

    async fn write(&self, statement: &mut Option<Statement>) -> Result<(), tokio_postgres::Error> {
        // Asked for before anything is sent: the round trip begins here.
        let number = self.status.heartbeat.ask();
        let prepared = match statement {
            Some(prepared) => prepared,
            None => statement.insert(self.client.prepare_typed(HEARTBEAT, &[Type::TEXT]).await?),
        };
        self.client.execute(&*prepared, &[&format!("{}{number}", self.name)]).await?;
        self.status.heartbeat.committed(number);
        Ok(())
    }

    fn wrote(&mut self, written: Result<(), tokio_postgres::Error>, said: &mut LastSaid) {
        let Err(error) = written else { return said.forget() };
        let code = error.code().map(|code| code.code().to_owned());
        let is_for_good = code.is_some_and(|code| NOT_POSSIBLE.contains(&code.as_str()));
        let error = from_sql("cannot write a heartbeat", error).to_string();
        if is_for_good {
            self.interval = None;
            self.status.heartbeat.impossible(&error);
            tracing::warn!(
                error,
                hint = format!(
                    "GRANT EXECUTE ON FUNCTION {} TO the relay's role, or set heartbeat_interval = \
                     off",
                    self.function
                ),
                "no heartbeats: /readyz goes by the state alone"
            );
            return;
        }
        if said.is_news(&error) {
            tracing::warn!(error, "a heartbeat was not written: trying again");
        }
        self.status.heartbeat.failed(error);
    }
}

/// Looks the slot up for people. What fails is told by whoever needs the session.
async fn look_at_slot(client: &Client, slot: &str, status: &Status) {
    let row = match client.query_opt(SLOT_FACTS, &[&slot]).await {
        Ok(row) => row,
        Err(error) => return tracing::debug!(error = %error, "cannot look at the slot"),
    };
    status.slot_is(row.map(|row| SlotFacts {
        wal_status: row.get("wal_status"),
        safe_wal_size: row.get("safe_wal_size"),
        retained_bytes: row.get("retained_bytes"),
        current: row.get::<_, String>("current_lsn").parse().unwrap_or(Lsn::NONE),
    }));
}

/// Goes on looking at the slot while Redis is away, on a session of its own, for ever: that is when
/// WAL piles up.
pub(super) async fn watch_slot(context: &Context) -> std::convert::Infallible {
    loop {
        if let Ok(client) = context.session().await {
            while !client.is_closed() {
                look_at_slot(&client, &context.settings.slot_name, &context.status).await;
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

impl Session<'_> {
    /// A heartbeat before which all is published: Redis is asked for an answer behind that.
    pub(super) fn pass_heartbeat_on(&mut self) {
        if let Some(number) = self.line.heard_heartbeat() {
            self.status.heartbeat.came(number);
        }
        // However many come by while Redis is silent, it is asked once.
        if self.is_beating {
            return;
        }
        let Some(number) = self.line.passed_heartbeat() else { return };
        self.is_beating = true;
        let sink = self.sink.clone();
        self.flights.push(Box::pin(async move { Landed::Beat(number, sink.ping().await) }));
    }

    /// A session that has ended marks nothing, and the lock on the table went with it. It shows
    /// here also while there is nothing to mark.
    pub(super) fn check_sql(&self) -> Result<()> {
        match &self.marking {
            Some(Marking::Idle(marker)) if marker.client().is_closed() => {
                Err(Error::transient("the SQL session that marks rows has ended"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Redis has answered.
    pub(super) fn heartbeat_returned(&mut self, number: u64) {
        self.is_beating = false;
        if let Some(took) = self.status.heartbeat.returned(number) {
            self.status.metrics.histograms.heartbeat(took);
        }
    }
}
