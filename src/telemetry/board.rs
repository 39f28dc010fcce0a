//! All tables of a process, as the pages show them: each by itself, and together.
//!
//! In: a [`Status`] for each. Out: answers. It must stay true that a process whose settings have no
//! sections answers as if there were no such thing as several tables; that together they are ready
//! only when each is; and that what is shown of all stays short: 32 tables fit into an answer.

use std::sync::Arc;

use serde_json::{Value, json};

use super::http::table_of;
use super::merge::merge;
use super::shards::badness;
use super::status::Status;

/// The tables of a process.
#[derive(Debug)]
pub struct Board(Vec<Arc<Status>>);

impl Board {
    /// One status for each table; a single one without a name where there are no sections.
    #[must_use]
    pub fn new(tables: Vec<Arc<Status>>) -> Self {
        Self(tables)
    }

    pub(super) fn each(&self) -> impl Iterator<Item = &Arc<Status>> {
        self.0.iter()
    }

    /// The one that `query` asks for, or the only one; none for all. In words what is wrong.
    pub(super) fn asked(&self, query: Option<&str>) -> Result<Option<&Status>, String> {
        let Some(asked) = table_of(query) else {
            let alone = self.each().find(|status| status.table.is_none());
            return Ok(alone.map(|status| &**status));
        };
        let found = self.each().find(|status| status.table.as_deref() == Some(asked));
        found.map(|status| Some(&**status)).ok_or_else(|| {
            let names: Vec<&str> =
                self.each().filter_map(|status| status.table.as_deref()).collect();
            match names.as_slice() {
                [] => "its one table has no name here: leave out ?table=".to_owned(),
                names => format!("there is no such table here, there are {}", names.join(", ")),
            }
        })
    }

    /// Of all: what each does; where one is not ready the reason of the first, in one line.
    pub(super) fn readiness(&self) -> Result<String, String> {
        let (mut words, mut reasons, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for status in self.each() {
            let table = status.table.as_deref().unwrap_or_default();
            match status.readiness() {
                Ok(word) => words.push(format!("{table}: {word}")),
                Err(reason) if reasons.is_empty() => {
                    reasons.push(format!("table {table}: {reason}"));
                }
                Err(_) => others.push(table),
            }
        }
        match (reasons.pop(), others.as_slice()) {
            (None, _) => Ok(words.join(", ")),
            (Some(reason), []) => Err(reason),
            (Some(reason), others) => {
                Err(format!("{reason}; and not ready: {}", others.join(", ")))
            }
        }
    }

    /// Of all: the worst state, and each table in short.
    pub(super) fn document(&self) -> Value {
        let worst = self.each().map(|status| status.says()).max_by_key(|said| badness(said.state));
        let started = self.each().map(|status| status.started).min();
        let modes: Vec<&str> = self.each().map(|status| status.says().mode).collect();
        let mode = modes.first().filter(|first| modes.iter().all(|mode| mode == *first));
        let tables: Vec<Value> = self.each().map(|status| status.in_short()).collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "mode": mode.copied().unwrap_or("mixed"),
            "state": worst.as_ref().map(|said| said.state),
            "state_seconds": worst.as_ref().map(|said| said.since.elapsed().as_secs()),
            "uptime_seconds": started.map(|started| started.elapsed().as_secs()),
            "last_error": worst.map(|said| said.last_error),
            "tables": tables,
        })
    }

    /// The numbers of all.
    pub(super) fn numbers(&self) -> String {
        let page = |(at, status): (usize, &Arc<Status>)| match &status.table {
            Some(table) => status.metrics.page_of_table(status, table, at == 0),
            None => status.metrics.page(status),
        };
        let pages: Vec<String> = self.each().enumerate().map(page).collect();
        match pages.as_slice() {
            [page] => page.clone(),
            pages => merge(pages),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::http::ANSWER_BYTES_MAX;
    use super::super::state::State;
    use super::super::status::Endpoints;
    use super::super::{Spans, Where};
    use super::*;
    use crate::config::{Shard, TABLES_MAX};
    use crate::error::Error;
    use crate::lsn::Lsn;

    fn board(names: &[&str]) -> Board {
        let status =
            |name: &&str| Arc::new(Status::new(Some((*name).to_owned()), Spans::default()));
        Board::new(names.iter().map(status).collect())
    }

    #[test]
    fn without_sections_nothing_is_said_of_tables() {
        let status = Arc::new(Status::default());
        let board = Board::new(vec![Arc::clone(&status)]);
        let lines = |page: &str| {
            let mut lines: Vec<String> = page.lines().map(str::to_owned).collect();
            lines.sort_unstable();
            lines
        };
        assert_eq!(lines(&board.numbers()), lines(&status.metrics.page(&status)));
        assert!(!board.numbers().contains("stopped"), "{}", board.numbers());
        assert!(board.asked(None).unwrap().is_some());
        assert!(board.asked(Some("x=1&y")).unwrap().is_some());
        assert!(board.asked(Some("table=orders")).unwrap_err().contains("has no name"));
    }

    #[test]
    fn a_table_is_asked_for_by_its_name_and_without_one_all_are_shown() {
        let board = board(&["orders", "users"]);
        assert!(board.asked(None).unwrap().is_none());
        let asked = board.asked(Some("a=b&table=users")).unwrap().unwrap();
        assert_eq!(asked.table.as_deref(), Some("users"));
        let told = board.asked(Some("table=%3Cb%3E")).unwrap_err();
        assert_eq!(told, "there is no such table here, there are orders, users");
    }

    #[test]
    fn all_are_ready_when_each_is_and_the_worst_is_what_they_say() {
        let board = board(&["orders", "users", "mails"]);
        for status in board.each() {
            status.enter(State::Streaming);
        }
        let words = "orders: streaming, users: streaming, mails: streaming";
        assert_eq!(board.readiness(), Ok(words.to_owned()));
        let broken = board.asked(Some("table=users")).unwrap().unwrap();
        broken.stops(&Error::definite("the table is gone").hint("bring it back"));
        board.asked(Some("table=mails")).unwrap().unwrap().enter(State::Draining);
        let reason = "table users: stopped: the table is gone; and not ready: mails";
        assert_eq!(board.readiness(), Err(reason.to_owned()));
        let document = board.document();
        assert_eq!(document["state"], "stopped");
        assert_eq!(document["last_error"]["hint"], "bring it back");
        assert_eq!(document["tables"][0]["state"], "streaming");
        assert_eq!(document["tables"][1]["table"], "users");
        assert_eq!(broken.metrics.errors.get(), 0, "it was counted where it happened");
    }

    #[test]
    fn each_number_says_whose_it_is_and_those_of_the_process_stand_once() {
        let board = board(&["orders", "users"]);
        board.asked(Some("table=users")).unwrap().unwrap().metrics.published.inc_by(7);
        let users = board.asked(Some("table=users")).unwrap().unwrap();
        for line in users.split(&[1, 2].map(|number| Shard { number, of: 2 })) {
            line.enter(State::Streaming);
        }
        users.stops(&Error::definite("x"));
        let page = board.numbers();
        for line in [
            "walrelay_events_published_total{table=\"orders\"} 0",
            "walrelay_events_published_total{table=\"users\"} 7",
            "walrelay_state{table=\"orders\",state=\"stopped\"} 0",
            "walrelay_state{table=\"users\",shard=\"2\",state=\"stopped\"} 1",
            "walrelay_lag_bytes{table=\"orders\"} 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        for once in ["# HELP walrelay_state ", "walrelay_build_info{", "# EOF"] {
            assert_eq!(page.matches(once).count(), 1, "{once} in\n{page}");
        }
    }

    #[test]
    fn the_largest_document_of_all_tables_is_far_from_what_is_read_of_one() {
        let names: Vec<String> = (0..TABLES_MAX).map(|n| format!("{n:x>32}")).collect();
        let board = board(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for status in board.each() {
            let long = "\"".repeat(60);
            let of = || long.clone();
            let (postgres, redis, slot, publication) = (of(), of(), of(), of());
            let (table, stream, durability) = (of(), of(), of());
            status.connected(Endpoints {
                postgres,
                redis,
                slot,
                publication,
                table,
                stream,
                durability,
                after_publish: "delete",
                max_rate: Some(u64::MAX),
            });
            status.stops(&Error::transient("x".repeat(400)).hint("y".repeat(200)));
            let [received, confirmed] = [Lsn::new(u64::MAX), Lsn::new(1)];
            status.stand(Where { received, confirmed, ..Where::default() });
        }
        let bytes = format!("{:#}", board.document()).len();
        assert!(bytes < ANSWER_BYTES_MAX * 3 / 4, "{bytes} bytes");
    }
}
