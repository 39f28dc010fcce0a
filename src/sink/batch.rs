//! A batch: envelopes of one stream on their way into one script call. The only file that knows
//! field names (with `entry.lua`, which adds them to the values; dead letters have their own).
//!
//! In: envelopes in the order of their positions. Out: a command whose arguments were written once
//! and are never copied by us again. What the script needs of the batch itself (epoch, chain) comes
//! last, because it may be known only after the first events were added.

use redis::Cmd;

use super::entry::EntryWriter;
use crate::config::EntryFormat;
use crate::lsn::Position;
use crate::outbox::Envelope;

/// Values of an event besides its position: the nine fields that every entry has.
const PLAIN_VALUES: usize = 9;
/// With correlation_id and traceparent.
const TRACED_VALUES: usize = 11;
/// RESP's own bytes around one argument, roughly.
const ARGUMENT_OVERHEAD: usize = 8;
/// Arguments around the events: EVALSHA, hash, key count, two keys; the five of the batch.
const FRAME_ARGUMENTS: usize = 10;

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
pub struct Sealed(pub(super) Cmd);

#[cfg(test)]
impl Sealed {
    /// The call's arguments, from the name of the command on.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = &[u8]> {
        self.0.args_iter().filter_map(|argument| {
            if let redis::Arg::Simple(bytes) = argument { Some(bytes) } else { None }
        })
    }
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
        Sealed(self.command)
    }

    /// Ends a batch of what a poller has claimed, to be written before `deadline`: milliseconds of
    /// the server's clock.
    #[must_use]
    pub fn seal_claimed(mut self, deadline: u64, maxlen: u64) -> Sealed {
        self.command.arg(self.layout.name()).arg(self.layout.stride()).arg(deadline).arg(maxlen);
        Sealed(self.command)
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
