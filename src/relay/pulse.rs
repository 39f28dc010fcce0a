//! Heartbeats as the line sees them: a message of ours that comes by in the WAL has passed once all
//! events before it are published.
//!
//! In: logical messages, and how far publishing is. Out: the number of a heartbeat that has passed.
//! It must stay true that other prefixes, other relays and other slots are not heard, and that what
//! is remembered are two numbers. Pure.

use std::sync::Arc;

use crate::pgoutput::LogicalMessage;

/// The prefix of our messages; `heartbeat.sql` writes it.
const PREFIX: &str = "walrelay";

/// A heartbeat that came by.
#[derive(Clone, Copy, Debug)]
struct Beat {
    number: u64,
    /// So many transactions with events came before it.
    behind: u64,
}

/// The heartbeats of one line.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// What the line's own messages begin with; none where there are none.
    name: Option<Arc<str>>,
    /// The oldest that has not passed, so that one passes however many follow; and the newest.
    oldest: Option<Beat>,
    newest: Option<Beat>,
}

impl Pulse {
    /// Hears messages that begin with `name`.
    pub fn new(name: Option<Arc<str>>) -> Self {
        Self { name, oldest: None, newest: None }
    }

    /// A message came; `behind` so many transactions with events. Its number, if it is one of ours.
    pub fn hear(&mut self, message: &LogicalMessage<'_>, behind: u64) -> Option<u64> {
        if message.prefix != PREFIX {
            return None;
        }
        let text = message.content.strip_prefix(self.name.as_ref()?.as_bytes())?;
        let number = std::str::from_utf8(text).ok()?.parse().ok()?;
        let beat = Beat { number, behind };
        if self.oldest.is_none() {
            self.oldest = Some(beat);
        } else {
            self.newest = Some(beat);
        }
        Some(number)
    }

    /// The newest heartbeat that has passed, once `published` transactions with events are wholly
    /// published, the first ones without a gap.
    pub fn passed(&mut self, published: u64) -> Option<u64> {
        let oldest = self.oldest.take_if(|beat| beat.behind <= published)?;
        self.oldest = self.newest.take();
        let newer = self.oldest.take_if(|beat| beat.behind <= published);
        Some(newer.unwrap_or(oldest).number)
    }
}

/// What heartbeats for `slot` written by `process` begin with.
pub(super) fn name(slot: &str, process: &str) -> Arc<str> {
    format!("{slot} {process} ").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Lsn;

    fn message<'a>(prefix: &'a str, content: &'a str) -> LogicalMessage<'a> {
        let content = content.as_bytes();
        LogicalMessage { is_transactional: true, lsn: Lsn::NONE, prefix, content }
    }

    #[test]
    fn only_messages_of_this_slot_and_process_are_heard() {
        let mut pulse = Pulse::new(Some(name("walrelay", "7-f")));
        for (prefix, content) in [
            ("outbox", "walrelay 7-f 1"),
            ("walrelay", "walrelay_2of2 7-f 1"),
            ("walrelay", "walrelay 8-f 1"),
            ("walrelay", "walrelay 7-f"),
            ("walrelay", "walrelay 7-f 99999999999999999999"),
            ("walrelay", "walrelay 7-f -1"),
            ("walrelay", ""),
        ] {
            assert_eq!(pulse.hear(&message(prefix, content), 0), None, "{prefix} {content}");
        }
        assert_eq!(pulse.passed(u64::MAX), None);
        assert_eq!(pulse.hear(&message("walrelay", "walrelay 7-f 12"), 0), Some(12));
        assert_eq!(pulse.passed(0), Some(12));
        assert_eq!(Pulse::new(None).hear(&message("walrelay", " 12"), 0), None);
    }

    #[test]
    fn one_passes_once_all_before_it_is_published_however_many_follow() {
        let mut pulse = Pulse::new(Some(name("s", "p")));
        let hear = |pulse: &mut Pulse, number: u64, behind| {
            pulse.hear(&message("walrelay", &format!("s p {number}")), behind);
        };
        hear(&mut pulse, 1, 5);
        assert_eq!(pulse.passed(4), None);
        hear(&mut pulse, 2, 6);
        hear(&mut pulse, 3, 7);
        assert_eq!(pulse.passed(5), Some(1));
        assert_eq!(pulse.passed(6), None, "the second was not kept: the newest is");
        assert_eq!(pulse.passed(7), Some(3));
        hear(&mut pulse, 4, 8);
        hear(&mut pulse, 5, 9);
        assert_eq!(pulse.passed(9), Some(5), "both have passed: the newest tells more");
        assert_eq!(pulse.passed(u64::MAX), None);
    }
}
