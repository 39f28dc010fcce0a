//! What `walrelay check` said, and the hands of the one who pastes its fixes.
//!
//! In: settings of a relay, run as the built binary. Out: its answer, finding by finding; and each
//! printed fix, carried out as it is printed. It must stay true that nothing is pasted which was
//! not printed.

use serde_json::Value;

use super::postgres::{PASSWORD, Stop};
use super::relay::Settings;
use super::world::World;

/// An answer of `walrelay check --json`.
pub struct Checked {
    pub code: i32,
    output: String,
    findings: Vec<Value>,
    worst: String,
}

impl Checked {
    /// Runs it. The password of the superuser must never be in the answer.
    pub async fn of(settings: &Settings) -> Self {
        let done = settings.clone().with_arguments(&["--json"]).finish("check").await;
        assert!(!done.output.contains(PASSWORD), "a secret: {}", done.output);
        let document: Value = serde_json::from_str(&done.output)
            .unwrap_or_else(|error| panic!("no JSON: {error}\n{}", done.output));
        let findings = document["findings"].as_array().expect("findings").clone();
        let worst = document["level"].as_str().expect("a level").to_owned();
        for finding in findings.iter().filter(|finding| finding["level"] != "OK") {
            for field in ["why", "fix"] {
                let text = finding[field].as_str().unwrap_or_default();
                assert!(!text.is_empty(), "no {field}: {finding}");
            }
        }
        Self { code: done.code.expect("an exit code"), output: done.output, findings, worst }
    }

    fn find(&self, object: &str) -> Option<&Value> {
        self.findings.iter().find(|finding| finding["object"] == object)
    }

    /// The finding about an object; it must be there.
    fn of_object(&self, object: &str) -> &Value {
        self.find(object).unwrap_or_else(|| panic!("nothing about {object:?}:\n{}", self.text()))
    }

    /// The same of each server that has such an object.
    pub fn all(&self, object: &str) -> Vec<(&str, &str)> {
        let of_that = self.findings.iter().filter(|finding| finding["object"] == object);
        of_that.map(told).collect()
    }

    pub fn has(&self, object: &str) -> bool {
        self.find(object).is_some()
    }

    pub fn worst(&self) -> &str {
        &self.worst
    }

    /// Its level and what was found.
    pub fn found(&self, object: &str) -> (&str, &str) {
        told(self.of_object(object))
    }

    /// The line about the object, at that level.
    #[track_caller]
    pub fn assert(&self, object: &str, level: &str) {
        assert_eq!(self.found(object).0, level, "{object}:\n{}", self.text());
    }

    /// What is printed to mend it.
    pub fn fix(&self, object: &str) -> String {
        let finding = self.of_object(object);
        finding["fix"].as_str().unwrap_or_else(|| panic!("{object} needs no fix")).to_owned()
    }

    /// Every object that is not OK.
    pub fn bad(&self) -> Vec<&str> {
        let bad = self.findings.iter().filter(|finding| finding["level"] != "OK");
        bad.map(|finding| finding["object"].as_str().expect("an object")).collect()
    }

    fn text(&self) -> String {
        let line = |finding: &Value| format!("{finding}\n");
        if self.findings.is_empty() {
            self.output.clone()
        } else {
            self.findings.iter().map(line).collect()
        }
    }
}

fn told(finding: &Value) -> (&str, &str) {
    (finding["level"].as_str().expect("a level"), finding["found"].as_str().expect("found"))
}

impl World {
    /// `walrelay check` with the world's settings.
    pub async fn check(&self) -> Checked {
        Checked::of(&self.settings).await
    }

    /// Pastes SQL into psql.
    pub fn paste_sql(&self, fix: &str) {
        self.postgres.psql(fix);
    }

    /// Pastes commands into redis-cli: a line each, without its comment.
    pub async fn paste_redis(&self, fix: &str) {
        for line in fix.lines() {
            let line = line.split("   #").next().unwrap_or_default();
            self.redis.run(&line.replace("\"\"", "")).await;
        }
    }

    /// Settings of PostgreSQL that take a restart, one a line, and the restart.
    pub async fn paste_and_restart(&mut self, fixes: &[String]) {
        self.postgres.stop(Stop::Fast).await;
        for fix in fixes {
            let (statement, _) = fix.split_once(';').expect("a statement");
            let pair = statement.strip_prefix("ALTER SYSTEM SET ").expect("a setting");
            let (name, value) = pair.split_once(" = ").expect("a value");
            // What the harness gives on the command line wins over ALTER SYSTEM.
            self.postgres.set(name, value);
        }
        self.postgres.restart().await;
    }

    /// Makes a condition, sees the line at that level, pastes the printed SQL, and sees OK.
    pub async fn mend_by_sql(&self, condition: &str, object: &str, level: &str) {
        self.postgres.psql(condition);
        let checked = self.check().await;
        checked.assert(object, level);
        self.paste_sql(&checked.fix(object));
        self.check().await.assert(object, "OK");
    }
}

/// A setting of the relay as it is printed: `RELAY_NAME=value`.
pub fn paste_setting(settings: &Settings, fix: &str) -> Settings {
    let line = fix.split("   #").next().unwrap_or_default();
    let (name, value) = line.split_once('=').expect("NAME=VALUE");
    assert!(name.starts_with("RELAY_"), "{fix}");
    settings.clone().with_variable(name, value)
}
