//! The PostgreSQL half of a pass: what is asked, in which order.
//!
//! In: settings. Out: findings as they come, and what the other half needs to know. It must stay
//! true that a question that is refused does not end the pass, and that a server that is gone does.

use super::finding::{Finding, on_postgres};
use super::role::Role;
use super::server::Server;
use super::session::{Session, unknown};
use super::table::Table;
use super::{clock, index, messages, publication, role, server, sessions, slot, table, wal};
use crate::config::{Backlog, Mode, Settings};
use crate::error::{Class, Result};
use crate::lsn::Lsn;
use crate::outbox::Selection;
use crate::postgres::{Replication, Standing, Target};
use crate::relay;

const CLOCK: &str = include_str!("../../sql/queries/check_clock.sql");
const BACKLOG: &str = include_str!("../../sql/queries/check_backlog.sql");
const TOPICS: &str = include_str!("../../sql/queries/check_topics.sql");

/// Nothing is streamed: the answers to our questions are small.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// What the Redis half needs to know.
#[derive(Default)]
pub(super) struct Known {
    /// Streams that rows name.
    pub topics: Vec<String>,
    /// Each slot that is there, and where it stands.
    pub slots: Vec<(String, Lsn)>,
    /// The connection that knows the history.
    pub replica: Option<Replica>,
}

impl Known {
    pub fn system_id(&self) -> Option<&str> {
        self.replica.as_ref().map(|replica| replica.standing.system_id.as_str())
    }
}

/// A replication connection that does not stream.
pub(super) struct Replica {
    connection: Replication,
    pub standing: Standing,
    pub forks: Vec<(u32, Lsn)>,
}

impl Replica {
    pub async fn look_again(&mut self) -> Result<()> {
        self.standing = self.connection.identify().await?;
        Ok(())
    }
}

/// The server is gone: there is nothing more to ask.
pub(super) struct Gone;

/// Asks everything; what is found before the server is gone stays.
pub(super) async fn examine(settings: &Settings, findings: &mut Vec<Finding>) -> Known {
    let mut known = Known::default();
    let target = match Target::new(&settings.database_url, settings.connect_timeout) {
        Ok(target) => target,
        Err(error) => {
            let why = "PostgreSQL cannot be reached like this";
            let fix = error.next_step().unwrap_or("RELAY_DATABASE_URL=").to_owned();
            findings.push(on_postgres("database_url").failure(error.to_string(), why, fix));
            return known;
        }
    };
    let server = on_postgres(format!("server {}", target.label()));
    let user = settings.database_url.connection.get_user().unwrap_or("postgres");
    let session = match Session::open(&target, settings.connect_timeout).await {
        Ok(session) => session,
        Err(error) => {
            let label = target.label();
            let try_it = match label.split_once("/.s.PGSQL.") {
                Some((directory, _)) => format!("psql -U {user} -h {directory}"),
                None => format!("psql 'postgresql://{user}@{label}'"),
            };
            let fix = error.next_step().map_or(try_it, str::to_owned);
            let why = "without PostgreSQL nothing is relayed, and nothing of it can be checked";
            findings.push(server.failure(error.to_string(), why, fix));
            return known;
        }
    };
    findings.push(server.ok(format!("reachable as {user}")));
    let mut look = Look { settings, session, target: &target, findings, known: &mut known };
    // Whatever was found by then is told.
    let _gone = look.all(user).await;
    known
}

/// One look, in its order.
struct Look<'a> {
    settings: &'a Settings,
    session: Session,
    target: &'a Target,
    findings: &'a mut Vec<Finding>,
    known: &'a mut Known,
}

impl Look<'_> {
    /// The answer, or none where it was refused: that is told, and the next question is asked.
    fn keep<T>(&mut self, object: &str, answer: Result<T>) -> std::result::Result<Option<T>, Gone> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error) => {
                self.findings.push(unknown(object, &error));
                if error.class() == Class::Transient { Err(Gone) } else { Ok(None) }
            }
        }
    }

    async fn all(&mut self, user: &str) -> std::result::Result<(), Gone> {
        let before = clock::now();
        let answer = self.session.row(CLOCK, &[]).await;
        let after = clock::now();
        if let Some(row) = self.keep("clock", answer)? {
            let subject = on_postgres("clock");
            self.findings.push(clock::judge(subject, row.get("seconds"), before, after));
        }
        let answer = server::ask(&self.session).await;
        let Some(server) = self.keep("server", answer)? else { return Ok(()) };
        self.findings.extend(server.judge(user));
        let answer = role::ask(&self.session, &self.settings.outbox_table).await;
        let role = self.keep("role", answer)?.unwrap_or_default();
        let table = self.table(&role, &server).await?;
        if !server.is_standby && self.uses_wal().await? {
            Box::pin(self.wal(&server, &role, table.as_ref())).await?;
        }
        let answer = sessions::ask(&self.session).await;
        if let Some((held, hidden)) = self.keep("old transactions", answer)? {
            self.findings.extend(sessions::judge(&held, hidden, &role.name));
        }
        Ok(())
    }

    async fn table(
        &mut self,
        role: &Role,
        server: &Server,
    ) -> std::result::Result<Option<Table>, Gone> {
        let name = &self.settings.outbox_table;
        let answer = table::ask(&self.session, name).await;
        let Some(found) = self.keep(&format!("table {name}"), answer)? else { return Ok(None) };
        let Some(table) = found else {
            self.findings.push(table::missing(name));
            return Ok(None);
        };
        self.findings.extend(table.judge(self.settings, &role.name));
        self.findings.extend(role.judge(self.settings, &table));
        let answer = index::ask(&self.session, name).await;
        if let Some((indexes, leaves)) = self.keep(&format!("indexes of {name}"), answer)? {
            let settings = self.settings;
            let version_num = server.version_num;
            let judged = index::Indexes { settings, table: &table, version_num, all: &indexes };
            self.findings.extend(judged.judge());
            self.findings.extend(index::judge_room(settings, &leaves));
        }
        self.known.topics = self.topics(&table).await;
        Ok(Some(table))
    }

    fn selection(&self, table: &Table) -> Option<Selection> {
        Selection::from_columns(&self.settings.outbox_table, &table.described()).ok()
    }

    /// The streams that rows name. Where they may not be read that is told as a missing privilege.
    async fn topics(&self, table: &Table) -> Vec<String> {
        let Some(selection) = self.selection(table) else { return Vec::new() };
        let sql = self.settings.outbox_table.sql(TOPICS).replace("{topic}", selection.topic());
        let rows = self.session.rows(&sql, &[]).await.unwrap_or_default();
        rows.iter().map(|row| row.get("topic")).collect()
    }

    /// Whether there are rows that nobody has published; none where that takes too long to say.
    async fn has_backlog(&self, table: Option<&Table>) -> Option<bool> {
        let selection = self.selection(table?)?;
        if !selection.has_flag() || self.settings.backlog == Backlog::Ignore {
            return Some(false);
        }
        let sql = self.settings.outbox_table.sql(BACKLOG);
        let sql = sql.replace("{unpublished}", selection.unpublished());
        self.session.row(&sql, &[]).await.ok().map(|row| row.get("has_backlog"))
    }

    /// Whether the relay would stream, and with `mode = auto` why.
    async fn uses_wal(&mut self) -> std::result::Result<bool, Gone> {
        let subject = on_postgres("setting mode");
        match self.settings.mode {
            Mode::Wal => return Ok(true),
            Mode::Poll => {
                self.findings.push(subject.ok("poll: needs no slot, publication or wal_level"));
                return Ok(false);
            }
            Mode::Auto => {}
        }
        let asked = relay::obstacle(self.session.client(), self.settings);
        let answer = self.session.within(asked).await;
        let Some(obstacle) = self.keep("setting mode", answer)? else { return Ok(false) };
        if let Some(obstacle) = obstacle.as_deref().filter(|_| self.settings.messages) {
            self.findings.push(messages::polled(obstacle));
        }
        self.findings.push(match &obstacle {
            Some(obstacle) => subject.ok(format!("auto: the relay would poll, for {obstacle}")),
            None => subject.ok("auto: the relay would take wal"),
        });
        Ok(obstacle.is_none())
    }

    async fn wal(
        &mut self,
        server: &Server,
        role: &Role,
        table: Option<&Table>,
    ) -> std::result::Result<(), Gone> {
        let shards: Vec<_> = self.settings.shards.here().collect();
        let mut found = Vec::new();
        for shard in shards {
            let name = shard.name(&self.settings.slot_base);
            let answer = slot::ask(&self.session, &name).await;
            let Some(slot) = self.keep(&format!("slot {name}"), answer)? else { continue };
            if let Some(slot) = &slot {
                self.known.slots.push((name.clone(), slot.confirmed));
            }
            found.push((shard, name, slot));
        }
        let usable = |slot: &Option<slot::Slot>| slot.as_ref().is_some_and(|slot| !slot.is_lost());
        let missing = found.iter().filter(|(_, _, slot)| !usable(slot)).count();
        let has_backlog = if missing > 0 { self.has_backlog(table).await } else { Some(false) };
        // Rows from before a slot are published beside a second one.
        let each = if has_backlog == Some(false) { 1 } else { 2 };
        let idle = found
            .iter()
            .filter(|(_, _, slot)| slot.as_ref().is_none_or(|slot| slot.active_pid.is_none()));
        let (slots, senders) = (count(missing).saturating_mul(each), count(idle.count()));
        self.findings.push(role.judge_wal());
        self.findings.extend(server.judge_wal(slots, senders));
        let is_bounded = server.keep_bytes.is_some() && missing < found.len();
        let rate = if is_bounded {
            let answer = wal::ask(&self.session, server).await;
            self.keep("growth of the WAL", answer)?
        } else {
            None
        };
        self.findings.push(wal::judge(server, rate));
        if self.settings.messages && table.is_some() {
            let answer = messages::ask(&self.session, self.settings, server).await;
            if let Some(obstacle) = self.keep("setting messages", answer)? {
                self.findings.extend(messages::judge(obstacle, server));
            }
        }
        for (shard, name, slot) in &found {
            if let Some(table) = table {
                let settings = self.settings;
                let has_slot = usable(slot);
                let expected =
                    publication::Expected { settings, shard: *shard, table, role, has_slot };
                let publication = shard.name(&settings.publication_base);
                let asked =
                    publication::ask(&self.session, &publication, &settings.outbox_table).await;
                let object = format!("publication {publication}");
                if let Some(publication) = self.keep(&object, asked)? {
                    self.findings.push(expected.judge(publication.as_ref()));
                }
            }
            let (settings, database) = (self.settings, self.target.database());
            let expected = slot::Expected { settings, name, database, server, rate, has_backlog };
            self.findings.extend(expected.judge(slot.as_ref()));
        }
        if role.may_replicate && server.senders < server.senders_max {
            self.replication().await;
        }
        Ok(())
    }

    /// The connection that streams is of another kind: poolers do not know it.
    async fn replication(&mut self) {
        let subject = on_postgres("replication connection");
        let opened = async {
            let mut connection = self.target.replication(MESSAGE_BYTES_MAX).await?;
            let standing = connection.identify().await?;
            // A history that is not to be had is no failure: the line goes by the events then.
            let forks = connection.timeline_history(standing.timeline).await.unwrap_or_default();
            Ok::<_, crate::error::Error>(Replica { connection, standing, forks })
        };
        match self.session.within(opened).await {
            Ok(replica) => {
                let Standing { system_id, timeline, wal_end } = &replica.standing;
                self.findings.push(
                    subject
                        .ok(format!("system {system_id}, timeline {timeline}, WAL to {wal_end}")),
                );
                self.known.replica = Some(replica);
            }
            Err(error) => {
                let label = self.target.label();
                let fix = format!(
                    "RELAY_DATABASE_URL=postgresql://USER:PASSWORD@{label}   \
                                   # PostgreSQL itself, no pooler such as PgBouncer"
                );
                let fix = error.next_step().map_or(fix, str::to_owned);
                let why = "SQL works, and the stream does not: it takes a connection with \
                           replication=database";
                self.findings.push(subject.failure(error.to_string(), why, fix));
            }
        }
    }
}

fn count(some: usize) -> i32 {
    i32::try_from(some).unwrap_or(i32::MAX)
}
