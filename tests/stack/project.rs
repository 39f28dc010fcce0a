//! One compose project that cannot be forgotten, and its containers.
//!
//! In: compose files. Out: containers to ask, kill, freeze and stop. It must stay true that
//! containers, networks, volumes and images of the project go with the handle, and also when this
//! process is killed: a small shell takes the project down when its pipe closes, one way or the
//! other.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::engine::{Engine, docker, run};
use crate::wait;

/// For a container to come up and to be found healthy, on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Waits for the end of our life, then does what it was told.
const GUARD: &str = r#"read -r _; exec "$0" "$@""#;

/// A project, on its own name and port.
pub struct Project {
    name: String,
    home: PathBuf,
    files: Vec<&'static str>,
    environment: Vec<(&'static str, String)>,
    engine: Engine,
    guard: Option<Child>,
}

/// A container, by its id.
pub struct Container {
    id: String,
}

impl Project {
    /// Nothing runs yet. `home` has the files.
    pub fn new(
        engine: Engine,
        home: &Path,
        files: &[&'static str],
        environment: &[(&'static str, String)],
    ) -> Self {
        let name = format!("walrelay-test-{}-{}", std::process::id(), fastrand::u16(..));
        let (files, environment) = (files.to_vec(), environment.to_vec());
        let mut project =
            Self { name, home: home.to_owned(), files, environment, engine, guard: None };
        let down = project.command(&[
            "--profile",
            "demo",
            "down",
            "--volumes",
            "--remove-orphans",
            "--rmi",
            "local",
            "--timeout",
            "2",
        ]);
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD]).arg(down.get_program()).args(down.get_args());
        guard.current_dir(home).envs(project.environment.iter().cloned());
        // A group of its own: Ctrl-C on the terminal is for us, and our end is its cue.
        guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        project.guard = Some(guard.spawn().expect("sh"));
        project
    }

    /// Its name, which no other has.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.engine.compose();
        command.args(["--project-name", &self.name]);
        for file in &self.files {
            command.args(["--file", file]);
        }
        command.args(arguments).current_dir(&self.home).envs(self.environment.iter().cloned());
        command
    }

    /// `docker compose` with these arguments, which must succeed.
    pub fn compose(&self, arguments: &[&str]) -> String {
        self.try_compose(arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same; or what it said.
    pub fn try_compose(&self, arguments: &[&str]) -> Result<String, String> {
        run(&mut self.command(arguments))
    }

    /// The container of a service, whether it runs or not.
    pub fn container(&self, service: &str) -> Container {
        let id = self.compose(&["ps", "--all", "--quiet", service]).trim().to_owned();
        assert!(!id.is_empty() && !id.contains('\n'), "the container of {service}: {id:?}");
        Container { id }
    }

    /// Takes it down, and asks the engine whether anything is left.
    pub fn down(mut self) {
        self.take_down();
        for kind in ["container", "network", "volume"] {
            let label = format!("label=com.docker.compose.project={}", self.name);
            let mut list = vec![kind, "ls", "--quiet", "--filter", &label];
            list.extend((kind == "container").then_some("--all"));
            assert_eq!(docker(list).unwrap(), "", "{kind}s that are left");
        }
    }

    fn take_down(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            let ended = guard.wait().expect("sh");
            assert!(ended.success() || std::thread::panicking(), "docker compose down: {ended}");
        }
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for arguments in [&["ps", "--all"][..], &["logs", "--tail", "15"]] {
                let (Ok(said) | Err(said)) = self.try_compose(arguments);
                eprintln!("---- {}\n{said}", arguments.join(" "));
            }
        }
        self.take_down();
    }
}

impl Container {
    /// `docker VERB [OPTION...] CONTAINER`, which must succeed.
    pub fn tell(&self, words: &[&str]) -> String {
        let all = words.iter().copied().chain([self.id.as_str()]);
        docker(all).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A command inside of it: what it prints, or why not.
    pub fn exec(&self, words: &[&str]) -> Result<String, String> {
        docker(["exec", &self.id].iter().chain(words))
    }

    /// A member of what the engine knows of it.
    pub fn fact(&self, template: &str) -> String {
        self.tell(&["inspect", "--format", &format!("{{{{{template}}}}}")]).trim().to_owned()
    }

    /// Awaits a member to be this.
    pub async fn until(&self, template: &str, wanted: &str) {
        let what = format!("{template} of container {}", self.id);
        let wanted = wanted.to_owned();
        wait::until_equal(&what, wanted, PATIENCE, async || self.fact(template)).await;
    }

    /// Awaits that its health check says so.
    pub async fn until_health(&self, wanted: &str) {
        self.until(".State.Health.Status", wanted).await;
    }

    /// A file of /proc/1, as somebody beside it sees it: the image may have nothing to read with.
    pub fn proc(&self, file: &str) -> String {
        let pid = format!("container:{}", self.id);
        let path = format!("/proc/1/{file}");
        let name = crate::engine::POSTGRES;
        let words =
            ["run", "--rm", "--network", "none", "--pid", &pid, "--entrypoint", "cat", name, &path];
        docker(words).unwrap_or_else(|error| panic!("{error}"))
    }
}
