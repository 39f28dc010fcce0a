//! The Docker engine at hand, if there is one, and the commands that reach it.
//!
//! In: the programs `docker` and `docker compose` (or `docker-compose`), and the images that are on
//! the engine already. Out: what they print, or the reason why there is nothing to be tried. It
//! must stay true that nothing is fetched: to download gigabytes is for people and `make stack`.

use std::ffi::OsStr;
use std::io::{Write, stderr};
use std::process::{Command, Output};

/// Set by `make stack`: what would be skipped fails.
const DEMAND: &str = "WALRELAY_STACK";

const DOCKERFILE: &str = include_str!("../../docker/Dockerfile");
const COMPOSE: &str = include_str!("../../docker-compose.yml");

/// The servers, by the names that the compose file has for them.
pub const POSTGRES: &str = "docker.io/library/postgres:17";
pub const REDIS: &str = "docker.io/library/redis:8";

/// An engine that answers and has every image.
#[derive(Clone, Copy)]
pub struct Engine {
    compose: &'static [&'static str],
}

impl Engine {
    /// The engine; none where something is missing, which is said.
    pub fn at_hand() -> Option<Self> {
        match Self::find() {
            Ok(engine) => Some(engine),
            Err(reason) => {
                assert!(std::env::var_os(DEMAND).is_none(), "{reason}");
                writeln!(stderr(), "SKIPPED: {reason} (make stack)").ok();
                None
            }
        }
    }

    fn find() -> Result<Self, String> {
        docker(["version", "--format", "{{.Server.Version}}"])
            .map_err(|error| format!("no Docker engine answers: {}", last_line(&error)))?;
        let compose = [&["docker", "compose"][..], &["docker-compose"]]
            .into_iter()
            .find(|words| run(command(words).arg("version")).is_ok())
            .ok_or("neither `docker compose` nor `docker-compose` is here")?;
        for image in images() {
            docker(["image", "inspect", image]).map_err(|_| format!("{image} is not here"))?;
        }
        Ok(Self { compose })
    }

    /// `docker compose`, as it is called here.
    pub fn compose(self) -> Command {
        command(self.compose)
    }

    /// The name of an image that compose builds: old ones join its parts by another sign.
    pub fn image_of(self, project: &str, service: &str) -> String {
        let sign = if self.compose.len() == 1 && version_is_1() { '_' } else { '-' };
        format!("{project}{sign}{service}")
    }
}

fn last_line(text: &str) -> &str {
    text.trim_end().lines().last().unwrap_or_default()
}

fn version_is_1() -> bool {
    run(Command::new("docker-compose").args(["version", "--short"]))
        .is_ok_and(|version| version.starts_with("1."))
}

/// What the Dockerfile builds on and the compose file runs, profiles for looking on left out.
fn images() -> impl Iterator<Item = &'static str> {
    for name in [POSTGRES, REDIS] {
        assert!(COMPOSE.contains(&format!("image: {name}\n")), "docker-compose.yml: no {name}");
    }
    let built_on = DOCKERFILE.lines().filter_map(|line| line.strip_prefix("FROM "));
    built_on.filter_map(|from| from.split(' ').next()).chain([POSTGRES, REDIS])
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// `docker` with these arguments: what it prints, or why not.
pub fn docker<I: IntoIterator<Item = impl AsRef<OsStr>>>(arguments: I) -> Result<String, String> {
    run(Command::new("docker").args(arguments))
}

/// A command to its end: what it prints, or everything it said.
pub fn run(command: &mut Command) -> Result<String, String> {
    let Output { status, stdout, stderr } =
        command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let [stdout, stderr] =
        [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    if status.success() {
        return Ok(stdout);
    }
    Err(format!("{command:?}: {status}\n{stdout}{stderr}"))
}
