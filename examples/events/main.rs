//! Takes events through decode, envelope and batch, and does nothing else: a program for callgrind
//! and perf.
//!
//! In: how far they go (decode, envelopes, fields, json) and how many batches. Out: nothing. It
//! must stay true that a batch more costs what a batch costs, so that two runs give the price of
//! one.

#[path = "../shared/events.rs"]
mod events;

use std::error::Error;

use events::Events;
use walrelay::config::EntryFormat;
use walrelay::sink::EntryWriter;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let step = arguments.next().unwrap_or_default();
    let batches: usize = arguments.next().unwrap_or_default().parse()?;
    let events = Events::new()?;
    let mut writer = EntryWriter::new(EntryFormat::Json, String::new());
    for _ in 0..batches {
        match step.as_str() {
            "decode" => events.decode()?,
            "envelopes" => events.envelopes()?,
            "fields" => drop(events.batch(EntryFormat::Fields, &mut writer)?),
            "json" => drop(events.batch(EntryFormat::Json, &mut writer)?),
            _ => return Err("decode, envelopes, fields or json, and a number of batches".into()),
        }
    }
    Ok(())
}
