//! Whether the Redis user may do what the relay does: command by command, key by key.
//!
//! In: the user, the keys. Out: findings with the ACL line that is missing. It must stay true that
//! the server is asked and nothing is tried, and that the lists below are those of the README's
//! line: a test compares them.

use super::finding::{Finding, Level, on_redis};
use super::keys::Key;
use crate::config::{Durability, Settings};
use crate::sink::{self, Failure, Permission, Sink};

/// A command of the relay, as it is called; `KEY` stands for one of its keys.
type Call = &'static [&'static str];

/// What every relay calls.
const NEEDED: [Call; 16] = [
    &["evalsha", "x", "0"],
    &["script", "load", "x"],
    &["xadd", "KEY", "*", "f", "v"],
    &["xtrim", "KEY", "MAXLEN", "1"],
    &["type", "KEY"],
    &["hset", "KEY", "f", "v"],
    &["hincrby", "KEY", "f", "1"],
    &["hsetnx", "KEY", "f", "v"],
    &["hget", "KEY", "f"],
    &["hmget", "KEY", "f"],
    &["hdel", "KEY", "f"],
    &["hscan", "KEY", "0"],
    &["xrevrange", "KEY", "+", "-"],
    &["set", "KEY", "v"],
    &["time"],
    &["ping"],
];
/// What it can do without, at a price.
const WAITAOF: Call = &["waitaof", "0", "0", "0"];
const WAIT: Call = &["wait", "0", "0"];
const FACTS: [Call; 2] = [&["info"], &["config", "get", "x"]];
/// Commands of two words.
const CONTAINERS: [&str; 2] = ["script", "config"];
/// All keys of ours but the streams.
const OWN_KEYS: &str = "walrelay:";

/// As an ACL names it: `xadd`, `script|load`.
fn name(call: Call) -> String {
    match call {
        [container, sub, ..] if CONTAINERS.contains(container) => format!("{container}|{sub}"),
        [command, ..] => (*command).to_owned(),
        [] => String::new(),
    }
}

fn words(call: Call, key: &str) -> Vec<String> {
    let word = |word: &&str| if *word == "KEY" { key.to_owned() } else { (*word).to_owned() };
    call.iter().map(word).collect()
}

fn pattern(key: &str) -> String {
    if key.starts_with(OWN_KEYS) { format!("~{OWN_KEYS}*") } else { format!("~{key}") }
}

/// A list without repeats, in order, with a space in front of each.
fn joined(items: impl Iterator<Item = String>) -> String {
    let mut seen: Vec<String> = Vec::new();
    for item in items {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen.iter().flat_map(|item| [" ", item.as_str()]).collect()
}

/// What a user may be asked about.
pub(super) struct Acl<'a> {
    pub user: String,
    pub settings: &'a Settings,
    pub keys: &'a [Key],
}

impl Acl<'_> {
    pub async fn examine(&self, sink: &Sink) -> Result<Vec<Finding>, Failure> {
        let keys: Vec<Vec<String>> =
            self.keys.iter().map(|key| words(&["eval", "x", "1", "KEY"], &key.name)).collect();
        let keys = match sink.may(&keys).await {
            Ok(Some(keys)) => keys,
            Ok(None) => {
                return Ok(vec![self.on("").ok("not asked: that takes Redis 7.0")]);
            }
            Err(failure) if failure.code == "NOPERM" => return Ok(vec![self.without_eval()]),
            Err(failure) => return Err(failure),
        };
        // By a key that is allowed only the command decides.
        let by = self.keys.iter().zip(&keys).find(|(_, answer)| **answer == Permission::Allowed);
        let by = by.or(self.keys.iter().zip(&keys).next());
        let by = by.map(|(key, _)| key.name.as_str()).unwrap_or_default();
        let calls = self.calls();
        let asked: Vec<Vec<String>> = calls.iter().map(|(call, _)| words(call, by)).collect();
        let commands = sink.may(&asked).await?.unwrap_or_default();
        let denied: Vec<Denied> = calls
            .into_iter()
            .zip(commands)
            .filter(|(_, answer)| *answer == Permission::Denied)
            .map(|((call, level), _)| Denied {
                what: name(call),
                grant: format!("+{}", name(call)),
                level,
            })
            .chain(self.keys.iter().zip(keys).filter_map(|(key, answer)| {
                let level = if key.is_dead_letters { Level::Warning } else { Level::Failure };
                (answer == Permission::Denied).then(|| Denied {
                    what: format!("key {}", key.name),
                    grant: pattern(&key.name),
                    level,
                })
            }))
            .collect();
        Ok(self.judge(&denied))
    }

    fn on(&self, what: &str) -> super::finding::Subject {
        on_redis(format!("ACL of user {}{what}", self.user))
    }

    /// What is called under these settings, and how bad it is without.
    fn calls(&self) -> Vec<(Call, Level)> {
        let mut calls: Vec<(Call, Level)> =
            NEEDED.into_iter().map(|call| (call, Level::Failure)).collect();
        calls.extend(FACTS.map(|call| (call, Level::Warning)));
        match self.settings.durability {
            Durability::Memory => {}
            Durability::Fsync => calls.push((WAITAOF, Level::Warning)),
            Durability::Replica(_) => {
                calls.extend([(WAITAOF, Level::Warning), (WAIT, Level::Failure)]);
            }
        }
        calls
    }

    fn judge(&self, denied: &[Denied]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (level, what, why) in [
            (Level::Failure, "", "the relay cannot publish, or parks what it cannot write"),
            (
                Level::Warning,
                ", beside the line",
                "without info and config|get what Redis is set to stays unknown, without waitaof \
                 fsync waits two seconds, and without the key of the dead letters nothing is ever \
                 marked dead",
            ),
        ] {
            let these: Vec<&Denied> = denied.iter().filter(|one| one.level == level).collect();
            if these.is_empty() {
                continue;
            }
            let names: Vec<&str> = these.iter().map(|one| one.what.as_str()).collect();
            let grants = joined(these.iter().map(|one| one.grant.clone()));
            findings.push(self.on(what).bad(
                level,
                format!("lacks {}", names.join(", ")),
                why,
                format!("ACL SETUSER {}{grants}", self.user),
            ));
        }
        if findings.is_empty() {
            findings.push(self.on("").ok("allows what the relay does"));
        }
        findings
    }

    /// The rest cannot be asked without it: then all is granted that is needed.
    fn without_eval(&self) -> Finding {
        let keys = self.keys.iter().map(|key| pattern(&key.name));
        let commands = self.calls().into_iter().map(|(call, _)| name(call));
        // An ACL that names a command which the server does not know is refused as a whole.
        let commands = commands.filter(|name| name != "waitaof").map(|name| format!("+{name}"));
        let all = joined(keys.chain(std::iter::once("+eval".to_owned())).chain(commands));
        self.on("").failure(
            "lacks eval, by which the rest is asked",
            "the relay publishes by scripts",
            format!("ACL SETUSER {}{all}", self.user),
        )
    }
}

/// Something that this user may not do.
struct Denied {
    what: String,
    grant: String,
    level: Level,
}

/// The user of the settings.
pub(super) fn user(settings: &Settings) -> String {
    sink::user(&settings.redis_url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_what_the_readme_grants() {
        let readme = include_str!("../../README.md");
        let line = readme.lines().find(|line| line.starts_with("ACL SETUSER walrelay ")).unwrap();
        let mut granted: Vec<&str> =
            line.split(' ').filter_map(|word| word.strip_prefix('+')).collect();
        let all = NEEDED.into_iter().chain(FACTS).chain([WAIT, &["eval"]]);
        let mut asked: Vec<String> = all.map(name).collect();
        granted.sort_unstable();
        asked.sort_unstable();
        assert_eq!(asked, granted);
    }

    #[test]
    fn a_grant_is_one_line_that_says_each_thing_once() {
        let keys = ["walrelay:{a}:x@1", "a", "walrelay:{b}:x@1"].map(pattern);
        assert_eq!(joined(keys.into_iter()), " ~walrelay:* ~a");
        assert_eq!(name(&["config", "get", "x"]), "config|get");
        assert_eq!(words(&["type", "KEY"], "s"), ["type", "s"]);
    }
}
