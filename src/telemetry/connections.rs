//! The connections of the pages: so many, and none that says nothing for long.
//!
//! In: a listener. Out: connections. It must stay true that they never take more file descriptors
//! than a few, whoever connects, for PostgreSQL and Redis could not be reached any more; and that
//! whoever comes is heard: where there are too many, the oldest has to go, not the newest.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot::{Receiver, Sender, channel};
use tokio::time::{Instant, Sleep, sleep};

/// Browsers, probes and scrapers have one or two each.
const CONNECTIONS_MAX: usize = 64;
/// Longer than any answer takes: nothing is read meanwhile, and nothing written.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A listener that minds how many there are.
pub(super) struct Door {
    listener: TcpListener,
    /// Of each that is open, the oldest first; to drop one ends it.
    open: VecDeque<Sender<()>>,
}

impl Door {
    pub fn new(listener: TcpListener) -> Self {
        Self { listener, open: VecDeque::new() }
    }
}

impl Listener for Door {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        self.open.retain(|one| !one.is_closed());
        if self.open.len() >= CONNECTIONS_MAX {
            self.open.pop_front();
        }
        let (keep, kept) = channel();
        self.open.push_back(keep);
        let silence = Box::pin(sleep(SILENCE_MAX));
        (Connection { stream, kept, is_over: false, silence }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One of them.
pub(super) struct Connection {
    stream: TcpStream,
    /// Ready when it has to go.
    kept: Receiver<()>,
    is_over: bool,
    silence: Pin<Box<Sleep>>,
}

impl Connection {
    /// Does `what` unless it has to go; what moves ends a silence.
    fn attempt<T>(
        &mut self,
        cx: &mut Context<'_>,
        what: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.is_over = self.is_over || Pin::new(&mut self.kept).poll(cx).is_ready();
        if self.is_over {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let done = what(Pin::new(&mut self.stream), cx);
        if done.is_ready() {
            self.silence.as_mut().reset(Instant::now() + SILENCE_MAX);
        } else if self.silence.as_mut().poll(cx).is_ready() {
            self.is_over = true;
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        done
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.attempt(cx, |stream, cx| stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.attempt(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is held back here: to flush is no sign of life.
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
