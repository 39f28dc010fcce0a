//! What is wrong with a message that is to be an event, in words and as the name of a stream.
//!
//! In: a fault. Out: its text, or the name under which its row is kept. It must stay true that such
//! a name is no stream's and leads back to its fault.

use super::envelope::Unfit;

/// What a stream's name begins with that is none: such a row is no event, and says why.
const NO_STREAM: char = '\u{7f}';

/// Why a message cannot become an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its content is no text.
    NotUtf8,
    /// Its content is something else.
    NotAnObject,
    /// As it says.
    EventId,
    /// As it says.
    EventType,
    /// As it says.
    AggregateId,
    /// As it says.
    TenantId,
    /// As it says.
    Payload,
    /// As it says.
    NotAString,
    /// PostgreSQL's text cannot have it.
    Nul,
    /// Larger than a frame that is read.
    TooLarge,
    /// Another row bears its event's id.
    Repeated,
    /// PostgreSQL has refused its row.
    NoRow,
}

impl Fault {
    pub(super) const ALL: [Self; 12] = [
        Self::NotUtf8,
        Self::NotAnObject,
        Self::EventId,
        Self::EventType,
        Self::AggregateId,
        Self::TenantId,
        Self::Payload,
        Self::NotAString,
        Self::Nul,
        Self::TooLarge,
        Self::Repeated,
        Self::NoRow,
    ];

    /// In words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::NotUtf8 => "the message is not UTF-8",
            Self::NotAnObject => "the message is not a JSON object",
            Self::EventId => "the message has no event_id that is a UUID",
            Self::EventType => "the message has no event_type",
            Self::AggregateId => "the message has no aggregate_id that is a UUID",
            Self::TenantId => "the message has a tenant_id that is not a UUID",
            Self::Payload => "the message has no payload",
            Self::NotAString => "the message has a part that should be a string and is not",
            Self::Nul => "the message has a part with the character NUL",
            Self::TooLarge => "the message is larger than any event; its content was not read",
            Self::Repeated => "the message was refused, and the id of its event is another row's",
            Self::NoRow => "the message was refused, and PostgreSQL does not take it as a row",
        }
    }

    /// The name of a stream that is none, by which a row stays no event and says why.
    #[must_use]
    pub fn topic(self) -> String {
        format!("{NO_STREAM}{}", self.text())
    }

    /// What such a name says.
    pub(super) fn of_topic(name: &str) -> Option<Self> {
        let text = name.strip_prefix(NO_STREAM)?;
        Self::ALL.into_iter().find(|fault| fault.text() == text)
    }
}

impl From<Fault> for Unfit {
    fn from(fault: Fault) -> Self {
        Self::Message(fault)
    }
}
