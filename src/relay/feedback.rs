//! What a session tells by the clock: the slot where it stands, Redis that it is there, people how
//! it does.
//!
//! In: time. Out: status updates, a PING, the status. It must stay true that the server hears from
//! us each `feedback_interval`, room or not, and that no more is confirmed than what is settled.

use tokio::time::Instant;

use super::landing::Landed;
use super::session::{Intake, Session};
use super::settle::Marking;
use super::silence::Change;
use crate::error::Result;
use crate::telemetry::{State, Where};

impl Session<'_> {
    /// The next instant at which something is to be done.
    pub(super) fn due(&self) -> Instant {
        let mut due = self.next_feedback;
        if let Intake::Draining(deadline) | Intake::Broken(_, Some(deadline)) = self.intake {
            due = due.min(deadline);
        }
        if let Some(ask) = self.settler.ask_due() {
            due = due.min(ask);
        }
        if let (Some(Marking::Idle(_)), Some(settle)) = (&self.marking, self.settler.due()) {
            due = due.min(settle);
        }
        if let Some(quiet) = self.memory.watch.due(Instant::now()) {
            due = due.min(quiet);
        }
        if let Some(opens) = self.valve.due() {
            due = due.min(opens);
        }
        self.desk.due().map_or(due, |desk| due.min(desk))
    }

    pub(super) fn tell_time(&mut self) -> Result<()> {
        let now = Instant::now();
        if now < self.next_feedback {
            return Ok(());
        }
        self.next_feedback = now + self.feedback_interval;
        // The reply to our own status update is what moves a quiet slot: keepalives alone may never
        // come. Without room it would stay unread.
        let is_reading = matches!(self.intake, Intake::Open) && self.may_hold_more();
        self.tell_server(is_reading);
        // While the rate holds back what has arrived nothing more is read from the socket.
        let may_hear = is_reading && self.valve.is_open();
        match self.silence.ask(now, self.replication.heard(), may_hear) {
            Some(Change::FellSilent) => {
                tracing::warn!("PostgreSQL does not answer: nothing comes from it until it does");
                self.status.enter(State::Silent);
            }
            Some(Change::Heard) => {
                tracing::info!("PostgreSQL answers again");
                self.status.enter(State::Streaming);
            }
            None => {}
        }
        // A batch in flight is a sign of life, or a timeout.
        if self.line.in_flight() == 0 && !std::mem::replace(&mut self.is_pinging, true) {
            let sink = self.sink.clone();
            self.flights.push(Box::pin(async move { Landed::Pong(sink.ping().await) }));
        }
        self.memory.tell_streams(&self.status);
        if is_reading { self.check_sql() } else { Ok(()) }
    }

    pub(super) fn tell_server(&mut self, want_reply: bool) {
        let confirmed = self.line.confirm();
        self.replication.queue_status(self.line.positions().received, confirmed, want_reply);
    }

    pub(super) fn tell_status(&mut self) {
        let positions = self.line.positions();
        self.status.stand(Where {
            received: positions.received,
            published: positions.published,
            settled: positions.settled,
            confirmed: positions.confirmed,
            outstanding: self.line.outstanding(),
        });
        if self.is_caught_up() {
            self.status.caught_up();
        }
        let ignored = self.line.ignored();
        self.status.metrics.ignored.inc_by(ignored - std::mem::replace(&mut self.ignored, ignored));
    }
}
