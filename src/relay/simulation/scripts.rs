//! The rules of `open.lua`, `anchor.lua` and `publish.lua`, on the model of Redis.
//!
//! It must stay true that these are the scripts' rules, step by step: what they forget, the
//! simulation cannot find.

use redis::Value;

use super::ledger::{Broken, Ledger, Writer};
use super::redis::{Anchor, Redis, Safeguard, Undo};
use super::walsender::STREAMS;
use crate::lsn::Position;
use crate::sink::{Checkpoint, Failure, Sealed};

impl Redis {
    /// `open.lua`.
    pub fn open(&mut self, number: usize, timeline: u32, now: u64) -> Result<Checkpoint, Failure> {
        let stream = &mut self.streams[number];
        let refused = if self.is_full {
            Some("OOM command not allowed when used memory > 'maxmemory'.")
        } else if stream.is_wrong {
            Some("WRONGTYPE the key holds a string, not a stream")
        } else {
            None
        };
        if let Some(words) = refused {
            let error = error(words).extract_error().unwrap_err();
            return Err(Failure::of(&error));
        }
        let before = stream.checkpoint.clone();
        self.note_write(number, now);
        let stream = &mut self.streams[number];
        stream.checkpoint.epoch = now.max(before.epoch + 1);
        stream.checkpoint.timeline.get_or_insert(timeline);
        let checkpoint = Checkpoint {
            epoch: stream.checkpoint.epoch,
            position: before.position,
            event_id: before.event_id.clone(),
            timeline: before.timeline,
        };
        Ok(checkpoint)
    }

    /// `anchor.lua`.
    pub fn anchor(&mut self, anchor: Anchor, now: u64) -> Result<(), Failure> {
        let Anchor { stream: number, epoch, timeline, position } = anchor;
        if let Some(refused) = self.refusal_of(number, epoch) {
            return Err(Failure::of(&refused.extract_error().unwrap_err()));
        }
        self.note_write(number, now);
        let checkpoint = &mut self.streams[number].checkpoint;
        checkpoint.timeline = Some(timeline);
        if let Some(position) = position {
            checkpoint.position = position;
            checkpoint.event_id.clear();
        }
        Ok(())
    }

    /// What keeps a leader of this epoch from writing to a stream.
    fn refusal_of(&self, number: usize, epoch: u64) -> Option<Value> {
        let stored = self.streams[number].checkpoint.epoch;
        if self.is_full {
            Some(error("OOM command not allowed when used memory > 'maxmemory'."))
        } else if stored > epoch && self.has_safeguard(Safeguard::Fence) {
            Some(error("FENCED the epoch is over"))
        } else if stored != epoch && self.has_safeguard(Safeguard::Fence) {
            Some(error("GAP the checkpoint has another epoch"))
        } else {
            None
        }
    }

    /// A write that adds no entry is about to happen.
    pub fn note_write(&mut self, number: usize, now: u64) {
        let stream = &self.streams[number];
        let entries = stream.entries.len();
        let checkpoint = stream.checkpoint.clone();
        let undo = Undo { at: now, stream: number, entries, entries_after: entries, checkpoint };
        self.journal.push_back(undo);
    }

    /// `publish.lua`.
    pub fn publish(
        &mut self,
        batch: &Sealed,
        now: u64,
        ledger: &mut Ledger,
    ) -> Result<Value, Broken> {
        let arguments: Vec<&str> =
            batch.arguments().map(|bytes| std::str::from_utf8(bytes).unwrap()).collect();
        let [_, _, _, name, _, rest @ ..] = &*arguments else { panic!("no publish call") };
        let [rest @ .., positions, layout, stride, epoch, follows, _maxlen] = rest else {
            panic!("no publish call")
        };
        let events = events(rest, positions, layout, stride.parse().unwrap());
        let epoch: u64 = epoch.parse().unwrap();
        let follows: Position = follows.parse().unwrap();
        let number = STREAMS.iter().position(|known| known == name).unwrap();
        let before = self.streams[number].checkpoint.clone();
        if let Some(refused) = self.refusal_of(number, epoch) {
            return Ok(refused);
        }
        if before.position < follows && self.has_safeguard(Safeguard::Chain) {
            return Ok(error("GAP the checkpoint is elsewhere"));
        }
        if before.position > follows
            && !before.event_id.is_empty()
            && self.has_safeguard(Safeguard::Meet)
        {
            let met = events.iter().find(|(position, _)| *position >= before.position);
            if met.is_some_and(|met| *met != (before.position, before.event_id.as_str())) {
                return Ok(error("REWOUND another event is there"));
            }
        }
        let (refusal, skips) = (self.refusal.take(), self.has_safeguard(Safeguard::Skip));
        let stream = &mut self.streams[number];
        let entries = stream.entries.len();
        let (mut added, mut present) = (0, 0);
        let mut refused = None;
        for (position, id) in events {
            if position <= before.position && skips {
                present += 1;
                continue;
            }
            refused = if stream.is_wrong {
                Some("WRONGTYPE Operation against a key holding the wrong kind of value")
            } else {
                refusal.filter(|(at, _)| *at == added).map(|(_, words)| words)
            };
            if refused.is_some() {
                break;
            }
            let last = stream.entries.last().copied();
            let event = ledger.added(number, position, id.parse().ok(), Writer::Line(last))?;
            stream.entries.push(event);
            added += 1;
            stream.checkpoint.position = position;
            id.clone_into(&mut stream.checkpoint.event_id);
        }
        if added > 0 {
            let entries_after = stream.entries.len();
            self.journal.push_back(Undo {
                at: now,
                stream: number,
                entries,
                entries_after,
                checkpoint: before,
            });
        }
        let mut values = vec![Value::Int(added.try_into().unwrap()), Value::Int(present)];
        values.extend(refused.map(|words| Value::BulkString(words.into())));
        Ok(Value::Array(values))
    }
}

/// Position and id of each event.
fn events<'a>(
    values: &[&'a str],
    positions: &str,
    layout: &str,
    stride: usize,
) -> Vec<(Position, &'a str)> {
    let (shared, id_at) = if layout == "data" { (0, 1) } else { (4, 0) };
    let (own, _) = values.split_at(values.len() - shared);
    positions
        .as_bytes()
        .chunks(Position::TEXT_BYTES)
        .map(|text| std::str::from_utf8(text).unwrap().parse().unwrap())
        .zip(own.chunks(stride).map(|event: &[&str]| event[id_at]))
        .collect()
}

fn error(words: &str) -> Value {
    redis::parse_redis_value(format!("-{words}\r\n").as_bytes()).unwrap()
}
