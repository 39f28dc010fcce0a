//! A model of Redis: streams, checkpoints, the two scripts, and a disk that lags behind.
//!
//! In: the arguments of real calls, by connection, in order. Out: the bytes of replies. The rules
//! are those of `publish.lua` and `open.lua`. It must stay true that a call that was sent may still
//! be carried out after its client is gone, and that power loss forgets exactly what was written
//! after the last sync.

use std::collections::VecDeque;
use std::fmt::Write as _;

use super::ledger::{Broken, Ledger};
use super::walsender::STREAMS;
use crate::lsn::Position;
use crate::sink::{Batch, Checkpoint, Failure, Sealed, Written};

/// What a call is, with the number by which its answer is found.
#[derive(Debug)]
pub enum Request {
    Open {
        ticket: u64,
        stream: usize,
        timeline: u32,
    },
    Anchor {
        ticket: u64,
        anchor: Anchor,
    },
    Publish {
        ticket: u64,
        batch: Sealed,
    },
    Ping {
        ticket: u64,
    },
    /// WAITAOF, behind a write of its own.
    Wait {
        ticket: u64,
    },
}

/// The arguments of `anchor.lua`.
#[derive(Clone, Copy, Debug)]
pub struct Anchor {
    pub stream: usize,
    pub epoch: u64,
    pub timeline: u32,
    pub position: Option<Position>,
}

/// Its answer, as the sink reads it.
#[derive(Debug)]
pub enum Reply {
    Opened(Result<Checkpoint, Failure>),
    Anchored(Result<(), Failure>),
    Published(Result<Written, Failure>, Option<Batch>),
    Safe,
}

/// Calls in order; a client that is gone gets no replies.
#[derive(Debug, Default)]
struct Connection {
    has_client: bool,
    /// What its client sent is still on its way, however long that takes.
    is_stalled: bool,
    requests: VecDeque<Request>,
    replies: VecDeque<(u64, Reply)>,
}

#[derive(Clone, Debug, Default)]
pub struct Stored {
    pub epoch: u64,
    pub position: Position,
    pub event_id: String,
    pub timeline: Option<u32>,
}

#[derive(Debug, Default)]
pub struct Stream {
    pub entries: Vec<usize>,
    /// Entries on disk.
    durable: usize,
    pub checkpoint: Stored,
    /// The key holds something else.
    pub is_wrong: bool,
}

/// A write that is not on disk: how to take it back.
#[derive(Debug)]
pub struct Undo {
    pub at: u64,
    pub stream: usize,
    pub entries: usize,
    pub entries_after: usize,
    pub checkpoint: Stored,
}

/// What a test may take away, to see that it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safeguard {
    /// A newer epoch keeps older leaders from writing.
    Fence,
    /// A batch that follows something else than what is there is not written.
    Chain,
    /// What is there is not written again.
    Skip,
    /// Confirming waits for the disk.
    Gate,
    /// Repeats are only repeats if the last event comes again.
    Meet,
    /// Nothing is written behind an event before that is parked.
    ParkFirst,
    /// Later events of an aggregate wait behind its parked one.
    Queue,
}

/// The server.
#[derive(Debug)]
pub struct Redis {
    pub is_up: bool,
    /// Out of memory: no script runs.
    pub is_full: bool,
    /// The next batch is refused at this event, for this reason.
    pub refusal: Option<(usize, &'static str)>,
    without: Option<Safeguard>,
    pub(super) streams: [Stream; STREAMS.len()],
    pub(super) journal: VecDeque<Undo>,
    /// Writes that are on disk, over all time.
    synced: usize,
    /// Connections that wait for the disk: with which ticket, and for how many writes.
    waits: Vec<(usize, u64, usize)>,
    connections: Vec<Connection>,
}

/// When a write is on disk at the latest, in milliseconds: appendfsync everysec, and then some.
const SYNC_WORST: u64 = 2_000;

impl Redis {
    pub fn new(without: Option<Safeguard>) -> Self {
        Self {
            is_up: true,
            is_full: false,
            refusal: None,
            without,
            streams: Default::default(),
            journal: VecDeque::new(),
            synced: 0,
            waits: Vec::new(),
            connections: Vec::new(),
        }
    }

    /// Whether this safeguard is there.
    pub fn has_safeguard(&self, safeguard: Safeguard) -> bool {
        self.without != Some(safeguard)
    }

    /// A client connects; the number of its connection.
    pub fn connect(&mut self) -> usize {
        self.connections.push(Connection { has_client: true, ..Connection::default() });
        self.connections.len() - 1
    }

    /// A client is gone. What it sent may still be carried out.
    pub fn disconnect(&mut self, connection: usize) {
        let connection = &mut self.connections[connection];
        connection.has_client = false;
        connection.replies.clear();
    }

    /// What a connection's client sent and Redis has not read is lost, from the `kept`th on.
    pub fn lose_requests(&mut self, connection: usize, kept: usize) {
        self.connections[connection].requests.truncate(kept);
    }

    /// Calls of `connection` arrive no more, and are carried out late: its client is frozen, or
    /// the network holds on to them.
    pub fn stall(&mut self, connection: usize) {
        self.connections[connection].is_stalled = true;
    }

    /// What was held up arrives.
    pub fn unstall(&mut self) {
        self.connections.iter_mut().for_each(|connection| connection.is_stalled = false);
    }

    /// Whether the connection's client would find it open.
    pub fn is_open(&self, connection: usize) -> bool {
        self.connections[connection].has_client
    }

    pub fn send(&mut self, connection: usize, request: Request) {
        if self.is_open(connection) {
            self.connections[connection].requests.push_back(request);
        }
    }

    /// Replies that wait to be read.
    pub fn replies(&self, connection: usize) -> usize {
        self.connections[connection].replies.len()
    }

    pub fn take_reply(&mut self, connection: usize, which: usize) -> Option<(u64, Reply)> {
        self.connections[connection].replies.remove(which)
    }

    /// Connections with calls to carry out: the `which`th of them, counted around.
    pub fn busy(&self, which: usize) -> Option<usize> {
        let busy = |(_, connection): &(usize, &Connection)| {
            !connection.is_stalled && !connection.requests.is_empty()
        };
        let count = self.connections.iter().enumerate().filter(busy).count();
        let which = which.checked_rem(count)?;
        self.connections.iter().enumerate().filter(busy).nth(which).map(|(number, _)| number)
    }

    /// Whether the next call of `connection` makes it the leader of a stream.
    pub fn is_opening(&self, connection: usize) -> bool {
        matches!(self.connections[connection].requests.front(), Some(Request::Open { .. }))
    }

    /// Carries out the next call of `connection`; what it was and did, in words.
    pub fn execute(
        &mut self,
        connection: usize,
        now: u64,
        ledger: &mut Ledger,
    ) -> Result<String, Broken> {
        let Some(request) = self.connections[connection].requests.pop_front() else {
            return Ok(String::new());
        };
        let (ticket, reply) = match request {
            Request::Open { ticket, stream, timeline } => {
                (ticket, Reply::Opened(self.open(stream, timeline, now)))
            }
            Request::Anchor { ticket, anchor } => {
                (ticket, Reply::Anchored(self.anchor(anchor, now)))
            }
            Request::Ping { ticket } => (ticket, Reply::Safe),
            Request::Wait { ticket } => {
                self.note_write(0, now);
                self.waits.push((connection, ticket, self.synced + self.journal.len()));
                return Ok("redis: waits for its disk".to_owned());
            }
            Request::Publish { ticket, batch } => {
                let value = self.publish(&batch, now, ledger)?;
                let answer = Written::read(value);
                let returned = batch.returned(&answer);
                (ticket, Reply::Published(answer, returned))
            }
        };
        let mut words = format!("redis: {reply:?}");
        let connection = &mut self.connections[connection];
        if connection.has_client {
            connection.replies.push_back((ticket, reply));
        } else {
            let _ = write!(words, " (nobody reads it)");
        }
        Ok(words)
    }

    /// Whether the event is in its stream, and on disk if that is asked.
    pub fn has(&self, stream: usize, event: usize, on_disk: bool) -> bool {
        let Stream { entries, durable, .. } = &self.streams[stream];
        let entries = if on_disk { &entries[..*durable] } else { &entries[..] };
        entries.iter().rev().any(|entry| *entry == event)
    }

    /// The first `writes` of what is not on disk are written there.
    pub fn sync(&mut self, writes: usize) {
        let writes = writes.min(self.journal.len());
        for undo in self.journal.drain(..writes) {
            self.streams[undo.stream].durable = undo.entries_after;
        }
        self.synced += writes;
        let (synced, connections) = (self.synced, &mut self.connections);
        self.waits.retain(|(connection, ticket, needed)| {
            let is_safe = *needed <= synced;
            if is_safe && connections[*connection].has_client {
                connections[*connection].replies.push_back((*ticket, Reply::Safe));
            }
            !is_safe
        });
    }

    /// How many writes are not on disk.
    pub fn unsynced(&self) -> usize {
        self.journal.len()
    }

    /// It is `now`: what was written long ago is on disk. A sync takes with it whatever was written
    /// before.
    pub fn let_time_pass(&mut self, now: u64) {
        let is_due = |undo: &Undo| undo.at.saturating_add(SYNC_WORST) <= now;
        if self.is_up
            && let Some(last) = self.journal.iter().rposition(is_due)
        {
            self.sync(last + 1);
        }
    }

    /// The process ends; what it wrote stays, in the page cache. Nobody syncs it before the next
    /// write.
    pub fn kill(&mut self) {
        self.is_up = false;
        self.waits.clear();
        for connection in &mut self.connections {
            connection.has_client = false;
            connection.requests.clear();
            connection.replies.clear();
        }
        self.journal.iter_mut().for_each(|undo| undo.at = u64::MAX);
    }

    /// The machine ends: what is not on disk is gone.
    pub fn lose_power(&mut self, ledger: &mut Ledger) {
        self.kill();
        while let Some(undo) = self.journal.pop_back() {
            let stream = &mut self.streams[undo.stream];
            stream.entries.drain(undo.entries..).for_each(|event| ledger.removed(event));
            stream.checkpoint = undo.checkpoint;
        }
    }

    /// The machine ends, and comes back with nothing.
    pub fn lose_everything(&mut self, ledger: &mut Ledger) {
        self.kill();
        self.journal.clear();
        for stream in &mut self.streams {
            stream.entries.iter().for_each(|event| ledger.removed(*event));
            *stream = Stream { is_wrong: stream.is_wrong, ..Stream::default() };
        }
    }

    /// Somebody puts another kind of value in a stream's place, or takes it away again.
    pub fn spoil(&mut self, stream: usize, is_wrong: bool) {
        self.streams[stream].is_wrong = is_wrong;
    }

    /// What `Sink::peek` reads.
    pub fn peek(&self, stream: usize) -> Option<Checkpoint> {
        let Stored { position, event_id, timeline, .. } = self.streams[stream].checkpoint.clone();
        let is_there = position != Position::START;
        is_there.then_some(Checkpoint { epoch: 0, position, event_id, timeline })
    }

    /// Everything works again.
    pub fn mend(&mut self) {
        self.is_up = true;
        self.is_full = false;
        self.refusal = None;
        self.streams.iter_mut().for_each(|stream| stream.is_wrong = false);
    }
}
