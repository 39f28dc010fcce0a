//! From outcomes to what rows become: published, tried again later, or dead with a dead letter.
//!
//! In: rows that were claimed, and what became of each in Redis. Out: lines of a [`Settlement`],
//! and dead letters, written. It must stay true that no row is dead without its letter, that an
//! attempt is counted only when it ended with a refusal, and that no payload gets into a message.

use tokio_postgres::Row as SqlRow;

use super::courier::{Courier, Outcome, now};
use super::settle::{Parked, Settlement};
use crate::config::{Retry, Settings};
use crate::outbox::{OccurredAt, Row, Unfit};
use crate::sink::{DeadLetter, Failure, Verdict};

/// What error_message says of a row that was not tried.
pub const WAITS_BEHIND: &str = "waits behind an earlier event of its aggregate";
/// Of an error's text a row keeps so much.
const MESSAGE_BYTES_MAX: usize = 500;
/// A row whose dead letter cannot be written is looked at again after a base delay, but soon: it is
/// the operator who is waited for.
const LETTER_PAUSE_SECONDS_MAX: f64 = 60.0;

/// A row that was claimed. Its statement selects [`crate::outbox::Selection::list`] first, then
/// `o.attempts::int8 AS attempts, o.started_attempts::int8 AS started_attempts`.
#[derive(Clone, Copy)]
pub struct Claimed<'a> {
    /// The row.
    pub row: &'a SqlRow,
    /// Its place in the claim, in order.
    pub place: usize,
}

impl Claimed<'_> {
    /// Attempts that ended with a refusal.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.count("attempts")
    }

    /// Attempts that were begun.
    #[must_use]
    pub fn started(&self) -> u32 {
        self.count("started_attempts")
    }

    /// Whether an attempt before this one was begun and never ended.
    fn was_left(&self) -> bool {
        self.started() > self.attempts().saturating_add(1)
    }

    fn count(&self, column: &str) -> u32 {
        let count = self.row.try_get::<_, i64>(column).ok();
        count.and_then(|count| u32::try_from(count).ok()).unwrap_or_default()
    }
}

/// Names that Redis remembers for us until they are forgotten: the hash, and a field of it.
pub type Remembered = (String, String);

/// Judges the outcomes of rounds.
#[derive(Clone, Debug)]
pub struct Judge {
    retry: Retry,
    dlq_stream: Option<String>,
}

/// What is known of a row that is to die.
struct Death {
    id: i64,
    attempts: u32,
    message: String,
}

/// What a round comes to.
#[derive(Debug, Default)]
pub struct Judgement {
    /// For PostgreSQL.
    pub settlement: Settlement,
    /// What Redis may forget, some time after the settlement was committed.
    pub remembered: Vec<Remembered>,
    /// Why a dead letter could not be written, if one could not.
    pub unwritten: Option<String>,
}

impl Judge {
    /// By these settings.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self { retry: settings.retry, dlq_stream: settings.dlq_stream_name.clone() }
    }

    /// The stream for the dead letters of `stream`.
    #[must_use]
    pub fn dlq_stream(&self, stream: &str) -> String {
        self.dlq_stream.clone().unwrap_or_else(|| format!("{stream}.dlq"))
    }

    /// Adds the outcome of one row to the judgement; writes its dead letter, if it comes to that,
    /// before the deadline. A failure ends the claim: nothing of it may be settled.
    pub async fn judge(
        &self,
        (courier, deadline): (&Courier, u64),
        claimed: Claimed<'_>,
        outcome: &Outcome,
        judgement: &mut Judgement,
    ) -> Result<(), Failure> {
        let row = courier.row(claimed.row);
        let Some(id) = row.id() else { return Ok(()) };
        let attempts = claimed.attempts();
        match outcome {
            Outcome::Delivered => {
                let stream = courier.stream(&row);
                let key = courier.terms().delivered_key(&text(Some(&stream)));
                judgement.remembered.push((key, text(row.event_id())));
                judgement.settlement.deliver(id);
            }
            Outcome::Behind => {
                let is_new = row.next_attempt_at().is_none();
                judgement.settlement.park(Parked {
                    id,
                    attempts,
                    started: claimed.started().saturating_sub(1).max(attempts),
                    pause: None,
                    message: is_new.then(|| WAITS_BEHIND.to_owned()),
                    place: claimed.place,
                });
            }
            Outcome::Refused(failure) => {
                let message = cut(&failure.to_string());
                let is_left = claimed.was_left() || is_death(failure);
                if is_left && self.letter_of(courier, &row).is_there(courier).await? {
                    // With another next_attempt_at it would be another death.
                    let message = cut(&format!("its dead letter says why; then: {message}"));
                    let death = Death { id, attempts, message };
                    return self.bury((courier, deadline), claimed, death, judgement).await;
                }
                let attempts = attempts.saturating_add(1);
                // What ended the process is no finished attempt.
                let started =
                    if is_death(failure) { claimed.started().max(attempts) } else { attempts };
                let Some(pause) = self.retry.delay(attempts, fastrand::f64()) else {
                    let death = Death { id, attempts, message };
                    return self.bury((courier, deadline), claimed, death, judgement).await;
                };
                judgement.settlement.park(Parked {
                    id,
                    attempts,
                    started,
                    pause: Some(pause.as_secs_f64()),
                    message: Some(message),
                    place: claimed.place,
                });
            }
            Outcome::Unfit(unfit) => {
                let death = Death { id, attempts, message: unfit.to_string() };
                self.bury((courier, deadline), claimed, death, judgement).await?;
            }
        }
        Ok(())
    }

    async fn bury(
        &self,
        (courier, deadline): (&Courier, u64),
        claimed: Claimed<'_>,
        Death { id, attempts, message }: Death,
        judgement: &mut Judgement,
    ) -> Result<(), Failure> {
        let row = courier.row(claimed.row);
        let letter = self.letter_of(courier, &row);
        let Err(failure) = write(courier, &row, &letter, (attempts, &message), deadline).await
        else {
            judgement.remembered.push((letter.key, letter.name));
            judgement.settlement.bury(id, attempts, message);
            return Ok(());
        };
        if !is_of_the_letter(&failure) {
            return Err(failure);
        }
        let stream = &letter.stream;
        let unwritten = cut(&format!("dead letter stream {stream:?} takes no entry: {failure}"));
        judgement.unwritten = Some(unwritten.clone());
        judgement.settlement.park(Parked {
            id,
            attempts: claimed.attempts(),
            started: claimed.attempts(),
            pause: Some(self.retry.base_delay.as_secs_f64().min(LETTER_PAUSE_SECONDS_MAX)),
            message: Some(unwritten),
            place: claimed.place,
        });
        Ok(())
    }

    /// The letter for the death that the row would die now.
    fn letter_of(&self, courier: &Courier, row: &Row<'_>) -> Letter {
        let stream = self.dlq_stream(&letter_stream(courier, row));
        let id = row.id().unwrap_or_default();
        let event = row.event_id().map_or_else(|| format!("#{id}"), |id| text(Some(id)));
        Letter {
            key: courier.terms().delivered_key(&stream),
            name: format!("{event}:{}", text(row.next_attempt_at())),
            stream,
        }
    }
}

/// Where a dead letter goes, and how Redis remembers that it is there.
struct Letter {
    stream: String,
    key: String,
    /// One death, one name.
    name: String,
}

impl Letter {
    /// Whether a life that ended has written it.
    async fn is_there(&self, courier: &Courier) -> Result<bool, Failure> {
        courier.delivery().knows(&self.key, &self.name).await
    }
}

/// Writes the letter itself.
async fn write(
    courier: &Courier,
    row: &Row<'_>,
    Letter { stream, key, name }: &Letter,
    (attempts, message): (u32, &str),
    deadline: u64,
) -> Result<bool, Failure> {
    let failed_at = OccurredAt::from_postgres_micros(now());
    let created_at = row.created_at().unwrap_or_default();
    // A moment that RFC 3339 cannot say is told as PostgreSQL does.
    let moment = OccurredAt::from_postgres(created_at).ok();
    let created_at = moment.as_ref().map_or(created_at, OccurredAt::as_bytes);
    // A payload that is too large to be published is too large for this stream as well.
    let payload = row.payload().filter(|bytes| bytes.len() <= courier.terms().event_bytes_max);
    let attempts = attempts.to_string();
    let fields = [
        ("original_event_id", row.event_id().unwrap_or_default()),
        ("event_type", row.event_type().unwrap_or_default()),
        ("topic", &courier.stream(row)),
        ("aggregate_id", row.aggregate_id().unwrap_or_default()),
        ("payload", payload.as_deref().unwrap_or_default()),
        ("error_message", message.as_bytes()),
        ("attempts", attempts.as_bytes()),
        ("failed_at", failed_at.as_bytes()),
        ("created_at", created_at),
    ];
    let letter = DeadLetter { stream, delivered_key: key, death: name, fields: &fields };
    courier.delivery().bury(&letter, deadline).await
}

/// The stream that the row is for; the default one where its name is none.
fn letter_stream(courier: &Courier, row: &Row<'_>) -> String {
    let named = courier.stream(row);
    let named = std::str::from_utf8(&named).ok();
    let fit = named.filter(|name| Unfit::of_stream(name).is_none());
    fit.unwrap_or(&courier.terms().stream).to_owned()
}

/// Whether it is this letter that is refused, and not that Redis takes nothing.
fn is_of_the_letter(failure: &Failure) -> bool {
    failure.verdict == Verdict::Rejected
        || matches!(failure.code.as_str(), "WRONGTYPE" | "NOPERM" | "ERR")
}

/// The outcome of a row whose publishing has ended the process that often: it is not tried again,
/// but may have come into its stream before the process ended.
pub async fn outcome_of_deaths(
    courier: &Courier,
    row: &SqlRow,
    times: u32,
) -> Result<Outcome, Failure> {
    let row = courier.row(row);
    let key = courier.terms().delivered_key(&text(Some(&courier.stream(&row))));
    if courier.delivery().knows(&key, &text(row.event_id())).await? {
        return Ok(Outcome::Delivered);
    }
    Ok(Outcome::Refused(Failure {
        verdict: Verdict::Rejected,
        code: DEATH.to_owned(),
        text: format!("publishing it ended the process {times} times"),
    }))
}

const DEATH: &str = "walrelay:";

fn is_death(failure: &Failure) -> bool {
    failure.code == DEATH
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

/// No longer than a row should keep, at the end of a character.
fn cut(message: &str) -> String {
    let mut end = message.len().min(MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_at_the_end_of_a_character() {
        assert_eq!(cut("short"), "short");
        let long = format!("{}é", "x".repeat(MESSAGE_BYTES_MAX - 1));
        assert_eq!(cut(&long).len(), MESSAGE_BYTES_MAX - 1);
    }
}
