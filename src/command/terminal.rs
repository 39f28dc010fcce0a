//! What a person at a terminal sees beside the answer: colour, and how far something long has got.
//!
//! In: counts. Out: one line on standard error that is written over on a terminal, a line now and
//! then elsewhere, and nothing at all for what is done within two seconds. It must stay true that
//! standard output holds the answer only, and that NO_COLOR (<https://no-color.org>) is honoured.

use std::env;
use std::io::{ErrorKind, IsTerminal, Write, stderr, stdout};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// What takes no longer than this needs no word.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two lines: on a terminal, and in a file.
const REDRAWN: Duration = Duration::from_millis(200);
const REPEATED: Duration = Duration::from_secs(10);

/// The colours that say something: fine, look here, act, beside the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Green,
    Yellow,
    Red,
    Dim,
}

/// Whether standard output takes colours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    is_coloured: bool,
}

impl Style {
    /// Of standard output: a terminal that can, and a user who did not decline.
    pub fn of_stdout() -> Self {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { is_coloured: stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb }
    }

    /// Without colours.
    #[cfg(test)]
    pub const PLAIN: Self = Self { is_coloured: false };

    /// The text in a colour, or as it is.
    pub fn paint(self, colour: Colour, text: &str) -> String {
        if !self.is_coloured {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Red => 31,
            Colour::Dim => 2,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Writes an answer, or a part of it. Whether anybody still reads: a reader who has seen enough
/// (`| head`) is no failure.
pub(super) fn put(out: &mut impl Write, text: &str) -> Result<bool> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::definite("cannot write to stdout").because(error)),
    }
}

/// What stands above the answer about one of several tables: its section, as in the file.
pub(super) fn heading(table: Option<&str>, is_first: bool) -> String {
    let between = if is_first { "" } else { "\n" };
    table.map_or_else(String::new, |table| format!("{between}[tables.{table}]\n"))
}

/// A word about the work, on standard error.
pub(super) fn remark(text: &str) {
    write(&format!("{text}\n"));
}

/// A question, on standard error: the answer is typed behind it.
pub(super) fn ask(question: &str) {
    write(question);
}

/// Does something that cannot say how far it has got. When it takes longer than a moment, `why` is
/// asked for what it may be waiting for, and that is said, now and then again.
pub(super) async fn patiently<T>(
    work: impl Future<Output = T>,
    why: impl AsyncFn() -> String,
) -> T {
    let began = Instant::now();
    let saying = async {
        tokio::time::sleep(PATIENCE).await;
        loop {
            let why = why().await;
            remark(&format!("{why} ({} so far)", clock(began.elapsed().as_secs())));
            tokio::time::sleep(REPEATED).await;
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        never = saying => never,
    }
}

/// How far something has got, told on standard error.
pub(super) struct Progress {
    what: &'static str,
    total: Option<u64>,
    began: Instant,
    told: Option<Instant>,
    is_terminal: bool,
}

impl Progress {
    /// Something begins. `what` is counted, such as "events"; `total` of them where that is known.
    pub fn new(what: &'static str, total: Option<u64>) -> Self {
        let is_terminal = stderr().is_terminal();
        Self { what, total, began: Instant::now(), told: None, is_terminal }
    }

    /// So many are done. Cheap enough to be called for each batch.
    pub fn reach(&mut self, done: u64) {
        self.reach_with(done, String::new);
    }

    /// The same, and what else there is to say, which is asked for only when a line is written.
    pub fn reach_with(&mut self, done: u64, more: impl FnOnce() -> String) {
        let now = Instant::now();
        let since = self.told.map_or(now - self.began, |told| now - told);
        let pause = match self.told {
            None => PATIENCE,
            Some(_) if self.is_terminal => REDRAWN,
            Some(_) => REPEATED,
        };
        if since < pause {
            return;
        }
        self.told = Some(now);
        let line = line(self.what, done, self.total, now - self.began) + &more();
        write(&if self.is_terminal { format!("\r\x1b[K{line}") } else { line + "\n" });
    }

    /// Nothing is under way any more: the answer follows.
    pub fn end(self) {
        if self.is_terminal && self.told.is_some() {
            write("\r\x1b[K");
        }
    }
}

fn write(text: &str) {
    let mut stderr = stderr().lock();
    // Nobody looks: the work goes on all the same.
    let _unseen = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

fn line(what: &str, done: u64, total: Option<u64>, elapsed: Duration) -> String {
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = done.saturating_mul(1_000) / millis;
    let Some(total) = total.filter(|total| *total > 0) else {
        return format!("{done} {what}, {rate}/s");
    };
    let percent = done.min(total).saturating_mul(100) / total;
    let left = match total.saturating_sub(done).checked_div(rate) {
        Some(seconds) => format!("{} left", clock(seconds)),
        None => "waiting".to_owned(),
    };
    format!("{done} of {total} {what} ({percent} %), {rate}/s, {left}")
}

/// Seconds as 59s, 3m20s or 2h05m.
pub(super) fn clock(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// Bytes as 512 B, 1.5 kB or 20.0 GB, of 1,024 each as PostgreSQL counts them.
pub(super) fn amount(bytes: u64) -> String {
    let units = [(1_u64 << 40, "TB"), (1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB")];
    match units.into_iter().find(|(size, _)| bytes >= *size) {
        None => format!("{bytes} B"),
        Some((size, unit)) => {
            format!("{}.{} {unit}", bytes / size, bytes % size * 10 / size)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_much_how_fast_and_how_long() {
        let after = Duration::from_secs(10);
        let told = |done, total| line("events", done, total, after);
        assert_eq!(told(20_000, Some(50_000)), "20000 of 50000 events (40 %), 2000/s, 15s left");
        assert_eq!(told(20_000, None), "20000 events, 2000/s");
        assert_eq!(told(0, Some(9)), "0 of 9 events (0 %), 0/s, waiting");
        assert_eq!(told(12, Some(9)), "12 of 9 events (100 %), 1/s, 0s left", "it grew meanwhile");
        assert_eq!([0, 59, 60, 200, 7_500].map(clock), ["0s", "59s", "1m00s", "3m20s", "2h05m"]);
    }

    #[test]
    fn amounts_are_short() {
        let told = [0, 1_023, 1_024, 1_536, (1 << 20) - 1, 1 << 20, 5 << 30, u64::MAX].map(amount);
        let short = ["0 B", "1023 B", "1.0 kB", "1.5 kB", "1023.9 kB", "1.0 MB", "5.0 GB"];
        assert_eq!(told[..7], short);
        assert_eq!(told[7], "16777215.9 TB");
    }

    #[test]
    fn colour_is_left_out_where_it_is_not_wanted() {
        let painted = |is_coloured| Style { is_coloured }.paint(Colour::Red, "FAILURE");
        assert_eq!(painted(false), "FAILURE");
        assert_eq!(painted(true), "\x1b[31mFAILURE\x1b[0m");
    }
}
