//! What was done in a run and when; told when the run failed.
//!
//! In: faults as they come, and the logs of relays that ended. Out: their counts, and the lines
//! around a moment. It must stay true that a failed run says how to repeat it, wherever it failed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::Run;
use crate::plan::Fault;

/// Faults this long before or after an entry may have to do with it.
const AROUND_MS: u64 = 6_000;

/// The log of a run.
pub struct History {
    run: Run,
    began: u64,
    lines: Vec<(u64, String)>,
    counts: BTreeMap<String, usize>,
    lives: Vec<(String, String)>,
}

/// Milliseconds since 1970, as Redis gives them to its entries.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    u64::try_from(since.as_millis()).expect("a clock before the end of time")
}

impl History {
    /// Nothing happened yet.
    pub fn new(run: Run) -> Self {
        let (lines, counts, lives) = (Vec::new(), BTreeMap::new(), Vec::new());
        Self { run, began: now(), lines, counts, lives }
    }

    /// A fault comes.
    pub fn fault(&mut self, fault: Fault, whom: &str) {
        *self.counts.entry(fault.to_string()).or_default() += 1;
        self.note(format!("{fault} {whom}"));
    }

    /// Anything else worth knowing.
    pub fn note(&mut self, line: String) {
        self.lines.push((now(), line));
    }

    /// What a relay printed in a life that has ended.
    pub fn life(&mut self, relay: &str, output: String) {
        let number = self.lives.len() + 1;
        self.lives.push((format!("{number:03}-relay-{relay}.log"), output));
    }

    /// How many faults came.
    pub fn faults(&self) -> usize {
        self.counts.values().sum()
    }

    /// How many came of each kind.
    pub fn counts(&self) -> String {
        let lines = self.counts.iter().map(|(kind, count)| format!("{count:>6}  {kind}\n"));
        lines.collect()
    }

    /// A moment as minutes, seconds and milliseconds of this run.
    pub fn clock(&self, at: u64) -> String {
        let ms = at.saturating_sub(self.began);
        format!("{:02}:{:02}.{:03}", ms / 60_000, ms / 1_000 % 60, ms % 1_000)
    }

    /// What happened around a moment.
    pub fn around(&self, at: u64) -> String {
        let near = self.lines.iter().filter(|(when, _)| when.abs_diff(at) <= AROUND_MS);
        near.fold(String::new(), |mut text, (when, line)| {
            writeln!(text, "      {}  {line}", self.clock(*when)).ok();
            text
        })
    }

    fn save(&self, folder: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let lines = self.lines.iter().map(|(at, line)| format!("{} {line}\n", self.clock(*at)));
        std::fs::write(folder.join("faults.log"), lines.collect::<String>())?;
        self.lives.iter().try_for_each(|(name, text)| std::fs::write(folder.join(name), text))
    }
}

impl Drop for History {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        eprintln!("---- the faults of this run\n{}", self.counts());
        eprintln!("---- the last of them\n{}", self.around(now()));
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("chaos");
        let folder = folder.join(self.run.seed.to_string());
        if self.save(&folder).is_ok() {
            eprintln!("---- all of them, and the relays' logs: {}", folder.display());
        }
        eprintln!("---- the same plan again: {}", self.run);
    }
}
