//! The thread that turns events into spans and brings them to a collector, as OpenTelemetry's SDK
//! has it: its sampler, its ids, its resource, its OTLP.
//!
//! In: messages of the queue. Out: requests to the collector, some seconds' worth of spans in each.
//! It must stay true that what was taken from the queue counts as waiting until it was answered or
//! given up, so that the queue's bound is the bound of all; and that a collector that is away is
//! told once, and once more when it is back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, SpanKind, TraceContextExt as _, TraceFlags, TraceId,
    TraceState, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, InstrumentationScope, Key, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    SdkTracer, SdkTracerProvider, Span, SpanData, SpanExporter as _, SpanProcessor,
};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout_at};

use super::super::status::POSTGRES_EPOCH_MICROS;
use super::collector::Collector;
use super::queue::{Message, Tally, number};
use super::traced::Event;
use crate::event_loop::event_loop;

/// What the specification gives OTEL_BSP_SCHEDULE_DELAY, in milliseconds.
const DELAY_MS: usize = 5_000;
/// What it gives OTEL_BSP_MAX_EXPORT_BATCH_SIZE.
const REQUEST_SPANS_MAX: usize = 512;
/// What the SDK calls a service that nobody named.
const UNNAMED: &str = "unknown_service";

/// Starts the thread; what stands against it, without a word of what may be secret.
pub(super) fn start(
    variable: &str,
    endpoint: &str,
    receiver: UnboundedReceiver<Message>,
    tally: Arc<Tally>,
) -> Result<(), String> {
    let collector = Collector::new(endpoint)?;
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(collector.clone())
        .build()
        .map_err(|error| error.to_string())?;
    let resource = resource();
    exporter.set_resource(&resource);
    let ended = Ended::default();
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_span_processor(ended.clone())
        .build();
    let scope = InstrumentationScope::builder("walrelay").with_version(env!("CARGO_PKG_VERSION"));
    let worker = Worker {
        receiver,
        request_spans_max: number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE")
            .unwrap_or(REQUEST_SPANS_MAX)
            .clamp(1, tally.waiting_max()),
        delay: milliseconds("OTEL_BSP_SCHEDULE_DELAY", DELAY_MS),
        tally,
        tracer: provider.tracer_with_scope(scope.build()),
        ended,
        exporter,
        collector: collector.clone(),
        is_failing: false,
    };
    let runtime = event_loop().map_err(|error| error.to_string())?;
    std::thread::Builder::new()
        .name("spans".to_owned())
        .spawn(move || runtime.block_on(worker.run()))
        .map_err(|error| error.to_string())?;
    tracing::info!(collector = collector.name(), variable, "spans are exported");
    if collector.may_speak_grpc() {
        tracing::warn!(
            collector = collector.name(),
            "walrelay speaks OTLP over HTTP (http/protobuf), usually on port 4318: on 4317 \
             collectors expect gRPC"
        );
    }
    Ok(())
}

pub(super) fn milliseconds(name: &str, default: usize) -> Duration {
    let ms = number(name).unwrap_or(default);
    Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
}

/// Who we are, as OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say, else by our own name.
fn resource() -> Resource {
    let said = Resource::builder().build();
    let is_unnamed = said
        .get(&Key::from_static_str("service.name"))
        .is_none_or(|name| name.as_str().starts_with(UNNAMED));
    let mut resource = Resource::builder();
    if is_unnamed {
        resource = resource.with_service_name("walrelay");
    }
    if said.get(&Key::from_static_str("service.version")).is_none() {
        resource =
            resource.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    }
    resource.build()
}

/// Where the SDK puts spans that have ended.
#[derive(Clone, Debug, Default)]
struct Ended(Arc<Mutex<Vec<SpanData>>>);

impl Ended {
    fn take(&self) -> Vec<SpanData> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl SpanProcessor for Ended {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

struct Worker {
    receiver: UnboundedReceiver<Message>,
    tally: Arc<Tally>,
    tracer: SdkTracer,
    ended: Ended,
    exporter: SpanExporter,
    collector: Collector,
    request_spans_max: usize,
    delay: Duration,
    is_failing: bool,
}

impl Worker {
    async fn run(mut self) {
        while let Some(first) = self.receiver.recv().await {
            let due = Instant::now() + self.delay;
            let (mut events, mut flushed) = (0, None);
            let mut next = Some(first);
            while let Some(message) = next.take() {
                match message {
                    Message::Written { stream, at, events: written } => {
                        events += written.len();
                        for event in written {
                            self.span(&stream, at, event);
                        }
                    }
                    Message::Flush(done) => flushed = Some(done),
                }
                if flushed.is_none() && events < self.request_spans_max {
                    next = timeout_at(due, self.receiver.recv()).await.ok().flatten();
                }
            }
            self.export().await;
            self.tally.leave(events);
            if let Some(done) = flushed {
                // Nobody listens any more once its time was over.
                let _unheard = done.send(());
            }
        }
    }

    /// One event becomes a span, if the sampler wants it.
    fn span(&self, stream: &str, at: SystemTime, event: Event) {
        let parent = SpanContext::new(
            TraceId::from(event.parent.trace_id),
            SpanId::from(event.parent.span_id),
            TraceFlags::new(event.parent.flags),
            true,
            TraceState::NONE,
        );
        let attributes = [
            KeyValue::new("messaging.system", "redis"),
            KeyValue::new("messaging.operation.name", "publish"),
            KeyValue::new("messaging.operation.type", "send"),
            KeyValue::new("messaging.destination.name", stream.to_owned()),
            KeyValue::new("messaging.message.id", String::from(event.id)),
            KeyValue::new("walrelay.event_type", String::from(event.kind)),
        ];
        let mut span = self
            .tracer
            .span_builder(format!("publish {stream}"))
            .with_kind(SpanKind::Producer)
            // By two clocks: where PostgreSQL's is ahead, it took no time.
            .with_start_time(instant(event.since).min(at))
            .with_attributes(attributes)
            .start_with_context(&self.tracer, &Context::new().with_remote_span_context(parent));
        span.end_with_timestamp(at);
    }

    async fn export(&mut self) {
        let mut spans = self.ended.take();
        while !spans.is_empty() {
            let rest = spans.split_off(spans.len().min(self.request_spans_max));
            let request = std::mem::replace(&mut spans, rest);
            let count = request.len();
            let result = self.exporter.export(request).await;
            // The SDK says "network error"; what our client met says more.
            let met = self.collector.take_failure();
            match result {
                Ok(()) => self.exported(count),
                Err(error) => self.failed(count, &met.unwrap_or_else(|| error.to_string())),
            }
        }
    }

    fn exported(&mut self, spans: usize) {
        self.tally.exported(spans);
        if std::mem::take(&mut self.is_failing) {
            tracing::info!(collector = self.collector.name(), "spans are exported again");
        }
    }

    fn failed(&mut self, spans: usize, why: &str) {
        self.tally.failed(spans);
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(
                collector = self.collector.name(),
                error = why,
                "the collector takes no spans: they are given up and counted; events go on"
            );
        }
    }
}

/// Of PostgreSQL's microseconds.
fn instant(micros: i64) -> SystemTime {
    let unix = micros.saturating_add(POSTGRES_EPOCH_MICROS);
    UNIX_EPOCH + Duration::from_micros(u64::try_from(unix).unwrap_or(0))
}
