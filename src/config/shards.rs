//! Shards: how many lines share an outbox, and which of them run here.
//!
//! In: `shards` and `shard`. Out: [`Shards`] for the process, a [`Shard`] for each line, and the
//! names of what belongs to it. It must stay true that one line for all has the plain names, and
//! that shards of different numbers never share a name: what one slot has sent says nothing about
//! another division of the rows.

use std::fmt;

/// Most shards: each is a walsender that decodes all of the WAL.
pub const SHARDS_MAX: u8 = 16;
/// Bytes of a name in PostgreSQL.
const NAME_BYTES_MAX: usize = 63;

/// One of the lines that share an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 1.
    pub number: u8,
    /// How many there are.
    pub of: u8,
}

impl Shard {
    /// One line for all rows.
    pub const WHOLE: Self = Self { number: 1, of: 1 };

    /// Whether it is one line for all rows.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self.of <= 1
    }

    /// The shard whose slot bears this name, if `name` is made from `configured`.
    #[must_use]
    pub fn of_name(configured: &str, name: &str) -> Option<Self> {
        let rest = name.strip_prefix(configured)?;
        if rest.is_empty() {
            return Some(Self::WHOLE);
        }
        let (number, of) = rest.strip_prefix('_')?.split_once("of")?;
        let shard = Self { number: number.parse().ok()?, of: of.parse().ok()? };
        // As we write it, and no other way: a sign or zeros in front are not ours.
        let is_one = (1..=shard.of).contains(&shard.number);
        (is_one && shard.name(configured) == name).then_some(shard)
    }

    /// A regular expression for the slots of every other division. What is configured as a slot's
    /// name has no character that means anything in one.
    #[must_use]
    pub fn others(self, configured: &str) -> String {
        if self.is_whole() {
            return format!("^{configured}_[0-9]+of[0-9]+$");
        }
        format!("^{configured}(_[0-9]+of(?!{}$)[0-9]+)?$", self.of)
    }

    /// The name of its slot or publication, by the name that was configured.
    #[must_use]
    pub fn name(self, configured: &str) -> String {
        if self.is_whole() {
            return configured.to_owned();
        }
        format!("{configured}_{}of{}", self.number, self.of)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.number, self.of)
    }
}

/// The lines of an outbox, and those of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shards {
    of: u8,
    here: Vec<u8>,
}

impl Shards {
    /// From the number of shards and the list of those that run here; in words what is wrong.
    pub(super) fn parse(of: u8, here: &str) -> Result<Self, String> {
        let mut numbers = numbers(here)?;
        if numbers.is_empty() {
            numbers = (1..=of).collect();
        }
        match numbers.iter().find(|number| **number > of) {
            Some(number) => Err(format!("there is no shard {number} among {of}")),
            None => Ok(Self { of, here: numbers }),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn of(&self) -> u8 {
        self.of
    }

    /// Whether one line takes all rows.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.of <= 1
    }

    /// Every one of them.
    pub fn all(&self) -> impl Iterator<Item = Shard> + use<> {
        let of = self.of;
        (1..=of).map(move |number| Shard { number, of })
    }

    /// Those that run in this process, in order.
    pub fn here(&self) -> impl Iterator<Item = Shard> {
        self.here.iter().map(|number| Shard { number: *number, of: self.of })
    }

    /// What is wrong with a configured name: the longest of those made from it does not fit.
    pub(super) fn complaint(&self, configured: &str) -> Option<String> {
        let longest = Shard { number: self.of, of: self.of }.name(configured);
        (longest.len() > NAME_BYTES_MAX).then(|| {
            format!("{longest:?} is longer than {NAME_BYTES_MAX} bytes, as the last shard's name")
        })
    }
}

/// Numbers with commas between them, sorted; none for `all`.
pub(super) fn numbers(text: &str) -> Result<Vec<u8>, String> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("all") {
        return Ok(Vec::new());
    }
    let number = |word: &str| match word.trim().parse() {
        Ok(number @ 1..=SHARDS_MAX) => Ok(number),
        Ok(_) | Err(_) => Err(format!("{:?} is no number from 1 to {SHARDS_MAX}", word.trim())),
    };
    let mut numbers = text.split(',').map(number).collect::<Result<Vec<u8>, String>>()?;
    numbers.sort_unstable();
    let before = numbers.len();
    numbers.dedup();
    if numbers.len() < before { Err("names a shard twice".to_owned()) } else { Ok(numbers) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_all_keeps_the_plain_names_and_no_two_divisions_share_one() {
        assert_eq!(Shard::WHOLE.name("walrelay"), "walrelay");
        let mut names: Vec<String> = (1..=SHARDS_MAX)
            .flat_map(|of| Shards::parse(of, "all").unwrap().all().collect::<Vec<_>>())
            .map(|shard| shard.name("s"))
            .collect();
        assert!(names.contains(&"s_2of4".to_owned()));
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!((names.len(), all), (136, 136));
    }

    #[test]
    fn a_slot_is_known_by_its_name() {
        let of = |name: &str| Shard::of_name("s", name);
        assert_eq!(of("s"), Some(Shard::WHOLE));
        assert_eq!(of("s_2of4"), Some(Shard { number: 2, of: 4 }));
        for name in [
            "s_5of4",
            "s_0of4",
            "s_1of1",
            "s_02of4",
            "s_2of4_0f",
            "t_2of4",
            "s2of4",
            "s_b",
            "s_b_1of2",
        ] {
            assert_eq!(of(name), None, "{name}");
        }
    }

    #[test]
    fn a_list_names_shards_that_are_there_each_once() {
        let here = |of, text: &str| {
            let shards = Shards::parse(of, text)?;
            Ok::<_, String>(shards.here().map(|shard| shard.number).collect::<Vec<_>>())
        };
        assert_eq!(here(3, "all"), Ok(vec![1, 2, 3]));
        assert_eq!(here(4, " 3, 1 "), Ok(vec![1, 3]));
        assert_eq!(here(1, "1"), Ok(vec![1]));
        for text in ["", "0", "5", "1,1", "1,,2", "1;2", "-1", "17", "one"] {
            assert!(here(4, text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_that_become_too_long_are_told() {
        let shards = Shards::parse(16, "all").unwrap();
        assert_eq!(shards.complaint(&"x".repeat(56)), None);
        assert!(shards.complaint(&"x".repeat(57)).is_some());
        assert_eq!(Shards::parse(1, "all").unwrap().complaint(&"x".repeat(63)), None);
    }
}
