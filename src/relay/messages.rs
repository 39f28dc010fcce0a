//! Events that are messages in the WAL and no rows: where they join the line.
//!
//! In: logical messages under the prefix of the outbox. Out: events as of rows, but without a row
//! to mark; a copy of each is kept until its stream has it, for a refused one can be had from
//! nowhere else. It must stay true that each takes a place in the order of its transaction whether
//! it is published or not, so that turning them on or off moves no position; that a parked one is
//! known again by its position; and that whatever it says, it leaves the line: as an entry, or as a
//! parked row. Pure.

use std::collections::{HashMap, HashSet};

use super::flight::NO_ROW;
use super::line::{Limits, Line, OUTSTANDING_EVENTS_MAX, Refused, count};
use super::parking::Original;
use super::streams::StreamId;
use crate::error::{Error, Result};
use crate::lsn::{Lsn, Position};
use crate::outbox::{Fault, Kept, Told, Unfit, message_prefix};
use crate::pgoutput::LogicalMessage;

/// What a line knows of messages that are events.
#[derive(Debug)]
pub(super) struct Messages {
    /// What those of our table begin with.
    prefix: String,
    /// Where those stood that are parked and that the slot may send again.
    known: HashSet<Position>,
    /// Where those stood that were passed over because messages are no events: an earlier line may
    /// have published them.
    passed: HashSet<Position>,
    /// Whether it was said that some are not transactional.
    is_loose_told: bool,
}

/// Positions that are remembered of messages passed over: no earlier line had more events out that
/// the slot may send again.
const PASSED_MAX: u64 = OUTSTANDING_EVENTS_MAX;

impl Messages {
    /// Before anything was received. `known`: rows that are parked, by id.
    pub fn new(limits: &Limits, known: &HashMap<i64, Position>) -> Self {
        // A position is that of one event: one of a row is asked for by no message.
        let known =
            if limits.messages { known.values().copied().collect() } else { HashSet::new() };
        let (prefix, passed) = (message_prefix(&limits.outbox), HashSet::new());
        Self { prefix, known, passed, is_loose_told: false }
    }

    /// The slot sends nothing again from before here.
    pub fn confirmed(&mut self, confirmed: Lsn) {
        if !self.known.is_empty() {
            self.known.retain(|position| position.commit_lsn >= confirmed);
        }
    }

    /// One was passed over.
    fn pass(&mut self, position: Position) {
        if u64::try_from(self.passed.len()).is_ok_and(|passed| passed < PASSED_MAX) {
            self.passed.insert(position);
        }
    }

    /// Messages outside of transactions have no place in the order of commits, and are in the WAL
    /// also when their transaction is rolled back.
    fn tell_loose(&mut self) {
        if !std::mem::replace(&mut self.is_loose_told, true) {
            tracing::warn!(
                prefix = self.prefix,
                "a message that is not transactional is passed over, as all such are: use \
                 identity.emit_message, or pg_logical_emit_message with true"
            );
        }
    }
}

impl Line {
    /// A logical message came; whose, is still to be seen.
    pub(super) fn message(&mut self, message: &LogicalMessage<'_>) -> Result<()> {
        if message.prefix != self.messages.prefix {
            return Ok(());
        }
        if message.is_transactional {
            return self.take_message(Some(message.content));
        }
        if self.limits.messages {
            self.messages.tell_loose();
        }
        Ok(())
    }

    /// A transactional one of ours came that is too large to be read.
    pub fn oversized(&mut self) -> Result<()> {
        self.take_message(None)
    }

    /// The last event of a stream seems to be missing, and it is a message that was passed over: to
    /// take that for another history would be to publish rows twice.
    pub(super) fn has_passed_last_of(&self, stream: StreamId) -> Option<Error> {
        let position = self.streams.unmet(stream)?;
        self.messages.passed.contains(&position).then(|| {
            let stream = self.streams.name(stream);
            Error::definite(format!(
                "messages is off, and the last entry of stream {stream:?} is of a message that the \
                 slot sends again"
            ))
            .hint(
                "set messages = true, start the relay, and stop it by SIGTERM once it has caught \
                 up: then the slot has confirmed them, and messages can be turned off",
            )
        })
    }

    fn take_message(&mut self, content: Option<&[u8]>) -> Result<()> {
        let transaction = count(&mut self.transaction)?;
        let position = transaction.position();
        if !self.limits.messages {
            // What comes from behind the start nobody has published.
            if position.commit_lsn < self.history.wal_end {
                self.messages.pass(position);
            }
            return Ok(());
        }
        if self.messages.known.contains(&position) {
            self.ignored += 1;
            return Ok(());
        }
        let told = content.ok_or(Fault::TooLarge).and_then(Told::read);
        let row = told.as_ref().map(Told::row);
        let added = match (&row, self.parking.sentence(position)) {
            (Ok(row), None) => self.add(NO_ROW, row, transaction),
            (Ok(_), Some(unfit)) => Err(Refused::Unfit(unfit)),
            (Err(fault), _) => Err(Refused::Unfit(Unfit::Message(**fault))),
        };
        let original = Original::Message(Kept::new(content, transaction.commit_time));
        match added {
            Ok((stream, _)) => {
                self.parking.keep(position, stream, original);
                Ok(())
            }
            Err(Refused::Unfit(unfit)) => {
                self.set_aside((NO_ROW, row.ok().as_ref()), Some(original), (transaction, unfit))
            }
            Err(Refused::Progress(error)) => Err(error),
        }
    }
}
