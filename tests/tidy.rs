//! Reads the repository and holds it to its own rules: sizes, headers, who looks into whom, and a
//! README that names what exists.
//!
//! In: the files that git knows. Out: a failed test that names file, line and rule.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failure here is a failed test; clippy.toml covers test functions only"
)]

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use walrelay::config::{Fallback, SETTINGS};

const COLUMNS_MAX: usize = 100;
const FILE_LINES_MAX: usize = 450;
const DOOR_LINES_MAX: usize = 60;
/// Half of it is the chapter for a bad night and the settings: they are needed whole.
const README_LINES_MAX: usize = 600;
/// In pieces, for this file is read as well.
const UNFINISHED: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];

/// Which rooms each room may look into; `main.rs` and `command` may look anywhere.
const MAY_USE: &[(&str, &[&str])] = &[
    ("lsn.rs", &[]),
    ("error.rs", &[]),
    ("event_loop.rs", &["error"]),
    ("shutdown.rs", &["error", "event_loop"]),
    ("backoff.rs", &[]),
    ("quote.rs", &[]),
    ("rate.rs", &[]),
    ("cli", &["error"]),
    ("contract", &["error"]),
    ("config", &["error", "quote", "rate", "contract"]),
    ("pgoutput", &["lsn"]),
    ("postgres", &["lsn", "error", "quote", "config"]),
    ("outbox", &["pgoutput", "error", "config", "contract", "outbox"]),
    ("sink", &["outbox", "lsn", "error", "config"]),
    ("housekeeping", &["error", "config", "postgres", "telemetry"]),
    ("deadletters", &["error", "config", "postgres", "telemetry"]),
    (
        "poller",
        &[
            "housekeeping",
            "lsn",
            "error",
            "shutdown",
            "backoff",
            "config",
            "rate",
            "contract",
            "postgres",
            "outbox",
            "sink",
            "telemetry",
        ],
    ),
    (
        "relay",
        &[
            "lsn",
            "error",
            "event_loop",
            "shutdown",
            "backoff",
            "rate",
            "poller",
            "housekeeping",
            "config",
            "contract",
            "postgres",
            "pgoutput",
            "outbox",
            "sink",
            "telemetry",
        ],
    ),
    (
        "replay",
        &[
            "lsn", "error", "shutdown", "rate", "config", "contract", "postgres", "pgoutput",
            "outbox", "sink",
        ],
    ),
    ("check", &["lsn", "error", "config", "postgres", "outbox", "sink", "relay", "check"]),
    ("telemetry", &["lsn", "error", "event_loop", "config", "contract"]),
    ("verify", &["error", "rate", "config", "contract", "postgres", "outbox", "sink"]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files below `folder` with one of these endings, in order.
fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            let is_output = path.ends_with("target") || path.ends_with("corpus");
            if path.is_dir() && !is_output {
                folders.push(path);
            } else if path.extension().is_some_and(|end| endings.iter().any(|e| end == *e)) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no file in {folder}");
    found.sort();
    found
}

fn sources() -> Vec<PathBuf> {
    let folders = ["src", "tests", "examples", "benches", "fuzz"];
    folders.iter().flat_map(|folder| files(folder, &["rs"])).collect()
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// Collects what breaks a rule, so that one run tells all of it.
fn assert_none(broken: &[String]) {
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_source_file_says_what_it_is_for_and_stays_small() {
    let mut broken = Vec::new();
    for path in sources() {
        let text = read(&path);
        let lines = text.lines().count();
        let max = if path.ends_with("mod.rs") { DOOR_LINES_MAX } else { FILE_LINES_MAX };
        if lines > max {
            broken.push(format!("{}: {lines} lines, at most {max}", name(&path)));
        }
        let opens = text.lines().find(|line| !line.starts_with("#!")).unwrap_or_default();
        if !opens.starts_with("//! ") {
            broken.push(format!("{}: does not open with //!", name(&path)));
        }
    }
    assert_none(&broken);
}

#[test]
fn lines_are_short_and_nothing_is_left_for_later() {
    let mut broken = Vec::new();
    let sql = files("sql", &["sql"]);
    let embedded = files("src", &["lua", "html", "css", "js"]);
    for path in sources().into_iter().chain(sql).chain(embedded) {
        for (number, line) in read(&path).lines().enumerate() {
            let at = format!("{}:{}", name(&path), number + 1);
            // A link cannot be broken.
            if line.chars().count() > COLUMNS_MAX && !line.contains("://") {
                broken.push(format!("{at}: over {COLUMNS_MAX} columns"));
            }
            if UNFINISHED.iter().any(|word| line.contains(word)) {
                broken.push(format!("{at}: finish it or drop it"));
            }
            if line.ends_with(' ') || line.contains('\t') {
                broken.push(format!("{at}: blanks at the end, or a tab"));
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn rooms_look_only_where_they_may() {
    let mut broken = Vec::new();
    for path in files("src", &["rs"]) {
        let inside = path.strip_prefix(root().join("src")).unwrap();
        let room = inside.components().next().unwrap().as_os_str().to_str().unwrap();
        if ["main.rs", "lib.rs", "command"].contains(&room) {
            continue;
        }
        let Some((_, allowed)) = MAY_USE.iter().find(|(known, _)| *known == room) else {
            broken.push(format!("{}: a room that no rule knows", name(&path)));
            continue;
        };
        for (number, line) in read(&path).lines().enumerate() {
            for used in line.split("crate::").skip(1) {
                let used: String = used
                    .chars()
                    .take_while(|letter| letter.is_ascii_lowercase() || *letter == '_')
                    .collect();
                if used != room && !allowed.contains(&used.as_str()) {
                    let at = format!("{}:{}", name(&path), number + 1);
                    broken.push(format!("{at}: {room} must not look into {used}"));
                }
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn the_architecture_text_names_every_room() {
    let text = read(&root().join("src/lib.rs"));
    for module in text.lines().filter_map(|line| line.strip_prefix("pub mod ")) {
        let link = format!("[`{}`]", module.trim_end_matches(';'));
        assert!(text.contains(&link), "src/lib.rs does not say what {link} is for");
    }
}

#[test]
fn every_sql_file_is_used_and_sql_is_nowhere_else() {
    let sources: String = files("src", &["rs"]).iter().map(|path| read(path)).collect();
    for path in files("sql", &["sql"]) {
        let used = format!("include_str!(\"../../{}\")", name(&path));
        assert!(sources.contains(&used), "{} is used by nothing", name(&path));
    }
    let mut broken = Vec::new();
    for path in files("src", &["rs"]) {
        let text = read(&path);
        let product = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in product.lines().enumerate() {
            let statement = ["\"SELECT ", "\"INSERT INTO ", "\"DELETE FROM ", "\"CREATE "];
            if statement.iter().any(|start| line.contains(start)) && !line.contains("hint(") {
                broken.push(format!("{}:{}: SQL belongs into sql/", name(&path), number + 1));
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn a_page_has_a_row_for_every_setting_as_it_is() {
    let page = read(&root().join("docs/settings.md"));
    let missing: Vec<String> = SETTINGS
        .iter()
        .map(|setting| {
            let default = match setting.fallback {
                Fallback::Value(value) => format!("`{value}`"),
                Fallback::Required => "required".to_owned(),
                Fallback::Derived(from) => format!("`{from}`"),
            };
            let (allowed, help) = (setting.kind.to_string(), setting.help);
            format!("| `{}` | {default} | {allowed} | {help} |", setting.name)
        })
        .filter(|row| !page.lines().any(|line| line == row))
        .collect();
    assert!(missing.is_empty(), "docs/settings.md lacks these rows:\n{}", missing.join("\n"));
}

#[test]
fn the_readme_is_short_and_names_every_subcommand_and_promise() {
    let readme = read(&root().join("README.md"));
    assert!(readme.lines().count() <= README_LINES_MAX, "README.md: over {README_LINES_MAX} lines");
    let command = walrelay::cli::Arguments::command();
    for subcommand in command.get_subcommands() {
        let name = format!("`walrelay {}", subcommand.get_name());
        assert!(readme.contains(&name), "README.md does not name {name}`");
    }
    let promises = read(&root().join("tests/promises/main.rs"));
    for module in promises.lines().filter_map(|line| line.strip_prefix("mod ")) {
        let file = format!("tests/promises/{}.rs", module.trim_end_matches(';'));
        let is_harness = file.contains("harness");
        assert!(is_harness || readme.contains(&file), "README.md has no promise shown by {file}");
    }
}

#[test]
fn what_the_readme_points_at_exists() {
    let readme = read(&root().join("README.md"));
    let makefile = read(&root().join("Makefile"));
    for target in readme.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        if !target.contains("://") && !target.starts_with('#') {
            assert!(root().join(target).exists(), "README.md points at {target}");
        }
    }
    for words in readme.split("`make ").skip(1) {
        let target: String = words.chars().take_while(char::is_ascii_alphanumeric).collect();
        assert!(makefile.contains(&format!("\n{target}:")), "no target for `make {target}`");
    }
}

#[test]
fn the_container_is_given_every_target_that_the_manifest_names() {
    let manifest = read(&root().join("Cargo.toml"));
    let given = read(&root().join(".dockerignore"));
    for (section, line) in
        [("[[bench]]", "!benches"), ("[[example]]", "!examples"), ("[[test]]", "!tests")]
    {
        let is_named = manifest.lines().any(|found| found == section);
        let is_given = given.lines().any(|found| found == line);
        assert!(is_given || !is_named, "Cargo.toml has {section}: .dockerignore lacks {line}");
    }
}
