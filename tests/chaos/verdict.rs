//! The judge: what was committed against what is in the streams.
//!
//! In: the writers' ledger, the rows of the outbox, the entries. Out: what was lost, doubled, never
//! committed or out of order within its aggregate, and the history around it. It must stay true
//! that only PostgreSQL decides what was committed. Not here: any wait.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use tokio_postgres::Client;

use crate::harness::consumer::{Consumer, Entry};
use crate::harness::wait::PATIENCE;
use crate::history::History;
use crate::writers::{Event, Outcome, STREAMS, Transaction, stream_of, uuid};

/// Of each kind of wrong, so many are told in full.
const TOLD_MAX: usize = 5;
/// Events lost within this time are lost by the same fault.
const MOMENT_MS: u64 = 2_000;
/// Entries of the same aggregate shown on either side.
const AROUND: usize = 2;

/// An entry of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub event: Event,
    /// Its id, and the time in it.
    pub id: String,
    pub at: u64,
}

/// What is wrong: events, and places among the entries.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wrong {
    pub lost: Vec<Event>,
    pub doubled: Vec<usize>,
    pub never_committed: Vec<usize>,
    pub out_of_order: Vec<usize>,
}

/// What the table says was committed; panics if PostgreSQL itself broke its word to a writer.
pub async fn committed(client: &Client, ledger: &[Transaction]) -> HashSet<Event> {
    let query = "SELECT event_id::text, (payload->>'aggregate')::int8, (payload->>'n')::int8
                 FROM identity.outbox";
    let rows = client.query(query, &[]).await.expect("the outbox");
    let event = |row: tokio_postgres::Row| Event {
        id: number(row.get(0)),
        aggregate: u32::try_from(row.get::<_, i64>(1)).expect("an aggregate"),
        n: row.get(2),
    };
    let committed: HashSet<Event> = rows.into_iter().map(event).collect();
    for transaction in ledger {
        let there = transaction.events.iter().filter(|event| committed.contains(event)).count();
        let all = transaction.events.len();
        let kept = match transaction.outcome {
            Outcome::Committed => there == all,
            Outcome::RolledBack => there == 0,
            Outcome::Unknown => there == 0 || there == all,
        };
        assert!(kept, "PostgreSQL has {there} of {all} rows of {transaction:?}");
        let back = transaction.taken_back.iter().filter(|event| committed.contains(event)).count();
        assert_eq!(back, 0, "PostgreSQL has rows that a savepoint took back: {transaction:?}");
    }
    let written: usize = ledger.iter().map(|transaction| transaction.events.len()).sum();
    assert!(committed.len() <= written, "rows that nobody wrote");
    committed
}

/// All entries of all streams.
pub async fn read(redis_url: &str) -> Vec<Seen> {
    let mut all = Vec::new();
    for stream in STREAMS {
        let mut consumer = Consumer::new(redis_url, stream);
        let length = consumer.len().await.expect("the stream's length");
        for _ in 0..length {
            let entry = consumer.next(PATIENCE).await.expect("as many entries as XLEN says");
            let seen = seen(&entry);
            assert_eq!(stream_of(seen.event.aggregate), stream, "in the wrong stream: {seen:?}");
            all.push(seen);
        }
    }
    all
}

fn seen(entry: &Entry) -> Seen {
    let payload: serde_json::Value = serde_json::from_str(entry.get("payload")).expect("JSON");
    let aggregate = payload["aggregate"].as_u64().and_then(|id| u32::try_from(id).ok());
    let aggregate = aggregate.expect("an aggregate in the payload");
    assert_eq!(entry.get("aggregate_id"), uuid(u128::from(aggregate)), "mixed up: {entry:?}");
    let n = payload["n"].as_i64().expect("a number in the payload");
    let at = entry.id.split('-').next().and_then(|ms| ms.parse().ok()).expect("an entry's time");
    let event = Event { id: number(entry.event_id()), aggregate, n };
    Seen { event, id: entry.id.clone(), at }
}

fn number(uuid: &str) -> u128 {
    u128::from_str_radix(&uuid.replace('-', ""), 16).expect("a UUID")
}

/// Compares; entries of one aggregate must stand in the order of their stream.
pub fn judge(committed: &HashSet<Event>, seen: &[Seen]) -> Wrong {
    let mut wrong = Wrong::default();
    let mut known = HashSet::new();
    let mut last: HashMap<u32, i64> = HashMap::new();
    for (place, Seen { event, .. }) in seen.iter().enumerate() {
        if !known.insert(event.id) {
            wrong.doubled.push(place);
            continue;
        }
        if !committed.contains(event) {
            wrong.never_committed.push(place);
            continue;
        }
        let highest = last.entry(event.aggregate).or_default();
        if event.n < *highest {
            wrong.out_of_order.push(place);
        }
        *highest = event.n.max(*highest);
    }
    wrong.lost = committed.iter().filter(|event| !known.contains(&event.id)).copied().collect();
    wrong.lost.sort_by_key(|event| (event.aggregate, event.n));
    wrong
}

impl Wrong {
    /// One line of numbers.
    pub fn summary(&self) -> String {
        format!(
            "{} lost, {} doubled, {} never committed, {} out of order",
            self.lost.len(),
            self.doubled.len(),
            self.never_committed.len(),
            self.out_of_order.len(),
        )
    }

    /// Panics, with the history around it, if anything is wrong.
    pub fn assert_nothing(&self, seen: &[Seen], ledger: &[Transaction], history: &History) {
        if *self == Self::default() {
            return;
        }
        let mut story = Story { text: format!("{}\n", self.summary()), seen, ledger, history };
        let written = |event| (written(event, ledger).map_or(0, |known| known.at), event);
        let mut lost: Vec<(u64, Event)> = self.lost.iter().copied().map(written).collect();
        lost.sort_by_key(|(at, event)| (*at, event.aggregate, event.n));
        // Of one moment, one event: a second moment tells more than a second event.
        lost.dedup_by_key(|(at, _)| *at / MOMENT_MS);
        for (at, event) in lost.into_iter().take(TOLD_MAX) {
            story.tell("lost", event, at);
        }
        let told = [
            ("doubled", &self.doubled),
            ("never committed", &self.never_committed),
            ("out of order", &self.out_of_order),
        ];
        for (what, places) in told {
            for place in places.iter().take(TOLD_MAX) {
                story.tell(what, seen[*place].event, seen[*place].at);
            }
        }
        panic!("{}", story.text);
    }
}

fn written(event: Event, ledger: &[Transaction]) -> Option<&Transaction> {
    ledger.iter().find(|transaction| {
        transaction.events.contains(&event) || transaction.taken_back.contains(&event)
    })
}

/// What is told of wrong events, and from what.
struct Story<'a> {
    text: String,
    seen: &'a [Seen],
    ledger: &'a [Transaction],
    history: &'a History,
}

impl Story<'_> {
    /// One wrong event: who wrote it, its neighbours in the stream, and the faults around.
    fn tell(&mut self, what: &str, event: Event, at: u64) {
        let Self { text, seen, ledger, history } = self;
        let Event { id, aggregate, n } = event;
        writeln!(text, "{what}: {} = aggregate {aggregate}, n {n}", uuid(id)).ok();
        if let Some(Transaction { writer, outcome, at, events, .. }) = written(event, ledger) {
            let (rows, when) = (events.len(), history.clock(*at));
            writeln!(text, "   writer {writer}, {rows} rows, {outcome:?} at {when}").ok();
        }
        let others = seen.iter().filter(|seen| seen.event.aggregate == aggregate);
        let others: Vec<&Seen> = others.collect();
        // Where it stands; one that is lost would stand behind the last number below its own.
        let mut places: Vec<usize> =
            (0..others.len()).filter(|place| others[*place].event.id == id).collect();
        if places.is_empty() {
            places.extend(others.iter().rposition(|seen| seen.event.n < n));
        }
        writeln!(text, "   in {}, of this aggregate:", stream_of(aggregate)).ok();
        for (place, seen) in others.iter().enumerate() {
            if places.iter().any(|near| near.abs_diff(place) <= AROUND) {
                let (n, id, when) = (seen.event.n, &seen.id, history.clock(seen.at));
                writeln!(text, "      {when}  n {n:<6} {id}  {}", uuid(seen.event.id)).ok();
            }
        }
        write!(text, "   faults around {}:\n{}", history.clock(at), history.around(at)).ok();
    }
}

#[test]
fn the_judge_sees_what_is_lost_doubled_invented_and_out_of_order() {
    let event = |n: i64| Event { id: n.cast_unsigned().into(), aggregate: 7, n };
    let stream = |numbers: &[i64]| -> Vec<Seen> {
        let seen = |n: &i64| Seen { event: event(*n), id: format!("{n}-0"), at: 0 };
        numbers.iter().map(seen).collect()
    };
    let committed = HashSet::from([event(1), event(2), event(3)]);
    assert_eq!(judge(&committed, &stream(&[1, 2, 3])), Wrong::default());
    assert_eq!(judge(&committed, &stream(&[1, 3])).lost, [event(2)]);
    assert_eq!(judge(&committed, &stream(&[1, 2, 1, 3])).doubled, [2]);
    assert_eq!(judge(&committed, &stream(&[1, 2, 3, 4])).never_committed, [3]);
    assert_eq!(judge(&committed, &stream(&[1, 3, 2])).out_of_order, [2]);
}
