//! How fast a backlog drains: by PostgreSQL's own client, by bare XADD, by the relay.
//!
//! In: the scene with its backlog. Out: seconds per run, and what the relay cost. It must stay true
//! that each contender handles the same rows, and that its clock runs from the start of its process
//! (or its first byte) to the last row. Not here: which of them runs when (`main`).

use std::error::Error;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use redis::Value;

use crate::cpu;
use crate::figures::float;
use crate::harness::relay::Relay;
use crate::harness::world::STREAM;
use crate::scene::{Backlog, Scene};

/// Entries per pipeline of the sink's floor.
const PIPELINE: usize = 500;
/// Pipelines under way: Redis always has the next one at hand.
const IN_FLIGHT: usize = 4;
/// Entries per page when the stream is read back.
const PAGE: usize = 2_000;
/// A drain that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(300);
/// The cores that walsender, Redis and relay share: no drain can use more.
const CORES: f64 = 2.0;

/// How the relay is set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Contender {
    pub after_publish: &'static str,
    pub entry_format: &'static str,
    pub durability: &'static str,
}

pub const KEEP: Contender =
    Contender { after_publish: "keep", entry_format: "fields", durability: "memory" };
pub const JSON: Contender = Contender { entry_format: "json", ..KEEP };
pub const MARK: Contender = Contender { after_publish: "mark", ..KEEP };
/// Events wait until Redis has them on its disk, as many as the relay takes in.
pub const SAFE: Contender = Contender { durability: "fsync", ..KEEP };

impl Contender {
    pub fn name(self) -> String {
        format!("{}, {}", self.after_publish, self.entry_format)
    }
}

/// What a run of the relay took; processor time in microseconds per event.
#[derive(Clone, Copy)]
pub struct Run {
    pub seconds: f64,
    pub walsender_us: f64,
    pub redis_us: f64,
    pub relay_us: f64,
    pub peak_rss_mb: f64,
    /// What everybody else took of all cores, as a share of 1.
    pub others: f64,
}

impl Run {
    /// Events per second, were both cores busy with nothing but this work all the time.
    pub fn bound(&self) -> f64 {
        CORES * 1e6 / (self.walsender_us + self.redis_us + self.relay_us)
    }
}

/// The floor of the source: what the walsender can decode and send, to a file.
pub async fn source(scene: &Scene, backlog: &Backlog) -> Result<f64, Box<dyn Error>> {
    let slot = "bench_source";
    scene.copy_slot(backlog.slot, slot).await?;
    let home = tempfile::tempdir()?;
    let began = Instant::now();
    let done = Command::new(scene.programs.join("pg_recvlogical"))
        .args(["--start", "--no-loop", "--slot", slot, "--endpos", &backlog.end_lsn])
        .args(["-o", "proto_version=1", "-o", "publication_names=walrelay"])
        .arg("--dbname")
        .arg(scene.postgres.url())
        .arg("--file")
        .arg(home.path().join("out"))
        .stdin(Stdio::null())
        .output()?;
    let seconds = began.elapsed().as_secs_f64();
    if !done.status.success() {
        return Err(format!("pg_recvlogical: {}", String::from_utf8_lossy(&done.stderr)).into());
    }
    let bytes = std::fs::metadata(home.path().join("out"))?.len();
    if bytes < u64::try_from(backlog.rows * backlog.payload_bytes)? {
        return Err(format!("pg_recvlogical wrote {bytes} bytes: not the whole backlog").into());
    }
    scene.drop_slot(slot).await?;
    Ok(seconds)
}

/// The relay, from its start to the last entry; with `mark` to the last marked row.
pub async fn relay(
    scene: &mut Scene,
    backlog: &Backlog,
    contender: Contender,
) -> Result<Run, Box<dyn Error>> {
    let slot = "bench_relay";
    scene.settle().await?;
    scene.copy_slot(backlog.slot, slot).await?;
    let Contender { after_publish, entry_format, durability } = contender;
    let settings = scene.settings.clone().with("slot_name", slot).with("durability", durability);
    let settings = settings.with("after_publish", after_publish).with("entry_format", entry_format);
    let (redis_before, all_before) = (cpu::used(scene.redis.pid())?, cpu::used_by_all()?);
    let began = Instant::now();
    let mut relay = settings.start();
    let walsender = scene.walsender(slot).await?;
    let patience = PATIENCE + Duration::from_millis(1) * u32::try_from(backlog.rows)? / 5;
    scene.until_published(&backlog.streams(), backlog.rows, patience).await?;
    if after_publish == "mark" {
        until_marked(&relay, backlog.rows).await?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let all = cpu::used_by_all()?.saturating_sub(all_before);
    let redis = cpu::used(scene.redis.pid())?.saturating_sub(redis_before);
    let (walsender, relay_used) = (cpu::used(walsender)?, cpu::used(relay.pid())?);
    let others = all.saturating_sub(walsender + redis + relay_used).as_secs_f64();
    let cores = float(std::thread::available_parallelism()?.get());
    let per_event = |used: Duration| used.as_secs_f64() * 1e6 / float(backlog.rows);
    let run = Run {
        seconds,
        walsender_us: per_event(walsender),
        redis_us: per_event(redis),
        relay_us: per_event(relay_used),
        others: others / (cores * seconds),
        peak_rss_mb: float(usize::try_from(relay.peak_rss_kb())?) / 1024.0,
    };
    relay.drain().await;
    scene.drop_slot(slot).await?;
    Ok(run)
}

/// Awaits that the relay has marked so many rows.
pub async fn until_marked(relay: &Relay, rows: usize) -> Result<(), Box<dyn Error>> {
    let (rows, deadline) = (u64::try_from(rows)?, Instant::now() + PATIENCE);
    let marked = |status: serde_json::Value| {
        status.pointer("/events/marked").and_then(serde_json::Value::as_u64)
    };
    while marked(relay.status().await) < Some(rows) {
        if Instant::now() > deadline {
            return Err(format!("rows are left to mark:\n{}", relay.output()).into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// The entries that the relay wrote, as the XADD commands of a client that has nothing else to do.
pub struct Commands {
    bytes: Vec<u8>,
    /// Where each pipeline ends, and how many commands it has.
    ends: Vec<(usize, usize)>,
}

impl Commands {
    /// Reads the stream back.
    pub fn from_stream(url: &str) -> Result<Self, Box<dyn Error>> {
        let mut connection = redis::Client::open(url)?.get_connection()?;
        let mut commands = Self { bytes: Vec::new(), ends: Vec::new() };
        let mut from = "-".to_owned();
        let mut count = 0;
        loop {
            let mut command = redis::cmd("XRANGE");
            command.arg(STREAM).arg(&from).arg("+").arg("COUNT").arg(PAGE);
            let page: Vec<(String, Vec<Value>)> = command.query(&mut connection)?;
            let Some((last, _)) = page.last() else { break };
            from = format!("({last}");
            for (_, fields) in &page {
                commands.push(fields)?;
                count += 1;
                if count == PIPELINE {
                    commands.ends.push((commands.bytes.len(), count));
                    count = 0;
                }
            }
        }
        if count > 0 {
            commands.ends.push((commands.bytes.len(), count));
        }
        Ok(commands)
    }

    pub fn len(&self) -> usize {
        self.ends.iter().map(|(_, count)| count).sum()
    }

    fn push(&mut self, fields: &[Value]) -> std::io::Result<()> {
        write!(self.bytes, "*{}\r\n$4\r\nXADD\r\n", fields.len() + 3)?;
        self.push_text(STREAM.as_bytes())?;
        self.push_text(b"*")?;
        for field in fields {
            if let Value::BulkString(text) = field {
                self.push_text(text)?;
            }
        }
        Ok(())
    }

    fn push_text(&mut self, text: &[u8]) -> std::io::Result<()> {
        write!(self.bytes, "${}\r\n", text.len())?;
        self.bytes.extend_from_slice(text);
        self.bytes.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// The floor of the sink: the same entries by pipelined XADD from a bare socket, encoded
/// beforehand.
pub async fn sink(scene: &mut Scene, commands: &Commands) -> Result<f64, Box<dyn Error>> {
    scene.settle().await?;
    let mut socket = TcpStream::connect(("127.0.0.1", scene.redis.port()))?;
    socket.set_nodelay(true)?;
    let mut replies = BufReader::new(socket.try_clone()?);
    let began = Instant::now();
    let mut from = 0;
    let mut awaited = std::collections::VecDeque::new();
    for &(end, count) in &commands.ends {
        if awaited.len() == IN_FLIGHT {
            read_replies(&mut replies, awaited.pop_front().unwrap_or_default())?;
        }
        socket.write_all(commands.bytes.get(from..end).unwrap_or_default())?;
        awaited.push_back(count);
        from = end;
    }
    for count in awaited {
        read_replies(&mut replies, count)?;
    }
    let seconds = began.elapsed().as_secs_f64();
    scene.until_published(&[STREAM.to_owned()], commands.len(), Duration::ZERO).await?;
    Ok(seconds)
}

/// Each reply is an entry id of two lines; anything else is an error.
fn read_replies(replies: &mut impl Read, count: usize) -> Result<(), Box<dyn Error>> {
    let mut lines = 0;
    let mut byte = [0];
    while lines < 2 * count {
        replies.read_exact(&mut byte)?;
        match byte {
            [b'\n'] => lines += 1,
            [b'-'] if lines % 2 == 0 => return Err("Redis refuses an XADD".into()),
            _ => {}
        }
    }
    Ok(())
}
