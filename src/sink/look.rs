//! What `walrelay check` asks of Redis: nothing in here changes anything.
//!
//! In: a connection. Out: texts and numbers as the server gives them. It must stay true that every
//! call is a read, and that what a user may do is asked of the server, not tried.

use std::collections::HashMap;

use redis::FromRedisValue;
use secrecy::SecretString;

use super::connect::{Sink, connection_info};
use super::failure::Failure;

const ALLOWED: &str = include_str!("allowed.lua");

/// SCAN looks at about so many keys a call, and so often: a full look at a large server would hold
/// it up for as long.
const SCAN_COUNT: u32 = 1_000;
const SCANS_MAX: u32 = 50;

/// Whether a call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// It may.
    Allowed,
    /// The user may not run the command, or not on that key.
    Denied,
    /// The server has no such command.
    Unknown,
}

/// The user that the URL logs in as.
#[must_use]
pub fn user(url: &SecretString) -> String {
    let name = connection_info(url).ok().and_then(|info| {
        info.redis_settings().username().map(str::to_owned).filter(|name| !name.is_empty())
    });
    name.unwrap_or_else(|| "default".to_owned())
}

impl Sink {
    async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> Result<T, Failure> {
        let mut words = words.iter();
        let mut command = redis::cmd(words.next().copied().unwrap_or_default());
        for word in words {
            command.arg(*word);
        }
        let answer = command.query_async(&mut self.connection()).await;
        answer.map_err(|error| Failure::of(&error))
    }

    /// INFO, line by line.
    pub async fn info(&self) -> Result<HashMap<String, String>, Failure> {
        let text: String = self.ask(&["INFO"]).await?;
        let line = |line: &str| {
            let (name, value) = line.trim_end().split_once(':')?;
            Some((name.to_owned(), value.to_owned()))
        };
        Ok(text.lines().filter_map(line).collect())
    }

    /// A setting; none where the server has no such one.
    pub async fn setting(&self, name: &str) -> Result<Option<String>, Failure> {
        let mut found: HashMap<String, String> = self.ask(&["CONFIG", "GET", name]).await?;
        Ok(found.remove(name))
    }

    /// The server's clock, in seconds since 1970.
    pub async fn clock(&self) -> Result<f64, Failure> {
        let (seconds, micros): (f64, f64) = self.ask(&["TIME"]).await?;
        Ok(seconds + micros / 1_000_000.0)
    }

    /// What a key holds: `none`, `stream`, `hash` and so on.
    pub async fn type_of(&self, key: &str) -> Result<String, Failure> {
        self.ask(&["TYPE", key]).await
    }

    /// Keys by a pattern, and whether all keys were looked at.
    pub async fn keys(&self, pattern: &str) -> Result<(Vec<String>, bool), Failure> {
        let (mut cursor, mut found) = ("0".to_owned(), Vec::new());
        let count = SCAN_COUNT.to_string();
        for _ in 0..SCANS_MAX {
            let words = ["SCAN", &cursor, "MATCH", pattern, "COUNT", &count];
            let (next, keys): (String, Vec<String>) = self.ask(&words).await?;
            found.extend(keys);
            if next == "0" {
                return Ok((found, true));
            }
            cursor = next;
        }
        Ok((found, false))
    }

    /// Whether each of the calls may be made by this user; none where the server cannot tell.
    pub async fn may(&self, calls: &[Vec<String>]) -> Result<Option<Vec<Permission>>, Failure> {
        let mut command = redis::cmd("EVAL");
        command.arg(ALLOWED).arg(0);
        for words in calls {
            command.arg(words.len()).arg(words);
        }
        let answer = command.query_async(&mut self.connection()).await;
        let answers: Option<Vec<i64>> = answer.map_err(|error| Failure::of(&error))?;
        let permission = |answer: i64| match answer {
            1 => Permission::Allowed,
            0 => Permission::Denied,
            _ => Permission::Unknown,
        };
        Ok(answers.map(|answers| answers.into_iter().map(permission).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_user_means_the_default_one() {
        for (url, name) in [
            ("redis://h", "default"),
            ("redis://:secret@h", "default"),
            ("redis://relay:secret@h/0", "relay"),
        ] {
            assert_eq!(user(&url.to_owned().into()), name);
        }
    }
}
