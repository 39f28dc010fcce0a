//! The container files stay true: every setting they name exists, with a value it accepts, and the
//! compose file is one.
//!
//! In: docker-compose.yml, docker/compose.sidecar.yml and docker/Dockerfile as they stand. Out: a
//! failed test when they name a setting that is gone, or a secret that is no secret. Not here: an
//! engine that runs them (stack/main.rs); the metrics that alerts and dashboard name, which a
//! running relay is asked for (promises/pages.rs).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failure here is a failed test; clippy.toml covers test functions only"
)]

use std::io::{Write, stderr};
use std::path::Path;
use std::process::Command;

const COMPOSE: &str = include_str!("../docker-compose.yml");
const SIDECAR: &str = include_str!("../docker/compose.sidecar.yml");
const DOCKERFILE: &str = include_str!("../docker/Dockerfile");

/// `RELAY_NAME: value` and `ENV RELAY_NAME=value`, outside of comments.
fn settings(text: &str) -> Vec<(&str, &str)> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let line = line.strip_prefix("ENV ").unwrap_or(line);
            let end = line.find([':', '='])?;
            let (name, value) = line.split_at_checked(end)?;
            name.starts_with("RELAY_").then(|| (name, value.get(1..).unwrap_or_default().trim()))
        })
        .collect()
}

#[test]
fn every_setting_of_the_container_files_is_known_and_valid() {
    for compose in [COMPOSE, SIDECAR] {
        let all = [settings(compose), settings(DOCKERFILE)].concat();
        for name in ["RELAY_DATABASE_URL", "RELAY_REDIS_URL", "RELAY_HTTP_ADDRESS"] {
            assert!(all.iter().any(|(known, _)| *known == name), "no {name} in {all:?}");
        }
        assert_accepted(all.into_iter().map(|(name, value)| (name, default_of(value))));
    }
}

/// `${NAME:-default}` as Compose reads it where NAME is not set; anything else as it is.
fn default_of(value: &str) -> &str {
    let default = value.split_once(":-").and_then(|(_, rest)| rest.strip_suffix('}'));
    default.unwrap_or(value)
}

fn assert_accepted<'a>(all: impl Iterator<Item = (&'a str, &'a str)>) {
    let done = Command::new(env!("CARGO_BIN_EXE_walrelay"))
        .arg("config")
        .env_clear()
        .envs(all)
        .output()
        .expect("walrelay config");
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "walrelay config refuses them: {errors}");
}

#[test]
fn every_subcommand_of_the_container_files_exists() {
    for (file, line, subcommand) in [
        (COMPOSE, "command: [setup]", "setup"),
        (COMPOSE, "command: [run]", "run"),
        (COMPOSE, "command: [tail]", "tail"),
        (DOCKERFILE, "CMD [\"walrelay\", \"health\"]", "health"),
        (DOCKERFILE, "CMD [\"run\"]", "run"),
    ] {
        assert!(file.contains(line), "the container files no longer say {line}: adapt this test");
        let mut help = Command::new(env!("CARGO_BIN_EXE_walrelay"));
        let done = help.args([subcommand, "--help"]).env_clear().output().expect("walrelay --help");
        assert!(done.status.success(), "walrelay has no subcommand {subcommand}");
    }
}

#[test]
fn whatever_listens_is_reachable_from_its_own_host_only() {
    let ports: Vec<&str> = COMPOSE.lines().filter(|line| line.contains("ports:")).collect();
    assert_eq!(ports.len(), 3, "the relay, Prometheus and Grafana publish a port: {ports:?}");
    assert!(ports.iter().all(|line| line.contains("\"127.0.0.1:")), "on loopback: {ports:?}");
}

#[test]
fn compose_accepts_its_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The relay of the sidecar file waits for services that the other file has.
    let all = ["--file", "docker-compose.yml", "--file", "docker/compose.sidecar.yml"];
    let profiles = ["--profile", "demo", "--profile", "observability"];
    for (program, first) in [("docker", Some("compose")), ("docker-compose", None)] {
        let compose = || {
            let mut command = Command::new(program);
            command.args(first).current_dir(root);
            command
        };
        if compose().arg("version").output().is_ok_and(|done| done.status.success()) {
            for (files, profiles) in [(&[][..], &[][..]), (&[], &profiles), (&all, &profiles)] {
                let mut config = compose();
                config.args(files).args(profiles).args(["config", "--quiet"]);
                let done = config.output().expect("docker compose");
                let errors = String::from_utf8_lossy(&done.stderr);
                assert!(done.status.success(), "{config:?}: {errors}");
            }
            return;
        }
    }
    writeln!(stderr(), "SKIPPED: neither `docker compose` nor `docker-compose` is here").ok();
}
