//! From arguments to an exit code: gathers the settings, calls one command, and says what failed.
//!
//! It is here and not in the binary because of what the compiler does with it: a crate compiles the
//! `async` functions that it calls of another one anew, all the way down. A binary that called them
//! would hold the whole relay twice.

use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

use super::{bookmark, check, config, dlq, health, papers, replay, run, schema, setup, status};
use super::{tail, teardown, verify};
use crate::cli::{Arguments, Bookmark, Command, Dlq};
use crate::config::{Inputs, Loaded, Settings, load};
use crate::error::{Class, EXIT_OK, Error, Result};
use crate::event_loop::event_loop;
use crate::telemetry;

/// Does what the command line asks for; the exit code.
#[must_use]
pub fn perform(arguments: Arguments) -> ExitCode {
    match asked(arguments) {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn asked(arguments: Arguments) -> Result<ExitCode> {
    let Arguments { command, common } = arguments;
    let flags = common.flags().map_err(Error::usage)?;
    // What needs no settings has none that could be wrong.
    let needs_none = matches!(command, Command::Completions(_) | Command::Man(_));
    let inputs = if needs_none {
        Inputs::default()
    } else {
        Inputs::from_process(common.config, flags).of_table(common.table)
    };
    let loaded = load(&inputs)?;
    let (format, level) = loaded.log()?;
    let is_text = telemetry::start_log(format, level);
    let mut out = stdout().lock();
    let performed = match command {
        Command::Config { json } => {
            loaded.one().and_then(|loaded| config::run(loaded, json, &mut out))
        }
        Command::Check(asked) => {
            let all = loaded.of_each(Loaded::settings)?;
            return block_on(check::run(&all, asked, &mut out)).map(ExitCode::from);
        }
        Command::Health => block_on(health::run(loaded.http()?, inputs.table.as_deref(), &mut out)),
        Command::Dlq { command } => desk(loaded.one()?, &command, &mut out),
        Command::Bookmark { command } => bookmarks(loaded.one()?, &command, &mut out),
        Command::Replay { replay } => {
            let settings = loaded.one()?.settings().and_then(Settings::with_contract);
            settings.and_then(|settings| block_on(replay::run(&settings, &replay, &mut out)))
        }
        Command::Schema { command } => {
            let settings = loaded.one()?.settings()?;
            block_on(schema::run(&settings, &command, &mut out))
        }
        Command::Setup { print, role, notify } => {
            set_up(&loaded, print, role.as_deref(), notify, &mut out)
        }
        Command::Status(asked) => {
            let all = loaded.of_each(status::Subject::new)?;
            return block_on(status::run(&all, &asked, &mut out)).map(ExitCode::from);
        }
        Command::Tail(asked) => {
            block_on(tail::run(&tail::Source::new(loaded.one()?)?, &asked, &mut out))
        }
        Command::Teardown(asked) => {
            let all = loaded.of_each(teardown::Subject::new)?;
            block_on(teardown::run(&all, asked, &mut out))
        }
        Command::Completions(asked) => papers::completions(asked, &mut out),
        Command::Man(asked) => papers::man(&asked, &mut out),
        Command::Verify(asked) => {
            let settings = loaded.one()?.settings()?;
            block_on(verify::run(&settings, &asked, &mut out))
        }
        Command::Run => {
            drop(out);
            let all = loaded.of_each(Loaded::settings);
            let ended = all.and_then(|all| block_on(run::run(all)));
            if let Err(error) = &ended
                && !is_text
            {
                // Whoever reads the other lines by machine reads this one as well.
                tracing::error!(error = %error, hint = error.next_step(), "stopped");
                return Ok(ExitCode::from(error.exit_code()));
            }
            ended
        }
    };
    performed.map(|()| ExitCode::from(EXIT_OK))
}

fn desk(loaded: &Loaded, command: &Dlq, out: &mut impl Write) -> Result<()> {
    let (table, _, _) = loaded.names()?;
    let outbox = dlq::Outbox { table, stream: loaded.stream_name()? };
    let (url, timeout) = (loaded.database_url()?, loaded.duration("connect_timeout")?);
    block_on(dlq::run(&url, timeout, &outbox, command, out))
}

fn bookmarks(loaded: &Loaded, command: &Bookmark, out: &mut impl Write) -> Result<()> {
    let (table, publication, slot) = loaded.names()?;
    let line = bookmark::Line { table, publication, slot, shards: loaded.shards()? };
    let (url, timeout) = (loaded.database_url()?, loaded.duration("connect_timeout")?);
    block_on(bookmark::run(&url, timeout, &line, command, out))
}

/// What fails for one table by its own fault keeps no other from being set up.
fn set_up(
    loaded: &Loaded,
    print: bool,
    role: Option<&str>,
    notify: bool,
    out: &mut impl Write,
) -> Result<()> {
    let mut failure: Option<Error> = None;
    for (at, loaded) in loaded.each().into_iter().enumerate() {
        let table = loaded.table();
        let done = set_up_table(loaded, (at == 0, print), role, notify, out);
        let Err(error) = done.map_err(|error| error.of_table(table)) else { continue };
        if error.class() == Class::Transient {
            return Err(error);
        }
        if let Some(earlier) = failure.replace(error) {
            report(&earlier);
        }
    }
    failure.map_or(Ok(()), Err)
}

fn set_up_table(
    loaded: &Loaded,
    (is_first, print): (bool, bool),
    role: Option<&str>,
    notify: bool,
    out: &mut impl Write,
) -> Result<()> {
    let (table, publication, slot) = loaded.names()?;
    let shards = loaded.shards()?;
    let plan = setup::Plan {
        section: (loaded.table(), is_first),
        table: &table,
        publication: &publication,
        slot: &slot,
        shards: &shards,
        backlog: loaded.backlog()?,
        mode: loaded.mode()?,
        notify,
        role,
        event_bytes_max: loaded.max_event_bytes()?,
    };
    if print {
        return setup::print(&plan, out);
    }
    let (url, timeout) = (loaded.database_url()?, loaded.duration("connect_timeout")?);
    block_on(setup::run(&url, timeout, &plan, out))
}

fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    event_loop()?.block_on(future)
}

fn report(error: &Error) {
    let hint = error.next_step().map(|step| format!(" hint: {step}\n")).unwrap_or_default();
    // With stderr gone there is nobody left to tell; the exit code remains.
    let _unheard = write!(stderr(), "error: {error}\n{hint}");
}
