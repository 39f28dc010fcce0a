//! In place of the exporter in a binary without feature `otel`.
//!
//! In: what the exporter gets. Out: nothing, and one warning where spans are asked for. It must
//! stay true that none of it is more than a constant to the compiler.

use std::future::{Ready, ready};
use std::time::Duration;

use prometheus_client::registry::Registry;

use super::environment;
use super::traced::Traced;

/// The way of spans to a collector: there is none.
#[derive(Clone, Debug, Default)]
pub struct Spans(());

impl Spans {
    /// Says so where one is asked for.
    #[must_use]
    pub fn start() -> Self {
        if let Some((variable, _)) = environment::endpoint() {
            tracing::warn!(
                variable,
                hint = "build it with `cargo build --release --locked --features otel`, or unset \
                        the variable",
                "spans are asked for, but this walrelay was built without them"
            );
        }
        Self(())
    }

    /// Whether traced events are to be noted.
    #[must_use]
    pub fn is_on(&self) -> bool {
        false
    }

    /// These events were written to their stream.
    pub fn entered(&self, _stream: &str, _traced: Traced) {}

    /// Nothing is left to be sent.
    pub fn finish(&self, _within: Duration) -> Ready<()> {
        ready(())
    }

    /// There is nothing to count.
    pub fn register(&self, _registry: &mut Registry) {}
}
