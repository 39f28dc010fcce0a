//! Streams that refuse: one event of theirs, or everything.
//!
//! In: refusals, and the batches that were in flight behind them. Out: those batches again, in
//! order, in front of what waits; or all that a stream holds, to be parked. It must stay true that
//! a stream goes on only when all that was in flight has come back, behind the last event that was
//! written, and that nothing is lost or overtaken on the way. Pure.

use std::sync::Arc;

use super::flight::Filling;
use super::streams::{StreamId, Streams};
use crate::lsn::Position;

/// Whether a stream is ours to write.
#[derive(Debug)]
pub(super) enum Standing {
    /// Nobody asked yet.
    Unknown,
    /// The takeover is under way.
    Opening,
    /// Ours, under this epoch; the next batch follows this position.
    Open { epoch: u64, follows: Position },
    /// A batch was not written, or not to its end; those behind it come back as well.
    Returning {
        epoch: u64,
        /// What is written so far; none before the refusal itself is known.
        follows: Option<Position>,
        /// Why the stream takes nothing at all, if that is so.
        refuses: Option<Arc<str>>,
        returned: Vec<Filling>,
    },
    /// It takes nothing, for this reason: its events are parked.
    Refusing { why: Arc<str> },
    /// Its history is gone: nothing more is written to it.
    Stopped,
}

/// Why a stream could not be taken over, and what its checkpoint is worth.
#[derive(Debug)]
pub struct Refusal {
    /// In words.
    pub why: Arc<str>,
    /// Events up to here are in it.
    pub written: Position,
    /// The event that was written last: its position and id, if it must be met again.
    pub unmet: Option<(Position, String)>,
    /// Whether its checkpoint is of PostgreSQL's present history.
    pub is_judged: bool,
}

/// A batch for a stream that takes nothing.
pub(super) struct Unwanted {
    pub stream: StreamId,
    pub filling: Filling,
    pub why: Arc<str>,
    /// Events up to here are in the stream.
    pub written: Position,
    /// The event that must be met.
    pub expects: Option<(Position, String)>,
}

impl Streams {
    /// A batch came back, whole or in part. `follows` is what is written of it, where that is
    /// known: it was refused itself. `refuses` says why the stream takes nothing at all.
    pub fn returned(
        &mut self,
        id: StreamId,
        batch: Filling,
        follows: Option<Position>,
        refuses: Option<Arc<str>>,
    ) {
        let Some(Some(stream)) = self.slots.get_mut(id.0) else { return };
        if let Standing::Open { epoch, .. } = stream.standing {
            let returned = Vec::new();
            stream.standing = Standing::Returning { epoch, follows: None, refuses: None, returned };
        }
        if let Standing::Returning { follows: known, refuses: why, returned, .. } =
            &mut stream.standing
        {
            *known = known.or(follows);
            if follows.is_some() {
                // The next may be refused as well, and all behind it would travel in vain.
                stream.caution = Some(1);
            }
            *why = why.take().or(refuses);
            if !batch.is_empty() {
                returned.push(batch);
            }
        }
    }

    /// A batch has landed: once it was the last, what came back waits again and the stream goes on.
    /// False when batches came back and nothing was refused: the chain is broken.
    pub fn gather(&mut self, id: StreamId) -> bool {
        let Some(Some(stream)) = self.slots.get_mut(id.0) else { return true };
        if stream.in_flight > 0 {
            return true;
        }
        let Standing::Returning { epoch, follows, refuses, returned } = &mut stream.standing else {
            return true;
        };
        let mut returned = std::mem::take(returned);
        stream.standing = match (refuses.take(), *follows) {
            (Some(why), _) => Standing::Refusing { why },
            (None, Some(follows)) => Standing::Open { epoch: *epoch, follows },
            (None, None) => return false,
        };
        // Answers may be met in another order than that of the calls.
        returned.sort_by_key(|filling| filling.batch.last_position());
        returned.into_iter().rev().for_each(|filling| self.put_back(id, filling));
        true
    }

    /// A batch waits in front of all others of its stream.
    fn put_back(&mut self, id: StreamId, filling: Filling) {
        let Some(Some(stream)) = self.slots.get_mut(id.0) else { return };
        if stream.queue.is_empty() {
            self.waiting.push_back(id.0);
        }
        self.batches += 1;
        self.bytes += filling.batch.bytes();
        stream.queue.push_front(filling);
    }

    /// Of a batch that was about to leave only what is up to `follows` does; `rest` waits. With
    /// `is_sent` unset nothing leaves.
    pub fn cut(&mut self, id: StreamId, at: Position, is_sent: bool, rest: Filling) {
        if let Some(Some(stream)) = self.slots.get_mut(id.0) {
            stream.in_flight -= usize::from(!is_sent);
            if let Standing::Open { follows, .. } = &mut stream.standing {
                *follows = at;
            }
        }
        if !rest.is_empty() {
            self.put_back(id, rest);
        }
    }

    /// How many events may be tried at once, after a refusal.
    pub fn caution(&self, id: StreamId) -> Option<usize> {
        self.slots.get(id.0)?.as_ref()?.caution
    }

    /// A batch was taken: the next may be larger, `events_max` at most.
    pub fn trust(&mut self, id: StreamId, events_max: usize) {
        if let Some(Some(stream)) = self.slots.get_mut(id.0) {
            stream.caution = stream.caution.map(|events| events * 2).filter(|n| *n < events_max);
        }
    }

    /// A stream could not be taken over: what waits for it is to be parked.
    pub fn refuse(&mut self, id: StreamId, refusal: Refusal) {
        let Some(Some(stream)) = self.slots.get_mut(id.0) else { return };
        let Refusal { why, written, unmet, is_judged } = refusal;
        if !stream.is_judged {
            stream.is_judged = is_judged;
            stream.written = written;
            self.unmet += usize::from(unmet.is_some());
            stream.unmet = unmet;
        }
        stream.standing = Standing::Refusing { why };
    }

    /// Whether the stream takes nothing.
    pub fn is_refusing(&self, id: StreamId) -> bool {
        let stream = self.slots.get(id.0).and_then(Option::as_ref);
        stream.is_some_and(|stream| matches!(stream.standing, Standing::Refusing { .. }))
    }

    /// Whether any stream takes nothing.
    pub fn has_refusing(&self) -> bool {
        let mut streams = self.slots.iter().flatten();
        streams.any(|stream| matches!(stream.standing, Standing::Refusing { .. }))
    }

    /// Why the stream takes nothing, if that is so.
    pub fn refuses(&self, id: StreamId) -> Option<Arc<str>> {
        match &self.slots.get(id.0)?.as_ref()?.standing {
            Standing::Refusing { why } => Some(Arc::clone(why)),
            Standing::Unknown
            | Standing::Opening
            | Standing::Open { .. }
            | Standing::Returning { .. }
            | Standing::Stopped => None,
        }
    }

    /// It is told that the stream takes nothing, or something again; whether that was the last
    /// that was told.
    pub fn tell(&mut self, id: StreamId, refuses: bool) -> bool {
        let Some(Some(stream)) = self.slots.get_mut(id.0) else { return refuses };
        std::mem::replace(&mut stream.is_told, refuses)
    }

    /// Streams that refuse are tried again.
    pub fn try_refusing(&mut self) {
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if let Some(stream) = slot
                && matches!(stream.standing, Standing::Refusing { .. })
            {
                stream.standing = Standing::Unknown;
                self.unopened.push_back(number);
            }
        }
    }

    /// A batch that waits for a stream that takes nothing.
    pub fn next_unwanted(&mut self) -> Option<Unwanted> {
        let place = self.waiting.iter().position(|&number| self.is_refusing(StreamId(number)))?;
        let number = *self.waiting.get(place)?;
        let stream = self.slots.get_mut(number)?.as_mut()?;
        let Standing::Refusing { why } = &stream.standing else { return None };
        let (why, expects) = (Arc::clone(why), stream.unmet.clone());
        let filling = stream.queue.pop_front()?;
        self.batches -= 1;
        self.bytes -= filling.batch.bytes();
        if stream.queue.is_empty() {
            self.waiting.remove(place);
        }
        let (id, written) = (StreamId(number), stream.written);
        Some(Unwanted { stream: id, filling, why, written, expects })
    }

    /// Up to where the stream's events are in it already; none before it was asked.
    pub fn written(&self, id: StreamId) -> Option<Position> {
        let stream = self.slots.get(id.0)?.as_ref()?;
        match stream.standing {
            Standing::Open { .. } | Standing::Returning { .. } | Standing::Refusing { .. } => {
                Some(stream.written)
            }
            Standing::Unknown | Standing::Opening | Standing::Stopped => None,
        }
    }

    /// Whether what the stream's checkpoint says of history is known in this line.
    pub fn is_judged(&self, id: StreamId) -> bool {
        let stream = self.slots.get(id.0).and_then(Option::as_ref);
        stream.is_some_and(|stream| stream.is_judged && stream.unmet.is_none())
    }

    /// Nothing behind `position` may be written to the stream for now.
    pub fn bar(&mut self, id: StreamId, position: Position) {
        if let Some(Some(stream)) = self.slots.get_mut(id.0) {
            stream.barred.insert(position);
        }
    }

    /// The event at `position` is parked.
    pub fn unbar(&mut self, id: StreamId, position: Position) {
        if let Some(Some(stream)) = self.slots.get_mut(id.0) {
            stream.barred.remove(&position);
        }
    }
}
