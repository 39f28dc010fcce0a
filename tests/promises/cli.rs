//! The command line itself: completions, manual pages, colours, and a word about what takes long.

use std::path::Path;
use std::process::Command;

use crate::harness::relay::Settings;
use crate::harness::wait;
use crate::harness::world::World;

/// Nothing that is needed by more than the command line.
fn alone() -> Settings {
    let nowhere = "postgresql://nobody@127.0.0.1:1/nowhere";
    Settings::new(nowhere, "redis://127.0.0.1:1/0")
}

fn printed(subcommand: &str, arguments: &[&str]) -> String {
    // Wrong settings are not in its way.
    let settings = alone().with("slot_name", "Wrong Name").with_arguments(arguments);
    let said = settings.say(subcommand);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
    said.stdout
}

/// Runs a program to its end: its output, and what it complains of.
fn run(program: &str, arguments: &[&str], folder: &Path) -> (String, String) {
    let done = Command::new(program).args(arguments).current_dir(folder).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(done.status.success(), "{program} {arguments:?}: {}", text(&done.stderr));
    (text(&done.stdout), text(&done.stderr))
}

#[tokio::test]
async fn bash_completes_commands_and_options_of_the_definition() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("walrelay.bash"), printed("completions", &["bash"])).unwrap();
    let ask = |words: &str| {
        let last = words.split(' ').count() - 1;
        let script = format!(
            "source walrelay.bash; COMP_WORDS=({words}); COMP_CWORD={last};
             [ \"${{COMP_WORDS[{last}]}}\" = '_' ] && COMP_WORDS[{last}]=
             _walrelay walrelay \"${{COMP_WORDS[{last}]}}\" x; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        run("bash", &["--norc", "-c", &script], home.path()).0
    };
    let (_, complaints) = run("bash", &["-n", "walrelay.bash"], home.path());
    assert_eq!(complaints, "");
    assert_eq!(ask("walrelay sta"), "status\n");
    assert_eq!(ask("walrelay tail --from"), "--from-start\n");
    assert_eq!(ask("walrelay dlq dis"), "discard\n");
    let commands = ask("walrelay _");
    for command in ["run", "setup", "teardown", "completions", "man"] {
        assert!(commands.lines().any(|line| line == command), "{command} is not in {commands}");
    }
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(printed("completions", &[shell]).contains("teardown"), "{shell}");
    }
}

#[tokio::test]
async fn every_manual_page_is_rendered_without_a_warning() {
    let home = tempfile::tempdir().unwrap();
    let listed = printed("man", &["--dir", &home.path().display().to_string()]);
    let pages: Vec<&str> = listed.lines().collect();
    assert!(pages.iter().any(|page| page.ends_with("/walrelay-dlq-retry.1")), "{listed}");
    let one = printed("man", &[]);
    assert_eq!(one, std::fs::read_to_string(home.path().join("walrelay.1")).unwrap());
    let missing = alone().with_arguments(&["--dir", "/nowhere/at/all"]).say("man");
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.stderr.contains("/nowhere/at/all") && missing.stderr.contains("hint:"));
    if wait::in_path("groff").is_none() {
        eprintln!("groff is not here: the pages were not rendered");
        return;
    }
    for page in pages {
        let arguments = ["-man", "-ww", "-Tutf8", "-Kutf8", "-z", page];
        assert_eq!(run("groff", &arguments, home.path()).1, "", "{page}");
    }
    let arguments = ["-man", "-Tascii", "-Kutf8", "-P-cbou", "walrelay.1"];
    let (text, _) = run("groff", &arguments, home.path());
    for words in ["NAME", "EXAMPLES", "walrelay-teardown(1)", "walrelay setup --print | psql"] {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
}

#[tokio::test]
async fn colour_is_for_terminals_whose_users_want_it() {
    let settings = alone().with_arguments(&["--no-such-option"]);
    assert!(settings.say_on_terminal("status", "", "").stdout.contains("\x1b["));
    let plain = settings.clone().with_variable("NO_COLOR", "1");
    assert!(!plain.say_on_terminal("status", "", "").stdout.contains("\x1b["));
    let said = settings.say("status");
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(!said.stderr.contains('\x1b'), "{said:?}");
    // What a command logs as well.
    let run = alone().with("log_format", "text").with("http_port", "0").with("mode", "nonsense");
    assert!(!run.say("run").stderr.contains('\x1b'));
}

#[tokio::test]
async fn a_word_is_said_about_what_takes_longer_than_two_seconds() {
    let world = World::bare(&[], &[]).await;
    let client = world.postgres.client().await;
    let begin = "CREATE TABLE t (); BEGIN; SELECT txid_current(); SET application_name = 'batch'";
    client.batch_execute(begin).await.unwrap();
    let mut setup = world.settings.clone().with("log_format", "text").spawn("setup");
    let said = "slot walrelay is created once the transactions that are open end: 1 of them, the \
                oldest pid ";
    setup.until_output(said).await;
    setup.until_output("(batch), open for ").await;
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(setup.exit_code(wait::PATIENCE).await, Some(0), "{}", setup.output());

    let dead = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, dead_lettered_at)
        VALUES ('a', gen_random_uuid(), '{}', now())";
    client.batch_execute(dead).await.unwrap();
    client.batch_execute("BEGIN; SELECT FROM identity.outbox FOR UPDATE").await.unwrap();
    let retry = world.settings.clone().with_arguments(&["retry", "--all"]);
    let mut retry = retry.with("log_format", "text").spawn("dlq");
    retry.until_output("or waits for one that is locked").await;
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(retry.exit_code(wait::PATIENCE).await, Some(0), "{}", retry.output());
    assert!(retry.output().contains("1 event: due now"), "{}", retry.output());
}
