//! The document of /status: all that is known, as JSON.
//!
//! In: [`Status`]. Out: one object, and with several lines one more for each. It must stay true
//! that it fits into what `walrelay` reads of an answer, whatever the names and numbers in it.

use serde_json::{Value, json};

use super::backlog::Backlog;
use super::heartbeat;
use super::slot::SlotFacts;
use super::status::{Said, Status, Where};
use crate::lsn::Lsn;

impl Status {
    /// The document of /status.
    #[must_use]
    pub fn document(&self) -> Value {
        let stands = self.stands();
        let said = self.says();
        let (rates, history) = self.rates.document(self.metrics.published.get());
        let mut document = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "role": self.role(),
            "mode": said.mode,
            "mode_reason": said.mode_reason,
            "state": said.state,
            "state_seconds": said.since.elapsed().as_secs(),
            "uptime_seconds": self.started.elapsed().as_secs(),
            "endpoints": said.endpoints,
            "positions": positions(&stands, &said),
            "slot": said.slot.clone().unwrap_or_default().document(),
            "backlog": said.backlog.as_ref().map(Backlog::document),
            "lag": self.lag_document(&stands),
            "rates": rates,
            "heartbeat": heartbeat::document(self.each().map(|line| &line.heartbeat)),
            "events": self.metrics.events_document(),
            "streams": self.streams.document(self.lines()),
            "retention": self.metrics.retention_document(),
            "reconnects": self.metrics.reconnects_document(),
            "retry": self.retries.document(self.lines()),
            "last_error": said.last_error,
            "history": history,
        });
        if let (Some(document), false) = (document.as_object_mut(), self.lines().is_empty()) {
            let lines = self.lines().iter().map(|line| line.of_shard());
            document.insert("shards".to_owned(), lines.collect());
        }
        if let (Some(document), Some(table)) = (document.as_object_mut(), &self.table) {
            document.insert("table".to_owned(), table.as_str().into());
        }
        document
    }

    /// One table of several, in the document of all. What else is known of it is asked for by its
    /// name.
    pub(super) fn in_short(&self) -> Value {
        let said = self.says();
        let (rates, _) = self.rates.document(self.metrics.published.get());
        let endpoints = &said.endpoints;
        let more = json!({
            "table": self.table,
            "mode": said.mode,
            "endpoints": {
                "slot": endpoints.slot,
                "table": endpoints.table,
                "stream": endpoints.stream,
            },
            "rates": rates,
            "published": self.metrics.published.get(),
            "retry": self.retries.document(self.lines()),
        });
        self.among_others(&said, more)
    }

    /// One line of several, in the document of all.
    fn of_shard(&self) -> Value {
        let said = self.says();
        let shard = self.shard.map(|shard| shard.number);
        let more = json!({ "shard": shard, "slot": said.endpoints.slot });
        self.among_others(&said, more)
    }

    /// What is said of one of several, and `more`.
    fn among_others(&self, said: &Said, more: Value) -> Value {
        let stands = self.stands();
        let mut document = json!({
            "role": self.role(),
            "state": said.state,
            "state_seconds": said.since.elapsed().as_secs(),
            "positions": positions(&stands, said),
            "backlog": said.backlog.as_ref().map(Backlog::document),
            "lag": self.lag_document(&stands),
            "heartbeat": heartbeat::document(self.each().map(|line| &line.heartbeat)),
            "last_error": said.last_error,
        });
        if let (Some(document), Value::Object(mut more)) = (document.as_object_mut(), more) {
            document.append(&mut more);
        }
        document
    }

    /// Each line by itself: this one, where it is the only one.
    pub(super) fn each(&self) -> impl Iterator<Item = &Self> {
        let this = self.lines().is_empty().then_some(self);
        this.into_iter().chain(self.lines().iter().map(|line| &**line))
    }

    /// Who holds no slot and no table, of whatever reason, does not lead; of several lines one that
    /// does is enough.
    fn role(&self) -> &'static str {
        let leads = self.each().any(|line| line.state().leads());
        if leads { "leader" } else { "standby" }
    }

    fn lag_document(&self, stands: &Where) -> Value {
        json!({
            "bytes": self.unconfirmed_bytes(),
            "events": stands.outstanding,
            "seconds": self.lag_seconds(),
        })
    }

    /// WAL that the slot still keeps for us, up to the end of it as far as that is known: what
    /// we were sent, or what PostgreSQL said where we are not reading. Of several lines, where that
    /// is most.
    #[must_use]
    pub(super) fn unconfirmed_bytes(&self) -> u64 {
        let of_line = |line: &Self| {
            let (stands, said) = (line.own_stands(), line.says());
            // Without a line there is nothing to compare with.
            let is_known = stands.confirmed > Lsn::NONE;
            let end = end_of_wal(&stands, &said).filter(|_| is_known);
            end.unwrap_or(stands.received).as_u64().saturating_sub(stands.confirmed.as_u64())
        };
        self.each().map(of_line).max().unwrap_or(0)
    }
}

/// The end of PostgreSQL's WAL as far as it is known; none in a mode without WAL.
fn end_of_wal(stands: &Where, said: &Said) -> Option<Lsn> {
    let looked_up = said.slot.as_ref().map_or(Lsn::NONE, |slot: &SlotFacts| slot.current);
    Some(looked_up.max(stands.received)).filter(|end| *end > Lsn::NONE)
}

fn positions(stands: &Where, said: &Said) -> Value {
    json!({
        "received": stands.received.to_string(),
        "published": stands.published.to_string(),
        "settled": stands.settled.to_string(),
        "confirmed": stands.confirmed.to_string(),
        "current": end_of_wal(stands, said).map(|end| end.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::state::State;
    use super::*;
    use crate::config::Shard;
    use crate::error::Error;

    #[test]
    fn the_document_shows_state_positions_and_the_last_error() {
        let status = Status::default();
        status.enter(State::Standby);
        status.stand(Where { received: Lsn::new(0x1_0000_0010), ..Where::default() });
        status.failed(&Error::transient("gone").hint("wait"));
        let document = status.document();
        assert_eq!((&document["state"], &document["role"]), (&json!("standby"), &json!("standby")));
        assert_eq!(document["positions"]["received"], "1/10");
        assert_eq!(document["last_error"]["error"], "gone");
        assert_eq!(document["last_error"]["hint"], "wait");
        assert_eq!(document["heartbeat"]["age_seconds"], Value::Null);
        assert_eq!(document["rates"]["per_second_10s"], 0.0);
    }

    #[test]
    fn the_lag_is_up_to_the_end_of_the_wal_also_where_nothing_is_read() {
        let status = Status::default();
        let at = |lsn| SlotFacts { current: Lsn::new(lsn), ..SlotFacts::default() };
        status.slot_is(Some(at(50)));
        assert_eq!(status.unconfirmed_bytes(), 0, "nothing is known of what is confirmed");
        let (received, confirmed) = (Lsn::new(20), Lsn::new(15));
        status.stand(Where { received, confirmed, ..Where::default() });
        assert_eq!(status.document()["lag"]["bytes"], 35);
        assert_eq!(status.document()["positions"]["current"], "0/32");
        status.slot_is(Some(at(10)));
        assert_eq!(status.document()["lag"]["bytes"], 5);
    }

    #[test]
    fn the_largest_document_is_far_from_what_is_read_of_one() {
        let status = Status::default();
        let shards: Vec<Shard> = (1..=16).map(|number| Shard { number, of: 16 }).collect();
        for (number, line) in status.split(&shards).iter().enumerate() {
            let names: Vec<String> =
                (0..64).map(|n| format!("{number} {n} {}", "\"".repeat(500))).collect();
            line.streams.tell(names.iter().map(|name| (name.as_str(), u64::MAX)));
            line.failed(&Error::transient("x".repeat(400)).hint("y".repeat(200)));
            let [received, confirmed] = [Lsn::new(u64::MAX), Lsn::new(1)];
            line.stand(Where { received, confirmed, ..Where::default() });
        }
        for second in 0..400 {
            status.look(std::time::Instant::now() + std::time::Duration::from_secs(second));
        }
        let bytes = format!("{:#}", status.document()).len();
        assert!(bytes < super::super::http::ANSWER_BYTES_MAX / 2, "{bytes} bytes");
    }
}
