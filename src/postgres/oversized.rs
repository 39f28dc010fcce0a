//! Messages over the limit that nobody will miss: thrown away as they arrive, in flat memory.
//!
//! In: a connection that streams. Out: whether a message over the limit is at hand. Anybody who may
//! connect may write a logical message of any size into the WAL (`pg_logical_emit_message`);
//! without this, one of 100 MB would stop the relay. Of those with the prefix that is wanted it is
//! told that they came. It must stay true that any other message over the limit is left for the
//! error it is.

use std::io;

use postgres_protocol::message::backend;

use super::replication::XLOGDATA_BYTES;
use super::wire::Wire;

/// Whether a message over the limit is at hand.
pub(super) enum Oversized {
    /// No; or it is one that we should have read.
    No,
    /// It has not arrived far enough to tell what it is.
    Unknown,
    /// There was one, and it is passed over.
    Skipped,
    /// The same, and it had the prefix that was asked for.
    Wanted,
}

/// Flags and LSN of a logical message, behind its tag.
const LOGICAL_HEAD_BYTES: usize = 9;
/// The flag of one that is part of a transaction.
const TRANSACTIONAL: u8 = 1;

/// Looks at the message at hand; a logical message over `bytes_max` is passed over.
/// Whether it had the transactional `prefix` is told; an empty one nobody asks for.
pub(super) fn look(wire: &mut Wire, bytes_max: usize, prefix: &str) -> io::Result<Oversized> {
    let Some(raw) = wire.oversized(bytes_max)? else { return Ok(Oversized::No) };
    match (raw.tag, raw.body.first(), raw.body.get(XLOGDATA_BYTES)) {
        (backend::COPY_DATA_TAG, Some(b'w'), Some(b'M')) => {
            let message = raw.body.get(XLOGDATA_BYTES + 1..).unwrap_or_default();
            let Some(is_wanted) = has_prefix(message, prefix) else {
                return Ok(Oversized::Unknown);
            };
            tracing::debug!("passed over a logical message that is larger than an event");
            wire.pass_over()?;
            Ok(if is_wanted { Oversized::Wanted } else { Oversized::Skipped })
        }
        (backend::COPY_DATA_TAG, None | Some(b'w'), None) => Ok(Oversized::Unknown),
        _ => Ok(Oversized::No),
    }
}

/// Whether a logical message is transactional and has this prefix; none while too little of it is
/// there to tell.
fn has_prefix(message: &[u8], prefix: &str) -> Option<bool> {
    if prefix.is_empty() {
        return Some(false);
    }
    let is_transactional = message.first()? & TRANSACTIONAL != 0;
    let rest = message.get(LOGICAL_HEAD_BYTES..)?;
    let (theirs, ended) = match rest.split_at_checked(prefix.len()) {
        Some((theirs, behind)) => (theirs, behind.first()),
        None => (rest, None),
    };
    if !is_transactional || !prefix.as_bytes().starts_with(theirs) {
        return Some(false);
    }
    ended.map(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::super::replication::Frame;
    use super::super::replication::tests::{connected, copy_data, run};

    #[test]
    fn a_message_over_the_limit_is_refused_before_it_is_buffered() {
        run(async {
            let (mut replication, mut server) = connected(100);
            let start = [b'd', 0x7f, 0xff, 0xff, 0xff, b'k'];
            server.write_all(&start).await.unwrap();
            replication.pump(true).await.unwrap();
            let error = replication.next_frame().unwrap_err();
            assert_eq!(error.class(), crate::error::Class::Definite);
            assert!(error.next_step().unwrap().contains("max_event_bytes"));
        });
    }

    #[test]
    fn a_logical_message_over_the_limit_is_passed_over_wherever_it_is_cut() {
        run(async {
            let head = [&[b'w'][..], &[0; 24]].concat();
            let message = [&head[..], b"M", &[7; 200]].concat();
            let insert = [&head[..], b"I"].concat();
            let bytes = [&copy_data(&message)[..], &copy_data(&insert)].concat();
            for cut in 1..bytes.len() {
                let (mut replication, mut server) = connected(100);
                let mut seen = 0;
                for part in [&bytes[..cut], &bytes[cut..]] {
                    server.write_all(part).await.unwrap();
                    replication.pump(true).await.unwrap();
                    while let Some(frame) = replication.next_frame().unwrap() {
                        assert!(matches!(frame, Frame::XLogData { data: b"I" }), "cut at {cut}");
                        seen += 1;
                    }
                }
                assert_eq!(seen, 1, "cut at {cut}");
            }
        });
    }

    #[test]
    fn one_with_the_wanted_prefix_is_told_of_wherever_it_is_cut() {
        run(async {
            let head = [&[b'w'][..], &[0; 24], b"M"].concat();
            let message = |flags: u8, prefix: &str| {
                let parts = [&head[..], &[flags], &[0; 8], prefix.as_bytes(), b"\0", &[7; 200]];
                copy_data(&parts.concat())
            };
            for (flags, prefix, told) in
                [(1, "ours", 1), (0, "ours", 0), (1, "our", 0), (1, "ours2", 0), (1, "", 0)]
            {
                let bytes = message(flags, prefix);
                for cut in 1..bytes.len() {
                    let (mut replication, mut server) = connected(100);
                    replication.want_messages(Some("ours".to_owned()));
                    let mut seen = 0;
                    for part in [&bytes[..cut], &bytes[cut..]] {
                        server.write_all(part).await.unwrap();
                        replication.pump(true).await.unwrap();
                        while let Some(frame) = replication.next_frame().unwrap() {
                            assert!(matches!(frame, Frame::Oversized), "{prefix} cut at {cut}");
                            seen += 1;
                        }
                    }
                    assert_eq!(seen, told, "{prefix} cut at {cut}");
                }
            }
        });
    }

    #[test]
    fn an_event_over_the_limit_is_an_error_wherever_it_is_cut() {
        run(async {
            let insert = [&[b'w'][..], &[0; 24], b"I", &[7; 200]].concat();
            let bytes = copy_data(&insert);
            for cut in 1..bytes.len() {
                let (mut replication, mut server) = connected(100);
                let mut failure = None;
                for part in [&bytes[..cut], &bytes[cut..]] {
                    server.write_all(part).await.unwrap();
                    replication.pump(true).await.unwrap();
                    failure = replication.next_frame().err().or(failure);
                }
                let error = failure.expect("an error");
                assert!(error.next_step().unwrap().contains("max_event_bytes"), "{error}");
            }
        });
    }
}
