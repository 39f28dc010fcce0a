//! What was written waits here to become spans: between the line, which never waits, and a thread
//! that waits for a collector.
//!
//! In: the environment, once; the traced events of each batch that was written. Out: work for the
//! exporter's thread, and counts of what became of it. It must stay true that so many events wait
//! and no more: those beyond are dropped and counted, and the first of them is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot};

use super::super::metrics::Labelled;
use super::environment::{self, variable};
use super::exporter;
use super::traced::{Event, Traced};

/// What the specification gives OTEL_BSP_MAX_QUEUE_SIZE.
const QUEUE_EVENTS_MAX: usize = 2_048;

/// The way of spans to a collector; clones share it. None, where nobody asked for one.
#[derive(Clone, Debug, Default)]
pub struct Spans(Option<Arc<Queue>>);

#[derive(Debug)]
struct Queue {
    sender: mpsc::UnboundedSender<Message>,
    tally: Arc<Tally>,
}

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Message {
    /// These events of one batch were written.
    Written {
        stream: String,
        /// When Redis had said so.
        at: SystemTime,
        events: Vec<Event>,
    },
    /// All before this is to be sent now; say so when it is.
    Flush(oneshot::Sender<()>),
}

/// How many events wait, and what became of the others.
#[derive(Debug)]
pub(super) struct Tally {
    waiting: AtomicUsize,
    waiting_max: usize,
    is_told: AtomicBool,
    counted: Labelled,
}

impl Tally {
    /// From the environment.
    pub fn new() -> Self {
        let waiting_max = number("OTEL_BSP_MAX_QUEUE_SIZE").unwrap_or(QUEUE_EVENTS_MAX).max(1);
        Self {
            waiting: AtomicUsize::new(0),
            waiting_max,
            is_told: AtomicBool::new(false),
            counted: Labelled::default(),
        }
    }

    /// So many may wait.
    pub fn waiting_max(&self) -> usize {
        self.waiting_max
    }

    /// Room for as many of these as there is; how many that is.
    fn enter(&self, events: usize) -> usize {
        let order = Ordering::Relaxed;
        let mut entered = 0;
        // Always stored: the closure never says no.
        let _before = self.waiting.fetch_update(order, order, |waiting| {
            entered = self.waiting_max.saturating_sub(waiting).min(events);
            Some(waiting + entered)
        });
        entered
    }

    /// So many wait no longer.
    pub fn leave(&self, events: usize) {
        self.waiting.fetch_sub(events, Ordering::Relaxed);
    }

    /// The collector has so many more.
    pub fn exported(&self, spans: usize) {
        self.count("exported", spans);
    }

    /// So many were given up, because the collector did not take them.
    pub fn failed(&self, spans: usize) {
        self.count("failed", spans);
    }

    fn dropped(&self, events: usize) {
        self.count("dropped", events);
        if !self.is_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                waiting = self.waiting_max,
                hint = "walrelay_spans_total{outcome=\"dropped\"} counts them; sample less, or \
                        raise OTEL_BSP_MAX_QUEUE_SIZE",
                "spans are dropped: the collector takes them more slowly than events come"
            );
        }
    }

    fn count(&self, outcome: &'static str, spans: usize) {
        self.outcome(outcome).inc_by(u64::try_from(spans).unwrap_or(u64::MAX));
    }

    fn outcome(&self, outcome: &'static str) -> Counter {
        self.counted.get_or_create_owned(&[("outcome", outcome)])
    }
}

impl Spans {
    /// Starts the thread that sends spans, where the environment asks for one. What stands against
    /// it is told: a relay without spans is better than none.
    #[must_use]
    pub fn start() -> Self {
        let Some((variable, endpoint)) = environment::endpoint() else { return Self(None) };
        let tally = Arc::new(Tally::new());
        let (sender, receiver) = mpsc::unbounded_channel();
        match exporter::start(variable, &endpoint, receiver, Arc::clone(&tally)) {
            Ok(()) => Self(Some(Arc::new(Queue { sender, tally }))),
            Err(why) => {
                tracing::error!(variable, error = why, "no spans are exported");
                Self(None)
            }
        }
    }

    /// Whether traced events are to be noted.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// These events were written to their stream: now.
    pub fn entered(&self, stream: &str, traced: Traced) {
        let Some(queue) = &self.0 else { return };
        let mut events = traced.into_events();
        if events.is_empty() {
            return;
        }
        let entered = queue.tally.enter(events.len());
        if entered < events.len() {
            queue.tally.dropped(events.len() - entered);
            events.truncate(entered);
        }
        let message = Message::Written { stream: stream.to_owned(), at: SystemTime::now(), events };
        // The thread ends with the process only.
        let _unheard = queue.sender.send(message);
    }

    /// Sends what waits, for as long as this.
    pub async fn finish(&self, within: Duration) {
        let Some(queue) = &self.0 else { return };
        let (sender, sent) = oneshot::channel();
        let _unheard = queue.sender.send(Message::Flush(sender));
        if tokio::time::timeout(within, sent).await.is_err() {
            let spans = queue.tally.waiting.load(Ordering::Relaxed);
            tracing::warn!(spans, "stopped before the collector had taken the last spans");
        }
    }

    pub(in crate::telemetry) fn register(&self, registry: &mut Registry) {
        let Some(queue) = &self.0 else { return };
        for outcome in ["exported", "failed", "dropped"] {
            drop(queue.tally.outcome(outcome));
        }
        let help = "Spans of published events: the collector has them, or did not take them, or \
                    they did not even wait for it because too many did";
        registry.register("spans", help, queue.tally.counted.clone());
    }
}

/// What a variable says, where it is a number.
pub(super) fn number(name: &str) -> Option<usize> {
    variable(name)?.trim().parse().ok()
}
