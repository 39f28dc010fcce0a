//! A relay in the model: the product's line and settler, driven as a session drives them.
//!
//! In: frames, answers, time. Out: calls to Redis, marks, status updates. It must stay true that
//! nothing is decided here: what to take in, to send, to settle and to confirm is asked of the
//! line, the settler and `landing`.

use std::collections::{HashSet, VecDeque};

use tokio::time::Instant;

use super::ledger::Broken;
use super::plan::Plan;
use super::postgres::Postgres;
use super::redis::{Anchor, Redis, Reply, Request};
use super::walsender::{Frame, STREAMS};
use crate::config::AfterPublish;
use crate::error::{Class, Error};
use crate::lsn::{Lsn, Position};
use crate::relay::flight::{Action, Flight};
use crate::relay::held::Found;
use crate::relay::history::{History, Judgement};
use crate::relay::leaving::Unpublished;
use crate::relay::line::Line;
use crate::relay::parking;
use crate::relay::settle::{Job, Settler};
use crate::relay::streams::{Opening, StreamId};
use crate::sink::{Batch, Checkpoint, Failure, Verdict, Written};

/// How a session ended.
#[derive(Debug)]
pub enum Ended {
    /// Redis takes no writes: the connection to PostgreSQL is kept.
    Hold,
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
    Open(StreamId, usize),
    Anchor(StreamId, Then),
    Publish(Box<Flight>),
    Wait,
}

/// What to do once a checkpoint was tied to the server's history.
enum Then {
    Open(Opening),
    Restart,
}

/// What a line talks on.
#[derive(Clone, Copy, Debug)]
pub struct Connections {
    pub postgres: u64,
    pub redis: usize,
    /// Where Redis is asked whether it is safe.
    pub gate: Option<usize>,
}

/// One line and what it stands on.
pub struct Session {
    pub line: Line,
    settler: Settler,
    after_publish: AfterPublish,
    /// Frames that arrived and were not taken in.
    pub inbox: VecDeque<Frame>,
    pub on: Connections,
    timeline: u32,
    calls: Vec<(u64, Call)>,
    tickets: u64,
    pub marking: Option<Job>,
    /// What is being parked.
    pub job: Option<parking::Job>,
    /// What the table said is parked still, and to which question.
    pub refresh: Option<(u64, Vec<u64>)>,
    /// What came cannot be published: what came before it is settled, then the process ends.
    broken: Option<Error>,
    /// What PostgreSQL says when it is asked whether the slot is held by this line's connection.
    pub holds_slot: bool,
}

impl Session {
    pub fn new(
        plan: &Plan,
        on: Connections,
        history: History,
        found: Found,
        settler: Settler,
    ) -> Self {
        Self {
            timeline: history.timeline,
            line: Line::new(plan.limits(), history, found, HashSet::new()),
            settler,
            after_publish: plan.after_publish,
            inbox: VecDeque::new(),
            on,
            calls: Vec::new(),
            tickets: 0,
            marking: None,
            job: None,
            refresh: None,
            broken: None,
            holds_slot: true,
        }
    }

    /// Whether its connections to Redis are there.
    pub fn is_connected(&self, redis: &Redis) -> bool {
        redis.is_open(self.on.redis) && self.on.gate.is_none_or(|gate| redis.is_open(gate))
    }

    /// Its connections to Redis end.
    pub fn disconnect(&self, redis: &mut Redis) {
        redis.disconnect(self.on.redis);
        self.on.gate.iter().for_each(|gate| redis.disconnect(*gate));
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
            let may_wait = self.broken.is_none() && self.line.transaction.is_some();
            self.send_out(is_empty && !may_wait || !has_room, now, redis)?;
            if is_empty || !self.line.has_room() {
                break;
            }
        }
        if self.settler.must_ask(now) {
            let ticket = self.ticket(Call::Wait);
            match self.on.gate {
                Some(gate) => redis.send(gate, Request::Wait { ticket }),
                None => redis.send(self.on.redis, Request::Ping { ticket }),
            }
        }
        self.settle(now);
        if self.job.is_none() && self.refresh.is_none() {
            self.job = self.line.take_leaving();
        }
        let is_at_rest = !self.line.is_moving()
            && self.settler.is_empty()
            && self.marking.is_none()
            && self.job.is_none()
            && !self.line.has_leaving();
        if is_at_rest && let Some(error) = self.broken.take() {
            self.tell(postgres);
            return Err(Ended::Again(error));
        }
        Ok(())
    }

    fn ticket(&mut self, call: Call) -> u64 {
        self.tickets += 1;
        self.calls.push((self.tickets, call));
        self.tickets
    }

    fn take_in(&mut self, postgres: &mut Postgres) -> Result<bool, Ended> {
        if self.broken.is_some() {
            return Ok(true);
        }
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

    fn send_out(&mut self, flush: bool, now: Instant, redis: &mut Redis) -> Result<(), Ended> {
        while let Some(action) = self.line.next_action(flush) {
            let request = match action {
                Action::Settle(settling) => {
                    self.settler.add(settling, now);
                    continue;
                }
                Action::Open { stream: id, name, .. } => {
                    let stream = STREAMS.iter().position(|known| *known == name).unwrap();
                    let ticket = self.ticket(Call::Open(id, stream));
                    Request::Open { ticket, stream, timeline: self.timeline }
                }
                Action::Rewind { stream, epoch } => {
                    self.rewind(stream, epoch, redis)?;
                    continue;
                }
                Action::Publish { flight, batch } => {
                    let ticket = self.ticket(Call::Publish(flight));
                    Request::Publish { ticket, batch }
                }
            };
            redis.send(self.on.redis, request);
        }
        Ok(())
    }

    /// An answer arrived.
    pub fn answer(
        &mut self,
        ticket: u64,
        reply: Reply,
        now: Instant,
        redis: &mut Redis,
    ) -> Result<(), Ended> {
        let place = self.calls.iter().position(|(known, _)| *known == ticket).unwrap();
        match (self.calls.remove(place).1, reply) {
            (Call::Open(id, stream), Reply::Opened(Ok(checkpoint))) => {
                self.opened(id, stream, &checkpoint, redis)?;
            }
            (Call::Open(id, stream), Reply::Opened(Err(failure))) => match failure.verdict {
                Verdict::Rejected | Verdict::Definite => {
                    if let Some(error) =
                        self.line.not_opened(id, failure, redis.peek(stream).as_ref())
                    {
                        self.broken.get_or_insert(error);
                    }
                }
                Verdict::Outage | Verdict::Restart | Verdict::Fenced | Verdict::Rewound => {
                    return Err(end(failure));
                }
            },
            (Call::Anchor(id, then), Reply::Anchored(Ok(()))) => match then {
                Then::Open(opening) => self.line.open(id, opening),
                Then::Restart => return Err(Ended::Again(Error::transient("rewound"))),
            },
            (Call::Anchor(..), Reply::Anchored(Err(failure))) => return Err(end(failure)),
            (Call::Publish(flight), Reply::Published(Ok(written), returned)) => {
                self.published(*flight, &written, returned, now)?;
            }
            (Call::Publish(flight), Reply::Published(Err(failure), returned)) => {
                self.unpublished(*flight, failure, returned, redis)?;
            }
            (Call::Wait, Reply::Safe) => self.settler.safe(),
            _ => panic!("an answer to another call"),
        }
        Ok(())
    }

    fn opened(
        &mut self,
        id: StreamId,
        stream: usize,
        checkpoint: &Checkpoint,
        redis: &mut Redis,
    ) -> Result<(), Ended> {
        let judgement = self.line.judge(id, checkpoint);
        let opening = self.line.opening(checkpoint, &judgement);
        let is_told = checkpoint.timeline.is_none_or(|timeline| timeline == self.timeline);
        let lowered = match judgement {
            Judgement::Keep | Judgement::Meet if is_told => {
                self.line.open(id, opening);
                return Ok(());
            }
            Judgement::Keep | Judgement::Meet => None,
            Judgement::Lower { to, .. } => Some(to),
        };
        let anchor =
            Anchor { stream, epoch: checkpoint.epoch, timeline: self.timeline, position: lowered };
        let ticket = self.ticket(Call::Anchor(id, Then::Open(opening)));
        self.anchor(Request::Anchor { ticket, anchor }, redis)
    }

    /// PostgreSQL is asked first.
    fn anchor(&self, request: Request, redis: &mut Redis) -> Result<(), Ended> {
        if !self.holds_slot {
            return Err(Ended::Again(Error::transient("the slot is held by another")));
        }
        redis.send(self.on.redis, request);
        Ok(())
    }

    fn published(
        &mut self,
        flight: Flight,
        written: &Written,
        returned: Option<Batch>,
        now: Instant,
    ) -> Result<(), Ended> {
        if let Some(refusal) = &written.refusal
            && refusal.verdict != Verdict::Rejected
        {
            return Err(end(refusal.clone()));
        }
        let (settling, refused) =
            self.line.published(flight, written, returned).map_err(Ended::Again)?;
        self.settler.add(settling, now);
        if let Some(error) = refused {
            self.broken.get_or_insert(error);
        }
        Ok(())
    }

    fn unpublished(
        &mut self,
        flight: Flight,
        failure: Failure,
        returned: Option<Batch>,
        redis: &mut Redis,
    ) -> Result<(), Ended> {
        let stream = flight.stream;
        let failure = match self.line.unpublished(flight, failure, returned) {
            Unpublished::Kept => return Ok(()),
            Unpublished::Failed(failure) => failure,
        };
        if failure.verdict != Verdict::Rewound {
            return Err(end(failure));
        }
        let epoch = self.line.stop(stream);
        self.rewind(stream, epoch, redis)
    }

    fn rewind(&mut self, id: StreamId, epoch: u64, redis: &mut Redis) -> Result<(), Ended> {
        let name = self.line.name(id);
        let stream = STREAMS.iter().position(|known| *known == name).unwrap();
        let position = Some(Position::START);
        let anchor = Anchor { stream, epoch, timeline: self.timeline, position };
        let ticket = self.ticket(Call::Anchor(id, Then::Restart));
        self.anchor(Request::Anchor { ticket, anchor }, redis)
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
        postgres.tell(self.on.postgres, confirmed);
    }

    /// The order of the positions.
    pub fn check(&self) -> Result<(), Broken> {
        let at = self.line.positions();
        let is_ordered =
            at.received >= at.published && at.published >= at.settled && at.settled >= at.confirmed;
        if is_ordered { Ok(()) } else { Err(Broken(format!("positions out of order: {at:?}"))) }
    }
}

/// What a failure of Redis makes of a line.
pub fn end(failure: Failure) -> Ended {
    match failure.verdict {
        Verdict::Outage => Ended::Hold,
        Verdict::Restart
        | Verdict::Fenced
        | Verdict::Rewound
        | Verdict::Rejected
        | Verdict::Definite => Ended::Again(failure.into_error("publishing")),
    }
}

/// What the end of a session makes of its relay.
pub fn state_after(ended: Ended, mut session: Session, redis: &mut Redis) -> State {
    session.disconnect(redis);
    match ended {
        Ended::Hold => {
            State::Holding { connection: session.on.postgres, confirmed: session.line.confirm() }
        }
        Ended::Again(error) => {
            assert!(error.class() != Class::Usage, "{error}");
            State::Waiting
        }
    }
}
