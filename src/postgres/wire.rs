//! The thin connection: PostgreSQL's messages over any byte stream.
//!
//! In: a socket (TCP, TLS, unix, or a pair in memory). Out: simple queries answered, and frames one
//! at a time. Every read and every write is cancel-safe, because the line polls them in a
//! `select!`: bytes read stay in `inbox`, bytes not yet written stay in `outbox`. A message's
//! length is checked before a byte is reserved for it. tokio-postgres cannot do this: it has no
//! replication mode (<https://www.postgresql.org/docs/current/protocol-replication.html>).

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "postgres_protocol::Message is non-exhaustive: a wildcard is needed in any case"
)]

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{self, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use super::failure::{ServerError, from_io};
use crate::error::Result;

/// Any byte stream to a server.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// Bytes asked for in one read: the kernel's usual socket buffer, so that one call drains it.
const READ_BYTES: usize = 128 * 1024;
/// A message of the log-in or of a simple query is small; more is not PostgreSQL on the other side.
const TALK_BYTES_MAX: usize = 1024 * 1024;
/// Tag and length of a message.
const HEADER_BYTES: usize = 5;

/// A message on the wire that has not been copied: its tag and its body.
pub(super) struct Raw<'a> {
    pub tag: u8,
    pub body: &'a [u8],
}

/// What stands at the front of the inbox.
pub(super) enum AtHand {
    /// Not a whole message.
    Part,
    /// A message with this tag, and the bytes behind its header.
    Whole { tag: u8, body: usize },
    /// A message over the limit, or its beginning.
    Oversized { body: usize },
}

impl AtHand {
    /// The same, where what is over the limit is an error.
    #[inline]
    fn within(self, bytes_max: usize) -> io::Result<Self> {
        let Self::Oversized { body } = self else { return Ok(self) };
        let what = format!("a message of {body} bytes is over the limit of {bytes_max}");
        Err(io::Error::new(io::ErrorKind::InvalidData, what))
    }
}

/// The rows of an answer, as text; `None` is NULL.
pub(super) type Rows = Vec<Vec<Option<String>>>;

/// One connection's socket and its two buffers.
pub(super) struct Wire {
    socket: Box<dyn Duplex>,
    inbox: BytesMut,
    outbox: BytesMut,
    /// Where in `inbox` the message handed out last begins, or the next one.
    at: usize,
    /// Bytes that the message handed out last still occupies there.
    consumed: usize,
    /// Bytes of a message that nobody wants and that are still to come.
    skip: usize,
    /// When the server sent something last.
    heard: Instant,
    /// Whether the socket (TLS above all) has passed on everything it was given.
    is_flushed: bool,
    /// The process id that the server gave at log-in; 0 before.
    pub pid: i32,
}

impl Wire {
    pub fn new(socket: Box<dyn Duplex>) -> Self {
        Self {
            socket,
            inbox: BytesMut::new(),
            outbox: BytesMut::new(),
            at: 0,
            consumed: 0,
            skip: 0,
            heard: Instant::now(),
            is_flushed: true,
            pid: 0,
        }
    }

    /// Appends what the server sent to the inbox. Cancel-safe. The end of the stream is an error.
    pub async fn fill(&mut self) -> io::Result<()> {
        self.make_room();
        let bytes = self.socket.read_buf(&mut self.inbox).await?;
        self.arrived(bytes)
    }

    /// What a read has brought; nothing is the end of the stream.
    fn arrived(&mut self, bytes: usize) -> io::Result<()> {
        if bytes == 0 {
            let what = "the server closed the connection";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        self.heard = Instant::now();
        Ok(())
    }

    /// The next whole message in the inbox, or `None` when more must be read. It is released by the
    /// next call. A message over `bytes_max` is an error before it is buffered.
    pub fn next(&mut self, bytes_max: usize) -> io::Result<Option<Raw<'_>>> {
        let AtHand::Whole { tag, body } = self.at_hand(bytes_max)?.within(bytes_max)? else {
            return Ok(None);
        };
        let total = HEADER_BYTES + body;
        self.consumed = total;
        let body = self.rest().get(HEADER_BYTES..total);
        Ok(body.map(|body| Raw { tag, body }))
    }

    /// What the next message is, as far as it has arrived. Of one that is not over `bytes_max` the
    /// rest finds room.
    #[inline]
    pub fn at_hand(&mut self, bytes_max: usize) -> io::Result<AtHand> {
        self.release();
        let Some((tag, body)) = self.header()? else { return Ok(AtHand::Part) };
        if body > bytes_max {
            return Ok(AtHand::Oversized { body });
        }
        let missing = (HEADER_BYTES + body).saturating_sub(self.arrived_bytes());
        if missing == 0 {
            return Ok(AtHand::Whole { tag, body });
        }
        self.give_back();
        self.inbox.reserve(missing);
        Ok(AtHand::Part)
    }

    /// The message at hand, if it is over `bytes_max`: as much of it as has arrived.
    pub fn oversized(&mut self, bytes_max: usize) -> io::Result<Option<Raw<'_>>> {
        self.release();
        let Some((tag, body)) = self.header()? else { return Ok(None) };
        let arrived = self.rest().get(HEADER_BYTES..).filter(|_| body > bytes_max);
        Ok(arrived.map(|body| Raw { tag, body }))
    }

    /// Throws the message at hand away: what has arrived of it now, the rest as it comes.
    pub fn pass_over(&mut self) -> io::Result<()> {
        self.release();
        if let Some((_, body)) = self.header()? {
            self.skip = HEADER_BYTES + body;
        }
        Ok(())
    }

    /// Tag and body length of the message at hand.
    #[inline]
    fn header(&self) -> io::Result<Option<(u8, usize)>> {
        if self.skip > 0 {
            return Ok(None);
        }
        let Some(header) = backend::Header::parse(self.rest())? else { return Ok(None) };
        // `Header::parse` refuses lengths under four, so this cannot fail or underflow.
        let body = usize::try_from(header.len()).unwrap_or(0).saturating_sub(4);
        Ok(Some((header.tag(), body)))
    }

    /// When the server sent something last; at first, when the connection was made.
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// What has arrived and was not handed out.
    #[inline]
    fn rest(&self) -> &[u8] {
        self.inbox.get(self.at..).unwrap_or_default()
    }

    #[inline]
    fn arrived_bytes(&self) -> usize {
        self.inbox.len().saturating_sub(self.at)
    }

    /// The message handed out last is done with. Bytes are given back only when all are: to move
    /// the front of the buffer for each message costs more than to read it.
    #[inline]
    fn release(&mut self) {
        self.at += std::mem::take(&mut self.consumed);
        let unwanted = self.skip.min(self.arrived_bytes());
        self.at += unwanted;
        self.skip -= unwanted;
        if self.at > 0 && self.arrived_bytes() == 0 {
            self.at = 0;
            self.inbox.clear();
            // One large event must not pin its size in memory for good.
            if self.inbox.capacity() > 8 * READ_BYTES {
                self.inbox = BytesMut::new();
            }
        }
    }

    /// The inbox begins with what was not handed out.
    fn give_back(&mut self) {
        self.release();
        self.inbox.advance(std::mem::take(&mut self.at));
    }

    fn make_room(&mut self) {
        self.give_back();
        self.inbox.reserve(READ_BYTES);
    }

    /// The outgoing buffer: whatever is put here leaves with [`Wire::flush`].
    pub fn outbox(&mut self) -> &mut BytesMut {
        &mut self.outbox
    }

    /// Writes the outbox. Cancel-safe: what was written is gone from it, the rest is not.
    pub async fn flush(&mut self) -> io::Result<()> {
        while self.outbox.has_remaining() {
            if self.socket.write_buf(&mut self.outbox).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        self.socket.flush().await
    }

    /// Writes what the socket takes now.
    pub async fn write_on(&mut self) -> io::Result<()> {
        poll_fn(|cx| Poll::Ready(self.poll_write(cx))).await
    }

    /// Writes what is unsent and, when `may_read`, waits for more from the server. With `may_read`
    /// false it only writes, and never completes unless the link breaks. Cancel-safe: poll it in a
    /// `select!` and drop it at will.
    pub async fn pump(&mut self, may_read: bool) -> io::Result<()> {
        poll_fn(|cx| {
            self.poll_write(cx)?;
            if !may_read {
                return Poll::Pending;
            }
            self.make_room();
            let bytes = ready!(pin!(self.socket.read_buf(&mut self.inbox)).poll(cx))?;
            Poll::Ready(self.arrived(bytes))
        })
        .await
    }

    /// Writes as much of the outbox as the socket takes now.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.outbox.has_remaining() {
            match pin!(self.socket.write_buf(&mut self.outbox)).poll(cx)? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(_) => self.is_flushed = false,
                Poll::Pending => return Ok(()),
            }
        }
        if !self.is_flushed {
            self.is_flushed = pin!(self.socket.flush()).poll(cx)?.is_ready();
        }
        Ok(())
    }

    /// The next message, parsed, while nothing is streaming.
    pub async fn message(&mut self) -> io::Result<Message> {
        loop {
            let at_hand = self.at_hand(TALK_BYTES_MAX)?.within(TALK_BYTES_MAX)?;
            if matches!(at_hand, AtHand::Whole { .. }) {
                self.give_back();
                let message = Message::parse(&mut self.inbox)?;
                return message.ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
            }
            self.fill().await?;
        }
    }

    /// Asks for TLS; true when the server agrees
    /// (<https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL>).
    pub async fn request_tls(&mut self) -> io::Result<bool> {
        frontend::ssl_request(&mut self.outbox);
        self.flush().await?;
        // Exactly one byte: anything more before the handshake would be plain text smuggled in.
        match self.socket.read_u8().await? {
            b'S' => Ok(true),
            b'N' => Ok(false),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "no PostgreSQL server answers")),
        }
    }

    /// The socket itself, for the TLS handshake. Only right after [`Wire::request_tls`].
    pub fn into_socket(self) -> Box<dyn Duplex> {
        self.socket
    }

    /// A simple query; the rows as text. Errors begin with `doing`.
    pub async fn query(&mut self, sql: &str, doing: &str) -> Result<Rows> {
        let io = |error| from_io(doing, error);
        frontend::query(sql, &mut self.outbox).map_err(io)?;
        self.flush().await.map_err(io)?;
        let mut rows = Vec::new();
        let mut failure = None;
        loop {
            match self.message().await.map_err(io)? {
                Message::DataRow(body) => rows.push(text_row(&body).map_err(io)?),
                Message::ErrorResponse(body) => {
                    failure = Some(ServerError::parse(body.fields()).map_err(io)?);
                }
                Message::ReadyForQuery(_) => break,
                _ => {}
            }
        }
        match failure {
            Some(error) => Err(error.into_error(doing)),
            None => Ok(rows),
        }
    }
}

fn text_row(body: &backend::DataRowBody) -> io::Result<Vec<Option<String>>> {
    let buffer = body.buffer();
    body.ranges()
        .map(|range| {
            let bytes = range.and_then(|range| buffer.get(range));
            Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
        })
        .collect()
}
