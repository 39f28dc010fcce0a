//! What of the bench is to run, and how much of it, by the environment.
//!
//! In: ONLY with names and commas, and numbers. Out: parts, numbers; an error for what is neither.

use std::error::Error;

/// What can be measured by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Throughput,
    Polling,
    Producers,
    Transaction,
    Latency,
    Footprint,
    Recovery,
    Emit,
    Instructions,
    /// Not a part of the usual run: `make bench-growth`.
    Growth,
    /// Neither.
    Shards,
}

const NAMES: [(&str, Part); 11] = [
    ("throughput", Part::Throughput),
    ("polling", Part::Polling),
    ("producers", Part::Producers),
    ("transaction", Part::Transaction),
    ("latency", Part::Latency),
    ("footprint", Part::Footprint),
    ("recovery", Part::Recovery),
    ("emit", Part::Emit),
    ("instructions", Part::Instructions),
    ("growth", Part::Growth),
    ("shards", Part::Shards),
];

/// Those that are to run.
pub struct Parts(Vec<Part>);

impl Parts {
    pub fn from_environment() -> Result<Self, Box<dyn Error>> {
        let text = std::env::var("ONLY").unwrap_or_default();
        if text.is_empty() {
            let usual = NAMES.iter().map(|(_, part)| *part);
            let usual = usual.filter(|part| !matches!(part, Part::Growth | Part::Shards));
            return Ok(Self(usual.collect()));
        }
        let mut parts = Vec::new();
        for name in text.split(',') {
            let known = NAMES.iter().find(|(known, _)| *known == name);
            let names = NAMES.map(|(name, _)| name).join(", ");
            let (_, part) = known.ok_or_else(|| format!("ONLY={text}: some of {names}, please"))?;
            parts.push(*part);
        }
        Ok(Self(parts))
    }

    pub fn has(&self, part: Part) -> bool {
        self.0.contains(&part)
    }

    /// Instructions are counted without servers, and shards have servers of their own.
    pub fn need_the_scene(&self) -> bool {
        self.0.iter().any(|part| !matches!(part, Part::Instructions | Part::Shards))
    }

    pub fn has_any(&self, parts: &[Part]) -> bool {
        parts.iter().any(|part| self.has(*part))
    }
}

/// A number from the environment.
pub fn number(name: &str, default: usize) -> Result<usize, Box<dyn Error>> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => match text.parse() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(format!("{name}={text}: a number above 0, please").into()),
        },
        _ => Ok(default),
    }
}
