//! A wire that can fail: a TCP proxy between the relay and one of its servers.
//!
//! In: a server's port. Out: a port of its own, and switches: cut, refuse, stall, hold the replies,
//! slow down. It runs in a thread of its own, so that a busy test does not slow the wire. Not here:
//! any knowledge of what is said on it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What is read at once: small enough for a throttle to be smooth.
const CHUNK: usize = 16 * 1024;

/// How the wire behaves; a change holds for connections that exist, too.
#[derive(Clone, Copy, Debug, Default)]
struct Wire {
    /// Connections of an older generation are reset.
    generation: u64,
    /// New connections are reset at once.
    refuse: bool,
    /// Bytes to the server wait.
    hold_requests: bool,
    /// Bytes from the server wait.
    hold_replies: bool,
    /// Each chunk waits this long, either way.
    delay: Duration,
    /// Either way, if any: bytes per second.
    rate: Option<u32>,
}

/// A proxy; its connections go with it.
pub struct Proxy {
    port: u16,
    wire: watch::Sender<Wire>,
}

impl Proxy {
    /// Listens on a loopback port and forwards to `target` on loopback.
    pub fn start(target: u16) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", super::wait::free_port()));
        let listener = listener.expect("a port for the proxy");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let port = listener.local_addr().expect("the proxy's address").port();
        let (wire, seen) = watch::channel(Wire::default());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(accept(listener, target, seen));
        });
        Self { port, wire }
    }

    /// Where to connect instead.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Resets every connection; new ones are welcome.
    pub fn cut(&self) {
        self.wire.send_modify(|wire| wire.generation += 1);
    }

    /// Resets every connection, and new ones too, until [`Self::mend`].
    pub fn cut_and_refuse(&self) {
        self.wire.send_modify(|wire| {
            wire.generation += 1;
            wire.refuse = true;
        });
    }

    /// Nothing gets through in either direction, and nobody is told: a dead network.
    pub fn stall(&self) {
        self.wire.send_modify(|wire| {
            wire.hold_requests = true;
            wire.hold_replies = true;
        });
    }

    /// Requests arrive, replies do not: what was asked for is done, and nobody knows.
    pub fn hold_replies(&self) {
        self.wire.send_modify(|wire| wire.hold_replies = true);
    }

    /// Each chunk takes this much longer, either way.
    pub fn delay(&self, delay: Duration) {
        self.wire.send_modify(|wire| wire.delay = delay);
    }

    /// Each direction carries this many bytes per second.
    pub fn throttle(&self, bytes_per_second: u32) {
        self.wire.send_modify(|wire| wire.rate = Some(bytes_per_second));
    }

    /// A sound wire again; what was held flows.
    pub fn mend(&self) {
        let fresh = Wire::default();
        self.wire.send_modify(|wire| *wire = Wire { generation: wire.generation, ..fresh });
    }
}

/// Until the handle is dropped.
async fn accept(listener: std::net::TcpListener, target: u16, mut wire: watch::Receiver<Wire>) {
    let listener = TcpListener::from_std(listener).expect("a listener in the runtime");
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted.expect("accept").0,
            changed = wire.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        if wire.borrow().refuse {
            reset_on_close(&client);
            continue;
        }
        tokio::spawn(connection(client, target, wire.clone()));
    }
}

/// A close of this socket is an RST, as when the peer's machine has forgotten the connection.
fn reset_on_close(stream: &TcpStream) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).ok();
}

async fn connection(client: TcpStream, target: u16, wire: watch::Receiver<Wire>) {
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, target));
    reset_on_close(&client);
    let Ok(server) = TcpStream::connect(target).await else { return };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let generation = wire.borrow().generation;
    let requests = forward(from_client, to_server, wire.clone(), |wire| wire.hold_requests);
    let replies = forward(from_server, to_client, wire.clone(), |wire| wire.hold_replies);
    let mut wire = wire;
    // In this order: a wire that is cut and mended at once delivers nothing of what it held.
    tokio::select! {
        biased;
        _ = wire.wait_for(|wire| wire.generation != generation) => {}
        () = requests => {}
        () = replies => {}
    }
}

/// Carries bytes until an end of file or an error; both directions end together.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut wire: watch::Receiver<Wire>,
    held: fn(&Wire) -> bool,
) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        let Ok(now) = wire.wait_for(|wire| !held(wire)).await.map(|wire| *wire) else { return };
        let per_byte = now.rate.map_or(Duration::ZERO, |rate| Duration::from_secs(1) / rate);
        let pause = now.delay + per_byte * u32::try_from(length).expect("a chunk is small");
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        if to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}
