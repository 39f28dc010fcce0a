//! The way from "in Redis" to "settled": durable there, and its row marked here.
//!
//! In: published batches. Out: their receipts, once the entries are durable by the configured level
//! and the rows are marked (or deleted, or left alone). It must stay true that a row is marked only
//! when its entry is durable, so that `published = true` can be believed, and that a row that is
//! not visible yet is waited for: the WAL tells of a commit before other sessions see it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tokio_postgres::{Client, Statement};

use super::flight::{Rows, Settling};
use super::progress::Published;
use crate::config::{AfterPublish, Outbox};
use crate::error::Result;
use crate::postgres::{self, from_sql, is_lock_conflict};
use crate::sink::Durable;

const MARK_PUBLISHED: &str = include_str!("../../sql/queries/mark_published.sql");
const DELETE_PUBLISHED: &str = include_str!("../../sql/queries/delete_published.sql");
pub(super) const TRANSACTIONS_VISIBLE: &str =
    include_str!("../../sql/queries/transactions_visible.sql");

/// Rows marked by one statement: a few milliseconds of row locks.
const MARK_ROWS_MAX: usize = 2_000;
/// Marks are gathered this long: each statement is a commit, and nobody waits for it.
const MARK_INTERVAL: Duration = Duration::from_millis(50);
/// Between two questions whether entries are safe: one for each batch would cost both ends a good
/// part of what publishing costs, and nobody waits for the answer but the marks.
const ASK_INTERVAL: Duration = Duration::from_millis(25);
/// What is published within this time is held together: a small batch by itself costs more memory
/// than what it stands for, and in the two seconds of a hold there may be ten thousands.
const GATHER_TIME: Duration = Duration::from_millis(5);
/// Between two looks for a transaction that is not visible yet.
const VISIBLE_POLL: Duration = Duration::from_millis(10);
/// A wait that is worth a line in the log.
const VISIBLE_PATIENCE: Duration = Duration::from_secs(5);

/// Batches on their way from published to settled.
pub struct Settler {
    durable: Durable,
    after_publish: AfterPublish,
    /// Answered by Redis, and not known to be safe there.
    unsafe_yet: VecDeque<(Instant, Settling)>,
    /// So many of those were there when the server was asked; 0 while it is not being asked.
    asked: usize,
    next_ask: Instant,
    /// Safe once it is so late.
    waiting: VecDeque<(Instant, Settling)>,
    next_mark: Instant,
}

/// Batches that are durable and are being marked.
pub struct Job {
    /// Their receipts.
    pub receipts: Vec<Published>,
    /// Their rows.
    pub rows: Rows,
}

impl Settler {
    /// Nothing to settle yet.
    #[must_use]
    pub fn new(durable: Durable, after_publish: AfterPublish, now: Instant) -> Self {
        Self {
            durable,
            after_publish,
            unsafe_yet: VecDeque::new(),
            asked: 0,
            next_ask: now,
            waiting: VecDeque::new(),
            next_mark: now,
        }
    }

    /// A batch was published now.
    pub fn add(&mut self, mut settling: Settling, now: Instant) {
        if self.after_publish == AfterPublish::Keep {
            // Nobody will ask for them, and many wait here.
            settling.rows = Rows::default();
        }
        if self.durable.barrier.is_none() && self.durable.hold.is_zero() {
            self.waiting.push_back((now, settling));
            return;
        }
        let due = now + self.durable.hold;
        match self.unsafe_yet.back_mut() {
            // It waits a little longer than it must. What is being asked about was due before now.
            Some((later, gathered)) if due < *later => gathered.append(settling),
            _ => {
                let later = due + GATHER_TIME.min(self.durable.hold);
                self.unsafe_yet.push_back((later, settling));
            }
        }
    }

    /// When the server must be asked whether its entries are safe, at the earliest: once they have
    /// waited. Time alone proves nothing: a server that died meanwhile may not have been missed.
    #[must_use]
    pub fn ask_due(&self) -> Option<Instant> {
        let (due, _) = self.unsafe_yet.front()?;
        (self.asked == 0).then_some((*due).max(self.next_ask))
    }

    /// Whether the server must be asked now; then it counts as being asked until
    /// [`Settler::safe`]. What is published meanwhile waits for the next time.
    pub fn must_ask(&mut self, now: Instant) -> bool {
        if self.ask_due().is_none_or(|due| due > now) {
            return false;
        }
        self.next_ask = now + ASK_INTERVAL;
        self.asked = self.unsafe_yet.iter().take_while(|(due, _)| *due <= now).count();
        true
    }

    /// The server said that everything is safe that was published before it was asked.
    pub fn safe(&mut self) {
        let asked = std::mem::take(&mut self.asked);
        self.waiting.extend(self.unsafe_yet.drain(..asked));
    }

    /// Whether nothing is on its way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.unsafe_yet.is_empty() && self.waiting.is_empty()
    }

    /// When [`Settler::take`] has something, at the earliest.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let (due, _) = self.waiting.front()?;
        Some(match self.after_publish {
            AfterPublish::Keep => *due,
            AfterPublish::Mark | AfterPublish::Delete => (*due).max(self.next_mark),
        })
    }

    /// Batches that are durable by now, about [`MARK_ROWS_MAX`] rows at most.
    pub fn take(&mut self, now: Instant) -> Option<Job> {
        if self.due()? > now {
            return None;
        }
        let mut job = Job { receipts: Vec::new(), rows: Rows::default() };
        while self.waiting.front().is_some_and(|(due, _)| *due <= now)
            && job.rows.ids.len() < MARK_ROWS_MAX
        {
            let Some((_, settling)) = self.waiting.pop_front() else { break };
            job.receipts.push(settling.published);
            job.rows.append(settling.rows);
        }
        let is_full = job.rows.ids.len() >= MARK_ROWS_MAX;
        self.next_mark = if is_full { now } else { now + MARK_INTERVAL };
        Some(job)
    }
}

/// The SQL side: marks rows, in a session of its own.
pub struct Marker {
    client: Arc<Client>,
    after_publish: AfterPublish,
    mark: Option<Statement>,
    visible: Statement,
}

/// The rows that are being marked, and who marks them.
pub(super) enum Marking {
    Idle(Box<Marker>),
    Busy(BoxFuture<'static, (Box<Marker>, Job, Result<Marked>)>),
}

impl Marking {
    /// The mark that is under way; only called while there is one.
    pub async fn done(marking: &mut Option<Self>) -> (Box<Marker>, Job, Result<Marked>) {
        match marking {
            Some(Self::Busy(future)) => future.await,
            _ => std::future::pending().await,
        }
    }
}

/// What a mark did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marked {
    /// Rows that bear the mark now (or are deleted).
    pub rows: u64,
    /// Rows that were gone: the application deleted them.
    pub gone: u64,
}

impl Marker {
    /// Takes over the client and prepares the statements in its session.
    pub async fn new(client: Client, table: &Outbox, after: AfterPublish) -> Result<Self> {
        let doing = format!("cannot prepare marking rows of {}.{}", table.schema, table.name);
        let failed = |error| from_sql(&doing, error);
        postgres::prefer_indexes(&client).await?;
        let mark = match after {
            AfterPublish::Mark => Some(table.sql(MARK_PUBLISHED)),
            AfterPublish::Delete => Some(table.sql(DELETE_PUBLISHED)),
            AfterPublish::Keep => None,
        };
        let mark = match mark {
            Some(sql) => {
                let types = [tokio_postgres::types::Type::INT8_ARRAY];
                Some(client.prepare_typed(&sql, &types).await.map_err(failed)?)
            }
            None => None,
        };
        let visible = client.prepare(TRANSACTIONS_VISIBLE).await.map_err(failed)?;
        Ok(Self { client: Arc::new(client), after_publish: after, mark, visible })
    }

    /// The session, while no mark is under way.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The session, for statements that may wait behind a mark.
    #[must_use]
    pub fn shared(&self) -> Arc<Client> {
        Arc::clone(&self.client)
    }

    /// Marks `rows`. Returns when each bears the mark or is gone for good.
    pub async fn mark(&self, rows: &Rows) -> Result<Marked> {
        let Some(mark) = &self.mark else { return Ok(Marked::default()) };
        // Of messages alone nothing is marked.
        if rows.ids.is_empty() {
            return Ok(Marked::default());
        }
        let asked = u64::try_from(rows.ids.len()).unwrap_or(u64::MAX);
        let touched = self.execute(mark, &rows.ids).await?;
        if touched >= asked {
            return Ok(Marked { rows: touched, gone: 0 });
        }
        // Fewer rows than asked: not visible yet, or deleted. Once every transaction is visible the
        // second try sees all there is.
        wait_until_visible(&self.client, &self.visible, &rows.transactions).await?;
        let again = self.execute(mark, &rows.ids).await?;
        // A mark that is repeated touches all rows there are; a delete only those it missed before.
        let rows = match self.after_publish {
            AfterPublish::Delete => touched + again,
            AfterPublish::Mark | AfterPublish::Keep => again,
        };
        Ok(Marked { rows, gone: asked.saturating_sub(rows) })
    }

    /// Runs the statement; a row that somebody has locked is waited for.
    async fn execute(&self, mark: &Statement, ids: &Vec<i64>) -> Result<u64> {
        let mut is_said = false;
        loop {
            match self.client.execute(mark, &[ids]).await {
                Ok(touched) => return Ok(touched),
                Err(error) if is_lock_conflict(&error) => {
                    if !std::mem::replace(&mut is_said, true) {
                        tracing::warn!(
                            rows = ids.len(),
                            "rows to be marked are locked by another session: the slot is not \
                             confirmed past them until it lets go"
                        );
                    }
                }
                Err(error) => return Err(from_sql("cannot mark published rows", error)),
            }
        }
    }
}

/// Waits until each of these transactions is visible to other sessions. The WAL tells of a commit
/// before that; `visible` is [`TRANSACTIONS_VISIBLE`], prepared.
pub(super) async fn wait_until_visible(
    client: &Client,
    visible: &Statement,
    transactions: &[u32],
) -> Result<()> {
    let ids: Vec<i64> = transactions.iter().copied().map(i64::from).collect();
    let mut patience = Some(Instant::now() + VISIBLE_PATIENCE);
    loop {
        let row = client
            .query_one(visible, &[&ids])
            .await
            .map_err(|error| from_sql("cannot ask whether published rows are visible", error))?;
        if row.get("visible") {
            return Ok(());
        }
        if patience.is_some_and(|until| Instant::now() > until) {
            patience = None;
            tracing::warn!(
                "published rows are not visible yet: their commits wait for a synchronous standby \
                 that does not answer (is it this relay? see synchronous_standby_names); they are \
                 marked when they are"
            );
        }
        tokio::time::sleep(VISIBLE_POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::progress::{Pending, Progress};
    use super::*;
    use crate::lsn::Lsn;

    const HOLD: Duration = Duration::from_secs(2);

    /// Batches of one event, published at these milliseconds.
    fn held(after_publish: AfterPublish, published: &[u64]) -> (Settler, Instant) {
        let (began, durable) = (Instant::now(), Durable { barrier: None, hold: HOLD });
        let (mut settler, mut progress) =
            (Settler::new(durable, after_publish, began), Progress::new(Lsn::new(1)));
        progress.begin().unwrap();
        for (at, id) in published.iter().zip(1..) {
            let (mut pending, mut rows) = (Pending::default(), Rows::default());
            progress.event(&mut pending).unwrap();
            rows.add(id, 1, 1);
            let published = progress.published(pending);
            settler.add(Settling { published, rows }, began + Duration::from_millis(*at));
        }
        (settler, began)
    }

    #[test]
    fn what_is_published_within_moments_is_held_together_and_never_too_short() {
        let (mut settler, began) = held(AfterPublish::Mark, &[0, 1, 4, 5, 400]);
        assert_eq!(settler.unsafe_yet.len(), 3, "0 to 4, 5, and 400 ms");
        assert!(!settler.must_ask(began + HOLD + Duration::from_millis(4)), "4 ms is not due");
        assert!(settler.must_ask(began + HOLD + GATHER_TIME));
        settler.safe();
        let job = settler.take(began + HOLD + GATHER_TIME).unwrap();
        assert_eq!(job.rows.ids, [1, 2, 3]);
        assert_eq!(settler.unsafe_yet.len(), 2);
    }

    #[test]
    fn who_keeps_the_rows_remembers_none() {
        let (mut settler, began) = held(AfterPublish::Keep, &[0, 1]);
        assert!(settler.must_ask(began + 2 * HOLD));
        settler.safe();
        let job = settler.take(began + 2 * HOLD).unwrap();
        assert!(job.rows.ids.is_empty() && job.receipts.len() == 1);
    }
}
