//! What Redis answers, and what follows from it.
//!
//! In: answers to the calls of a session. Out: receipts for the settler, or a failure to wait out,
//! or the end of the line. It must stay true that nothing counts as published without an answer
//! that says so, and that a history that was rewound is said loudly before anything is sent again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::desk::Answer;
use super::flight::Flight;
use super::history::Judgement;
use super::leaving::Unpublished;
use super::session::{Intake, Session};
use super::settle::{Job, Marked, Marker, Marking};
use super::streams::{Opening, StreamId};
use crate::config::AfterPublish;
use crate::error::{Error, Result};
use crate::lsn::Position;
use crate::sink::{self, Batch, Checkpoint, Failure, Verdict, Written};
use crate::telemetry::{Server, State};

/// What came back from Redis.
pub(super) enum Landed {
    Opened(StreamId, Keys, Result<Checkpoint, Failure>),
    Anchored(StreamId, Then, Result<(), Failure>),
    /// The slot is another's by now.
    Dispossessed(Error),
    /// With the batch, if it or a part of it was not written for a refusal; and after how long.
    Published(Box<Flight>, Result<Written, Failure>, Option<Batch>, Duration),
    /// A stream could not be taken over for this reason; what its checkpoint says.
    Refused(StreamId, Failure, Result<Option<Checkpoint>, Failure>),
    Safe(Result<(), Failure>),
    Pong(Result<(), Failure>),
    /// The same, behind all that came before a heartbeat.
    Beat(u64, Result<(), Failure>),
    /// Starts before this one are forgotten.
    Cleared,
}

/// A stream and its checkpoint.
#[derive(Clone)]
pub(super) struct Keys {
    pub stream: String,
    pub checkpoint: String,
}

/// What to do once a checkpoint was tied to the server's history.
pub(super) enum Then {
    /// The stream is open.
    Open(Opening),
    /// The same, from this lower position on, for this reason.
    Lower(Opening, String),
    /// What was sent before this came out, for this reason, is to be sent again.
    Restart(String),
}

impl Session<'_> {
    /// What Redis answered; a failure that Redis must recover from first is handed back.
    pub(super) fn land(&mut self, landed: Landed) -> Result<Option<Failure>> {
        match landed {
            Landed::Opened(stream, keys, Ok(checkpoint)) => {
                self.opened(stream, keys, &checkpoint);
                Ok(None)
            }
            Landed::Opened(stream, keys, Err(failure)) => match failure.verdict {
                Verdict::Rejected | Verdict::Definite => {
                    let sink = self.sink.clone();
                    self.flights.push(Box::pin(async move {
                        Landed::Refused(stream, failure, sink.peek(&keys.checkpoint).await)
                    }));
                    Ok(None)
                }
                Verdict::Outage | Verdict::Restart | Verdict::Fenced | Verdict::Rewound => {
                    self.classify(failure, &format!("cannot take over stream {:?}", keys.stream))
                }
            },
            Landed::Anchored(stream, then, Ok(())) => self.anchored(stream, then),
            Landed::Anchored(_, _, Err(failure)) => {
                self.classify(failure, "cannot tie a checkpoint to PostgreSQL's history")
            }
            Landed::Dispossessed(error) => Err(error),
            Landed::Refused(stream, refusal, Ok(checkpoint)) => {
                let error = self.line.not_opened(stream, refusal, checkpoint.as_ref());
                // Everything before the event that wanted the stream is settled, then we stop.
                if let Some(error) = error {
                    self.break_off(error);
                }
                Ok(None)
            }
            Landed::Refused(_, _, Err(failure)) => {
                self.classify(failure, "cannot read a checkpoint")
            }
            Landed::Published(flight, Ok(written), returned, took) => {
                self.status.metrics.histograms.called(flight.events, took);
                self.published(*flight, &written, returned)
            }
            Landed::Published(flight, Err(failure), returned, _) => {
                self.unpublished(*flight, failure, returned)
            }
            Landed::Safe(Ok(())) => {
                self.settler.safe();
                Ok(None)
            }
            Landed::Safe(Err(failure)) => {
                self.classify(failure, "cannot ask whether entries are safe")
            }
            Landed::Cleared => Ok(None),
            Landed::Pong(Ok(())) => {
                self.is_pinging = false;
                Ok(None)
            }
            Landed::Beat(number, Ok(())) => {
                self.heartbeat_returned(number);
                Ok(None)
            }
            Landed::Pong(Err(failure)) | Landed::Beat(_, Err(failure)) => {
                self.classify(failure, "Redis gives no sign of life")
            }
        }
    }

    fn opened(&mut self, stream: StreamId, keys: Keys, checkpoint: &Checkpoint) {
        let Checkpoint { epoch, position, .. } = *checkpoint;
        tracing::debug!(stream = keys.stream, epoch, %position, "stream taken over");
        if let Some(known) = self.memory.lost(&keys.stream, position) {
            self.tell_redis_lost(&keys.stream, known, position);
        }
        self.memory.reached(&keys.stream, position, 0);
        let judgement = self.line.judge(stream, checkpoint);
        let opening = self.line.opening(checkpoint, &judgement);
        let is_told = checkpoint.timeline.is_none_or(|timeline| timeline == self.line.timeline());
        // Before the first batch: a position of this timeline under the name of another would be
        // taken for one of a history that is gone.
        match judgement {
            Judgement::Keep | Judgement::Meet if is_told => self.line.open(stream, opening),
            Judgement::Keep | Judgement::Meet => {
                self.anchor(stream, keys, (epoch, None), Then::Open(opening));
            }
            Judgement::Lower { to, why } => {
                self.anchor(stream, keys, (epoch, Some(to)), Then::Lower(opening, why));
            }
        }
    }

    /// Ties a checkpoint to the history that this line sees, once PostgreSQL has said again that
    /// the slot is ours. A relay that was frozen may take a stream over long after its slot was
    /// taken from it: what it thinks of history is of the past then. Whoever takes the slot after
    /// the answer raises the epoch after it too, and what is written here fails.
    fn anchor(
        &mut self,
        stream: StreamId,
        keys: Keys,
        (epoch, position): (u64, Option<Position>),
        then: Then,
    ) {
        let (sink, timeline, claim) =
            (self.sink.clone(), self.line.timeline(), Arc::clone(&self.claim));
        self.flights.push(Box::pin(async move {
            if let Err(error) = claim.prove().await {
                return Landed::Dispossessed(error);
            }
            let names = (keys.stream.as_str(), keys.checkpoint.as_str());
            let anchored = sink.anchor(names, epoch, timeline, position).await;
            Landed::Anchored(stream, then, anchored)
        }));
    }

    fn anchored(&mut self, stream: StreamId, then: Then) -> Result<Option<Failure>> {
        match then {
            Then::Open(opening) => self.line.open(stream, opening),
            Then::Lower(opening, why) => {
                self.tell_rewound(stream, opening.follows, &why);
                self.line.open(stream, opening);
            }
            Then::Restart(why) => {
                self.tell_rewound(stream, Position::START, &why);
                return Err(Error::transient(
                    "PostgreSQL's history was rewound: sending again what its slot has",
                ));
            }
        }
        Ok(None)
    }

    fn published(
        &mut self,
        mut flight: Flight,
        written: &Written,
        returned: Option<Batch>,
    ) -> Result<Option<Failure>> {
        self.memory.watch.added(written.added);
        let metrics = &self.status.metrics;
        metrics.batches.inc();
        metrics.published.inc_by(u64::try_from(written.added).unwrap_or(0));
        metrics.duplicates.inc_by(u64::try_from(written.present).unwrap_or(0));
        if let Some(refusal) = &written.refusal
            && refusal.verdict != Verdict::Rejected
        {
            return self.classify(refusal.clone(), "cannot publish a batch");
        }
        self.status.published_up_to(flight.commit_time);
        // Where some were there before, the oldest may be one of those.
        if written.added > 0 && written.present == 0 {
            self.status.metrics.histograms.entered(flight.oldest_commit);
        }
        let traced = flight.traced.written(written.present..written.present + written.added);
        self.status.spans.entered(self.line.name(flight.stream), traced);
        if written.refusal.is_none() {
            let name = self.line.name(flight.stream);
            self.memory.reached(name, flight.last_position, written.added);
        }
        let (settling, refused) = self.line.published(flight, written, returned)?;
        self.settler.add(settling, Instant::now());
        if let Some(error) = refused {
            self.break_off(error);
        }
        Ok(None)
    }

    fn unpublished(
        &mut self,
        flight: Flight,
        failure: Failure,
        returned: Option<Batch>,
    ) -> Result<Option<Failure>> {
        let stream = flight.stream;
        if failure.is_gap() {
            self.status.metrics.gaps.inc();
        }
        let failure = match self.line.unpublished(flight, failure, returned) {
            Unpublished::Kept => return Ok(None),
            Unpublished::Failed(failure) => failure,
        };
        if failure.verdict == Verdict::Rewound {
            let epoch = self.line.stop(stream);
            self.rewind(stream, epoch, &failure.text);
            return Ok(None);
        }
        self.classify(failure, "cannot publish a batch")
    }

    /// What the table said of parked events.
    pub(super) fn answered(&mut self, answer: Answer) -> Result<()> {
        match answer {
            Answer::Parked(job, outcome) => {
                self.status.metrics.parked.inc_by(outcome.parked);
                let refused = job.events().filter_map(|event| event.reason.refusal());
                refused.for_each(|why| self.status.metrics.rejected(why));
                if !outcome.gone.is_empty() {
                    let rows = outcome.gone.len();
                    self.memory.want(outcome.gone);
                    return Err(Error::transient(format!(
                        "{rows} refused events cannot be parked, for their rows were deleted: \
                         asking the slot for them again"
                    )));
                }
                self.line.parked(job.committed());
            }
            Answer::Held(refresh, found, _) => self.line.end_refresh(refresh, found.held),
        }
        Ok(())
    }

    /// Asks whether what was published is safe by now. What Redis was asked before is not asked
    /// again: it answers once its disk, or its replicas, have it. A server that can only be waited
    /// for is asked for a sign of life: it has outlived the wait.
    pub(super) fn ask_gate(&mut self) {
        if !self.settler.must_ask(Instant::now()) {
            return;
        }
        let (gate, sink) = (self.gate.clone(), self.sink.clone());
        self.flights
            .push(Box::pin(async move { Landed::Safe(sink::until_safe(gate, sink).await) }));
    }

    /// Hands durable batches to the marker, or counts them as settled when rows are kept as they
    /// are.
    pub(super) fn settle(&mut self) {
        let marker = match self.marking.take() {
            Some(Marking::Idle(marker)) => marker,
            busy => {
                self.marking = busy;
                return;
            }
        };
        let now = Instant::now();
        while let Some(job) = self.settler.take(now) {
            if self.after_publish == AfterPublish::Keep {
                job.receipts.into_iter().for_each(|receipt| self.line.settled(receipt));
                continue;
            }
            self.marking = Some(Marking::Busy(Box::pin(async move {
                let marked = marker.mark(&job.rows).await;
                (marker, job, marked)
            })));
            return;
        }
        self.marking = Some(Marking::Idle(marker));
    }

    pub(super) fn marked(&mut self, marker: Box<Marker>, job: Job, marked: Marked) {
        self.status.metrics.marked.inc_by(marked.rows);
        self.status.metrics.gone.inc_by(marked.gone);
        job.receipts.into_iter().for_each(|receipt| self.line.settled(receipt));
        self.marking = Some(Marking::Idle(marker));
    }

    /// What a stream holds is of another history: its checkpoint goes back to the start, and what
    /// the slot has is sent again.
    pub(super) fn rewind(&mut self, stream: StreamId, epoch: u64, why: &str) {
        if let Some(error) = self.line.has_passed_last_of(stream) {
            return self.break_off(error);
        }
        let name = self.line.name(stream).to_owned();
        let keys = Keys { checkpoint: self.line.checkpoint_key(&name), stream: name };
        let then = Then::Restart(why.to_owned());
        self.anchor(stream, keys, (epoch, Some(Position::START)), then);
    }

    /// Takes nothing more in; what came before is settled, then this error ends the line.
    pub(super) fn break_off(&mut self, error: Error) {
        if matches!(self.intake, Intake::Broken(..)) {
            return;
        }
        let deadline = match self.intake {
            Intake::Draining(deadline) => Some(deadline),
            Intake::Open | Intake::Broken(..) => None,
        };
        tracing::error!(%error, "stopping: what came before this is settled first");
        self.status.failed(&error);
        self.status.enter(State::Draining);
        self.intake = Intake::Broken(error, deadline);
    }

    /// Told once it is so: only whoever holds the slot may judge.
    fn tell_rewound(&mut self, stream: StreamId, lowered: Position, why: &str) {
        let stream = self.line.name(stream);
        self.memory.reached(stream, lowered, 0);
        self.status.metrics.history_rewinds.inc();
        let what = format!("PostgreSQL's history was rewound: {why}");
        self.status.failed(&Error::transient(what));
        tracing::error!(
            stream,
            why,
            "PostgreSQL's history was rewound (a standby promoted without the last transactions, \
             or a restored copy): entries of transactions that it lost stay in the stream, and \
             what its slot sends is published even where that repeats an entry"
        );
    }

    fn tell_redis_lost(&self, stream: &str, known: Position, now: Position) {
        self.status.metrics.redis_rollbacks.inc();
        let confirmed = self.line.positions().confirmed;
        let what = format!("Redis lost the end of stream {stream:?}: {known} was there");
        self.status.failed(&Error::transient(what));
        if now == Position::START {
            tracing::error!(
                stream,
                was = %known,
                %confirmed,
                "Redis came back without the stream's checkpoint: what the slot still holds is \
                 published again, what was confirmed before is not; its rows are in the outbox \
                 unless they were deleted"
            );
        } else {
            tracing::warn!(
                stream,
                was = %known,
                %now,
                %confirmed,
                "Redis came back without its last entries: the slot sends them again"
            );
        }
    }

    /// An outage is handed back to be waited for; everything else ends the line.
    pub(super) fn classify(&self, failure: Failure, doing: &str) -> Result<Option<Failure>> {
        match failure.verdict {
            Verdict::Outage => Ok(Some(failure)),
            Verdict::Fenced => {
                self.status.metrics.fenced.inc();
                Err(Error::slot_in_use(format!(
                    "{doing}: another relay has taken the stream over: {failure}"
                )))
            }
            Verdict::Restart | Verdict::Rejected | Verdict::Rewound | Verdict::Definite => {
                self.status.reconnects.lost(Server::Redis);
                Err(failure.into_error(doing))
            }
        }
    }
}
