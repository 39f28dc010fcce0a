//! What travels of an event: the values that are its own, and, once for the whole batch, those
//! that all of its events share.
//!
//! In: envelopes. Out: which of their values vary. Most streams have one tenant, one kind of
//! aggregate and one schema version, and both servers and we pay for each value that is passed. It
//! must stay true that `entry.lua` puts every value back into its field.

use crate::config::EntryFormat;
use crate::outbox::Envelope;

/// The letters of the fields whose values events may share, in the order in which they travel.
const LETTERS: [u8; 4] = *b"EVTA";
/// correlation_id and traceparent: shared when no event has any.
const TRACE: u8 = b'C';
/// Bits of [`Varying`]: one for each that can be shared, and one for both values of the trace.
const TRACE_BIT: u8 = 1 << LETTERS.len();
/// The topic, of an entry that says it is replayed: none is shared.
const REPLAYED: u8 = b'R';
const REPLAYED_BIT: u8 = TRACE_BIT << 1;
/// event_id, occurred_at, aggregate_id and payload.
const OWN_VALUES: usize = 4;

/// The fields whose values events do not share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Varying(u8);

impl Varying {
    /// What a replayed entry has that others have not: `replayed`, and a topic of its own.
    pub const REPLAYED: Self = Self(REPLAYED_BIT);

    /// These and those.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn is_none(self) -> bool {
        self.0 == 0
    }

    fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// How the entries of a batch are written; all of them alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Nine fields and up to two more.
    Fields(Varying),
    /// One field, `data`.
    Data,
}

impl Layout {
    pub fn new(format: EntryFormat, first: &Envelope<'_>, varying: Varying) -> Self {
        match format {
            EntryFormat::Json | EntryFormat::Cloudevents => Self::Data,
            EntryFormat::Fields => Self::Fields(varying.and(trace_of(first))),
        }
    }

    /// As `entry.lua` reads it, in `room`.
    pub fn name(self, room: &mut [u8; 16]) -> &[u8] {
        let Self::Fields(varying) = self else { return b"data" };
        let letters = LETTERS.into_iter().chain([TRACE, REPLAYED]).enumerate();
        let letters = letters.filter(|(place, _)| varying.has(1 << place));
        let name = b"fields".iter().copied().chain(letters.map(|(_, letter)| letter));
        let mut length = 0;
        for (byte, letter) in room.iter_mut().zip(name) {
            *byte = letter;
            length += 1;
        }
        room.get(..length).unwrap_or_default()
    }

    /// Values of one event.
    pub fn stride(self) -> usize {
        match self {
            Self::Fields(varying) => {
                let own = usize::try_from((varying.0 & !TRACE_BIT).count_ones()).unwrap_or(0);
                OWN_VALUES + own + if varying.has(TRACE_BIT) { 2 } else { 0 }
            }
            // The envelope, and the event's id for the checkpoint.
            Self::Data => 2,
        }
    }

    /// The place of the id among an event's values.
    pub fn id_at(self) -> usize {
        match self {
            Self::Fields(_) => 0,
            Self::Data => 1,
        }
    }

    /// Hands out the values of an event that are its own, in their order. Not for `Data`.
    pub fn values<'a>(self, envelope: &'a Envelope<'a>, mut put: impl FnMut(&'a [u8])) {
        let Self::Fields(varying) = self else { return };
        put(envelope.event_id);
        put(envelope.occurred_at.as_bytes());
        put(envelope.aggregate_id);
        put(&envelope.payload);
        if varying.is_none() {
            return;
        }
        for (place, value) in shareable(envelope).into_iter().enumerate() {
            if varying.has(1 << place) {
                put(value);
            }
        }
        if varying.has(TRACE_BIT) {
            put(envelope.correlation_id.as_deref().unwrap_or_default());
            put(envelope.traceparent.as_deref().unwrap_or_default());
        }
        if varying.has(REPLAYED_BIT) {
            put(&envelope.stream);
        }
    }
}

/// The values that events may share.
fn shareable<'a>(envelope: &'a Envelope<'_>) -> [&'a [u8]; LETTERS.len()] {
    let Envelope { event_type, schema_version, tenant_id, aggregate_type, .. } = envelope;
    [event_type, schema_version, tenant_id, aggregate_type]
}

fn trace_of(envelope: &Envelope<'_>) -> Varying {
    let is_traced = envelope.correlation_id.is_some() || envelope.traceparent.is_some();
    Varying(if is_traced { TRACE_BIT } else { 0 })
}

/// The values that all events of a batch share.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared {
    text: Vec<u8>,
    ends: [usize; LETTERS.len()],
}

impl Shared {
    /// How many there are.
    pub const VALUES: usize = LETTERS.len();

    pub fn new(first: &Envelope<'_>) -> Self {
        let mut shared = Self::default();
        for (end, value) in shared.ends.iter_mut().zip(shareable(first)) {
            shared.text.extend_from_slice(value);
            *end = shared.text.len();
        }
        shared
    }

    pub fn values(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        self.ends.iter().map(move |&end| {
            let value = self.text.get(from..end).unwrap_or_default();
            from = end;
            value
        })
    }

    /// Which fields would have to vary for `envelope` to go with the events that share these.
    pub fn unlike(&self, envelope: &Envelope<'_>) -> Varying {
        let values = self.values().zip(shareable(envelope)).enumerate();
        let bits = values.map(|(place, (shared, value))| u8::from(shared != value) << place);
        Varying(bits.fold(0, |all, bit| all | bit)).and(trace_of(envelope))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope<'a>(
        event_type: &'a [u8],
        tenant: &'a [u8],
        trace: Option<&'a [u8]>,
    ) -> Envelope<'a> {
        Envelope {
            event_type,
            tenant_id: tenant.into(),
            traceparent: trace.map(Into::into),
            ..Envelope::sample()
        }
    }

    fn name(layout: Layout) -> String {
        String::from_utf8(layout.name(&mut [0; 16]).to_vec()).unwrap()
    }

    #[test]
    fn what_varies_has_a_letter_and_travels_with_each_event() {
        let first = envelope(b"t", b"x", None);
        let shared = Shared::new(&first);
        assert_eq!(shared.unlike(&first), Varying::default());
        for (other, letters, stride) in [
            (envelope(b"u", b"x", None), "E", 5),
            (envelope(b"t", b"", None), "T", 5),
            (envelope(b"tx", b"", None), "ET", 6),
            (envelope(b"", b"tx", None), "ET", 6),
            (envelope(b"t", b"x", Some(b"p")), "C", 6),
            (envelope(b"u", b"y", Some(b"p")), "ETC", 8),
        ] {
            let layout = Layout::new(EntryFormat::Fields, &first, shared.unlike(&other));
            assert_eq!(name(layout), format!("fields{letters}"));
            assert_eq!(layout.stride(), stride);
            let mut values = 0;
            layout.values(&other, |_| values += 1);
            assert_eq!(values, stride);
        }
        let all = Varying(u8::MAX >> 2);
        let layout = Layout::new(EntryFormat::Fields, &first, all);
        assert_eq!((name(layout).as_str(), layout.stride()), ("fieldsEVTACR", 11));
        let layout = Layout::new(EntryFormat::Fields, &first, Varying::REPLAYED);
        assert_eq!((name(layout).as_str(), layout.stride()), ("fieldsR", 5));
        let mut last = None;
        layout.values(&first, |value| last = Some(value));
        assert_eq!(last, Some(&*first.stream), "the topic that the event had");
        assert_eq!(name(Layout::new(EntryFormat::Json, &first, all)), "data");
    }
}
