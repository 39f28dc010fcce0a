//! The binary: reads the command line, gathers the settings, calls one command, and turns its
//! result into an exit code. Nothing else happens here.

use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

use clap::Parser;

use walrelay::cli::{Arguments, Command};
use walrelay::command::{bookmark, check, config, dlq, health, papers, replay, run, setup, status};
use walrelay::command::{tail, teardown, verify};
use walrelay::config::{Inputs, Loaded, load};
use walrelay::error::{EXIT_OK, Error, Result};
use walrelay::telemetry;

fn main() -> ExitCode {
    // Wrong arguments end the process in here, with exit code 2.
    let arguments = Arguments::parse();
    match perform(arguments) {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn perform(arguments: Arguments) -> Result<ExitCode> {
    let Arguments { command, common } = arguments;
    let flags = common.flags().map_err(Error::usage)?;
    // What needs no settings has none that could be wrong.
    let needs_none = matches!(command, Command::Completions(_) | Command::Man(_));
    let inputs =
        if needs_none { Inputs::default() } else { Inputs::from_process(common.config, flags) };
    let loaded = load(&inputs)?;
    let (format, level) = loaded.log()?;
    let is_text = telemetry::start_log(format, level);
    let mut out = stdout().lock();
    let performed = match command {
        Command::Config { json } => config::run(&loaded, json, &mut out),
        Command::Check(asked) => {
            let settings = loaded.settings()?;
            return block_on(check::run(&settings, asked, &mut out)).map(ExitCode::from);
        }
        Command::Health => {
            let (address, port) = loaded.http()?;
            block_on(health::run(address, port, &mut out))
        }
        Command::Dlq { command } => {
            let (table, _, _) = loaded.names()?;
            let outbox = dlq::Outbox { table, stream: loaded.stream_name()? };
            let (url, timeout) = (loaded.database_url()?, loaded.duration("connect_timeout")?);
            block_on(dlq::run(&url, timeout, &outbox, &command, &mut out))
        }
        Command::Bookmark { command } => {
            let (table, publication, slot) = loaded.names()?;
            let shards = loaded.shards()?;
            let line = bookmark::Line { table, publication, slot, shards };
            let (url, timeout) = (loaded.database_url()?, loaded.duration("connect_timeout")?);
            block_on(bookmark::run(&url, timeout, &line, &command, &mut out))
        }
        Command::Replay { replay } => {
            let settings = loaded.settings();
            settings.and_then(|settings| block_on(replay::run(&settings, &replay, &mut out)))
        }
        Command::Setup { print, role, notify } => {
            set_up(&loaded, print, role.as_deref(), notify, &mut out)
        }
        Command::Status(asked) => {
            let subject = status::Subject::new(&loaded)?;
            return block_on(status::run(&subject, &asked, &mut out)).map(ExitCode::from);
        }
        Command::Tail(asked) => block_on(tail::run(&tail::Source::new(&loaded)?, &asked, &mut out)),
        Command::Teardown(asked) => {
            block_on(teardown::run(&teardown::Subject::new(&loaded)?, asked, &mut out))
        }
        Command::Completions(asked) => papers::completions(asked, &mut out),
        Command::Man(asked) => papers::man(&asked, &mut out),
        Command::Verify(asked) => {
            let settings = loaded.settings()?;
            block_on(verify::run(&settings, &asked, &mut out))
        }
        Command::Run => {
            drop(out);
            let ended = loaded.settings().and_then(|settings| block_on(run::run(settings)));
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

fn set_up(
    loaded: &Loaded,
    print: bool,
    role: Option<&str>,
    notify: bool,
    out: &mut impl Write,
) -> Result<()> {
    let (table, publication, slot) = loaded.names()?;
    let shards = loaded.shards()?;
    let plan = setup::Plan {
        table: &table,
        publication: &publication,
        slot: &slot,
        shards: &shards,
        backlog: loaded.backlog()?,
        mode: loaded.mode()?,
        notify,
        role,
    };
    if print {
        return setup::print(&plan, out);
    }
    let (url, timeout) = (loaded.database_url()?, loaded.duration("connect_timeout")?);
    block_on(setup::run(&url, timeout, &plan, out))
}

/// One thread: the line is a single loop, and two servers are always slower than it.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::definite("cannot start the event loop").because(error))?;
    runtime.block_on(future)
}

fn report(error: &Error) {
    let hint = error.next_step().map(|step| format!(" hint: {step}\n")).unwrap_or_default();
    // With stderr gone there is nobody left to tell; the exit code remains.
    let _unheard = write!(stderr(), "error: {error}\n{hint}");
}
