//! A TCP proxy between the relay and a server, that speaks in meanings: cut, stall, hold replies.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rules {
    /// Bytes to the server.
    requests: bool,
    /// Bytes from the server.
    replies: bool,
    /// New connections.
    is_open: bool,
    /// Connections of earlier generations are cut.
    generation: u64,
}

/// A proxy in front of one server.
pub struct Proxy {
    port: u16,
    rules: Arc<watch::Sender<Rules>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// In front of the server on this loopback port.
    pub async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let all = Rules { requests: true, replies: true, is_open: true, generation: 0 };
        let rules = Arc::new(watch::Sender::new(all));
        let shared = Arc::clone(&rules);
        let accepting = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                if !shared.borrow().is_open {
                    continue;
                }
                tokio::spawn(forward(client, server, shared.subscribe()));
            }
        });
        Self { port, rules, accepting }
    }

    /// Where to connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Breaks every connection; new ones are taken.
    pub fn cut(&self) {
        self.rules.send_modify(|rules| rules.generation += 1);
    }

    /// Breaks every connection and takes no new ones.
    pub fn refuse(&self) {
        self.rules.send_modify(|rules| {
            rules.generation += 1;
            rules.is_open = false;
        });
    }

    /// Nothing passes, and nothing breaks.
    pub fn stall(&self) {
        self.rules.send_modify(|rules| {
            rules.requests = false;
            rules.replies = false;
        });
    }

    /// Requests pass, replies are kept: written, but unanswered.
    pub fn hold_replies(&self) {
        self.rules.send_modify(|rules| rules.replies = false);
    }

    /// Everything passes again.
    pub fn resume(&self) {
        self.rules.send_modify(|rules| {
            rules.requests = true;
            rules.replies = true;
            rules.is_open = true;
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn forward(client: TcpStream, server: u16, mut rules: watch::Receiver<Rules>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    // A proxy that bundles bytes would be slower than the wire it stands for.
    if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
        return;
    }
    let born = rules.borrow().generation;
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    let requests = pass(from_client, to_server, rules.clone(), |rules| rules.requests);
    let replies = pass(from_server, to_client, rules.clone(), |rules| rules.replies);
    tokio::select! {
        () = requests => {}
        () = replies => {}
        _ = rules.wait_for(|rules| rules.generation != born) => {}
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut rules: watch::Receiver<Rules>,
    may_pass: fn(&Rules) -> bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        if rules.wait_for(may_pass).await.is_err() {
            return;
        }
        let Ok(length) = from.read(&mut buffer).await else { return };
        // What was read while the gate closed waits in front of it.
        if length == 0 || rules.wait_for(may_pass).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
