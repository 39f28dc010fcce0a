//! The consumer of the demo: a blocking XREAD on a thread of its own, as any service would read.
//!
//! In: a Redis URL. Out: each entry with the moment it was seen, through the channel of the plot.
//! It must stay true that nothing else runs on this thread: what it measures is the relay, not us.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use redis::{Connection, RedisResult, Value};
use tokio::sync::mpsc::UnboundedSender;

use crate::harness::world::STREAM;
use crate::plot::Happening;

/// How long one XREAD waits, in milliseconds: the end of the demo is noticed this late at most.
const BLOCK: usize = 100;

/// An entry, and when it was seen.
pub struct Seen {
    pub event_id: String,
    pub event_type: String,
    pub aggregate_id: String,
    pub email: String,
    pub at: Instant,
}

/// The thread; it ends with the handle.
pub struct Reader {
    /// How many entries it has reported.
    pub reported: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    pub fn start(url: &str, sender: UnboundedSender<Happening>) -> RedisResult<Self> {
        let mut connection = redis::Client::open(url)?.get_connection()?;
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let reported = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&reported);
        let thread = std::thread::spawn(move || {
            let mut last_id = "0".to_owned();
            while !is_over.load(Ordering::Relaxed) {
                // A Redis that is gone is noticed by everybody else.
                let Ok(entries) = read(&mut connection, &last_id) else { return };
                let at = Instant::now();
                for entry in &entries {
                    let Some((id, seen)) = parse(entry, at) else { continue };
                    last_id = id;
                    if sender.send(Happening::Seen(seen)).is_err() {
                        return;
                    }
                    count.fetch_add(1, Ordering::Release);
                }
            }
        });
        Ok(Self { reported, over, thread: Some(thread) })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn read(connection: &mut Connection, last_id: &str) -> RedisResult<Vec<Value>> {
    let mut command = redis::cmd("XREAD");
    command.arg("COUNT").arg(1_000).arg("BLOCK").arg(BLOCK);
    let answer = command.arg("STREAMS").arg(STREAM).arg(last_id).query(connection)?;
    let stream = items(answer).into_iter().next().map(items).unwrap_or_default();
    Ok(stream.into_iter().nth(1).map(items).unwrap_or_default())
}

fn parse(entry: &Value, at: Instant) -> Option<(String, Seen)> {
    let Value::Array(parts) = entry else { return None };
    let [id, Value::Array(fields)] = parts.as_slice() else { return None };
    let find = |name: &str| {
        let pair = fields.chunks_exact(2).find(|pair| pair.first().and_then(text) == Some(name))?;
        pair.get(1).and_then(text)
    };
    let payload: serde_json::Value = serde_json::from_str(find("payload")?).ok()?;
    let seen = Seen {
        event_id: find("event_id")?.to_owned(),
        event_type: find("event_type")?.to_owned(),
        aggregate_id: find("aggregate_id")?.to_owned(),
        email: payload.get("email")?.as_str()?.to_owned(),
        at,
    };
    Some((text(id)?.to_owned(), seen))
}

fn items(value: Value) -> Vec<Value> {
    if let Value::Array(items) = value { items } else { Vec::new() }
}

fn text(value: &Value) -> Option<&str> {
    if let Value::BulkString(bytes) = value { std::str::from_utf8(bytes).ok() } else { None }
}
