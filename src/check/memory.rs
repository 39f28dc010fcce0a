//! What Redis does when its memory is full.
//!
//! In: INFO and maxmemory-policy. Out: a finding.

use super::finding::{Finding, bytes_text, on_redis};
use super::redis::Redis;
use crate::config::Settings;

/// From here on it is time to do something.
const FULL: f64 = 0.9;

impl Redis {
    pub(super) fn memory(&self, settings: &Settings) -> Vec<Finding> {
        let policy = self.text("maxmemory_policy");
        let policy = policy.or(self.settings.get("maxmemory-policy").map(String::as_str));
        let limit = self.number("maxmemory").unwrap_or(0.0);
        let mut findings: Vec<Finding> =
            policy.map(|policy| self.eviction(policy, limit)).into_iter().collect();
        let used = self.number("used_memory").unwrap_or(0.0);
        if limit > 0.0 {
            findings.push(self.room(settings, used, limit));
        }
        findings
    }

    fn eviction(&self, policy: &str, limit: f64) -> Finding {
        let subject = on_redis("setting maxmemory-policy");
        if !policy.starts_with("allkeys-") {
            return subject.ok(if policy.starts_with("volatile-") {
                format!("{policy}: only keys that expire are evicted; streams do not")
            } else {
                policy.to_owned()
            });
        }
        let fix = self.set("maxmemory-policy", "noeviction");
        if limit > 0.0 {
            let why = "when memory is full whole streams are thrown away, with what nobody has \
                       read; with noeviction the relay waits, and nothing is lost";
            return subject.failure(format!("{policy}, maxmemory {}", bytes_text(limit)), why, fix);
        }
        let why = "without maxmemory it does nothing; the day that is set, whole streams are \
                   thrown away";
        subject.warning(format!("{policy}, no maxmemory"), why, fix)
    }

    fn room(&self, settings: &Settings, used: f64, limit: f64) -> Finding {
        let subject = on_redis("memory");
        let found = format!("{} of {}", bytes_text(used), bytes_text(limit));
        if used < FULL * limit {
            return subject.ok(found);
        }
        let why = "once it is full Redis refuses writes (OOM): the relay waits, and the slot keeps \
                   WAL";
        let fix = match settings.stream_maxlen {
            Some(_) => self.set("maxmemory", &format!("{:.0}", (2.0 * limit).max(2.0 * used))),
            None => format!(
                "{}\nRELAY_STREAM_MAXLEN=1000000   # or let the streams be trimmed",
                self.set("maxmemory", &format!("{:.0}", (2.0 * limit).max(2.0 * used)))
            ),
        };
        subject.warning(found, why, fix)
    }
}
