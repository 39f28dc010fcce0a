//! A look as a person reads it: what is wrong stands out, and what is fine is short.
//!
//! In: a [`Report`]. Out: a table, a line, or JSON. It must stay true that what is not known is a
//! dash, and that nothing in it moves the cursor: errors and names come from outside.

use std::fmt::Write as _;
use std::io::{IsTerminal, stdout};
use std::time::Duration;

use super::status_report::{Line, Report, Stream, is_fine};
use super::status_servers::who;
use super::table::{Table, printable, width};
use super::terminal::{Colour, Style, amount, clock, heading};
use crate::outbox::moment::to_the_second;

/// To the top left; to the end of the line; to the end of the screen.
const HOME: &str = "\x1b[H";
const END_OF_LINE: &str = "\x1b[K\n";
const END_OF_SCREEN: &str = "\x1b[J";

/// A lag of so many seconds is looked at, and of so many acted upon.
const LAG_YELLOW: f64 = 5.0;
const LAG_RED: f64 = 60.0;
/// Less WAL than this before the slot is lost.
const SAFE_BYTES_RED: i64 = 256 << 20;

const LINE_HEADS: [&str; 8] =
    ["SLOT", "STATE", "FOR", "EVENTS", "SECONDS", "BEHIND", "WAL KEPT", "HELD BY"];
const LINE_CUTS: [(usize, usize); 2] = [(7, 12), (0, 12)];
const LSN_HEADS: [&str; 6] =
    ["SLOT", "CONFIRMED", "SETTLED", "PUBLISHED", "RECEIVED", "POSTGRESQL"];
const SERVER_LSN_HEADS: [&str; 6] =
    ["SLOT", "RESTART", "CONFIRMED", "IN REDIS", "POSTGRESQL", "SAFE FOR"];
const STREAM_HEADS: [&str; 5] = ["STREAM", "ENTRIES", "LAST ENTRY", "AGO", "CHECKPOINT"];
const PUBLISHED_HEADS: [&str; 2] = ["STREAM", "PUBLISHED"];
const NO_CUTS: [(usize, usize); 1] = [(0, 12)];

/// How looks are shown.
pub(super) struct View {
    json: bool,
    every: Option<Duration>,
    is_terminal: bool,
    style: Style,
}

impl View {
    pub fn new(json: bool, every: Option<Duration>) -> Self {
        Self { json, every, is_terminal: stdout().is_terminal(), style: Style::of_stdout() }
    }

    /// What is written of one look at each table, at `now`.
    pub fn text(&self, reports: &[Report], now: i64) -> String {
        match self.every {
            _ if self.json => reports.iter().map(|report| json(report, now)).collect(),
            None => self.all(reports),
            Some(_) if !self.is_terminal => {
                reports.iter().map(|report| line(report, now)).collect()
            }
            Some(every) => {
                let every = every.as_secs_f64();
                let foot = format!("{}, every {every} s; Ctrl-C ends", to_the_second(now));
                let text = format!("{}\n{}\n", self.all(reports), self.dim(&foot));
                format!("{HOME}{}{END_OF_SCREEN}", text.replace('\n', END_OF_LINE))
            }
        }
    }

    fn dim(&self, text: &str) -> String {
        self.style.paint(Colour::Dim, text)
    }

    fn all(&self, reports: &[Report]) -> String {
        let of_table = |(at, report): (usize, &Report)| {
            heading(report.section.as_deref(), at == 0) + &self.whole(report)
        };
        reports.iter().enumerate().map(of_table).collect()
    }

    fn whole(&self, report: &Report) -> String {
        let mut page = Page { text: String::new(), style: self.style };
        page.head(report);
        page.numbers(report);
        page.trouble(report);
        page.text.push('\n');
        page.text += &self.lines(report);
        if !report.streams.is_empty() {
            page.text.push('\n');
            page.text += &self.streams(report);
        }
        page.text
    }

    fn lines(&self, report: &Report) -> String {
        if report.lines.is_empty() {
            return String::new();
        }
        let mut table = Table::new(&LINE_HEADS, &LINE_CUTS);
        for line in &report.lines {
            let holder = line.held_by.as_ref().map_or_else(|| "-".to_owned(), who);
            table.add_in(
                colour_of_line(line),
                &[
                    &line.slot,
                    &line.state,
                    &line.state_seconds.map_or_else(dash, clock),
                    &or_dash(line.lag.events),
                    &line.lag.seconds.map_or_else(dash, |seconds| format!("{seconds:.1}")),
                    &line.behind_bytes.or(line.lag.bytes).map_or_else(dash, amount),
                    &line.kept_bytes.map_or_else(dash, amount),
                    &holder,
                ],
            );
        }
        let is_relay = report.source == "relay";
        let heads = if is_relay { &LSN_HEADS } else { &SERVER_LSN_HEADS };
        let mut positions = Table::new(heads, &NO_CUTS);
        let current = report.current_lsn.clone();
        for line in &report.lines {
            let safe = line.safe_bytes.map(|bytes| match u64::try_from(bytes) {
                Ok(bytes) => amount(bytes),
                Err(_) => "nothing".to_owned(),
            });
            let Line { slot, restart, confirmed, settled, published, received, .. } = line;
            let cells = if is_relay {
                [confirmed, settled, published, received, &current].map(Clone::clone)
            } else {
                let safe = safe.or_else(|| restart.is_some().then(|| "ever".to_owned()));
                [restart.clone(), confirmed.clone(), published.clone(), current.clone(), safe]
            };
            let cells = cells.map(|cell| cell.unwrap_or_else(dash));
            let mut row = vec![slot.as_str()];
            row.extend(cells.iter().map(String::as_str));
            positions.add(&row);
        }
        table.styled(width(), self.style) + "\n" + &positions.styled(width(), self.style)
    }

    fn streams(&self, report: &Report) -> String {
        if report.source == "relay" {
            let mut table = Table::new(&PUBLISHED_HEADS, &NO_CUTS);
            for Stream { name, published, .. } in &report.streams {
                table.add(&[name, &or_dash(*published)]);
            }
            return table.styled(width(), self.style);
        }
        let mut table = Table::new(&STREAM_HEADS, &NO_CUTS);
        for of in &report.streams {
            let checkpoint = match (&of.checkpoint, &of.slot) {
                (Some(checkpoint), Some(slot)) => format!("{checkpoint} of {slot}"),
                _ => dash(),
            };
            let age = of.last_age_seconds.map_or_else(dash, |seconds| clock(whole(seconds)));
            let last = of.last_id.clone().unwrap_or_else(dash);
            table.add(&[&of.name, &or_dash(of.entries), &last, &age, &checkpoint]);
        }
        table.styled(width(), self.style)
    }
}

/// Lines with a word in front.
struct Page {
    text: String,
    style: Style,
}

impl Page {
    fn add(&mut self, what: &str, value: &str) {
        // A String takes everything.
        let _always = writeln!(self.text, "{what:<11} {value}");
    }

    /// Something from outside.
    fn add_foreign(&mut self, what: &str, colour: Option<Colour>, value: &str) {
        let value = printable(value);
        let value =
            colour.map_or_else(|| value.to_string(), |colour| self.style.paint(colour, &value));
        self.add(what, &value);
    }

    fn head(&mut self, report: &Report) {
        let state = self.style.paint(colour_of(&report.state), &printable(&report.state));
        let since = report.state_seconds.map(|seconds| format!(" for {}", clock(seconds)));
        let mut words = vec![format!("{state}{}", since.unwrap_or_default())];
        if !matches!(report.role, "none" | "unknown") {
            words.push(report.role.to_owned());
        }
        words.extend(report.mode.as_ref().map(|mode| format!("mode {}", printable(mode))));
        words.extend(report.mode_reason.as_ref().map(|why| printable(why).into_owned()));
        self.add("state", &words.join(", "));
        if let Some(why) = &report.no_answer {
            self.add_foreign("relay", Some(Colour::Yellow), &format!("{why}; from the servers:"));
        } else {
            let version = report.version.as_deref().unwrap_or("?");
            let up = report.uptime_seconds.map_or_else(dash, clock);
            let url = report.url.as_deref().unwrap_or("?");
            self.add_foreign("relay", None, &format!("walrelay {version} at {url}, up {up}"));
        }
        for (name, server) in [("postgresql", &report.postgres), ("redis", &report.redis)] {
            if let Some(at) = &server.at {
                self.add_foreign(name, None, at);
            }
            if let Some(error) = &server.error {
                self.add_foreign(name, Some(Colour::Yellow), error);
            }
        }
        if let (Some(table), Some(stream)) = (&report.table, &report.stream) {
            let after = report.after_publish.as_deref().unwrap_or("?");
            let durability = report.durability.as_deref().unwrap_or("?");
            let mut text = format!("{table} to {stream}, {after}, durability {durability}");
            if let Some(rate) = report.max_rate {
                let _always = write!(text, ", at most {rate}/s");
            }
            self.add_foreign("outbox", None, &text);
        }
    }

    fn numbers(&mut self, report: &Report) {
        let lag = &report.lag;
        let seconds = lag.seconds.map(|seconds| {
            let text = format!("{seconds:.1} s");
            self.style.paint(colour_of_lag(seconds), &text)
        });
        let events = or_dash(lag.events);
        let bytes = lag.bytes.map_or_else(dash, amount);
        let seconds = seconds.unwrap_or_else(dash);
        self.add("lag", &format!("{events} events, {seconds}, {bytes} of WAL"));
        if let Some(rates) = &report.rates {
            let named = [
                (rates.per_second, ""),
                (rates.per_second_10s, " over 10 s"),
                (rates.per_second_1m, " over 1 min"),
                (rates.per_second_5m, " over 5 min"),
            ];
            let told = named.iter().filter_map(|(rate, over)| Some((rate.as_ref()?, over)));
            let mut told: Vec<String> =
                told.map(|(rate, over)| format!("{rate:.1}/s{over}")).collect();
            told.extend(report.published.map(|events| format!("{events} events since it began")));
            self.add("rate", &told.join(", "));
        }
        if let Some(heartbeat) = &report.heartbeat {
            let trip = heartbeat.round_trip_seconds;
            let trip = trip.map_or_else(dash, |seconds| format!("{:.1} ms", seconds * 1_000.0));
            let age = heartbeat.age_seconds.map_or_else(dash, |seconds| clock(whole(seconds)));
            self.add("heartbeat", &format!("{trip} from PostgreSQL to Redis, {age} ago"));
        }
        self.rows(report);
        if let Some(backlog) = &report.backlog {
            let left = backlog.seconds_left.map_or_else(dash, clock);
            let (done, rows) = (or_dash(backlog.done), or_dash(backlog.rows));
            self.add(
                "snapshot",
                &format!("{done} of {rows} rows from before the slot, {left} left"),
            );
        }
    }

    fn rows(&mut self, report: &Report) {
        let rows = &report.rows;
        let count = |page: &Self, rows: Option<u64>, name: &str, colour: Colour| {
            let text = format!("{} {name}", or_dash(rows));
            if rows.is_some_and(|rows| rows > 0) { page.style.paint(colour, &text) } else { text }
        };
        let mut told = vec![
            count(self, rows.parked, "parked", Colour::Yellow),
            count(self, rows.due, "due", Colour::Yellow),
            count(self, rows.dead, "dead", Colour::Red),
        ];
        if report.source == "servers" {
            let mut text = format!("{} not published", or_dash(rows.unpublished));
            if let Some(seconds) = rows.oldest_unpublished_seconds {
                let _always = write!(text, " (the oldest for {})", clock(whole(seconds)));
            }
            told.insert(0, text);
        }
        self.add("rows", &told.join(", "));
        if let Some(error) = &rows.error {
            self.add_foreign("", Some(Colour::Yellow), error);
        }
    }

    fn trouble(&mut self, report: &Report) {
        if let Some(circuit) = report.circuit.as_ref().filter(|circuit| circuit.is_open) {
            let error = circuit.error.as_deref().unwrap_or("?");
            let since = circuit.since_unix_seconds.and_then(|since| i64::try_from(since).ok());
            let since = since.map(|since| to_the_second(since.saturating_mul(1_000_000)));
            let text = format!("open since {}: {error}", since.unwrap_or_else(dash));
            self.add_foreign("circuit", Some(Colour::Red), &text);
        } else if report.circuit.is_some() {
            self.add("circuit", "closed");
        }
        let letters = report.circuit.as_ref().and_then(|circuit| circuit.dead_letter_error.clone());
        if let Some(error) = letters {
            self.add_foreign("dlq", Some(Colour::Red), &error);
        }
        let Some(error) = &report.last_error else {
            if report.source == "relay" {
                self.add("last error", "none");
            }
            return;
        };
        let when = error.unix_seconds.map(|at| to_the_second(at.saturating_mul(1_000_000)));
        let text = format!("{} {}", when.unwrap_or_default(), error.error);
        // One that is over is history.
        let colour = if is_fine(&report.state) { None } else { Some(Colour::Red) };
        self.add_foreign("last error", colour, &text);
        if let Some(hint) = &error.hint {
            self.add_foreign("", None, &format!("hint: {hint}"));
        }
    }
}

fn json(report: &Report, now: i64) -> String {
    #[derive(serde::Serialize)]
    struct Dated<'a> {
        at: String,
        #[serde(flatten)]
        report: &'a Report,
    }
    let dated = Dated { at: to_the_second(now), report };
    // Text and numbers: there is nothing in it that JSON cannot say.
    serde_json::to_string(&dated).unwrap_or_default() + "\n"
}

/// All that matters in one line, for logs.
fn line(report: &Report, now: i64) -> String {
    let (lag, rows) = (&report.lag, &report.rows);
    let mut text = to_the_second(now);
    if let Some(section) = &report.section {
        let _always = write!(text, " [tables.{section}]");
    }
    let _always = write!(text, " {}", report.state);
    if let Some(seconds) = report.state_seconds {
        let _always = write!(text, " for {}", clock(seconds));
    }
    let seconds = lag.seconds.map_or_else(dash, |seconds| format!("{seconds:.1}"));
    let _always = write!(
        text,
        ", {}, lag {} events {seconds} s {}, parked {}, due {}, dead {}",
        report.role,
        or_dash(lag.events),
        lag.bytes.map_or_else(dash, amount),
        or_dash(rows.parked),
        or_dash(rows.due),
        or_dash(rows.dead),
    );
    let rate = report.rates.as_ref().and_then(|rates| rates.per_second.or(rates.per_second_10s));
    if let Some(rate) = rate {
        let _always = write!(text, ", {rate:.1}/s");
    }
    let last_error = report.last_error.as_ref().map(|error| &error.error);
    let troubles = [
        report.no_answer.as_ref(),
        report.postgres.error.as_ref(),
        report.redis.error.as_ref(),
        last_error.filter(|_| !is_fine(&report.state)),
    ];
    for trouble in troubles.into_iter().flatten() {
        let _always = write!(text, "; {trouble}");
    }
    printable(&text).into_owned() + "\n"
}

fn colour_of(state: &str) -> Colour {
    match state {
        state if is_fine(state) => Colour::Green,
        "connecting" | "snapshot" | "draining" | "working" | "idle" => Colour::Yellow,
        _ => Colour::Red,
    }
}

fn colour_of_lag(seconds: f64) -> Colour {
    match seconds {
        seconds if seconds >= LAG_RED => Colour::Red,
        seconds if seconds >= LAG_YELLOW => Colour::Yellow,
        _ => Colour::Green,
    }
}

/// A slot that is in danger is red, whoever reads it.
fn colour_of_line(line: &Line) -> Option<Colour> {
    let is_short = line.safe_bytes.is_some_and(|bytes| bytes < SAFE_BYTES_RED);
    let is_losing = matches!(line.wal_status.as_deref(), Some("unreserved" | "lost"));
    if line.lost.is_some() || is_short || is_losing {
        return Some(Colour::Red);
    }
    match line.state.as_str() {
        "held" => None,
        "left over" => Some(Colour::Yellow),
        state => Some(colour_of(state)).filter(|colour| *colour != Colour::Green),
    }
}

fn dash() -> String {
    "-".to_owned()
}

fn or_dash(count: Option<u64>) -> String {
    count.map_or_else(dash, |count| count.to_string())
}

fn whole(seconds: f64) -> u64 {
    Duration::try_from_secs_f64(seconds).map_or(0, |seconds| seconds.as_secs())
}
