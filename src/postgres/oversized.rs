//! Messages over the limit that nobody will miss: thrown away as they arrive, in flat memory.
//!
//! In: a connection that streams. Out: whether a message over the limit is at hand. Anybody who may
//! connect may write a logical message of any size into the WAL (`pg_logical_emit_message`), and
//! none of them is for us; without this, one of 100 MB would stop the relay. It must stay true that
//! any other message over the limit is left for the error it is.

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
}

/// Looks at the message at hand; a logical message over `bytes_max` is passed over.
pub(super) fn look(wire: &mut Wire, bytes_max: usize) -> io::Result<Oversized> {
    let Some(raw) = wire.oversized(bytes_max)? else { return Ok(Oversized::No) };
    match (raw.tag, raw.body.first(), raw.body.get(XLOGDATA_BYTES)) {
        (backend::COPY_DATA_TAG, Some(b'w'), Some(b'M')) => {
            tracing::debug!("passed over a logical message that is larger than an event");
            wire.pass_over()?;
            Ok(Oversized::Skipped)
        }
        (backend::COPY_DATA_TAG, None | Some(b'w'), None) => Ok(Oversized::Unknown),
        _ => Ok(Oversized::No),
    }
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
