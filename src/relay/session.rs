//! One line from START_REPLICATION to its end: the one `select!`.
//!
//! In: frames, replies of Redis, marks done, time, the wish to stop. Out: batches, marks, status
//! updates; and at last how it ended. It must stay true that a reader without room stops reading
//! yet goes on telling the server where it stands, that events are sent in order, and that whatever
//! breaks ends the session: what was not confirmed is sent again by the slot, and what Redis has
//! already is skipped by the script.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::poll;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use super::desk::{Answer, Desk};
use super::flight::Action;
use super::hold::Held;
use super::landing::{Keys, Landed};
use super::line::Line;
use super::memory::Memory;
use super::settle::{Job, Marked, Marker, Marking, Settler};
use super::silence::Silence;
use super::start::{Claim, Start};
use crate::config::AfterPublish;
use crate::error::{Class, Error, Result};
use crate::postgres::{Frame, Replication};
use crate::rate::Valve;
use crate::shutdown::Shutdown;
use crate::sink::{Failure, Gate, Sink};
use crate::telemetry::{State, Status};

/// How long the server may take to end the copy with us: behind the default `shutdown_grace` it
/// leaves a second of the ten that a container is given.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// How a session ended without an error.
pub(super) enum End {
    /// All that was received is settled, and the slot was told; or the time for it was over.
    Drained,
    /// Redis takes no writes.
    Hold(Box<Held>, Failure),
}

/// Whether messages are taken in.
pub(super) enum Intake {
    Open,
    /// The end is asked for; at this instant we stop waiting for it.
    Draining(Instant),
    /// Something that came cannot be published; what came before it is being settled, until this
    /// instant if the end is asked for as well.
    Broken(Error, Option<Instant>),
}

enum Event {
    Stop,
    Landed(Landed),
    Marked(Box<Marker>, Job, Result<Marked>),
    Answered(Result<Answer>),
    /// The pollers got parked events out.
    Released,
    /// Nothing that is written to the table comes any more.
    Astray(Error),
    Time,
    Wire(Result<()>),
}

pub(super) struct Session<'a> {
    pub(super) line: Line,
    pub(super) replication: Replication,
    pub(super) sink: Sink,
    pub(super) gate: Option<Gate>,
    pub(super) settler: Settler,
    pub(super) after_publish: AfterPublish,
    pub(super) marking: Option<Marking>,
    pub(super) desk: Desk,
    astray: mpsc::Receiver<Error>,
    pub(super) flights: FuturesUnordered<BoxFuture<'static, Landed>>,
    pub(super) intake: Intake,
    pub(super) status: Arc<Status>,
    pub(super) memory: &'a mut Memory,
    pub(super) claim: Arc<Claim>,
    pub(super) feedback_interval: Duration,
    pub(super) probe_key: String,
    pub(super) next_feedback: Instant,
    timer: Pin<Box<Sleep>>,
    pub(super) is_pinging: bool,
    /// The same behind a heartbeat: one at a time.
    pub(super) is_beating: bool,
    pub(super) silence: Silence,
    pub(super) valve: Valve,
    /// Events that were none of ours, as far as they were counted.
    pub(super) ignored: u64,
}

impl<'a> Session<'a> {
    pub fn new(
        start: Start,
        after_publish: AfterPublish,
        status: Arc<Status>,
        memory: &'a mut Memory,
    ) -> Self {
        let now = Instant::now();
        Self {
            line: start.line,
            replication: start.replication,
            sink: start.sink,
            gate: start.gate,
            settler: start.settler,
            after_publish,
            marking: Some(Marking::Idle(Box::new(start.marker))),
            desk: start.desk,
            astray: start.astray,
            flights: FuturesUnordered::new(),
            intake: Intake::Open,
            status,
            memory,
            claim: start.claim,
            feedback_interval: start.feedback_interval,
            probe_key: start.probe_key,
            next_feedback: now + start.feedback_interval,
            timer: Box::pin(tokio::time::sleep_until(now)),
            is_pinging: false,
            is_beating: false,
            silence: Silence::default(),
            valve: start.valve,
            ignored: 0,
        }
    }

    /// Runs until the wish to stop is fulfilled or something breaks.
    pub async fn run(mut self, shutdown: &mut Shutdown, grace: Duration) -> Result<End> {
        loop {
            if let Some(failure) = self.move_on().await? {
                return Ok(self.hold(failure));
            }
            if self.is_over() {
                return self.finish().await;
            }
            match self.next_event(shutdown).await {
                Event::Stop => self.stop(Instant::now() + grace),
                Event::Landed(landed) => {
                    if let Some(failure) = self.land(landed)? {
                        return Ok(self.hold(failure));
                    }
                }
                Event::Marked(marker, job, marked) => self.marked(marker, job, marked?),
                Event::Answered(answer) => self.answered(answer?)?,
                Event::Released => self.desk.hurry(),
                Event::Astray(error) => self.break_off(error),
                Event::Time => self.tell_time()?,
                Event::Wire(result) => result?,
            }
        }
    }

    fn stop(&mut self, deadline: Instant) {
        self.status.enter(State::Draining);
        match &mut self.intake {
            Intake::Broken(_, until) => *until = Some(deadline),
            Intake::Open | Intake::Draining(_) => self.intake = Intake::Draining(deadline),
        }
    }

    /// Takes in what has arrived and has room, sends what is ready, settles what is durable.
    async fn move_on(&mut self) -> Result<Option<Failure>> {
        self.valve.look();
        loop {
            if self.memory.watch.is_careful()
                && self.has_room()
                && let Some(failure) = self.announce().await?
            {
                return Ok(Some(failure));
            }
            let is_empty = self.take_in()?;
            let has_room = self.has_room();
            let may_wait = matches!(self.intake, Intake::Open) && self.line.transaction.is_some();
            // Nothing more at hand, or no room for more: what there is leaves as it is. Only what
            // has rows of its own transaction behind it waits for them: they are on their way, and
            // ten calls of one row cost both servers thrice what one call of ten does.
            if let Some(failure) = self.send_out(is_empty && !may_wait || !has_room).await? {
                return Ok(Some(failure));
            }
            if is_empty || !self.has_room() {
                break;
            }
        }
        self.ask_gate();
        self.settle();
        self.desk.work(&mut self.line, Instant::now());
        self.pass_heartbeat_on();
        self.tell_status();
        self.relax();
        Ok(None)
    }

    /// Takes in frames while there is room; true when none is left that could be taken.
    fn take_in(&mut self) -> Result<bool> {
        if !matches!(self.intake, Intake::Open) {
            return Ok(true);
        }
        while self.has_room() {
            let before = self.line.outstanding();
            let received = match self.replication.next_frame()? {
                None => return Ok(true),
                Some(Frame::XLogData { data }) => self.line.receive(data),
                Some(Frame::Oversized) => self.line.oversized(),
                Some(Frame::Keepalive { wal_end, reply_requested }) => {
                    self.line.keepalive(wal_end);
                    if reply_requested {
                        self.tell_server(false);
                    }
                    Ok(())
                }
            };
            self.valve.spend(self.line.outstanding().saturating_sub(before));
            match received {
                Ok(()) if self.memory.watch.is_careful() => return Ok(false),
                Ok(()) => {}
                Err(error) if error.class() == Class::Definite => {
                    self.break_off(error);
                    return Ok(true);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Sends what may leave. Each call to Redis is polled once as soon as it is made, so that the
    /// order of the calls is the order on the wire; what comes back at once is taken care of at
    /// once.
    async fn send_out(&mut self, flush: bool) -> Result<Option<Failure>> {
        while let Some(action) = self.line.next_action(flush) {
            let sink = self.sink.clone();
            let timeline = self.line.timeline();
            let mut call: BoxFuture<'static, Landed> = match action {
                Action::Open { stream, name, checkpoint_key } => Box::pin(async move {
                    let opened = sink.open(&name, &checkpoint_key, timeline).await;
                    let keys = Keys { stream: name, checkpoint: checkpoint_key };
                    Landed::Opened(stream, keys, opened)
                }),
                Action::Rewind { stream, epoch } => {
                    self.rewind(stream, epoch, "the event written last was not sent again");
                    continue;
                }
                Action::Settle(settling) => {
                    self.settler.add(settling, Instant::now());
                    continue;
                }
                Action::Publish { flight, batch } => {
                    let sent = Instant::now();
                    Box::pin(async move {
                        let (answer, returned) = sink.publish(batch).await;
                        Landed::Published(flight, answer, returned, sent.elapsed())
                    })
                }
            };
            match poll!(&mut call) {
                std::task::Poll::Pending => self.flights.push(call),
                std::task::Poll::Ready(landed) => {
                    if let Some(failure) = self.land(landed)? {
                        return Ok(Some(failure));
                    }
                }
            }
        }
        Ok(None)
    }

    async fn next_event(&mut self, shutdown: &mut Shutdown) -> Event {
        let due = self.due();
        if self.timer.deadline() != due {
            self.timer.as_mut().reset(due);
        }
        let is_open = matches!(self.intake, Intake::Open);
        let may_stop = is_open || matches!(self.intake, Intake::Broken(_, None));
        let may_read = is_open && self.has_room();
        let is_marking = matches!(self.marking, Some(Marking::Busy(_)));
        let (is_asking, released) = (self.desk.is_busy(), self.desk.released());
        // To finish comes before to begin: the wish to stop, then replies and marks, then time,
        // then new WAL.
        tokio::select! {
            biased;
            () = shutdown.requested(), if may_stop => Event::Stop,
            Some(landed) = self.flights.next(), if !self.flights.is_empty() => {
                Event::Landed(landed)
            }
            (marker, job, marked) = Marking::done(&mut self.marking), if is_marking => {
                Event::Marked(marker, job, marked)
            }
            answer = self.desk.answer(), if is_asking => Event::Answered(answer),
            () = released.notified() => Event::Released,
            Some(error) = self.astray.recv(), if is_open => Event::Astray(error),
            () = &mut self.timer => Event::Time,
            result = self.replication.pump(may_read) => Event::Wire(result),
        }
    }

    pub(super) fn is_caught_up(&self) -> bool {
        self.line.in_flight() == 0
            && !self.line.has_waiting()
            && matches!(self.intake, Intake::Open)
            && self.line.has_room()
            // Closed, there may be more at hand that is not taken in.
            && self.valve.is_open()
    }

    /// Whether more messages may be taken in. One event after the other where one of them may end
    /// the process.
    fn has_room(&self) -> bool {
        self.valve.is_open() && self.may_hold_more()
    }

    /// The same, however fast it comes.
    pub(super) fn may_hold_more(&self) -> bool {
        let is_alone = || {
            let is_parking = self.line.has_leaving() || self.desk.is_busy();
            !self.line.is_moving() && !self.line.has_waiting() && !is_parking
        };
        self.line.has_room() && (!self.memory.watch.is_careful() || is_alone())
    }

    /// Whether nothing more is to be waited for.
    fn is_over(&self) -> bool {
        match &self.intake {
            Intake::Open => false,
            Intake::Broken(_, deadline) => {
                self.is_at_rest() || deadline.is_some_and(|deadline| Instant::now() >= deadline)
            }
            Intake::Draining(deadline) => {
                self.line.outstanding() == 0 || Instant::now() >= *deadline
            }
        }
    }

    /// Whether all is settled that ever can be.
    fn is_at_rest(&self) -> bool {
        let is_marking = matches!(self.marking, Some(Marking::Busy(_)));
        let is_parking = self.line.has_leaving() || self.desk.is_busy();
        !self.line.is_moving() && self.settler.is_empty() && !is_marking && !is_parking
    }

    /// Tells the slot for the last time, and waits until the server has heard it.
    async fn finish(mut self) -> Result<End> {
        let left = self.line.outstanding();
        if left > 0 && !matches!(self.intake, Intake::Broken(..)) {
            tracing::warn!(
                events = left,
                "stopped before everything was settled: the slot sends the rest again"
            );
        }
        self.tell_server(false);
        self.tell_status();
        let finished = tokio::time::timeout(FINISH_TIMEOUT, self.replication.finish()).await;
        match self.intake {
            Intake::Broken(error, _) => Err(error),
            Intake::Open | Intake::Draining(_) => {
                // Unheard, the last word costs a few repeats that the script skips.
                if !matches!(finished, Ok(Ok(()))) {
                    tracing::warn!("PostgreSQL did not confirm the last status update");
                }
                Ok(End::Drained)
            }
        }
    }

    fn hold(mut self, failure: Failure) -> End {
        let confirmed = self.line.confirm();
        let received = self.line.positions().received;
        let held = Held {
            replication: self.replication,
            received,
            confirmed,
            feedback_interval: self.feedback_interval,
            probe_key: self.probe_key,
        };
        End::Hold(Box::new(held), failure)
    }
}
