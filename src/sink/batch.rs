//! A batch: envelopes of one stream on their way into one script call. Which values travel is in
//! `layout`; `entry.lua` adds the field names.
//!
//! In: envelopes in the order of their positions. Out: a command whose arguments were written once
//! and are never copied by us again. What the script needs of the batch itself (epoch, chain) comes
//! last, because it may be known only after the first events were added.

use redis::{Arg, Cmd};

use super::entry::EntryWriter;
use super::failure::Failure;
use super::layout::{Layout, Shared, Varying};
use super::publish::Written;
use crate::config::EntryFormat;
use crate::lsn::Position;
use crate::outbox::Envelope;

/// RESP's own bytes around one argument, roughly.
const ARGUMENT_OVERHEAD: usize = 8;
/// Arguments before the events: EVALSHA, hash, key count, two keys.
const HEAD_ARGUMENTS: usize = 5;
/// Those, the six of the batch and what its events share.
const FRAME_ARGUMENTS: usize = HEAD_ARGUMENTS + 6 + Shared::VALUES;

/// Bytes around the events.
const FRAME_BYTES: usize = 512;

/// What a batch may come to hold.
#[derive(Clone, Copy, Debug)]
pub struct Hint {
    /// How its entries are written.
    pub format: EntryFormat,
    /// The fields whose values its events do not share, as far as is known.
    pub varying: Varying,
    /// Events, more or less.
    pub events: usize,
    /// Bytes of their values, more or less.
    pub bytes: usize,
}

/// A batch as it goes to Redis.
#[derive(Debug)]
pub struct Sealed {
    pub(super) command: Cmd,
    layout: Layout,
    shared: Shared,
    positions: Vec<Position>,
}

impl Sealed {
    /// The call's arguments, from the name of the command on.
    #[cfg(test)]
    pub(crate) fn arguments(&self) -> impl Iterator<Item = &[u8]> {
        arguments(&self.command)
    }

    /// The batch as it was before it was ended, where by this answer some of it is to be sent
    /// again: an event in it or before it was refused.
    #[must_use]
    pub fn returned(self, answer: &Result<Written, Failure>) -> Option<Batch> {
        let is_to_return = match answer {
            Ok(written) => written.refusal.as_ref().is_some_and(Failure::is_rejection),
            Err(failure) => failure.is_gap() || failure.refuses_stream(),
        };
        is_to_return
            .then(|| copy(&self.command, self.layout, self.shared, &self.positions, |_| true))
    }
}

fn arguments(command: &Cmd) -> impl Iterator<Item = &[u8]> {
    command
        .args_iter()
        .filter_map(|argument| if let Arg::Simple(bytes) = argument { Some(bytes) } else { None })
}

/// The same call with those of its events that `is_kept` says yes to, by their places.
fn copy(
    from: &Cmd,
    layout: Layout,
    shared: Shared,
    positions: &[Position],
    mut is_kept: impl FnMut(usize) -> bool,
) -> Batch {
    let command = Cmd::new();
    let mut batch = Batch { command, layout, shared, positions: Vec::new(), bytes: 0 };
    let mut arguments = arguments(from);
    for argument in arguments.by_ref().take(HEAD_ARGUMENTS) {
        batch.command.arg(argument);
    }
    for (place, position) in positions.iter().enumerate() {
        let is_kept = is_kept(place);
        for value in arguments.by_ref().take(layout.stride()) {
            if is_kept {
                batch.put(value);
            }
        }
        if is_kept {
            batch.end_event(*position);
        }
    }
    batch
}

/// Events of one stream, encoded as arguments of the publish script.
#[derive(Debug)]
pub struct Batch {
    command: Cmd,
    layout: Layout,
    shared: Shared,
    positions: Vec<Position>,
    bytes: usize,
}

impl Batch {
    /// An empty batch in the layout that `first` needs: a call of the script `sha` on its two keys.
    /// `hint` is what it may come to hold, by the size of the one before it.
    #[must_use]
    pub fn new(sha: &str, keys: (&str, &str), first: &Envelope<'_>, hint: Hint) -> Self {
        let layout = Layout::new(hint.format, first, hint.varying);
        let arguments = FRAME_ARGUMENTS + hint.events * layout.stride();
        let mut command = Cmd::with_capacity(arguments, hint.bytes + FRAME_BYTES);
        command.arg("EVALSHA").arg(sha).arg("2").arg(keys.0).arg(keys.1);
        let positions = Vec::with_capacity(hint.events);
        Self { command, layout, shared: Shared::new(first), positions, bytes: 0 }
    }

    /// Whether `envelope` can be written in this batch's layout; if not, which fields would have to
    /// vary in one that can hold both.
    pub fn fits(&self, envelope: &Envelope<'_>) -> Result<(), Varying> {
        let Layout::Fields(varying) = self.layout else { return Ok(()) };
        let wanted = varying.and(self.shared.unlike(envelope));
        if wanted == varying { Ok(()) } else { Err(wanted) }
    }

    /// Adds an event that fits behind those that are there.
    pub fn push(&mut self, envelope: &Envelope<'_>, position: Position, writer: &mut EntryWriter) {
        if self.layout == Layout::Data {
            self.put(writer.data(envelope));
            self.put(envelope.event_id);
        } else {
            self.layout.values(envelope, |value| self.put(value));
        }
        self.end_event(position);
    }

    #[inline]
    fn put(&mut self, value: &[u8]) {
        self.command.arg(value);
        self.bytes += value.len() + ARGUMENT_OVERHEAD;
    }

    #[inline]
    fn end_event(&mut self, position: Position) {
        self.positions.push(position);
        self.bytes += Position::TEXT_BYTES;
    }

    /// Ends the batch: the call as it goes to Redis.
    #[must_use]
    pub fn seal(mut self, epoch: u64, follows: Position, maxlen: u64) -> Sealed {
        self.put_shared();
        self.put_positions();
        self.put_layout();
        let mut text = [0; Position::TEXT_BYTES];
        self.command.arg(epoch).arg(follows.write(&mut text)).arg(maxlen);
        self.sealed()
    }

    /// Ends a batch of a replay, whose journal is forgotten so many seconds after its last entry.
    #[must_use]
    pub fn seal_replayed(mut self, follows: Position, journal_seconds: u64) -> Sealed {
        self.put_shared();
        self.put_positions();
        self.put_layout();
        let mut text = [0; Position::TEXT_BYTES];
        self.command.arg(follows.write(&mut text)).arg(journal_seconds);
        self.sealed()
    }

    /// Ends a batch of what a poller has claimed, to be written before `deadline`: milliseconds of
    /// the server's clock.
    #[must_use]
    pub fn seal_claimed(mut self, deadline: u64, maxlen: u64) -> Sealed {
        self.put_shared();
        self.put_layout();
        self.command.arg(deadline).arg(maxlen);
        self.sealed()
    }

    fn put_shared(&mut self) {
        if self.layout != Layout::Data {
            for value in self.shared.values() {
                self.command.arg(value);
            }
        }
    }

    fn put_positions(&mut self) {
        let mut positions = Vec::with_capacity(self.positions.len() * Position::TEXT_BYTES);
        let mut text = [0; Position::TEXT_BYTES];
        for position in &self.positions {
            positions.extend_from_slice(position.write(&mut text));
        }
        self.command.arg(positions);
    }

    fn put_layout(&mut self) {
        self.command.arg(self.layout.name(&mut [0; 16])).arg(self.layout.stride());
    }

    fn sealed(self) -> Sealed {
        let Self { command, layout, shared, positions, .. } = self;
        Sealed { command, layout, shared, positions }
    }

    /// The same without the events that `is_kept` says no to, by their places. A copy.
    #[must_use]
    pub fn filtered(&self, is_kept: impl FnMut(usize) -> bool) -> Self {
        copy(&self.command, self.layout, self.shared.clone(), &self.positions, is_kept)
    }

    /// Position and id of each event, in order.
    pub fn identities(&self) -> impl Iterator<Item = (Position, &[u8])> {
        let ids = arguments(&self.command)
            .skip(HEAD_ARGUMENTS + self.layout.id_at())
            .step_by(self.layout.stride());
        self.positions.iter().copied().zip(ids)
    }

    /// Events in it.
    #[must_use]
    pub fn events(&self) -> usize {
        self.positions.len()
    }

    /// Bytes in it, roughly as they will travel.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The position of its last event: what the next batch of the stream follows.
    #[must_use]
    pub fn last_position(&self) -> Position {
        self.positions.last().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Lsn;

    fn envelope(id: &[u8]) -> Envelope<'_> {
        Envelope { event_id: id, ..Envelope::sample() }
    }

    fn at(ordinal: u32) -> Position {
        Position { commit_lsn: Lsn::new(7), ordinal }
    }

    #[test]
    fn a_batch_that_came_back_is_made_again_without_what_is_parked() {
        for format in [EntryFormat::Fields, EntryFormat::Json] {
            let mut writer = EntryWriter::new(format, String::new());
            let ids: [&[u8]; 4] = [b"e1", b"e2", b"e3", b"e4"];
            let hint = Hint { format, varying: Varying::default(), events: 1, bytes: 0 };
            let fill = |numbers: &[u32], writer: &mut EntryWriter| {
                let mut batch = Batch::new("sha", ("s", "c"), &envelope(ids[0]), hint);
                for number in numbers {
                    let id = ids[usize::try_from(*number).unwrap() - 1];
                    batch.push(&envelope(id), at(*number), writer);
                }
                batch
            };
            let all = fill(&[1, 2, 3, 4], &mut writer);
            let identities: Vec<_> = all.identities().collect();
            let wanted: Vec<_> = (1..).map(at).zip(ids).collect();
            assert_eq!(identities, wanted);
            let gap = Err(Failure::of_entry("GAP a position"));
            let back = all.seal(9, Position::START, 0).returned(&gap).unwrap();
            let rest = back.filtered(|place| place != 1);
            assert_eq!((rest.events(), rest.last_position()), (3, at(4)));
            let front = rest.filtered(|place| place < 2);
            assert_eq!((front.events(), front.last_position()), (2, at(3)));
            let sealed = |batch: Batch| {
                let sealed = batch.seal(9, at(1), 5);
                sealed.arguments().map(<[u8]>::to_vec).collect::<Vec<_>>()
            };
            assert_eq!(sealed(front), sealed(fill(&[1, 3], &mut writer)));
        }
    }
}
