//! Spans: for each event whose row says which trace it belongs to, how long it took from its commit
//! into its stream, for a collector of OpenTelemetry.
//!
//! In: rows' `traceparent` as batches are filled, and which of their events were written. Out:
//! OTLP over HTTP, where the binary has feature `otel` and the environment names an endpoint. It
//! must stay true that an event without a sampled parent costs a comparison; that whoever publishes
//! never waits for a collector: what it does not take in time is dropped and counted; that no
//! payload and no header of a request gets into a span or a log; and that the entry's `traceparent`
//! is the row's own.

#[cfg(not(feature = "otel"))]
mod absent;
#[cfg(feature = "otel")]
mod collector;
mod environment;
#[cfg(feature = "otel")]
mod exporter;
mod parent;
#[cfg(feature = "otel")]
mod queue;
mod traced;

#[cfg(not(feature = "otel"))]
pub use absent::Spans;
#[cfg(feature = "otel")]
pub use queue::Spans;
pub use traced::Traced;
