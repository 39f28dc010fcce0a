//! Micro-benchmarks of what every event passes: how long a batch of 256 takes, step by step.
//!
//! In: `examples/shared/events.rs`. Out: criterion's comparison with the run before. Each step
//! includes those before it. `make micro` runs them; `make bench` counts instructions of the same.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

#[path = "../examples/shared/events.rs"]
mod events;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use events::{BATCH, Events};
use walrelay::config::EntryFormat;
use walrelay::sink::EntryWriter;

fn line(criterion: &mut Criterion) {
    let Ok(events) = Events::new() else { return };
    let mut writer = EntryWriter::new(EntryFormat::Json, String::new());
    let mut group = criterion.benchmark_group("line");
    group.throughput(Throughput::Elements(u64::try_from(BATCH).unwrap_or_default()));
    group.bench_function("decode", |bencher| bencher.iter(|| events.decode().is_ok()));
    group.bench_function("envelopes", |bencher| bencher.iter(|| events.envelopes().is_ok()));
    for (name, format) in [("fields", EntryFormat::Fields), ("json", EntryFormat::Json)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| events.batch(format, &mut writer).is_ok());
        });
    }
    group.finish();
}

criterion_group!(benches, line);
criterion_main!(benches);
