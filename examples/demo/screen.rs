//! What the demo looks like: aligned lines, coloured on a terminal, plain text anywhere else.
//!
//! In: facts. Out: lines on stdout. It must stay true that no escape sequence reaches a pipe or a
//! terminal that asked for none (`NO_COLOR`). Not here: what is shown, and when.

use std::io::{IsTerminal, Stdout, Write, stdout};
use std::time::{Duration, Instant};

use crate::figures::human;

/// What a piece of text means; the terminal's own palette decides how that looks.
#[derive(Clone, Copy)]
pub enum Tone {
    Plain,
    Strong,
    Faint,
    Good,
    Slow,
    Bad,
}

/// Stdout, and when the demo began.
pub struct Screen {
    out: Stdout,
    coloured: bool,
    began: Instant,
}

/// One event as a line of the table.
pub struct Line<'a> {
    pub event_type: &'a str,
    pub aggregate_id: &'a str,
    pub email: &'a str,
    pub latency: Duration,
}

impl Screen {
    pub fn new() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let out = stdout();
        Self { coloured: out.is_terminal() && !refused, out, began: Instant::now() }
    }

    /// A reader that closed the pipe (`| head`) is no reason to stop half way: the verdict is in
    /// the exit code, and what was started must be stopped in order.
    pub fn line(&self, text: &str) {
        writeln!(self.out.lock(), "{text}").ok();
    }

    pub fn paint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Strong => "1",
            Tone::Faint => "2",
            Tone::Good => "32",
            Tone::Slow => "33",
            Tone::Bad => "1;31",
        };
        if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub fn heading(&self, text: &str) {
        self.line("");
        self.line(&format!("  {}", self.paint(Tone::Strong, text)));
    }

    /// Something that is up now.
    pub fn ready(&self, what: &str, detail: &str) {
        let mark = self.paint(Tone::Good, "✔");
        self.line(&format!("  {mark} {what:<17} {}", self.paint(Tone::Faint, detail)));
    }

    pub fn table_head(&self) {
        let head = format!(
            "  {:>7}  {:<16}  {:<9}  {:<26}  {:>9}",
            "time", "event", "aggregate", "payload.email", "latency"
        );
        self.line("");
        self.line(&self.paint(Tone::Faint, &head));
    }

    pub fn event(&self, line: &Line<'_>) {
        let aggregate = line.aggregate_id.get(..8).unwrap_or(line.aggregate_id);
        let (tone, latency) = match line.latency.as_micros() {
            // The entry was there before the writer knew that its COMMIT had succeeded.
            0 => (Tone::Good, "at once".to_owned()),
            1..2_000 => (Tone::Good, human(line.latency)),
            2_000..20_000 => (Tone::Plain, human(line.latency)),
            _ => (Tone::Slow, human(line.latency)),
        };
        let latency = self.paint(tone, &format!("{latency:>9}"));
        self.line(&format!(
            "  {}  {:<16}  {aggregate:<9}  {:<26}  {latency}",
            self.clock(),
            line.event_type,
            line.email,
        ));
    }

    /// Something that happens beside the events.
    pub fn aside(&self, tone: Tone, text: &str) {
        self.line(&format!("  {}  {}", self.clock(), self.paint(tone, text)));
    }

    /// One row of the summary.
    pub fn total(&self, name: &str, value: &str, tone: Tone, remark: &str) {
        let value = self.paint(tone, &format!("{value:>9}"));
        self.line(format!("    {name:<24}{value}  {}", self.paint(Tone::Faint, remark)).trim_end());
    }

    pub fn latencies_head(&self) {
        let head = format!(
            "    {:<24}{:>9}  {:>9}  {:>9}  {:>7}",
            "commit to entry", "p50", "p99", "max", "events"
        );
        self.line("");
        self.line(&self.paint(Tone::Faint, &head));
    }

    pub fn latencies(&self, when: &str, [p50, p99, max]: &[String; 3], events: usize) {
        let p50 = self.paint(Tone::Strong, &format!("{p50:>9}"));
        self.line(&format!("    {when:<24}{p50}  {p99:>9}  {max:>9}  {events:>7}"));
    }

    fn clock(&self) -> String {
        let text = format!("{:>5.1} s", self.began.elapsed().as_secs_f64());
        self.paint(Tone::Faint, &text)
    }
}
