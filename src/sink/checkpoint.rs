//! The checkpoint of a stream: where it is kept and what it says.
//!
//! One hash per stream and source, in the stream's own hash slot, so that one script may change
//! both in a Redis Cluster
//! (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags>).
//! `source` names the slot and the PostgreSQL system identifier: another slot has its own
//! checkpoint.

use crate::lsn::Position;

/// What a stream's checkpoint said when the stream was taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Ours now; whoever writes with a lower one is fenced off.
    pub epoch: u64,
    /// Of the last entry written, or the start.
    pub position: Position,
    /// Id of the last event written; empty when unknown.
    pub event_id: String,
    /// The timeline of the leader before us.
    pub timeline: Option<u32>,
}

/// `walrelay:{tag}:...:source`, in the hash slot of `stream`: its own `{tag}`, or its whole name.
#[must_use]
pub fn checkpoint_key(stream: &str, source: &str) -> String {
    match hash_tag(stream) {
        Some(tag) => format!("walrelay:{{{tag}}}:{stream}:{source}"),
        None => format!("walrelay:{{{stream}}}:{source}"),
    }
}

/// The stream whose checkpoint that key is, with this `source`.
#[must_use]
pub(super) fn stream_of(key: &str, source: &str) -> Option<String> {
    let inside = key.strip_prefix("walrelay:{")?.strip_suffix(source)?.strip_suffix(':')?;
    let whole = inside.strip_suffix('}');
    let tagged = inside.split_once("}:").map(|(_, stream)| stream);
    let fits = |stream: &&str| checkpoint_key(stream, source) == key;
    [whole, tagged].into_iter().flatten().find(fits).map(str::to_owned)
}

/// The hash of what pollers have put into `stream` and may not have settled; `source` names the
/// table and the PostgreSQL system identifier.
#[must_use]
pub fn delivered_key(stream: &str, source: &str) -> String {
    format!("{}:delivered", checkpoint_key(stream, source))
}

/// The hash in which pollers count how often a delivery was begun that was not answered: what ends
/// the process is found out by that.
#[must_use]
pub fn begun_key(stream: &str, source: &str) -> String {
    format!("{}:begun", checkpoint_key(stream, source))
}

/// What is between the first `{` and the next `}`, when that is not empty: Redis hashes only this.
fn hash_tag(key: &str) -> Option<&str> {
    let (_, rest) = key.split_once('{')?;
    let (tag, _) = rest.split_once('}')?;
    (!tag.is_empty()).then_some(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_lives_in_its_streams_hash_slot() {
        for stream in ["identity.user.v1", "{shop}.orders", "a{b}c{d}", "a{b", "plain"] {
            let key = checkpoint_key(stream, "walrelay@7");
            let hashed = |key: &str| hash_tag(key).unwrap_or(key).to_owned();
            assert_eq!(hashed(&key), hashed(stream), "{key}");
            assert_eq!(stream_of(&key, "walrelay@7").as_deref(), Some(stream));
            assert_eq!(stream_of(&key, "relay@7"), None);
            assert_eq!(stream_of(&format!("{key}:watermark"), "walrelay@7"), None);
        }
        assert_eq!(checkpoint_key("s", "walrelay@7"), "walrelay:{s}:walrelay@7");
        assert_ne!(checkpoint_key("{a}x", "s"), checkpoint_key("{a}y", "s"));
    }
}
