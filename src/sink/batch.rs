//! A batch: envelopes of one stream on their way into one script call. The only file that knows
//! field names (with `entry.lua`, which adds them to the values; dead letters have their own).
//!
//! In: envelopes in the order of their positions. Out: a command whose arguments were written once
//! and are never copied by us again. What the script needs of the batch itself (epoch, chain) comes
//! last, because it may be known only after the first events were added.

use redis::{Arg, Cmd};

use super::entry::EntryWriter;
use super::failure::Failure;
use super::publish::Written;
use crate::config::EntryFormat;
use crate::lsn::Position;
use crate::outbox::Envelope;

/// Values of an event besides its position: the nine fields that every entry has.
const PLAIN_VALUES: usize = 9;
/// With correlation_id and traceparent.
const TRACED_VALUES: usize = 11;
/// RESP's own bytes around one argument, roughly.
const ARGUMENT_OVERHEAD: usize = 8;
/// Arguments before the events: EVALSHA, hash, key count, two keys.
const HEAD_ARGUMENTS: usize = 5;
/// Those and the five of the batch.
const FRAME_ARGUMENTS: usize = HEAD_ARGUMENTS + 5;

/// Bytes around the events.
const FRAME_BYTES: usize = 512;

/// What a batch may come to hold.
#[derive(Clone, Copy, Debug)]
pub struct Hint {
    /// How its entries are written.
    pub format: EntryFormat,
    /// Events, more or less.
    pub events: usize,
    /// Bytes of their values, more or less.
    pub bytes: usize,
}

/// A batch as it goes to Redis.
#[derive(Debug)]
pub struct Sealed(pub(super) Cmd, Layout, usize);

impl Sealed {
    /// The call's arguments, from the name of the command on.
    #[cfg(test)]
    pub(crate) fn arguments(&self) -> impl Iterator<Item = &[u8]> {
        arguments(&self.0)
    }

    /// The batch as it was before it was ended, where by this answer some of it is to be sent
    /// again: an event in it or before it was refused.
    #[must_use]
    pub fn returned(&self, answer: &Result<Written, Failure>) -> Option<Batch> {
        let is_to_return = match answer {
            Ok(written) => written.refusal.as_ref().is_some_and(Failure::is_rejection),
            Err(failure) => failure.is_gap() || failure.refuses_stream(),
        };
        is_to_return.then(|| copy(&self.0, self.1, self.2, |_| true))
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
    events: usize,
    mut is_kept: impl FnMut(usize) -> bool,
) -> Batch {
    let mut batch =
        Batch { command: Cmd::new(), layout, events: 0, bytes: 0, last_position: Position::START };
    let (mut last, mut keeps) = (None, false);
    for (place, argument) in arguments(from).enumerate() {
        let Some(inside) = place.checked_sub(HEAD_ARGUMENTS) else {
            batch.command.arg(argument);
            continue;
        };
        let (event, value) = (inside / layout.stride(), inside % layout.stride());
        if event >= events {
            break;
        }
        if value == 0 {
            keeps = is_kept(event);
            if keeps {
                last = Some(argument);
                batch.events += 1;
            }
        }
        if keeps {
            batch.command.arg(argument);
            batch.bytes += argument.len() + ARGUMENT_OVERHEAD;
        }
    }
    batch.last_position = last.and_then(position).unwrap_or_default();
    batch
}

/// We wrote it: it is one.
fn position(text: &[u8]) -> Option<Position> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// How the entries of a batch are written; all of them alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// Nine fields.
    Plain,
    /// Nine fields and up to two more.
    Traced,
    /// One field, `data`.
    Data,
}

impl Layout {
    /// As `publish.lua` calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "fields",
            Self::Traced => "traced",
            Self::Data => "data",
        }
    }

    /// Arguments of one event: its position and its values.
    fn stride(self) -> usize {
        1 + match self {
            Self::Plain => PLAIN_VALUES,
            Self::Traced => TRACED_VALUES,
            // The envelope, and the event's id for the checkpoint.
            Self::Data => 2,
        }
    }
}

/// Events of one stream, encoded as arguments of the publish script.
#[derive(Debug)]
pub struct Batch {
    command: Cmd,
    layout: Layout,
    events: usize,
    bytes: usize,
    last_position: Position,
}

impl Batch {
    /// An empty batch in the layout that `first` needs: a call of the script `sha` on its two keys.
    /// `hint` is what it may come to hold, by the size of the one before it.
    #[must_use]
    pub fn new(sha: &str, keys: (&str, &str), first: &Envelope<'_>, hint: Hint) -> Self {
        let layout = match hint.format {
            EntryFormat::Json | EntryFormat::Cloudevents => Layout::Data,
            EntryFormat::Fields if first.correlation_id.or(first.traceparent).is_some() => {
                Layout::Traced
            }
            EntryFormat::Fields => Layout::Plain,
        };
        let arguments = FRAME_ARGUMENTS + hint.events * layout.stride();
        let mut command = Cmd::with_capacity(arguments, hint.bytes + FRAME_BYTES);
        command.arg("EVALSHA").arg(sha).arg("2").arg(keys.0).arg(keys.1);
        Self { command, layout, events: 0, bytes: 0, last_position: Position::START }
    }

    /// Whether `envelope` can be written in this batch's layout.
    #[must_use]
    pub fn fits(&self, envelope: &Envelope<'_>) -> bool {
        self.layout != Layout::Plain || envelope.correlation_id.or(envelope.traceparent).is_none()
    }

    /// Adds an event behind those that are there.
    pub fn push(&mut self, envelope: &Envelope<'_>, position: Position, writer: &mut EntryWriter) {
        let mut text = [0; Position::TEXT_BYTES];
        self.command.arg(position.write(&mut text));
        if self.layout == Layout::Data {
            self.command.arg(writer.data(envelope)).arg(envelope.event_id);
        } else {
            self.push_fields(envelope);
        }
        self.bytes += envelope.bytes() + self.layout.stride() * ARGUMENT_OVERHEAD;
        self.events += 1;
        self.last_position = position;
    }

    fn push_fields(&mut self, envelope: &Envelope<'_>) {
        self.command
            .arg(envelope.event_id)
            .arg(envelope.event_type)
            .arg(envelope.stream)
            .arg(envelope.schema_version)
            .arg(envelope.occurred_at.as_bytes())
            .arg(&*envelope.tenant_id)
            .arg(envelope.aggregate_id)
            .arg(envelope.aggregate_type)
            .arg(envelope.payload);
        if self.layout == Layout::Traced {
            self.command
                .arg(envelope.correlation_id.unwrap_or_default())
                .arg(envelope.traceparent.unwrap_or_default());
        }
    }

    /// Ends the batch: the call as it goes to Redis.
    #[must_use]
    pub fn seal(mut self, epoch: u64, follows: Position, maxlen: u64) -> Sealed {
        let mut text = [0; Position::TEXT_BYTES];
        self.command
            .arg(self.layout.name())
            .arg(self.layout.stride())
            .arg(epoch)
            .arg(follows.write(&mut text))
            .arg(maxlen);
        Sealed(self.command, self.layout, self.events)
    }

    /// Ends a batch of what a poller has claimed, to be written before `deadline`: milliseconds of
    /// the server's clock.
    #[must_use]
    pub fn seal_claimed(mut self, deadline: u64, maxlen: u64) -> Sealed {
        self.command.arg(self.layout.name()).arg(self.layout.stride()).arg(deadline).arg(maxlen);
        Sealed(self.command, self.layout, self.events)
    }

    /// The same without the events that `is_kept` says no to, by their places. A copy.
    #[must_use]
    pub fn filtered(&self, is_kept: impl FnMut(usize) -> bool) -> Self {
        copy(&self.command, self.layout, self.events, is_kept)
    }

    /// Position and id of each event, in order.
    pub fn identities(&self) -> impl Iterator<Item = (Position, &[u8])> {
        let id_at = if self.layout == Layout::Data { 2 } else { 1 };
        let (stride, mut at) = (self.layout.stride(), Position::START);
        arguments(&self.command).skip(HEAD_ARGUMENTS).enumerate().filter_map(
            move |(place, argument)| {
                if place % stride == 0 {
                    at = position(argument).unwrap_or_default();
                }
                (place % stride == id_at).then_some((at, argument))
            },
        )
    }

    /// Events in it.
    #[must_use]
    pub fn events(&self) -> usize {
        self.events
    }

    /// Bytes in it, roughly as they will travel.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The position of its last event: what the next batch of the stream follows.
    #[must_use]
    pub fn last_position(&self) -> Position {
        self.last_position
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Lsn;
    use crate::outbox::OccurredAt;

    fn envelope(id: &[u8]) -> Envelope<'_> {
        Envelope {
            event_id: id,
            event_type: b"t",
            stream: b"s",
            schema_version: b"1",
            occurred_at: OccurredAt::from_postgres_micros(0),
            tenant_id: b"".into(),
            aggregate_id: b"a",
            aggregate_type: b"",
            payload: b"{}",
            correlation_id: None,
            traceparent: None,
        }
    }

    fn at(ordinal: u32) -> Position {
        Position { commit_lsn: Lsn::new(7), ordinal }
    }

    #[test]
    fn a_batch_that_came_back_is_made_again_without_what_is_parked() {
        for format in [EntryFormat::Fields, EntryFormat::Json] {
            let mut writer = EntryWriter::new(format, String::new());
            let ids: [&[u8]; 4] = [b"e1", b"e2", b"e3", b"e4"];
            let hint = Hint { format, events: 1, bytes: 0 };
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
