//! The slot's stream: START_REPLICATION, frames of the CopyBoth in, standby status updates out.
//!
//! In: a slot and a publication. Out: borrowed XLogData and keepalives, in the server's order. It
//! must stay true that nothing is confirmed here by itself, that a frozen reader can still write
//! status updates, and that a frame's bytes are not copied.
//! <https://www.postgresql.org/docs/current/protocol-replication.html#PROTOCOL-REPLICATION-START-REPLICATION-SLOT-LOGICAL>

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, BytesMut};
use postgres_protocol::message::{backend, frontend};
use tokio::time::Instant;

use super::endpoint::silent;
use super::failure::{ServerError, from_io};
use super::oversized::{self, Oversized};
use super::quote;
use super::wire::{AtHand, Raw, Rows, Wire};
use crate::error::{Error, Result};
use crate::lsn::Lsn;

/// CopyBothResponse, which postgres-protocol does not know.
const COPY_BOTH_RESPONSE_TAG: u8 = b'W';
/// The head of XLogData: its tag, then start, end and clock of eight bytes each; the plugin's
/// message follows.
pub(super) const XLOGDATA_BYTES: usize = 25;
/// What was sent before something else was seen over another connection arrives in this time.
const ENDING_PATIENCE: Duration = Duration::from_secs(2);
/// PostgreSQL's epoch, 2000-01-01, in seconds of Unix time.
const POSTGRES_EPOCH: Duration = Duration::from_secs(946_684_800);

/// One frame of the stream; its bytes are valid until the next call.
#[derive(Debug)]
pub enum Frame<'a> {
    /// A message of the output plugin.
    XLogData {
        /// The plugin's bytes.
        data: &'a [u8],
    },
    /// The server tells how far it has sent.
    Keepalive {
        /// Everything committed before here has been sent.
        wal_end: Lsn,
        /// The server wants a status update at once.
        reply_requested: bool,
    },
    /// A transactional message with the prefix that was asked for came, over the limit: its content
    /// is passed over.
    Oversized,
}

/// A logged-in connection in logical replication mode.
pub struct Replication {
    wire: Wire,
    message_bytes_max: usize,
    /// Logical messages with this prefix are told of also when they are over the limit.
    prefix: Option<String>,
    /// For every answer before the stream.
    timeout: Duration,
    label: String,
}

impl Replication {
    pub(super) fn new(
        wire: Wire,
        message_bytes_max: usize,
        timeout: Duration,
        label: String,
    ) -> Self {
        Self { wire, message_bytes_max, prefix: None, timeout, label }
    }

    /// The host, port and database that this is, for people.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The server's process that streams to us: `active_pid` of the slot, once it is taken.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.wire.pid
    }

    /// When the server sent something last, of whatever kind. A live one answers a status update
    /// that asks for a reply.
    #[must_use]
    pub fn heard(&self) -> Instant {
        self.wire.heard()
    }

    /// A question before the stream; errors begin with `doing`.
    pub(super) async fn ask(&mut self, sql: &str, doing: &str) -> Result<Rows> {
        let asking = self.wire.query(sql, doing);
        let answer = tokio::time::timeout(self.timeout, asking).await;
        answer.unwrap_or_else(|_| Err(silent(doing, self.timeout)))
    }

    /// A command that may have to wait for others.
    pub(super) async fn ask_long(&mut self, sql: &str, doing: &str) -> Result<Rows> {
        self.wire.query(sql, doing).await
    }

    /// Starts streaming from where the slot stands. When another connection holds the slot the
    /// error's class is `SlotInUse` and this connection stays usable: ask again later.
    pub async fn start(&mut self, slot: &str, publication: &str) -> Result<()> {
        self.start_at(slot, Lsn::NONE, &[publication.to_owned()]).await
    }

    /// With a prefix logical messages are to be sent as well, from PostgreSQL 14 on; those that
    /// have it are told of also when they are over the limit. To be called before the start.
    pub fn want_messages(&mut self, prefix: Option<String>) {
        self.prefix = prefix;
    }

    /// The same for the rows of any of these publications, transactions whose commit record is
    /// before `at` left out. Where the slot stands behind `at`, from there.
    pub async fn start_at(&mut self, slot: &str, at: Lsn, of: &[String]) -> Result<()> {
        let more = if self.prefix.is_some() { ", messages 'true'" } else { "" };
        let doing = format!("cannot start replication from slot {slot:?}");
        // The option takes a list of names that the server parses as identifiers, inside a literal.
        let names: Vec<String> = of.iter().map(|name| quote::ident(name)).collect();
        let names = quote::literal(&names.join(","));
        let sql = format!(
            "START_REPLICATION SLOT {} LOGICAL {at} (proto_version '1', publication_names \
             {names}{more})",
            quote::ident(slot),
        );
        // The server answers before it reads any WAL, however far behind the slot is.
        let answer = tokio::time::timeout(self.timeout, self.begin(&sql, &doing)).await;
        answer.unwrap_or_else(|_| Err(silent(&doing, self.timeout)))
    }

    async fn begin(&mut self, sql: &str, doing: &str) -> Result<()> {
        frontend::query(sql, self.wire.outbox()).map_err(|error| from_io(doing, error))?;
        self.wire.flush().await.map_err(|error| from_io(doing, error))?;
        let mut failure = None;
        loop {
            let answer = match self.wire.next(self.message_bytes_max) {
                Ok(Some(raw)) => read_start_answer(&raw),
                Ok(None) => {
                    self.wire.fill().await.map_err(|error| from_io(doing, error))?;
                    continue;
                }
                Err(error) => Err(error),
            };
            match answer.map_err(|error| from_io(doing, error))? {
                StartAnswer::Streaming => return Ok(()),
                StartAnswer::Refused(error) => failure = Some(error.into_error(doing)),
                StartAnswer::Ready => {
                    let silent = || Error::transient(format!("{doing}: the server ended the copy"));
                    return Err(failure.unwrap_or_else(silent));
                }
                StartAnswer::Other => {}
            }
        }
    }

    /// Writes what is unsent and, when `may_read`, waits until there may be a frame. Cancel-safe.
    ///
    /// Nothing is read while one is at hand: a caller that has room for some frames at a time, and
    /// reads in between, would read faster than it takes, and have the whole backlog in memory.
    pub async fn pump(&mut self, may_read: bool) -> Result<()> {
        let limit = self.message_bytes_max;
        let is_at_hand = |hand| matches!(hand, AtHand::Whole { .. });
        if may_read && is_at_hand(self.wire.at_hand(limit).map_err(broken)?) {
            return self.wire.write_on().await.map_err(broken);
        }
        self.wire.pump(may_read).await.map_err(broken)
    }

    /// The next frame that has arrived whole, or `None`: then [`Replication::pump`] first.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>> {
        let limit = self.message_bytes_max;
        loop {
            match self.wire.at_hand(limit).map_err(broken)? {
                AtHand::Whole { tag: backend::COPY_DATA_TAG, .. } => break,
                AtHand::Part => return Ok(None),
                AtHand::Oversized { .. } => {
                    let prefix = self.prefix.as_deref().unwrap_or_default();
                    match oversized::look(&mut self.wire, limit, prefix).map_err(broken)? {
                        Oversized::No => {}
                        Oversized::Unknown => return Ok(None),
                        Oversized::Skipped => continue,
                        Oversized::Wanted => return Ok(Some(Frame::Oversized)),
                    }
                }
                AtHand::Whole { .. } => {}
            }
            if let Some(raw) = self.wire.next(limit).map_err(|error| oversized(error, limit))? {
                other_message(&raw)?;
            }
        }
        match self.wire.next(limit).map_err(broken)? {
            Some(raw) => frame(raw.body).map(Some),
            None => Ok(None),
        }
    }

    /// Why the stream has ended, if the server has said so by now: it says it before it lets go of
    /// the slot. Frames that came before are lost.
    pub(super) async fn ending(&mut self) -> Option<Error> {
        let reading = async {
            loop {
                match self.next_frame() {
                    Err(error) => return error,
                    Ok(Some(_)) => {}
                    Ok(None) => {
                        if let Err(error) = self.pump(true).await {
                            return error;
                        }
                    }
                }
            }
        };
        tokio::time::timeout(ENDING_PATIENCE, reading).await.ok()
    }

    /// Queues a standby status update: everything before `confirmed` may be forgotten by the slot.
    ///
    /// `received` is told as "written": a walsender that has nothing more to send asks again only
    /// while both its "written" and its "flushed" are behind what it has sent.
    pub fn queue_status(&mut self, received: Lsn, confirmed: Lsn, want_reply: bool) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH + POSTGRES_EPOCH).unwrap_or_default();
        let mut body = BytesMut::with_capacity(34);
        body.put_u8(b'r');
        body.put_u64(received.max(confirmed).as_u64());
        body.put_u64(confirmed.as_u64());
        body.put_u64(confirmed.as_u64());
        body.put_u64(u64::try_from(now.as_micros()).unwrap_or(0));
        body.put_u8(u8::from(want_reply));
        // CopyData::new fails only for a body of two gigabytes.
        if let Ok(message) = frontend::CopyData::new(body.freeze()) {
            message.write(self.wire.outbox());
        }
    }

    /// Writes what is queued, ends the copy, and waits until the server has said the same: then it
    /// has read the last status update. Bound it by a timeout.
    pub async fn finish(mut self) -> Result<()> {
        frontend::copy_done(self.wire.outbox());
        self.wire.flush().await.map_err(broken)?;
        loop {
            if self.wire.oversized(self.message_bytes_max).map_err(broken)?.is_some() {
                self.wire.pass_over().map_err(broken)?;
            }
            match self.wire.next(self.message_bytes_max).map_err(broken)?.map(|raw| raw.tag) {
                Some(backend::COPY_DONE_TAG | backend::COMMAND_COMPLETE_TAG) => break,
                Some(_) => {}
                None => self.wire.fill().await.map_err(broken)?,
            }
        }
        frontend::terminate(self.wire.outbox());
        self.wire.flush().await.map_err(broken)
    }
}

fn broken(error: io::Error) -> Error {
    from_io("the replication connection broke", error)
}

fn oversized(error: io::Error, limit: usize) -> Error {
    if error.kind() != io::ErrorKind::InvalidData {
        return broken(error);
    }
    Error::definite("cannot read the replication stream")
        .because(error)
        .hint(format!("raise max_event_bytes: with it, messages up to {limit} bytes are read"))
}

enum StartAnswer {
    Streaming,
    Refused(ServerError),
    Ready,
    Other,
}

fn read_start_answer(raw: &Raw<'_>) -> io::Result<StartAnswer> {
    Ok(match raw.tag {
        COPY_BOTH_RESPONSE_TAG => StartAnswer::Streaming,
        backend::ERROR_RESPONSE_TAG => StartAnswer::Refused(server_error(raw)?),
        backend::READY_FOR_QUERY_TAG => StartAnswer::Ready,
        _ => StartAnswer::Other,
    })
}

/// Parses an ErrorResponse or NoticeResponse; both have the same fields.
fn server_error(raw: &Raw<'_>) -> io::Result<ServerError> {
    let mut message = BytesMut::with_capacity(raw.body.len() + 5);
    message.put_u8(backend::ERROR_RESPONSE_TAG);
    message.put_u32(u32::try_from(raw.body.len() + 4).unwrap_or(u32::MAX));
    message.put_slice(raw.body);
    match backend::Message::parse(&mut message)? {
        Some(backend::Message::ErrorResponse(body)) => ServerError::parse(body.fields()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// What may come between frames. A warning about the publication is an error: PostgreSQL 18 skips
/// an unknown publication with a warning and streams nothing, for ever.
fn other_message(raw: &Raw<'_>) -> Result<()> {
    match raw.tag {
        backend::ERROR_RESPONSE_TAG => {
            let error = server_error(raw).map_err(broken)?;
            Err(error.into_error("the server ended the replication stream"))
        }
        backend::NOTICE_RESPONSE_TAG => {
            let notice = server_error(raw).map_err(broken)?;
            if notice.code == "55000" {
                return Err(notice.into_error("the server does not stream the publication"));
            }
            tracing::info!(code = notice.code, notice = notice.message, "notice from PostgreSQL");
            Ok(())
        }
        backend::PARAMETER_STATUS_TAG => Ok(()),
        backend::COPY_DONE_TAG | backend::COMMAND_COMPLETE_TAG => {
            Err(Error::transient("the server ended the replication stream"))
        }
        _ => Err(Error::transient("the server broke the replication protocol")),
    }
}

fn frame(body: &[u8]) -> Result<Frame<'_>> {
    let frame = match body.split_first() {
        Some((b'w', _)) => body.get(XLOGDATA_BYTES..).map(|data| Frame::XLogData { data }),
        Some((b'k', rest)) => rest.first_chunk::<8>().zip(rest.get(16)).map(|(wal_end, reply)| {
            let wal_end = Lsn::new(u64::from_be_bytes(*wal_end));
            Frame::Keepalive { wal_end, reply_requested: *reply != 0 }
        }),
        _ => None,
    };
    frame.ok_or_else(|| Error::transient("the server sent a malformed replication frame"))
}

#[cfg(test)]
#[path = "replication_tests.rs"]
pub(super) mod tests;
