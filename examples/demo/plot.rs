//! What happens: people sign up, an import is cut short by SIGKILL, life goes on, the relay comes
//! back.
//!
//! In: a scene and a writer. Out: what was done and when, through a channel. It must stay true that
//! the writer never waits for the relay. Not here: what is printed (`teller`), what is right
//! (`judge`).

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use tokio::sync::mpsc::UnboundedSender;

use crate::harness::world::STREAM;
use crate::reader::Seen;
use crate::scene::Scene;
use crate::writer::{Committed, Writer};

/// Each of the two stretches in which the relay simply works.
const QUIET_LIFE: Duration = Duration::from_secs(6);
/// How long nobody relays: long enough to watch the events pile up.
const OUTAGE: Duration = Duration::from_millis(2_500);
/// One transaction, large enough that SIGKILL lands in its middle.
pub const IMPORT: usize = 5_000;
/// For what should take a moment.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who was there when a transaction committed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Relaying {
    Yes,
    No,
}

/// What the plot and the reader report.
pub enum Happening {
    Committed(Committed, Relaying),
    Seen(Seen),
    RolledBack,
    Importing,
    Killed { pid: u32, published: usize },
    Restarting { pid: u32, waiting: usize },
    CaughtUp { after: Duration },
    Over,
}

pub struct Plot<'a> {
    pub scene: &'a mut Scene,
    pub writer: Writer,
    pub redis: MultiplexedConnection,
    pub sender: UnboundedSender<Happening>,
    pub committed: usize,
    /// Entries that the reader has reported.
    pub reported: Arc<AtomicUsize>,
}

type Played = Result<(), Box<dyn Error>>;

impl Plot<'_> {
    pub async fn play(mut self) -> Played {
        self.quiet_life().await?;
        self.kill_amid_import().await?;
        self.outage().await?;
        self.come_back().await?;
        self.quiet_life().await?;
        self.until_published().await?;
        self.tell(Happening::Over)
    }

    async fn quiet_life(&mut self) -> Played {
        let end = Instant::now() + QUIET_LIFE;
        while Instant::now() < end {
            self.one(Relaying::Yes).await?;
        }
        Ok(())
    }

    async fn kill_amid_import(&mut self) -> Played {
        self.until_published().await?;
        let before = self.len().await?;
        self.tell(Happening::Importing)?;
        self.writer.import(i64::try_from(IMPORT)?).await?;
        self.committed += IMPORT;
        let deadline = Instant::now() + PATIENCE;
        while self.len().await? == before {
            expect_before(deadline, "the first entry of the import")?;
        }
        let pid = self.scene.relay.pid();
        self.scene.relay.kill9();
        let published = self.len().await? - before;
        self.tell(Happening::Killed { pid, published })
    }

    async fn outage(&mut self) -> Played {
        let end = Instant::now() + OUTAGE;
        while Instant::now() < end {
            self.one(Relaying::No).await?;
        }
        Ok(())
    }

    async fn come_back(&mut self) -> Played {
        let began = Instant::now();
        let waiting = self.committed - self.len().await?;
        self.scene.relay = self.scene.settings.start();
        self.tell(Happening::Restarting { pid: self.scene.relay.pid(), waiting })?;
        // The writer goes on meanwhile, and what it commits belongs to the outage until all is
        // caught up: seen by the reader, who is behind the stream for a moment.
        while self.committed > self.reported.load(Ordering::Acquire) {
            expect_before(began + PATIENCE, "the reader to catch up")?;
            self.one(Relaying::No).await?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.tell(Happening::CaughtUp { after: began.elapsed() })
    }

    /// One transaction, and the pause after it. Now and then one that ends in ROLLBACK.
    async fn one(&mut self, relaying: Relaying) -> Played {
        if fastrand::u8(..12) == 0 {
            self.writer.roll_back().await?;
            self.tell(Happening::RolledBack)?;
        } else {
            let committed = self.writer.commit().await?;
            self.committed += 1;
            self.tell(Happening::Committed(committed, relaying))?;
        }
        // A pace that eyes can follow, with the unevenness of people.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(40..200))).await;
        Ok(())
    }

    async fn until_published(&mut self) -> Played {
        let deadline = Instant::now() + PATIENCE;
        while self.len().await? < self.committed {
            expect_before(deadline, "every event in the stream")?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn len(&mut self) -> Result<usize, redis::RedisError> {
        redis::cmd("XLEN").arg(STREAM).query_async(&mut self.redis).await
    }

    fn tell(&self, happening: Happening) -> Played {
        self.sender.send(happening).map_err(|_| "nobody listens to the plot".into())
    }
}

fn expect_before(deadline: Instant, what: &str) -> Played {
    if Instant::now() < deadline {
        Ok(())
    } else {
        Err(format!("waited in vain for {what}").into())
    }
}
