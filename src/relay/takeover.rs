//! How streams become the line's to write: what their checkpoints are worth, and where their chains
//! go on.
//!
//! In: checkpoints as Redis tells them. Out: judgements by PostgreSQL's history, and openings. It
//! must stay true that a checkpoint is held against history once in a line, and that what the line
//! wrote itself proves nothing about history. Pure.

use super::history::Judgement;
use super::line::Line;
use super::streams::{Opening, StreamId};
use crate::lsn::Position;
use crate::sink::{Checkpoint, checkpoint_key};

impl Line {
    /// The server's timeline, for the checkpoints.
    #[must_use]
    pub fn timeline(&self) -> u32 {
        self.history.timeline
    }

    /// What the checkpoint of a stream that was taken over is worth.
    #[must_use]
    pub fn judge(&self, stream: StreamId, checkpoint: &Checkpoint) -> Judgement {
        // What a stream that was forgotten got in this very line proves nothing about history.
        // It is on this line's timeline, whatever else it is.
        let timeline = self.history.timeline;
        let may_be_ours = checkpoint.timeline.is_none_or(|written| written == timeline);
        let is_of_this_line = self.streams.has_forgotten() || self.streams.is_judged(stream);
        if is_of_this_line && may_be_ours {
            Judgement::Keep
        } else {
            self.history.judge(checkpoint)
        }
    }

    /// How a stream is to be opened by that judgement.
    #[must_use]
    pub fn opening(&self, checkpoint: &Checkpoint, judgement: &Judgement) -> Opening {
        let Checkpoint { epoch, position, ref event_id, .. } = *checkpoint;
        let (follows, written, unmet) = match judgement {
            Judgement::Keep => (position, position, None),
            Judgement::Meet => {
                let follows = Position { commit_lsn: self.history.confirmed, ordinal: 0 };
                (follows, position, Some((position, event_id.clone())))
            }
            Judgement::Lower { to, .. } => (*to, *to, None),
        };
        Opening { epoch, follows, written, unmet }
    }

    /// A stream is ours to write.
    pub fn open(&mut self, stream: StreamId, opening: Opening) {
        self.streams.open(stream, opening);
    }

    /// Nothing more is written to the stream; under which epoch it was.
    pub fn stop(&mut self, stream: StreamId) -> u64 {
        self.streams.stop(stream)
    }

    /// The name of a stream.
    #[must_use]
    pub fn name(&self, stream: StreamId) -> &str {
        self.streams.name(stream)
    }

    /// Where the checkpoint of a stream is kept.
    #[must_use]
    pub fn checkpoint_key(&self, stream: &str) -> String {
        checkpoint_key(stream, &self.limits.source)
    }
}
