//! Any bytes are a pgoutput message or an error, never a panic.
//!
//! In: bytes of the fuzzer. It must stay true that a message's tuples hold as many columns as they
//! claim, and that an error stays short: it names fields and shows no content. Start it with
//! `fuzz/run`, which also forbids large allocations.
//!
//! The two rooms are compiled from their sources, so that a build takes seconds: the library would
//! bring network, TLS and HTTP with it, all of it instrumented.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the rooms offer more than is called here")]

#[path = "../../src/lsn.rs"]
mod lsn;
#[path = "../../src/pgoutput/mod.rs"]
mod pgoutput;

use libfuzzer_sys::fuzz_target;
use pgoutput::{Message, Tuple, decode};

/// The longest error names message, field, offset, and two lengths.
const ERROR_BYTES_MAX: usize = 200;

fuzz_target!(|bytes: &[u8]| {
    match decode(bytes) {
        Ok(Message::Insert(insert)) => walk(&insert.tuple),
        Ok(Message::Update(update)) => walk(&update.new),
        Ok(_) => {}
        Err(error) => assert!(error.to_string().len() <= ERROR_BYTES_MAX, "{error}"),
    }
});

fn walk(tuple: &Tuple<'_>) {
    assert_eq!(tuple.columns().count(), tuple.len());
}
