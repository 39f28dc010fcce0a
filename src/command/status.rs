//! `walrelay status`: what the relay does and how far it is, from itself or else from the servers.
//!
//! In: settings, and what was asked. Out: a table, an object, or one look after the other. It must
//! stay true that it changes nothing, that it says so where no relay answered, and that it goes on
//! watching while everything is away.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use secrecy::SecretString;
use tokio::time::Instant;

use super::health::reachable;
use super::status_report::{Rates, Report};
use super::status_servers;
use super::status_view::View;
use super::terminal::{put, remark};
use crate::cli::StatusOptions;
use crate::config::{self, AfterPublish, DatabaseUrl, Loaded, Outbox, Shards};
use crate::error::{EXIT_FAILURE, EXIT_OK, Error, Result};
use crate::outbox::moment;
use crate::shutdown::Interrupt;
use crate::telemetry;

/// Longer than any answer from memory takes, and short enough to wait for.
const PAGE_TIMEOUT: Duration = Duration::from_secs(2);
/// Between the two looks that make a rate, at a relay that tells none.
const RATE_PAUSE: Duration = Duration::from_millis(500);
/// Between two looks of --watch.
const WATCH_MIN: Duration = Duration::from_millis(100);
const WATCH_MAX: Duration = Duration::from_secs(86_400);

/// Whose status: what the settings say.
pub struct Subject {
    /// The table's section, where there are sections.
    section: Option<String>,
    page: SocketAddr,
    pub(super) database: Option<DatabaseUrl>,
    pub(super) redis: Option<SecretString>,
    pub(super) connect_timeout: Duration,
    pub(super) redis_timeout: Duration,
    pub(super) table: Outbox,
    pub(super) slot: String,
    pub(super) shards: Shards,
    pub(super) stream: String,
    pub(super) after_publish: AfterPublish,
}

impl Subject {
    /// Neither URL must be set: a relay can be asked without them.
    pub fn new(loaded: &Loaded) -> Result<Self> {
        let (address, port) = loaded.http()?;
        let (table, _, slot) = loaded.names()?;
        Ok(Self {
            section: loaded.table().map(str::to_owned),
            page: SocketAddr::new(reachable(address), port),
            database: loaded.database_url().ok(),
            redis: loaded.redis_url().ok(),
            connect_timeout: loaded.duration("connect_timeout")?,
            redis_timeout: loaded.duration("redis_timeout")?,
            table,
            slot,
            shards: loaded.shards()?,
            stream: loaded.stream_name()?,
            after_publish: loaded.after_publish()?,
        })
    }

    /// The number of each shard, where there are several, and its slot.
    pub(super) fn slots(&self) -> Vec<(Option<u8>, String)> {
        let number = |shard: config::Shard| (!shard.is_whole()).then_some(shard.number);
        self.shards.all().map(|shard| (number(shard), shard.name(&self.slot))).collect()
    }

    /// One look.
    async fn look(&self, url: Option<&str>) -> Report {
        let mut report = Box::pin(self.look_anywhere(url)).await;
        report.section.clone_from(&self.section);
        report
    }

    async fn look_anywhere(&self, url: Option<&str>) -> Report {
        let no_answer = match self.ask_relay(url).await {
            Ok(mut report) => {
                // Who names a relay may mean one between other servers than the settings do.
                if url.is_none() {
                    report.see(status_servers::postgres(self, false).await);
                }
                return report;
            }
            Err(error) => error.to_string(),
        };
        let postgres = status_servers::postgres(self, true).await;
        let system = postgres.as_ref().ok().and_then(|facts| facts.system.clone());
        let redis = status_servers::redis(self, system.as_deref()).await;
        Report::of_servers(no_answer, postgres, redis)
    }

    async fn ask_relay(&self, url: Option<&str>) -> Result<Report> {
        let (address, base) = match url {
            Some(url) => (resolve(url).await?, url.trim_end_matches('/').to_owned()),
            None if self.page.port() == 0 => {
                return Err(Error::definite("http_port is 0: the relay serves no pages"));
            }
            None => (self.page, format!("http://{}", self.page)),
        };
        let path = telemetry::path_of("/status", self.section.as_deref());
        let (code, body) = telemetry::ask(address, &path, PAGE_TIMEOUT).await?;
        let no_relay = || Error::definite(format!("what answers at {base} is no walrelay"));
        if code == 404 && self.section.is_some() {
            return Err(Error::definite(format!("the relay at {base}: {}", body.trim())));
        }
        if code != 200 {
            return Err(no_relay());
        }
        let slots = self.slots();
        let slot = slots.first().map_or("", |(_, name)| name);
        Report::of_relay(&base, &body, slot).ok_or_else(no_relay)
    }
}

/// The address behind `http://HOST:PORT`.
async fn resolve(url: &str) -> Result<SocketAddr> {
    let authority = authority(url)?;
    let failed = || Error::definite(format!("--url {url:?}: cannot find {authority}"));
    let mut found =
        tokio::net::lookup_host(authority).await.map_err(|error| failed().because(error))?;
    found.next().ok_or_else(failed)
}

fn authority(url: &str) -> Result<&str> {
    let wrong = || {
        Error::usage(format!("--url {url:?} is no address of a relay"))
            .hint("http://HOST:PORT, such as http://127.0.0.1:8080")
    };
    let rest = url.trim().strip_prefix("http://").ok_or_else(wrong)?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let is_plain = path.is_empty() && !authority.contains('@') && !authority.starts_with(':');
    if is_plain && port.is_some_and(|port| port > 0) { Ok(authority) } else { Err(wrong()) }
}

/// Looks once, or until it is told to stop. The exit code: of several tables each must be well.
pub async fn run(all: &[Subject], asked: &StatusOptions, out: &mut impl Write) -> Result<u8> {
    let every = asked.watch.as_deref().map(interval).transpose()?;
    let url = asked.url.as_deref();
    url.map(authority).transpose()?;
    let view = View::new(asked.json, every);
    let Some(every) = every else {
        let mut reports = Vec::with_capacity(all.len());
        for subject in all {
            reports.push(look_with_rate(subject, url).await);
        }
        if let (Some(why), false) =
            (reports.iter().find_map(|report| report.no_answer.as_ref()), asked.json)
        {
            remark(&format!("{why}: this is what the servers say"));
        }
        put(out, &view.text(&reports, moment::now()))?;
        let is_well = reports.iter().all(|report| report.ok);
        return Ok(if is_well { EXIT_OK } else { EXIT_FAILURE });
    };
    let mut interrupt = Interrupt::listen()?;
    let watching = async {
        let mut before: Vec<Option<(Option<u64>, Instant)>> = vec![None; all.len()];
        loop {
            let began = Instant::now();
            let mut reports = Vec::with_capacity(all.len());
            for (subject, before) in all.iter().zip(&mut before) {
                let looked = Instant::now();
                let mut report = subject.look(url).await;
                if let (None, Some((published, at))) = (&report.rates, *before) {
                    fill_rate(&mut report, (published, looked - at));
                }
                *before = Some((report.published, looked));
                reports.push(report);
            }
            if !put(out, &view.text(&reports, moment::now()))? {
                return Ok(());
            }
            tokio::time::sleep_until(began + every).await;
        }
    };
    tokio::select! {
        ended = watching => ended?,
        () = interrupt.came() => {}
    }
    Ok(EXIT_OK)
}

/// One look, and another one where the relay is so old that it tells no rates.
async fn look_with_rate(subject: &Subject, url: Option<&str>) -> Report {
    let mut report = subject.look(url).await;
    if report.source == "relay" && report.rates.is_none() {
        tokio::time::sleep(RATE_PAUSE).await;
        let first = (report.published, RATE_PAUSE);
        report = subject.look(url).await;
        fill_rate(&mut report, first);
    }
    report
}

/// The rate between two looks, for a relay that tells none. One that began anew has none yet.
fn fill_rate(report: &mut Report, (before, elapsed): (Option<u64>, Duration)) {
    let (Some(now), Some(before)) = (report.published, before) else { return };
    let Some(new) = now.checked_sub(before) else { return };
    let new = f64::from(u32::try_from(new).unwrap_or(u32::MAX));
    let per_second = new / elapsed.as_secs_f64().max(0.001);
    report.rates = Some(Rates { per_second: Some(per_second), ..Rates::default() });
}

fn interval(text: &str) -> Result<Duration> {
    let wrong = |reason: &str| {
        Error::usage(format!("--watch {text:?} {reason}")).hint("seconds between two looks: 2, 0.5")
    };
    let every = config::duration(text).map_err(wrong)?;
    if (WATCH_MIN..=WATCH_MAX).contains(&every) {
        Ok(every)
    } else {
        Err(wrong("is not between 0.1 s and a day"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_relay_is_a_host_and_a_port() {
        for (url, host) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://[::1]:8080/", "[::1]:8080"),
            (" http://relay-2:80", "relay-2:80"),
        ] {
            assert_eq!(authority(url).unwrap(), host);
        }
        for url in [
            "",
            "relay:8080",
            "https://relay:8080",
            "http://relay",
            "http://relay:x",
            "http://relay:0",
            "http://:8080",
            "http://a@b:8080",
            "http://relay:8080/status",
        ] {
            let error = authority(url).unwrap_err();
            assert!(error.next_step().unwrap().contains("http://HOST:PORT"), "{url}");
        }
    }

    #[test]
    fn a_rate_is_told_of_two_looks_at_the_same_relay() {
        let rate = |before, now| {
            let mut report = Report { published: now, ..Report::default() };
            fill_rate(&mut report, (before, Duration::from_millis(500)));
            report.rates.and_then(|rates| rates.per_second).map(f64::round)
        };
        assert_eq!(rate(Some(100), Some(150)), Some(100.0));
        assert_eq!(rate(Some(100), Some(10)), None, "it began anew");
        assert_eq!(rate(None, Some(10)), None);
    }

    #[test]
    fn an_interval_is_neither_a_spin_nor_for_ever() {
        assert_eq!(interval("2").unwrap(), Duration::from_secs(2));
        assert_eq!(interval("500ms").unwrap(), Duration::from_millis(500));
        for text in ["0", "0.01", "2d", "x", ""] {
            let error = interval(text).unwrap_err();
            assert!(error.to_string().contains("--watch"), "{error}");
        }
    }
}
