//! What a replay has done, kept in Redis beside the streams it writes.
//!
//! In: batches in order. Out: entries, each once. Two keys a replay: a head (where it began and
//! ends, and up to where all is done), and for each stream a journal that changes in one atomic
//! step with the entries. The head may be behind: what comes again is skipped by the journal. It
//! must stay true that a batch is written only behind the one before it, whatever Redis forgot in
//! between, and that both keys go by themselves in the end.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::intake::Load;
use crate::error::{Error, Result};
use crate::lsn::Position;
use crate::outbox::OccurredAt;
use crate::sink::{Failure, Head, Replayer};

/// For so long it is remembered what was done: a week, from the last entry on.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How often the head is written: what was done since is read once more after a crash.
const INTERVAL: Duration = Duration::from_secs(1);
/// Streams whose last batch is remembered; past this only their journals know.
const STREAMS_MAX: usize = 4_096;
/// From the Unix epoch to PostgreSQL's, in seconds.
const POSTGRES_EPOCH_SECONDS: u64 = 946_684_800;

const RUNNING: &str = "running";
const FINISHED: &str = "finished";

/// What to do when a replay ended too early.
pub(super) const GO_ON: &str = "type the same command again: it goes on behind the last event that \
                                is in its stream";

/// The journal of one run of a replay.
pub(super) struct Journal {
    replayer: Replayer,
    key: String,
    name: String,
    head: Head,
    done: Position,
    /// Events that were in their streams when this run began.
    before: u64,
    /// What had turned out to be unfit by then.
    unfit_before: u64,
    follows: HashMap<String, Position>,
    due: Instant,
}

impl Journal {
    /// What is known of this replay, if it is to be gone on with. One that is finished is an error
    /// unless it is begun anew.
    pub async fn find(replayer: &Replayer, identity: &str, is_again: bool) -> Result<(Head, bool)> {
        let head = replayer.head(&key(identity)).await.map_err(|f| failed("look for", f))?;
        if is_again || head.state.is_empty() {
            return Ok((Head { run: head.run, ..Head::default() }, false));
        }
        if head.state == FINISHED {
            return Err(Error::definite(format!(
                "this replay was begun at {} and is finished: {} events are in their streams",
                head.began, head.events
            ))
            .hint("--again makes it once more, and they are there twice"));
        }
        Ok((head, true))
    }

    /// Goes on with `head`, or begins anew with this range.
    pub async fn open(
        replayer: Replayer,
        identity: &str,
        (mut head, is_known): (Head, bool),
        range: (String, String),
    ) -> Result<Self> {
        if !is_known {
            (head.from, head.until) = range;
            head.run = head.run.saturating_add(1);
            RUNNING.clone_into(&mut head.state);
            head.began = now();
        }
        let done = match head.done.as_str() {
            "" => Position::START,
            text => text.parse().map_err(|error| {
                Error::definite(format!("the hash {:?} is no journal of ours", key(identity)))
                    .because(error)
                    .hint("delete it, or begin anew with --again")
            })?,
        };
        let mut this = Self {
            name: format!("replay:{identity}:{}", head.run),
            key: key(identity),
            before: head.events,
            unfit_before: head.unfit,
            replayer,
            head,
            done,
            follows: HashMap::new(),
            due: Instant::now(),
        };
        this.keep().await?;
        Ok(this)
    }

    /// What names the journals of the streams.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything up to here is in its stream.
    pub fn done(&self) -> Position {
        self.done
    }

    /// Events in their streams, and how many of them were there when this run began.
    pub fn events(&self) -> (u64, u64) {
        (self.head.events, self.before)
    }

    /// When this replay was begun.
    pub fn began(&self) -> &str {
        &self.head.began
    }

    /// Writes a batch behind the one before it.
    pub async fn publish(&mut self, load: Load) -> Result<()> {
        let Load { stream, batch } = load;
        let follows = self.follows.get(&stream).copied().unwrap_or(Position::START);
        let last = batch.last_position();
        let doing = format!("cannot replay into stream {stream:?}");
        let sealed = batch.seal_replayed(follows, KEPT.as_secs());
        let written = self.replayer.publish(&sealed).await.map_err(|f| broken(&doing, f))?;
        let count = written.added + written.present;
        self.head.events += u64::try_from(count).unwrap_or(0);
        if let Some(refusal) = written.refusal {
            return Err(broken(&doing, refusal));
        }
        if self.follows.len() >= STREAMS_MAX && !self.follows.contains_key(&stream) {
            self.follows.clear();
        }
        self.follows.insert(stream, last);
        Ok(())
    }

    /// What cannot become an event, of this run and those before it.
    pub fn unfit(&self) -> u64 {
        self.head.unfit
    }

    /// Everything up to `position` is in its stream, but for so much that this run found unfit.
    pub fn advance(&mut self, position: Position, unfit: u64) {
        self.done = position;
        self.head.unfit = self.unfit_before.saturating_add(unfit);
    }

    /// Whether it is time to write that down.
    pub fn is_due(&self) -> bool {
        Instant::now() >= self.due
    }

    /// Writes it down.
    pub async fn keep(&mut self) -> Result<()> {
        self.due = Instant::now() + INTERVAL;
        if self.done > Position::START {
            self.head.done = self.done.to_string();
        }
        let kept = self.replayer.keep_head(&self.key, &self.head, KEPT.as_secs()).await;
        kept.map_err(|failure| failed("keep", failure))
    }

    /// All is done.
    pub async fn finish(&mut self) -> Result<()> {
        FINISHED.clone_into(&mut self.head.state);
        self.keep().await
    }
}

fn key(identity: &str) -> String {
    format!("walrelay:replay:{identity}")
}

fn failed(doing: &str, failure: Failure) -> Error {
    failure.into_error(&format!("cannot {doing} the journal of the replay in Redis"))
}

/// What ends a replay for now.
fn broken(doing: &str, failure: Failure) -> Error {
    if failure.is_gap() {
        let what = format!("{doing}: Redis came back without the last entries ({failure})");
        return Error::transient(what).hint(GO_ON);
    }
    let is_refused = failure.is_rejection();
    let error = failure.into_error(doing);
    if is_refused && error.next_step().is_some() {
        return error;
    }
    let hint = match error.next_step() {
        Some(step) => format!("{step}; then {GO_ON}"),
        None => GO_ON.to_owned(),
    };
    error.hint(hint)
}

/// In RFC 3339, by our clock.
fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = Duration::from_secs(POSTGRES_EPOCH_SECONDS);
    let micros = i64::try_from(since.saturating_sub(epoch).as_micros()).unwrap_or(0);
    let text = OccurredAt::from_postgres_micros(micros);
    String::from_utf8_lossy(text.as_bytes()).into_owned()
}
