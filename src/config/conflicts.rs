//! What two settings cannot be at once: in one table, and between tables of one process.
//!
//! In: texts that are sound each by itself. Out: complaints that name both places. It must stay
//! true that no two tables share an outbox, a slot, a publication (those of shards included) or a
//! stream of dead letters, and that none writes events into the dead letters of another: nobody
//! could tell afterwards whose they are.

use super::columns::Columns;
use super::settings::Loaded;
use super::shards::{self, Shard, Shards};
use super::values;
use super::words::Mode;
use crate::error::Result;

impl Loaded {
    /// What goes wrong within these.
    pub(super) fn conflicts(&self) -> Vec<String> {
        let mut found = Vec::from_iter(self.same_streams());
        found.extend(self.impossible_shards());
        found.extend(self.missing_schemas());
        found.extend(self.impossible_messages());
        found
    }

    fn same_streams(&self) -> Option<String> {
        let stream = self.text("stream_name")?;
        (self.text("dlq_stream_name")? == stream).then(|| {
            let (one, other) = (self.origin("stream_name"), self.origin("dlq_stream_name"));
            format!(
                "stream_name (set in {one}) and dlq_stream_name (set in {other}) are both \
                 {stream:?}: consumers could not tell dead letters from events; allowed: \
                 two different names"
            )
        })
    }

    /// Only where the settings can be read at all: each by itself has been complained about.
    fn impossible_shards(&self) -> Vec<String> {
        let (of, here) = (self.whole("shards"), self.text("shard").unwrap_or_default());
        let Ok(of) = of else { return Vec::new() };
        let shards = match Shards::parse(of, here) {
            Ok(shards) => shards,
            Err(_) if shards::numbers(here).is_err() => return Vec::new(),
            Err(reason) => {
                let (one, other) = (self.origin("shards"), self.origin("shard"));
                let text = format!(
                    "shard = {here:?} (set in {other}): {reason}, as shards is set in {one}"
                );
                return vec![text];
            }
        };
        let complain = |name: &str| {
            let complaint = shards.complaint(self.text(name)?)?;
            Some(format!("{name} (set in {}): {complaint}", self.origin(name)))
        };
        ["slot_name", "publication_name"].into_iter().filter_map(complain).collect()
    }

    /// What could not be delivered once is refused before anything is written.
    fn impossible_messages(&self) -> Vec<String> {
        let text = |name: &str| self.text(name).unwrap_or_default();
        if !values::switch(text("messages")).unwrap_or_default() {
            return Vec::new();
        }
        let mut complaints = Vec::new();
        let mut complain = |name: &str, why: &str| {
            let (value, origin) = (text(name), self.origin(name));
            let messages = self.origin("messages");
            complaints.push(format!(
                "messages = true (set in {messages}) does not go with {name} = {value:?} (set in \
                 {origin}): {why}"
            ));
        };
        if self.whole::<u8>("shards").is_ok_and(|of| of > 1) {
            complain("shards", "each shard has a slot of its own, and each would publish them all");
        }
        if self.mode().is_ok_and(|mode| mode == Mode::Poll) {
            complain("mode", "a message is in the WAL and in no table, where polling looks");
        }
        // Any other column would have to be told by the message, or be filled by nobody.
        if self.outbox().is_ok_and(|outbox| outbox.columns != Columns::default()) {
            let is_mapped = self.text("columns").is_some_and(|list| !list.trim().is_empty());
            let name = if is_mapped { "columns" } else { "outbox_preset" };
            complain(name, "a refused message becomes a row, which takes the columns of our own");
        }
        complaints
    }

    /// What goes wrong between two tables. To be asked where each by itself is sound.
    pub(super) fn conflicts_with(&self, other: &Self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let [(outbox, publication, slot), theirs] = [self.names()?, other.names()?];
        if *outbox == *theirs.0 {
            found.push(self.shares(other, "outbox_table", &outbox.to_string()));
        }
        for (name, ours, theirs) in
            [("slot_name", slot, theirs.2), ("publication_name", publication, theirs.1)]
        {
            if of_one_name(&ours, &theirs) {
                found.push(self.shares(other, name, &ours));
            }
        }
        let (ours, theirs) = (self.streams()?, other.streams()?);
        if let Some(stream) = ours.letters.iter().find(|stream| theirs.letters.contains(stream)) {
            let (one, two) = (self.section(), other.section());
            found.push(format!(
                "{one} and {two} would both write dead letters into {stream:?}: give one of them \
                 another stream_name (or stream_template), or each a dlq_stream_name"
            ));
        }
        for (one, streams, two, letters) in [
            (self, &ours.events, other, &theirs.letters),
            (other, &theirs.events, self, &ours.letters),
        ] {
            if let Some(stream) = streams.iter().find(|stream| letters.contains(stream)) {
                let (one, two) = (one.section(), two.section());
                found.push(format!(
                    "{one} would write events into {stream:?}, where {two} has its dead letters: \
                     consumers could not tell them apart"
                ));
            }
        }
        Ok(found)
    }

    fn section(&self) -> String {
        self.table.as_ref().map_or_else(String::new, |table| format!("[tables.{table}]"))
    }

    fn shares(&self, other: &Self, name: &str, value: &str) -> String {
        let (one, two) = (self.section(), other.section());
        let (ours, theirs) = (self.origin(name), other.origin(name));
        format!(
            "{one} and {two} would share {name} {value:?} (set in {ours}, and in {theirs}): set \
             {name} in one of the sections"
        )
    }

    /// As far as the settings tell: rows may name others.
    fn streams(&self) -> Result<Streams> {
        let mut events = vec![self.stream_name()?];
        // Two templates that read the same name the same streams.
        events.extend(self.template()?.map(str::to_owned));
        let letters = match self.text("dlq_stream_name") {
            Some(stream) => vec![stream.to_owned()],
            None => events.iter().map(|stream| format!("{stream}.dlq")).collect(),
        };
        Ok(Streams { events, letters })
    }
}

/// Where a table's events go, and its dead letters.
struct Streams {
    events: Vec<String>,
    letters: Vec<String>,
}

/// Whether these are one name, or one is that of a shard of the other.
fn of_one_name(one: &str, other: &str) -> bool {
    Shard::of_name(one, other).is_some() || Shard::of_name(other, one).is_some()
}
