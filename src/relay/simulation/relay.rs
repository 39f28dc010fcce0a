//! A relay in the model: the product's line and settler, driven as a session drives them.
//!
//! In: frames, answers, time. Out: calls to Redis, marks, status updates. It must stay true that
//! nothing is decided here: what to take in, to send, to settle and to confirm is asked of the
//! line, the settler and `landing`.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::ledger::Broken;
use super::plan::{Plan, Safety};
use super::postgres::Postgres;
use super::redis::{Redis, Reply, Request};
use super::walsender::{Frame, STREAMS};
use crate::config::AfterPublish;
use crate::error::{Class, Error};
use crate::lsn::Lsn;
use crate::relay::line::{Action, Flight, Line};
use crate::relay::settle::{Job, Settler};
use crate::relay::streams::StreamId;
use crate::sink::{Durable, Failure, Verdict};

/// How a session ended.
#[derive(Debug)]
pub enum Ended {
    /// Redis takes no writes: the connection to PostgreSQL is kept.
    Hold(Failure),
    /// The line is begun again.
    Again(Error),
}

/// What a relay does.
pub enum State {
    /// Nothing: it is not running, or waits to be a leader.
    Waiting,
    Streaming(Box<Session>),
    /// Redis takes no writes.
    Holding {
        connection: u64,
        confirmed: Lsn,
    },
}

/// A call to Redis that waits for its answer.
enum Call {
    Open(StreamId),
    Publish(Box<Flight>),
}

/// One line and what it stands on.
pub struct Session {
    pub line: Line,
    settler: Settler,
    after_publish: AfterPublish,
    /// Frames that arrived and were not taken in.
    pub inbox: VecDeque<Frame>,
    pub connection: u64,
    pub redis: usize,
    timeline: u32,
    calls: Vec<(u64, Call)>,
    tickets: u64,
    pub marking: Option<Job>,
}

impl Session {
    pub fn new(plan: &Plan, connection: u64, redis: usize, at: Start) -> Self {
        let durable = match plan.safety {
            Safety::Memory => Durable::AtOnce,
            Safety::Disk => Durable::After(at.hold),
        };
        Self {
            line: Line::new(plan.limits(), at.confirmed),
            settler: Settler::new(durable, plan.after_publish, at.now),
            after_publish: plan.after_publish,
            inbox: VecDeque::new(),
            connection,
            redis,
            timeline: at.timeline,
            calls: Vec::new(),
            tickets: 0,
            marking: None,
        }
    }

    /// What a session does after each event: takes in what there is room for, sends what is ready,
    /// settles what is durable.
    pub fn move_on(
        &mut self,
        redis: &mut Redis,
        postgres: &mut Postgres,
        now: Instant,
    ) -> Result<(), Ended> {
        loop {
            let is_empty = self.take_in(postgres)?;
            let has_room = self.line.has_room();
            self.send_out(is_empty || !has_room, redis);
            if is_empty || !self.line.has_room() {
                break;
            }
        }
        self.settle(now);
        Ok(())
    }

    fn take_in(&mut self, postgres: &mut Postgres) -> Result<bool, Ended> {
        while self.line.has_room() {
            match self.inbox.pop_front() {
                None => return Ok(true),
                Some(Frame::Data(data)) => self.line.receive(&data).map_err(Ended::Again)?,
                Some(Frame::Keepalive { wal_end, wants_reply }) => {
                    self.line.keepalive(wal_end);
                    if wants_reply {
                        self.tell(postgres);
                    }
                }
            }
        }
        Ok(false)
    }

    fn send_out(&mut self, flush: bool, redis: &mut Redis) {
        while let Some(action) = self.line.next_action(flush) {
            self.tickets += 1;
            let ticket = self.tickets;
            let (call, request) = match action {
                Action::Open { stream: id, name, .. } => {
                    let stream = STREAMS.iter().position(|known| *known == name).unwrap();
                    let timeline = self.timeline;
                    (Call::Open(id), Request::Open { ticket, stream, timeline })
                }
                Action::Publish { flight, batch } => {
                    (Call::Publish(Box::new(flight)), Request::Publish { ticket, batch })
                }
            };
            self.calls.push((ticket, call));
            redis.send(self.redis, request);
        }
    }

    /// An answer arrived.
    pub fn answer(&mut self, ticket: u64, reply: Reply, now: Instant) -> Result<(), Ended> {
        let place = self.calls.iter().position(|(known, _)| *known == ticket).unwrap();
        match (self.calls.remove(place).1, reply) {
            (Call::Open(id), Reply::Opened(Ok(checkpoint))) => self.line.opened(id, &checkpoint),
            (Call::Open(_), Reply::Opened(Err(failure)))
            | (Call::Publish(_), Reply::Published(Err(failure))) => return Err(end(failure)),
            (Call::Publish(flight), Reply::Published(Ok(written))) => match written.refusal {
                Some(refusal) if refusal.verdict == Verdict::Outage => return Err(end(refusal)),
                _ => {
                    let settling = self.line.published(*flight, &written).map_err(Ended::Again)?;
                    self.settler.add(settling, now);
                }
            },
            _ => panic!("an answer to another call"),
        }
        Ok(())
    }

    fn settle(&mut self, now: Instant) {
        while self.marking.is_none()
            && let Some(job) = self.settler.take(now)
        {
            self.marking = Some(job);
            if self.after_publish == AfterPublish::Keep {
                self.marked();
            }
        }
    }

    /// The rows bear their marks.
    pub fn marked(&mut self) {
        if let Some(job) = self.marking.take() {
            job.receipts.into_iter().for_each(|receipt| self.line.settled(receipt));
        }
    }

    /// A status update.
    pub fn tell(&mut self, postgres: &mut Postgres) {
        let confirmed = self.line.confirm();
        postgres.tell(self.connection, confirmed);
    }

    /// The order of the positions.
    pub fn check(&self) -> Result<(), Broken> {
        let at = self.line.positions();
        let is_ordered =
            at.received >= at.published && at.published >= at.settled && at.settled >= at.confirmed;
        if is_ordered { Ok(()) } else { Err(Broken(format!("positions out of order: {at:?}"))) }
    }
}

/// Where a line starts.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    pub confirmed: Lsn,
    pub timeline: u32,
    pub now: Instant,
    pub hold: std::time::Duration,
}

/// What a failure of Redis makes of a line.
pub fn end(failure: Failure) -> Ended {
    match failure.verdict {
        Verdict::Outage => Ended::Hold(failure),
        _ => Ended::Again(failure.into_error("publishing")),
    }
}

/// What the end of a session makes of its relay.
pub fn state_after(ended: Ended, mut session: Session, redis: &mut Redis) -> State {
    redis.disconnect(session.redis);
    match ended {
        Ended::Hold(_) => {
            State::Holding { connection: session.connection, confirmed: session.line.confirm() }
        }
        Ended::Again(error) => {
            assert!(error.class() != Class::Usage, "{error}");
            State::Waiting
        }
    }
}
