//! One replay, from its order to its outcome.
//!
//! In: an [`Order`], settings. Out: entries, or with a dry run a tally; what is worth telling on
//! the way by [`Told`]. It must stay true that nothing is written before source and range are
//! known to be there, and that whatever ends it leaves a journal from which the same order goes on.

use std::future::Future;

use super::intake::{Intake, Tally};
use super::journal::GO_ON;
use super::letters::Letters;
use super::open::{self, Opened};
use super::order::Order;
use super::table::Table;
use super::wal::Wal;
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::rate::Limit;
use crate::shutdown::Shutdown;

/// What is worth telling while a replay is under way.
#[derive(Debug)]
pub enum Told<'a> {
    /// A sentence.
    Note(&'a str),
    /// How far it has got.
    Reached {
        /// So many KiB of WAL, rows or letters are read, ...
        read: u64,
        /// ... of so many, where that is known, ...
        of: Option<u64>,
        /// ... counted in these.
        unit: &'static str,
        /// Events that are in their streams, or counted.
        events: u64,
    },
}

/// What a replay has done.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Events that are in their streams.
    pub events: u64,
    /// Those of them that earlier runs of the same order had brought there.
    pub before: u64,
    /// Where the range begins and ends, as the source says it.
    pub range: (String, String),
    /// What the source holds; of a real run only what could not become an event, that of earlier
    /// runs of the same order included.
    pub tally: Tally,
    /// Dead letters whose row is gone.
    pub orphans: u64,
}

/// Where events come from.
pub(super) enum Feed {
    Wal(Box<Wal>),
    Table(Box<Table>),
    Letters(Box<Letters>),
}

impl Feed {
    async fn fill(&mut self, intake: &mut Intake) -> Result<bool> {
        match self {
            Self::Wal(wal) => wal.fill(intake).await,
            Self::Table(table) => table.fill(intake).await,
            Self::Letters(letters) => letters.fill(intake).await,
        }
    }

    /// Waits for something else; PostgreSQL is answered meanwhile.
    async fn during<T>(&mut self, other: impl Future<Output = T>) -> Result<T> {
        match self {
            Self::Wal(wal) => wal.during(other).await,
            Self::Table(_) | Self::Letters(_) => Ok(other.await),
        }
    }

    fn reached(&self, events: u64) -> Told<'static> {
        let (read, of, unit) = match self {
            Self::Wal(wal) => {
                let (read, of) = wal.reached();
                (read / 1024, Some(of / 1024), "KiB of WAL")
            }
            Self::Table(table) => (table.read, Some(table.found), "rows"),
            Self::Letters(letters) => (letters.read, None, "dead letters"),
        };
        Told::Reached { read, of, unit, events }
    }

    fn orphans(&self) -> u64 {
        match self {
            Self::Letters(letters) => letters.orphans,
            Self::Wal(_) | Self::Table(_) => 0,
        }
    }
}

/// Does what was ordered.
pub async fn run(
    settings: &Settings,
    order: &Order,
    tell: &mut dyn FnMut(Told<'_>),
) -> Result<Outcome> {
    let mut shutdown = Shutdown::on_signals()?;
    let opened = tokio::select! {
        biased;
        () = shutdown.requested() => return Err(interrupted("nothing was replayed")),
        opened = Box::pin(open::open(settings, order, tell)) => opened?,
    };
    if order.is_dry_run {
        return count(opened, &mut shutdown, tell).await;
    }
    publish(opened, order, (settings, &mut shutdown), tell).await
}

async fn count(
    Opened { mut feed, mut intake, range, .. }: Opened,
    shutdown: &mut Shutdown,
    tell: &mut dyn FnMut(Told<'_>),
) -> Result<Outcome> {
    loop {
        let more = tokio::select! {
            biased;
            () = shutdown.requested() => return Err(interrupted("the count is not complete")),
            more = feed.fill(&mut intake) => more?,
        };
        tell(feed.reached(intake.tally.events));
        if !more {
            let orphans = feed.orphans();
            return Ok(Outcome { events: 0, before: 0, range, tally: intake.tally, orphans });
        }
    }
}

async fn publish(
    Opened { mut feed, mut intake, range, journal }: Opened,
    order: &Order,
    (settings, shutdown): (&Settings, &mut Shutdown),
    tell: &mut dyn FnMut(Told<'_>),
) -> Result<Outcome> {
    let Some(mut journal) = journal else { unreachable!("only a dry run has no journal") };
    let limit = Limit::new(order.rate);
    intake.bound(limit.together(settings.batch_size.get()));
    loop {
        let more = tokio::select! {
            biased;
            () = shutdown.requested() => None,
            more = feed.fill(&mut intake) => Some(more?),
        };
        // What was taken in leaves, also at the end: a moment's work.
        while let Some(load) = intake.next() {
            feed.during(limit.pass()).await?;
            limit.spend(load.batch.events());
            feed.during(journal.publish(load)).await??;
        }
        journal.advance(intake.last(), intake.tally.unfit);
        if journal.is_due() || more.is_none() {
            feed.during(journal.keep()).await??;
        }
        let (events, before) = journal.events();
        tell(feed.reached(events));
        match more {
            Some(true) => {}
            Some(false) => {
                journal.finish().await?;
                let tally = Tally { unfit: journal.unfit(), ..intake.tally };
                let orphans = feed.orphans();
                return Ok(Outcome { events, before, range, tally, orphans });
            }
            None => {
                return Err(interrupted(&format!("{events} events are in their streams")));
            }
        }
    }
}

fn interrupted(stand: &str) -> Error {
    Error::transient(format!("interrupted: {stand}")).hint(GO_ON)
}
