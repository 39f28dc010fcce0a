//! How events leave the line other than by their stream: refused ones, those that wait behind them,
//! those of a stream that takes nothing, and unfit ones.
//!
//! In: answers of Redis, batches that are about to leave. Out: parcels for `parking`, and in their
//! place again what goes on. It must stay true that an event that is in its stream already (a
//! repeat) is never parked, that a later event of an aggregate never overtakes a parked one of it,
//! and that nothing is written to a stream behind an event before that is parked: after a crash it
//! would be taken for a repeat, and be lost. Pure.

use std::sync::Arc;

use super::flight::{Filling, Flight, Rows, Settling, row_of};
use super::history::Judgement;
use super::line::{Line, Transaction};
use super::parking::{Job, Leaving, Original, Parcel, Parked, Reason};
use super::progress::Pending;
use super::refusal::{Refusal, Unwanted};
use super::streams::{Ready, StreamId};
use crate::config::TableName;
use crate::error::{Error, Result};
use crate::lsn::Position;
use crate::outbox::{Envelope, Row, Unfit};
use crate::sink::{Batch, Checkpoint, Failure, Written};

/// An unfit event that may be in its stream: it was fit when the limit was another.
#[derive(Debug)]
pub(super) struct Undecided {
    stream: StreamId,
    parcel: Parcel,
}

/// What became of a batch whose call failed.
#[derive(Debug)]
pub enum Unpublished {
    /// It waits again, or is not wanted any more.
    Kept,
    /// Its failure is that of the line.
    Failed(Failure),
}

impl Line {
    /// A batch was answered: the receipt of what is in Redis. What was refused is to be parked, and
    /// the rest of the batch waits again. Where nothing can be parked a refusal is a definite error
    /// that names the row, and nothing behind it is written to its stream any more.
    pub fn published(
        &mut self,
        mut flight: Flight,
        written: &Written,
        returned: Option<Batch>,
    ) -> Result<(Settling, Option<Error>)> {
        let there = written.added + written.present;
        if written.refusal.is_none() && there != flight.events {
            return Err(Error::transient("the publish script counted other events than were sent"));
        }
        self.in_flight -= 1;
        self.in_flight_bytes -= flight.bytes;
        let stream = flight.stream;
        // A refusal says as much: the script adds only behind the event that had to be met.
        self.streams.landed(stream, Some(flight.last_position));
        let mut refused = None;
        match (&written.refusal, returned) {
            (None, _) => {
                self.parking.forget(stream, flight.last_position);
                self.streams.trust(stream, self.limits.batch_events);
                if self.streams.tell(stream, false) {
                    tracing::info!(stream = self.streams.name(stream), "it takes events again");
                }
            }
            (Some(refusal), Some(batch)) if self.limits.parks => {
                self.refused(&mut flight, batch, refusal, there);
            }
            (Some(refusal), _) => {
                let id = flight.rows.ids.get(there).map_or_else(String::new, i64::to_string);
                let name = self.streams.name(stream);
                let doing = format!("Redis refused the event of row id={id} for stream {name:?}");
                refused = Some(refusal.clone().into_error(&doing));
                self.streams.stop(stream);
                // What was refused stays pending for ever, and so is never confirmed.
                drop(flight.pending.take(|place| place >= there));
                flight.rows.take(|place| place >= there);
            }
        }
        self.gather(stream)?;
        let published = self.progress.published(flight.pending);
        let rows = self.to_mark(flight.rows);
        Ok((Settling { published, rows }, refused))
    }

    /// Takes out of `flight` what is not in Redis: the event at `there`, to be parked, and what is
    /// behind it.
    fn refused(&mut self, flight: &mut Flight, batch: Batch, refusal: &Failure, there: usize) {
        let stream = flight.stream;
        let before = batch.identities().map(|(position, _)| position).take(there).last();
        let mut rest = Filling {
            batch,
            pending: flight.pending.take(|place| place >= there),
            rows: flight.rows.take(|place| place >= there),
            commit_time: flight.commit_time,
            oldest_commit: flight.oldest_commit,
            traced: flight.traced.take(|place| place >= there),
        };
        rest.batch = rest.batch.filtered(|place| place >= there);
        let refused = rest.take(|place| place == 0);
        let name = self.streams.name(stream);
        let text: Arc<str> = refusal.to_string().into();
        tracing::warn!(
            stream = name,
            row = refused.rows.ids.first().copied().and_then(row_of),
            error = &*text,
            "Redis refused an event: it is parked"
        );
        let refuses = refusal.refuses_stream().then(|| Arc::clone(&text));
        // Where nothing was written the checkpoint is where the batch before left it, or behind.
        let follows = before.unwrap_or(flight.follows);
        self.streams.returned(stream, rest, Some(follows), refuses);
        self.park(stream, refused, |_| Reason::Refused(Arc::clone(&text)));
    }

    /// A batch was answered by an error.
    pub fn unpublished(
        &mut self,
        flight: Flight,
        failure: Failure,
        returned: Option<Batch>,
    ) -> Unpublished {
        self.in_flight -= 1;
        self.in_flight_bytes -= flight.bytes;
        let (stream, follows) = (flight.stream, flight.follows);
        self.streams.landed(stream, None);
        if self.streams.is_stopped(stream) {
            // It followed what was refused, and so is refused as well.
            return Unpublished::Kept;
        }
        let Some(batch) = returned.filter(|_| self.limits.parks) else {
            return Unpublished::Failed(failure);
        };
        let Flight { pending, rows, commit_time, oldest_commit, traced, .. } = flight;
        let filling = Filling { batch, pending, rows, commit_time, oldest_commit, traced };
        let refuses = failure.refuses_stream().then(|| Arc::from(failure.to_string()));
        let follows = refuses.is_some().then_some(follows);
        self.streams.returned(stream, filling, follows, refuses);
        match self.gather(stream) {
            Ok(()) => Unpublished::Kept,
            Err(_) => Unpublished::Failed(failure),
        }
    }

    fn gather(&mut self, stream: StreamId) -> Result<()> {
        if !self.streams.gather(stream) {
            return Err(Error::transient("the chain of a stream's batches is broken"));
        }
        if self.streams.is_refusing(stream) {
            self.tell_refusing(stream);
        }
        Ok(())
    }

    /// Once, until it takes events again.
    fn tell_refusing(&mut self, stream: StreamId) {
        if let Some(why) = self.streams.refuses(stream)
            && !self.streams.tell(stream, true)
        {
            tracing::error!(
                stream = self.streams.name(stream),
                error = &*why,
                "the stream takes no events: all for it are parked until it does"
            );
        }
    }

    /// A stream could not be taken over, and waiting does not help. With what its checkpoint says,
    /// if that can be read, what is for it is parked. A definite error where that cannot be.
    pub fn not_opened(
        &mut self,
        stream: StreamId,
        refusal: Failure,
        checkpoint: Option<&Checkpoint>,
    ) -> Option<Error> {
        if !self.limits.parks || !refusal.refuses_stream() {
            let row = self.streams.first_row(stream);
            let row = row.map_or_else(String::new, |id| format!(" for row id={id}"));
            let doing = format!("cannot take over stream {:?}{row}", self.streams.name(stream));
            self.streams.stop(stream);
            return Some(refusal.into_error(&doing));
        }
        let why = refusal.to_string().into();
        let mut refused = Refusal { why, written: Position::START, unmet: None, is_judged: false };
        if let Some(checkpoint) = checkpoint {
            let judgement = self.judge(stream, checkpoint);
            let opening = self.opening(checkpoint, &judgement);
            refused.written = opening.written;
            refused.unmet = opening.unmet;
            refused.is_judged = !matches!(judgement, Judgement::Lower { .. });
        }
        self.streams.refuse(stream, refused);
        self.tell_refusing(stream);
        None
    }

    /// Takes care of what cannot be sent. What turns out to be in its stream already is handed
    /// back, to be settled.
    pub(super) fn next_unsendable(&mut self) -> Option<Settling> {
        if let Some(Undecided { stream, .. }) = self.undecided
            && let Some(written) = self.streams.written(stream)
            && let Some(Undecided { parcel, .. }) = self.undecided.take()
        {
            let is_there = parcel.events.iter().all(|event| event.position <= written);
            if is_there {
                let last = parcel.events.last().map_or(Position::START, |event| event.position);
                self.streams.meet(stream, last);
                let ids = parcel.events.iter().map(|event| event.id).collect();
                let rows = Rows { ids, aggregates: Vec::new(), transactions: parcel.transactions };
                let rows = self.to_mark(rows);
                return Some(self.present(parcel.pending, rows));
            }
            parcel.events.iter().for_each(|event| self.held.hold(event.aggregate));
            self.send_off(parcel);
        }
        while let Some(unwanted) = self.streams.next_unwanted() {
            let Unwanted { stream, mut filling, why, written, expects } = unwanted;
            let met = expects.filter(|(position, event_id)| {
                let wanted = (*position, event_id.as_bytes());
                filling.batch.identities().any(|identity| identity == wanted)
            });
            if let Some((position, _)) = met {
                self.streams.meet(stream, position);
            }
            let last = filling.batch.last_position();
            let places: Vec<bool> =
                filling.batch.identities().map(|(position, _)| position <= written).collect();
            let present = filling.take(|place| places.get(place) == Some(&true));
            if !filling.is_empty() {
                self.park(stream, filling, |is_held| {
                    if is_held { Reason::WaitsBehind } else { Reason::Refused(Arc::clone(&why)) }
                });
            }
            self.parking.forget(stream, last);
            if !present.is_empty() {
                let rows = self.to_mark(present.rows);
                return Some(self.present(present.pending, rows));
            }
        }
        None
    }

    /// What is left to remember of the rows of published events.
    fn to_mark(&self, rows: Rows) -> Rows {
        let rows = Rows { aggregates: Vec::new(), ..rows };
        if self.limits.messages { rows.without_messages() } else { rows }
    }

    fn present(&mut self, pending: Pending, rows: Rows) -> Settling {
        Settling { published: self.progress.published(pending), rows }
    }

    /// Of a batch that is about to leave those that may; none if that leaves nothing of it. Events
    /// of aggregates that are held are parked, and what is behind the first of them waits for that.
    pub(super) fn sift(&mut self, mut ready: Ready) -> Option<Ready> {
        if let Some(events) = self.streams.caution(ready.stream)
            && events < ready.filling.batch.events()
        {
            let rest = ready.filling.take(|place| place >= events);
            let at = ready.filling.batch.last_position();
            self.streams.cut(ready.stream, at, true, rest);
        }
        if self.held.is_empty() {
            return Some(ready);
        }
        let Ready { stream, follows, written, .. } = ready;
        let filling = &mut ready.filling;
        let waits: Vec<bool> = filling
            .batch
            .identities()
            .zip(&filling.rows.aggregates)
            .map(|((position, _), aggregate)| position > written && self.held.has(*aggregate))
            .collect();
        let Some(first) = waits.iter().position(|waits| *waits) else { return Some(ready) };
        let mut rest = filling.take(|place| place >= first);
        let leaving = rest.take(|place| waits.get(first + place) == Some(&true));
        let is_sent = !filling.is_empty();
        let at = if is_sent { filling.batch.last_position() } else { follows };
        self.streams.cut(stream, at, is_sent, rest);
        self.park(stream, leaving, |_| Reason::WaitsBehind);
        is_sent.then_some(ready)
    }

    /// The events of a batch are to be parked; `reason` is told whether an earlier event of the
    /// same aggregate is.
    fn park(&mut self, stream: StreamId, filling: Filling, reason: impl Fn(bool) -> Reason) {
        let Filling { batch, pending, rows, .. } = filling;
        let mut events = Vec::with_capacity(batch.events());
        for ((position, _), (id, aggregate)) in
            batch.identities().zip(rows.ids.iter().zip(&rows.aggregates))
        {
            let is_held = self.held.has(*aggregate);
            self.held.hold(*aggregate);
            let original = self.parking.copy_of(position);
            let (id, aggregate, reason) = (*id, *aggregate, reason(is_held));
            events.push(Leaving { id, position, aggregate, reason, original });
        }
        let stream = Some(stream);
        self.send_off(Parcel { stream, pending, events, transactions: rows.transactions });
    }

    fn send_off(&mut self, parcel: Parcel) {
        if let Some(stream) = parcel.stream {
            parcel.events.iter().for_each(|event| self.streams.bar(stream, event.position));
        }
        self.parking.add(parcel);
    }

    /// That a row is unfit, where it cannot be set aside.
    pub(super) fn unfit(&self, id: Option<i64>, transaction: Transaction, unfit: &Unfit) -> Error {
        let TableName { schema, name } = &self.limits.outbox.table;
        let row = id.map_or_else(|| "a row".to_owned(), |id| format!("row id={id}"));
        Error::definite(format!(
            "{row} of {schema}.{name} (commit at {}) cannot become an event: {unfit}",
            transaction.commit_lsn
        ))
        .hint(format!(
            "everything before it is published. Correct what writes such rows; once `walrelay \
             setup` has added its columns such rows are set aside instead. To step over the rest \
             of this transaction (insert its good rows again, they are skipped too): SELECT \
             pg_replication_slot_advance('{}', '{}'::pg_lsn + 1)",
            self.limits.slot, transaction.commit_lsn
        ))
    }

    /// An unfit row leaves as it comes, and so does a message; one without a row cannot be read.
    pub(super) fn set_aside(
        &mut self,
        (id, row): (i64, Option<&Row<'_>>),
        original: Option<Original>,
        (transaction, unfit): (Transaction, Unfit),
    ) -> Result<()> {
        let mut pending = Pending::default();
        self.progress.event(&mut pending)?;
        let defaults = self.limits.defaults(transaction);
        let name = row
            .and_then(|row| Envelope::stream_of(row, &defaults).ok())
            .map(std::borrow::Cow::into_owned);
        let stream = name.map(|name| self.streams.find(&name, &self.limits));
        let position = transaction.position();
        let what = if row_of(id).is_some() { "row" } else { "message" };
        tracing::warn!(row = row_of(id), %position, reason = %unfit, "a {what} cannot be an event");
        let aggregate = row.and_then(Row::aggregate_id).unwrap_or_default();
        let aggregate = self.aggregate_of(aggregate);
        let why = unfit.to_string().into();
        // What kills may be healed, by more memory for one, and is tried again.
        let is_deadly = matches!(unfit, Unfit::Deadly(_));
        let reason = if is_deadly { Reason::Refused(why) } else { Reason::Unfit(why) };
        let event = Leaving { id, position, aggregate, reason, original };
        let transactions = vec![transaction.xid];
        let parcel = Parcel { stream, pending, events: vec![event], transactions };
        if let Some(stream) = stream {
            self.undecided = Some(Undecided { stream, parcel });
        } else {
            self.held.hold(aggregate);
            self.send_off(parcel);
        }
        Ok(())
    }

    /// What the next statement parks; to be told with [`Line::parked`] once it is committed.
    pub fn take_leaving(&mut self) -> Option<Job> {
        self.parking.take()
    }

    /// Whether something waits to be parked.
    #[must_use]
    pub fn has_leaving(&self) -> bool {
        !self.parking.is_empty()
    }

    /// PostgreSQL has committed that these are parked.
    pub fn parked(&mut self, parked: Parked) {
        for (stream, position, aggregate) in &parked.events {
            if let Some(stream) = stream {
                self.streams.unbar(*stream, *position);
            }
            self.held.committed(*aggregate);
        }
        self.progress.parked(parked);
    }

    /// The simulation's: what is behind an event that is being parked may be written.
    #[cfg(test)]
    pub(super) fn unbar(&mut self) {
        self.streams.slots.iter_mut().flatten().for_each(|stream| stream.barred.clear());
    }

    /// The simulation's: nobody waits behind anybody.
    #[cfg(test)]
    pub(super) fn let_go(&mut self) {
        self.held = super::held::Held::default();
    }

    /// Whether anything is not let through: aggregates behind parked events, streams that refuse.
    #[must_use]
    pub fn is_holding_back(&self) -> bool {
        !self.held.is_empty() || self.streams.has_refusing()
    }

    /// The table is about to be asked what is still parked; the number of this time. Streams that
    /// refuse are tried again as well.
    pub fn begin_refresh(&mut self) -> u64 {
        self.streams.try_refusing();
        self.held.begin_refresh()
    }

    /// It said so.
    pub fn end_refresh(&mut self, refresh: u64, found: Option<Vec<u64>>) {
        self.held.end_refresh(refresh, found);
    }
}
